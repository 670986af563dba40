"""Rows of a preset: lists become rows with telling names, a makefile that changes only when the rows do, settings and keys of rows."""

import dataclasses
import os
import re
import shutil
import subprocess

import pytest
import yaml

from cirlib.common import paths
from cirlib.common.paths import ROOT
from cirlib.data.note_statistics import NoteStatistics
from cirlib.reporting import rows as sweep
from cirlib.reporting.rows import expand, rows, settings
from cirlib.training.config import METHODS, TrainConfig, row_config, write_config

BASE = {"preset": "p", "experiment": "x"}


def names(**values) -> list[str]:
    return [row.name for row in expand({**BASE, **values})]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Params and runs of a preset `p`: a row, a sweep with seeds of its own, a baseline that stands on the row."""
    monkeypatch.setattr(sweep, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(sweep, "RUNS", tmp_path / "runs")
    put(tmp_path, "data", "{preset: p, source: virtual}")
    put(tmp_path, "data-more", "{preset: p, source: virtual}")
    put(tmp_path, "database", "{preset: p, experiment: database, steps: 7}")
    put(tmp_path, "base", "{preset: p, experiment: base, method: multi-encoder, single: database}")
    put(tmp_path, "swept", "{preset: p, experiment: swept, task: single, loss: infonce, hard_negative_ratio: [0, 0.25], seed: [3, 4]}")
    return tmp_path


def put(home, name: str, text: str) -> None:
    file = home / "params" / "p" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def run(monkeypatch, *pairs: str, makefile="runs/p/rows.mk") -> None:
    """python -m cirlib.reporting.rows p MAKEFILE pairs"""
    monkeypatch.setattr("sys.argv", ["sweep", "p", str(sweep.RUNS.parent / makefile), *pairs])
    sweep.main()


# One file


def test_a_file_without_lists_is_one_row():
    (row,) = expand({**BASE, "steps": 7, "loss": "triplet"})
    assert (row.name, row.seeds, row.notebook, row.needs) == ("x", (), "02_train", None)
    assert row.values == {**BASE, "steps": 7, "loss": "triplet"}


def test_lists_become_all_their_combinations():
    """The last list changes fastest; values keep their type and order; the name tells each value."""
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


def test_seeds_are_no_part_of_the_name():
    """A list of seeds makes no rows, and a seed is no parameter of a row."""
    for given, seeds in ((None, ()), (4, (4,)), (0, (0,)), ([2, 0], (2, 0))):
        made = expand({**BASE, "steps": [1, 2], **({} if given is None else {"seed": given})})
        assert [(row.name, row.seeds) for row in made] == [("x-steps-1", seeds), ("x-steps-2", seeds)]
        assert all("seed" not in row.values for row in made)


def test_where_a_list_is_expected_a_list_of_lists_is_a_sweep():
    """`tests: [single]`, families and shares of a curriculum are values, not sweeps."""
    plain = {"tests": ["single"], "families": ["Bass", "Synth Lead"], "curriculum": [0.5, 0.5]}
    (row,) = expand({**BASE, **plain})
    assert row.name == "x" and row.values == {**BASE, **plain}
    made = expand({**BASE, "families": [["Bass"], ["Bass", "Synth Lead"]], "curriculum": [[], [0.5, 0.5]]})
    assert [(row.name, row.values["families"], row.values["curriculum"]) for row in made] == [
        ("x-families-Bass-curriculum-none", ["Bass"], []),
        ("x-families-Bass-curriculum-0.5+0.5", ["Bass"], [0.5, 0.5]),
        ("x-families-Bass+Synth_Lead-curriculum-none", ["Bass", "Synth Lead"], []),
        ("x-families-Bass+Synth_Lead-curriculum-0.5+0.5", ["Bass", "Synth Lead"], [0.5, 0.5]),
    ]
    assert names(tests=[["single"], ["mixture", "single"]]) == ["x-tests-single", "x-tests-mixture+single"]
    assert names(curriculum=[]) == ["x"]


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
def test_names_are_harmless_in_paths_and_makefiles(value, part):
    """The value itself is kept."""
    (row, _) = expand({**BASE, "encoder": [value, "cnn"]})
    assert (row.name, row.values["encoder"]) == (f"x-encoder-{part}", value)
    assert paths.plain_name("row", row.name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stepps": 3}, r"unknown parameter 'stepps' \(did you mean 'steps'\?\); valid: .*steps"),
        ({"hard_negative_ratio": []}, "x: hard_negative_ratio is an empty list, which makes no run: give it a value"),
        ({"seed": []}, "x: seed is an empty list"),
        (
            {"hard_negative_ratio": [0, 1, 0]},
            "two combinations of x would have the same name: x-hard_negative_ratio-0, x-hard_negative_ratio-1, x-hard_negative_ratio-0",
        ),
        ({"encoder": ["a/b", "a_b"]}, "two combinations of x would have the same name"),
        ({"seed": [0, 1, 0]}, r"x: .*seed"),
        ({"experiment": ["a", "b"]}, "experiment"),
    ],
    ids=lambda v: "" if isinstance(v, str) else "-".join(v),
)
def test_what_makes_no_rows_is_refused_in_one_sentence(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        expand({**BASE, **values})
    assert "\n" not in str(caught.value)


def test_a_file_without_a_name_is_refused():
    with pytest.raises(ValueError, match="experiment"):
        expand({"preset": "p", "steps": 3})


@pytest.mark.parametrize(
    ("values", "notebook", "needs"),
    [
        ({"task": "single"}, "02_train", None),
        ({"single": "other"}, "02_train", None),
        ({"method": "mfcc"}, "05_baselines", None),
        ({"method": "timbre-toolbox", "single": "other"}, "05_baselines", None),
        ({"method": "demucs"}, "05_baselines", "single-infonce"),
        ({"method": "separate", "single": "other"}, "05_baselines", "other"),
        ({"method": "multi-encoder"}, "05_baselines", "single-infonce"),
    ],
)
def test_notebook_of_a_row_and_what_it_stands_on(values, notebook, needs):
    (row,) = expand({**BASE, **values})
    assert (row.notebook, row.needs) == (notebook, needs)


def test_a_sweep_over_the_encoder_for_single_sounds_needs_each():
    assert [row.needs for row in expand({**BASE, "method": "separate", "single": ["a", "b"]})] == ["a", "b"]


# A preset


def test_rows_of_a_preset(home):
    """data.yaml and data-*.yaml are banks, other names are rows."""
    assert [(row.name, row.seeds) for row in rows("p")] == [
        ("base", ()),
        ("database", ()),
        ("swept-hard_negative_ratio-0", (3, 4)),
        ("swept-hard_negative_ratio-0.25", (3, 4)),
    ]
    with pytest.raises(ValueError, match=r"unknown preset 'q'.*valid: p"):
        rows("q")


def test_overrides_hold_for_all_rows_and_may_sweep(home):
    put(home, "base", "{preset: p, experiment: base, method: mfcc}")
    made = rows("p", {"steps": [1, 2], "seed": 9, "hard_negative_ratio": 0.5})
    assert [row.name for row in made] == [f"{name}-steps-{k}" for name in ("base", "database", "swept") for k in (1, 2)]
    assert all(row.seeds == (9,) for row in made)
    assert [row.values.get("hard_negative_ratio") for row in made] == [None, None, 0.5, 0.5, 0.5, 0.5], "05_baselines has no such parameter"
    assert [row.values.get("single") for row in rows("p", {"single": "x"})] == ["x", None, None, None], "02_train has none"
    with pytest.raises(ValueError, match="unknown parameter 'stepps'"):
        rows("p", {"stepps": 3})


def test_two_rows_of_one_name_are_refused(home):
    put(home, "swept-hard_negative_ratio-0", "{preset: p, experiment: swept-hard_negative_ratio-0}")
    with pytest.raises(ValueError, match="params/p makes two rows named swept-hard_negative_ratio-0: rename one"):
        rows("p")


@pytest.mark.parametrize("told", ["", ", experiment: base"])
def test_a_params_file_of_another_name_is_refused(home, told):
    put(home, "mine", f"{{preset: p{told}}}")
    with pytest.raises(ValueError, match=r"params/p/mine\.yaml must say `experiment: mine`, its own name, it says (None|'base')$"):
        rows("p")


def test_settings_know_the_overrides_of_the_last_run(home, monkeypatch):
    assert settings("no-such-preset") == {}
    assert settings("p")["database"] == {"preset": "p", "experiment": "database", "steps": 7}
    run(monkeypatch, "steps=11")
    assert {values["steps"] for values in settings("p").values()} == {11}
    run(monkeypatch)
    assert settings("p")["database"]["steps"] == 7
    assert settings("p")["swept-hard_negative_ratio-0.25"]["hard_negative_ratio"] == 0.25


# The makefile


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_reads_the_rows(home, monkeypatch):
    """Name, seeds (those of the command where a row has none), notebook and what it needs, as make itself sees them."""
    run(monkeypatch)
    text = "row_rules = $(info $(1)|$(2)|$(3)|$(4))\ninclude runs/p/rows.mk\nall: ;\n"
    done = subprocess.run(["make", "-s", "-f", "-", "SEEDS=0 1"], input=text, cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:4] == [
        "base|0 1|05_baselines|database",
        "database|0 1|02_train|",
        "swept-hard_negative_ratio-0|3 4|02_train|",
        "swept-hard_negative_ratio-0.25|3 4|02_train|",
    ]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("bank", ["data/x;touch${IFS}ran", "$(shell touch ran)", "data/x`touch ran`", "data/x two"])
def test_make_refuses_the_place_of_a_bank_that_a_shell_would_run(tmp_path, bank):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "params" / "demo").mkdir(parents=True)
    file = tmp_path / "params" / "demo" / "data.yaml"
    file.write_text(f"source: virtual\nbank: {bank}\n")
    command = ["make", "clean", "PRESET=demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "params/demo/data.yaml needs one line `bank: PATH`, without spaces" in done.stderr
    file.write_text("source: virtual\nbank: data/x\n")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"Makefile", "params"}


def test_overrides_that_yaml_reads_otherwise(home, monkeypatch):
    run(monkeypatch, "start_lr=1e-4", "wandb=off")
    config = row_config(settings("p")["database"])
    assert (config.start_lr, config.wandb) == (1e-4, "off")


def test_params_files_hold_the_values_of_their_row(home, monkeypatch):
    run(monkeypatch, "steps=11", "families=[Bass]", "loss=triplet")
    folder = home / "runs" / "p" / "params"
    found = {file.stem: yaml.safe_load(file.read_text()) for file in folder.iterdir()}
    assert found == {row.name: row.values for row in rows("p", {"steps": 11, "families": ["Bass"], "loss": "triplet"})}
    assert yaml.safe_load((home / "runs" / "p" / "overrides.yaml").read_text()) == {"steps": 11, "families": ["Bass"], "loss": "triplet"}


def test_files_are_written_only_when_they_change(home, monkeypatch):
    """What depends on them would be made again."""
    run(monkeypatch)

    def touched() -> set[str]:
        """Files that the next run wrote."""
        return {file.name for file in files() if file.stat().st_mtime_ns != 10**18}

    def files() -> list:
        return [f for f in (home / "runs").rglob("*") if f.is_file()]

    def age() -> None:
        for file in files():
            os.utime(file, ns=(10**18, 10**18))

    assert {file.name for file in files()} == {"rows.mk", "overrides.yaml", *(f"{row.name}.yaml" for row in rows("p"))}
    age()
    run(monkeypatch)
    assert touched() == set()
    put(home, "database", "{preset: p, experiment: database, steps: 8}")
    run(monkeypatch)
    assert touched() == {"database.yaml"}
    age()
    put(home, "database", "{preset: p, experiment: database, steps: 8, seed: 5}")
    put(home, "base", "{preset: p, experiment: base, method: multi-encoder, single: database, seed: 5}")
    run(monkeypatch)
    assert touched() == {"rows.mk"}, "a row's seeds are no part of its params"


@pytest.mark.parametrize("single", ["{steps: 7, seed: 5}", "{steps: [7, 8]}", None])
def test_row_that_stands_on_one_that_is_not_there(home, single):
    """No rule would make its encoder: gone, of other seeds, or swept away."""
    (home / "params" / "p" / "database.yaml").unlink()
    if single:
        put(home, "database", single.replace("{", "{preset: p, experiment: database, "))
    with pytest.raises(ValueError, match=r"^base stands on database: params/p must have that row, with the same seeds$"):
        rows("p")


def test_parameters_that_one_of_the_notebooks_does_not_have():
    """What overrides leave out for a row is what its notebook does not declare."""
    from test_notebooks import NOTEBOOKS, declared

    cells = {path.stem: set(declared(path)) for path in NOTEBOOKS}
    assert set(sweep.NOT_OF_METHODS) == cells["02_train"] - cells["05_baselines"]
    assert set(sweep.NOT_OF_TRAINING) == cells["05_baselines"] - cells["02_train"] - {"method"}


def test_params_files_of_rows_that_are_gone_are_removed(home, monkeypatch):
    put(home, "base", "{preset: p, experiment: base, method: mfcc}")
    run(monkeypatch, "steps=[1, 2]")
    run(monkeypatch)
    assert {file.stem for file in (home / "runs" / "p" / "params").iterdir()} == {row.name for row in rows("p")}


@pytest.mark.parametrize(
    ("single_pairs", "words"),
    [
        (["stepps=3"], "error: unknown parameter 'stepps' (did you mean 'steps'?)"),
        (["steps=[]"], "error: base: steps is an empty list"),
        (["experiment=x"], "error: params/p makes two rows named x"),
        (["steps=[1"], "error: "),
        (["steps=many"], "error: base: TrainConfig.steps must be int, not str ('many')"),
        (["loss=tags"], "error: database: unknown mixture loss 'tags'"),
        (["seed=-1"], "error: base: seed must be 0 or more, got -1"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(home, monkeypatch, pairs, words):
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *pairs)
    assert caught.value.code.startswith(words) and "\n" not in caught.value.code
    assert not (home / "runs").exists()


def test_a_call_without_arguments_tells_how(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sweep", "demo"])
    with pytest.raises(SystemExit, match=r"^python -m cirlib.reporting.rows PRESET MAKEFILE \[name=value \.\.\.\]$"):
        sweep.main()


# Settings of a row


@pytest.mark.parametrize(
    ("values", "task", "loss", "metric"),
    [
        ({"method": "mfcc"}, "mfcc", "none", "l2"),
        ({"method": "timbre-toolbox"}, "timbre-toolbox", "none", "l2"),
        ({"method": "multi-encoder"}, "multi-encoder", "cosine", "cosine"),
        ({"method": "separate"}, "separate", "magnitude", "l2"),
        ({"method": "demucs"}, "demucs", "none", "l2"),
        ({"loss": "triplet-full"}, "mixture", "triplet-full", "l2"),
        ({"task": "single", "loss": "infonce"}, "single", "infonce", "cosine"),
        ({"task": "classify", "loss": "tags"}, "classify", "tags", "cosine"),
    ],
    ids=lambda v: "-".join(v.values()) if isinstance(v, dict) else "",
)
def test_settings_of_a_row(tmp_path, monkeypatch, values, task, loss, metric):
    """`method` names the task of a baseline. What separates ranks by the distance of its encoder for single sounds, here a triplet's."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    trained(TrainConfig(preset="p", experiment="other", task="single", loss="triplet"))
    given = {"preset": "p", "experiment": "x", "steps": 3, "tests": ["single"], "single": "other", **values}
    before = dict(given)
    config = row_config(given)
    assert (config.task, config.loss, config.metric) == (task, loss, metric)
    assert (config.experiment, config.steps, config.tests) == ("x", 3, ("single",)) and given == before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "mfc"}, r"unknown method 'mfc' \(did you mean 'mfcc'\?\)"),
        ({"method": "single"}, "unknown method 'single'"),
        ({"task": "classify", "loss": "tag"}, r"unknown classify loss 'tag' \(did you mean 'tags'\?\)"),
        ({"loss": "tags"}, "unknown mixture loss 'tags'"),
        ({"tests": ["mixtures"]}, r"unknown test 'mixtures' \(did you mean 'mixture'\?\)"),
    ],
)
def test_wrong_settings_of_a_row(values, words):
    with pytest.raises(ValueError, match=words):
        row_config({"preset": "p", "experiment": "x", **values})


