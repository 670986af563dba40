"""The table of a bank, one row per sound: its columns, and reading it so that no row leads outside of the bank's audio."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..common.settings import choose
from .parquet_sizes import sizes
from .taxonomy import GROUPS

SPLITS = ("train", "valid", "test")
SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),  # source/bank/name
        ("family", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("source", pa.string()),
        ("split", pa.string()),  # by instrument
        ("pitch", pa.float32()),  # MIDI; null for stems of several notes
        ("velocity", pa.float32()),  # MIDI; null for stems of several notes
        ("hold_s", pa.float32()),  # seconds between note on and note off
        ("fx", pa.list_(pa.string())),
        ("augments", pa.string()),  # uid of the original instrument, or null
        ("offset", pa.int64()),  # samples
        ("length", pa.int64()),  # samples
        ("gain", pa.float32()),  # sound = int16 / gain
    ]
)
NEVER_NULL = ("instrument", "source", "split", "offset", "length", "gain")
TEXTS = ("instrument", "family", "source", "split", "augments")
LONGEST_TEXT = 1000  # bytes of a name
MOST_BYTES = 1 << 30  # of the unpacked table
MOST_TAGS = 100  # of a sound


def read_notes(path: Path, samples: int) -> pa.Table:
    """The notes of a bank of so many samples; ValueError for rows that lead outside of them or tell what no build writes.

    Few bytes can stand for gigabytes: sizes are looked at before anything is unpacked. Raises whatever pyarrow makes of other files.
    """
    rows, values, unpacked = sizes(path)
    if not 0 < rows <= samples:
        raise ValueError(f"{rows} notes of {samples} samples")
    if unpacked > MOST_BYTES or values > MOST_TAGS * rows:
        raise ValueError("its table would become too large when unpacked")
    with pq.ParquetFile(path, read_dictionary=[*TEXTS, "tags.list.element", "fx.list.element"]) as file:
        table = file.read(columns=SCHEMA.names).select(SCHEMA.names)
    _check_texts(table)
    table = table.cast(SCHEMA)
    _check_rows(table, samples)
    return table


def _check_texts(table: pa.Table) -> None:
    """ValueError for a name that is too long, or an unknown split or family; before texts that repeat are written out."""
    for name in (*TEXTS, "tags", "fx"):
        for chunk in table[name].chunks:
            values = chunk.values if pa.types.is_list(chunk.type) else chunk
            words = values.dictionary if pa.types.is_dictionary(values.type) else values
            if pa.types.is_null(words.type):  # how others write a column without values
                continue
            if (pc.max(pc.binary_length(words)).as_py() or 0) > LONGEST_TEXT:
                raise ValueError(f"a {name} is longer than {LONGEST_TEXT} bytes")
            if name in ("split", "family"):
                for word in set(words.to_pylist()) - {None}:
                    choose(name, word, SPLITS if name == "split" else GROUPS)


def _check_rows(table: pa.Table, samples: int) -> None:
    """ValueError for a sound outside of the audio, or one that is not finite once it is divided by its gain."""
    for name in NEVER_NULL:
        if table[name].null_count:
            raise ValueError(f"a sound without {name}")
    offset, length, gain = (table[name].to_numpy() for name in ("offset", "length", "gain"))
    outside = (offset < 0) | (length < 1) | (length > samples) | (offset > samples - length)
    if outside.any():
        raise ValueError(f"sound {int(outside.argmax())} lies outside of its audio")
    silly = ~((gain > 1e-30) & (gain < 1e30))
    if silly.any():
        raise ValueError(f"sound {int(silly.argmax())} has a gain of {gain[silly.argmax()]:g}")
    for name in ("pitch", "velocity", "hold_s"):
        if np.isinf(table[name].to_numpy()).any():
            raise ValueError(f"a {name} that is not finite")
