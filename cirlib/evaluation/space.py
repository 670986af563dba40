"""Measures of an embedding space: hubs, labels of neighbours, distances within and between instruments, linear probes.

Hubness: Radovanovic, Nanopoulos and Ivanovic, "Hubs in space", JMLR 11, 2010. Linear probes: Alain and Bengio, "Understanding
intermediate layers using linear classifier probes", 2016. Shares are between 0 and 1, intervals are 95 percent.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .ranking import nearest

ALPHAS = tuple(10.0**k for k in range(6))  # candidates for the strength of the ridge
INNER_FOLDS = 3  # of the training sounds, to choose it
TOP_HUBS = 10


def neighbours(vectors: np.ndarray, k: int, metric: str = "cosine") -> np.ndarray:
    """Return indices (N, k) of the k nearest others of each vector (N, D), nearest first; k is at most N - 1.

    Raises ValueError for fewer than two vectors.
    """
    if len(vectors) < 2:
        raise ValueError(f"neighbours need two vectors or more, got {len(vectors)}")
    k = min(k, len(vectors) - 1)
    near = nearest(vectors, vectors, k + 1, metric=metric)
    others = near != np.arange(len(near))[:, None]
    others[others.all(axis=1), -1] = False  # more than k copies of the vector precede it
    return near[others].reshape(len(near), k)


def hubness(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return skewness, `never` (share of zeros) and `most` (largest) of k-occurrences (..., G): how often each item is retrieved.

    Skewness is E[(N - mean)^3] / std^3, and 0 if all items are retrieved equally often.
    """
    counts = np.asarray(counts, float)
    centred = counts - counts.mean(axis=-1, keepdims=True)
    std = centred.std(axis=-1)
    skewness = (centred**3).mean(axis=-1) / np.where(std > 0, std, 1) ** 3
    return {"skewness": skewness, "never": (counts == 0).mean(axis=-1), "most": counts.max(axis=-1)}


def random_hubness(queries: int, items: int, k: int, *, draws: int = 500, seed: int = 0) -> dict[str, list[float]]:
    """Return `hubness` of galleries in random order, as [2.5, 50, 97.5 percentile] of each number.

    k-occurrences are then binomial: `queries` draws with probability k / items (their fixed sum is neglected).
    """
    counts = np.random.default_rng(seed).binomial(queries, min(1, k / items), (draws, items))
    return {name: np.quantile(values, [0.025, 0.5, 0.975]).tolist() for name, values in hubness(counts).items()}


def hub_report(near: np.ndarray, names: Sequence[str]) -> dict:
    """Return the hubness of gallery items `names` among the neighbours (Q, k) of queries, and that of a random order.

    `hubs`: the TOP_HUBS items that are retrieved most often; `histogram`[n]: share of the items that are retrieved n times.
    """
    from scipy.stats import binom

    (queries, k), items = near.shape, len(names)
    counts = np.bincount(near.ravel(), minlength=items)
    most = np.argsort(-counts, kind="stable")[:TOP_HUBS]
    return {
        "queries": queries, "items": items, "k": k, **{name: float(value) for name, value in hubness(counts).items()},
        "random": random_hubness(queries, items, k),
        "hubs": [{"name": str(names[i]), "retrieved": int(counts[i])} for i in most],
        "histogram": (np.bincount(counts) / items).tolist(),
        "histogram_random": binom.pmf(np.arange(counts.max() + 1), queries, k / items).tolist(),
    }  # fmt: skip


def purity_report(near: np.ndarray, labels: Sequence) -> dict:
    """Return the share of the neighbours (N, k) with the label of the item, labels (N,), and the same for a random order.

    {"same", "chance", "labels": {label: {"same", "chance", "items"}}}: means over all items and over those of each label.
    """
    labels = np.asarray(labels)
    counts = pd.Series(labels).groupby(labels).transform("size")
    table = pd.DataFrame({"same": (labels[near] == labels[:, None]).mean(axis=1), "chance": (counts - 1) / max(1, len(labels) - 1)})
    groups = table.groupby(labels)
    by_label = groups.mean().assign(items=groups.size())
    return {**{name: float(value) for name, value in table.mean().items()}, "labels": by_label.to_dict("index")}


def nearer(distances: np.ndarray, own: Sequence[int], rivals: np.ndarray) -> np.ndarray:
    """Return the share (Q,) of the rivals of each query that are farther away than its own item; ties count half, chance is 0.5.

    distances (Q, G), own (Q,) gallery indices, rivals (Q, G) bool. NaN for a query without rivals.
    """
    mine, count = distances[np.arange(len(distances)), own][:, None], rivals.sum(axis=1)
    farther = ((distances > mine) & rivals).sum(axis=1) + ((distances == mine) & rivals).sum(axis=1) / 2
    return np.where(count > 0, farther / np.maximum(count, 1), np.nan)


