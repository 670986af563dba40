"""Descriptors of the Timbre Toolbox for one note: a retrieval baseline without training.

G. Peeters, B. Giordano, P. Susini, N. Misdariis and S. McAdams, "The Timbre Toolbox: extracting audio descriptors from
musical signals", JASA 130(5), 2011, doi 10.1121/1.3642604: its energy envelope, STFT magnitude and harmonic representation.

Where we differ, so that descriptors are defined for most notes and independent of level: energies and the odd-even ratio are in dB; the
envelope is divided by its maximum; the harmonic deviation is absolute and relative; frames 60 dB below the loudest are skipped; attack,
decay and release are durations; F0 comes from YIN and the partials; a frame without pitch is all noise, without partials.
"""

import numpy as np

GLOBAL = "attack time, decay time, release time, log attack time, attack slope, decay slope, temporal centroid, effective duration"
GLOBAL = (*GLOBAL.split(", "), "modulation frequency", "modulation amplitude")
SHAPE = ("centroid", "spread", "skewness", "kurtosis", "slope", "decrease", "roll-off", "variation", "frame energy")
TIME_VARYING = (
    *("rms envelope", *(f"stft {name}" for name in (*SHAPE, "flatness", "crest")), "harmonic energy", "noise energy", "noisiness"),
    *("f0", "inharmonicity", "tristimulus 1", "tristimulus 2", "tristimulus 3", "harmonic deviation", "odd-even ratio"),
    *(f"harmonic {name}" for name in SHAPE),
)
NAMES = GLOBAL + tuple(f"{name} {statistic}" for name in TIME_VARYING for statistic in ("median", "iqr"))
# Loudness, pitch and duration. Attack and release time hardly depend on how long a note is held.
NOT_TIMBRE = {f"{x} median" for x in TIME_VARYING if x == "f0" or x.endswith(("energy", "envelope"))} | {"effective duration", "decay time"}
DISTANCE_NAMES = tuple(name for name in NAMES if name not in NOT_TIMBRE)

RATE, STEP = 44100, 20 / 44100  # Hz; s between points of the envelope
WINDOW, HOP, PARTIALS = 4410, 1102, 20  # 100 and 25 ms; the STFT has 1024 and 256 samples
QUIET, FLOOR = 1e-6, 1e-4  # power of a silent frame relative to the loudest; least share of noise and of odd and even partials


def describe(audio: np.ndarray, sample_rate: float) -> dict[str, float]:
    """Return the descriptors NAMES of a mono note (n,) of any sample rate, analysed at RATE, in s, Hz, 1/s, dB or without unit.

    Medians and interquartile ranges are over the frames that are not silent. Undefined values are NaN: partials without pitch, modulation
    of a short note, everything of a silent one.
    """
    import librosa

    sound = librosa.resample(np.asarray(audio, np.float64), orig_sr=sample_rate, target_sr=RATE)
    level = np.abs(sound).max(initial=0)
    if not level:
        return dict.fromkeys(NAMES, np.nan)
    sound = librosa.util.fix_length((sound / level).astype(np.float32), size=max(len(sound), WINDOW))
    values = temporal(sound)
    for name, series in (stft(sound) | harmonic(sound)).items():
        low, median, high = np.percentile(series[np.isfinite(series)], [25, 50, 75]) if np.isfinite(series).any() else [np.nan] * 3
        loudness = 20 * np.log10(level) if name.endswith(("energy", "envelope")) else 0
        values |= {f"{name} median": median + loudness, f"{name} iqr": high - low}
    return {name: float(values[name]) for name in NAMES}


