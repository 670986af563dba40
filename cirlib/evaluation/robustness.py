"""Degraded queries: test mixtures after one of audio.effects.DEGRADATIONS. For tests of robustness only, never for training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..audio.effects import DEGRADATIONS
from ..common.packages import require
from ..common.settings import choose
from ..data.mixtures import PEAK, MixtureDataset


def queries(name: str, dataset: MixtureDataset, indices: Sequence[int]) -> np.ndarray:
    """Return mixtures `indices` of a dataset, degraded: (M, T), with the length and peak of a mixture.

    The random generator of each depends on the dataset's seed and its index only. Raises ValueError for an unknown name.
    """
    if choose("degradation", name, DEGRADATIONS) == "clean":
        return dataset.batch(indices, "none")[0]
    require("degraded queries", "pedalboard", "soxr")
    degrade, rate = DEGRADATIONS[name], dataset.bank.sample_rate
    out = np.zeros((len(indices), dataset.samples), np.float32)
    for sound, i, stems in zip(out, indices, dataset.batch(indices, "stems")[1], strict=True):
        rng = np.random.default_rng([dataset.seed, i])
        degraded = degrade(stems, rate, rng)[: len(sound)]
        sound[: len(degraded)] = degraded
        peak = np.abs(sound).max()
        sound *= PEAK / peak if peak > 1e-9 else 0
    return out


def markdown(found: pd.DataFrame) -> str:
    """Return top-1 in percent, with intervals, as Markdown: a line per degradation, a column per row, the best of each line bold.

    found: columns row, query (a degradation), top1, top1_ci.
    """
    rows = list(dict.fromkeys(found["row"]))
    cells = found.set_index(["query", "row"])
    lines = [["query", *rows], ["---", *["---:"] * len(rows)]]
    for name in (name for name in DEGRADATIONS if name in set(found["query"])):
        part = cells.loc[name].reindex(rows)
        texts = [f"{100 * r.top1:.1f} ({100 * r.top1_ci[0]:.1f} to {100 * r.top1_ci[1]:.1f})" for r in part.dropna().itertuples()]
        texts = pd.Series(texts, part.dropna().index).reindex(rows).fillna("")
        lines.append([name, *(f"**{text}**" if value == part.top1.max() else text for text, value in zip(texts, part.top1, strict=True))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
