"""Timbre descriptors of notes with known answers (tones, noise, envelopes), against librosa, invariances, odd sounds."""

import librosa
import numpy as np
import pytest

from cirlib.evaluation.timbre import DISTANCE_NAMES, NAMES, RATE, describe, vector

pytestmark = pytest.mark.filterwarnings("error")
AMPLITUDES = np.array([1, 0.7, 0.2, 0.5, 0.3, 0.05, 0.15, 0.1])
LOUDNESS = [f"{n} median" for n in ("rms envelope", "stft frame energy", "harmonic energy", "noise energy", "harmonic frame energy")]
PARTIAL_ONLY = [n for n in NAMES if n.startswith(("harmonic", "f0", "inharm", "trist", "odd")) and "frame" not in n]


def times(seconds=1.0, rate=RATE):
    return np.arange(round(seconds * rate)) / rate


def tone(f0, amplitudes=(1.0,), seconds=1.0, rate=RATE, stretch=0.0):
    """Return partials of these amplitudes at h f0 sqrt(1 + stretch h^2), with different phases."""
    t, h = times(seconds, rate), np.arange(1, len(amplitudes) + 1)
    return sum(a * np.sin(2 * np.pi * n * f0 * np.sqrt(1 + stretch * n**2) * t + n) for n, a in zip(h, amplitudes, strict=True))


def noise(seconds=1.0, level=0.1):
    return level * np.random.default_rng(0).normal(size=round(seconds * RATE))


def envelope(places, heights):
    return np.interp(times(places[-1]), places, heights) * tone(400, seconds=places[-1])


def tremolo(frequency, depth, alpha=0):
    return (1 + depth * np.sin(2 * np.pi * frequency * times(4))) * np.exp(-alpha * times(4)) * tone(700, seconds=4)


def shape(f, a):
    """Return the shape of one spectrum, formula by formula; f and a (K,)."""
    p = a / sum(a)
    c = sum(p * f)
    s = sum(p * (f - c) ** 2) ** 0.5
    values = {"centroid": c, "spread": s, "skewness": sum(p * (f - c) ** 3) / s**3, "kurtosis": sum(p * (f - c) ** 4) / s**4}
    values |= {"slope": np.polyfit(f, p, 1)[0], "decrease": sum((a[k] - a[0]) / k for k in range(1, len(a))) / sum(a[1:])}
    return values | {"roll-off": f[next(k for k in range(len(a)) if sum(a[: k + 1] ** 2) >= 0.95 * sum(a**2))]}


def medians(prefix, values):
    return {f"{prefix}{name} median": value for name, value in values.items()}


def near(rel=0.0, abs=0.0, **values):
    """Return expected descriptors by name, with _ for a space."""
    return {name.replace("_", " "): pytest.approx(value, rel=rel, abs=abs, nan_ok=True) for name, value in values.items()}


def sine(f0):
    """One partial: it is the fundamental, the centroid and all the energy; 0.5^2 / 2 is -9.031 dB, 40 dB the limit."""
    zero = ("harmonic spread", "f0 iqr", "tristimulus 2", "tristimulus 3", "inharmonicity", "noisiness", "harmonic variation")
    values = near(1e-4, 0, **{f"{n} median": f0 for n in ("f0", "harmonic centroid", "harmonic roll-off")}, **{"tristimulus 1 median": 1})
    values |= near(0, 2e-3, **{n if "iqr" in n else f"{n} median": 0 for n in zero})
    values |= near(0, 0.02, **dict.fromkeys(("harmonic energy median", "harmonic frame energy median"), -9.031))
    return values | near(0, 1e-6, **{"odd-even ratio median": 40, "harmonic skewness median": np.nan, "harmonic kurtosis iqr": np.nan})


def partials():
    """By hand; 12 of the 20 partials have amplitude 0."""
    a = np.pad(AMPLITUDES, (0, 12))
    means = [0.85, 1.9 / 3, 1.4 / 3, 1 / 3, 0.85 / 3, 0.5 / 3, 0.1, 0.25 / 3, 0.1 / 3]
    values = medians("harmonic ", shape(220 * np.arange(1, 21), a))
    values |= {"f0 median": 220, "tristimulus 1 median": 1 / 3, "tristimulus 2 median": 1.4 / 3, "tristimulus 3 median": 0.6 / 3}
    values["odd-even ratio median"] = 10 * np.log10((1 + 0.04 + 0.09 + 0.0225) / (0.49 + 0.25 + 0.0025 + 0.01))
    values["harmonic deviation median"] = (sum(abs(AMPLITUDES - means[:8])) + means[8]) / 3
    values["harmonic energy median"] = 10 * np.log10(0.09 * sum(AMPLITUDES**2) / 2)
    return near(2e-3, 0, **values) | near(0, 1e-3, **{"noisiness median": 0})