def interval(values: Sequence[float], groups: Sequence, *, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Return {"mean", "low", "high"} of values (N,), with a bootstrap interval over groups (N,) such as instruments.

    NaN is skipped. Raises ValueError if all values are NaN.
    """
    table = pd.DataFrame({"value": np.asarray(values, float), "group": np.asarray(groups)}).dropna()
    if table.empty:
        raise ValueError("an interval needs at least one value that is not NaN")
    sums, counts = (table.groupby("group").value.agg(how).to_numpy() for how in ("sum", "count"))
    weights = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
    low, high = np.quantile((weights @ sums) / (weights @ counts), [0.025, 0.975])
    return {"mean": float(table.value.mean()), "low": float(low), "high": float(high)}


def probe(vectors: np.ndarray, values: Sequence[float], groups: Sequence, *, folds: int = 5) -> dict:
    """Return R² of ridge regression from vectors (N, D) to values (N,) on groups (instruments) that it was not fitted on.

    No group is on both sides of a fold, also where the strength of the ridge is chosen. NaN values are skipped. The interval is Student's
    over the folds, and approximate since folds share training sounds. Raises ValueError for fewer than 6 groups or constant values.
    """
    from scipy.stats import sem, t
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    known = np.isfinite(np.asarray(values, float))
    x, y, groups = np.asarray(vectors, float)[known], np.asarray(values, float)[known], np.asarray(groups)[known]
    count, scores = len(set(groups)), []
    folds = min(folds, count // 3)
    if folds >= 2 and np.ptp(y) > 0:
        for train, test in GroupKFold(folds).split(x, y, groups):
            inner = GroupKFold(min(INNER_FOLDS, len(set(groups[train])))).split(x[train], y[train], groups[train])
            ridge = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=list(inner)))
            with threadpool_limits(1):  # threads slow down matrices this small
                ridge.fit(x[train], y[train])
            if np.ptp(y[test]) > 0:
                scores.append(float(ridge.score(x[test], y[test])))
    if len(scores) < 2:
        raise ValueError(f"a probe needs values that differ, of 6 instruments or more; got {count} instruments")
    mean, half = float(np.mean(scores)), float(t.ppf(0.975, len(scores) - 1) * sem(scores))
    return {"r2": mean, "low": mean - half, "high": mean + half, "folds": scores, "sounds": len(y), "instruments": count}


def effects_label(fx: Sequence[str]) -> str:
    """Return "none", the only effect, or "several"."""
    return "none" if not len(fx) else fx[0] if len(fx) == 1 else "several"


def twin_notes(notes: pd.DataFrame) -> pd.DataFrame:
    """Return the notes of a NoteBank that exist with and without effects: instrument, family, effects, rows `on` and `off`.

    Both have the same pitch and velocity; `off` is a note of the twin, the instrument whose `augments` names the original.
    """
    table = notes[["instrument", "augments", "family", "pitch", "velocity"]].assign(row=np.arange(len(notes))).dropna(subset="pitch")
    twins = table[table.augments.notna()].drop(columns=["instrument", "family"]).rename(columns={"augments": "instrument", "row": "off"})
    own = table[table.augments.isna()].drop(columns="augments").rename(columns={"row": "on"})
    pairs = own.merge(twins, on=["instrument", "pitch", "velocity"]).drop_duplicates("on").reset_index(drop=True)
    pairs["effects"] = [effects_label(fx) for fx in notes.fx.iloc[pairs.on]]
    return pairs[["instrument", "family", "effects", "on", "off"]]


def beside_twins(notes: pd.DataFrame, pairs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return `pairs` of twin_notes with rows to compare with: `note`, another of the instrument, and `rival`, of another instrument.

    The rival is an original (no twin) of the same family and split, nearest in pitch. Pairs that lack either are skipped.
    """
    rng, rows = np.random.default_rng(seed), np.arange(len(notes))
    names, split, family = (notes[column].fillna("").to_numpy(str) for column in ("instrument", "split", "family"))
    original, pitch, chosen = notes.augments.isna().to_numpy(), notes.pitch.to_numpy(), []
    for row in pairs.on:
        same = np.flatnonzero((names == names[row]) & (rows != row))
        kin = original & (family == family[row]) & (split == split[row]) & (names != names[row])
        interval = np.where(kin, np.abs(pitch - pitch[row]), np.inf)
        rivals = np.flatnonzero(interval == np.nanmin(interval)) if np.isfinite(interval).any() else []
        chosen.append([rng.choice(x) if len(x) else -1 for x in (same, rivals)])
    out = pairs.copy()
    out[["note", "rival"]] = np.array(chosen, int).reshape(-1, 2)
    return out[(out.note >= 0) & (out.rival >= 0)].reset_index(drop=True)
