"""Time-varying descriptors of the Timbre Toolbox: STFT magnitude and harmonic partials (section II of the paper).

Shapes: M frames; K bins or partials of frequency f (K,) or (M, K) and amplitude a (M, K).
"""

import numpy as np

from .timbre_temporal import RATE

SHAPE = ("centroid", "spread", "skewness", "kurtosis", "slope", "decrease", "roll-off", "variation", "frame energy")
STFT = tuple(f"stft {name}" for name in (*SHAPE, "flatness", "crest"))
HARMONIC = (
    *("harmonic energy", "noise energy", "noisiness", "f0", "inharmonicity", "tristimulus 1", "tristimulus 2", "tristimulus 3"),
    *("harmonic deviation", "odd-even ratio", *(f"harmonic {name}" for name in SHAPE)),
)
STFT_WINDOW, STFT_HOP = 1024, 256  # 23.2 and 5.8 ms
WINDOW, HOP = 4410, 1102  # 100 and 25 ms
SPECTRUM = 12288  # points of the spectrum of the partials
PARTIALS = 20
BLOCK = 2**17  # samples of frames at a time, which stay in the cache
F0 = (25.0, 5000.0)  # Hz
TROUGH = 0.1  # YIN: the first trough within this of the deepest one is chosen
PITCHED = 0.5  # YIN: aperiodicity (0 periodic, 1 noise) above which a frame has no pitch
QUIET = 1e-6  # power relative to the loudest frame, below which a frame is silent
WEAK = 2e-3  # amplitude relative to the strongest peak, below which a peak is no partial
EMPTY = 1e-5  # amplitude relative to the highest bin, floor for the flatness
FLOOR = 1e-4  # share of the energy, floor for noise and for odd and even partials


