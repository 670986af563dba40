"""A searchable index of anybody's sounds: note banks and folders, embedded once, kept in a LanceDB table, searched exactly.

A library is a folder: `library.json`, its encoder (`encoder.pt`: nothing else is needed to search) and the table `sounds`. Sounds are
written in blocks: what was embedded before an interruption stays. One process writes at a time; others read what is complete.
`python -m cirlib.library` does the same from a shell (library_cli.py).
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from . import paths, query
from .bank import NoteBank
from .catalog import Catalog, open_catalog
from .checkpoints import best_device
from .config import choose
from .encoder import AudioEncoder, digest, load_trained
from .evaluate import progress
from .files import write_json
from .gallery import Gallery
from .jobs import require
from .open_mixtures import Presence
from .sources.audio import RATE, Unusable, read_audio

FORMAT = 1
METRICS = ("cosine", "l2")
BLOCK = 512  # sounds of one commit
PART = 32  # sounds in memory at once
LONGEST_LIST = 500  # ids in one condition
KEEP = timedelta(hours=1)  # earlier states, for processes that read them


@dataclass
class Changes:
    """What an update did: numbers of sounds, and the files that are no usable sound, with the reason."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


class Library:
    """An index of sounds: `Library.build(...)` or `Library.open(path)`, then `search`."""

    def __init__(self, path: Path, info: dict):
        import lancedb

        self.path, self.info = path, info
        self.metric: str = info["metric"]
        self.changes: Changes | None = None  # what the last update did
        self._encoder, self._gallery = None, None
        self._table = lancedb.connect(path).open_table("sounds")

    @classmethod
    def build(cls, sounds: str | Path, encoder: str | AudioEncoder, path: str | Path, metric: str = "", show: bool = False) -> "Library":
        """The library at `path` of a note bank or folder of sounds, made or brought up to date.

        encoder: a trained one, as AudioEncoder.create names it. metric: cosine or l2; "": what the encoder was trained with. Raises
        ValueError if the library there was made with another encoder or metric; FileNotFoundError if there are no sounds.
        """
        require("libraries", "lancedb", "filelock")
        path, catalog = Path(path), open_catalog(sounds)
        name, trained = "an encoder", "cosine"
        if isinstance(encoder, str):
            name, (encoder, trained) = encoder, load_trained(encoder)
        metric = choose("metric", metric or trained, METRICS)
        with _writing(path):
            if not (path / "library.json").is_file():
                _create(path, encoder, {"encoder": name, "digest": digest(encoder), "metric": metric})
            library = cls.open(path)
            if (library.info["digest"], library.metric) != (digest(encoder), metric):
                raise ValueError(
                    f"{paths.short(path)} was made with {library.info['encoder']} ({library.metric}): vectors of {name} ({metric}) cannot "
                    "be compared with its own; give that encoder, or build another library"
                )
            library._update(catalog, show)
            if name.endswith(".pt") and (told := Presence.load(paths.at_home(name).with_name("presence.json"), library.info["digest"])):
                told.save(path / "presence.json", library.info["digest"])
        return library

    @classmethod
    def open(cls, path: str | Path) -> "Library":
        """The library at `path`. Raises FileNotFoundError, or ValueError for one that is damaged or of another version."""
        require("libraries", "lancedb", "filelock")
        path = Path(path)
        if not (path / "library.json").is_file():
            there = ", ".join(sorted(p.parent.name for p in paths.LIB.glob("*/library.json"))) or "none"
            raise FileNotFoundError(f"no library at {paths.short(path)}: build one first; in {paths.short(paths.LIB)} there are: {there}")
        try:
            info = json.loads((path / "library.json").read_text())
            if info["format"] != FORMAT:
                raise ValueError(f"it has format {info['format']}, this version reads {FORMAT}")
            return cls(path, info)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"library {paths.short(path)} cannot be read ({reason}): delete it and build it again") from None

    def add(self, sounds: str | Path, show: bool = False) -> Changes:
        """Bring the sounds of a note bank or folder up to date: only new and changed ones are embedded, those that are gone disappear.

        Sounds of other folders and banks stay. Raises FileNotFoundError, and changes nothing, where there is no sound.
        """
        catalog = open_catalog(sounds)
        with _writing(self.path):
            return self._update(catalog, show)

    @property
    def encoder(self) -> AudioEncoder:
        """The encoder of all vectors; ValueError if its file is another one."""
        if self._encoder is None:
            encoder = AudioEncoder.load(self.path / "encoder.pt", best_device())
            if digest(encoder) != self.info["digest"]:
                raise ValueError(
                    f"{paths.short(self.path)}/encoder.pt is not the encoder of this library: delete the library and build it again"
                )
            self._encoder = encoder
        return self._encoder

    def search(
        self, sound: str | Path | np.ndarray, family: str | None = None, k: int = 5, windows: bool = False, sample_rate: int = RATE
    ) -> pd.DataFrame:
        """The k instruments nearest to a sound or mix, nearest first: uid, family, source, path, start and seconds of the nearest sound of
        each in its file, distance.

        sound: an audio file or a waveform (n,). A long one is cut into windows of the encoder's clip length: their embeddings are
        averaged by duration, or with `windows` searched one by one (column `window`: where each begins, in seconds). Raises as
        query.windows, and ValueError for an unknown family or one that the library lacks.
        """
        starts, vectors, pooled = self.embed(sound, sample_rate)
        if windows:
            found = [self.nearest(vector, family, k).assign(window=float(start)) for start, vector in zip(starts, vectors, strict=True)]
            return pd.concat(found, ignore_index=True)
        return self.nearest(pooled, family, k)

    def families(self, sound: str | Path | np.ndarray, sample_rate: int = RATE) -> pd.DataFrame:
        """What plays in a sound or mix: the nearest instrument of each family of the library, as `search` gives it, and `presence`, the
        probability that the family plays at all.

        Most probable first; by distance, and presence NaN, for an encoder without presence.json (09_open_mixtures makes it).
        """
        vector = self.embed(sound, sample_rate)[2]
        held = self._current().families
        names = sorted(set(held[pd.notna(held)]))
        if not names:
            raise ValueError("no sound of this library has a family: their names and folders tell none")
        found = pd.concat([self.nearest(vector, family, 1) for family in names], ignore_index=True)
        model = Presence.load(self.path / "presence.json", self.info["digest"])
        told = dict(zip(model.families, model(vector[None])[0], strict=True)) if model else {}
        found.insert(1, "presence", found.family.map(told).astype(float))
        return found.sort_values(["presence", "distance"], ascending=[False, True], ignore_index=True)

    def embed(self, sound: str | Path | np.ndarray, sample_rate: int = RATE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts (W,) in seconds and embeddings (W, D) of the windows of a query, and their mean (D,), weighted by duration."""
        starts, sounds = query.windows(sound, self.encoder.config.seconds, sample_rate)
        vectors = self.encoder.embed(sounds)
        return starts, vectors, np.average(vectors, axis=0, weights=[len(part) for part in sounds])

    def nearest(self, vector: np.ndarray, family: str | None = None, k: int = 5) -> pd.DataFrame:
        """The k instruments nearest to an embedding (D,), as `search` gives them. Exact."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}")
        return self._current().nearest(vector, family, k)

    def _current(self) -> Gallery:
        self._table.checkout_latest()
        if self._gallery is None or self._gallery.version != self._table.version:
            self._gallery = Gallery(self._table.to_arrow(), self.metric, self._table.version)
        return self._gallery

    def preview(self, item: pd.Series) -> tuple[np.ndarray, int]:
        """A found sound to listen to, (n,) float32 at some rate: a row of what `search` gives."""
        seconds, place = float(item.seconds), Path(item.path)
        if place.is_dir():
            bank = NoteBank.open(place)
            return bank.audio(bank.instruments.reference[item.uid], round(seconds * bank.sample_rate)), bank.sample_rate
        audio = read_audio(place, item.start + seconds)[round(item.start * RATE) :]
        return audio.astype(np.float32) / (32768 if audio.dtype == np.int16 else 1), RATE

    def describe(self) -> dict:
        """What the library holds, as plain data."""
        rows = self._rows("origin", "uid", "family")
        return {
            "path": paths.short(self.path), **{k: self.info[k] for k in ("encoder", "metric", "dim", "clip_s")}, "sounds": len(rows),
            "instruments": int(rows.uid.nunique()), "families": rows.family.fillna("none told").value_counts().to_dict(),
            "origins": rows.origin.value_counts().to_dict(), "bytes": sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
        }  # fmt: skip

    # Writing

    def _rows(self, *columns: str, where: str | None = None) -> pd.DataFrame:
        self._table.checkout_latest()
        found = self._table.search().select(list(columns)).limit(max(1, self._table.count_rows()))
        return (found.where(where) if where else found).to_pandas()

    def _update(self, catalog: Catalog, show: bool) -> Changes:
        """Embed what is new or changed, block by block, then forget what is gone."""
        entries, labels = catalog.entries, ["uid", "family", "source"]
        known = self._rows("id", "stamp", *labels, where=f"origin = {_quoted(str(catalog.origin))}").set_index("id")
        same = entries.stamp == known.stamp.reindex(entries.index)
        fresh, lost = entries.index[~same], set(known.index.difference(entries.index))
        changes = Changes(unchanged=int(same.sum()))
        for start in progress(range(0, len(fresh), BLOCK), f"blocks of {BLOCK} sounds", show and len(fresh) > BLOCK):
            rows, unusable = self._embedded(catalog, fresh[start : start + BLOCK])
            self._write(rows)
            again = sum(row["id"] in known.index for row in rows)
            changes.changed, changes.new = changes.changed + again, changes.new + len(rows) - again
            changes.left_out |= {entries.path[id]: reason for id, reason in unusable.items()}
            lost |= unusable.keys() & set(known.index)
        renamed = (entries[labels].fillna("") != known[labels].reindex(entries.index).fillna("")).any(axis=1) & same
        for ids in _lists(entries.index[renamed]):  # the file is the same, what its name tells is not
            rows = self._table.search().where(f"id IN ({', '.join(map(_quoted, ids))})").limit(len(ids)).to_list()
            self._write([{**row, **entries.loc[row["id"], labels]} for row in rows])
        for ids in _lists(sorted(lost)):
            self._table.delete(f"id IN ({', '.join(map(_quoted, ids))})")
        changes.removed = len(lost)
        if len(fresh) or len(lost):
            self._table.optimize(cleanup_older_than=KEEP)
        self.changes = changes
        return changes

    def _embedded(self, catalog: Catalog, ids: pd.Index) -> tuple[list[dict], dict[str, str]]:
        """Rows of sounds with their vectors, and the ids of those that are none, with the reason."""
        seconds, rows, unusable = self.encoder.config.seconds, [], {}
        for first in range(0, len(ids), PART):
            part, sounds = [], []
            for id in ids[first : first + PART]:
                try:
                    audio, start = catalog.sound(id, seconds)
                except Unusable as error:
                    unusable[id] = str(error)
                    continue
                sounds.append(audio)
                part.append(
                    {"id": id, "origin": str(catalog.origin), **catalog.entries.loc[id], "start": start, "seconds": len(audio) / RATE}
                )
            vectors = self.encoder.embed(sounds)
            rows += [{**row, "vector": vector} for row, vector in zip(part, vectors, strict=True)]
        return rows, unusable

    def _write(self, rows: list[dict]) -> None:
        if rows:
            schema = self._table.schema
            columns = {name: [row[name] for row in rows] for name in schema.names if name != "vector"}
            vectors = pa.array(np.concatenate([row["vector"] for row in rows], dtype=np.float32))
            columns["vector"] = pa.FixedSizeListArray.from_arrays(vectors, self.info["dim"])
            block = pa.table(columns, schema=schema)
            self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(block)


