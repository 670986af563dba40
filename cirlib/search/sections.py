"""Sections of a long mix: neighbouring clips that sound alike, or in which the same is found, joined."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

MOST = 8  # sections of a mix


@dataclass
class Section:
    """A part of a mix: its begin and end in seconds, and its embedding (D,)."""

    begin: float
    end: float
    vector: np.ndarray


def _joined(starts: np.ndarray, seconds: np.ndarray, vectors: np.ndarray) -> Section:
    """Return one section of all clips: starts, seconds (W,) and embeddings (W, D). Its embedding is their mean, weighted by duration."""
    return Section(float(starts[0]), float(starts[-1] + seconds[-1]), np.average(vectors, axis=0, weights=seconds))


def find_sections(starts: np.ndarray, seconds: np.ndarray, vectors: np.ndarray, found: Callable[[np.ndarray], Hashable]) -> list[Section]:
    """Return the sections of a mix in order, at most MOST; none if there is one only. Arguments as of `_joined`.

    The two neighbours whose union has the smallest increase of the summed squared distance of clips to the mean of their section (Ward)
    are joined until MOST remain. Then neighbours are joined for which `found(vector)` is the same.
    """
    first = np.arange(len(starts))  # clip of each section
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    size, mean = np.ones(len(starts)), unit.astype(np.float64)
    while len(first) > MOST:
        costs = size[:-1] * size[1:] / (size[:-1] + size[1:]) * ((mean[1:] - mean[:-1]) ** 2).sum(axis=1)
        i = int(costs.argmin())
        mean[i] = (size[i] * mean[i] + size[i + 1] * mean[i + 1]) / (size[i] + size[i + 1])
        size[i] += size[i + 1]
        first, size, mean = (np.delete(x, i + 1, axis=0) for x in (first, size, mean))
    parts = [_joined(starts[a:b], seconds[a:b], vectors[a:b]) for a, b in pairwise([*first, len(starts)])]
    keys = [found(part.vector) for part in parts]
    first = [a for i, a in enumerate(first) if not i or keys[i] != keys[i - 1]]
    parts = [_joined(starts[a:b], seconds[a:b], vectors[a:b]) for a, b in pairwise([*first, len(starts)])]
    return parts if len(parts) > 1 else []


def join(parts: list[Section], tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the results of the whole (section 0) and of its sections as one table with their number, begin and end."""
    places = [{"section": i, "begin": part.begin, "end": part.end} for i, part in enumerate(parts)]
    return pd.concat([table.assign(**place) for table, place in zip(tables, places, strict=True)], ignore_index=True)
