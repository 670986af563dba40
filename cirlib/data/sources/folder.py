"""Any tree of audio files (wav, flac, ogg, opus, mp3, aiff; any rate, channels, bit depth).

Names give instruments, pitches and velocities (grouping.py); the setting `instrument` overrides what an instrument is: `folder` or
`file`. The family comes from the name of the file, else from the nearest folder whose name gives one. What is no single note has one of
taxonomy.KINDS as a tag: loop, phrase, drum hit, noise.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from ...audio.io import OTHERS, RATE, SUFFIXES, as_float
from ...common.files import listing_hash
from ...common.packages import require
from ...common.paths import short
from ...common.settings import check_above_zero, choose
from ...common.untrusted import as_text, is_text, leads_outside
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..taxonomy import group_tags
from .grouping import Instrument, group_files
from .shared import make_spec, read_or_remark, split_jobs

VERSION = 3
UNREADABLE = "a folder that cannot be read"
JOB_FILES = 64  # files of one job
PITCH_S = 2.0  # seconds of a sound from which its pitch is estimated


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
    links: bool = False  # follow links out of the folder, and links to folders


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
    files, remarks = find_sounds(root, links=config.links)
    instruments = group_files(root, files, middle_c=config.middle_c, by=config.instrument)
    if config.instrument == "auto":
        remarks += name_remarks(root, instruments)
    unknown = any(pitch is kind is None for instrument in instruments.values() for _, pitch, _, kind in instrument.notes)
    if config.estimate and unknown and n_jobs != 1 and not (path / "bank.json").exists():
        estimate_pitch(np.zeros(2048, np.float32))  # compile here: workers that compile with numba at once spoil the cache that they share
    jobs = split_jobs(
        (
            (uid, instrument.family, {"root": str(root), "notes": instrument.notes[k : k + JOB_FILES]})
            for uid, instrument in instruments.items()
            for k in range(0, len(instrument.notes), JOB_FILES)
        ),
        config,
    )
    spec = make_spec(config, source="folder", version=VERSION, inputs=listing_hash(root, files))
    meta = {"source": "folder", "license": config.license, "citation": f"sounds of the folder {root.name}"}
    return build_once(path, spec, jobs, read_instrument, meta=meta, n_jobs=n_jobs, limit_s=config.limit_s, remarks=remarks)


def name_remarks(root: Path, instruments: dict[str, Instrument]) -> list[Remark]:
    """Return remarks about what names leave open: instruments whose files differ in more than their notes, and files without a pitch."""
    merged = {uid: " and ".join(found.differ) for uid, found in instruments.items() if found.differ}
    text = "one instrument, although names differ in "
    remarks = [Remark(uid.removeprefix(f"folder/{root.name}/"), text + kinds, stored=True) for uid, kinds in merged.items()]
    alone = [found.notes[0] for found in instruments.values() if len(found.notes) == 1]
    unpitched, files = sum(pitch is kind is None for _, pitch, _, kind in alone), sum(len(found.notes) for found in instruments.values())
    if unpitched > 1:
        text = f"{unpitched} of {files} names have no pitch: each file is an instrument (or set the option instrument to folder)"
        remarks.append(Remark(root.name, text, stored=True))
    return remarks


def find_sounds(root: Path, *, links: bool = False) -> tuple[list[Path], list[Remark]]:
    """Return the sound files of a tree, as find_files does. Raises FileNotFoundError, which gives a reason, if there is none."""
    files, remarks = find_files(root, SUFFIXES, others=OTHERS, links=links)
    if not files:
        skipped = f"; {len(remarks)} skipped ({remarks[0].name}: {remarks[0].text})" if remarks else ""
        raise FileNotFoundError(f"no sound file ({' '.join(SUFFIXES)}) in {short(root)} or below{skipped}")
    return files, remarks


def find_files(
    root: Path, suffixes: Collection[str], *, others: Mapping[str, str] | None = None, links: bool = False
) -> tuple[list[Path], list[Remark]]:
    """Return the files of a tree with these suffixes, sorted, without hidden ones; and remarks about skipped files and folders.

    Skipped: folders with such a suffix, unreadable folders, links to folders and to files outside of the root unless `links`, broken
    links, names that are not UTF-8, names that differ from another one only in their form of Unicode, and files whose suffix is in
    `others`, with the reason there.
    """
    files, remarks, seen = [], [], set()
    not_followed = "not followed" + (" unless the option links is set" if others else "")

    def skip(path: str | Path, reason: str) -> None:
        remarks.append(Remark(as_text(Path(path).relative_to(root).as_posix()), reason))

    def fail(error: OSError) -> None:
        skip(error.filename, f"{UNREADABLE} ({error.strerror})")

    for top, folders, names in os.walk(root, onerror=fail, followlinks=links):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for folder in (Path(top, name) for name in list(folders)):
            if folder.suffix.lower() in suffixes:
                skip(folder, "a folder, not a file")
            elif folder.is_symlink() and not links:
                skip(folder, f"a link to a folder, {not_followed}")
            elif links and ((place := os.path.realpath(folder)) in seen or root.resolve().is_relative_to(place)):
                skip(folder, "a folder that is read already, under another name")
                folders.remove(folder.name)
            seen |= {os.path.realpath(folder)} if links else set()
        for file in (Path(top, name) for name in sorted(names) if not _is_hidden(name)):
            suffix = file.suffix.lower()
            if suffix not in suffixes:
                if others and suffix in others:
                    skip(file, others[suffix])
            elif not is_text(file):
                skip(file, "its name is not UTF-8")
            elif not links and leads_outside(root, file):
                skip(file, f"a link out of the folder, {not_followed}")
            elif not (os.path.isfile(file) and os.access(file, os.R_OK)):  # unlike Path.is_file, without an error for a path too long
                skip(file, "a link to a missing file" if file.is_symlink() else "not readable")
            else:
                files.append(file)
    names = {normalize("NFC", str(file)): file for file in sorted(files, reverse=True)}
    for file in set(files) - set(names.values()):
        skip(file, "the name of another file, in another form of Unicode")
    return sorted(names.values()), remarks


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def read_instrument(*, uid: str, family: str | None, split: str, root: str, notes: list, config: FolderConfig) -> Iterator[Sound | Remark]:
    """Yield the sounds of one instrument, and a remark for each unusable file and each estimated pitch."""
    for name, pitch, velocity, kind in notes:
        audio, remarks = read_or_remark(Path(root), name, name=name, seconds=config.seconds, links=config.links)
        yield from remarks
        if audio is None:
            continue
        if pitch is kind is None and config.estimate:
            pitch = estimate_pitch(audio)
            yield Remark(name, "pitch unknown" if pitch is None else "pitch estimated", stored=True)
        columns = {"pitch": pitch if pitch is None else float(pitch), "velocity": velocity and float(velocity)}
        yield Sound(note_row(uid, family, "folder", split, tags=[*group_tags(family), *([kind] if kind else [])], **columns), audio)


def estimate_pitch(audio: np.ndarray) -> int | None:
    """Return the MIDI pitch of a sound (n,) at 16 kHz that has one tone, else None (pYIN, Mauch and Dixon 2014, by librosa)."""
    import librosa

    audio = as_float(audio[: round(PITCH_S * RATE)])
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
