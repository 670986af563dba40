"""Ranks against a naive implementation, also for extreme vectors; coverage of the intervals."""

import numpy as np
import pandas as pd
import pytest
from naive import longdouble_ranks, naive_distances, naive_ranks
from scipy import stats
from scipy.spatial.distance import cdist

from cirlib.evaluation.ranking import FEWEST, METRICS, TOP_K, Search, _blocks, chance, distances, nearest, ranks, summary, top_k, whiten


@pytest.fixture
def task():
    """Return queries (50, 8), gallery (37, 8), truth (50,) and the group of each gallery item."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(37, 8)).astype(np.float32)
    truth = rng.integers(37, size=50)
    queries = (gallery[truth] + rng.normal(size=(50, 8))).astype(np.float32)
    return queries, gallery, truth, rng.choice(["Bass", "Lead", "Percussion"], 37)


@pytest.mark.parametrize("metric", METRICS)
def test_distances(task, metric):
    queries, gallery, *_ = task
    expected = naive_distances(queries, gallery, metric)
    np.testing.assert_allclose(distances(queries, gallery, metric), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize("metric", METRICS)
def test_ranks_among_the_whole_gallery(task, metric, block):
    """Without groups the truth is ranked among all items; the block size changes nothing."""
    queries, gallery, truth, _ = task
    expected = naive_ranks(queries, gallery, truth, np.zeros(len(gallery)), metric)
    np.testing.assert_array_equal(ranks(queries, gallery, truth, metric=metric, block=block), expected)
    assert len(set(expected)) > 5


@pytest.mark.parametrize("metric", METRICS)
def test_ranks_within_a_group(task, metric):
    """The ranking within a family."""
    queries, gallery, truth, groups = task
    expected = naive_ranks(queries, gallery, truth, groups, metric)
    np.testing.assert_array_equal(ranks(queries, gallery, truth, groups=groups, metric=metric), expected)
    assert expected != naive_ranks(queries, gallery, truth, np.zeros(len(gallery)), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block", [1, 3, 1024])  # a matrix product may round equal columns apart, depending on its shape
def test_ties_count_half(metric, block):
    """Equal embeddings tie, wherever they are in the gallery."""
    rng = np.random.default_rng(0)
    gallery = np.repeat(rng.normal(size=(37, 256)).astype(np.float32), 3, axis=0)[rng.permutation(111)]
    queries = gallery + 0.01 * rng.normal(size=gallery.shape).astype(np.float32)
    got = ranks(queries, gallery, np.arange(111), metric=metric, block=block)
    assert set(got) == {1.0}  # itself and two copies: (0 + 1 + 2) / 3


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_sorts_by_distance(task, metric):
    """The k nearest, nearest first; k is at most the size of the gallery; the block size changes nothing."""
    queries, gallery, *_ = task
    order = np.argsort(naive_distances(queries, gallery, metric), axis=1)
    for k, block in ((1, 1024), (5, 7), (37, 1024), (99, 1024)):
        np.testing.assert_array_equal(nearest(queries, gallery, k, metric=metric, block=block), order[:, :k])
    assert nearest(queries[:0], gallery, 5, metric=metric).shape == (0, 5)
    assert nearest(queries[:0], gallery[:0], 5, metric=metric).shape == (0, 0)
    assert nearest(queries, gallery, 0, metric=metric).shape == (len(queries), 0)
    assert ranks(queries[:0], gallery, [], metric=metric).shape == (0,)


@pytest.mark.parametrize(
    ("items", "block", "sizes"),
    [(10, 350, [35, 35, 30]), (1, 50, [50, 50]), (1000, 350, [FEWEST, FEWEST, FEWEST, 100 - 3 * FEWEST]), (0, 350, [])],
)
def test_blocks_contain_every_row_once(items, block, sizes):
    """As many pairs as fit, but at least FEWEST rows."""
    blocks = list(_blocks(np.arange(100, 200), items, block))
    assert [len(b) for b in blocks] == sizes
    assert not blocks or (np.concatenate(blocks) == np.arange(100, 200)).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block", [1, 3, 1024])
def test_nearest_of_equal_items_is_the_first(metric, block):
    """Copies of an item are returned in the order of the gallery."""
    rng = np.random.default_rng(0)
    number = rng.permutation(np.repeat(np.arange(37), 3))
    gallery = rng.normal(size=(37, 256)).astype(np.float32)[number]
    queries = gallery + 0.01 * rng.normal(size=gallery.shape).astype(np.float32)
    expected = [np.flatnonzero(number == n) for n in number]
    np.testing.assert_array_equal(nearest(queries, gallery, 3, metric=metric, block=block), expected)


def test_small_distances_far_from_the_origin():
    """l2 distinguishes all embeddings that float32 distinguishes."""
    rng = np.random.default_rng(0)
    gallery = (100 + 0.01 * rng.normal(size=(40, 16))).astype(np.float32)
    truth = np.arange(40)
    queries = (gallery + 0.01 * rng.normal(size=gallery.shape)).astype(np.float32)
    expected = naive_ranks(queries, gallery, truth, np.zeros(40), "l2")
    np.testing.assert_array_equal(ranks(queries, gallery, truth, metric="l2"), expected)


def correlated(seed, count, dim):
    """Return (count, dim) with deviations of 1 to 4 along rotated axes, not centred."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) * np.linspace(1, 4, dim) @ np.linalg.qr(rng.normal(size=(dim, dim)))[0] + 3


