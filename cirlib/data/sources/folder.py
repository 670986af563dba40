"""Any tree of audio files (wav, flac, ogg, opus, mp3, aiff; any rate, channels, bit depth).

Files whose names tell a pitch (`C#3`, `060`, `-060-100`: pitch and velocity; beside others like them also `c3`, `36`, `28_60`) and are
else alike are the notes of one instrument, named by their folder or by what they share; any other file is an instrument of its own.
`instrument` decides it for all: `folder` or `file`.
The family comes from the name of the file or the nearest folder that tells one, else there is none.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...audio.io import RATE, SUFFIXES, Unusable, read_audio
from ...common.files import listing_hash
from ...common.packages import require
from ...common.paths import short
from ...common.settings import check_above_zero, choose, to_dict
from ...common.untrusted import as_text, is_text, leads_outside
from ..bank import NoteBank
from ..builder import build_once, names
from ..jobs import Remark, Sound, note_row
from ..taxonomy import group_tags, guess_family
from .splits import assign_splits

VERSION = 2
NOTES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_EDGE, _END = r"(?:^|(?<=[\s_\-.()\[\]]))", r"(?=$|[\s_\-.()\[\]])"
_PAIR = re.compile(r"-(\d{3})-(\d{3})$")
_NAME = re.compile(_EDGE + r"([A-G])([#sb♯♭]?)(-?\d)" + _END)
_NUMBER = re.compile(_EDGE + r"(\d{3})" + _END)
_NUMBERS = re.compile(_EDGE + r"(\d{2,3})(?:[_-](\d{2,3}))?$")
_WEAK_NAME = re.compile(r"(?:" + _EDGE + r"|(?<=[a-z])(?=[A-G]))([A-Ga-g])([#sb♯♭]?)(-?\d)" + _END)
_LAYER = re.compile(_EDGE + r"(?:(?:v|vel|rr|layer|take)\d+|pp|mp|mf|ff|[pf])" + _END, re.IGNORECASE)
PIANO = (21, 108)  # a lone number is a pitch only on the piano, and a folder with one beside it (001, 002, ...) counts its files
UNREADABLE = "a folder that cannot be read"
CHUNK = 64  # files of one job
PITCH_S = 2.0  # of a sound that its pitch is estimated from


@dataclass
class FolderConfig:
    """What to read."""

    path: str = ""  # folder of sounds, searched below too
    instrument: str = "auto"  # what one instrument is: auto, folder or file
    middle_c: int = 4  # octave that names MIDI pitch 60: C4; some makers call it C3 or C5
    estimate: bool = True  # estimate the pitch of sounds whose name tells none
    seconds: float = 10.0  # longest sound; the rest is cut
    valid: float = 0.15  # share of the instruments of each family
    test: float = 0.15
    license: str = "not told"  # of the sounds
    limit_s: float = 300.0  # 64 files that take longer are left out


def build(path: Path, config: FolderConfig, n_jobs: int = -1) -> NoteBank:
    """Read the tree into a NoteBank at `path`; nothing is done if that very bank is there already."""
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
    alone = sum(len(plan) == 1 and uid.endswith(plan[0][0]) for uid, plan in instruments.items())
    if config.instrument == "auto" and alone > 1:
        text = f"{alone} of {len(files)} files tell no pitch: each is an instrument of its own (or set the option instrument to folder)"
        remarks.append(Remark(root.name, text, kept=True))
    groups = {uid: instrument_family(root, uid, plan[0][0]) for uid, plan in instruments.items()}
    splits = assign_splits(groups, config.valid, config.test)
    chunks = [(uid, plan[k : k + CHUNK]) for uid, plan in instruments.items() for k in range(0, len(plan), CHUNK)]
    jobs = {
        f"{i:05d}": {"uid": uid, "group": groups[uid], "split": splits[uid], "root": str(root), "plan": plan, "config": config}
        for i, (uid, plan) in enumerate(chunks)
    }
    values = {k: v for k, v in to_dict(config).items() if k not in ("path", "limit_s")}
    spec = {"source": "folder", "version": VERSION, **values, "path": names(config.path), "inputs": listing_hash(root, files)}
    if (
        config.estimate
        and n_jobs != 1
        and not (path / "bank.json").exists()
        and any(pitch is None for plan in instruments.values() for _, pitch, _ in plan)
    ):
        estimate_pitch(np.zeros(2048, np.float32))  # numba compiles here: processes that compile at once spoil the cache that they share
    meta = {"source": "folder", "license": config.license, "citation": f"sounds of the folder {root.name}"}
    return build_once(path, spec, jobs, read_instrument, meta, n_jobs=n_jobs, limit_s=config.limit_s, remarks=remarks)


def find_sounds(root: Path) -> tuple[list[Path], list[Remark]]:
    """Files with the suffix of a sound, sorted, hidden ones left out. Remarks: folders that look like one, cannot be read, or are links
    (they are not followed: they may lead back), and files that are links out of the root or whose name no table can hold."""
    files, remarks = [], []

    def unreadable(error: OSError) -> None:
        remarks.append(Remark(as_text(Path(error.filename).relative_to(root).as_posix()), f"{UNREADABLE} ({error.strerror})"))

    for top, folders, files_here in os.walk(root, onerror=unreadable):
        folders[:] = [name for name in folders if not _hidden(name)]
        here = Path(top).relative_to(root)
        for name in folders:
            if Path(name).suffix.lower() in SUFFIXES:
                remarks.append(Remark(as_text((here / name).as_posix()), "a folder, not a file"))
            elif Path(top, name).is_symlink():
                remarks.append(Remark(as_text((here / name).as_posix()), "a link to a folder, not followed"))
        for file in (Path(top, name) for name in files_here if Path(name).suffix.lower() in SUFFIXES and not _hidden(name)):
            if not is_text(file):
                remarks.append(Remark(as_text(file.relative_to(root).as_posix()), "its name is not UTF-8"))
            elif leads_outside(root, file):
                remarks.append(Remark(file.relative_to(root).as_posix(), "a link out of the folder, not followed"))
            else:
                files.append(file)
    return sorted(files), remarks


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def name_pitch(stem: str, middle_c: int = 4, numbers: bool = True) -> tuple[int | None, int | None, str]:
    """(pitch, velocity, rest of the name) that a file name tells: `-060-100`, else a note name, else, with `numbers`, a number
    from 021 to 108 that is the only one."""
    if m := _PAIR.search(stem):
        pitch, velocity = int(m[1]), int(m[2])
        if pitch <= 127 and velocity <= 127:
            return pitch, velocity, stem[: m.start()]
    for m in reversed(list(_NAME.finditer(stem))):
        pitch = _midi(m, middle_c)
        if 0 <= pitch <= 127:
            return pitch, None, _rest(stem, m)
    m = _lone_number(stem)
    if numbers and m and PIANO[0] <= int(m[1]) <= PIANO[1]:
        return int(m[1]), None, _rest(stem, m)
    return None, None, stem


def _lone_number(stem: str) -> re.Match | None:
    return _NUMBER.search(stem) if len(re.findall(r"\d+", stem)) == 1 else None


def weak_pitch(stem: str, middle_c: int = 4) -> tuple[int | None, int | None, str]:
    """The same of names that tell a pitch only beside others like them: `c3`, `PianoC3`, `36`, `28_60` (pitch and velocity)."""
    if (m := _NUMBERS.search(stem)) and int(m[2] or 1) <= 127:
        return int(m[1]), m[2] and int(m[2]), _rest(stem, m)
    if m := _WEAK_NAME.search(stem):
        return _midi(m, middle_c), None, _rest(stem, m)
    return None, None, stem


def _midi(m: re.Match, middle_c: int) -> int:
    return NOTES[m[1].upper()] + {"": 0, "b": -1, "♭": -1}.get(m[2], 1) + 12 * (int(m[3]) - middle_c) + 60


def _told(files: list[Path], middle_c: int) -> dict[Path, tuple[int | None, int | None, str]]:
    """What the name of each file tells, in the company of the others of its folder."""
    counted = {f.parent for f in files if (m := _lone_number(f.stem)) and not PIANO[0] <= int(m[1]) <= PIANO[1]}
    told = {file: name_pitch(file.stem, middle_c, file.parent not in counted) for file in files}
    alike: dict[tuple[Path, str], list[Path]] = {}
    weak = {file: weak_pitch(file.stem, middle_c) for file in files if told[file][0] is None}
    for file, (pitch, _, rest) in weak.items():
        if pitch is not None:
            alike.setdefault((file.parent, rest), []).append(file)
    for (parent, _), group in alike.items():
        pitches = {weak[file][0] for file in group}
        if len(pitches) > 1 and parent not in counted and all(PIANO[0] <= p <= PIANO[1] for p in pitches):
            told |= {file: weak[file] for file in group}
    return told


def _rest(stem: str, match: re.Match) -> str:
    """The name without its pitch and without velocity layers, so that the notes of an instrument have the same one."""
    return re.sub(r"[\s_\-.]+", " ", _LAYER.sub("", stem[: match.start()] + stem[match.end() :])).strip(" ()[]")


def group_files(root: Path, files: list[Path], config: FolderConfig) -> dict[str, list[tuple[str, int | None, int | None]]]:
    """uid -> (path inside the root, pitch, velocity) of its files. A uid is folder/<root>/<path of the instrument>."""
    told = _told(files, config.middle_c)
    shared: dict[Path, set[str]] = {}  # folder -> what the names of its notes have besides a pitch
    for file, (pitch, _, rest) in told.items():
        if pitch is not None:
            shared.setdefault(file.parent, set()).add(rest)
    instruments: dict[str, list] = {}
    for file, (pitch, velocity, rest) in told.items():
        inside = file.relative_to(root)
        if config.instrument == "file" or (config.instrument == "auto" and pitch is None):
            name = inside
        elif config.instrument == "folder" or len(shared[file.parent]) == 1:
            name = inside.parent
        else:
            name = inside.parent / (rest or "notes")
        uid = f"folder/{root.name}/{name.as_posix() if name.parts else root.name}"
        instruments.setdefault(uid, []).append((inside.as_posix(), pitch, velocity))
    return instruments


def instrument_family(root: Path, uid: str, first: str) -> str | None:
    """Group that the name of an instrument tells, else that of its first file, else a folder above, else the root; None if none does."""
    return guess_family(uid.rpartition("/")[2], Path(first).stem, *reversed(Path(first).parent.parts), root.name)


def read_instrument(uid: str, group: str | None, split: str, root: str, plan: list, config: FolderConfig) -> Iterator[Sound | Remark]:
    """Sounds of one instrument, and a remark for each file that is none."""
    for name, pitch, velocity in plan:
        try:
            audio = read_audio(Path(root, name), config.seconds)
        except (Unusable, OSError) as error:
            yield Remark(name, str(error) if isinstance(error, Unusable) else f"not readable ({error.strerror})")
            continue
        if pitch is None and config.estimate:
            pitch = estimate_pitch(audio)
            yield Remark(name, "pitch unknown" if pitch is None else "pitch estimated", kept=True)
        row = note_row(
            uid, group, "folder", split, tags=group_tags(group), pitch=pitch and float(pitch), velocity=velocity and float(velocity)
        )
        yield Sound(row, audio)


def estimate_pitch(audio: np.ndarray) -> int | None:
    """MIDI pitch of a sound (n,) at 16 kHz that holds one tone, else None (pYIN, Mauch and Dixon 2014, by librosa)."""
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
    if not 1.06 * low < np.median(f0) < high / 1.06:  # at a bound it may be anything beyond
        return None
    lower, middle, upper = np.percentile(librosa.hz_to_midi(f0), [25, 50, 75])
    return round(float(middle)) if upper - lower < 1 else None
