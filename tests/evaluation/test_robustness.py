"""Degraded queries keep the length and peak of a mixture and depend on the dataset's seed and index only."""

import numpy as np
import pytest

from cirlib.data.mixtures import PEAK, MixtureDataset
from cirlib.evaluation.robustness import DEGRADATIONS, queries


@pytest.fixture(scope="module")
def mixtures(tone_bank):
    return MixtureDataset(tone_bank, split="test", size=6, seed=3, seconds=1.0)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degraded_query_keeps_length_and_peak(mixtures, name):
    got = queries(name, mixtures, [4, 1])
    assert got.shape == (2, mixtures.samples) and got.dtype == np.float32
    np.testing.assert_allclose(np.abs(got).max(axis=1), PEAK, atol=1e-3)
    np.testing.assert_array_equal(queries(name, mixtures, [1])[0], got[1])
    assert np.array_equal(got, mixtures.batch([4, 1], "none")[0]) == (name == "clean")


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name != "clean"])
def test_degraded_silence_is_silence(mixtures, name, monkeypatch):
    monkeypatch.setattr(mixtures, "batch", lambda indices, kind: (None, np.zeros((len(indices), 3, mixtures.samples), np.float32)))
    assert not queries(name, mixtures, [0]).any()


def test_half_as_long_is_silent_in_the_second_half(mixtures):
    got = queries("half as long", mixtures, [2])[0]
    assert got[: mixtures.samples // 2].any() and not got[mixtures.samples // 2 :].any()


def test_unknown_degradation_is_refused(mixtures):
    with pytest.raises(ValueError, match=r"unknown degradation 'mp4'.*limiter"):
        queries("mp4", mixtures, [0])
