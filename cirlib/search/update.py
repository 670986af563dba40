"""Bring the sounds of one origin in the table of a library up to date."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..audio.io import RATE, Unusable
from ..common.paths import short
from ..evaluation.protocol import progress
from ..models.encoder import AudioEncoder
from .catalog import Catalog
from .table import Table

BLOCK = 512  # sounds of one write
BATCH = 32  # sounds in memory at once


@dataclass
class Changes:
    """Numbers of sounds that an update changed, and the files that it skipped, with the reason."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def update(table: Table, catalog: Catalog, encoder: AudioEncoder, *, show: bool = False) -> Changes:
    """Embed the new and changed sounds of a catalog, block by block, then remove those that no longer exist.

    What was written before an interruption stays. Raises ValueError if the catalog overlaps with another origin of the table.
    """
    _check_apart(catalog.origin, table)
    entries = catalog.entries
    stored = table.rows("id", "stamp", origin=catalog.origin).set_index("id").stamp
    same = entries.stamp == stored.reindex(entries.index)
    pending, gone = entries.index[~same], set(stored.index.difference(entries.index))
    changes = Changes(unchanged=int(same.sum()), skipped=dict(catalog.skipped))
    for start in progress(range(0, len(pending), BLOCK), f"blocks of {BLOCK} sounds", show=show and len(pending) > BLOCK):
        rows, unusable = _embed(catalog, pending[start : start + BLOCK], encoder)
        table.write(rows)
        changed = sum(row["id"] in stored.index for row in rows)
        changes.changed, changes.new = changes.changed + changed, changes.new + len(rows) - changed
        changes.skipped |= {entries.path[id]: reason for id, reason in unusable.items()}
        gone |= unusable.keys() & set(stored.index)
    table.delete(sorted(gone))
    changes.removed = len(gone)
    if len(pending) or gone:
        table.tidy()
    return changes


def _check_apart(origin: Path, table: Table) -> None:
    """Raise ValueError for a folder inside another origin, or around one: its sounds would be listed twice."""
    for other in map(Path, table.rows("origin").origin.unique()):
        if other != origin and (origin.is_relative_to(other) or other.is_relative_to(origin)):
            raise ValueError(
                f"{short(origin)} and {short(other)}, which is in {short(table.folder)}, lie one inside the other: sounds would be listed "
                f"twice; remove {short(other)} from the library first, or add {short(other)} again"
            )


def _embed(catalog: Catalog, ids: pd.Index, encoder: AudioEncoder) -> tuple[list[dict], dict[str, str]]:
    """Return table rows of the usable sounds, and the reasons of the others by id."""
    rows, unusable = [], {}
    for first in range(0, len(ids), BATCH):
        sounds = {}
        for id in ids[first : first + BATCH]:
            try:
                sounds[id] = catalog.read(id, encoder.config.seconds)
            except Unusable as error:
                unusable[id] = str(error)
        vectors = encoder.embed([audio for audio, _ in sounds.values()])
        for (id, (audio, start)), vector in zip(sounds.items(), vectors, strict=True):
            place = {"id": id, "origin": str(catalog.origin), "start": start, "seconds": len(audio) / RATE}
            rows.append({**place, **catalog.entries.loc[id], "vector": vector})
    return rows, unusable
