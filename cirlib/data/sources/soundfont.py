"""SoundFonts (.sf2, .sf3) rendered by FluidSynth: every preset is an instrument.

Needs the package pyfluidsynth and the system library libfluidsynth (Debian, Ubuntu: libfluidsynth3; macOS: brew install
fluid-synth; conda: fluidsynth). In a General MIDI font, the program number gives the family; in others, the name of the preset.
"""

import ctypes
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...common.files import sha256
from ...common.packages import Missing, require
from ...common.settings import check_above_zero
from ...common.untrusted import as_text, is_text, leads_outside
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..note_statistics import OTHER_RANGE, spread_notes
from ..taxonomy import FAMILIES, GM_GROUPS, group_tags, guess_family
from .shared import RATE, VELOCITIES, instrument_rng, make_spec, render_notes, split_jobs

VERSION = 1
GAIN = 0.5  # of FluidSynth
DRUM_BANK = 128
MAX_LIST = 64 << 20  # bytes of a list that is read
GM_PROGRAMS = 100  # melodic programs in bank 0 from which on a font counts as General MIDI
DRUM_KEYS = (36, 41, 57)  # lowest, middle, highest key of a drum kit


@dataclass
class SoundFontConfig:
    """What to render."""

    path: tuple[str, ...] = ()  # files, or folders of files; none: the General MIDI font of the package pretty_midi
    seed: int = 0  # of the notes
    notes: int = 16  # per preset
    hold_s: float = 1.0  # from note on to note off
    tail_s: float = 1.5  # after note off, at most
    valid: float = 0.15  # share of the presets of each family
    test: float = 0.15
    limit_s: float = 300.0  # a preset that takes longer is skipped


def fluidsynth():
    """Return the package pyfluidsynth. Raises Missing, which names what to install."""
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
    """Return the SoundFonts to read. Raises Missing or FileNotFoundError for what is not installed or not there."""
    fluidsynth()
    if config.path:
        return _find_fonts([Path(p) for p in config.path])
    if (package := find_spec("pretty_midi")) is None:
        raise Missing("path is empty, and the package pretty_midi with its General MIDI font is missing: set path, or install it")
    return _find_fonts([Path(package.origin).parent / "TimGM6mb.sf2"])


def _find_fonts(paths: list[Path]) -> list[Path]:
    files = []
    for path in paths:
        found = [f for f in path.rglob("*") if f.suffix.lower() in (".sf2", ".sf3") and f.is_file()] if path.is_dir() else [path]
        files += sorted(f for f in found if f == path or not leads_outside(path, f))
    if missing := [f for f in files if not f.is_file()]:
        raise FileNotFoundError(f"no SoundFont at {missing[0]}")
    if not files:
        raise FileNotFoundError(f"no .sf2 or .sf3 file in {', '.join(map(str, paths))}")
    return files


def build(path: Path, config: SoundFontConfig, *, n_jobs: int = -1) -> NoteBank:
    """Render the presets of SoundFonts into a NoteBank at `path`, or open it if it is up to date."""
    check_above_zero(config, "notes", "hold_s", "tail_s", "limit_s")
    require("SoundFonts", "joblib", "soxr")
    presets, inputs, licenses, remarks = [], {}, [], []
    for file in check(config):
        try:
            if not is_text(file):
                raise ValueError("its name is not UTF-8")
            found, text = read_presets(file), read_license(file)
        except ValueError as error:
            remarks.append(Remark(as_text(file.name), str(error)))
            continue
        licenses.append(f"{file.name}: {text}")
        label = file.stem
        while label in inputs:  # two fonts of one name
            label += "'"
        inputs[label] = sha256(file)
        general_midi = len({program for bank, program, _ in found if bank == 0}) >= GM_PROGRAMS
        for bank, program, name in found:
            family = preset_family(bank, program, name=name, general_midi=general_midi)
            uid = f"soundfont/{label}/{bank:03d}-{program:03d} {name.strip()}"
            presets.append((uid, family, {"file": str(file), "bank": bank, "program": program}))
    if not presets:
        raise ValueError(f"no SoundFont is readable: {'; '.join(f'{r.name}: {r.text}' for r in remarks)}")
    spec = make_spec(config, source="soundfont", version=VERSION, inputs=inputs)
    meta = {"source": "soundfont", "license": "; ".join(licenses), "citation": f"rendered with FluidSynth from {', '.join(inputs)}"}
    jobs = split_jobs({uid: (uid, *others) for uid, *others in presets}.values(), config)
    return build_once(path, spec, jobs, render_preset, meta=meta, n_jobs=n_jobs, title="presets", limit_s=config.limit_s, remarks=remarks)


