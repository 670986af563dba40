"""Mixtures of instruments, made on the fly from single notes: a pure function of (bank, seed, index).

One instrument per family plays a random rhythm in a random scale (paper section 3, mixture generation).
`protocol="strict"` (default) plays each family with its own rhythm, never leaves a stem silent, and shifts by delay.
`protocol="paper"` keeps what the reference does and what changes numbers: the bass rhythm is the melodic one, a stem
may rest throughout, the shift is circular, training references are always the reference note, and a reference note
is divided by its maximum instead of its maximum magnitude.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat

import numpy as np

from ..common.settings import choose
from .bank import NoteBank
from .note_statistics import NoteStatistics
from .notes import SPLITS
from .taxonomy import BASS_RHYTHM, MELODIC_RHYTHM, MIXTURE_FAMILIES, family

PROTOCOLS = ("strict", "paper")
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
}
TEMPO = (60.0, 140.0)  # beats per minute
HUMANISE = 0.02  # of a quarter note
SHIFT = 0.1  # of a quarter note, longest
FADE_S = 0.01
PEAK = 0.99


@dataclass
class Mixture:
    """A mixture (T,), its tracks as they sound in it (S, T), one single note per instrument (S, T), and their names."""

    mixture: np.ndarray
    stems: np.ndarray
    references: np.ndarray
    instruments: list[str]
    families: list[str]


@dataclass
class Score:
    """What a mixture plays, drawn before any sound is read."""

    plan: list[tuple[str, str]]  # (family, instrument) of each track
    notes: list[tuple[list[int], list[int], list[int]]]  # of each track: bank rows, onsets and lengths (samples)
    delay: int  # of all tracks (samples)
    references: list[int]  # bank rows of the sounds that stand for the instruments, if asked for


class MixtureDataset:
    """`size` mixtures of one instrument per family; item i depends on nothing but the bank, the seed and i.

    Args:
        families: which families play together. split: which instruments. size: mixtures in an epoch.
        seconds: length T of every sound. max_instruments: instruments per mixture, at most and by default one per family; with
            fewer, each mixture draws which families play. augmented: effects-off twins play too (training only).
        statistics: pitches that a family plays; None: the documented default (midi.py).
        effects: share of the mixtures that are heard through random effects (effects.py); their stems are not.
    `references` is the sound that losses and gallery embed for an instrument: its reference note; in training a random
    note (protocol strict).
    """

    def __init__(
        self,
        bank: NoteBank,
        families: Sequence[str] = MIXTURE_FAMILIES,
        split: str = "train",
        size: int = 40000,
        seed: int = 0,
        protocol: str = "strict",
        seconds: float = 10.0,
        max_instruments: int | None = None,
        augmented: bool | None = None,
        statistics: NoteStatistics | None = None,
        effects: float = 0.0,
    ):
        self.bank, self.split, self.size, self.seed = bank, choose("split", split, SPLITS), size, seed
        self.families = [family(f).name for f in families]
        if not self.families or len(set(self.families)) < len(self.families):
            raise ValueError(f"families must be one or more different ones, got {', '.join(self.families) or 'none'}")
        self._pitch = {f: (statistics or NoteStatistics()).pitch(f) for f in self.families}
        self.protocol, self.seconds, self.effects = choose("protocol", protocol, PROTOCOLS), seconds, effects
        self.max_instruments = len(self.families) if max_instruments is None else max_instruments
        if not 0 <= effects <= 1:
            raise ValueError(f"effects must be a share, 0 to 1, got {effects}")
        if not 1 <= self.max_instruments <= len(self.families):
            raise ValueError(f"max_instruments must be 1 to {len(self.families)} (the number of families), got {max_instruments}")
        self.samples = round(seconds * bank.sample_rate)
        if self.samples < 1:
            raise ValueError(f"seconds must hold one sample at least, got {seconds}")
        table = bank.instruments
        usable = table.split == split
        if not (split == "train" if augmented is None else augmented):
            usable &= table.augments.isna()
        self.pool = {f: table[usable & (table.family == f)] for f in self.families}
        for name, pool in self.pool.items():
            if pool.empty:
                raise ValueError(f"the bank has no {split} instrument of family {name!r}; it has {_families(table, split)}")
        self._names = [pool.index.to_numpy(object) for pool in self.pool.values()]
        self._rows = bank.notes.groupby("instrument", sort=False).indices
        known = ~np.isnan(bank.pitches)
        self._key = np.where(known, bank.pitches, 0).round().clip(0, 127).astype(int)  # MIDI
        self._pitch_class = np.where(known, self._key % 12, 12)  # 12: unknown
        self._reference_row = table.reference.to_dict()
        self._original = table.augments.fillna(table.index.to_series()).to_dict()
        self._plan = self._draw_instruments()
        self._playing = range(len(self.families))  # columns of the plan

    def __len__(self) -> int:
        return self.size

    def _draw_instruments(self) -> np.ndarray:
        """Instrument of each family in each mixture, (size, families) positions in its pool: all once, then by note count."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split)])
        plan = np.empty((self.size, len(self.families)), int)
        for column, pool in enumerate(self.pool.values()):
            count = pool.notes.to_numpy(float)
            first = rng.permutation(len(pool))[: self.size]
            rest = rng.choice(len(pool), self.size - len(first), p=count / count.sum())
            plan[:, column] = np.concatenate([first, rest])
        return plan

    def plan(self, i: int) -> list[tuple[str, str]]:
        """(family, instrument) of mixture i, in the order of its stems."""
        playing = self._playing
        if self.max_instruments < len(playing):
            playing = sorted(self._rng(i, 1).choice(len(playing), self.max_instruments, replace=False))
        return [(self.families[c], self._names[c][self._plan[i, c]]) for c in playing]

    def regroup(self, indices: Sequence[int], plays: int, rng: np.random.Generator, playing: Sequence[int]) -> "MixtureDataset":
        """The instruments of these mixtures, each in `plays` mixtures, in new combinations: a dataset of len(indices) * plays mixtures.

        All families must play in each mixture of this dataset; `playing`: positions of those that play in the new ones.
        """
        chosen, out = self._plan[np.asarray(indices)], copy.copy(self)
        out._playing, out.max_instruments = playing, len(playing)
        rounds = [rng.permuted(chosen, axis=0) for _ in range(plays)]
        out._plan, out.size, out.seed = np.concatenate(rounds), len(chosen) * plays, int(rng.integers(2**31))
        return out

    def originals(self, i: int) -> set[str]:
        """Instruments of mixture i with twins named by their original: what must not come twice in a batch."""
        return {self._original[uid] for _, uid in self.plan(i)}

    def _rng(self, i: int, use: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(self.split), 2 + i, use])

    def __getitem__(self, i: int) -> Mixture:
        mixtures, stems, references = self._batch([i], with_stems=True, with_references=True)
        plan = self.plan(i)
        return Mixture(mixtures[0], stems[0], references[0], [uid for _, uid in plan], [name for name, _ in plan])

    def batch(self, indices: Sequence[int], tracks: str = "references") -> tuple[np.ndarray, np.ndarray | None]:
        """Mixtures (M, T), and the `tracks` of their instruments (M, S, T): references, stems, or none of them.

        What the items hold, faster: all their sounds are asked for before the first is read.
        """
        choose("tracks", tracks, ("references", "stems", "none"))
        mixtures, stems, references = self._batch(indices, tracks == "stems", tracks == "references")
        return mixtures, references if stems is None else stems

    def _batch(self, indices: Sequence[int], with_stems: bool, with_references: bool):
        """Mixtures (M, T), stems and references (M, S, T), None where they are not wanted."""
        scores = [self.score(i, with_references) for i in indices]
        self._read_ahead(scores)
        shape, references, stems = (len(scores), self.max_instruments, self.samples), None, None
        if with_references:
            rows = [row for score in scores for row in score.references]
            references = clips(self.bank, rows, self.samples, self.protocol).reshape(shape)
        if with_stems:
            stems = np.zeros(shape, np.float32)
        mixtures, track = np.zeros((len(scores), self.samples), np.float32), np.empty(self.samples, np.float32)
        for k, (i, score) in enumerate(zip(indices, scores, strict=True)):
            self._render(score, track, mixtures[k], stems[k] if with_stems else None)
            if self.effects:
                self._through_effects(mixtures[k], self._rng(i, 2))
        return mixtures, stems, references

    def score(self, i: int, references: bool = True) -> Score:
        """The score of mixture i. Raises IndexError beyond the size."""
        if not 0 <= i < self.size:
            raise IndexError(f"mixture {i} of {self.size}")
        rng, plan = self._rng(i, 0), self.plan(i)
        scale = (np.array(list(SCALES.values())[rng.integers(len(SCALES))]) + rng.integers(12)) % 12
        quarter = 60 / rng.uniform(*TEMPO) * self.bank.sample_rate
        notes = [self._notes(name, uid, scale, quarter, rng) for name, uid in plan]
        delay = round(rng.uniform(0, SHIFT) * quarter)
        return Score(plan, notes, delay, [self._reference(uid, rng) for _, uid in plan] if references else [])

    def _read_ahead(self, scores: Sequence[Score]) -> None:
        longest = {}
        for rows, _, lengths in (track for score in scores for track in score.notes):
            for row, length in zip(rows, lengths, strict=True):
                longest[row] = max(length, longest.get(row, 0))
        self.bank.ahead(longest.keys(), longest.values())

    def _render(self, score: Score, track: np.ndarray, mixture: np.ndarray, stems: np.ndarray | None) -> None:
        """Add a score to zeros: the mixture (T,) and, if wanted, its stems (S, T). `track` (T,) is written over."""
        for k, ((name, _), notes) in enumerate(zip(score.plan, score.notes, strict=True)):
            self._play(track, name, notes)
            add_later(track, score.delay, self.protocol == "paper", mixture if stems is None else stems[k])
            if stems is not None:
                mixture += stems[k]
        peak = max(mixture.max(), -mixture.min())
        gain = PEAK / peak if peak > 0 else np.float32(1)
        mixture *= gain
        if stems is not None:
            stems *= gain

    def _through_effects(self, mixture: np.ndarray, rng: np.random.Generator) -> None:
        from ..audio.effects import random_effects

        if rng.random() < self.effects:
            mixture[:] = random_effects(mixture, self.bank.sample_rate, rng)

    def _notes(self, name: str, uid: str, scale: np.ndarray, quarter: float, rng) -> tuple[list[int], list[int], list[int]]:
        """What one instrument plays: bank rows, onsets and lengths (samples), up to the end of the mixture."""
        starts, ends = slots(rhythm(name, self.protocol), quarter, self.samples, rng)
        sounding = rng.random(len(starts)) >= family(name).rest
        if self.protocol == "strict":
            heard = starts.searchsorted(self.samples - quarter / 4)  # humanising and shift cannot push these past the end
            if not sounding[:heard].any():
                sounding[rng.integers(max(1, heard))] = True
        rows = self._choose_notes(name, uid, scale, len(starts), rng)
        jitter = np.round(rng.uniform(-HUMANISE, HUMANISE, len(starts)) * quarter).astype(int)
        onsets = np.maximum(starts + jitter, 0)
        lengths = np.minimum(ends - starts, self.samples - onsets)
        return rows[sounding].tolist(), onsets[sounding].tolist(), lengths[sounding].tolist()

    def _play(self, track: np.ndarray, name: str, notes: tuple[list[int], list[int], list[int]]) -> None:
        """Write one instrument to a track (T,); its peak becomes PEAK times the weight of its family."""
        track.fill(0)
        fade = round(FADE_S * self.bank.sample_rate)
        for row, onset, length in zip(*notes, strict=True):
            note = self.bank.audio(row, length)
            if len(note) < self.bank.lengths[row]:
                fade_out(note, fade)
            track[onset : onset + len(note)] += note
        peak = max(track.max(), -track.min())
        if peak > 0:
            track *= PEAK * family(name).weight / peak

    def _choose_notes(self, name: str, uid: str, scale: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Bank rows of `count` notes of an instrument: in the scale, by the pitch distribution of its family."""
        rows, allowed = self._rows[uid], np.zeros(13, bool)
        allowed[scale] = True
        in_scale = rows[allowed[self._pitch_class[rows]]]
        if not len(in_scale):
            return rng.choice(rows, count)
        mass = self._pitch[name][self._key[in_scale]]
        return draw(in_scale, cumulative(mass), count, rng) if mass.sum() > 0 else rng.choice(in_scale, count)

    def _reference(self, uid: str, rng: np.random.Generator) -> int:
        """Bank row of the sound that stands for an instrument."""
        random_note = self.split == "train" and self.protocol == "strict"
        return rng.choice(self._rows[uid]) if random_note else self._reference_row[uid]


def rhythm(name: str, protocol: str) -> tuple[tuple[float, float], ...]:
    """Note lengths (quarters, probability) of a family; under `paper` a letter-case mismatch gives bass the melodic ones."""
    own = family(name).rhythm
    return tuple(MELODIC_RHYTHM.items()) if protocol == "paper" and own == tuple(BASS_RHYTHM.items()) else own


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Cumulative probabilities (n,) in proportion to some weights."""
    total = weights.cumsum()
    return total / total[-1]


def draw(values: np.ndarray, p: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """What rng.choice(values, count, p=...) draws, given cumulative probabilities; in a third of the time."""
    return values[p.searchsorted(rng.random(count), side="right")]


@cache
def _columns(pairs: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, np.ndarray]:
    quarters, p = (np.array(column) for column in zip(*pairs, strict=True))
    return quarters, cumulative(p)


def slots(lengths, quarter: float, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (samples) of note slots that fill a track: lengths in quarters are drawn, the last slot is cut."""
    quarters, p = _columns(tuple(lengths))
    most = math.ceil(samples / (quarters.min() * quarter)) + 1
    edges = np.zeros(most + 1)
    draw(quarters, p, most, rng).cumsum(out=edges[1:])
    edges = np.round(edges * quarter).astype(int)
    count = edges.searchsorted(samples)
    return edges[:count], np.minimum(edges[1 : count + 1], samples)


def add_later(track: np.ndarray, delay: int, circular: bool, out: np.ndarray) -> None:
    """Add a track (T,) to `out` (T,), some samples later: what passes the end is lost, or comes in at the start (circular)."""
    delay = delay % len(track) if circular else min(delay, len(track))
    kept = len(track) - delay
    out[delay:] += track[:kept]
    if circular:
        out[:delay] += track[kept:]


@cache
def _ramp(samples: int) -> np.ndarray:
    return np.linspace(1, 0, samples, dtype=np.float32)


def fade_out(note: np.ndarray, samples: int) -> None:
    """Fade the last samples of a note linearly to 0, in place."""
    n = min(samples, len(note))
    note[len(note) - n :] *= _ramp(n)


def clip(bank: NoteBank, row: int, samples: int, protocol: str = "strict", out: np.ndarray | None = None) -> np.ndarray:
    """One sound of a bank as the encoder hears it: cut or zero-padded to (samples,), peak-normalised; silence stays silence.

    Under `paper` the divisor is the largest positive sample, as in the reference. `out`: zeros to write to.
    """
    out = np.zeros(samples, np.float32) if out is None else out
    audio = bank.audio(row, samples)
    peak = audio.max(initial=0)
    if protocol != "paper":
        peak = max(peak, -audio.min(initial=0))
    if peak > 1e-9:
        np.multiply(audio, PEAK / peak, out=out[: len(audio)])
    return out


def clips(bank: NoteBank, rows: Sequence[int], samples: int, protocol: str = "strict") -> np.ndarray:
    """Sounds of a bank as the encoder hears them (see `clip`): (N, samples)."""
    bank.ahead(rows, repeat(samples, len(rows)))
    out = np.zeros((len(rows), samples), np.float32)
    for row, sound in zip(rows, out, strict=True):
        clip(bank, row, samples, protocol, out=sound)
    return out


def _families(table, split: str) -> str:
    counts = table[table.split == split].family.value_counts()
    return ", ".join(f"{name} ({n})" for name, n in counts.items()) or f"no {split} instruments at all"
