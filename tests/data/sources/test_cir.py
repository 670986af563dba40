"""The data of the paper's authors in its own layout: tables, and tones at 48 kHz."""

import json

import numpy as np
import pytest
from conftest import RATE, hz
from source_files import EXCLUDED, KEPT_BY_PAPER, LEVEL, NSYNTH, SURGE, TAXONOMY, nsynth_note, surge_note, write_set
from tones import amplitude, at_rate, frequency, rows, write

from cirlib.data.note_statistics import load_statistics, statistics_file
from cirlib.data.sources import cir
from cirlib.data.sources.cir import CirConfig, latest


def build(path, root, **options):
    return cir.build(path, CirConfig(str(root), **options), n_jobs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The authors' folder with both sets."""
    root = tmp_path_factory.mktemp("data")
    write_set(root / "nsynth_v1.0", NSYNTH)
    write_set(root / "surge_v1.1", SURGE)
    return root


@pytest.fixture(scope="module")
def bank(data, tmp_path_factory):
    return build(tmp_path_factory.mktemp("bank") / "cir", data)


# What is in it


def test_rows_of_nsynth(bank):
    notes = rows(bank, "instrument", "family", "split", "pitch", "velocity", "hold_s", "augments")[: len(NSYNTH)]
    assert notes == [
        ("nsynth/nsynth_v1.0/bass_electronic_018", "Bass", "train", 40, 100, 3, None),
        ("nsynth/nsynth_v1.0/bass_electronic_018", "Bass", "train", 45, 50, 3, None),
        ("nsynth/nsynth_v1.0/flute_acoustic_002", "Pipe", "valid", 72, 100, 3, None),
        ("nsynth/nsynth_v1.0/mallet_acoustic_000", "Chromatic Percussion", "test", 60, 100, 3, None),
    ]
    tags = [["electronic", "bass", "reverb"], ["electronic", "bass"], ["acoustic", "wind"], ["acoustic", "mallet"]]
    assert bank.notes.tags[: len(NSYNTH)].map(list).tolist() == tags
    assert bank.notes.fx[: len(NSYNTH)].map(list).tolist() == [["reverb"], [], [], []]


def test_rows_of_surge(bank):
    """Twins name their original; stems of several notes have no pitch and no velocity; an unknown category gives no family."""
    notes = rows(bank, "instrument", "family", "split", "pitch", "velocity", "hold_s", "augments")[len(NSYNTH) :]
    assert notes == [
        ("surge/surge_v1.1/0001", "Synth Lead", "train", 60, 90, None, None),
        ("surge/surge_v1.1/0001", "Synth Lead", "train", None, None, None, None),
        ("surge/surge_v1.1/0001_no_fx", "Synth Lead", "train", 60, 90, None, "surge/surge_v1.1/0001"),
        ("surge/surge_v1.1/0001_no_fx_aftertouch", "Synth Lead", "train", 60, 90, None, "surge/surge_v1.1/0001"),
        ("surge/surge_v1.1/0005", "Bass", "valid", 36, 100, None, None),
        ("surge/surge_v1.1/0005", "Bass", "valid", 38, 100, None, None),
        ("surge/surge_v1.1/0003", None, "test", 64, 100, None, None),
        ("surge/surge_v1.1/0004", None, "test", 64, 100, None, None),
    ]
    wet, lead, bass = ["synthetic", "lead", "reverb", "chorus"], ["synthetic", "lead"], ["synthetic", "bass"]
    tags = [wet, wet, lead, lead, bass, bass, ["synthetic"], ["synthetic", "distortion"]]
    assert bank.notes.tags[len(NSYNTH) :].map(list).tolist() == tags
    fx = [["Reverb 2", "Chorus"]] * 2 + [[]] * 4 + [["EQ"], ["Tape"]]
    assert bank.notes.fx[len(NSYNTH) :].map(list).tolist() == fx
    assert bank.infos[0]["noted"] == {"0004": "unknown category 'Zithers': no family"}
    assert set(bank.notes.source) == {"nsynth", "surge"}


def test_transposed_copies_of_training_notes(tmp_path):
    """Copies keep instrument, family and level; their pitch is that of their sound. Other splits and stems have none."""
    write_set(tmp_path / "surge_v1.1", SURGE)
    bank, plain = (build(tmp_path / f"bank{n}", tmp_path, sets=("surge",), transposed=n) for n in (3, 0))
    added = bank.notes.groupby("instrument").size() - plain.notes.groupby("instrument").size()
    pitched = plain.notes[plain.notes.pitch.notna() & (plain.notes.split == "train")].groupby("instrument").size()
    assert added[added > 0].to_dict() == (3 * pitched).to_dict()
    uid = pitched.index[0]
    original, *copies = (i for i in bank.rows_of[uid] if not np.isnan(bank.pitches[i]))
    whole = frequency(bank.audio(original))
    for i in copies:
        shift = 12 * np.log2(frequency(bank.audio(i)) / whole)
        assert 0 < abs(shift) < 4.1 and bank.pitches[i] == round(bank.pitches[original] + shift)
        assert bank.lengths[i] == pytest.approx(bank.lengths[original] * 2 ** (-shift / 12), rel=0.01)


def test_sound_at_48_khz(bank):
    """Pitch, level and length are those of the file."""
    assert bank.sample_rate == RATE
    assert list(bank.lengths) == [RATE // 2] * len(bank)
    for i, pitch in enumerate(bank.notes.pitch.fillna(69)):
        audio = bank.audio(i)
        assert frequency(audio) == pytest.approx(hz(pitch), rel=0.001)
        assert amplitude(audio, hz(pitch)) == pytest.approx(LEVEL, rel=0.01)
        # nothing else sounds: no alias, no click, but at the ends
        middle = slice(500, -500)
        rest = (audio - at_rate(pitch, RATE, 0.5, LEVEL))[middle]
        assert np.abs(rest).max() < 0.001 * LEVEL


def test_hold_time(tmp_path):
    """Of a surge set, where its table has the column."""
    write_set(tmp_path / "surge_v1.1", [{**SURGE[4], "hold_s": 1.5}, {**SURGE[5], "hold_s": None}])
    assert rows(build(tmp_path / "bank", tmp_path), "hold_s") == [(1.5,), (None,)]


@pytest.mark.parametrize(("protocol", "stored"), [("strict", []), ("paper", KEPT_BY_PAPER)])
def test_excluded_nsynth_instruments(tmp_path, protocol, stored):
    names = [*EXCLUDED, *KEPT_BY_PAPER, "bass_synthetic_001"]
    write_set(tmp_path / "nsynth_v1.0", [nsynth_note(name, 50) for name in names])
    bank = build(tmp_path / "bank", tmp_path, protocol=protocol)
    assert set(bank.instruments.index) == {f"nsynth/nsynth_v1.0/{name}" for name in [*stored, "bass_synthetic_001"]}
    skipped = dict.fromkeys({*EXCLUDED, *KEPT_BY_PAPER} - set(stored), "instrument excluded by the paper")
    assert bank.infos[0]["skipped"] == skipped


def test_nsynth_pitch_ranges(tmp_path):
    ends = {f"{family}_acoustic_030": limits[2:] for family, limits in TAXONOMY.items()}
    lines = [nsynth_note(name, p) for name, (low, high) in ends.items() for p in (low - 1, low, high, high + 1)]
    write_set(tmp_path / "nsynth_v1.0", [*lines, nsynth_note("vocal_acoustic_031", 20)])
    bank = build(tmp_path / "bank", tmp_path)
    stored = bank.notes.groupby("instrument").pitch.agg(list).to_dict()
    assert stored == {f"nsynth/nsynth_v1.0/{name}": [float(low), float(high)] for name, (low, high) in ends.items()}
    skipped = {name: f"2 notes outside MIDI {low} to {high}" for name, (low, high) in ends.items()}
    assert bank.infos[0]["skipped"] == {**skipped, "vocal_acoustic_031": "1 notes outside MIDI 38 to 86"}


# Which sets and versions


def test_latest_version_wins(tmp_path):
    """By number, not by letter; what has no table, or is no version, does not count."""
    versions = ("v1.0", "v1.1", "v1.10", "v1.9", "v1.2_small", "v1.12_small")
    for version in (*versions, "v3.0_old", "v3.0_small_old", "vNext"):
        write_set(tmp_path / f"surge_{version}", SURGE[:1], sounds=False)
    (tmp_path / "surge_v2.0").mkdir()
    assert latest(tmp_path, "surge") == tmp_path / "surge_v1.10"
    assert latest(tmp_path, "surge", small=True) == tmp_path / "surge_v1.12_small"
    assert latest(tmp_path, "nsynth") is None
    assert latest(tmp_path / "surge_v1.0", "surge") == tmp_path / "surge_v1.0"
    assert latest(tmp_path / "surge_v1.0", "nsynth") is None
    (tmp_path / "audio.csv").touch()
    assert latest(tmp_path, "surge") == tmp_path / "surge_v1.10"  # folders are recognised by their names


def test_small_sets(tmp_path):
    write_set(tmp_path / "surge_v1.1", SURGE)
    write_set(tmp_path / "surge_v1.1_small", SURGE[4:6])
    assert len(build(tmp_path / "full", tmp_path)) == len(SURGE)
    assert list(build(tmp_path / "small", tmp_path, small=True).instruments.index) == ["surge/surge_v1.1_small/0005"]
    assert build(tmp_path / "full", tmp_path, seconds=0.3).lengths.max() == 4800, "other options, another bank"


def test_one_set(data, tmp_path):
    """By `sets`, or by the path of its folder."""
    one, other = build(tmp_path / "one", data, sets=("nsynth",)), build(tmp_path / "other", data / "nsynth_v1.0")
    assert set(one.notes.source) == set(other.notes.source) == {"nsynth"}
    assert list(one.notes.instrument) == list(other.notes.instrument)
    assert one.infos[0]["license"] == "nsynth: CC BY 4.0"


def test_no_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none of nsynth_v<version>/examples\.csv, surge_v<version>/audio\.csv in .*: set path"):
        build(tmp_path / "bank", tmp_path)
    write_set(tmp_path / "surge_v1.1", SURGE[:1], sounds=False)
    with pytest.raises(FileNotFoundError, match=r"none of .*surge_v<version>_small/audio\.csv in"):
        build(tmp_path / "bank", tmp_path, small=True)
    with pytest.raises(ValueError, match=r"unknown set 'surges' .*did you mean 'surge'"):
        build(tmp_path / "bank", tmp_path, sets=("surges",))
    with pytest.raises(ValueError, match="unknown protocol 'loose'"):
        build(tmp_path / "bank", tmp_path, protocol="loose")


def statistics(root, *names):
    files = [root / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"pitch": {"Bass": {"values": [40], "probabilities": [1.0]}}}))
    return files


