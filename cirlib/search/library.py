"""A searchable index of sounds: folders and note banks, embedded once, stored in a LanceDB table, searched exactly.

A library is a folder with library.json, its encoder (encoder.pt; nothing else is needed to search) and the table `sounds`. Sounds are
written in blocks, so that an interrupted build resumes. One process writes at a time; others read what is complete.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import RATE, Unusable, as_float, read_audio
from ..common import paths
from ..common.device import best_device
from ..common.files import write_json
from ..common.packages import require
from ..common.settings import choose, from_dict, to_dict
from ..common.untrusted import read_json
from ..data.bank import NoteBank
from ..evaluation.open_mixtures import Presence
from ..models.encoder import AudioEncoder, digest
from ..models.heads import MIX, select_head
from ..models.pretrained import SHIPPED, weights_path
from ..training.config import read_config
from .catalog import Catalog, is_bank, open_catalog
from .clips import cut
from .gallery import Gallery
from .neighbours import predict_families
from .query import embed_clips, embed_whole, load
from .sections import Section, find_sections, join
from .table import Table, lock
from .update import Changes, sound_ids, update

FORMAT = 3
METRICS = ("cosine", "l2")
SECTION_K = 3  # matches of a section of a mix


@dataclass
class Info:
    """The content of library.json."""

    encoder: str  # name
    digest: str  # of the encoder
    metric: str
    dim: int  # of the embeddings
    clip_s: float
    heads: tuple[str, ...]  # families that the encoder has a head for
    format: int = FORMAT


class Library:
    """An index of sounds: `Library.build(...)` or `Library.open(path)`, then `search`."""

    def __init__(self, path: Path, info: Info):
        self.path, self.info = path, info
        self.metric = info.metric
        self.changes: Changes | None = None  # of the last update
        self._encoder, self._gallery = None, None
        self._table = Table(path)

    @classmethod
    def build(
        cls, sounds: str | Path, path: str | Path, encoder: str | AudioEncoder | None = None,
        *, metric: str = "", links: bool = False, show: bool = False,
    ) -> "Library":  # fmt: skip
        """Create the library of a note bank or folder of sounds at `path`, or bring it up to date.

        encoder: a trained one, or what AudioEncoder.load takes; by default the one of an existing library, else the one that comes
        with cirlib. metric: cosine or l2; by default what the encoder was trained with. links: follow links out of the folder, and to
        folders. Raises ValueError if the library was built with another encoder or metric, FileNotFoundError if there are no sounds.
        """
        require("libraries", "lancedb", "filelock", "soxr")
        path, catalog = Path(path).expanduser(), open_catalog(sounds, links=links)
        if path.exists() and not path.is_dir():
            raise ValueError(f"{paths.short(path)} is no folder: choose another path for the library")
        if encoder is None and (path / "library.json").is_file():
            encoder, name, trained = (library := cls.open(path)).encoder, library.info.encoder, library.metric
        else:
            encoder, name, trained = load_trained(encoder)
        metric = choose("metric", metric or trained, METRICS)
        with lock(path):
            if not (path / "library.json").is_file():
                _create(path, encoder, name=name, metric=metric)
            library = cls.open(path)
            library._check_encoder(encoder, name=name, metric=metric)
            library._update(catalog, show)
        return library

    @classmethod
    def open(cls, path: str | Path) -> "Library":
        """Open a library. Raises FileNotFoundError if there is none, ValueError if it is damaged or of another version."""
        require("libraries", "lancedb", "filelock", "soxr")
        path = Path(path).expanduser()
        if not (path / "library.json").is_file():
            others = ", ".join(sorted(p.parent.name for p in paths.LIB.glob("*/library.json"))) or "none"
            raise FileNotFoundError(f"no library at {paths.short(path)}: build one first; libraries in {paths.short(paths.LIB)}: {others}")
        try:
            content = read_json(path / "library.json")
            if content["format"] != FORMAT:
                raise ValueError(f"it has format {content['format']!r:.100}, this version reads {FORMAT}")
            info = from_dict(Info, content)
            choose("metric", info.metric, METRICS)
            return cls(path, info)
        except (ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"library {paths.short(path)} cannot be read ({reason}): delete it and build it again") from None

    def add(self, sounds: str | Path, *, links: bool = False, show: bool = False) -> Changes:
        """Bring the sounds of a note bank or folder up to date: embed new and changed ones, remove those that no longer exist.

        Sounds of other origins stay. Raises FileNotFoundError, and changes nothing, if there is no sound, and ValueError for a folder
        inside another origin of the library, or around one: its sounds would be listed twice.
        """
        catalog = open_catalog(sounds, links=links)
        with lock(self.path):
            return self._update(catalog, show)

    def remove(self, sounds: str | Path) -> Changes:
        """Remove all sounds of a folder or bank, which need not exist any more. Raises ValueError if the library has none of it."""
        origin = Path(sounds).expanduser().resolve()
        with lock(self.path):
            ids = self._table.rows("id", origin=origin).id
            if ids.empty:
                origins = ", ".join(self.describe()["origins"])
                raise ValueError(f"{paths.short(self.path)} has no sounds of {paths.short(origin)}, only of: {origins}")
            self._table.delete(ids)
            predict_families(self._table, metric=self.metric, heads=self.info.heads)
            self._table.tidy()
        self.changes = Changes(removed=sound_ids(ids).nunique())
        return self.changes

    @property
    def encoder(self) -> AudioEncoder:
        """The encoder of all vectors. Raises ValueError if its file is missing or another one."""
        if self._encoder is None:
            file = self.path / "encoder.pt"
            encoder = AudioEncoder.load(file, device=best_device()) if file.exists() else None
            if encoder is None or digest(encoder) != self.info.digest:
                place = paths.short(self.path)
                raise ValueError(f"{place}/encoder.pt is missing or not the encoder of this library: delete {place} and build it again")
            self._encoder = encoder
        return self._encoder

    def search(
        self, query, family: str | None = None, *, k: int = 5, mix: bool = True, sections: bool = False, sample_rate: int = RATE, **choice
    ) -> pd.DataFrame:
        """Return the k instruments nearest to a mix or a sound, nearest first, each by its nearest sound.

        Args:
            query: a file, a waveform (n,), or a row of an earlier result: more like it.
            family, and kind and exclude in `choice`: which sounds are searched (Gallery.kept).
            mix: the query is a mix or a melody. What is shorter than the clip is repeated, and an encoder with per-family heads compares
                head `mix` unless the family has its own. False: a single sound, compared by head `single`.
            sections: search each section of a query longer than the clip too; at most SECTION_K matches each.

        Columns: instrument, family, predicted (no name says the family, its neighbours have it), kind, note (name of the pitch), sounds
        (number of the instrument), source, path, start and seconds of the nearest sound in its file, distance. With `sections` also
        section (0 is the whole query), and its begin and end in seconds. Raises as query.load and Gallery.kept.
        """
        if hasattr(query, "instrument"):
            more = choice.get("exclude", ())
            mix, choice["exclude"] = False, [*([more] if isinstance(more, str) else more), query.instrument]
            parts = [Section(query.start, query.start + query.seconds, self.gallery.vector(query))]
        else:
            parts = self._parts(query, mix=mix, sections=sections, sample_rate=sample_rate)
        ks = [min(k, SECTION_K) if i else k for i in range(len(parts))]
        found = [self.nearest(part.vector, family, k=n, mix=mix, **choice) for n, part in zip(ks, parts, strict=True)]
        return join(parts, found) if sections else found[0]

    def families(self, query, *, k: int = 3, sections: bool = False, sample_rate: int = RATE, **choice) -> pd.DataFrame:
        """Return the k nearest instruments of each family, as `search` does, and `presence`: the probability that the family plays.

        choice: kind, exclude. The most probable family comes first; of a section, the best match of the first SECTION_K families.
        Without presence.json, which 09_open_mixtures writes beside a checkpoint, presence is NaN and the family with the nearest
        instrument comes first. Probabilities are calibrated over mixtures of 1 to 6 instruments that play throughout.
        """
        gallery, model = self.gallery, self._presence()
        names = sorted(gallery.rows.family[gallery.kept(**choice)].dropna().unique())
        if not names:
            raise ValueError("no sound of this library has a family: no name of a file or folder contains one")
        parts, tables = self._parts(query, mix=True, sections=sections, sample_rate=sample_rate), []
        for part in parts:
            heads = select_head(part.vector[None], MIX, self.info.heads)
            probability = dict(zip(model.families, model(heads)[0].tolist(), strict=True)) if model else {}
            found = [self.nearest(part.vector, name, k=k, **choice) for name in names]
            found.sort(key=lambda rows: (-probability.get(rows.family[0], -1), rows.distance[0]))
            found = [rows[:1] for rows in found[:SECTION_K]] if tables else found
            tables.append(pd.concat(found, ignore_index=True))
            tables[-1].insert(2, "presence", tables[-1].family.map(probability).astype(float))
        return join(parts, tables) if sections else tables[0]

    def embed(self, audio, *, sample_rate: int = RATE, mix: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return starts (W,) in seconds and embeddings (W, D) of the clips of a query, and the embedding (D,) of all of them together."""
        starts, clips = cut(load(audio, sample_rate), self.info.clip_s)
        return starts, embed_clips(self.encoder, clips, mix=mix), embed_whole(self.encoder, clips, mix=mix)

    def _parts(self, audio, *, mix: bool, sections: bool, sample_rate: int) -> list[Section]:
        """Return the whole query and, if wanted, its sections."""
        starts, clips = cut(load(audio, sample_rate), self.info.clip_s)
        seconds = np.array([len(clip) / RATE for clip in clips])
        entire = Section(float(starts[0]), float(starts[-1] + seconds[-1]), embed_whole(self.encoder, clips, mix=mix))
        if not sections:
            return [entire]
        vectors = embed_clips(self.encoder, clips, mix=mix)
        return [entire, *find_sections(starts, seconds, vectors, lambda vector: tuple(self.nearest(vector, k=SECTION_K).path))]

    def nearest(self, vector: np.ndarray, family: str | None = None, *, k: int = 5, mix: bool = True, **options) -> pd.DataFrame:
        """Return the k instruments nearest to an embedding (D,), as `search` does; options: kind, exclude."""
        return self.gallery.nearest(vector, family, k=k, mix=mix, **options)

    def preview(self, match: pd.Series) -> tuple[np.ndarray, int]:
        """Return the audio (n,) float32 and sample rate of a row of `search`. Raises FileNotFoundError if its file no longer exists."""
        seconds, place = float(match.seconds), Path(match.path)
        try:
            if is_bank(place):
                bank = NoteBank.open(place)
                return bank.audio(bank.instruments.reference[match.instrument], round(seconds * bank.sample_rate)), bank.sample_rate
            return as_float(read_audio(place, match.start + seconds)[round(match.start * RATE) :]), RATE
        except (OSError, KeyError, Unusable):
            message = f"{match.instrument} is no longer at {paths.short(place)}: add its folder or bank again, or remove it"
            raise FileNotFoundError(message) from None

    def describe(self) -> dict:
        """Return what the library holds, as plain data."""
        return {
            "path": paths.short(self.path), "encoder": self.info.encoder, "metric": self.metric, "dim": self.info.dim,
            "clip_s": self.info.clip_s, **self.gallery.describe(),
            "bytes": sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
        }  # fmt: skip

    @property
    def gallery(self) -> Gallery:
        """The sounds of the newest version."""
        version = self._table.version
        if self._gallery is None or self._gallery.version != version:
            self._gallery = Gallery(self._table.read(), metric=self.metric, version=version, heads=self.info.heads)
        return self._gallery

    def _presence(self) -> Presence | None:
        """Return the presence model of this encoder, from this library or from beside its checkpoint."""
        name = self.info.encoder
        places = [self.path, *([weights_path(name).parent] if name == SHIPPED or name.endswith(".pt") else [])]
        return next(filter(None, (Presence.load(place / "presence.json", self.info.digest) for place in places)), None)

    def _update(self, catalog: Catalog, show: bool) -> Changes:
        self.changes = update(self._table, catalog, self.encoder, metric=self.metric, show=show)
        if model := self._presence():
            model.save(self.path / "presence.json", self.info.digest)
        return self.changes

    def _check_encoder(self, encoder: AudioEncoder, *, name: str, metric: str) -> None:
        """Raise ValueError if the library was built with another encoder or metric."""
        if (self.info.digest, self.metric) != (digest(encoder), metric):
            raise ValueError(
                f"{paths.short(self.path)} was built with {self.info.encoder} ({self.metric}), which is not the same as {name} ({metric}) "
                "now: their vectors cannot be compared; build another library, or delete this one and build it again"
            )