def stretched(stretch):
    """f0 of the nearest harmonic series, and the distances of the partials to it, both weighted by power."""
    a, h = np.array([1, 0.8, 0.6, 0.6, 0.5, 0.4, 0.4, 0.3]), np.arange(1, 9)
    f = 200 * h * np.sqrt(1 + stretch * h**2)
    f0 = sum(a**2 * h * f) / sum(a**2 * h**2)
    expected = 2 / f0 * sum(a**2 * abs(f - h * f0)) / sum(a**2)
    return tone(200, a, stretch=stretch), near(1e-5, 0, f0_median=f0) | near(0.01, 1e-4, inharmonicity_median=expected)


def noisy(snr):
    values = {"noisiness median": 1 / (1 + 10 ** (snr / 10)), "f0 median": 300}
    levels = {"harmonic energy median": 3.01, "noise energy median": 3.01 - snr}
    return tone(300, [1] * 4, 2) + noise(2, np.sqrt(2 * 10 ** (-snr / 10))), near(0.1, 0, **values) | near(0, 0.4, **levels)


def exponential(alpha):
    """From log(1 / share) / alpha; the centroid from the integral of t exp(-alpha t) until 0.15; RMS: the middle half."""
    end = np.log(1 / 0.15) / alpha
    values = {"decay slope": -alpha, "release time": np.log(4) / alpha}
    values["rms envelope iqr"] = 20 * np.log10(np.e) * alpha * min(3.0, np.log(1000) / alpha / 2)
    centroid = (1 / alpha - 0.15 * (end + 1 / alpha)) / 0.85
    values = near(0.02, 0, **values) | near(0, 0.02, temporal_centroid=centroid)
    values |= near(0, 0.1, effective_duration=np.log(2.5) / alpha, decay_time=np.log(2.5) / alpha)
    return np.exp(-alpha * times(6)) * tone(500, seconds=6), values


def linear_attack(seconds):
    """From a tenth to nine tenths; the last tenth is reached late, as the envelope is smooth."""
    values = {"attack time": 0.8 * seconds, "decay time": 2 + 0.1 * seconds, "effective duration": 2 + 0.6 * seconds, "decay slope": 0}
    values["log attack time"] = np.log10(0.8 * seconds)
    return envelope([0, seconds, seconds + 2], [0, 1, 1]), near(0, 0.08, **values) | near(0.02, 0, attack_slope=1 / seconds)


def white_noise():
    """Flat spectrum: uniform moments, Rayleigh amplitudes; and no pitch."""
    half = RATE / 2
    values = {"centroid": half / 2, "spread": half / np.sqrt(12), "kurtosis": 1.8, "roll-off": 0.95 * half}
    values["flatness"] = 2 / np.sqrt(np.pi) * np.exp(-np.euler_gamma / 2)
    expected = near(0.01, 0, **medians("stft ", values)) | near(0, 0.02, **{"stft skewness median": 0, "stft slope median": 0})
    expected |= near(0, 0.1, **{n: -20 for n in LOUDNESS if n != "harmonic energy median"})
    return noise(2), expected | near(**{"noisiness median": 1, "noisiness iqr": 0}, **dict.fromkeys(PARTIAL_ONLY, np.nan))


def sine_at_a_bin():
    """A Hamming window gives three bins: 0.54 and 0.23 at its sides."""
    floor = 1e-3 / 512  # at half the window's length
    flatness = np.exp((np.log(0.54) + 2 * np.log(0.23) + 510 * np.log(floor)) / 513) / ((1 + 510 * floor) / 513)
    values = near(
        1e-3, 0, **medians("stft ", {"centroid": RATE / 4, "crest": 0.54 * 513, "flatness": flatness, "roll-off": 257 * RATE / 1024})
    )
    values |= near(0, 1e-3, **{"rms envelope median": -9.031, "stft frame energy median": -9.031})
    return 0.5 * np.sin(np.pi / 2 * np.arange(RATE)), values | near(
        0, 1e-3, **{"stft variation median": 0, "rms envelope iqr": 0, "stft frame energy iqr": 0}
    )


