"""Origins of sound. Each module turns one origin into a NoteBank; `build_bank` makes one, `ensure_banks` those of a preset."""

import dataclasses
from importlib import import_module
from pathlib import Path

from ..bank import NoteBank
from ..config import choose, from_dict, read_params
from ..paths import HOME, PARAMS

# module -> its configuration
SOURCES = {
    "virtual": "VirtualConfig",
    "nsynth": "NSynthConfig",
    "surge": "SurgeConfig",
    "cir": "CirConfig",
    "soundfont": "SoundFontConfig",
    "sfz": "SfzConfig",
    "folder": "FolderConfig",
}
OUTSIDE = ("preset", "card", "source", "bank")  # of a data file: not options of its source


def source_config(source: str) -> type:
    """Configuration class of a source: its fields are the options of `build_bank`."""
    choose("source", source, SOURCES)
    return getattr(import_module(f".{source}", __package__), SOURCES[source])


def build_bank(source: str, path: str | Path, options: dict, n_jobs: int = -1) -> NoteBank:
    """Make the bank of a source at `path` (relative to the project's home), or open it if that very bank is there.

    `options` are the fields of the source's configuration; relative paths among them are relative to the project's home too.
    Raises ValueError for an unknown source or option.
    """
    config = from_dict(source_config(source), options)
    for name in {f.name for f in dataclasses.fields(config)} & {"path", "midi", "statistics"}:
        value = getattr(config, name)
        if value:
            inside = [str(Path(HOME, Path(v).expanduser())) for v in ([value] if isinstance(value, str) else value)]
            setattr(config, name, inside[0] if isinstance(value, str) else tuple(inside))
    return import_module(f".{source}", __package__).build(Path(HOME, path), config, n_jobs)


def data_files(preset: str) -> list[Path]:
    """params/<preset>/data*.yaml: one bank each."""
    choose("preset", preset, sorted({p.parent.name for p in PARAMS.glob("*/data*.yaml")}))
    return sorted((PARAMS / preset).glob("data*.yaml"))


def ensure_banks(preset: str) -> NoteBank:
    """The banks of params/<preset>/data*.yaml as one, made first where they are missing."""
    paths = []
    for file in data_files(preset):
        values = read_params(file)
        options = {k: v for k, v in values.items() if k not in OUTSIDE}
        paths += build_bank(values["source"], values["bank"], options).paths
    return NoteBank.open(paths)