def vector(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    """Return the descriptors DISTANCE_NAMES of a mono note (n,), with NaN as in `describe`, to be standardised."""
    values = describe(audio, sample_rate)
    return np.array([values[name] for name in DISTANCE_NAMES])


def temporal(sound: np.ndarray) -> dict[str, float]:
    """Return the descriptors GLOBAL of a sound (n,) at RATE, from its envelope: modulus of the analytic signal, low-passed at 5 Hz.

    The attack goes from the first to the last effort (time from one tenth of the maximum to the next) that is at most three mean ones; its
    slope is weighted by a Gaussian around half the maximum. Decay and release end at 0.4 and 0.1 of the maximum. The modulation is the
    highest spectral peak (1 to 10 Hz, two periods or more) of the part between attack and release divided by its exponential trend.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks, hilbert

    modulus = np.abs(hilbert(np.pad(sound, (RATE // 2, RATE // 2 + -len(sound) % 20)))).reshape(-1, 20).mean(axis=1, dtype=np.float64)
    e = gaussian_filter1d(modulus, np.sqrt(np.log(2)) / (2 * np.pi * 5 * STEP))
    e, t = e / e.max(), np.arange(len(e)) * STEP - 0.5
    log, reached = np.log(np.maximum(e, 0.1)), np.array([np.argmax(e >= tenth / 10) for tenth in range(1, 11)])
    efforts = np.diff(reached)
    short = np.flatnonzero(efforts <= 3 * efforts.mean())
    first, last, attack = reached[short[0]], reached[short[-1] + 1], slice(short[0], short[-1] + 1)
    effective, centre, end = (np.flatnonzero(e >= share)[-1] for share in (0.4, 0.15, 0.1))
    middle, decay, held = slice(np.argmax(e >= 0.15), centre + 1), slice(last, centre + 1), slice(last + 220, effective - 220)
    values = {
        "attack time": (last - first) * STEP,
        "decay time": t[effective] - t[last],
        "release time": t[end] - t[effective],
        "log attack time": np.log10((last - first) * STEP),
        "attack slope": np.average(0.1 / (efforts[attack] * STEP), weights=np.exp(-0.5 * ((np.arange(9)[attack] - 3.5) / 5) ** 2)),
        "decay slope": np.polyfit(t[decay], log[decay], 1)[0],
        "temporal centroid": np.average(t[middle], weights=e[middle]),
        "effective duration": (e >= 0.4).sum() * STEP,
    }
    low = max(1, 2 / (max(held.stop - held.start, 1) * STEP))
    if low >= 10:
        return values | {"modulation frequency": np.nan, "modulation amplitude": np.nan}
    ratio = modulus[held] / np.exp(np.polyval(np.polyfit(t[held], log[held], 1), t[held]))
    window = np.hanning(len(ratio)) / np.hanning(len(ratio)).sum()
    spectrum, f = 2 * np.abs(np.fft.rfft((ratio / (ratio @ window) - 1) * window, 2**16)), np.fft.rfftfreq(2**16, STEP)
    height, frequency = max(((spectrum[k], f[k]) for k in find_peaks(spectrum)[0] if low <= f[k] <= 10), default=(0, np.nan))
    return values | {"modulation frequency": frequency if height >= 0.01 else np.nan, "modulation amplitude": min(height, 1)}


def shape(f: np.ndarray, a: np.ndarray) -> list[np.ndarray]:
    """Return centroid to variation of SHAPE, each (M,) or (M - 1,), of amplitudes a (K, M) at frequencies f (K, 1) or (K, M), in Hz.

    Moments and slope are of p = a / sum(a) over f, skewness and kurtosis NaN without spread; decrease is the mean of (p_k - p_1) / (k - 1);
    95 % of the energy lies under the roll-off; variation is 1 minus the normalised correlation with the frame before.
    """
    f, p, energy, distance = np.broadcast_to(f, a.shape), a / a.sum(axis=0), np.cumsum(a**2, axis=0), np.arange(1, len(a))[:, None]
    centroid, off, norm = (p * f).sum(axis=0), f - f.mean(axis=0), np.sqrt(energy[-1])
    d = f - centroid
    spread = np.sqrt((p * d**2).sum(axis=0))
    unit = np.where(spread > 1e-6 * centroid, spread, np.nan)
    slope = (p * off).sum(axis=0) / (off**2).sum(axis=0)
    decrease = ((p[1:] - p[0]) / distance).sum(axis=0) / np.maximum(p[1:].sum(axis=0), np.sqrt(FLOOR))
    rolloff = np.take_along_axis(f, (energy >= 0.95 * energy[-1]).argmax(axis=0)[None], 0)[0]
    variation = 1 - (a[:, 1:] * a[:, :-1]).sum(axis=0) / (norm[1:] * norm[:-1])
    return [centroid, spread, (p * d**3).sum(axis=0) / unit**3, (p * d**4).sum(axis=0) / unit**4, slope, decrease, rolloff, variation]


def stft(sound: np.ndarray) -> dict[str, np.ndarray]:
    """Return RMS envelope and STFT descriptors of a sound (n,) of peak 1 at RATE, from magnitudes under a Hamming window."""
    import librosa

    rms = librosa.feature.rms(y=sound, frame_length=1024, hop_length=256, center=False)[0]
    window = librosa.filters.get_window("hamming", 1024)
    loud = rms**2 > QUIET * rms.max() ** 2
    a = np.abs(librosa.stft(sound, n_fft=1024, hop_length=256, window=window, center=False))[:, loud].astype(np.float64)
    energy = librosa.power_to_db(2 * (a**2).sum(axis=0) / 1024 / (window**2).sum(), top_db=None)
    flatness, crest = librosa.feature.spectral_flatness(S=a, power=1, amin=1e-3)[0], a.max(axis=0) / a.mean(axis=0)
    shapes = shape(librosa.fft_frequencies(sr=RATE, n_fft=1024)[:, None], a)
    return dict(zip(TIME_VARYING, [librosa.amplitude_to_db(rms[loud], top_db=None), *shapes, energy, flatness, crest], strict=False))


def harmonic(sound: np.ndarray) -> dict[str, np.ndarray]:
    """Return the harmonic descriptors, over frames that are not silent or have a pitch, of a sound (n,) of peak 1 at RATE.

    Partial h is the highest peak nearest to h times the pitch of YIN; a frame whose correlation with the next period is below 0.5 has none.
    Noise is the power of a frame less that of its partials, at least FLOOR of it. Of partials at f_h with amplitudes a_h: f0 is that of the
    nearest harmonic series, weighted by a_h^2; inharmonicity 2 / f0 sum |f_h - h f0| a_h^2 / sum a_h^2; tristimulus the shares of a_1, of
    a_2 to a_4 and of the others; deviation sum |a_h - mean of a_h and its neighbours| / sum a_h; odd-even ratio one of powers.
    """
    import librosa

    pitch = librosa.yin(sound, fmin=25, fmax=5000, sr=RATE, frame_length=WINDOW, hop_length=HOP, center=False)
    frames = librosa.util.frame(sound, frame_length=WINDOW, hop_length=HOP)
    window = librosa.filters.get_window("blackman", WINDOW)[:, None]
    frames = frames - (frames * window).sum(axis=0) / window.sum()
    power = ((frames * window) ** 2).sum(axis=0) / (window**2).sum()
    loud = power > QUIET * power.max()
    pitch, frames, power = pitch[loud], frames[:, loud], power[loud]
    spectrum = np.abs(np.fft.rfft(frames * window, 3 * WINDOW, axis=0)) * 2 / window.sum()
    peaks, heights = librosa.piptrack(S=spectrum, sr=RATE, fmin=12, fmax=RATE / 2, threshold=2e-3)  # weaker: sidelobes
    k, m = np.nonzero(heights)
    k, m = (x[np.argsort(heights[k, m])] for x in (k, m))  # the highest peak of a partial is written last
    h = np.clip(np.rint(peaks[k, m] / pitch[m]), 0, PARTIALS + 1).astype(int)
    f, a = np.arange(PARTIALS + 2)[:, None] * pitch, np.zeros((PARTIALS + 2, len(pitch)))
    f[h, m], a[h, m] = peaks[k, m], heights[k, m]
    pairs = ((x[:-lag], x[lag:]) for x, lag in zip(frames.T, np.rint(RATE / pitch).astype(int), strict=True))
    f, a = f[1:-1], a[1:-1] * [x @ y > 0.5 * np.linalg.norm(x) * np.linalg.norm(y) for x, y in pairs]

    noise = np.maximum(power - (a**2).sum(axis=0) / 2, FLOOR * power)
    f, a, h = f[:, a.any(axis=0)], a[:, a.any(axis=0)], np.arange(1, PARTIALS + 1)[:, None]
    energy, total, odd, even = (x.sum(axis=0) for x in (a**2, a, a[::2] ** 2, a[1::2] ** 2))
    f0 = (a**2 * h * f).sum(axis=0) / (a**2 * h**2).sum(axis=0)
    inharmonicity = 2 / f0 * (a**2 * np.abs(f - h * f0)).sum(axis=0) / energy
    near = (np.pad(a, ((1, 1), (0, 0)))[:-2] + a + np.pad(a, ((1, 1), (0, 0)))[2:]) / np.where((h > 1) & (h < PARTIALS), 3, 2)
    ratio = np.maximum(odd, FLOOR * energy) / np.maximum(even, FLOOR * energy)
    harmonic, noisy, frame, ratio = (librosa.power_to_db(x, top_db=None) for x in (energy / 2, noise, power, ratio))
    shares = (x.sum(axis=0) / total for x in (a[:1], a[1:4], a[4:], np.abs(a - near)))
    series = [harmonic, noisy, noise / power, f0, inharmonicity, *shares, ratio, *shape(f, a), frame]
    return dict(zip(TIME_VARYING[-len(series) :], series, strict=True))
