"""The map of the embedding space as a page: one HTML file to look at, search and listen to, that needs nothing but a browser.

Bokeh draws the points, on a canvas (it needs no WebGL, and 1,500 points are few for it); `map_page.js` is everything else, `map_page.css`
the style, `map_page.html` the skeleton. Nothing in the page moves by itself. Names come from files of strangers: they lie in a block of
data, no `<` among them, and become text of elements, never HTML; Bokeh gets them for its tooltips only, and escapes them there.
The content security policy runs the page's own scripts only (no eval), and fetches nothing. It cannot forbid inline styles,
because Bokeh writes its own while it draws (what they load must be data too), nor that another page frames this one.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.taxonomy import GROUPS
from .plots import family_style
from .web import check_sounds, mp3, plain, write_page

SECONDS = 1.5  # of a note; what is longer fades out. About 4 kB of the page for each second
FADE_S = 0.1
NO_FAMILY = "no family"
POINT, MARGIN = 8, 0.04  # size of a point in pixels; room around all of them, as a share of their extent
MARKERS = {  # of matplotlib: Bokeh's marker, turned by so many degrees
    "o": ("circle", 0), "s": ("square", 0), "D": ("diamond", 0), "^": ("triangle", 0), "v": ("inverted_triangle", 0),
    "P": ("plus", 0), "X": ("plus", 45), "*": ("star", 0), ".": ("hex", 0),
}  # fmt: skip
ON_DARK = {"#000000": "#ffffff"}  # colours that a dark page swallows


@dataclass
class Instrument:
    """A point of the gallery: its name (uid), its family or None, where it comes from, and its reference note (n,) in [-1, 1]."""

    name: str
    family: str | None
    source: str
    audio: np.ndarray


@dataclass
class Answer:
    """An instrument of a mixture and the best match of its family: positions among the instruments, and distances to the mixture."""

    true: int
    true_distance: float
    found: int
    found_distance: float


@dataclass
class Mixture:
    """A mixture: its name, what it sounds like (n,) in [-1, 1], and an answer for each of its instruments."""

    name: str
    audio: np.ndarray
    answers: list[Answer]


def answers(true: Sequence[int], distances: np.ndarray, families: Sequence[str]) -> list[Answer]:
    """What was found for each instrument of a mixture: `true` are positions in the gallery.

    distances (G,): of the mixture to the gallery; with one row per instrument, (S, G), each is asked with its own. families (G,).
    """
    labels = pd.factorize(np.asarray(families, object))[0]  # no family is one too
    out = []
    for place, row in zip(true, np.broadcast_to(np.asarray(distances, float), (len(true), len(labels))), strict=True):
        kin = np.flatnonzero(labels == labels[place])
        best = kin[row[kin].argmin()]
        out.append(Answer(int(place), float(row[place]), int(best), float(row[best])))
    return out


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
    """Write the map as one HTML file that needs no other file, and return its path.

    points (N + M, 2): where the N instruments and, behind them, the M mixtures lie. The same input gives the same bytes.
    ValueError without instruments, for points of another shape or not finite, for answers that name no instrument or hold no finite
    distance, for audio that is empty, not finite or not (n,), and for a rate that MP3 lacks. ImportError without Bokeh.
    """
    points = np.asarray(points, float)
    _check(points, instruments, mixtures, sample_rate)
    return write_page(
        path,
        "map_page",
        title=title,
        intro=intro,
        library=_bokeh(),
        plot=_json(_plot(points)),
        data=_json(_data(points, instruments, mixtures)),
        sounds=_json(_sounds(instruments, mixtures, sample_rate)),
    )


def _check(points: np.ndarray, instruments: Sequence[Instrument], mixtures: Sequence[Mixture], sample_rate: int) -> None:
    """ValueError for input that makes no page."""
    if not len(instruments):
        raise ValueError("a map needs at least one instrument")
    if points.shape != (len(instruments) + len(mixtures), 2):
        raise ValueError(
            f"points must hold a row of two numbers for each of {len(instruments)} instruments and then {len(mixtures)} mixtures, "
            f"got shape {points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError("points hold NaN or infinite values, which have no place on a map")
    check_sounds((*instruments, *mixtures), sample_rate)
    for mixture in mixtures:
        for answer in mixture.answers:
            if not all(0 <= place < len(instruments) for place in (answer.true, answer.found)):
                raise ValueError(f"answers of {mixture.name!r} must be positions of instruments, 0 to {len(instruments) - 1}, got {answer}")
            if not np.isfinite([answer.true_distance, answer.found_distance]).all():
                raise ValueError(f"distances of {mixture.name!r} must be finite, got {answer}")


def _bokeh() -> str:
    """Bokeh's own script, as it comes with its package."""
    try:
        from bokeh.resources import Resources
    except ImportError as error:
        raise ImportError("the map page is drawn by bokeh: pip install bokeh") from error
    return "\n".join(Resources(mode="inline", components=["bokeh"], log_level="error").js_raw)


