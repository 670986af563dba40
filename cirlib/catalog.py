"""What a library lists: the gallery of a NoteBank (one reference note per instrument), or every file of a folder of sounds."""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pandas as pd

from .bank import NoteBank
from .mixing import PEAK, clip
from .sources.audio import RATE, SUFFIXES, Unusable, read_audio, resample
from .sources.folder import FolderConfig, find_sounds, group_files, instrument_family

LEAD_S = 10.0  # silence before a sound that is skipped, at most
ONSET_DB = -50.0  # below the peak: where a sound begins


class Catalog(ABC):
    """Sounds of one origin.

    `entries`: a row per sound, indexed by `id` (no other origin has it), with uid (its instrument), family, source, path (inside the
    origin) and `stamp`, which changes when the sound does.
    """

    def __init__(self, origin: Path, rows: list[tuple]):
        self.origin = origin
        self.entries = pd.DataFrame(rows, columns=["uid", "family", "source", "path", "stamp"], dtype=object)
        self.entries.index = pd.Index([f"{origin}\n{row[3] or row[0]}" for row in rows], name="id")

    @abstractmethod
    def sound(self, id: str, seconds: float) -> tuple[np.ndarray, float]:
        """The first seconds of a sound as an encoder hears it, (n,) at 16 kHz, and where in its file it begins (s). Raises Unusable."""


def open_catalog(origin: str | Path) -> Catalog:
    """Catalog of a note bank or of a folder of sounds; FileNotFoundError if it is neither."""
    origin = Path(origin).expanduser().resolve()
    return BankCatalog(origin) if (origin / "bank.json").is_file() else FolderCatalog(origin)


class BankCatalog(Catalog):
    """The gallery of a bank: reference notes of all instruments but effects-off twins."""

    def __init__(self, origin: Path):
        self.bank = bank = NoteBank.open(origin)
        items = bank.gallery()
        stamps = (hashlib.blake2b(bank.audio(row).tobytes(), digest_size=16).hexdigest() for row in items.reference)
        rows = [(uid, item.family, item.source, "", stamp) for (uid, item), stamp in zip(items.iterrows(), stamps, strict=True)]
        super().__init__(origin, rows)
        self._rows = dict(zip(self.entries.index, items.reference, strict=True))

    def sound(self, id: str, seconds: float) -> tuple[np.ndarray, float]:
        row, rate = self._rows[id], self.bank.sample_rate
        start = float(self.bank.notes.offset[row]) / rate
        audio = clip(self.bank, row, min(round(seconds * rate), int(self.bank.lengths[row])))
        return resample(audio, rate), start


class FolderCatalog(Catalog):
    """Every sound file below a folder; instruments and families as the folder source tells them."""

    def __init__(self, origin: Path):
        if not origin.is_dir():
            raise FileNotFoundError(f"no folder of sounds and no note bank at {origin}")
        files, _ = find_sounds(origin)
        if not files:
            raise FileNotFoundError(f"no sound file ({' '.join(SUFFIXES)}) in {origin} or below, and no note bank")
        rows = []
        for uid, plan in group_files(origin, files, FolderConfig()).items():
            family = instrument_family(origin, uid, plan[0][0])
            for name, _, _ in plan:
                file = origin / name
                state = file.stat() if file.exists() else file.lstat()
                rows.append((uid, family, "folder", name, f"{state.st_size} {state.st_mtime_ns}"))
        super().__init__(origin, rows)

    def sound(self, id: str, seconds: float) -> tuple[np.ndarray, float]:
        path = self.origin / self.entries.path[id]
        try:
            audio = read_audio(path, LEAD_S + seconds)
        except OSError as error:
            raise Unusable(f"not readable ({error.strerror})") from None
        audio = heard(audio.astype(np.float32) / (32768 if audio.dtype == np.int16 else 1))
        first = int(np.argmax(np.abs(audio) > PEAK * 10 ** (ONSET_DB / 20)))
        return heard(audio[first : first + round(seconds * RATE)]), first / RATE


def heard(audio: np.ndarray) -> np.ndarray:
    """A sound (n,) as training heard sounds: without offset, at its peak; silence stays silence."""
    audio = audio - audio.mean(dtype=np.float64).astype(np.float32)
    peak = np.abs(audio).max(initial=0)
    return audio * np.float32(PEAK / peak) if peak > 1e-9 else audio
