"""The map as a page: what it holds, names that try to break it, and what a person sees, plays and reaches in a real browser."""

import base64
import io
import json
import sys
import time

import numpy as np
import pytest
import soundfile
from bokeh.plotting import figure
from browser import wait
from conftest import RATE, hz, tone
from page_reader import HOSTILE
from tones import frequency

from cirlib.data.taxonomy import FAMILIES, GROUPS
from cirlib.reporting import map_page as module
from cirlib.reporting.map_page import Instrument, Match, Mixture, best_matches, map_page
from cirlib.reporting.plots import family_style

SIDE = 6  # points of a side of the grid: far enough from one another to be distinguished
NAMES = list(FAMILIES)[:2]


def instrument(name: str, family: str | None = "Bass", pitch: float = 60, seconds: float = 0.2) -> Instrument:
    return Instrument(name, family, "tones", tone(pitch, seconds, 0.3))


def grid() -> tuple[np.ndarray, list[Instrument], list[Mixture]]:
    """A grid of instruments in two families, the first with a hostile name, and a mixture in the lowest row but one."""
    gallery = [instrument(f"bank/{NAMES[i % 2]} {i:02}", NAMES[i % 2], 50 + i, 3.0) for i in range(SIDE * SIDE)]
    gallery[0].name = HOSTILE
    points = [(i % SIDE, i // SIDE) for i in range(SIDE * SIDE)] + [(2.5, 1.5), (3.5, 3.5)]
    mixtures = [Mixture("Mixture A", tone(60, 3.0, 0.2), [Match(5, 0.3, 5, 0.3), Match(30, 0.5, 24, 0.2)]), Mixture(HOSTILE, tone(60), [])]
    return np.array(points, float), gallery, mixtures


def sound(data: str) -> np.ndarray:
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(data, validate=True)), dtype="float32")
    assert (rate, audio.ndim) == (RATE, 1)
    return audio


def test_best_match_is_the_nearest_of_the_family():
    """Also with distances of its own for each instrument, and with an instrument without a family."""
    families = ["Bass", "Organ", "Bass", "Organ", None]
    distances = np.array([0.5, 0.4, 0.3, 0.6, 0.1])
    assert best_matches([0, 1, 4], distances, families) == [Match(0, 0.5, 2, 0.3), Match(1, 0.4, 1, 0.4), Match(4, 0.1, 4, 0.1)]
    assert best_matches([4], distances, [*families[:4], np.nan]) == [Match(4, 0.1, 4, 0.1)]
    assert best_matches([0, 1], [distances, 1 - distances], families) == [Match(0, 0.5, 2, 0.3), Match(1, 0.6, 3, 0.4)]


def test_instruments_are_drawn_by_family():
    """In the order of the taxonomy, unknown names and no family last, with the colours of the figures; notes are cut with a fade."""
    names = [*reversed(GROUPS), "Theremin", None, np.nan]
    gallery = [instrument(f"i{i}", name, 50 + i, 0.5 if i else 4.0) for i, name in enumerate(names)]
    drawn = module._families(figure(), np.arange(2.0 * len(names)).reshape(-1, 2), gallery, RATE)
    rows = [(source.data["family"][0], list(source.data["name"]), list(source.data["x"])) for _, source, _ in drawn]
    expected = [(name, [f"i{i}"], [2 * i]) for i, name in reversed(list(enumerate(names[:-3])))]
    n = len(GROUPS)
    assert rows == [*expected, ("Theremin", [f"i{n}"], [2 * n]), ("no family", [f"i{n + 1}", f"i{n + 2}"], [2 * n + 2, 2 * n + 4])]
    assert [glyphs.glyph.fill_color for glyphs, _, _ in drawn] == [family_style(name)["color"] for name, _, _ in rows]
    assert len({(g.glyph.fill_color, g.glyph.marker, g.glyph.angle) for g, _, _ in drawn}) == len(GROUPS) + 1
    long, short = (sound(drawn[k][1].data["sound"][0]) for k in (-3, 0))
    assert [len(long), len(short)] == [1.5 * RATE, 0.5 * RATE] and frequency(short) == pytest.approx(hz(50 + len(GROUPS) - 1), rel=0.01)
    assert np.abs(long[-50:]).max() < 0.02 < np.abs(long[:-2000]).max()


def test_mixtures_have_lines_and_a_list_of_matches():
    points, gallery, mixtures = grid()
    lines, glyphs, (first, second) = module._mixtures(figure(), points, gallery, mixtures, sample_rate=RATE)
    assert (list(zip(first["x1"], first["y1"], strict=True)), first["dash"]) == ([(5, 0), (5, 0), (0, 5), (0, 4)], ["solid", "dashed"] * 2)
    assert (first["x0"], first["y0"], lines.data.keys()) == ([2.5] * 4, [1.5] * 4, first.keys() - {"text"})
    assert first["text"].splitlines() == [
        f"bank/{NAMES[1]} 05, distance 0.300",
        f"    best match, right: bank/{NAMES[1]} 05, distance 0.300",
        f"bank/{NAMES[0]} 30, distance 0.500",
        f"    best match, wrong: bank/{NAMES[0]} 24, distance 0.200",
    ]
    assert second == {"x0": [], "y0": [], "x1": [], "y1": [], "dash": [], "text": ""}
    assert len(sound(glyphs.data_source.data["sound"][0])) == 3 * RATE


