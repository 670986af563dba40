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
    """A path as results show it: relative to the project's home where it lies inside it, else as it was given."""
    full = Path(path).resolve()
    return str(full.relative_to(HOME)) if full.is_relative_to(HOME) else str(path)
