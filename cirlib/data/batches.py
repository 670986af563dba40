"""Batches: which mixtures, or which pairs of sounds, make one step. Pure functions of (data, seed, epoch).

No instrument comes twice in a batch, an instrument and its effects-off twin count as one, and with several processes
the rule holds for the global batch: each process takes its own part of it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from .bank import NoteBank
from .mixtures import MixtureDataset, cumulative, draw
from .taxonomy import MIXTURE_FAMILIES

VOICES, NOTES = 1 << 31, 2 << 31  # mark the draws of how many instruments play, and of which notes stand for them


def mixture_batches(dataset: MixtureDataset, size: int, rank: int = 0, world: int = 1) -> Iterator[np.ndarray]:
    """Indices (size,) of the mixtures of each batch of one epoch; a mixture that would repeat an instrument waits its turn.

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
    """ValueError for a batch that no epoch can give."""
    counts = [pool.augments.fillna(pool.index.to_series()).nunique() for pool in dataset.pool.values()]
    # t mixtures have room for t instruments of each family and need `max_instruments` times t in all
    most = max(t for t in range(sum(counts) + 1) if sum(min(n, t) for n in counts) >= dataset.max_instruments * t)
    if whole > most:
        raise ValueError(
            f"a batch of {whole} mixtures needs as many instruments of each family; {dataset.split} has {most}: use fewer batch_size"
        )
    if not 1 <= whole <= len(dataset):
        raise ValueError(f"a batch needs 1 to {len(dataset)} mixtures (the size of an epoch), got {whole}")


def part(count: int, world: int, what: str) -> int:
    """What each of `world` processes makes of `count`; ValueError if it cannot be shared evenly."""
    if count % world:
        raise ValueError(f"{count} {what} in a batch cannot be shared evenly by {world} processes: set batch_size to a multiple that can")
    return count // world


class PairSampler:
    """Pairs of different sounds of one instrument, for the single-instrument task (paper section 3).

    Args:
        pairs: instruments in a batch (half of its sounds). hard_negative_ratio: share of the pairs that come from one family,
            drawn by drawing a sound; the others come from the other families. augmented: effects-off twins train too.
            without: families that are left out.
    Within each choice, sounds are drawn with probability proportional to exp(-times drawn in this epoch).
    """

    def __init__(
        self,
        bank: NoteBank,
        pairs: int,
        hard_negative_ratio: float = 0.5,
        seed: int = 0,
        augmented: bool = True,
        without: Sequence[str] = (),
    ):
        if not 0 <= hard_negative_ratio <= 1:
            raise ValueError(f"hard_negative_ratio must be between 0 and 1, got {hard_negative_ratio}")
        notes = bank.notes
        keep = (notes.split == "train") & (notes.groupby("instrument").instrument.transform("size") > 1)
        if not augmented:
            keep &= notes.augments.isna()
        keep &= ~notes.family.isin(without)
        notes = notes[keep]
        self.rows = notes.index.to_numpy()
        names, instrument = np.unique(notes.instrument.to_numpy(str), return_inverse=True)
        first = np.unique(instrument, return_index=True)[1]  # a note of each instrument
        original = bank.instruments.augments.fillna(bank.instruments.index.to_series())
        self._notes = np.split(np.argsort(instrument, kind="stable"), np.cumsum(np.bincount(instrument))[:-1])
        self._original = np.unique(original.reindex(names).to_numpy(str), return_inverse=True)[1]
        self._instrument, self._family = instrument, pd.factorize(notes.family)[0][first]  # -1: of no family
        self.pairs, self.hard_negative_ratio, self.seed = pairs, hard_negative_ratio, seed
        count = len(np.unique(self._original))
        if pairs < 1:
            raise ValueError("a batch of pairs needs 2 batch_size or more")
        if pairs > count:
            other, fewer = (f" of other families than {', '.join(without)}", "single_pairs") if without else ("", "batch_size")
            needed = f"{pairs} pairs need as many training instruments with two sounds or more{other}"
            raise ValueError(f"{needed}; there are {count}: use fewer {fewer}")
        self.batches_per_epoch = len(self.rows) // (2 * pairs)  # at least 1: two sounds or more of as many instruments

    def epoch(self, number: int, rank: int = 0, world: int = 1) -> Iterator[np.ndarray]:
        """Batches of one epoch: bank rows (pairs / world, 2)."""
        rng, sounds = np.random.default_rng([self.seed, number]), np.zeros(len(self.rows))  # logarithms of weights: minus times drawn
        instruments = np.log([len(notes) for notes in self._notes])  # of the sum over their sounds
        for _ in range(self.batches_per_epoch):
            yield self._batch(rng, sounds, instruments)[rank::world]

    def _batch(self, rng: np.random.Generator, sounds: np.ndarray, instruments: np.ndarray) -> np.ndarray:
        hard = round(self.hard_negative_ratio * self.pairs)
        kin = self._family == self._family[self._instrument[rng.integers(len(self.rows))]]
        free = np.ones(len(instruments), bool)
        pairs = []
        for k in range(self.pairs):
            wanted = free & (kin if k < hard else ~kin)
            wanted = wanted if wanted.any() else free  # the family, or the rest, has no instrument left
            # the instrument first, then its sound: as if all sounds were in one urn, without looking at each
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
    """One of the candidates (positions), in proportion to its weight."""
    weights = log_weights[candidates]
    return draw(candidates, cumulative(np.exp(weights - weights.max())), 1, rng)[0]