def shape(f: np.ndarray, a: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Return centroid to roll-off of SHAPE of frames with energy, (M, 7); skewness and kurtosis are NaN without spread.

    Moments are those of f weighted by the amplitude a over its sum; roll-off is the f under which 95 % of the energy lies;
    the slope (1/Hz) is that of the regression of a / sum(a) on f; decrease weights the differences to the first amplitude by
    1 / (k - 1). Rows with fewer than K partials, `count` (M,), are padded with f = a = 0.
    """
    total = a.sum(axis=1)
    p = a / total[:, None]
    centroid = np.einsum("mk,mk->m", p, np.broadcast_to(f, a.shape))
    deviation = f - centroid[:, None]
    weighted, squared = p * deviation, deviation**2
    spread = np.sqrt(np.einsum("mk,mk->m", weighted, deviation))
    unit = np.where(spread > 1e-6 * centroid, spread, np.nan)
    energy = np.cumsum(a**2, axis=1)
    rolled = (energy >= 0.95 * energy[:, -1:]).argmax(axis=1)
    rest = a[:, 1:]
    fall = ((rest - a[:, :1]) * (f[..., 1:] > 0) / np.arange(1, a.shape[1])).sum(axis=1)
    values = (
        centroid,
        spread,
        np.einsum("mk,mk->m", weighted, squared) / unit**3,
        np.einsum("mk,mk,mk->m", weighted, deviation, squared) / unit**4,
        (count * centroid - f.sum(axis=-1)) / (count * (f**2).sum(axis=-1) - f.sum(axis=-1) ** 2),
        fall / np.maximum(rest.sum(axis=1), np.sqrt(FLOOR) * total),
        np.broadcast_to(f, a.shape)[np.arange(len(a)), rolled],
    )
    return np.stack(values, axis=1)


def variation(a: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return 1 - normalised correlation of the amplitudes (M, K) of consecutive frames, (M - 1,); NaN where frame numbers `rows` jump."""
    norm = np.linalg.norm(a, axis=1)
    correlation = (a[1:] * a[:-1]).sum(axis=1) / (norm[1:] * norm[:-1])
    return np.where(np.diff(rows) == 1, 1 - correlation, np.nan)


def stft(sound: np.ndarray, gain: float) -> dict[str, np.ndarray]:
    """Return the RMS envelope and the descriptors STFT of a sound (n,) of peak 1 at RATE, over the frames that are not silent.

    Magnitudes under a Hamming window, DC included; frequencies in Hz; "rms envelope" and frame energy (with the window) in dBFS,
    with `gain` dB added; flatness is geometric over arithmetic mean, crest maximum over mean, of amplitudes (not powers).
    """
    from scipy.fft import rfft
    from scipy.signal import get_window

    frames = _frames(sound, STFT_WINDOW, STFT_HOP)
    power = (frames**2).mean(axis=1)
    rows = np.flatnonzero(power > QUIET * power.max())
    window = get_window("hamming", STFT_WINDOW).astype(np.float32)
    f = np.fft.rfftfreq(STFT_WINDOW, 1 / RATE).astype(np.float32)

    def analyse(frames):
        windowed = frames * window
        a = np.abs(rfft(windowed))
        floored = np.maximum(a, EMPTY * a.max(axis=1, keepdims=True))
        flatness = np.exp(np.log(floored).mean(axis=1)) / floored.mean(axis=1)
        energy = gain + _db(np.einsum("mn,mn->m", windowed, windowed) / (window**2).sum())
        return a, np.column_stack([shape(f, a, len(f)), energy, flatness, a.max(axis=1) / a.mean(axis=1)])

    a, values = _blockwise(analyse, frames[rows])
    names = [name for name in STFT if name != "stft variation"]
    return {"rms envelope": gain + _db(power[rows]), "stft variation": variation(a, rows)} | dict(zip(names, values.T, strict=True))


def harmonic(sound: np.ndarray, gain: float) -> dict[str, np.ndarray]:
    """Return the descriptors HARMONIC of a sound (n,) of peak 1 at RATE, over the frames that are not silent or that have a pitch.

    Of the frequencies f_h (Hz) and amplitudes a_h of the partials (see `partials`), and of a frame less its mean under a Blackman window:
    harmonic energy, the power of the partials; frame energy, that of the frame; noise energy, the rest (but at least 1 / 10000 of the
    frame's); all in dBFS, with `gain` dB added; noisiness, noise over frame energy, 1 for a frame without pitch;
    f0 (Hz), that of the harmonic series nearest to the partials, weighted by a_h^2;
    inharmonicity 2 / f0 sum |f_h - h f0| a_h^2 / sum a_h^2; tristimulus, the shares of a_1, of a_2 to a_4 and of the others;
    deviation sum |a_h - m_h| / sum a_h, m_h the mean of a_h and its neighbours; odd-even ratio, of powers, in dB within 40;
    centroid to variation as in `shape` and `variation`, of the partials.
    """
    frames = _frames(sound, WINDOW, HOP)
    window = _blackman()
    frames -= (frames @ window / window.sum())[:, None]
    power = (frames**2) @ (window**2) / (window**2).sum()
    rows = np.flatnonzero(power > QUIET * max(power.max(), QUIET))
    f0, aperiodicity = _blockwise(yin, frames[rows])
    pitched = aperiodicity <= PITCHED
    f, a = _blockwise(partials, frames[rows[pitched]], f0[pitched])
    has_partials = a.any(axis=1)
    f, a, pitched[pitched] = f[has_partials], a[has_partials], has_partials
    energy = (a**2).sum(axis=1) / 2
    total, noise, noisiness = power[rows], power[rows].copy(), np.ones(len(rows))
    noise[pitched] = np.maximum(total[pitched] - energy, FLOOR * total[pitched])
    noisiness[pitched] = noise[pitched] / total[pitched]
    values = {"harmonic energy": gain + _db(energy), "noise energy": gain + _db(noise), "noisiness": noisiness}
    values |= series(f, a) | {f"harmonic {name}": v for name, v in zip(SHAPE, shape(f, a, (f > 0).sum(axis=1)).T, strict=False)}
    return values | {"harmonic variation": variation(a, rows[pitched]), "harmonic frame energy": gain + _db(total)}


def series(f: np.ndarray, a: np.ndarray) -> dict[str, np.ndarray]:
    """Return f0 to odd-even ratio, each (M,), of the frequencies and amplitudes (M, PARTIALS) of partials; see `harmonic`."""
    h, power, total = np.arange(1, PARTIALS + 1), a**2, a.sum(axis=1)
    f0 = (power * h * f).sum(axis=1) / (power * h**2).sum(axis=1)
    off = (power * np.abs(f - h * f0[:, None])).sum(axis=1)
    padded, there = np.pad(a, ((0, 0), (1, 1))), np.pad(f > 0, ((0, 0), (1, 1)))
    near = (padded[:, :-2] + a + padded[:, 2:]) / np.maximum(there[:, :-2].astype(int) + there[:, 1:-1] + there[:, 2:], 1)
    odd, even, least = power[:, ::2].sum(axis=1), power[:, 1::2].sum(axis=1), FLOOR * power.sum(axis=1)
    return {
        "f0": f0,
        "inharmonicity": 2 / f0 * off / power.sum(axis=1),
        "tristimulus 1": a[:, 0] / total,
        "tristimulus 2": a[:, 1:4].sum(axis=1) / total,
        "tristimulus 3": a[:, 4:].sum(axis=1) / total,
        "harmonic deviation": (np.abs(a - near) * (f > 0)).sum(axis=1) / total,
        "odd-even ratio": _db(np.maximum(odd, least) / np.maximum(even, least)),
    }


def partials(frames: np.ndarray, f0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies (Hz) and amplitudes (M, PARTIALS) of the partials of frames (M, WINDOW) with F0 (M,).

    Partial h is the strongest peak of the spectrum under a Blackman window between (h - 1/2) and (h + 1/2) times F0, refined by a
    parabola through three points in dB. Without a peak it has amplitude 0 at h times F0; above RATE / 2 both are 0. Peaks 54 dB
    below the strongest are skipped, as they may be sidelobes of the window.
    """
    from scipy.fft import rfft

    window = _blackman()
    end = (PARTIALS + 0.5) * f0 * SPECTRUM / RATE
    a = np.abs(rfft(frames * window, SPECTRUM)[:, : int(end.max(initial=0)) + 2]) * (2 / window.sum())
    strongest = np.where(np.arange(a.shape[1]) < end[:, None], a, 0).max(axis=1, keepdims=True)
    inner = a[:, 1:-1]
    peaks = (inner > a[:, :-2]) & (inner >= a[:, 2:]) & (inner > WEAK * strongest)
    m, k = np.nonzero(peaks)
    low, middle, high = (np.log(np.maximum(a[m, k + i], 1e-30, dtype=np.float64)) for i in range(3))
    shift = (low - high) / (2 * (low - 2 * middle + high))
    place = (k + 1 + shift) * RATE / SPECTRUM
    peak = np.exp(middle - (low - high) * shift / 4)
    h = np.rint(place / f0[m]).astype(int)
    m, h, place, peak = (x[(h >= 1) & (h <= PARTIALS)] for x in (m, h, place, peak))
    amplitude = np.zeros((len(frames), PARTIALS))
    np.maximum.at(amplitude, (m, h - 1), peak)
    frequency = f0[:, None] * np.arange(1, PARTIALS + 1)
    frequency[frequency > RATE / 2] = 0
    best = amplitude[m, h - 1] == peak
    frequency[m[best], h[best] - 1] = place[best]
    return frequency, amplitude


def yin(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F0 (Hz) and aperiodicity (0 periodic, 1 noise) of frames (M, WINDOW), each (M,); aperiodicity is inf without a period.

    A. de Cheveigne and H. Kawahara, JASA 111(4), 2002, steps 1 to 5, with a threshold TROUGH above the deepest trough, for noisy
    sounds. Aperiodicity is the depth of the trough or, if larger, the difference divided by the power of the two segments that it
    compares. (librosa.yin returns no aperiodicity.)
    """
    from scipy.fft import irfft, rfft

    longest, shortest = int(np.ceil(RATE / F0[0])) + 1, int(RATE / F0[1])
    width = WINDOW - longest
    product = irfft(rfft(frames) * rfft(frames[:, :width], WINDOW).conj(), WINDOW)[:, : longest + 1]
    power = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    both = power[:, width : width + 1] + power[:, width:] - power[:, :-width]  # of the segment and of the one at each lag
    difference = np.maximum(both - 2 * product, 0)[:, 1:]
    sums, lags = np.cumsum(difference, axis=1), np.arange(1, longest + 1, dtype=np.float32)
    normal = np.where(sums > 1e-3 * power[:, -1:], difference * lags / np.maximum(sums, 1e-30), np.float32(1))
    low, middle, high = normal[:, :-2], normal[:, 1:-1], normal[:, 2:]
    trough = (middle < low) & (middle <= high) & (lags[1:-1] >= shortest)
    curve = np.where(trough, low - 2 * middle + high, 1)
    depth = np.where(trough, middle - (low - high) ** 2 / (8 * curve), np.inf)
    at = np.arange(len(frames)), (trough & (depth <= depth.min(axis=1, keepdims=True) + TROUGH)).argmax(axis=1)
    lag = lags[1:-1][at[1]] + (low - high)[at] / (2 * curve[at])
    return RATE / lag, np.maximum(depth[at], difference[:, 1:-1][at] / np.maximum(both[:, 2:-1][at], 1e-30))


def _blockwise(function, *rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Apply a function of arrays of rows to a block of rows at a time and join its results: twice as fast as all at once."""
    size = BLOCK // rows[0].shape[1]
    parts = [function(*(x[i : i + size] for x in rows)) for i in range(0, max(len(rows[0]), 1), size)]
    return tuple(np.concatenate(x) for x in zip(*parts, strict=True))


def _frames(sound: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Return (M, size) float32 frames, one every `hop` samples and one at the end; a shorter sound is centred in one frame."""
    missing = max(size - len(sound), 0)
    padded = np.pad(sound.astype(np.float32), (missing // 2, missing - missing // 2))
    starts = np.append(np.arange(0, len(padded) - size, hop), len(padded) - size)
    return np.lib.stride_tricks.sliding_window_view(padded, size)[starts]


def _blackman() -> np.ndarray:
    from scipy.signal import get_window

    return get_window("blackman", WINDOW).astype(np.float32)


def _db(power: np.ndarray) -> np.ndarray:
    """Return power in dB, NaN for 0."""
    return 10 * np.log10(np.where(power > 0, power, np.nan))
