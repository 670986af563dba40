"""Surge presets, rendered with a stand-in for surgepy whose presets say how they behave (stand_in/surgepy.py)."""

import json
import os
import re

import numpy as np
import pytest
from conftest import RATE, hz
from source_files import write_preset
from tones import amplitude, contents, frequency, rows

from cirlib.common.paths import ROOT
from cirlib.data.jobs import Remark, Sound
from cirlib.data.sources import surge_synth
from cirlib.data.sources.surge import SurgeConfig, build, find_presets, render_preset
from cirlib.data.taxonomy import SURGE_FX

pytestmark = pytest.mark.usefixtures("surgepy")
SHARE = 0.75  # of the left channel's level, in the mean of both
TAIL_HZ = 3000


def config(*roots, **options):
    """Two short notes of each preset; all of them train."""
    plain = {"notes": 2, "longest_s": 0.2, "tail_s": 0.1, "stem_s": 2.0, "valid": 0.0, "test": 0.0}
    return SurgeConfig(**{"path": tuple(map(str, roots)), **plain, **options})


def render(file, notes=((60, 127, 0.2),), scores=(), split="valid", **options):
    """(sounds, remarks) of one preset."""
    job = {"uid": "uid", "file": str(file), "family": "Bass", "tag": "bass", "split": split, "notes": notes, "scores": scores}
    made = list(render_preset(**job, config=config(**options)))
    return [x for x in made if isinstance(x, Sound)], [x for x in made if isinstance(x, Remark)]


# Finding presets


