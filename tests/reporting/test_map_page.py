"""The map as a page: what it holds, names that try to break it, and what a person sees, plays and reaches in a real browser."""

import base64
import io
import json
import re
import sys

import numpy as np
import pytest
import soundfile
from conftest import RATE, hz, tone
from page_reader import HOSTILE, Reader
from tones import frequency

from cirlib.data.taxonomy import FAMILIES, GROUPS
from cirlib.reporting.map_page import Instrument, Match, Mixture, best_matches, map_page
from cirlib.reporting.plots import COLOURS, family_style
from cirlib.reporting.web import source_hash


def instrument(name: str, family: str | None = "Bass", pitch: float = 60, seconds: float = 0.2) -> Instrument:
    return Instrument(name, family, "tones", tone(pitch, seconds, 0.3))


def small() -> tuple[np.ndarray, list[Instrument], list[Mixture]]:
    """Three instruments of two families and a mixture of two of them, the first of which is found."""
    gallery = [instrument("a/one", "Bass", 40), instrument("a/two", "Bass", 50), instrument("b/three", "Synth Lead", 70)]
    return np.array([[0, 0], [1, 0], [0, 1], [1, 1]]), gallery, [Mixture("Mix 1", tone(80), [Match(0, 0.25, 0, 0.25)])]


def write(path, points, gallery, mixtures, title="Title", intro="Intro", **options) -> Reader:
    return Reader(
        map_page(path / "map.html", points, instruments=gallery, mixtures=mixtures, title=title, intro=intro, **options).read_text()
    )


def block(page: Reader, name: str):
    """A block of data of the page."""
    ((kind, words),) = [(a["type"], words) for tag, a, words in page.all("script") if a.get("id") == name]
    assert kind == "application/json" and "<" not in words
    return json.loads(words)


def sounds_of(page: Reader) -> list[np.ndarray]:
    out = [soundfile.read(io.BytesIO(base64.b64decode(mp3, validate=True)), dtype="float32") for mp3 in block(page, "sounds")]
    assert {(rate, audio.ndim) for audio, rate in out} == {(RATE, 1)}
    return [audio for audio, _ in out]


def test_page_holds_points_matches_and_sounds_in_order(tmp_path):
    page = write(tmp_path, *small())
    data = block(page, "data")
    assert [(i["name"], data["families"][i["family"]]["name"], i["source"], i["x"], i["y"]) for i in data["instruments"]] == [
        ("a/one", "Bass", "tones", 0, 0), ("a/two", "Bass", "tones", 1, 0), ("b/three", "Synth Lead", "tones", 0, 1)
    ]  # fmt: skip
    assert data["mixtures"] == [{"name": "Mix 1", "x": 1, "y": 1, "matches": [[0, 0.25, 0, 0.25]]}]
    assert [frequency(audio) for audio in sounds_of(page)] == pytest.approx([hz(p) for p in (40, 50, 70, 80)], rel=0.01)
    assert page.texts("title", "h1") == ["Title", "Title"] and "Intro" in page.texts("p")


def test_points_of_any_extent_lie_inside(tmp_path):
    """Also where nothing varies along an axis, or next to nothing."""
    for points in ([[3, 4]] * 3, [[0, 1e-9], [1e6, 2e-9], [5e5, 0]], [[-1e3, 0], [1e3, 0], [0, 0]]):
        page = write(tmp_path, np.array(points), small()[1], [])
        ranges = [{"start": 0, "end": 1, **item["attributes"]} for item in walk(block(page, "plot-data")) if item.get("name") == "Range1d"]
        for axis, limits in zip("xy", ranges, strict=True):
            values = [item[axis] for item in block(page, "data")["instruments"]]
            assert limits["start"] < min(values) <= max(values) < limits["end"]


