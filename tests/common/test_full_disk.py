"""Disks that are full or may not be written to: one sentence, what was there stays, and with room the same command ends as it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REFUSALS = Path(__file__).parent / "reliability" / "refusals.py"


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What the script tells: a process of its own, which forks and mounts."""
    done = subprocess.run([sys.executable, REFUSALS], capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["full, 0", "full, 0.5", "limited", "read-only", "forbidden"])
@pytest.mark.parametrize("stage", ["bank", "training", "evaluating", "indexing", "figures"])
def test_a_disk_that_refuses(found, stage, way):
    """`full, 0.5`: there is room for half of it; `limited`: files may become 200 bytes; `forbidden`: to another user."""
    wrong = found[f"{stage}: {way}"]
    if wrong == "-":
        pytest.skip("no disk can be mounted here: that takes root, on Linux")
    assert not wrong
