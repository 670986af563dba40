"""What the scripts of this folder found, in figures/reliability: one JSON file for each, and one table of all of them.

`python tests/reliability/record.py` draws the table again.
"""

import json
import sys

from cirlib.common import provenance
from cirlib.common.files import write_atomic, write_json
from cirlib.common.paths import FIGURES

FOLDER = FIGURES / "reliability"
PARTS = {  # part: what `tried` and `held` count
    "kills": "killed at a random moment, ended as an undisturbed run",
    "fuzz": "mutated files read, without a crash, a hang or 2 GB of memory",
    "attacks": "attacks, refused",
    "mutants": "mutants of the code, found by a test",
}


def record(part: str, rows: list[dict], command: str) -> None:
    """Keep the rows of one part, {what, tried, held, note}, the command that made them and where, and draw the table of all parts."""
    made = {k: v for k, v in provenance.collect(seed=0).items() if k != "data"}
    write_json(FOLDER / f"{part}.json", {"rows": rows, "command": command, "provenance": made})
    write_table()


def write_table() -> None:
    """figures/reliability/reliability.md from the JSON files that are there."""
    lines = []
    for part, meaning in PARTS.items():
        path = FOLDER / f"{part}.json"
        if not path.exists():
            continue
        stored = json.loads(path.read_text())
        lines += [f"\n{meaning[0].upper()}{meaning[1:]} (`{stored['command']}`):\n", f"| {part} | tried | held | |", "|---|---:|---:|---|"]
        lines += [f"| {r['what']} | {r['tried']} | {r['held']} | {r.get('note', '')} |" for r in stored["rows"]]
        tried, held = (sum(r[k] for r in stored["rows"]) for k in ("tried", "held"))
        lines.append(f"| **all** | **{tried}** | **{held}** | {100 * held / max(1, tried):.1f} % |")
    text = "\n".join(lines).lstrip("\n") + "\n"
    write_atomic(FOLDER / "reliability.md", lambda part: part.write_text(text))


if __name__ == "__main__":
    write_table()
    sys.stdout.write((FOLDER / "reliability.md").read_text())
