"""Measures of a space on synthetic points with known answers: clusters, hubs, directions, leaks between instruments."""

import numpy as np
import pandas as pd
import pytest

from cirlib.evaluation import ranking, space


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# Neighbours and hubs


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_neighbours_are_the_nearest_others(rng, metric):
    vectors = rng.normal(size=(40, 6))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else vectors
    distance = np.linalg.norm(unit[:, None] - unit, axis=2)  # of unit vectors: same order as the cosine distance
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(space.neighbours(vectors, 7, metric), distance.argsort(axis=1)[:, :7])


def test_copies_are_neighbours_but_an_item_never_its_own():
    near = space.neighbours(np.ones((6, 3)), 3, "l2")
    assert near.shape == (6, 3) and (near != np.arange(6)[:, None]).all()
    assert space.neighbours(np.eye(3), 10).shape == (3, 2)
    with pytest.raises(ValueError, match="neighbours need two vectors or more, got 1"):
        space.neighbours(np.ones((1, 3)), 1)


def test_hubness_of_known_counts():
    """1, 1, 1, 1, 6 differ from their mean by -1 (four times) and 4: third moment 12, variance 4."""
    got = space.hubness([1, 1, 1, 1, 6])
    assert got["skewness"] == pytest.approx(12 / 8) and got["never"] == 0 and got["most"] == 6
    assert space.hubness([0, 0, 3, 3])["never"] == 0.5
    np.testing.assert_allclose(space.hubness([[1, 1, 1, 1, 6], [2, 2, 2, 2, 2]])["skewness"], [1.5, 0])


def test_random_hubness_is_that_of_random_lists(rng):
    got = space.random_hubness(200, 50, 5)
    lists = [np.stack([rng.choice(50, 5, replace=False) for _ in range(200)]) for _ in range(100)]
    simulated = pd.DataFrame([space.hubness(np.bincount(near.ravel(), minlength=50)) for near in lists])
    for name, (low, middle, high) in got.items():
        assert low <= middle <= high
        assert simulated[name].between(low, high).mean() > 0.8
    assert got["skewness"][1] == pytest.approx(simulated.skewness.median(), abs=0.1)
    assert space.random_hubness(20, 5, 10)["never"] == [0, 0, 0], "lists of all items"


def test_item_in_the_middle_is_the_hub(rng):
    """Items lie on a sphere around the queries, but for one."""
    items = rng.normal(size=(60, 10))
    items *= 10 / np.linalg.norm(items, axis=1, keepdims=True)
    items[17] = 0
    near = ranking.nearest(rng.normal(0, 0.5, (200, 10)), items, 3, metric="l2")
    report = space.hub_report(near, [f"item {i}" for i in range(60)])
    assert report["hubs"][0] == {"name": "item 17", "retrieved": 200} and report["most"] == 200
    assert report["skewness"] > report["random"]["skewness"][2]
    assert sum(report["histogram"]) == pytest.approx(1) and report["histogram"][200] == pytest.approx(1 / 60)
    for name in ("histogram", "histogram_random"):
        assert np.dot(report[name], np.arange(201)) == pytest.approx(report["queries"] * report["k"] / report["items"])


# Labels and distances


def test_purity_counts_neighbours_with_the_same_label():
    near = np.array([[1, 2], [0, 2], [3, 0], [2, 1]])
    report = space.purity_report(near, list("aaab"))
    assert (report["same"], report["chance"]) == pytest.approx(((1 + 1 + 0.5 + 0) / 4, 3 / 4 * 2 / 3))
    same = {"same": 2.5 / 3, "chance": pytest.approx(2 / 3), "items": 3}
    assert report["labels"] == {"a": same, "b": {"same": 0, "chance": 0, "items": 1}}


def test_purity_of_random_labels_is_chance(rng):
    vectors, labels = rng.normal(size=(600, 8)), rng.choice(["a", "b", "b", "b"], 600)
    report = space.purity_report(space.neighbours(vectors, 10), labels)
    assert report["same"] == pytest.approx(report["chance"], abs=0.03)
    for part in report["labels"].values():
        assert part["same"] == pytest.approx(part["chance"], abs=0.06)


