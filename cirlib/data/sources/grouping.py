"""Which sound files are notes of one instrument, by their names.

Files are one instrument if their names give the same instrument in the same folder, whatever else they give: note, layer, take, microphone,
articulation, length. Folders that name only such things (`vib`, `Samples`) do not count. A number is a pitch only where
several files of an instrument differ in it; drum hits and loops have no pitch. A file without a pitch is an instrument of its own, except
for layers and takes of one sound. The drumkit.xml of a kit of Hydrogen counts more than names.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from ..family_names import WORDS, guess_family
from ..taxonomy import KINDS
from .hydrogen import kit_pieces, piece_family
from .names import LEVELS, Token, clean, tokenise
from .pitches import BESIDE_FOLDERS, BESIDE_NOTES, NamedFile, find_notes, find_numbers

MACHINES = WORDS["machines"].split()
PIECES = {code: group for group, codes in WORDS["pieces"].items() for code in codes.split()}
TEMPOS = range(50, 221)  # beats per minute
ONE_SHOTS = {"shot", "shots", "oneshot", "oneshots", "hits"}  # folders of single sounds, also inside a folder of loops
MOST_LAYERS = 32  # a layer above is a MIDI velocity
CONTAINERS = {"samples", "sample", "audio", "notes", "sounds", "wav", "wave", "wavs", "flac", "aif", "aiff", "ogg", "mp3"}
BESIDE_HITS = ("layer", "take", "microphone", "format", "length")  # tokens that name no instrument, in names without a pitch
AMBIGUOUS = ("articulation", "microphone", "strength", "number")  # may name an instrument after all: the card lists where they differ


@dataclass
class Instrument:
    """Files of one instrument.

    notes: (path inside the root, pitch, velocity, kind) of each; pitch and velocity are None where unknown, kind is None for a note, else
    one of taxonomy.KINDS. differ: in which AMBIGUOUS tokens the names of its files differ.
    """

    family: str | None
    notes: list[tuple[str, int | None, int | None, str | None]]
    differ: list[str]


def group_files(root: Path, files: list[Path], *, middle_c: int = 4, by: str = "auto") -> dict[str, Instrument]:
    """Return uid -> Instrument of files below `root`. A uid is folder/<root>/<path of the instrument>; no two instruments share one.

    Args:
        middle_c: octave of MIDI pitch 60 in note names.
        by: what one instrument is: auto, folder or file.
    """
    pieces = kit_pieces(files) if by == "auto" else {}
    instruments: dict[str, Instrument] = {}
    for file, (name, velocity) in pieces.items():
        uid = "/".join(("folder", root.name, *file.relative_to(root).parent.parts, name))
        piece = instruments.setdefault(uid, Instrument(piece_family(name), [], []))
        piece.notes.append((file.relative_to(root).as_posix(), None, velocity, "drum hit"))
    files = [file for file in files if file not in pieces]
    found = [NamedFile(file.relative_to(root), list(tokenise(file.stem))) for file in files]
    _mark_dynamics(found)
    soft = _soft_folders({file.path.parent for file in found})
    for file in found:
        _place(file, soft, root.name)
    find_notes(found, middle_c)
    find_numbers(found)
    for file in found:
        if file.kind is file.pitch is None and file.family == "Percussion":
            file.kind = "drum hit"
    groups: dict[tuple, list[NamedFile]] = defaultdict(list)
    for file in found:
        groups[_key(file, by)].append(file)
    pitched, files = Counter(place for kind, place, *_ in groups if kind == "pitched"), Counter(file.place for file in found)
    for (kind, place, *_), members in groups.items():
        alone = pitched[place] == 1 and 2 * len(members) > files[place]
        uid = "/".join(("folder", root.name, *(_name(kind, place, members, alone=alone) or (root.name,))))
        while uid in instruments:
            uid += "'"
        instruments[uid] = _instrument(members, by)
    return instruments


def _mark_dynamics(files: list[NamedFile]) -> None:
    """Make piano, p and f dynamics where a name of the same form in the same folder has another dynamic in its place."""
    masks = {"note": "note", "number": "number", "dynamic": "*"}

    def form(file: NamedFile, at: int | None = None) -> tuple:
        return file.path.parent, *("*" if i == at else masks.get(t.kind, t.text.lower()) for i, t in enumerate(file.tokens))

    forms = {form(file) for file in files if any(token.kind == "dynamic" for token in file.tokens)}
    for file in files:
        for i, token in enumerate(file.tokens):
            if i and token.text.lower() in ("piano", "p", "f") and form(file, i) in forms:
                file.tokens[i] = Token("dynamic", token.text)


def _soft_folders(folders: set[Path]) -> set[Path]:
    """Return the folders `piano` beside folders that are named after other dynamics."""
    folders = folders | {above for folder in folders for above in folder.parents}
    marked = {folder.parent for folder in folders if [token.kind for token in tokenise(folder.name)] in (["dynamic"], ["strength"])}
    return {folder for folder in folders if folder.name.lower() == "piano" and folder.parent in marked}


def _place(file: NamedFile, soft: set[Path], root: str) -> None:
    """Set the folders that name the instrument of a file, its family and kind."""
    parents = [*file.path.parents][-2::-1]  # the outermost first
    folders = ["p" if folder in soft else normalize("NFC", folder.name) for folder in parents]
    file.place = tuple(folder for folder in folders if not _names_nothing(folder))
    file.above = tuple(token for folder in folders if _names_nothing(folder) for token in tokenise(folder))
    end = next((i for i, token in enumerate(file.tokens) if i and token.kind == "length"), None)  # articulations follow it
    text = " ".join(token.text for token in file.tokens[:end] if token.kind in ("word", "articulation", *KINDS))
    file.family = guess_family(text, *map(clean, reversed(folders)), root)
    file.kind = _kind(file.tokens)
    if not guess_family(text) and (piece := _machine_piece(file.path.stem.lower(), [root, *folders])):
        file.family, file.kind = piece, "drum hit"
    if file.kind is None and all(token.kind != "note" for token in file.tokens):
        file.kind = _kind_of_folders(folders, hit=guess_family(text) == "Drum Kit")
    if file.kind in (None, "noise") and file.family == "Drum Kit":
        file.kind = "drum hit"


def _machine_piece(stem: str, folders: list[str]) -> str | None:
    """Return the group of a sound of a drum machine by its short name, in a folder of the same name or of a machine."""
    code = re.match(r"[a-z]*", stem)[0]
    code = code if code in PIECES else code.removesuffix("d")
    near = {word for folder in folders for word in re.findall(r"[a-z0-9]+", folder.lower())}
    return PIECES.get(code) if near & {code, *MACHINES} and re.fullmatch(rf"{code}d?(\d\w*)?", stem) else None


def _names_nothing(folder: str) -> bool:
    """Return whether the name of a folder gives only how notes were played, recorded and stored."""
    return all(token.kind in BESIDE_FOLDERS or token.text.lower() in CONTAINERS for token in tokenise(folder))


def _kind(tokens: list[Token]) -> str | None:
    """Return what a file is if its name says that it is no note: by a word, a key beside a tempo, or a run of notes."""
    kinds = [token.kind for token in tokens]
    if "key" in kinds and any(token.kind == "number" and token.value in TEMPOS for token in tokens):
        return "loop"
    return next((kind for kind in KINDS if kind in kinds), "phrase" if "run" in kinds else None)


def _kind_of_folders(folders: list[str], *, hit: bool) -> str | None:
    """Return `loop` below a folder of loops, or what the nearest folder holds (breaks, phrases); a drum (`hit`) is none of the latter."""
    for depth, folder in enumerate(reversed(folders)):
        words = {token.text.lower(): token.kind for token in tokenise(folder)}
        if words.keys() & ONE_SHOTS:
            return None
        if any(kind == "loop" and ("loop" in word or "bpm" in word) for word, kind in words.items()):
            return "loop"
        if found := {kind for word, kind in words.items() if kind in ("loop", "phrase") and word.endswith("s") and not hit and not depth}:
            return min(found)
    return None


def _key(file: NamedFile, by: str) -> tuple:
    """Return what files of one instrument have in common: (kind, place, ...)."""
    parent = tuple(normalize("NFC", part) for part in file.path.parent.parts)
    if by == "folder":
        return "folder", parent
    if by == "file" or file.kind == "loop":
        return "file", parent, normalize("NFC", file.path.name)
    if file.pitch is not None or (file.kind == "phrase" and any(token.kind in ("note", "run") for token in file.tokens)):
        return "pitched", file.place, " ".join(file.words(BESIDE_NOTES)).lower()
    layered = any(token.kind in ("layer", "take", "dynamic") for token in (*file.tokens, *file.above))
    dropped = (*BESIDE_HITS, *(["articulation"] if layered else []), *(["number"] if file.kind == "noise" else []))
    tokens = [token for token in (*file.tokens, *(t for t in file.above if t.kind == "articulation")) if token.kind not in dropped]
    words = ["*" if token.kind in ("dynamic", "strength") else token.text.lower() for token in tokens]
    return "hits", file.place, " ".join(words)


def _name(kind: str, place: tuple[str, ...], members: list[NamedFile], *, alone: bool) -> tuple[str, ...]:
    """Return the path of an instrument; `alone` if it is the only one with pitches and most of its folder."""
    if kind == "folder" or (kind == "pitched" and alone):
        return place
    words = members[0].words(BESIDE_NOTES if kind == "pitched" else (*BESIDE_HITS, "dynamic", "strength"))
    words = " ".join(dict.fromkeys(word for word in words if kind == "pitched" or all(word in file.words(()) for file in members)))
    if kind == "file" or (len(members) == 1 and (kind == "hits" or not words)):
        return tuple(normalize("NFC", part) for part in members[0].path.parts)
    return *place, words or "notes"


def _instrument(members: list[NamedFile], by: str) -> Instrument:
    _set_velocities(members)
    families = Counter(file.family for file in members if file.family)
    family = families.most_common(1)[0][0] if families else None
    notes = [(file.path.as_posix(), file.pitch, file.velocity, file.kind) for file in members]
    differ = [kind for kind in AMBIGUOUS if by == "auto" and len({_texts(file, kind) for file in members}) > 1]
    return Instrument(family, notes, differ)


def _texts(file: NamedFile, kind: str) -> tuple[str, ...]:
    """Return the texts of the tokens of one kind that a file and its folders have; of numbers, those that count as takes."""
    tokens = (*file.tokens, *file.above)
    return tuple(t.text for t in tokens if (t.kind == "take" and t.text.isdecimal() if kind == "number" else t.kind == kind))


def _set_velocities(members: list[NamedFile]) -> None:
    """Set velocities that are not known yet, from dynamics, else layers, else words of strength where the files have several of them."""
    tokens = [[t for t in (*file.tokens, *file.above) if t.kind != "layer" or t.value in range(1, 128)] for file in members]
    top = max((t.value for file in tokens for t in file if t.kind == "layer"), default=0)
    several = len({t.text.lower() for file in tokens for t in file if t.kind in ("strength", "dynamic")}) > 1
    for file, its in zip(members, tokens, strict=True):
        found = {t.kind: t for t in its if file.velocity is None}
        if "dynamic" in found:
            file.velocity = LEVELS[found["dynamic"].text.lower()]
        elif "layer" in found and top > 1:
            file.velocity = found["layer"].value if top > MOST_LAYERS else max(1, round(127 * found["layer"].value / top))
        elif "strength" in found and several:
            file.velocity = LEVELS[found["strength"].text.lower()]
