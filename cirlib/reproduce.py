"""Reproduce a preset: sounds, rows, tables and figures, each by its notebook, and only what is not up to date.

    python -m cirlib.reproduce demo                             # the default rows of params/demo
    python -m cirlib.reproduce demo --rows 'single*' mfcc --seeds 0 1 --set steps=100 encoder=ast-tiny
    python -m cirlib.reproduce demo --dry-run                   # the plan: what is up to date and why, how long the rest takes

A finished run is up to date while its settings and its sounds are the same; --force makes the chosen rows again.
Executed copies of the notebooks go to runs/<preset>/notebooks, and one of each notebook, small and without sounds, to figures/<preset>.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from .common.command_line import clean_exit
from .common.paths import FIGURES, HOME, ROOT, RUNS, at_home, short
from .data.sources import data_files, data_values, missing
from .reporting.executed import write_copies
from .reporting.inputs import missing_of_rows
from .reporting.plan import Plan, Step
from .reporting.rows import Row, pick, rows, store_overrides


@dataclass
class Preset:
    """Defaults of the command for one preset."""

    rows: str = "all"
    seeds: str = "0"
    open_rows: str = ""  # rows that are also tested on mixtures of an unknown number of instruments
    tables: str = "06_paper"
    headline: str = "family-infonce"  # row whose executed notebooks are shown in figures/
    also: str = ""  # notebooks that run as they are


PRESETS = {  # a preset that is not listed has the defaults above
    "demo": Preset(
        "untrained mfcc single-infonce multi-encoder triplet-24 triplet-full-48 infonce-48 multi-infonce family-infonce", also="07_search"
    ),
    "paper": Preset("untrained mfcc timbre-toolbox demucs multi-* family-* single-* triplet-* infonce-*"),
    "open": Preset(
        open_rows="untrained multi-infonce multi-infonce-open multi-infonce-open-muon family-infonce-open cirlib-small",
        headline="family-infonce-open",
    ),
    "libraries": Preset(tables="13_libraries"),
    "surge": Preset(
        seeds="0 1 2", open_rows="untrained multi-infonce multi-infonce-open-muon family-infonce cirlib-small", tables="10_beyond"
    ),
}
ALONE = {"performance": "08_performance", "ablations": "11_ablations", "robustness": "12_robustness"}
WHAT = ("all", "bank", "figures", *ALONE, "clean")
MAPPED = [
    "cirlib-small", "family-infonce", "multi-infonce", "triplet-full-48", "triplet-full", "infonce-48", "infonce", "triplet", "untrained"
]  # fmt: skip
STOPPED = "stopped: the same command goes on from here"
WAIT_S = 30  # for a notebook that is stopped


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    options = _parser().parse_args()
    with clean_exit(yaml.YAMLError, stopped=STOPPED):
        if options.what == "clean":
            clean(options.preset)
        else:
            reproduce(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cirlib.reproduce", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("preset", help="a folder of params/")
    parser.add_argument("what", nargs="?", default="all", choices=WHAT, help="only a part of it; clean deletes its runs and its bank")
    parser.add_argument("--rows", nargs="+", default=[], help="names or patterns such as 'single*', or all")
    parser.add_argument("--seeds", nargs="+", default=[], help="seeds of rows whose files do not set them")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of all rows to replace")
    parser.add_argument("--dry-run", action="store_true", help="print the plan only")
    parser.add_argument("--force", action="store_true", help="make the chosen rows again; earlier runs are moved aside")
    return parser


def reproduce(options: argparse.Namespace) -> None:
    """Print the plan and run what is not up to date. ValueError for a wrong preset, row, seed or setting, before anything starts."""
    preset, defaults = options.preset, PRESETS.get(options.preset, Preset())
    everything, overrides = options.what == "all", _settings(options.set)
    found = rows(preset, overrides)
    for row in found:
        row.config()
    chosen = pick(found, " ".join(options.rows or [defaults.rows]).split()) if everything and (found or options.rows) else []
    plan = Plan(preset)
    steps = _steps(plan, options.what, chosen, _seeds(options.seeds or [defaults.seeds]))
    forced = {step.config.folder for step in steps if step.config and options.force}
    print(describe(plan, steps, forced), flush=True)
    if absent := [*missing(preset), *missing_of_rows(chosen)] if everything or options.what == "bank" else []:
        raise SystemExit("\n".join([f"preset {preset} needs inputs that are missing:", *(f"- {line}" for line in absent)]))
    if options.dry_run:
        return
    if everything:
        store_overrides(preset, overrides)
    for folder in forced:
        if folder.exists():
            folder.rename(folder.with_name(f"{folder.name}.{int(time.time())}"))
    run(plan, steps)
    copies = {notebook: [step.copy for step in steps if step.notebook == notebook] for notebook in {step.notebook for step in steps}}
    write_copies(preset, copies, headline=defaults.headline)
    if everything:
        names = ["table_mixture.md", "table_single.md", *(["open.md"] if defaults.open_rows else [])]
        print(*((FIGURES / preset / name).read_text() for name in names if (FIGURES / preset / name).exists()), sep="\n")


def _settings(pairs: list[str]) -> dict:
    """Return the values of `name=value` pairs, several in one word too. ValueError for one without a name."""
    words = [word for pair in pairs for word in re.split(r"\s+(?=\w+=)", pair.strip()) if word]
    if wrong := [word for word in words if not re.match(r"\w+=", word)]:
        raise ValueError(f"a setting is written name=value, got {wrong[0]!r:.100}")
    return {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words)}


def _seeds(words: list[str]) -> tuple[int, ...]:
    words = " ".join(words).split()
    if wrong := [word for word in words if not word.isdecimal()]:
        raise ValueError(f"a seed is a number, 0 or more, got {wrong[0]!r:.100}")
    return tuple(dict.fromkeys(map(int, words)))


def _steps(plan: Plan, what: str, chosen: list[Row], seeds: tuple[int, ...]) -> list[Step]:
    """Return the steps of a command, in the order in which they run."""
    defaults = PRESETS.get(plan.preset, Preset())
    if what in ALONE:
        parameters = {} if what == "performance" else {"preset": plan.preset}
        return [*(plan.banks() if what == "ablations" else []), Step(what, ALONE[what], ALONE[what], parameters)]
    if what == "figures":
        return [replace(plan.tables(defaults.tables), reason=lambda: "on request")]
    if what == "bank":
        return plan.banks()
    if defaults.tables == "13_libraries":  # of trained encoders, without rows
        table = FIGURES / plan.preset / "libraries.json"
        return [*plan.banks(), replace(plan.tables(defaults.tables), reason=lambda: "" if table.exists() else "not written yet")]
    runs = [(row, seed) for row in chosen for seed in row.seeds or seeds]
    steps = [*plan.banks(), *(step for run in runs for step in plan.row(*run))]
    steps += [plan.analysis("09_open_mixtures", "open mixtures", *run) for run in runs if run[0].name in defaults.open_rows.split()]
    mapped = [run for name in MAPPED for run in runs if run[0].name == name][:1]
    steps += [plan.analysis("04_embedding_space", "space", *run) for run in mapped]
    return [*steps, *map(plan.as_it_is, defaults.also.split()), plan.tables(defaults.tables)]


def describe(plan: Plan, steps: list[Step], forced: Collection[Path] = ()) -> str:
    """Return the plan, a line for each step: what is up to date, and why and how long the others run."""
    lines, left = [], []
    for step in steps:
        reason = "forced" if step.config and step.config.folder in forced else step.reason()
        if reason:
            left.append(plan.minutes(step))
            lines.append(f"  to do  {step.title}: {reason}, {_duration(left[-1])}")
        else:
            lines.append(f"  done   {step.title}{': made by a different code version' if step.other_code else ''}")
    return "\n".join([f"{plan.preset}: {len(left)} of {len(steps)} steps to do, {_duration(sum(left))}", *lines])


def _duration(minutes: float) -> str:
    return f"about {max(1, round(minutes))} min" if minutes < 120 else f"about {minutes / 60:.1f} h"


def run(plan: Plan, steps: list[Step]) -> None:
    """Run the steps that are not up to date when their turn comes; a line for each."""
    for number, step in enumerate(steps, 1):
        if not (reason := step.reason()):
            continue
        left = plan.minutes(step) + sum(plan.minutes(later) for later in steps[number:] if later.reason())
        print(f"[{number}/{len(steps)}] {step.title} ({step.notebook}): {reason}; {_duration(left)} left", flush=True)
        started = time.monotonic()
        run_notebook(plan.preset, step)
        plan.record(step, (time.monotonic() - started) / 60)


def run_notebook(preset: str, step: Step) -> None:
    """Execute a notebook; its copy goes to runs/<preset>/notebooks. SystemExit with the error's last line if it fails.

    The copy is read from standard output: papermill would store the paths that it is given.
    """
    folder = RUNS / preset / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    copy, part = folder / f"{step.copy}.ipynb", folder / f".{step.copy}.part"
    command = [sys.executable, "-W", "ignore::UserWarning", "-m", "papermill", "--no-progress-bar", "--log-level", "ERROR"]
    command += [f"{step.notebook}.ipynb", "-", "-y", yaml.safe_dump(step.parameters)]
    environment = {**os.environ, "CIRLIB_HOME": str(HOME), "PYTHONUNBUFFERED": "1"}
    with open(part, "wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT / "notebooks", env=environment, stdout=file, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, errors = process.communicate()
        except KeyboardInterrupt:
            _stop(process)
            raise
    os.replace(part, copy)
    if process.returncode:
        last = ([line for line in errors.splitlines() if line.strip()] or [f"exit status {process.returncode}"])[-1]
        raise SystemExit(f"error: {step.title} failed: {last.strip()}\n(the whole of it: {short(copy)})")


def _stop(process: subprocess.Popen) -> None:
    """Let papermill end its kernel; end it by force if it does not."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=WAIT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)


def clean(preset: str) -> None:
    """Delete the runs and the banks of a preset; figures stay."""
    places = [RUNS / preset] if (RUNS / preset).is_dir() and data_files(preset) else []
    for file in data_files(preset):
        bank = at_home(data_values(file)["bank"])
        work = bank.with_name(f"{bank.name}.building")
        places += [place for place, mark in ((bank, "bank.json"), (work, "spec.json")) if (place / mark).is_file()]
    for place in places:
        print(f"deleting {short(place)}")
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