def load_trained(encoder: str | AudioEncoder | None) -> tuple[AudioEncoder, str, str]:
    """Return a trained encoder, its name, and the metric that it was trained with.

    encoder: an encoder, or what AudioEncoder.load takes (None: the one that comes with cirlib). Where the encoder does not store its
    metric, it is that of the run of a checkpoint, else l2 for a file that is named after a triplet loss, else cosine. Raises as
    AudioEncoder.load.
    """
    if isinstance(encoder, AudioEncoder):
        return encoder, "an encoder", encoder.config.metric or "cosine"
    loaded = AudioEncoder.load(encoder, device=best_device())
    file, name = weights_path(encoder or SHIPPED), paths.display_name(encoder or SHIPPED)
    if loaded.config.metric or file is None or file.suffix != ".pt":
        return loaded, name, loaded.config.metric or "cosine"
    if (file.parent / "config.yaml").is_file():
        return loaded, name, read_config(file.parent)[0].metric
    return loaded, name, "l2" if "triplet" in file.name.lower() else "cosine"


def _create(path: Path, encoder: AudioEncoder, *, name: str, metric: str) -> None:
    """Create an empty library; library.json comes last and marks it as complete."""
    encoder.save(path / "encoder.pt")
    Table.create(path, encoder.dim)
    info = Info(name, digest(encoder), metric, encoder.dim, encoder.config.seconds, encoder.config.heads)
    write_json(path / "library.json", to_dict(info))