def _create(path: Path, encoder: AudioEncoder, info: dict) -> None:
    """An empty library; library.json last, so that one that is not complete is made again."""
    import lancedb

    encoder.save(path / "encoder.pt")
    texts = [pa.field(name, pa.string()) for name in ("id", "uid", "family", "source", "origin", "path", "stamp")]
    numbers = [pa.field(name, pa.float64()) for name in ("start", "seconds")]
    schema = pa.schema([*texts, *numbers, pa.field("vector", pa.list_(pa.float32(), encoder.dim))])
    shutil.rmtree(path / "sounds.lance", ignore_errors=True)
    lancedb.connect(path).create_table("sounds", schema=schema)
    write_json(path / "library.json", {"format": FORMAT, "dim": encoder.dim, "clip_s": encoder.config.seconds, **info})


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """The only process that writes to a library; another one waits until this has ended, however it ends."""
    from filelock import FileLock, Timeout

    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{paths.short(path)} is being written by another process: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _quoted(text: str) -> str:
    """A text in a condition."""
    return "'" + text.replace("'", "''") + "'"


def _lists(ids: Iterable[str]) -> Iterator[list[str]]:
    """Parts of ids, short enough for one condition."""
    ids = list(ids)
    return (ids[i : i + LONGEST_LIST] for i in range(0, len(ids), LONGEST_LIST))


if __name__ == "__main__":
    from .library_cli import main

    main()
