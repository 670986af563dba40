"""Executed copies of the notebooks for figures/: what is shown, how large they are, and that they name neither machine nor user."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebook_cells import seen_and_heard
from PIL import Image

from cirlib.common.paths import HOME, ROOT
from cirlib.reporting import executed

COPIES = sorted((ROOT / "figures").glob("*/*.ipynb"))


def player(size: int) -> str:
    return f'<audio controls><source src="data:audio/mpeg;base64,{"A" * size}" type="audio/mpeg"></audio>'


def png(width: int, height: int) -> str:
    """A picture of smooth noise, which compresses badly."""
    file, x = io.BytesIO(), np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(x).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def show(kind: str, value: str):
    return new_output("display_data", data={kind: value, "text/plain": "<Object at 0x7f01a2b3c4d5>"})


def stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


def book(*outputs, source: str = "1", **metadata) -> str:
    """An executed notebook of one cell."""
    timed = {"tags": ["x"], "papermill": {"duration": 1.5}, "execution": {"iopub.execute_input": "now"}}
    cell = new_code_cell(source, outputs=list(outputs), metadata=timed, execution_count=1)
    return nbformat.writes(new_notebook(cells=[cell], metadata={"papermill": {"start_time": "now"}, **metadata}))


def shown(*outputs, **more) -> list[dict]:
    """The outputs of a copy: their text, or their data without the text of the object."""
    (cell,) = nbformat.reads(executed.shareable(book(*outputs, **more)), as_version=4).cells
    return [out.get("text") or dict(out.data) for out in cell.outputs]


def test_times_and_random_names_are_removed():
    """Two runs with the same results give the same bytes."""
    first = executed.shareable(book(stream("a\n"), stream("b\n"), show("image/png", png(4, 4)), stream("5 %\n", "stderr")))
    other = book(stream("10 %\r20 %\ra\nb\n"), show("image/png", png(4, 4))).replace("7f01a2b3c4d5", "7f99ffffffff").replace("1.5", "2.5")
    assert first == executed.shareable(other)
    assert "papermill" not in first and "execute_input" not in first and json.loads(first)["cells"][0]["metadata"] == {"tags": ["x"]}


@pytest.mark.parametrize(
    ("printed", "copied"),
    [
        (f"{HOME}/runs/p", "./runs/p"),
        (f"{ROOT}, {HOME}", "., ."),
        (f"{Path.home()}/Samples/a.wav", "~/Samples/a.wav"),
        ("in /usr/share/sounds/a.sf2: /usr/bin", "in .../a.sf2: .../bin"),
        ("file:///usr/lib/x", "file://.../x"),
        ("top-1/top-5 and/or https://example.org/usr/bin </b>", "top-1/top-5 and/or https://example.org/usr/bin </b>"),
        ("by somebody", "by user"),
    ],
    ids=["home", "two", "samples", "system", "address", "no path", "user"],  # the home of tests has another name in each process
)
def test_paths_and_user_are_shortened(monkeypatch, printed, copied):
    monkeypatch.setenv("USER", "somebody")
    assert shown(stream(f"{printed}\n")) == [f"{copied}\n"]
    if "<" not in printed:
        assert shown(show("text/html", printed))[0]["text/html"] == copied


def test_user_named_like_a_word_of_the_notebook(monkeypatch):
    monkeypatch.setenv("USER", "bass")
    assert shown(stream("bass 1"), source="family = 'Bass'") == ["bass 1"]


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        (player(1000), player(1000)),
        (player(1000) + player(30_000), player(1000) + executed.NO_SOUND),
        ("<b>x</b><script>go()</script><iframe srcdoc='y'></iframe>", "<b>x</b>"),
    ],
)
def test_large_players_and_scripts_are_removed(html, kept):
    assert shown(show("text/html", html))[0]["text/html"] == kept


def test_kinds_that_a_forge_does_not_show_are_removed():
    out = new_output("display_data", data={"application/javascript": "go()", "audio/mpeg": "AAAA"})
    assert shown(out, show("application/vnd.bokehjs_exec.v0+json", "")) == [{"text/plain": "<Object at 0x>"}]


def test_controls_show_their_last_state():
    kind = "application/vnd.jupyter.widget-view+json"
    states = {
        "box": {"state": {"_model_name": "VBoxModel", "children": ["IPY_MODEL_html", "IPY_MODEL_out", "IPY_MODEL_png"]}},
        "html": {"state": {"_model_name": "HTMLModel", "value": "<b>Bass</b>"}},
        "out": {"state": {"_model_name": "OutputModel", "outputs": [{"output_type": "stream", "name": "stdout", "text": "found"}]}},
        "png": {"state": {"_model_name": "ImageModel", "format": "png"}, "buffers": [{"data": "QUJD"}]},
    }
    view = new_output("display_data", data={kind: {"model_id": "box"}, "text/plain": "VBox(children=(...))"})
    fixed = new_output("display_data", data={kind: {"model_id": "box"}, "image/png": png(2, 2), "text/plain": "VBox()"})
    found = shown(view, fixed, widgets={executed.STATE: {"state": states}})
    assert found[0] == {"text/html": "<b>Bass</b>", "text/plain": "Bass"} and found[1] == "found"
    assert found[2] == {"image/png": "QUJD"} and found[3] == {"image/png": png(2, 2), "text/plain": "VBox()"}


@pytest.mark.parametrize(
    ("outputs", "players", "width"),
    [
        ([show("image/png", png(900, 200)), show("text/html", player(1000))], True, 900),
        ([show("image/png", png(900, 150)), *[show("text/html", player(19_000)) for _ in range(4)]], True, 900),
        ([show("image/png", png(1200, 900))], False, 700),
        ([stream("x" * 10**6), show("image/png", png(900, 10))], False, 700),
    ],
)
def test_copies_have_a_largest_size(outputs, players, width):
    """Colours go first, then players, then the size of pictures; in the end a sentence replaces an output."""
    text = executed.shareable(book(*outputs), 250_000)
    assert len(text.encode()) <= 250_000 and ("<audio" in text) == players
    pictures = [data["image/png"] for data in executed._datas(nbformat.reads(text, as_version=4)) if "image/png" in data]
    assert all(Image.open(io.BytesIO(base64.b64decode(data))).width == width for data in pictures)
    assert (executed.REPLACED in text) == (not pictures or outputs[0].output_type == "stream")


def test_headline_row_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(executed, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(executed, "FIGURES", tmp_path / "figures")
    folder = tmp_path / "runs" / "p" / "notebooks"
    folder.mkdir(parents=True)
    error = new_output("error", ename="E", evalue="", traceback=[])
    names = {"02_train_a_seed0": stream("a"), "02_train_best_seed0": stream("best"), "05_b_seed0": error, "05_c_seed0": stream("c")}
    for name, output in names.items():
        (folder / f"{name}.ipynb").write_text(book(output))
    copies = {
        "02_train": ["02_train_a_seed0"],
        "05": ["05_gone", "05_b_seed0", "05_c_seed0"],
        "06": ["06"],
        "08_performance": ["05_c_seed0"],
    }
    written = executed.write_copies("p", copies, headline="best")
    assert [str(path.relative_to(tmp_path / "figures")) for path in written] == [
        "p/02_train.ipynb",
        "p/05.ipynb",
        "performance/08_performance.ipynb",
    ]
    assert [json.loads(path.read_text())["cells"][0]["outputs"][0]["text"] for path in written] == [["best"], ["c"], ["c"]]


def test_contents_link_copies_and_pictures(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "02_train.ipynb").touch()
    line = "| [{0}]({0}.ipynb) | why? | 1 min | old | |\n"
    text = executed.with_copies("| notebook |\n" + line.format("01_data") + line.format("02_train"), tmp_path)
    assert "| why? | 1 min | not yet | <img" in text and "| [demo](../figures/demo/02_train.ipynb) | <img" in text
    assert executed.with_copies(text, tmp_path) == text


def test_every_notebook_is_in_the_contents_with_a_picture():
    text = (ROOT / "notebooks" / "README.md").read_text()
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\)", text, re.MULTILINE) == names == list(executed.PICTURES)
    assert all((ROOT / "figures" / f"{name}.png").exists() for name in executed.PICTURES.values())


@pytest.mark.parametrize("path", COPIES or [None], ids=lambda path: f"{path.parent.name}/{path.stem}" if path else "none")
def test_copies_in_git_obey_the_rules(path):
    if path is None:
        pytest.skip("no executed copy in figures/")
    text, outputs = path.read_text("utf-8"), [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    assert executed.shareable(text) == text and len(text.encode()) <= executed.LARGEST
    assert outputs and not {out.output_type for out in outputs} & {"error"} and "papermill" not in json.loads(text)["metadata"]
    assert not re.findall(r"(?<![\w.~/=+])/(?:home|root|Users|tmp|work|private|mnt|opt|var)/", re.sub(r"base64,[\w/+=]+", "", text))
    assert all(len(sound) <= executed.PLAYER for sound in executed.SOUND.findall(text)) and seen_and_heard(text) >= 1 / 3
