"""Timbre descriptors of one note: their names, the temporal ones by formula, what they do not depend on, and odd sounds."""

import numpy as np
import pytest

from cirlib.evaluation import timbre
from cirlib.evaluation.timbre import DISTANCE_NAMES, NAMES, RATE, describe, vector
from cirlib.evaluation.timbre_temporal import STEP, attack

pytestmark = pytest.mark.filterwarnings("error")

AMPLITUDES = np.array([1, 0.7, 0.2, 0.5, 0.3, 0.05, 0.15, 0.1])
LOUDNESS = [f"{n} median" for n in ("rms envelope", "stft frame energy", "harmonic energy", "noise energy", "harmonic frame energy")]
PARTIAL_ONLY = [n for n in NAMES if n.startswith(("harmonic", "f0", "inharm", "trist", "odd")) and "frame" not in n]


def times(seconds=1.0, rate=RATE):
    return np.arange(round(seconds * rate)) / rate


def tone(f0, amplitudes=(1.0,), seconds=1.0, rate=RATE, stretch=0.0):
    """Partials of these amplitudes at h f0 sqrt(1 + stretch h^2), each with its own phase."""
    t, h = times(seconds, rate), np.arange(1, len(amplitudes) + 1)
    return sum(a * np.sin(2 * np.pi * n * f0 * np.sqrt(1 + stretch * n**2) * t + n) for n, a in zip(h, amplitudes, strict=True))


def noise(seconds=1.0, level=0.1, seed=0):
    return level * np.random.default_rng(seed).normal(size=round(seconds * RATE))


def check(values, expected, **tolerance):
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, **tolerance), name


def test_names_and_their_order():
    shape = ["centroid", "spread", "skewness", "kurtosis", "slope", "decrease", "roll-off", "variation"]
    single = ["attack time", "decay time", "release time", "log attack time", "attack slope", "decay slope", "temporal centroid"]
    single += ["effective duration", "modulation frequency", "modulation amplitude"]
    varying = ["rms envelope", *(f"stft {n}" for n in [*shape, "frame energy", "flatness", "crest"])]
    varying += ["harmonic energy", "noise energy", "noisiness", "f0", "inharmonicity", "tristimulus 1", "tristimulus 2", "tristimulus 3"]
    varying += ["harmonic deviation", "odd-even ratio", *(f"harmonic {n}" for n in [*shape, "frame energy"])]
    assert list(NAMES) == single + [f"{n} {s}" for n in varying for s in ("median", "iqr")]
    assert len(set(NAMES)) == len(NAMES) == 72
    left_out = {*LOUDNESS, "f0 median", "effective duration", "decay time"}
    assert list(DISTANCE_NAMES) == [n for n in NAMES if n not in left_out]
    assert timbre.RATE == 44100


def test_vector_is_what_describe_tells_in_the_order_of_the_names():
    sound = tone(220, AMPLITUDES)
    values, got = describe(sound, RATE), vector(sound, RATE)
    assert list(values) == list(NAMES)
    assert all(type(v) is float for v in values.values())
    assert (got.shape, got.dtype) == ((len(DISTANCE_NAMES),), np.float64)
    np.testing.assert_array_equal(got, [values[n] for n in DISTANCE_NAMES])


# Temporal


@pytest.mark.parametrize("alpha", [0.5, 1, 1.5])
def test_exponential_decay(alpha):
    """From log(1 / share) / alpha; the centroid from the integral of t exp(-alpha t) until 0.15."""
    t = times(6)
    values = describe(np.exp(-alpha * t) * np.sin(2 * np.pi * 500 * t), RATE)
    end = np.log(1 / 0.15) / alpha
    centroid = (1 / alpha - 0.15 * (end + 1 / alpha)) / 0.85
    expected = {"decay slope": -alpha, "release time": np.log(4) / alpha, "effective duration": np.log(2.5) / alpha}
    check(values, expected, rel=0.05, abs=0.01)
    check(values, {"temporal centroid": centroid}, abs=0.02)
    check(values, {"decay time": np.log(2.5) / alpha - 0.1}, abs=0.07)
    check(values, {"rms envelope iqr": 20 * np.log10(np.e) * alpha * min(3.0, np.log(1000) / alpha / 2)}, rel=0.02)  # middle half


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.6])
def test_linear_attack(seconds):
    """From a tenth to the whole of the maximum."""
    sound = tone(400, seconds=seconds + 2) * np.minimum(times(seconds + 2) / seconds, 1)
    values = describe(sound, RATE)
    check(values, {"attack time": 0.9 * seconds, "decay time": 2, "effective duration": 2 + 0.6 * seconds}, abs=0.06)
    check(values, {"log attack time": np.log10(values["attack time"])}, rel=1e-9)
    check(values, {"attack slope": 1 / seconds}, rel=0.08)
    check(values, {"decay slope": 0}, abs=0.1)


