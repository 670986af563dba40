"""Any tree of audio files (wav, flac, ogg, opus, mp3, aiff; any rate, channels, bit depth).

Files whose names hold a pitch (`C#3`, `060`, `-060-100`: pitch and velocity; next to similar names also `c3`, `36`, `28_60`) and are
otherwise alike are the notes of one instrument, named after their folder or the rest of their names; any other file is an instrument
of its own. The setting `instrument` overrides this: `folder` or `file`.
The family comes from the name of the file, else from the nearest folder whose name says one.
"""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...audio.io import RATE, SUFFIXES
from ...common.files import listing_hash
from ...common.packages import require
from ...common.paths import short
from ...common.settings import check_above_zero, choose
from ...common.untrusted import as_text, is_text, leads_outside
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..taxonomy import group_tags, guess_family
from .shared import make_spec, read_or_remark, split_jobs

VERSION = 2
PITCH_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_START, _END = r"(?:^|(?<=[\s_\-.()\[\]]))", r"(?=$|[\s_\-.()\[\]])"
_PITCH_VELOCITY = re.compile(r"-(\d{3})-(\d{3})$")
_NOTE = re.compile(_START + r"([A-G])([#sb♯♭]?)(-?\d)" + _END)
_NUMBER = re.compile(_START + r"(\d{3})" + _END)
_WEAK_NUMBERS = re.compile(_START + r"(\d{2,3})(?:[_-](\d{2,3}))?$")
_WEAK_NOTE = re.compile(r"(?:" + _START + r"|(?<=[a-z])(?=[A-G]))([A-Ga-g])([#sb♯♭]?)(-?\d)" + _END)
_LAYER = re.compile(_START + r"(?:(?:v|vel|rr|layer|take)\d+|pp|mp|mf|ff|[pf])" + _END, re.IGNORECASE)
PIANO = range(21, 109)  # a lone number outside is no pitch, and the numbers of its folder (001, 002, ...) count files
UNREADABLE = "a folder that cannot be read"
JOB_FILES = 64  # files of one job
PITCH_S = 2.0  # seconds of a sound from which its pitch is estimated

Name = tuple[int | None, int | None, str]  # pitch and velocity in a file name, and the rest of the name


@dataclass
class FolderConfig:
    """What to read."""

    path: str = ""  # folder of sounds, searched with its subfolders
    instrument: str = "auto"  # what one instrument is: auto, folder or file
    middle_c: int = 4  # octave of MIDI pitch 60: C4; some makers call it C3 or C5
    estimate: bool = True  # estimate the pitch of sounds whose name has none
    seconds: float = 10.0  # longest sound; the rest is cut
    valid: float = 0.15  # share of the instruments of each family
    test: float = 0.15
    license: str = "unknown"  # of the sounds
    limit_s: float = 300.0  # 64 files that take longer are skipped


def build(path: Path, config: FolderConfig, *, n_jobs: int = -1) -> NoteBank:
    """Read the tree into a NoteBank at `path`, or open it if it is up to date. Raises FileNotFoundError if there is no sound file."""
    check_above_zero(config, "seconds", "limit_s")
    choose("instrument", config.instrument, ("auto", "folder", "file"))
    require("folders of sounds", "joblib", "soxr", *(["librosa"] if config.estimate else []))
    root = Path(config.path)
    if root.is_file():
        raise FileNotFoundError(f"{short(root)} is a file: set path to the folder that holds it")
    if not config.path or not root.is_dir():
        raise FileNotFoundError(f"no folder {config.path and short(root)!r}: set path to a folder of sounds")
    files, remarks = find_sounds(root)
    if not files:
        raise FileNotFoundError(f"no sound file ({' '.join(SUFFIXES)}) in {short(root)} or below")
    instruments = group_files(root, files, config)
    alone = sum(len(notes) == 1 and uid.endswith(notes[0][0]) for uid, notes in instruments.items())
    if config.instrument == "auto" and alone > 1:
        text = f"{alone} of {len(files)} names have no pitch: each file is an instrument (or set the option instrument to folder)"
        remarks.append(Remark(root.name, text, stored=True))
    unknown = any(pitch is None for notes in instruments.values() for _, pitch, _ in notes)
    if config.estimate and unknown and n_jobs != 1 and not (path / "bank.json").exists():
        estimate_pitch(np.zeros(2048, np.float32))  # compile here: workers that compile with numba at once spoil the cache that they share
    jobs = split_jobs(
        (
            (uid, instrument_family(root, uid, notes[0][0]), {"root": str(root), "notes": notes[k : k + JOB_FILES]})
            for uid, notes in instruments.items()
            for k in range(0, len(notes), JOB_FILES)
        ),
        config,
    )
    spec = make_spec(config, source="folder", version=VERSION, inputs=listing_hash(root, files))
    meta = {"source": "folder", "license": config.license, "citation": f"sounds of the folder {root.name}"}
    return build_once(path, spec, jobs, read_instrument, meta=meta, n_jobs=n_jobs, limit_s=config.limit_s, remarks=remarks)


