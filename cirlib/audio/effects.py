"""Audio effects: random ones that augment training mixtures, and fixed ones that degrade the queries of a robustness test.

Both groups contain a reverberation and a limiter, implemented differently on purpose: training with EFFECTS must not amount to
training on the test conditions, DEGRADATIONS. Effects map (T,) float32 to (T,), degradations map stems (S, T) to a mixture (about T,).
All take a sample rate in Hz and a random generator.
"""

import io
import math
from collections.abc import Callable

import numpy as np

from ..common.packages import require
from .io import repeat_sound

CHANCE = 0.5  # probability of each training effect
EQUALIZER_HZ, EQUALIZER_DB = (40, 160, 640, 2560, 8000), 8  # centre of the bands; largest gain, up or down
REVERB_S, REVERB_DB, REVERB_DELAY_S = (0.3, 2.0), (-12, 3), 0.03  # 60 dB decay time; energy relative to the dry sound; longest pre-delay
DRIVE_DB = (3, 18)
HOP, ATTACK_HOPS, RELEASE_S = 32, (1, 5), (0.02, 0.3)  # of the training limiter
SHORTEST_EXCERPT = 0.25  # share of the sound

MP3_KBPS, MP3_RATE = 64, 44100
BALANCE_DB = 6
DETUNE_CENTS = 30
LIMITER_DRIVE_DB = 12


def random_effects(sound: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Apply each of EFFECTS in turn with probability CHANCE, then restore the peak. Silence stays silence."""
    require("mixtures with effects", "scipy")
    before = np.abs(sound).max()
    for effect in EFFECTS:
        if rng.random() < CHANCE:
            sound = effect(sound, rate, rng)
    peak = np.abs(sound).max()
    return sound * np.float32(before / peak if peak > 1e-9 else 0)


def equalize(sound, rate, rng):
    """Apply a random gain to each frequency band, interpolated on a logarithmic frequency axis."""
    from scipy import fft

    hertz = np.maximum(fft.rfftfreq(len(sound), 1 / rate), 1)
    decibel = np.interp(np.log(hertz), np.log(EQUALIZER_HZ), rng.uniform(-EQUALIZER_DB, EQUALIZER_DB, len(EQUALIZER_HZ)))
    return fft.irfft(fft.rfft(sound) * (10 ** (decibel / 20)).astype(np.float32), len(sound))


def reverberate(sound, rate, rng):
    """Add the convolution with decaying, low-pass filtered noise."""
    from scipy import ndimage, signal

    samples = round(rng.uniform(*REVERB_S) * rate)
    tail = rng.standard_normal(samples, np.float32) * np.exp(np.linspace(0, -math.log(1000), samples, dtype=np.float32))
    tail = ndimage.uniform_filter1d(tail, int(rng.integers(1, 8)))
    tail *= 10 ** (rng.uniform(*REVERB_DB) / 20) / np.sqrt((tail**2).sum())
    delay = round(rng.uniform(0, REVERB_DELAY_S) * rate)
    wet = signal.fftconvolve(sound, tail)[: max(0, len(sound) - delay)]
    return sound + np.pad(wet, (min(delay, len(sound)), 0))


def overdrive(sound, rate, rng):
    """Amplify beyond full scale, then saturate (tanh) or limit with a random attack and release."""
    from scipy import ndimage

    loud = sound * np.float32(10 ** (rng.uniform(*DRIVE_DB) / 20) / max(np.abs(sound).max(), 1e-9))
    if rng.random() < 0.5:
        return np.tanh(loud)
    hops = -(-len(loud) // HOP)
    peaks = np.abs(np.pad(loud, (0, hops * HOP - len(loud)))).reshape(hops, HOP).max(axis=1)
    peaks = ndimage.maximum_filter1d(peaks, 2 * int(rng.integers(*ATTACK_HOPS)) + 1)
    decay = HOP / rate / rng.uniform(*RELEASE_S) * np.arange(hops)  # the release is exponential, hence linear in the logarithm
    envelope = np.exp(np.maximum.accumulate(np.log(np.maximum(peaks, 1e-9)) + decay) - decay)
    gain = ndimage.uniform_filter1d(1 / np.maximum(envelope, 1), 3).astype(np.float32)
    return np.clip(loud * np.repeat(gain, HOP)[: len(loud)], -1, 1)


def excerpt(sound, rate, rng):
    """Move a random excerpt to the start and fill up with zeros."""
    length = round(rng.uniform(SHORTEST_EXCERPT, 1) * len(sound))
    start = rng.integers(len(sound) - length + 1)
    return np.pad(sound[start : start + length], (0, len(sound) - length))


EFFECTS = (equalize, reverberate, overdrive, excerpt)


def clean(stems, rate, rng):
    """Return the sum of the stems."""
    return stems.sum(axis=0)


def mp3(stems, rate, rng):
    """Encode as mono MP3 at MP3_KBPS kbit/s and MP3_RATE Hz, and decode."""
    import soundfile
    import soxr

    file = io.BytesIO()
    level = (320 - MP3_KBPS) / (320 - 32)  # libsndfile maps 0 to 1 to 320 down to 32 kbit/s
    wave = soxr.resample(clean(stems, rate, rng), rate, MP3_RATE)
    soundfile.write(file, wave / max(1, np.abs(wave).max()), MP3_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    file.seek(0)
    return soxr.resample(soundfile.read(file, dtype="float32")[0], MP3_RATE, rate)


def room(stems, rate, rng):
    """Add the reverberation of a room of random size (pedalboard's Reverb)."""
    from pedalboard import Reverb

    return Reverb(room_size=rng.uniform(0.3, 0.8), wet_level=0.25, dry_level=0.4)(clean(stems, rate, rng), rate)


def balance(stems, rate, rng):
    """Change the level of each stem by up to BALANCE_DB, up or down."""
    return (stems * 10 ** (rng.uniform(-BALANCE_DB, BALANCE_DB, (len(stems), 1)).astype(np.float32) / 20)).sum(axis=0)


def half(stems, rate, rng):
    """Return the first half."""
    return clean(stems, rate, rng)[: stems.shape[1] // 2]


def half_repeated(stems, rate, rng):
    """Return the first half, repeated to full length as in library search."""
    return repeat_sound(half(stems, rate, rng), stems.shape[1])


def detune(stems, rate, rng):
    """Shift the pitch by DETUNE_CENTS, up or down, by a change of speed."""
    import soxr

    ratio = 2 ** (rng.choice([-DETUNE_CENTS, DETUNE_CENTS]) / 1200)
    return soxr.resample(clean(stems, rate, rng), rate * ratio, rate)


def limiter(stems, rate, rng):
    """Amplify by LIMITER_DRIVE_DB and limit (pedalboard's Limiter)."""
    from pedalboard import Gain, Limiter, Pedalboard

    return Pedalboard([Gain(LIMITER_DRIVE_DB), Limiter(threshold_db=-1, release_ms=50)])(clean(stems, rate, rng), rate)


DEGRADATIONS: dict[str, Callable] = {
    "clean": clean,
    f"mp3, {MP3_KBPS} kbit/s": mp3,
    "room": room,
    f"balance within {BALANCE_DB} dB": balance,
    "half as long": half,
    "half, repeated": half_repeated,
    f"{DETUNE_CENTS} cents off": detune,
    f"limiter, {LIMITER_DRIVE_DB} dB": limiter,
}
