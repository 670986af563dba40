"""Names of rows in tables and figures, at most 27 characters with one exception, and their order."""

import dataclasses
import re
from pathlib import Path

from ..common.untrusted import read_yaml
from ..models.encoder import ENCODERS
from ..training.config import TrainConfig

TITLES = {"mixture": "three-instrument mixtures", "single": "single instruments"}
LABELS = read_yaml(Path(__file__).with_suffix(".yaml"))  # in the order of the tables
FIELDS = "|".join(field.name for field in dataclasses.fields(TrainConfig))
SETTINGS = {"hard_negative_ratio": "hard negatives"}  # names of settings in the labels of sweeps, where they differ


def label(experiment: str, encoder: str = "cnn") -> str:
    """Return the name of a row; a row of a sweep gets its values: `InfoNCE, hard negatives 0.25`.

    `encoder`: what the run started from, which decides whether an untrained row has random or pretrained weights.
    """
    pretrained = "pretrained on AudioSet" if "audioset" in encoder.lower() else "pretrained encoder"
    words = LABELS if encoder in ENCODERS else LABELS | {"untrained": pretrained}
    base = base_row(experiment)
    if experiment == base:
        return words[base]
    values = re.findall(r"([a-z_]+)-(.+?)(?=-[a-z_]+-|$)", experiment.removeprefix(base).removeprefix("-"))
    if not base or not values:
        return experiment
    return ", ".join([words[base], *(f"{SETTINGS.get(name, name.replace('_', ' '))} {value}" for name, value in values)])


def labels(runs: list[dict]) -> dict[str, str]:
    """Return experiment -> label, of runs as `tables.collect` returns them."""
    return {run["experiment"]: label(run["experiment"], run.get("encoder", "cnn")) for run in runs}


def base_row(experiment: str) -> str:
    """Return the known row of that name, or of a sweep over it (`single-sweep-hard_negative_ratio-0.5`); "" if there is none."""
    matches = (name for name in LABELS if re.fullmatch(rf"{re.escape(name)}(-({FIELDS})-.*)?", experiment))
    return max(matches, key=len, default="")


def order(experiment: str) -> tuple[int, str]:
    """Return the sort key of a row: the order of LABELS, then by name, numbers by value."""
    base = base_row(experiment)
    by_number = re.sub(r"\d+(\.\d+)?", lambda number: f"{float(number[0]):016.6f}", experiment)
    return (list(LABELS).index(base) if base else len(LABELS), by_number)
