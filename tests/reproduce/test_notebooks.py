"""Notebooks: clean in git, one parameters cell each, params files that set declared names only, and the smoke chain end to end."""

import contextlib
import json
import os
import re
import shutil
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import markers
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from conftest import tone
from papermill import inspect_notebook
from papermill.__main__ import papermill as command_line
from tones import write

from cirlib.common.files import write_json
from cirlib.common.paths import ROOT
from cirlib.common.settings import check_parameters, choose
from cirlib.data.sources import data_files, source_config, source_options
from cirlib.reporting.labels import TITLES, label, labels, order
from cirlib.reporting.rows import expand
from cirlib.training.config import row_config

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PARAMS = sorted((ROOT / "params").glob("*/*.yaml"))
SPACE = ("map", "mixtures", "hubs", "purity", "probes", "effects", "notes")  # figures of 04_embedding_space


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def parameters(path: Path) -> str:
    """The parameters cell of a notebook."""
    (cell,) = (c for c in cells(path) if "parameters" in c["metadata"].get("tags", []))
    return "".join(cell["source"])


def declared(path: Path) -> dict:
    """Return the names that the parameters cell of a notebook assigns, with their values."""
    names: dict = {}
    exec(parameters(path), names)
    return {n: v for n, v in names.items() if not n.startswith("__")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_clean_and_has_one_parameters_cell(path):
    code = [c for c in cells(path) if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert all(len(c["source"]) <= 25 for c in code if c is not tagged[0])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_papermill_shows_type_default_and_help_of_parameters(path):
    shown = inspect_notebook(str(path))
    assert shown.keys() == declared(path).keys()
    assert all(p["inferred_type_name"] != "None" and p["help"] for p in shown.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_tells_question_inputs_time_and_command(path):
    first = "".join(cells(path)[0]["source"])
    for part in ("**Question.**", "**Inputs", "**Time.**", "papermill", "**Paper.**"):
        assert part in first


@pytest.mark.parametrize("path", PARAMS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_params_file_sets_what_its_notebook_takes(path):
    """Names that it declares, values of their types."""
    values = yaml.safe_load(path.read_text())
    row = "05_baselines" if "method" in values else "02_train"
    notebook = "01_data" if path.stem.startswith("data") else row
    cell = parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    for taken in [values] if notebook == "01_data" else [r.values for r in expand(values)]:
        injected = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in taken.items())
        check_parameters({**taken, "In": [cell, injected]})
    assert values["preset"] == path.parent.name
    if notebook != "01_data":
        assert values["experiment"] == path.stem
        assert [row_config({**r.values, "bank": []}).experiment for r in expand(values)]


@pytest.mark.parametrize("path", [p for p in PARAMS if p.stem.startswith("data")], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_data_file_sets_only_options_that_its_source_has(path):
    values = yaml.safe_load(path.read_text())
    chosen = source_options(values["source"], values.get("options", {}), values.get("path", ""))
    source_config(values["source"])(**chosen)
    assert values.get("card", "data") == path.stem, "cards of one preset have names of their own"


def test_01_data_makes_the_bank_of_the_quick_preset():
    """The other notebooks make it from the params file, 01_data from its cell and the defaults of the source."""
    cell = declared(ROOT / "notebooks" / "01_data.ipynb")
    values = yaml.safe_load((ROOT / "params" / "quick" / "data.yaml").read_text())
    options = values.pop("options")
    assert {k: cell[k] for k in values} == values
    assert source_options("virtual", options) == source_options("virtual", cell["options"])


def test_defaults_of_02_train_are_those_of_the_configuration():
    import dataclasses

    from cirlib.common.settings import to_dict
    from cirlib.training.loop import TrainConfig

    cell = declared(ROOT / "notebooks" / "02_train.ipynb")
    baselines = declared(ROOT / "notebooks" / "05_baselines.ipynb")
    fields = {f.name: f.default for f in dataclasses.fields(TrainConfig) if f.name != "bank"}
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    assert {k: v for k, v in baselines.items() if k != "method"} == {k: fields[k] for k in baselines if k != "method"}
    assert {k: v for k, v in fields.items() if k != "single"} == cell, "only baselines stand on an encoder for single sounds"
    assert to_dict(TrainConfig())["bank"] == ["data/quick"]


# Single cells


def run_cell(notebook: str, part: str, **names) -> dict:
    """Run the cell of a notebook that contains this text, and return its names afterwards."""
    (path,) = (p for p in NOTEBOOKS if p.stem == notebook)
    (source,) = (text for text in map("".join, (c["source"] for c in cells(path) if c["cell_type"] == "code")) if part in text)
    exec(source, names)
    return names


def test_06_paper_draws_ranks_of_tested_rows_only(tmp_path):
    """A file of ranks may be left from earlier settings."""
    drawn, plots = {}, SimpleNamespace(rank_boxes=lambda ranks, title: ranks, save=lambda ranks, _, name: drawn.update({name: ranks}))
    for task in ("mixture", "single"):
        pd.DataFrame({"rank": [1.0]}).to_parquet(tmp_path / f"{task}_ranks.parquet")
    runs = [{"experiment": "mfcc", "single": {}}]
    names = {"tables": TITLES, "TITLES": TITLES, "labels": labels(runs), "runs": runs, "first_seeds": {"mfcc": tmp_path}}
    run_cell("06_paper", "rank_boxes", pd=pd, plots=plots, folder=None, **names)
    assert drawn.keys() == {"ranks_single"} and drawn["ranks_single"].keys() == {"MFCC"}


def test_06_paper_names_the_best_row_without_examples(capsys):
    """Without examples, `name` is still the best row on single sounds."""
    row = {"experiment": "triplet", "mixture": {"top1": 0.5, "top5": 0.6, "chance": {"top1": 0.1, "top5": 0.2}}}
    run_cell("06_paper", "times chance", best={"mixture": row}, labels=labels([row]), name="mfcc")
    assert capsys.readouterr().out == "best row on mixtures: triplet, 5.0 times chance at top-1, 3.0 times at top-5\n"


def test_03_retrieve_refuses_an_outdated_run(tmp_path):
    (tmp_path / "train.json").touch()
    config = SimpleNamespace(bank=(), key=lambda data: "now")
    names = {"In": [], "check_parameters": lambda *_: None, "preset": "p", "experiment": "x", "seed": 0, "run_folder": lambda *_: tmp_path}
    names |= {"read_config": lambda _: (config, "then"), "protocol": SimpleNamespace(open_banks=lambda _: SimpleNamespace(infos=[]))}
    with pytest.raises(ValueError, match=r"^p/x/seed0 is out of date \(its sounds, a file .*\): run 02_train.ipynb again$"):
        run_cell("03_retrieve", "is out of date", **names)


# The chain


def papermill(home: Path, name: str, *args: str, out: str = "out.ipynb", env: dict | None = None) -> SimpleNamespace:
    """returncode and stderr of `papermill NAME.ipynb OUT ARGS` in another folder; the command itself runs here, which saves its start."""
    command = ["--no-progress-bar", "--log-level", "ERROR", "--execution-timeout", "600", str(ROOT / "notebooks" / f"{name}.ipynb"), out]
    env = (env or os.environ) | {"CIRLIB_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    with patch.dict(os.environ, env, clear=True), contextlib.chdir(home):
        done = CliRunner().invoke(command_line, [*command, *args])
    return SimpleNamespace(returncode=done.exit_code, stderr=f"{done.output}{done.exception or ''}")


def test_10_beyond_draws_the_race_from_its_records_alone(tmp_path):
    """Without a run on this machine: tables and figures are those in git, byte for byte but for what a font changes."""
    stored, made = ROOT / "figures" / "surge", tmp_path / "figures" / "surge"
    made.mkdir(parents=True)
    shutil.copy(stored / "race.json", made)
    done = papermill(tmp_path, "10_beyond")
    assert done.returncode == 0, done.stderr[-3000:]
    tables = ("race.json", "table_mixture.md", "table_single.md", "table_mixture.json", "slices_single.csv")
    assert [name for name in tables if (made / name).read_text() != (stored / name).read_text()] == []
    figures = {p.name for p in made.glob("*.svg")}
    assert {"accuracy.svg", "curves_mixtures.svg"} <= figures <= {p.name for p in stored.glob("*.svg")}
    curves = (made / "curves_mixtures.svg").read_text()
    assert "full triplet" in curves and "open mixtures" not in curves, "a row that hears open mixtures is validated on others"


def test_08_performance_measures_every_stage(tmp_path):
    """With little work; equal outputs are asserted in the notebook itself."""
    values = "{clips: [1, 2], instruments: 6, mixtures: [1, 2], queries: [20, 40], notes: [300, 3000], vectors: [500, 1000], library: 500}"
    small = "{indexed: [300, 1200], repeats: 1, seconds: 1.0, train_steps: 10, encoders: [cnn], folder: small}"
    done = papermill(tmp_path, "08_performance", "-y", values, "-y", small)
    assert done.returncode == 0, done.stderr[-3000:]
    out = tmp_path / "figures" / "small"
    table = pd.read_csv(out / "performance.csv").set_index("stage")
    stages = {
        "log-mel",
        "mixtures",
        "mixtures, cold bank",
        "ranking",
        "opening a bank",
        "building a bank",
        "search, 500 vectors",
        "step: backward",
    }
    assert stages <= set(table.index) and (table.ours > 0).all()
    goals = {"log-mel": "15 times", "mixtures": "150 times", "mixtures, cold bank": "150 times", "ranking": "200 times"}
    goals |= {"opening a bank": "300 ms, 200 MB", "library, 1,200 sounds": "50 ms", "training, 1 workers": "5 % waiting"}
    assert table.goal.dropna().to_dict() == goals
    assert {p.name for p in out.iterdir()} >= {"performance.md", "growth.csv", "scaling.svg", "scaling.png", "shares.svg", "shares.png"}
    assert not list((tmp_path / "runs").glob("*/*")), "its runs are gone"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The whole chain of the smoke preset in a home folder of its own, started in a folder that is not the repository.

    The user, their home folder and their key have marked names (markers.py). Executed copies go to `notebooks`, their output to `logs`.
    """
    user = tmp_path_factory.mktemp("users") / markers.USER
    env, home, numbers = markers.environment(user), user / "project", count()
    for folder in ("notebooks", "logs"):
        (home / folder).mkdir(parents=True)

    def run(name: str, *args: str) -> SimpleNamespace:
        number = f"{next(numbers):02d}_{name}"
        done = papermill(home, name, *args, out=f"notebooks/{number}.ipynb", env=env)
        (home / "logs" / f"{number}.txt").write_text(done.stderr)
        return done

    def params(name: str) -> list[str]:
        return ["-f", str(ROOT / "params" / "smoke" / f"{name}.yaml")]

    steps = [("01_data", *params("data"))]
    for row in ("untrained", "multi-infonce", "family-infonce", "single-infonce", "single-tags"):
        tracked = ["-p", "wandb", "offline"] if row == "multi-infonce" else []
        steps += [("02_train", *params(row), *tracked), ("03_retrieve", "-p", "preset", "smoke", "-p", "experiment", row)]
    steps += [("05_baselines", *params("mfcc"))]
    mapped = ("-p", "preset", "smoke", "-p", "neighbours", "5", "-p", "experiment")
    steps += [("04_embedding_space", *mapped, row) for row in ("multi-infonce", "family-infonce")]
    steps += [("06_paper", "-p", "preset", "smoke")]
    few = "{queries: 60, fitted: 120, calibrated: 120}"
    steps += [
        ("09_open_mixtures", "-p", "preset", "smoke", "-p", "experiment", row, "-y", few) for row in ("multi-infonce", "family-infonce")
    ]
    runs = "[smoke/multi-infonce, smoke/family-infonce]"
    steps += [("12_robustness", "-y", f"{{preset: smoke, runs: {runs}, banks: [data/smoke, data/none], queries: 12}}")]
    steps += [
        ("07_search", "-p", "library", "data/smoke", "-p", "encoder", "runs/smoke/multi-infonce/seed0/best.pt", "-p", "name", "smoke")
    ]
    for name, *args in steps:
        done = run(name, *args)
        assert done.returncode == 0, f"{name} {args}: {done.stderr[-3000:]}"
    return home, run


def test_smoke_chain_writes_tables_and_figures(smoke):
    home, _ = smoke
    folder = home / "figures" / "smoke"
    names = {p.name for p in folder.iterdir()}
    assert {"table_mixture.json", "table_mixture.csv", "table_mixture.md", "table_single.json", "slices_mixture.csv"} <= names
    for figure in (
        "data",
        "note_statistics",
        "accuracy",
        "families_mixture",
        "distance_single",
        "ranks_mixture",
        "ranks_single",
        "confusion_single",
        "training",
        *(f"space_{what}_{row}" for what in SPACE for row in ("multi-infonce", "family-infonce")),
    ):
        assert {f"{figure}.svg", f"{figure}.png"} <= names
    rows = json.loads((folder / "table_mixture.json").read_text())
    assert [r["experiment"] for r in rows] == ["untrained", "mfcc", "multi-infonce", "family-infonce"]
    singles = json.loads((folder / "table_single.json").read_text())
    assert [r["experiment"] for r in singles] == ["untrained", "mfcc", "single-tags", "single-infonce", "multi-infonce", "family-infonce"]
    assert "classifier of 27 tags" in (folder / "classification.md").read_text()
    assert (home / "runs" / "smoke" / "examples.html").read_text().count("<audio") == 6 * 13
    for row in ("multi-infonce", "mfcc"):
        assert 0 <= json.loads((home / "runs" / "smoke" / row / "seed0" / "metrics.json").read_text())["self_match"] <= 1
    assert all(0 <= r["top1_low"] <= r["top1"] <= r["top1_high"] <= 100 for r in rows)
    run = home / "runs" / "smoke" / "multi-infonce" / "seed0"
    assert {"config.yaml", "history.csv", "best.pt", "last.pt", "provenance.json", "metrics.json"} <= {p.name for p in run.iterdir()}


def test_every_result_tells_what_made_it(smoke):
    """Commit, code, versions, device, data and seed; each run has the sounds of the bank."""
    folder, names = smoke[0] / "runs" / "smoke", ("provenance.json", "metrics.json", "space.json", "open.json")
    stored = {f: json.loads(f.read_text()) for name in names for f in folder.glob(f"*/seed0/{name}")}
    stored = {f: value.get("provenance", value) for f, value in stored.items()}
    drawn = json.loads((smoke[0] / "figures" / "smoke" / "provenance.json").read_text())
    assert {f.name for f in stored} == {*names}
    assert {"06_paper", "09_open_mixtures, multi-infonce", "12_robustness"} <= drawn.keys()
    data = [json.loads((smoke[0] / "data" / "smoke" / "bank.json").read_text())["sha256"]]
    for made in [*stored.values(), *drawn.values()]:
        assert made.keys() == {"git", "dirty", "code", "python", "versions", "device", "data", "seed"}
        assert made["data"] == data and made["seed"] == 0 and made["versions"]["torch"]


def test_04_embedding_space_refuses_a_head_that_is_none(smoke):
    _, run = smoke
    done = run("04_embedding_space", "-p", "preset", "smoke", "-p", "experiment", "family-infonce", "-p", "head", "Basss")
    assert done.returncode != 0 and "unknown head of family-infonce 'Basss' (did you mean 'Bass'?)" in done.stderr


def test_09_open_mixtures_writes_its_table_and_figures(smoke):
    home, _ = smoke
    folder = home / "figures" / "smoke"
    assert {f"{name}_multi-infonce.{kind}" for name in ("open", "presence") for kind in ("svg", "png")} <= {
        p.name for p in folder.iterdir()
    }
    for row in ("multi-infonce", "family-infonce"):
        assert (folder / "open.md").read_text().count(label(row)) == 1
    result = json.loads((home / "runs" / "smoke" / "multi-infonce" / "seed0" / "open.json").read_text())
    assert all(0 <= part[way]["top5"] <= 1 for part in result["by_size"].values() for way in ("open", "given_family"))
    assert result["presence"]["linear"]["calibration_error"] <= 1


def test_11_ablations_trains_every_idea_once(smoke):
    home, run = smoke
    settings = "{preset: smoke, virtual: smoke, steps: 3, queries: 12}"
    assert (done := run("11_ablations", "-y", settings)).returncode == 0, done.stderr[-3000:]
    stored = home / "figures" / "smoke" / "ablations.json"
    records = json.loads(stored.read_text())["records"]
    ideas = {record["idea"] for record in records}
    assert len(ideas) == len(records) > 20 and {"recipe", "memory bank", "top-10 re-ranking"} <= ideas
    assert stored.with_suffix(".md").read_text().count("\n| ") == len(ideas)
    before = stored.stat().st_mtime_ns
    options = "{preset: smoke, steps: 3, queries: 12, ideas: [spectrogram masking, recipe]}"
    assert run("11_ablations", "-y", options).returncode == 0 and stored.stat().st_mtime_ns == before


def test_11_ablations_refuses_an_unknown_idea():
    code = "\n".join("".join(c["source"]) for c in cells(ROOT / "notebooks" / "11_ablations.ipynb"))
    names = dict.fromkeys(re.findall(r"^class (\w+)", code, re.MULTILINE), 4)
    with pytest.raises(ValueError, match=r"^unknown idea 'memory' \(did you mean 'memory bank'\?\)"):
        run_cell("11_ablations", "IDEAS |= {", **names, IDEAS={"recipe": 4}, choose=choose, ideas=["memory"])


def test_12_robustness_tests_every_degradation_and_bank(smoke):
    folder = smoke[0] / "figures" / "smoke"
    rows = json.loads((folder / "degraded.json").read_text())
    assert len({row["query"] for row in rows}) == 8 and len(rows) == 16 and (folder / "degraded.svg").exists()
    rows = json.loads((folder / "transfer.json").read_text())
    assert {row["sounds"] for row in rows} == {"data/smoke"} and len(rows) == 4


def test_12_robustness_keeps_results_of_other_runs(tmp_path):
    names = {"FIGURES": tmp_path, "preset": "p", "seed": 0, "queries": 5}
    names |= {"pd": pd, "json": json, "order": order, "write_json": write_json}
    (tmp_path / "p").mkdir()

    def add(experiment: str, top1: float, **changes) -> list[tuple]:
        found = {"row": experiment, "experiment": experiment, "query": "clean", "seed": 0, "queries": 5, "top1": top1}
        table = run_cell("12_robustness", "def merged", **names | changes)["merged"]("degraded", [found | changes], "query")
        assert table.to_dict("records") == json.loads((tmp_path / "p" / "degraded.json").read_text())
        return [(r.row, r.top1) for r in table.itertuples()]

    assert add("multi-infonce", 0.5) == [("multi-infonce", 0.5)]
    assert add("triplet", 0.2) == [("triplet", 0.2), ("multi-infonce", 0.5)]  # in the order of tables
    assert add("multi-infonce", 0.6) == [("triplet", 0.2), ("multi-infonce", 0.6)]
    assert add("infonce", 0.3, queries=7) == [("infonce", 0.3)]  # another test


def test_07_search_finds_instruments_of_a_bank_and_of_a_folder(smoke):
    home, run = smoke
    results = json.loads((home / "lib" / "smoke.search" / "results.json").read_text())
    assert len(results["found"]) == 5 and {f["family"] for f in results["per_family"]} == set(results["library"]["families"])
    open_families = json.loads((home / "runs" / "smoke" / "multi-infonce" / "seed0" / "open.json").read_text())["families"]
    assert {f["family"] for f in results["per_family"] if f["presence"] is not None} == set(open_families)
    assert (home / "lib" / "smoke.search" / "matches.png").exists()
    sounds = home / "sounds"
    for i, name in enumerate(("sub bass", "other")):
        write(sounds / f"{name}.wav", tone(40 + 20 * i, 0.3))
    options = ["-p", "library", "sounds", "-p", "encoder", "runs/smoke/multi-infonce/seed0/best.pt", "-p", "name", "own"]
    done = run("07_search", *options, "-p", "query", "sounds/sub bass.wav", "-p", "family", "Bass", "-p", "mix", "False")
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads((home / "lib" / "own.search" / "results.json").read_text())["found"]
    assert found["path"] == "sounds/sub bass.wav" and found["distance"] == pytest.approx(0, abs=1e-6)


def test_07_search_asks_for_a_query(tmp_path):
    """Only banks have instruments to mix one of."""
    with pytest.raises(ValueError, match=r"^no query: name an audio file to search own with \(-p query mix.wav\)$"):
        run_cell("07_search", "no query: name", query="", sounds=tmp_path / "own", short=lambda path: path.name)


def test_outputs_tell_neither_key_nor_user_nor_home_folder(smoke):
    """Every byte of notebooks, what they print, runs, figures, pages, banks; a library must know where its sounds are, wandb its upload."""
    home, _ = smoke
    assert list((home / "runs").rglob("*.wandb")) and list((home / "lib").rglob("library.json"))
    assert markers.found(home, but=("sounds.lance", "*.wandb")) == []


def test_wrong_parameter_is_one_sentence_that_names_the_valid_ones(smoke):
    """Of a notebook; wrong values of what it calls: test_config.py, test_sources.py, test_training.py."""
    done = smoke[1]("02_train", "-p", "stepps", "3")
    assert done.returncode != 0 and "unknown parameter 'stepps' (did you mean 'steps'?)" in done.stderr


def test_an_unknown_preset_is_one_sentence():
    with pytest.raises(ValueError, match=r"^unknown preset 'smok' \(did you mean 'smoke'\?\)"):
        data_files("smok")
