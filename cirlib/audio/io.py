"""Reading sound files: mono, 16 kHz, checked; and trimming, fading and resampling."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import soundfile

RATE = 16000
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".caf", ".w64", ".au", ".snd")
LOUDEST = 1e9  # largest sample (full scale is 1): sums and squares of louder ones would overflow single precision
QUIET_DB = -60.0  # relative to the peak of a query: a window below is silent
FLOOR_DB = -70.0  # a file whose peak is below is silent
SHORTEST_S = 0.02
LONGEST_S = 2 * 3600  # of a file for read_long
BLOCK_S = 10  # of a file, decoded at once
MOST_SAMPLES = 1 << 28  # of one channel in memory at once
RATES, MOST_CHANNELS = (1000, 768_000), 64  # of a file


class Unusable(ValueError):
    """A sound that a bank cannot store; the message is the reason that the data card shows."""


def read_audio(path: Path, seconds: float | None = None) -> np.ndarray:
    """Return a file, or its first `seconds`, as mono (n,) at 16 kHz: int16 if the file is 16-bit mono at 16 kHz, else float32.

    Raises Unusable if it is a folder, empty, in an unknown format, truncated, silent, not finite or too short.
    """
    with _open(path) as file:
        total, rate = file.frames, file.samplerate
        unchanged = file.channels == 1 and rate == RATE and file.subtype == "PCM_16"
        wanted = total if seconds is None else min(total, int(np.ceil(seconds * rate)))
        if wanted > MOST_SAMPLES:
            raise Unusable(f"longer than {MOST_SAMPLES} samples")
        blocks, count = [np.empty(0, np.int16 if unchanged else np.float32)], 0
        while count < wanted:  # in blocks: the length in a header may exceed all memory
            block = file.read(min(_block_size(file), wanted - count), dtype=blocks[0].dtype.name, always_2d=True)
            if not len(block):
                break
            count += len(block)
            blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        _check_length(file, count, wanted)
    audio = np.concatenate(blocks)
    return resample(check_usable(audio, rate), rate)[: None if seconds is None else round(seconds * RATE)]


def read_long(path: Path) -> np.ndarray:
    """Return a whole file as (n,) float32 at 16 kHz, decoded and resampled in blocks to save memory. Raises as read_audio does."""
    import soxr

    with _open(path) as file:
        stream = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32", quality="HQ")
        blocks, count = [], 0
        for block in file.blocks(_block_size(file), dtype="float32", always_2d=True):
            count += len(block)
            if count > LONGEST_S * file.samplerate:
                raise Unusable(f"longer than {LONGEST_S // 3600} hours")
            blocks.append(stream.resample_chunk(block.mean(axis=1)))
        blocks.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
        _check_length(file, count, file.frames)
    return check_usable(np.concatenate(blocks), RATE)


@contextmanager
def _open(path: Path) -> Iterator["soundfile.SoundFile"]:
    import soundfile

    if path.is_dir():
        raise Unusable("a folder, not a file")
    if not path.stat().st_size:
        raise Unusable("an empty file")
    try:
        with soundfile.SoundFile(path) as file:
            if not RATES[0] <= file.samplerate <= RATES[1] or not 0 < file.channels <= MOST_CHANNELS:
                limits = f"{RATES[0]} to {RATES[1]} Hz and at most {MOST_CHANNELS} channels are supported"
                raise Unusable(f"{file.samplerate} Hz, {file.channels} channels: {limits}")
            yield file
    except UnicodeError:
        raise Unusable("its name is not UTF-8") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise Unusable(f"not readable as sound ({(reason.partition(': ')[2] or reason).strip(' .')})") from None


def _block_size(file: "soundfile.SoundFile") -> int:
    """Return the number of frames to decode at once."""
    return max(1, min(BLOCK_S * file.samplerate, MOST_SAMPLES // (16 * file.channels)))


def _check_length(file, count: int, expected: int) -> None:
    """Raise Unusable if fewer frames were decoded than expected, or than the header of a WAV or AIFF file says."""
    size = re.search(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be", file.extra_info, re.MULTILINE)  # libsndfile's log
    if count < expected or (size and int(size[1]) < 0x7FFFFFFF):  # headers of streams have the largest size
        raise Unusable("truncated: shorter than its header says")


def check_usable(audio: np.ndarray, rate: int) -> np.ndarray:
    """Return `audio` (n,), or raise Unusable if it is too short, not finite, too loud or silent."""
    if len(audio) < SHORTEST_S * rate:
        raise Unusable(f"shorter than {SHORTEST_S:g} s")
    peak = np.abs(audio).max() if audio.dtype != np.int16 else max(int(audio.max()), -int(audio.min())) / 32768
    if not np.isfinite(peak):
        raise Unusable("not finite (NaN or infinite samples)")
    if peak > LOUDEST:
        raise Unusable(f"louder than {LOUDEST:g} times full scale")
    if peak < 10 ** (FLOOR_DB / 20):
        raise Unusable("silent")
    return audio


def resample(audio: np.ndarray, rate: int, target: int = RATE) -> np.ndarray:
    """Return (n,) at another sample rate (soxr, high quality)."""
    if rate == target:
        return audio
    import soxr

    return soxr.resample(audio.astype(np.float32, copy=False), rate, target, quality="HQ")


def trim(audio: np.ndarray, floor_db: float = -60) -> np.ndarray:
    """Cut the end that stays below `floor_db` relative to the peak."""
    loud = np.flatnonzero(np.abs(audio) > np.abs(audio).max(initial=0) * 10 ** (floor_db / 20))
    return audio[: loud[-1] + 1] if len(loud) else audio


def fade_end(audio: np.ndarray, rate: int = RATE, seconds: float = 0.03) -> np.ndarray:
    """Fade the end out in place, so that a cut note does not click."""
    n = min(round(seconds * rate), len(audio))
    audio[len(audio) - n :] *= np.linspace(1, 0, n, dtype=audio.dtype)
    return audio


def repeat_sound(sound: np.ndarray, samples: int) -> np.ndarray:
    """Trim the silence at the end of a mix (n,) and repeat it up to (samples,): encoders are trained on mixtures of full length."""
    trimmed = trim(sound, QUIET_DB)
    return np.resize(trimmed, samples) if trimmed.any() else np.zeros(samples, sound.dtype)
