"""A searchable index of anybody's sounds: note banks and folders, embedded once, kept in a LanceDB table, searched exactly.

A library is a folder: `library.json`, its encoder (`encoder.pt`: nothing else is needed to search) and the table `sounds`. Sounds are
written in blocks: what was embedded before an interruption stays. One process writes at a time; others read what is complete.
`python -m cirlib.search.library` does the same from a shell (library_cli.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import RATE, Unusable, read_audio, repeat_sound
from ..common import paths
from ..common.device import best_device
from ..common.files import write_json, writing
from ..common.packages import require
from ..common.settings import choose
from ..common.untrusted import read_json
from ..data.bank import NoteBank
from ..evaluation.open_mixtures import Presence
from ..evaluation.protocol import progress
from ..models.encoder import ENCODERS, AudioEncoder, digest, origin
from ..models.heads import MIX, one_part
from ..training.config import read_config
from . import query
from .catalog import Catalog, is_bank, open_catalog
from .gallery import Gallery
from .table import LABELS, Table

FORMAT = 1
METRICS = ("cosine", "l2")
BLOCK = 512  # sounds of one commit
PART = 32  # sounds in memory at once


@dataclass
class Changes:
    """What an update did: numbers of sounds, and what is no usable sound, with the reason."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


class Library:
    """An index of sounds: `Library.build(...)` or `Library.open(path)`, then `search`."""

    def __init__(self, path: Path, info: dict):
        self.path, self.info = path, info
        self.metric: str = info["metric"]
        self.changes: Changes | None = None  # what the last update did
        self._encoder, self._gallery = None, None
        self._table = Table(path)

    @classmethod
    def build(cls, sounds: str | Path, encoder: str | AudioEncoder, path: str | Path, metric: str = "", show: bool = False) -> "Library":
        """The library at `path` of a note bank or folder of sounds, made or brought up to date.

        encoder: a trained one, as AudioEncoder.create names it. metric: cosine or l2; "": what the encoder was trained with. Raises
        ValueError if the library there was made with another encoder or metric; FileNotFoundError if there are no sounds.
        """
        require("libraries", "lancedb", "filelock", "soxr")
        path, catalog = Path(path).expanduser(), open_catalog(sounds)
        name, trained = "an encoder", "cosine"
        if isinstance(encoder, str):
            name, (encoder, trained) = paths.display_name(encoder), load_trained(encoder)
        metric = choose("metric", metric or trained, METRICS)
        with _writing(path):
            if not (path / "library.json").is_file():  # written last: what is there without it is not complete
                encoder.save(path / "encoder.pt")
                Table.create(path, encoder.dim)
                told = {"encoder": name, "digest": digest(encoder), "metric": metric, "parts": list(encoder.config.parts)}
                write_json(path / "library.json", {"format": FORMAT, "dim": encoder.dim, "clip_s": encoder.config.seconds, **told})
            library = cls.open(path)
            if (library.info["digest"], library.metric) != (digest(encoder), metric):
                again = name == library.info["encoder"] and metric == library.metric and name.endswith(".pt")
                why = "was trained again since: its" if again else f"({metric}) is another, whose"
                raise ValueError(
                    f"{paths.short(path)} was made with {library.info['encoder']} ({library.metric}), and {name} {why} vectors cannot be "
                    "compared with its own; build another library, or delete it and build it again"
                )
            library._update(catalog, show)
        return library

    @classmethod
    def open(cls, path: str | Path) -> "Library":
        """The library at `path`. Raises FileNotFoundError, or ValueError for one that is damaged or of another version."""
        require("libraries", "lancedb", "filelock", "soxr")
        path = Path(path).expanduser()
        if not (path / "library.json").is_file():
            there = ", ".join(sorted(p.parent.name for p in paths.LIB.glob("*/library.json"))) or "none"
            raise FileNotFoundError(f"no library at {paths.short(path)}: build one first; in {paths.short(paths.LIB)} there are: {there}")
        try:
            info = read_json(path / "library.json")
            if info["format"] != FORMAT:
                raise ValueError(f"it has format {info['format']!r:.100}, this version reads {FORMAT}")
            _check_info(info)
            return cls(path, info)
        except (ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"library {paths.short(path)} cannot be read ({reason}): delete it and build it again") from None

    def add(self, sounds: str | Path, show: bool = False) -> Changes:
        """Bring the sounds of a note bank or folder up to date: only new and changed ones are embedded, those that are gone disappear.

        Sounds of other folders and banks stay. Raises FileNotFoundError, and changes nothing, where there is no sound, and ValueError for
        a folder inside another of the library, or around it: its sounds would be listed twice.
        """
        catalog = open_catalog(sounds)
        with _writing(self.path):
            return self._update(catalog, show)

    def remove(self, sounds: str | Path) -> Changes:
        """Forget all sounds of a folder or bank, also of one that is no longer there; ValueError if the library has none of it."""
        origin = Path(sounds).expanduser().resolve()
        with _writing(self.path):
            ids = self._table.rows("id", origin=origin).id
            if ids.empty:
                raise ValueError(
                    f"{paths.short(self.path)} has no sounds of {paths.short(origin)}; "
                    f"it has those of {', '.join(self.describe()['origins'])}"
                )
            self._table.delete(ids)
            self._table.tidy()
        self.changes = Changes(removed=len(ids))
        return self.changes

    @property
    def encoder(self) -> AudioEncoder:
        """The encoder of all vectors; ValueError if its file is another one, or gone."""
        if self._encoder is None:
            file = self.path / "encoder.pt"
            encoder = AudioEncoder.load(file, best_device()) if file.exists() else None
            if encoder is None or digest(encoder) != self.info["digest"]:
                raise ValueError(
                    f"{paths.short(self.path)}/encoder.pt is gone, or not the encoder of this library: delete that and build it again"
                )
            self._encoder = encoder
        return self._encoder

    def search(
        self,
        sound: str | Path | np.ndarray,
        family: str | None = None,
        k: int = 5,
        windows: bool = False,
        sample_rate: int = RATE,
        mix: bool = False,
    ) -> pd.DataFrame:
        """The k instruments nearest to a sound or mix, nearest first: uid, family, source, path, start and seconds of the nearest sound of
        each in its file, distance.

        sound: an audio file or a waveform (n,). A long one is cut into windows of the encoder's clip length: their embeddings are
        averaged by duration, or with `windows` searched one by one (column `window`: where each begins, in seconds). `mix`: it is a mix
        or a melody, no single sound: what is shorter than the clip is repeated, and an encoder in parts (readout.py) compares those for
        mixes where no family of its own is asked for. Raises as query.windows, and ValueError for an unknown family or one that the
        library lacks.
        """
        starts, vectors, pooled = self.embed(sound, sample_rate, mix)
        if windows:
            found = [self.nearest(v, family, k, mix).assign(window=float(start)) for start, v in zip(starts, vectors, strict=True)]
            return pd.concat(found, ignore_index=True)
        return self.nearest(pooled, family, k, mix)

    def families(self, sound: str | Path | np.ndarray, sample_rate: int = RATE) -> pd.DataFrame:
        """What plays in a mix: the nearest instrument of each family of the library, as `search` gives it, and `presence`, the
        probability that the family plays at all.

        Most probable first; by distance, and presence NaN, for an encoder without presence.json (09_open_mixtures writes it beside the
        checkpoint). Probabilities are right on the whole for mixtures of 1 to 6 instruments that play throughout.
        """
        vector = self.embed(sound, sample_rate, mix=True)[2]
        held = self._current().families
        names = sorted(set(held[pd.notna(held)]))
        if not names:
            raise ValueError("no sound of this library has a family: their names and folders tell none")
        found = pd.concat([self.nearest(vector, family, 1, mix=True) for family in names], ignore_index=True)
        model = self._presence()
        mix = one_part(vector[None], MIX, self.info.get("parts", ()))
        told = dict(zip(model.families, model(mix)[0], strict=True)) if model else {}
        found.insert(1, "presence", found.family.map(told).astype(float))
        return found.sort_values(["presence", "distance"], ascending=[False, True], ignore_index=True)

    def embed(
        self, sound: str | Path | np.ndarray, sample_rate: int = RATE, mix: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts (W,) in seconds and embeddings (W, D) of the windows of a query, and their mean (D,), weighted by duration.

        `mix`: as `search` has it.
        """
        starts, sounds = query.windows(sound, self.encoder.config.seconds, sample_rate)
        samples = round(self.encoder.config.seconds * RATE)
        vectors = self.encoder.embed([repeat_sound(part, samples) for part in sounds] if mix else sounds)
        return starts, vectors, np.average(vectors, axis=0, weights=[len(part) for part in sounds])

    def nearest(self, vector: np.ndarray, family: str | None = None, k: int = 5, mix: bool = False) -> pd.DataFrame:
        """The k instruments nearest to an embedding (D,), as `search` gives them. Exact."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}")
        return self._current().nearest(vector, family, k, mix)

    def _current(self) -> Gallery:
        version = self._table.version
        if self._gallery is None or self._gallery.version != version:
            self._gallery = Gallery(self._table.whole(), self.metric, version, self.info.get("parts", ()))
        return self._gallery

    def _presence(self) -> Presence | None:
        """Presence of this encoder, kept here or beside its checkpoint."""
        places = [self.path, *([paths.at_home(self.info["encoder"]).parent] if self.info["encoder"].endswith(".pt") else [])]
        return next(filter(None, (Presence.load(place / "presence.json", self.info["digest"]) for place in places)), None)

    def preview(self, item: pd.Series) -> tuple[np.ndarray, int]:
        """A found sound to listen to, (n,) float32 at some rate: a row of what `search` gives. FileNotFoundError if it is gone since."""
        seconds, place = float(item.seconds), Path(item.path)
        try:
            if is_bank(place):
                bank = NoteBank.open(place)
                return bank.audio(bank.instruments.reference[item.uid], round(seconds * bank.sample_rate)), bank.sample_rate
            audio = read_audio(place, item.start + seconds)[round(item.start * RATE) :]
        except (OSError, KeyError, Unusable):
            raise FileNotFoundError(
                f"{item.uid} is no longer at {paths.short(place)}: add its folder or bank again, or remove it"
            ) from None
        return audio.astype(np.float32) / (32768 if audio.dtype == np.int16 else 1), RATE

    def describe(self) -> dict:
        """What the library holds, as plain data."""
        rows = self._table.rows("origin", "uid", "family")
        return {
            "path": paths.short(self.path), **{k: self.info[k] for k in ("encoder", "metric", "dim", "clip_s")}, "sounds": len(rows),
            "instruments": len(rows[["origin", "uid"]].drop_duplicates()),
            "families": rows.family.fillna("none told").value_counts().to_dict(),
            "origins": rows.origin.map(paths.short).value_counts().to_dict(),
            "bytes": sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
        }  # fmt: skip

    def _update(self, catalog: Catalog, show: bool) -> Changes:
        """Embed what is new or changed, block by block, then forget what is gone."""
        self._check_apart(catalog.origin)
        entries, labels = catalog.entries, list(LABELS)
        known = self._table.rows("id", "path", "stamp", *labels, origin=catalog.origin).set_index("id")
        same = entries.stamp == known.stamp.reindex(entries.index)
        hidden = known.path.str.startswith(tuple(f"{name}/" for name in catalog.unreadable)) if catalog.unreadable else known.path.isna()
        fresh, lost = entries.index[~same], set(known.index[~hidden.to_numpy(bool)].difference(entries.index))
        changes = Changes(unchanged=int(same.sum()), left_out=dict(catalog.left_out))
        for start in progress(range(0, len(fresh), BLOCK), f"blocks of {BLOCK} sounds", show and len(fresh) > BLOCK):
            rows, unusable = self._embedded(catalog, fresh[start : start + BLOCK])
            self._table.write(rows)
            again = sum(row["id"] in known.index for row in rows)
            changes.changed, changes.new = changes.changed + again, changes.new + len(rows) - again
            changes.left_out |= {entries.path[id]: reason for id, reason in unusable.items()}
            lost |= unusable.keys() & set(known.index)
        renamed = (entries[labels].fillna("") != known[labels].reindex(entries.index).fillna("")).any(axis=1) & same
        self._table.relabel(entries.loc[renamed, labels])  # the file is the same, what its name tells is not
        self._table.delete(sorted(lost))
        changes.removed = len(lost)
        if len(fresh) or len(lost):
            self._table.tidy()
        if model := self._presence():
            model.save(self.path / "presence.json", self.info["digest"])
        self.changes = changes
        return changes

    def _check_apart(self, origin: Path) -> None:
        """ValueError for a folder inside another one of the library, or around it."""
        for other in map(Path, self._table.rows("origin").origin.unique()):
            if other != origin and (origin.is_relative_to(other) or other.is_relative_to(origin)):
                raise ValueError(
                    f"{paths.short(origin)} and {paths.short(other)}, whose sounds are in {paths.short(self.path)}, lie one "
                    f"inside the other, and sounds would be listed twice: remove {paths.short(other)} from the library first, or add "
                    "it again"
                )

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