def test_mahalanobis_uses_the_covariance_of_the_gallery():
    """With many items and few dimensions shrinkage is negligible. Distant queries do not matter."""
    gallery = correlated(0, 5000, 6)
    queries = 4 * correlated(1, 40, 6) - 20
    expected = cdist(queries, gallery, "mahalanobis", VI=np.linalg.inv(np.cov(gallery.T)))
    np.testing.assert_allclose(distances(queries, gallery, "mahalanobis"), expected, rtol=0.02)
    assert np.abs(distances(queries, gallery, "l2") / expected - 1).max() > 0.5


@pytest.mark.parametrize("scale", [0.02, 1e-9])
@pytest.mark.parametrize("count", [12, 4000])
def test_mahalanobis_is_invariant_to_rotation_shift_and_scale(count, scale):
    """The shrunk covariance rotates and scales with the data, also with few items."""
    gallery, queries = correlated(0, count, 8), correlated(1, 20, 8)
    turn = scale * np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    moved = distances(queries @ turn + 350 * scale, gallery @ turn + 350 * scale, "mahalanobis")
    np.testing.assert_allclose(moved, distances(queries, gallery, "mahalanobis"), rtol=1e-6)


def test_mahalanobis_is_invariant_to_linear_maps():
    """In a large gallery, where shrinkage is negligible; l2 does change."""
    gallery, queries = correlated(0, 20_000, 4), correlated(1, 30, 4)
    skew = np.array([[1, 2, 0, 0], [0, 1, -1, 0], [0, 0, 3, 0.5], [0.2, 0, 0, 0.4]])
    before = distances(queries, gallery, "mahalanobis")
    np.testing.assert_allclose(distances(queries @ skew, gallery @ skew, "mahalanobis"), before, rtol=0.03)
    assert np.abs(distances(queries @ skew, gallery @ skew, "l2") / distances(queries, gallery, "l2") - 1).max() > 0.3


