"""Notes with known timbre: partials, noise and extreme sounds, and a check of their descriptors."""

import numpy as np
import pytest

from cirlib.evaluation.timbre import NAMES, RATE

AMPLITUDES = np.array([1, 0.7, 0.2, 0.5, 0.3, 0.05, 0.15, 0.1])
LOUDNESS = [f"{n} median" for n in ("rms envelope", "stft frame energy", "harmonic energy", "noise energy", "harmonic frame energy")]
PARTIAL_ONLY = [n for n in NAMES if n.startswith(("harmonic", "f0", "inharm", "trist", "odd")) and "frame" not in n]


def times(seconds=1.0, rate=RATE):
    return np.arange(round(seconds * rate)) / rate


def tone(f0, amplitudes=(1.0,), seconds=1.0, rate=RATE, stretch=0.0):
    """Return partials of these amplitudes at h f0 sqrt(1 + stretch h^2), with different phases."""
    t, h = times(seconds, rate), np.arange(1, len(amplitudes) + 1)
    return sum(a * np.sin(2 * np.pi * n * f0 * np.sqrt(1 + stretch * n**2) * t + n) for n, a in zip(h, amplitudes, strict=True))


def noise(seconds=1.0, level=0.1, seed=0):
    return level * np.random.default_rng(seed).normal(size=round(seconds * RATE))


def check(values, expected, **tolerance):
    """Compare descriptors by name, with the tolerance of pytest.approx."""
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, **tolerance), name


ODD = {
    "one sample": np.ones(1),
    "two samples": np.array([1.0, -1.0]),
    "click": np.eye(1, RATE, RATE // 3)[0],
    "click at the start": np.eye(1, RATE)[0],
    "click at the end": np.eye(1, RATE, RATE - 1)[0],
    "train of clicks": (np.arange(RATE) % 4000 == 0).astype(float),
    "constant": np.full(RATE, 0.3),
    "constant, then silence": np.repeat([0.3, 0], RATE // 2),
    "5 ms of a tone": tone(1000, seconds=0.005),
    "5 ms of noise": noise(0.005),
    "120 ms of a tone": tone(300, seconds=0.12),
    "two notes": np.concatenate([tone(300), np.zeros(RATE), tone(300, seconds=0.5)]),
    "infrasound": tone(5, seconds=2),
    "above all pitches": tone(15000),
    "whole numbers": (32767 * tone(440, AMPLITUDES / 3)).astype(np.int16),
    "tiny": 1e-310 * tone(440),
    "rising": np.linspace(0, 1, RATE) ** 8 * tone(440),
    "square": np.sign(tone(100)),
}
