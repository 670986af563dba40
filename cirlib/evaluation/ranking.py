"""Rank a gallery by distance to queries; top-k accuracy of the ranks, with 95% intervals.

Ranks start at 0 = first. Items at the same distance as the true item count half: among n equal items its rank is (n - 1) / 2, the mean
over all orders. Where such a tie straddles the last place of top-k (rank k - 0.5), the query is half a hit: a two-way tie for first counts
half at top-1.
"""

from collections.abc import Iterator
from copy import copy

import numpy as np
import pandas as pd

from ..common.settings import choose

METRICS = ("cosine", "l2", "mahalanobis")
TOP_K = (1, 3, 5, 10)
ROUNDING = 2.0**-23  # twice that of single precision
BLOCK = 2**19  # query-item pairs at a time, which stay in the processor's cache
FEWEST = 32  # queries at a time


def distances(queries: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Return distances (Q, G) between embeddings (Q, D) and (G, D): cosine (1 - similarity), l2, or mahalanobis (see whiten).

    Raises ValueError for embeddings that are not finite.
    """
    choose("metric", metric, METRICS)
    queries, gallery = (_checked(x).astype(np.float64) for x in (queries, gallery))  # differences cancel in float32
    if metric == "mahalanobis":
        queries, gallery = whiten(queries, gallery)
    if metric == "cosine":
        queries, gallery = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, gallery))
        return 1 - queries @ gallery.T
    squared = (queries**2).sum(1)[:, None] - 2 * queries @ gallery.T + (gallery**2).sum(1)
    return np.sqrt(np.maximum(squared, 0))


def whiten(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return queries (Q, D) and gallery (G, D) in coordinates in which the covariance of the gallery is the identity.

    Their l2 distance is the Mahalanobis distance. The covariance is shrunk (Ledoit and Wolf 2004), as items are few for their dimensions.
    """
    from sklearn.covariance import ledoit_wolf

    if not len(gallery):
        return queries, gallery
    if (gallery == gallery[:1]).all():  # all items are equal
        return queries - gallery[:1], gallery - gallery[:1]
    centre = gallery.mean(axis=0)
    values, axes = np.linalg.eigh(ledoit_wolf(gallery - centre, assume_centered=True)[0])
    turn = axes / np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-300)))
    distinct, place = np.unique(gallery, axis=0, return_inverse=True)  # a matrix product may round equal items apart
    return (queries - centre) @ turn, ((distinct - centre) @ turn)[place]


