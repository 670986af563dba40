"""python -m cirlib.reproduce: what is up to date and why, in which order notebooks run, how the command ends."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import build_bank, sound, tone
from fake_runs import write_params

from cirlib import reproduce
from cirlib.common import paths, provenance
from cirlib.common.files import write_json
from cirlib.data import sources
from cirlib.data.bank import NoteBank
from cirlib.reporting import plan as planning
from cirlib.reporting import rows as sweep
from cirlib.training.config import write_config


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A preset p with a bank of one sound, a row `single`, a baseline that needs it, and a classical one."""
    write_params(
        tmp_path,
        single="{preset: p, experiment: single, task: single, loss: infonce, steps: 8, batch_size: 50, tests: [single]}",
        multi="{preset: p, experiment: multi, method: multi-encoder, single: single, tests: [mixture]}",
        mfcc="{preset: p, experiment: mfcc, method: mfcc, seed: 3}",
    )
    for module in (sweep, sources, reproduce, planning, paths):
        for name in ("PARAMS", "RUNS", "FIGURES"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / name.lower())
    for module in (paths, reproduce):
        monkeypatch.setattr(module, "HOME", tmp_path)
    made = build_bank(tmp_path / "bank", [sound("a", tone(60))])
    monkeypatch.setattr(
        planning, "made_elsewhere", lambda path, *_: NoteBank.open(made.paths[0]) if (path / "bank.json").exists() else None
    )
    make_bank(tmp_path)
    return tmp_path


def make_bank(home) -> None:
    write_json(home / "data" / "p" / "bank.json", {})
    write_json(home / "runs" / "p" / "data" / "metrics.json", {})


def sums(home) -> list[dict]:
    return [info["sha256"] for info in NoteBank.open(home / "bank").infos]


def finish(home, name: str, seed: int = 0, *, tested: bool = True, **changes) -> None:
    """A run as its notebooks leave it, with settings that differ by `changes`."""
    (row,) = (row for row in sweep.rows("p") if row.name == name)
    config = dataclasses.replace(row.config(seed), **changes)
    key = config.key(sums(home))
    write_config(config.folder, config, key)
    (config.folder / "best.pt").write_bytes(b"weights")
    write_json(config.folder / "train.json", {"clips_per_s": 100.0})
    write_json(config.folder / "provenance.json", {"code": provenance.code_digest()})
    if tested:
        write_json(config.folder / "metrics.json", {"key": key, "queries": config.queries, **{test: {} for test in config.tests}})


def command(monkeypatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["reproduce", *words])
    reproduce.main()


def plan(monkeypatch, capsys, *words: str) -> dict[str, str]:
    """The plan of the command: title -> why it runs, "done" or what is noted."""
    command(monkeypatch, "p", "--dry-run", *words)
    lines = capsys.readouterr().out.splitlines()[1:]
    return {line[8:].split(":")[0].strip(): line[8:].partition(": ")[2].partition(", about")[0] or "done" for line in lines}


# What is up to date


def test_everything_is_to_do_at_first(home, monkeypatch, capsys):
    (home / "data" / "p" / "bank.json").unlink()
    assert plan(monkeypatch, capsys) == {
        "make the sounds data/p": "not made yet",
        "baseline mfcc, seed 3": "waits for its sounds",
        "train single, seed 0": "waits for its sounds",
        "test single, seed 0": "waits for its sounds",
        "baseline multi, seed 0": "waits for its sounds",
        "tables and figures": "not written yet",
    }
    assert not (home / "runs" / "p" / "overrides.yaml").exists(), "a dry run writes nothing"


def test_finished_runs_are_up_to_date(home, monkeypatch, capsys):
    for name, seed in (("single", 0), ("multi", 0), ("mfcc", 3)):
        finish(home, name, seed)
    found = plan(monkeypatch, capsys)
    assert found.pop("tables and figures") == "not written yet" and set(found.values()) == {"done"} and len(found) == 5