class MixtureSteps:
    """Batch of training step k, for any k: mixtures of a seed per epoch.

    Args:
        batch_size: sounds in a batch of all processes together; a mixture of v instruments counts 1 + v.
        max_instruments: every step draws 1 to this many instruments per mixture, of families that each mixture draws; 0: all families play. Mixtures
            that several processes cannot share evenly are then left out; without, they are a ValueError.
    """

    def __init__(self, bank, families=MIXTURE_FAMILIES, batch_size=48, steps=1000, size=40000, seed=0,
                 protocol="strict", seconds=10.0, rank=0, world=1, statistics=None, augmented=True, max_instruments=0, effects=0.0):  # fmt: skip
        self.bank, self.families, self.batch_size, self.size, self.seed = bank, families, batch_size, size, seed
        self.rank, self.world = rank, world
        self.options = {"protocol": protocol, "seconds": seconds, "statistics": statistics, "augmented": augmented, "effects": effects}
        playing = np.full(steps, len(families))
        if max_instruments:
            if batch_size // (1 + max_instruments) < world:
                raise ValueError(
                    f"batches of {batch_size} batch_size hold less than one mixture of {max_instruments} for each of {world} processes: use more batch_size"
                )
            playing = np.random.default_rng([seed, VOICES]).integers(1, max_instruments + 1, steps)
        for v in set() if max_instruments else set(playing.tolist()):
            if batch_size < 1 + v:
                raise ValueError(f"a batch needs {1 + v} batch_size or more, for a mixture and its {v} instruments; got {batch_size}")
            part(batch_size // (1 + v), world, f"mixtures of {v} ({batch_size} batch_size)")
        self._voices, self._streams = playing, {}  # max_instruments -> (next batch, iterator)

    def max_instruments(self, step: int) -> int:
        """Instruments per mixture at a step."""
        return int(self._voices[step]) if step < len(self._voices) else len(self.families)

    def batch(self, step: int):
        """(dataset, indices) of a step."""
        max_instruments = self.max_instruments(step)
        before = np.count_nonzero(self._voices[:step] == max_instruments)
        number = before + max(0, step - len(self._voices))  # of the batches with as many instruments
        upcoming, stream = self._streams.get(max_instruments, (None, None))
        if upcoming is None or upcoming > number:
            upcoming, stream = 0, self._batches(max_instruments)
        for _ in range(number - upcoming):  # of other workers, or of an earlier run
            next(stream)
        out = next(stream)
        self._streams[max_instruments] = (number + 1, stream)
        return out

    def _batches(self, max_instruments: int):
        epoch = 0
        while True:
            seed = int(np.random.default_rng([self.seed, epoch, max_instruments]).integers(2**31))
            dataset = MixtureDataset(self.bank, self.families, "train", self.size, seed, max_instruments=max_instruments, **self.options)
            size, found = self.batch_size // (1 + max_instruments) // self.world, False
            for indices in mixture_batches(dataset, size, self.rank, self.world):
                found = True
                yield dataset, indices
            if not found:
                whole = size * self.world
                raise ValueError(
                    f"{self.size} mixtures give no batch of {whole} without a repeated instrument: use fewer batch_size or a longer epoch"
                )
            epoch += 1


class FamilySteps:
    """Batch of training step k of mixtures whose instruments meet again: each mixtures_per_instrument in `mixtures_per_instrument` mixtures and is heard as two notes.

    Args:
        batch_size: sounds in a batch of all processes together; a group of one instrument of each family that mixtures_per_instrument counts mixtures_per_instrument + 2 per family.
        max_instruments: each step draws 1 to this many families, which play in all of its mixtures; 0: all families play. Groups that several
            processes cannot share evenly are then left out; without, they are a ValueError.
    """

    def __init__(self, bank, families, batch_size, mixtures_per_instrument=1, rank=0, world=1, max_instruments=0, **options):
        self.batch_size, self.mixtures_per_instrument, self.max_instruments, self.seed, self.rank, self.world = (
            batch_size,
            mixtures_per_instrument,
            max_instruments,
            options.get("seed", 0),
            rank,
            world,
        )
        group = mixtures_per_instrument + 2 * (max_instruments or len(families))
        if batch_size // group < 2 * world:
            raise ValueError(
                f"each process needs batch_size for 2 groups of {mixtures_per_instrument} mixtures and their notes ({group} batch_size), {batch_size} hold {batch_size // group}"
            )
        if not max_instruments:
            part(batch_size // group, world, f"groups of {mixtures_per_instrument} mixtures and their notes ({batch_size} batch_size)")
        groups = self._groups(1 if max_instruments else len(families))
        self.steps = MixtureSteps(bank, families, groups * (1 + len(families)), **options)
        self.families = self.steps.families
        self._rows = bank.notes.groupby("instrument", sort=False).indices

    def _groups(self, playing: int) -> int:
        """Instruments of each family in a batch in which so many families play."""
        groups = self.batch_size // (self.mixtures_per_instrument + 2 * playing)
        return groups - groups % self.world

    def batch(self, step: int) -> tuple[MixtureDataset, np.ndarray, list[tuple[str, str]], np.ndarray]:
        """(dataset, indices (M,) of the mixtures of a step, (family, instrument) of each of N, bank rows (2, N) of two notes of each)."""
        dataset, indices = self.steps.batch(step)
        rng, playing = np.random.default_rng([self.seed, step, NOTES]), range(len(self.families))
        if self.max_instruments:
            playing = np.sort(rng.choice(len(playing), rng.integers(1, self.max_instruments + 1), replace=False))
            indices = indices[: self._groups(len(playing))]
        named = [dataset.plan(i)[family] for i in indices for family in playing]
        rows = np.array([self._pair(self._rows[uid], rng) for _, uid in named])
        mixtures, own = dataset.regroup(indices, self.mixtures_per_instrument, rng, playing), slice(self.rank, None, self.world)
        return mixtures, np.arange(len(mixtures))[own], named[own], rows[own].T

    @staticmethod
    def _pair(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Two notes of an instrument, different ones if it has them."""
        return rng.choice(rows, 2, replace=len(rows) < 2)


class PairSteps:
    """Batch of training step k of the single-instrument task: bank rows (pairs, 2)."""

    def __init__(self, sampler: PairSampler, rank: int = 0, world: int = 1):
        part(sampler.pairs, world, "single_pairs")
        self.sampler, self.rank, self.world = sampler, rank, world
        self._stream = (None, None)

    def batch(self, step: int) -> np.ndarray:
        """Bank rows of a step."""
        upcoming, stream = self._stream
        epoch, k = divmod(step, self.sampler.batches_per_epoch)
        if upcoming is None or not step - k <= upcoming <= step:  # another epoch, or back
            upcoming, stream = step - k, self._batches(epoch)
        for _ in range(step - upcoming):
            next(stream)
        out = next(stream)
        self._stream = (step + 1, stream)
        return out

    def _batches(self, epoch: int):
        while True:
            yield from self.sampler.epoch(epoch, self.rank, self.world)
            epoch += 1


class NoteSteps:
    """Batch of training step k of a classifier: bank rows (batch_size / world,), every sound at most once in an epoch."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1):
        if not 1 <= batch_size <= len(rows):
            raise ValueError(f"a batch needs 1 to {len(rows)} sounds (those that train), got {batch_size}")
        part(batch_size, world, "sounds")
        self.rows, self.batch_size, self.seed, self.rank, self.world = np.asarray(rows), batch_size, seed, rank, world

    def batch(self, step: int) -> np.ndarray:
        """Bank rows of a step."""
        epoch, k = divmod(step, len(self.rows) // self.batch_size)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return order[k * self.batch_size : (k + 1) * self.batch_size][self.rank :: self.world]
