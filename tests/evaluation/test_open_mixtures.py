"""Open mixtures: their instruments, ranks in the whole gallery, and a calibrated presence of families."""

import numpy as np
import pandas as pd
import pytest
from conftest import build_bank, sound, tone

from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation import open_mixtures
from cirlib.evaluation.open_mixtures import Presence


def clusters(count: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (N, 12) with a direction for each family that is present, and `present` (N, 3)."""
    rng = np.random.default_rng(seed)
    truth = rng.random((count, 3)) < [0.2, 0.5, 0.7]
    directions = np.random.default_rng(9).standard_normal((3, 12))
    return truth @ directions + rng.normal(0, noise, (count, 12)) + 1, truth


@pytest.fixture
def mixtures(tone_bank):
    return open_mixtures.datasets(tone_bank, families=MIXTURE_FAMILIES, split="test", size=30, seed=5, seconds=0.5)


class OneHot:
    """Embed mixtures as the sum of their instruments, one axis for each."""

    def __init__(self, items, mixtures):
        self.items, self.plans = items, [d.plan(i) for d in mixtures for i in range(len(d))]
        self.count = 0

    def mixtures(self, waveforms):
        plans = self.plans[self.count : self.count + len(waveforms)]
        self.count += len(waveforms)
        return np.stack([self.items.index.isin([uid for _, uid in plan]).astype(np.float32) for plan in plans])


def test_datasets_have_one_to_three_instruments(mixtures, tone_bank):
    assert [(d.max_instruments, len(d)) for d in mixtures] == [(1, 10), (2, 10), (3, 10)]
    table = tone_bank.instruments
    for dataset in mixtures:
        plans = [dataset.plan(i) for i in range(10)]
        assert all(len({family for family, _ in plan}) == dataset.max_instruments for plan in plans)
        assert {table.split[uid] for plan in plans for _, uid in plan} == {"test"}
    assert len({d.seed for d in mixtures}) == 3
    (train, *_) = open_mixtures.datasets(tone_bank, families=MIXTURE_FAMILIES, split="train", size=300, seed=5)
    assert all(pd.isna(table.augments[uid]) for i in range(100) for _, uid in train.plan(i)), "no twins"


def test_families_must_be_in_every_split(tone_bank, tmp_path):
    assert set(open_mixtures.families_of(tone_bank)) == set(MIXTURE_FAMILIES)
    bank = build_bank(tmp_path / "bank", [sound("a", tone(40)), sound("b", tone(41), split="test")])
    with pytest.raises(ValueError, match="no family of this bank has instruments in all of train, valid and test"):
        open_mixtures.families_of(bank)


def test_ranks_in_the_gallery_and_in_the_family(mixtures, tone_bank):
    """Instruments of a mixture come first and tie."""
    items = tone_bank.gallery()
    vectors, truth = open_mixtures.embed(OneHot(items, mixtures), mixtures)
    assert vectors.shape == (30, len(items)) and len(truth) == 10 * (1 + 2 + 3) and truth["query"].max() == 29
    ranks = open_mixtures.ranks(vectors, truth, gallery=np.eye(len(items), dtype=np.float32), items=items, metric="cosine")
    np.testing.assert_array_equal(ranks["rank"], (ranks.max_instruments - 1) / 2)  # all tie
    assert (ranks.rank_in_family == 0).all()
    present = open_mixtures.present(truth, MIXTURE_FAMILIES)
    assert present.sum() == len(truth) and list(present.sum(axis=1)) == [1] * 10 + [2] * 10 + [3] * 10
    scores = open_mixtures.nearest_by_family(vectors, gallery=np.eye(len(items)), items=items, families=MIXTURE_FAMILIES, metric="cosine")
    assert (scores[present] > -1).all() and np.allclose(scores[~present], -1)


def test_heads_rank_the_gallery_and_the_families(mixtures, tone_bank):
    """The whole gallery is ranked by the head for mixtures, each family by its own head."""
    items, rng = tone_bank.gallery(), np.random.default_rng(0)
    g, families = len(items), MIXTURE_FAMILIES
    embedded, truth = open_mixtures.embed(OneHot(items, mixtures), mixtures)
    queries, gallery = rng.normal(size=(len(embedded), 5, g)), rng.normal(size=(g, 5, g))
    queries[:, 1], gallery[:, 1] = embedded, np.eye(g)

    def rank():
        options = {"gallery": gallery.reshape(g, -1), "items": items, "metric": "cosine", "heads": families}
        return open_mixtures.ranks(queries.reshape(len(embedded), -1), truth, **options)

    ranks = rank()
    np.testing.assert_array_equal(ranks["rank"], (ranks.max_instruments - 1) / 2)
    assert (ranks.rank_in_family > 0).any()  # the heads of the families are random
    for place, name in enumerate(families, 2):
        own = (items.family == name).to_numpy()
        queries[:, place], gallery[own, place] = embedded, np.eye(g)[own]
    ranks = rank()
    assert (ranks.rank_in_family == 0).all()


def test_presence_is_accurate_and_calibrated():
    train, valid, test = (clusters(n, 1.5, seed) for seed, n in enumerate((4000, 2000, 4000)))
    presence = Presence.fit(["Bass", "Piano", "Reed"], train, valid)
    probability = presence(test[0])
    got = open_mixtures.presence_summary(probability, test[1])
    assert got["map"] > got["chance"] + 0.25 and got["map_ci"][0] < got["map"] < got["map_ci"][1]
    assert got["calibration_error"] < 0.03
    np.testing.assert_allclose(probability.mean(axis=0), test[1].mean(axis=0), atol=0.03)
    np.testing.assert_allclose(presence(7 * test[0]), probability, atol=1e-9)  # only the direction matters
    clean = Presence.fit(["Bass", "Piano", "Reed"], clusters(500, 0.01, 5), clusters(500, 0.01, 6))
    assert open_mixtures.average_precision(clean(clusters(500, 0.01, 7)[0]), clusters(500, 0.01, 7)[1]).min() > 0.999


def test_presence_is_calibrated_on_validation_mixtures():
    """Families are clearer in training than in validation, so that uncalibrated probabilities would be too extreme."""
    presence = Presence.fit(["Bass", "Piano", "Reed"], clusters(2000, 0.5, 0), clusters(2000, 4.0, 1))
    vectors, truth = clusters(4000, 4.0, 2)
    assert open_mixtures.presence_summary(presence(vectors), truth)["calibration_error"] < 0.03


def test_presence_of_noise_is_the_prevalence():
    """Every probability is near the share of the family, and the precision near chance."""
    rng = np.random.default_rng(0)
    truth = [rng.random((n, 2)) < [0.1, 0.6] for n in (2000, 2000, 2000)]
    noise = [rng.standard_normal((2000, 6)) for _ in truth]
    probability = Presence.fit(["Bass", "Piano"], (noise[0], truth[0]), (noise[1], truth[1]))(noise[2])
    np.testing.assert_allclose(probability.mean(axis=0), [0.1, 0.6], atol=0.03)
    np.testing.assert_allclose(open_mixtures.average_precision(probability, truth[2]), [0.1, 0.6], atol=0.05)
    assert probability.std(axis=0).max() < 0.05


def test_presence_belongs_to_an_encoder(tmp_path):
    presence = Presence(["Bass"], np.array([[1.0, -2.0]]), np.array([0.5]))
    presence.save(tmp_path / "presence.json", "abc")
    again, vectors = Presence.load(tmp_path / "presence.json", "abc"), np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_array_equal(again(vectors), presence(vectors))
    assert Presence.load(tmp_path / "presence.json", "other") is None and Presence.load(tmp_path / "none.json", "abc") is None
    (tmp_path / "presence.json").write_text('{"encoder": "abc"')
    with pytest.raises(ValueError, match=r"presence\.json is damaged .*: run notebooks/09_open_mixtures"):
        Presence.load(tmp_path / "presence.json", "abc")


def test_presence_refuses_constant_families():
    vectors, truth = clusters(50, 0.1, 1)
    truth[:, 1] = True
    with pytest.raises(ValueError, match=r"^Piano is in all of these mixtures or in none, .* more families"):
        Presence.fit(["Bass", "Piano", "Reed"], (vectors, truth), (vectors, truth))


def test_calibrate_recovers_probabilities():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, [1, 50], (20000, 2))
    slope, shift = np.array([2.0, -0.04]), np.array([-1.0, 0.5])
    truth = rng.random(scores.shape) < 1 / (1 + np.exp(-(slope * scores + shift)))
    got = open_mixtures.calibrate(scores, truth)
    np.testing.assert_allclose(got[0], slope, rtol=0.1)
    np.testing.assert_allclose(got[1], shift, atol=0.1)


def test_calibration_error_by_hand():
    probability, truth = np.array([[0.05, 0.15], [0.95, 1.0]]), np.array([[False, True], [True, False]])
    table = open_mixtures.calibration(probability, truth)
    assert table.number.tolist() == [1, 1, 2] and table.true.tolist() == [0, 1, 0.5]
    np.testing.assert_allclose(table["predicted"], [0.05, 0.15, 0.975])
    assert open_mixtures.calibration_error(table) == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)


def test_average_precision_by_hand():
    """True at places 1 and 3 of 4: (1/1 + 2/3) / 2."""
    scores, truth = np.array([[0.9], [0.8], [0.7], [0.1]]), np.array([[True], [False], [True], [False]])
    np.testing.assert_allclose(open_mixtures.average_precision(scores, truth), [(1 + 2 / 3) / 2])
