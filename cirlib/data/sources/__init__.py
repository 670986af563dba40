"""Sources of sounds. Each module turns one into a NoteBank; `build_bank` builds one bank, `ensure_banks` those of a preset.

A source is a module with a dataclass of its options, `build(path, config, n_jobs=...)`, and `check(config)` if inputs can be missing.
"""

import dataclasses
import os
from importlib import import_module
from pathlib import Path

from ...common.packages import Missing
from ...common.paths import PARAMS, at_home, plain_name, short
from ...common.settings import choose, from_dict, preset_folder, read_params
from ..bank import NoteBank
from ..builder import made_elsewhere
from ..note_statistics import load_statistics

SOURCES = {  # module -> its options
    "virtual": "VirtualConfig",
    "nsynth": "NSynthConfig",
    "surge": "SurgeConfig",
    "cir": "CirConfig",
    "soundfont": "SoundFontConfig",
    "sfz": "SfzConfig",
    "folder": "FolderConfig",
}
DEFAULTS = {"source": "virtual", "path": "", "bank": "data/quick", "options": {}, "statistics": ""}  # of a data file, as in 01_data


def source_config(source: str) -> type:
    """Return the configuration class of a source; its fields are the options of `build_bank`."""
    choose("source", source, SOURCES)
    return getattr(_module(source), SOURCES[source])


def _module(source: str):
    return import_module(f".{source}", __package__)


def source_options(source: str, options: dict, path: str | list = "", statistics: str = "") -> dict:
    """Return all options of a source: those given, else its defaults. Paths become absolute; they are relative to the project's home.

    Raises ValueError for an unknown source or option.
    """
    cls = source_config(source)
    if not isinstance(options, dict):
        raise ValueError(f"options must be `name: value` pairs, got {options!r}")
    values = {**options, **{name: value for name, value in (("path", path), ("statistics", statistics)) if value}}
    values = {name: value for name, value in values.items() if value not in ("", [], ())}
    if "statistics" not in cls.__annotations__:  # then only notebooks use it
        values.pop("statistics", None)
    options = dataclasses.asdict(from_dict(cls, values))
    for name in {"path", "midi", "statistics"} & options.keys():
        value = options[name]
        options[name] = (value and str(at_home(value))) if isinstance(value, str) else tuple(str(at_home(v)) for v in value)
    return options


def build_bank(source: str, path: str | Path, options: dict, *, n_jobs: int = -1) -> NoteBank:
    """Build the bank of a source at `path` (relative to the project's home), or open it if it is up to date.

    `options` are those of source_options. A bank with these options is opened even if its inputs are not on this machine.
    """
    options, path = source_options(source, options), at_home(path)
    try:
        return _module(source).build(path, source_config(source)(**options), n_jobs=n_jobs)
    except (Missing, FileNotFoundError) as missing:
        bank = made_elsewhere(path, source, options)
        if bank is None:
            raise
        print(f"{path.name} is opened as it is: {missing}")
        return bank


def missing(preset: str) -> list[str]:
    """Return a sentence for each missing input of a preset's banks: what, where, and how to get it."""
    sentences = []
    for file in data_files(preset):
        values = data_values(file)
        if (at_home(values["bank"]) / "bank.json").is_file():
            continue
        try:
            config = source_config(values["source"])(**file_options(values))
            if check := getattr(_module(values["source"]), "check", None):
                check(config)
            load_statistics(at_home(values["statistics"]) if values["statistics"] else "")
        except (Missing, FileNotFoundError) as error:
            sentences.append(f"params/{preset}/{file.name}: {error}")
    return sentences


def data_files(preset: str) -> list[Path]:
    """Return params/<preset>/data*.yaml: one bank each. Raises ValueError for a preset without any."""
    return sorted(preset_folder(preset, PARAMS).glob("data*.yaml"))


def data_values(file: Path) -> dict:
    """Return the parameters of 01_data in a data file, and the defaults of others.

    Raises ValueError for names that are no plain names, as papermill would execute them, and for a bank outside of the project's home.
    """
    values = read_params(file)
    for name in values:
        choose(f"parameter of {file.name}", name, [*DEFAULTS, "preset", "card"])
    for name in {"preset", "card"} & values.keys():
        plain_name(name, values[name])
    values = {**DEFAULTS, **values}
    if not all(isinstance(values[name], str) for name in ("source", "bank", "statistics")):
        raise ValueError(f"{short(file)}: source, bank and statistics must be text")
    if not values["bank"] or not Path(os.path.normpath(at_home(values["bank"]))).is_relative_to(at_home("")):
        raise ValueError(
            f"{short(file)} builds its bank at {values['bank']!r:.200}, outside of the project: choose a place inside, or set CIRLIB_HOME"
        )
    return values


def file_options(values: dict) -> dict:
    """Return the options of the source that the values of a data file choose."""
    return source_options(values["source"], values["options"] or {}, values["path"], values["statistics"])


def ensure_banks(preset: str) -> NoteBank:
    """Return the banks of params/<preset>/data*.yaml as one; missing ones are built first."""
    files = [data_values(file) for file in data_files(preset)]
    paths = [path for values in files for path in build_bank(values["source"], values["bank"], file_options(values)).paths]
    return NoteBank.open(paths)
