"""Batches of mixtures: those of each training step, a pure function of (bank, seed, step). pairs.py has those of single sounds.

No instrument comes twice in a batch, and an instrument and its effects-off twin count as one. With several processes
this holds for the global batch, of which each process takes its own share. `batch(step)` gives any step directly, as a
resumed training needs it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from .bank import NoteBank
from .mixtures import MixtureDataset
from .taxonomy import MIXTURE_FAMILIES

COUNTS, NOTES = 1 << 31, 2 << 31  # seeds of the draws of instruments per mixture, and of the notes of FamilySteps


def mixture_batches(dataset: MixtureDataset, size: int, *, rank: int = 0, world: int = 1) -> Iterator[np.ndarray]:
    """Yield indices (size,) of the mixtures of each batch of one epoch; a mixture that would repeat an instrument waits.

    `size` is per process. Raises ValueError if the split has too few instruments for a batch without repetition.
    """
    whole, waiting, upcoming = size * world, [], iter(range(len(dataset)))
    _check_size(dataset, whole)
    while True:
        batch, used, skipped = [], set(), []
        while len(batch) < whole:
            i = waiting.pop(0) if waiting else next(upcoming, None)
            if i is None:
                return
            originals = dataset.originals(i)
            if used.isdisjoint(originals):
                batch.append(i)
                used |= originals
            else:
                skipped.append(i)
        waiting = skipped + waiting
        yield np.array(batch[rank::world])


def _check_size(dataset: MixtureDataset, whole: int) -> None:
    """Raise ValueError for a batch that no epoch can give."""
    counts = [pool.augments.fillna(pool.index.to_series()).nunique() for pool in dataset.pool.values()]
    # t mixtures have room for t instruments of each family and need `max_instruments` times t in all
    most = max(t for t in range(sum(counts) + 1) if sum(min(n, t) for n in counts) >= dataset.max_instruments * t)
    if whole > most:
        raise ValueError(
            f"a batch of {whole} mixtures needs as many instruments of each family; {dataset.split} has {most}: use a smaller batch_size"
        )
    if not 1 <= whole <= len(dataset):
        raise ValueError(f"a batch needs 1 to {len(dataset)} mixtures (the size of an epoch), got {whole}")


def check_even(count: int, world: int, what: str) -> None:
    """Raise ValueError if `world` processes cannot share `count` evenly."""
    if count % world:
        raise ValueError(f"{world} processes cannot share {count} {what} evenly: change batch_size")


class MixtureSteps:
    """Mixtures of each training step; every epoch has a new seed.

    Args:
        batch_size: sounds in a batch of all processes; a mixture of v instruments counts 1 + v. steps: planned steps.
        max_instruments: each step draws 1 to this many instruments per mixture, whose families each mixture draws, and
            mixtures that the processes cannot share evenly are skipped. 0: all families play, and an uneven batch is a
            ValueError.
        size: mixtures in an epoch. options: of MixtureDataset (families, protocol, seconds, augmented, statistics, effects).
    """

    def __init__(
        self,
        bank: NoteBank,
        *,
        batch_size: int = 48,
        steps: int = 1000,
        max_instruments: int = 0,
        families: Sequence[str] = MIXTURE_FAMILIES,
        size: int = 40000,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        **options,
    ):
        self.bank, self.batch_size, self.size, self.seed, self.rank, self.world = bank, batch_size, size, seed, rank, world
        self.families, self.options = families, options
        most = max_instruments or len(families)
        if batch_size // (1 + most) < world:
            raise ValueError(
                f"a batch_size of {batch_size} is less than one mixture and its {most} instruments for each of {world} processes: "
                f"use {(1 + most) * world} or more"
            )
        if max_instruments:
            self._counts = np.random.default_rng([seed, COUNTS]).integers(1, max_instruments + 1, steps)
        else:
            check_even(batch_size // (1 + most), world, f"mixtures of {most} instruments (batch_size {batch_size})")
            self._counts = np.full(steps, most)
        self._streams = {}  # instruments per mixture -> (number of the next batch, iterator)

    def instruments(self, step: int) -> int:
        """Return the number of instruments per mixture at a step."""
        return int(self._counts[step]) if step < len(self._counts) else len(self.families)

    def batch(self, step: int) -> tuple[MixtureDataset, np.ndarray]:
        """Return the dataset and the indices (M,) of the mixtures of a step."""
        count = self.instruments(step)
        number = np.count_nonzero(self._counts[:step] == count) + max(0, step - len(self._counts))  # among batches of this count
        upcoming, stream = self._streams.get(count, (None, None))
        if upcoming is None or upcoming > number:
            upcoming, stream = 0, self._batches(count)
        for _ in range(number - upcoming):  # of other workers, or of an earlier run
            next(stream)
        out = next(stream)
        self._streams[count] = (number + 1, stream)
        return out

    def _batches(self, count: int) -> Iterator[tuple[MixtureDataset, np.ndarray]]:
        """Yield the batches of mixtures of `count` instruments, epoch after epoch."""
        size, epoch = self.batch_size // (1 + count) // self.world, 0
        while True:
            seed = int(np.random.default_rng([self.seed, epoch, count]).integers(2**31))
            options = {"families": self.families, "size": self.size, "seed": seed, "max_instruments": count}
            dataset, empty = MixtureDataset(self.bank, **options, **self.options), True
            for indices in mixture_batches(dataset, size, rank=self.rank, world=self.world):
                empty = False
                yield dataset, indices
            if empty:
                raise ValueError(
                    f"{self.size} mixtures give no batch of {size * self.world} without a repeated instrument: "
                    "use a smaller batch_size or a longer epoch"
                )
            epoch += 1


class FamilySteps:
    """Mixtures of each training step in which every instrument occurs several times, and two single notes of each instrument.

    Args:
        batch_size: sounds in a batch of all processes; a group of one instrument per family counts
            mixtures_per_instrument + 2 per family.
        max_instruments: each step draws 1 to this many families, in proportion to the square root of their instruments. They
            play in all mixtures of the step, and groups that the processes cannot share evenly are skipped. 0: all families
            play, and an uneven batch is a ValueError.
        options: of MixtureSteps.
    """

    def __init__(
        self,
        bank: NoteBank,
        *,
        batch_size: int,
        mixtures_per_instrument: int = 1,
        max_instruments: int = 0,
        families: Sequence[str] = MIXTURE_FAMILIES,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        **options,
    ):
        self.bank, self.batch_size, self.mixtures_per_instrument = bank, batch_size, mixtures_per_instrument
        self.max_instruments, self.families, self.seed, self.rank, self.world = max_instruments, families, seed, rank, world
        group, what = mixtures_per_instrument + 2 * (max_instruments or len(families)), f"groups of {mixtures_per_instrument} mixtures"
        if batch_size // group < 2 * world:
            raise ValueError(
                f"a batch_size of {batch_size} holds {batch_size // group} {what} and their notes, each of {world} processes needs 2: "
                f"use {2 * world * group} or more"
            )
        if not max_instruments:
            check_even(batch_size // group, world, f"{what} and their notes (batch_size {batch_size})")
        first = self._groups(1 if max_instruments else len(families)) * (1 + len(families))
        self.steps = MixtureSteps(bank, batch_size=first, families=families, seed=seed, **options)

    def _groups(self, families: int) -> int:
        """Return the instruments of each family in a batch in which so many families play."""
        groups = self.batch_size // (self.mixtures_per_instrument + 2 * families)
        return groups - groups % self.world

    def batch(self, step: int) -> tuple[MixtureDataset, np.ndarray, list[tuple[str, str]], np.ndarray]:
        """Return dataset, indices (M,) of the mixtures, N (family, instrument) pairs, and bank rows (2, N) of two notes of each."""
        dataset, indices = self.steps.batch(step)
        rng, columns = np.random.default_rng([self.seed, step, NOTES]), range(len(self.families))
        if self.max_instruments:
            weights = np.sqrt([len(dataset.pool[name]) for name in dataset.families])  # large families more often, small ones often enough
            count = rng.integers(1, self.max_instruments + 1)
            columns = np.sort(rng.choice(len(columns), count, replace=False, p=weights / weights.sum()))
            indices = indices[: self._groups(len(columns))]
        instruments = [dataset.plan(i)[column] for i in indices for column in columns]
        rows = np.array([self._two_notes(uid, rng) for _, uid in instruments])
        mixtures, own = dataset.regroup(indices, self.mixtures_per_instrument, rng=rng, columns=columns), slice(self.rank, None, self.world)
        return mixtures, np.arange(len(mixtures))[own], instruments[own], rows[own].T

    def _two_notes(self, uid: str, rng: np.random.Generator) -> np.ndarray:
        """Return the bank rows of two notes of an instrument, different ones if it has them."""
        rows = self.bank.rows_of[uid]
        return rng.choice(rows, 2, replace=len(rows) < 2)
