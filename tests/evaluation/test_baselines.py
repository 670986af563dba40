"""MFCC against their definition, standardised features, missing values, retrieval by timbre."""

import dataclasses

import numpy as np
import pytest
from conftest import build_bank, sound, tone

from cirlib.evaluation import baselines
from cirlib.evaluation.baselines import FEATURES, Features, make_retriever, mfcc
from cirlib.evaluation.protocol import embed_test, score
from cirlib.training.config import TrainConfig
from cirlib.training.loop import fit


@pytest.fixture
def config(tone_bank, tmp_path, monkeypatch) -> TrainConfig:
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    return TrainConfig(preset="test", bank=(str(tone_bank.paths[0]),), seconds=0.5, steps=0, batch_size=12, valid_size=6)


def naive_mfcc(audio):
    """Return MFCC by definition: Hann frames of 1024 every 256, centred with reflection; 128 HTK mel bands; log; orthonormal DCT-II."""
    padded = np.pad(audio.astype(np.float64), 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::256] * np.hanning(1025)[:-1]
    power = np.abs(np.fft.rfft(frames)) ** 2  # (frames, 513)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130) / 2595) - 1)
    hz = np.linspace(0, 8000, 513)
    up = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.log(power @ np.clip(np.minimum(up, down), 0, None) + 1e-6)  # (frames, 128)
    k, n = np.arange(40)[:, None], np.arange(128)[None]
    dct = np.sqrt(2 / 128) * np.cos(np.pi * k * (2 * n + 1) / 256) * np.where(k == 0, np.sqrt(0.5), 1)
    coefficients = bands @ dct.T  # (frames, 40)
    return np.concatenate([coefficients.mean(axis=0), coefficients.std(axis=0)])


def test_mfcc_equal_their_definition():
    audio = (tone(60, 0.4) + 0.1 * np.random.default_rng(0).standard_normal(6400)).astype(np.float32)
    np.testing.assert_allclose(mfcc(audio), naive_mfcc(audio), atol=2e-3)
    with pytest.raises(ValueError, match="MFCC need sounds at 16000 Hz, got 44100 Hz"):
        mfcc(audio, 44100)
    assert np.isfinite(mfcc(tone(60, 0.01).astype(np.float32))).all()


def fake(monkeypatch, table):
    """Add a feature that depends on the number of samples only."""
    monkeypatch.setitem(FEATURES, "fake", lambda audio, rate: np.array(table[len(audio)], float))
    return "fake"


@pytest.fixture
def bank(tmp_path):
    """Return a bank of sounds of different lengths: three for training, two for tests."""
    lengths = {"a": 1000, "b": 1100, "c": 1200, "d": 1300, "e": 1400}
    splits = {"d": "test", "e": "test"}
    return build_bank(tmp_path / "bank", [sound(n, tone(60, k / 16000), split=splits.get(n, "train")) for n, k in lengths.items()])


def test_missing_features_become_the_training_mean(bank, monkeypatch):
    table = {1000: [1, 5, 7], 1100: [3, np.nan, 7], 1200: [5, 9, 7], 1300: [9, np.nan, 8], 1400: [3, 9, 7]}
    features = Features(fake(monkeypatch, table), bank, 1.0)
    vectors = features.notes(bank, range(5))
    deviation = np.std([1, 3, 5])
    np.testing.assert_allclose(vectors[:, 0], (np.array([1, 3, 5, 9, 3]) - 3) / deviation)
    np.testing.assert_allclose(vectors[:, 1], [-1, 0, 1, 0, 1])
    np.testing.assert_array_equal(vectors[:, 2], 0, "constant in training")
    assert features.failed == 0


