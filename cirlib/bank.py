"""NoteBank, the one data format: every origin of sound becomes one, every experiment reads one.

A bank is a folder of three files: `audio.i16` (flat little-endian int16, mono, memory-mapped), `notes.parquet`
(one row per sound) and `bank.json` (format, sample rate, origin, license, how it was made, counts, checksums).
It is written beside its place and renamed when complete: it exists whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .config import choose
from .files import sha256, write_atomic, write_json

FORMAT = 1
SPLITS = ("train", "valid", "test")
SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),  # source/bank/name
        ("family", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("source", pa.string()),
        ("split", pa.string()),  # by instrument
        ("pitch", pa.float32()),  # MIDI; null for stems of several notes
        ("velocity", pa.float32()),  # MIDI; null for stems of several notes
        ("hold_s", pa.float32()),  # seconds between note on and note off
        ("fx", pa.list_(pa.string())),
        ("augments", pa.string()),  # uid of the original instrument, or null
        ("offset", pa.int64()),  # samples
        ("length", pa.int64()),  # samples
        ("gain", pa.float32()),  # sound = int16 / gain
    ]
)


@dataclass
class Sound:
    """One sound on its way into a bank: its row (SCHEMA without offset, length, gain) and its audio (n,) float."""

    row: dict
    audio: np.ndarray


class NoteBank:
    """Sounds of instruments, read-only. `NoteBank.open(path)` or a list of paths, which concatenates them."""

    def __init__(self, paths: list[Path], infos: list[dict], tables: list[pa.Table]):
        self.paths, self.infos = paths, infos
        rates = {info["sample_rate"] for info in infos}
        if len(rates) > 1:
            raise ValueError(f"banks of different sample rates cannot be combined: {sorted(rates)}")
        self.sample_rate = rates.pop()
        self.notes = pa.concat_tables(tables).to_pandas()
        owners = pd.concat([pd.Series(t["instrument"].to_pandas().unique()) for t in tables])
        if owners.duplicated().any():
            raise ValueError(f"two of these banks hold instrument {owners[owners.duplicated()].iloc[0]!r}: they cannot be combined")
        self._maps = [np.asarray(np.memmap(p / "audio.i16", dtype="<i2", mode="r")) for p in paths]
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
        n = self.lengths[i] if limit is None else min(self.lengths[i], limit)
        start = self._offset[i]
        return self._maps[self._which[i]][start : start + n].astype(np.float32) / self._gain[i]

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
                    raise ValueError(f"{path / name} is damaged (checksum differs): delete {path} and build it again")


def _read(path: Path) -> tuple[dict, pa.Table]:
    """bank.json and notes of one bank, checked for what can be checked without reading the audio."""
    if not (path / "bank.json").is_file():
        raise FileNotFoundError(f"no note bank at {path}: make it with notebooks/01_data.ipynb (`make bank PRESET=demo` for the demo)")
    repair = f"delete {path} and build it again with notebooks/01_data.ipynb"
    try:
        info = json.loads((path / "bank.json").read_text())
        version = info["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / 'bank.json'} is damaged ({error}): {repair}") from None
    if version != FORMAT:
        raise ValueError(f"bank {path} has format {version}, this version reads format {FORMAT}: {repair}")
    try:
        table = pq.read_table(path / "notes.parquet").select(SCHEMA.names).cast(SCHEMA)
        sizes = {"notes": table.num_rows, "samples": (path / "audio.i16").stat().st_size // 2}
        told = {name: info["counts"][name] for name in sizes}
        int(info["sample_rate"])
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"bank {path} is damaged ({type(error).__name__}: {reason}): {repair}") from None
    if sizes != told:
        raise ValueError(f"bank {path} is damaged (its files do not have the sizes that bank.json tells): {repair}")
    return info, table


class BankBuilder:
    """Collects sounds in `<path>.building`, one shard per job, and turns them into a bank when all are there.

    Shards survive an interruption: a build with the same `spec` continues, one with another spec starts anew.
    """

    def __init__(self, path: Path, spec: dict, sample_rate: int = 16000):
        self.path, self.spec, self.sample_rate = Path(path), spec, sample_rate
        self.work = self.path.with_name(self.path.name + ".building")
        if self.path.exists() and not (self.path / "bank.json").exists():
            raise ValueError(f"{path} is there and is no note bank: choose another path, a bank would replace it")
        if self.work.exists() and self._stored_spec() != spec:
            shutil.rmtree(self.work)
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(self.work / "spec.json", spec)

    def _stored_spec(self) -> dict | None:
        try:
            return json.loads((self.work / "spec.json").read_text())
        except (OSError, ValueError):
            return None

    def shard(self, key: str) -> Path:
        """File of one finished job."""
        return self.work / f"{key}.npz"

    def run(self, jobs: dict[str, dict], make: Callable, n_jobs: int = -1, title: str = "sounds") -> dict[str, str]:
        """Run `make(**jobs[key]) -> list[Sound]` for the keys without a shard, in parallel; return {key: why it failed}."""
        from joblib import Parallel, delayed
        from tqdm import tqdm

        todo = {key: job for key, job in jobs.items() if not self.shard(key).exists()}
        tasks = (delayed(_work)(make, job, key, self.shard(key)) for key, job in todo.items())
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)(tasks)
        bar = tqdm(done, total=len(todo), desc=title, mininterval=5, disable=not todo)
        return {key: error for key, error in bar if error}

    def load(self, key: str) -> tuple[list[dict], np.ndarray]:
        """Rows and int16 audio of a finished job."""
        with np.load(self.shard(key), allow_pickle=False) as file:
            return json.loads(str(file["rows"])), file["audio"]

    def finish(self, keys: Sequence[str], meta: dict, skipped: dict[str, str]) -> NoteBank:
        """Join the shards in the order of `keys` into the bank and remove the working folder."""
        whole = self.work / "bank"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        rows, offset = [], 0
        with open(whole / "audio.i16", "wb") as out:
            for key in keys:
                shard_rows, audio = self.load(key)
                audio.astype("<i2").tofile(out)
                for row in shard_rows:
                    rows.append({**row, "offset": offset})
                    offset += row["length"]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), whole / "notes.parquet")
        info = {
            "format": FORMAT,
            "sample_rate": self.sample_rate,
            **meta,
            "made": self.spec,
            "counts": {"notes": len(rows), "samples": offset, "instruments": len({r["instrument"] for r in rows})},
            "skipped": skipped,
            "sha256": {name: sha256(whole / name) for name in ("audio.i16", "notes.parquet")},
        }
        write_json(whole / "bank.json", info)
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(whole, self.path)
        shutil.rmtree(self.work, ignore_errors=True)
        return NoteBank.open(self.path)


def _work(make: Callable, job: dict, key: str, shard: Path) -> tuple[str, str | None]:
    """One job in a worker process: make the sounds, write the shard. A failing job costs only itself."""
    try:
        sounds = make(**job)
        rows, audio = zip(*(encode(s) for s in sounds), strict=True)
        packed = {"rows": json.dumps(rows), "audio": np.concatenate(audio)}

        def save(part: Path) -> None:
            with open(part, "wb") as file:
                np.savez(file, **packed)

        write_atomic(shard, save)
        return key, None
    except Exception as error:
        return key, f"{type(error).__name__}: {error}"


def encode(sound: Sound) -> tuple[dict, np.ndarray]:
    """Row and int16 samples of a sound; the full 16 bits are used and the level is kept in `gain`."""
    audio = np.asarray(sound.audio, dtype=np.float64)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"a sound of {sound.row.get('instrument')} is empty, not mono or not finite")
    choose("split", sound.row["split"], SPLITS)
    gain = np.float32(32767 / max(np.abs(audio).max(), 1e-4))
    return {**sound.row, "length": len(audio), "gain": float(gain)}, np.round(audio * gain).astype("<i2")
