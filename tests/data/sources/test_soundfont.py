"""SoundFonts: small ones of a tone, and the General MIDI font of pretty_midi, rendered by FluidSynth."""

import ctypes.util
import struct
import sys

import numpy as np
import pytest
from conftest import RATE, hz
from source_files import PRESETS, write_font
from tones import amplitude, frequency, rows

from cirlib.data.sources import soundfont
from cirlib.data.sources.folder import estimate_pitch
from cirlib.data.sources.soundfont import DRUM_KEYS, GAIN, VELOCITIES, SoundFontConfig, build, preset_family, read_license, read_presets
from cirlib.data.taxonomy import GM_GROUPS, family

try:
    soundfont.fluidsynth()
    MISSING = None
except ValueError as problem:
    MISSING = str(problem)
needs_fluidsynth = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")

LEVEL = 0.5  # of the sample


def config(*paths, **options):
    """Few short notes; all presets train."""
    return SoundFontConfig(
        **{"path": tuple(map(str, paths)), "notes": 6, "hold_s": 0.3, "tail_s": 0.2, "valid": 0.0, "test": 0.0, **options}
    )


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    return write_font(tmp_path_factory.mktemp("fonts") / "tones.sf2", copyright=b"CC0-1.0")


@pytest.fixture(scope="module")
def bank(font):
    if MISSING:
        pytest.skip(MISSING)
    return build(font.parent / "bank", config(font), n_jobs=1)


# Reading fonts


def test_presets(font):
    """By bank and program; the license is that of the file."""
    assert read_presets(font) == sorted((bank, program, name) for bank, program, name, *_ in PRESETS)
    assert read_license(font) == "CC0-1.0"


def test_font_without_a_license(tmp_path):
    assert read_license(write_font(tmp_path / "a.sf2")) == "license not in the file"


@pytest.mark.parametrize(
    ("bank", "program", "name", "general_midi", "group"),
    [
        (0, 33, "Finger", True, "Bass"),
        (8, 33, "Piano?", True, "Bass"),
        (0, 127, "Gun", True, "Sound Effects"),
        (0, 33, "Grand Piano", False, "Piano"),
        (0, 33, "Finger", False, None),
        (128, 33, "Grand Piano", True, "Drum Kit"),
        (128, 33, "Grand Piano", False, "Drum Kit"),
    ],
)
def test_group_of_a_preset(bank, program, name, general_midi, group):
    """The program in a General MIDI font, the name in another one; bank 128 holds drum kits."""
    assert preset_family(bank, program, name=name, general_midi=general_midi) == group


def test_general_midi_font():
    """Of pretty_midi: a preset for every melodic program, and drum kits."""
    presets = read_presets(soundfont.check(SoundFontConfig())[0])
    assert {program for bank, program, _ in presets if bank == 0} == set(range(128))
    assert any(bank == 128 for bank, *_ in presets)


def _no_riff(data):
    return b"RIFX" + data[4:]


def _other_riff(data):
    return data.replace(b"sfbk", b"WAVE")


