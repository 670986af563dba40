"""Ranking against brute force, and means with intervals that mean what they say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from cirlib.evaluation.ranking import FEWEST, METRICS, TOP_K, Search, _blocks, chance, distances, nearest, ranks, summary, top_k, whiten


def shrunk_covariance(x):
    """Covariance (D, D) of rows (N, D), shrunk towards a multiple of the identity (Ledoit and Wolf 2004, section 3.3)."""
    x = x - x.mean(axis=0)
    n, d = x.shape
    sample, eye = x.T @ x / n, np.eye(d)
    mean = np.trace(sample) / d
    spread = ((sample - mean * eye) ** 2).sum() / d
    error = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / d / n**2
    weight = min(error, spread) / spread
    return weight * mean * eye + (1 - weight) * sample


def brute_distances(queries, gallery, metric):
    """(Q, G), pair by pair."""
    queries, gallery = queries.astype(float), gallery.astype(float)
    inverse = np.linalg.inv(shrunk_covariance(gallery)) if metric == "mahalanobis" else np.eye(gallery.shape[1])
    if metric == "cosine":
        return np.array([[1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in gallery] for a in queries])
    return np.array([[np.sqrt((a - b) @ inverse @ (a - b)) for b in gallery] for a in queries])


def brute_ranks(queries, gallery, truth, groups, metric):
    """Items of the truth's group that are nearer than the truth, and half of those at its distance."""
    out = []
    for row, t in zip(brute_distances(queries, gallery, metric), truth, strict=True):
        others = [x for j, x in enumerate(row) if j != t and groups[j] == groups[t]]
        out.append(sum(x < row[t] - 1e-9 for x in others) + 0.5 * sum(abs(x - row[t]) <= 1e-9 for x in others))
    return out


@pytest.fixture
def task():
    """Queries (50, 8), gallery (37, 8), truth (50,), group of each gallery item."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(37, 8)).astype(np.float32)
    truth = rng.integers(37, size=50)
    queries = (gallery[truth] + rng.normal(size=(50, 8))).astype(np.float32)
    return queries, gallery, truth, rng.choice(["Bass", "Lead", "Percussion"], 37)


@pytest.mark.parametrize("metric", METRICS)
def test_distances(task, metric):
    queries, gallery, *_ = task
    expected = brute_distances(queries, gallery, metric)
    np.testing.assert_allclose(distances(queries, gallery, metric), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize("metric", METRICS)
def test_ranks_in_the_whole_gallery(task, metric, block):
    """Without groups the truth is ranked among all items; the block size changes nothing."""
    queries, gallery, truth, _ = task
    expected = brute_ranks(queries, gallery, truth, np.zeros(len(gallery)), metric)
    np.testing.assert_array_equal(ranks(queries, gallery, truth, metric=metric, block=block), expected)
    assert len(set(expected)) > 5


@pytest.mark.parametrize("metric", METRICS)
def test_ranks_within_the_group_of_the_truth(task, metric):
    """The ranking for a family holds gallery items of that family only."""
    queries, gallery, truth, groups = task
    expected = brute_ranks(queries, gallery, truth, groups, metric)
    np.testing.assert_array_equal(ranks(queries, gallery, truth, groups, metric), expected)
    assert expected != brute_ranks(queries, gallery, truth, np.zeros(len(gallery)), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block", [1, 3, 1024])  # a matrix product may round equal columns apart, depending on its shape
def test_items_at_the_same_distance_count_half(metric, block):
    """Items with the very same embedding tie, wherever they stand in the gallery."""
    rng = np.random.default_rng(0)
    gallery = np.repeat(rng.normal(size=(37, 256)).astype(np.float32), 3, axis=0)[rng.permutation(111)]
    queries = gallery + 0.01 * rng.normal(size=gallery.shape).astype(np.float32)
    got = ranks(queries, gallery, np.arange(111), metric=metric, block=block)
    assert set(got) == {1.0}  # itself and two copies: (0 + 1 + 2) / 3


@pytest.mark.parametrize("metric", METRICS)
def test_nearest(task, metric):
    """The k nearest, nearest first; k is at most the size of the gallery; the block size changes nothing."""
    queries, gallery, *_ = task
    order = np.argsort(brute_distances(queries, gallery, metric), axis=1)
    for k, block in ((1, 1024), (5, 7), (37, 1024), (99, 1024)):
        np.testing.assert_array_equal(nearest(queries, gallery, k, metric, block), order[:, :k])
    assert nearest(queries[:0], gallery, 5, metric).shape == (0, 5)
    assert nearest(queries[:0], gallery[:0], 5, metric).shape == (0, 0)
    assert nearest(queries, gallery, 0, metric).shape == (len(queries), 0)
    assert ranks(queries[:0], gallery, [], metric=metric).shape == (0,)


@pytest.mark.parametrize(
    ("items", "block", "sizes"),
    [(10, 350, [35, 35, 30]), (1, 50, [50, 50]), (1000, 350, [FEWEST, FEWEST, FEWEST, 100 - 3 * FEWEST]), (0, 350, [])],
)
def test_blocks_hold_every_row_once(items, block, sizes):
    """As many pairs as fit, but not too few rows."""
    blocks = list(_blocks(np.arange(100, 200), items, block))
    assert [len(b) for b in blocks] == sizes
    assert not blocks or (np.concatenate(blocks) == np.arange(100, 200)).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block", [1, 3, 1024])
def test_nearest_of_equal_items_is_the_earlier_one(metric, block):
    """Copies of an item come in the order in which they stand in the gallery."""
    rng = np.random.default_rng(0)
    number = rng.permutation(np.repeat(np.arange(37), 3))
    gallery = rng.normal(size=(37, 256)).astype(np.float32)[number]
    queries = gallery + 0.01 * rng.normal(size=gallery.shape).astype(np.float32)
    expected = [np.flatnonzero(number == n) for n in number]
    np.testing.assert_array_equal(nearest(queries, gallery, 3, metric, block), expected)


def test_small_distances_far_from_the_origin():
    """Embeddings that all but coincide are told apart by l2 as far as float32 holds them apart."""
    rng = np.random.default_rng(0)
    gallery = (100 + 0.01 * rng.normal(size=(40, 16))).astype(np.float32)
    truth = np.arange(40)
    queries = (gallery + 0.01 * rng.normal(size=gallery.shape)).astype(np.float32)
    expected = brute_ranks(queries, gallery, truth, np.zeros(40), "l2")
    np.testing.assert_array_equal(ranks(queries, gallery, truth, metric="l2"), expected)


def correlated(seed, count, dim):
    """(count, dim) with deviations of 1 to 4 along turned axes, not centred."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) * np.linspace(1, 4, dim) @ np.linalg.qr(rng.normal(size=(dim, dim)))[0] + 3


