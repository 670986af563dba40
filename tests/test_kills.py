"""A few kills of every stage: reliability/torture.py does many."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).parent / "reliability" / "torture.py"
KILLS = 2


@pytest.fixture(scope="module")
def found() -> dict:
    """What the script tells of all stages: a process of its own, for it forks, and a test run has threads."""
    done = subprocess.run([sys.executable, TORTURE, str(KILLS), "--json"], capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_what_is_killed_ends_as_if_it_were_not(found):
    assert found["failures"] == []
    assert len(found["rows"]) == 5 and all(row["held"] == row["tried"] >= KILLS for row in found["rows"])
