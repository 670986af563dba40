"""SoundFonts (.sf2, .sf3) rendered by FluidSynth: every preset is an instrument.

Needs the package pyfluidsynth and the system library libfluidsynth (Debian, Ubuntu: libfluidsynth3; macOS: brew install
fluid-synth; conda: fluidsynth). In a General MIDI font, the program number gives the family, also of the variations in other banks,
and drum kits lie in bank 128, 127 (XG) or 120 (General MIDI 2); in other fonts, the name of the preset gives it. Notes are spread over
the keys that have a sound. A preset that is silent with its controllers at rest is rendered with them at full.
"""

import ctypes
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...audio.io import Unusable
from ...common.files import sha256
from ...common.packages import Missing, require
from ...common.settings import check_above_zero
from ...common.untrusted import as_text, is_text
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..taxonomy import group_tags
from .folder import find_files
from .shared import RATE, VELOCITIES, choose_notes, draw_peaks, instrument_rng, make_spec, render_notes, split_jobs
from .soundfont_file import check_samples, general_midi_banks, own_bank, preset_family, read_license, read_presets

VERSION = 3
GAIN = 0.5  # of FluidSynth
# controllers at full until a note is audible: breath; most continuous ones; modulation too, which is vibrato otherwise
CONTROLLERS = ((2,), (2, 3, 4, 9, *range(11, 32)), (1, 2, 3, 4, 9, *range(11, 32)))


@dataclass
class SoundFontConfig:
    """What to render."""

    path: tuple[str, ...] = ()  # files, or folders of files; none: the General MIDI font of the package pretty_midi
    seed: int = 0  # of the notes
    notes: int = 16  # per preset
    hold_s: float = 2.0  # longest time from note on to note off
    shortest_s: float = 0.2  # shortest; the time of each note is drawn, so that it does not reveal the instrument
    tail_s: float = 1.5  # after note off, at most
    valid: float = 0.15  # share of the presets of each family
    test: float = 0.15
    limit_s: float = 300.0  # a preset that takes longer is skipped
    license: str = ""  # of the fonts; empty: what the files say, which may name a trademark only


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


def check(config: SoundFontConfig) -> tuple[list[Path], list[Remark]]:
    """Return the SoundFonts to read, and remarks about skipped ones. Raises Missing or FileNotFoundError for what is missing."""
    fluidsynth()
    if config.path:
        return _find_fonts([Path(p) for p in config.path])
    if (package := find_spec("pretty_midi")) is None:
        raise Missing("path is empty, and the package pretty_midi with its General MIDI font is missing: set path, or install it")
    return _find_fonts([Path(package.origin).parent / "TimGM6mb.sf2"])


def _find_fonts(paths: list[Path]) -> tuple[list[Path], list[Remark]]:
    files, remarks = [], []
    for path in paths:
        found, skipped = find_files(path, (".sf2", ".sf3")) if path.is_dir() else ([path], [])
        files, remarks = files + found, remarks + skipped
    if missing := [f for f in files if not f.is_file()]:
        raise FileNotFoundError(f"no SoundFont at {missing[0]}")
    if not files:
        raise FileNotFoundError(f"no .sf2 or .sf3 file in {', '.join(map(str, paths))}")
    return files, remarks


def build(path: Path, config: SoundFontConfig, *, n_jobs: int = -1) -> NoteBank:
    """Render the presets of SoundFonts into a NoteBank at `path`, or open it if it is up to date."""
    check_above_zero(config, "notes", "hold_s", "shortest_s", "tail_s", "limit_s")
    require("SoundFonts", "joblib", "soxr")
    presets, inputs, licenses = [], {}, []
    fonts, remarks = check(config)
    for file in fonts:
        try:
            if not is_text(file):
                raise ValueError("its name is not UTF-8")
            found, text = read_presets(file), read_license(file)
            check_samples(file)
        except (ValueError, OSError) as error:
            remarks.append(Remark(as_text(file.name), getattr(error, "strerror", None) or str(error)))
            continue
        licenses.append(f"{file.name}: {text}")
        label = file.stem
        while label in inputs:  # two fonts of one name
            label += "'"
        inputs[label] = sha256(file)
        presets += list_instruments(label, file, found)
    if not presets:
        raise ValueError(f"no SoundFont is readable: {'; '.join(f'{r.name}: {r.text}' for r in remarks)}")
    spec = make_spec(config, source="soundfont", version=VERSION, inputs=inputs)
    citation = f"rendered with FluidSynth from {', '.join(inputs)}"
    meta = {"source": "soundfont", "license": config.license or "; ".join(licenses), "citation": citation}
    jobs = split_jobs(presets, config)
    return build_once(path, spec, jobs, render_preset, meta=meta, n_jobs=n_jobs, title="presets", limit_s=config.limit_s, remarks=remarks)


def list_instruments(label: str, file: Path, presets: list[tuple[int, int, str]]) -> Iterator[tuple[str, str | None, dict]]:
    """Yield uid, family and place of every preset. Of those with one bank and program, `shared` counts which one it is."""
    general_midi, counts, seen = general_midi_banks(presets), Counter(preset[:2] for preset in presets), Counter()
    for bank, program, name in presets:
        uid = f"soundfont/{label}/{bank:03d}-{program:03d} {name.strip()}"
        shared = seen[bank, program] if counts[bank, program] > 1 else None
        place = {"file": str(file), "bank": bank, "program": program, "shared": shared}
        yield uid + "'" * seen[uid], preset_family(bank, program, name=name, general_midi=bank in general_midi), place
        seen.update([(bank, program), uid])


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
    *, uid: str, file: str, bank: int, program: int, shared: int | None = None, family: str | None, split: str, config: SoundFontConfig
) -> Iterator[Sound | Remark]:
    """Yield the sounds of one preset on the keys that it has. Raises ValueError if no note is usable."""
    row = note_row(uid, family, "soundfont", split, tags=group_tags(family))
    with nullcontext((file, bank)) if shared is None else own_bank(Path(file), (bank, program), shared) as (file, bank):
        for controllers in CONTROLLERS:
            with _synthesizer(file) as (synth, font):
                if synth.program_select(0, font, bank, program):
                    raise ValueError("FluidSynth does not select this preset")
                for controller in controllers:
                    synth.cc(0, controller, 127)
                if not (keys := _playable_keys(synth)):
                    raise ValueError("it has no key with a sound")
                rng = instrument_rng(config.seed, uid)
                notes = choose_notes(keys, family, count=config.notes, rng=rng)
                holds = rng.uniform(min(config.shortest_s, config.hold_s), config.hold_s, len(notes))
                drawn = {"holds": holds, "peaks": draw_peaks(len(notes), rng)}
                try:
                    yield from render_notes(row, notes, partial(_render, synth, config.tail_s), **drawn)
                    return
                except Unusable as error:
                    reason = error
    raise reason


def _playable_keys(synth) -> list[int]:
    """Return the keys for which the selected preset starts a voice at any of VELOCITIES."""
    keys = []
    for key in range(128):
        for velocity in VELOCITIES:
            synth.noteon(0, key, velocity)
        if synth.get_active_voice_count():
            keys.append(key)
            synth.all_sounds_off(0)
            _samples(synth, 64)
    return keys


def _render(synth, tail_s: float, *note: float) -> np.ndarray:
    """Return one note (pitch, velocity, hold in s) as (2, n) float32."""
    pitch, velocity, hold_s = note
    synth.noteon(0, pitch, velocity)
    held = _samples(synth, round(hold_s * RATE))
    synth.noteoff(0, pitch)
    tail = _samples(synth, round(tail_s * RATE))
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
