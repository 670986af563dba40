"""Exact search in memory: the instruments nearest to an embedding, each represented by its nearest sound.

Embeddings with per-family heads are compared by the head of the family that is searched, else by head `mix` or `single`.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ..common.paths import short
from ..common.settings import choose
from ..data.taxonomy import GROUPS, KINDS
from ..evaluation.ranking import Search
from ..models.heads import MIX, SINGLE, head_names, select_head
from .catalog import NOTE
from .table import matrix

NO_FAMILY = "no family"
NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
COLUMNS = ["instrument", "family", "predicted", "kind", "note", "sounds", "source", "path", "start", "seconds", "distance"]  # of matches


class Gallery:
    """The sounds of one version of a library, sorted so that those of an instrument are adjacent."""

    def __init__(self, table: pa.Table, *, metric: str, version: int = 0, heads: Sequence[str] = ()):
        rows = table.drop_columns(["vector", "id", "stamp"]).to_pandas()
        vectors = matrix(table)
        order = np.lexsort([rows.start.to_numpy(), *(pd.factorize(rows[name], sort=True)[0] for name in ("path", "instrument", "origin"))])
        self.version, self.metric, self._heads, self._dim = version, metric, tuple(heads), vectors.shape[1]
        rows = rows.iloc[order].reset_index(drop=True)
        self.rows = rows.assign(family=rows.family.fillna(rows.predicted), predicted=rows.family.isna() & rows.predicted.notna())
        owner = self.rows[["origin", "instrument"]]
        self.first = np.flatnonzero((owner != owner.shift()).any(axis=1))  # first row of each instrument
        self._vectors = {name: np.ascontiguousarray(select_head(vectors, name, heads)[order]) for name in head_names(heads) or (SINGLE,)}
        self._searches: dict[str, Search] = {}
        self.rows["sounds"] = owner.assign(path=self.rows.path).groupby(["origin", "instrument"], sort=False).path.transform("nunique")

    @cached_property
    def _places(self) -> pd.Series:
        """Path of each row: of its file, or of its bank."""
        return self.rows.origin + np.where(self.rows.path == "", "", "/" + self.rows.path)

    @cached_property
    def _words(self) -> list[str]:
        """Words of each row, between spaces; a bar separates its path, instrument, family and kind."""
        columns = (self.rows[name].fillna("").tolist() for name in ("path", "instrument", "family", "kind"))
        return [" | ".join(["", *(" ".join(words(text)) for text in texts), ""]) for texts in zip(*columns, strict=True)]

    def nearest(self, vector: np.ndarray, family: str | None = None, *, k: int = 5, mix: bool = True, **choice) -> pd.DataFrame:
        """Return the k instruments nearest to the embedding (D,) of a mix or of a single sound, nearest first: COLUMNS.

        family and `choice` (kind, exclude): as `kept`. Raises ValueError for an embedding of another size, for k < 1, and as `kept`.
        """
        if vector.shape != (self._dim,):
            raise ValueError(f"an embedding of this library has shape {(self._dim,)}, got {vector.shape}")
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}")
        kept = self.kept(family, **choice)
        head = family if family in self._heads else MIX if mix and self._heads else SINGLE
        search = self._search(head).with_queries(select_head(vector[None], head, self._heads))
        values, slack = search.screen(np.arange(1))
        best = np.minimum.reduceat(np.where(kept, values[0], np.inf), self.first)
        k = min(k, int(np.isfinite(best).sum()))
        near = np.flatnonzero(best <= np.partition(best, k - 1)[k - 1] + 2 * slack[0, 0])  # all that may be among the k
        ends = np.append(self.first[1:], len(self.rows))
        rows = np.concatenate([np.arange(self.first[i], ends[i]) for i in near])
        rows = rows[kept[rows]]
        exact = search.exact(np.zeros(len(rows), int), rows)
        order = np.lexsort((rows, exact))
        owner = np.searchsorted(self.first, rows[order], side="right")
        _, nearest = np.unique(owner, return_index=True)
        chosen = order[np.sort(nearest)[:k]]
        return self._matches(rows[chosen], 1 + exact[chosen] if self.metric == "cosine" else np.sqrt(exact[chosen]) * search.scale)

    def vector(self, match) -> np.ndarray:
        """Return the stored embedding (D,) of a match. Raises ValueError if it is no longer there."""
        rows = np.flatnonzero((self.rows.instrument == match.instrument) & (self.rows.start == match.start))
        same = [row for row in rows if short(self._places[row]) == short(match.path)]
        if not same:
            raise ValueError(f"{match.instrument} is no longer in this library as it was found: search again")
        return np.concatenate([vectors[same[0]] for vectors in self._vectors.values()])

    def instruments(self, most: int) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the first sounds of instruments, evenly chosen if there are more than `most`: COLUMNS, and embeddings (N, D)."""
        rows = self.first[np.linspace(0, len(self.first) - 1, min(most, len(self.first))).astype(int)]
        return self._matches(rows, np.zeros(len(rows))), self._vectors[SINGLE][rows]

    def kept(self, family: str | None = None, kind: str | None = None, exclude: str | Sequence[str] = ()) -> np.ndarray:
        """Return which rows (N,) are searched: those of a family and of a kind, without what `exclude` names.

        An entry of `exclude` is the name of an instrument, the path of a file or folder, or words that follow one another in the path,
        instrument, family or kind of a sound. Raises ValueError for an unknown family or kind, and if no sound is left.
        """
        if self.rows.empty:
            raise ValueError("this library holds no sounds: add a folder or a bank")
        kept, instruments = np.ones(len(self.rows), bool), self.rows.iloc[self.first]
        for name, plural, value, allowed in (("family", "families", family, GROUPS), ("kind", "kinds", kind, (NOTE, *KINDS))):
            if value is None:
                continue
            choose(name, value, allowed)
            kept &= (self.rows[name] == value).to_numpy()
            if not (instruments[name] == value).any():
                counts = ", ".join(f"{name} ({n})" for name, n in instruments[name].value_counts().items())
                raise ValueError(f"this library has no sound of {name} {value!r}; its {plural}: {counts or 'none'}")
        for text in [exclude] if isinstance(exclude, str) else exclude:
            kept &= ~self._named(text)
        if not kept.any():
            raise ValueError("no sound of this library is left to search: exclude less, or choose another family or kind")
        return kept

    def _named(self, text: str) -> np.ndarray:
        """Return which rows an instrument, a path or words name."""
        if (same := self.rows.instrument == text).any():
            return same.to_numpy()
        for place in {os.path.abspath(path := Path(text).expanduser()), str(path.resolve())}:  # sounds may lie below a link
            if (inside := (self._places == place) | self._places.str.startswith(place + "/")).any():
                return inside.to_numpy()
        if not (wanted := " ".join(words(text))):
            raise ValueError(f"nothing can be excluded by {text!r}: name an instrument, a file, a folder or a word")
        return np.array([f" {wanted} " in line for line in self._words])

    def describe(self) -> dict:
        """Return numbers of sounds, instruments, and sounds by family, predicted family, kind and folder, as plain data."""
        sounds = self.rows.drop_duplicates(["origin", "path", "instrument"])
        return {
            "sounds": len(sounds), "instruments": len(self.first),
            "families": sounds.family.where(~sounds.predicted).fillna(NO_FAMILY).value_counts().to_dict(),
            "predicted": sounds.family[sounds.predicted].value_counts().to_dict(),
            "kinds": sounds.kind.value_counts().to_dict(),
            "origins": sounds.origin.map(short).value_counts().to_dict(),
        }  # fmt: skip

    def _search(self, head: str) -> Search:
        if head not in self._searches:
            vectors = self._vectors[head]
            self._searches[head] = Search(np.empty((0, vectors.shape[1]), np.float32), vectors, self.metric)
        return self._searches[head]

    def _matches(self, rows: np.ndarray, distance: np.ndarray) -> pd.DataFrame:
        matches = self.rows.iloc[rows]
        notes = [None if pd.isna(pitch) else f"{NOTES[round(pitch) % 12]}{round(pitch) // 12 - 1}" for pitch in matches.pitch]
        matches = matches.assign(path=self._places.iloc[rows], note=notes, distance=np.maximum(distance, 0))
        return matches[COLUMNS].reset_index(drop=True)


def words(text: str) -> list[str]:
    """Return the words and numbers of a name in lower case, words without a final s: `Drum-Loops120` has drum, loop, 120."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", text)).casefold()
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in re.findall(r"[^\W\d_]+|\d+", text)]
