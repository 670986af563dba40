"""A query as the encoder hears it: any file or waveform, cut into windows of its clip length."""

from pathlib import Path

import numpy as np

from ..audio.io import QUIET_DB, RATE, SHORTEST_S, Unusable, check_usable, read_long, resample
from ..common.paths import short
from .catalog import centred, heard, onset


def windows(sound: str | Path | np.ndarray, seconds: float, sample_rate: int = RATE) -> tuple[np.ndarray, list[np.ndarray]]:
    """Starts (W,) in seconds and sounds (n,) at 16 kHz of the windows of a query, the last one shorter; silence before it
    and silent windows are left out.

    sound: an audio file (any rate, channels and length) or a waveform (n,). Raises FileNotFoundError, or ValueError that says why a
    sound cannot be searched.
    """
    name = short(sound) if isinstance(sound, (str, Path)) else "the query"
    try:
        audio = _read(Path(sound)) if isinstance(sound, (str, Path)) else _waveform(np.asarray(sound), sample_rate)
        level = centred(audio)
    except Unusable as error:
        raise ValueError(f"{name} cannot be searched: {error}") from None
    samples, least = round(seconds * RATE), round(SHORTEST_S * RATE)
    first = onset(level)  # as a library's sounds begin
    floor = np.abs(level).max() * 10 ** (QUIET_DB / 20)
    starts = range(first, max(first + 1, len(level) - least), samples)
    kept = [i for i in starts if np.abs(level[i : i + samples]).max() > floor]
    return np.array(kept) / RATE, [heard(level[i : i + samples]) for i in kept]


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
