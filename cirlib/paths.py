"""Where things are. Nothing depends on the working directory; CIRLIB_HOME moves all that is made: data, runs, indexes, figures."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("CIRLIB_HOME") or ROOT).expanduser().resolve()
DATA = HOME / "data"
RUNS = HOME / "runs"
LIB = HOME / "lib"
PARAMS = ROOT / "params"
FIGURES = HOME / "figures"


def run_folder(preset: str, experiment: str, seed: int) -> Path:
    """Folder of one training run: one row of a table, one seed."""
    return RUNS / preset / experiment / f"seed{seed}"


def plain_name(kind: str, name: str) -> str:
    """`name` if it can name one folder; otherwise a ValueError."""
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{kind} must be a plain name, without folders, got {name!r}")
    return name


def at_home(path: str | Path) -> Path:
    """A path as parameters name it: relative to the project's home, `~` is the user's."""
    return Path(HOME, Path(path).expanduser())


def short(path: Path) -> str:
    """A path as results and messages show it: relative to the project's home where it lies inside it, `~/...` where it lies in the user's
    home folder, whose name nobody needs to read, else as it was given. `at_home` finds all of them.
    """
    full, user = Path(path).resolve(), Path("~").expanduser().resolve()
    if full.is_relative_to(HOME):
        return str(full.relative_to(HOME))
    return str("~" / full.relative_to(user)) if user.parts[1:] and full.is_relative_to(user) else str(path)


def without_home(text: str) -> str:
    """What a library says, with `~` for the user's home folder."""
    user = Path("~").expanduser()
    return text.replace(str(user), "~") if user.parts[1:] else text


def shown(name: str) -> str:
    """The name of an encoder as results show it: a file or folder as `short` does."""
    place = Path(name).expanduser()
    return short(place) if place.is_absolute() else name
