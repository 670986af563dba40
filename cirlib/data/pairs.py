"""Batches of single sounds: pairs of one instrument, or single notes, of each training step. Pure functions of (bank, seed, step)."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from .bank import NoteBank
from .batches import check_even
from .scores import cumulative, draw


class PairSteps:
    """Pairs of different sounds of one instrument, for the single-instrument task (paper section 3).

    No instrument comes twice in a batch, an instrument and its effects-off twin count as one. Within each choice, sounds
    are drawn with probability proportional to exp(-times drawn in this epoch).

    Args:
        pairs: instruments in a batch of all processes (half of its sounds). hard_negative_ratio: share of the pairs that
            come from one family, that of a randomly drawn sound; the others come from the other families. augmented:
            include effects-off twins. excluded: families that are not used.
    """

    def __init__(
        self,
        bank: NoteBank,
        *,
        pairs: int,
        hard_negative_ratio: float = 0.5,
        seed: int = 0,
        augmented: bool = True,
        excluded: Sequence[str] = (),
        rank: int = 0,
        world: int = 1,
    ):
        self.pairs, self.hard_negative_ratio, self.seed, self.rank, self.world = pairs, hard_negative_ratio, seed, rank, world
        notes = bank.notes
        usable = (notes.split == "train") & (notes.groupby("instrument").instrument.transform("size") > 1) & ~notes.family.isin(excluded)
        notes = notes[usable if augmented else usable & notes.augments.isna()]
        self.rows = notes.index.to_numpy()
        names, self._instrument = np.unique(notes.instrument.to_numpy(str), return_inverse=True)
        first = np.unique(self._instrument, return_index=True)[1]  # a note of each instrument
        self._family = pd.factorize(notes.family)[0][first]  # -1: of no family
        original = bank.instruments.augments.fillna(bank.instruments.index.to_series())
        self._original = np.unique(original.reindex(names).to_numpy(str), return_inverse=True)[1]
        self._notes = np.split(np.argsort(self._instrument, kind="stable"), np.cumsum(np.bincount(self._instrument))[:-1])
        self._check(excluded)
        self.batches_per_epoch = len(self.rows) // (2 * pairs)  # at least 1: two sounds or more of as many instruments
        self._stream = (None, None)  # (next step, iterator)

    def _check(self, excluded: Sequence[str]) -> None:
        """Raise ValueError for settings that give no batch."""
        if self.pairs < 1:
            raise ValueError("a batch of pairs needs a batch_size of 2 or more")
        count = len(np.unique(self._original))
        if self.pairs > count:
            other, setting = (f" outside of {', '.join(excluded)}", "single_pairs") if excluded else ("", "batch_size")
            raise ValueError(
                f"{self.pairs} pairs need as many training instruments with two sounds or more{other}; there are {count}: "
                f"use a smaller {setting}"
            )
        check_even(self.pairs, self.world, "pairs")

    def batch(self, step: int) -> np.ndarray:
        """Return the bank rows (pairs / world, 2) of a step."""
        upcoming, stream = self._stream
        epoch, k = divmod(step, self.batches_per_epoch)
        if upcoming is None or not step - k <= upcoming <= step:  # another epoch, or back
            upcoming, stream = step - k, self._batches(epoch)
        for _ in range(step - upcoming):
            next(stream)
        out = next(stream)
        self._stream = (step + 1, stream)
        return out[self.rank :: self.world]

    def _batches(self, epoch: int) -> Iterator[np.ndarray]:
        while True:
            yield from self.epoch(epoch)
            epoch += 1

    def epoch(self, number: int) -> Iterator[np.ndarray]:
        """Yield the batches of one epoch for all processes: bank rows (pairs, 2)."""
        rng = np.random.default_rng([self.seed, number])
        sounds = np.zeros(len(self.rows))  # logarithm of each sound's weight: minus times drawn
        instruments = np.log([len(notes) for notes in self._notes])  # logarithm of the sum over an instrument's sounds
        for _ in range(self.batches_per_epoch):
            yield self._batch(rng, sounds, instruments)

    def _batch(self, rng: np.random.Generator, sounds: np.ndarray, instruments: np.ndarray) -> np.ndarray:
        """Draw one batch; both arrays of weights are updated."""
        hard = round(self.hard_negative_ratio * self.pairs)
        same_family = self._family == self._family[self._instrument[rng.integers(len(self.rows))]]
        free = np.ones(len(instruments), bool)
        pairs = []
        for k in range(self.pairs):
            wanted = free & (same_family if k < hard else ~same_family)
            wanted = wanted if wanted.any() else free  # the family, or the rest, has no instrument left
            # the instrument first, then its sound: same distribution as drawing from all sounds, without looking at each
            instrument = _by_weight(np.flatnonzero(wanted), instruments, rng)
            notes = self._notes[instrument]
            first = _by_weight(notes, sounds, rng)
            second = _by_weight(notes[notes != first], sounds, rng)
            sounds[[first, second]] -= 1
            instruments[instrument] = np.logaddexp.reduce(sounds[notes])
            free &= self._original != self._original[instrument]
            pairs.append((first, second))
        return self.rows[np.array(pairs)]


def _by_weight(candidates: np.ndarray, log_weights: np.ndarray, rng: np.random.Generator) -> int:
    """Draw one of the candidates (positions) in proportion to its weight."""
    weights = log_weights[candidates]
    return draw(candidates, cumulative(np.exp(weights - weights.max())), 1, rng)[0]


class NoteSteps:
    """Single sounds of each training step of a classifier; every sound at most once in an epoch."""

    def __init__(self, rows: np.ndarray, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1):
        if not 1 <= batch_size <= len(rows):
            raise ValueError(f"a batch needs 1 to {len(rows)} sounds (those of the training split), got {batch_size}")
        check_even(batch_size, world, "sounds")
        self.rows, self.batch_size, self.seed, self.rank, self.world = np.asarray(rows), batch_size, seed, rank, world

    def batch(self, step: int) -> np.ndarray:
        """Return the bank rows (batch_size / world,) of a step."""
        epoch, k = divmod(step, len(self.rows) // self.batch_size)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return order[k * self.batch_size : (k + 1) * self.batch_size][self.rank :: self.world]
