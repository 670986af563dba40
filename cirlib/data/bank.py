"""NoteBank, the one data format: every origin of sound becomes one, every experiment reads one.

A bank is a folder of three files: `audio.i16` (flat little-endian int16, mono, memory-mapped), `notes.parquet`
(one row per sound) and `bank.json` (format, sample rate, origin, license, how it was made, counts, checksums).
It is written beside its place and renamed when complete (builder.py): it exists whole or not at all.
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
from .notes import read_notes

FORMAT = 1
KINDS = {  # of what bank.json tells
    "sample_rate": int, "counts": dict, "sha256": dict, "source": str, "license": str, "citation": str, "made": dict, "skipped": dict,
    "noted": dict,
}  # fmt: skip
HIGHEST_RATE = 768_000  # Hz


class NoteBank:
    """Sounds of instruments, read-only. `NoteBank.open(path)` or a list of paths, which concatenates them."""

    def __init__(self, paths: list[Path], infos: list[dict], tables: list[pa.Table]):
        self.paths, self.infos = paths, infos
        rates = {info["sample_rate"] for info in infos}
        if len(rates) > 1:
            raise ValueError(f"banks of different sample rates cannot be combined: {sorted(rates)}")
        self.sample_rate = rates.pop()
        self.notes = pa.concat_tables(tables).to_pandas(types_mapper=_lists_stay)
        owners = pd.concat([pd.Series(t["instrument"].to_pandas().unique()) for t in tables])
        if owners.duplicated().any():
            raise ValueError(f"two of these banks hold instrument {owners[owners.duplicated()].iloc[0]!r}: they cannot be combined")
        maps = [np.memmap(p / "audio.i16", dtype="<i2", mode="r") for p in paths]
        self._maps, self._files = [np.asarray(m) for m in maps], [m._mmap for m in maps]
        self._which = np.repeat(np.arange(len(tables)), [t.num_rows for t in tables])
        self._offset, self.lengths, self._gain = (self.notes[c].to_numpy() for c in ("offset", "length", "gain"))
        self.pitches = self.notes.pitch.to_numpy()  # (notes,), NaN where unknown
        self._instruments = None

    @classmethod
    def open(cls, path: str | Path | Sequence[str | Path]) -> "NoteBank":
        """Open one bank, or several as one. Raises FileNotFoundError or ValueError with what to do."""
        paths = [Path(p) for p in ([path] if isinstance(path, (str, Path)) else path)]
        if not paths:
            raise ValueError("no note bank was named: give the path of one or more")
        infos, tables = zip(*(_read(p) for p in paths), strict=True)
        return cls(paths, list(infos), list(tables))

    def __len__(self) -> int:
        return len(self.notes)

    def audio(self, i: int, limit: int | None = None) -> np.ndarray:
        """Sound of note row i, (n,) float32; at most `limit` samples."""
        n = self.lengths[i] if limit is None else max(0, min(self.lengths[i], limit))
        start = self._offset[i]
        sound = self._maps[self._which[i]][start : start + n].astype(np.float32)
        sound /= self._gain[i]
        return sound

    def read_ahead(self, rows: Iterable[int], limits: Iterable[int]) -> None:
        """Ask the operating system to load sounds (at most `limits` samples of each) that are read next: faster from a disk."""
        for i, limit in zip(rows, limits, strict=True) if hasattr(mmap, "MADV_WILLNEED") else ():
            start = 2 * int(self._offset[i])
            first = start - start % mmap.PAGESIZE
            self._files[self._which[i]].madvise(mmap.MADV_WILLNEED, first, start - first + 2 * max(1, min(int(self.lengths[i]), limit)))

    @cached_property
    def rows_of(self) -> dict[str, np.ndarray]:
        """Note rows of each instrument."""
        return self.notes.groupby("instrument", sort=False).indices

    @property
    def instruments(self) -> pd.DataFrame:
        """One row per instrument, in order of first appearance: family, source, split, augments, fx, notes, reference.

        `reference` is the row in `notes` of its reference note: pitch nearest to the median pitch, then velocity
        nearest to 100, then the first (paper section 3: one reference note per instrument); a stem of several notes
        only where there is no single note.
        """
        if self._instruments is None:
            columns = ["family", "source", "split", "augments", "fx"]
            groups = self.notes.groupby("instrument", sort=False)
            table = groups[columns].first()
            table["notes"] = groups.size()
            far = (self.notes.pitch - groups.pitch.transform("median")).abs().fillna(np.inf).to_numpy()
            loud = (self.notes.velocity - 100).abs().fillna(np.inf).to_numpy()
            order = np.lexsort((np.arange(len(far)), loud, far))
            first = self.notes.instrument.iloc[order].drop_duplicates()
            table["reference"] = pd.Series(first.index.to_numpy(), index=first.to_numpy()).reindex(table.index)
            self._instruments = table
        return self._instruments

    def gallery(self, families: Iterable[str] | None = None) -> pd.DataFrame:
        """Instruments that retrieval ranks: the original ones (no augmented twins) of every split."""
        table = self.instruments
        keep = table.augments.isna()
        return table[keep] if families is None else table[keep & table.family.isin(list(families))]

    def verify(self) -> None:
        """Compare the checksums of every file; a damaged bank is a ValueError."""
        for path, info in zip(self.paths, self.infos, strict=True):
            for name, digest in info["sha256"].items():
                if sha256(path / name) != digest:
                    raise ValueError(f"{short(path / name)} is damaged (checksum differs): delete {short(path)} and build it again")


def _lists_stay(kind: pa.DataType):
    """Columns of lists stay in Arrow: as Python objects they would take longest to open and most memory."""
    return pd.ArrowDtype(kind) if pa.types.is_list(kind) else None


def _read(path: Path) -> tuple[dict, pa.Table]:
    """bank.json and notes of one bank, checked so that no sound lies outside of its audio."""
    if not (path / "bank.json").is_file():
        raise FileNotFoundError(
            f"no note bank at {short(path)}: make it with notebooks/01_data.ipynb (`make bank PRESET=demo` for the demo)"
        )
    repair = f"delete {short(path)} and build it again with notebooks/01_data.ipynb"
    try:
        info = read_json(inside(path, "bank.json"))
        version = info["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{short(path / 'bank.json')} is damaged ({error}): {repair}") from None
    if version != FORMAT:
        raise ValueError(f"bank {short(path)} has format {version!r:.100}, this version reads format {FORMAT}: {repair}")
    try:
        _check_info(info)
        samples, odd = divmod(inside(path, "audio.i16").stat().st_size, 2)
        table = read_notes(inside(path, "notes.parquet"), samples)
    except Exception as error:  # pyarrow raises whatever the bytes lead to
        raise ValueError(f"bank {short(path)} is damaged ({one_line(error)}): {repair}") from None
    if odd or (table.num_rows, samples) != (info["counts"]["notes"], info["counts"]["samples"]):
        raise ValueError(f"bank {short(path)} is damaged (its files do not have the sizes that bank.json tells): {repair}")
    return info, table


def _check_info(info: dict) -> None:
    """ValueError for a bank.json whose values are of other kinds than those that a build writes."""
    for name, kind in KINDS.items():
        if name in info and type(info[name]) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, got {info[name]!r:.100}")
    if not 0 < info["sample_rate"] <= HIGHEST_RATE:
        raise ValueError(f"sample_rate must be 1 to {HIGHEST_RATE}, got {info['sample_rate']}")
    if any(type(info["counts"][name]) is not int for name in ("notes", "samples", "instruments")):
        raise ValueError("counts must be numbers of notes, samples and instruments")
    if set(info["sha256"]) != {"audio.i16", "notes.parquet"}:
        raise ValueError("sha256 must tell the checksums of audio.i16 and notes.parquet")
    if not all(isinstance(why, str) for what in ("skipped", "noted") for why in info.get(what, {}).values()):
        raise ValueError("skipped and noted must be names with reasons")
