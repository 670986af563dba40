"""The table of a bank at its limits; what is far beyond them: attacks_data.py."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cirlib.audio.io import LOUDEST
from cirlib.data import notes
from cirlib.data.notes import SCHEMA, read_notes
from cirlib.data.parquet_sizes import sizes

ROW = {
    "instrument": "a/b", "family": "Bass", "tags": ["bass"], "source": "a", "split": "train", "pitch": 60.0, "velocity": 100.0,
    "hold_s": 0.1, "fx": [], "augments": None, "offset": 0, "length": 10, "gain": 1.0,
}  # fmt: skip
BYTES = "x" * 1000


def stored(path: Path, count: int = 3, schema: pa.Schema = SCHEMA, **columns) -> Path:
    """A table of equal rows, one of which has these columns."""
    rows = [dict(ROW) for _ in range(count)]
    rows[count // 2] |= columns
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path / "notes.parquet")
    return path / "notes.parquet"


@pytest.mark.parametrize(
    "columns",
    [
        {"tags": ["t"] * 298},  # 300 values in three rows
        {"instrument": BYTES}, {"tags": [BYTES]}, {"fx": [BYTES]}, {"augments": BYTES},
        {"length": 1}, {"length": 20}, {"offset": 10}, {"offset": 19, "length": 1},
        {"gain": 1.5e-30}, {"gain": 0.9e30},
        {"pitch": None, "velocity": None, "family": None, "tags": None, "fx": None, "hold_s": None},
    ],
)  # fmt: skip
def test_what_is_just_inside_is_read(tmp_path, columns):
    read = read_notes(stored(tmp_path, **columns), 20).to_pylist()[1]
    assert {name: read[name] for name in columns} == {k: np.float32(v) if isinstance(v, float) else v for k, v in columns.items()}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"tags": ["t"] * 299}, "its table would become too large when unpacked"),
        ({"instrument": BYTES + "y"}, "a instrument is longer than 1000 bytes"),
        ({"tags": [BYTES + "y"]}, "a tags is longer than 1000 bytes"),
        ({"fx": ["é" * 501]}, "a fx is longer than 1000 bytes"),
        ({"length": 0}, "sound 1 lies outside of its audio"),
        ({"length": 21}, "sound 1 lies outside of its audio"),
        ({"offset": 11}, "sound 1 lies outside of its audio"),
        ({"offset": -1}, "sound 1 lies outside of its audio"),
        ({"gain": 0.9e-30}, "sound 1 has a gain of 9e-31"),
        ({"gain": 1e-30}, "sound 1 has a gain of 1e-30"),
        ({"gain": 1e30}, "sound 1 has a gain of 1e\\+30"),
        ({"gain": 1.1e30}, "sound 1 has a gain of 1.1e\\+30"),
        *(({name: float("inf")}, f"a {name} that is not finite") for name in ("pitch", "velocity", "hold_s")),
        *(({name: None}, f"a sound without {name}") for name in notes.NEVER_NULL),
    ],
)
def test_what_is_just_outside_is_refused(tmp_path, columns, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        read_notes(stored(tmp_path, **columns), 20)


def test_as_many_notes_as_samples_and_no_more(tmp_path):
    file = stored(tmp_path, 5, length=1)
    assert len(read_notes(file, 20)) == 5
    pq.write_table(pa.Table.from_pylist([{**ROW, "length": 1}] * 5, schema=SCHEMA), file)
    assert len(read_notes(file, 5)) == 5
    with pytest.raises(ValueError, match=r"^5 notes of 4 samples$"):
        read_notes(file, 4)
    pq.write_table(SCHEMA.empty_table(), file)
    with pytest.raises(ValueError, match=r"^0 notes of 20 samples$"):
        read_notes(file, 20)


def test_a_table_of_the_largest_size_is_read(tmp_path, monkeypatch):
    file = stored(tmp_path)
    assert notes.MOST_BYTES == 2**30 and notes.MOST_TAGS == 100 and LOUDEST == 1e9
    monkeypatch.setattr(notes, "MOST_BYTES", sizes(file)[2])
    assert len(read_notes(file, 20)) == 3
    monkeypatch.setattr(notes, "MOST_BYTES", sizes(file)[2] - 1)
    with pytest.raises(ValueError, match="too large when unpacked"):
        read_notes(file, 20)


def test_texts_that_repeat_are_looked_at_once(tmp_path, monkeypatch):
    """Written out, a name of 1,000 bytes in a million rows would take a gigabyte before it is refused."""
    looked, length = [], pc.binary_length
    monkeypatch.setattr(pc, "binary_length", lambda words: looked.append(len(words)) or length(words))
    pq.write_table(pa.Table.from_pylist([{**ROW, "fx": ["chorus"]}] * 50, schema=SCHEMA), tmp_path / "notes.parquet")
    read_notes(tmp_path / "notes.parquet", 20 * 50)
    assert max(looked) == 1 and len(looked) >= len(notes.TEXTS) + 1


def test_a_column_without_a_type_is_no_reason_to_look_no_further(tmp_path):
    untyped = pa.schema([pa.field(f.name, pa.null() if f.name == "augments" else f.type) for f in SCHEMA])
    assert read_notes(stored(tmp_path, schema=untyped), 20)["augments"].null_count == 3
    with pytest.raises(ValueError, match="a fx is longer"):
        read_notes(stored(tmp_path, schema=untyped, fx=[BYTES + "y"]), 20)
