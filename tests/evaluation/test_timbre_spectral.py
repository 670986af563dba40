"""Time-varying timbre descriptors against formulas, values by hand, and librosa."""

import librosa
import numpy as np
import pytest
from timbre_notes import AMPLITUDES, LOUDNESS, ODD, PARTIAL_ONLY, check, noise, times, tone

from cirlib.evaluation.timbre import RATE, describe
from cirlib.evaluation.timbre_spectral import variation, yin

pytestmark = pytest.mark.filterwarnings("error")


def by_hand(f, a):
    """Shape of one spectrum, formula by formula; f and a (K,)."""
    f, a = np.asarray(f, float), np.asarray(a, float)
    p = a / a.sum()
    c = sum(p * f)
    s = sum(p * (f - c) ** 2) ** 0.5
    k = next(k for k in range(len(a)) if sum(a[: k + 1] ** 2) >= 0.95 * sum(a**2))
    return {
        "centroid": c,
        "spread": s,
        "skewness": sum(p * (f - c) ** 3) / s**3,
        "kurtosis": sum(p * (f - c) ** 4) / s**4,
        "slope": np.polyfit(f, p, 1)[0],
        "decrease": sum((a[k] - a[0]) / k for k in range(1, len(a))) / sum(a[1:]),
        "roll-off": f[k],
    }