def find_sounds(root: Path, suffixes: Collection[str] = SUFFIXES) -> tuple[list[Path], list[Remark]]:
    """Return the files of a tree with these suffixes, sorted, without hidden ones; and remarks about skipped files and folders.

    Skipped: folders with the suffix of a sound, unreadable folders, links to folders (they could lead back), links to files outside of
    the root, and names that are not UTF-8.
    """
    files, remarks = [], []

    def skip(path: str | Path, reason: str) -> None:
        remarks.append(Remark(as_text(Path(path).relative_to(root).as_posix()), reason))

    for top, folders, names in os.walk(root, onerror=lambda error: skip(error.filename, f"{UNREADABLE} ({error.strerror})")):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for folder in (Path(top, name) for name in folders):
            if folder.suffix.lower() in suffixes:
                skip(folder, "a folder, not a file")
            elif folder.is_symlink():
                skip(folder, "a link to a folder, not followed")
        for file in (Path(top, name) for name in names if Path(name).suffix.lower() in suffixes and not _is_hidden(name)):
            if not is_text(file):
                skip(file, "its name is not UTF-8")
            elif leads_outside(root, file):
                skip(file, "a link out of the folder, not followed")
            else:
                files.append(file)
    return sorted(files), remarks


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def name_pitch(stem: str, middle_c: int = 4, *, numbers: bool = True) -> Name:
    """Return pitch, velocity and rest of a file name: `-060-100`, else a note name, else, with `numbers`, a lone number on the piano."""
    if m := _PITCH_VELOCITY.search(stem):
        pitch, velocity = int(m[1]), int(m[2])
        if pitch <= 127 and velocity <= 127:
            return pitch, velocity, stem[: m.start()]
    for m in reversed(list(_NOTE.finditer(stem))):
        pitch = _note_pitch(m, middle_c)
        if 0 <= pitch <= 127:
            return pitch, None, _rest(stem, m)
    m = _lone_number(stem)
    if numbers and m and int(m[1]) in PIANO:
        return int(m[1]), None, _rest(stem, m)
    return None, None, stem


def weak_pitch(stem: str, middle_c: int = 4) -> Name:
    """Return the same of names that hold a pitch only next to similar names: `c3`, `PianoC3`, `36`, `28_60` (pitch and velocity)."""
    if (m := _WEAK_NUMBERS.search(stem)) and int(m[2] or 1) <= 127:
        return int(m[1]), m[2] and int(m[2]), _rest(stem, m)
    if m := _WEAK_NOTE.search(stem):
        return _note_pitch(m, middle_c), None, _rest(stem, m)
    return None, None, stem


def _lone_number(stem: str) -> re.Match | None:
    return _NUMBER.search(stem) if len(re.findall(r"\d+", stem)) == 1 else None


def _note_pitch(m: re.Match, middle_c: int) -> int:
    """Return the MIDI pitch of a note name: letter, accidental, octave."""
    return PITCH_CLASSES[m[1].upper()] + {"": 0, "b": -1, "♭": -1}.get(m[2], 1) + 12 * (int(m[3]) - middle_c) + 60


def _rest(stem: str, match: re.Match) -> str:
    """Return the name without its pitch and velocity layer, which is the same for all notes of an instrument."""
    return re.sub(r"[\s_\-.]+", " ", _LAYER.sub("", stem[: match.start()] + stem[match.end() :])).strip(" ()[]")