def test_weak_efforts_are_no_attack():
    """Efforts of 1 s below 0.2 and above 0.9, where the mean is 0.3 s: the attack is the part between."""
    heights = np.array([0, 0.1, 0.2, 0.9, 1])
    places = np.array([0, 0.1, 1.1, 1.8, 2.8])
    e = np.interp(times(4, RATE / STEP), places, heights)
    first, last, slope = attack(e)
    assert (first * STEP / RATE, last * STEP / RATE) == pytest.approx((1.1, 1.8), abs=2e-3)
    assert slope == pytest.approx(1, rel=0.02)
    values = describe(np.interp(times(4), places, heights) * tone(400, seconds=4), RATE)
    check(values, {"attack time": 0.7, "attack slope": 1}, rel=0.08)


def test_attack_slope_weighs_the_middle_most():
    """Efforts of 0.1 s up to a height of 0.5, of 0.2 s from there."""
    e = np.interp(times(4, RATE / STEP), [0, 0.5, 1.5], [0, 0.5, 1])
    weights = np.exp(-0.5 * ((np.arange(0.15, 1, 0.1) - 0.5) / 0.5) ** 2)
    assert attack(e)[2] == pytest.approx(np.average([1] * 4 + [0.5] * 5, weights=weights), rel=0.02)


TREMOLOS = [(2, 0.3, 0), (4.5, 0.1, 0), (8, 0.3, 0), (2, 0.8, 0), (9, 0.8, 0), (5, 0.3, 0.4), (1.3, 0.1, 0.4), (6, 0.1, 1)]


@pytest.mark.parametrize(("frequency", "depth", "alpha"), TREMOLOS)
def test_tremolo(frequency, depth, alpha):
    """Frequency and amplitude of the modulation, whatever the filter takes off it; on a tone that decays as well."""
    t = times(4)
    values = describe((1 + depth * np.sin(2 * np.pi * frequency * t)) * np.exp(-alpha * t) * tone(700, seconds=4), RATE)
    check(values, {"modulation frequency": frequency, "modulation amplitude": depth}, rel=0.05)


def test_a_full_tremolo_is_the_most():
    values = describe((np.sin(2 * np.pi * 8 * times(2)) > 0.9) * tone(500, seconds=2), RATE)
    check(values, {"modulation frequency": 8, "modulation amplitude": 1}, rel=1e-3)


@pytest.mark.parametrize("seconds", [0.5, 0.8, 1, 3])
@pytest.mark.parametrize("alpha", [0, 0.3])
def test_a_steady_tone_has_no_modulation(seconds, alpha):
    values = describe(np.exp(-alpha * times(seconds)) * tone(440, seconds=seconds), RATE)
    assert np.isnan(values["modulation frequency"])
    assert 0 <= values["modulation amplitude"] < 0.01


@pytest.mark.parametrize("seconds", [0.005, 0.15, 0.35])
def test_a_short_tone_has_no_room_for_a_modulation(seconds):
    values = describe(tone(440, seconds=seconds), RATE)
    check(values, {"modulation frequency": np.nan, "modulation amplitude": np.nan}, nan_ok=True)


# Invariances


@pytest.mark.parametrize("gain", [0.1, 1e-6, 1e200])
def test_the_level_changes_loudness_only(gain):
    t = times()
    sound = tone(220, AMPLITUDES) * np.exp(-2 * t) + noise(level=0.05)
    np.testing.assert_allclose(vector(gain * sound, RATE), vector(sound, RATE), rtol=1e-5, atol=1e-9)
    loud, soft = describe(sound, RATE), describe(gain * sound, RATE)
    check(soft, {name: loud[name] + 20 * np.log10(gain) for name in LOUDNESS}, rel=1e-5)


@pytest.mark.parametrize("rate", [16000, 22050, 48000, 96000])
def test_the_sample_rate_changes_nothing(rate):
    """A tone below 7 kHz, faded at both ends."""
    expected, got = (
        describe(tone(330, AMPLITUDES, 1, r) * np.sin(np.pi * times(1, r)) ** 2, r)  # slow fades: no click that would need more band
        for r in (RATE, rate)
    )
    empty = [n for n in NAMES if n.startswith(("stft flatness", "stft variation"))]  # told by bins without sound
    small = {name: 0.02 for name in NAMES if name.endswith("iqr")}
    for name in set(NAMES) - set(empty):
        assert got[name] == pytest.approx(expected[name], rel=0.01, abs=small.get(name, 1e-3), nan_ok=True), name


def test_silence_after_a_note_changes_nothing():
    sound = tone(220, AMPLITUDES) * np.exp(-8 * times())
    padded = np.concatenate([sound, np.zeros(RATE), 1e-5 * noise(1, 1)])
    expected, got = describe(sound, RATE), describe(padded, RATE)
    for name in NAMES:
        rel = 0.15 if name.startswith("noise energy") else 0.03
        assert got[name] == pytest.approx(expected[name], rel=rel, abs=0.01, nan_ok=True), name


