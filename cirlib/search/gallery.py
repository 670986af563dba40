"""Sounds of a library in memory: the nearest instruments to an embedding, each by its nearest sound. Exact.

Of embeddings in parts (readout.py) the part of the family that is asked for is compared, else that for mixes or for single sounds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from ..common.settings import choose
from ..data.taxonomy import GROUPS
from ..evaluation.ranking import Search
from ..models.heads import MIX, SOUND, one_part, part_names

COLUMNS = ["uid", "family", "source", "path", "start", "seconds", "distance"]  # of what is found


class Gallery:
    """The sounds of one state of a library; those of an instrument lie side by side."""

    def __init__(self, table: pa.Table, metric: str, version: int, parts: Sequence[str] = ()):
        rows = table.drop_columns(["vector", "id", "stamp"]).to_pandas()
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), table.schema.field("vector").type.list_size)
        order = np.lexsort([pd.factorize(rows[name], sort=True)[0] for name in ("path", "uid", "origin")])
        self.version, self.metric, self.rows = version, metric, rows.iloc[order].reset_index(drop=True)
        self._families, self._size, self._searches = tuple(parts), vectors.shape[1], {}
        names = part_names(parts) if parts else (SOUND,)
        self._vectors = {name: np.ascontiguousarray(one_part(vectors, name, parts)[order]) for name in names}
        self._search(self._part(None, False))
        owner = self.rows[["origin", "uid"]]
        self.first = np.flatnonzero((owner != owner.shift()).any(axis=1))  # row where an instrument begins
        self.families = self.rows.family.to_numpy(object)[self.first]

    def nearest(self, vector: np.ndarray, family: str | None = None, k: int = 5, mix: bool = False) -> pd.DataFrame:
        """The k instruments (of a family) nearest to an embedding (D,), of a mix or of one sound, nearest first: COLUMNS.

        Raises ValueError for an unknown family, one without sounds, an empty library and an embedding of another size.
        """
        if vector.shape != (self._size,):
            raise ValueError(f"an embedding of this library has shape {(self._size,)}, got {vector.shape}")
        members = self._members(family)
        name = self._part(family, mix)
        search = self._search(name).ask(one_part(vector[None], name, self._families))
        values, slack = search.screen(np.arange(1))
        best = np.minimum.reduceat(values[0], self.first)[members]
        k = min(k, len(members))
        near = members[best <= np.partition(best, k - 1)[k - 1] + 2 * slack[0, 0]]  # all that can be among the k
        ends = np.append(self.first[1:], len(self.rows))
        rows = np.concatenate([np.arange(self.first[i], ends[i]) for i in near])
        exact = search.exact(np.zeros(len(rows), int), rows)
        order = np.lexsort((rows, exact))
        _, nearest = np.unique(np.repeat(near, ends[near] - self.first[near])[order], return_index=True)
        chosen = order[np.sort(nearest)[:k]]
        return self._told(rows[chosen], exact[chosen], search)

    def _part(self, family: str | None, mix: bool) -> str:
        """Name of the part that is compared."""
        return family if family in self._families else MIX if mix else SOUND

    def _search(self, name: str) -> Search:
        """Search by one part, kept; embeddings without parts have one search for all."""
        name = name if self._families else SOUND
        if name not in self._searches:
            vectors = self._vectors[name]
            self._searches[name] = Search(np.empty((0, vectors.shape[1]), np.float32), vectors, self.metric)
        return self._searches[name]

    def _members(self, family: str | None) -> np.ndarray:
        """Positions of the instruments of a family."""
        if self.rows.empty:
            raise ValueError("this library holds no sounds: add a folder or a bank")
        if family is None:
            return np.arange(len(self.first))
        choose("family", family, GROUPS)
        members = np.flatnonzero(self.families == family)
        if not len(members):
            counts = pd.Series(self.families).value_counts()
            held = ", ".join(f"{name} ({n})" for name, n in counts.items()) or "none"
            raise ValueError(f"this library has no sound of family {family!r}; its families: {held}")
        return members

    def _told(self, rows: np.ndarray, exact: np.ndarray, search: Search) -> pd.DataFrame:
        """Found sounds and their distance, from values that order as it does."""
        found = self.rows.iloc[rows].reset_index(drop=True)
        places = [f"{origin}/{path}" if path else origin for origin, path in zip(found.origin, found.path, strict=True)]
        distance = 1 + exact if self.metric == "cosine" else np.sqrt(exact) * search.scale
        return found.assign(path=places, distance=np.maximum(distance, 0))[COLUMNS]
