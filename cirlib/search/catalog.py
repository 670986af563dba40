"""The sounds of one note bank (the reference note of each instrument) or of one folder (every file), ready to embed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import FLOOR_DB, RATE, SUFFIXES, Unusable, read_audio, resample
from ..common.paths import short
from ..data.bank import NoteBank
from ..data.mixtures import PEAK, load_sound
from ..data.sources.folder import find_sounds
from ..data.sources.grouping import group_files

LEAD_S = 10.0  # longest silence at the beginning of a file that is skipped
ONSET_DB = -50.0  # relative to the peak: a sound begins at its first sample above


@dataclass
class Catalog:
    """The sounds of one bank or folder, `origin`.

    entries: one row per sound, with instrument, family, source, path inside the origin, and a stamp that changes with the sound or its
    labels; the index `id` is unique among all origins. read(id, seconds): the first seconds of a sound, (n,) at 16 kHz, peak-normalised,
    and its start in its file in seconds; raises Unusable. skipped: reasons by path.
    """

    origin: Path
    entries: pd.DataFrame
    read: Callable[[str, float], tuple[np.ndarray, float]]
    skipped: dict[str, str] = field(default_factory=dict)


def open_catalog(origin: str | Path) -> Catalog:
    """Return the catalog of a note bank or of a folder of sounds. Raises FileNotFoundError if it is neither."""
    origin = Path(origin).expanduser().resolve()
    return _bank_catalog(origin) if is_bank(origin) else _folder_catalog(origin)


def is_bank(folder: Path) -> bool:
    """Return whether a folder has the files of a note bank; a bank.json alone may be of another program."""
    return all((folder / name).is_file() for name in ("bank.json", "notes.parquet", "audio.i16"))


def _bank_catalog(origin: Path) -> Catalog:
    """Return the reference notes of the instruments of a bank, without effects-off twins."""
    bank = NoteBank.open(origin)
    items = bank.gallery()
    entries = items[["family", "source"]].astype(object).where(items[["family", "source"]].notna(), None)
    digests = [hashlib.blake2b(bank.audio(row).tobytes(), digest_size=16).hexdigest() for row in items.reference]
    entries = _with_ids(origin, entries.assign(instrument=items.index, path="", stamp=digests))
    rows = dict(zip(entries.index, items.reference, strict=True))

    def read(id: str, seconds: float) -> tuple[np.ndarray, float]:
        row, rate = rows[id], bank.sample_rate
        audio = resample(load_sound(bank, row, samples=min(round(seconds * rate), int(bank.lengths[row]))), rate)
        if not len(audio):
            raise Unusable("shorter than a sample at 16 kHz")
        return audio, float(bank.notes.offset[row]) / rate

    return Catalog(origin, entries, read)


def _folder_catalog(origin: Path) -> Catalog:
    """Return every sound file in a folder and below; instruments and families follow from names, as in the folder source."""
    if not origin.is_dir():
        raise FileNotFoundError(f"no folder of sounds and no note bank at {short(origin)}")
    files, remarks = find_sounds(origin)
    if not files:
        raise FileNotFoundError(f"no sound file ({' '.join(SUFFIXES)}) in {short(origin)} or below, and no note bank")
    rows, skipped = [], {remark.name: remark.text for remark in remarks}
    for uid, instrument in group_files(origin, files).items():
        for path, *_ in instrument.notes:
            try:
                state = (origin / path).stat()
                rows.append((instrument.family, "folder", uid, path, f"{state.st_size} {state.st_mtime_ns}"))
            except OSError as error:
                skipped[path] = f"not readable ({error.strerror})"
    entries = _with_ids(origin, pd.DataFrame(rows, columns=["family", "source", "instrument", "path", "stamp"], dtype=object))

    def read(id: str, seconds: float) -> tuple[np.ndarray, float]:
        try:
            audio = remove_offset(as_float(read_audio(origin / entries.path[id], LEAD_S + seconds)))
        except OSError as error:
            raise Unusable(f"not readable ({error.strerror})") from None
        start = onset(audio)
        return normalise(audio[start : start + round(seconds * RATE)]), start / RATE

    return Catalog(origin, entries, read, skipped)


def _with_ids(origin: Path, entries: pd.DataFrame) -> pd.DataFrame:
    """Return entries with their ids as index, and their labels as a part of their stamps."""
    ids = [f"{origin}\n{path or instrument}" for path, instrument in zip(entries.path, entries.instrument, strict=True)]
    labels = [" ".join(map(str, row)) for row in entries[["stamp", "instrument", "family", "source"]].to_numpy()]
    return entries.assign(stamp=labels).set_index(pd.Index(ids, name="id"))


def as_float(audio: np.ndarray) -> np.ndarray:
    """Return int16 or float audio (n,) as float32 in [-1, 1]."""
    return audio.astype(np.float32) / (32768 if audio.dtype == np.int16 else 1)


def remove_offset(audio: np.ndarray) -> np.ndarray:
    """Return audio (n,) without its mean. Raises Unusable if the rest is silent."""
    audio = audio - audio.mean(dtype=np.float64).astype(np.float32)
    if np.abs(audio).max() < 10 ** (FLOOR_DB / 20):
        raise Unusable("silent except for a constant offset")
    return audio


def onset(audio: np.ndarray) -> int:
    """Return the first sample of audio (n,) above ONSET_DB relative to the peak."""
    return int(np.argmax(np.abs(audio) > np.abs(audio).max() * 10 ** (ONSET_DB / 20)))


def normalise(audio: np.ndarray) -> np.ndarray:
    """Return audio (n,) without its mean and at the peak level of training; silence stays silence."""
    audio = audio - audio.mean(dtype=np.float64).astype(np.float32)
    peak = np.abs(audio).max(initial=0)
    return audio * np.float32(PEAK / peak) if peak > 1e-9 else audio
