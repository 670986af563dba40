"""Open mixtures: what is drawn, how it is ranked, and a presence that is as sure as it is right."""

import numpy as np
import pandas as pd
import pytest
from conftest import build_bank, sound, tone

from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation import open_mixtures
from cirlib.evaluation.open_mixtures import Presence


def planted(count: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, 12) that hold one direction for each family that plays, and which do, (N, 3)."""
    rng = np.random.default_rng(seed)
    told = rng.random((count, 3)) < [0.2, 0.5, 0.7]
    directions = np.random.default_rng(9).standard_normal((3, 12))
    return told @ directions + rng.normal(0, noise, (count, 12)) + 1, told


@pytest.fixture
def mixtures(tone_bank):
    return open_mixtures.datasets(tone_bank, MIXTURE_FAMILIES, "test", 30, 5, seconds=0.5)


class OneHot:
    """Hears a mixture as the sum of its instruments."""

    def __init__(self, items, mixtures):
        self.items, self.plans = items, [d.plan(i) for d in mixtures for i in range(len(d))]
        self.count = 0

    def mixtures(self, waveforms):
        plans = self.plans[self.count : self.count + len(waveforms)]
        self.count += len(waveforms)
        return np.stack([self.items.index.isin([uid for _, uid in plan]).astype(np.float32) for plan in plans])


def test_mixtures_hold_1_to_so_many_test_instruments(mixtures, tone_bank):
    assert [(d.voices, len(d)) for d in mixtures] == [(1, 10), (2, 10), (3, 10)]
    table = tone_bank.instruments
    for dataset in mixtures:
        plans = [dataset.plan(i) for i in range(10)]
        assert all(len({family for family, _ in plan}) == dataset.voices for plan in plans)
        assert {table.split[uid] for plan in plans for _, uid in plan} == {"test"}
    assert len({d.seed for d in mixtures}) == 3
    (train, *_) = open_mixtures.datasets(tone_bank, MIXTURE_FAMILIES, "train", 300, 5)
    assert all(pd.isna(table.augments[uid]) for i in range(100) for _, uid in train.plan(i)), "no twins"


def test_families_that_every_split_has(tone_bank, tmp_path):
    assert set(open_mixtures.families_of(tone_bank)) == set(MIXTURE_FAMILIES)
    bank = build_bank(tmp_path / "bank", [sound("a", tone(40)), sound("b", tone(41), split="test")])
    with pytest.raises(ValueError, match="no family of this bank has instruments in all of train, valid and test"):
        open_mixtures.families_of(bank)


def test_ranks_in_the_whole_gallery_and_in_the_family(mixtures, tone_bank):
    """Who hears each mixture as the sum of its instruments finds them all, in places below their number."""
    items = tone_bank.gallery()
    vectors, truth = open_mixtures.embed(OneHot(items, mixtures), mixtures)
    assert vectors.shape == (30, len(items)) and len(truth) == 10 * (1 + 2 + 3) and truth["query"].max() == 29
    ranks = open_mixtures.ranks(vectors, truth, np.eye(len(items), dtype=np.float32), items, "cosine")
    np.testing.assert_array_equal(ranks["rank"], (ranks.voices - 1) / 2)  # all at the same distance: ties count half
    assert (ranks.rank_in_family == 0).all()
    told = open_mixtures.present(truth, MIXTURE_FAMILIES)
    assert told.sum() == len(truth) and list(told.sum(axis=1)) == [1] * 10 + [2] * 10 + [3] * 10
    scores = open_mixtures.nearest_by_family(vectors, np.eye(len(items)), items, MIXTURE_FAMILIES, "cosine")
    assert (scores[told] > -1).all() and np.allclose(scores[~told], -1)


def test_of_vectors_in_parts_that_for_mixes_ranks_the_whole_gallery(mixtures, tone_bank):
    """Only the part for mixes knows all instruments; the part of each family is right for its own alone."""
    items, rng = tone_bank.gallery(), np.random.default_rng(0)
    g, families = len(items), MIXTURE_FAMILIES
    known, truth = open_mixtures.embed(OneHot(items, mixtures), mixtures)
    queries, gallery = rng.normal(size=(len(known), 5, g)), rng.normal(size=(g, 5, g))
    queries[:, 1], gallery[:, 1] = known, np.eye(g)
    ranks = open_mixtures.ranks(queries.reshape(len(known), -1), truth, gallery.reshape(g, -1), items, "cosine", families)
    np.testing.assert_array_equal(ranks["rank"], (ranks.voices - 1) / 2)
    assert (ranks.rank_in_family > 0).any()  # by the parts of the families, which know nothing yet
    for place, name in enumerate(families, 2):
        own = (items.family == name).to_numpy()
        queries[:, place], gallery[own, place] = known, np.eye(g)[own]
    ranks = open_mixtures.ranks(queries.reshape(len(known), -1), truth, gallery.reshape(g, -1), items, "cosine", families)
    assert (ranks.rank_in_family == 0).all()


def test_presence_finds_planted_families_and_is_calibrated():
    train, valid, test = (planted(n, 1.5, seed) for seed, n in enumerate((4000, 2000, 4000)))
    presence = Presence.fit(["Bass", "Piano", "Reed"], train, valid)
    probability = presence(test[0])
    found = open_mixtures.presence_summary(probability, test[1])
    assert found["map"] > found["chance"] + 0.25 and found["map_ci"][0] < found["map"] < found["map_ci"][1]
    assert found["calibration_error"] < 0.03
    np.testing.assert_allclose(probability.mean(axis=0), test[1].mean(axis=0), atol=0.03)
    np.testing.assert_allclose(presence(7 * test[0]), probability, atol=1e-9)  # only directions count
    clean = Presence.fit(["Bass", "Piano", "Reed"], planted(500, 0.01, 5), planted(500, 0.01, 6))
    assert open_mixtures.average_precision(clean(planted(500, 0.01, 7)[0]), planted(500, 0.01, 7)[1]).min() > 0.999


def test_presence_is_calibrated_on_instruments_that_the_fit_never_heard():
    """What is clear in training is not in validation: without calibration it would be far too sure."""
    presence = Presence.fit(["Bass", "Piano", "Reed"], planted(2000, 0.5, 0), planted(2000, 4.0, 1))
    vectors, told = planted(4000, 4.0, 2)
    assert open_mixtures.presence_summary(presence(vectors), told)["calibration_error"] < 0.03


def test_presence_of_noise_is_what_is_usual():
    """Nothing to read: every probability is near the share of the family, and precision near chance."""
    rng = np.random.default_rng(0)
    told = [rng.random((n, 2)) < [0.1, 0.6] for n in (2000, 2000, 2000)]
    noise = [rng.standard_normal((2000, 6)) for _ in told]
    probability = Presence.fit(["Bass", "Piano"], (noise[0], told[0]), (noise[1], told[1]))(noise[2])
    np.testing.assert_allclose(probability.mean(axis=0), [0.1, 0.6], atol=0.03)
    np.testing.assert_allclose(open_mixtures.average_precision(probability, told[2]), [0.1, 0.6], atol=0.05)
    assert probability.std(axis=0).max() < 0.05


def test_presence_is_kept_with_its_encoder(tmp_path):
    presence = Presence(["Bass"], np.array([[1.0, -2.0]]), np.array([0.5]))
    presence.save(tmp_path / "presence.json", "abc")
    again, vectors = Presence.load(tmp_path / "presence.json", "abc"), np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_array_equal(again(vectors), presence(vectors))
    assert Presence.load(tmp_path / "presence.json", "other") is None and Presence.load(tmp_path / "none.json", "abc") is None
    (tmp_path / "presence.json").write_text('{"encoder": "abc"')
    with pytest.raises(ValueError, match=r"presence\.json is damaged .*: run notebooks/09_open_mixtures"):
        Presence.load(tmp_path / "presence.json", "abc")


def test_presence_of_what_always_plays_is_refused():
    vectors, told = planted(50, 0.1, 1)
    told[:, 1] = True
    with pytest.raises(ValueError, match=r"^Piano plays in all of these mixtures or in none: .* more families"):
        Presence.fit(["Bass", "Piano", "Reed"], (vectors, told), (vectors, told))


def test_calibration_recovers_the_probabilities_that_scores_stand_for():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, [1, 50], (20000, 2))
    slope, shift = np.array([2.0, -0.04]), np.array([-1.0, 0.5])
    told = rng.random(scores.shape) < 1 / (1 + np.exp(-(slope * scores + shift)))
    found = open_mixtures.calibrate(scores, told)
    np.testing.assert_allclose(found[0], slope, rtol=0.1)
    np.testing.assert_allclose(found[1], shift, atol=0.1)


def test_calibration_table_and_error_by_hand():
    probability, truth = np.array([[0.05, 0.15], [0.95, 1.0]]), np.array([[False, True], [True, False]])
    table = open_mixtures.calibration(probability, truth)
    assert table.number.tolist() == [1, 1, 2] and table.true.tolist() == [0, 1, 0.5]
    np.testing.assert_allclose(table["predicted"], [0.05, 0.15, 0.975])
    assert open_mixtures.calibration_error(table) == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)


def test_average_precision_by_hand():
    """Right at places 1 and 3 of 4: (1/1 + 2/3) / 2."""
    scores, truth = np.array([[0.9], [0.8], [0.7], [0.1]]), np.array([[True], [False], [True], [False]])
    np.testing.assert_allclose(open_mixtures.average_precision(scores, truth), [(1 + 2 / 3) / 2])