@pytest.mark.parametrize(
    ("change", "step", "reason"),
    [
        ({"steps": 9}, "train single, seed 0", "settings or sounds changed"),
        ({"queries": 9}, "test single, seed 0", "tests changed"),
        ({"tests": ("mixture", "single")}, "test single, seed 0", "tests changed"),
        ({"wandb": "offline", "log_every": 3}, "train single, seed 0", "done"),
    ],
)
def test_other_settings_make_a_run_out_of_date(home, monkeypatch, capsys, change, step, reason):
    finish(home, "single", **change)
    assert plan(monkeypatch, capsys, "--rows", "single")[step] == reason


def test_unfinished_runs_go_on(home, monkeypatch, capsys):
    finish(home, "single", tested=False)
    assert plan(monkeypatch, capsys, "--rows", "single")["test single, seed 0"] == "not tested yet"
    (home / "runs" / "p" / "single" / "seed0" / "train.json").unlink()
    assert plan(monkeypatch, capsys, "--rows", "single")["train single, seed 0"] == "interrupted"
    found = plan(monkeypatch, capsys, "--rows", "multi")
    assert found["baseline multi, seed 0"] == "waits for single" and "train single, seed 0" in found


def test_times_of_files_do_not_matter(home, monkeypatch, capsys):
    finish(home, "single")
    for file in [*(home / "params").rglob("*"), *(home / "data").rglob("*")]:
        os.utime(file, (2**31, 2**31))
    assert plan(monkeypatch, capsys, "--rows", "single")["train single, seed 0"] == "done"


def test_runs_of_other_code_are_flagged(home, monkeypatch, capsys):
    finish(home, "single")
    write_json(home / "runs" / "p" / "single" / "seed0" / "provenance.json", {"code": "other"})
    assert plan(monkeypatch, capsys, "--rows", "single")["train single, seed 0"] == "made by a different code version"
    assert plan(monkeypatch, capsys, "--rows", "single", "--force")["train single, seed 0"] == "forced"


def test_settings_and_seeds_of_the_command(home, monkeypatch, capsys):
    finish(home, "single", steps=3)
    found = plan(monkeypatch, capsys, "--rows", "sing*", "--seeds", "0 1", "--set", "steps=3 families=[Bass, Synth Lead]")
    assert found["train single, seed 0"] == "settings or sounds changed" and "test single, seed 1" in found
    assert plan(monkeypatch, capsys, "--rows", "single", "--set", "steps=3")["train single, seed 0"] == "done"
    assert "baseline mfcc, seed 3" in plan(monkeypatch, capsys, "--rows", "mfcc", "--seeds", "5"), "a row's own seed stays"


def test_open_rows_and_the_best_row_are_analysed(home, monkeypatch, capsys):
    write_params(home, multi_infonce="{preset: p, experiment: multi-infonce}", triplet="{preset: p, experiment: triplet, loss: triplet}")
    monkeypatch.setitem(
        reproduce.PRESETS, "p", reproduce.Preset("multi-infonce triplet", seeds="1 2", open_rows="triplet", tables="10_beyond")
    )
    finish(home, "multi-infonce", 1)
    write_json(home / "runs" / "p" / "multi-infonce" / "seed1" / "space.json", {})
    found = plan(monkeypatch, capsys)
    assert [name for name in found if name.startswith("open")] == ["open mixtures of triplet, seed 1", "open mixtures of triplet, seed 2"]
    assert found["space of multi-infonce, seed 1"] == "the run is a new one"
    key = yaml.safe_load((home / "runs" / "p" / "multi-infonce" / "seed1" / "config.yaml").read_text())["key"]
    write_json(home / "runs" / "p" / "steps.json", {"04_embedding_space_multi-infonce_seed1": {"minutes": 1, "key": key}})
    assert plan(monkeypatch, capsys)["space of multi-infonce, seed 1"] == "done"


