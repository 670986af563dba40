"""Do the tests find mistakes? Mutants (mutate.py) of the modules where a mistake would falsify results, against their quick tests.

    python tests/reliability/mutants.py [MODULE ...] [--share 0.3] [--seed 0] [--jobs 2]

All take about half an hour on two cores. A mutant that the tests let pass survives: it is listed in figures/reliability/survivors.md, with
its reason from survivors.yaml. What some modules alone gave is told but not kept.
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
TESTS = {  # of each module, the quickest file first
    "losses": ("losses", "golden", "bad_numbers"),
    "mixing": ("mixing_instruments", "golden", "mixing", "effects", "bad_data"),
    "retrieval": ("retrieval", "golden", "bad_numbers"),
    "sampling": ("sampling", "golden"),
    "bank": ("bank", "card", "mixing_instruments", "hostile"),
    "notes": ("notes", "bank", "hostile"),
}
# of minutes of music, which a survivor would have to hear
WITHOUT = (
    "tempo",
    "onsets_are_humanised",
    "percussion_never_rests",
    "others_rest_in_a_quarter_of_their_slots",
    "all_tracks_play_in_one_scale",
)
DESELECT = [f"--deselect=tests/test_mixing.py::test_{name}" for name in WITHOUT]
SLOW = ("numpy", "pandas", "pyarrow.parquet", "torch", "torchaudio", "transformers", "sklearn.covariance", "scipy.stats", "soundfile")
UNKNOWN = "no test finds it"
LIMIT = 5, 20  # a mutant may take so many times the seconds that the tests take without one, and at least so many


def judge(target: Target, chosen: list[int] | None = None, tell: Callable[[Mutant, str, str | None], None] | None = None) -> dict:
    """{tried, killed, late, survivors} of some mutants of a module, or all. RuntimeError if the tests fail without any."""
    start = time.monotonic()
    clean = run(target, None, {}, None, 600, 600)
    if clean["state"] != "passed":
        raise RuntimeError(f"the tests of {target.module} fail without a mutant: {clean['failed'] or clean['state']}")
    cpu = max(LIMIT[1], int(LIMIT[0] * (time.monotonic() - start)))
    chosen = range(len(target.mutants)) if chosen is None else chosen
    out = {"tried": len(chosen), "killed": 0, "late": 0, "survivors": []}
    for mutant in (target.mutants[i] for i in chosen):
        tests = covering(target, mutant, clean["tests"])
        result = {"state": "passed", "failed": None} if tests == set() else run(target, mutant, clean["tests"], tests, cpu, 5 * cpu)
        if result["state"] == "passed":
            out["survivors"].append(mutant)
        else:
            out["late" if result["state"] == "late" else "killed"] += 1
        if tell:
            tell(mutant, result["state"], result["failed"])
    return out


def reason(mutant: Mutant, known: list[dict]) -> str:
    """Why no test finds it, by {line, change, why}; `change`, one or a list, is left out where all changes of a line have one reason."""
    for entry in known:
        changes = entry.get("change", mutant.change)
        if entry["line"] == mutant.text and mutant.change in ([changes] if isinstance(changes, str) else changes):
            return entry["why"]
    return UNKNOWN


def survivors_table(found: dict[str, dict], known: dict[str, list[dict]]) -> str:
    """What survivors.md says."""
    lines = [
        "Mutants that the tests let pass, and why. Written by tests/reliability/mutants.py; reasons: tests/reliability/survivors.yaml."
    ]
    for name, result in found.items():
        lines += ["", f"{name}: {len(result['survivors'])} of {result['tried']}", ""]
        if result["survivors"]:
            lines += ["| line | change | reason |", "|---:|---|---|"]
        for mutant in result["survivors"]:
            change, why = (text.replace("|", "\\|") for text in (mutant.change, reason(mutant, known.get(name, []))))
            lines.append(f"| {mutant.line} | `{change}` | {why} |")
    return "\n".join(lines) + "\n"


def keep(found: dict[str, dict], known: dict[str, list[dict]], command: str) -> None:
    """Write figures/reliability/mutants.json and survivors.md."""
    from record import FOLDER, record

    from cirlib.common.files import write_atomic

    rows = []
    for name, result in found.items():
        explained = sum(reason(mutant, known.get(name, [])) != UNKNOWN for mutant in result["survivors"])
        note = f"{len(result['survivors'])} survive, {explained} with a reason" if result["survivors"] else ""
        note += f"; {result['late']} found by the time they take" if result["late"] else ""
        note += f"; drawn from {result['all']}" if result["tried"] < result["all"] else ""
        rows.append({"what": f"cirlib/{name}.py", "tried": result["tried"], "held": result["killed"] + result["late"], "note": note})
    record("mutants", rows, command)
    write_atomic(FOLDER / "survivors.md", lambda part: part.write_text(survivors_table(found, known)))


def judge_module(name: str, share: float, seed: int) -> dict:
    """`judge` of a share of the mutants of one of TESTS, and how many there are in `all`; tells a line of each."""
    target = Target(f"cirlib.{name}", ROOT / "cirlib" / f"{name}.py", [f"tests/test_{t}.py" for t in TESTS[name]] + DESELECT)
    start, every = time.monotonic(), range(len(target.mutants))
    chosen = sorted(random.Random(seed).sample(every, max(1, round(share * len(every)))))
    found = judge(target, chosen, lambda m, state, by: print(f"{name}:{m.line}: {state}: {m.change} [{by}]", flush=True))
    counts = {k: v for k, v in found.items() if k != "survivors"}
    print(f"{name}: {counts}, {time.monotonic() - start:.0f} s", flush=True)
    return {**found, "all": len(every)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="which ones, of a share")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="modules at a time")
    given = parser.parse_args(arguments)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in SLOW:
        importlib.import_module(name)
    known = yaml.safe_load((HERE / "survivors.yaml").read_text())
    with ProcessPoolExecutor(given.jobs, get_context("fork")) as pool:  # each has what is imported here
        asked = {name: pool.submit(judge_module, name, given.share, given.seed) for name in given.modules}
        found = {name: result.result() for name, result in asked.items()}
    sys.stdout.write(survivors_table(found, known))
    if set(given.modules) == set(TESTS):
        keep(found, known, " ".join(["python tests/reliability/mutants.py", *arguments]))


if __name__ == "__main__":
    main(sys.argv[1:])