def load_trained(name: str) -> tuple[AudioEncoder, str]:
    """A trained encoder by name, as AudioEncoder.create takes it, in eval mode on the best device, and the distance it was trained with.

    The distance is that of the run beside a checkpoint, else l2 for a file that is named after a triplet loss, else cosine. Raises
    ValueError for a preset's name: those have random weights.
    """
    if name in ENCODERS:
        raise ValueError(f"{name} has random weights: name a trained encoder (a checkpoint such as runs/demo/multi-infonce/seed0/best.pt)")
    if not (name.endswith(".pt") or name.startswith("wandb:")):
        return AudioEncoder.create(name).eval().to(best_device()), "cosine"
    file = origin(name)
    encoder = AudioEncoder.load(file, best_device())
    if (file.parent / "config.yaml").is_file():
        return encoder, read_config(file.parent)[0].metric
    return encoder, "l2" if "triplet" in file.name.lower() else "cosine"


def _check_info(info: dict) -> None:
    """ValueError for a library.json whose values are of other kinds than those that `build` writes."""
    for name, kind in {"encoder": str, "digest": str, "metric": str, "dim": int, "clip_s": (int, float)}.items():
        if not isinstance(info[name], kind):
            raise ValueError(f"{name} cannot be {info[name]!r:.100}")
    choose("metric", info["metric"], METRICS)
    parts = info.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"parts cannot be {parts!r:.100}")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """The only process that writes to a library; another one waits until this has ended, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(path / ".lock")
    try:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout:
        print(f"{paths.short(path)} is being written by another process: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
