"""SoundFonts (.sf2, .sf3) through FluidSynth: every preset is an instrument.

Needs the package pyfluidsynth and the system library libfluidsynth (Debian, Ubuntu: libfluidsynth3; macOS: brew install
fluid-synth; conda: fluidsynth). In a General MIDI font the program gives the family; in another one the name of the preset, if it tells.
"""

import ctypes
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.files import sha256
from ...common.packages import Missing, require
from ...common.settings import check_above_zero, to_dict
from ...common.untrusted import as_text, is_text, leads_outside
from .. import note_statistics as midi
from ..bank import NoteBank
from ..builder import build_once, names
from ..jobs import Remark, Sound, note_row
from ..taxonomy import FAMILIES, GM_GROUPS, family, group_tags, guess_family
from .render import RATE, VELOCITIES, instrument_rng, render_notes
from .splits import assign_splits

VERSION = 1
GAIN = 0.5  # of FluidSynth
DRUM_BANK = 128
MOST_BYTES = 64 << 20  # of the lists that are read
GM_LEAST = 100  # melodic programs of bank 0 that make a font a General MIDI one
DRUM_KEYS = (36, 41, 57)  # lowest, middle, highest key of a drum kit


@dataclass
class SoundFontConfig:
    """What to render."""

    path: tuple[str, ...] = ()  # files, or folders of files; none: the General MIDI font of the package pretty_midi
    seed: int = 0  # of the notes
    notes: int = 16  # per preset
    hold_s: float = 1.0  # note on to note off
    tail_s: float = 1.5  # after note off, at most
    valid: float = 0.15  # share of the presets of each family
    test: float = 0.15
    limit_s: float = 300.0  # a preset that takes longer is left out


def fluidsynth():
    """The package pyfluidsynth; Missing that names what is missing."""
    try:
        with redirect_stdout(io.StringIO()):  # it prints where the environment sets CI
            import fluidsynth as package
    except ModuleNotFoundError:
        raise Missing("SoundFonts need the package pyfluidsynth: pip install pyfluidsynth") from None
    except ImportError:
        raise Missing(
            "SoundFonts need the system library libfluidsynth: apt-get install libfluidsynth3 (Debian, Ubuntu), "
            "brew install fluid-synth (macOS) or conda install -c conda-forge fluidsynth"
        ) from None
    return package


def check(config: SoundFontConfig) -> list[Path]:
    """SoundFonts to read; Missing or FileNotFoundError if there is none, or nothing to play them."""
    fluidsynth()
    return _files([Path(p) for p in config.path] or [_default_font()])


def build(path: Path, config: SoundFontConfig, n_jobs: int = -1) -> NoteBank:
    """Render the presets of SoundFonts into a NoteBank at `path`; nothing is done if that very bank is there already."""
    check_above_zero(config, "notes", "hold_s", "tail_s", "limit_s")
    require("SoundFonts", "joblib", "soxr")
    files = check(config)
    presets, inputs, told, remarks = {}, {}, [], []
    for file in files:
        try:
            if not is_text(file):
                raise ValueError("its name is not UTF-8")
            found, text = read_presets(file), describe(file)
        except ValueError as error:
            remarks.append(Remark(as_text(file.name), str(error)))
            continue
        told.append(f"{file.name}: {text}")
        label = file.stem
        while label in inputs:  # two fonts of one name
            label += "'"
        inputs[label] = sha256(file)
        melodic = {program for bank, program, _ in found if bank == 0}
        for bank, program, name in found:
            group = preset_group(bank, program, name, len(melodic) >= GM_LEAST)
            presets[f"soundfont/{label}/{bank:03d}-{program:03d} {name.strip()}"] = (file, bank, program, group)
    if not presets:
        raise ValueError(f"no SoundFont is readable: {'; '.join(f'{r.name}: {r.text}' for r in remarks)}")
    splits = assign_splits({uid: group for uid, (*_, group) in presets.items()}, config.valid, config.test)
    jobs = {
        f"{i:05d}": {
            "uid": uid,
            "file": str(file),
            "bank": bank,
            "program": program,
            "group": group,
            "split": splits[uid],
            "config": config,
        }
        for i, (uid, (file, bank, program, group)) in enumerate(presets.items())
    }
    values = {k: v for k, v in to_dict(config).items() if k not in ("path", "limit_s")}
    spec = {"source": "soundfont", "version": VERSION, **values, "path": names(config.path), "inputs": inputs}
    meta = {"source": "soundfont", "license": "; ".join(told), "citation": f"rendered with FluidSynth from {', '.join(inputs)}"}
    return build_once(path, spec, jobs, render_preset, meta, n_jobs=n_jobs, title="presets", limit_s=config.limit_s, remarks=remarks)


def _default_font() -> Path:
    from importlib.util import find_spec

    found = find_spec("pretty_midi")
    if found is None:
        raise Missing("no path was given, and the package pretty_midi, which carries a General MIDI font, is missing: set path")
    return Path(found.origin).parent / "TimGM6mb.sf2"