def _read_lists(file: Path) -> dict[bytes, dict[bytes, bytes]]:
    """Return the chunks of the lists INFO and pdta of a SoundFont; its samples are not read. Raises ValueError if it is none."""
    lists = {}
    with open(file, "rb") as data:
        if data.read(4) != b"RIFF" or len(data.read(4)) < 4 or data.read(4) != b"sfbk":
            raise ValueError("no SoundFont (wrong first bytes)")
        while len(head := data.read(12)) == 12:
            size, kind = struct.unpack("<I", head[4:8])[0] - 4, head[8:]
            if size < 0 or (kind in (b"INFO", b"pdta") and size > MAX_LIST):
                raise ValueError("no SoundFont, or a damaged one (the size of a list is impossible)")
            if kind in (b"INFO", b"pdta"):
                lists[kind] = dict(_chunks(data.read(size)))
            else:
                data.seek(size, 1)
            if size % 2 and data.read(1) == b"L":
                data.seek(-1, 1)  # some writers omit the padding
    if b"phdr" not in lists.get(b"pdta", {}):
        raise ValueError("no SoundFont, or a truncated one (its list of presets is missing)")
    return lists


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield identifiers and bodies of the chunks of a RIFF list."""
    at = 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def read_presets(file: Path) -> list[tuple[int, int, str]]:
    """Return (bank, program, name) of every preset of a SoundFont, by bank and program (SoundFont 2.04, section 7.2)."""
    table = _read_lists(file)[b"pdta"][b"phdr"]
    rows = [struct.unpack("<20sHH14x", table[i : i + 38]) for i in range(0, len(table) - 38, 38)]  # the last row only ends the list
    if not rows:
        raise ValueError("no SoundFont, or an empty one (it has no preset)")
    return sorted((bank, program, name.split(b"\0")[0].decode("latin-1")) for name, program, bank in rows)


def read_license(file: Path) -> str:
    """Return the copyright text of a SoundFont."""
    text = _read_lists(file).get(b"INFO", {}).get(b"ICOP", b"")
    return text.split(b"\0")[0].decode("latin-1").strip() or "license not in the file"


def preset_family(bank: int, program: int, *, name: str, general_midi: bool) -> str | None:
    """Return the family, or other group of General MIDI, of a preset; None if it is unknown."""
    if bank == DRUM_BANK:
        return "Drum Kit"
    return GM_GROUPS[program] if general_midi and program in GM_GROUPS else guess_family(name)


# Rendering, in worker processes


@contextmanager
def _synthesizer(file: str) -> Iterator[tuple]:
    """Yield a synthesizer without reverb and chorus, and the id of its font.

    A new one for each preset: earlier notes change the last bits of later ones, and only the samples of one preset are read.
    """
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
    *, uid: str, file: str, bank: int, program: int, family: str | None, split: str, config: SoundFontConfig
) -> Iterator[Sound | Remark]:
    """Yield the sounds of one preset; notes outside its keys are silent and skipped. Raises ValueError if no note is usable."""
    keys = DRUM_KEYS if family == "Drum Kit" else FAMILIES[family].pitch if family in FAMILIES else OTHER_RANGE
    notes = spread_notes(keys, VELOCITIES, config.notes, instrument_rng(config.seed, uid))
    row = note_row(uid, family, "soundfont", split, hold_s=config.hold_s, tags=group_tags(family))
    with _synthesizer(file) as (synth, font):
        if synth.program_select(0, font, bank, program) != 0:
            raise ValueError("FluidSynth does not select this preset")
        synth.cc(0, 2, 127)  # breath: some presets are silent without it, the others ignore it
        failure = f"no usable note: silent between MIDI {keys[0]} and {keys[2]}"
        yield from render_notes(row, notes, lambda pitch, velocity: _render(synth, pitch, velocity, config), failure=failure)


def _render(synth, pitch: int, velocity: int, config: SoundFontConfig) -> np.ndarray:
    """Return one note (2, n) float32."""
    synth.noteon(0, pitch, velocity)
    held = _samples(synth, round(config.hold_s * RATE))
    synth.noteoff(0, pitch)
    tail = _samples(synth, round(config.tail_s * RATE))
    synth.all_sounds_off(0)
    for _ in range(RATE // 64):  # up to a second, so that this note does not sound in the next one
        if not synth.get_active_voice_count():
            break
        _samples(synth, 64)
    return np.concatenate([held, tail], axis=1)


def _samples(synth, count: int) -> np.ndarray:
    """Return the next samples (2, count) float32. get_samples would clip, round to 16 bits and add a dither."""
    out = np.zeros((2, count), np.float32)
    left, right = (channel.ctypes.data_as(ctypes.c_void_p) for channel in out)
    write = fluidsynth()._fl.fluid_synth_write_float
    write(ctypes.c_void_p(synth.synth), count, left, 0, 1, right, 0, 1)
    return out
