"""Mixtures of instruments, rendered on the fly from single notes: a pure function of (bank, seed, index).

scores.py draws the notes; here they are read, cut, summed and normalised. Each track peaks at PEAK times the weight of
its family, then the mixture peaks at PEAK. Protocol `strict` (default) delays all tracks by the same silence. `paper`
follows the reference code where it changes numbers: the delay is circular, and a reference note is divided by
its maximum instead of its maximum magnitude.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat

import numpy as np

from ..audio.effects import random_effects
from ..common.settings import choose
from .bank import NoteBank
from .note_statistics import NoteStatistics
from .notes import SPLITS
from .scores import Composer, Score, Track
from .taxonomy import MIXTURE_FAMILIES, family

PROTOCOLS = ("strict", "paper")
FADE_S = 0.01
PEAK = 0.99


@dataclass
class Mixture:
    """A mixture (T,), its stems as they sound in it (S, T), one single note per instrument (S, T), and the names."""

    mixture: np.ndarray
    stems: np.ndarray
    references: np.ndarray
    instruments: list[str]
    families: list[str]


class MixtureDataset:
    """`size` mixtures of one instrument per family; item i depends on nothing but the bank, the seed and i.

    Args:
        families: one instrument of each plays. split: train, valid or test instruments.
        seconds: length T of every sound. max_instruments: instruments per mixture, by default one per family; with
            fewer, each mixture draws its families. augmented: include effects-off twins (default: in training only).
        statistics: pitch distribution of each family; None: the default of note_statistics.py.
        effects: share of the mixtures that go through random effects (audio/effects.py); their stems do not.
    `references` holds the sound that losses and the gallery embed for an instrument: its reference note; in training
    (protocol strict) a random note. Raises ValueError for unusable options or a family without instruments.
    """

    def __init__(
        self, bank: NoteBank, *, families: Sequence[str] = MIXTURE_FAMILIES, split: str = "train", size: int = 40000, seed: int = 0,
        protocol: str = "strict", seconds: float = 10.0, max_instruments: int | None = None, augmented: bool | None = None,
        statistics: NoteStatistics | None = None, effects: float = 0.0,
    ):  # fmt: skip
        self.bank, self.split, self.size, self.seed = bank, choose("split", split, SPLITS), size, seed
        self.families = [family(f).name for f in families]
        self.protocol, self.seconds, self.effects = choose("protocol", protocol, PROTOCOLS), seconds, effects
        self.max_instruments = len(self.families) if max_instruments is None else max_instruments
        self.samples = round(seconds * bank.sample_rate)
        self._check()
        training = split == "train"
        self.pool = self._instruments(training if augmented is None else augmented)
        self._composer = Composer(
            bank,
            families=self.families,
            protocol=protocol,
            samples=self.samples,
            random_references=training and protocol == "strict",
            statistics=statistics,
        )
        self._original = bank.instruments.augments.fillna(bank.instruments.index.to_series()).to_dict()
        self._names = [pool.index.to_numpy(object) for pool in self.pool.values()]
        self._positions = self._draw_instruments()  # (size, families) in the pool of each family
        self._columns = range(len(self.families))  # of the positions: families that may play

    def _check(self) -> None:
        """Raise ValueError for options that no mixture can have."""
        count = len(self.families)
        if not count or len(set(self.families)) < count:
            raise ValueError(f"families must be one or more different ones, got {', '.join(self.families) or 'none'}")
        if not 0 <= self.effects <= 1:
            raise ValueError(f"effects must be a share, 0 to 1, got {self.effects}")
        if not 1 <= self.max_instruments <= count:
            raise ValueError(f"max_instruments must be 1 to {count} (the number of families), got {self.max_instruments}")
        if self.samples < 1:
            raise ValueError(f"seconds must be one sample or more, got {self.seconds}")

    def _instruments(self, augmented: bool) -> dict:
        """Return a table of the instruments of each family; ValueError for a family without any."""
        table = self.bank.instruments
        usable = (table.split == self.split) & (augmented | table.augments.isna())
        pool = {f: table[usable & (table.family == f)] for f in self.families}
        for name, instruments in pool.items():
            if instruments.empty:
                counts = table[table.split == self.split].family.value_counts()
                present = ", ".join(f"{f} ({n})" for f, n in counts.items()) or f"no {self.split} instruments at all"
                raise ValueError(f"the bank has no {self.split} instrument of family {name!r}; it has {present}")
        return pool

    def _draw_instruments(self) -> np.ndarray:
        """Return positions (size, families): first every instrument once, then in proportion to its number of notes."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split)])
        positions = np.empty((self.size, len(self.families)), int)
        for column, pool in enumerate(self.pool.values()):
            count = pool.notes.to_numpy(float)
            first = rng.permutation(len(pool))[: self.size]
            rest = rng.choice(len(pool), self.size - len(first), p=count / count.sum())
            positions[:, column] = np.concatenate([first, rest])
        return positions

    def __len__(self) -> int:
        return self.size

    def plan(self, i: int) -> list[tuple[str, str]]:
        """Return (family, instrument) pairs of mixture i, in the order of its stems."""
        columns = self._columns
        if self.max_instruments < len(columns):
            columns = sorted(self._rng(i, 1).choice(len(columns), self.max_instruments, replace=False))
        return [(self.families[c], self._names[c][self._positions[i, c]]) for c in columns]

    def originals(self, i: int) -> set[str]:
        """Return the instruments of mixture i, each twin replaced by its original: none may come twice in a batch."""
        return {self._original[uid] for _, uid in self.plan(i)}

    def regroup(self, indices: Sequence[int], times: int, *, rng: np.random.Generator, columns: Sequence[int]) -> "MixtureDataset":
        """Return len(indices) * times mixtures in which each instrument of these mixtures is `times` times, in new combinations.

        Each mixture of this dataset must have all families; `columns`: positions of the families of the new ones.
        """
        chosen, out = self._positions[np.asarray(indices)], copy.copy(self)
        out._columns, out.max_instruments = columns, len(columns)
        out._positions = np.concatenate([rng.permuted(chosen, axis=0) for _ in range(times)])
        out.size, out.seed = len(out._positions), int(rng.integers(2**31))
        return out

    def _rng(self, i: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(self.split), 2 + i, purpose])

    def score(self, i: int, *, references: bool = True) -> Score:
        """Return the score of mixture i. Raises IndexError beyond the size."""
        if not 0 <= i < self.size:
            raise IndexError(f"mixture {i} of {self.size}")
        return self._composer.score(self.plan(i), self._rng(i, 0), references=references)

    def __getitem__(self, i: int) -> Mixture:
        mixtures, stems, references = self._batch([i], with_stems=True, with_references=True)
        plan = self.plan(i)
        return Mixture(mixtures[0], stems[0], references[0], [uid for _, uid in plan], [name for name, _ in plan])

    def batch(self, indices: Sequence[int], tracks: str = "references") -> tuple[np.ndarray, np.ndarray | None]:
        """Return mixtures (M, T), and `tracks` of their instruments (M, S, T): references, stems, or none of them.

        The values are those of the items; all sounds are requested before the first is read, which is faster.
        """
        choose("tracks", tracks, ("references", "stems", "none"))
        mixtures, stems, references = self._batch(indices, with_stems=tracks == "stems", with_references=tracks == "references")
        return mixtures, references if stems is None else stems

    def _batch(self, indices: Sequence[int], *, with_stems: bool, with_references: bool):
        """Return mixtures (M, T), stems and references (M, S, T), None where they are not wanted."""
        scores = [self.score(i, references=with_references) for i in indices]
        self._read_ahead(scores)
        shape, references, stems = (len(scores), self.max_instruments, self.samples), None, None
        if with_references:
            rows = [row for score in scores for row in score.references]
            references = load_sounds(self.bank, rows, samples=self.samples, protocol=self.protocol).reshape(shape)
        if with_stems:
            stems = np.zeros(shape, np.float32)
        mixtures, track = np.zeros((len(scores), self.samples), np.float32), np.empty(self.samples, np.float32)
        for k, (i, score) in enumerate(zip(indices, scores, strict=True)):
            self._render(score, mixtures[k], stems[k] if with_stems else None, buffer=track)
            self._apply_effects(i, mixtures[k])
        return mixtures, stems, references

    def _read_ahead(self, scores: Sequence[Score]) -> None:
        longest = {}
        for row, _, length in (note for score in scores for track in score.tracks for note in track):
            longest[row] = max(length, longest.get(row, 0))
        self.bank.read_ahead(longest.keys(), longest.values())

    def _render(self, score: Score, mixture: np.ndarray, stems: np.ndarray | None, *, buffer: np.ndarray) -> None:
        """Add a score to zeros: the mixture (T,) and, if wanted, its stems (S, T). `buffer` (T,) is overwritten."""
        for k, track in enumerate(score.tracks):
            self._render_track(track, buffer)
            add_delayed(buffer, score.delay, circular=self.protocol == "paper", out=mixture if stems is None else stems[k])
            if stems is not None:
                mixture += stems[k]
        peak = max(mixture.max(), -mixture.min())
        gain = PEAK / peak if peak > 0 else np.float32(1)
        mixture *= gain
        if stems is not None:
            stems *= gain

    def _render_track(self, track: Track, out: np.ndarray) -> None:
        """Write one instrument to `out` (T,); its peak becomes PEAK times the weight of its family."""
        out.fill(0)
        fade = round(FADE_S * self.bank.sample_rate)
        for row, onset, length in track:
            note = self.bank.audio(row, length)
            if len(note) < self.bank.lengths[row]:
                fade_out(note, fade)
            out[onset : onset + len(note)] += note
        peak = max(out.max(), -out.min())
        if peak > 0:
            out *= PEAK * family(track.family).weight / peak

    def _apply_effects(self, i: int, mixture: np.ndarray) -> None:
        if self.effects and (rng := self._rng(i, 2)).random() < self.effects:
            mixture[:] = random_effects(mixture, self.bank.sample_rate, rng)


