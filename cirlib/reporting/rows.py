"""Rows of a preset: each params file that trains or tests something is a row; a file with lists becomes one row for each combination.

A list where 02_train or 05_baselines expects one value is a sweep (`hard_negative_ratio: [0, 1]`, `seed: [0, 1, 2]`), and so is a list
of lists where they expect a list. `single.yaml` with `hard_negative_ratio: [0, 1]` becomes the rows `single-hard_negative_ratio-0` and
`single-hard_negative_ratio-1`; seeds do not change the name. `base.yaml` is no row: it holds settings that rows include.
"""

import dataclasses
import itertools
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import yaml

from ..common.files import write_atomic
from ..common.paths import PARAMS, RUNS, short
from ..common.settings import choose, preset_folder, read_params
from ..models.checkpoints import is_folder
from ..models.pretrained import PLACE, SHIPPED
from ..training.config import WITH_SINGLE, TrainConfig, row_config

TUPLES = {name for name, hint in typing.get_type_hints(TrainConfig).items() if typing.get_origin(hint) is tuple}
NAMES = sorted({f.name for f in dataclasses.fields(TrainConfig)} - {"bank"} | {"method"})
NOT_OF_TRAINING = ("single",)  # 02_train does not have this parameter
NOT_OF_METHODS = (  # 05_baselines does not have these parameters
    *("task", "loss", "temperature", "max_instruments", "hard_negative_ratio", "augmented", "epoch_size", "warmup"),
    *("mixtures_per_instrument", "effects", "single_effects", "single_pairs", "gradient_cache_size", "workers", "compile"),
    *("optimiser", "precision"),
)
NOT_ROWS = re.compile(r"base|data(-.*)?")  # params files that are no rows


@dataclass
class Row:
    """One row of a table: its name, its seeds (none: those of the command) and the parameters of its notebook."""

    name: str
    seeds: tuple[int, ...]
    values: dict

    @property
    def notebook(self) -> str:
        """02_train (03_retrieve tests the run then), or 05_baselines for a baseline."""
        return "05_baselines" if "method" in self.values else "02_train"

    @property
    def continues(self) -> str | None:
        """Name of the row of this preset whose checkpoint this row goes on to train."""
        made = f"runs/{re.escape(self.values.get('preset', TrainConfig.preset))}/([^/]+)/seed[0-9]+/best.pt"
        found = re.fullmatch(made, str(self.values.get("encoder", "")))
        return found[1] if found else None

    @property
    def needs(self) -> str | None:
        """Name of the row that trains the encoder that this row uses: the one that it continues, or the one for single sounds."""
        if self.continues:
            return self.continues
        method = self.values.get("method", self.values.get("task"))
        return self.values.get("single", TrainConfig.single) if method in WITH_SINGLE else None

    def config(self, seed: int = 0) -> TrainConfig:
        """Settings of one run; ValueError, with the row's name, for values that its notebook would refuse."""
        try:
            return row_config({**self.values, "seed": seed})
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None


def expand(values: dict) -> list[Row]:
    """Return the rows of one params file. ValueError for an unknown name, an empty list, or two rows of one name."""
    experiment = values.get("experiment")
    if not isinstance(experiment, str):
        raise ValueError(f"experiment must be one name, got {experiment!r}")
    for name, value in values.items():
        choose("parameter", name, NAMES)
        if value == [] and name not in TUPLES:
            raise ValueError(f"{experiment}: {name} is an empty list, which makes no run: give it a value")
    swept = {name: value for name, value in values.items() if name != "seed" and _is_sweep(name, value)}
    plain = {name: value for name, value in values.items() if name != "seed"}
    rows = []
    for combination in itertools.product(*swept.values()):
        chosen = dict(zip(swept, combination, strict=True))
        name = "-".join([experiment, *(f"{k}-{_as_name(v)}" for k, v in chosen.items())])
        rows.append(Row(name, _seeds(experiment, values.get("seed")), {**plain, **chosen, "experiment": name}))
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"two combinations of {experiment} would have the same name: {', '.join(names)}")
    return rows


def _seeds(experiment: str, seed: int | list[int] | None) -> tuple[int, ...]:
    seeds = () if seed is None else tuple(seed) if isinstance(seed, list) else (seed,)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{experiment}: a seed is listed twice in {list(seeds)}")
    return seeds


def _is_sweep(name: str, value) -> bool:
    return isinstance(value, list) and (name not in TUPLES or any(isinstance(v, list) for v in value))


def _as_name(value) -> str:
    """Return a value as part of a folder's name: 0.25, cnn, Bass+Piano."""
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+]+", "_", text) or "none"


def rows(preset: str, overrides: dict | None = None) -> list[Row]:
    """Return all rows of params/<preset>, by file, with settings that `overrides` replaces where the row's notebook has them.

    Rows of the encoder that comes with cirlib are skipped where its weights are absent. ValueError if two rows have the same name, or a
    row needs another one that is absent.
    """
    out = []
    for file in sorted(preset_folder(preset, PARAMS).glob("*.yaml")):
        if not NOT_ROWS.fullmatch(file.stem):
            values = read_params(file)
            if values.get("experiment") != file.stem:
                raise ValueError(f"{short(file)} must have `experiment: {file.stem}`, its own name, got {values.get('experiment')!r}")
            if values.get("encoder") == SHIPPED and not is_folder(PLACE):
                continue
            absent = NOT_OF_METHODS if "method" in values else NOT_OF_TRAINING
            out += expand({**values, **{name: value for name, value in (overrides or {}).items() if name not in absent}})
    names = [row.name for row in out]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"params/{preset} makes two rows named {', '.join(twice)}: rename one")
    seeds = {row.name: row.seeds for row in out}
    for row in out:
        if row.needs and seeds.get(row.needs) != row.seeds:
            raise ValueError(f"{row.name} needs the row {row.needs}: params/{preset} must have that row, with the same seeds")
    return out


def pick(found: list[Row], patterns: Iterable[str]) -> list[Row]:
    """Return the rows whose names match any of the patterns (`single*`; `all`), in the order of `found`, with the rows that these need.

    ValueError for a pattern that matches no row.
    """
    names, chosen = [row.name for row in found], set()
    for pattern in patterns:
        matches = {name for name in names if pattern == "all" or fnmatchcase(name, pattern)}
        if not matches:
            raise ValueError(f"no row is named {pattern}; there are: {', '.join(names)}")
        chosen |= matches
    chosen |= {row.needs for row in found if row.name in chosen and row.needs}
    return sorted((row for row in found if row.name in chosen), key=lambda row: row.needs is not None)


def store_overrides(preset: str, overrides: dict) -> None:
    """Write the settings that a command replaced, for tables that are drawn later."""
    text = yaml.safe_dump(overrides, sort_keys=True)
    write_atomic(RUNS / preset / "overrides.yaml", lambda part: part.write_text(text))


def settings(preset: str) -> dict[str, dict]:
    """Return the parameters of every row by name, with the stored overrides; none for a preset without params."""
    if not (PARAMS / preset).is_dir():
        return {}
    file = RUNS / preset / "overrides.yaml"
    return {row.name: row.values for row in rows(preset, read_params(file) if file.exists() else None)}
