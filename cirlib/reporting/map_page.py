"""The map of the embedding space as a page: one HTML file to browse, search and listen to (map_page.html, .css, .js).

Bokeh draws the points on a canvas; the script does everything else. Names of files may be hostile: they are stored in a block of JSON
without `<` and become text of elements, never HTML; Bokeh escapes them in its tooltips. Inline styles are allowed because Bokeh sets them.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.packages import require
from ..data.taxonomy import GROUPS
from .plots import family_style
from .web import mp3, plain, write_page

SECONDS, FADE_S = 1.5, 0.1  # longest note and its fade: about 4 kB of the page for each second
NO_FAMILY = "no family"
POINT, MARGIN = 8, 0.04  # size of a point in pixels; margin of the map as a share of its extent
MARKERS = {  # of matplotlib -> of Bokeh, and its rotation in degrees
    "o": ("circle", 0), "s": ("square", 0), "D": ("diamond", 0), "^": ("triangle", 0), "v": ("inverted_triangle", 0),
    "P": ("plus", 0), "X": ("plus", 45), "*": ("star", 0), ".": ("hex", 0),
}  # fmt: skip
ON_DARK = {"#000000": "#ffffff"}  # colours that are invisible on a dark page


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
    """Write the map as one HTML file and return its path. The same input gives the same bytes.

    points (N + M, 2): of N > 0 instruments, then of M mixtures. sample_rate: one that MP3 has.
    """
    require("map pages", "bokeh")
    from bokeh.resources import Resources

    points = np.asarray(points, float)
    return write_page(
        path,
        "map_page",
        title=title,
        intro=intro,
        library="\n".join(Resources(mode="inline", components=["bokeh"], log_level="error").js_raw),
        plot=_json(_plot(points)),
        data=_json(_data(points, instruments, mixtures)),
        sounds=_json(_sounds(instruments, mixtures, sample_rate)),
    )


def _json(value: object) -> str:
    """Return JSON for an element: ASCII, without anything that opens or closes an element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _data(points: np.ndarray, instruments: Sequence[Instrument], mixtures: Sequence[Mixture]) -> dict:
    """Return the data of the script: families with their style, instruments and mixtures with their points and matches."""
    names = [NO_FAMILY if pd.isna(item.family) else item.family for item in instruments]
    order = [name for name in (*GROUPS, *sorted(set(names) - {*GROUPS, NO_FAMILY}), NO_FAMILY) if name in names]
    places = [{"x": x, "y": y} for x, y in points.tolist()]
    return {
        "families": [{"name": plain(name), **_style(name)} for name in order],
        "instruments": [
            {"name": plain(item.name), "family": order.index(name), "source": plain(item.source), **place}
            for item, name, place in zip(instruments, names, places, strict=False)
        ],
        "mixtures": [
            {"name": plain(mixture.name), **place, "matches": [_rounded(match) for match in mixture.matches]}
            for mixture, place in zip(mixtures, places[len(instruments) :], strict=True)
        ],
    }


def _rounded(match: Match) -> list:
    return [match.true, round(float(match.true_distance), 6), match.best, round(float(match.best_distance), 6)]


def _style(family: str) -> dict:
    """Return the colours of a family on a light and a dark page, its marker, and the angle of the marker in radians."""
    style = family_style(family)
    (marker, degrees), light = MARKERS[style["marker"]], style["color"]
    return {"light": light, "dark": ON_DARK.get(light, light), "marker": marker, "angle": float(np.radians(degrees))}


def _sounds(instruments: Sequence[Instrument], mixtures: Sequence[Mixture], sample_rate: int) -> list[str]:
    """Return every sound as base64 of an MP3 file: notes of at most SECONDS, then mixtures."""
    longest, fade = round(SECONDS * sample_rate), np.linspace(1, 0, round(FADE_S * sample_rate))
    sounds = [np.array(item.audio[:longest], np.float32) for item in instruments]
    for item, audio in zip(instruments, sounds, strict=True):
        if len(item.audio) > longest:
            audio[-len(fade) :] *= fade
    return [base64.b64encode(mp3(audio, sample_rate)).decode() for audio in (*sounds, *(mixture.audio for mixture in mixtures))]


