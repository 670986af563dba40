"""Provenance: changed code or cells make a commit dirty, saved outputs and figures do not; the code digest ignores comments."""

import json
import subprocess

import pytest

from cirlib.common import provenance

CELL = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": ["steps = 1"]}
OUTPUTS = [{"output_type": "stream", "name": "stdout", "text": ["1"]}]


def git(folder, *args):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args], cwd=folder, check=True, capture_output=True)


def write_notebook(folder, **changes):
    path = folder / "notebooks" / "ü 1.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": [CELL | changes], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a notebook, a module and a figure, all committed."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    write_notebook(tmp_path)
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "race.json").write_text("[]")
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        git(tmp_path, *args)
    return tmp_path


CHANGES = {
    "nothing": (lambda root: None, False),
    "outputs": (lambda root: write_notebook(root, execution_count=3, outputs=OUTPUTS, source="steps = 1"), False),
    "figure": (lambda root: (root / "figures" / "race.json").write_text("[1]"), False),
    "new file": (lambda root: (root / "new.py").write_text("untracked"), False),
    "cell": (lambda root: write_notebook(root, source=["steps = 2"]), True),
    "code": (lambda root: (root / "code.py").write_text("x = 2\n"), True),
    "staged code": (lambda root: ((root / "code.py").write_text("x = 2\n"), git(root, "add", ".")), True),
    "notebook deleted": (lambda root: (root / "notebooks" / "ü 1.ipynb").unlink(), True),
    "notebook damaged": (lambda root: (root / "notebooks" / "ü 1.ipynb").write_text("x"), True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_dirty_means_changed_code_or_cells(root, change):
    act, dirty = CHANGES[change]
    act(root)
    assert provenance.collect(0)["dirty"] is dirty


def test_without_git_commit_and_dirty_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    made = provenance.collect(0)
    assert made["git"] is None and made["dirty"] is None


def test_entry_of_each_notebook_is_recorded(tmp_path, tone_bank):
    provenance.record(tmp_path, "04_a", seed=3, bank=tone_bank)
    provenance.record(tmp_path, "06_b", data=[{"audio.i16": "x"}])
    provenance.record(tmp_path, "04_a", seed=4, bank=tone_bank)
    entries = json.loads((tmp_path / "provenance.json").read_text())
    assert (entries["04_a"]["seed"], entries["06_b"]["data"]) == (4, [{"audio.i16": "x"}])
    assert entries["04_a"]["data"] == [tone_bank.infos[0]["sha256"]]


def test_code_digest_ignores_comments_and_docstrings():
    text = '"""A."""\nclass B:\n    """B."""\n    x = 1  # b\n\n\ndef c(x):\n    """C."""\n    return x\n'
    plain = provenance._without_docstrings("class B:\n    x = 1\n\n\ndef c(x):\n    return x\n")
    assert provenance._without_docstrings(text) == plain != provenance._without_docstrings(text.replace("return x", "return -x"))
    assert len(provenance.code_digest()) == 12
