"""Results of runs that are made in parts, on several machines: figures/<preset>/runs.json, of which tables and curves are drawn.

tested.json lists every test on test instruments, those of replaced runs too.
"""

import json
from datetime import date
from pathlib import Path

import pandas as pd

from ..common.files import write_atomic, write_json
from ..common.paths import FIGURES, run_folder, short
from ..training.config import read_config
from . import rows as sweep
from .labels import TITLES, label, order
from .tables import collect, other_settings

NAME, TESTED = "runs.json", "tested.json"
PAPER_LOSSES = ("triplet", "triplet-full", "infonce", "infonce-full", "infonce-full-asymmetric")


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
    finished = [run for run in _finished(preset) if run["experiment"] in rows]
    records |= {(run["experiment"], run["seed"]): run for run in finished}
    sounds = {json.dumps(r["provenance"]["data"], sort_keys=True): f"{name}, seed {seed}" for (name, seed), r in records.items()}
    if len(sounds) > 1:
        raise ValueError(f"{' and '.join(sounds.values())} have different sounds: delete the runs of one of them, or {short(path)}")
    out = sorted(records.values(), key=lambda r: (*order(r["experiment"]), r["seed"]))
    if out or path.exists():
        write_json(path, out)
    if finished:
        list_tests(path.parent, finished)
    return out


def list_tests(folder: Path, runs: list[dict]) -> list[dict]:
    """Add the tests of runs to tested.json of a folder of figures, and write tested.md. Return all tests, the earliest first.

    A test has row, seed, day (of metrics.json), git, code, and top-1 and top-5 in percent of each test; nothing is ever removed.
    """
    path = folder / TESTED
    tests = json.loads(path.read_text()) if path.exists() else []
    for run in runs:
        entry = {"row": run["experiment"], "seed": run["seed"], **{name: run["provenance"].get(name) for name in ("git", "code")}}
        entry |= {task: [round(100 * run[task][k], 1) for k in ("top1", "top5")] for task in TITLES if task in run}
        if entry not in [{k: v for k, v in test.items() if k != "day"} for test in tests]:
            file = run_folder(run["preset"], run["experiment"], run["seed"]) / "metrics.json"
            tests.append({"day": date.fromtimestamp(file.stat().st_mtime).isoformat(), **entry})
    tests.sort(key=lambda test: test["day"])
    write_json(path, tests)
    write_atomic(folder / "tested.md", lambda part: part.write_text(tests_markdown(tests)))
    return tests


def best_rival(records: list[dict]) -> str:
    """Return the row with a loss of the paper for mixtures, in any version, that retrieves validation mixtures best; "" without any."""
    found = {}
    for r in records:
        if r["config"]["task"] == "mixture" and r["config"]["loss"] in PAPER_LOSSES and r["curve"]:
            found.setdefault(r["experiment"], []).append(max(point["top1"] for point in r["curve"]))
    return max(found, key=lambda row: sum(found[row]) / len(found[row]), default="")


def tests_markdown(tests: list[dict]) -> str:
    """Return the list of tests as Markdown, with a sentence about those that were repeated."""
    last = {(test["row"], test["seed"]): i for i, test in enumerate(tests)}
    head = ["| day | row | seed | commit | code | mixtures | single sounds | |", "|---" * 8 + "|"]
    lines = []
    for i, test in enumerate(tests):
        values = [" / ".join(f"{x:.1f}" for x in test[task]) if task in test else "" for task in TITLES]
        replaced = "" if last[test["row"], test["seed"]] == i else "replaced"
        commit, code = (test[k] or "not recorded" for k in ("git", "code"))
        cells = [test["day"], label(test["row"]), str(test["seed"]), commit[:8], code, *values, replaced]
        lines.append(f"| {' | '.join(cells)} |")
    again = [f"{label(row)}, seed {seed}" for row, seed in last if sum((t["row"], t["seed"]) == (row, seed) for t in tests) > 1]
    counts = f"{len(tests)} tests of {len(last)} rows and seeds, top-1 / top-5 in percent"
    return "\n".join([*head, *lines, "", f"{counts}. Tested more than once: {'; '.join(again) or 'none'}."]) + "\n"


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