def _files(paths: list[Path]) -> list[Path]:
    """The .sf2 and .sf3 files that paths name, folders searched; FileNotFoundError if there is none."""
    files = []
    for path in paths:
        found = [f for f in path.rglob("*") if f.suffix.lower() in (".sf2", ".sf3") and f.is_file()] if path.is_dir() else [path]
        files += sorted(f for f in found if f == path or not leads_outside(path, f))
    if missing := [f for f in files if not f.is_file()]:
        raise FileNotFoundError(f"no SoundFont at {missing[0]}")
    if not files:
        raise FileNotFoundError(f"no .sf2 or .sf3 file in {', '.join(map(str, paths))}")
    return files


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Identifiers and bodies of the chunks of a RIFF list."""
    at = 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _lists(file: Path) -> dict[bytes, dict[bytes, bytes]]:
    """Chunks of the INFO and pdta lists of a SoundFont; its samples are not read. ValueError if it is none."""
    lists = {}
    with open(file, "rb") as data:
        if data.read(4) != b"RIFF" or len(data.read(4)) < 4 or data.read(4) != b"sfbk":
            raise ValueError("no SoundFont (it does not begin as one)")
        while len(head := data.read(12)) == 12:
            size, kind = struct.unpack("<I", head[4:8])[0] - 4, head[8:]
            if size < 0 or (kind in (b"INFO", b"pdta") and size > MOST_BYTES):
                raise ValueError("no SoundFont, or a damaged one (the size of a list is impossible)")
            if kind in (b"INFO", b"pdta"):
                lists[kind] = dict(_chunks(data.read(size)))
            else:
                data.seek(size, 1)
            if size % 2 and data.read(1) == b"L":
                data.seek(-1, 1)  # some writers leave the padding out
    if b"phdr" not in lists.get(b"pdta", {}):
        raise ValueError("no SoundFont, or a truncated one (its list of presets is missing)")
    return lists


def read_presets(file: Path) -> list[tuple[int, int, str]]:
    """(bank, program, name) of every preset of a SoundFont, by bank and program (SoundFont 2.04, section 7.2)."""
    table = _lists(file)[b"pdta"][b"phdr"]
    rows = [struct.unpack("<20sHH14x", table[i : i + 38]) for i in range(0, len(table) - 38, 38)]  # the last one ends the list
    if not rows:
        raise ValueError("no SoundFont, or an empty one (it has no preset)")
    return sorted((bank, program, name.split(b"\0")[0].decode("latin-1")) for name, program, bank in rows)


def describe(file: Path) -> str:
    """What a SoundFont tells of its license."""
    info = _lists(file).get(b"INFO", {})
    text = info.get(b"ICOP", b"").split(b"\0")[0].decode("latin-1").strip()
    return text or "license not told by the file"


def preset_group(bank: int, program: int, name: str, general_midi: bool) -> str | None:
    """Group of a preset."""
    if bank == DRUM_BANK:
        return "Drum Kit"
    return GM_GROUPS[program] if general_midi and program in GM_GROUPS else guess_family(name)


# Rendering: runs in worker processes


@contextmanager
def _synth(file: str) -> Iterator[tuple]:
    """(synthesizer without reverb and chorus, id of the font that it has loaded). A new one for each preset: what one played before changes
    the last bits of the next note, and only the samples of one preset are read."""
    settings = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.cpu-cores": 1, "synth.dynamic-sample-loading": 1}
    synth = fluidsynth().Synth(gain=GAIN, samplerate=RATE, **settings)
    try:
        font = synth.sfload(file)
        if font < 0:
            raise ValueError(f"FluidSynth does not load {Path(file).name}")
        yield synth, font
    finally:
        synth.delete()


def render_preset(
    uid: str, file: str, bank: int, program: int, group: str | None, split: str, config: SoundFontConfig
) -> Iterator[Sound | Remark]:
    """Sounds of one preset; notes outside its keys are silent and left out. ValueError if no note of it is usable."""
    span = DRUM_KEYS if group == "Drum Kit" else family(group).pitch if group in FAMILIES else midi.OTHER_RANGE
    notes = midi.spread_notes(span, VELOCITIES, config.notes, instrument_rng(config.seed, uid))
    row = note_row(uid, group, "soundfont", split, hold_s=config.hold_s, tags=group_tags(group))
    with _synth(file) as (synth, font):
        if synth.program_select(0, font, bank, program) != 0:
            raise ValueError("FluidSynth does not select this preset")
        synth.cc(0, 2, 127)  # breath: some presets are silent without it, the others do not hear it
        nothing = f"no usable note: silent between MIDI {span[0]} and {span[2]}"
        yield from render_notes(row, notes, lambda pitch, velocity: _play(synth, pitch, velocity, config), nothing)


def _play(synth, pitch: int, velocity: int, config: SoundFontConfig) -> np.ndarray:
    """One note (2, n) float32."""
    synth.noteon(0, pitch, velocity)
    held = _samples(synth, round(config.hold_s * RATE))
    synth.noteoff(0, pitch)
    tail = _samples(synth, round(config.tail_s * RATE))
    synth.all_sounds_off(0)
    for _ in range(RATE // 64):  # a second at most: nothing of this note may sound in the next one
        if not synth.get_active_voice_count():
            break
        _samples(synth, 64)
    return np.concatenate([held, tail], axis=1)


def _samples(synth, count: int) -> np.ndarray:
    """The next samples (2, count) float32: get_samples would clip, round to 16 bits and add a dither that goes on from note to note."""
    out = np.zeros((2, count), np.float32)
    left, right = (channel.ctypes.data_as(ctypes.c_void_p) for channel in out)
    write = fluidsynth()._fl.fluid_synth_write_float
    write(ctypes.c_void_p(synth.synth), count, left, 0, 1, right, 0, 1)
    return out
