"""Full, read-only and forbidden disks: one clear error, earlier files unchanged, and the same command completes once there is room."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REFUSALS = Path(__file__).parent / "reliability" / "refusals.py"


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """Results of a script that runs in its own process, as it forks and mounts."""
    done = subprocess.run([sys.executable, REFUSALS], capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["full, 0", "full, 0.5", "limited", "read-only", "forbidden"])
@pytest.mark.parametrize("stage", ["bank", "training", "evaluating", "indexing", "figures"])
def test_disk_that_refuses_to_write(found, stage, way):
    """`full, 0.5`: there is room for half of it; `limited`: files of at most 200 bytes; `forbidden`: files of another user."""
    problem = found[f"{stage}: {way}"]
    if problem == "-":
        pytest.skip("disks cannot be mounted here (root on Linux is needed)")
    assert not problem
