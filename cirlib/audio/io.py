"""Sound on its way into a bank: reading files, one channel, 16 kHz, no tail of silence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import soundfile

LOUDEST = 1e9  # of a sample, full scale is 1: sums and squares of what is louder leave single precision
QUIET_DB = -60.0  # below the peak of the query: a window without sound
RATE = 16000
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".caf", ".w64", ".au", ".snd")
SHORTEST_S = 0.02
BLOCK_S = 10  # of a long file, decoded at once
LONGEST_S = 2 * 3600  # of a file that is read whole
MOST_SAMPLES = 1 << 28  # of one channel in memory at once
RATES, MOST_CHANNELS = (1000, 768_000), 64  # of a file
FLOOR_DB = -70.0  # peak under which a file counts as silent


class Unusable(ValueError):
    """A sound that cannot go into a bank; the text is the reason that the data card shows."""


def read_audio(path: Path, seconds: float | None = None) -> np.ndarray:
    """One file as (n,) at 16 kHz, channels averaged, its first `seconds` at most: int16 where the file is that already, else float32.

    Raises Unusable for what is no sound: a folder, an empty, foreign, truncated, silent, non-finite or too short file.
    """
    with _reading(path) as file:
        told, rate = file.frames, file.samplerate
        plain = file.channels == 1 and rate == RATE and file.subtype == "PCM_16"
        most = told if seconds is None else min(told, int(np.ceil(seconds * rate)))
        if most > MOST_SAMPLES:
            raise Unusable(f"longer than {MOST_SAMPLES} samples")
        parts, count = [np.empty(0, np.int16 if plain else np.float32)], 0
        while count < most:  # in blocks: a header may promise what no memory holds
            block = file.read(min(_block(file), most - count), dtype=parts[0].dtype.name, always_2d=True)
            if not len(block):
                break
            count += len(block)
            parts.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        _check_whole(file, count, most)
    audio = np.concatenate(parts)
    return resample(usable(audio, rate), rate)[: None if seconds is None else round(seconds * RATE)]


def read_long(path: Path) -> np.ndarray:
    """A whole file as (n,) float32 at 16 kHz, decoded and resampled in blocks: memory is that of the result. Raises as read_audio."""
    import soxr

    with _reading(path) as file:
        stream = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32", quality="HQ")
        parts, count = [], 0
        for block in file.blocks(_block(file), dtype="float32", always_2d=True):
            count += len(block)
            if count > LONGEST_S * file.samplerate:
                raise Unusable(f"longer than {LONGEST_S // 3600} hours")
            parts.append(stream.resample_chunk(block.mean(axis=1)))
        parts.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
        _check_whole(file, count, file.frames)
    return usable(np.concatenate(parts), RATE)


@contextmanager
def _reading(path: Path) -> Iterator["soundfile.SoundFile"]:
    """An open sound file; Unusable for what is none."""
    import soundfile

    if path.is_dir():
        raise Unusable("a folder, not a file")
    if not path.stat().st_size:
        raise Unusable("an empty file")
    try:
        with soundfile.SoundFile(path) as file:
            if not RATES[0] <= file.samplerate <= RATES[1] or not 0 < file.channels <= MOST_CHANNELS:
                raise Unusable(
                    f"{file.samplerate} Hz on {file.channels} channels: {RATES[0]} to {RATES[1]} Hz on {MOST_CHANNELS} at most are read"
                )
            yield file
    except UnicodeError:
        raise Unusable("its name is not UTF-8") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise Unusable(f"not readable as sound ({(reason.partition(': ')[2] or reason).strip(' .')})") from None


def _block(file: "soundfile.SoundFile") -> int:
    """Frames that are decoded at once."""
    return max(1, min(BLOCK_S * file.samplerate, MOST_SAMPLES // (16 * file.channels)))


def _check_whole(file, read: int, told: int) -> None:
    if read < told or _cut(file.extra_info):
        raise Unusable("truncated: shorter than its header tells")


def _cut(log: str) -> bool:
    """Whether libsndfile tells that the header of a WAV or AIFF file promises more samples than there are; streams promise the most."""
    m = re.search(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be", log, re.MULTILINE)
    return bool(m) and int(m[1]) < 0x7FFFFFFF


def usable(audio: np.ndarray, rate: int) -> np.ndarray:
    """`audio` (n,), or Unusable if it is too short, not finite or silent."""
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
    """(n,) at another rate, by soxr at its high quality."""
    if rate == target:
        return audio
    import soxr

    return soxr.resample(audio.astype(np.float32, copy=False), rate, target, quality="HQ")


def trim(audio: np.ndarray, floor_db: float = -60) -> np.ndarray:
    """Cut the end that stays below `floor_db` under the peak."""
    loud = np.flatnonzero(np.abs(audio) > np.abs(audio).max() * 10 ** (floor_db / 20))
    return audio[: loud[-1] + 1] if len(loud) else audio


def fade_end(audio: np.ndarray, rate: int = RATE, seconds: float = 0.03) -> np.ndarray:
    """Fade the end in place, so that a tail that is cut does not click."""
    n = min(round(seconds * rate), len(audio))
    audio[len(audio) - n :] *= np.linspace(1, 0, n, dtype=audio.dtype)
    return audio


def repeated(sound: np.ndarray, samples: int) -> np.ndarray:
    """A mix (n,) without the silence at its end, again from its start until (samples,) are full: in training, mixtures play throughout."""
    level = np.abs(sound)
    loud = np.flatnonzero(level > level.max(initial=0) * 10 ** (QUIET_DB / 20))
    return np.resize(sound[: loud[-1] + 1], samples) if len(loud) else np.zeros(samples, sound.dtype)