def trained(config: TrainConfig, checkpoint: bytes = b"weights") -> None:
    """A run that was trained to its end."""
    write_config(config.folder, config, config.key([]))
    (config.folder / "best.pt").write_bytes(checkpoint)
    (config.folder / "train.json").write_text("{}")


def test_encoder_for_single_sounds_that_a_row_stands_on(tmp_path, monkeypatch):
    """Of the same preset and seed, trained to its end, on clips of the same length."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    single = TrainConfig(preset="p", experiment="single-infonce", seed=2, task="single", loss="infonce")
    row = row_config({"preset": "p", "experiment": "x", "method": "separate", "seed": 2})
    with pytest.raises(FileNotFoundError, match=r"no run in .*p/single-infonce/seed2"):
        row.single_run()
    trained(dataclasses.replace(single, seed=0))
    write_config(single.folder, single, "key")
    with pytest.raises(FileNotFoundError, match=r"p/single-infonce/seed2 is not trained to its end: run notebooks/02_train"):
        row.single_run()
    trained(single)
    assert row.single_run() == (single, tmp_path / "p" / "single-infonce" / "seed2" / "best.pt")
    with pytest.raises(ValueError, match=r"single-infonce hears clips of 4 s, x of 2 s"):
        dataclasses.replace(row, seconds=2.0).single_run()


def test_encoder_for_single_sounds_that_is_none_or_heard_other_sounds(tmp_path, monkeypatch):
    """Another split of the same sounds would let it train on what is tested."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    row = row_config({"preset": "p", "experiment": "x", "method": "separate", "single": "other"})
    trained(TrainConfig(preset="p", experiment="other"))
    with pytest.raises(ValueError, match=r"^x needs an encoder for single sounds, other has task mixture: name another row$"):
        row.single_run()
    trained(TrainConfig(preset="p", experiment="other", task="single", loss="infonce"))
    assert row.key([])
    with pytest.raises(ValueError, match=r"p/other/seed0 was trained on other sounds than x, .*: train it again on these"):
        row.key([{"audio.i16": "another bank"}])


