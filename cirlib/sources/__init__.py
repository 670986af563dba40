"""Origins of sound. Each module turns one origin into a NoteBank; `ensure_bank` makes the one that a preset names."""

from pathlib import Path

from ..bank import NoteBank
from ..config import choose, from_dict, read_params
from ..paths import HOME, PARAMS

SOURCES = ("virtual",)


def build_bank(source: str, path: str | Path, options: dict, n_jobs: int = -1) -> NoteBank:
    """Make the bank of a source at `path` (relative to the project's home), or open it if that very bank is there.

    `options` are the fields of the source's configuration. Raises ValueError for an unknown source or option.
    """
    choose("source", source, SOURCES)
    from . import virtual

    return virtual.build(Path(HOME, path), from_dict(virtual.VirtualConfig, options), n_jobs)


def ensure_bank(preset: str) -> NoteBank:
    """The bank of params/<preset>/data.yaml, made first if it is missing."""
    choose("preset", preset, sorted(p.parent.name for p in PARAMS.glob("*/data.yaml")))
    values = read_params(PARAMS / preset / "data.yaml")
    values.pop("preset", None)
    return build_bank(values.pop("source"), values.pop("bank"), values)
