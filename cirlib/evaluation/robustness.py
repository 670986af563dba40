"""Degraded queries: test mixtures after one of audio.effects.DEGRADATIONS. For tests of robustness only, never for training."""

from collections.abc import Sequence

import numpy as np

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
