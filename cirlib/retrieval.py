"""Ranking: where in the gallery the truth comes, top-k accuracy, and intervals that say how sure that is."""

import numpy as np
import pandas as pd

from .config import choose

METRICS = ("cosine", "l2", "mahalanobis")
TOP_K = (1, 3, 5, 10)


def distances(queries: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Distances (Q, G) between embeddings (Q, D) and (G, D): cosine (1 - similarity), l2, or mahalanobis (see whiten)."""
    choose("metric", metric, METRICS)
    queries, gallery = np.asarray(queries, np.float64), np.asarray(gallery, np.float64)  # l2 below cancels in float32
    if metric == "mahalanobis":
        queries, gallery = whiten(queries, gallery)
    if metric == "cosine":
        queries, gallery = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, gallery))
        return 1 - queries @ gallery.T
    squared = (queries**2).sum(1)[:, None] - 2 * queries @ gallery.T + (gallery**2).sum(1)
    return np.sqrt(np.maximum(squared, 0))


def whiten(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Queries (Q, D) and gallery (G, D) in the coordinates in which the gallery's covariance is the identity.

    Their l2 distance is the Mahalanobis distance. The covariance is shrunk (Ledoit and Wolf 2004): items are few for so many dimensions.
    """
    from sklearn.covariance import ledoit_wolf

    if (gallery == gallery[:1]).all():  # nothing varies
        return queries - gallery[:1], gallery - gallery[:1]
    centre = gallery.mean(axis=0)
    values, axes = np.linalg.eigh(ledoit_wolf(gallery - centre, assume_centered=True)[0])
    turn = axes / np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-300)))
    distinct, place = np.unique(gallery, axis=0, return_inverse=True)  # equal items stay equal: a matrix product may round them apart
    return (queries - centre) @ turn, ((distinct - centre) @ turn)[place]


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, metric: str = "cosine", block: int = 1024) -> np.ndarray:
    """Gallery indices (Q, k) of the k nearest items of each query, nearest first; the earlier one first at the same distance."""
    if metric == "mahalanobis":
        (queries, gallery), metric = whiten(np.asarray(queries, np.float64), np.asarray(gallery, np.float64)), "l2"
    distinct, place = np.unique(gallery, axis=0, return_inverse=True)  # as in ranks
    parts = [distances(queries[i : i + block], distinct, metric)[:, place] for i in range(0, len(queries), block)]
    k = min(k, len(gallery))
    return np.concatenate([np.argsort(d, axis=1, kind="stable")[:, :k] for d in parts]) if parts else np.empty((0, k), int)


def ranks(queries, gallery, truth, groups=None, metric: str = "cosine", block: int = 1024) -> np.ndarray:
    """Rank of the truth of each query, (Q,) float: 0 = first, items at the same distance count half.

    queries (Q, D), gallery (G, D), truth (Q,) gallery indices. With `groups` (G,), labels of the gallery, a query is
    ranked only against items with the label of its truth (the family-restricted ranking of the mixture task).
    """
    queries, gallery, truth = np.asarray(queries), np.asarray(gallery), np.asarray(truth)
    if len(queries) != len(truth) or (len(truth) and not 0 <= truth.min() <= truth.max() < len(gallery)):
        raise ValueError(f"truth must hold one gallery index (0..{len(gallery) - 1}) per query")
    labels = np.zeros(len(gallery), int) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(labels) != len(gallery):
        raise ValueError(f"groups must hold one label per gallery item ({len(gallery)}), got {len(labels)}")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("embeddings hold NaN or infinite values, which would rank first")
    if metric == "mahalanobis":  # once, by the whole gallery, not by family
        (queries, gallery), metric = whiten(queries.astype(np.float64), gallery.astype(np.float64)), "l2"
    out = np.empty(len(queries))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place = np.full(len(gallery), -1)  # equal items share one computed distance: a matrix product may round them apart
        distinct, place[members] = np.unique(gallery[members], axis=0, return_inverse=True)
        asked = np.flatnonzero(labels[truth] == label)
        for start in range(0, len(asked), block):
            rows = asked[start : start + block]
            d = distances(queries[rows], distinct, metric)
            own, d = d[np.arange(len(rows)), place[truth[rows]]][:, None], d[:, place[members]]
            out[rows] = (d < own).sum(1) + 0.5 * ((d == own).sum(1) - 1)
    return out


def top_k(rank: np.ndarray, k: int) -> float:
    """Share of queries whose truth has a rank below k; a rank of k - 0.5 (a tie for the last place) counts."""
    return float((np.asarray(rank) < k).mean())


def chance(sizes: dict[str, int], k: int) -> float:
    """Expected top-k of a random ranking, mean over families of these gallery sizes."""
    return float(np.mean([min(1.0, k / n) for n in sizes.values()]))


def summary(table: pd.DataFrame, by: str | None = "family", draws: int = 1000, seed: int = 0) -> dict:
    """Accuracy of ranked queries (columns rank, instrument and `by`): means over `by`, with 95% intervals.

    The bootstrap draws true instruments, not queries: queries of one instrument are not independent.
    Returns {"top1": .., "top1_ci": [low, high], ... "rank_mean": .., "rank_median": .., "mrr": .., "queries": n}.
    """
    out = {"queries": len(table), "rank_mean": float(table["rank"].mean()), "rank_median": float(table["rank"].median())}
    scores = {f"top{k}": (table["rank"] < k).to_numpy(float) for k in TOP_K} | {"mrr": 1 / (1 + table["rank"].to_numpy())}
    parts = [np.arange(len(table))] if by is None else list(table.reset_index(drop=True).groupby(by).indices.values())
    names, values = list(scores), np.stack(list(scores.values()), axis=1)  # (Q, K)
    rng = np.random.default_rng(seed)
    point, boot = 0.0, 0.0
    for rows in parts:
        codes = pd.factorize(table["instrument"].to_numpy()[rows])[0]
        sums = np.stack([np.bincount(codes, v) for v in values[rows].T], axis=1)  # (I, K)
        counts = np.bincount(codes)
        weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)  # (draws, I)
        point = point + values[rows].mean(axis=0) / len(parts)
        boot = boot + (weights @ sums) / (weights @ counts)[:, None] / len(parts)
    low, high = np.quantile(boot, [0.025, 0.975], axis=0)
    for i, name in enumerate(names):
        out[name], out[name + "_ci"] = float(point[i]), [float(low[i]), float(high[i])]
    return out