TREE = {  # file: (uid, family, tag)
    "patches_factory/Basses/Fat.fxp": ("surge/factory/Basses/Fat", "Bass", "bass"),
    "patches_factory/FX/Rain.fxp": ("surge/factory/FX/Rain", "Synth Effects", "effects"),
    "patches_factory/Keys/Old/E-Piano 1.fxp": ("surge/factory/Keys/Old/E-Piano 1", "Piano", "piano"),
    "patches_factory/Templates/Init 1.fxp": ("surge/factory/Templates/Init 1", None, None),
    "patches_factory/Templates/Init 2.FXP": ("surge/factory/Templates/Init 2", None, None),
    "patches_3rdparty/Ann/Leads/Saw.fxp": ("surge/Ann/Leads/Saw", "Synth Lead", "lead"),
    "patches_3rdparty/Ann/Woodwind/Reedy.fxp": ("surge/Ann/Woodwind/Reedy", "Reed", "wind"),
    "patches_3rdparty/Bob/Pads/Leads/Both.fxp": ("surge/Bob/Leads/Both", "Synth Lead", "lead"),
    "patches_3rdparty/Bob/Polysynths/Poly.fxp": ("surge/Bob/Polysynths/Poly", None, None),
    "patches_3rdparty/Drums/MPE/Kick.fxp": ("surge/Drums/MPE/Kick", None, None),  # an author with the name of a category
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of Surge."""
    root = tmp_path_factory.mktemp("surge") / "data"
    for i, name in enumerate(TREE):
        write_preset(root / name, level=0.1 + 0.05 * i, fx={0: "Reverb 1"} if i < 2 else {})
    (root / "patches_factory" / "Basses" / "readme.txt").write_text("no preset")
    return root


@pytest.fixture
def roots(data):
    return [data / "patches_factory", data / "patches_3rdparty"]


@pytest.mark.parametrize("below", ["", "resources", "resources/data", "resources/data/patches_3rdparty"])
def test_presets_of_folders(tmp_path, below):
    """The nearest folder with the name of a category gives the family, the author is the bank, whichever folder path names."""
    for name in TREE:
        write_preset(tmp_path / "resources" / "data" / name)
    found, remarks = find_presets([tmp_path / below])
    expected = [values for name, values in TREE.items() if f"resources/data/{name}".startswith(below)]
    assert sorted((uid, *preset[1:3]) for uid, preset in found.items()) == sorted(expected)
    unknown = {place for uid, *_ in expected for place in ("factory/Templates", "Drums/MPE") if place in uid}
    assert {r.name: r.text for r in remarks if r.stored} == {
        place: f"no folder above is a known category, so there is no family (presets: {1 + (place == 'factory/Templates')})"
        for place in unknown
    }


def test_presets_come_with_surgepy(monkeypatch, data, roots, tmp_path):
    """Factory and third-party content is found by itself, and is the same as if it were named."""
    monkeypatch.setenv("SURGE_DATA_HOME", str(data))
    bank = build(tmp_path / "bank", config(notes=1), n_jobs=1)
    assert set(bank.gallery().index) == {uid for uid, *_ in TREE.values()}
    named = contents(build(tmp_path / "named", config(*roots, notes=1), n_jobs=1).paths[0])
    assert {name: named[name] for name in ("notes.parquet", "audio.i16")}.items() <= contents(bank.paths[0]).items()


def test_surgepy_without_presets(monkeypatch, tmp_path):
    monkeypatch.setenv("SURGE_DATA_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"surgepy has no presets in .*: set the environment variable SURGE_DATA_HOME .*, or set path$"):
        build(tmp_path / "bank", config())


def test_folders_without_presets(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: set path to folders of \.fxp presets"):
        build(tmp_path / "bank", config(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"no \.fxp preset in .*: set path to the folder of Surge's presets"):
        build(tmp_path / "bank", config(tmp_path))


def test_presets_of_one_name(tmp_path):
    """None is lost."""
    files = [write_preset(tmp_path / place / "Ann" / "Basses" / "Fat.fxp") for place in ("x", "y")]
    assert {uid: file for uid, (file, *_) in find_presets([tmp_path / "x", tmp_path / "y"])[0].items()} == {
        "surge/Ann/Basses/Fat": files[0],
        "surge/Ann/Basses/Fat'": files[1],
    }


def test_files_that_are_no_preset_cost_only_themselves(tmp_path):
    """Each is listed with its reason; the others are what they are without it."""
    root, outside = tmp_path / "presets", write_preset(tmp_path / "outside.fxp")
    write_preset(root / "Basses" / "A.fxp")
    (root / "Basses" / "folder.fxp").mkdir()
    for name, target in (("broken", "nowhere"), ("loop", "loop.fxp"), ("outside", outside)):
        (root / "Basses" / f"{name}.fxp").symlink_to(target)
    os.mkfifo(root / "Basses" / "pipe.fxp")  # reading it would wait for ever
    (root / "Basses" / "._A.fxp").write_text("of a Macintosh")
    bank = build(tmp_path / "bank", config(root), n_jobs=1)
    assert list(bank.gallery().index) == ["surge/presets/Basses/A"]
    assert bank.infos[0]["skipped"] == {
        "Basses/folder.fxp": "a folder, not a file",
        "Basses/broken.fxp": "a link to a missing file",
        "Basses/loop.fxp": "a link to a missing file",
        "Basses/outside.fxp": "a link out of the folder, not followed",
        "Basses/pipe.fxp": "not readable",
    }


# Effects


SLOTS = ("A1", "A2", "B1", "B2", "S1", "S2", "G1", "G2", "A3", "A4", "B3", "B4", "S3", "S4", "G3", "G4")
FULL = {slot: SURGE_FX[slot + 1][0] for slot in range(16)}  # a different effect in every slot
FOUR = {"send_level": [[0] * 4] * 2}  # levels of all four sends
BOTH = {"scenemode": 1, "send_level": [[0.5] * 4] * 2}  # everything sounds


def full(*slots):
    """Names of the effects of FULL in these slots."""
    return [FULL[i] for i, slot in enumerate(SLOTS) if slot.startswith(slots)]


@pytest.mark.parametrize(
    ("behaviour", "names"),
    [
        ({}, []),
        ({"fx": {0: "Delay"}}, ["Delay"]),
        ({"fx": {15: "Reverb 2", 6: "EQ", 1: "Phaser"}}, ["Phaser", "EQ", "Reverb 2"]),  # in the order of the slots
        ({"fx": {0: "Delay", 8: "Delay", 9: "Chorus"}}, ["Delay", "Chorus"]),  # each once
        ({"fx": {0: 99}}, ["Type 99"]),  # newer than the list
        ({"fx": FULL, **BOTH}, full("A", "B", "S", "G")),
        # scenes: one is active, or both
        ({"fx": FULL, **FOUR}, full("A", "G")),
        ({"fx": FULL, **FOUR, "scene_active": 1}, full("B", "G")),
        *[({"fx": FULL, **FOUR, "scenemode": mode, "scene_active": 1}, full("A", "B", "G")) for mode in (1, 2, 3)],
        # sends: of an active scene, each has its own level
        *[
            ({"fx": FULL, "send_level": [[float(k == send) for k in range(4)], [0] * 4]}, full("A", f"S{send + 1}", "G"))
            for send in range(4)
        ],
        ({"fx": FULL, "send_level": [[0] * 4, [1] * 4]}, full("A", "G")),
        ({"fx": FULL, "send_level": [[0] * 4, [1] * 4], "scene_active": 1}, full("B", "S", "G")),
        ({"fx": FULL, "send_level": [[0] * 4, [1] * 4], "scenemode": 1}, full("A", "B", "S", "G")),
        ({"fx": FULL}, full("A", "S3", "S4", "G")),  # upstream has no levels of the others: they count as sounding
        # bypass: all on, no sends, no sends and no globals, none
        ({"fx": FULL, **BOTH, "fx_bypass": 0}, full("A", "B", "S", "G")),
        ({"fx": FULL, **BOTH, "fx_bypass": 1}, full("A", "B", "G")),
        ({"fx": FULL, **BOTH, "fx_bypass": 2}, full("A", "B")),
        ({"fx": FULL, **BOTH, "fx_bypass": 3}, []),
        # masks: a bit for each slot
        *[({"fx": FULL, **BOTH, "fx_disable": 1 << i}, [name for k, name in FULL.items() if k != i]) for i in range(16)],
        ({"fx": FULL, **BOTH, "fx_disable": 0xFFFF}, []),
    ],
)
def test_audible_effects(tmp_path, behaviour, names):
    """Not off, not masked, not bypassed, in an active scene, sent to."""
    with surge_synth.quiet():
        synth = surge_synth.synthesizer()
        surge_synth.load(synth, str(write_preset(tmp_path / "a.fxp", **behaviour)))
        assert surge_synth.audible_fx(synth) == names


# Sound


@pytest.mark.parametrize("behaviour", [{}, {"level": 0.1}, {"level": 2.0}], ids=str)
def test_notes(tmp_path, behaviour):
    """Pitch, level, length and row of every note."""
    notes = [(60, 127, 0.2), (72, 60, 0.15), (40, 1, 0.3)]
    sounds, remarks = render(write_preset(tmp_path / "a.fxp", **behaviour), notes)
    assert remarks == []
    for (pitch, velocity, seconds), sound in zip(notes, sounds, strict=True):
        assert [sound.row[name] for name in ("pitch", "velocity", "hold_s")] == [pitch, velocity, seconds]
        assert frequency(sound.audio) == pytest.approx(hz(pitch), rel=0.005)
        middle = sound.audio[: round((seconds - 0.05) * RATE)]  # the end is faded
        assert amplitude(middle, hz(pitch)) == pytest.approx(SHARE * behaviour.get("level", 0.5) * velocity / 127, rel=0.02)
        assert len(sound.audio) / RATE == pytest.approx(seconds, abs=0.003)


@pytest.mark.parametrize(("name", "share"), [("SurgeSynthesizer", 0.5), ("Fork", 1.0)])
def test_tempo_is_set_where_the_bindings_can(tmp_path, monkeypatch, surgepy, name, share):
    """In a fork; with upstream's bindings a preset keeps its own."""
    monkeypatch.setattr(surgepy, "createSurge", getattr(surgepy, name))
    (sound,), _ = render(write_preset(tmp_path / "a.fxp", tempo=60))
    assert amplitude(sound.audio[:2400], hz(60)) == pytest.approx(0.5 * share * SHARE, rel=0.02)


def test_channels_that_cancel_are_noted(tmp_path):
    (sound,), (remark,) = render(write_preset(tmp_path / "a.fxp", right=-1))
    assert amplitude(sound.audio[:2400], hz(60)) == pytest.approx(0.5, rel=0.02)
    assert remark == Remark("uid note 60-127", "its channels cancel each other: only channel 1 is read", stored=True)


def test_surge_does_not_touch_the_home_folder(tmp_path, monkeypatch):
    """It would make folders there; the environment is restored."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    before = dict(os.environ)
    render(write_preset(tmp_path / "a.fxp"))
    assert not (tmp_path / "home").exists() and dict(os.environ) == before


def test_build_lines_make_the_bindings_alone():
    """Without JUCE, which needs X11's headers, and for the Python of the project."""
    text = (ROOT / "params" / "README.md").read_text()
    lines = re.search(r"### surgepy.*?```sh\n(.*?)```", text, re.S)[1]
    assert {"-DSURGE_BUILD_PYTHON_BINDINGS=ON", "-DSURGE_SKIP_JUCE_FOR_RACK=ON"} <= set(lines.split())
    assert '-DPYTHON_EXECUTABLE="$PWD/.venv/bin/python"' in lines


def test_row(tmp_path):
    """Family and tags of the category, effects with their tags."""
    file = write_preset(tmp_path / "a.fxp", fx={0: "Reverb 1", 1: "EQ", 6: "Chorus"})
    (sound,), _ = render(file)
    row = sound.row
    assert [row[k] for k in ("instrument", "family", "source", "split", "augments")] == ["uid", "Bass", "surge", "valid", None]
    assert (row["fx"], row["tags"]) == (["Reverb 1", "EQ", "Chorus"], ["synthetic", "bass", "reverb", "chorus"])


def test_tails_of_effects(tmp_path):
    """They last up to tail_s, and do not sound in the next note."""
    file = write_preset(tmp_path / "wet.fxp", fx={0: "Reverb 1"}, tail=0.2)
    notes = [(60, 127, 0.2), (62, 100, 0.15)]
    both, _ = render(file, notes)
    assert [len(s.audio) / RATE for s in both] == pytest.approx([0.3, 0.25], abs=0.003)
    assert amplitude(both[0].audio[3300:4200], TAIL_HZ) == pytest.approx(0.2 * SHARE, rel=0.02)
    (alone,), _ = render(file, notes[1:])
    np.testing.assert_array_equal(both[1].audio, alone.audio)


def test_preset_does_not_sound_in_the_next_one(tmp_path):
    """Nor does its aftertouch or its tempo stay, with upstream's bindings either."""
    plain = write_preset(tmp_path / "plain.fxp")
    (first,), _ = render(plain)
    render(write_preset(tmp_path / "wet.fxp", fx={0: "Reverb 1"}, tail=0.2, tempo=60))
    render(write_preset(tmp_path / "touched.fxp", sounds="aftertouch"))
    (again,), _ = render(plain)
    np.testing.assert_array_equal(again.audio, first.audio)


def test_presets_that_speak_only_to_aftertouch(tmp_path):
    """Here at half the level."""
    (sound,), _ = render(write_preset(tmp_path / "a.fxp", sounds="aftertouch"))
    assert amplitude(sound.audio[:2400], hz(60)) == pytest.approx(0.25 * SHARE, rel=0.02)


def test_twins_are_without_effects(tmp_path):
    """Sample by sample what the preset would be had it none; the same notes in the same order."""
    notes = [(60, 127, 0.2), (72, 60, 0.15)]
    wet = write_preset(tmp_path / "wet.fxp", fx={0: "Reverb 1", 6: "Chorus"}, tail=0.1)
    sounds, _ = render(wet, notes, split="train")
    dry, _ = render(write_preset(tmp_path / "dry.fxp"), notes)
    assert [s.row["instrument"] for s in sounds] == ["uid"] * 2 + ["uid_no_fx"] * 2
    for original, twin, plain in zip(sounds[:2], sounds[2:], dry, strict=True):
        np.testing.assert_array_equal(twin.audio, plain.audio)
        assert amplitude(original.audio[:2400], 3 * hz(original.row["pitch"])) > 0.05 * amplitude(
            original.audio[:2400], hz(original.row["pitch"])
        )
        row = {**original.row, "instrument": "uid_no_fx", "augments": "uid", "fx": [], "tags": ["synthetic", "bass"]}
        assert twin.row == row


@pytest.mark.parametrize(
    ("split", "fx", "options", "count"),
    [
        ("train", {0: "Delay"}, {}, 1),
        ("valid", {0: "Delay"}, {}, 0),
        ("test", {0: "Delay"}, {}, 0),
        ("train", {}, {}, 0),
        ("train", {2: "Delay"}, {}, 0),  # in the inactive scene
        ("train", {0: "Delay"}, {"twins": False}, 0),
    ],
)
def test_which_presets_have_twins(tmp_path, split, fx, options, count):
    """Those of the train split with effects that sound, unless none are wanted."""
    sounds, _ = render(write_preset(tmp_path / "a.fxp", fx=fx), split=split, **options)
    assert sum(s.row["augments"] is not None for s in sounds) == count


def test_twin_that_is_silent(tmp_path):
    """The preset is stored without it."""
    sounds, remarks = render(write_preset(tmp_path / "a.fxp", fx={0: "Delay"}, level=0, tail=0.2), split="train")
    assert [s.row["instrument"] for s in sounds] == ["uid"]
    assert [(r.name, r.text) for r in remarks] == [("uid_no_fx", "no usable note without effects")]


@pytest.mark.parametrize(
    ("behaviour", "error", "reason"),
    [
        ({"sounds": False}, ValueError, "no usable note: silent"),
        ({"level": 1e-5}, ValueError, "no usable note: silent"),
        ({"level": float("nan")}, ValueError, "no usable note: not finite"),
        ({"loads": False}, ValueError, "surgepy does not load this preset"),
        ({"on_load": "raise"}, RuntimeError, "out of patience"),
        ({"on_note": "raise"}, RuntimeError, "out of patience"),
    ],
    ids=str,
)
def test_presets_that_cannot_be_rendered(tmp_path, behaviour, error, reason):
    with pytest.raises(error, match=reason):
        render(write_preset(tmp_path / "a.fxp", **behaviour))


def test_notes_that_are_too_short_are_skipped(tmp_path):
    sounds, remarks = render(write_preset(tmp_path / "a.fxp"), [(60, 127, 0.2), (61, 100, 0.0)], tail_s=0.01)
    assert [s.row["pitch"] for s in sounds] == [60]
    assert [(r.name, r.text) for r in remarks] == [("uid note 61-100", "shorter than 0.02 s")]


# Notes and scores


def test_note_statistics(tmp_path):
    """Each category has the distributions of its group, effects those of the piano; there are no more notes than these allow."""
    tables = {
        "pitch": {"Bass": {"values": [40, 41], "probabilities": [0.5, 0.5]}, "Piano": {"values": [70], "probabilities": [1]}},
        "velocity": {"Bass": {"values": [90], "probabilities": [1]}, "Piano": {"values": [50, 60], "probabilities": [0, 1]}},
        "log_duration_s": {
            "Bass": {"bin_edges": [-1, -0.9, -0.8], "probabilities": [0, 1]},
            "Piano": {"bin_edges": [0.5, 0.6], "probabilities": [1]},
        },
    }
    (tmp_path / "statistics.json").write_text(json.dumps(tables))
    for name in ("Basses/A", "FX/B"):
        write_preset(tmp_path / "presets" / f"{name}.fxp")
    options = config(tmp_path / "presets", notes=8, statistics=str(tmp_path / "statistics.json"))
    bank = build(tmp_path / "bank", options, n_jobs=1)
    notes = rows(bank, "instrument", "pitch", "velocity")
    bass, effects = "surge/presets/Basses/A", "surge/presets/FX/B"
    assert sorted(notes) == [(bass, 40, 90), (bass, 41, 90), (effects, 70, 60)]
    hold = bank.notes.set_index("instrument").hold_s
    assert hold[bass].between(10**-0.9 - 0.001, 10**-0.8 + 0.001).all()
    assert hold[effects] == np.float32(0.2)  # cut at longest_s


def test_notes_are_in_the_range_of_their_family(tmp_path):
    """By default; a preset has its own notes, the same ones every time, and others with another seed."""
    for name in "AB":
        write_preset(tmp_path / "presets" / "Basses" / f"{name}.fxp")
    drawn = []
    for place, seed in (("one", 0), ("two", 0), ("three", 1)):
        bank = build(tmp_path / place, config(tmp_path / "presets", notes=6, seed=seed), n_jobs=1)
        assert bank.notes.pitch.between(28, 48).all()
        assert not bank.notes.duplicated(["instrument", "pitch", "velocity"]).any()
        drawn.append(rows(bank, "pitch", "velocity", "hold_s"))
    assert len(drawn[0]) == 12
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][:6] != drawn[0][6:]


