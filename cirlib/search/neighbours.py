"""Families of sounds whose names say none, predicted from the nearest sounds whose names do."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..evaluation.ranking import nearest
from ..models.heads import SINGLE, select_head
from .table import Table, matrix

NEIGHBOURS, AGREE = 5, 4  # nearest instruments, and how many of them must be of the family
MOST = 4000  # instruments with a family that are compared with


def predict_families(table: Table, *, metric: str, heads: Sequence[str]) -> None:
    """Set the column `predicted` of all rows without a family.

    It becomes the family of AGREE or more of the NEIGHBOURS nearest instruments, else null; null too if the library has fewer than
    NEIGHBOURS instruments with a family.
    """
    stored = table.read()
    rows = stored.select(["id", "origin", "instrument", "family", "predicted"]).to_pandas()
    if rows.family.notna().all() and rows.predicted.isna().all():
        return
    owner = rows.groupby(["origin", "instrument"], sort=False).ngroup().to_numpy()
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(owner.max() + 1))
    means = np.add.reduceat(select_head(matrix(stored), SINGLE, heads)[order], first) / np.bincount(owner)[:, None]
    families = rows.family.to_numpy(object)[order[first]]
    guesses = _vote(means, families, metric)[owner]
    changed = rows.assign(guess=guesses)[rows.family.isna() & (rows.predicted.fillna("") != pd.Series(guesses).fillna(""))]
    for family, group in changed.groupby("guess", dropna=False):
        table.set("predicted", None if pd.isna(family) else family, group.id)


def _vote(vectors: np.ndarray, families: np.ndarray, metric: str) -> np.ndarray:
    """Return the predicted family, or None, of each vector (N, D) whose family is None."""
    named, unnamed = np.flatnonzero(pd.notna(families)), np.flatnonzero(pd.isna(families))
    named = named[np.linspace(0, len(named) - 1, min(len(named), MOST)).astype(int)]
    guesses = np.full(len(families), None, object)
    if len(named) < NEIGHBOURS:
        return guesses
    labels, names = pd.factorize(families[named])
    votes = labels[nearest(vectors[unnamed], vectors[named], NEIGHBOURS, metric=metric)]
    counts = (votes[:, :, None] == np.arange(len(names))).sum(axis=1)  # (N, families)
    sure = counts.max(axis=1) >= AGREE
    guesses[unnamed[sure]] = names[counts[sure].argmax(axis=1)]
    return guesses