def test_whitening_gives_unit_covariance():
    gallery = correlated(0, 20_000, 5)
    moved, white = whiten(gallery[:3], gallery)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T), np.eye(5), atol=0.02)
    np.testing.assert_allclose(moved, white[:3])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "gallery",
    [np.full((1, 6), 2.5), np.full((9, 6), 0.1), np.zeros((4, 6)), correlated(0, 3, 6), correlated(0, 20, 6) * [1, 1, 1, 1, 1, 0]],
    ids=["one item", "constant", "zeros", "fewer items than dimensions", "a constant dimension"],
)
def test_mahalanobis_without_a_full_covariance(gallery):
    """Distances are finite and give no warnings, also for distant queries."""
    queries = np.concatenate([gallery, gallery + 1])
    assert all(np.isfinite(x).all() for x in whiten(queries, gallery))
    d = distances(queries, gallery, "mahalanobis")
    assert np.isfinite(d).all()
    np.testing.assert_allclose(np.diag(d), 0, atol=1e-5 * max(1, d.max()))
    assert np.isfinite(ranks(gallery, gallery, np.arange(len(gallery)), metric="mahalanobis")).all()
    assert nearest(queries, gallery, 9, metric="mahalanobis").shape == (len(queries), min(9, len(gallery)))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda a, b: ranks(a, b, [0, 3]), r"one gallery index \(0\.\.2\) per query"),
        (lambda a, b: ranks(a, b, [-1, 0]), "one gallery index"),
        (lambda a, b: ranks(a, b, [0]), "one gallery index"),
        (lambda a, b: ranks(a, b, [0, 1], groups=["a", "b"]), r"one label per gallery item \(3\), got 2"),
        (lambda a, b: ranks(a, b, [0, 1], metric="cosin"), r"unknown metric 'cosin' .*valid: cosine, l2, mahalanobis"),
        (lambda a, b: nearest(a, b, 1, metric="cosin"), "unknown metric"),
        (lambda a, b: distances(a, b, "cosin"), "unknown metric"),
        (lambda a, b: ranks(a * np.nan, b, [0, 1]), "NaN"),  # NaN compares false and would rank first
        (lambda a, b: nearest(a, b + np.inf, 1), "NaN or infinite"),
        (lambda a, b: distances(a * np.nan, b), "NaN or infinite"),
        (lambda a, b: top_k([], 1), "nothing was ranked"),
        (lambda a, b: chance({}, 1), "nothing was ranked"),
        (lambda a, b: summary(pd.DataFrame({"rank": [], "family": [], "instrument": []})), "nothing was ranked"),
    ],
)
def test_unusable_input_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act(np.ones((2, 4)), np.ones((3, 4)))


def test_truth_must_be_whole_numbers():
    with pytest.raises(IndexError):
        ranks(np.ones((2, 4)), np.ones((3, 4)), [0.5, 1])


@pytest.mark.parametrize("metric", METRICS)
def test_collapsed_embeddings_rank_in_the_middle(metric):
    """An encoder with the same embedding for every sound is no better than chance."""
    ones = np.ones((11, 4), np.float32)
    assert set(ranks(ones, ones, np.arange(11), metric=metric)) == {5.0}


def test_top_k_and_chance():
    """Chance of a random ranking: k of n, at most 1, mean over families. A tie for the last place is half a hit."""
    assert chance({"a": 10, "b": 4}, 5) == pytest.approx((0.5 + 1) / 2)
    assert [top_k(np.array([0, 0.5, 1, 4, 9.5]), k) for k in (1, 2, 5, 10)] == pytest.approx([0.3, 0.6, 0.8, 0.9])


@pytest.mark.parametrize(("nearer", "tied"), [(0, 1), (1, 1), (4, 1), (3, 3), (0, 9), (2, 5)])
def test_tie_for_the_last_place_counts_half(nearer, tied):
    """In half of the orders of the tied items the true item is among the first k."""
    gallery = np.array([[1.0]] * nearer + [[2.0]] * (tied + 1) + [[9.0]] * 4)
    rank = ranks(np.zeros((1, 1)), gallery, [nearer], metric="l2")
    k = nearer + (tied + 1) // 2
    assert top_k(rank, k) == (np.arange(nearer, nearer + tied + 1) < k).mean() == 0.5
    assert (top_k(rank, k - 1), top_k(rank, k + 1)) == (0, 1)


@pytest.fixture
def table():
    """Return ranks of 600 queries of 30 instruments of random difficulty, in two families of different size."""
    rng = np.random.default_rng(1)
    number = np.concatenate([rng.integers(20, size=500), rng.integers(20, 30, size=100)])
    rank = rng.poisson(rng.gamma(1, 3, 30)[number]).astype(float)
    family = np.where(number < 20, "Bass", "Lead")
    return pd.DataFrame({"rank": rank, "instrument": number.astype(str), "family": family})


