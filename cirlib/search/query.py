"""A query, from any file or waveform: cut into windows of the encoder's clip length, without silence."""

from pathlib import Path

import numpy as np

from ..audio.io import QUIET_DB, RATE, SHORTEST_S, Unusable, check_usable, read_long, resample
from ..common.paths import short
from .catalog import normalise, onset, remove_offset


def windows(audio: str | Path | np.ndarray, seconds: float, *, sample_rate: int = RATE) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the windows of a query: their starts (W,) in seconds, and waveforms (n,) at 16 kHz, peak-normalised.

    audio: an audio file of any format, rate and length, or a waveform (n,). Silence at the beginning and silent windows are skipped; the
    last window may be shorter. Raises FileNotFoundError, or ValueError with the reason why it cannot be searched.
    """
    is_file = isinstance(audio, (str, Path))
    try:
        sound = remove_offset(_read(Path(audio)) if is_file else _waveform(np.asarray(audio), sample_rate))
    except Unusable as error:
        raise ValueError(f"{short(Path(audio)) if is_file else 'the query'} cannot be searched: {error}") from None
    length, shortest, first = round(seconds * RATE), round(SHORTEST_S * RATE), onset(sound)
    floor = np.abs(sound).max() * 10 ** (QUIET_DB / 20)
    starts = range(first, max(first + 1, len(sound) - shortest), length)
    starts = [i for i in starts if np.abs(sound[i : i + length]).max() > floor]
    return np.array(starts) / RATE, [normalise(sound[i : i + length]) for i in starts]


def _read(path: Path) -> np.ndarray:
    path = path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no file {short(path)}: name the sound to search with")
    try:
        return read_long(path)
    except OSError as error:
        raise Unusable(f"not readable ({error.strerror})") from None


def _waveform(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    if audio.ndim != 1:
        raise Unusable(f"a waveform must be (samples,), one channel, got shape {audio.shape}")
    if sample_rate <= 0:
        raise Unusable(f"a sample rate must be above 0, got {sample_rate}")
    return check_usable(resample(check_usable(audio.astype(np.float32), sample_rate), sample_rate), RATE)