def test_mahalanobis_is_that_of_the_covariance_of_the_gallery():
    """Many items for few dimensions: shrinkage does next to nothing. Queries from elsewhere change nothing."""
    gallery = correlated(0, 5000, 6)
    queries = 4 * correlated(1, 40, 6) - 20
    expected = cdist(queries, gallery, "mahalanobis", VI=np.linalg.inv(np.cov(gallery.T)))
    np.testing.assert_allclose(distances(queries, gallery, "mahalanobis"), expected, rtol=0.02)
    assert np.abs(distances(queries, gallery, "l2") / expected - 1).max() > 0.5


@pytest.mark.parametrize("scale", [0.02, 1e-9])
@pytest.mark.parametrize("count", [12, 4000])
def test_mahalanobis_after_a_turn_a_shift_and_a_scale(count, scale):
    """The shrunk covariance turns and scales with the data: distances stay, however few the items."""
    gallery, queries = correlated(0, count, 8), correlated(1, 20, 8)
    turn = scale * np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    moved = distances(queries @ turn + 350 * scale, gallery @ turn + 350 * scale, "mahalanobis")
    np.testing.assert_allclose(moved, distances(queries, gallery, "mahalanobis"), rtol=1e-6)


def test_mahalanobis_after_any_linear_map():
    """In a large gallery shrinkage fades and all linear maps look alike; l2 depends on them."""
    gallery, queries = correlated(0, 20_000, 4), correlated(1, 30, 4)
    skew = np.array([[1, 2, 0, 0], [0, 1, -1, 0], [0, 0, 3, 0.5], [0.2, 0, 0, 0.4]])
    before = distances(queries, gallery, "mahalanobis")
    np.testing.assert_allclose(distances(queries @ skew, gallery @ skew, "mahalanobis"), before, rtol=0.03)
    assert np.abs(distances(queries @ skew, gallery @ skew, "l2") / distances(queries, gallery, "l2") - 1).max() > 0.3