def write_score(path, parts):
    """A MIDI file: {program: (start s, pitch, velocity) of notes of 0.25 s}."""
    pretty_midi = pytest.importorskip("pretty_midi")
    score = pretty_midi.PrettyMIDI(initial_tempo=120)
    for program, notes in parts.items():
        part = pretty_midi.Instrument(program)
        part.notes = [pretty_midi.Note(velocity, pitch, start, start + 0.25) for start, pitch, velocity in notes]
        score.instruments.append(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.write(str(path))


def separate_notes(audio):
    """[(start in s, pitch, velocity)] of separate notes, of a preset at the stand-in's level."""
    sounding = np.convolve(np.abs(audio) > 0.002, np.ones(400), "same") > 0.5  # gaps of 25 ms and more are gaps
    edges = np.flatnonzero(np.diff(np.r_[0, sounding, 0]))
    found = []
    for start, end in edges.reshape(-1, 2):
        first = start + np.flatnonzero(np.abs(audio[start:end]) > 0.002)[0]
        note = audio[first : first + 3000]
        f = frequency(note)
        found.append((first / RATE, round(69 + 12 * np.log2(f / 440)), round(amplitude(note, f) * 127 / (0.5 * SHARE))))
    return found


def test_scores(tmp_path):
    """Excerpts of the parts of a preset's group: pitch and velocity are null, onsets, pitches and velocities are the score's."""
    first = [(0.25, 60, 100), (0.75, 64, 60), (1.25, 67, 127), (1.625, 60, 80)]
    second = [(2.0, 72, 90), (2.5, 71, 90), (3.0, 72, 50), (3.5, 55, 90)]
    piano = [(0.5, 69, 100), (1.0, 69, 100), (1.375, 70, 100), (1.75, 69, 100)]
    few = [(4.0, 50, 100)]  # too few notes for an excerpt
    write_score(tmp_path / "scores" / "a.mid", {33: first + second + few, 0: piano})
    (tmp_path / "scores" / "bad.mid").write_bytes(b"no score")
    for name in ("Basses/A", "FX/B", "Leads/C"):
        write_preset(tmp_path / "presets" / f"{name}.fxp", fx={0: "Delay"} if name == "FX/B" else {})
    bank = build(tmp_path / "bank", config(tmp_path / "presets", notes=1, midi=str(tmp_path / "scores")), n_jobs=1)
    stems = bank.notes[bank.notes.pitch.isna()]
    assert stems[["velocity", "hold_s"]].isna().all(axis=None)
    expected = {"Basses/A": [first, [(start - 2, *note) for start, *note in second]], "FX/B": [piano], "FX/B_no_fx": [piano]}
    assert stems.instrument.value_counts().to_dict() == {f"surge/presets/{name}": len(parts) for name, parts in expected.items()}
    for name in ("Basses/A", "FX/B_no_fx"):
        got = sorted(
            (separate_notes(bank.audio(i)) for i in stems.index[stems.instrument == f"surge/presets/{name}"]),
            key=lambda notes: -notes[0][0],
        )
        for notes, part in zip(got, expected[name], strict=True):
            np.testing.assert_allclose([start for start, *_ in notes], [start for start, *_ in part], atol=0.004)
            assert [note[1:] for note in notes] == [note[1:] for note in part]


def test_repeated_pitch_restarts_at_the_note_off(tmp_path):
    """Its note off does not end the new one."""
    score = np.array([[0.0, 0.5, 60, 100], [0.5, 0.5, 60, 100], [1.0, 0.5, 60, 100], [1.5, 0.25, 60, 100]])
    sounds, _ = render(write_preset(tmp_path / "a.fxp"), [], [score])
    assert len(sounds[0].audio) / RATE == pytest.approx(1.75, abs=0.003)
    assert amplitude(sounds[0].audio[8500:15500], hz(60)) == pytest.approx(0.5 * SHARE * 100 / 127, rel=0.02)


def test_there_are_no_more_stems_than_wanted(tmp_path):
    write_score(tmp_path / "scores" / "a.mid", {33: [(k / 2, 40 + k % 12, 100) for k in range(24)]})  # six excerpts
    write_preset(tmp_path / "presets" / "Basses" / "A.fxp")
    bank = build(tmp_path / "bank", config(tmp_path / "presets", notes=1, stems=2, midi=str(tmp_path / "scores")), n_jobs=1)
    assert bank.notes.pitch.isna().sum() == 2
    assert not np.array_equal(bank.audio(1)[:4000], bank.audio(2)[:4000])


# Building


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Twelve basses, each with an effect."""
    root = tmp_path_factory.mktemp("library") / "presets"
    for i in range(12):
        write_preset(root / "Basses" / f"{i}.fxp", level=0.1 + 0.02 * i, fx={0: "Delay"}, tail=0.05)
    return root


def make(library, n_jobs=1):
    return lambda path: build(path, config(library, valid=0.25, test=0.25), n_jobs=n_jobs)


@pytest.fixture(scope="module")
def bank(library):
    return make(library)(library.parent / "bank")


def test_splits_and_twins(bank):
    """Shares of the presets; twins are in train only, and no part of the gallery."""
    assert bank.gallery().split.value_counts().to_dict() == {"train": 6, "valid": 3, "test": 3}
    twins = bank.instruments[bank.instruments.augments.notna()]
    assert set(twins.split) == {"train"}
    assert set(twins.augments) == set(bank.gallery().index[bank.gallery().split == "train"])


def test_bank_json(bank):
    info = bank.infos[0]
    assert (info["source"], info["made"]["surge"]) == ("surge", "1.4 stand-in")
    assert "GPL-3.0-or-later" in info["license"]
    assert info["skipped"] == info["noted"] == {}


def test_another_preset_is_rendered_anew(tmp_path):
    """Of the same name and size."""
    levels = []
    for level in (0.5, 0.2):
        write_preset(tmp_path / "presets" / "Basses" / "A.fxp", level=level)
        bank = build(tmp_path / "bank", config(tmp_path / "presets", notes=1), n_jobs=1)
        levels.append(np.abs(bank.audio(0)).max())
    assert levels[1] == pytest.approx(0.4 * levels[0], rel=0.01)


BAD = {  # name: (behaviour, reason)
    "aborts": ({"on_note": "abort"}, "ended its process (Aborted)"),
    "breaks": ({"on_load": "segfault"}, "ended its process (Segmentation fault)"),
    "does not load": ({"loads": False}, "surgepy does not load this preset"),
    "hangs": ({"on_note": "hang"}, "took longer than 3 s"),
    "nan": ({"level": float("nan")}, "no usable note: not finite (NaN or infinite samples)"),
    "raises": ({"on_load": "raise"}, "RuntimeError: out of patience"),
    "silent": ({"sounds": False}, "no usable note: silent"),
    "sleeps": ({"on_load": "sleep"}, "took longer than 3 s"),
}


def test_bad_preset_costs_only_itself(tmp_path, capfd):
    """Whether it crashes, hangs or is silent; it is listed with its reason, the others are what they are without it, nobody chatters."""
    for root in ("mixed", "clean"):
        for name in ("a", "m", "z"):
            write_preset(tmp_path / root / "presets" / "Basses" / f"{name}.fxp")
    for name, (behaviour, _) in BAD.items():
        write_preset(tmp_path / "mixed" / "presets" / "Basses" / f"{name}.fxp", **behaviour)
    clean = build(tmp_path / "clean" / "bank", config(tmp_path / "clean" / "presets"), n_jobs=1)
    mixed = build(tmp_path / "mixed" / "bank", config(tmp_path / "mixed" / "presets", limit_s=3), n_jobs=2)
    assert mixed.infos[0]["skipped"] == {f"surge/presets/Basses/{name}": reason for name, (_, reason) in BAD.items()}
    for name in ("audio.i16", "notes.parquet"):
        assert (mixed.paths[0] / name).read_bytes() == (clean.paths[0] / name).read_bytes()
    out, err = capfd.readouterr()
    assert out == "" and "patch" not in err
