"""Degraded queries keep the length and peak of a mixture and depend on the dataset's seed and index only."""

import numpy as np
import pandas as pd
import pytest

from cirlib.common.paths import ROOT
from cirlib.data.mixtures import PEAK, MixtureDataset
from cirlib.evaluation.robustness import DEGRADATIONS, markdown, queries


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


def test_table_has_rows_side_by_side():
    """Absolute top-1; the best of each degradation is bold."""
    values = [("a", "limiter, 12 dB", 0.2), ("a", "clean", 0.5), ("b", "clean", 0.4), ("b", "limiter, 12 dB", 0.25), ("c", "clean", 0.1)]
    found = pd.DataFrame([{"row": row, "query": query, "top1": x, "top1_ci": [x - 0.1, x + 0.1]} for row, query, x in values])
    assert markdown(found).splitlines() == [
        "| query | a | b | c |",
        "| --- | ---: | ---: | ---: |",
        "| clean | **50.0 (40.0 to 60.0)** | 40.0 (30.0 to 50.0) | 10.0 (0.0 to 20.0) |",
        "| limiter, 12 dB | 20.0 (10.0 to 30.0) | **25.0 (15.0 to 35.0)** |  |",
    ]


def test_table_in_git_agrees_with_its_values():
    folder = ROOT / "figures" / "surge"
    assert (folder / "degraded.md").read_text().startswith(markdown(pd.read_json(folder / "degraded.json")))