def statistics(values):
    """Median and interquartile range."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return middle, high - low


# Harmonic representation


@pytest.mark.parametrize("f0", [41.2, 110, 440, 1234.5, 4186])
def test_partials_of_a_sine(f0):
    """One partial: it is the fundamental, the centroid and all the energy."""
    values = describe(0.5 * tone(f0), RATE)
    check(values, {f"{n} median": f0 for n in ("f0", "harmonic centroid", "harmonic roll-off")}, rel=1e-4)
    check(values, {"harmonic spread median": 0, "f0 iqr": 0, "tristimulus 2 median": 0, "tristimulus 3 median": 0}, abs=0.01)
    check(values, {"tristimulus 1 median": 1, "inharmonicity median": 0, "noisiness median": 0, "harmonic variation median": 0}, abs=2e-3)
    check(values, {"harmonic energy median": -9.031, "harmonic frame energy median": -9.031}, abs=0.02)  # 0.5^2 / 2
    check(values, {"odd-even ratio median": 40}, abs=1e-6)  # the limit
    check(values, {"harmonic skewness median": np.nan, "harmonic kurtosis iqr": np.nan}, nan_ok=True)  # no spread


def test_partials_of_known_amplitudes():
    """Each descriptor of the partials, by hand; 12 partials have amplitude 0."""
    a, h = np.pad(AMPLITUDES, (0, 12)), np.arange(1, 21)
    values = describe(0.3 * tone(220, AMPLITUDES), RATE)
    check(values, {f"harmonic {n} median": v for n, v in by_hand(220 * h, a).items()}, rel=2e-3)
    expected = {"f0 median": 220, "tristimulus 1 median": 1 / 3, "tristimulus 2 median": 1.4 / 3, "tristimulus 3 median": 0.6 / 3}
    expected["odd-even ratio median"] = 10 * np.log10((1 + 0.04 + 0.09 + 0.0225) / (0.49 + 0.25 + 0.0025 + 0.01))
    means = [0.85, 1.9 / 3, 1.4 / 3, 1 / 3, 0.85 / 3, 0.5 / 3, 0.1, 0.25 / 3, 0.1 / 3]
    expected["harmonic deviation median"] = (sum(abs(AMPLITUDES - means[:8])) + means[8]) / 3
    expected["harmonic energy median"] = 10 * np.log10(0.09 * sum(AMPLITUDES**2) / 2)
    check(values, expected, rel=2e-3)
    assert values["noisiness median"] < 1e-3
    assert values["harmonic slope median"] < 0 > values["harmonic decrease median"]


def test_no_partials_above_half_the_rate():
    """A note of 4 kHz has 5 of them: the others count nowhere."""
    a = np.array([1, 0.5, 0.8, 0.2, 0.4])
    values = describe(tone(4000, a), RATE)
    check(values, {f"harmonic {n} median": v for n, v in by_hand(4000 * np.arange(1, 6), a).items()}, rel=2e-3)
    near = [0.75, 2.3 / 3, 0.5, 1.4 / 3, 0.3]
    check(values, {"harmonic deviation median": sum(abs(a - near)) / sum(a), "tristimulus 3 median": 0.4 / 2.9}, rel=2e-3)


def test_twenty_partials_and_no_more():
    """Of 30 equal partials, 10 are noise."""
    values = describe(tone(200, np.ones(30)), RATE)
    check(values, {"tristimulus 3 median": 16 / 20, "noisiness median": 1 / 3, "odd-even ratio median": 0}, rel=0.01, abs=0.01)
    check(values, {"harmonic energy median": 10, "noise energy median": 10 * np.log10(5)}, abs=0.05)
    check(values, {"harmonic frame energy median": 10 * np.log10(15)}, abs=0.05)


@pytest.mark.parametrize("stretch", [0, 1e-4, 4e-4])
def test_stretched_partials_are_inharmonic(stretch):
    """f0 of the nearest harmonic series, and the distances of the partials to it, both weighted by power."""
    a, h = np.array([1, 0.8, 0.6, 0.6, 0.5, 0.4, 0.4, 0.3]), np.arange(1, 9)
    f = 200 * h * np.sqrt(1 + stretch * h**2)
    f0 = sum(a**2 * h * f) / sum(a**2 * h**2)
    values = describe(tone(200, a, stretch=stretch), RATE)
    check(values, {"f0 median": f0}, rel=1e-5)
    check(values, {"inharmonicity median": 2 / f0 * sum(a**2 * abs(f - h * f0)) / sum(a**2)}, rel=0.01, abs=1e-4)


def test_missing_fundamental_is_the_pitch():
    values = describe(tone(196, [0, 1, 1, 1, 1]), RATE)
    check(values, {"f0 median": 196, "tristimulus 2 median": 0.75}, rel=1e-3)
    check(values, {"tristimulus 1 median": 0}, abs=1e-6)


def test_f0_follows_a_vibrato():
    """The middle half of a sine lies within sin(pi / 4) of its extent."""
    t = times(4)
    values = describe(np.sin(2 * np.pi * 440 * t - 10 / 1.7 * np.cos(2 * np.pi * 1.7 * t)), RATE)  # 10 Hz up and down
    check(values, {"f0 median": 440}, rel=1e-3)
    check(values, {"f0 iqr": 2 * 10 * np.sin(np.pi / 4)}, rel=0.05)
    check(values, {"modulation amplitude": 0}, abs=0.01)


@pytest.mark.parametrize("snr", [20, 10, 3])
def test_noisiness_is_the_share_of_noise(snr):
    sound = tone(300, [1, 1, 1, 1], 2) + noise(2, np.sqrt(2 * 10 ** (-snr / 10)))
    values = describe(sound, RATE)
    check(values, {"noisiness median": 1 / (1 + 10 ** (snr / 10)), "f0 median": 300}, rel=0.1)
    check(values, {"harmonic energy median": 3.01, "noise energy median": 3.01 - snr}, abs=0.4)


def test_offset_is_no_noise():
    values = describe(tone(220, AMPLITUDES) + 0.5, RATE)
    check(values, {"noisiness median": 0, "harmonic frame energy median": 10 * np.log10(sum(AMPLITUDES**2) / 2)}, abs=0.01)


def test_partials_need_a_pitch():
    """A tone, then as long a noise."""
    values = describe(np.concatenate([tone(300, [1, 1]), noise(1, 1)]), RATE)
    check(values, {"f0 median": 300, "tristimulus 1 median": 0.5, "noisiness iqr": 1}, rel=0.01)
    check(values, {"f0 iqr": 0}, abs=0.1)


@pytest.mark.parametrize("f0", [32.7, 55, 220, 880, 3520])
def test_yin_agrees_with_librosa(f0):
    sound = (tone(f0, 1 / np.arange(1, 6), 0.5) + noise(0.5, 0.01)).astype(np.float32)
    got, aperiodicity = yin(np.lib.stride_tricks.sliding_window_view(sound, 4410)[::1102])
    expected = librosa.yin(sound, fmin=25, fmax=5000, sr=RATE, frame_length=4410, hop_length=1102, center=False)
    np.testing.assert_allclose(got, expected, rtol=0.01)
    np.testing.assert_allclose(got, f0, rtol=2e-3)
    assert aperiodicity.max() < 0.15


def test_yin_interpolates_between_samples():
    """Partials that are strong and high: a period and a half sample more would be noise."""
    for f0 in np.linspace(2600, 3800, 13):
        frame = tone(f0, [1, 0.5, 0.8, 0.2, 0.4], 0.1).astype(np.float32)
        assert yin(frame[None])[0][0] == pytest.approx(f0, rel=0.02)


@pytest.mark.parametrize("place", [0, 50, 2000, 3000, 4409])
def test_click_has_no_period(place):
    frame = np.eye(1, 4410, place, dtype=np.float32)
    assert yin(frame - frame.mean())[1][0] > 0.5


def test_short_sound_is_centred_in_the_window():
    """The power of the sample over that of the window, which has a mean of 0.42 and a mean square of 0.3046."""
    expected = 10 * np.log10((1 - 1 / (0.42 * 4410)) ** 2 / (0.3046 * 4410))
    assert describe(np.ones(1), RATE)["harmonic frame energy median"] == pytest.approx(expected, abs=0.01)


# STFT


def test_variation_is_between_consecutive_frames():
    """Parallel, orthogonal, at 45 degrees; then two frames are missing."""
    a = np.array([[1, 0], [3, 0], [0, 2], [1, 1], [1, 1]])
    np.testing.assert_allclose(variation(a, np.array([2, 3, 4, 5, 8])), [0, 1, 1 - np.sqrt(0.5), np.nan], atol=1e-12)
    values = describe(ODD["two notes"], RATE)
    assert values["stft variation median"] + values["harmonic variation median"] < 0.01


def test_stft_of_a_sine_at_a_bin():
    """A Hamming window gives three bins: 0.54 and 0.23 at its sides."""
    width = RATE / 1024
    values = describe(0.5 * tone(256 * width), RATE)
    floor = np.log(1e-5 * 0.54)
    mean = 1 + 510 * 1e-5 * 0.54
    flatness = 513 / mean * np.exp((np.log(0.54) + 2 * np.log(0.23) + 510 * floor) / 513)
    check(values, {"stft centroid median": RATE / 4, "stft crest median": 0.54 * 513, "stft flatness median": flatness}, rel=1e-3)
    check(values, {"stft roll-off median": 257 * width, "rms envelope median": -9.031, "stft frame energy median": -9.031}, rel=1e-4)
    check(values, {"stft variation median": 0, "rms envelope iqr": 0, "stft frame energy iqr": 0}, abs=1e-3)


def test_stft_against_librosa_and_formulas():
    """A tone with noise that decays, frame by frame."""
    sound = (tone(311, 1 / np.arange(1, 30), 0.5) + noise(0.5)) * np.exp(-3 * times(0.5))
    sound = sound[: 1024 + 80 * 256]  # 81 frames
    values = describe(sound, RATE)
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256]
    n = np.arange(1024)
    a, f = np.abs(np.fft.rfft(frames * (0.54 - 0.46 * np.cos(2 * np.pi * n / 1024)))), np.fft.rfftfreq(1024, 1 / RATE)
    frame = [by_hand(f, row) for row in a]
    series = {name: [x[name] for x in frame] for name in frame[0]}
    series["variation"] = [1 - x @ y / np.sqrt(x @ x * (y @ y)) for x, y in zip(a[1:], a[:-1], strict=True)]
    series["crest"] = a.max(axis=1) / a.mean(axis=1)
    for name, got in series.items():
        check(values, dict(zip((f"stft {name} median", f"stft {name} iqr"), statistics(got), strict=True)), rel=2e-3)
    librosas = {
        "centroid": librosa.feature.spectral_centroid(S=a.T, freq=f),
        "spread": librosa.feature.spectral_bandwidth(S=a.T, freq=f),
        "roll-off": librosa.feature.spectral_rolloff(S=a.T**2, freq=f, roll_percent=0.95),
        "flatness": librosa.feature.spectral_flatness(S=a.T, power=1),
    }
    for name, got in librosas.items():
        check(values, dict(zip((f"stft {name} median", f"stft {name} iqr"), statistics(got[0]), strict=True)), rel=2e-3)
    rms = statistics(20 * np.log10(librosa.feature.rms(y=sound, frame_length=1024, hop_length=256, center=False)[0]))
    check(values, {"rms envelope median": rms[0], "rms envelope iqr": rms[1]}, rel=1e-3)


def test_white_noise():
    """Flat spectrum: uniform moments, Rayleigh amplitudes; and no pitch."""
    values = describe(noise(2), RATE)
    half = RATE / 2
    expected = {"stft centroid median": half / 2, "stft spread median": half / np.sqrt(12), "stft kurtosis median": 1.8}
    expected |= {"stft roll-off median": 0.95 * half, "stft flatness median": 2 / np.sqrt(np.pi) * np.exp(-np.euler_gamma / 2)}
    check(values, expected, rel=0.01)
    check(values, {"stft skewness median": 0, "stft slope median": 0}, abs=0.02)
    check(values, {"noisiness median": 1, "noisiness iqr": 0}, abs=0)
    check(values, {name: -20 for name in LOUDNESS if name != "harmonic energy median"}, abs=0.1)
    check(values, dict.fromkeys(PARTIAL_ONLY, np.nan), nan_ok=True)
