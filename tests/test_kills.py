"""A few kills of every stage; reliability/torture.py does many."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).parent / "reliability" / "torture.py"
KILLS = 2


@pytest.fixture(scope="module")
def found() -> dict:
    """Results of the script, in its own process: it forks, and a test run has threads."""
    done = subprocess.run([sys.executable, TORTURE, str(KILLS), "--json"], capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_killed_stages_complete_with_the_same_result(found):
    assert found["failures"] == []
    assert len(found["rows"]) == 5 and all(row["held"] == row["tried"] >= KILLS for row in found["rows"])