def _plot(points: np.ndarray) -> dict:
    """Return the plot without data, which the script adds: what `Bokeh.embed.embed_item` takes."""
    from bokeh.embed import json_item
    from bokeh.models import PanTool, Range1d, WheelZoomTool
    from bokeh.plotting import figure

    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * np.where(high > low, high - low, 1 / MARGIN)
    x, y = (Range1d(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True))
    wheel = WheelZoomTool()
    plot = figure(
        x_range=x, y_range=y, sizing_mode="stretch_both", min_width=100, min_height=100, toolbar_location=None, name="plot",
        tools=[PanTool(), wheel], active_scroll=wheel, background_fill_color=None, border_fill_color=None, outline_line_color=None,
        min_border=0,
    )  # fmt: skip
    plot.axis.visible = plot.grid.visible = False
    _add_glyphs(plot)
    # ids that count from 1, whatever Bokeh made before in this process, so that the same input gives the same bytes
    numbers: dict[str, int] = {}
    text = json.dumps(json_item(plot, "plot"))
    return json.loads(re.sub(r'(?<=")p\d+(?=")', lambda found: f"p{numbers.setdefault(found[0], len(numbers) + 1)}", text))


def _add_glyphs(plot) -> None:
    """Add lines to the true instruments and the best matches of a mixture, points, marks at the ends of lines, and tooltips."""
    from bokeh.models import CDSView, ColumnDataSource, HoverTool, IndexFilter

    def source(name: str, columns: str) -> ColumnDataSource:
        return ColumnDataSource({column: [] for column in columns.split()}, name=name)

    true, best = (source(name, "x0 y0 x1 y1 number") for name in ("true", "best"))
    plot.segment("x0", "y0", "x1", "y1", source=true, line_width=2.5, name="true_line")
    plot.segment("x0", "y0", "x1", "y1", source=best, line_width=2.5, line_dash=[7, 6], name="best_line")
    mixtures = plot.scatter(
        "x", "y", source=source("mixtures", "x y name instruments"), size=POINT + 1, marker="asterisk", line_width=1.2, name="mixture",
    )  # fmt: skip
    notes = plot.scatter(
        "x", "y", size=POINT, marker="marker", angle="angle", fill_color="fill", line_color="line", line_width=0.5, name="instrument",
        source=source("instruments", "x y name family source marker angle fill line"),
        view=CDSView(filter=IndexFilter([], name="shown")),
    )  # fmt: skip
    plot.scatter("x1", "y1", source=true, size=18, fill_color=None, line_width=2.5, name="true_end")
    plot.scatter("x1", "y1", source=best, marker="square", size=22, fill_color=None, line_width=2.5, name="best_end")
    plot.scatter("x0", "y0", source=true, marker="asterisk", size=18, line_width=2.5, name="from_end")
    number = {"text_font_size": "13px", "text_font_style": "bold", "background_fill_alpha": 0.8, "padding": 1, "text_baseline": "middle"}
    plot.text("x1", "y1", "number", source=true, x_offset=12, y_offset=-12, name="true_text", **number)
    plot.text("x1", "y1", "number", source=best, x_offset=-12, y_offset=12, text_align="right", name="best_text", **number)
    plot.scatter("x", "y", source=source("chosen", "x y"), size=26, fill_color=None, line_width=3, name="chosen_end")
    for glyphs, lines in ((notes, ("@name", "@family", "source: @source")), (mixtures, ("@name", "instruments: @instruments"))):
        plot.add_tools(HoverTool(renderers=[glyphs], tooltips=[("", line) for line in lines], limit=3))
