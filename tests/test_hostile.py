"""Files of strangers: every attack is refused in one clear sentence or does nothing; no code is run, nothing outside is read or written."""

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


def test_nothing_reads_what_could_run_code():
    """Neither the package nor a notebook: other ways to read would need attacks of their own."""
    sources = [*(ROOT / "cirlib").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    ways = r"allow_pickle ?= ?True|weights_only ?= ?False|trust_remote_code ?= ?True|\bpickle\.|joblib\.load|(?<!\.)\b(eval|exec)\("
    assert [(file.name, m[0]) for file in sources for m in re.finditer(ways, file.read_text())] == []
    loads = [
        line for file in sources for line in file.read_text().splitlines() if re.search(r"(torch|np)\.load\(|yaml\.load\(|extractall", line)
    ]
    assert all(re.search("weights_only=True|allow_pickle=False|_Plain", line) for line in loads) and len(loads) >= 4
