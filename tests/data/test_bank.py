"""The note bank: what goes in comes out, and a bank is whole, or a sentence says what to do."""

import json
import mmap
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import RATE, SPLIT_SIZES, build_bank, make, sound, tone

from cirlib.data.bank import FORMAT, NoteBank
from cirlib.data.builder import BankBuilder
from cirlib.data.jobs import encode
from cirlib.data.notes import SCHEMA
from cirlib.data.taxonomy import MIXTURE_FAMILIES

META = {"source": "tones", "license": "CC0-1.0"}


@pytest.fixture
def bank(tmp_path):
    """Three sounds of two instruments."""
    sounds = [
        sound("a", tone(60, 0.1, 0.5), tags=["bass", "synthetic"], fx=["chorus"], hold_s=0.25, velocity=64.0),
        sound("a", tone(72, 0.05, 0.001), pitch=72.0),
        sound("b", tone(48, 0.2, 3.0), split="test", pitch=None, velocity=None, augments="a"),
    ]
    return build_bank(tmp_path / "bank", sounds)


def damage(path, **changes):
    """Rewrite bank.json with other values; a value of None leaves the key out."""
    info = {**json.loads((path / "bank.json").read_text()), **changes}
    (path / "bank.json").write_text(json.dumps({k: v for k, v in info.items() if v is not None}))


# What is in it


def test_audio_comes_back_with_its_level(bank):
    """Within half a step of 16 bits of its own peak, whether quiet or above full scale."""
    for i, (pitch, seconds, level) in enumerate([(60, 0.1, 0.5), (72, 0.05, 0.001), (48, 0.2, 3.0)]):
        got = bank.audio(i)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, tone(pitch, seconds, level), atol=level * 0.51 / 32767)
    np.testing.assert_array_equal(bank.audio(2, limit=100), bank.audio(2)[:100])
    np.testing.assert_array_equal(bank.audio(1, limit=10**6), bank.audio(1))
    assert list(bank.lengths) == [1600, 800, 3200]


def test_rows_come_back(bank):
    assert (len(bank), bank.sample_rate) == (3, RATE)
    assert list(bank.notes.columns) == SCHEMA.names
    first, last = bank.notes.iloc[0], bank.notes.iloc[2]
    assert (first.instrument, first.family, first.source, first.split) == ("a", "Bass", "tones", "train")
    assert (list(first.tags), list(first.fx)) == (["bass", "synthetic"], ["chorus"])
    assert (first.hold_s, first.pitch, first.velocity) == (0.25, 60, 64)
    assert pd.isna(first.augments)
    assert last.augments == "a"
    assert np.isnan([last.pitch, last.velocity, bank.pitches[2]]).all()


def test_a_table_that_others_wrote_opens_too(tmp_path, bank):
    """pandas writes a column without values as one of no type."""
    path = shutil.copytree(bank.paths[0], tmp_path / "again")
    rows = pd.read_parquet(path / "notes.parquet").assign(augments=None, family=None)
    rows.to_parquet(path / "notes.parquet")
    again = NoteBank.open(path)
    assert again.notes.augments.isna().all() and again.notes.family.isna().all()
    pd.testing.assert_series_equal(again.notes.pitch, bank.notes.pitch)


def test_bank_json(bank):
    """Format, origin, how it was made, counts, checksums of both files."""
    info = json.loads((bank.paths[0] / "bank.json").read_text())
    assert info["format"] == FORMAT
    assert (info["source"], info["license"], info["made"]) == ("tones", "CC0-1.0", {"source": "tones"})
    assert info["counts"] == {"notes": 3, "samples": 5600, "instruments": 2}
    assert info["sha256"].keys() == {"audio.i16", "notes.parquet"}
    assert np.fromfile(bank.paths[0] / "audio.i16", "<i2").shape == (5600,)


def test_silence_is_kept(tmp_path):
    assert not build_bank(tmp_path / "bank", [sound("a", np.zeros(100))]).audio(0).any()


@pytest.mark.parametrize("audio", [[], [[0.0, 0.1], [0.0, 0.1]], [0, np.nan], [np.inf, 0]], ids=str)
def test_unusable_audio_is_refused(audio):
    with pytest.raises(ValueError, match="a sound of a is empty, not mono or not finite"):
        encode(sound("a", np.array(audio)))


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="unknown split 'dev'; valid: train, valid, test"):
        encode(sound("a", tone(60), split="dev"))


