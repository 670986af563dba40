"""Scores of mixtures: which notes each instrument plays and when, drawn before any sound is read.

Every instrument plays a random rhythm in one random scale (paper section 3, mixture generation). Two protocols:
`strict` (default): each family has its own rhythm, and every stem has at least one note.
`paper`: as the reference code, where it changes numbers: bass plays the melodic rhythm, a stem may rest throughout,
and training references are always the reference note.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from .bank import NoteBank
from .note_statistics import NoteStatistics
from .taxonomy import BASS_RHYTHM, MELODIC_RHYTHM, family

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
HUMANISE = 0.02  # largest deviation of an onset, quarter notes
DELAY = 0.1  # largest delay of a whole mixture, quarter notes


@dataclass(frozen=True)
class Track:
    """The notes of one instrument: bank rows, onsets and lengths in samples, three lists of one length."""

    family: str
    instrument: str
    rows: list[int]
    onsets: list[int]
    lengths: list[int]

    def __iter__(self):
        """Yield (bank row, onset, length) of each note."""
        return zip(self.rows, self.onsets, self.lengths, strict=True)


@dataclass(frozen=True)
class Score:
    """The tracks of one mixture, their common delay in samples, and the bank row of a reference note per instrument (or none)."""

    tracks: list[Track]
    delay: int
    references: list[int]


class Composer:
    """Draw scores for instruments of a bank.

    Args:
        families: of the instruments. samples: length of a mixture. random_references: any note of an instrument may be its reference.
        statistics: pitch distribution of each family; None: the default of note_statistics.py.
    """

    def __init__(
        self,
        bank: NoteBank,
        *,
        families: Sequence[str],
        protocol: str,
        samples: int,
        random_references: bool,
        statistics: NoteStatistics | None = None,
    ):
        self.bank, self.protocol, self.samples, self.random_references = bank, protocol, samples, random_references
        self._pitch = {f: (statistics or NoteStatistics()).pitch(f) for f in families}
        known = ~np.isnan(bank.pitches)
        self._key = np.where(known, bank.pitches, 0).round().clip(0, 127).astype(int)  # MIDI
        self._pitch_class = np.where(known, self._key % 12, 12)  # 12: unknown
        self._reference = bank.instruments.reference.to_dict()

    def score(self, plan: Sequence[tuple[str, str]], rng: np.random.Generator, *, references: bool = True) -> Score:
        """Return a score for (family, instrument) pairs; without references `Score.references` is empty."""
        scale = (np.array(list(SCALES.values())[rng.integers(len(SCALES))]) + rng.integers(12)) % 12
        quarter = 60 / rng.uniform(*TEMPO) * self.bank.sample_rate
        tracks = [self._track(name, uid, scale=scale, quarter=quarter, rng=rng) for name, uid in plan]
        delay = round(rng.uniform(0, DELAY) * quarter)
        return Score(tracks, delay, [self._draw_reference(uid, rng) for _, uid in plan] if references else [])

    def _track(self, name: str, uid: str, *, scale: np.ndarray, quarter: float, rng: np.random.Generator) -> Track:
        """Draw the notes of one instrument, up to the end of the mixture."""
        starts, ends = slots(rhythm(name, self.protocol), quarter=quarter, samples=self.samples, rng=rng)
        sounding = rng.random(len(starts)) >= family(name).rest
        if self.protocol == "strict":
            audible = starts.searchsorted(self.samples - quarter / 4)  # humanising and delay cannot push these past the end
            if not sounding[:audible].any():
                sounding[rng.integers(max(1, audible))] = True
        rows = self.choose_notes(name, uid, scale=scale, count=len(starts), rng=rng)
        jitter = np.round(rng.uniform(-HUMANISE, HUMANISE, len(starts)) * quarter).astype(int)
        onsets = np.maximum(starts + jitter, 0)
        lengths = np.minimum(ends - starts, self.samples - onsets)
        return Track(name, uid, rows[sounding].tolist(), onsets[sounding].tolist(), lengths[sounding].tolist())

    def choose_notes(self, name: str, uid: str, *, scale: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw bank rows (count,) of notes of an instrument: in the scale, by the pitch distribution of its family."""
        rows, allowed = self.bank.rows_of[uid], np.zeros(13, bool)
        allowed[scale] = True
        in_scale = rows[allowed[self._pitch_class[rows]]]
        if not len(in_scale):
            return rng.choice(rows, count)
        mass = self._pitch[name][self._key[in_scale]]
        return draw(in_scale, cumulative(mass), count, rng) if mass.sum() > 0 else rng.choice(in_scale, count)

    def _draw_reference(self, uid: str, rng: np.random.Generator) -> int:
        return rng.choice(self.bank.rows_of[uid]) if self.random_references else self._reference[uid]


def rhythm(name: str, protocol: str) -> tuple[tuple[float, float], ...]:
    """Return (length in quarters, probability) pairs of a family; under `paper` a letter-case mismatch gives bass the melodic ones."""
    own = family(name).rhythm
    return tuple(MELODIC_RHYTHM.items()) if protocol == "paper" and own == tuple(BASS_RHYTHM.items()) else own


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Return cumulative probabilities (n,) in proportion to some weights."""
    total = weights.cumsum()
    return total / total[-1]


def draw(values: np.ndarray, p: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return what rng.choice(values, count, p=...) draws, from cumulative probabilities p, in a third of the time."""
    return values[p.searchsorted(rng.random(count), side="right")]


@cache
def _columns(pairs: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, np.ndarray]:
    quarters, p = (np.array(column) for column in zip(*pairs, strict=True))
    return quarters, cumulative(p)


def slots(lengths, *, quarter: float, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends (samples) of note slots that fill a track: lengths in quarters are drawn, the last slot is cut."""
    quarters, p = _columns(tuple(lengths))
    most = math.ceil(samples / (quarters.min() * quarter)) + 1
    edges = np.zeros(most + 1)
    draw(quarters, p, most, rng).cumsum(out=edges[1:])
    edges = np.round(edges * quarter).astype(int)
    count = edges.searchsorted(samples)
    return edges[:count], np.minimum(edges[1 : count + 1], samples)