KEYED = {
    "seed": 1, "task": "single", "families": ("Bass",), "protocol": "paper", "statistics": "notes.json", "loss": "triplet",
    "temperature": 0.2, "encoder": "ast-tiny", "seconds": 2.0, "steps": 3, "batch_size": 12, "curriculum": (0.5, 0.5), "hard_negative_ratio": 0.1,
    "augmented": False, "epoch_size": 100, "start_lr": 1e-3, "end_lr": 1e-6, "warmup": 0.2, "valid_every": 7, "valid_size": 9,
    "endless": 4, "renew": 60, "max_instruments": 2, "mixtures_per_instrument": 2, "single_pairs": 1, "effects": 0.5, "precision": "bf16", "optimiser": "muon",
}  # fmt: skip
NOT_KEYED = {
    "preset": "q", "experiment": "y", "bank": ("elsewhere",), "single": "other", "log_every": 3, "tests": ("single",), "queries": 9,
    "wandb": "offline", "gradient_cache_size": 4, "workers": 2, "compile": True,
}  # fmt: skip


def test_key_of_a_run_changes_with_all_that_changes_the_weights(tmp_path, monkeypatch):
    """Not with names, places, logging or what is tested."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    NoteStatistics({"pitch": {}}).save(tmp_path / "notes.json")
    assert {*KEYED, *NOT_KEYED} == {f.name for f in dataclasses.fields(TrainConfig)}
    config, data = TrainConfig(preset="p", experiment="x", loss="infonce"), [{"audio.i16": "1"}]
    key = config.key(data)
    keys = {name: dataclasses.replace(config, **{name: value}).key(data) for name, value in (KEYED | NOT_KEYED).items()}
    assert {name for name, other in keys.items() if other == key} == set(NOT_KEYED)
    assert len({*keys.values(), config.key([{"audio.i16": "2"}]), config.key(data * 2)}) == len(KEYED) + 3
    assert config.key(data) == key and len(key) == 12


def test_key_of_a_run_is_by_the_content_of_its_files(tmp_path, monkeypatch):
    """Checkpoint that it starts from, statistics, encoder for single sounds: their bytes count, their names do not."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_bytes(b"one")
        (tmp_path / f"{name}.json").write_bytes(b"one")
        trained(TrainConfig(preset="p", experiment=name, task="single", loss="infonce"))

    def keys() -> list[list[str]]:
        made = [[TrainConfig(encoder=f"{n}.pt").key([]), TrainConfig(statistics=f"{n}.json").key([])] for n in ("a", "b")]
        baselines = [[row_config({"preset": "p", "method": m, "single": n}).key([]) for m in ("separate", "multi-encoder")] for n in "ab"]
        return [x + y for x, y in zip(made, baselines, strict=True)]

    before = keys()
    assert before[0] == before[1] and len(set(before[0])) == 4
    for file in ("b.pt", "b.json", "p/b/seed0/best.pt"):
        (tmp_path / file).write_bytes(b"two")
    after = keys()
    assert after[0] == before[0] and not set(after[1]) & set(before[1])


