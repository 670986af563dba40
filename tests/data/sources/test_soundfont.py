"""SoundFonts: small ones of a tone, and the General MIDI font of pretty_midi, rendered by FluidSynth."""

import ctypes.util
import struct
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import RATE, hz
from source_files import PRESETS, write_font
from tones import amplitude, frequency, rows

from cirlib.data.sources import soundfont
from cirlib.data.sources.folder import estimate_pitch
from cirlib.data.sources.shared import VELOCITIES
from cirlib.data.sources.soundfont import GAIN, SoundFontConfig, build, check_samples, preset_family, read_license, read_presets
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
        **{
            "path": tuple(map(str, paths)),
            "notes": 6,
            "hold_s": 0.3,
            "shortest_s": 0.3,
            "tail_s": 0.2,
            "valid": 0.0,
            "test": 0.0,
            **options,
        }
    )


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    return write_font(tmp_path_factory.mktemp("fonts") / "tones.sf2", copyright=b"CC0-1.0")


@pytest.fixture(scope="module")
def bank(font):
    if MISSING:
        pytest.skip(MISSING)
    with natural_levels():
        return build(font.parent / "bank", config(font), n_jobs=1)


@contextmanager
def natural_levels():
    """Store notes at the level at which FluidSynth renders them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soundfont, "draw_peaks", lambda count, rng: ())
        yield


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
        (126, 0, "SFX Kit 1", True, "Sound Effects"),
        (126, 1, "Rock Kit", True, "Drum Kit"),
        (64, 33, "Thunder", True, None),
        (128, 33, "Grand Piano", True, "Drum Kit"),
        (128, 33, "Grand Piano", False, "Drum Kit"),
    ],
)
def test_group_of_a_preset(bank, program, name, general_midi, group):
    """The program in a General MIDI font, the name in another one; bank 128 holds drum kits."""
    assert preset_family(bank, program, name=name, general_midi=general_midi) == group


GM_NAMES = {0: "Grand Piano", 16: "Organ", 24: "Guitar", 32: "Bass", 48: "Strings", 56: "Trumpet", 65: "Sax", 73: "Flute", 90: "Pad"}


def gm_font(*others, programs=range(128), names=GM_NAMES):
    """Return the presets of a General MIDI font, some of whose names have a family, and others."""
    return [(0, program, names.get(program, f"P{program}")) for program in programs] + list(others)


@pytest.mark.parametrize(
    ("presets", "expected"),
    [
        (gm_font((120, 0, "Standard"), (120, 48, "Orchestra Kit")), {(120, 0): "Drum Kit", (120, 48): "Drum Kit"}),
        (gm_font((127, 8, "Room Kit"), (127, 25, "TR-808")), {(127, 8): "Drum Kit", (127, 25): "Drum Kit"}),
        (gm_font((128, 56, "Marching Bass")), {(128, 56): "Drum Kit"}),
        (gm_font((8, 48, "Orchestra Pad"), (1, 33, "Piano?"), (20, 73, "")), {(8, 48): "Strings", (1, 33): "Bass", (20, 73): "Pipe"}),
        (gm_font((0, 33, "Bass"), programs=range(30)), {(0, 0): "Piano", (0, 1): None, (0, 33): "Bass"}),  # too few programs
        (gm_font((120, 0, "Standard"), (127, 0, "Snare"), programs=range(30)), {(120, 0): None, (127, 0): "Drum Kit"}),
        (gm_font(names={i: "Violin" for i in range(20)}), {(0, 0): "Strings", (0, 33): None}),  # names contradict the programs
        (gm_font(*((127, i, "Violin") for i in range(20))), {(0, 33): "Bass", (127, 0): "Strings"}),  # a melodic bank of its own order
    ],
)
def test_families_of_a_font(tmp_path, presets, expected):
    """Programs of General MIDI also in other banks; drum kits in 120, 127 and 128; names where they contradict the programs."""
    font = write_font(tmp_path / "a.sf2", [(*preset, 0, 127) for preset in presets])
    found = {(place["bank"], place["program"]): family for _, family, place in soundfont.list_instruments("a", font, read_presets(font))}
    assert {number: found[number] for number in expected} == expected


def test_general_midi_font():
    """Of pretty_midi: a preset for every melodic program, and drum kits."""
    presets = read_presets(soundfont.check(SoundFontConfig())[0][0])
    assert {program for bank, program, _ in presets if bank == 0} == set(range(128))
    assert any(bank == 128 for bank, *_ in presets)


@needs_fluidsynth
def test_cut_fonts_are_refused(tmp_path):
    """At 20 places, also if the size of the file is mended, and with a cut sample, which is named."""
    whole = write_font(font := tmp_path / "a.sf3", vorbis=True).read_bytes()
    end = whole.index(b"tone", whole.index(b"shdr")) + 24
    cuts = [whole[: len(whole) * k // 21] for k in range(1, 21)]
    for cut in (*cuts, whole[:-1], *(cut[:4] + struct.pack("<I", len(cut) - 8) + cut[8:] for cut in cuts[:15])):
        font.write_bytes(cut)
        with pytest.raises(ValueError, match=r"^truncated: [a-z ]+$"):
            read_presets(font)
    for size in (100, 3000, 4000):
        font.write_bytes(whole[:end] + struct.pack("<I", size) + whole[end + 4 :])
        with pytest.raises(ValueError, match=r"^tone: truncated: [a-z ]+$"):
            check_samples(font)
    with pytest.raises(ValueError, match=r"no SoundFont is readable: a\.sf3: tone: truncated: "):
        build(tmp_path / "bank", config(font))


def _no_riff(data):
    return b"RIFX" + data[4:]


def _other_riff(data):
    return data.replace(b"sfbk", b"WAVE")


def _empty(data):
    return b""


def _text(data):
    return b"no font at all"


@pytest.mark.parametrize("spoil", [_no_riff, _other_riff, _empty, _text])
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


@needs_fluidsynth
def test_hold_and_level_are_drawn_for_each_note(tmp_path, font):
    bank = build(tmp_path / "bank", config(font, notes=12, shortest_s=0.1), n_jobs=1)
    holds, seconds = bank.notes.hold_s, bank.lengths / RATE
    assert holds.between(0.1, 0.3).all() and holds.nunique() == len(bank) and np.ptp(holds) > 0.15
    assert seconds == pytest.approx(holds.to_numpy(), abs=0.03)
    peaks = 20 * np.log10([np.abs(bank.audio(i)).max() for i in range(len(bank))])
    assert peaks.min() >= -14.01 and peaks.max() <= -0.99 and np.ptp(peaks) > 10


@needs_fluidsynth
@pytest.mark.parametrize(
    ("name", "low", "high"), [("Piano", 0, 10), ("Bass", 100, 127), ("Flute", 20, 20), ("Piano", 60, 62), ("Strange", 90, 96)]
)
def test_notes_are_on_the_keys_of_the_preset(tmp_path, name, low, high):
    """Also where these lie outside of the range of its family."""
    bank = build(tmp_path / "bank", config(write_font(tmp_path / "a.sf2", [(0, 0, name, low, high)])), n_jobs=1)
    assert len(bank) == 6
    assert bank.notes.pitch.between(low, high).all()
    assert bank.infos[0]["skipped"] == {}


@needs_fluidsynth
def test_unplayable_presets_cost_only_themselves(tmp_path):
    """One without a key, and one that no controller makes audible."""
    font = write_font(tmp_path / "a.sf2", [(0, 0, "Piano", 10, 0), (0, 1, "Organ", 0, 127)])
    bank = build(tmp_path / "bank", config(font), n_jobs=1)
    assert set(bank.notes.instrument) == {"soundfont/a/000-001 Organ"}
    assert bank.infos[0]["skipped"] == {"soundfont/a/000-000 Piano": "it has no key with a sound"}
    with pytest.raises(ValueError, match=r"no usable note \(silent\)"):
        build(tmp_path / "silent", config(write_font(tmp_path / "b.sf2", [(0, 0, "Piano", 0, 127)], level=0.0)), n_jobs=1)


@needs_fluidsynth
@pytest.mark.parametrize("controller", [1, 2, 4, 11, 16])
def test_presets_that_are_silent_at_rest(tmp_path, controller):
    """Level 0 until a controller moves: modulation, breath, foot, expression, general purpose."""
    font = write_font(tmp_path / "a.sf2", [(0, 0, "Piano", 0, 127)], controller=controller)
    with natural_levels():
        bank = build(tmp_path / "bank", config(font, notes=1), n_jobs=1)
    level = LEVEL * GAIN / 2 * (100 / 127) ** 2
    assert np.abs(bank.audio(0)).max() == pytest.approx(level, rel=0.1)  # the controller ends 0.75 dB under it


@needs_fluidsynth
@pytest.mark.parametrize("names", [("Tuba", "Flute", "Oboe"), ("Flute", "Oboe", "Tuba"), ("Piano", "Piano", "Piano")])
def test_presets_of_one_number(tmp_path, names):
    """Each is an instrument with its own sound, in the order of the file; others are not affected."""
    presets = [(0, 5, name, 0, 127, off) for name, off in zip(names, (12, -12, 7), strict=True)] + [(0, 6, "Harp", 0, 127)]
    bank = build(tmp_path / "bank", config(write_font(tmp_path / "a.sf2", presets), notes=1), n_jobs=1)
    labels = [names[0], names[1] + "'" * (names[1] == names[0]), names[2] + "''" * (names[2] == names[0])]
    assert list(bank.notes.instrument) == [f"soundfont/a/000-005 {label}" for label in labels] + ["soundfont/a/000-006 Harp"]
    for i, off in enumerate((12, -12, 7, 0)):
        assert frequency(bank.audio(i)) == pytest.approx(hz(bank.pitches[i] + off), rel=0.005)
    assert bank.infos[0]["skipped"] == {}


@needs_fluidsynth
@natural_levels()
def test_compressed_samples(tmp_path):
    """As in .sf3 files: the same pitch and level as without compression."""
    plain, small = (write_font(tmp_path / name, vorbis=name.endswith("3")) for name in ("a.sf2", "b.sf3"))
    one, other = (build(tmp_path / font.stem, config(font, notes=1), n_jobs=1) for font in (plain, small))
    for i in range(len(PRESETS)):
        assert frequency(other.audio(i)) == pytest.approx(frequency(one.audio(i)), rel=0.002)
        assert np.abs(other.audio(i)).max() == pytest.approx(np.abs(one.audio(i)).max(), rel=0.1)


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
    named = build(tmp_path / "named", config(font, notes=1, license="CC BY 4.0 (somebody)"), n_jobs=1)
    assert named.infos[0]["license"] == "CC BY 4.0 (somebody)"


@needs_fluidsynth
def test_fonts_of_the_same_name(tmp_path):
    """Neither is lost."""
    fonts = [write_font(tmp_path / place / "a.sf2", [(0, 0, "Piano", 0, 127)], level=level) for place, level in (("x", 0.5), ("y", 0.25))]
    with natural_levels():
        bank = build(tmp_path / "bank", config(*fonts, notes=1), n_jobs=1)
    assert [round(float(amplitude(bank.audio(i), hz(60))), 2) for i in range(len(bank))] == [0.08, 0.04]
    write_font(fonts[0], [(0, 0, "Piano", 0, 127)], level=0.125)
    with natural_levels():
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
@natural_levels()
def test_another_font_or_seed_is_played_anew(tmp_path):
    font = write_font(tmp_path / "a.sf2", [(0, 0, "Piano", 0, 127)])
    first = build(tmp_path / "bank", config(font, notes=1), n_jobs=1).audio(0)
    write_font(font, [(0, 0, "Piano", 0, 127)], level=LEVEL / 2)
    again = build(tmp_path / "bank", config(font, notes=1), n_jobs=1).audio(0)
    assert np.abs(again).max() == pytest.approx(np.abs(first).max() / 2, rel=0.01)
    notes = [rows(build(tmp_path / "bank", config(font, seed=seed), n_jobs=1), "pitch", "velocity") for seed in (0, 1)]
    assert notes[0] != notes[1]