@pytest.mark.parametrize(
    ("paces", "expected"),
    [([], 1), ([4], 1), ([0.1], 1), ([4, 1.2], 1.2), ([4, 4.2], 4), ([0.5, 0.4, 0.6, 9], 0.6)],
    ids=["none", "one slow", "one resumed", "one slow, one usual", "slow machine", "fast machine"],
)
def test_minutes_are_the_median_of_finished_steps(home, paces, expected):
    """Of the same kind, in relation to their rough estimates; a step that ran before takes as long again."""
    made = planning.Plan("p")
    (row,) = (row for row in sweep.rows("p") if row.name == "single")
    rough = 0.2 + 8 * 50 / planning.ROUGH_SPEED / 60
    for seed, pace in enumerate(paces, 1):
        made.record(made.row(row, seed)[0], pace * rough)
    train, test = made.row(row, 0)
    assert made.minutes(train) == pytest.approx(expected * rough, rel=0.01)
    assert made.minutes(test) == planning.ROUGH_MINUTES["03_retrieve"], "another kind"
    made.record(train, 1.234)
    assert planning.Plan("p").minutes(train) == 1.23


# Running


@pytest.fixture
def ran(home, monkeypatch):
    """Names of the notebooks that ran, each of which leaves what it makes."""
    names = []

    def run(preset, step):
        names.append(step.copy)
        if step.notebook == "01_data":
            make_bank(home)
        elif step.config:
            finish(home, step.config.experiment, step.config.seed, tested=step.notebook != "02_train")
        elif step.notebook == "06_paper":
            for test in ("mixture", "single"):
                write_json(home / "figures" / "p" / f"table_{test}.json", [])
                (home / "figures" / "p" / f"table_{test}.md").write_text(f"table of {test}\n")

    monkeypatch.setattr(reproduce, "run_notebook", run)
    return names


def test_steps_run_in_order_and_once(home, monkeypatch, capsys, ran):
    (home / "data" / "p" / "bank.json").unlink()
    command(monkeypatch, "p")
    runs = ["05_baselines_mfcc_seed3", "02_train_single_seed0", "03_retrieve_single_seed0", "05_baselines_multi_seed0"]
    assert ran == ["01_data_data", *runs, "06_paper"]
    printed = capsys.readouterr().out
    assert "[3/6] train single, seed 0 (02_train): not started yet; about 2 min left\n" in printed
    assert "table of mixture\n\ntable of single" in printed
    ran.clear()
    command(monkeypatch, "p")
    assert ran == [] and "p: 0 of 6 steps to do" in capsys.readouterr().out
    finish(home, "mfcc", 3, seconds=2.0)
    command(monkeypatch, "p")
    assert ran == ["05_baselines_mfcc_seed3"], "its result is the one that the tables have"


def test_a_bank_that_is_made_again_keeps_its_runs(home, monkeypatch, ran):
    """The same sounds: only the bank and the tables are to do."""
    finish(home, "single")
    (home / "data" / "p" / "bank.json").unlink()
    command(monkeypatch, "p", "--rows", "single")
    assert ran == ["01_data_data", "06_paper"]


def test_force_moves_runs_aside(home, monkeypatch, ran):
    finish(home, "single")
    command(monkeypatch, "p", "--rows", "single", "--force")
    assert ran[:2] == ["02_train_single_seed0", "03_retrieve_single_seed0"]
    assert len(list((home / "runs" / "p" / "single").glob("seed0.*/best.pt"))) == 1


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("bank", []),
        ("figures", ["06_paper"]),
        ("performance", ["08_performance"]),
        ("ablations", ["11_ablations"]),
        ("robustness", ["12_robustness"]),
    ],
)
def test_parts_of_a_preset(home, monkeypatch, ran, what, expected):
    command(monkeypatch, "p", what)
    assert ran == expected


def test_preset_of_libraries_needs_no_rows(home, monkeypatch, ran):
    """Its table is made once; `figures` makes it again."""
    monkeypatch.setitem(reproduce.PRESETS, "p", reproduce.Preset(tables="13_libraries"))
    for row in (home / "params" / "p").glob("[sm]*.yaml"):
        row.unlink()
    for words in ([], ["figures"]):
        command(monkeypatch, "p", *words)
        write_json(home / "figures" / "p" / "libraries.json", {})
        command(monkeypatch, "p")
    assert ran == ["13_libraries"] * 2


