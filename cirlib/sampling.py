"""Batches: which mixtures, or which pairs of sounds, make one step. Pure functions of (data, seed, epoch).

No instrument comes twice in a batch, an instrument and its effects-off twin count as one, and with several processes
the rule holds for the global batch: each process takes its own part of it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from .bank import NoteBank
from .families import MIXTURE_FAMILIES
from .mixing import MixtureDataset, cumulative, draw

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
    # t mixtures have room for t instruments of each family and need `voices` times t in all
    most = max(t for t in range(sum(counts) + 1) if sum(min(n, t) for n in counts) >= dataset.voices * t)
    if whole > most:
        raise ValueError(
            f"a batch of {whole} mixtures needs as many instruments of each family; {dataset.split} has {most}: use fewer clips"
        )
    if not 1 <= whole <= len(dataset):
        raise ValueError(f"a batch needs 1 to {len(dataset)} mixtures (the size of an epoch), got {whole}")


def part(count: int, world: int, what: str) -> int:
    """What each of `world` processes makes of `count`; ValueError if it cannot be shared evenly."""
    if count % world:
        raise ValueError(f"{count} {what} in a batch cannot be shared evenly by {world} processes: set clips to a multiple that can")
    return count // world


class PairSampler:
    """Pairs of different sounds of one instrument, for the single-instrument task (paper section 3).

    Args:
        pairs: instruments in a batch (half of its sounds). hard_ratio: share of the pairs that come from one family,
            drawn by drawing a sound; the others come from the other families. augmented: effects-off twins train too.
            without: families that are left out.
    Within each choice, sounds are drawn with probability proportional to exp(-times drawn in this epoch).
    """

    def __init__(
        self,
        bank: NoteBank,
        pairs: int,
        hard_ratio: float = 0.5,
        seed: int = 0,
        augmented: bool = True,
        without: Sequence[str] = (),
    ):
        if not 0 <= hard_ratio <= 1:
            raise ValueError(f"hard_ratio must be between 0 and 1, got {hard_ratio}")
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
        self.pairs, self.hard_ratio, self.seed = pairs, hard_ratio, seed
        count = len(np.unique(self._original))
        if pairs < 1:
            raise ValueError("a batch of pairs needs 2 clips or more")
        if pairs > count:
            other, fewer = (f" of other families than {', '.join(without)}", "pairs") if without else ("", "clips")
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
        hard = round(self.hard_ratio * self.pairs)
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
    """Batch of training step k, for any k: mixtures of a seed per epoch, with a curriculum over instruments per mixture.

    Args:
        clips: sounds in a batch of all processes together; a mixture of v instruments counts 1 + v.
        curriculum: shares of the steps with 1, 2, ... instruments per mixture; the remaining steps play all families.
        voices: every step draws 1 to this many instruments per mixture, of families that each mixture draws; 0: all families play. Mixtures
            that several processes cannot share evenly are then left out; without, they are a ValueError.
    """

    def __init__(self, bank, families=MIXTURE_FAMILIES, clips=48, steps=1000, curriculum=(), size=40000, seed=0,
                 protocol="strict", seconds=10.0, rank=0, world=1, statistics=None, augmented=True, voices=0, effects=0.0):  # fmt: skip
        if len(curriculum) >= len(families) or min(curriculum, default=0) < 0 or sum(curriculum) > 1:
            raise ValueError(f"curriculum must be at most {len(families) - 1} shares of the steps that sum to at most 1")
        self.bank, self.families, self.clips, self.size, self.seed = bank, families, clips, size, seed
        self.rank, self.world = rank, world
        self.options = {"protocol": protocol, "seconds": seconds, "statistics": statistics, "augmented": augmented, "effects": effects}
        ends = [round(steps * sum(curriculum[: v + 1])) for v in range(len(curriculum))]
        playing = np.full(steps, len(families))
        for v, end in reversed(list(enumerate(ends))):
            playing[:end] = v + 1
        if voices:
            if clips // (1 + voices) < world:
                raise ValueError(
                    f"batches of {clips} clips hold less than one mixture of {voices} for each of {world} processes: use more clips"
                )
            playing = np.random.default_rng([seed, VOICES]).integers(1, voices + 1, steps)
        for v in set() if voices else set(playing.tolist()):
            if clips < 1 + v:
                raise ValueError(f"a batch needs {1 + v} clips or more, for a mixture and its {v} instruments; got {clips}")
            part(clips // (1 + v), world, f"mixtures of {v} ({clips} clips)")
        self._voices, self._streams = playing, {}  # voices -> (next batch, iterator)

    def voices(self, step: int) -> int:
        """Instruments per mixture at a step."""
        return int(self._voices[step]) if step < len(self._voices) else len(self.families)

    def batch(self, step: int):
        """(dataset, indices) of a step."""
        voices = self.voices(step)
        before = np.count_nonzero(self._voices[:step] == voices)
        number = before + max(0, step - len(self._voices))  # of the batches with as many instruments
        upcoming, stream = self._streams.get(voices, (None, None))
        if upcoming is None or upcoming > number:
            upcoming, stream = 0, self._batches(voices)
        for _ in range(number - upcoming):  # of other workers, or of an earlier run
            next(stream)
        out = next(stream)
        self._streams[voices] = (number + 1, stream)
        return out

    def _batches(self, voices: int):
        epoch = 0
        while True:
            seed = int(np.random.default_rng([self.seed, epoch, voices]).integers(2**31))
            dataset = MixtureDataset(self.bank, self.families, "train", self.size, seed, voices=voices, **self.options)
            size, found = self.clips // (1 + voices) // self.world, False
            for indices in mixture_batches(dataset, size, self.rank, self.world):
                found = True
                yield dataset, indices
            if not found:
                whole = size * self.world
                raise ValueError(
                    f"{self.size} mixtures give no batch of {whole} without a repeated instrument: use fewer clips or a longer epoch"
                )
            epoch += 1


class FamilySteps:
    """Batch of training step k of mixtures whose instruments meet again: each plays in `plays` mixtures and is heard as two notes.

    Args:
        clips: sounds in a batch of all processes together; a group of one instrument of each family that plays counts plays + 2 per family.
        voices: each step draws 1 to this many families, which play in all of its mixtures; 0: all families play. Groups that several
            processes cannot share evenly are then left out; without, they are a ValueError.
    """

    def __init__(self, bank, families, clips, plays=1, rank=0, world=1, voices=0, **options):
        self.clips, self.plays, self.voices, self.seed, self.rank, self.world = clips, plays, voices, options.get("seed", 0), rank, world
        group = plays + 2 * (voices or len(families))
        if clips // group < 2 * world:
            raise ValueError(
                f"each process needs clips for 2 groups of {plays} mixtures and their notes ({group} clips), {clips} hold {clips // group}"
            )
        if not voices:
            part(clips // group, world, f"groups of {plays} mixtures and their notes ({clips} clips)")
        groups = self._groups(1 if voices else len(families))
        self.steps = MixtureSteps(bank, families, groups * (1 + len(families)), **options)
        self.families = self.steps.families
        self._rows = bank.notes.groupby("instrument", sort=False).indices

    def _groups(self, playing: int) -> int:
        """Instruments of each family in a batch in which so many families play."""
        groups = self.clips // (self.plays + 2 * playing)
        return groups - groups % self.world

    def batch(self, step: int) -> tuple[MixtureDataset, np.ndarray, list[tuple[str, str]], np.ndarray]:
        """(dataset, indices (M,) of the mixtures of a step, (family, instrument) of each of N, bank rows (2, N) of two notes of each)."""
        dataset, indices = self.steps.batch(step)
        rng, playing = np.random.default_rng([self.seed, step, NOTES]), range(len(self.families))
        if self.voices:
            playing = np.sort(rng.choice(len(playing), rng.integers(1, self.voices + 1), replace=False))
            indices = indices[: self._groups(len(playing))]
        named = [dataset.plan(i)[family] for i in indices for family in playing]
        rows = np.array([self._pair(self._rows[uid], rng) for _, uid in named])
        mixtures, own = dataset.regroup(indices, self.plays, rng, playing), slice(self.rank, None, self.world)
        return mixtures, np.arange(len(mixtures))[own], named[own], rows[own].T

    @staticmethod
    def _pair(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Two notes of an instrument, different ones if it has them."""
        return rng.choice(rows, 2, replace=len(rows) < 2)


class PairSteps:
    """Batch of training step k of the single-instrument task: bank rows (pairs, 2)."""

    def __init__(self, sampler: PairSampler, rank: int = 0, world: int = 1):
        part(sampler.pairs, world, "pairs")
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
    """Batch of training step k of a classifier: bank rows (clips / world,), every sound at most once in an epoch."""

    def __init__(self, rows: np.ndarray, clips: int, seed: int = 0, rank: int = 0, world: int = 1):
        if not 1 <= clips <= len(rows):
            raise ValueError(f"a batch needs 1 to {len(rows)} sounds (those that train), got {clips}")
        part(clips, world, "sounds")
        self.rows, self.clips, self.seed, self.rank, self.world = np.asarray(rows), clips, seed, rank, world

    def batch(self, step: int) -> np.ndarray:
        """Bank rows of a step."""
        epoch, k = divmod(step, len(self.rows) // self.clips)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return order[k * self.clips : (k + 1) * self.clips][self.rank :: self.world]
