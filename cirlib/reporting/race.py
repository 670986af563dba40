"""A race of recipes, run in parts: what each finished run found is kept in figures/<preset>/race.json, which is in git.

`python -m cirlib.reporting.race PRESET` takes the finished runs of this machine in; tables and curves are drawn from the file alone.
"""

import json

import pandas as pd

from ..common.command_line import arguments, one_sentence
from ..common.files import write_json
from ..common.paths import FIGURES, run_folder, short
from ..common.settings import to_dict
from ..training.config import TrainConfig, read_config
from . import rows as sweep
from . import tables as report

NAME = "race.json"


def keep(preset: str) -> list[dict]:
    """Take the finished runs of the rows of a preset into its race.json; returns all that it holds, in the order of tables.

    A record is what metrics.json holds, `config`, and `curve`: what validation found while it trained. A run of this machine replaces the
    one of the same row and seed. Records whose row has other settings by now are dropped, and that is told. Raises ValueError for
    runs on other sounds than those of the records: they cannot be compared.
    """
    path, rows = FIGURES / preset / NAME, sweep.settings(preset)
    records = {(r["experiment"], r["seed"]): r for r in (json.loads(path.read_text()) if path.exists() else [])}
    for name, seed in list(records):
        if name not in rows or (other := report.other_settings(records[name, seed]["config"], rows[name])):
            print(f"{name}, seed {seed}, is dropped: {', '.join(other) if name in rows else 'no row has its name any more'}")
            del records[name, seed]
    for run in _finished(preset):
        if run["experiment"] in rows:
            records[run["experiment"], run["seed"]] = run
    sounds = {json.dumps(r["provenance"]["data"], sort_keys=True): f"{name}, seed {seed}" for (name, seed), r in records.items()}
    if len(sounds) > 1:
        raise ValueError(f"{' and '.join(sounds.values())} heard different sounds: delete the runs of one of them, or {short(path)}")
    out = sorted(records.values(), key=lambda r: (*report.order(r["experiment"]), r["seed"]))
    if out or path.exists():
        write_json(path, out)
    return out


def _finished(preset: str) -> list[dict]:
    try:
        runs = report.collect(preset)
    except ValueError:  # none on this machine
        return []
    out = []
    for run in runs:
        folder = run_folder(preset, run["experiment"], run["seed"])
        config, _ = read_config(folder)
        out.append({**run, "config": to_dict(config), "curve": curve(folder, config)})
    return out


def curve(folder, config: TrainConfig) -> list[dict]:
    """Validation while training: step, minutes at the median speed, top1 and top5 among validation instruments; [] without training."""
    path = folder / "history.csv"
    history = pd.read_csv(path) if path.exists() else pd.DataFrame()
    if "clips_per_s" not in history:
        return []
    minutes = history.step * config.batch_size / history.clips_per_s.median() / 60  # other work on the machine slows some steps down
    rows = history.assign(minutes=minutes).dropna(subset="valid_top1")
    return [
        {"step": int(r.step), "minutes": round(r.minutes, 2), "top1": round(r.valid_top1, 4), "top5": round(r.valid_top5, 4)}
        for r in rows.itertuples()
    ]


def main() -> None:
    """python -m cirlib.reporting.race PRESET"""
    (preset,) = arguments(main.__doc__, 1, 1)
    with one_sentence():
        records = keep(preset)
        for task in report.TITLES:
            print(report.markdown(report.table(records, task), task))


if __name__ == "__main__":
    main()
