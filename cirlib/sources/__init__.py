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


def source_config(source: str) -> type:
    """Configuration class of a source: its fields are the options of `build_bank`."""
    choose("source", source, SOURCES)
    return getattr(import_module(f".{source}", __package__), SOURCES[source])


def source_options(source: str, values: dict) -> dict:
    """`values` without the empty ones (a source's own default), paths made absolute: relative ones are relative to the project's home.

    Raises ValueError for an unknown source or option.
    """
    cls = source_config(source)
    values = {k: v for k, v in values.items() if v not in ("", [], ())}
    if "statistics" not in cls.__annotations__:  # then for the figure of 01_data and the mixtures of 02_train only
        values.pop("statistics", None)
    options = dataclasses.asdict(from_dict(cls, values))
    for name in {"path", "midi", "statistics"} & options.keys():
        value = options[name]
        if isinstance(value, str):
            options[name] = value and str(Path(HOME, Path(value).expanduser()))
        else:
            options[name] = tuple(str(Path(HOME, Path(v).expanduser())) for v in value)
    return options


def build_bank(source: str, path: str | Path, options: dict, n_jobs: int = -1) -> NoteBank:
    """Make the bank of a source at `path` (relative to the project's home), or open it if that very bank is there.

    `options` are fields of the source's configuration (see source_options).
    """
    config = source_config(source)(**source_options(source, options))
    return import_module(f".{source}", __package__).build(Path(HOME, path), config, n_jobs)


def data_files(preset: str) -> list[Path]:
    """params/<preset>/data*.yaml: one bank each."""
    choose("preset", preset, sorted({p.parent.name for p in PARAMS.glob("*/data*.yaml")}))
    return sorted((PARAMS / preset).glob("data*.yaml"))


def ensure_banks(preset: str) -> NoteBank:
    """The banks of params/<preset>/data*.yaml as one, made first where they are missing."""
    paths = []
    for file in data_files(preset):
        values = {"path": "", "options": {}, "statistics": "", **read_params(file)}
        options = {**values["options"], "path": values["path"], "statistics": values["statistics"]}
        paths += build_bank(values["source"], values["bank"], options).paths
    return NoteBank.open(paths)