def test_summary_is_the_mean_over_families(table):
    """All families have the same weight."""
    got = summary(table)
    parts = [part["rank"] for _, part in table.groupby("family")]
    for k in TOP_K:
        assert got[f"top{k}"] == pytest.approx(np.mean([(part < k).mean() for part in parts]))
    assert got["mrr"] == pytest.approx(np.mean([(1 / (1 + part)).mean() for part in parts]))
    assert (got["queries"], got["rank_median"]) == (600, table["rank"].median())
    assert got["rank_mean"] == pytest.approx(table["rank"].mean())
    scores = ["top1", "top3", "top5", "top10", "mrr"]
    assert sorted(got) == sorted([*scores, *(f"{name}_ci" for name in scores), "queries", "rank_mean", "rank_median"])
    assert summary(table, by=None)["top1"] == pytest.approx((table["rank"] < 1).mean())


def test_interval_contains_the_mean_and_is_reproducible(table):
    got = summary(table)
    for name in ("top1", "top5", "mrr"):
        low, high = got[name + "_ci"]
        assert 0 <= low < got[name] < high <= 1
    assert got == summary(table)
    assert got["top1_ci"] != summary(table, seed=1)["top1_ci"]


def test_interval_depends_on_the_number_of_instruments(table):
    """More instruments make it narrower, more queries of the same instruments do not."""
    width = np.diff(summary(table)["mrr_ci"])[0]
    more_queries = pd.concat([table] * 4, ignore_index=True)
    assert np.diff(summary(more_queries)["mrr_ci"])[0] == pytest.approx(width)
    more_instruments = pd.concat([table.assign(instrument=table.instrument + f"/{i}") for i in range(4)])
    assert np.diff(summary(more_instruments)["mrr_ci"])[0] == pytest.approx(width / 2, rel=0.2)


def test_interval_equals_a_plain_bootstrap(table):
    """Instruments drawn with replacement, all their queries with them, each family on its own."""
    rng, draws = np.random.default_rng(5), []
    for _ in range(400):
        means = []
        for _, part in table.groupby("family"):
            queries = [q["rank"].to_numpy() < 1 for _, q in part.groupby("instrument")]
            means.append(np.concatenate([queries[i] for i in rng.integers(len(queries), size=len(queries))]).mean())
        draws.append(np.mean(means))
    np.testing.assert_allclose(summary(table)["top1_ci"], np.quantile(draws, [0.025, 0.975]), atol=0.03)


def test_interval_is_1_96_standard_deviations():
    """Of 400 instruments with one query each, half are retrieved."""
    table = pd.DataFrame({"rank": np.arange(400) % 2, "instrument": np.arange(400).astype(str), "family": "Bass"})
    width = 1.96 * np.sqrt(0.25 / 400)
    np.testing.assert_allclose(summary(table, draws=4000)["top1_ci"], [0.5 - width, 0.5 + width], atol=0.004)


def mixture_table(seed, queries=400, instruments=20, partners=1.0):
    """Return ranks of mixtures of three families; instruments are hard to retrieve, and with `partners` make others hard to retrieve."""
    rng = np.random.default_rng(seed)
    plays = rng.integers(instruments, size=(queries, 3))
    own, others = rng.normal(size=(2, 3, instruments)) * [[[1.0]], [[partners]]]
    level = own[range(3), plays] + others[range(3), plays].sum(axis=1)[:, None] - others[range(3), plays] + rng.normal(size=plays.shape)
    names = np.char.add(list("abc"), plays.astype(str))
    query, family = np.repeat(np.arange(queries), 3), np.tile(list("abc"), queries)
    return pd.DataFrame({"query": query, "family": family, "instrument": names.ravel(), "rank": (level > 0).ravel() * 1.0})


@pytest.mark.parametrize("partners", [0.0, 1.0])
@pytest.mark.parametrize("slice_", [False, True])
def test_interval_covers_the_truth(partners, slice_):
    """With new instruments and mixtures each time; the true share is one half."""
    held = []
    for seed in range(120):
        table = mixture_table(seed, partners=partners)
        low, high = summary(table, mask=table.family == "a" if slice_ else None, draws=200)["top1_ci"]
        held.append(low <= 0.5 <= high)
    assert np.mean(held) > 0.88


