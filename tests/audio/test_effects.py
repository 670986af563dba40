"""Training effects and test degradations: each does what its name says, keeps length and silence, and is reproducible."""

import numpy as np
import pytest
from conftest import RATE

from cirlib.audio import effects
from cirlib.audio.effects import DEGRADATIONS


def tone(hertz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def apply(effect, sound: np.ndarray, seed: int = 0) -> np.ndarray:
    """Output of an effect for a sound, or of a degradation (by name) for stems."""
    return (DEGRADATIONS[effect] if isinstance(effect, str) else effect)(sound, RATE, np.random.default_rng(seed))


def spectrum(sound: np.ndarray, size: int | None = None) -> np.ndarray:
    return np.abs(np.fft.rfft(sound, size))


@pytest.mark.parametrize("samples", [1, 31, 1000, 16001])
@pytest.mark.parametrize("effect", effects.EFFECTS)
def test_effect_keeps_length_type_and_silence(effect, samples):
    noise = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    for seed in range(5):
        got = apply(effect, noise, seed)
        assert got.shape == (samples,) and got.dtype == np.float32 and np.isfinite(got).all()
        assert not apply(effect, np.zeros(samples, np.float32), seed).any()


def test_equalizer_gain_is_bounded_and_adds_no_delay():
    sound, gains = tone(100) + tone(1000) + tone(7000), []
    for seed in range(30):
        gains.append(20 * np.log10((spectrum(apply(effects.equalize, sound, seed)) / spectrum(sound))[[100, 1000, 7000]]))
    limit = effects.EQUALIZER_DB
    assert np.abs(gains).max() <= limit and np.ptp(gains, axis=0).min() > limit / 2 and np.ptp(gains, axis=1).max() > limit / 2
    click = np.zeros(RATE, np.float32)
    click[5000] = 1
    assert np.abs(apply(effects.equalize, click)).argmax() == 5000


def test_reverb_tail_decays_with_bounded_energy():
    sound = np.zeros(2 * RATE, np.float32)
    sound[:4000] = np.random.default_rng(0).normal(0, 0.1, 4000)
    for seed in range(5):
        tail = apply(effects.reverberate, sound, seed) - sound
        level = [np.sqrt((tail[a : a + 1500] ** 2).mean()) for a in (4500, 6000, 8000)]
        assert level[0] > level[1] > level[2] > 0
        share = 10 * np.log10((tail**2).sum() / (sound**2).sum())
        assert effects.REVERB_DB[0] - 3 < share < effects.REVERB_DB[1] + 3


def test_overdrive_compresses_below_full_scale():
    sound, gains = np.concatenate([tone(300, 0.5, 0.9), tone(300, 0.5, 0.2)]), []
    for seed in range(20):
        got = np.abs(apply(effects.overdrive, sound, seed))
        assert got.max() <= 1
        gains.append(got[12000:15000].max() / got[2000:7000].max() / (0.2 / 0.9))
    assert min(gains) > 1.01 and max(gains) > 2


def test_overdrive_draws_saturation_and_limiting():
    lines = [spectrum(apply(effects.overdrive, tone(300, 1.0, 0.5), seed)[4000:12000]) for seed in range(20)]
    harmonic = [line[3 * 150] / line[150] for line in lines]  # saturation adds a third harmonic, limiting does not
    assert min(harmonic) < 0.01 and max(harmonic) > 0.05


def test_excerpt_is_contiguous_and_moved_to_the_start():
    sound, lengths, starts = np.arange(1, 10001, dtype=np.float32), [], []
    for seed in range(50):
        got = apply(effects.excerpt, sound, seed)
        length = np.count_nonzero(got)
        assert not got[length:].any() and np.array_equal(np.diff(got[:length]), np.ones(length - 1))
        lengths.append(length / 10000)
        starts.append(got[0])
    assert effects.SHORTEST_EXCERPT <= min(lengths) < 0.35 and 0.9 < max(lengths) <= 1 and max(starts) > 2000


def test_each_effect_is_applied_half_of_the_time(monkeypatch):
    drawn = []
    monkeypatch.setattr(effects, "EFFECTS", [lambda sound, rate, rng, k=k: drawn.append(k) or sound for k in range(4)])
    for seed in range(400):
        effects.random_effects(np.ones(4, np.float32), RATE, np.random.default_rng(seed))
    assert (np.abs(np.bincount(drawn, minlength=4) / 400 - effects.CHANCE) < 0.08).all()


def test_random_effects_keep_peak_and_silence():
    sound = 0.5 * tone(440) + 0.1 * tone(900)
    for seed in range(20):
        got = effects.random_effects(sound, RATE, np.random.default_rng(seed))
        assert got.dtype == np.float32 and np.abs(got).max() == pytest.approx(np.abs(sound).max(), rel=1e-5)
    assert not effects.random_effects(np.zeros(100, np.float32), RATE, np.random.default_rng(0)).any()


def test_mp3_is_aligned_and_lossy():
    rng = np.random.default_rng(0)
    stems = np.stack([tone(220) + tone(660, level=0.2), rng.normal(0, 0.05, RATE).astype(np.float32)])
    got = apply("mp3, 64 kbit/s", stems)
    assert len(got) == RATE
    correlation = [np.corrcoef(got[200 + k : RATE - 200 + k], stems.sum(axis=0)[200:-200])[0, 1] for k in range(-50, 51)]
    assert np.argmax(correlation) == 50 and 0.95 < max(correlation) < 0.9999


def test_room_has_a_decaying_tail():
    stems = np.zeros((1, RATE), np.float32)
    stems[0, :4000] = tone(440, 0.25)
    tail = [np.sqrt((apply("room", stems)[a : a + 2000] ** 2).mean()) for a in (4200, 8000, 12000)]
    assert tail[0] > 1e-3 and tail[0] > tail[1] > tail[2]


def test_balance_gain_is_bounded_and_differs_between_stems():
    stems, gains = np.stack([tone(f) for f in (200, 500, 1100)]), []
    for seed in range(40):
        gains.append(20 * np.log10(np.linalg.lstsq(stems.T, apply("balance within 6 dB", stems, seed), rcond=None)[0]))
    assert np.abs(gains).max() <= 6.001 and np.ptp(gains, axis=0).min() > 9 and np.ptp(gains, axis=1).min() > 0.5


def test_half_is_the_first_half_and_can_be_repeated():
    stems = np.stack([tone(200), tone(300)])
    stems[:, 6000:] = 0  # silence is not repeated
    half = apply("half as long", stems)
    np.testing.assert_array_equal(half, stems.sum(axis=0)[: RATE // 2])
    end = np.flatnonzero(np.abs(half) > 1e-3 * np.abs(half).max())[-1] + 1
    np.testing.assert_array_equal(apply("half, repeated", stems), np.resize(half[:end], RATE))


def test_detune_shifts_pitch_up_or_down():
    size, shifts = 1 << 20, []
    for seed in range(8):
        got = apply("30 cents off", tone(440, 2.0)[None], seed)
        shifts.append(1200 * np.log2(spectrum(got * np.hanning(len(got)), size).argmax() * RATE / size / 440))
    np.testing.assert_allclose(np.abs(shifts), effects.DETUNE_CENTS, atol=0.5)
    assert min(shifts) < 0 < max(shifts)


def test_limiter_reduces_dynamics():
    got = np.abs(apply("limiter, 12 dB", np.concatenate([tone(300, 0.5, 0.9), tone(300, 0.5, 0.1)])[None]))
    loud, soft = got[4000:7000].max(), got[12000:15000].max()
    assert loud <= 1.01 and 2.5 < soft / loud / (0.1 / 0.9) < 8
