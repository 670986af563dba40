"""Instruments rendered while others train: new ones in each set, the same ones again from the same seed."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from cirlib import endless
from cirlib.endless import EndlessSteps
from cirlib.experiment import TrainConfig
from cirlib.tasks import make_task
from cirlib.training import fit


@pytest.fixture
def config(tone_bank, tmp_path, monkeypatch) -> TrainConfig:
    """Four steps, two on each of two sets of four instruments of each family."""
    monkeypatch.setattr("cirlib.paths.RUNS", tmp_path)
    return TrainConfig(
        preset="test", bank=(str(tone_bank.paths[0]),), seconds=0.5, steps=4, clips=8, epoch_size=10, endless=4, renew=2, valid_every=4,
        valid_size=5, log_every=1,
    )  # fmt: skip


def test_each_set_has_new_instruments_that_any_process_renders_again(config, tone_bank):
    task = make_task(config, tone_bank)
    steps = [task.steps.batch(k) for k in range(4)]
    banks = [dataset.bank for dataset, _ in steps]
    assert banks[0] is banks[1] and banks[2] is banks[3]
    names = [set(bank.instruments.index) for bank in (banks[0], banks[2])]
    assert not names[0] & names[1] and not (names[0] | names[1]) & set(tone_bank.instruments.index)
    for bank in (banks[0], banks[2]):
        table = bank.instruments
        assert set(table.split) == {"train"} and (table[table.augments.isna()].family.value_counts() == 4).all()
    (config.folder / "endless").rename(config.folder / "aside")
    again = make_task(config, tone_bank).batch(3)  # as after a resume: the second set at once
    dataset, indices = steps[3]
    np.testing.assert_array_equal(again["mixtures"], np.stack([dataset[i].mixture for i in indices]))
    assert not (config.folder / "endless" / "set00000").exists()


def test_training_renders_ahead_and_leaves_no_sounds_behind(config):
    run = fit(config, progress=False)
    assert np.isfinite(run.history.loss).all() and not (run.folder / "endless").exists()
    assert not torch.load(run.checkpoint, weights_only=True)["custom_config"].get("endless")


def test_sets_before_the_last_one_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(endless.subprocess, "Popen", Rendered)
    monkeypatch.setattr(endless.NoteBank, "open", lambda path: path)
    steps = EndlessSteps(tmp_path, 4, 7, 2, 20, lambda bank, k: Numbers(bank, k))
    asked = [0, 1, 5, 8, 10, 13, 19]
    assert [steps.batch(step) for step in asked] == [(f"set0000{k // 2}", k // 2, k % 2) for k in asked]
    assert sorted(p.name for p in tmp_path.glob("set?????")) == ["set00006", "set00007", "set00009"]  # no set 10: the run ends in set 9
    assert Rendered.seeds["set00003"] == str(endless.FIRST_SEED + 7 * endless.MOST_SETS + 3)


def test_closing_ends_the_renderer_of_a_set_that_will_not_train(config, tone_bank):
    task = make_task(dataclasses.replace(config, endless=200, seconds=0.4), tone_bank)
    renderer = task.steps._renderer(1)
    assert renderer.poll() is None
    task.close()
    assert renderer.poll() is not None and task.steps._renderers == {}


def test_a_renderer_whose_training_has_ended_does_not_begin(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cirlib.endless", tmp_path / "set", "7", "4", str(2**30)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (1, "the training has ended\n") and not (tmp_path / "set").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_worker_whose_training_was_killed_ends_its_renderer(tmp_path):
    """Both hold the pipe of the training's output: it is closed when they are gone."""
    code = """
import multiprocessing, os, subprocess, sys
from cirlib import endless
steps = endless.EndlessSteps(None, 4, 0, 1, 1, None)
def work():
    steps._wait(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
multiprocessing.get_context("fork").Process(target=work).start()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "the training has ended\n")


class Numbers:
    def __init__(self, bank, k):
        self.bank, self.k = bank, k

    def batch(self, i):
        return self.bank.name, self.k, i


class Rendered:
    """A renderer that is done at once."""

    seeds, returncode = {}, 0

    def __init__(self, command, **options):
        path, seed, size, _ = command[3:]
        assert size == "4"
        endless.Path(path).mkdir()
        self.seeds[endless.Path(path).name] = seed

    def wait(self, timeout=None):
        pass


def test_what_cannot_be_rendered_is_told(config, tone_bank):
    (config.folder / "endless").mkdir(parents=True)
    (config.folder / "endless" / "set00000").write_text("a file where the bank should be")
    with pytest.raises(ValueError, match=r"^new instruments could not be rendered: ValueError: .* is no note bank"):
        make_task(config, tone_bank).batch(0)


@pytest.mark.parametrize("values", [{"task": "single", "loss": "infonce"}, {"curriculum": (0.5,)}])
def test_only_mixtures_without_a_curriculum(config, values):
    with pytest.raises(ValueError, match=r"^endless instruments train the mixture task, without a curriculum"):
        dataclasses.replace(config, **values)
    with pytest.raises(ValueError, match="more than 10000 sets: renew less often"):
        EndlessSteps(None, 4, 0, 1, 10_001, None)


def test_a_longer_or_other_set_is_another_run(config, tone_bank):
    data = [info["sha256"] for info in tone_bank.infos]
    keys = {dataclasses.replace(config, **values).key(data) for values in ({}, {"endless": 5}, {"renew": 3}, {"endless": 0})}
    assert len(keys) == 4


def test_other_recipes_of_instruments_are_another_run_only_where_they_are_rendered(config, monkeypatch):
    stored = dataclasses.replace(config, endless=0)
    before = config.key([]), stored.key([])
    monkeypatch.setattr("cirlib.experiment.VERSION", "another")
    assert config.key([]) != before[0] and stored.key([]) == before[1]