@pytest.mark.parametrize(
    "names",  # the last one wins
    [
        ("slakh2100_no_audio/notes_distributions.json",),
        ("slakh2100_no_audio_v1.2/notes_distributions.json", "slakh2100_no_audio_v1.10/notes_distributions.json"),
        ("slakh2100_no_audio/v9/notes_distributions.json", "slakh2100_no_audio/v10/notes_distributions.json"),
        ("slakh2100_no_audio/notes_distributions_v9.json", "slakh2100_no_audio/notes_distributions_v10.json"),
    ],
)
def test_statistics_file(tmp_path, names):
    """The latest version, by number."""
    files = statistics(tmp_path, *names)
    statistics(tmp_path, "other/notes_distributions.json", "slakh2100_no_audio/else.json")
    assert statistics_file(tmp_path) == files[-1]
    assert load_statistics(str(tmp_path)).pitch("Bass")[40] == 1


def test_no_statistics_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no slakh2100_no_audio/notes_distributions\.json in"):
        statistics_file(tmp_path)


def test_twin_of_a_patch_that_does_not_train_is_skipped(tmp_path):
    """Its sounds would be trained on."""
    write_set(tmp_path / "surge_v1.1", [surge_note("7", 60, split="test"), surge_note("7_no_fx", 60), surge_note("8_no_fx", 60)])
    bank = build(tmp_path / "bank", tmp_path)
    assert set(bank.notes.instrument) == {"surge/surge_v1.1/7", "surge/surge_v1.1/8_no_fx"}
    assert bank.infos[0]["skipped"] == {"7_no_fx": "twin of an instrument outside of the train split"}


