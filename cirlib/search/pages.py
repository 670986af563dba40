"""Pages to listen to: the result of a search, and the map of a library."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import RATE, resample
from ..common.packages import Missing
from ..common.paths import short
from ..reporting.examples import Example, Sound, details, examples_page
from ..reporting.map_page import Instrument, map_page
from .library import Library
from .query import load
from .results import PAGES, check_suffix, clock

QUERY_S = 120.0  # of a query on its page
MOST = 1500  # instruments on a map
NEIGHBOURS = 15  # of UMAP


def search_page(library: Library, query: str | Path | pd.Series, matches: pd.DataFrame, path: str | Path, *, call: str = "") -> Path:
    """Write the matches of a file, or of a match, as one HTML file to listen to, and return its path.

    call: the Python expression that finds them, for a folded block at the end. Raises ValueError for another suffix than .html,
    FileNotFoundError if a sound no longer exists.
    """
    path, is_match = check_suffix(path, *PAGES), hasattr(query, "instrument")
    audio, name = (resample(*library.preview(query)), query.instrument) if is_match else (load(query), Path(query).name)
    if "section" not in matches:
        matches = matches.assign(section=0, begin=0.0, end=len(audio) / RATE)
    examples = []
    for (section, begin, end), part in matches.groupby(["section", "begin", "end"]):
        excerpt = audio[round(begin * RATE) : round(min(end, begin + QUERY_S) * RATE)]
        place = f"{clock(begin)} to {clock(end)}"
        title = f"Section {section}, {place}" if section else f"The whole query, {place}"
        examples.append(Example(title, Sound(excerpt, name, place), _rows(library, part)))
    code = f"from cirlib import Library\n\nlibrary = Library.open({short(library.path)!r})\n{call}"
    intro = f"The nearest sounds of the library {library.path.name}, best first."
    title = f"What sounds like {name}?"
    return examples_page(path, examples, title=title, intro=intro, footer=details(code, library.metric) if call else "")


def _rows(library: Library, part: pd.DataFrame) -> list[tuple[str, None, list[Sound]]]:
    """Return the matches of a section by family, if the families were searched, with its probability; else all as one row."""
    if "presence" not in part:
        return [("Nearest", None, [_sound(library, match) for match in part.itertuples()])]
    rows = []
    for family, group in part.groupby("family", sort=False):
        presence = group.presence.iloc[0]
        title = family if pd.isna(presence) else f"{family}, {100 * presence:.0f} %"
        rows.append((title, None, [_sound(library, match) for match in group.itertuples()]))
    return rows


def _sound(library: Library, match) -> Sound:
    words = [f"distance {match.distance:.3f}", f"{match.family} (predicted)" if match.predicted else match.family, match.note]
    words += [f"at {clock(match.start)}" if match.start >= 1 else None, short(match.path)]
    return Sound(
        resample(*library.preview(match)), match.instrument.rpartition("/")[2], ", ".join(word for word in words if word and word == word)
    )


def library_map(library: Library, path: Path) -> Path:
    """Write the instruments of a library as a map (UMAP of their first sounds) to browse and listen to, and return its path.

    Of a larger library, MOST instruments are drawn, evenly chosen. Raises FileNotFoundError if a sound no longer exists.
    """
    chosen, vectors = library.gallery.instruments(MOST)
    total = library.describe()["instruments"]
    items = [Instrument(match.instrument, match.family, match.source, resample(*library.preview(match))) for match in chosen.itertuples()]
    return map_page(
        path, _flat(vectors, library.metric), instruments=items, mixtures=[], title=f"The sounds of {library.path.name}",
        intro=f"UMAP of {len(items)} of {total} instruments: what lies near sounds alike. Click a point to play it.",
    )  # fmt: skip


def _flat(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Return a position on the map (N, 2) for each vector (N, D)."""
    if len(vectors) <= 3:  # too few for UMAP
        return np.stack([np.arange(len(vectors)), np.zeros(len(vectors))], axis=1)
    try:
        import umap
    except ImportError:
        raise Missing("maps need the package umap-learn: pip install umap-learn") from None
    count = min(NEIGHBOURS, len(vectors) - 1)
    options = {"n_neighbors": count, "metric": "euclidean" if metric == "l2" else "cosine", "random_state": 0, "n_jobs": 1, "init": "pca"}
    return umap.UMAP(**options).fit_transform(vectors)
