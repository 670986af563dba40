"""Reliability: results of the scripts of this folder in figures/reliability, one JSON file for each and one table of all.

`python tests/reliability/record.py` writes the table again.
"""

import json
import sys

from cirlib.common import provenance
from cirlib.common.files import write_atomic, write_json
from cirlib.common.paths import FIGURES

FOLDER = FIGURES / "reliability"
TITLES = {  # what `tried` and `held` count
    "kills": "Killed at a random moment, then completed with the result of an undisturbed run",
    "fuzz": "Mutated files, read without a crash, a hang or 2 GB of memory",
    "attacks": "Attacks, refused",
    "cuts": "Sound files of 17 formats and SoundFonts, cut at 20 places, refused",
    "mutants": "Mutants of the code, found by a test",
}


def record(part: str, rows: list[dict], command: str) -> None:
    """Write rows {what, tried, held, note} of one part with their command and provenance, and the table of all parts."""
    made = {k: v for k, v in provenance.collect(seed=0).items() if k != "data"}
    write_json(FOLDER / f"{part}.json", {"rows": rows, "command": command, "provenance": made})
    write_table()


def write_table() -> None:
    """Write figures/reliability/reliability.md from the JSON files."""
    lines = ["# Reliability"]
    for part, title in TITLES.items():
        path = FOLDER / f"{part}.json"
        if not path.exists():
            continue
        stored = json.loads(path.read_text())
        lines += [f"\n{title} (`{stored['command']}`):\n", f"| {part} | tried | held | |", "|---|---:|---:|---|"]
        lines += [f"| {r['what']} | {r['tried']} | {r['held']} | {r.get('note', '')} |" for r in stored["rows"]]
        tried, held = (sum(r[k] for r in stored["rows"]) for k in ("tried", "held"))
        lines.append(f"| **all** | **{tried}** | **{held}** | {100 * held / max(1, tried):.1f} % |")
    write_atomic(FOLDER / "reliability.md", lambda part: part.write_text("\n".join(lines) + "\n"))


if __name__ == "__main__":
    write_table()
    sys.stdout.write((FOLDER / "reliability.md").read_text())