def _parse_names(files: list[Path], middle_c: int) -> dict[Path, Name]:
    """Return pitch, velocity and rest of every file name, given the other names in its folder."""
    counted = {f.parent for f in files if (m := _lone_number(f.stem)) and int(m[1]) not in PIANO}
    parsed = {file: name_pitch(file.stem, middle_c, numbers=file.parent not in counted) for file in files}
    weak = {file: weak_pitch(file.stem, middle_c) for file in files if parsed[file][0] is None}
    similar: dict[tuple[Path, str], list[Path]] = {}
    for file, (pitch, _, rest) in weak.items():
        if pitch is not None:
            similar.setdefault((file.parent, rest), []).append(file)
    for (parent, _), group in similar.items():
        pitches = {weak[file][0] for file in group}
        if len(pitches) > 1 and parent not in counted and all(pitch in PIANO for pitch in pitches):
            parsed |= {file: weak[file] for file in group}
    return parsed


def group_files(root: Path, files: list[Path], config: FolderConfig) -> dict[str, list[tuple[str, int | None, int | None]]]:
    """Return uid -> (path inside the root, pitch, velocity) of its files. A uid is folder/<root>/<path of the instrument>."""
    parsed = _parse_names(files, config.middle_c)
    rests: dict[Path, set[str]] = {}  # folder -> what the names of its notes contain besides the pitch
    for file, (pitch, _, rest) in parsed.items():
        if pitch is not None:
            rests.setdefault(file.parent, set()).add(rest)
    instruments: dict[str, list] = {}
    for file, (pitch, velocity, rest) in parsed.items():
        inside = file.relative_to(root)
        if config.instrument == "file" or (config.instrument == "auto" and pitch is None):
            name = inside
        elif config.instrument == "folder" or len(rests[file.parent]) == 1:
            name = inside.parent
        else:
            name = inside.parent / (rest or "notes")
        uid = f"folder/{root.name}/{name.as_posix() if name.parts else root.name}"
        instruments.setdefault(uid, []).append((inside.as_posix(), pitch, velocity))
    return instruments


def instrument_family(root: Path, uid: str, first: str) -> str | None:
    """Return the family in the name of an instrument, else of its first file, else of the nearest folder above; None without any."""
    return guess_family(uid.rpartition("/")[2], Path(first).stem, *reversed(Path(first).parent.parts), root.name)


def read_instrument(*, uid: str, family: str | None, split: str, root: str, notes: list, config: FolderConfig) -> Iterator[Sound | Remark]:
    """Yield the sounds of one instrument, and a remark for each unusable file and each estimated pitch."""
    for name, pitch, velocity in notes:
        audio = read_or_remark(Path(root), name, name=name, seconds=config.seconds)
        if isinstance(audio, Remark):
            yield audio
            continue
        if pitch is None and config.estimate:
            pitch = estimate_pitch(audio)
            yield Remark(name, "pitch unknown" if pitch is None else "pitch estimated", stored=True)
        columns = {"pitch": pitch and float(pitch), "velocity": velocity and float(velocity)}
        yield Sound(note_row(uid, family, "folder", split, tags=group_tags(family), **columns), audio)


def estimate_pitch(audio: np.ndarray) -> int | None:
    """Return the MIDI pitch of a sound (n,) at 16 kHz that has one tone, else None (pYIN, Mauch and Dixon 2014, by librosa)."""
    import librosa

    scale = 32768 if audio.dtype == np.int16 else 1
    audio = audio[: round(PITCH_S * RATE)].astype(np.float32) / scale
    if len(audio) < 2048:
        return None
    low, high = 20.0, 4200.0  # Hz
    f0, voiced, _ = librosa.pyin(audio, fmin=low, fmax=high, sr=RATE, frame_length=2048, hop_length=512)
    if voiced.mean() < 0.4:
        return None
    f0 = f0[voiced]
    if not 1.06 * low < np.median(f0) < high / 1.06:  # at a bound, the pitch may lie beyond
        return None
    lower, middle, upper = np.percentile(librosa.hz_to_midi(f0), [25, 50, 75])
    return round(float(middle)) if upper - lower < 1 else None
