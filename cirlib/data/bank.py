"""NoteBank, the one data format: every source of sound is built into one, every experiment reads one.

A bank is a folder of three files: `audio.i16` (flat little-endian int16, mono, memory-mapped), `notes.parquet`
(one row per sound) and `bank.json` (format, sample rate, origin, license, how it was made, counts, checksums).
It is built in a folder beside it and renamed when complete (builder.py), so it is complete or absent.
`python -m cirlib.data.card PATH ...` prints the data card of banks and verifies their checksums.
"""

import mmap
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ..common.files import one_line, sha256
from ..common.paths import short
from ..common.untrusted import inside, read_json
from .untrusted import read_table

FORMAT = 1


class NoteBank:
    """Sounds of instruments, read-only: `NoteBank.open(path)`, or a list of paths to concatenate.

    Attributes: notes (one row per sound), lengths (samples), pitches (MIDI, NaN where unknown), sample_rate, and
    paths and infos (bank.json) of the banks.
    """

    def __init__(self, paths: list[Path], infos: list[dict], tables: list[pa.Table]):
        self.paths, self.infos = paths, infos
        rates = {info["sample_rate"] for info in infos}
        if len(rates) > 1:
            raise ValueError(f"banks of different sample rates cannot be combined: {sorted(rates)}")
        self.sample_rate = rates.pop()
        # columns of lists stay in Arrow: as Python objects they would take the most time and memory
        self.notes = pa.concat_tables(tables).to_pandas(types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_list(kind) else None)
        instruments = pd.concat([pd.Series(t["instrument"].to_pandas().unique()) for t in tables])
        if (twice := instruments[instruments.duplicated()]).size:
            raise ValueError(f"two of these banks have instrument {twice.iloc[0]!r}: they cannot be combined")
        maps = [np.memmap(p / "audio.i16", dtype="<i2", mode="r") for p in paths]
        self._audio, self._files = [np.asarray(m) for m in maps], [m._mmap for m in maps]
        self._bank = np.repeat(np.arange(len(tables)), [t.num_rows for t in tables])  # of each row
        self._offset, self.lengths, self._gain = (self.notes[c].to_numpy() for c in ("offset", "length", "gain"))
        self.pitches = self.notes.pitch.to_numpy()

    @classmethod
    def open(cls, path: str | Path | Sequence[str | Path]) -> "NoteBank":
        """Open one bank, or several as one. Raises FileNotFoundError, or ValueError with what to do."""
        paths = [Path(p) for p in ([path] if isinstance(path, (str, Path)) else path)]
        if not paths:
            raise ValueError("no note bank is given: give the path of one or more")
        infos, tables = zip(*(_read(p) for p in paths), strict=True)
        return cls(paths, list(infos), list(tables))

    def __len__(self) -> int:
        return len(self.notes)

    def audio(self, i: int, limit: int | None = None) -> np.ndarray:
        """Return the sound of note row i, (n,) float32; at most `limit` samples."""
        n = self.lengths[i] if limit is None else max(0, min(self.lengths[i], limit))
        start = self._offset[i]
        sound = self._audio[self._bank[i]][start : start + n].astype(np.float32)
        sound /= self._gain[i]
        return sound

    def read_ahead(self, rows: Iterable[int], limits: Iterable[int]) -> None:
        """Ask the operating system to load sounds (at most `limits` samples of each) that are read next: faster from a disk."""
        for i, limit in zip(rows, limits, strict=True) if hasattr(mmap, "MADV_WILLNEED") else ():
            start = 2 * int(self._offset[i])
            first = start - start % mmap.PAGESIZE
            self._files[self._bank[i]].madvise(mmap.MADV_WILLNEED, first, start - first + 2 * max(1, min(int(self.lengths[i]), limit)))

    @cached_property
    def rows_of(self) -> dict[str, np.ndarray]:
        """Note rows of each instrument."""
        return self.notes.groupby("instrument", sort=False).indices

    @cached_property
    def instruments(self) -> pd.DataFrame:
        """One row per instrument, in order of first appearance: family, source, split, augments, fx, notes, reference.

        `reference` is the row in `notes` of its reference note: pitch nearest to the median pitch, then velocity
        nearest to 100, then the first (paper section 3: one reference note per instrument); a stem of several notes
        only where there is no single note.
        """
        groups = self.notes.groupby("instrument", sort=False)
        table = groups[["family", "source", "split", "augments", "fx"]].first()
        table["notes"] = groups.size()
        pitch_distance = (self.notes.pitch - groups.pitch.transform("median")).abs().fillna(np.inf).to_numpy()
        velocity_distance = (self.notes.velocity - 100).abs().fillna(np.inf).to_numpy()
        order = np.lexsort((np.arange(len(self)), velocity_distance, pitch_distance))
        first = self.notes.instrument.iloc[order].drop_duplicates()
        table["reference"] = pd.Series(first.index.to_numpy(), index=first.to_numpy()).reindex(table.index)
        return table

    def gallery(self, families: Iterable[str] | None = None) -> pd.DataFrame:
        """Return the instruments that retrieval ranks: the original ones (no effects-off twins) of every split."""
        table = self.instruments[self.instruments.augments.isna()]
        return table if families is None else table[table.family.isin(list(families))]

    def verify(self) -> None:
        """Compare the checksums of all files. Raises ValueError for a damaged bank."""
        for path, info in zip(self.paths, self.infos, strict=True):
            for name, digest in info["sha256"].items():
                if sha256(path / name) != digest:
                    raise ValueError(f"{short(path / name)} is damaged (checksum differs): delete {short(path)} and build it again")


def _read(path: Path) -> tuple[dict, pa.Table]:
    """Return bank.json and the notes of one bank, checked."""
    if not (path / "bank.json").is_file():
        raise FileNotFoundError(
            f"no note bank at {short(path)}: make it with notebooks/01_data.ipynb (`make bank PRESET=demo` for the demo)"
        )
    repair = f"delete {short(path)} and build it again with notebooks/01_data.ipynb"
    try:
        info = read_json(inside(path, "bank.json"))
        table = read_table(path, info) if info["format"] == FORMAT else None
    except Exception as error:  # pyarrow raises whatever the bytes lead to
        raise ValueError(f"note bank {short(path)} is damaged ({one_line(error)}): {repair}") from None
    if table is None:
        raise ValueError(f"note bank {short(path)} has format {info['format']!r:.100}, this version reads format {FORMAT}: {repair}")
    return info, table
