"""Every stage is killed at random moments and started again, until it ends: with the result of an undisturbed run, and nothing left over.

`python tests/reliability/torture.py [KILLS] [STAGE ...]`: so many kills of each stage (30), kept in figures/reliability.
`--json` prints what was found and keeps nothing.
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
os.environ["OMP_NUM_THREADS"] = "1"  # and nothing that a fork would break
HOME = os.environ.get("CIRLIB_HOME")

import conftest  # noqa: E402, F401 (it sets another CIRLIB_HOME)
import torch  # noqa: E402
import whole  # noqa: E402
from killing import WAYS, Ended, Kill, done, forked  # noqa: E402
from stages import STAGES  # noqa: E402

torch.set_num_threads(1)
MOST = 4  # kills before a run may end


def torture(stage, base: Path, kills: int, seed: int = 0) -> tuple[int, int, list[str]]:
    """Kill a stage so many times; how many kills there were, how many were survived, and what went wrong."""
    random, whole_runs, failures, tried, held = Random(seed), {}, [], 0, 0
    for lap in range(10 * kills):
        if tried >= kills:
            break
        again, folder, history = bool(lap % 2), base / f"lap{lap}", []
        if again not in whole_runs:
            whole_runs[again] = undisturbed(stage, base / f"whole{again:d}", again)
        try:
            lap_of(stage, folder, again, whole_runs[again], random, random.randint(1, min(MOST, kills - tried)), history)
            held += len(history)
        except AssertionError as error:
            failures.append(f"{stage.name}, lap {lap} ({', '.join(map(str, history)) or 'no kill'}): {error}")
        tried += len(history)
        shutil.rmtree(folder)
    return tried, held, failures


@dataclass
class Whole:
    """A run that nobody killed: how it ended, what it made, what it left in its folder."""

    ended: Ended
    made: dict
    names: list[str]
    largest: int


def undisturbed(stage, folder: Path, again: bool) -> Whole:
    """Run a stage that nobody kills."""
    folder.mkdir()
    done(lambda: stage.prepare(folder, again), folder)
    ended = done(lambda: stage.run(folder, ""), folder)
    made = done(lambda: outcome(stage, folder), folder).value
    largest = max(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Whole(ended, made, whole.names(folder), largest)


def outcome(stage, folder: Path) -> dict:
    """All that a stage made."""
    return {**whole.digests(folder), **stage.result(folder)}


def lap_of(stage, folder: Path, again: bool, goal: Whole, random: Random, most: int, history: list[Kill]) -> None:
    """One run that is killed up to `most` times, then left alone; AssertionError if it is not what an undisturbed one is."""
    folder.mkdir()
    done(lambda: stage.prepare(folder, again), folder)
    for _ in range(most):
        kill = Kill(random.choice(WAYS), random.random(), goal.ended, goal.largest)
        ended = forked(lambda kill=kill: stage.run(folder, kill.way), folder, kill)
        assert not ended.error, f"it cannot go on: {ended.error}"
        if not ended.killed:
            break
        history.append(kill)
        done(lambda: (whole.digests(folder), stage.check(folder, again)), folder)
    if not history or ended.killed:
        ended = forked(lambda: stage.run(folder, ""), folder)
        assert not ended.error, f"it cannot go on: {ended.error}"
    found = done(lambda: outcome(stage, folder), folder).value
    other = sorted(name for name in goal.made.keys() | found.keys() if goal.made.get(name) != found.get(name))
    assert not other, f"another result: {', '.join(other)[:500]}"
    left = sorted(set(whole.names(folder)) ^ set(goal.names))
    assert not left, f"left over, or missing: {', '.join(left)[:500]}"


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
            print(f"{stage.name}: {held} of {tried} kills survived, {rows[-1]['note']}", flush=True)
    if "--json" in sys.argv:
        print(json.dumps({"rows": rows, "failures": failures}))
    elif not arguments:
        keep(rows)
    if failures:
        raise SystemExit("\n\n".join(failures))


def keep(rows: list[dict]) -> None:
    """In figures/reliability of the caller's home: conftest has one that is deleted."""
    import record

    from cirlib.common.paths import ROOT

    record.FOLDER = Path(HOME or ROOT).expanduser().resolve() / "figures" / "reliability"
    record.record("kills", rows, "make torture")


if __name__ == "__main__":
    main()
