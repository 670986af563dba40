"""Settings are described once, in TrainConfig: the table and the parameters of 02_train agree with it."""

import ast
import dataclasses
import json
from fractions import Fraction

import pytest

from cirlib.common.paths import ROOT
from cirlib.common.settings import to_dict
from cirlib.training import settings
from cirlib.training.config import TrainConfig, config_from

README, NOTEBOOK = ROOT / "params" / "README.md", ROOT / "notebooks" / "02_train.ipynb"


def test_table_and_notebook_agree_with_the_dataclass():
    """If this fails: python -m cirlib.training.settings"""
    assert settings.updated_readme(README.read_text()) == README.read_text()
    assert settings.updated_notebook(NOTEBOOK.read_text()) == NOTEBOOK.read_text()


def test_every_setting_has_its_type_default_and_comment():
    found = settings.settings()
    assert [s.name for s in found] == [f.name for f in dataclasses.fields(TrainConfig)]
    defaults = to_dict(TrainConfig()) | {"experiment": ""}
    assert all(ast.literal_eval(s.default) == defaults[s.name] and s.comment for s in found)
    assert next(s for s in found if s.name == "families").type == "list[str]"


def test_parameters_are_settings_of_a_run():
    names: dict = {}
    exec(settings.parameters(), names)
    assert config_from(names | {"bank": Fraction(1, 2)}) == TrainConfig()
    assert config_from({"method": "mfcc", "task": "other", "seed": 3}) == TrainConfig(task="mfcc", loss="none", experiment="mfcc", seed=3)


def test_missing_marks_are_reported():
    with pytest.raises(ValueError, match="needs the lines <!-- settings: begin"):
        settings.updated_readme("# Presets\n")


def test_only_the_parameters_cell_changes():
    notebook = json.loads(NOTEBOOK.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["metadata"].get("tags") == ["parameters"])
    cell["source"] = ["old = 1"]
    assert settings.updated_notebook(json.dumps(notebook)) == NOTEBOOK.read_text()
