"""What happens to queries: each keeps length and peak, is the same every time, and does what its name says."""

import numpy as np
import pytest

from cirlib.data.mixtures import PEAK, MixtureDataset
from cirlib.evaluation import robustness as degrade
from cirlib.evaluation.robustness import DEGRADATIONS, queries

RATE = 16000


def tone(hertz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def pitch(sound: np.ndarray) -> float:
    """Loudest frequency, Hz, of a long transform."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 20))
    return spectrum.argmax() * RATE / (1 << 20)


def changed(name: str, stems: np.ndarray, seed: int = 0) -> np.ndarray:
    return DEGRADATIONS[name](stems, RATE, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def mixtures(tone_bank):
    return MixtureDataset(tone_bank, split="test", size=6, seed=3, seconds=1.0)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_query_keeps_length_and_peak_and_is_the_same_every_time(mixtures, name):
    got = queries(name, mixtures, [4, 1])
    assert got.shape == (2, mixtures.samples) and got.dtype == np.float32
    np.testing.assert_allclose(np.abs(got).max(axis=1), PEAK, atol=1e-3)
    np.testing.assert_array_equal(queries(name, mixtures, [1])[0], got[1])
    clean = mixtures.batch([4, 1], "none")[0]
    assert np.array_equal(got, clean) == (name == "clean")


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name != "clean"])
def test_silence_stays_silence(mixtures, name, monkeypatch):
    monkeypatch.setattr(mixtures, "_play", lambda track, name, notes: track.fill(0))
    assert not queries(name, mixtures, [0]).any()


def test_mp3_neither_moves_nor_misses_the_sound():
    rng = np.random.default_rng(0)
    stems = np.stack([tone(220) + tone(660, level=0.2), rng.normal(0, 0.05, RATE).astype(np.float32)])
    got = changed("mp3, 64 kbit/s", stems)
    assert len(got) == RATE
    moved = [np.corrcoef(got[200 + k : RATE - 200 + k], stems.sum(axis=0)[200:-200])[0, 1] for k in range(-50, 51)]
    assert np.argmax(moved) == 50 and 0.95 < max(moved) < 0.9999


def test_a_room_is_heard_after_the_sound():
    stems = np.zeros((1, RATE), np.float32)
    stems[0, :4000] = tone(440, 0.25)
    got = changed("room", stems)
    tail = [np.sqrt((got[a : a + 2000] ** 2).mean()) for a in (4200, 8000, 12000)]
    assert tail[0] > 1e-3 and tail[0] > tail[1] > tail[2]


def test_balance_moves_each_instrument_within_its_bounds():
    stems, moves = np.stack([tone(f) for f in (200, 500, 1100)]), []
    for seed in range(40):
        gains = np.linalg.lstsq(stems.T, changed("balance within 6 dB", stems, seed), rcond=None)[0]
        moves.append(20 * np.log10(gains))
    assert np.abs(moves).max() <= 6.001 and np.ptp(moves, axis=0).min() > 9
    assert np.ptp(moves, axis=1).min() > 0.5  # not all of them alike


def test_half_of_the_sound_is_left(mixtures):
    got = queries("half as long", mixtures, [2])[0]
    assert got[: mixtures.samples // 2].any() and not got[mixtures.samples // 2 :].any()


def test_half_without_the_silence_after_it_is_heard_again_and_again(mixtures):
    got, once = queries("half, repeated", mixtures, [2])[0], queries("half as long", mixtures, [2])[0]
    end = np.flatnonzero(np.abs(once) > 1e-3)[-1] + 1
    assert mixtures.samples / 4 < end <= mixtures.samples / 2
    np.testing.assert_array_equal(got, np.resize(once[:end], mixtures.samples))


def test_detuned_by_cents_up_or_down():
    cents = [1200 * np.log2(pitch(changed("30 cents off", tone(440, 2.0)[None], seed)) / 440) for seed in range(8)]
    np.testing.assert_allclose(np.abs(cents), degrade.CENTS, atol=0.5)
    assert min(cents) < 0 < max(cents)


def test_a_limiter_makes_the_soft_louder():
    stems = np.concatenate([tone(300, 0.5, 0.9), tone(300, 0.5, 0.1)])[None]
    got = changed("limiter, 12 dB", stems)
    loud, soft = np.abs(got[4000:7000]).max(), np.abs(got[12000:15000]).max()
    assert loud <= 1.01 and 2.5 < soft / loud / (0.1 / 0.9) < 8


def test_unknown_degradation_is_refused(mixtures):
    with pytest.raises(ValueError, match=r"unknown degradation 'mp4'.*limiter"):
        queries("mp4", mixtures, [0])
