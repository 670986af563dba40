"""Origins of sound. Each module turns one origin into a NoteBank; `build_bank` makes one, `ensure_banks` those of a preset.

`python -m cirlib.data.sources PRESET [ROW ...]` tells which inputs of a preset's banks, and of rows, are missing.
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
DEFAULTS = {"source": "virtual", "path": "", "bank": "data/quick", "options": {}, "statistics": ""}  # of a data file, as in 01_data


def source_config(source: str) -> type:
    """Configuration class of a source: its fields are the options of `build_bank`."""
    choose("source", source, SOURCES)
    return getattr(import_module(f".{source}", __package__), SOURCES[source])


def source_options(source: str, options: dict, path: str | list = "", statistics: str = "") -> dict:
    """All options of a source: those given, else its defaults. Paths are made absolute: relative ones are relative to the project's home.

    Raises ValueError for an unknown source or option.
    """
    cls = source_config(source)
    if not isinstance(options, dict):
        raise ValueError(f"options must be `name: value` pairs, got {options!r}")
    given = {"path": path, "statistics": statistics}
    values = {**options, **{k: v for k, v in given.items() if v}}
    values = {k: v for k, v in values.items() if v not in ("", [], ())}
    if "statistics" not in cls.__annotations__:  # then for the figure of 01_data and the mixtures of 02_train only
        values.pop("statistics", None)
    options = dataclasses.asdict(from_dict(cls, values))
    for name in {"path", "midi", "statistics"} & options.keys():
        value = options[name]
        if isinstance(value, str):
            options[name] = value and str(at_home(value))
        else:
            options[name] = tuple(str(at_home(v)) for v in value)
    return options


def build_bank(source: str, path: str | Path, options: dict, n_jobs: int = -1) -> NoteBank:
    """Make the bank of a source at `path` (relative to the project's home), or open it if that very bank is there.

    `options` are fields of the source's configuration (see source_options). A bank that was made elsewhere with these options
    is opened though its origin is not here.
    """
    options, path = source_options(source, options), at_home(path)
    try:
        return import_module(f".{source}", __package__).build(path, source_config(source)(**options), n_jobs=n_jobs)
    except (Missing, FileNotFoundError) as missing:
        bank = made_elsewhere(path, source, options)
        if bank is None:
            raise
        print(f"{path.name} is taken as it is: {missing}")
        return bank


def missing(preset: str) -> list[str]:
    """One sentence for each input of a preset's banks that is not here: what, where, and how to get it."""
    found = []
    for file in data_files(preset):
        values = data_values(file)
        if (at_home(values["bank"]) / "bank.json").is_file():
            continue
        try:
            options = source_options(values["source"], values["options"] or {}, values["path"], values["statistics"])
            module = import_module(f".{values['source']}", __package__)
            if hasattr(module, "check"):
                module.check(source_config(values["source"])(**options))
            load_statistics(at_home(values["statistics"]) if values["statistics"] else "")
        except (Missing, FileNotFoundError) as error:
            found.append(f"params/{preset}/{file.name}: {error}")
    return found


def data_files(preset: str) -> list[Path]:
    """params/<preset>/data*.yaml: one bank each. ValueError for a preset without any."""
    return sorted(preset_folder(preset, PARAMS).glob("data*.yaml"))


def data_values(file: Path) -> dict:
    """Parameters of 01_data that a data file sets, its defaults for the others. ValueError for any that could not have been meant:
    papermill would run what stands in a name, and a bank may only be made inside of the project's home."""
    values = read_params(file)
    for name in values:
        choose(f"parameter of {file.name}", name, [*DEFAULTS, "preset", "card"])
    for name in {"preset", "card"} & values.keys():
        plain_name(name, values[name])
    values = {**DEFAULTS, **values}
    if not all(isinstance(values[name], str) for name in ("source", "bank", "statistics")):
        raise ValueError(f"{short(file)}: source, bank and statistics must be words")
    home = at_home("")
    if not values["bank"] or not Path(os.path.normpath(at_home(values["bank"]))).is_relative_to(home):
        raise ValueError(
            f"{short(file)} makes its bank at {values['bank']!r:.200}, outside of the project: name a place inside, or set CIRLIB_HOME"
        )
    return values


def ensure_banks(preset: str) -> NoteBank:
    """The banks of params/<preset>/data*.yaml as one, made first where they are missing."""
    paths = []
    for file in data_files(preset):
        values = data_values(file)
        options = source_options(values["source"], values["options"] or {}, values["path"], values["statistics"])
        paths += build_bank(values["source"], values["bank"], options).paths
    return NoteBank.open(paths)
