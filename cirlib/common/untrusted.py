"""Defences against hostile or damaged files: bounded YAML and JSON, paths that stay in their folder, archives that stay small."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import yaml

from .paths import short

MAX_YAML = 1 << 20  # bytes
MAX_JSON = 1 << 28  # bytes; NSynth's metadata, the largest file in use, has 170 MB


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file of at most MAX_YAML bytes. Raises whatever the text leads to."""
    if (size := path.stat().st_size) > MAX_YAML:
        raise ValueError(f"{size} bytes are too many")
    return yaml.load(path.read_text(), _PlainLoader)


class _PlainLoader(yaml.SafeLoader):
    """Loads no objects and no aliases: nested aliases would expand a few lines to gigabytes."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not supported: write the value again")
        return super().compose_node(parent, index)


def read_json(path: Path, **options) -> Any:
    """Return the value of a JSON file of at most MAX_JSON bytes; `options` go to json.loads.

    Raises ValueError if it is not JSON, nests too deeply or contains NaN or Infinity.
    """
    if (size := path.stat().st_size) > MAX_JSON:
        raise ValueError(f"{size} bytes are too many")
    try:
        return json.loads(path.read_text(), parse_constant=_refuse_constant, **options)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def inside(folder: Path, path: str | Path) -> Path:
    """Return `path` relative to `folder`. Raises ValueError if it leads outside, through `..`, links or an absolute path."""
    place = Path(folder, path)
    if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{str(path)!r:.200} leads outside of {short(folder)}")
    return place


def leads_outside(folder: Path, file: Path) -> bool:
    """Return whether a file of a folder is, or lies behind, a link to a place outside."""
    try:
        inside(folder, file)
    except ValueError:
        return True
    return False


def is_text(path: str | Path) -> bool:
    """Return whether a file name is valid UTF-8, so that tables can store it."""
    return not any("\ud800" <= c <= "\udfff" for c in str(path))


def as_text(path: str | Path) -> str:
    """Return a file name with `?` for bytes that are not UTF-8."""
    return str(path).encode(errors="replace").decode()


def check_uncompressed(path: Path) -> None:
    """Raise ValueError if a zip file (a checkpoint of torch is one) is compressed or its members overlap: it could expand without limit."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > path.stat().st_size:
        raise ValueError("it would become larger when unpacked")
