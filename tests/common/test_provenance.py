"""Provenance: a commit counts as changed when code changed, not when JupyterLab saved outputs."""

import json
import subprocess

import pytest

from cirlib.common import provenance

CELL = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": ["steps = 1"]}


def git(folder, *args):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args], cwd=folder, check=True, capture_output=True)


def write(folder, **changes):
    path = folder / "notebooks" / "ü 1.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": [CELL | changes], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one notebook and one module, all committed."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    write(tmp_path)
    (tmp_path / "code.py").write_text("x = 1\n")
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        git(tmp_path, *args)
    return tmp_path


def test_saved_outputs_are_no_change(root):
    assert provenance.collect(0)["dirty"] is False
    write(root, execution_count=3, outputs=[{"output_type": "stream", "name": "stdout", "text": ["1"]}], source="steps = 1")
    (root / "new.py").write_text("untracked")
    assert provenance.collect(0)["dirty"] is False


def test_figures_that_were_drawn_since_are_no_change(root):
    (root / "figures").mkdir()
    (root / "figures" / "race.json").write_text("[]")
    git(root, "add", ".")
    git(root, "commit", "-qm", "drawn")
    (root / "figures" / "race.json").write_text("[1]")
    assert provenance.collect(0)["dirty"] is False
    (root / "code.py").write_text("x = 2\n")
    assert provenance.collect(0)["dirty"] is True


def test_another_cell_is_a_change(root):
    write(root, source=["steps = 2"])
    assert provenance.collect(0)["dirty"] is True


def test_changed_code_is_a_change_staged_or_not(root):
    (root / "code.py").write_text("x = 2\n")
    assert provenance.collect(0)["dirty"] is True
    git(root, "add", ".")
    assert provenance.collect(0)["dirty"] is True


@pytest.mark.parametrize("content", [None, "no notebook"])
def test_a_notebook_that_is_gone_or_damaged_is_a_change(root, content):
    path = root / "notebooks" / "ü 1.ipynb"
    path.unlink() if content is None else path.write_text(content)
    assert provenance.collect(0)["dirty"] is True


def test_without_git_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    told = provenance.collect(0)
    assert told["git"] is None and told["dirty"] is None
