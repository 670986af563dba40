"""Rows of a preset: lists become rows whose names hold the values, overrides hold for all, patterns pick."""

import re

import pytest
from notebook_cells import NOTEBOOKS, declared

from cirlib.common import paths
from cirlib.models.encoder import AudioEncoder
from cirlib.reporting import rows as sweep
from cirlib.reporting.rows import Row, expand, pick, rows, settings, store_overrides
from cirlib.training.config import METHODS, row_config

BASE = {"preset": "p", "experiment": "x"}
PRESETS = sorted(p.name for p in paths.PARAMS.iterdir() if p.is_dir())


def names(**values) -> list[str]:
    return [row.name for row in expand({**BASE, **values})]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Params and runs of a preset `p`: a row, a sweep with seeds of its own, a baseline that needs the row."""
    monkeypatch.setattr(sweep, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(sweep, "RUNS", tmp_path / "runs")
    put(tmp_path, "data", "{preset: p, source: virtual}")
    put(tmp_path, "data-more", "{preset: p, source: virtual}")
    put(tmp_path, "database", "{preset: p, experiment: database, steps: 7}")
    put(tmp_path, "base", "{seconds: 2.0}")
    put(tmp_path, "multi", "{preset: p, experiment: multi, method: multi-encoder, single: database}")
    put(
        tmp_path,
        "swept",
        "{include: base.yaml, preset: p, experiment: swept, task: single, loss: infonce, hard_negative_ratio: [0, 0.25], seed: [3, 4]}",
    )
    return tmp_path


def put(home, name: str, text: str) -> None:
    file = home / "params" / "p" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# One file


def test_file_without_lists_is_one_row():
    (row,) = expand({**BASE, "steps": 7, "loss": "triplet"})
    assert (row.name, row.seeds, row.notebook, row.needs) == ("x", (), "02_train", None)
    assert row.values == {**BASE, "steps": 7, "loss": "triplet"}


def test_lists_become_all_their_combinations():
    """The last list changes fastest; values keep their type and order; the name holds each value."""
    made = expand({**BASE, "hard_negative_ratio": [0, 0.25], "steps": 9, "augmented": [True, False]})
    assert [(row.name, row.values["hard_negative_ratio"], row.values["augmented"]) for row in made] == [
        ("x-hard_negative_ratio-0-augmented-True", 0, True),
        ("x-hard_negative_ratio-0-augmented-False", 0, False),
        ("x-hard_negative_ratio-0.25-augmented-True", 0.25, True),
        ("x-hard_negative_ratio-0.25-augmented-False", 0.25, False),
    ]
    assert all(row.values == {**row.values, "experiment": row.name, "preset": "p", "steps": 9} for row in made)
    assert all(row_config({**row.values, "bank": []}).experiment == row.name for row in made)
    assert names(steps=[5]) == ["x-steps-5"], "a list of one value is a sweep too"


def test_seeds_do_not_change_the_name():
    for given, seeds in ((None, ()), (4, (4,)), (0, (0,)), ([2, 0], (2, 0))):
        made = expand({**BASE, "steps": [1, 2], **({} if given is None else {"seed": given})})
        assert [(row.name, row.seeds) for row in made] == [("x-steps-1", seeds), ("x-steps-2", seeds)]
        assert all("seed" not in row.values for row in made)


def test_list_of_lists_is_a_sweep_where_a_list_is_expected():
    """`tests: [single]` and families are values, not sweeps."""
    plain = {"tests": ["single"], "families": ["Bass", "Synth Lead"]}
    (row,) = expand({**BASE, **plain})
    assert row.name == "x" and row.values == {**BASE, **plain}
    made = expand({**BASE, "families": [["Bass"], ["Bass", "Synth Lead"]], "tests": [["single"], ["mixture", "single"]]})
    assert [(row.name, row.values["families"], row.values["tests"]) for row in made] == [
        ("x-families-Bass-tests-single", ["Bass"], ["single"]),
        ("x-families-Bass-tests-mixture+single", ["Bass"], ["mixture", "single"]),
        ("x-families-Bass+Synth_Lead-tests-single", ["Bass", "Synth Lead"], ["single"]),
        ("x-families-Bass+Synth_Lead-tests-mixture+single", ["Bass", "Synth Lead"], ["mixture", "single"]),
    ]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("MIT/ast-finetuned-audioset-12-12-0.447", "MIT_ast_finetuned_audioset_12_12_0.447"),
        ("../a b\\c", ".._a_b_c"),
        ("$(HOME):x,y#z%", "_HOME_x_y_z_"),
        ("wandb:me/project/x:best", "wandb_me_project_x_best"),
        ("", "none"),
    ],
)
def test_names_are_harmless_in_paths_and_shells(value, part):
    """The value itself does not change."""
    (row, _) = expand({**BASE, "encoder": [value, "cnn"]})
    assert (row.name, row.values["encoder"]) == (f"x-encoder-{part}", value)
    assert paths.plain_name("row", row.name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stepps": 3}, r"unknown parameter 'stepps' \(did you mean 'steps'\?\); valid: .*steps"),
        ({"hard_negative_ratio": []}, "x: hard_negative_ratio is an empty list, which makes no run: give it a value"),
        ({"seed": []}, "x: seed is an empty list"),
        ({"temperature": [0, 1, 0]}, "two combinations of x would have the same name: x-temperature-0, x-temperature-1, x-temperature-0"),
        ({"encoder": ["a/b", "a_b"]}, "two combinations of x would have the same name"),
        ({"seed": [0, 1, 0]}, r"x: a seed is listed twice in \[0, 1, 0\]"),
        ({"experiment": ["a", "b"]}, r"experiment must be one name, got \['a', 'b'\]"),
    ],
    ids=lambda v: "" if isinstance(v, str) else "-".join(v),
)
def test_files_that_make_no_rows_are_refused(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        expand({**BASE, **values})
    assert "\n" not in str(caught.value)


def test_file_without_a_name_is_refused():
    with pytest.raises(ValueError, match="experiment must be one name, got None"):
        expand({"preset": "p", "steps": 3})


@pytest.mark.parametrize(
    ("values", "notebook", "needs"),
    [
        ({"task": "single"}, "02_train", None),
        ({"single": "other"}, "02_train", None),
        ({"method": "mfcc"}, "05_baselines", None),
        ({"method": "timbre-toolbox", "single": "other"}, "05_baselines", None),
        ({"method": "demucs"}, "05_baselines", "single-infonce"),
        ({"method": "demucs", "single": "other"}, "05_baselines", "other"),
        ({"method": "multi-encoder"}, "05_baselines", "single-infonce"),
        ({"encoder": "runs/p/begin/seed0/best.pt"}, "02_train", "begin"),
        ({"encoder": "runs/other/begin/seed0/best.pt"}, "02_train", None),
    ],
)
def test_notebook_of_a_row_and_the_row_that_it_needs(values, notebook, needs):
    (row,) = expand({**BASE, **values})
    assert (row.notebook, row.needs) == (notebook, needs)


# A preset


def test_rows_of_a_preset(home):
    """data.yaml and data-*.yaml are banks, base.yaml is included, other names are rows."""
    assert [(row.name, row.seeds) for row in rows("p")] == [
        ("database", ()),
        ("multi", ()),
        ("swept-hard_negative_ratio-0", (3, 4)),
        ("swept-hard_negative_ratio-0.25", (3, 4)),
    ]
    assert [row.config().seconds for row in rows("p")] == [4.0, 4.0, 2.0, 2.0]
    with pytest.raises(ValueError, match=r"unknown preset 'q'.*valid: p"):
        rows("q")


def test_row_of_the_encoder_that_comes_with_cirlib(home, monkeypatch):
    """It is skipped where the weights are absent."""
    put(home, "cirlib-small", "{preset: p, experiment: cirlib-small, encoder: cirlib-small, steps: 0}")
    monkeypatch.setattr(sweep, "PLACE", home / "small")
    assert "cirlib-small" not in [row.name for row in rows("p")]
    AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8).save_folder(home / "small")
    assert "cirlib-small" in [row.name for row in rows("p")]


def test_overrides_hold_for_all_rows_and_may_sweep(home):
    put(home, "multi", "{preset: p, experiment: multi, method: mfcc}")
    made = rows("p", {"steps": [1, 2], "seed": 9, "hard_negative_ratio": 0.5})
    assert [row.name for row in made] == [f"{name}-steps-{k}" for name in ("database", "multi", "swept") for k in (1, 2)]
    assert all(row.seeds == (9,) for row in made)
    assert [row.values.get("hard_negative_ratio") for row in made] == [0.5, 0.5, None, None, 0.5, 0.5], "05_baselines does not have it"
    assert [row.values.get("single") for row in rows("p", {"single": "x"})] == [None, "x", None, None], "02_train does not have it"
    with pytest.raises(ValueError, match="unknown parameter 'stepps'"):
        rows("p", {"stepps": 3})


def test_two_rows_of_one_name_are_refused(home):
    put(home, "swept-hard_negative_ratio-0", "{preset: p, experiment: swept-hard_negative_ratio-0}")
    with pytest.raises(ValueError, match="params/p makes two rows named swept-hard_negative_ratio-0: rename one"):
        rows("p")


@pytest.mark.parametrize("given", ["", ", experiment: database"])
def test_params_file_of_another_name_is_refused(home, given):
    put(home, "mine", f"{{preset: p{given}}}")
    with pytest.raises(ValueError, match=r"params/p/mine\.yaml must have `experiment: mine`, its own name, got (None|'database')$"):
        rows("p")


@pytest.mark.parametrize("single", ["{steps: 7, seed: 5}", "{steps: [7, 8]}", None])
def test_row_that_needs_an_absent_one_is_refused(home, single):
    """The row is gone, has other seeds, or is swept."""
    (home / "params" / "p" / "database.yaml").unlink()
    if single:
        put(home, "database", single.replace("{", "{preset: p, experiment: database, "))
    with pytest.raises(ValueError, match=r"^multi needs the row database: params/p must have that row, with the same seeds$"):
        rows("p")


@pytest.mark.parametrize(
    ("patterns", "picked"),
    [(["all"], ["a", "b-1", "b-2", "c"]), (["b-*"], ["b-1", "b-2"]), (["c"], ["a", "c"]), (["b-2", "a"], ["a", "b-2"])],
)
def test_patterns_pick_rows_and_what_these_need(patterns, picked):
    found = [Row("c", (), {"method": "demucs", "single": "a"}), *(Row(name, (), {}) for name in ("a", "b-1", "b-2"))]
    assert [row.name for row in pick(found, patterns)] == [name for name in picked if name != "c"] + ["c"] * ("c" in picked)
    with pytest.raises(ValueError, match=r"^no row is named d; there are: c, a, b-1, b-2$"):
        pick(found, ["a", "d"])


def test_settings_hold_the_overrides_of_the_last_command(home):
    assert settings("no-such-preset") == {}
    assert settings("p")["database"] == {"preset": "p", "experiment": "database", "steps": 7}
    store_overrides("p", {"steps": 11, "start_lr": "1e-4", "wandb": False})
    assert {values["steps"] for values in settings("p").values()} == {11}
    config = row_config(settings("p")["database"])
    assert (config.start_lr, config.wandb) == (1e-4, "off")
    store_overrides("p", {})
    assert settings("p")["database"]["steps"] == 7 and "steps" not in settings("p")["swept-hard_negative_ratio-0.25"]


def test_wrong_values_name_the_row(home):
    put(home, "swept", "{preset: p, experiment: swept, loss: tags}")
    with pytest.raises(ValueError, match=r"^swept: unknown mixture loss 'tags'"):
        [row.config() for row in rows("p")]
    with pytest.raises(ValueError, match=r"^database: seed must be 0 or more, got -1$"):
        rows("p")[0].config(-1)


def test_parameters_that_one_of_the_notebooks_does_not_have():
    """Overrides leave out for a row what its notebook does not declare."""
    cells = {path.stem: set(declared(path)) for path in NOTEBOOKS}
    assert set(sweep.NOT_OF_METHODS) == cells["02_train"] - cells["05_baselines"]
    assert set(sweep.NOT_OF_TRAINING) == cells["05_baselines"] - cells["02_train"] - {"method"}


# The presets that come with the project


@pytest.mark.parametrize("preset", PRESETS)
def test_every_row_has_a_plain_name_and_valid_settings(preset):
    made = rows(preset)
    assert made or preset == "libraries"  # tests encoders of other presets
    for row in made:
        assert re.fullmatch(r"[A-Za-z0-9][\w.+-]*", row.name, re.ASCII)
        config = row.config()
        assert (config.preset, config.experiment, config.tests != ()) == (preset, row.name, True)


def test_demo_and_paper_have_the_same_rows():
    """Except Demucs, Muon (for new encoders), the authors' checkpoint and the encoder of cirlib. What a row tests is the same."""
    demo, paper = ({row.name: row.values for row in rows(preset)} for preset in ("demo", "paper"))
    assert demo.keys() - paper.keys() - {"cirlib-small"} == {"multi-infonce-muon"}
    assert paper.keys() - demo.keys() == {"demucs", "published"}
    what = ("task", "method", "loss", "hard_negative_ratio", "augmented", "families", "tests", "single")
    for name in demo.keys() & paper.keys():
        assert {k: demo[name].get(k) for k in what} == {k: paper[name].get(k) for k in what}, name
        batch = re.search(r"-(24|48)$", name)
        assert not batch or demo[name]["batch_size"] == paper[name]["batch_size"] == int(batch[1]), name
    assert demo["multi-infonce"]["temperature"] == paper["multi-infonce"]["temperature"]
    methods = {values["method"] for part in (demo, paper) for values in part.values() if "method" in values}
    assert methods == set(METHODS)