def test_whitened_gallery_has_no_mean_and_unit_covariance():
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
def test_mahalanobis_of_galleries_without_a_full_covariance(gallery):
    """Finite and without warnings, also for queries from elsewhere."""
    queries = np.concatenate([gallery, gallery + 1])
    assert all(np.isfinite(x).all() for x in whiten(queries, gallery))
    d = distances(queries, gallery, "mahalanobis")
    assert np.isfinite(d).all()
    np.testing.assert_allclose(np.diag(d), 0, atol=1e-5 * max(1, d.max()))
    assert np.isfinite(ranks(gallery, gallery, np.arange(len(gallery)), metric="mahalanobis")).all()
    assert nearest(queries, gallery, 9, "mahalanobis").shape == (len(queries), min(9, len(gallery)))


@pytest.mark.parametrize("metric", METRICS)
def test_collapsed_embeddings_rank_in_the_middle(metric):
    """An encoder that gives every sound the same embedding is no better than chance."""
    ones = np.ones((11, 4), np.float32)
    assert set(ranks(ones, ones, np.arange(11), metric=metric)) == {5.0}


def test_embeddings_that_are_not_finite_are_refused():
    """NaN compares false with everything: it would rank first."""
    good, bad = np.ones((3, 4), np.float32), np.full((3, 4), np.nan, np.float32)
    for queries, gallery in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match="NaN"):
            ranks(queries, gallery, np.arange(3))


@pytest.mark.parametrize("truth", [[0, 3], [-1, 0], [0]], ids=str)
def test_truth_must_name_a_gallery_item_per_query(truth):
    with pytest.raises(ValueError, match=r"one gallery index \(0\.\.2\) per query"):
        ranks(np.ones((2, 4)), np.ones((3, 4)), truth)


def test_truth_of_fractions_is_refused():
    with pytest.raises(IndexError):
        ranks(np.ones((2, 4)), np.ones((3, 4)), [0.5, 1])


def test_groups_must_label_every_gallery_item():
    with pytest.raises(ValueError, match=r"one label per gallery item \(3\), got 2"):
        ranks(np.ones((2, 4)), np.ones((3, 4)), [0, 1], groups=["a", "b"])


@pytest.mark.parametrize("search", [ranks, nearest, lambda q, g, _, metric: distances(q, g, metric)], ids=["ranks", "nearest", "distances"])
def test_unknown_metric(search):
    with pytest.raises(ValueError, match=r"unknown metric 'cosin' .*valid: cosine, l2, mahalanobis"):
        search(np.ones((2, 4)), np.ones((3, 4)), 1 if search is nearest else [0, 1], metric="cosin")


def test_top_k():
    assert [top_k(np.array([0, 0.5, 1, 4, 9.5]), k) for k in (1, 2, 5, 10)] == [0.4, 0.6, 0.8, 1.0]


def test_chance():
    """A random ranking: k of n, at most 1, mean over families."""
    assert chance({"a": 10, "b": 4}, 5) == pytest.approx((0.5 + 1) / 2)
    ranked = np.random.default_rng(0).integers(20, size=200_000)
    assert chance({"a": 20}, 3) == pytest.approx(top_k(ranked, 3), abs=0.005)


@pytest.fixture
def table():
    """Ranks of 600 queries of 30 instruments, each of its own difficulty, in two families of unequal size."""
    rng = np.random.default_rng(1)
    number = np.concatenate([rng.integers(20, size=500), rng.integers(20, 30, size=100)])
    rank = rng.poisson(rng.gamma(1, 3, 30)[number]).astype(float)
    family = np.where(number < 20, "Bass", "Lead")
    return pd.DataFrame({"rank": rank, "instrument": number.astype(str), "family": family})


def test_summary_is_the_mean_over_families(table):
    """Mixture accuracy is the mean over families, each family weighing the same."""
    got = summary(table)
    parts = [part["rank"] for _, part in table.groupby("family")]
    for k in TOP_K:
        assert got[f"top{k}"] == pytest.approx(np.mean([(part < k).mean() for part in parts]))
    assert got["mrr"] == pytest.approx(np.mean([(1 / (1 + part)).mean() for part in parts]))
    assert (got["queries"], got["rank_median"]) == (600, table["rank"].median())
    assert got["rank_mean"] == pytest.approx(table["rank"].mean())


def test_what_a_summary_holds(table):
    scores = ["top1", "top3", "top5", "top10", "mrr"]
    assert sorted(summary(table)) == sorted([*scores, *(f"{name}_ci" for name in scores), "queries", "rank_mean", "rank_median"])


