"""The note bank: sounds and rows come back as they were stored; a damaged bank is one sentence that says what to do."""

import json
import mmap
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import RATE, SPLIT_SIZES, build_bank, make, sound, tone

from cirlib.common.files import sha256
from cirlib.data.bank import FORMAT, NoteBank
from cirlib.data.builder import BankBuilder
from cirlib.data.notes import SCHEMA
from cirlib.data.taxonomy import MIXTURE_FAMILIES


@pytest.fixture
def bank(tmp_path):
    """Three sounds of two instruments."""
    sounds = [
        sound("a", tone(60, 0.1, 0.5), tags=["bass", "synthetic"], fx=["chorus"], hold_s=0.25, velocity=64.0),
        sound("a", tone(72, 0.05, 0.001), pitch=72.0),
        sound("b", tone(48, 0.2, 3.0), split="train", pitch=None, velocity=None, augments="a"),
    ]
    return build_bank(tmp_path / "bank", sounds)


def change(path, **changes):
    """Rewrite bank.json with other values (None: without the key) and the checksum of the notes."""
    info = json.loads((path / "bank.json").read_text())
    info["sha256"]["notes.parquet"] = sha256(path / "notes.parquet")
    (path / "bank.json").write_text(json.dumps({k: v for k, v in (info | changes).items() if v is not None}))


# Content


def test_audio_has_its_level(bank):
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


def test_table_written_by_pandas_opens(tmp_path, bank):
    """pandas writes a column without values as one of no type."""
    path = shutil.copytree(bank.paths[0], tmp_path / "again")
    rows = pd.read_parquet(path / "notes.parquet").assign(augments=None, family=None)
    rows.to_parquet(path / "notes.parquet")
    change(path)
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


def test_open_bank_is_cheap_and_read_only(bank):
    """Lists stay in Arrow, the table of instruments is made once."""
    assert all(isinstance(bank.notes[column].dtype, pd.ArrowDtype) for column in ("tags", "fx"))
    assert bank.instruments is bank.instruments
    with pytest.raises(ValueError, match="read-only"):
        bank._audio[0][0] = 1


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


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system has no madvise")
def test_read_ahead_requests_the_bytes_of_the_sounds(tmp_path):
    """From the start of a page to the end of what will be read of a sound, in the file that holds it."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        build_bank(path, [sound(f"{path.name}{i}", tone(60, 1.0)) for i in range(3)])
    bank, requested = NoteBank.open(paths), []
    assert len(bank._files) == 2

    class File:
        def __init__(self, name):
            self.name = name

        def madvise(self, advice, start, length):
            assert advice == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
            requested.append((self.name, start, start + length))

    bank._files = [File("a"), File("b")]
    bank.read_ahead([2, 0, 4, 5], [100, 10**6, 10**6, -3])
    page, second = mmap.PAGESIZE, 2 * RATE
    assert requested == [
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
    builder.finish(["all"], {"source": "tones"}, {})
    with pytest.raises(ValueError, match=r"different sample rates cannot be combined: \[16000, 48000\]"):
        NoteBank.open([bank.paths[0], tmp_path / "other"])


def test_banks_that_share_an_instrument(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        build_bank(path, [sound("x/y/z", tone(60))])
    with pytest.raises(ValueError, match="two of these banks have instrument 'x/y/z': they cannot be combined"):
        NoteBank.open(paths)


def test_no_bank_at_all():
    with pytest.raises(ValueError, match="no note bank is given"):
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
    change(bank.paths[0], format=FORMAT + 1)
    with pytest.raises(ValueError, match=rf"has format {FORMAT + 1}, this version reads format {FORMAT}: delete .* and b"):
        NoteBank.open(bank.paths[0])


def _rewrite(name, data):
    return lambda path: (path / name).write_bytes(data)


def _append(name, data):
    return lambda path: (path / name).write_bytes((path / name).read_bytes() + data)


def _notes(edit):
    def harm(path):
        pq.write_table(edit(pq.read_table(path / "notes.parquet")), path / "notes.parquet")
        change(path)

    return harm


HARM = {
    "no JSON": _rewrite("bank.json", b"{"),
    "no object": _rewrite("bank.json", b"[1]"),
    **{f"no {name}": lambda path, name=name: change(path, **{name: None}) for name in ("format", "counts", "sample_rate", "sha256")},
    "a rate too high": lambda path: change(path, sample_rate=768_001),
    "no audio": lambda path: (path / "audio.i16").unlink(),
    "short audio": _rewrite("audio.i16", b"1234"),
    "half a sample more": _append("audio.i16", b"1"),
    "no notes": lambda path: (path / "notes.parquet").unlink(),
    "another checksum": _append("notes.parquet", b"1"),
    "no table": lambda path: (_rewrite("notes.parquet", b"PAR1 nothing")(path), change(path)),
    "fewer notes": _notes(lambda table: table.slice(0, 1)),
    "other columns": _notes(lambda table: pa.table({"x": [1, 2, 3]})),
}


@pytest.mark.parametrize("what", HARM)
def test_damaged_bank(bank, what):
    """One sentence that names the bank and what to do."""
    HARM[what](bank.paths[0])
    repair = r"delete .* and build it again with notebooks/01_data\.ipynb"
    with pytest.raises(ValueError, match=rf"is damaged \(.*\): {repair}$") as caught:
        NoteBank.open(bank.paths[0])
    assert str(bank.paths[0]) in str(caught.value)


@pytest.mark.parametrize("rate", [1, 768_000])
def test_lowest_and_highest_rate(bank, rate):
    change(bank.paths[0], sample_rate=rate)
    assert NoteBank.open(bank.paths[0]).sample_rate == rate


@pytest.mark.parametrize("limit", [0, -5])
def test_limit_of_no_sample_is_no_sound(tone_bank, limit):
    """Also for the first note of a bank, before which there is nothing."""
    assert [len(tone_bank.audio(i, limit)) for i in (0, 1, len(tone_bank) - 1)] == [0, 0, 0]
