"""Exact search in memory: the instruments nearest to an embedding, each represented by its nearest sound.

Embeddings with per-family heads are compared by the head of the family that is searched, else by head `mix` or `single`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from ..common.settings import choose
from ..data.taxonomy import GROUPS
from ..evaluation.ranking import Search
from ..models.heads import MIX, SINGLE, head_names, select_head

COLUMNS = ["instrument", "family", "source", "path", "start", "seconds", "distance"]  # of matches


class Gallery:
    """The sounds of one version of a library, sorted so that those of an instrument are adjacent."""

    def __init__(self, table: pa.Table, *, metric: str, version: int = 0, heads: Sequence[str] = ()):
        rows = table.drop_columns(["vector", "id", "stamp"]).to_pandas()
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), table.schema.field("vector").type.list_size)
        order = np.lexsort([pd.factorize(rows[name], sort=True)[0] for name in ("path", "instrument", "origin")])
        self.version, self.metric, self._heads, self._dim = version, metric, tuple(heads), vectors.shape[1]
        self.rows = rows.iloc[order].reset_index(drop=True)
        owner = self.rows[["origin", "instrument"]]
        self.first = np.flatnonzero((owner != owner.shift()).any(axis=1))  # first row of each instrument
        self.families = self.rows.family.to_numpy(object)[self.first]
        self._vectors = {name: np.ascontiguousarray(select_head(vectors, name, heads)[order]) for name in head_names(heads) or (SINGLE,)}
        self._searches: dict[str, Search] = {}

    def nearest(self, vector: np.ndarray, family: str | None = None, *, k: int = 5, mix: bool = True) -> pd.DataFrame:
        """Return the k instruments (of a family) nearest to the embedding (D,) of a mix or of a single sound, nearest first: COLUMNS.

        Raises ValueError for an unknown family, a family without sounds, an empty library and an embedding of another size.
        """
        if vector.shape != (self._dim,):
            raise ValueError(f"an embedding of this library has shape {(self._dim,)}, got {vector.shape}")
        members = self._members(family)
        head = family if family in self._heads else MIX if mix and self._heads else SINGLE
        search = self._search(head).with_queries(select_head(vector[None], head, self._heads))
        values, slack = search.screen(np.arange(1))
        best = np.minimum.reduceat(values[0], self.first)[members]
        k = min(k, len(members))
        near = members[best <= np.partition(best, k - 1)[k - 1] + 2 * slack[0, 0]]  # all that may be among the k
        ends = np.append(self.first[1:], len(self.rows))
        rows = np.concatenate([np.arange(self.first[i], ends[i]) for i in near])
        exact = search.exact(np.zeros(len(rows), int), rows)
        order = np.lexsort((rows, exact))
        _, nearest = np.unique(np.repeat(near, ends[near] - self.first[near])[order], return_index=True)
        chosen = order[np.sort(nearest)[:k]]
        return self._matches(rows[chosen], 1 + exact[chosen] if self.metric == "cosine" else np.sqrt(exact[chosen]) * search.scale)

    def _search(self, head: str) -> Search:
        if head not in self._searches:
            vectors = self._vectors[head]
            self._searches[head] = Search(np.empty((0, vectors.shape[1]), np.float32), vectors, self.metric)
        return self._searches[head]

    def _members(self, family: str | None) -> np.ndarray:
        """Return the positions of the instruments of a family, or of all."""
        if self.rows.empty:
            raise ValueError("this library holds no sounds: add a folder or a bank")
        if family is None:
            return np.arange(len(self.first))
        choose("family", family, GROUPS)
        members = np.flatnonzero(self.families == family)
        if not len(members):
            counts = ", ".join(f"{name} ({n})" for name, n in pd.Series(self.families).value_counts().items())
            raise ValueError(f"this library has no sound of family {family!r}; its families: {counts or 'none'}")
        return members

    def _matches(self, rows: np.ndarray, distance: np.ndarray) -> pd.DataFrame:
        matches = self.rows.iloc[rows].reset_index(drop=True)
        places = [f"{origin}/{path}" if path else origin for origin, path in zip(matches.origin, matches.path, strict=True)]
        return matches.assign(path=places, distance=np.maximum(distance, 0))[COLUMNS]