def _truncated(data):
    return data[: len(data) // 2]


def _empty(data):
    return b""


def _text(data):
    return b"no font at all"


@pytest.mark.parametrize("spoil", [_no_riff, _other_riff, _truncated, _empty, _text])
def test_file_that_is_no_font(font, tmp_path, spoil):
    (tmp_path / "bad.sf2").write_bytes(spoil(font.read_bytes()))
    with pytest.raises(ValueError, match="no SoundFont"):
        read_presets(tmp_path / "bad.sf2")


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_list_of_odd_length(font, tmp_path, padding):
    """With its padding, or without, as some programs write it."""
    data, odd = font.read_bytes(), b"LIST" + struct.pack("<I", 15) + b"INFO" + b"ICMT" + struct.pack("<I", 3) + b"odd"
    (tmp_path / "odd.sf2").write_bytes(data[:12] + odd + padding + data[12:])
    assert read_presets(tmp_path / "odd.sf2") == read_presets(font)


# Rendered notes


def test_instruments(bank):
    """Every preset that has notes in its family's range, named by bank, program and name."""
    uids = {"000-000 Grand Piano": "Piano", "000-033 Bass": "Bass", "001-007 Strange": None, "128-000 Kit": "Drum Kit"}
    assert dict(rows(bank, "instrument", "family")) == {f"soundfont/tones/{name}": group for name, group in uids.items()}
    tags = {uid: list(tags) for uid, tags in rows(bank, "instrument", "tags")}
    assert list(tags.values()) == [["piano"], ["bass"], [], []]
    assert set(rows(bank, "source", "split", "augments")) == {("soundfont", "train", None)}
    assert (bank.notes.hold_s == np.float32(0.3)).all()
    assert bank.notes.fx.map(len).eq(0).all()
    assert bank.infos[0]["license"] == "tones.sf2: CC0-1.0"


def test_notes(bank):
    """Different ones in the range of the family and on the keys of the preset."""
    ranges = {"Grand Piano": (45, 76), "Bass": (30, 40), "Strange": (60, 72), "Kit": (36, 50)}
    for name, (low, high) in ranges.items():
        notes = bank.notes[bank.notes.instrument.str.endswith(name)]
        assert notes.pitch.between(low, high).all()
        assert not notes.duplicated(["pitch", "velocity"]).any()
    first = bank.notes[bank.notes.instrument.str.endswith("Piano")].iloc[0]
    assert (first.pitch, first.velocity) == (family("Piano").pitch[1], VELOCITIES[0])


def test_pitch_level_and_length_of_every_note(bank):
    """Level: FluidSynth's gain, half of it for a sound in the middle, and the square of the velocity."""
    assert len(bank) > 12
    for i, (pitch, velocity) in enumerate(rows(bank, "pitch", "velocity")):
        audio = bank.audio(i)
        assert frequency(audio) == pytest.approx(hz(pitch), rel=0.005)
        assert np.abs(audio[800:4000]).max() == pytest.approx(LEVEL * GAIN / 2 * (velocity / 127) ** 2, rel=0.01)
        assert len(audio) / RATE == pytest.approx(0.3, abs=0.03)


def test_notes_off_the_keys_are_skipped(bank):
    """The other notes of a preset are stored. Drum kits have their own range."""
    off = {f"soundfont/tones/{b:03d}-{program:03d} {name}": (low, high) for b, program, name, low, high in PRESETS}
    for note, reason in bank.infos[0]["skipped"].items():
        uid, _, values = note.partition(" note ")
        pitch, (low, high) = int(values.partition("-")[0]), off[uid]
        assert reason == "silent"
        assert not low <= pitch <= high
        assert "Kit" not in uid or DRUM_KEYS[0] <= pitch <= DRUM_KEYS[2]
    assert {note.partition(" note ")[0] for note in bank.infos[0]["skipped"]} == off.keys() - {"soundfont/tones/000-000 Grand Piano"}


@needs_fluidsynth
def test_silent_preset_costs_only_itself(tmp_path):
    font = write_font(tmp_path / "a.sf2", [(0, 0, "Piano", 0, 10), (0, 1, "Organ", 0, 127)])
    bank = build(tmp_path / "bank", config(font), n_jobs=1)
    assert set(bank.notes.instrument) == {"soundfont/a/000-001 Organ"}
    assert bank.infos[0]["skipped"] == {"soundfont/a/000-000 Piano": "no usable note: silent between MIDI 45 and 76"}


@needs_fluidsynth
def test_presets_that_speak_only_to_breath(tmp_path):
    font = write_font(tmp_path / "a.sf2", [(0, 0, "Piano", 0, 127)], breath=True)
    bank = build(tmp_path / "bank", config(font, notes=1), n_jobs=1)
    level = LEVEL * GAIN / 2 * (100 / 127) ** 2
    assert amplitude(bank.audio(0)[:4000], hz(60)) == pytest.approx(level, rel=0.1)  # the controller ends 0.75 dB under it


@needs_fluidsynth
def test_font_that_is_none_costs_only_itself(tmp_path, font):
    """Of several fonts, or those of a folder; the first instruments are those of the first font."""
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "b.SF2").write_bytes(font.read_bytes())
    (tmp_path / "fonts" / "bad.sf2").write_text("no font")
    bank = build(tmp_path / "bank", config(tmp_path / "fonts", font, notes=1), n_jobs=1)
    assert list(dict.fromkeys(uid.split("/")[1] for uid in bank.notes.instrument)) == ["b", "tones"]
    assert bank.infos[0]["skipped"]["bad.sf2"] == "no SoundFont (wrong first bytes)"
    assert bank.infos[0]["license"] == "b.SF2: CC0-1.0; tones.sf2: CC0-1.0"