def add_delayed(track: np.ndarray, delay: int, *, circular: bool, out: np.ndarray) -> None:
    """Add a track (T,) to `out` (T,), some samples later: samples past the end are dropped, or wrap to the start (circular)."""
    delay = delay % len(track) if circular else min(delay, len(track))
    remaining = len(track) - delay
    out[delay:] += track[:remaining]
    if circular:
        out[:delay] += track[remaining:]


@cache
def _ramp(samples: int) -> np.ndarray:
    return np.linspace(1, 0, samples, dtype=np.float32)


def fade_out(note: np.ndarray, samples: int) -> None:
    """Fade the last samples of a note linearly to 0, in place."""
    n = min(samples, len(note))
    note[len(note) - n :] *= _ramp(n)


def load_sound(bank: NoteBank, row: int, *, samples: int, protocol: str = "strict", out: np.ndarray | None = None) -> np.ndarray:
    """Return one sound of a bank as the encoder gets it: cut or zero-padded to (samples,), peak-normalised; silence stays silence.

    Under `paper` the divisor is the largest positive sample, as in the reference code. `out`: zeros to write to.
    """
    out = np.zeros(samples, np.float32) if out is None else out
    audio = bank.audio(row, samples)
    peak = audio.max(initial=0)
    if protocol != "paper":
        peak = max(peak, -audio.min(initial=0))
    if peak > 1e-9:
        np.multiply(audio, PEAK / peak, out=out[: len(audio)])
    return out


def load_sounds(bank: NoteBank, rows: Sequence[int], *, samples: int, protocol: str = "strict") -> np.ndarray:
    """Return several sounds of a bank as `load_sound` does: (N, samples)."""
    bank.read_ahead(rows, repeat(samples, len(rows)))
    out = np.zeros((len(rows), samples), np.float32)
    for row, sound in zip(rows, out, strict=True):
        load_sound(bank, row, samples=samples, protocol=protocol, out=sound)
    return out