def test_nearer_is_the_share_of_rivals_farther_away():
    distances = np.array([[1.0, 2, 3, 1], [5, 1, 2, 3], [1, 1, 1, 1]])
    rivals = np.array([[0, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(space.nearer(distances, [0, 0, 0], rivals), [2.5 / 3, 0, np.nan])


def test_interval_depends_on_the_number_of_groups(rng):
    """The same values as 200 groups or as 5 groups of equal values."""
    values = np.repeat(rng.normal(size=5), 40)
    alone, grouped = space.interval(values, np.arange(200)), space.interval(values, np.repeat(np.arange(5), 40))
    assert alone["mean"] == grouped["mean"] == pytest.approx(values.mean())
    assert grouped["high"] - grouped["low"] > 3 * (alone["high"] - alone["low"])
    assert grouped["low"] < grouped["mean"] < grouped["high"]
    assert space.interval([1, np.nan, 3], list("aab"))["mean"] == 2
    with pytest.raises(ValueError, match="at least one value"):
        space.interval([np.nan], ["a"])


# Probes


def test_probe_reads_a_direction_but_no_noise(rng):
    groups, pitch = np.repeat(np.arange(30), 10), rng.uniform(40, 80, 300)
    vectors = rng.normal(size=(300, 16))
    noise = space.probe(vectors, pitch, groups)
    assert noise["high"] < 0.1 and noise["r2"] == pytest.approx(np.mean(noise["folds"]))
    vectors += np.outer(pitch - 60, rng.normal(size=16))
    got = space.probe(vectors, pitch, groups)
    assert got["low"] > 0.95 and got["low"] <= got["r2"] <= got["high"]
    assert (got["sounds"], got["instruments"], len(got["folds"])) == (300, 30, 5)
    np.testing.assert_allclose(space.probe(3 * vectors + 7, 100 - 5 * pitch, groups)["folds"], got["folds"], atol=1e-6)


def test_probe_cannot_memorise_instruments(rng):
    """Each instrument has a random place and value. Ungrouped folds leak the value; grouped ones must not, nor the choice of the ridge."""
    groups = np.repeat(np.arange(40), 12)
    vectors = rng.normal(size=(40, 30))[groups] + rng.normal(0, 0.01, (480, 30))
    values = rng.normal(size=40)[groups]
    assert space.probe(vectors, values, np.arange(480))["low"] > 0.7
    assert -1 < space.probe(vectors, values, groups)["r2"] < 0.1


def test_probe_skips_unknown_values(rng):
    groups, values = np.repeat(np.arange(12), 5), rng.normal(size=60)
    vectors = np.stack([values, rng.normal(size=60)], axis=1)
    values[::7], vectors[::7] = np.nan, 1e6
    got = space.probe(vectors, values, groups)
    assert got["sounds"] == 51 and got["low"] > 0.9


@pytest.mark.parametrize("values", [np.ones(20), np.full(20, np.nan), np.arange(20.0)], ids=["constant", "unknown", "five instruments"])
def test_probe_refuses_too_little_data(rng, values):
    groups = np.arange(20) % (5 if np.ptp(values) > 0 else 20)
    with pytest.raises(ValueError, match="needs values that differ, of 6 instruments"):
        space.probe(rng.normal(size=(20, 3)), values, groups)


# Twins


def test_twin_notes_differ_in_effects_only(tone_bank):
    notes = tone_bank.notes
    pairs = space.twin_notes(notes)
    assert len(pairs) == notes.augments.notna().sum() and pairs.off.is_unique
    on, off = notes.iloc[pairs.on].reset_index(drop=True), notes.iloc[pairs.off].reset_index(drop=True)
    assert (off.augments == on.instrument).all() and on.augments.isna().all() and (on.pitch == off.pitch).all()
    assert set(pairs.effects) == {"chorus"} and (pairs.instrument == on.instrument).all() and (pairs.family == on.family).all()
    assert space.twin_notes(notes.assign(pitch=np.float32(np.nan))).empty
    assert space.twin_notes(notes.assign(velocity=np.where(notes.augments.isna(), 100.0, 90.0))).empty
    assert [space.effects_label(fx) for fx in ([], ["reverb"], ["reverb", "delay"])] == ["none", "reverb", "several"]


def test_twins_are_compared_with_similar_notes(tone_bank):
    notes = tone_bank.notes
    pairs = space.beside_twins(notes, space.twin_notes(notes), seed=1)
    on, note, rival = (notes.iloc[pairs[c]].reset_index(drop=True) for c in ("on", "note", "rival"))
    assert len(pairs) == notes.augments.notna().sum()
    assert (note.instrument == on.instrument).all() and (pairs.note != pairs.on).all()
    assert (rival.instrument != on.instrument).all() and rival.augments.isna().all()
    assert (rival.family == on.family).all() and (rival.split == on.split).all() and (rival.pitch == on.pitch).all()
    pd.testing.assert_frame_equal(pairs, space.beside_twins(notes, space.twin_notes(notes), seed=1))
    lonely = notes[(notes.instrument == "tones/train/Bass0") | (notes.augments == "tones/train/Bass0")].reset_index(drop=True)
    assert space.beside_twins(lonely, space.twin_notes(lonely)).empty and space.beside_twins(lonely, space.twin_notes(lonely)[:0]).empty