def _json(value: object) -> str:
    """JSON that an element can hold: ASCII, and nothing that opens or closes an element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _data(points: np.ndarray, instruments: Sequence[Instrument], mixtures: Sequence[Mixture]) -> dict:
    """Return the data of the script: families with their style, instruments and mixtures with their places and answers."""
    names = [NO_FAMILY if pd.isna(item.family) else item.family for item in instruments]
    order = [name for name in (*GROUPS, *sorted(set(names) - {*GROUPS, NO_FAMILY}), NO_FAMILY) if name in names]
    places = points.tolist()
    return {
        "families": [{"name": plain(name), **_style(name)} for name in order],
        "instruments": [
            {"name": plain(item.name), "family": order.index(name), "source": plain(item.source), "x": x, "y": y}
            for item, name, (x, y) in zip(instruments, names, places, strict=False)
        ],
        "mixtures": [
            {
                "name": plain(mixture.name),
                "x": x,
                "y": y,
                "answers": [[a.true, _rounded(a.true_distance), a.found, _rounded(a.found_distance)] for a in mixture.answers],
            }
            for mixture, (x, y) in zip(mixtures, places[len(instruments) :], strict=True)
        ],
    }


def _rounded(distance: float) -> float:
    return round(float(distance), 6)


def _style(family: str) -> dict:
    """Colours of a family on a light and on a dark page, its marker, and the angle of that in radians."""
    style = family_style(family)
    marker, degrees = MARKERS[style["marker"]]
    return {
        "light": style["color"], "dark": ON_DARK.get(style["color"], style["color"]), "marker": marker, "angle": float(np.radians(degrees))
    }  # fmt: skip


def _sounds(instruments: Sequence[Instrument], mixtures: Sequence[Mixture], sample_rate: int) -> list[str]:
    """Every sound as base64 of an MP3 file: notes of at most SECONDS, mixtures whole."""
    longest, fade = round(SECONDS * sample_rate), np.linspace(1, 0, round(FADE_S * sample_rate))
    out = []
    for item in instruments:
        audio = np.array(item.audio[:longest], np.float32)
        if len(item.audio) > longest:
            audio[-len(fade) :] *= fade
        out.append(audio)
    return [base64.b64encode(mp3(audio, sample_rate)).decode() for audio in (*out, *(mixture.audio for mixture in mixtures))]


def _plot(points: np.ndarray) -> dict:
    """The plot without its data, which the script fills in: what `Bokeh.embed.embed_item` takes."""
    from bokeh.embed import json_item
    from bokeh.models import CDSView, ColumnDataSource, HoverTool, IndexFilter, PanTool, Range1d, WheelZoomTool
    from bokeh.plotting import figure

    low, high = points.min(axis=0), points.max(axis=0)
    room = MARGIN * np.where(high > low, high - low, 1 / MARGIN)
    x, y = (Range1d(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True))
    wheel = WheelZoomTool()
    plot = figure(
        x_range=x, y_range=y, sizing_mode="stretch_both", min_width=100, min_height=100, toolbar_location=None, name="plot",
        tools=[PanTool(), wheel], active_scroll=wheel, background_fill_color=None, border_fill_color=None, outline_line_color=None,
        min_border=0,
    )  # fmt: skip
    plot.axis.visible = plot.grid.visible = False

    def source(name: str, *columns: str) -> ColumnDataSource:
        return ColumnDataSource({column: [] for column in columns}, name=name)

    plot.segment("x0", "y0", "x1", "y1", source=source("true", "x0", "y0", "x1", "y1", "number"), line_width=2.5, name="true_line")
    found = source("found", "x0", "y0", "x1", "y1", "number")
    plot.segment("x0", "y0", "x1", "y1", source=found, line_width=2.5, line_dash=[7, 6], name="found_line")
    mixtures = plot.scatter(
        "x",
        "y",
        source=source("mixtures", "x", "y", "name", "instruments"),
        size=POINT + 1,
        marker="asterisk",
        line_width=1.2,
        name="mixture",
    )
    notes = plot.scatter(
        "x", "y", size=POINT, marker="marker", angle="angle", fill_color="fill", line_color="line", line_width=0.5, name="instrument",
        source=source("instruments", "x", "y", "name", "family", "source", "marker", "angle", "fill", "line"),
        view=CDSView(filter=IndexFilter([], name="shown")),
    )  # fmt: skip
    plot.scatter("x1", "y1", source=plot.select_one({"name": "true"}), size=18, fill_color=None, line_width=2.5, name="true_end")
    plot.scatter("x1", "y1", source=found, marker="square", size=22, fill_color=None, line_width=2.5, name="found_end")
    start = {"marker": "asterisk", "size": 18, "line_width": 2.5}
    plot.scatter("x0", "y0", source=plot.select_one({"name": "true"}), name="from_end", **start)
    number = {"text_font_size": "13px", "text_font_style": "bold", "background_fill_alpha": 0.8, "padding": 1, "text_baseline": "middle"}
    plot.text("x1", "y1", "number", source=plot.select_one({"name": "true"}), x_offset=12, y_offset=-12, name="true_text", **number)
    plot.text("x1", "y1", "number", source=found, x_offset=-12, y_offset=12, text_align="right", name="found_text", **number)
    plot.scatter("x", "y", source=source("chosen", "x", "y"), size=26, fill_color=None, line_width=3, name="chosen_end")
    for points_of, about in ((notes, ("@name", "@family", "source: @source")), (mixtures, ("@name", "instruments: @instruments"))):
        plot.add_tools(HoverTool(renderers=[points_of], tooltips=[("", line) for line in about], limit=3))
    return _renumbered(json_item(plot, "plot"))


def _renumbered(item: dict) -> dict:
    """The plot with ids that count from 1, whatever this process made before: it holds no text of others, so ids are all that looks so."""
    numbers: dict[str, int] = {}
    words = re.sub(r'(?<=")p\d+(?=")', lambda found: f"p{numbers.setdefault(found[0], len(numbers) + 1)}", json.dumps(item))
    return json.loads(words)
