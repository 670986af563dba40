"""The map of the embedding space as a page: one HTML file to browse, search and listen to, drawn by Bokeh.

Names of files may be hostile: Bokeh stores them as JSON and shows them as text; the policy lets the page load nothing.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_atomic
from ..common.packages import require
from ..data.taxonomy import GROUPS
from .plots import family_style
from .web import escaped, mp3, plain

SECONDS, FADE_S = 1.5, 0.1  # longest note and its fade: about 4 kB of the page for each second
NO_FAMILY = "no family"
MARKERS = {  # of matplotlib -> of Bokeh, and its rotation in degrees
    "o": ("circle", 0), "s": ("square", 0), "D": ("diamond", 0), "^": ("triangle", 0), "v": ("inverted_triangle", 0),
    "P": ("plus", 0), "X": ("plus", 45), "*": ("star", 0), ".": ("hex", 0),
}  # fmt: skip
POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; media-src data:"
PLAY = """
const i = cb_data.source.selected.indices[0], {name, sound, number} = cb_data.source.data;
document.player?.pause();
document.player = new Audio("data:audio/mpeg;base64," + sound[i]);
document.player.play();
playing.text = "Playing " + name[i];
if (number) mixture.value = `${number[i]}`;
"""
SEARCH = """
const words = cb_obj.value_input.toLowerCase().split(/\\s+/);
for (const [source, filter] of families) {
  filter.indices = source.data.name.flatMap((name, i) => words.every(word => name.toLowerCase().includes(word)) ? [i] : []);
}
"""
SHOW = """
const {x0, y0, x1, y1, dash, text} = mixtures[cb_obj.value] ?? {x0: [], y0: [], x1: [], y1: [], dash: [], text: ""};
lines.data = {x0, y0, x1, y1, dash};
matches.text = text;
"""


@dataclass
class Instrument:
    """A point of the gallery: name, family or None, source, and reference note (n,) in [-1, 1]."""

    name: str
    family: str | None
    source: str
    audio: np.ndarray


@dataclass
class Match:
    """An instrument of a mixture and the best match of its family: positions in the gallery, and distances to the mixture."""

    true: int
    true_distance: float
    best: int
    best_distance: float


@dataclass
class Mixture:
    """A mixture: name, audio (n,) in [-1, 1], and a match for each of its instruments."""

    name: str
    audio: np.ndarray
    matches: list[Match]


def best_matches(true: Sequence[int], distances: np.ndarray, families: Sequence[str]) -> list[Match]:
    """Return the best match of the family of each instrument of a mixture.

    true: positions (S,) of the instruments in the gallery. distances: of the mixture to the gallery (G,), or for each instrument those
    of its own head (S, G). families (G,): of the gallery.
    """
    labels = pd.factorize(np.asarray(families, object))[0]  # no family is one too
    matches = []
    for place, row in zip(true, np.broadcast_to(np.asarray(distances, float), (len(true), len(labels))), strict=True):
        members = np.flatnonzero(labels == labels[place])
        best = members[row[members].argmin()]
        matches.append(Match(int(place), float(row[place]), int(best), float(row[best])))
    return matches


def map_page(
    path: Path,
    points: np.ndarray,
    *,
    instruments: Sequence[Instrument],
    mixtures: Sequence[Mixture],
    title: str,
    intro: str,
    sample_rate: int = 16000,
) -> Path:
    """Write the map as one HTML file and return its path. A click on a point plays it, on a family of the legend hides it.

    points (N + M, 2): of N > 0 instruments, then of M mixtures. sample_rate: one that MP3 has.
    """
    require("map pages", "bokeh")
    from bokeh.embed import file_html
    from bokeh.layouts import column, row
    from bokeh.models import CustomJS, Div, HoverTool, Select, TapTool, TextInput
    from bokeh.plotting import figure
    from bokeh.resources import Resources

    points = np.asarray(points, float)
    plot = figure(
        sizing_mode="stretch_both", min_width=500, min_height=300, name="map",
        tools="pan,wheel_zoom,box_zoom,reset", active_scroll="wheel_zoom",
    )  # fmt: skip
    plot.axis.visible = plot.grid.visible = False
    plot.toolbar.logo = None
    families = _families(plot, points[: len(instruments)], instruments, sample_rate)
    lines, mixed, shown = _mixtures(plot, points, instruments, mixtures, sample_rate=sample_rate)
    plot.legend.click_policy = "hide"
    plot.add_layout(plot.legend[0], "left")
    plot.add_tools(HoverTool(renderers=[glyphs for glyphs, _, _ in families], tooltips="@name<br>@family, source: @source", limit=3))
    plot.add_tools(HoverTool(renderers=[mixed], tooltips="@name", limit=3))
    text = {"render_as_text": True, "sizing_mode": "stretch_width", "styles": {"white-space": "pre-wrap", "overflow-wrap": "anywhere"}}
    playing, matches = Div(text="Click a point to play it.", **text), Div(**text)
    options = [("", "none"), *((str(i), plain(mixture.name)) for i, mixture in enumerate(mixtures))]
    mixture = Select(title="Mixture (solid: its instruments, dashed: best matches)", options=options, value="")
    mixture.js_on_change("value", CustomJS(args={"mixtures": shown, "lines": lines, "matches": matches}, code=SHOW))
    plot.add_tools(TapTool(callback=CustomJS(args={"playing": playing, "mixture": mixture}, code=PLAY)))
    search = TextInput(title="Search names", placeholder="words of a name")
    search.js_on_change("value_input", CustomJS(args={"families": [list(pair) for _, *pair in families]}, code=SEARCH))
    head = Div(text=f"<h1>{escaped(title)}</h1><p>{escaped(intro)}</p>", sizing_mode="stretch_width")
    side = column(search, mixture, matches, playing, width=360, sizing_mode="stretch_height")
    page = column(head, row(plot, side, sizing_mode="stretch_both"), sizing_mode="stretch_both")
    html = file_html(page, Resources(mode="inline", log_level="error"), title=plain(title))
    html = html.replace("<head>", f'<head>\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">', 1)
    return write_atomic(Path(path), lambda part: part.write_text(html, "utf-8"))


def _families(plot, points: np.ndarray, instruments: Sequence[Instrument], sample_rate: int) -> list[tuple]:
    """Draw the instruments; return (glyphs, source, filter) of each family, in the order of the taxonomy."""
    from bokeh.models import CDSView, ColumnDataSource, IndexFilter

    labels = [NO_FAMILY if pd.isna(item.family) else item.family for item in instruments]
    longest, fade = round(SECONDS * sample_rate), np.linspace(1, 0, round(FADE_S * sample_rate))
    drawn = []
    for label in (name for name in (*GROUPS, *sorted(set(labels) - {*GROUPS, NO_FAMILY}), NO_FAMILY) if name in labels):
        rows = [i for i, name in enumerate(labels) if name == label]
        sounds = [np.array(instruments[i].audio[:longest], np.float32) for i in rows]
        for i, audio in zip(rows, sounds, strict=True):
            if len(instruments[i].audio) > longest:
                audio[-len(fade) :] *= fade
        data = {name: [plain(getattr(instruments[i], name)) for i in rows] for name in ("name", "source")}
        data |= {"x": points[rows, 0], "y": points[rows, 1], "family": [plain(label)] * len(rows)}
        source = ColumnDataSource(data | {"sound": [_mp3(audio, sample_rate) for audio in sounds]})
        style, shown = family_style(label), IndexFilter(list(range(len(rows))))
        marker, degrees = MARKERS[style["marker"]]
        glyphs = plot.scatter(
            "x", "y", source=source, view=CDSView(filter=shown), size=8, marker=marker, angle=float(np.radians(degrees)),
            fill_color=style["color"], line_color="black", line_width=0.5, nonselection_alpha=1,
            legend_label=f"{plain(label)} ({len(rows)})",
        )  # fmt: skip
        drawn.append((glyphs, source, shown))
    return drawn


def _mixtures(plot, points: np.ndarray, instruments: Sequence[Instrument], mixtures: Sequence[Mixture], *, sample_rate: int) -> tuple:
    """Draw the mixtures; return the source of their lines, their glyphs, and for each mixture its lines and a text of its matches."""
    from bokeh.models import ColumnDataSource

    shown, places = [], points[len(instruments) :]
    for mixture, (x, y) in zip(mixtures, places, strict=True):
        ends, text = [], []
        for match in mixture.matches:
            verdict = "right" if match.best in {other.true for other in mixture.matches} else "wrong"
            ends += [(*points[match.true], "solid"), (*points[match.best], "dashed")]
            text.append(f"{instruments[match.true].name}, distance {match.true_distance:.3f}")
            text.append(f"    best match, {verdict}: {instruments[match.best].name}, distance {match.best_distance:.3f}")
        x1, y1, dash = ([list(column) for column in zip(*ends, strict=True)]) if ends else ([], [], [])
        text = "\n".join(plain(line) for line in text)
        shown.append({"x0": [x] * len(ends), "y0": [y] * len(ends), "x1": x1, "y1": y1, "dash": dash, "text": text})
    lines = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1", "dash")})
    plot.segment("x0", "y0", "x1", "y1", source=lines, line_width=2, line_dash="dash", line_color="#c2185b")
    source = {"x": places[:, 0], "y": places[:, 1], "name": [plain(mixture.name) for mixture in mixtures]}
    source |= {"sound": [_mp3(mixture.audio, sample_rate) for mixture in mixtures], "number": list(range(len(mixtures)))}
    label = {"legend_label": f"mixtures ({len(mixtures)})"} if mixtures else {}
    glyphs = plot.scatter(
        "x", "y", source=ColumnDataSource(source), size=9, marker="asterisk", color="#85858e", nonselection_alpha=1, **label
    )
    return lines, glyphs, shown


def _mp3(audio: np.ndarray, sample_rate: int) -> str:
    return base64.b64encode(mp3(audio, sample_rate)).decode()