# Instruments


def reference(tmp_path, notes):
    """(pitch, velocity) of the reference note of an instrument with these notes."""
    bank = build_bank(tmp_path / "bank", [sound("a", tone(60), pitch=p, velocity=v) for p, v in notes])
    return notes[bank.instruments.reference["a"]]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([(40, 100), (45, 100), (50, 100), (60, 100), (120, 100)], (50, 100)),  # the median, not the mean
        ([(40, 100), (50, 60), (50, 90), (50, 127), (60, 100)], (50, 90)),  # then velocity nearest to 100
        ([(50, 127), (50, 73)], (50, 127)),  # 27 off either way: the first
        ([(50, 73), (50, 127)], (50, 73)),
        ([(40, 60), (41, 127), (50, 60), (51, 60)], (41, 127)),  # even number: nearest to the mean of the middle two
        ([(40, 100), (None, None), (50, 60), (60, 100)], (50, 60)),  # stems of several notes are no reference note
        ([(40, 60), (None, None), (60, 60)], (40, 60)),
        ([(None, None), (None, None)], (None, None)),  # unless there is nothing else
    ],
)
def test_reference_note(tmp_path, notes, expected):
    """Pitch nearest to the instrument's median pitch, then velocity nearest to 100, then the first."""
    assert reference(tmp_path, notes) == expected


def test_reference_is_a_note_of_the_instrument(tone_bank):
    table = tone_bank.instruments
    assert (tone_bank.notes.instrument[table.reference].to_numpy() == table.index).all()


def test_an_open_bank_is_cheap_and_cannot_be_changed(bank):
    """Lists stay in Arrow, the table of instruments is made once, sounds are read-only."""
    assert all(isinstance(bank.notes[column].dtype, pd.ArrowDtype) for column in ("tags", "fx"))
    assert bank.instruments is bank.instruments
    with pytest.raises(ValueError, match="read-only"):
        bank._maps[0][0] = 1