def test_summary_of_all_queries_alike(table):
    assert summary(table, by=None)["top1"] == pytest.approx((table["rank"] < 1).mean())


def test_interval_holds_the_mean_and_depends_on_the_seed_only(table):
    got = summary(table)
    for name in ("top1", "top5", "mrr"):
        low, high = got[name + "_ci"]
        assert 0 <= low < got[name] < high <= 1
    assert got == summary(table)
    assert got["top1_ci"] != summary(table, seed=1)["top1_ci"]


def test_interval_is_by_instrument(table):
    """More queries of the same instruments make it no narrower; more instruments do."""
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


def test_interval_holds_95_of_100_draws():
    """Of 400 instruments of one query each, half of them found: 1.96 standard deviations to either side."""
    table = pd.DataFrame({"rank": np.arange(400) % 2, "instrument": np.arange(400).astype(str), "family": "Bass"})
    width = 1.96 * np.sqrt(0.25 / 400)
    np.testing.assert_allclose(summary(table, draws=4000)["top1_ci"], [0.5 - width, 0.5 + width], atol=0.004)


def played(seed, queries=400, instruments=20, partners=1.0):
    """Ranks of mixtures of three families: instruments that are hard to find, and that hide the others or do not."""
    rng = np.random.default_rng(seed)
    plays = rng.integers(instruments, size=(queries, 3))
    own, others = rng.normal(size=(2, 3, instruments)) * [[[1.0]], [[partners]]]
    level = own[range(3), plays] + others[range(3), plays].sum(axis=1)[:, None] - others[range(3), plays] + rng.normal(size=plays.shape)
    names = np.char.add(list("abc"), plays.astype(str))
    query, family = np.repeat(np.arange(queries), 3), np.tile(list("abc"), queries)
    return pd.DataFrame({"query": query, "family": family, "instrument": names.ravel(), "rank": (level > 0).ravel() * 1.0})


@pytest.mark.parametrize("partners", [0.0, 1.0])
@pytest.mark.parametrize("slice_", [False, True])
def test_interval_holds_the_truth_in_95_of_100_cases(partners, slice_):
    """With other instruments and other mixtures of them each time; the truth is one half."""
    held = []
    for seed in range(120):
        table = played(seed, partners=partners)
        low, high = summary(table, of=table.family == "a" if slice_ else None, draws=200)["top1_ci"]
        held.append(low <= 0.5 <= high)
    assert np.mean(held) > 0.88


def test_interval_counts_pairs_of_queries_that_share_an_instrument():
    table = played(0, instruments=60)
    away = ((table["rank"] < 1) - (table["rank"] < 1).groupby(table.family).transform("mean")).to_numpy().reshape(-1, 3).mean(axis=1)
    plays = table.instrument.to_numpy().reshape(-1, 3)
    share = (plays[:, None] == plays[None]).any(axis=2)
    deviation = np.sqrt(away @ share @ away) / len(away)
    low, high = summary(table, draws=20000)["top1_ci"]
    few = stats.t.ppf(0.975, 59) * np.sqrt(60 / 59)
    assert (high - low) / 2 == pytest.approx(few * deviation, rel=0.05)


def test_summary_of_some_rows(table):
    """What it tells of them is what it tells of a table that holds no others, if queries have one row each."""
    some = (table.family == "Bass").to_numpy()
    of, alone = summary(table, of=some), summary(table[some])
    for name, value in alone.items():
        assert of[name] == pytest.approx(value)


def test_few_instruments_tell_little():
    def interval(found):
        table = pd.DataFrame(
            {"rank": 1.0 - np.repeat(found, 5), "instrument": np.repeat(np.arange(len(found)), 5).astype(str), "family": "Bass"}
        )
        return summary(table)["top1_ci"]

    assert interval([1]) == [0, 1]
    assert interval([1] * 7) == pytest.approx([0.025 ** (1 / 7), 1]) and interval([0] * 7) == pytest.approx([0, 1 - 0.025 ** (1 / 7)])
    assert interval([1, 0]) == [0, 1]
    student = stats.t.ppf(0.975, 15) * np.sqrt(16 / 15)
    assert np.diff(interval([1, 0] * 8)) == pytest.approx(2 * student * 0.125, rel=0.06)  # 0.49 by the normal distribution


# Screening in single precision must not show


