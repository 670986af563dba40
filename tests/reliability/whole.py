"""Digests of files for comparisons between runs: without times, and an error for a truncated file."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

TIMES = ("clips_per_s", "data_wait")  # measured times
OUTSIDE = ("git", "dirty")  # may change during a run
MAKING = (".building", ".lance", "sounds")  # temporary folders, and those of LanceDB


def files(folder: Path) -> dict[str, Path]:
    """Return the complete files below a folder by name."""
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: file for name, file in found.items() if not any(part.startswith(".") or part.endswith(MAKING) for part in file.parts)}


def names(folder: Path) -> list[str]:
    """Return all names below a folder, temporary files included, but none of LanceDB."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    return sorted(name for name in found if ".lance/" not in name)


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file by name. ValueError for a truncated file."""
    found = {}
    for name, file in files(folder).items():
        try:
            found[name] = digest(contents(file))
        except Exception as error:
            raise ValueError(f"{name} is truncated: {type(error).__name__}: {error}") from None
    return found


def digest(value: object) -> str:
    """Return the digest of bytes or plain data."""
    return hashlib.sha256(value if isinstance(value, bytes) else repr(value).encode()).hexdigest()[:16]


def contents(file: Path) -> object:
    """Return the contents of a complete file."""
    data = file.read_bytes()
    assert data.endswith(ENDS.get(file.suffix, b"")), "its end is missing"
    return READERS.get(file.suffix, bytes)(data)


def _json(data: bytes) -> object:
    return json.loads(data, object_hook=lambda value: {k: v for k, v in value.items() if k not in TIMES + OUTSIDE})


def _csv(data: bytes) -> object:
    rows = list(csv.DictReader(io.StringIO(data.decode()), strict=True))
    assert data.endswith(b"\n") and all(None not in row and None not in row.values() for row in rows), "its last line is cut"
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def _checkpoint(data: bytes) -> object:
    return _plain(torch.load(io.BytesIO(data), weights_only=True))


def _plain(value: object) -> object:
    """Return tensors as digests, and a history without times."""
    if isinstance(value, torch.Tensor):
        return digest(value.contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else repr(value.item()).encode())
    if isinstance(value, dict):
        history = [{k: v for k, v in row.items() if k not in TIMES} for row in json.loads(value["history"])] if "history" in value else None
        return {k: history if k == "history" else _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _arrays(data: bytes) -> object:
    with np.load(io.BytesIO(data)) as arrays:
        return {name: (str(a.dtype), a.shape, digest(a.tobytes())) for name, a in arrays.items()}


ENDS = {".md": b"\n", ".yaml": b"\n", ".svg": b"</svg>\n", ".png": b"IEND\xaeB`\x82"}
READERS = {
    ".json": _json, ".csv": _csv, ".pt": _checkpoint, ".npz": _arrays, ".parquet": lambda data: pd.read_parquet(io.BytesIO(data)).to_json(),
    ".yaml": yaml.safe_load,
}  # fmt: skip
