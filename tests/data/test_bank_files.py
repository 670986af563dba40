"""Reading the table of a bank at its limits; attacks far beyond them are in attacks_data.py."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cirlib.audio.io import LOUDEST
from cirlib.data import untrusted
from cirlib.data.notes import SCHEMA
from cirlib.data.untrusted import read_notes

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
def test_values_within_limits_are_read(tmp_path, columns):
    read = read_notes(stored(tmp_path, **columns), 20).to_pylist()[1]
    assert {name: read[name] for name in columns} == {k: np.float32(v) if isinstance(v, float) else v for k, v in columns.items()}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"tags": ["t"] * 299}, "its table would become too large when unpacked"),
        ({"instrument": BYTES + "y"}, "a value of instrument is longer than 1000 bytes"),
        ({"tags": [BYTES + "y"]}, "a value of tags is longer than 1000 bytes"),
        ({"fx": ["é" * 501]}, "a value of fx is longer than 1000 bytes"),
        ({"length": 0}, "sound 1 lies outside of its audio"),
        ({"length": 21}, "sound 1 lies outside of its audio"),
        ({"offset": 11}, "sound 1 lies outside of its audio"),
        ({"offset": -1}, "sound 1 lies outside of its audio"),
        ({"gain": 0.9e-30}, "sound 1 has a gain of 9e-31"),
        ({"gain": 1e-30}, "sound 1 has a gain of 1e-30"),
        ({"gain": 1e30}, "sound 1 has a gain of 1e\\+30"),
        ({"gain": 1.1e30}, "sound 1 has a gain of 1.1e\\+30"),
        *(({name: float("inf")}, f"a {name} is not finite") for name in ("pitch", "velocity", "hold_s")),
        *(({name: None}, f"a sound has no {name}") for name in untrusted.REQUIRED),
    ],
)
def test_values_beyond_limits_are_refused(tmp_path, columns, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        read_notes(stored(tmp_path, **columns), 20)


def test_notes_are_at_most_as_many_as_samples(tmp_path):
    file = stored(tmp_path, 5, length=1)
    assert len(read_notes(file, 20)) == 5
    pq.write_table(pa.Table.from_pylist([{**ROW, "length": 1}] * 5, schema=SCHEMA), file)
    assert len(read_notes(file, 5)) == 5
    with pytest.raises(ValueError, match=r"^5 notes in 4 samples$"):
        read_notes(file, 4)
    pq.write_table(SCHEMA.empty_table(), file)
    with pytest.raises(ValueError, match=r"^0 notes in 20 samples$"):
        read_notes(file, 20)


def test_largest_table_is_read(tmp_path, monkeypatch):
    """Whatever its row groups."""
    assert untrusted.MAX_TABLE == 2**30 and untrusted.MAX_TAGS == 100 and LOUDEST == 1e9
    file = stored(tmp_path)
    pq.write_table(pq.read_table(file), file, row_group_size=2)
    metadata = pq.read_metadata(file)
    size = sum(metadata.row_group(g).total_byte_size for g in range(2))
    monkeypatch.setattr(untrusted, "MAX_TABLE", size)
    assert len(read_notes(file, 20)) == 3
    monkeypatch.setattr(untrusted, "MAX_TABLE", size - 1)
    with pytest.raises(ValueError, match="too large when unpacked"):
        read_notes(file, 20)


def test_repeated_texts_are_checked_once(tmp_path, monkeypatch):
    """Unpacked, a name of 1,000 bytes in a million rows would take a gigabyte before it is refused."""
    checked, length = [], pc.binary_length
    monkeypatch.setattr(pc, "binary_length", lambda words: checked.append(len(words)) or length(words))
    pq.write_table(pa.Table.from_pylist([{**ROW, "fx": ["chorus"]}] * 50, schema=SCHEMA), tmp_path / "notes.parquet")
    read_notes(tmp_path / "notes.parquet", 20 * 50)
    assert max(checked) == 1 and len(checked) >= len(untrusted.TEXTS) + 1


def test_other_columns_are_checked_after_an_untyped_one(tmp_path):
    untyped = pa.schema([pa.field(f.name, pa.null() if f.name == "augments" else f.type) for f in SCHEMA])
    assert read_notes(stored(tmp_path, schema=untyped), 20)["augments"].null_count == 3
    with pytest.raises(ValueError, match="a value of fx is longer"):
        read_notes(stored(tmp_path, schema=untyped, fx=[BYTES + "y"]), 20)