def longdouble_ranks(queries, gallery, truth, metric):
    """Ranks by distances in extended precision."""
    out = []
    for q, t in zip(queries.astype(np.longdouble), truth, strict=True):
        g = gallery.astype(np.longdouble)
        if metric == "cosine":
            d = -(g @ q) / np.maximum(np.sqrt((g * g).sum(axis=1)), 1e-12) / np.maximum(np.sqrt(q @ q), 1e-12)
        else:
            d = ((g - q) ** 2).sum(axis=1)
        out.append((d < d[t]).sum() + 0.5 * ((d == d[t]).sum() - 1))
    return np.array(out)


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
def test_ranks_of_vectors_of_any_level_and_offset(metric, offset, spread, dtype):
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
    first = nearest(queries, gallery, 1, metric)[:, 0]
    assert (longdouble_ranks(queries, gallery, first, metric) < 1).mean() > 0.9


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_zero_queries_are_as_far_from_all(dtype):
    queries, gallery = np.zeros((2, 3), dtype), np.eye(3).astype(dtype)
    np.testing.assert_array_equal(ranks(queries, gallery, [0, 2], metric="cosine"), [1, 1])
    np.testing.assert_array_equal(nearest(queries, gallery, 2), [[0, 1], [0, 1]])


@pytest.mark.parametrize("level", [1e-13, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dim", [2, 64, 512])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_screened_values_are_as_exact_as_their_slack_says(metric, dim, level):
    """With room, but not so much that everything had to be compared exactly."""
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
def test_a_search_that_is_asked_anew_answers_the_new_queries(task, metric):
    """As one that was made for them; the first one still answers its own."""
    queries, gallery, *_ = task
    first, pairs = Search(queries[:30], gallery, metric), (np.arange(20), np.arange(20))
    second, fresh = first.ask(queries[30:]), Search(queries[30:], gallery, metric)
    for search, expected in ((second, fresh), (first, Search(queries[:30], gallery, metric))):
        np.testing.assert_allclose(*(x.exact(*pairs) * (1 if x.cosine else x.scale**2) for x in (search, expected)))
        values, others = (x.screen(pairs[0])[0] * (1 if x.cosine else x.scale**2) for x in (search, expected))
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_large_galleries_of_equal_items(metric):
    """More items than are made single or compared exactly at a time; the last one is another."""
    gallery = np.ones((20_000, 3), np.float32)
    gallery[-1] = [1, 2, 3]
    queries = gallery[[0, -1]]
    np.testing.assert_array_equal(ranks(queries, gallery, [7, 19_999], metric=metric), [9999, 0])
    np.testing.assert_array_equal(ranks(queries, gallery, [19_999, 7], metric=metric), [19_999, 1 + 9999])
    np.testing.assert_array_equal(nearest(queries, gallery, 3, metric), [[0, 1, 2], [19_999, 0, 1]])


@pytest.mark.parametrize("level", [1e-10, 1.0, 1e40, 1e150])
def test_cosine_of_zero_vectors_at_any_level(level):
    """A silent sound is as far from all, whatever the level of the others."""
    vectors = level * np.array([[1.0, 0, 0], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(ranks(vectors, vectors, [0, 1, 2], metric="cosine"), [0, 1, 0])
    np.testing.assert_array_equal(ranks(vectors, vectors, [1, 0, 1], metric="cosine"), [2, 1, 2])


@pytest.mark.parametrize("level", [1.0, 2.0**-47])
def test_vectors_shorter_than_the_shortest_count_as_that_long(level):
    """Below 1e-12 they are the farther the shorter they are; longer ones of the same direction are equally near."""
    lengths = 2.0 ** np.array([-33, -42, -39, -47, -41])
    gallery, queries = (x[:, None] * np.eye(4)[:1] for x in (lengths, np.full(5, level)))
    np.testing.assert_array_equal(ranks(queries, gallery, np.arange(5), metric="cosine"), [0.5, 3, 0.5, 4, 2])
    np.testing.assert_allclose(distances(queries, gallery)[0], 1 - np.minimum(lengths / 1e-12, 1) * min(level / 1e-12, 1))


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_refuses_what_is_not_finite(metric):
    queries, gallery = np.ones((2, 3)), np.eye(3)
    for bad in ((queries * [[1], [np.nan]], gallery), (queries, gallery + np.inf)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            nearest(*bad, 1, metric)
    assert nearest(queries, gallery[:0], 4, metric).shape == (2, 0)