def test_page_of_1500_sounds_is_below_15_megabytes(tmp_path):
    """30 notes full of partials, to scale, and what every page holds."""
    rng, t = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    gallery = []
    for i in range(30):
        low = hz(rng.uniform(36, 84))
        note = sum(np.sin(2 * np.pi * k * low * t + rng.uniform(0, 6)) / k for k in range(1, int(7900 / low)))
        gallery.append(Instrument(f"source/bank/instrument_{i:04}", "Bass", "source", 0.2 * note + rng.normal(0, 0.02, len(t))))
    few, all_30 = (
        map_page(tmp_path / f"{n}.html", rng.normal(size=(n, 2)), instruments=gallery[:n], mixtures=[], title="t", intro="i").stat().st_size
        for n in (1, 30)
    )
    assert few + 1500 / 29 * (all_30 - few) < 15e6


def test_without_bokeh(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(ValueError, match="map pages need the package bokeh: pip install bokeh"):
        map_page(tmp_path / "x.html", np.zeros((1, 2)), instruments=[instrument("a")], mixtures=[], title="t", intro="i")


# --- in a real browser ---

PLACE = """((x, y) => {
  const view = [...Bokeh.index.roots][0].owner.find_one(Bokeh.documents[0].get_model_by_name("map"));
  const box = view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)];
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    points, gallery, mixtures = grid()
    path = tmp_path_factory.mktemp("map") / "map.html"
    return map_page(path, points, instruments=gallery, mixtures=mixtures, title=HOSTILE, intro=HOSTILE)


@pytest.fixture
def opened(page, browser):
    """The page in a wide window; afterwards nothing was reported as wrong, asked for or run."""
    browser.open(page, 1200, 800, "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
    browser.ask(
        "window.model = name => [...Bokeh.documents[0]._all_models.values()].find(m => m.type == name); window.text = () => "
        "[...Bokeh.documents[0]._all_models.values()].filter(m => m.type == 'Div').map(m => m.text).join('|')"
    )
    yield browser
    assert browser.complaints == [] and browser.requests == [page.as_uri()]
    assert browser.ask("typeof hacked") == "undefined"


def place(browser, x: float, y: float) -> tuple[int, int]:
    """Where a point of the map lies in the window."""
    return tuple(round(v) for v in browser.ask(f"{PLACE}({x}, {y})"))


def shows(browser, x: float, y: float, colour: str) -> None:
    """Wait until the window shows a colour at a point of the map."""
    column, row = place(browser, x, y)
    wait(lambda: "#" + bytes(browser.picture()[row, column]).hex() == colour.lower(), f"{colour} at {x}, {y}")


def click(browser, x: float, y: float) -> None:
    """Click a point of the map; Bokeh takes two clicks within 0.3 s for one."""
    time.sleep(0.4)
    browser.mouse(*place(browser, x, y), click=True)


def playing(browser, name: str) -> None:
    """Wait until this sounds."""
    browser.until(f"document.player?.currentTime > 0 && !document.player.paused && text().includes({json.dumps('Playing ' + name)})")


def test_a_click_plays(opened):
    for i in (8, 9):
        shows(opened, i % SIDE, i // SIDE, family_style(NAMES[i % 2])["color"])
        click(opened, i % SIDE, i // SIDE)
        playing(opened, f"bank/{NAMES[i % 2]} {i:02}")
    click(opened, 0, 0)
    playing(opened, HOSTILE.replace("\n", " "))


def test_search_shows_what_fits(opened):
    """Words in any order and case."""
    first, second = (family_style(name)["color"] for name in NAMES)
    shows(opened, 3, 1, second)
    opened.ask(f"model('TextInput').value_input = '0 {NAMES[0].upper()} bank'")
    for x, y, colour in ((3, 1, "#ffffff"), (2, 2, "#ffffff"), (2, 1, first)):  # 09, 14, 08
        shows(opened, x, y, colour)
    opened.ask("model('TextInput').value_input = ''")
    shows(opened, 3, 1, second)


def test_mixture_shows_its_lines_and_matches(opened):
    """Solid and dashed lines, and a list, until another mixture is chosen."""

    def share(end):
        places = np.linspace(place(opened, 2.5, 1.5), place(opened, *end), 400)[100:300].round().astype(int)
        return (opened.picture()[places[:, 1], places[:, 0]] < 250).any(axis=1).mean()

    shows(opened, 2, 1, family_style(NAMES[0])["color"])
    assert share((0, 5)) < 0.1
    click(opened, 2.5, 1.5)
    playing(opened, "Mixture A")
    wait(lambda: share((0, 5)) > 0.9 and 0.3 < share((0, 4)) < 0.9, "lines")
    assert opened.ask("text()").count("best match, ") == 2 and opened.ask("model('Select').value") == "0"
    opened.ask("model('Select').value = ''")
    assert opened.ask("text()").count("best match, ") == 0
