"""Read a query from any file or waveform, and embed it as a whole or clip by clip."""

from pathlib import Path

import numpy as np

from ..audio.io import RATE, Unusable, as_float, check_rate, check_usable, read_long, repeat_sound, resample
from ..common.paths import short
from ..models.encoder import AudioEncoder
from .clips import remove_offset


def load(audio: str | Path | np.ndarray, sample_rate: int = RATE) -> np.ndarray:
    """Return a query as (n,) float32 at 16 kHz without an offset.

    audio: an audio file of any format, rate and length, or a waveform (n,). Raises FileNotFoundError, or ValueError with the reason why
    it cannot be searched.
    """
    is_file = isinstance(audio, (str, Path))
    try:
        return remove_offset(_read(Path(audio)) if is_file else _waveform(as_float(audio), sample_rate))
    except Unusable as error:
        raise ValueError(f"{short(Path(audio)) if is_file else 'the query'} cannot be searched: {error}") from None


def embed_clips(encoder: AudioEncoder, clips: list[np.ndarray], *, mix: bool) -> np.ndarray:
    """Return embeddings (W, D) of the clips of a query; those of a mix are repeated until they fill the clip length."""
    return encoder.embed([_filled(clip, encoder) for clip in clips] if mix else clips)


def embed_whole(encoder: AudioEncoder, clips: list[np.ndarray], *, mix: bool) -> np.ndarray:
    """Return the embedding (D,) of all clips of a query, one after the other; a mix shorter than the clip length is repeated."""
    sound = np.concatenate(clips)
    return encoder.embed([_filled(sound, encoder) if mix else sound])[0]


def _filled(sound: np.ndarray, encoder: AudioEncoder) -> np.ndarray:
    length = round(encoder.config.seconds * RATE)
    return repeat_sound(sound, length) if len(sound) <= length else sound


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
    rate = check_rate(sample_rate)
    return check_usable(resample(check_usable(audio, rate), rate), RATE)
