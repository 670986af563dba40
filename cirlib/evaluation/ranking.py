"""Ranking: where in the gallery the truth comes, top-k accuracy, and intervals that say how sure that is."""

from collections.abc import Iterator
from copy import copy

import numpy as np
import pandas as pd

from ..common.settings import choose

METRICS = ("cosine", "l2", "mahalanobis")
TOP_K = (1, 3, 5, 10)
ROUNDING = 2.0**-23  # of single precision, with room
BLOCK = 2**19  # pairs of a query and an item at a time: they stay in the processor's cache
FEWEST = 32  # queries at a time


def distances(queries: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Distances (Q, G) between embeddings (Q, D) and (G, D): cosine (1 - similarity), l2, or mahalanobis (see whiten).

    ValueError for embeddings that are not finite.
    """
    choose("metric", metric, METRICS)
    queries, gallery = (_checked(x).astype(np.float64) for x in (queries, gallery))  # l2 below cancels in float32
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

    if not len(gallery):
        return queries, gallery
    if (gallery == gallery[:1]).all():  # nothing varies
        return queries - gallery[:1], gallery - gallery[:1]
    centre = gallery.mean(axis=0)
    values, axes = np.linalg.eigh(ledoit_wolf(gallery - centre, assume_centered=True)[0])
    turn = axes / np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-300)))
    distinct, place = np.unique(gallery, axis=0, return_inverse=True)  # equal items stay equal: a matrix product may round them apart
    return (queries - centre) @ turn, ((distinct - centre) @ turn)[place]


class Search:
    """Distances of queries to a gallery, screened in single precision and decided in double: fast, and exact to the last tie.

    Screened values order as the distance does: minus the cosine, or half the squared l2 distance without the query's own square. Each
    is at most the `slack` of its query away from the exact one. ValueError for embeddings that are not finite.
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
        """(N, D) in single precision: of length 1 for the cosine, else of moderate length."""
        out = np.empty(vectors.shape, np.float32)
        for start in range(0, len(vectors), 2**14):
            part = (vectors[start : start + 2**14] / self.scale).astype(np.float32, copy=False)
            if self.cosine:
                shortest = 1e-12 / self.scale  # as in _lengths
                part = part / np.maximum(np.sqrt(np.einsum("nd,nd->n", part, part)), max(shortest, 1e-30))[:, None].astype(np.float32)
            out[start : start + 2**14] = part
        return out

    def ask(self, queries: np.ndarray) -> "Search":
        """The search with other queries (Q, D), not by mahalanobis: the gallery stays as it is prepared."""
        other = copy(self)
        other.queries = _checked(queries)
        return other

    def among(self, items: np.ndarray) -> "Search":
        """The search whose screening knows only some items of the gallery."""
        part = copy(self)
        part.single, part.half = self.single[items], self.half[items]
        return part

    def screen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Screened values (R, I) of some queries, and the slack of each (R, 1)."""
        queries = self._rounded(self.queries[rows])
        values = queries @ self.single.T
        np.subtract(self.half, values, out=values)
        length = 1.0 if self.cosine else np.sqrt(np.einsum("qd,qd->q", queries, queries, dtype=np.float64))[:, None]
        # rounding of the vectors, of D products and sums, and of the subtraction
        slack = (queries.shape[1] + 8) * ROUNDING * length * self.longest + ROUNDING * self.longest**2
        return values, np.broadcast_to(slack, (len(queries), 1)).astype(np.float32)

    def exact(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Values (N,) of pairs of a query and an item that order as the distance; equal items have equal ones, for all are summed alike."""
        out = np.empty(len(rows))
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            q, g = self.queries[rows[part]].astype(np.float64), self.gallery[items[part]].astype(np.float64)
            out[part] = -(q * g).sum(axis=1) / _lengths(q) / _lengths(g) if self.cosine else (((q - g) / self.scale) ** 2).sum(axis=1)
        return out


def _checked(vectors: np.ndarray) -> np.ndarray:
    """Embeddings in single or double precision; ValueError for those that are not finite."""
    vectors = np.asarray(vectors)
    if not np.isfinite(vectors).all():
        raise ValueError("embeddings hold NaN or infinite values, which would rank first")
    return vectors if vectors.dtype == np.float32 else vectors.astype(np.float64)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(N,) of vectors (N, D), at least 1e-12."""
    return np.maximum(np.sqrt((vectors * vectors).sum(axis=1)), 1e-12)


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, metric: str = "cosine", block: int = BLOCK) -> np.ndarray:
    """Gallery indices (Q, k) of the k nearest items of each query, nearest first; the earlier one first at the same distance."""
    search, k = Search(queries, gallery, metric), min(k, len(gallery))
    out = np.empty((len(queries), k), int)
    for rows in _blocks(np.arange(len(queries)), len(gallery) if k else 0, block):
        values, slack = search.screen(rows)
        limit = np.partition(values, k - 1, axis=1)[:, k - 1 : k] + 2 * slack
        row, item = np.nonzero(values <= limit)  # all that can be among the k
        order = np.lexsort((item, search.exact(rows[row], item), row))
        first = np.searchsorted(row, np.arange(len(rows)))
        out[rows] = item[order][first[:, None] + np.arange(k)]
    return out


def ranks(queries, gallery, truth, groups=None, metric: str = "cosine", block: int = BLOCK) -> np.ndarray:
    """Rank of the truth of each query, (Q,) float: 0 = first, items at the same distance count half.

    queries (Q, D), gallery (G, D), truth (Q,) gallery indices. With `groups` (G,), labels of the gallery, a query is
    ranked only against items with the label of its truth (the family-restricted ranking of the mixture task).
    """
    queries, gallery, truth = np.asarray(queries), np.asarray(gallery), np.asarray(truth, None if len(truth) else int)
    if len(queries) != len(truth) or (len(truth) and not 0 <= truth.min() <= truth.max() < len(gallery)):
        raise ValueError(f"truth must hold one gallery index (0..{len(gallery) - 1}) per query")
    labels = np.zeros(len(gallery), int) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(labels) != len(gallery):
        raise ValueError(f"groups must hold one label per gallery item ({len(gallery)}), got {len(labels)}")
    search = Search(queries, gallery, metric)  # mahalanobis by the whole gallery, not by family
    out = np.empty(len(queries))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kin = search.among(members)
        for rows in _blocks(np.flatnonzero(labels[truth] == label), len(members), block):
            values, slack = kin.screen(rows)
            own = np.searchsorted(members, truth[rows])
            true = values[np.arange(len(rows)), own][:, None]
            low, high = true - 2 * slack, true + 2 * slack
            values[np.arange(len(rows)), own] = np.inf
            nearer = np.count_nonzero(values < low, axis=1)
            close = np.flatnonzero(np.count_nonzero(values <= high, axis=1) > nearer)  # queries with items too close to tell
            row, item = np.nonzero((values[close] >= low[close]) & (values[close] <= high[close]))
            row = close[row]
            exact, true = search.exact(rows[row], members[item]), search.exact(rows[row], truth[rows[row]])
            out[rows] = nearer + np.bincount(row, (exact < true) + 0.5 * (exact == true), len(rows))
    return out


def _blocks(rows: np.ndarray, items: int, block: int) -> Iterator[np.ndarray]:
    """Parts of `rows` whose pairs with `items` are at most `block`, but at least FEWEST rows: a gallery is read once for each part."""
    size = max(FEWEST, block // max(1, items))
    return (rows[i : i + size] for i in range(0, len(rows) if items else 0, size))


def top_k(rank: np.ndarray, k: int) -> float:
    """Share of queries whose truth has a rank below k; a rank of k - 0.5 (a tie for the last place) counts; ValueError without queries."""
    _check_any(rank)
    return float((np.asarray(rank) < k).mean())


def _check_any(ranked) -> None:
    if not len(ranked):
        raise ValueError("nothing was ranked: accuracy needs one query and one item at least")


def chance(sizes: dict[str, int], k: int) -> float:
    """Expected top-k of a random ranking, mean over families of these gallery sizes."""
    _check_any(sizes)
    return float(np.mean([min(1.0, k / n) for n in sizes.values()]))


def summary(table: pd.DataFrame, by: str | None = "family", of: np.ndarray | None = None, draws: int = 1000, seed: int = 0) -> dict:
    """Accuracy of ranked queries (columns rank, instrument and `by`): means over `by`, with 95% intervals; `of`: mask of rows to tell of.

    The bootstrap draws instruments, those of each `by` on their own, and with each all queries (column query, if any) that it plays in:
    queries of one instrument are not independent, and an instrument makes others of its mixtures easy or hard to find, too.
    Returns {"top1": .., "top1_ci": [low, high], ... "rank_mean": .., "rank_median": .., "mrr": .., "queries": n}.
    ValueError without queries.
    """
    rank, of = table["rank"].to_numpy(float), np.ones(len(table), bool) if of is None else np.asarray(of)
    _check_any(rank[of])
    out = {"queries": int(of.sum()), "rank_mean": float(rank[of].mean()), "rank_median": float(np.median(rank[of]))}
    scores = {f"top{k}": rank < k for k in TOP_K} | {"mrr": 1 / (1 + rank)}
    values, share = np.stack(list(scores.values()), axis=1, dtype=float), np.zeros(len(table))  # (rows, K), (rows,)
    parts = [np.arange(len(table))] if by is None else list(table.groupby(by).indices.values())
    told = [rows[of[rows]] for rows in parts if of[rows].any()]
    point = sum(values[rows].mean(axis=0) for rows in told) / len(told)
    for rows in told:
        share[rows] = 1 / len(told) / len(rows)
        values[rows] -= values[rows].mean(axis=0)
    query = pd.factorize(table["query"])[0] if "query" in table else np.arange(len(table))
    low, high = _interval(point, values * share[:, None], share, query, table["instrument"].to_numpy(), parts, draws, seed)
    for i, name in enumerate(scores):
        out[name], out[name + "_ci"] = float(point[i]), [float(low[i]), float(high[i])]
    return out


def _interval(point, moved, share, query, instrument, parts, draws, seed) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of shares (K,), of which row i makes up share[i] and moves them by moved[i] (rows, K) from the mean of its part.

    Pairs of queries count once if they share an instrument (multiway clustering; Cameron, Gelbach and Miller 2011), those of few
    instruments by Student's t; all or none found is what a share of 0.025 ** (1 / instruments) would still do in 2.5 % of the cases.
    """
    from scipy.stats import t

    rng, each = np.random.default_rng(seed), _sums(query, moved)
    share, moved = np.bincount(query, share)[query], each[query]  # of the whole query
    away, spread, fewest = 0.0, 0.0, np.inf
    for rows in (rows[share[rows] > 0] for rows in parts):
        codes, names = pd.factorize(instrument[rows])
        n, sums, counts = len(names), _sums(codes, moved[rows]), np.bincount(codes, share[rows])
        if n > 1:
            sums = sums - counts[:, None] * sums.sum(axis=0) / counts.sum()
            weights = rng.multinomial(n, np.full(n, 1 / n), size=draws)  # (draws, n)
            drawn = (weights @ sums) * counts.sum() / (weights @ counts)[:, None]
            away = away + drawn * t.ppf(0.975, n - 1) / 1.96 * np.sqrt(n / (n - 1))
            spread = spread + (sums**2).sum(axis=0)
        fewest = min(fewest, n or np.inf)
    if fewest == 1:
        return np.zeros_like(point), np.ones_like(point)  # one instrument tells nothing of others
    alone = (each**2).sum(axis=0)
    once = np.maximum(spread - (moved**2).sum(axis=0) + alone, alone)
    low, high = (point + np.quantile(away, [0.025, 0.975], axis=0) * np.sqrt(once / np.maximum(spread, 1e-30))).clip(0, 1)
    edge = 0.025 ** (1 / fewest)
    return np.where(point == 1, edge, low), np.where(point == 0, 1 - edge, high)


def _sums(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums (groups, K) of the values (rows, K) of each code."""
    return np.stack([np.bincount(codes, v) for v in values.T], axis=1)
