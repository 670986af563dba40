"""Notebooks: clean in git, one parameters cell each, params files that set declared names only; single cells."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from notebook_cells import NOTEBOOKS, cells, declared, parameters, run_cell
from papermill import inspect_notebook

from cirlib.common.files import write_json
from cirlib.common.paths import ROOT
from cirlib.common.settings import check_parameters, choose, read_params
from cirlib.common.untrusted import read_json
from cirlib.data.sources import data_files, source_config, source_options
from cirlib.evaluation import ranking, space
from cirlib.models.encoder import AudioEncoder
from cirlib.reporting.labels import TITLES, labels, order
from cirlib.reporting.rows import NOT_ROWS, expand
from cirlib.search.example import MIX
from cirlib.training.config import TrainConfig

FOLDER = ROOT / "notebooks"
PARAMS = sorted((ROOT / "params").glob("*/*.yaml"))
DATA = [p for p in PARAMS if p.stem.startswith("data")]
ROWS = [p for p in PARAMS if not NOT_ROWS.fullmatch(p.stem)]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@each_notebook
def test_notebook_is_clean_and_its_cells_are_short(path):
    code = [c for c in cells(path) if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    assert parameters(path)
    assert all(len(c["source"]) <= 25 for c in code if "parameters" not in c["metadata"].get("tags", []))


@each_notebook
def test_papermill_shows_type_default_and_help_of_parameters(path):
    """As `papermill --help-notebook` does; a parameter that it does not show is unknown to `papermill -p`."""
    shown = inspect_notebook(str(path))
    assert {name: ast.literal_eval(p["default"]) for name, p in shown.items()} == declared(path)
    assert all(p["inferred_type_name"] != "None" and p["help"] for p in shown.values())


def test_text_on_papermills_command_line_stays_text(tmp_path):
    """Also what papermill takes for a number, a truth value or None."""
    given = {"path": "808", "row": "1e5", "take": "007", "truth": "True", "lower": "true", "nothing": "None", "null": "null", "none": "nan"}
    texts = "".join(f"{name}: str = 'a'  # text\n" for name in given if name != "path")
    check = "check_parameters(globals())\nwith open('got.json', 'w') as file:\n    json.dump(dict(PAIRS), file)"
    check = check.replace("PAIRS", ", ".join(f"{name}={name}" for name in (*given, "steps")))
    codes = [
        "import json\nfrom cirlib.common.settings import check_parameters",
        f"{texts}path: list[str] = []  # texts\nsteps: int = 1  # number",
        check,
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python", "language": "python"}
    book.cells[1].metadata.tags = ["parameters"]
    nbformat.write(book, tmp_path / "a.ipynb")
    options = [word for name, text in {**given, "steps": "3"}.items() for word in ("-p", name, text)]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "a.ipynb", "out.ipynb", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "unknown parameter" not in done.stderr
    assert json.loads((tmp_path / "got.json").read_text()) == {**given, "path": ["808"], "steps": 3}


@each_notebook
def test_notebook_begins_with_question_inputs_time_and_command(path):
    first = "".join(cells(path)[0]["source"])
    assert all(word in first for word in ("**Question.**", "**Inputs", "**Time.**", "papermill", "**Paper.**"))


def check_values(notebook: str, values: dict) -> None:
    """Check values as the notebook checks the parameters that papermill injects."""
    injected = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in values.items())
    check_parameters({**values, "In": [parameters(FOLDER / f"{notebook}.ipynb"), injected]})


@each_notebook
def test_misspelled_parameter_is_refused_before_anything_runs(path):
    name, code = next(iter(declared(path))), ["".join(c["source"]) for c in cells(path) if c["cell_type"] == "code"]
    with pytest.raises(ValueError, match=rf"^unknown parameter '{name}x' \(did you mean"):
        check_values(path.stem, {f"{name}x": 1})
    first = code[code.index(parameters(path)) + 1].removeprefix("plots.style()\n")
    assert first.startswith("check_parameters(globals()")


@pytest.mark.parametrize("path", ROWS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_row_sets_only_parameters_of_its_notebook(path):
    values = read_params(path)
    assert (values["preset"], values["experiment"]) == (path.parent.name, path.stem)
    for row in expand(values):
        check_values(row.notebook, row.values)


@pytest.mark.parametrize("path", DATA, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_data_file_sets_only_options_of_its_source(path):
    values = read_params(path)
    check_values("01_data", values)
    source_config(values["source"])(**source_options(values["source"], values.get("options", {}), values.get("path", "")))
    assert values["preset"] == path.parent.name
    assert values.get("card", "data") == path.stem, "cards of one preset have names of their own"


def test_01_data_makes_the_bank_of_the_quick_preset():
    """The other notebooks make it from the params file, 01_data from its cell and the defaults of the source."""
    cell = declared(FOLDER / "01_data.ipynb")
    values = read_params(ROOT / "params" / "quick" / "data.yaml")
    options = values.pop("options")
    assert {k: cell[k] for k in values} == values
    assert source_options("virtual", options) == source_options("virtual", cell["options"])


def test_defaults_of_notebooks_are_those_of_the_configuration():
    fields = {f.name: f.default for f in dataclasses.fields(TrainConfig) if f.name != "bank"}
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    assert {k: v for k, v in fields.items() if k != "single"} == declared(FOLDER / "02_train.ipynb")
    baselines = declared(FOLDER / "05_baselines.ipynb")
    assert {k: v for k, v in baselines.items() if k != "method"} == {k: fields[k] for k in baselines if k != "method"}
    assert TrainConfig().bank == ("data/quick",)


def test_unknown_preset_is_one_sentence():
    with pytest.raises(ValueError, match=r"^unknown preset 'smok' \(did you mean 'smoke'\?\)"):
        data_files("smok")


# Single cells


def test_03_retrieve_refuses_an_outdated_run(tmp_path):
    (tmp_path / "train.json").touch()
    config = SimpleNamespace(bank=(), key=lambda data: "now")
    names = {"In": [], "check_parameters": lambda *_: None, "preset": "p", "experiment": "x", "seed": 0, "run_folder": lambda *_: tmp_path}
    names |= {"read_config": lambda _: (config, "then"), "protocol": SimpleNamespace(open_banks=lambda _: SimpleNamespace(infos=[]))}
    with pytest.raises(ValueError, match=r"^p/x/seed0 is out of date \(its sounds, a file .*\): run 02_train.ipynb again$"):
        run_cell("03_retrieve", "is out of date", **names)


def test_04_takes_the_best_encoder_of_the_preset(tmp_path):
    """On mixtures, of the runs with a checkpoint that are tested on single sounds too."""
    tests = {"a": {"mixture": {"top1": 0.2}, "single": {}}, "best": {"mixture": {"top1": 0.5}, "single": {}}, "b": {"single": {}}}
    tests |= {"mfcc": {"mixture": {"top1": 0.9}, "single": {}}, "multi-encoder": {"mixture": {"top1": 0.9}}}
    for name, result in tests.items():
        write_json(tmp_path / "p" / name / "seed0" / "metrics.json", result)
        if name != "mfcc":
            (tmp_path / "p" / name / "seed0" / "best.pt").touch()
    names = {"preset": "p", "experiment": "", "seed": 0, "RUNS": tmp_path, "check_parameters": lambda *_: None, "read_json": read_json}
    names["run_folder"] = lambda preset, row, seed: tmp_path / preset / row / f"seed{seed}"
    with pytest.raises(FileNotFoundError, match=r"^no embeddings of p/best/seed0: run 03_retrieve"):
        run_cell("04_embedding_space", "def best_row", **names)
    with pytest.raises(FileNotFoundError, match=r"^no embeddings of q/none/seed0"):
        run_cell("04_embedding_space", "def best_row", **names | {"preset": "q"})


def test_04_compares_nothing_with_one_instrument_in_each_family():
    """As with one test instrument of each family: its stems have no others; a family that has some is compared."""
    plan = pd.DataFrame({"query": [0, 0, 1], "family": ["A", "B", "B"], "instrument": ["a", "b", "c"]})
    names = {"mixed": np.eye(2), "by_family": lambda vectors, _: vectors, "config": SimpleNamespace(metric="l2"), "np": np}
    names |= {"ranking": ranking, "space": space, "pd": pd}
    vectors, own = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.arange(3)
    for count, families in ((2, None), (3, {"B": {"mean": 1.0, "low": 1.0, "high": 1.0}})):
        some = plan[:count]
        compare = run_cell("04_embedding_space", "def compare(", plan=some, **names)["compare"]
        found = compare(vectors[:count], some.instrument.to_numpy(str), some.family.to_numpy(str), own[:count])
        assert (found and found["families"]) == families


def test_06_paper_draws_ranks_of_tested_rows_only(tmp_path):
    """A file of ranks may be left from earlier settings."""
    drawn, plots = {}, SimpleNamespace(rank_boxes=lambda ranks, title: ranks, save=lambda ranks, _, name: drawn.update({name: ranks}))
    for task in TITLES:
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


def test_07_search_asks_for_a_query(tmp_path):
    """Only banks have instruments to mix one of."""
    with pytest.raises(ValueError, match=r"^no query: name an audio file to search own with \(-p query mix.wav\)$"):
        run_cell("07_search", "no query: name", query="", library="own", sounds=tmp_path / "own", short=lambda path: path.name)


def test_07_search_searches_the_bundled_example(tmp_path, figure_style):
    """By default; nothing else is needed but an encoder."""
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=16).eval().save(tmp_path / "best.pt")
    names = declared(FOLDER / "07_search.ipynb")
    assert (names["library"], names["query"], names["encoder"]) == ("", "", "cirlib-small")
    names |= run_cell("07_search", "plots.style()")
    names |= {"encoder": str(encoder), "LIB": tmp_path, "check_parameters": lambda _: None, "display": lambda _: None}
    for words in ("index = Library.build", "query_file ="):
        names = run_cell("07_search", words, **names)
    assert names["index"].describe()["sounds"] == 12 and names["query_file"] == MIX and len(names["audio"]) == 8 * 16000


def test_11_ablations_refuses_an_unknown_idea():
    code = "\n".join("".join(c["source"]) for c in cells(FOLDER / "11_ablations.ipynb"))
    names = dict.fromkeys(re.findall(r"^class (\w+)", code, re.MULTILINE), 4)
    with pytest.raises(ValueError, match=r"^unknown idea 'memory' \(did you mean 'memory bank'\?\)"):
        run_cell("11_ablations", "IDEAS |= {", **names, IDEAS={"recipe": 4}, choose=choose, ideas=["memory"])


def test_12_robustness_keeps_results_of_other_runs(tmp_path):
    names = {"FIGURES": tmp_path, "preset": "p", "seed": 0, "queries": 5, "pd": pd, "json": json, "order": order, "write_json": write_json}
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
