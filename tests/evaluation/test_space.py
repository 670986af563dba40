"""Measures of a space on synthetic points with known answers: blobs, planted hubs, planted directions, leaks."""

import numpy as np
import pandas as pd
import pytest

from cirlib.evaluation import space


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blobs(rng, size: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Two far blobs (2 size, 8) and their labels."""
    labels = np.repeat(["a", "b"], size)
    return rng.normal(0, 0.1, (2 * size, 8)) + np.where(labels == "a", 5, -5)[:, None], labels


# Neighbours


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_neighbours_are_the_nearest_others(rng, metric):
    vectors = rng.normal(size=(40, 6))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else vectors
    distance = np.linalg.norm(unit[:, None] - unit, axis=2)  # orders as the cosine does
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(space.neighbours(vectors, 7, metric), distance.argsort(axis=1)[:, :7])


def test_neighbours_of_copies_and_of_few_vectors():
    """Nobody is its own neighbour, also where all lie in one place; there are no more than all others."""
    near = space.neighbours(np.ones((6, 3)), 3, "l2")
    assert near.shape == (6, 3) and (near != np.arange(6)[:, None]).all()
    assert space.neighbours(np.eye(3), 10).shape == (3, 2)


# Hubs


def test_k_occurrence_counts_how_often_each_item_is_found():
    np.testing.assert_array_equal(space.k_occurrence(np.array([[0, 2], [2, 3], [2, 0]]), 5), [2, 0, 3, 1, 0])
    with pytest.raises(ValueError, match="from 0 to 2, got 0 to 3"):
        space.k_occurrence(np.array([[0, 3]]), 3)


def test_hubness_of_known_counts():
    """1, 1, 1, 1, 6 lie -1 four times and +4 once around 2: third moment 12, variance 4."""
    found = space.hubness([1, 1, 1, 1, 6])
    assert found["skewness"] == pytest.approx(12 / 8) and found["never"] == 0 and found["most"] == 6
    assert space.hubness([0, 0, 3, 3])["never"] == 0.5
    assert space.hubness([4, 4, 4])["skewness"] == 0
    both = space.hubness([[1, 1, 1, 1, 6], [2, 2, 2, 2, 2]])["skewness"]
    np.testing.assert_allclose(both, [1.5, 0])


def test_random_hubness_is_that_of_random_lists(rng):
    """Simulated list by list."""
    found = space.random_hubness(200, 50, 5)
    simulated = []
    for _ in range(100):
        near = np.stack([rng.choice(50, 5, replace=False) for _ in range(200)])
        simulated.append(space.hubness(space.k_occurrence(near, 50)))
    table = pd.DataFrame(simulated)
    for name, (low, middle, high) in found.items():
        assert low <= middle <= high
        assert ((table[name] >= low) & (table[name] <= high)).mean() > 0.8
    assert found["skewness"][1] == pytest.approx(table.skewness.median(), abs=0.1)
    assert space.random_hubness(20, 5, 10)["never"] == [0, 0, 0], "a list of all items finds each"


def test_planted_hub_comes_first(rng):
    """Queries around the origin, items on a sphere, and one in the middle that all find."""
    items = rng.normal(size=(60, 10))
    items *= 10 / np.linalg.norm(items, axis=1, keepdims=True)
    items[17] = 0
    near = space.retrieval.nearest(rng.normal(0, 0.5, (200, 10)), items, 3, "l2")
    report = space.hub_report(near, [f"item {i}" for i in range(60)])
    assert report["hubs"][0] == {"name": "item 17", "found": 200} and report["most"] == 200
    assert report["skewness"] > report["random"]["skewness"][2]
    assert sum(report["histogram"]) == pytest.approx(1) and report["histogram"][200] == pytest.approx(1 / 60)
    assert np.dot(report["histogram"], np.arange(201)) == pytest.approx(report["queries"] * report["k"] / report["items"])
    assert np.dot(report["histogram_random"], np.arange(201)) == pytest.approx(report["queries"] * report["k"] / report["items"])


# Neighbourhoods


def test_purity_of_two_blobs_is_one(rng):
    vectors, labels = blobs(rng)
    report = space.purity_report(space.neighbours(vectors, 10, "l2"), labels)
    assert report["same"] == 1 and report["chance"] == pytest.approx(29 / 59)
    assert report["labels"]["a"] == {"same": 1, "chance": pytest.approx(29 / 59), "items": 30}


def test_purity_of_labels_at_random_is_chance(rng):
    vectors, labels = rng.normal(size=(600, 8)), rng.choice(["a", "b", "b", "b"], 600)
    report = space.purity_report(space.neighbours(vectors, 10), labels)
    assert report["same"] == pytest.approx(report["chance"], abs=0.03)
    for found in report["labels"].values():
        assert found["same"] == pytest.approx(found["chance"], abs=0.06)


def test_purity_counts_neighbours():
    near = np.array([[1, 2], [0, 2], [3, 0], [2, 1]])
    np.testing.assert_array_equal(space.purity(near, list("aabb")), [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(space.purity(near, list("aaab")), [1, 1, 0.5, 0])
    np.testing.assert_allclose(space.chance_purity(list("aaab")), [2 / 3, 2 / 3, 2 / 3, 0])


def test_nearer_counts_rivals_that_lie_farther_away():
    distances = np.array([[1.0, 2, 3, 1], [5, 1, 2, 3], [1, 1, 1, 1]])
    rivals = np.array([[0, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(space.nearer(distances, [0, 0, 0], rivals), [2.5 / 3, 0, np.nan])


def test_interval_knows_how_few_instruments_there_are(rng):
    """The same numbers: as many instruments, or as five instruments whose sounds are alike."""
    values = np.repeat(rng.normal(size=5), 40)
    alone, grouped = space.interval(values, np.arange(200)), space.interval(values, np.repeat(np.arange(5), 40))
    assert alone["mean"] == grouped["mean"] == pytest.approx(values.mean())
    assert grouped["high"] - grouped["low"] > 3 * (alone["high"] - alone["low"])
    assert grouped["low"] < grouped["mean"] < grouped["high"]
    assert space.interval([1, np.nan, 3], list("aab"))["mean"] == 2
    with pytest.raises(ValueError, match="needs one at least"):
        space.interval([np.nan], ["a"])


# Probes


def test_probe_reads_a_planted_direction_and_no_noise(rng):
    groups, pitch = np.repeat(np.arange(30), 10), rng.uniform(40, 80, 300)
    vectors = rng.normal(size=(300, 16))
    noise = space.probe(vectors, pitch, groups)
    assert noise["high"] < 0.1 and noise["r2"] == pytest.approx(np.mean(noise["folds"]))
    vectors += np.outer(pitch - 60, rng.normal(size=16))
    planted = space.probe(vectors, pitch, groups)
    assert planted["low"] > 0.95 and planted["low"] <= planted["r2"] <= planted["high"]
    assert (planted["sounds"], planted["instruments"], len(planted["folds"])) == (300, 30, 5)


def test_probe_cannot_know_instruments_by_heart(rng):
    """Each instrument has a place and a value of its own that have nothing in common; ungrouped folds read the value nevertheless.

    As many dimensions as instruments that train: were the strength of the ridge chosen on sounds of instruments that it knows, it would
    be the weakest, and R2 far under 0.
    """
    groups = np.repeat(np.arange(40), 12)
    vectors = rng.normal(size=(40, 30))[groups] + rng.normal(0, 0.01, (480, 30))
    values = rng.normal(size=40)[groups]
    assert space.probe(vectors, values, np.arange(480))["low"] > 0.7
    assert -1 < space.probe(vectors, values, groups)["r2"] < 0.1


def test_probe_leaves_out_unknown_values(rng):
    """Whatever their vectors are."""
    groups, values = np.repeat(np.arange(12), 5), rng.normal(size=60)
    vectors = np.stack([values, rng.normal(size=60)], axis=1)
    values[::7], vectors[::7] = np.nan, 1e6
    found = space.probe(vectors, values, groups)
    assert found["sounds"] == 51 and found["low"] > 0.9


def test_probe_of_a_scaled_and_shifted_value_is_the_same(rng):
    groups, values = np.repeat(np.arange(12), 10), rng.normal(size=120)
    vectors = np.outer(values, rng.normal(size=4)) + rng.normal(size=(120, 4))
    a, b = space.probe(vectors, values, groups), space.probe(3 * vectors + 7, 100 - 5 * values, groups)
    np.testing.assert_allclose(a["folds"], b["folds"], atol=1e-6)


def test_probe_refuses_what_cannot_be_told(rng):
    vectors = rng.normal(size=(20, 3))
    for values, groups in ((np.ones(20), np.arange(20)), (np.full(20, np.nan), np.arange(20)), (rng.normal(size=20), np.arange(20) % 5)):
        with pytest.raises(ValueError, match="needs values that differ, of 6 instruments"):
            space.probe(vectors, values, groups)


# Sounds


def test_level():
    assert space.level(np.full(100, 0.1)) == pytest.approx(-20)
    assert space.level(np.sin(np.arange(16000))) == pytest.approx(-3.01, abs=0.01)
    assert space.level(np.zeros(10)) == pytest.approx(-120)


def test_effects_label():
    assert [space.effects_label(fx) for fx in ([], ["reverb"], ["reverb", "delay"])] == ["none", "reverb", "several"]


def test_twin_notes_are_the_same_notes(tone_bank):
    notes = tone_bank.notes
    pairs = space.twin_notes(notes)
    assert len(pairs) == notes.augments.notna().sum() and pairs.off.is_unique
    on, off = notes.iloc[pairs.on].reset_index(drop=True), notes.iloc[pairs.off].reset_index(drop=True)
    assert (off.augments == on.instrument).all() and on.augments.isna().all() and (on.pitch == off.pitch).all()
    assert set(pairs.effects) == {"chorus"} and (pairs.instrument == on.instrument).all() and (pairs.family == on.family).all()


def test_notes_without_pitch_or_of_another_velocity_have_no_twin(tone_bank):
    notes = tone_bank.notes
    assert space.twin_notes(notes.assign(pitch=np.float32(np.nan))).empty
    assert space.twin_notes(notes.assign(velocity=np.where(notes.augments.isna(), 100.0, 90.0))).empty


def test_twins_are_compared_with_notes_of_their_kind(tone_bank):
    notes = tone_bank.notes
    pairs = space.beside_twins(notes, space.twin_notes(notes), seed=1)
    on, note, rival = (notes.iloc[pairs[c]].reset_index(drop=True) for c in ("on", "note", "rival"))
    assert len(pairs) == notes.augments.notna().sum()
    assert (note.instrument == on.instrument).all() and (pairs.note != pairs.on).all()
    assert (rival.instrument != on.instrument).all() and rival.augments.isna().all()
    assert (rival.family == on.family).all() and (rival.split == on.split).all() and (rival.pitch == on.pitch).all()
    pd.testing.assert_frame_equal(pairs, space.beside_twins(notes, space.twin_notes(notes), seed=1))


def test_twins_without_a_rival_are_left_out(tone_bank):
    notes = tone_bank.notes
    lonely = notes[(notes.instrument == "tones/train/Bass0") | (notes.augments == "tones/train/Bass0")].reset_index(drop=True)
    pairs = space.twin_notes(lonely)
    assert len(pairs) == 12 and space.beside_twins(lonely, pairs).empty
    assert space.beside_twins(lonely, pairs[:0]).empty
