"""Kill every stage at random moments and start it again until it ends with the result of an undisturbed run and no other files.

`python tests/reliability/torture.py [KILLS] [STAGE ...]` writes results to figures/reliability (30 kills of each stage by default);
with `--json` it prints them only.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive a fork
HOME = os.environ.get("CIRLIB_HOME")

import conftest  # noqa: E402, F401 (it changes CIRLIB_HOME)
import torch  # noqa: E402
import whole  # noqa: E402
from killing import WAYS, Ended, Kill, done, forked  # noqa: E402
from stages import STAGES  # noqa: E402

torch.set_num_threads(1)
MOST = 4  # kills of one run


def torture(stage, base: Path, kills: int, seed: int = 0) -> tuple[int, int, list[str]]:
    """Kill a stage `kills` times; return the number of kills, of those without harm, and the failures."""
    random, whole_runs, failures, tried, held = Random(seed), {}, [], 0, 0
    for lap in range(10 * kills):
        if tried >= kills:
            break
        again, folder, history = bool(lap % 2), base / f"lap{lap}", []
        if again not in whole_runs:
            whole_runs[again] = undisturbed(stage, base / f"whole{again:d}", again)
        try:
            most = random.randint(1, min(MOST, kills - tried))
            killed_run(stage, folder, whole_runs[again], again=again, random=random, most=most, history=history)
            held += len(history)
        except AssertionError as error:
            failures.append(f"{stage.name}, lap {lap} ({', '.join(map(str, history)) or 'no kill'}): {error}")
        tried += len(history)
        shutil.rmtree(folder)
    return tried, held, failures


@dataclass
class Whole:
    """An undisturbed run: its end, its results, the files in its folder."""

    ended: Ended
    made: dict
    names: list[str]
    largest: int


def undisturbed(stage, folder: Path, again: bool) -> Whole:
    """Run a stage without a kill."""
    folder.mkdir()
    done(lambda: stage.prepare(folder, again), folder)
    ended = done(lambda: stage.run(folder, ""), folder)
    made = done(lambda: outcome(stage, folder), folder).value
    largest = max(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Whole(ended, made, whole.names(folder), largest)


def outcome(stage, folder: Path) -> dict:
    """Return all results of a stage."""
    return {**whole.digests(folder), **stage.result(folder)}


def killed_run(stage, folder: Path, goal: Whole, *, again: bool, random: Random, most: int, history: list[Kill]) -> None:
    """Kill a run up to `most` times, complete it and assert that it equals an undisturbed one."""
    folder.mkdir()
    done(lambda: stage.prepare(folder, again), folder)
    for _ in range(most):
        kill = Kill(random.choice(WAYS), random.random(), goal.ended, goal.largest)
        ended = forked(lambda kill=kill: stage.run(folder, kill.way), folder, kill)
        assert not ended.error, f"it does not continue: {ended.error}"
        if not ended.killed:
            break
        history.append(kill)
        done(lambda: (whole.digests(folder), stage.check(folder, again)), folder)
    if not history or ended.killed:
        ended = forked(lambda: stage.run(folder, ""), folder)
        assert not ended.error, f"it does not continue: {ended.error}"
    found = done(lambda: outcome(stage, folder), folder).value
    other = sorted(name for name in goal.made.keys() | found.keys() if goal.made.get(name) != found.get(name))
    assert not other, f"another result: {', '.join(other)[:500]}"
    left = sorted(set(whole.names(folder)) ^ set(goal.names))
    assert not left, f"unexpected or missing files: {', '.join(left)[:500]}"


def main() -> None:
    """python tests/reliability/torture.py [KILLS] [STAGE ...] [--json]"""
    arguments = [a for a in sys.argv[1:] if a != "--json"]
    kills = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 30
    rows, failures = [], []
    for name in arguments or STAGES:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="cirlib-kills-") as folder:
            stage = STAGES[name](Path(folder).resolve() / "base")
            stage.base.mkdir()
            done(stage.make_base, stage.base)
            tried, held, failed = torture(stage, Path(folder).resolve(), kills)
        rows.append({"what": stage.name, "tried": tried, "held": held, "note": f"{time.monotonic() - started:.0f} s"})
        failures += failed
        if "--json" not in sys.argv:
            print(f"{stage.name}: {held} of {tried} kills without harm, {rows[-1]['note']}", flush=True)
    if "--json" in sys.argv:
        print(json.dumps({"rows": rows, "failures": failures}))
    elif not arguments:
        store(rows)
    if failures:
        raise SystemExit("\n\n".join(failures))


def store(rows: list[dict]) -> None:
    """Write to figures/reliability of the caller's CIRLIB_HOME, as that of conftest is deleted."""
    import record

    from cirlib.common.paths import ROOT

    record.FOLDER = Path(HOME or ROOT).expanduser().resolve() / "figures" / "reliability"
    record.record("kills", rows, "make torture")


if __name__ == "__main__":
    main()
