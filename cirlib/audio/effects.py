"""Random effects on the mixtures of training, so that mixes which come through others are known too: tone, room, level, cut.

`through` applies each of EFFECTS with probability CHANCE. Their strengths are the constants here. They are made otherwise than
degrade.DEGRADATIONS, which test what they gain. Sounds are (T,) float32 at a sample rate in Hz.
"""

import math

import numpy as np

from ..common.packages import require

CHANCE = 0.5
TONE_HZ, TONE_DB = (40, 160, 640, 2560, 8000), 8  # gain at each, at most, up or down
ROOM_S, ROOM_DB, ROOM_DELAY_S = (0.3, 2.0), (-12, 3), 0.03  # until 60 dB less; energy beside that of the direct sound; longest
DRIVE_DB = (3, 18)
HOP, ATTACK_HOPS, RELEASE_S = 32, (1, 5), (0.02, 0.3)  # of the limiter
SHORTEST = 0.25  # part that a cut leaves


def through(sound: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A sound through a random choice of EFFECTS, in their order; its peak stays, and silence does."""
    require("mixtures through effects", "scipy")
    before = np.abs(sound).max()
    for effect in EFFECTS:
        if rng.random() < CHANCE:
            sound = effect(sound, rate, rng)
    peak = np.abs(sound).max()
    return sound * np.float32(before / peak if peak > 1e-9 else 0)


def tone(sound, rate, rng):
    """Some frequencies louder, others softer."""
    from scipy import fft

    hertz = np.maximum(fft.rfftfreq(len(sound), 1 / rate), 1)
    decibel = np.interp(np.log(hertz), np.log(TONE_HZ), rng.uniform(-TONE_DB, TONE_DB, len(TONE_HZ)))
    return fft.irfft(fft.rfft(sound) * (10 ** (decibel / 20)).astype(np.float32), len(sound))


def room(sound, rate, rng):
    """A tail of noise that fades, more or less dark."""
    from scipy import ndimage, signal

    samples = round(rng.uniform(*ROOM_S) * rate)
    tail = rng.standard_normal(samples, np.float32) * np.exp(np.linspace(0, -math.log(1000), samples, dtype=np.float32))
    tail = ndimage.uniform_filter1d(tail, int(rng.integers(1, 8)))
    tail *= 10 ** (rng.uniform(*ROOM_DB) / 20) / np.sqrt((tail**2).sum())
    delay = round(rng.uniform(0, ROOM_DELAY_S) * rate)
    wet = signal.fftconvolve(sound, tail)[: max(0, len(sound) - delay)]
    return sound + np.pad(wet, (min(delay, len(sound)), 0))


def level(sound, rate, rng):
    """Louder than full scale, then saturated, or limited with a random attack and release."""
    from scipy import ndimage

    loud = sound * np.float32(10 ** (rng.uniform(*DRIVE_DB) / 20) / max(np.abs(sound).max(), 1e-9))
    if rng.random() < 0.5:
        return np.tanh(loud)
    hops = -(-len(loud) // HOP)
    peaks = np.abs(np.pad(loud, (0, hops * HOP - len(loud)))).reshape(hops, HOP).max(axis=1)
    peaks = ndimage.maximum_filter1d(peaks, 2 * int(rng.integers(*ATTACK_HOPS)) + 1)
    fall = HOP / rate / rng.uniform(*RELEASE_S) * np.arange(hops)  # a peak is followed by an exponential fall: linear in its logarithm
    followed = np.exp(np.maximum.accumulate(np.log(np.maximum(peaks, 1e-9)) + fall) - fall)
    gain = ndimage.uniform_filter1d(1 / np.maximum(followed, 1), 3).astype(np.float32)
    return np.clip(loud * np.repeat(gain, HOP)[: len(loud)], -1, 1)


def cut(sound, rate, rng):
    """A part of it, from anywhere, then silence."""
    length = round(rng.uniform(SHORTEST, 1) * len(sound))
    start = rng.integers(len(sound) - length + 1)
    return np.pad(sound[start : start + length], (0, len(sound) - length))


EFFECTS = (tone, room, level, cut)
