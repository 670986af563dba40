"""All notebooks, executed: the smoke preset from its sounds to search, what they write, and that no output holds a secret."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import markers
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import tone
from notebook_cells import seen_and_heard
from papermill.__main__ import papermill as command_line
from source_files import PROGRAMS, general_midi_bank
from tones import write

from cirlib.common.paths import ROOT
from cirlib.reporting.executed import LARGEST, shareable
from cirlib.reporting.labels import label

HEADS, ONE_VECTOR = "family-infonce", "multi-infonce"  # rows that are analysed
FIGURES = ("data", "note_statistics", "accuracy", "families_mixture", "distance_single", "ranks_mixture", "ranks_single", "training")
SPACE = ("map", "lines", "mixtures", "hubs", "purity", "probes", "effects", "notes")


def papermill(home: Path, name: str, *args: str, out: str = "out.ipynb", env: dict | None = None) -> SimpleNamespace:
    """Return returncode and stderr of `papermill NAME.ipynb OUT ARGS` in another folder, run in this process, which saves its start."""
    command = ["--no-progress-bar", "--log-level", "ERROR", "--execution-timeout", "600", str(ROOT / "notebooks" / f"{name}.ipynb"), out]
    env = (env or os.environ) | {"CIRLIB_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    with patch.dict(os.environ, env, clear=True), contextlib.chdir(home):
        done = CliRunner().invoke(command_line, [*command, *args])
    return SimpleNamespace(returncode=done.exit_code, stderr=f"{done.output}{done.exception or ''}")


def is_illustrated(notebook: Path) -> bool:
    """Whether an executed notebook shows a picture or a sound for every three code cells, those of parameters aside."""
    cells = json.loads(notebook.read_text())["cells"]
    code = [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and not cell["metadata"].get("tags")]
    shown = [o["data"] for outputs in code for o in outputs if "data" in o]
    return 3 * sum("image/png" in data or "<audio" in "".join(data.get("text/html", "")) for data in shown) >= len(code)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """`python -m cirlib.reproduce smoke` and the notebooks that it does not run, in a home folder of its own.

    The user, their home folder and their key have marked names (markers.py). Executed copies go to `notebooks`, their output to `logs`.
    """
    user = tmp_path_factory.mktemp("users") / markers.USER
    env, home, numbers = markers.environment(user), user / "project", count()
    for folder in ("notebooks", "logs"):
        (home / folder).mkdir(parents=True)
    command = [sys.executable, "-m", "cirlib.reproduce", "smoke", "--set", "wandb=offline"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    (home / "logs" / "reproduce.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr

    def run(name: str, *args: str, works: bool = True) -> SimpleNamespace:
        number = f"{next(numbers):02d}_{name}"
        done = papermill(home, name, *args, out=f"notebooks/{number}.ipynb", env=env)
        (home / "logs" / f"{number}.txt").write_text(done.stderr)
        assert (done.returncode == 0) == works, f"{name} {args}: {done.stderr[-3000:]}"
        assert not works or is_illustrated(home / "notebooks" / f"{number}.ipynb")
        return done

    for row in (HEADS, ONE_VECTOR):
        few = f"{{preset: smoke, experiment: {row}, queries: 60, fitted: 120, calibrated: 120}}"
        run("09_open_mixtures", "-y", few)
    mapped = f"{{preset: smoke, experiment: {ONE_VECTOR}, neighbours: 5}}"
    robust = f"{{preset: smoke, runs: [smoke/{HEADS}, smoke/{ONE_VECTOR}], banks: [data/smoke, data/none], queries: 12}}"
    search = f"{{library: data/smoke, encoder: runs/smoke/{ONE_VECTOR}/seed0/best.pt, name: smoke}}"
    for name, values in (("04_embedding_space", mapped), ("12_robustness", robust), ("07_search", search)):
        run(name, "-y", values)
    for name in ("one", "two"):
        general_midi_bank(home / "data", name)
    trained = f"encoders: [runs/smoke/{HEADS}/seed0/best.pt]"
    run("13_libraries", "-y", f"{{preset: smoke, gallery: data/one, queries: [data/two], {trained}, mixtures: 6}}")
    return home, run


def read(home: Path, *names: str) -> dict:
    return json.loads(home.joinpath(*names).read_text())


def test_tables_and_figures_are_written(smoke):
    home, _ = smoke
    folder = home / "figures" / "smoke"
    figures = [*FIGURES, "confusion_single", *(f"space_{what}_{row}" for what in SPACE for row in (HEADS, ONE_VECTOR))]
    assert {f"{figure}.{end}" for figure in figures for end in ("svg", "png")} <= {p.name for p in folder.iterdir()}
    rows, singles = read(folder, "table_mixture.json"), read(folder, "table_single.json")
    assert [r["experiment"] for r in rows] == ["untrained", "mfcc", "multi-encoder", ONE_VECTOR, HEADS]
    assert [r["experiment"] for r in singles] == ["untrained", "mfcc", "single-tags", "single-infonce", ONE_VECTOR, HEADS]
    assert all(0 <= r["top1_low"] <= r["top1"] <= r["top1_high"] <= 100 and r["clip_s"] == 2 for r in rows)
    assert label("single-tags") in (folder / "classification.md").read_text()
    assert (home / "runs" / "smoke" / "examples.html").read_text().count("<audio") == 6 * 13
    assert is_illustrated(home / "runs" / "smoke" / "notebooks" / "05_baselines_mfcc_seed0.ipynb")
    for row in (ONE_VECTOR, "mfcc"):
        assert 0 <= read(home, "runs", "smoke", row, "seed0", "metrics.json")["self_match"] <= 1
    run = home / "runs" / "smoke" / ONE_VECTOR / "seed0"
    assert {"config.yaml", "history.csv", "best.pt", "last.pt", "provenance.json", "metrics.json"} <= {p.name for p in run.iterdir()}


def test_executed_copy_of_each_notebook_is_in_figures(smoke):
    """Of the headline row, with outputs, without the home folder; a second copy is the same."""
    copies = {path.stem: path.read_text() for path in sorted((smoke[0] / "figures" / "smoke").glob("*.ipynb"))}
    assert [name[:2] for name in copies] == ["01", "02", "03", "04", "05", "06"]
    assert all(len(text.encode()) <= LARGEST and str(smoke[0]) not in text for text in copies.values())
    assert all(f'experiment = \\"{HEADS}\\"' in copies[name] for name in ("02_train", "03_retrieve", "04_embedding_space"))
    assert all(shareable(text) == text for text in copies.values())
    assert all(seen_and_heard(copies[name]) >= 1 / 3 for name in ("03_retrieve", "04_embedding_space", "06_paper"))


def test_every_result_has_its_provenance(smoke):
    """Commit, code, versions, device, data and seed; each run has the sounds of the bank."""
    home, _ = smoke
    names = ("provenance.json", "metrics.json", "space.json", "open.json")
    stored = {f: json.loads(f.read_text()) for name in names for f in (home / "runs" / "smoke").glob(f"*/seed0/{name}")}
    drawn = read(home, "figures", "smoke", "provenance.json")
    assert {f.name for f in stored} == {*names}
    assert {"06_paper", f"09_open_mixtures, {ONE_VECTOR}", "12_robustness"} <= drawn.keys()
    data = [read(home, "data", "smoke", "bank.json")["sha256"]]
    assert drawn.pop("13_libraries")["data"] == [read(home, "data", "one", "bank.json")["sha256"]]
    for made in [*(value.get("provenance", value) for value in stored.values()), *drawn.values()]:
        assert made.keys() == {"git", "dirty", "code", "python", "versions", "device", "data", "seed"}
        assert made["data"] == data and made["seed"] == 0 and made["versions"]["torch"]


def test_04_embedding_space_refuses_an_unknown_head(smoke):
    done = smoke[1]("04_embedding_space", "-y", f"{{preset: smoke, experiment: {HEADS}, head: Basss}}", works=False)
    assert f"unknown head of {HEADS} 'Basss' (did you mean 'Bass'?)" in done.stderr


def test_08_performance_measures_every_stage(tmp_path):
    """With little work; equal outputs are asserted in the notebook itself."""
    values = "{batches: [1, 2], instruments: 6, mixtures: [1, 2], queries: [20, 40], notes: [300, 3000], vectors: [500, 1000]}"
    small = "{library: 500, indexed: [300, 1200], repeats: 1, seconds: 1.0, train_steps: 10, encoders: [cnn], folder: small}"
    done = papermill(tmp_path, "08_performance", "-y", values, "-y", small)
    assert done.returncode == 0 and is_illustrated(tmp_path / "out.ipynb"), done.stderr[-3000:]
    out = tmp_path / "figures" / "small"
    table = pd.read_csv(out / "performance.csv").set_index("stage")
    stages = {"log-mel", "mixtures", "mixtures, cold bank", "ranking", "opening a bank", "building a bank", "search, 500 vectors"}
    assert stages | {"step: backward"} <= set(table.index) and (table.ours > 0).all()
    goals = {"log-mel": "15 times", "mixtures": "150 times", "mixtures, cold bank": "150 times", "ranking": "200 times"}
    goals |= {"opening a bank": "300 ms, 200 MB", "library, 1,200 sounds": "50 ms", "training, 1 workers": "5 % waiting"}
    assert table.goal.dropna().to_dict() == goals
    assert {p.name for p in out.iterdir()} >= {"performance.md", "growth.csv", "scaling.svg", "scaling.png", "shares.svg", "shares.png"}
    assert not list((tmp_path / "runs").glob("*/*")), "its runs are gone"


def test_09_open_mixtures_writes_its_table_and_figures(smoke):
    home, _ = smoke
    folder = home / "figures" / "smoke"
    assert all((folder / f"{name}_{ONE_VECTOR}.{end}").exists() for name in ("open", "presence") for end in ("svg", "png"))
    assert all((folder / "open.md").read_text().count(label(row)) == 1 for row in (HEADS, ONE_VECTOR))
    result = read(home, "runs", "smoke", ONE_VECTOR, "seed0", "open.json")
    assert all(0 <= part[way]["top5"] <= 1 for part in result["by_size"].values() for way in ("open", "given_family"))
    assert result["presence"]["linear"]["calibration_error"] <= 1


def test_10_beyond_draws_from_the_records_alone(tmp_path):
    """Without a run on this machine: tables and figures are those in git, byte for byte but for what a font changes."""
    stored, made = ROOT / "figures" / "surge", tmp_path / "figures" / "surge"
    made.mkdir(parents=True)
    shutil.copy(stored / "runs.json", made)
    done = papermill(tmp_path, "10_beyond")
    assert done.returncode == 0, done.stderr[-3000:]
    tables = ("runs.json", "table_mixture.md", "table_single.md", "table_mixture.json", "slices_single.csv")
    assert [name for name in tables if (made / name).read_text() != (stored / name).read_text()] == []
    figures = {p.name for p in made.glob("*.svg")}
    assert {"accuracy.svg", "curves_mixtures.svg"} <= figures <= {p.name for p in stored.glob("*.svg")}
    curves = (made / "curves_mixtures.svg").read_text()
    assert "full triplet" in curves and label("multi-infonce-open-muon") not in curves, "it is validated on other mixtures"


def test_11_ablations_trains_every_idea_once(smoke):
    home, run = smoke
    run("11_ablations", "-y", "{preset: smoke, virtual: smoke, steps: 3, queries: 12}")
    stored = home / "figures" / "smoke" / "ablations.json"
    ideas = [record["idea"] for record in read(stored)["records"]]
    assert len(ideas) == len(set(ideas)) > 20 and {"recipe", "memory bank", "top-10 re-ranking"} <= {*ideas}
    assert stored.with_suffix(".md").read_text().count("\n| ") == len(ideas) + 1  # and the rule below the header
    before = stored.stat().st_mtime_ns
    run("11_ablations", "-y", "{preset: smoke, steps: 3, queries: 12, ideas: [spectrogram masking, recipe]}")
    assert stored.stat().st_mtime_ns == before


def test_12_robustness_tests_every_degradation_and_bank(smoke):
    folder = smoke[0] / "figures" / "smoke"
    rows = read(folder, "degraded.json")
    assert len({row["query"] for row in rows}) == 8 and len(rows) == 16 and (folder / "degraded.svg").exists()
    rows = read(folder, "transfer.json")
    assert {row["sounds"] for row in rows} == {"data/smoke"} and len(rows) == 4


def test_13_libraries_compares_methods(smoke):
    folder = smoke[0] / "figures" / "smoke"
    rows = read(folder, "libraries.json")
    assert [row["method"] for row in rows[::3]] == ["MFCC", "untrained encoder", f"runs/smoke/{HEADS}/seed0/best.pt"]
    assert len({row["test"] for row in rows}) == 3 and {row["programs"] for row in rows[::3]} == {len(PROGRAMS)}
    assert rows[0]["top1"] == 1 and (folder / "libraries.svg").exists()  # each program has one frequency


def test_14_your_idea_adds_a_loss_a_row_and_a_source(smoke):
    home, run = smoke
    run("14_your_idea", "-y", "{preset: smoke, steps: 2, batch_size: 16, seconds: 0.5, queries: 12, instruments: 4}")
    rows = {"infonce", "multi-infonce", "sigmoid", "low-temperature"}
    assert {p.parent.parent.name for p in (home / "runs" / "idea").glob("*/seed0/train.json")} == rows
    assert {p.stem for p in (home / "figures" / "idea").glob("*.png")} == {"losses", "row", "source", "idea"}
    assert read(home, "data", "idea", "bank.json")["counts"]["instruments"] == 12


def test_07_search_searches_a_bank_and_a_folder(smoke):
    home, run = smoke
    results = read(home, "lib", "smoke.search", "results.json")
    assert len(results["found"]) == 5 and {f["family"] for f in results["per_family"]} == set(results["library"]["families"])
    open_families = read(home, "runs", "smoke", ONE_VECTOR, "seed0", "open.json")["families"]
    assert {f["family"] for f in results["per_family"] if f["presence"] is not None} == set(open_families)
    assert (home / "lib" / "smoke.search" / "matches.png").exists()
    for i, name in enumerate(("sub bass", "other")):
        write(home / "sounds" / f"{name}.wav", tone(40 + 20 * i, 0.3))
    values = "query: sounds/sub bass.wav, family: Bass, mix: false, name: own"
    run("07_search", "-y", f"{{library: sounds, encoder: runs/smoke/{ONE_VECTOR}/seed0/best.pt, {values}}}")
    (found,) = read(home, "lib", "own.search", "results.json")["found"]
    assert found["path"] == "sounds/sub bass.wav" and found["distance"] == pytest.approx(0, abs=1e-6)


def test_wrong_parameter_is_one_sentence(smoke):
    done = smoke[1]("02_train", "-p", "stepps", "3", works=False)
    assert "unknown parameter 'stepps' (did you mean 'steps'?)" in done.stderr


def test_outputs_hold_neither_key_nor_user_nor_home_folder(smoke):
    """Every byte of notebooks, logs, runs, figures, pages and banks. A library must store where its sounds are, wandb its upload."""
    home, _ = smoke
    assert list((home / "runs").rglob("*.wandb")) and list((home / "lib").rglob("library.json"))
    assert markers.found(home, but=("sounds.lance", "*.wandb")) == []