def test_interval_counts_queries_that_share_an_instrument():
    table = mixture_table(0, instruments=60)
    away = ((table["rank"] < 1) - (table["rank"] < 1).groupby(table.family).transform("mean")).to_numpy().reshape(-1, 3).mean(axis=1)
    plays = table.instrument.to_numpy().reshape(-1, 3)
    share = (plays[:, None] == plays[None]).any(axis=2)
    deviation = np.sqrt(away @ share @ away) / len(away)
    low, high = summary(table, draws=20000)["top1_ci"]
    few = stats.t.ppf(0.975, 59) * np.sqrt(60 / 59)
    assert (high - low) / 2 == pytest.approx(few * deviation, rel=0.05)


def test_summary_of_masked_rows(table):
    """If queries have one row each, a mask is equivalent to a shorter table."""
    some = (table.family == "Bass").to_numpy()
    of, alone = summary(table, mask=some), summary(table[some])
    for name, value in alone.items():
        assert of[name] == pytest.approx(value)


def test_few_instruments_give_wide_intervals():
    def interval(retrieved):
        table = pd.DataFrame(
            {"rank": 1.0 - np.repeat(retrieved, 5), "instrument": np.repeat(np.arange(len(retrieved)), 5).astype(str), "family": "Bass"}
        )
        return summary(table)["top1_ci"]

    assert interval([1]) == [0, 1]
    assert interval([1] * 7) == pytest.approx([0.025 ** (1 / 7), 1]) and interval([0] * 7) == pytest.approx([0, 1 - 0.025 ** (1 / 7)])
    assert interval([1, 0]) == [0, 1]
    student = stats.t.ppf(0.975, 15) * np.sqrt(16 / 15)
    assert np.diff(interval([1, 0] * 8)) == pytest.approx(2 * student * 0.125, rel=0.06)  # 0.49 by the normal distribution


# Precision


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize(
    ("offset", "spread", "dtype"),
    [
        (100, 1e-3, "f4"),
        (1, 1e-4, "f4"),
        (1e6, 1e-1, "f8"),
        (1e7, 1, "f8"),
        (0, 1e20, "f8"),
        (0, 1e-8, "f8"),
        (0, 1e-15, "f4"),
        (3, 1, "f4"),
        (0, 1e200, "f8"),
        (0, 1e-200, "f8"),
        (1e200, 1e192, "f8"),
    ],
)
def test_ranks_at_any_level_and_offset(metric, offset, spread, dtype):
    rng = np.random.default_rng(0)
    if metric == "cosine" and not max(1e-9, 1e-6 * offset) <= spread < 1e100:
        pytest.skip(
            "a vector shorter than 1e-12 counts as that long; angles below 1e-7 are equal in double precision, squares may overflow"
        )
    gallery, noise = (offset + spread * rng.normal(size=(n, 16)) for n in (300, 40))
    truth = rng.integers(0, 300, 40)
    queries = ((gallery[truth] + noise) / 2).astype(dtype)
    gallery = gallery.astype(dtype)
    expected = longdouble_ranks(queries, gallery, truth, metric)
    assert np.abs(ranks(queries, gallery, truth, metric=metric) - expected).max() <= 1  # double precision may round a pair the other way
    assert (ranks(queries, gallery, truth, metric=metric) == expected).mean() > 0.9
    first = nearest(queries, gallery, 1, metric=metric)[:, 0]
    assert (longdouble_ranks(queries, gallery, first, metric) < 1).mean() > 0.9


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_zero_queries_tie_with_all_items(dtype):
    queries, gallery = np.zeros((2, 3), dtype), np.eye(3).astype(dtype)
    np.testing.assert_array_equal(ranks(queries, gallery, [0, 2], metric="cosine"), [1, 1])
    np.testing.assert_array_equal(nearest(queries, gallery, 2), [[0, 1], [0, 1]])


