"""Rows of a preset: the params files that train or test something, a file with lists expanded into one row for each combination.

A list where 02_train or 05_baselines expects one value is a sweep (`hard_negative_ratio: [0, 1]`, `seed: [0, 1, 2]`); so is a list of lists
where they expect a list. `single.yaml` with `hard_negative_ratio: [0, 1]` becomes the rows `single-hard_negative_ratio-0` and `single-hard_negative_ratio-1`;
seeds keep the name.
`python -m cirlib.reporting.rows PRESET MAKEFILE [name=value ...]` writes the rows for the Makefile; name=value overrides all of them.
"""

import dataclasses
import itertools
import re
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..common.command_line import arguments, one_sentence
from ..common.files import write_atomic
from ..common.paths import PARAMS, RUNS, short
from ..common.settings import choose, preset_folder, read_params
from ..training.config import WITH_SINGLE, TrainConfig, row_config

TUPLES = {name for name, hint in typing.get_type_hints(TrainConfig).items() if typing.get_origin(hint) is tuple}
NAMES = sorted({f.name for f in dataclasses.fields(TrainConfig)} - {"bank"} | {"method"})
NOT_OF_TRAINING = ("single",)  # 02_train has none
NOT_OF_METHODS = (  # 05_baselines has none of these
    *("task", "loss", "temperature", "max_instruments", "hard_negative_ratio", "augmented", "epoch_size", "warmup"),
    *("mixtures_per_instrument", "effects", "single_pairs", "gradient_cache_size", "workers", "compile", "optimiser", "precision"),
)


@dataclass
class Row:
    """One row of a table: its name, seeds (none: those of the command) and the parameters of its notebook."""

    name: str
    seeds: tuple[int, ...]
    values: dict

    @property
    def notebook(self) -> str:
        """02_train, then 03_retrieve; or 05_baselines alone."""
        return "05_baselines" if "method" in self.values else "02_train"

    @property
    def needs(self) -> str | None:
        """Row of the encoder for single sounds that this one stands on."""
        method = self.values.get("method", self.values.get("task"))
        return self.values.get("single", TrainConfig.single) if method in WITH_SINGLE else None


def expand(values: dict) -> list[Row]:
    """Rows of one params file. Raises ValueError for an unknown name, an empty list or a name that cannot be told apart."""
    if not isinstance(values.get("experiment"), str):
        raise ValueError(f"experiment must be one name, got {values.get('experiment')!r}")
    swept = {name: value for name, value in values.items() if name != "seed" and _is_sweep(name, value)}
    for name, options in values.items():
        choose("parameter", name, NAMES)
        if options == [] and name not in TUPLES:
            raise ValueError(f"{values['experiment']}: {name} is an empty list, which makes no run: give it a value")
    seed = values.get("seed")
    seeds = () if seed is None else tuple(seed) if isinstance(seed, list) else (seed,)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{values['experiment']}: a seed comes twice in {list(seeds)}")
    rows = []
    for combination in itertools.product(*swept.values()):
        chosen = dict(zip(swept, combination, strict=True))
        name = "-".join([values["experiment"], *(f"{k}-{_plain(v)}" for k, v in chosen.items())])
        rows.append(Row(name, seeds, {**{k: v for k, v in values.items() if k != "seed"}, **chosen, "experiment": name}))
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"two combinations of {values['experiment']} would have the same name: {', '.join(names)}")
    return rows


def _is_sweep(name: str, value) -> bool:
    return isinstance(value, list) and (name not in TUPLES or any(isinstance(v, list) for v in value))


def _plain(value) -> str:
    """A value as part of a folder's name: 0.25, cnn, Bass+Piano."""
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+]+", "_", text) or "none"


def rows(preset: str, overrides: dict | None = None) -> list[Row]:
    """All rows of params/<preset>, by file. ValueError if two have the same name, or one stands on a row that is not there."""
    files = sorted(p for p in preset_folder(preset, PARAMS).glob("*.yaml") if not re.fullmatch(r"data(-.*)?", p.stem))
    out = []
    for file in files:
        values = read_params(file)
        if values.get("experiment") != file.stem:
            raise ValueError(f"{short(file)} must say `experiment: {file.stem}`, its own name, it says {values.get('experiment')!r}")
        others = NOT_OF_METHODS if "method" in values else NOT_OF_TRAINING
        fits = {k: v for k, v in (overrides or {}).items() if k not in others}
        out += expand({**values, **fits})
    names = [row.name for row in out]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"params/{preset} makes two rows named {', '.join(twice)}: rename one")
    seeds = {row.name: row.seeds for row in out}
    for row in out:
        if row.needs and seeds.get(row.needs) != row.seeds:
            raise ValueError(f"{row.name} stands on {row.needs}: params/{preset} must have that row, with the same seeds")
    return out


def current(preset: str) -> list[Row]:
    """Rows of a preset with what its last `make reproduce` overrode; raises as `rows`."""
    file = RUNS / preset / "overrides.yaml"
    return rows(preset, read_params(file) if file.exists() else None)


def settings(preset: str) -> dict[str, dict]:
    """Parameters of every row by name, with what the last `make reproduce` of the preset overrode; none for a preset without params."""
    return {row.name: row.values for row in current(preset)} if (PARAMS / preset).is_dir() else {}


def main() -> None:
    """python -m cirlib.reporting.rows PRESET MAKEFILE [name=value ...]"""
    preset, makefile, *pairs = arguments(main.__doc__, 2)
    with one_sentence(yaml.YAMLError):
        overrides = {name: yaml.safe_load(value) for name, _, value in (p.partition("=") for p in pairs)}
        found = rows(preset, overrides)
        for row in found:
            _check(row)
        _write_rows(found, preset, overrides, Path(makefile))


def _write_rows(found: list[Row], preset: str, overrides: dict, makefile: Path) -> None:
    _write(RUNS / preset / "overrides.yaml", yaml.safe_dump(overrides, sort_keys=True))
    lines = ["# written by cirlib.reporting.rows: NAME SEEDS NOTEBOOK NEEDS of every row"]
    for row in found:
        _write(RUNS / preset / "params" / f"{row.name}.yaml", yaml.safe_dump(row.values, sort_keys=False))
        seeds = " ".join(map(str, row.seeds)) or "$(SEEDS)"
        lines.append(f"$(eval $(call row_rules,{row.name},{seeds},{row.notebook},{row.needs or ''}))")
    for file in (RUNS / preset / "params").glob("*.yaml"):
        if file.stem not in {row.name for row in found}:
            file.unlink()
    _write(makefile, "\n".join(lines) + "\n")


def _check(row: Row) -> None:
    """ValueError for settings that the notebook of a row would refuse, hours later perhaps."""
    try:
        for seed in row.seeds or (0,):
            row_config({**row.values, "seed": seed})
    except ValueError as error:
        raise ValueError(f"{row.name}: {error}") from None


def _write(path: Path, text: str) -> None:
    """Write a file if it changes: what depends on it is made again then."""
    if not path.exists() or path.read_text() != text:
        write_atomic(path, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