def test_instruments_and_gallery(tone_bank):
    """The gallery holds the original instruments of every split, no twins."""
    table = tone_bank.instruments
    assert table.notes.eq(12).all()
    assert list(table.columns) == ["family", "source", "split", "augments", "fx", "notes", "reference"]
    gallery = tone_bank.gallery()
    assert len(gallery) == 3 * sum(SPLIT_SIZES.values()) < len(table)
    assert gallery.split.value_counts().to_dict() == {s: 3 * n for s, n in SPLIT_SIZES.items()}
    assert not gallery.index.str.endswith("_no_fx").any()
    assert set(tone_bank.gallery(["Bass"]).family) == {"Bass"}
    assert set(tone_bank.gallery(iter(MIXTURE_FAMILIES)).index) == set(gallery.index)


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no such advice")
def test_ahead_names_the_bytes_of_the_sounds(tmp_path):
    """From the start of a page to the end of what will be read of a sound, in the file that holds it."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        build_bank(path, [sound(f"{path.name}{i}", tone(60, 1.0)) for i in range(3)])
    bank, told = NoteBank.open(paths), []
    assert len(bank._files) == 2

    class File:
        def __init__(self, name):
            self.name = name

        def madvise(self, advice, start, length):
            assert advice == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
            told.append((self.name, start, start + length))

    bank._files = [File("a"), File("b")]
    bank.ahead([2, 0, 4, 5], [100, 10**6, 10**6, -3])
    page, second = mmap.PAGESIZE, 2 * RATE
    assert told == [
        ("a", 2 * second // page * page, 2 * second + 200),
        ("a", 0, second),
        ("b", second // page * page, 2 * second),
        ("b", 2 * second // page * page, 2 * second + 2),  # at least one sample: the system refuses no bytes at all
    ]


# Several banks


def test_two_banks_open_as_one(tmp_path, bank):
    other = build_bank(tmp_path / "other", [sound("c", tone(50, 0.1, 0.2))])
    both = NoteBank.open([bank.paths[0], other.paths[0]])
    assert list(both.notes.instrument) == ["a", "a", "b", "c"]
    assert list(both.notes.index) == [0, 1, 2, 3]
    assert both.instruments.reference["c"] == 3
    for i in range(4):
        np.testing.assert_array_equal(both.audio(i), bank.audio(i) if i < 3 else other.audio(0))


def test_banks_of_different_sample_rates(tmp_path, bank):
    builder = BankBuilder(tmp_path / "other", {}, 48000)
    builder.run({"all": {"sounds": [sound("c", tone(50))]}}, make, n_jobs=1)
    builder.finish(["all"], META, {})
    with pytest.raises(ValueError, match=r"different sample rates cannot be combined: \[16000, 48000\]"):
        NoteBank.open([bank.paths[0], tmp_path / "other"])


def test_no_bank_at_all():
    with pytest.raises(ValueError, match="no note bank was named"):
        NoteBank.open([])


# Damage


def test_checksums(bank):
    """verify() passes a good bank and finds a single changed byte of either file."""
    bank.verify()
    for name in ("audio.i16", "notes.parquet"):
        file = bank.paths[0] / name
        good = file.read_bytes()
        file.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
        with pytest.raises(ValueError, match=rf"{name} is damaged \(checksum differs\): delete .* and build it again"):
            bank.verify()
        file.write_bytes(good)


def test_missing_bank(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no note bank at .*nowhere: make it with notebooks/01_data.ipynb"):
        NoteBank.open(tmp_path / "nowhere")


def test_bank_of_a_future_format(bank):
    damage(bank.paths[0], format=FORMAT + 1)
    with pytest.raises(ValueError, match=rf"has format {FORMAT + 1}, this version reads format {FORMAT}: delete .* and b"):
        NoteBank.open(bank.paths[0])


def _no_json(path):
    (path / "bank.json").write_text("{")


def _no_object(path):
    (path / "bank.json").write_text("[1]")


def _no_format(path):
    damage(path, format=None)


def _no_counts(path):
    damage(path, counts=None)


def _no_rate(path):
    damage(path, sample_rate=None)


def _fast_rate(path):
    damage(path, sample_rate=768_001)


def _no_audio(path):
    (path / "audio.i16").unlink()


def _short_audio(path):
    (path / "audio.i16").write_bytes(b"1234")


def _half_a_sample_more(path):
    with open(path / "audio.i16", "ab") as file:
        file.write(b"1")


def _no_notes(path):
    (path / "notes.parquet").unlink()


def _broken_notes(path):
    (path / "notes.parquet").write_bytes(b"PAR1 nothing")


def _fewer_notes(path):
    pq.write_table(pq.read_table(path / "notes.parquet").slice(0, 1), path / "notes.parquet")


def _other_columns(path):
    pq.write_table(pa.table({"x": [1, 2, 3]}), path / "notes.parquet")


HARM = [_no_json, _no_object, _no_format, _no_counts, _no_rate, _fast_rate, _no_audio, _short_audio, _half_a_sample_more]
HARM += [_no_notes, _broken_notes, _fewer_notes, _other_columns]


@pytest.mark.parametrize("harm", HARM)
def test_damaged_bank(bank, harm):
    """One sentence that names the bank and what to do."""
    harm(bank.paths[0])
    repair = r"delete .* and build it again with notebooks/01_data\.ipynb"
    with pytest.raises(ValueError, match=rf"is damaged \(.*\): {repair}$") as caught:
        NoteBank.open(bank.paths[0])
    assert str(bank.paths[0]) in str(caught.value)


@pytest.mark.parametrize("rate", [1, 768_000])
def test_lowest_and_highest_rate(bank, rate):
    damage(bank.paths[0], sample_rate=rate)
    assert NoteBank.open(bank.paths[0]).sample_rate == rate


# Building


made = []  # keys of the jobs that were made


def make_counted(key, sounds, stop=False, fail=False):
    """A job that may be interrupted or fail."""
    made.append(key)
    if stop:
        raise KeyboardInterrupt
    if fail:
        raise OSError("no such sample")
    return sounds


def jobs(**odd):
    """Four jobs of two sounds; `odd` are more arguments of one of them."""
    sounds = {k: [sound(k, tone(50 + i + j, 0.05)) for j in range(2)] for i, k in enumerate("abcd")}
    return {k: {"key": k, "sounds": s, **odd.get(k, {})} for k, s in sounds.items()}


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def build(path, n_jobs=1, keys="abcd"):
    builder = BankBuilder(path, {"seed": 0})
    assert builder.run(jobs(), make_counted, n_jobs=n_jobs) == {}
    return builder.finish(list(keys), META, {})


def test_an_interrupted_build_resumes(tmp_path):
    """It makes only what is missing, and the bank is that of a clean build, byte for byte."""
    build(tmp_path / "clean")
    builder = BankBuilder(tmp_path / "bank", {"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        builder.run(jobs(c={"stop": True}), make_counted, n_jobs=1)
    assert not (tmp_path / "bank").exists()
    made.clear()
    build(tmp_path / "bank")
    assert made == ["c", "d"]
    assert contents(tmp_path / "bank") == contents(tmp_path / "clean")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bank", "clean"]  # no working folder is left


def test_a_shard_that_was_not_finished_is_made_again(tmp_path):
    """What a killed process leaves beside its place is no shard."""
    builder = BankBuilder(tmp_path / "bank", {"seed": 0})
    builder.shard("a").with_suffix(".i16").write_bytes(b"half")
    builder.shard("a").with_suffix(".started").touch()
    made.clear()
    bank = build(tmp_path / "bank")
    assert made == list("abcd")
    assert contents(bank.paths[0]).keys() == {"bank.json", "notes.parquet", "audio.i16"}


def test_another_specification_starts_anew(tmp_path):
    BankBuilder(tmp_path / "bank", {"seed": 0}).run(jobs(), make_counted, n_jobs=1)
    made.clear()
    BankBuilder(tmp_path / "bank", {"seed": 1}).run(jobs(), make_counted, n_jobs=1)
    assert made == list("abcd")


def test_damaged_specification_starts_anew(tmp_path):
    builder = BankBuilder(tmp_path / "bank", {"seed": 0})
    builder.run(jobs(), make_counted, n_jobs=1)
    (builder.work / "spec.json").write_text("{")
    made.clear()
    BankBuilder(tmp_path / "bank", {"seed": 0}).run(jobs(), make_counted, n_jobs=1)
    assert made == list("abcd")


def test_a_failing_job_costs_only_itself(tmp_path):
    """It is reported with its reason, and not tried again by this build."""
    builder = BankBuilder(tmp_path / "bank", {"seed": 0})
    failed = builder.run(jobs(b={"fail": True}), make_counted, n_jobs=1)
    assert failed == {"b": "no such sample"}
    made.clear()
    assert builder.run(jobs(), make_counted, n_jobs=1) == failed
    assert made == []
    bank = builder.finish(["a", "c", "d"], META, failed)
    assert list(bank.instruments.index) == ["a", "c", "d"]
    assert bank.infos[0]["skipped"] == failed


def test_an_unusable_sound_fails_its_job(tmp_path):
    builder = BankBuilder(tmp_path / "bank", {})
    failed = builder.run({"a": {"sounds": [sound("a", np.full(10, np.nan))]}, "b": {"sounds": []}}, make, n_jobs=1)
    assert failed.keys() == {"a"}  # a job without a sound is no failure
    assert "not finite" in failed["a"]


def test_a_bank_takes_the_place_of_an_older_one(tmp_path):
    build_bank(tmp_path / "bank", [sound("old", tone(60))])
    assert list(build(tmp_path / "bank", keys="db").instruments.index) == ["d", "b"]


def test_build_never_replaces_a_folder_that_is_no_bank(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "kick.wav").write_bytes(b"precious")
    with pytest.raises(ValueError, match="no note bank: choose another path"):
        BankBuilder(tmp_path / "sounds", {})
    assert (tmp_path / "sounds" / "kick.wav").exists()


def test_banks_that_share_an_instrument_cannot_be_combined(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        build_bank(path, [sound("x/y/z", tone(60))])
    with pytest.raises(ValueError, match="two of these banks hold instrument 'x/y/z'"):
        NoteBank.open(paths)


@pytest.mark.parametrize("limit", [0, -5])
def test_no_room_for_a_note_is_no_sound(tone_bank, limit):
    """Also for the first note of a bank, before which there is nothing."""
    assert [len(tone_bank.audio(i, limit)) for i in (0, 1, len(tone_bank) - 1)] == [0, 0, 0]
