"""Pitches in the names of files: of note names, and of numbers where several files of an instrument differ in them."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .names import Token

KEYS = range(21, 109)  # numbers that can be pitches: the keys of a piano. Others in a folder show that its numbers count files
COUNTS = range(201)  # numbers above name machines and years
BEAT = 5  # most tempos are multiples of it
STEPS = 4  # so many numbers, each more than 1 apart, are keys of one instrument: numbers of sounds follow one another
LOUD = 60  # numbers beside notes that reach it are MIDI velocities
BESIDE_FOLDERS = ("layer", "dynamic", "strength", "take", "microphone", "articulation", "format")  # tokens that name no instrument
BESIDE_NOTES = (*BESIDE_FOLDERS, "note", "pair", "run", "index", "length", "phrase")  # in names with a note


@dataclass
class NamedFile:
    """A file and what its name and folders give."""

    path: Path  # inside the root
    tokens: list[Token]
    place: tuple[str, ...] = ()  # folders that name an instrument
    above: tuple[Token, ...] = ()  # tokens of the other folders
    family: str | None = None
    kind: str | None = None
    pitch: int | None = None
    velocity: int | None = None

    def words(self, dropped: Iterable[str]) -> list[str]:
        """Return the texts of all tokens except for some kinds."""
        return [token.text for token in self.tokens if token.kind not in dropped]

    def numbers(self) -> list[int]:
        """Return the places of numbers; without a first token that counts files: before a word, if there are others."""
        at = [i for i, token in enumerate(self.tokens) if token.kind == "number"]
        return at[1:] if at[:1] == [0] and len(at) > 1 and any(token.kind == "word" for token in self.tokens) else at


def find_notes(files: list[NamedFile], middle_c: int) -> None:
    """Set the pitch of files whose names hold a note: one that counts alone, or one in which the files of an instrument differ."""
    groups: dict[tuple, list[tuple[NamedFile, int]]] = defaultdict(list)
    for file in files:
        at = next((i for i in reversed(range(len(file.tokens))) if file.tokens[i].kind in ("pair", "note")), None)
        if at is not None and file.kind in (None, "phrase"):
            key = " ".join(file.words((*BESIDE_NOTES, "number"))).lower()
            groups[file.place, key, file.tokens[at].kind].append((file, at))
    for (*_, kind), members in groups.items():
        if kind == "pair":
            for file, at in members:
                file.pitch, file.velocity = file.tokens[at].value
        else:
            _read_notes(members, middle_c)


def _read_notes(members: list[tuple[NamedFile, int]], middle_c: int) -> None:
    """Set the pitches of files of one instrument from (file, place of its note), in English or German notation."""
    notes = [file.tokens[at].value for file, at in members]
    letters = {note.letter for note in notes}
    if letters == {"h"} or (notes[0].syllable and len(letters) == 1):  # H1, H2 count hits, re1, re2 others
        return
    german = any(note.german for note in notes)
    pitches = [note.pitch(middle_c, german) for note in notes]
    several = len(set(pitches)) > 1
    low = KEYS[0] if all(file.family == "Piano" for file, _ in members) else 0
    if several and min(pitches) < low <= min(pitches) + 12 and max(pitches) <= 127 - 12:  # below the lowest key: MIDI pitch 60 is C3
        pitches = [pitch + 12 for pitch in pitches]
    pitches = _midi_numbers(members, pitches) or pitches
    first = Counter(file.tokens[0].text for file, _ in members)  # numbers before the note count files if no two files share one
    for (file, at), note, pitch in zip(members, notes, pitches, strict=True):
        if pitch in range(128) and (several or (note.strong and file.family != "Percussion")):
            file.pitch = pitch
            for i, token in enumerate(file.tokens):
                if token.kind == "number" and (i > at or (i == 0 and first[token.text] == 1)):
                    file.tokens[i] = Token("take" if i > at else "index", token.text, token.value)
    _velocity_numbers([file for file, _ in members if file.pitch is not None])


def _midi_numbers(members: list[tuple[NamedFile, int]], pitches: list[int]) -> list[int] | None:
    """Return the numbers beside notes if they are the same notes, whole octaves apart, and make them notes too."""
    for k in range(max(len(file.numbers()) for file, _ in members)):
        if any(len(file.numbers()) <= k for file, _ in members):
            break
        at = [file.numbers()[k] for file, _ in members]
        numbers = [file.tokens[i].value for (file, _), i in zip(members, at, strict=True)]
        apart = {number - pitch for number, pitch in zip(numbers, pitches, strict=True)}
        if len(apart) == 1 and (apart == {0} or (min(apart) % 12 == 0 and len(set(pitches)) > 1)):
            for (file, _), i in zip(members, at, strict=True):
                file.tokens[i] = Token("note", file.tokens[i].text)
            return numbers
    return None


def _velocity_numbers(files: list[NamedFile]) -> None:
    """Make the number behind each note a layer if notes share these numbers and they reach the range of MIDI velocities."""
    at = [next((i for i, t in enumerate(file.tokens) if i and t.kind == "take" and t.text.isdecimal()), None) for file in files]
    if files and None not in at:
        values = [file.tokens[i].value for file, i in zip(files, at, strict=True)]
        if 1 < len(set(values)) < len(values) and LOUD <= max(values) <= 127:
            for file, i in zip(files, at, strict=True):
                file.tokens[i] = Token("layer", file.tokens[i].text, file.tokens[i].value)


def find_numbers(files: list[NamedFile]) -> None:
    """Set pitches from numbers: on the piano, different among files that are alike, in a folder whose numbers do not count files."""
    files = [file for file in files if file.pitch is None and file.numbers()]
    counted = {
        file.place for file in files if len(at := file.numbers()) == 1 and (n := file.tokens[at[0]].value) in COUNTS and n not in KEYS
    }
    groups: dict[tuple, list[tuple[NamedFile, int, int | None]]] = defaultdict(list)
    for file in files:
        if file.kind is not None or file.family == "Percussion":
            continue
        *others, last = file.numbers()
        pair = bool(others) and others[-1] == last - 1 == len(file.tokens) - 2 and file.tokens[last].value <= 127  # pitch and velocity
        at = last - pair
        skipped = {at, *([at + 1] if pair else []), *(i for i, t in enumerate(file.tokens) if t.kind in BESIDE_FOLDERS)}
        rest = [t.text.lower() for i, t in enumerate(file.tokens) if i not in skipped and (i or t.kind != "number")]
        groups[file.place, " ".join(rest), pair].append((file, at, last if pair else None))
    for members in groups.values():
        numbers = {file.tokens[at].value for file, at, _ in members}
        tempos = members[0][0].family is None and all(n % BEAT == 0 and n >= LOUD for n in numbers)
        if len(numbers) > 1 and all(n in KEYS for n in numbers) and not tempos and members[0][0].place not in counted:
            for file, at, velocity in members:
                file.pitch = file.tokens[at].value
                file.tokens[at] = Token("note", file.tokens[at].text)
                if velocity is not None:
                    file.velocity = file.tokens[velocity].value
                    file.tokens[velocity] = Token("layer", file.tokens[velocity].text)
        elif len(numbers) >= STEPS and min(np.diff(sorted(numbers))) > 1 and not tempos:  # keys that are counted otherwise
            for file, at, _ in members:
                file.tokens[at] = Token("take", file.tokens[at].text, file.tokens[at].value)
