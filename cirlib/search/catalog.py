"""What a library lists: the gallery of a NoteBank (one reference note per instrument), or every file of a folder of sounds."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import FLOOR_DB, RATE, SUFFIXES, Unusable, read_audio, resample
from ..common.paths import short
from ..data.bank import NoteBank
from ..data.mixtures import PEAK, load_sound
from ..data.sources.folder import UNREADABLE, FolderConfig, find_sounds, group_files, instrument_family

LEAD_S = 10.0  # silence before a sound that is skipped, at most
ONSET_DB = -50.0  # below the peak: where a sound begins


class Catalog(ABC):
    """Sounds of one origin.

    `entries`: a row per sound, indexed by `id` (no other origin has it), with uid (its instrument), family, source, path (inside the
    origin) and `stamp`, which changes when the sound does. `left_out`: what is no entry, with the reason. `unreadable`: folders that hide
    what is below them.
    """

    def __init__(self, origin: Path, rows: list[tuple], left_out: dict[str, str] | None = None, unreadable: Sequence[str] = ()):
        self.origin, self.left_out, self.unreadable = origin, left_out or {}, tuple(unreadable)
        self.entries = pd.DataFrame(rows, columns=["uid", "family", "source", "path", "stamp"], dtype=object)
        self.entries.index = pd.Index([f"{origin}\n{row[3] or row[0]}" for row in rows], name="id")

    @abstractmethod
    def sound(self, id: str, seconds: float) -> tuple[np.ndarray, float]:
        """The first seconds of a sound as an encoder hears it, (n,) at 16 kHz, and where in its file it begins (s). Raises Unusable."""


def open_catalog(origin: str | Path) -> Catalog:
    """Catalog of a note bank or of a folder of sounds; FileNotFoundError if it is neither."""
    origin = Path(origin).expanduser().resolve()
    return BankCatalog(origin) if is_bank(origin) else FolderCatalog(origin)


def is_bank(folder: Path) -> bool:
    """Whether a folder has the files of a note bank; other programs may have a bank.json too."""
    return all((folder / name).is_file() for name in ("bank.json", "notes.parquet", "audio.i16"))


class BankCatalog(Catalog):
    """The gallery of a bank: reference notes of all instruments but effects-off twins."""

    def __init__(self, origin: Path):
        self.bank = bank = NoteBank.open(origin)
        items = bank.gallery()
        stamps = (hashlib.blake2b(bank.audio(row).tobytes(), digest_size=16).hexdigest() for row in items.reference)
        about = items[["family", "source"]].astype(object).where(items[["family", "source"]].notna(), None)
        rows = [(uid, *told, "", stamp) for uid, told, stamp in zip(items.index, about.to_numpy(), stamps, strict=True)]
        super().__init__(origin, rows)
        self._rows = dict(zip(self.entries.index, items.reference, strict=True))

    def sound(self, id: str, seconds: float) -> tuple[np.ndarray, float]:
        row, rate = self._rows[id], self.bank.sample_rate
        start = float(self.bank.notes.offset[row]) / rate
        audio = resample(load_sound(self.bank, row, samples=min(round(seconds * rate), int(self.bank.lengths[row]))), rate)
        if not len(audio):
            raise Unusable("shorter than a sample at 16 kHz")
        return audio, start


class FolderCatalog(Catalog):
    """Every sound file below a folder; instruments and families as the folder source tells them."""

    def __init__(self, origin: Path):
        if not origin.is_dir():
            raise FileNotFoundError(f"no folder of sounds and no note bank at {short(origin)}")
        files, remarks = find_sounds(origin)
        left_out = {remark.name: remark.text for remark in remarks}
        if not files:
            raise FileNotFoundError(f"no sound file ({' '.join(SUFFIXES)}) in {short(origin)} or below, and no note bank")
        rows, unreadable = [], [remark.name for remark in remarks if remark.text.startswith(UNREADABLE)]
        for uid, plan in group_files(origin, files, FolderConfig()).items():
            family = instrument_family(origin, uid, plan[0][0])
            for name, _, _ in plan:
                try:
                    state = (origin / name).stat()
                except OSError as error:
                    left_out[name] = f"not readable ({error.strerror})"
                    continue
                rows.append((uid, family, "folder", name, f"{state.st_size} {state.st_mtime_ns}"))
        super().__init__(origin, rows, left_out, unreadable)

    def sound(self, id: str, seconds: float) -> tuple[np.ndarray, float]:
        path = self.origin / self.entries.path[id]
        try:
            audio = read_audio(path, LEAD_S + seconds)
        except OSError as error:
            raise Unusable(f"not readable ({error.strerror})") from None
        audio = heard(centred(audio.astype(np.float32) / (32768 if audio.dtype == np.int16 else 1)))
        first = onset(audio)
        return heard(audio[first : first + round(seconds * RATE)]), first / RATE


def centred(audio: np.ndarray) -> np.ndarray:
    """A sound (n,) without offset; Unusable if nothing else is in it."""
    audio = audio - audio.mean(dtype=np.float64).astype(np.float32)
    if np.abs(audio).max() < 10 ** (FLOOR_DB / 20):
        raise Unusable("silent but for an offset")
    return audio


def onset(audio: np.ndarray) -> int:
    """Where a sound (n,) begins: its first sample above ONSET_DB under the peak."""
    return int(np.argmax(np.abs(audio) > np.abs(audio).max() * 10 ** (ONSET_DB / 20)))


def heard(audio: np.ndarray) -> np.ndarray:
    """A sound (n,) as training heard sounds: without offset, at its peak; silence stays silence."""
    audio = audio - audio.mean(dtype=np.float64).astype(np.float32)
    peak = np.abs(audio).max(initial=0)
    return audio * np.float32(PEAK / peak) if peak > 1e-9 else audio
