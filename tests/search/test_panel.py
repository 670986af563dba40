"""The panel of 07_search: its widgets without a browser, and by clicks in JupyterLab."""

import json
import os
import subprocess
import sys
from datetime import datetime

import pytest
from browser import CHROMIUM, Browser, wait
from conftest import tone
from tones import write

from cirlib.common.paths import ROOT
from cirlib.search import example
from cirlib.search.library import Library
from cirlib.search.panel import Panel

DAMAGED = b"RIFF\x24\0\0\0WAVE"


@pytest.fixture
def panel(encoder, tmp_path) -> Panel:
    return Panel(Library.build(example.NOTES, tmp_path / "lib", encoder), example.MIX, copies=tmp_path / "copies")


def upload(panel: Panel, name: str, content: bytes) -> None:
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": datetime.now()}
    panel.upload.value = (file,)


def test_search_shows_what_the_library_finds(panel, tmp_path):
    """A player and a spectrogram for the query and each match; copies in a new folder for each search."""
    for number, (mix, family, k) in enumerate([(True, "", 5), (False, "Bass", 2)]):
        panel.kind.value, panel.family.value, panel.k.value = mix, family, k
        panel.search.click()
        found = panel.library.search(example.MIX, family or None, k=k, mix=mix)
        assert panel.found.instrument.to_list() == found.instrument.to_list() and len(found) == k
        query, *rows = [(row.children[0].value, row.children[1].value) for row in panel.results.children]
        assert "mix.ogg" in query[0] and all("<audio" in text and bytes(image).startswith(b"\x89PNG") for text, image in (query, *rows))
        for (text, _), match in zip(rows, found.itertuples(), strict=True):
            assert match.instrument.rpartition("/")[2] in text and f"distance {match.distance:.3f}" in text and ".ogg" in text
        panel.copy.click()
        assert panel.message.value.count("sounds and matches.csv are in") == 1
        copies = tmp_path / "copies" / ("mix 2" if number else "mix")
        assert len(list(copies.glob("*.ogg"))) == k and (copies / "matches.csv").exists()
    panel.copy.click()
    assert "is not an empty folder" in panel.message.value


def test_a_chosen_file_is_searched(panel, tmp_path):
    """By upload or path; its own note in the library is nearest."""
    note = sorted(example.NOTES.glob("*.ogg"))[3]
    upload(panel, "<b>own.ogg", note.read_bytes())
    panel.kind.value = False
    for name in ("&lt;b&gt;own.ogg", note.name):
        panel.search.click()
        assert panel.found.path[0] == str(note) and panel.found.distance[0] < 1e-3
        assert f"for {name}, nearest first" in panel.message.value
        panel.path.value = str(note)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("damaged.wav", DAMAGED, "damaged.wav cannot be searched: "),
        ("empty.mp3", b"", "empty.mp3 cannot be searched: "),
        ("", b"", "sound cannot"),
    ],
)
def test_errors_are_one_sentence_in_the_panel(panel, name, content, words):
    panel.search.click()
    upload(panel, name, content)
    panel.search.click()
    text = panel.message.value.partition(">")[2].removesuffix("</span>")
    assert words in text and "\n" not in text and "cirlib-" not in text and "color: #c00" in panel.message.value
    assert panel.results.children == () and panel.copy.disabled and panel.found is None
    panel.query.value = str(example.MIX)
    panel.search.click()
    assert len(panel.found) == 5 and not panel.copy.disabled


@pytest.fixture
def lab(encoder, tmp_path):
    """JupyterLab with 07_search, its address, and a browser of its own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on this machine")
    book = json.loads((ROOT / "notebooks" / "07_search.ipynb").read_text())
    last = next(i for i, cell in enumerate(book["cells"]) if "".join(cell["source"]).startswith("Panel("))
    book["cells"] = book["cells"][: last + 1]
    cell = next(cell for cell in book["cells"] if "parameters" in cell["metadata"].get("tags", []))
    cell["source"].append(f"\nencoder = {str(encoder.save(tmp_path / 'best.pt'))!r}")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "07.ipynb").write_text(json.dumps(book))
    quiet = tmp_path / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    places = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "CIRLIB_HOME": "home"}
    places |= {f"JUPYTER_{name}_DIR": name for name in ("CONFIG", "DATA", "RUNTIME")}
    env = os.environ | {name: str(tmp_path / place) for name, place in places.items()} | {"PYTHONPATH": str(ROOT)}
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyter", "lab", "notebooks", *options]
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    browser = Browser(tmp_path / "profile")
    try:
        address = wait(lambda: [json.loads(f.read_text())["url"] for f in (tmp_path / "RUNTIME").glob("jpserver-*.json")])[0]
        yield browser, f"{address}doc/tree/07.ipynb"
    finally:
        browser.close()
        server.terminate()
        server.wait(100)


def test_the_panel_in_jupyterlab(lab, tmp_path):
    """By clicks: a file is chosen, its matches are played and copied; a damaged file is dropped."""
    browser, address = lab
    text, audio = "document.querySelector('.cirlib-panel').innerText", "document.querySelectorAll('.cirlib-panel audio')"
    button = "[...document.querySelectorAll('.cirlib-panel button')].find(b => b.innerText.includes('{}'))".format
    idle = "[...jupyterapp.shell.widgets('main')].some(widget => widget.sessionContext?.session?.kernel?.status == 'idle')"
    browser.open(address, 1200, 1400, f"!!document.querySelector('.jp-Notebook') && {idle}")
    browser.click("document.querySelector('.jp-Notebook .jp-Cell')")
    browser.until("jupyterapp.commands.isEnabled('notebook:run-all-cells')")
    browser.ask("void jupyterapp.commands.execute('notebook:run-all-cells')")
    write(tmp_path / "my sound.wav", tone(50, 1.0))
    browser.call("Page.setInterceptFileChooserDialog", enabled=True)
    browser.until("!!document.querySelector('.cirlib-panel')")
    browser.click(button("Choose a file"))
    wait(lambda: browser.ask("true") and browser.chooser, "the file chooser")
    browser.call("DOM.setFileInputFiles", files=[str(tmp_path / "my sound.wav")], backendNodeId=browser.chooser)
    browser.until(f"{text}.includes('my sound.wav is chosen.')")
    browser.click(button("Search"))
    browser.until(f"{text}.includes('5 matches for my sound.wav') && {audio}.length == 6")
    assert browser.ask("[...document.querySelectorAll('.cirlib-panel img')].every(i => i.naturalWidth > 300)")
    browser.click(f"{audio}[1]", x=0.08)
    browser.until(f"{audio}[1].currentTime > 0.05")
    browser.click(button("Copy the matches"))
    browser.until(f"{text}.includes('sounds and matches.csv are in')")
    (copies,) = (tmp_path / "home" / "lib").glob("*.search/my sound")
    assert len(list(copies.glob("*.ogg"))) == 5 and (copies / "matches.csv").exists()
    drop = "const data = new DataTransfer(); data.items.add(new File([atob('UklGRiQAAABXQVZF')], 'damaged.wav'));"
    drop += "const zone = [...document.querySelectorAll('.cirlib-panel [ondrop]')][0];"
    browser.ask(f"{{{drop} zone.dispatchEvent(new DragEvent('drop', {{dataTransfer: data, bubbles: true, cancelable: true}}))}}")
    browser.until(f"{text}.includes('damaged.wav is chosen.')")
    browser.click(button("Search"))
    browser.until(f"{text}.includes('damaged.wav cannot be searched: ')")
    assert browser.ask(f"{audio}.length") == 0