# What is wrong in it


@pytest.mark.parametrize(
    ("folder", "lines", "sentence"),
    [
        (
            "surge_v1.1",
            [{k: v for k, v in SURGE[0].items() if k not in ("patch_fx", "midi_pitch")}],
            r"surge_v1\.1/audio\.csv lacks the columns patch_fx, midi_pitch; it has path, split, patch_UID, patch_family, midi_velocity$",
        ),
        ("nsynth_v1.0", [{"path": "a.wav"}], r"nsynth_v1\.0/examples\.csv lacks the columns split, instrument, .*qualities; it has path$"),
        ("surge_v1.1", [{**SURGE[0], "split": "dev"}], r"unknown split in audio\.csv 'dev'; valid: train, valid, test"),
        (
            "surge_v1.1",
            [SURGE[0], {**SURGE[1], "split": "test"}],
            r"0001 is in several splits of .*audio\.csv: an instrument belongs to one",
        ),
        ("surge_v1.1", [surge_note("7_no_fx", 60, split="valid")], r"7_no_fx of surge_v1\.1 is an augmented twin outside of the train"),
        ("nsynth_v1.0", [{**NSYNTH[0], "instrument_family": "theremin"}], "unknown NSynth family 'theremin'"),
    ],
)
def test_wrong_table(tmp_path, folder, lines, sentence):
    """One sentence, and no bank."""
    write_set(tmp_path / folder, lines, sounds=False)
    with pytest.raises(ValueError, match=sentence):
        build(tmp_path / "bank", tmp_path)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe" * 10])