def walk(value):
    """Every object of a JSON value, in order."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def test_notes_are_cut_with_a_fade_and_mixtures_stay_whole(tmp_path):
    gallery = [instrument("short", seconds=0.5), instrument("long", seconds=4.0)]
    short, long, mixture = sounds_of(write(tmp_path, np.eye(3)[:, :2], gallery, [Mixture("m", tone(60, 4.0), [])]))
    assert [len(short), len(long), len(mixture)] == [0.5 * RATE, 1.5 * RATE, 4 * RATE]
    level = [np.std(audio) for audio in (long[800:21600], long[-800:], short[-800:])]
    assert level[0] == pytest.approx(level[2], rel=0.1) and level[1] < 0.4 * level[0] and np.abs(long[-50:]).max() < 0.02


def test_families_look_as_in_the_figures(tmp_path):
    """In the order of the taxonomy, unknown names and no family last; distinguished by colour and marker; what is black turns white."""
    names = [*reversed(GROUPS), "Theremin", None, np.nan]
    page = write(tmp_path, np.arange(2 * len(names)).reshape(-1, 2), [instrument("x", name) for name in names], [])
    families = block(page, "data")["families"]
    assert [f["name"] for f in families] == [*GROUPS, "Theremin", "no family"]
    assert [f["light"] for f in families] == [family_style(f["name"])["color"] for f in families]
    assert len({(f["light"], f["marker"], f["angle"]) for f in families}) == len(GROUPS) + 1
    assert {f["light"]: f["dark"] for f in families if f["light"] != f["dark"]} == {"#000000": "#ffffff"}
    assert "#000000" in COLOURS


def test_best_match_is_the_nearest_of_the_family():
    """Also with distances of its own for each instrument, and with an instrument without a family."""
    families = ["Bass", "Organ", "Bass", "Organ", None]
    distances = np.array([0.5, 0.4, 0.3, 0.6, 0.1])
    assert best_matches([0, 1, 4], distances, families) == [Match(0, 0.5, 2, 0.3), Match(1, 0.4, 1, 0.4), Match(4, 0.1, 4, 0.1)]
    assert best_matches([4], distances, [*families[:4], np.nan]) == [Match(4, 0.1, 4, 0.1)]
    assert best_matches([0, 1], [distances, 1 - distances], families) == [Match(0, 0.5, 2, 0.3), Match(1, 0.6, 3, 0.4)]


def test_document_needs_nothing_from_outside(tmp_path):
    """No element loads anything, and the policy runs these two scripts and no others."""
    page = write(tmp_path, *small())
    for tag, attributes, _ in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert "src" not in attributes and attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    meta = page.all("meta")
    assert meta[0][1] == {"charset": "utf-8"} and meta[1][1]["http-equiv"] == "Content-Security-Policy"
    policy = meta[1][1]["content"].split("; ")
    scripts = [words for tag, a, words in page.all("script") if "type" not in a]
    assert len(scripts) == 2 and f"script-src {source_hash(scripts[0])} {source_hash(scripts[1])}" in policy
    assert {"default-src 'none'", "img-src data:", "media-src data:"} < set(policy) and "unsafe-eval" not in meta[1][1]["content"]


def test_every_control_has_a_name(tmp_path):
    """Return a label, an aria-label or its text."""
    page = write(tmp_path, *small())
    labelled = set(page.attribute("label", "for"))
    for tag, attributes, words in page.all("input", "select", "button", "audio"):
        assert attributes.get("id") in labelled or attributes.get("aria-label") or re.search(r"[A-Za-z]", words), (tag, attributes)
    assert [a["id"] for tag, a, _ in page.elements if a.get("role") == "status"] == ["playing", "count"]


def hostile() -> tuple[np.ndarray, list[Instrument], list[Mixture]]:
    points, gallery, mixtures = small()
    gallery[0] = Instrument(HOSTILE + "n", HOSTILE + "f", HOSTILE + "s", gallery[0].audio)
    return points, gallery, [Mixture(HOSTILE + "m", mixtures[0].audio, mixtures[0].matches)]


def test_names_are_text_whatever_they_hold(tmp_path):
    """Read back as they were; the page has the elements of a page with plain names; the plot that Bokeh reads holds no names."""
    plain = write(tmp_path, *small())
    page = write(tmp_path, *hostile(), title=HOSTILE, intro=HOSTILE)
    assert [(tag, list(a)) for tag, a, _ in page.elements] == [(tag, list(a)) for tag, a, _ in plain.elements]
    one_line, data = HOSTILE.replace("\n", " "), block(page, "data")
    assert [data["instruments"][0][key] for key in ("name", "source")] == [one_line + "n", one_line + "s"]
    assert data["families"][2]["name"] == one_line + "f" and data["mixtures"][0]["name"] == one_line + "m"
    assert page.all("h1")[0][2] == one_line
    assert block(page, "plot-data") == block(plain, "plot-data")


def test_same_input_same_bytes(tmp_path):
    """Whatever Bokeh made before in this process; nothing else is left behind."""
    pages = []
    for name in "ab":
        points, gallery, mixtures = small()
        pages.append(map_page(tmp_path / name / "map.html", points, instruments=gallery, mixtures=mixtures, title="t", intro="i"))
        from bokeh.plotting import figure

        figure()
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert [path.name for path in pages[0].parent.iterdir()] == ["map.html"]


def test_page_of_1500_sounds_is_below_15_megabytes(tmp_path):
    """30 notes full of partials, to scale, and what every page holds."""
    rng, t = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    gallery = []
    for i in range(30):
        low = hz(rng.uniform(36, 84))
        note = sum(np.sin(2 * np.pi * k * low * t + rng.uniform(0, 6)) / k for k in range(1, int(7900 / low)))
        gallery.append(Instrument(f"source/bank/instrument_{i:04}", "Bass", "source", 0.2 * note + rng.normal(0, 0.02, len(t))))
    page = write(tmp_path, rng.normal(size=(30, 2)), gallery, [])
    size, sounds = (tmp_path / "map.html").stat().st_size, len(json.dumps(block(page, "sounds")))
    assert size - sounds + 50 * sounds < 15e6


def test_without_bokeh(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(ValueError, match="map pages need the package bokeh: pip install bokeh"):
        write(tmp_path, *small())


# --- in a real browser ---

SIDE = 6  # points of the grid: far enough from one another to be distinguished
NAMES = list(FAMILIES)
READY = "document.documentElement?.dataset.ready !== undefined"
PLACE = """((x, y) => {
  const view = [...Bokeh.index.roots].find(view => view.model.name === "plot"), box = view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)];
})"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A grid of instruments in two families, the first with a hostile name, and a mixture in the middle of the lowest row but one."""
    gallery = [instrument(f"bank/{NAMES[i % 2]} {i:02}", NAMES[i % 2], 50 + i, 3.0) for i in range(SIDE * SIDE)]
    gallery[0].name = HOSTILE
    points = [(i % SIDE, i // SIDE) for i in range(SIDE * SIDE)] + [(2.5, 1.5), (3.5, 3.5)]
    found = [Match(5, 0.3, 5, 0.3), Match(30, 0.5, 24, 0.2)]
    mixtures = [Mixture("Mixture A", tone(60, 3.0, 0.2), found), Mixture(HOSTILE, tone(60), [])]
    return map_page(
        tmp_path_factory.mktemp("map") / "map.html", np.array(points), instruments=gallery, mixtures=mixtures, title=HOSTILE, intro=HOSTILE
    )


@pytest.fixture
def opened(grid, browser):
    """The page in a wide window; afterwards nothing was reported as wrong, asked for or run."""
    browser.open(grid, 1200, 800, READY)
    yield browser
    assert browser.complaints == [] and browser.requests == [grid.as_uri()]
    assert browser.ask("typeof hacked") == "undefined"


def place(browser, x: float, y: float) -> tuple[int, int]:
    """Where a point of the map lies in the window."""
    return tuple(round(v) for v in browser.ask(f"{PLACE}({x}, {y})"))


def settle(browser) -> None:
    """Wait until what was asked for is painted."""
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def drawn(browser, colours: list[str], x: float, y: float) -> str | None:
    """Which of these colours the window shows at a point of the map; None where it shows none of them."""
    column, row = place(browser, x, y)
    settle(browser)
    found = "#" + bytes(browser.picture()[row, column]).hex()
    return found if found in [c.lower() for c in colours] else None


def colour(family: str) -> str:
    return family_style(family)["color"].lower()


def text(browser, selector: str) -> str:
    return browser.ask(f"document.querySelector({json.dumps(selector)}).textContent")


def playing(browser, name: str) -> None:
    """Wait until this sounds."""
    browser.until(f"audio.currentTime > 0 && !audio.paused && playing.textContent.startsWith({json.dumps('Playing ' + name)})")


def test_points_are_drawn_and_a_click_plays(opened):
    for i in (0, 1, 8, 35):
        assert drawn(opened, list(COLOURS), i % SIDE, i // SIDE) == colour(NAMES[i % 2])
    opened.mouse(*place(opened, 2, 1), click=True)
    playing(opened, f"bank/{NAMES[0]} 08 ({NAMES[0]})")
    opened.mouse(*place(opened, 3, 1), click=True)  # at once
    playing(opened, f"bank/{NAMES[1]} 09 ({NAMES[1]})")
    opened.mouse(*place(opened, 3.5, 1.5), click=True)  # on nothing, at once
    playing(opened, f"bank/{NAMES[1]} 09")
    assert text(opened, "#chosen") == f"bank/{NAMES[1]} 09, family {NAMES[1]}, source tones"


def test_tooltips_show_names(opened):
    """A name that looks like HTML too."""
    tooltips = "[...document.querySelectorAll('.bk-Tooltip')].map(e => e.shadowRoot.textContent).join('')"
    opened.mouse(*place(opened, 2, 1))
    opened.until(f"{tooltips}.includes('bank/{NAMES[0]} 08') && {tooltips}.includes('source: tones')")
    opened.mouse(*place(opened, 0, 0))
    opened.until(f"{tooltips}.includes({json.dumps(HOSTILE.replace(chr(10), ' '))})")
    opened.mouse(*place(opened, 2.5, 1.5))
    opened.until(f"{tooltips}.includes('Mixture A') && {tooltips}.includes('instruments: bank/{NAMES[1]} 05')")


def test_search_and_families_combine(opened):
    """Words in any order and case; what does not fit is gone from map and list; an empty result is shown, and can be undone."""
    shown = "[...list.options].map(o => o.text)"
    opened.click("#search")
    opened.type(f"0 {NAMES[0].upper()} bank")
    assert text(opened, "#count") == "7 of 36 instruments shown"  # 02 04 06 08 10 20 30
    assert opened.ask(shown) == [f"bank/{NAMES[0]} {i:02} ({NAMES[0]})" for i in (2, 4, 6, 8, 10, 20, 30)]
    assert drawn(opened, list(COLOURS), 2, 1) == colour(NAMES[0]) and drawn(opened, list(COLOURS), 1, 0) is None
    opened.click("#families label:first-child input")
    assert text(opened, "#count") == "0 of 36 instruments shown" and opened.ask(shown) == []
    assert opened.ask("!empty.hidden && empty.checkVisibility()") and drawn(opened, list(COLOURS), 2, 1) is None
    opened.click("#restore")
    assert text(opened, "#count") == "36 of 36 instruments shown" and opened.ask("empty.hidden && search.value === ''")
    opened.click("#none")
    opened.click("#families label:nth-child(2) input")
    assert text(opened, "#count") == "18 of 36 instruments shown"
    assert drawn(opened, list(COLOURS), 2, 1) is None and drawn(opened, list(COLOURS), 1, 0) == colour(NAMES[1])


def along(browser, start, end) -> np.ndarray:
    """Pixels (200, 3) of the middle part of a line between two points of the map."""
    places = np.linspace(place(browser, *start), place(browser, *end), 400)[100:300]
    return browser.picture()[places[:, 1].round().astype(int), places[:, 0].round().astype(int)].astype(int)


def test_mixture_shows_its_instruments_and_matches(opened):
    """Solid and dashed lines, a list with right and wrong, and everything in it plays, even what a search hides."""
    white = along(opened, (2.5, 1.5), (0, 5))
    assert (white > 250).all(axis=1).mean() > 0.9
    opened.mouse(*place(opened, 2.5, 1.5), click=True)
    playing(opened, "Mixture A (mixture)")
    settle(opened)
    solid, dashed = (((along(opened, (2.5, 1.5), end)) < 250).any(axis=1).mean() for end in ((0, 5), (0, 4)))
    assert solid > 0.99 and 0.3 < dashed < 0.9
    assert opened.ask("[...document.querySelectorAll('#matches b')].map(e => e.textContent)") == [f"1 {NAMES[1]}", f"2 {NAMES[0]}"]
    assert opened.ask("[...document.querySelectorAll('#matches button')].map(e => e.textContent)") == [
        f"▶ bank/{NAMES[1]} 05in the mixture (solid), distance 0.300",
        f"▶ bank/{NAMES[1]} 05best match (dashed), distance 0.300, ✓ right",
        f"▶ bank/{NAMES[0]} 30in the mixture (solid), distance 0.500",
        f"▶ bank/{NAMES[0]} 24best match (dashed), distance 0.200, ✗ wrong",
    ]
    opened.click("#none")
    assert [drawn(opened, list(COLOURS), *at) for at in ((0, 4), (1, 4))] == [colour(NAMES[0]), None]
    opened.click("#matches > li:last-child li:last-child button")
    playing(opened, f"bank/{NAMES[0]} 24")
    opened.ask("mixture.value = '', mixture.dispatchEvent(new Event('change'))")
    assert opened.ask("matches.children.length") == 0 and opened.ask("document.getElementById('play-mixture').disabled")


def test_by_keyboard_alone(opened):
    """From the top of the page: search, choose, play; then a mixture and its matches."""
    opened.press("Tab", "Enter")
    opened.type("15")
    opened.press("Tab", "ArrowDown")
    assert opened.ask("document.activeElement.id") == "list"
    assert text(opened, "#chosen").startswith(f"bank/{NAMES[1]} 15,") and opened.ask("audio.paused")
    assert opened.ask("parseFloat(getComputedStyle(list).outlineWidth)") >= 2
    opened.press("Enter")
    playing(opened, f"bank/{NAMES[1]} 15")
    opened.press("Tab", "Tab", "ArrowDown", "Tab")
    assert opened.ask("document.activeElement.id") == "play-mixture"
    opened.press("Enter")
    playing(opened, "Mixture A")
    opened.press("Tab", "Tab", "Tab", " ")
    playing(opened, f"bank/{NAMES[0]} 30")


def test_the_view_moves_by_keys_buttons_and_wheel(opened):
    before = place(opened, 2, 1)
    opened.ask("map.focus()")
    opened.press("ArrowRight", "+")
    assert place(opened, 2, 1) != before
    opened.press("0")
    assert place(opened, 2, 1) == before
    wide = place(opened, 3, 1)[0] - before[0]
    opened.click("#in")
    assert place(opened, 3, 1)[0] - place(opened, 2, 1)[0] == pytest.approx(1.5 * wide, abs=2)
    opened.click("#whole")
    opened.call("Input.dispatchMouseEvent", type="mouseWheel", x=before[0], y=before[1], deltaX=0, deltaY=-100)
    opened.until(f"{PLACE}(3, 1)[0] - {PLACE}(2, 1)[0] > {wide + 2}")
    opened.click("#in")
    opened.ask("mixture.value = 0, mixture.dispatchEvent(new Event('change'))")  # of its lines some end outside
    assert place(opened, 2, 1) == before
    opened.click("#in")
    opened.ask("list.value = 0, list.dispatchEvent(new Event('change'))")
    middle = opened.ask("(box => [box.x + box.width / 2, box.y + box.height / 2])(map.getBoundingClientRect())")
    assert place(opened, 0, 0) == pytest.approx(middle, abs=2)


def test_dark_while_open(opened):
    """The page, and what Bokeh draws: a line of ink."""
    opened.ask("mixture.value = 0, mixture.dispatchEvent(new Event('change'))")
    assert drawn(opened, list(COLOURS), 2, 1) == colour(NAMES[0])
    assert opened.picture()[5, 5].min() > 250 and np.median(along(opened, (2.5, 1.5), (0, 5))) < 60
    opened.media(prefers_color_scheme="dark")
    settle(opened)
    assert opened.picture()[5, 5].max() < 40 and np.median(along(opened, (2.5, 1.5), (0, 5))) > 200
    assert drawn(opened, list(COLOURS), 2, 1) == colour(NAMES[0])


def test_narrow(opened):
    """The map above its controls, nothing to scroll sideways, and a click still finds its point."""
    opened.resize(380, 800)
    opened.until("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    opened.mouse(0, 0, click=True)  # on nothing: the layout has settled
    opened.ask("new Promise(done => setTimeout(done, 200))")
    assert opened.ask("map.getBoundingClientRect().bottom <= controls.getBoundingClientRect().top")
    opened.ask("mixture.value = 0, mixture.dispatchEvent(new Event('change'))")
    assert opened.ask("[...document.querySelectorAll('body *')].every(e => e.getBoundingClientRect().right <= innerWidth)")
    opened.mouse(*place(opened, 2, 1), click=True)
    playing(opened, f"bank/{NAMES[0]} 08")


def test_policy_holds(grid, browser):
    """Were a name to get out, nothing would run or be fetched."""
    browser.open(grid, 800, 600, READY)
    browser.ask("""{
      const script = document.createElement("script"), image = document.createElement("img");
      script.textContent = "window.hacked = 1";
      image.src = "http://127.0.0.1:9/x";
      document.body.append(script, image);
      image.outerHTML = "<b onclick='window.hacked = 2' id='bad'></b>";
      document.getElementById("bad").click();
    }""")
    assert browser.ask("typeof hacked") == "undefined" and len(browser.complaints) >= 3
    assert browser.requests == [grid.as_uri()]
