"""Mutation test: do the tests notice small mistakes (mutate.py) in the modules where a mistake would falsify results?

    python tests/reliability/mutants.py [MODULE ...] [--share 0.3] [--seed 0] [--jobs 2]

All mutants take about half an hour on two cores. Those that survive are listed in figures/reliability/survivors.md, with the reasons of
survivors.yaml. The results of single modules are printed only.
"""

import argparse
import importlib
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import yaml
from mutate import Mutant
from trial import Target, covering, run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TESTS = {  # files of tests/ for each module, the fastest first
    "training/losses": ("training/test_losses.py", "test_golden.py"),
    "data/mixtures": ("data/test_mixtures.py", "test_golden.py", "data/test_mixture_effects.py", "data/test_bad_data.py"),
    "data/scores": ("data/test_scores.py", "test_golden.py", "data/test_mixtures.py", "data/test_bad_data.py"),
    "data/batches": ("data/test_batches.py", "test_golden.py"),
    "data/pairs": ("data/test_pairs.py", "test_golden.py"),
    "data/bank": ("data/test_bank.py", "data/test_card.py", "data/test_mixtures.py", "test_hostile.py"),
    "data/untrusted": ("data/test_bank_files.py", "data/test_bank.py", "test_hostile.py"),
    "evaluation/ranking": ("evaluation/test_ranking.py", "test_golden.py", "evaluation/test_bad_numbers.py"),
}
SLOW_IMPORTS = (
    "numpy", "pandas", "pyarrow.parquet", "torch", "torchaudio", "transformers", "sklearn.covariance", "scipy.stats", "soundfile",
)  # fmt: skip
UNEXPLAINED = "no test finds it"
LIMIT = 5, 20  # seconds that a mutant may take: this many times those of the tests without one, and at least this many


def test_files(module: str) -> list[str]:
    """Return the test files of a module. RuntimeError if one is missing."""
    files = [f"tests/{name}" for name in TESTS[module]]
    if missing := [file for file in files if not (ROOT / file).is_file()]:
        raise RuntimeError(f"{missing[0]} is missing: correct TESTS in {__file__}")
    return files


def evaluate(target: Target, chosen: list[int] | None = None, report: Callable[[Mutant, str, str | None], None] | None = None) -> dict:
    """Return {tried, killed, late, survivors} of the chosen mutants of a module, or of all. RuntimeError if the tests fail without one."""
    start = time.monotonic()
    clean = run(target)
    if clean["state"] != "passed":
        raise RuntimeError(f"the tests of {target.module} fail without a mutant: {clean['failed'] or clean['state']}")
    cpu = max(LIMIT[1], int(LIMIT[0] * (time.monotonic() - start)))
    chosen = range(len(target.mutants)) if chosen is None else chosen
    out = {"tried": len(chosen), "killed": 0, "late": 0, "survivors": []}
    for mutant in (target.mutants[i] for i in chosen):
        tests = covering(target, mutant, clean["tests"])
        result = {"state": "passed", "failed": None} if tests == set() else run(target, mutant, known=clean["tests"], chosen=tests, cpu=cpu)
        if result["state"] == "passed":
            out["survivors"].append(mutant)
        else:
            out["late" if result["state"] == "late" else "killed"] += 1
        if report:
            report(mutant, result["state"], result["failed"])
    return out


def reason(mutant: Mutant, known: list[dict]) -> str:
    """Return why no test finds a mutant, from {line, change, why}; without `change` (one or a list), for all changes of a line."""
    for entry in known:
        changes = entry.get("change", mutant.change)
        if entry["line"] == mutant.text and mutant.change in ([changes] if isinstance(changes, str) else changes):
            return entry["why"]
    return UNEXPLAINED


def survivors_table(found: dict[str, dict], known: dict[str, list[dict]]) -> str:
    """Return the text of survivors.md."""
    lines = ["Mutants that no test notices, and why. Written by tests/reliability/mutants.py; reasons: tests/reliability/survivors.yaml."]
    for name, result in found.items():
        lines += ["", f"{name}: {len(result['survivors'])} of {result['tried']}", ""]
        if result["survivors"]:
            lines += ["| line | change | reason |", "|---:|---|---|"]
        for mutant in result["survivors"]:
            change, why = (text.replace("|", "\\|") for text in (mutant.change, reason(mutant, known.get(name, []))))
            lines.append(f"| {mutant.line} | `{change}` | {why} |")
    return "\n".join(lines) + "\n"


def store(found: dict[str, dict], known: dict[str, list[dict]], command: str) -> None:
    """Write figures/reliability/mutants.json and survivors.md."""
    from record import FOLDER, record

    from cirlib.common.files import write_atomic

    rows = []
    for name, result in found.items():
        explained = sum(reason(mutant, known.get(name, [])) != UNEXPLAINED for mutant in result["survivors"])
        note = f"{len(result['survivors'])} survive, {explained} with a reason" if result["survivors"] else ""
        note += f"; {result['late']} found by timeout" if result["late"] else ""
        note += f"; sampled from {result['all']}" if result["tried"] < result["all"] else ""
        rows.append({"what": f"cirlib/{name}.py", "tried": result["tried"], "held": result["killed"] + result["late"], "note": note})
    record("mutants", rows, command)
    write_atomic(FOLDER / "survivors.md", lambda part: part.write_text(survivors_table(found, known)))


def evaluate_module(name: str, share: float, seed: int) -> dict:
    """Evaluate a share of the mutants of one of TESTS, print a line for each, and return the counts with the number of `all`."""
    target = Target(f"cirlib.{name.replace('/', '.')}", ROOT / "cirlib" / f"{name}.py", test_files(name))
    start, everything = time.monotonic(), range(len(target.mutants))
    chosen = sorted(random.Random(seed).sample(everything, max(1, round(share * len(everything)))))
    found = evaluate(target, chosen, lambda m, state, by: print(f"{name}:{m.line}: {state}: {m.change} [{by}]", flush=True))
    counts = {k: v for k, v in found.items() if k != "survivors"}
    print(f"{name}: {counts}, {time.monotonic() - start:.0f} s", flush=True)
    return {**found, "all": len(everything)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, if the share is below 1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="modules at once")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    known = yaml.safe_load((HERE / "survivors.yaml").read_text())
    with ProcessPoolExecutor(options.jobs, get_context("fork")) as pool:  # forked processes have the slow imports
        results = {name: pool.submit(evaluate_module, name, options.share, options.seed) for name in options.modules}
        found = {name: result.result() for name, result in results.items()}
    sys.stdout.write(survivors_table(found, known))
    if set(options.modules) == set(TESTS):
        store(found, known, " ".join(["python tests/reliability/mutants.py", *arguments]))


if __name__ == "__main__":
    main(sys.argv[1:])