@pytest.mark.parametrize("level", [1e-13, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dim", [2, 64, 512])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_screening_error_is_within_the_slack(metric, dim, level):
    """And the slack is not so large that everything would be compared exactly."""
    rng = np.random.default_rng(0)
    queries, gallery = (level * (rng.normal(size=(n, dim)) + 1) * rng.choice([1e-3, 1, 3], size=(n, 1)) for n in (20, 300))
    search = Search(queries, gallery, metric)
    values, slack = search.screen(np.arange(20))
    assert values.dtype == np.float32 and slack.shape == (20, 1)
    if metric == "cosine":
        queries, gallery = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, gallery))
        exact, length, longest = -queries @ gallery.T, np.ones((20, 1)), 1
    else:
        queries, gallery = queries / search.scale, gallery / search.scale
        exact = (gallery**2).sum(axis=1) / 2 - queries @ gallery.T
        length, longest = (np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery))
        longest = longest.max()
    assert (np.abs(values - exact) <= slack).all()
    rounding = 2.0**-24 * ((dim + 2) * length * longest + longest**2)  # of the vectors, of sums and products, of half a square
    assert (1.5 * rounding <= slack).all() and (slack <= 6 * rounding).all()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_search_with_other_queries(task, metric):
    """It equals a new search; the first search is unchanged."""
    queries, gallery, *_ = task
    first, pairs = Search(queries[:30], gallery, metric), (np.arange(20), np.arange(20))
    second, fresh = first.with_queries(queries[30:]), Search(queries[30:], gallery, metric)
    for search, expected in ((second, fresh), (first, Search(queries[:30], gallery, metric))):
        np.testing.assert_allclose(*(x.exact(*pairs) * (1 if x.cosine else x.scale**2) for x in (search, expected)))
        values, others = (x.screen(pairs[0])[0] * (1 if x.cosine else x.scale**2) for x in (search, expected))
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_large_galleries_of_equal_items(metric):
    """More items than are converted or compared at a time; the last one differs."""
    gallery = np.ones((20_000, 3), np.float32)
    gallery[-1] = [1, 2, 3]
    queries = gallery[[0, -1]]
    np.testing.assert_array_equal(ranks(queries, gallery, [7, 19_999], metric=metric), [9999, 0])
    np.testing.assert_array_equal(ranks(queries, gallery, [19_999, 7], metric=metric), [19_999, 1 + 9999])
    np.testing.assert_array_equal(nearest(queries, gallery, 3, metric=metric), [[0, 1, 2], [19_999, 0, 1]])


@pytest.mark.parametrize("level", [1e-10, 1.0, 1e40, 1e150])
def test_cosine_of_zero_vectors_at_any_level(level):
    """A zero vector has the same distance to all."""
    vectors = level * np.array([[1.0, 0, 0], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(ranks(vectors, vectors, [0, 1, 2], metric="cosine"), [0, 1, 0])
    np.testing.assert_array_equal(ranks(vectors, vectors, [1, 0, 1], metric="cosine"), [2, 1, 2])


@pytest.mark.parametrize("level", [1.0, 2.0**-47])
def test_cosine_of_very_short_vectors(level):
    """A length below 1e-12 counts as 1e-12, so shorter vectors are farther away."""
    lengths = 2.0 ** np.array([-33, -42, -39, -47, -41])
    gallery, queries = (x[:, None] * np.eye(4)[:1] for x in (lengths, np.full(5, level)))
    np.testing.assert_array_equal(ranks(queries, gallery, np.arange(5), metric="cosine"), [0.5, 3, 0.5, 4, 2])
    np.testing.assert_allclose(distances(queries, gallery)[0], 1 - np.minimum(lengths / 1e-12, 1) * min(level / 1e-12, 1))


def test_interval_of_three_instruments_is_students():
    """The bootstrap ends at the instruments that are drawn three times; Student's t and the sample variance widen it."""
    table = pd.DataFrame({"rank": [9.0, 10.0, 11.0], "instrument": list("abc"), "family": "Bass"})
    scores = 1 / (1 + table["rank"].to_numpy())
    factor = stats.t.ppf(0.975, 2) / 1.96 * np.sqrt(3 / 2)
    expected = scores.mean() + factor * (np.array([scores.min(), scores.max()]) - scores.mean())
    assert summary(table)["mrr_ci"] == pytest.approx(expected)


def test_intervals_of_scores_are_independent():
    """The interval of top-1 does not depend on ranks above 1, also if queries have different numbers of instruments."""
    table = mixture_table(0).sample(frac=0.5, random_state=0)
    worse = table.assign(rank=table["rank"] * np.arange(1, len(table) + 1))
    assert summary(worse)["top1_ci"] == summary(table)["top1_ci"] and summary(worse)["mrr_ci"] != summary(table)["mrr_ci"]