def test_no_table(tmp_path, data):
    (tmp_path / "surge_v1.1").mkdir()
    (tmp_path / "surge_v1.1" / "audio.csv").write_bytes(data)
    with pytest.raises(ValueError, match=r"audio\.csv (is not readable as a table|lacks the columns)"):
        build(tmp_path / "bank", tmp_path)


def test_bad_files_are_listed(tmp_path):
    """With the reason, those of both sets; the others stay."""
    write_set(tmp_path / "nsynth_v1.0", NSYNTH)
    write_set(tmp_path / "surge_v1.1", SURGE)
    (tmp_path / "nsynth_v1.0" / NSYNTH[1]["path"]).unlink()
    silent, text, cut = (tmp_path / "surge_v1.1" / SURGE[i]["path"] for i in (0, 4, 6))
    write(silent, np.zeros(24000), 48000)
    text.write_text("<html>")
    cut.write_bytes(cut.read_bytes()[:20000])
    bank = build(tmp_path / "bank", tmp_path)
    assert len(bank) == len(NSYNTH) + len(SURGE) - 4
    skipped = bank.infos[0]["skipped"]
    assert skipped.pop(f"surge_v1.1/{SURGE[4]['path']}").startswith("not readable as sound")
    assert skipped == {
        f"nsynth_v1.0/{NSYNTH[1]['path']}": "no such file",
        f"surge_v1.1/{SURGE[0]['path']}": "silent",
        f"surge_v1.1/{SURGE[6]['path']}": "truncated: shorter than its header says",
    }
