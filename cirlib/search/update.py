"""Bring the sounds of one origin in the table of a library up to date."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ..audio.io import RATE, Unusable
from ..common.paths import short
from ..models.encoder import AudioEncoder
from .catalog import Catalog
from .neighbours import predict_families
from .table import Table

BLOCK = 512  # clips of one write
BATCH = 32  # clips embedded at once


@dataclass
class Changes:
    """Numbers of sounds that an update changed, the files that it skipped, with the reason, and what is odd about files that it read."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    noted: dict[str, str] = field(default_factory=dict)


def update(table: Table, catalog: Catalog, encoder: AudioEncoder, *, metric: str = "cosine", show: bool = False) -> Changes:
    """Embed the new and changed sounds of a catalog, block by block, then remove those that no longer exist.

    A long sound has a row for each of its clips. What was written before an interruption stays. `show`: a progress bar, unless nothing
    changed. Raises ValueError if the catalog overlaps with another origin of the table.
    """
    _check_apart(catalog.origin, table)
    stamps = catalog.entries.stamp
    stored = _stored(table, catalog.origin)
    known = stored[stored["first"]].set_index("sound").stamp
    pending = stamps.index[stamps != known.reindex(stamps.index)]
    changes = Changes(unchanged=len(stamps) - len(pending), skipped=dict(catalog.skipped), noted=catalog.noted)
    waiting: list[dict] = []  # rows that are not yet embedded
    ready: list[dict] = []
    for id in tqdm(pending, "embedding", unit=" files", disable=not show or not len(pending), mininterval=0.5):
        try:
            waiting += _rows(catalog, id, encoder.config.seconds)
            changes.changed, changes.new = changes.changed + (id in known.index), changes.new + (id not in known.index)
        except Unusable as error:
            changes.skipped[catalog.entries.path[id]] = str(error)
        if len(waiting) >= min(BATCH, BLOCK):
            ready, waiting = ready + _embedded(waiting, encoder), []
        if len(ready) >= BLOCK:
            table.write(ready)
            ready = []
    table.write(ready + _embedded(waiting, encoder))
    now = _stored(table, catalog.origin)
    outdated = now[(now.stamp != stamps.reindex(now.sound).to_numpy()).to_numpy()]  # also the last clips of sounds that are shorter now
    table.delete(outdated.id)
    changes.removed = int(outdated["first"].sum())
    if len(pending) or len(outdated):
        predict_families(table, metric=metric, heads=encoder.config.heads)
        table.tidy()
    return changes


def _stored(table: Table, origin: Path) -> pd.DataFrame:
    """Return the rows of an origin: id, stamp, the id of the sound, and whether it is the first clip of the sound."""
    stored = table.rows("id", "stamp", origin=origin)
    sound = sound_ids(stored.id)
    return stored.assign(sound=sound, first=sound == stored.id)


def sound_ids(ids: pd.Series) -> pd.Series:
    """Return the ids of the sounds whose clips have these ids; the first clip has that of its sound."""
    return ids.astype(str).str.replace(r"^\d+\t", "", regex=True)


def _check_apart(origin: Path, table: Table) -> None:
    """Raise ValueError for a folder inside another origin, or around one: its sounds would be listed twice."""
    for other in map(Path, table.rows("origin").origin.unique()):
        if other != origin and (origin.is_relative_to(other) or other.is_relative_to(origin)):
            raise ValueError(
                f"{short(origin)} and {short(other)}, which is in {short(table.folder)}, lie one inside the other: sounds would be listed "
                f"twice; remove {short(other)} from the library first, or add {short(other)} again"
            )


def _rows(catalog: Catalog, id: str, seconds: float) -> list[dict]:
    """Return the table rows of a sound, one for each clip, with its audio in place of a vector."""
    starts, clips = catalog.read(id, seconds)
    labels = {"origin": str(catalog.origin), **catalog.entries.loc[id], "predicted": None}
    return [
        {**labels, "id": f"{i}\t{id}" if i else id, "start": start, "seconds": len(clip) / RATE, "vector": clip}
        for i, (start, clip) in enumerate(zip(starts, clips, strict=True))
    ]


def _embedded(rows: list[dict], encoder: AudioEncoder) -> list[dict]:
    """Return rows with vectors in place of audio."""
    clips = [row["vector"] for row in rows]
    vectors = [vector for i in range(0, len(clips), BATCH) for vector in encoder.embed(clips[i : i + BATCH])]
    return [{**row, "vector": vector} for row, vector in zip(rows, vectors, strict=True)]
