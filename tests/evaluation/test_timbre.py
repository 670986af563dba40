"""Timbre descriptors of one note: names, temporal ones by formula, invariances, extreme sounds."""

import numpy as np
import pytest
from timbre_notes import AMPLITUDES, LOUDNESS, ODD, PARTIAL_ONLY, check, noise, times, tone

from cirlib.evaluation.timbre import DISTANCE_NAMES, NAMES, RATE, describe, vector
from cirlib.evaluation.timbre_temporal import STEP, attack

pytestmark = pytest.mark.filterwarnings("error")


def test_names_and_their_order():
    shape = ["centroid", "spread", "skewness", "kurtosis", "slope", "decrease", "roll-off", "variation"]
    single = ["attack time", "decay time", "release time", "log attack time", "attack slope", "decay slope", "temporal centroid"]
    single += ["effective duration", "modulation frequency", "modulation amplitude"]
    varying = ["rms envelope", *(f"stft {n}" for n in [*shape, "frame energy", "flatness", "crest"])]
    varying += ["harmonic energy", "noise energy", "noisiness", "f0", "inharmonicity", "tristimulus 1", "tristimulus 2", "tristimulus 3"]
    varying += ["harmonic deviation", "odd-even ratio", *(f"harmonic {n}" for n in [*shape, "frame energy"])]
    assert list(NAMES) == single + [f"{n} {s}" for n in varying for s in ("median", "iqr")]
    assert len(set(NAMES)) == len(NAMES) == 72
    excluded = {*LOUDNESS, "f0 median", "effective duration", "decay time"}
    assert list(DISTANCE_NAMES) == [n for n in NAMES if n not in excluded]
    assert RATE == 44100


def test_vector_equals_describe():
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


def test_weak_efforts_are_excluded_from_the_attack():
    """Efforts of 1 s below 0.2 and above 0.9, where the mean is 0.3 s: the attack is the part between."""
    heights = np.array([0, 0.1, 0.2, 0.9, 1])
    places = np.array([0, 0.1, 1.1, 1.8, 2.8])
    e = np.interp(times(4, RATE / STEP), places, heights)
    first, last, slope = attack(e)
    assert (first * STEP / RATE, last * STEP / RATE) == pytest.approx((1.1, 1.8), abs=2e-3)
    assert slope == pytest.approx(1, rel=0.02)
    values = describe(np.interp(times(4), places, heights) * tone(400, seconds=4), RATE)
    check(values, {"attack time": 0.7, "attack slope": 1}, rel=0.08)


def test_attack_slope_is_weighted_by_height():
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


def test_modulation_amplitude_is_at_most_1():
    values = describe((np.sin(2 * np.pi * 8 * times(2)) > 0.9) * tone(500, seconds=2), RATE)
    check(values, {"modulation frequency": 8, "modulation amplitude": 1}, rel=1e-3)


@pytest.mark.parametrize("seconds", [0.5, 0.8, 1, 3])
@pytest.mark.parametrize("alpha", [0, 0.3])
def test_steady_tone_has_no_modulation(seconds, alpha):
    values = describe(np.exp(-alpha * times(seconds)) * tone(440, seconds=seconds), RATE)
    assert np.isnan(values["modulation frequency"])
    assert 0 <= values["modulation amplitude"] < 0.01


@pytest.mark.parametrize("seconds", [0.005, 0.15, 0.35])
def test_modulation_of_a_short_tone_is_undefined(seconds):
    values = describe(tone(440, seconds=seconds), RATE)
    check(values, {"modulation frequency": np.nan, "modulation amplitude": np.nan}, nan_ok=True)


# Invariances


@pytest.mark.parametrize("gain", [0.1, 1e-6, 1e200])
def test_level_changes_loudness_only(gain):
    t = times()
    sound = tone(220, AMPLITUDES) * np.exp(-2 * t) + noise(level=0.05)
    np.testing.assert_allclose(vector(gain * sound, RATE), vector(sound, RATE), rtol=1e-5, atol=1e-9)
    loud, soft = describe(sound, RATE), describe(gain * sound, RATE)
    check(soft, {name: loud[name] + 20 * np.log10(gain) for name in LOUDNESS}, rel=1e-5)


@pytest.mark.parametrize("rate", [16000, 22050, 48000, 96000])
def test_sample_rate_does_not_matter(rate):
    """A tone below 7 kHz, faded at both ends."""
    expected, got = (
        describe(tone(330, AMPLITUDES, 1, r) * np.sin(np.pi * times(1, r)) ** 2, r)  # slow fades: no click that would need more band
        for r in (RATE, rate)
    )
    empty = [n for n in NAMES if n.startswith(("stft flatness", "stft variation"))]  # determined by empty bins
    small = {name: 0.02 for name in NAMES if name.endswith("iqr")}
    for name in set(NAMES) - set(empty):
        assert got[name] == pytest.approx(expected[name], rel=0.01, abs=small.get(name, 1e-3), nan_ok=True), name


def test_silence_after_a_note_does_not_matter():
    sound = tone(220, AMPLITUDES) * np.exp(-8 * times())
    padded = np.concatenate([sound, np.zeros(RATE), 1e-5 * noise(1, 1)])
    expected, got = describe(sound, RATE), describe(padded, RATE)
    for name in NAMES:
        rel = 0.15 if name.startswith("noise energy") else 0.03
        assert got[name] == pytest.approx(expected[name], rel=rel, abs=0.01, nan_ok=True), name


# Odd sounds


@pytest.mark.parametrize("rate", [RATE, 16000, 192000])
@pytest.mark.parametrize("name", ODD)
def test_values_are_finite_or_nan(name, rate):
    """Without warnings."""
    values = np.array(list(describe(ODD[name], rate).values()))
    assert not np.isinf(values).any()
    if rate == RATE:
        assert np.isfinite(values).sum() >= 30


@pytest.mark.parametrize("name", ["one sample", "click", "click at the start", "constant", "5 ms of noise", "infrasound"])
def test_sounds_without_pitch(name):
    values = describe(ODD[name], RATE)
    check(values, dict.fromkeys(PARTIAL_ONLY, np.nan), nan_ok=True)
    if name == "click at the start":  # where the Blackman window is 0
        check(values, {"noise energy median": np.nan, "harmonic frame energy median": np.nan}, nan_ok=True)


def test_click_has_a_flat_spectrum():
    values = describe(ODD["click"], RATE)
    check(values, {"stft flatness median": 1, "stft crest median": 1, "stft centroid median": RATE / 4}, rel=1e-4)


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
def test_unusable_sounds_are_refused(function, sound, rate, message):
    with pytest.raises(ValueError, match=message):
        function(sound, rate)
