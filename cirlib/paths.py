"""Where things are. Nothing depends on the working directory; CIRLIB_HOME moves data, runs and search indexes."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("CIRLIB_HOME") or ROOT).expanduser().resolve()
DATA = HOME / "data"
RUNS = HOME / "runs"
LIB = HOME / "lib"
PARAMS = ROOT / "params"
FIGURES = ROOT / "figures"


def run_folder(preset: str, experiment: str, seed: int) -> Path:
    """Folder of one training run: one row of a table, one seed."""
    return RUNS / preset / experiment / f"seed{seed}"


def short(path: Path) -> str:
    """A path as results show it: relative to the home folder of the project where it lies inside it."""
    path = Path(path).resolve()
    for base in (HOME, ROOT):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return path.name
