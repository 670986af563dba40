"""Hostile files: every attack is refused in one line or has no effect; no code is run, nothing outside is read or written."""

import re

import attacks_data  # noqa: F401
import attacks_models  # noqa: F401
import attacks_sources  # noqa: F401
import pytest
from hostile import ATTACKS, Scene

from cirlib.common.paths import ROOT


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name, tmp_path, monkeypatch):
    scene = Scene(tmp_path, monkeypatch)
    ATTACKS[name](scene)
    scene.check()


def test_no_reader_can_run_code():
    """Other ways to read, in the package or a notebook, would need their own attacks."""
    sources = [*(ROOT / "cirlib").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    ways = r"allow_pickle ?= ?True|weights_only ?= ?False|trust_remote_code ?= ?True|\bpickle\.|joblib\.load|(?<!\.)\b(eval|exec)\("
    assert [(file.name, m[0]) for file in sources for m in re.finditer(ways, file.read_text())] == []
    loads = [
        line for file in sources for line in file.read_text().splitlines() if re.search(r"(torch|np)\.load\(|yaml\.load\(|extractall", line)
    ]
    assert all(re.search("weights_only=True|allow_pickle=False|_PlainLoader", line) for line in loads) and len(loads) >= 4