def test_key_of_a_run_is_by_the_weights_of_a_folder_or_an_artifact(tmp_path, monkeypatch):
    """A folder in hub format may be filled anew, an alias of W&B may move on."""
    monkeypatch.setattr("cirlib.common.tracking.download", lambda name, folder: tmp_path / "best.pt")
    folder = tmp_path / "model"
    (folder / ".cache").mkdir(parents=True)
    names, seen = (str(folder), "wandb:team/cirlib/x:best"), []
    for content in (b"one", b"two", b"one"):
        for file in (folder / "model.safetensors", tmp_path / "best.pt"):
            file.write_bytes(content)
        (folder / ".cache" / "note").write_text(str(len(seen)))
        seen.append([TrainConfig(encoder=name).key([]) for name in names])
    assert seen[0] == seen[2] and not set(seen[0]) & set(seen[1])
    (folder / "model.safetensors").rename(folder / "config.json")
    assert TrainConfig(encoder=names[0]).key([]) != seen[0][0], "names of files count"


# The presets that come with the project


@pytest.mark.parametrize("preset", sorted(p.name for p in paths.PARAMS.iterdir()))
def test_every_row_has_a_plain_name_and_valid_settings(preset):
    """Names are folders and words of a makefile."""
    made = rows(preset)
    assert made
    for row in made:
        assert re.fullmatch(r"[A-Za-z0-9][\w.+-]*", row.name, re.ASCII)
        config = row_config({**row.values, "bank": []})
        assert (config.preset, config.experiment, config.tests != ()) == (preset, row.name, True)
        assert row.needs is None or row.needs in {r.name for r in made}


def test_demo_and_paper_have_the_same_rows():
    """But for Demucs, in whose place the demo trains a separator, Muon, which is for new encoders, and the authors' checkpoint.

    What a row tests is the same.
    """
    demo, paper = ({row.name: row.values for row in rows(preset)} for preset in ("demo", "paper"))
    assert demo.keys() - paper.keys() == {"separation", "multi-infonce-muon"}
    assert paper.keys() - demo.keys() == {"demucs", "published"}
    assert demo["separation"]["method"] == "separate" and paper["demucs"]["method"] == "demucs"
    what = ("task", "method", "loss", "hard_negative_ratio", "augmented", "families", "tests", "single", "curriculum")
    for name in demo.keys() & paper.keys():
        assert {k: demo[name].get(k) for k in what} == {k: paper[name].get(k) for k in what}, name
        batch = re.search(r"-(24|48)$", name)
        assert not batch or demo[name]["batch_size"] == paper[name]["batch_size"] == int(batch[1]), name
    assert demo["multi-infonce"]["temperature"] == paper["multi-infonce"]["temperature"]
    methods = {values["method"] for part in (demo, paper) for values in part.values() if "method" in values}
    assert methods == set(METHODS)