def test_sound_without_features_gets_a_fixed_random_vector(bank, monkeypatch):
    nan = [np.nan] * 3
    features = Features(fake(monkeypatch, {1000: [1, 5, 7], 1100: [3, 4, 6], 1200: nan, 1300: nan, 1400: nan}), bank, 1.0)
    vectors = features.notes(bank, range(5))
    assert np.isfinite(vectors).all() and features.failed == 3
    assert len(np.unique(vectors[2:], axis=0)) == 3
    np.testing.assert_array_equal(vectors[3], features.notes(bank, [3])[0])


def test_no_training_sound_with_features_is_refused(bank, monkeypatch):
    with pytest.raises(ValueError, match="no training instrument of this bank has fake features"):
        Features(fake(monkeypatch, {key: [np.nan] for key in range(1000, 1500, 100)}), bank, 1.0)


def test_notes_are_cut_and_normalised_but_not_padded(bank, monkeypatch):
    got = []
    monkeypatch.setitem(FEATURES, "fake", lambda audio, rate: got.append(audio) or np.array([float(len(audio)), rate]))
    Features("fake", bank, 1150 / 16000)
    assert [len(a) for a in got] == [1000, 1100, 1150]
    assert all(np.abs(a).max() == pytest.approx(1) for a in got)


TIMBRES = {"Pipe": [1], "Reed": [1, 0, 0.5, 0, 0.3, 0, 0.2], "Brass": [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], "Organ": [0.1, 0.2, 0.1, 1, 0.2]}


def note(name, pitch):
    """Return a decaying note with these partials."""
    partials = sum(level * tone(pitch + 12 * np.log2(k), 0.5) for k, level in enumerate(TIMBRES[name], 1) if level)
    return partials * np.exp(-np.arange(8000) / 3000) / 4


@pytest.mark.parametrize("name", ["mfcc", "timbre-toolbox"])
def test_features_retrieve_the_timbre(config, tmp_path, name):
    """Four timbres at close pitches: the nearest item has the timbre of the note."""
    sounds = [
        sound(f"{timbre}{split}", note(timbre, pitch), family=timbre, split=split, pitch=float(pitch))
        for split in ("train", "test")
        for timbre in TIMBRES
        for pitch in ((54, 56, 58) if split == "train" else (55, 57, 59))
    ]
    bank = build_bank(tmp_path / "bank", sounds)
    row = dataclasses.replace(config, task=name, loss="none", experiment=name, tests=("single",), seconds=1.0)
    assert row.metric == "l2"
    embedded = embed_test(make_retriever(row, bank, n_jobs=1), bank, row)
    ranks, result = score(embedded, bank, row)
    assert len(ranks["single"]) == 8 and (ranks["single"].family == ranks["single"].predicted).mean() >= 0.75
    assert result["single"]["distances"]["l2"]["top1"] == result["single"]["top1"]


def test_mixtures_have_features(config, tone_bank):
    row = dataclasses.replace(config, task="mfcc", loss="none", experiment="mfcc", queries=5)
    retriever = make_retriever(row, tone_bank, n_jobs=1)
    embedded = embed_test(retriever, tone_bank, row)
    assert embedded.mixtures.shape == (5, 80) and np.isfinite(embedded.mixtures).all()


def test_demucs_uses_the_single_encoder(config, tone_bank, monkeypatch):
    single = dataclasses.replace(config, task="single", loss="triplet", experiment="single-infonce")
    fit(single, show=False)
    asked = []

    def stems(waveforms, families):
        asked.append((waveforms.shape, families))
        return np.stack([waveforms] * 3, axis=1)

    monkeypatch.setattr(baselines, "separate", stems)
    monkeypatch.setattr(baselines, "best_device", lambda: asked.append("device") or "cpu")
    row = dataclasses.replace(single, task="demucs", loss="none", experiment="demucs")
    assert row.metric == "l2", "the distance of the single encoder"
    vectors = make_retriever(row, tone_bank).mixtures(np.stack([tone(60, 0.5)] * 2).astype(np.float32))
    assert vectors.shape == (2, 3, 256) and asked == ["device", ((2, 8000), row.families)]