def test_silence_before_a_note_moves_its_centroid():
    sound = tone(220, AMPLITUDES) * np.exp(-4 * times())
    expected, got = describe(sound, RATE), describe(np.concatenate([np.zeros(RATE // 2), sound]), RATE)
    assert got["temporal centroid"] - expected["temporal centroid"] == pytest.approx(0.5, abs=1e-3)
    check(got, {n: expected[n] for n in ("attack time", "decay time", "release time", "decay slope", "effective duration")}, rel=0.01)


# Odd sounds

ODD = {
    "one sample": np.ones(1),
    "two samples": np.array([1.0, -1.0]),
    "click": np.eye(1, RATE, RATE // 3)[0],
    "click at the start": np.eye(1, RATE)[0],
    "click at the end": np.eye(1, RATE, RATE - 1)[0],
    "train of clicks": (np.arange(RATE) % 4000 == 0).astype(float),
    "constant": np.full(RATE, 0.3),
    "constant, then none": np.repeat([0.3, 0], RATE // 2),
    "5 ms of a tone": tone(1000, seconds=0.005),
    "5 ms of noise": noise(0.005),
    "120 ms of a tone": tone(300, seconds=0.12),
    "two notes": np.concatenate([tone(300), np.zeros(RATE), tone(300, seconds=0.5)]),
    "below hearing": tone(5, seconds=2),
    "above every pitch": tone(15000),
    "whole numbers": (32767 * tone(440, AMPLITUDES / 3)).astype(np.int16),
    "tiny": 1e-310 * tone(440),
    "rising": np.linspace(0, 1, RATE) ** 8 * tone(440),
    "square": np.sign(tone(100)),
}


@pytest.mark.parametrize("rate", [RATE, 16000, 192000])
@pytest.mark.parametrize("name", ODD)
def test_every_sound_has_values_that_are_finite_or_nan(name, rate):
    """And none gives a warning."""
    values = np.array(list(describe(ODD[name], rate).values()))
    assert not np.isinf(values).any()
    if rate == RATE:
        assert np.isfinite(values).sum() >= 30


@pytest.mark.parametrize("name", ["one sample", "click", "click at the start", "constant", "5 ms of noise", "below hearing"])
def test_sounds_without_pitch(name):
    values = describe(ODD[name], RATE)
    check(values, dict.fromkeys(PARTIAL_ONLY, np.nan), nan_ok=True)
    if name == "click at the start":  # where the Blackman window is 0
        check(values, {"noise energy median": np.nan, "harmonic frame energy median": np.nan}, nan_ok=True)


def test_a_click_has_a_flat_spectrum():
    values = describe(ODD["click"], RATE)
    check(values, {"stft flatness median": 1, "stft crest median": 1, "stft centroid median": RATE / 4}, rel=1e-4)


@pytest.mark.parametrize("name", ["click at the start", "click at the end"])
def test_a_click_is_as_long_wherever_it_is(name):
    middle = describe(ODD["click"], RATE)
    names = ["attack time", "decay time", "release time", "effective duration"]
    check(describe(ODD[name], RATE), {n: middle[n] for n in names}, abs=0.003)


def test_a_short_tone_has_the_pitch_of_a_long_one():
    values = describe(tone(1000, seconds=0.03), RATE)
    check(values, {"f0 median": 1000}, rel=0.01)
    assert values["stft variation median"] > 0
    assert np.isnan(describe(tone(1000, seconds=0.02), RATE)["stft variation median"])  # a single frame


@pytest.mark.parametrize("sound", [np.zeros(1), np.zeros(RATE)], ids=["one sample", "one second"])
def test_silence_has_no_descriptors(sound):
    check(describe(sound, 16000), dict.fromkeys(NAMES, np.nan), nan_ok=True)
    assert np.isnan(vector(sound, RATE)).all()


@pytest.mark.parametrize("function", [describe, vector])
@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (np.zeros(0), RATE, r"must be mono, \(n,\) with n > 0, got the shape \(0,\)"),
        (np.zeros((2, 100)), RATE, r"got the shape \(2, 100\); average the channels"),
        (np.float64(1), RATE, r"got the shape \(\)"),
        (np.array([0, np.nan]), RATE, "NaN or infinite samples"),
        (np.array([0, np.inf]), RATE, "NaN or infinite samples"),
        (np.ones(9), 0, "sample_rate must be above 0, got 0"),
        (np.ones(9), np.nan, "sample_rate must be above 0, got nan"),
    ],
)
def test_what_is_no_sound_is_refused(function, sound, rate, message):
    with pytest.raises(ValueError, match=message):
        function(sound, rate)
