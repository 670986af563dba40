"""Retrieval across libraries: notes and mixtures of one General MIDI library, searched in another.

No instrument is in both. A match is right if it has the program of the query, which each library sampled or synthesized in its own way. As
in the search of one's own sounds, the gallery holds all notes of the other library, and a program is as near as its nearest note.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..data.bank import NoteBank
from ..data.mixtures import MixtureDataset
from ..data.taxonomy import FAMILIES
from ..data.trained_on import check_unseen
from ..models.heads import MIX, SINGLE, select_family_head, select_head
from .protocol import EVAL_SEED, embed_mixtures
from .ranking import distances

MELODIC = re.compile(r"/000-(\d{3}) ")  # bank 0 of a General MIDI font (data/sources/soundfont.py)
INSTRUMENTS = 3  # of a mixture
# programs of MuseScore General whose notes correlate with those of FluidR3 by less than 0.9; the others share their samples
OWN = (0, 1, 3, 5, 10, 14, 38, 39, *range(42, 46), *range(48, 53), 62, 63, 71, 80, 81, 84, *range(86, 91), *range(92, 101), 102, 103)


def programs(bank: NoteBank) -> pd.Series:
    """Return the General MIDI program of each instrument in bank 0 of a font. Raises ValueError if there is none."""
    found = {uid: int(match[1]) for uid in bank.instruments.index if (match := MELODIC.search(uid))}
    if not found:
        raise ValueError("this bank holds no General MIDI presets: make it from a SoundFont")
    return pd.Series(found)


class LibraryTest:
    """Notes and mixtures of the library `queries`, searched in the library `gallery`.

    Args:
        chosen: programs of `queries` to search for, for example those whose samples the libraries do not share; empty: all.
        seconds: length of the sounds. mixtures: number of mixtures of three instruments of different families.
    Raises ValueError if the libraries share none of these programs.
    """

    def __init__(self, gallery: NoteBank, queries: NoteBank, *, chosen: Sequence[int] = (), seconds: float = 4.0, mixtures: int = 600):
        self.gallery, self.queries = gallery, queries
        of_note = gallery.notes.instrument.map(programs(gallery))
        self.rows = np.flatnonzero(of_note.notna())[np.argsort(of_note.dropna(), kind="stable")]
        self.programs, self._first = np.unique(of_note.to_numpy()[self.rows].astype(int), return_index=True)
        self.families = gallery.notes.family.to_numpy(object)[self.rows[self._first]]  # of each program
        wanted = programs(queries)
        wanted = wanted[wanted.isin(self.programs) & (wanted.isin(list(chosen)) | (not len(chosen)))]
        if wanted.empty:
            raise ValueError("the two libraries share none of the chosen programs")
        self._place = pd.Series(np.searchsorted(self.programs, wanted), wanted.index)
        for table, names in ((queries.notes, queries.notes.instrument), (queries.instruments, queries.instruments.index)):
            table["split"] = np.where(names.isin(wanted.index), "test", "train")
        families = [name for name in FAMILIES if (queries.instruments.family[wanted.index] == name).any()]
        self.mixtures = MixtureDataset(
            queries, families=families, split="test", size=mixtures, seed=EVAL_SEED, seconds=seconds,
            max_instruments=min(INSTRUMENTS, len(families)),
        )  # fmt: skip

    def single(self, retriever, *, metric: str = "cosine") -> pd.DataFrame:
        """Return a row for each note of `queries`: instrument, family, rank of its program, and `family_first`.

        family_first: whether the nearest program has the family of the query.
        """
        self._check(retriever)
        rows = np.flatnonzero(self.queries.notes.split == "test")
        near = self._distances(*(select_head(side, SINGLE, retriever.heads) for side in self._embed(retriever, rows)), metric)
        notes = self.queries.notes.loc[rows, ["instrument", "family"]].reset_index(drop=True)
        first = self.families[near.argmin(axis=1)] == notes.family.to_numpy()
        return notes.assign(rank=_ranks(near, self._place[notes.instrument].to_numpy()), family_first=first)

    def mixture(self, retriever, *, metric: str = "cosine") -> pd.DataFrame:
        """Return a row for each instrument of each mixture: query, instrument, `rank_in_family` (given the family) and `rank` (of all).

        Both skip the other programs of the mixture, so that each of them can be first.
        """
        self._check(retriever)
        vectors, truth = embed_mixtures(retriever, self.mixtures)
        gallery, query = retriever.notes(self.gallery, self.rows), truth["query"].to_numpy()
        place = self._place[truth.instrument].to_numpy()
        families = self.families[place]
        of_note = np.repeat(self.families, np.diff([*self._first, len(self.rows)]))
        by_family = (select_family_head(vectors[query], families, retriever.heads), select_family_head(gallery, of_note, retriever.heads))
        near = self._distances(*by_family, metric)
        near[self.families != families[:, None]] = np.inf
        whole = self._distances(*(select_head(side, MIX, retriever.heads) for side in (vectors[query], gallery)), metric)
        members = truth.groupby("query").indices
        for row, present in enumerate(members[q] for q in query):
            others = place[present][place[present] != place[row]]
            near[row, others] = whole[row, others] = np.inf
        return truth.drop(columns="place").assign(rank_in_family=_ranks(near, place), rank=_ranks(whole, place))

    def _check(self, retriever) -> None:
        """Raise ValueError if the encoder was trained on one of the libraries."""
        check_unseen(getattr(retriever, "trained_on", ()), [*self.queries.instruments.index, *self.gallery.instruments.index])

    def _embed(self, retriever, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embed notes of the queries, and all notes of the gallery."""
        return retriever.notes(self.queries, rows), retriever.notes(self.gallery, self.rows)

    def _distances(self, vectors: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
        """Return the distance (Q, programs) of each query to the nearest note of each program."""
        return np.minimum.reduceat(distances(vectors, gallery, metric), self._first, axis=1)


def _ranks(near: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the rank (Q,) of the items at `place` by distances (Q, items): 0 = first, ties count half."""
    own = near[np.arange(len(near)), place][:, None]
    return (near < own).sum(axis=1) + ((near == own).sum(axis=1) - 1) / 2