CASES = {
    **{f"sine of {f0} Hz": (0.5 * tone(f0), sine(f0)) for f0 in (110, 440, 1234.5, 4186)},
    "known partials": (0.3 * tone(220, AMPLITUDES), partials()),
    "30 equal partials, 20 of which count": (
        tone(200, np.ones(30)),
        near(0.01, 0.01, **{"tristimulus 3 median": 0.8, "noisiness median": 1 / 3, "odd-even ratio median": 0})
        | near(0, 0.05, **{"harmonic energy median": 10, "noise energy median": 6.99, "harmonic frame energy median": 11.76}),
    ),
    "missing fundamental": (tone(196, [0, 1, 1, 1, 1]), near(1e-3, 1e-6, f0_median=196, tristimulus_1_median=0, tristimulus_2_median=0.75)),
    **{f"partials stretched by {x}": stretched(x) for x in (0, 1e-4, 4e-4)},
    "vibrato": (  # the middle half of a sine lies within sin(pi / 4) of its extent, here 10 Hz
        np.sin(2 * np.pi * 440 * times(4) - 10 / 1.7 * np.cos(2 * np.pi * 1.7 * times(4))),
        near(2e-3, 0, f0_median=440) | near(0.05, 0.01, f0_iqr=20 * np.sin(np.pi / 4), modulation_amplitude=0),
    ),
    **{f"tone {snr} dB above noise": noisy(snr) for snr in (20, 10, 3)},
    "tone with an offset": (tone(220, AMPLITUDES) + 0.5, near(0, 0.01, noisiness_median=0)),
    "tone, then noise": (
        np.concatenate([tone(300, [1, 1]), noise(1, 1)]),
        near(0.01, 0.1, f0_median=300, tristimulus_1_median=0.5, noisiness_iqr=1, f0_iqr=0),
    ),
    **{f"decay of {alpha}/s": exponential(alpha) for alpha in (0.5, 1)},
    **{f"attack of {seconds} s": linear_attack(seconds) for seconds in (0.4, 0.8, 1.6)},
    "weak efforts below 0.2 and above 0.9": (
        envelope([0, 0.1, 2.1, 2.8, 4.8, 6], [0, 0.1, 0.2, 0.9, 1, 1]),
        near(0.1, 0, attack_time=0.7, attack_slope=1),
    ),
    "slope weighted by height": (  # efforts of 0.1 s up to a height of 0.5, of 0.2 s from there
        envelope([0, 0.5, 1.5, 4], [0, 0.5, 1, 1]),
        near(0.012, 0, attack_slope=np.average([1] * 4 + [0.5] * 4, weights=np.exp(-0.5 * ((np.arange(8) - 3.5) / 5) ** 2))),
    ),
    **{
        f"tremolo of {f} Hz, {depth}, decay {alpha}/s": (
            tremolo(f, depth, alpha),
            near(0.05, modulation_frequency=f, modulation_amplitude=depth),
        )
        for f, depth, alpha in [(2, 0.3, 0), (4.5, 0.1, 0), (9, 0.8, 0), (1.3, 0.1, 0.4), (6, 0.1, 1)]
    },
    "pulses": ((np.sin(2 * np.pi * 8 * times(2)) > 0.9) * tone(500, seconds=2), near(1e-3, modulation_frequency=8, modulation_amplitude=1)),
    "steady tone": (tone(440), near(0, 0.01, modulation_frequency=np.nan, modulation_amplitude=0)),
    "short tone": (tone(440, seconds=0.35), near(modulation_frequency=np.nan, modulation_amplitude=np.nan)),
    "sine at a bin": sine_at_a_bin(),
    "white noise": white_noise(),
    "click": (np.eye(1, RATE, RATE // 3)[0], near(1e-4, 0, **medians("stft ", {"flatness": 1, "crest": 1, "centroid": RATE / 4}))),
    "silence": (np.zeros(RATE), near(**dict.fromkeys(NAMES, np.nan))),
    "nothing": (np.zeros(0), near(**dict.fromkeys(NAMES, np.nan))),
}


@pytest.mark.parametrize("case", CASES)
def test_known_answers(case):
    sound, expected = CASES[case]
    values = describe(sound, RATE)
    assert {name: values[name] for name in expected} == expected


def test_names_and_what_the_distance_uses():
    assert len(set(NAMES)) == len(NAMES) == 72
    assert set(NAMES) - set(DISTANCE_NAMES) == {*LOUDNESS, "f0 median", "effective duration", "decay time"}
    sound = tone(220, AMPLITUDES)
    values, got = describe(sound, RATE), vector(sound, RATE)
    assert list(values) == list(NAMES)
    np.testing.assert_array_equal(got, [values[n] for n in DISTANCE_NAMES])


def test_stft_against_librosa_and_formulas():
    """A tone with noise that decays, frame by frame."""
    sound = ((tone(311, 1 / np.arange(1, 30), 0.5) + noise(0.5)) * np.exp(-3 * times(0.5)))[: 1024 + 80 * 256]
    sound /= np.abs(sound).max()
    values = describe(sound, RATE)
    a, f = (
        np.abs(librosa.stft(sound, n_fft=1024, hop_length=256, window="hamming", center=False)),
        librosa.fft_frequencies(sr=RATE, n_fft=1024),
    )
    series = {name: [shape(f, frame)[name] for frame in a.T] for name in ("skewness", "kurtosis", "slope", "decrease")}
    series["variation"] = [1 - x @ y / np.sqrt(x @ x * (y @ y)) for x, y in zip(a.T[1:], a.T[:-1], strict=True)]
    series["crest"] = a.max(axis=0) / a.mean(axis=0)
    series["centroid"] = librosa.feature.spectral_centroid(S=a, freq=f)
    series["spread"] = librosa.feature.spectral_bandwidth(S=a, freq=f)
    series["roll-off"] = librosa.feature.spectral_rolloff(S=a**2, freq=f, roll_percent=0.95)
    for name, got in series.items():
        low, median, high = np.percentile(got, [25, 50, 75])
        assert (values[f"stft {name} median"], values[f"stft {name} iqr"]) == pytest.approx((median, high - low), rel=2e-3), name


@pytest.mark.parametrize("gain", [0.1, 1e-6])
def test_level_changes_loudness_only(gain):
    sound = tone(220, AMPLITUDES) * np.exp(-2 * times()) + noise(level=0.05)
    np.testing.assert_allclose(vector(gain * sound, RATE), vector(sound, RATE), rtol=1e-5, atol=1e-9)
    loud, soft = describe(sound, RATE), describe(gain * sound, RATE)
    assert [soft[name] for name in LOUDNESS] == pytest.approx([loud[name] + 20 * np.log10(gain) for name in LOUDNESS], rel=1e-5)


@pytest.mark.parametrize("what", ["sample rate", "silence after"])
def test_sample_rate_and_silence_do_not_matter(what):
    sound, other = (tone(330, AMPLITUDES, 1, r) * np.sin(np.pi * times(1, r)) ** 2 for r in (RATE, 16000))  # fades: no click
    decay = tone(220, AMPLITUDES) * np.exp(-8 * times())
    pairs = {"sample rate": ((sound, RATE), (other, 16000)), "silence after": ((decay, RATE), (np.pad(decay, (0, RATE)), RATE))}
    expected, got = (describe(*x) for x in pairs[what])
    empty = ("stft flatness", "stft variation", "noise energy")  # determined by empty bins
    for name in (n for n in NAMES if not n.startswith(empty)):
        assert got[name] == pytest.approx(expected[name], rel=0.03, abs=0.02 if "iqr" in name else 0.005, nan_ok=True), name


ODD = {
    "one sample": (np.ones(1), False),
    "two samples": (np.array([1.0, -1.0]), False),
    "click at the start": (np.eye(1, RATE)[0], False),
    "train of clicks": ((np.arange(RATE) % 4000 == 0).astype(float), False),
    "constant": (np.full(RATE, 0.3), False),
    "constant, then silence": (np.repeat([0.3, 0], RATE // 2), False),
    "5 ms of noise": (noise(0.005), False),
    "infrasound": (tone(5, seconds=2), False),
    "120 ms of a tone": (tone(300, seconds=0.12), True),
    "two notes": (np.concatenate([tone(300), np.zeros(RATE), tone(300, seconds=0.5)]), True),
    "whole numbers": ((32767 * tone(440, AMPLITUDES / 3)).astype(np.int16), True),
    "rising": (np.linspace(0, 1, RATE) ** 8 * tone(440), True),
    "square": (np.sign(tone(100)), True),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sounds_have_finite_values_or_none(name):
    """Without warnings; those without a pitch have no descriptors of partials."""
    sound, pitched = ODD[name]
    values = describe(sound, RATE)
    assert not np.isinf(list(values.values())).any()
    assert np.isfinite(list(values.values())).sum() >= 25
    assert np.isfinite(values["f0 median"]) == pitched
