"""Measures of an embedding space: hubs, neighbourhoods, who lies nearer, and what a linear model still reads from a vector.

Hubness is that of Radovanovic, Nanopoulos and Ivanovic, Hubs in space: popular nearest neighbors in high-dimensional data, JMLR 11, 2010.
Linear probes are those of Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016.
Arrays in, arrays or plain numbers out; shares are between 0 and 1, intervals are 95 percent.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from . import ranking as retrieval

ALPHAS = tuple(10.0**k for k in range(6))  # strengths of the ridge, of which one is chosen on
INNER_FOLDS = 3  # of the sounds that train
FOLDS = 5
TOP_HUBS = 10


def neighbours(vectors: np.ndarray, k: int, metric: str = "cosine") -> np.ndarray:
    """Indices (N, k) of the k nearest others of each vector (N, D), nearest first; k is at most N - 1. ValueError for fewer than two."""
    if len(vectors) < 2:
        raise ValueError(f"neighbours need two vectors or more, got {len(vectors)}")
    k = min(k, len(vectors) - 1)
    near = retrieval.nearest(vectors, vectors, k + 1, metric)  # (N, k + 1)
    others = near != np.arange(len(near))[:, None]
    others[others.all(axis=1), -1] = False  # more than k copies of it come first
    return near[others].reshape(len(near), k)


def k_occurrence(near: np.ndarray, items: int) -> np.ndarray:
    """N_k (G,): how often each of `items` gallery items is among the k nearest of a query; near (Q, k) gallery indices."""
    near = np.asarray(near)
    if near.size and not 0 <= near.min() <= near.max() < items:
        raise ValueError(f"neighbours must be gallery indices from 0 to {items - 1}, got {near.min()} to {near.max()}")
    return np.bincount(near.ravel(), minlength=items)


def hubness(counts: np.ndarray) -> dict[str, float]:
    """Of k-occurrences (G,), or (..., G): `skewness` E[(N_k - mean)^3] / std^3, `never`: share of anti-hubs (N_k = 0), `most`: largest N_k.

    Skewness is 0 where all items are found equally often.
    """
    counts = np.asarray(counts, float)
    off = counts - counts.mean(axis=-1, keepdims=True)
    spread = off.std(axis=-1)
    skewness = (off**3).mean(axis=-1) / np.where(spread > 0, spread, 1) ** 3
    return {"skewness": skewness, "never": (counts == 0).mean(axis=-1), "most": counts.max(axis=-1)}


def random_hubness(queries: int, items: int, k: int, draws: int = 500, seed: int = 0) -> dict[str, list[float]]:
    """What `hubness` is for galleries in random order: [low, median, high] of each number, low and high at 2.5 and 97.5 percent.

    N_k is then binomial, of `queries` draws with probability k / items; that the counts of a gallery sum to queries * k is left out.
    """
    counts = np.random.default_rng(seed).binomial(queries, min(1, k / items), (draws, items))
    return {name: np.quantile(values, [0.025, 0.5, 0.975]).tolist() for name, values in hubness(counts).items()}


def hub_report(near: np.ndarray, names: Sequence[str]) -> dict:
    """Hubness of gallery items among the neighbours (Q, k) of queries, in random order too, and the TOP_HUBS items that are found most.

    `histogram`[n]: share of items that are found n times; `histogram_random`: the same of the binomial law.
    """
    from scipy.stats import binom

    (queries, k), items = near.shape, len(names)
    counts = k_occurrence(near, items)
    often = np.argsort(-counts, kind="stable")[:TOP_HUBS]
    return {
        "queries": queries, "items": items, "k": k, **{name: float(value) for name, value in hubness(counts).items()},
        "random": random_hubness(queries, items, k),
        "hubs": [{"name": str(names[i]), "found": int(counts[i])} for i in often],
        "histogram": (np.bincount(counts) / items).tolist(),
        "histogram_random": binom.pmf(np.arange(counts.max() + 1), queries, k / items).tolist(),
    }  # fmt: skip


def purity(near: np.ndarray, labels: Sequence) -> np.ndarray:
    """Share (N,) of the neighbours (N, k) of each item that have its label; labels (N,)."""
    labels = np.asarray(labels)
    return (labels[near] == labels[:, None]).mean(axis=1)


def chance_purity(labels: Sequence) -> np.ndarray:
    """What `purity` is with neighbours in random order: (n - 1) / (N - 1) for a label that n of the N items have."""
    codes = pd.factorize(np.asarray(labels))[0]
    return (np.bincount(codes)[codes] - 1) / max(1, len(codes) - 1)


def purity_report(near: np.ndarray, labels: Sequence) -> dict:
    """Mean purity and chance over all items, and for each label: {"same", "chance", "labels": {label: {"same", "chance", "items"}}}."""
    table = pd.DataFrame({"same": purity(near, labels), "chance": chance_purity(labels)})
    groups = table.groupby(np.asarray(labels))
    each = groups.mean().assign(items=groups.size())
    return {**{k: float(v) for k, v in table.mean().items()}, "labels": each.to_dict("index")}


def nearer(distances: np.ndarray, own: Sequence[int], rivals: np.ndarray) -> np.ndarray:
    """Share (Q,) of the rivals of each query that are farther away than its own item; at the same distance they count half.

    distances (Q, G); own (Q,) gallery indices; rivals (Q, G) boolean. NaN for a query without a rival; 0.5 is chance.
    """
    mine = distances[np.arange(len(distances)), own][:, None]
    farther = ((distances > mine) & rivals).sum(axis=1) + ((distances == mine) & rivals).sum(axis=1) / 2
    count = rivals.sum(axis=1)
    return np.where(count > 0, farther / np.maximum(count, 1), np.nan)


def interval(values: Sequence[float], groups: Sequence, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Mean of values (N,) with a bootstrap interval over groups (N,), in practice instruments: {"mean", "low", "high"}; NaN is left out."""
    table = pd.DataFrame({"value": np.asarray(values, float), "group": np.asarray(groups)}).dropna()
    if table.empty:
        raise ValueError("no value is a number: an interval needs one at least")
    sums, counts = (table.groupby("group").value.agg(how).to_numpy() for how in ("sum", "count"))
    weights = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
    low, high = np.quantile((weights @ sums) / (weights @ counts), [0.025, 0.975])
    return {"mean": float(table.value.mean()), "low": float(low), "high": float(high)}