@needs_fluidsynth
def test_fonts_of_the_same_name(tmp_path):
    """Neither is lost."""
    fonts = [write_font(tmp_path / place / "a.sf2", [(0, 0, "Piano", 0, 127)], level=level) for place, level in (("x", 0.5), ("y", 0.25))]
    bank = build(tmp_path / "bank", config(*fonts, notes=1), n_jobs=1)
    assert [round(float(amplitude(bank.audio(i), hz(60))), 2) for i in range(len(bank))] == [0.08, 0.04]
    write_font(fonts[0], [(0, 0, "Piano", 0, 127)], level=0.125)
    again = build(tmp_path / "bank", config(*fonts, notes=1), n_jobs=1)
    assert [round(float(amplitude(again.audio(i), hz(60))), 2) for i in range(len(again))] == [0.02, 0.04]


@needs_fluidsynth
def test_no_font(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.sf2").write_text("no font")
    with pytest.raises(FileNotFoundError, match=r"no SoundFont at .*nowhere\.sf2"):
        build(tmp_path / "bank", config(tmp_path / "nowhere.sf2"))
    with pytest.raises(FileNotFoundError, match=r"no \.sf2 or \.sf3 file in .*empty"):
        build(tmp_path / "bank", config(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"no SoundFont is readable: bad\.sf2: no SoundFont"):
        build(tmp_path / "bank", config(tmp_path / "bad.sf2"))


# The General MIDI font


@needs_fluidsynth
def test_presets_of_the_general_midi_font(tmp_path, monkeypatch):
    """A handful of them, in the families of their programs; every note sounds at its pitch."""
    programs, build_once = (0, 33, 40, 56, 73), soundfont.build_once

    def few(path, spec, jobs, *others, **options):
        jobs = {key: job for key, job in jobs.items() if job["program"] in programs and job["bank"] == 0}
        return build_once(path, spec, jobs, *others, **options)

    monkeypatch.setattr(soundfont, "build_once", few)
    bank = build(tmp_path / "bank", config(notes=3, hold_s=0.5), n_jobs=1)
    assert list(bank.instruments.family) == [GM_GROUPS[program] for program in programs]
    assert [estimate_pitch(bank.audio(i)) for i in range(len(bank))] == list(bank.pitches)
    assert bank.infos[0]["license"].startswith("TimGM6mb.sf2: ")


# Without FluidSynth


def test_without_the_system_library(monkeypatch, tmp_path, font):
    """One sentence that names it and how to get it."""
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.delitem(sys.modules, "fluidsynth", raising=False)
    with pytest.raises(
        ValueError, match=r"^SoundFonts need the system library libfluidsynth: apt-get install libfluidsynth3 .*conda-forge"
    ):
        build(tmp_path / "bank", config(font))


# Building


@needs_fluidsynth
def test_another_font_or_seed_is_played_anew(tmp_path):
    font = write_font(tmp_path / "a.sf2", [(0, 0, "Piano", 0, 127)])
    first = build(tmp_path / "bank", config(font, notes=1), n_jobs=1).audio(0)
    write_font(font, [(0, 0, "Piano", 0, 127)], level=LEVEL / 2)
    again = build(tmp_path / "bank", config(font, notes=1), n_jobs=1).audio(0)
    assert np.abs(again).max() == pytest.approx(np.abs(first).max() / 2, rel=0.01)
    notes = [rows(build(tmp_path / "bank", config(font, seed=seed), n_jobs=1), "pitch", "velocity") for seed in (0, 1)]
    assert notes[0] != notes[1]
