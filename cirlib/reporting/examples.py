"""Test mixtures of a run with their true instruments and the best matches of each family: a page to listen to, and a figure."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.log_mel import RATE
from ..common.files import one_line
from ..common.paths import short
from ..evaluation.protocol import EVAL_SEED, open_banks
from ..evaluation.ranking import nearest
from ..models.heads import select_family_head
from ..training.config import read_config
from .plots import finish, panels
from .plots_retrieval import log_mel
from .web import data_uri, escaped, mp3, write_page

MATCHES = 3  # of each family
LEGEND = """<p class="legend"><b>Mix</b>: the query. <b>True</b>: the reference note of an instrument in the mix. <b>Match 1</b> and on: the
nearest reference notes of the family, best first; <span class="right">✓ true instrument</span> marks the correct match.</p>
"""
DISTANCES = {  # of an embedding q of the query to an embedding g of a sound, in MathML, which browsers draw without a script
    "cosine": "<mn>1</mn><mo>&minus;</mo><mfrac><mrow><mi>q</mi><mo>·</mo><mi>g</mi></mrow>"
    "<mrow><mo>‖</mo><mi>q</mi><mo>‖</mo><mo>‖</mo><mi>g</mi><mo>‖</mo></mrow></mfrac>",
    "l2": "<mo>‖</mo><mi>q</mi><mo>&minus;</mo><mi>g</mi><mo>‖</mo>",
}


@dataclass
class Sound:
    """A sound: audio (n,) in [-1, 1] at 16 kHz, its name (of an instrument), a short note, and whether it is the true instrument."""

    audio: np.ndarray
    name: str
    note: str = ""
    right: bool = False


@dataclass
class Example:
    """A mixture and, for each family, its name, the true reference note, or None if it is unknown, and the best matches in order."""

    title: str
    mixture: Sound
    rows: list[tuple[str, Sound | None, list[Sound]]]


def find_examples(folder: Path, *, count: int = 6, between: tuple[float, float] = (0.0, 0.9)) -> list[Example]:
    """Return `count` test mixtures of the run in a folder, from well to badly retrieved.

    between: first and last position, 0 to 1, among the mixtures by the mean rank of their instruments. Only the mixtures whose
    embeddings 03_retrieve stored are considered; per-family heads compare each mixture with the instruments of their family. Raises
    FileNotFoundError, or ValueError for damaged files.
    """
    config, _ = read_config(folder)
    bank = open_banks(config.bank)
    vectors, gallery, heads, ranks = _stored(folder)
    mean = ranks[ranks["query"] < len(vectors)].groupby("query")["rank"].mean().sort_values(kind="stable")
    chosen = mean.index[np.linspace(*(share * (len(mean) - 1) for share in between), min(count, len(mean))).astype(int)]
    dataset, items, examples = config.mixtures(bank, "test", config.queries, EVAL_SEED), bank.gallery(), []

    def sound(uid: str, note: str, right: bool = False) -> Sound:
        return Sound(bank.audio(items.reference[uid]), uid, note, right)

    for query in map(int, chosen):
        mixture, rows = dataset[query], []
        for place, (family, uid) in enumerate(zip(mixture.families, mixture.instruments, strict=True)):
            inside = np.flatnonzero(items.family == family)
            vector = vectors[query] if vectors.ndim == 2 else vectors[query, place]
            vector = select_family_head(vector[None], [family], heads)
            notes = select_family_head(gallery[inside], [family] * len(inside), heads)
            names = items.index[inside[nearest(vector, notes, MATCHES, metric=config.metric)[0]]]
            matches = [sound(name, f"match {i}", name == uid) for i, name in enumerate(names, 1)]
            rows.append((family, sound(uid, "reference note of the true instrument"), matches))
        examples.append(Example(f"Mixture {query}", Sound(mixture.mixture, "the mixture"), rows))
    return examples


def _stored(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str], pd.DataFrame]:
    """Return mixture embeddings, gallery embeddings, heads and ranks that 03_retrieve stored."""
    try:
        with np.load(folder / "embeddings.npz", allow_pickle=False) as file:
            arrays = file["mixtures"], file["gallery"], list(file["heads"])
        return *arrays, pd.read_parquet(folder / "mixture_ranks.parquet")
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever their bytes lead to
        raise ValueError(
            f"embeddings.npz or mixture_ranks.parquet in {short(folder)} is damaged ({one_line(error)}): run 03_retrieve again"
        ) from None


def write_examples(folder: Path, path: Path, *, title: str, intro: str, **options) -> Path:
    """Write a page of test mixtures of the run in a folder and return its path; options as in `find_examples`."""
    return examples_page(path, find_examples(folder, **options), title=title, intro=intro)


def examples_page(path: Path, examples: list[Example], *, title: str, intro: str, footer: str = LEGEND) -> Path:
    """Write examples to listen to as one HTML file (examples_page.html, .css, .js) and return its path.

    Sounds are MP3, and stored once if they are repeated. footer: HTML below the examples. The same input gives the same bytes.
    """
    stored: dict[str, str] = {}  # data -> id of its first player

    def card(sound: Sound, label: str) -> str:
        uri = data_uri("audio/mpeg", mp3(sound.audio, RATE))
        source = f'data-same="{stored[uri]}"' if uri in stored else f'id="sound{len(stored)}" src="{uri}"'
        stored.setdefault(uri, f"sound{len(stored)}")
        right = ' <span class="right">✓ true instrument</span>' if sound.right else ""
        note = f' <span class="note">{escaped(sound.note)}</span>' if sound.note else ""
        caption = f"<figcaption><b>{label}</b>{right} <span>{escaped(sound.name)}</span>{note}</figcaption>"
        label = escaped(f"{label}, {sound.name}")
        return f'<figure>\n{caption}\n<audio controls preload="none" aria-label="{label}" {source}></audio>\n</figure>\n'

    def section(example: Example) -> str:
        mix = card(example.mixture, "Mix" if any(true for _, true, _ in example.rows) else "Query")
        rows = [f'<section>\n<h2>{escaped(example.title)}</h2>\n<div class="row">\n{mix}</div>\n']
        for family, true, matches in example.rows:
            cards = (card(true, "True") if true else "") + "".join(card(match, f"Match {i}") for i, match in enumerate(matches, 1))
            rows.append(f'<h3>{escaped(family)}</h3>\n<div class="row">\n{cards}</div>\n')
        return "".join(rows) + "</section>\n"

    return write_page(path, "examples_page", title=title, intro=intro, sections="".join(map(section, examples)), footer=footer)


def details(code: str, metric: str) -> str:
    """Return a folded block with the formula of the distance by a metric, and the Python code that finds the matches."""
    return (Path(__file__).with_name("search_details.html").read_text("utf-8")).format(
        distance=DISTANCES[metric], code="\n".join(map(escaped, code.splitlines()))
    )


def matches_figure(example: Example, title: str = "A mixture and the three nearest reference notes of each family"):
    """Return a figure of one example: log-mel of the mixture, and a line of matches for each family, the true instrument framed."""
    figure, axes = panels(MATCHES + 1, (9, 0.9 + 1.4 * len(example.rows)), rows=len(example.rows), sharex=True, sharey=True)
    for axis in axes[:, 0]:
        axis.remove()
    mixture = figure.add_subplot(axes[0, 0].get_gridspec()[:, 0])
    drawn = log_mel(mixture, example.mixture.audio, "query: a mixture")
    mixture.set(xlabel="time (s)", ylabel="frequency (kHz, mel scale)")
    for line, (family, _, matches) in zip(axes, example.rows, strict=True):
        for place, (axis, match) in enumerate(zip(line[1:], matches, strict=True), 1):
            log_mel(axis, match.audio, f"{family}, {place}" + (": correct" if match.right else ""))
            axis.set(xlim=mixture.get_xlim(), yticks=[])
            for spine in axis.spines.values() if match.right else ():
                spine.set(color="#009e73", linewidth=3, visible=True)
    figure.colorbar(drawn, ax=axes[:, 1:], label="level (dB re the maximum)", shrink=0.6)
    return finish(figure, title)