def probe(vectors: np.ndarray, values: Sequence[float], groups: Sequence, folds: int = FOLDS) -> dict:
    """How well ridge regression reads values (N,) from vectors (N, D) of groups that it never saw: R2 of each fold, mean and interval.

    R2 = 1 - sum (y - told)^2 / sum (y - mean of the fold)^2: 1 is perfect, 0 what the mean would tell, negative worse than that.
    No group (in practice an instrument) is on both sides of a fold, nor where the strength of the ridge is chosen. The interval is
    Student's over the folds; they share training sounds, so that it is approximate. ValueError for values that cannot be probed.
    """
    from scipy.stats import t
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    known = np.isfinite(np.asarray(values, float))
    x, y, groups = np.asarray(vectors, float)[known], np.asarray(values, float)[known], np.asarray(groups)[known]
    count = len(set(groups))
    folds = min(folds, count // 3)
    if folds < 2 or np.ptp(y) == 0:
        raise ValueError(f"a probe needs values that differ, of 6 instruments or more; these are of {count}")
    scores = []
    for train, test in GroupKFold(folds).split(x, y, groups):
        inner = GroupKFold(min(INNER_FOLDS, len(set(groups[train])))).split(x[train], y[train], groups[train])
        ridge = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=list(inner)))
        with threadpool_limits(1):  # matrices this small: threads would mostly wait for one another
            ridge.fit(x[train], y[train])
        error, spread = ((y[test] - ridge.predict(x[test])) ** 2).sum(), ((y[test] - y[test].mean()) ** 2).sum()
        if spread > 0:
            scores.append(float(1 - error / spread))
    if len(scores) < 2:
        raise ValueError("a probe needs values that differ within the folds")
    half = float(t.ppf(0.975, len(scores) - 1) * np.std(scores, ddof=1) / np.sqrt(len(scores)))
    mean = float(np.mean(scores))
    return {"r2": mean, "low": mean - half, "high": mean + half, "folds": scores, "sounds": len(y), "instruments": count}


def level(audio: np.ndarray) -> float:
    """RMS level of a sound (n,) in dB re full scale; -120 for silence."""
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-12))


def effects_label(fx: Sequence[str]) -> str:
    """What is said of a list of effects: none, the effect, or several."""
    return "none" if not len(fx) else fx[0] if len(fx) == 1 else "several"


def twin_notes(notes: pd.DataFrame) -> pd.DataFrame:
    """Notes that a bank holds with effects and without: rows `on` and `off` of one pitch and velocity, instrument, family, effects.

    notes: those of a NoteBank; `off` belongs to the twin, the instrument whose `augments` names the original.
    """
    table = notes[["instrument", "augments", "family", "pitch", "velocity"]].assign(row=np.arange(len(notes))).dropna(subset="pitch")
    twins = table[table.augments.notna()].drop(columns=["instrument", "family"]).rename(columns={"augments": "instrument", "row": "off"})
    own = table[table.augments.isna()].drop(columns="augments").rename(columns={"row": "on"})
    pairs = own.merge(twins, on=["instrument", "pitch", "velocity"]).drop_duplicates("on").reset_index(drop=True)
    pairs["effects"] = [effects_label(fx) for fx in notes.fx.iloc[pairs.on]]
    return pairs[["instrument", "family", "effects", "on", "off"]]


def beside_twins(notes: pd.DataFrame, pairs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """`pairs` of twin_notes with what their distance is compared with: rows `note`, another of the instrument, and `rival`.

    `rival` is a note of another original instrument of the family and split, of those nearest in pitch; a pair without either is left out.
    """
    rng = np.random.default_rng(seed)
    original = notes.augments.isna().to_numpy()
    names, split, pitch = notes.instrument.to_numpy(str), notes.split.to_numpy(str), notes.pitch.to_numpy()
    family = notes.family.fillna("").to_numpy(str)
    found = []
    for row in pairs.on:
        same = np.flatnonzero((names == names[row]) & (np.arange(len(names)) != row))
        kin = original & (family == family[row]) & (split == split[row]) & (names != names[row])
        far = np.where(kin, np.abs(pitch - pitch[row]), np.inf)
        rivals = np.flatnonzero(far == np.nanmin(far)) if np.isfinite(far).any() else []
        found.append([rng.choice(x) if len(x) else -1 for x in (same, rivals)])
    out = pairs.copy()
    out[["note", "rival"]] = np.array(found, int).reshape(-1, 2)
    return out[(out.note >= 0) & (out.rival >= 0)].reset_index(drop=True)
