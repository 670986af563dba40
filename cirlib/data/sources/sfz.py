"""SFZ instruments rendered by sfizz (package pysfizz): every .sfz file of a folder that no other one includes is an instrument.

Its texts and samples must lie in that folder (sfz_text.py). The family comes from the name of the file, else from the nearest folder
whose name says one. Notes are spread over the keys that start a sound, within the range of the family where the two overlap. An
instrument that is silent when loaded is rendered with its first keyswitch, and with the controllers that it names. One that picks
samples at random sounds different each time it is rendered.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...audio.io import SUFFIXES, Unusable, check_whole
from ...common.files import listing_hash
from ...common.packages import require
from ...common.settings import check_above_zero
from ...common.untrusted import as_text
from ..bank import NoteBank
from ..builder import build_once
from ..family_names import guess_family
from ..jobs import Remark, Sound, note_row
from ..taxonomy import group_tags
from .folder import find_files
from .names import Note
from .sfz_text import check_paths, check_sample, expand, without_comments
from .shared import RATE, VELOCITIES, choose_notes, instrument_rng, make_spec, render_notes, split_jobs

VERSION = 3
BLOCK = 256  # samples
LOADING_S = 0.03  # sfizz loads samples in the background and waits only once it has begun: before that, notes would end early
TEXTS = (".sfz", ".h", ".inc", ".txt")  # suffixes of instruments and of the texts that they include
NOT_SENT = {8, 10, *range(64, 70), *range(120, 128)}  # controllers: balance, pan, pedals, channel modes
_SWITCH = re.compile(r"\bsw_(?:last|lolast|down)=(?:(\d+)|([a-g])([#b]?)(-?\d))", re.IGNORECASE)
_CONTROLLER = re.compile(r"cc(\d{1,3})=")

Setup = tuple[dict[int, int], int | None]  # values of controllers and a keyswitch that are sent before the notes


@dataclass
class SfzConfig:
    """What to render."""

    path: str = ""  # folder of .sfz files, searched with its subfolders, or one file
    seed: int = 0  # of the notes
    notes: int = 16  # per instrument
    hold_s: float = 1.0  # from note on to note off
    tail_s: float = 1.5  # after note off, at most
    valid: float = 0.15  # share of the instruments of each family
    test: float = 0.15
    license: str = "unknown"  # of the library
    limit_s: float = 300.0  # an instrument that takes longer is skipped

    @property
    def library(self) -> Path:
        """Folder that all files must lie in."""
        return Path(self.path).parent if Path(self.path).is_file() else Path(self.path)


def build(path: Path, config: SfzConfig, *, n_jobs: int = -1) -> NoteBank:
    """Render the instruments into a NoteBank at `path`, or open it if it is up to date. Raises FileNotFoundError if there is none."""
    check_above_zero(config, "notes", "hold_s", "tail_s", "limit_s")
    require("SFZ instruments", "joblib", "pysfizz", "soxr")
    library = config.library
    found, remarks = find_files(library, (*TEXTS, *SUFFIXES)) if config.path else ([], [])
    instruments = [f for f in found if f.suffix.lower() == ".sfz"] if library == Path(config.path) else [Path(config.path)]
    parts = _included(instruments, library)
    remarks += [Remark(as_text(f.relative_to(library)), f"a part of {parts[f].name}") for f in instruments if f in parts]
    files: dict[str, Path] = {}
    for file in (f for f in instruments if f not in parts):
        uid = f"sfz/{library.name}/{file.relative_to(library).with_suffix('').as_posix()}"
        files[uid if uid not in files else uid + file.suffix] = file
    if not files:
        raise FileNotFoundError(f"no .sfz file in {config.path or 'an empty path'}: set path to a folder of SFZ instruments")
    names = {uid: (*reversed(file.relative_to(library).with_suffix("").parts), library.name) for uid, file in files.items()}
    jobs = split_jobs(((uid, guess_family(*names[uid]), {"file": str(file)}) for uid, file in files.items()), config)
    spec = make_spec(config, source="sfz", version=VERSION, inputs=listing_hash(library, found))
    meta = {"source": "sfz", "license": config.license, "citation": f"SFZ library {library.name}, rendered with sfizz"}
    return build_once(path, spec, jobs, render_instrument, meta=meta, n_jobs=n_jobs, limit_s=config.limit_s, remarks=remarks)


def _included(instruments: list[Path], library: Path) -> dict[Path, Path]:
    """Return the instruments that others include, each with one that does. Unreadable ones include none; they fail later."""
    parts, places = {}, {file.resolve(): file for file in instruments}
    for file in instruments:
        try:
            texts = expand(file, library)[1] if len(instruments) > 1 else ()
        except (ValueError, OSError):
            continue
        parts |= {places[text]: file for text in texts if text in places}
    return parts


def render_instrument(*, uid: str, file: str, family: str | None, split: str, config: SfzConfig) -> Iterator[Sound | Remark]:
    """Yield the sounds of one instrument. Raises ValueError if it does not load, has a damaged or outside sample, or no usable note."""
    text, _, missing = expand(Path(file), config.library)
    yield from (Remark(f"{uid} {name}", "it includes this text, which does not exist") for name in missing)
    check_paths(text, Path(file), config.library)
    check_paths(text := without_comments(text), Path(file), config.library)
    row = note_row(uid, family, "sfz", split, hold_s=config.hold_s, tags=group_tags(family))
    switches = {int(m[1]) if m[1] else Note(m[2].lower(), m[3], int(m[4]), True).pitch(4) for m in _SWITCH.finditer(text)}
    reason = Unusable("it has no playable key")
    with _written(text, Path(file), config.library) as place:
        _check_whole(_load(place, config.library, ({}, None)), place)
        for setup in _setups(text, sorted(switches & set(range(128)))):
            if not (keys := _playable_keys(_load(place, config.library, setup), switches)):
                continue
            notes = choose_notes(keys, family, count=config.notes, rng=instrument_rng(config.seed, uid))
            try:
                yield from render_notes(row, notes, partial(_render, _load(place, config.library, setup), config))
                return
            except Unusable as error:
                reason = error
    raise reason


def _setups(text: str, switches: list[int]) -> list[Setup]:
    """Return what to send to an instrument until it is audible: nothing, its first keyswitch, and its controllers at full or halfway."""
    named = {int(number) for number in _CONTROLLER.findall(text)} & set(range(128)) - NOT_SENT
    values = [{}, dict.fromkeys(named, 127), dict.fromkeys(named, 64)] if named else [{}]
    return [(controllers, switch) for controllers in values for switch in (None, *switches[:1])]


@contextmanager
def _written(text: str, file: Path, library: Path) -> Iterator[Path]:
    """Write an expanded text into a temporary folder for sfizz, and yield its place.

    Samples are read through a link there to the folder of the instrument, as other paths might contain what ends a path for sfizz.
    """
    for root in {library.absolute(), library.resolve()}:  # a path after default_path must be relative
        text = text.replace(f"sample={root}{os.sep}", f"sample={os.path.relpath(root, file.parent.resolve())}{os.sep}")
    text = "<control>\n" + re.sub("default_path=", "default_path=link/", text, flags=re.IGNORECASE)
    text = re.sub("<control>", "<control> default_path=link/\n", text, flags=re.IGNORECASE)  # each of these headers begins without one
    with TemporaryDirectory(prefix="cirlib-") as folder:
        (Path(folder) / "link").symlink_to(file.parent.absolute(), target_is_directory=True)
        (place := Path(folder) / "text.sfz").write_bytes(os.fsencode(text))
        yield place


def _load(place: Path, library: Path, setup: Setup):
    """Return a synthesizer of a written text after a setup. Raises ValueError if sfizz finds no sample, or one outside of the library."""
    import pysfizz

    loader, (controllers, switch) = pysfizz.Synth(sample_rate=RATE, block_size=BLOCK), setup
    if not loader.load_sfz_file(place):
        raise ValueError("sfizz finds no region in it whose sample exists")
    synth = loader._synth
    try:
        samples = _samples(synth)
    except RuntimeError:
        raise ValueError("the name of one of its samples is not UTF-8") from None
    for sample in samples:  # as sfizz understood the text, which may differ from check_paths
        check_sample(sample, place, library)
    for controller, value in controllers.items():
        synth.cc(0, controller, value)
    if switch is not None:
        synth.note_on(0, switch, 100)
        if b"sw_down=" not in place.read_bytes():
            synth.note_off(0, switch, 0)
    return synth


def _samples(synth) -> set[str]:
    return {synth.get_region_data(region)["sample_id"] for region in range(synth.get_num_regions())}


def _check_whole(synth, place: Path) -> None:
    for sample in sorted(sample for sample in _samples(synth) if Path(sample).suffix.lower() in SUFFIXES):
        try:
            check_whole(place.parent / sample.replace("\\", "/"))
        except Unusable as error:
            raise Unusable(f"{sample.removeprefix('link/')}: {error}") from None


def _playable_keys(synth, switches: set[int]) -> list[int]:
    """Return the keys that start a voice at any of VELOCITIES; sfizz's own list has keys of pedal and release noises too."""
    keys = []
    for key in (key for key in range(128) if key not in switches and synth.get_regions_for_note(key)):
        for velocity in VELOCITIES:
            synth.note_on(0, key, velocity)
        if synth.get_num_active_voices():
            keys.append(key)
        synth.all_sound_off()
        synth.render_block()
    return keys


def _render(synth, config: SfzConfig, pitch: int, velocity: int) -> np.ndarray:
    """Return one note (2, n) float32."""
    held, total = round(config.hold_s * RATE), round((config.hold_s + config.tail_s) * RATE)
    synth.note_on(0, pitch, velocity)
    time.sleep(LOADING_S)
    blocks = [np.array(synth.render_block()) for _ in range(held // BLOCK)]
    synth.note_off(held % BLOCK, pitch, 0)
    time.sleep(LOADING_S)
    while len(blocks) * BLOCK < total:
        blocks.append(np.array(synth.render_block()))
    synth.all_sound_off()
    return np.concatenate(blocks, axis=1)[:, :total]