def test_clean_deletes_runs_and_bank_only(home, monkeypatch):
    for folder in ("data/p.building", "data/other", "figures/p", "runs/q"):
        write_json(home / folder / "spec.json", {})
    command(monkeypatch, "p", "clean")
    left = {p.relative_to(home).as_posix() for p in home.glob("*/*") if p.is_dir()}
    assert left >= {"data/other", "figures/p", "runs/q"} and not left & {"data/p", "data/p.building", "runs/p"}


# How it ends


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["q"], "error: unknown preset 'q'"),
        (["p", "clean", "--rows", "x"], ""),
        (["p", "--rows", "mfc"], "error: no row is named mfc; there are: mfcc, multi, single"),
        (["p", "--set", "stepz=3"], "error: unknown parameter 'stepz' (did you mean 'steps'?)"),
        (["p", "--set", "steps"], "error: a setting is written name=value, got 'steps'"),
        (["p", "--set", "steps=many"], "error: mfcc: TrainConfig.steps must be int, not str ('many')"),
        (["p", "--set", "steps=[1"], "error: "),
        (["p", "--set", "experiment=x"], "error: params/p makes two rows named x"),
        (["p", "--seeds", "one"], "error: a seed is a number, 0 or more, got 'one'"),
    ],
)
def test_wrong_calls_end_with_one_sentence(home, monkeypatch, words, error):
    if not error:
        return command(monkeypatch, *words)
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, *words)
    assert caught.value.code.startswith(error) and "\n" not in caught.value.code
    assert not (home / "runs" / "p" / "overrides.yaml").exists()


def test_missing_inputs_are_listed_before_anything_starts(home, monkeypatch, ran):
    write_params(home, mine="{preset: p, experiment: mine, encoder: data/mine.pt}")
    with pytest.raises(SystemExit, match=r"^preset p needs inputs that are missing:\n- no checkpoint data/mine\.pt.* \(for mine\)$"):
        command(monkeypatch, "p")
    assert ran == []


def test_copy_of_a_notebook_has_no_paths(home, monkeypatch):
    """It is stored where the notebook fails, too; the error's last line is printed."""
    notebooks = home / "notebooks"
    notebooks.mkdir()
    monkeypatch.setattr(reproduce, "ROOT", home)
    write_notebook(notebooks / "ok.ipynb", "x = 1", "assert x == 2, 'x is not two'")
    reproduce.run_notebook("p", planning.Step("step", "ok", "copy", {"x": 2}))
    copy = (home / "runs" / "p" / "notebooks" / "copy.ipynb").read_text()
    assert str(home) not in copy and json.loads(copy)["cells"][-1]["execution_count"]
    with pytest.raises(
        SystemExit, match=r"^error: step failed: AssertionError: x is not two\n\(the whole of it: runs/p/notebooks/copy\.ipynb\)$"
    ):
        reproduce.run_notebook("p", planning.Step("step", "ok", "copy", {"x": 3}))
    assert "AssertionError" in (home / "runs" / "p" / "notebooks" / "copy.ipynb").read_text()


def write_notebook(path, parameters: str, code: str) -> None:
    cell = {"cell_type": "code", "execution_count": None, "outputs": [], "metadata": {}}
    cells = [{**cell, "metadata": {"tags": ["parameters"]}, "source": parameters}, {**cell, "source": code}]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": kernel, "cells": cells}))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_notebook_too(tmp_path, number):
    """One line, status 130, and no process stays behind."""
    (tmp_path / "notebooks").mkdir()
    write_notebook(
        tmp_path / "notebooks" / "01_data.ipynb",
        "preset = source = bank = card = ''\noptions = {}",
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(300)",
    )
    code = f"from pathlib import Path; from cirlib import reproduce; reproduce.ROOT = Path({str(tmp_path)!r}); reproduce.main()"
    command = [sys.executable, "-c", code, "smoke", "bank"]
    environment = {**os.environ, "CIRLIB_HOME": str(tmp_path)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background of a shell inherit that it is ignored
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{reproduce.STOPPED}\n")
    kernel = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not os.path.exists(f"/proc/{kernel}"):
            break
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_makefile_is_short_and_plain():
    text = (paths.ROOT / "Makefile").read_text()
    assert text.count("\n") <= 60
    assert not [word for word in ("define", "$(eval", "$(call", "sed ", "include") if word in text]
