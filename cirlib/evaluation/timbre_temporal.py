"""Temporal descriptors of the Timbre Toolbox, from the energy envelope (section II of the paper)."""

import numpy as np

RATE = 44100
GLOBAL = (
    *("attack time", "decay time", "release time", "log attack time", "attack slope", "decay slope"),
    *("temporal centroid", "effective duration", "modulation frequency", "modulation amplitude"),
)
STEP = 20  # samples of a step of the envelope: 0.45 ms
CUTOFF = 5.0  # Hz
DELAY = 2 / (2 * np.pi * CUTOFF)  # s, of a third-order Butterworth filter at low frequencies
TAIL = 0.5  # s of silence after the sound, for the filter to settle
REST = round(0.1 * RATE / STEP)  # steps that are skipped after an attack and before a release, for the filter to settle
EFFORT = 3.0  # times the mean effort; longer efforts are no part of the attack
EFFECTIVE, CENTRE, END = 0.4, 0.15, 0.1  # of the maximum: effective duration, temporal centroid and decay slope, end of the release
MODULATION = (1.0, 10.0)  # Hz
LEAST = 0.01  # smaller modulations have no frequency


def envelope(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return times (s) and energy envelope, in steps, of a sound (n,) at RATE: modulus of the analytic signal, low-passed at 5 Hz.

    The delay of the filter is subtracted from the times, which start below 0. The shortest possible attack is about 0.06 s.
    """
    from scipy.fft import next_fast_len
    from scipy.signal import butter, hilbert, sosfilt

    tail = round(TAIL * RATE)
    modulus = np.abs(hilbert(sound.astype(np.float32), next_fast_len(len(sound) + 2 * tail)))  # circular: samples before 0 are at its end
    steps = modulus[: (len(sound) + tail) // STEP * STEP].reshape(-1, STEP).mean(axis=1, dtype=np.float64)
    smooth = sosfilt(butter(3, CUTOFF, fs=RATE / STEP, output="sos"), steps)
    return (np.arange(len(smooth)) + 0.5) * STEP / RATE - DELAY, smooth


def temporal(sound: np.ndarray) -> dict[str, float]:
    """Return the descriptors GLOBAL of a sound (n,) at RATE that is not silent. With the envelope e, of maximum 1:

    attack time (s), its log10 and attack slope (1/s): see `attack`;
    decay time (s): from the end of the attack until e is above 0.4 for the last time;
    release time (s): from there until e is above 0.1 for the last time;
    decay slope (1/s): slope of log e from its maximum until it is above 0.15 for the last time, -alpha of e ~ exp(-alpha t);
    temporal centroid (s): mean time, weighted by e, between the first and the last time that e is above 0.15;
    effective duration (s): time that e is above 0.4;
    modulation frequency (Hz) and amplitude: see `modulation`; of the part between attack and release, less 0.1 s at either end.
    """
    t, e = envelope(sound)
    e = e / e.max()
    end_of = {share: np.flatnonzero(e >= share)[-1] for share in (EFFECTIVE, CENTRE, END)}
    first, last, slope = attack(e)
    centre = slice(np.argmax(e >= CENTRE), end_of[CENTRE] + 1)
    duration = (last - first) * STEP / RATE
    values = {
        "attack time": duration,
        "decay time": t[end_of[EFFECTIVE]] - t[last],
        "release time": t[end_of[END]] - t[end_of[EFFECTIVE]],
        "log attack time": np.log10(duration),
        "attack slope": slope,
        "decay slope": _trend(t, e, e.argmax(), end_of[CENTRE])[0],
        "temporal centroid": t[centre] @ e[centre] / e[centre].sum(),
        "effective duration": (e >= EFFECTIVE).sum() * STEP / RATE,
    }
    values["modulation frequency"], values["modulation amplitude"] = modulation(t, e, last + REST, end_of[EFFECTIVE] - REST)
    return values


def attack(e: np.ndarray) -> tuple[int, int, float]:
    """Return first and last step and slope (1/s) of the attack of an envelope of maximum 1, by the weakest effort method.

    An effort is the time from one threshold (0.1, 0.2 .. 1) to the next. The attack goes from the lowest point of the first effort
    that is no longer than 3 mean ones to the highest point of the last such effort. Its slope is the mean of the slopes of the
    efforts, weighted by a Gaussian of their height with mean and standard deviation 0.5.
    """
    thresholds = np.arange(1, 11) / 10
    reached = np.array([np.argmax(e >= level) for level in thresholds])
    efforts = np.maximum(np.diff(reached), 1)
    short = np.flatnonzero(efforts <= EFFORT * efforts.mean())
    i, j = short[0], short[-1]
    first = reached[i] + e[reached[i] : reached[i + 1] + 1].argmin()
    last = reached[j] + e[reached[j] : reached[j + 1] + 1].argmax()
    slopes = 0.1 / (efforts[i : j + 1] * STEP / RATE)
    weights = np.exp(-0.5 * ((thresholds[i : j + 1] + 0.05 - 0.5) / 0.5) ** 2)
    return first, max(last, first + 1), np.average(slopes, weights=weights)


def modulation(t: np.ndarray, e: np.ndarray, first: int, last: int) -> tuple[float, float]:
    """Return frequency (Hz) and amplitude (1 = full) of the modulation of an envelope between two steps, NaN for 0.2 s or less.

    It is the highest peak, between 1 and 10 Hz and of at least two periods, of the Fourier transform of the envelope divided by its
    exponential trend; the attenuation of the filter is compensated, up to 1. Without a peak the amplitude is 0; amplitudes below 0.01
    have no frequency (NaN).
    """
    from scipy.signal import zoom_fft

    low, high = max(MODULATION[0], 2 / max(t[last] - t[first], 1e-9)), MODULATION[1]
    if low >= high:
        return np.nan, np.nan
    slope, intercept = _trend(t, e, first, last)
    ratio = e[first : last + 1] / np.exp(slope * t[first : last + 1] + intercept)
    window = np.hanning(len(ratio))
    window /= window.sum()
    frequencies = np.linspace(low, high, max(3, 1 + round((high - low) * 50)))
    spectrum = np.abs(zoom_fft((ratio / (ratio @ window) - 1) * window, (low, high), len(frequencies), fs=RATE / STEP, endpoint=True))
    peaks = 1 + np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:]))
    if not len(peaks):
        return np.nan, 0.0
    amplitudes = 2 * spectrum[peaks] * np.sqrt(1 + (frequencies[peaks] / CUTOFF) ** 6)
    highest = amplitudes.argmax()
    return frequencies[peaks[highest]] if amplitudes[highest] >= LEAST else np.nan, min(amplitudes[highest], 1.0)


def _trend(t: np.ndarray, e: np.ndarray, first: int, last: int) -> tuple[float, float]:
    """Return slope and intercept of log e between two steps, where e is above 0.1; NaN for fewer than two steps."""
    steps = np.arange(first, last + 1)
    steps = steps[e[steps] >= END]
    if len(steps) < 2:
        return np.nan, np.nan
    return tuple(np.polyfit(t[steps], np.log(e[steps]), 1))
