"""Descriptors of the Timbre Toolbox for one note: a retrieval baseline without training.

G. Peeters, B. Giordano, P. Susini, N. Misdariis and S. McAdams, "The Timbre Toolbox: extracting audio descriptors from
musical signals", JASA 130(5), 2011, doi 10.1121/1.3642604. Implemented from its formulas: the energy envelope (timbre_temporal.py), the
STFT magnitude and the harmonic representation (timbre_spectral.py), without the ERB model and STFT power.

Where we differ, so that descriptors are defined for most notes and independent of level: energies, RMS and the odd-even ratio are in
dB; the envelope is divided by its maximum and a modulation by the trend; the harmonic deviation is absolute and divided by the mean
amplitude; frames 60 dB below the loudest are skipped, and so is silence; attack, decay and release are durations; F0 comes from YIN
and the partials; a frame without pitch is all noise and has no descriptors of partials.
"""

import numpy as np

from .timbre_spectral import HARMONIC, STFT, harmonic, stft
from .timbre_temporal import GLOBAL, RATE, temporal

__all__ = ["DISTANCE_NAMES", "NAMES", "RATE", "describe", "vector"]

TIME_VARYING = ("rms envelope", *STFT, *HARMONIC)
NAMES = GLOBAL + tuple(f"{name} {statistic}" for name in TIME_VARYING for statistic in ("median", "iqr"))

# Loudness, pitch and duration. Attack and release time hardly depend on how long a note is held.
NOT_TIMBRE = (
    *(f"{name} median" for name in ("rms envelope", "stft frame energy", "harmonic energy", "noise energy", "harmonic frame energy")),
    *("f0 median", "effective duration", "decay time"),
)
DISTANCE_NAMES = tuple(name for name in NAMES if name not in NOT_TIMBRE)


def describe(audio: np.ndarray, sample_rate: float) -> dict[str, float]:
    """Return the descriptors NAMES of a mono note (n,) of any sample rate, analysed at RATE.

    Units (s, Hz, 1/s, dB or none): see `temporal`, `stft` and `harmonic`. Time-varying descriptors have a median and an interquartile
    range over the frames that are not silent. Undefined values are NaN: partials without pitch, modulation of a short note, everything
    of a silent one. Silence around a note changes only the temporal centroid, which counts from the first sample. Raises ValueError
    for a sound that is empty, not mono or not finite, and a sample rate that is not above 0.
    """
    audio = np.asarray(audio, np.float64)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"a note must be mono, (n,) with n > 0, got the shape {audio.shape}; average the channels of a stereo sound")
    if not np.isfinite(audio).all():
        raise ValueError("the note holds NaN or infinite samples: repair or skip it")
    if not 0 < sample_rate < np.inf:
        raise ValueError(f"sample_rate must be above 0, got {sample_rate}")
    level = np.abs(audio).max()
    sound = _at_rate(audio / level, sample_rate) if level else audio  # of peak 1, for single precision
    if not sound.any():
        return dict.fromkeys(NAMES, np.nan)
    gain = 20 * np.log10(level)
    series = stft(sound, gain) | harmonic(sound, gain)
    values = temporal(sound)
    for name in TIME_VARYING:
        values[f"{name} median"], values[f"{name} iqr"] = _statistics(series[name])
    return {name: float(values[name]) for name in NAMES}


def vector(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    """Return the descriptors DISTANCE_NAMES, (len(DISTANCE_NAMES),) float64, with NaN and errors as `describe`; standardise them first."""
    values = describe(audio, sample_rate)
    return np.array([values[name] for name in DISTANCE_NAMES])


def _at_rate(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    if sample_rate == RATE:
        return audio
    import soxr

    return soxr.resample(audio, sample_rate, RATE)


def _statistics(values: np.ndarray) -> tuple[float, float]:
    """Return median and interquartile range of the finite values; NaN if there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, middle, high = np.percentile(values, [25, 50, 75])
    return middle, high - low