class Search:
    """Distances of queries to a gallery: screened in single precision, compared in double where that is too close. Fast and exact.

    Screened values sort like the distance: minus the cosine, or half the squared l2 distance without the square of the query. Each
    differs from the exact value by at most the `slack` of its query. Raises ValueError for embeddings that are not finite.
    """

    def __init__(self, queries: np.ndarray, gallery: np.ndarray, metric: str):
        choose("metric", metric, METRICS)
        self.cosine = metric == "cosine"
        self.queries, self.gallery = map(_checked, (queries, gallery))
        if metric == "mahalanobis" and len(gallery):
            self.queries, self.gallery = whiten(self.queries.astype(np.float64), self.gallery.astype(np.float64))
        largest = max((np.abs(x).max() for x in (self.queries, self.gallery) if x.size), default=0)
        self.scale = float(2.0 ** np.floor(np.log2(largest))) if largest else 1.0  # squares of any level fit single precision
        self.single = self._rounded(self.gallery)
        self.half = np.zeros(len(self.single), np.float32)
        self.longest = 1.0
        if not self.cosine:
            squares = np.einsum("gd,gd->g", self.single, self.single, dtype=np.float64)
            self.half, self.longest = (squares / 2).astype(np.float32), np.sqrt(squares.max(initial=0))

    def _rounded(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (N, D) in single precision, of length 1 for the cosine, else of moderate length."""
        out = np.empty(vectors.shape, np.float32)
        for start in range(0, len(vectors), 2**14):
            part = (vectors[start : start + 2**14] / self.scale).astype(np.float32, copy=False)
            if self.cosine:
                shortest = 1e-12 / self.scale  # as in _lengths
                part = part / np.maximum(np.sqrt(np.einsum("nd,nd->n", part, part)), max(shortest, 1e-30))[:, None].astype(np.float32)
            out[start : start + 2**14] = part
        return out

    def with_queries(self, queries: np.ndarray) -> "Search":
        """Return the search with other queries (Q, D) and the same prepared gallery; not for mahalanobis."""
        other = copy(self)
        other.queries = _checked(queries)
        return other

    def among(self, items: np.ndarray) -> "Search":
        """Return the search with its screening limited to these gallery items."""
        part = copy(self)
        part.single, part.half = self.single[items], self.half[items]
        return part

    def screen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the screened values (R, I) of queries `rows`, and the slack (R, 1) of each."""
        queries = self._rounded(self.queries[rows])
        values = queries @ self.single.T
        np.subtract(self.half, values, out=values)
        length = 1.0 if self.cosine else np.sqrt(np.einsum("qd,qd->q", queries, queries, dtype=np.float64))[:, None]
        # rounding of vectors, of D products and sums, and of the subtraction
        slack = (queries.shape[1] + 8) * ROUNDING * length * self.longest + ROUNDING * self.longest**2
        return values, np.broadcast_to(slack, (len(queries), 1)).astype(np.float32)

    def exact(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return values (N,) of query-item pairs that sort like the distance; equal items have equal values."""
        out = np.empty(len(rows))
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            q, g = self.queries[rows[part]].astype(np.float64), self.gallery[items[part]].astype(np.float64)
            out[part] = -(q * g).sum(axis=1) / _lengths(q) / _lengths(g) if self.cosine else (((q - g) / self.scale) ** 2).sum(axis=1)
        return out


def _checked(vectors: np.ndarray) -> np.ndarray:
    """Return embeddings in single or double precision; raise ValueError if they are not finite."""
    vectors = np.asarray(vectors)
    if not np.isfinite(vectors).all():
        raise ValueError("embeddings hold NaN or infinite values, which would rank first")
    return vectors if vectors.dtype == np.float32 else vectors.astype(np.float64)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Return the lengths (N,) of vectors (N, D), at least 1e-12."""
    return np.maximum(np.sqrt((vectors * vectors).sum(axis=1)), 1e-12)


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, *, metric: str = "cosine", block: int = BLOCK) -> np.ndarray:
    """Return gallery indices (Q, k) of the k nearest items of each query, nearest first; at the same distance the lower index first."""
    search, k = Search(queries, gallery, metric), min(k, len(gallery))
    out = np.empty((len(queries), k), int)
    for rows in _blocks(np.arange(len(queries)), len(gallery) if k else 0, block):
        values, slack = search.screen(rows)
        limit = np.partition(values, k - 1, axis=1)[:, k - 1 : k] + 2 * slack
        row, item = np.nonzero(values <= limit)  # all that may be among the k
        order = np.lexsort((item, search.exact(rows[row], item), row))
        first = np.searchsorted(row, np.arange(len(rows)))
        out[rows] = item[order][first[:, None] + np.arange(k)]
    return out


def ranks(queries, gallery, truth, *, groups=None, metric: str = "cosine", block: int = BLOCK) -> np.ndarray:
    """Return the rank (Q,) float of the true item of each query: 0 = first, ties count half.

    Args:
        queries, gallery: embeddings (Q, D) and (G, D).
        truth: gallery index (Q,) of the true item of each query.
        groups: labels (G,) of the gallery. Each query is then ranked among the items with the label of its true item only (the
            ranking within a family of the mixture task); the Mahalanobis distance still uses the covariance of all items.
        metric: one of METRICS.

    Raises ValueError for indices outside the gallery, a wrong number of labels, and embeddings that are not finite.
    """
    queries, gallery, truth = np.asarray(queries), np.asarray(gallery), np.asarray(truth, None if len(truth) else int)
    if len(queries) != len(truth) or (len(truth) and not 0 <= truth.min() <= truth.max() < len(gallery)):
        raise ValueError(f"truth must hold one gallery index (0..{len(gallery) - 1}) per query")
    labels = np.zeros(len(gallery), int) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(labels) != len(gallery):
        raise ValueError(f"groups must hold one label per gallery item ({len(gallery)}), got {len(labels)}")
    search = Search(queries, gallery, metric)
    out = np.empty(len(queries))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        group = search.among(members)
        for rows in _blocks(np.flatnonzero(labels[truth] == label), len(members), block):
            values, slack = group.screen(rows)
            own = np.searchsorted(members, truth[rows])
            true = values[np.arange(len(rows)), own][:, None]
            low, high = true - 2 * slack, true + 2 * slack
            values[np.arange(len(rows)), own] = np.inf
            nearer = np.count_nonzero(values < low, axis=1)
            close = np.flatnonzero(np.count_nonzero(values <= high, axis=1) > nearer)  # queries with items too close to call
            row, item = np.nonzero((values[close] >= low[close]) & (values[close] <= high[close]))
            row = close[row]
            exact, true = search.exact(rows[row], members[item]), search.exact(rows[row], truth[rows[row]])
            out[rows] = nearer + np.bincount(row, (exact < true) + 0.5 * (exact == true), len(rows))
    return out


def _blocks(rows: np.ndarray, items: int, block: int) -> Iterator[np.ndarray]:
    """Yield parts of `rows` of at most `block` pairs with `items`, but of at least FEWEST rows."""
    size = max(FEWEST, block // max(1, items))
    return (rows[i : i + size] for i in range(0, len(rows) if items else 0, size))


def hits(rank: np.ndarray | pd.Series, k: int) -> np.ndarray | pd.Series:
    """Return 1 for each rank among the first k, 0.5 for a tie for the last of these places, 0 for other ranks."""
    return (k - rank).clip(0, 1)


def top_k(rank: np.ndarray, k: int) -> float:
    """Return the mean of `hits`. Raises ValueError without ranks."""
    _check_any(rank)
    return float(hits(np.asarray(rank), k).mean())


def _check_any(ranked) -> None:
    if not len(ranked):
        raise ValueError("nothing was ranked: accuracy needs at least one query and one item")


def chance(sizes: dict[str, int], k: int) -> float:
    """Return the expected top-k of a random ranking, mean over families with these gallery sizes."""
    _check_any(sizes)
    return float(np.mean([min(1.0, k / n) for n in sizes.values()]))


def summary(table: pd.DataFrame, *, by: str | None = "family", mask: np.ndarray | None = None, draws: int = 1000, seed: int = 0) -> dict:
    """Return accuracies of ranked queries with 95% bootstrap intervals, all as means over the values of column `by`.

    The bootstrap draws instruments, within each value of `by`, with all their queries: queries of an instrument are not independent. A
    query with several rows (column query) counts with all its instruments, as one can make the others easy or hard to retrieve.

    Args:
        table: a row for each ranked instrument: rank, instrument, `by` and, for queries with several instruments, query.
        mask: rows to summarise, bool; the others still matter as rows of the same queries.

    Returns {"top1", "top1_ci": [low, high], ... "mrr", "mrr_ci", "rank_mean", "rank_median", "queries"}. Raises ValueError without rows.
    """
    rank, mask = table["rank"].to_numpy(float), np.ones(len(table), bool) if mask is None else np.asarray(mask)
    _check_any(rank[mask])
    out = {"queries": int(mask.sum()), "rank_mean": float(rank[mask].mean()), "rank_median": float(np.median(rank[mask]))}
    scores = {f"top{k}": hits(rank, k) for k in TOP_K} | {"mrr": 1 / (1 + rank)}
    values, weight = np.stack(list(scores.values()), axis=1, dtype=float), np.zeros(len(table))  # (rows, K), (rows,)
    strata = [np.arange(len(table))] if by is None else list(table.groupby(by).indices.values())
    used = [rows[mask[rows]] for rows in strata if mask[rows].any()]
    mean = sum(values[rows].mean(axis=0) for rows in used) / len(used)
    for rows in used:
        weight[rows] = 1 / len(used) / len(rows)
        values[rows] -= values[rows].mean(axis=0)
    queries = pd.factorize(table["query"])[0] if "query" in table else np.arange(len(table))
    low, high = _interval(
        mean,
        values * weight[:, None],
        weight,
        queries=queries,
        instruments=table["instrument"].to_numpy(),
        strata=strata,
        draws=draws,
        seed=seed,
    )
    for i, name in enumerate(scores):
        out[name], out[name + "_ci"] = float(mean[i]), [float(low[i]), float(high[i])]
    return out


def _interval(mean, effects, weights, *, queries, instruments, strata, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high ends (K,) of the 95% intervals of mean scores (K,).

    Row i has weights[i] of the means and moves them by effects[i] (rows, K). Pairs of queries that share several instruments count once
    (multiway clustering; Cameron, Gelbach and Miller 2011). Few instruments widen the interval by Student's t. If all rows or none are
    retrieved, the interval ends at the share that gives this result in 2.5 % of the cases.
    """
    from scipy.stats import t

    rng, by_query = np.random.default_rng(seed), _sums(queries, effects)
    weights, effects = np.bincount(queries, weights)[queries], by_query[queries]  # of the whole query
    deviation, variance, fewest = 0.0, 0.0, np.inf
    for rows in (rows[weights[rows] > 0] for rows in strata):
        codes, names = pd.factorize(instruments[rows])
        n, sums, counts = len(names), _sums(codes, effects[rows]), np.bincount(codes, weights[rows])
        if n > 1:
            sums = sums - counts[:, None] * sums.sum(axis=0) / counts.sum()
            drawn = rng.multinomial(n, np.full(n, 1 / n), size=draws)  # (draws, n)
            means = (drawn @ sums) * counts.sum() / (drawn @ counts)[:, None]
            deviation = deviation + means * t.ppf(0.975, n - 1) / 1.96 * np.sqrt(n / (n - 1))
            variance = variance + (sums**2).sum(axis=0)
        fewest = min(fewest, n or np.inf)
    if fewest == 1:
        return np.zeros_like(mean), np.ones_like(mean)  # one instrument says nothing about others
    alone = (by_query**2).sum(axis=0)
    once = np.maximum(variance - (effects**2).sum(axis=0) + alone, alone)
    low, high = (mean + np.quantile(deviation, [0.025, 0.975], axis=0) * np.sqrt(once / np.maximum(variance, 1e-30))).clip(0, 1)
    edge = 0.025 ** (1 / fewest)
    return np.where(mean == 1, edge, low), np.where(mean == 0, 1 - edge, high)


def _sums(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sums (groups, K) of values (rows, K) over the rows of each code."""
    return np.stack([np.bincount(codes, v) for v in values.T], axis=1)
