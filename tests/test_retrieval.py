"""Ranking against brute force, and means with intervals that mean what they say."""

import numpy as np
import pandas as pd
import pytest

from cirlib.retrieval import METRICS, TOP_K, chance, distances, ranks, summary, top_k


def brute_distance(a, b, metric):
    a, b = a.astype(float), b.astype(float)
    return np.sqrt(((a - b) ** 2).sum()) if metric == "l2" else 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def brute_ranks(queries, gallery, truth, groups, metric):
    """Items of the truth's group that are nearer than the truth, and half of those at its distance."""
    out = []
    for q, t in zip(queries, truth, strict=True):
        own = brute_distance(q, gallery[t], metric)
        others = [brute_distance(q, g, metric) for j, g in enumerate(gallery) if j != t and groups[j] == groups[t]]
        out.append(sum(x < own - 1e-9 for x in others) + 0.5 * sum(abs(x - own) <= 1e-9 for x in others))
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
    expected = [[brute_distance(q, g, metric) for g in gallery] for q in queries]
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


def test_small_distances_far_from_the_origin():
    """Embeddings that all but coincide are told apart by l2 as far as float32 holds them apart."""
    rng = np.random.default_rng(0)
    gallery = (100 + 0.01 * rng.normal(size=(40, 16))).astype(np.float32)
    truth = np.arange(40)
    queries = (gallery + 0.01 * rng.normal(size=gallery.shape)).astype(np.float32)
    expected = brute_ranks(queries, gallery, truth, np.zeros(40), "l2")
    np.testing.assert_array_equal(ranks(queries, gallery, truth, metric="l2"), expected)


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


def test_groups_must_label_every_gallery_item():
    with pytest.raises(ValueError, match=r"one label per gallery item \(3\), got 2"):
        ranks(np.ones((2, 4)), np.ones((3, 4)), [0, 1], groups=["a", "b"])


def test_unknown_metric():
    with pytest.raises(ValueError, match=r"unknown metric 'cosin' .*valid: cosine, l2"):
        ranks(np.ones((2, 4)), np.ones((3, 4)), [0, 1], metric="cosin")


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
