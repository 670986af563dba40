"""Results of runs that are made in parts, on several machines: figures/<preset>/runs.json, of which tables and curves are drawn."""

import json
from pathlib import Path

import pandas as pd

from ..common.files import write_json
from ..common.paths import FIGURES, run_folder, short
from ..training.config import read_config
from . import rows as sweep
from .labels import order
from .tables import collect, other_settings

NAME = "runs.json"


def update(preset: str) -> list[dict]:
    """Add the finished runs of this machine to runs.json of a preset; return all records, in the order of tables.

    A record is metrics.json with `config` and `curve` (validation during training). A run replaces the record of the same row and
    seed. Records whose row has other settings now are dropped, which is printed. ValueError for runs on other sounds than the records.
    """
    path, rows = FIGURES / preset / NAME, sweep.settings(preset)
    records = {(r["experiment"], r["seed"]): r for r in (json.loads(path.read_text()) if path.exists() else [])}
    for name, seed in list(records):
        if name not in rows or (other := other_settings(records[name, seed]["config"], rows[name])):
            print(f"{name}, seed {seed}, is dropped: {', '.join(other) if name in rows else 'no row has its name any more'}")
            del records[name, seed]
    records |= {(run["experiment"], run["seed"]): run for run in _finished(preset) if run["experiment"] in rows}
    sounds = {json.dumps(r["provenance"]["data"], sort_keys=True): f"{name}, seed {seed}" for (name, seed), r in records.items()}
    if len(sounds) > 1:
        raise ValueError(f"{' and '.join(sounds.values())} have different sounds: delete the runs of one of them, or {short(path)}")
    out = sorted(records.values(), key=lambda r: (*order(r["experiment"]), r["seed"]))
    if out or path.exists():
        write_json(path, out)
    return out


def _finished(preset: str) -> list[dict]:
    try:
        runs = collect(preset)
    except ValueError:  # none on this machine
        return []
    return [{**run, "curve": curve(run_folder(preset, run["experiment"], run["seed"]))} for run in runs]


def curve(folder: Path) -> list[dict]:
    """Return validation during training: step, minutes at the median speed, top1 and top5; [] for a run without training."""
    path = folder / "history.csv"
    history = pd.read_csv(path) if path.exists() else pd.DataFrame()
    if "clips_per_s" not in history:
        return []
    clips = history.step * read_config(folder)[0].batch_size
    minutes = clips / history.clips_per_s.median() / 60  # the median: other work on the machine slows some steps down
    rows = history.assign(minutes=minutes).dropna(subset="valid_top1")
    return [
        {"step": int(r.step), "minutes": round(r.minutes, 2), "top1": round(r.valid_top1, 4), "top5": round(r.valid_top5, 4)}
        for r in rows.itertuples()
    ]
