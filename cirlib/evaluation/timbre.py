"""Descriptors of the Timbre Toolbox for one note: a retrieval baseline that nobody trains.

G. Peeters, B. Giordano, P. Susini, N. Misdariis and S. McAdams, "The Timbre Toolbox: extracting audio descriptors from
musical signals", JASA 130(5), 2011, doi 10.1121/1.3642604. Written from its formulas, for its energy envelope
(`timbre_temporal`), its STFT magnitude and its harmonic representation (`timbre_spectral`); no ERB model, no STFT power.

Choices of ours, so that each number is defined for as many notes as can be and free of the level: energies, RMS and the
odd-even ratio are in dB, so that an interquartile range tells no level; slopes are those of the envelope over its maximum, and
the amplitude of a modulation is over its trend; the harmonic deviation is absolute and over the mean amplitude; frames 60 dB
under the loudest one do not count, so that silence around a note changes no median; attack, decay and release are lengths;
F0 is by YIN and the partials; and a frame without pitch is all noise, and has no other descriptor of partials.
"""

import numpy as np

from .timbre_spectral import HARMONIC, STFT, harmonic, stft
from .timbre_temporal import GLOBAL, RATE, temporal

__all__ = ["DISTANCE_NAMES", "NAMES", "RATE", "describe", "vector"]

TIME_VARYING = ("rms envelope", *STFT, *HARMONIC)
NAMES = GLOBAL + tuple(f"{name} {statistic}" for name in TIME_VARYING for statistic in ("median", "iqr"))

# What tells how loud, how high or how long a note is played. Attack and release time stay: they hardly depend on how long it is held.
NOT_TIMBRE = (
    *(f"{name} median" for name in ("rms envelope", "stft frame energy", "harmonic energy", "noise energy", "harmonic frame energy")),
    *("f0 median", "effective duration", "decay time"),
)
DISTANCE_NAMES = tuple(name for name in NAMES if name not in NOT_TIMBRE)


def describe(audio: np.ndarray, sample_rate: float) -> dict[str, float]:
    """Every descriptor of NAMES, in that order, of a mono note (n,) at any rate; it is analysed at RATE.

    Units: s, Hz, 1/s, dB, else none; see `temporal`, `stft` and `harmonic`. A time-varying descriptor gives its median and
    its interquartile range over the frames that sound. A value is finite, or NaN where it is not defined: those of the partials
    of a sound without pitch, the modulation of a short one, all of a silent one. The temporal centroid counts from the first
    sample; silence around a note changes nothing else. ValueError for a sound that is empty, not mono or not finite, or a rate
    that is not above 0.
    """
    audio = np.asarray(audio, np.float64)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"a note must be mono, (n,) with n > 0, got the shape {audio.shape}; average the channels of a stereo sound")
    if not np.isfinite(audio).all():
        raise ValueError("the note holds NaN or infinite samples; leave it out or repair it")
    if not 0 < sample_rate < np.inf:
        raise ValueError(f"sample_rate must be above 0, got {sample_rate}")
    level = np.abs(audio).max()
    sound = _at_rate(audio / level, sample_rate) if level else audio  # of peak 1: single precision holds any level
    if not sound.any():
        return dict.fromkeys(NAMES, np.nan)
    gain = 20 * np.log10(level)
    series = stft(sound, gain) | harmonic(sound, gain)
    values = temporal(sound)
    for name in TIME_VARYING:
        values[f"{name} median"], values[f"{name} iqr"] = _statistics(series[name])
    return {name: float(values[name]) for name in NAMES}


def vector(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    """The descriptors of DISTANCE_NAMES as (len(DISTANCE_NAMES),) float64, NaN where not defined; errors as `describe`.

    Their units and ranges differ widely: standardise each over the gallery before any distance.
    """
    values = describe(audio, sample_rate)
    return np.array([values[name] for name in DISTANCE_NAMES])


def _at_rate(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    """(n,) at RATE, by soxr at its high quality."""
    if sample_rate == RATE:
        return audio
    import soxr

    return soxr.resample(audio, sample_rate, RATE)


def _statistics(values: np.ndarray) -> tuple[float, float]:
    """Median and interquartile range of the finite values, NaN without any."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, middle, high = np.percentile(values, [25, 50, 75])
    return middle, high - low
