"""Reading sound files: mono, 16 kHz, checked; and trimming, fading and resampling."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.paths import short
from .containers import TRUNCATED, whole
from .mpeg import FRAME
from .unusable import Unusable

if TYPE_CHECKING:
    import soundfile

RATE = 16000
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".caf", ".w64", ".au", ".snd")
_OTHER_FORMATS = "m4a m4b mp4 aac 3gp wv wma ape mpc tta ac3 dts amr mka webm dsf dff voc sd2 iff rx2 rex ncw mp2 ra"
OTHERS = {  # suffixes of sounds that are not read, and why
    **{f".{name}": "a format that is not read: convert it to WAV or FLAC" for name in _OTHER_FORMATS.split()},
    **{f".{name}": "an archive is not read: unpack it" for name in ["zip", "rar", "7z", "tar", "gz", "tgz", "bz2", "xz", "zst"]},
    **{f".{name}": "a SoundFont: build a bank with source soundfont" for name in ("sf2", "sf3")},
    ".sfz": "an SFZ instrument: build a bank with source sfz",
}
LOUDEST = 1e9  # largest sample (full scale is 1): sums and squares of louder ones would overflow single precision
QUIET_DB = -60.0  # relative to the peak of a query: a window below is silent
FLOOR_DB = -70.0  # a file whose peak is below is silent
SHORTEST_S = 0.02
LONGEST_S = 2 * 3600  # of a file
BLOCK_S = 10  # of a file, decoded at once
MOST_SAMPLES = 1 << 24  # of all channels, decoded at once
RATES, MOST_CHANNELS = (1000, 768_000), 64  # of a file
FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF", "W64", "FLAC", "OGG", "MP3")  # whose completeness is checked
CANCELLED = 0.01  # share of the energy of channels in their mean below which they cancel each other


def read_audio(path: Path, seconds: float | None = None, *, remarks: list[str] | None = None) -> np.ndarray:
    """Return a file, or its first `seconds`, as mono (n,) at 16 kHz: int16 if the file is 16-bit mono at 16 kHz, else float32.

    What is odd about it is appended to `remarks`. Raises Unusable if it is a folder, empty, in an unknown format, truncated, silent, not
    finite, too short or too long.
    """
    audio = _mixed(lambda mix: _read(path, seconds, mix), remarks)
    return check_usable(audio, RATE)[: None if seconds is None else round(seconds * RATE)]


def read_long(path: Path, *, remarks: list[str] | None = None) -> np.ndarray:
    """Return a whole file as (n,) float32 at 16 kHz. What is odd about it is a warning without `remarks`. Raises as read_audio does."""
    sound = read_audio(path, remarks=(odd := [] if remarks is None else remarks))
    for remark in odd if remarks is None else ():
        warnings.warn(f"{short(path)}: {remark}", stacklevel=3)
    return as_float(sound)


def check_whole(path: Path) -> None:
    """Raise Unusable for a file that is damaged or no sound; only the structure of most formats is read."""
    for part in _parts(path):
        with _open(part):
            pass


class _Mix:
    """Mixes blocks (n, C) down to (n,): the mean of the channels, or one of them."""

    def __init__(self, channel: int | None = None):
        self.channel, self.mean, self.channels, self.energy = channel, 0.0, np.zeros(MOST_CHANNELS), 0.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if block.shape[1] == 1:
            return block[:, 0]
        if self.channel is not None:
            return block[:, min(self.channel, block.shape[1] - 1)]
        mono = block.mean(axis=1)
        energy = np.square(block, dtype=np.float64).sum(axis=0)
        self.channels[: len(energy)] += energy
        self.energy, self.mean = self.energy + energy.mean(), self.mean + np.square(mono, dtype=np.float64).sum()
        return mono

    @property
    def cancels(self) -> bool:
        """Whether the channels cancel each other: the mean of unrelated ones, or of one and silence, has 1 / C of their energy."""
        return self.mean < CANCELLED * self.energy


def _mixed(read: Callable[[_Mix], np.ndarray], remarks: list[str] | None) -> np.ndarray:
    """Return the sound that `read` returns, mixed down."""
    sound = read(mix := _Mix())
    if mix.cancels:
        channel = int((mix.channels >= mix.channels.max() / 2).argmax())
        sound = read(_Mix(channel))
        if remarks is not None:
            remarks.append(f"its channels cancel each other: only channel {channel + 1} is read")
    return sound


def _read(path: Path, seconds: float | None, mix: _Mix) -> np.ndarray:
    """Return a file, or its first `seconds`, at 16 kHz, decoded and resampled in blocks to save memory."""
    import soxr

    sounds, left, read = [], LONGEST_S + 1 if seconds is None else seconds, 0.0
    for part in _parts(path):
        with _open(part) as file:
            rate = file.samplerate
            dtype = "int16" if file.channels == 1 and rate == RATE and file.subtype == "PCM_16" else "float32"
            stream = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ") if rate != RATE else None
            for block in _blocks(file, int(min(file.frames, np.ceil(max(0, left - read) * rate))), dtype):
                read += len(block) / rate
                sounds.append(stream.resample_chunk(mix(block)) if stream else mix(block))
            if stream:
                sounds.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
    if read > LONGEST_S:
        raise Unusable(f"longer than {LONGEST_S // 3600} hours")
    return np.concatenate(sounds)


def _parts(path: Path) -> list[Path | io.BytesIO]:
    if path.is_dir():
        raise Unusable("a folder, not a file")
    if not path.stat().st_size:
        raise Unusable("an empty file")
    return whole(path)


@contextmanager
def _open(part: Path | io.BytesIO) -> Iterator["soundfile.SoundFile"]:
    import soundfile

    try:
        with soundfile.SoundFile(part) as file:
            if file.format not in FORMATS:
                raise Unusable(f"its format ({file.format}) is not supported: convert it to WAV or FLAC")
            if not RATES[0] <= file.samplerate <= RATES[1] or not 0 < file.channels <= MOST_CHANNELS:
                limits = f"{RATES[0]} to {RATES[1]} Hz and at most {MOST_CHANNELS} channels are supported"
                raise Unusable(f"{file.samplerate} Hz, {file.channels} channels: {limits}")
            if file.format == "FLAC" and file.frames and not _has_last_sample(file):
                raise Unusable(TRUNCATED)
            yield file
    except UnicodeError:
        raise Unusable("its name is not UTF-8") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        reason = "Format not recognised" if "does not exist" in reason else (reason.partition(": ")[2] or reason).strip(" .")
        other = OTHERS.get(part.suffix.lower()) if isinstance(part, Path) else None
        raise Unusable(other or f"not readable as sound ({reason})") from None


def _has_last_sample(file: "soundfile.SoundFile") -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1)) == 1 and file.seek(0) == 0
    except RuntimeError:
        return False


def _blocks(file: "soundfile.SoundFile", wanted: int, dtype: str) -> Iterator[np.ndarray]:
    """Yield the first `wanted` frames in blocks (n, channels): the length in a header may exceed all memory. At least one, maybe empty."""
    size = max(1, min(BLOCK_S * file.samplerate, MOST_SAMPLES // file.channels))
    yield np.empty((0, file.channels), dtype)
    count = 0
    while count < wanted and len(block := file.read(min(size, wanted - count), dtype=dtype, always_2d=True)):
        count += len(block)
        yield block
    while file.format == "FLAC" and wanted and len(block := file.read(size, dtype=dtype)):  # only decoding finds damage further on
        count, wanted = count + len(block), file.frames
    if count < wanted - ("MPEG" in file.subtype and FRAME):  # the decoder's delay
        raise Unusable(TRUNCATED)


def mix_down(channels: np.ndarray, remarks: list[str] | None = None) -> np.ndarray:
    """Return channels (C, n) as (n,) float32: their mean, or one if they cancel each other, which is appended to `remarks`."""
    return _mixed(lambda mix: mix(channels.T.astype(np.float32, copy=False)), remarks)


def as_float(audio: np.ndarray) -> np.ndarray:
    """Return an array or tensor of any shape as float32 in native byte order, full scale 1; integers have the full scale of their type.

    Raises Unusable for other types, and for integers of 64 bits, whose full scale is unknown.
    """
    if hasattr(audio, "detach"):
        audio = audio.detach().cpu().float() if audio.is_floating_point() else audio.cpu()
    audio = np.asarray(audio)
    kind, bits = audio.dtype.kind, 8 * audio.dtype.itemsize
    if kind in "iu" and bits <= 32:
        scale = 1 << (bits - 1)
        return ((audio.astype(np.float32 if bits < 32 else np.float64) - (scale if kind == "u" else 0)) / scale).astype(np.float32)
    if kind != "f":
        raise Unusable(f"samples must be floats, or integers of 8 to 32 bits, not {audio.dtype}")
    with np.errstate(over="ignore"):  # then not finite
        return np.asarray(audio, np.float32, order="C")


def check_rate(rate: float) -> int:
    """Return the sample rate of a waveform. Raises Unusable if it is no whole number of Hz that is supported."""
    if not isinstance(rate, Real) or rate % 1 or not RATES[0] <= rate <= RATES[1]:
        raise Unusable(f"a sample rate must be a whole number of Hz from {RATES[0]} to {RATES[1]}, got {rate!r}")
    return int(rate)


def check_usable(audio: np.ndarray, rate: int) -> np.ndarray:
    """Return `audio` (n,), or raise Unusable if it is too short, not finite, too loud or silent."""
    if len(audio) < SHORTEST_S * rate:
        raise Unusable(f"shorter than {SHORTEST_S:g} s")
    low, high = (float(value) / (32768 if audio.dtype == np.int16 else 1) for value in (audio.min(), audio.max()))
    if not np.isfinite([low, high]).all():
        raise Unusable("not finite (NaN or infinite samples)")
    peak, floor = max(-low, high), 10 ** (FLOOR_DB / 20)
    if peak > LOUDEST:
        raise Unusable(f"louder than {LOUDEST:g} times full scale")
    if high - low < 2 * floor:
        raise Unusable("silent" if peak < floor else "silent except for a constant offset")
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
