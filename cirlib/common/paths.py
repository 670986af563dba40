"""Folders of the project. CIRLIB_HOME moves all that is made: data, runs, libraries, figures. Nothing depends on the working directory.

Without CIRLIB_HOME, a clone keeps them in itself, an installed package in ~/.cirlib.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IS_CLONE = (ROOT / "pyproject.toml").is_file()
HOME = Path(os.environ.get("CIRLIB_HOME") or (ROOT if IS_CLONE else "~/.cirlib")).expanduser().resolve()
RUNS = HOME / "runs"
LIB = HOME / "lib"
PARAMS = ROOT / "params"
FIGURES = HOME / "figures"


def run_folder(preset: str, experiment: str, seed: int) -> Path:
    """Return the folder of a training run: one row of a table, one seed."""
    return RUNS / plain_name("preset", preset) / plain_name("experiment", experiment) / f"seed{int(seed)}"


def plain_name(kind: str, name: str) -> str:
    """Return `name`. Raises ValueError if it cannot name a single folder on every system."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"{kind} must be a plain name (letters, digits and . _ + -), without folders, got {name!r:.100}")
    return name


def at_home(path: str | Path) -> Path:
    """Return the path that a parameter means: relative to HOME, `~` is the user's home folder."""
    return Path(HOME, Path(path).expanduser())


def short(path: Path) -> str:
    """Return a path for results and messages, without the name of the user: relative to HOME, or `~/...`, or unchanged.

    Links are followed where the path itself is in neither folder. `at_home` finds the same place again.
    """
    places, user = (Path(os.path.abspath(path)), Path(path).resolve()), Path("~").expanduser()
    for place in places:
        if place.is_relative_to(HOME):
            return str(place.relative_to(HOME))
    for place, home in [(place, home) for place in places for home in (user, user.resolve())]:
        if home.parts[1:] and place.is_relative_to(home):
            return str("~" / place.relative_to(home))
    return str(path)


def without_home(text: str) -> str:
    """Return a message with `~` for the user's home folder."""
    user = Path("~").expanduser()
    return text.replace(str(user), "~") if user.parts[1:] else text


def display_name(name: str) -> str:
    """Return the name of an encoder for results: `short` of an absolute path, any other name unchanged."""
    place = Path(name).expanduser()
    return short(place) if place.is_absolute() else name
