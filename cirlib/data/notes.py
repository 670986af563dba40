"""Columns of `notes.parquet`, the table of a bank with one row per sound."""

import pyarrow as pa

SPLITS = ("train", "valid", "test")
SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),  # source/bank/name
        ("family", pa.string()),
        ("tags", pa.list_(pa.string())),  # of taxonomy.TAGS, and one of taxonomy.KINDS for a sound that is no single note
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
