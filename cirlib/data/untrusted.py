"""Reading the files of a note bank that anybody may have written: sizes and values are checked before use.

A damaged table does not match its checksum in bank.json and is not parsed. A hostile one may match: a few bytes of
Parquet can unpack to gigabytes, and rows can point outside of the audio.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..common.files import sha256
from ..common.settings import choose
from ..common.untrusted import inside
from .notes import SCHEMA, SPLITS
from .taxonomy import GROUPS

INFO_TYPES = {  # of values in bank.json
    "sample_rate": int, "counts": dict, "sha256": dict, "source": str, "license": str, "citation": str, "made": dict, "skipped": dict,
    "noted": dict,
}  # fmt: skip
MAX_RATE = 768_000  # Hz
REQUIRED = ("instrument", "source", "split", "offset", "length", "gain")
TEXTS = ("instrument", "family", "source", "split", "augments")
MAX_TEXT = 1000  # bytes of a name
MAX_TABLE = 1 << 30  # bytes of the unpacked table
MAX_TAGS = 100  # of a sound


def read_table(folder: Path, info: dict) -> pa.Table:
    """Return the notes of a bank (SCHEMA). Raises ValueError, or whatever pyarrow raises, for files that no build writes."""
    _check_info(info)
    samples, odd = divmod(inside(folder, "audio.i16").stat().st_size, 2)
    file = inside(folder, "notes.parquet")
    if sha256(file) != info["sha256"]["notes.parquet"]:
        raise ValueError("the checksum of notes.parquet differs")
    table = read_notes(file, samples)
    if odd or (table.num_rows, samples) != (info["counts"]["notes"], info["counts"]["samples"]):
        raise ValueError("the files do not have the sizes that bank.json gives")
    return table


def _check_info(info: dict) -> None:
    """Raise ValueError for values in bank.json that no build writes."""
    for name, kind in INFO_TYPES.items():
        if name in info and type(info[name]) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, got {info[name]!r:.100}")
    if not 0 < info["sample_rate"] <= MAX_RATE:
        raise ValueError(f"sample_rate must be 1 to {MAX_RATE}, got {info['sample_rate']}")
    if any(type(info["counts"][name]) is not int for name in ("notes", "samples", "instruments")):
        raise ValueError("counts must be numbers of notes, samples and instruments")
    if set(info["sha256"]) != {"audio.i16", "notes.parquet"}:
        raise ValueError("sha256 must have the checksums of audio.i16 and notes.parquet")
    if not all(isinstance(why, str) for what in ("skipped", "noted") for why in info.get(what, {}).values()):
        raise ValueError("skipped and noted must be names with reasons")


def read_notes(path: Path, samples: int) -> pa.Table:
    """Return the table at `path`, whose rows all lie within `samples` samples of audio."""
    with pq.ParquetFile(path, read_dictionary=[*TEXTS, "tags.list.element", "fx.list.element"]) as file:
        _check_size(file.metadata, samples)
        groups = [file.read_row_group(i, columns=SCHEMA.names) for i in range(file.num_row_groups)]  # pyarrow cannot read several at once
        table = pa.concat_tables(groups).select(SCHEMA.names)
    _check_texts(table)
    table = table.cast(SCHEMA)
    _check_rows(table, samples)
    return table


def _check_size(metadata: pq.FileMetaData, samples: int) -> None:
    rows = metadata.num_rows
    if not 0 < rows <= samples:
        raise ValueError(f"{rows} notes in {samples} samples")
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    if sum(c.total_uncompressed_size for c in columns) > MAX_TABLE or any(c.num_values > MAX_TAGS * rows for c in columns):
        raise ValueError("its table would become too large when unpacked")


def _check_texts(table: pa.Table) -> None:
    """Raise ValueError for a name that is too long, or an unknown split or family, before repeated texts are unpacked."""
    for name in (*TEXTS, "tags", "fx"):
        for chunk in table[name].chunks:
            values = chunk.values if pa.types.is_list(chunk.type) else chunk
            words = values.dictionary if pa.types.is_dictionary(values.type) else values
            if pa.types.is_null(words.type):  # a column without values, as pandas writes it
                continue
            if (pc.max(pc.binary_length(words)).as_py() or 0) > MAX_TEXT:
                raise ValueError(f"a value of {name} is longer than {MAX_TEXT} bytes")
            if name in ("split", "family"):
                for word in set(words.to_pylist()) - {None}:
                    choose(name, word, SPLITS if name == "split" else GROUPS)


def _check_rows(table: pa.Table, samples: int) -> None:
    """Raise ValueError for a sound outside of the audio, or one that is not finite once it is divided by its gain."""
    for name in REQUIRED:
        if table[name].null_count:
            raise ValueError(f"a sound has no {name}")
    offset, length, gain = (table[name].to_numpy() for name in ("offset", "length", "gain"))
    outside = (offset < 0) | (length < 1) | (length > samples) | (offset > samples - length)
    if outside.any():
        raise ValueError(f"sound {int(outside.argmax())} lies outside of its audio")
    unusable = ~((gain > 1e-30) & (gain < 1e30))
    if unusable.any():
        raise ValueError(f"sound {int(unusable.argmax())} has a gain of {gain[unusable.argmax()]:g}")
    for name in ("pitch", "velocity", "hold_s"):
        if np.isinf(table[name].to_numpy()).any():
            raise ValueError(f"a {name} is not finite")
