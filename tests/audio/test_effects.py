"""Effects on the mixtures of training: each does what it says, keeps length and peak, and depends on seed and index alone."""

import numpy as np
import pytest

from cirlib.audio import effects
from cirlib.data.mixtures import PEAK, MixtureDataset

RATE = 16000


def tone(hertz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def heard(effect, sound: np.ndarray, seed: int = 0) -> np.ndarray:
    return effect(sound, RATE, np.random.default_rng(seed))


def spectrum(sound: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(sound))


@pytest.fixture(scope="module")
def options():
    return {"split": "train", "size": 40, "seed": 3, "seconds": 1.0}


@pytest.mark.parametrize("samples", [1, 31, 1000, 16001])
@pytest.mark.parametrize("effect", effects.EFFECTS)
def test_an_effect_keeps_length_and_type_and_silence(effect, samples):
    noise = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    for seed in range(5):
        got = heard(effect, noise, seed)
        assert got.shape == (samples,) and got.dtype == np.float32 and np.isfinite(got).all()
        assert not heard(effect, np.zeros(samples, np.float32), seed).any()


def test_tone_moves_frequencies_within_its_bounds_and_not_in_time():
    sound, moves = tone(100) + tone(1000) + tone(7000), []
    for seed in range(30):
        got = heard(effects.tone, sound, seed)
        moves.append(20 * np.log10((spectrum(got) / spectrum(sound))[[100, 1000, 7000]]))
    assert np.abs(moves).max() <= effects.TONE_DB and np.ptp(moves, axis=0).min() > effects.TONE_DB / 2
    assert np.ptp(moves, axis=1).max() > effects.TONE_DB / 2  # not all of them alike
    click = np.zeros(RATE, np.float32)
    click[5000] = 1
    assert np.abs(heard(effects.tone, click)).argmax() == 5000


def test_room_is_heard_after_the_sound_and_fades():
    sound = np.zeros(2 * RATE, np.float32)
    sound[:4000] = np.random.default_rng(0).normal(0, 0.1, 4000)
    for seed in range(5):
        tail = heard(effects.room, sound, seed) - sound
        level = [np.sqrt((tail[a : a + 1500] ** 2).mean()) for a in (4500, 6000, 8000)]
        assert level[0] > level[1] > level[2] > 0
        share = 10 * np.log10((tail**2).sum() / (sound**2).sum())
        assert effects.ROOM_DB[0] - 3 < share < effects.ROOM_DB[1] + 3


def test_level_makes_the_soft_louder_and_the_loud_no_louder_than_full_scale():
    sound = np.concatenate([tone(300, 0.5, 0.9), tone(300, 0.5, 0.2)])
    before, gains = 0.2 / 0.9, []
    for seed in range(20):
        got = np.abs(heard(effects.level, sound, seed))
        assert got.max() <= 1
        gains.append(got[12000:15000].max() / got[2000:7000].max() / before)
    assert min(gains) > 1.01 and max(gains) > 2


def test_both_kinds_of_level_are_drawn_and_a_limiter_keeps_the_wave():
    sound, kept = tone(300, 1.0, 0.5), []
    for seed in range(20):
        lines = spectrum(heard(effects.level, sound, seed)[4000:12000])
        kept.append(lines[3 * 150] / lines[150])  # the third harmonic, which saturation brings
    assert min(kept) < 0.01 and max(kept) > 0.05


def test_cut_leaves_a_part_of_it_at_the_start():
    sound, lengths, starts = np.arange(1, 10001, dtype=np.float32), [], []
    for seed in range(50):
        got = heard(effects.cut, sound, seed)
        length = np.count_nonzero(got)
        assert not got[length:].any() and np.array_equal(np.diff(got[:length]), np.ones(length - 1))
        lengths.append(length / 10000)
        starts.append(got[0])
    assert effects.SHORTEST <= min(lengths) < 0.35 and 0.9 < max(lengths) <= 1 and max(starts) > 2000


def test_each_effect_is_drawn_about_half_of_the_time(monkeypatch):
    drawn = []
    count = [lambda sound, rate, rng, k=k: drawn.append(k) or sound for k in range(4)]
    monkeypatch.setattr(effects, "EFFECTS", count)
    for seed in range(400):
        effects.through(np.ones(4, np.float32), RATE, np.random.default_rng(seed))
    assert (np.abs(np.bincount(drawn, minlength=4) / 400 - effects.CHANCE) < 0.08).all()


def test_the_peak_of_a_sound_stays():
    for seed in range(20):
        got = effects.through(0.5 * tone(440) + 0.1 * tone(900), RATE, np.random.default_rng(seed))
        assert got.dtype == np.float32 and 0.1 < np.abs(got).max() < 0.2
    assert not effects.through(np.zeros(100, np.float32), RATE, np.random.default_rng(0)).any()


def test_a_share_of_the_mixtures_comes_through_and_nothing_else_changes(tone_bank, options):
    plain, half = MixtureDataset(tone_bank, **options), MixtureDataset(tone_bank, **options, effects=0.5)
    changed = 0
    for i in range(40):
        a, b = plain[i], half[i]
        assert a.instruments == b.instruments
        np.testing.assert_array_equal(a.stems, b.stems)
        np.testing.assert_array_equal(a.references, b.references)
        assert np.abs(b.mixture).max() == pytest.approx(PEAK, abs=1e-4)
        changed += not np.array_equal(a.mixture, b.mixture)
    assert 8 <= changed <= 28  # half of them, less those that no effect was drawn for
    with_effects = MixtureDataset(tone_bank, **options, effects=1.0)
    assert sum(not np.array_equal(plain[i].mixture, with_effects[i].mixture) for i in range(40)) > changed


def test_a_share_that_is_none_is_refused(tone_bank, options):
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match=rf"^effects must be a share, 0 to 1, got {share}$"):
            MixtureDataset(tone_bank, **options, effects=share)


def test_mixtures_with_effects_depend_on_seed_and_index_alone(tone_bank, options):
    one, other = (MixtureDataset(tone_bank, **options, effects=1.0) for _ in range(2))
    got = one.batch([7, 2])[0]
    np.testing.assert_array_equal(other[2].mixture, got[1])
    np.testing.assert_array_equal(other[7].mixture, got[0])
