"""The sounds of one note bank (the reference note of each instrument) or of one folder (every file), ready to embed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import RATE, Unusable, read_long, resample
from ..common.paths import short
from ..data.bank import NoteBank
from ..data.mixtures import load_sound
from ..data.sources.folder import find_sounds
from ..data.sources.grouping import group_files
from ..data.taxonomy import KINDS
from .clips import cut, remove_offset

LONG_S = 10.0  # all clips of a longer file are searched, unless it is a note of a known pitch
NOTE = "note"  # the kind of a sound that is none of KINDS
LABELS = ["instrument", "family", "kind", "source", "pitch"]  # of a sound


@dataclass
class Catalog:
    """The sounds of one bank or folder, `origin`.

    entries: one row per sound, with LABELS (kind: NOTE or one of KINDS; pitch: MIDI or NaN), path inside the origin, and a stamp that
    changes with the sound or its labels; the index `id` is unique among all origins. read(id, seconds): the clips of a sound and their
    starts, as clips.cut returns them; raises Unusable. skipped, noted: reasons, and what is odd about sounds that were read, by path.
    """

    origin: Path
    entries: pd.DataFrame
    read: Callable[[str, float], tuple[np.ndarray, list[np.ndarray]]]
    skipped: dict[str, str] = field(default_factory=dict)
    noted: dict[str, str] = field(default_factory=dict)


def open_catalog(origin: str | Path, *, links: bool = False) -> Catalog:
    """Return the catalog of a note bank or of a folder of sounds, whose links are followed with `links`.

    Raises FileNotFoundError if it is neither.
    """
    if not str(origin):
        raise FileNotFoundError("no folder of sounds and no note bank: the path is empty")
    origin = Path(origin).expanduser().resolve()
    return _bank_catalog(origin) if is_bank(origin) else _folder_catalog(origin, links)


def is_bank(folder: Path) -> bool:
    """Return whether a folder has the files of a note bank; a bank.json alone may be of another program."""
    return all((folder / name).is_file() for name in ("bank.json", "notes.parquet", "audio.i16"))


def _bank_catalog(origin: Path) -> Catalog:
    """Return the reference notes of the instruments of a bank, without effects-off twins."""
    bank = NoteBank.open(origin)
    items = bank.gallery()
    labels = items[["family", "source"]].astype(object).where(items[["family", "source"]].notna(), None)
    tags = bank.notes.tags.iloc[items.reference]
    kind = [next((tag for tag in KINDS if tag in own), NOTE) for own in tags]
    labels = labels.assign(instrument=items.index, kind=kind, pitch=bank.pitches[items.reference], path="")
    digests = [hashlib.blake2b(bank.audio(row).tobytes(), digest_size=16).hexdigest() for row in items.reference]
    entries = _with_ids(origin, labels.assign(stamp=digests))
    rows = dict(zip(entries.index, items.reference, strict=True))

    def read(id: str, seconds: float) -> tuple[np.ndarray, list[np.ndarray]]:
        row, rate = rows[id], bank.sample_rate
        audio = resample(load_sound(bank, row, samples=min(round(seconds * rate), int(bank.lengths[row]))), rate)
        if not len(audio):
            raise Unusable("shorter than a sample at 16 kHz")
        return np.zeros(1), [audio]

    return Catalog(origin, entries, read)


def _folder_catalog(origin: Path, links: bool) -> Catalog:
    """Return every sound file in a folder and below; instruments and families follow from names, as in the folder source."""
    if not origin.is_dir():
        raise FileNotFoundError(f"no folder of sounds and no note bank at {short(origin)}")
    files, remarks = find_sounds(origin, links=links)
    rows, skipped, noted = [], {remark.name: remark.text for remark in remarks}, {}
    for uid, instrument in group_files(origin, files).items():
        for path, pitch, _, kind in instrument.notes:
            try:
                state = (origin / path).stat()
                labels = (uid, instrument.family, kind or NOTE, "folder", np.nan if pitch is None else pitch)
                rows.append((*labels, path, f"{state.st_size} {state.st_mtime_ns}"))
            except OSError as error:
                skipped[path] = f"not readable ({error.strerror})"
    entries = _with_ids(origin, pd.DataFrame(rows, columns=[*LABELS, "path", "stamp"], dtype=object))

    def read(id: str, seconds: float) -> tuple[np.ndarray, list[np.ndarray]]:
        try:
            audio = remove_offset(read_long(origin / entries.path[id], remarks=(odd := [])))
        except OSError as error:
            raise Unusable(f"not readable ({error.strerror})") from None
        noted.update((entries.path[id], remark) for remark in odd)
        many = len(audio) > LONG_S * RATE and (entries.kind[id] != NOTE or pd.isna(entries.pitch[id]))
        return cut(audio, seconds, most=None if many else 1)

    return Catalog(origin, entries, read, skipped, noted)


def _with_ids(origin: Path, entries: pd.DataFrame) -> pd.DataFrame:
    """Return entries with their ids as index, and their labels as a part of their stamps."""
    ids = [f"{origin}\n{path or instrument}" for path, instrument in zip(entries.path, entries.instrument, strict=True)]
    labels = [" ".join(map(str, row)) for row in entries[["stamp", *LABELS]].to_numpy()]
    return entries.assign(stamp=labels).set_index(pd.Index(ids, name="id"))
