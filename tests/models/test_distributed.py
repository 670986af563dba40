"""Several processes train as one does: two gloo processes on this machine against one."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cirlib.common.paths import ROOT
from cirlib.common.settings import read_params
from cirlib.models import distributed as processes
from cirlib.training.config import row_config
from cirlib.training.gradients import check_chunks
from cirlib.training.loop import TrainingError, fit
from cirlib.training.tasks import MixtureTask, make_task
from tests import several_processes

HERE = Path(__file__).parents[1]


def launch(count: int, *arguments, **env) -> subprocess.CompletedProcess:
    """several_processes.py in `count` processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), HERE / "several_processes.py"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), **env}
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=240, env=env)


@pytest.fixture(scope="module")
def two(tone_bank, tmp_path_factory) -> dict:
    """What two processes found in one step of every case."""
    folder = tmp_path_factory.mktemp("two")
    done = launch(2, "gradients", tone_bank.paths[0], folder)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "gradients.pt", weights_only=True)


@pytest.fixture(scope="module")
def one(tone_bank) -> dict:
    """The same step in this process."""
    return several_processes.all_gradients(tone_bank)


@pytest.mark.parametrize("case", several_processes.CASES)
@pytest.mark.parametrize(("norm", "gradient_cache_size"), [(False, 0), (True, 0), (False, 3)])
def test_two_processes_have_the_loss_and_gradient_of_one(one, two, case, norm, gradient_cache_size):
    a, b = one[*case, norm, gradient_cache_size], two["gradients"][*case, norm, gradient_cache_size]
    assert a.keys() == b.keys() and a["loss"] > 0
    for name, value in a.items():
        scale = max(1.0, value.abs().max().item())
        assert (value - b[name]).abs().max() <= 1e-6 * scale, name
    assert max(g.abs().max() for name, g in a.items() if name.startswith("first")) > 1e-4  # there is a gradient to compare


@pytest.mark.parametrize("case", several_processes.CASES)
def test_chunks_have_the_gradient_of_the_whole_batch(one, case):
    whole, chunks = one[*case, False, 0], one[*case, False, 3]
    assert all(torch.allclose(whole[name], chunks[name], rtol=1e-5, atol=1e-7) for name in whole)


def test_validation_is_shared_and_scores_the_same(tone_bank, two):
    assert two["scores"] == several_processes.scores(tone_bank)


def test_what_is_gathered_twice_has_its_own_gradient(two):
    """Of ((gather(a) + gather(b)) * [1, 2]).sum() in each of two processes, to a and b of the first."""
    assert two["twice"] == [2.0, 2.0]


def test_shared_work_comes_back_in_order(two):
    assert two["shared"] == [[[0], [10], [20], [30], [40]], [[0]]]
    assert np.array_equal(processes.share(3, lambda own: own[:, None]), [[0], [1], [2]])


@pytest.mark.parametrize("encoder", ["cnn", "ast-tiny"])
def test_two_processes_train_as_one_and_one_resumes_them(tone_bank, tmp_path, monkeypatch, encoder):
    """Two processes validate after steps 2 and 4 and end in step 5; one process goes on from step 4."""
    path = tone_bank.paths[0]
    config = several_processes.run_config(str(path), encoder)
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path / "one")
    whole = fit(config, show=False)
    done = launch(2, "train", path, encoder, CIRLIB_HOME=str(tmp_path), STOP="5")
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path / "runs")
    assert (config.folder / "last.pt").exists() and not (config.folder / "train.json").exists(), done.stderr
    first = pd.DataFrame(json.loads(torch.load(config.folder / "last.pt", weights_only=True)["history"]))
    assert len(first) == 4 and first.loss[0] == pytest.approx(whole.history.loss[0], rel=1e-6)
    resumed = fit(config, show=False)
    assert len(resumed.history) == 6
    assert np.allclose(resumed.history.loss, whole.history.loss, rtol=2e-3)  # Adam's first steps amplify rounding


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tone_bank):
    config = several_processes.config(str(tone_bank.paths[0]), "mixture", "triplet")
    with pytest.raises(ValueError, match=r"3 processes cannot share 4 mixtures of 3 instruments \(batch_size 16\) evenly"):
        make_task(config, tone_bank, 0, 3)
    for task, loss in (("single", "infonce"), ("classify", "family")):
        with pytest.raises(ValueError, match="3 processes cannot share"):
            make_task(several_processes.config(str(tone_bank.paths[0]), task, loss), tone_bank, 0, 3)


def test_the_processes_of_the_readme_can_share_its_batch(tone_bank):
    text = (ROOT / "params" / "README.md").read_text()
    (count, row), *others = re.findall(r"--nproc-per-node (\d+) -m cirlib\.training (\S+\.yaml)", text)
    assert not others and int(count) > 1
    make_task(row_config({**read_params(ROOT / row), "statistics": ""}), tone_bank, 0, int(count))


@pytest.mark.parametrize("task", ["mixture", "single", "classify"])
def test_parts_of_a_batch_make_the_whole(tone_bank, task):
    config = several_processes.config(str(tone_bank.paths[0]), task, {"classify": "family"}.get(task, "infonce"))
    whole = make_task(config, tone_bank)
    parts = [make_task(config, tone_bank, r, 2) for r in range(2)]
    for step in (0, 3, 1):  # forwards over steps of other workers, and back
        sounds = [task.sounds(task.batch(step)) for task in (whole, *parts)]
        assert sorted(map(hash_sound, sounds[0])) == sorted([*map(hash_sound, sounds[1]), *map(hash_sound, sounds[2])])


def hash_sound(sound: torch.Tensor) -> bytes:
    return sound.numpy().tobytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_make_the_same_batches(tone_bank, tmp_path, monkeypatch, workers):
    config = several_processes.run_config(str(tone_bank.paths[0]), "cnn")
    runs = []
    for count in (0, workers):
        monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path / str(count))
        runs.append(fit(dataclasses.replace(config, workers=count), show=False))
    a, b = (torch.load(run.folder / "last.pt", weights_only=True)["model"] for run in runs)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_chunks_train_an_ast_and_are_refused_for_a_cnn(tone_bank, tmp_path, monkeypatch):
    path = str(tone_bank.paths[0])
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    config = dataclasses.replace(several_processes.run_config(path, "ast-tiny"), steps=2)
    whole = fit(config, show=False)
    chunks = fit(dataclasses.replace(config, experiment="chunks", gradient_cache_size=5), show=False)
    assert np.allclose(whole.history.loss, chunks.history.loss, rtol=1e-4)
    with pytest.raises(ValueError, match="without batch normalisation"):
        fit(dataclasses.replace(config, experiment="cnn", encoder="cnn", gradient_cache_size=5), show=False)
    with pytest.raises(ValueError, match="without dropout"):
        check_chunks(torch.nn.Sequential(torch.nn.Dropout(0.1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_batch_is_one_sentence_from_workers_too(tone_bank, tmp_path, monkeypatch, workers):
    """The first batch is made before training begins; the second fails when it is needed."""
    made = MixtureTask.batch

    def batch(self, step):
        if step:
            raise ValueError(f"no batch of step {step}")
        return made(self, step)

    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    monkeypatch.setattr(MixtureTask, "batch", batch)
    config = several_processes.run_config(str(tone_bank.paths[0]), "cnn")
    with pytest.raises(ValueError, match=r"^no batch of step 1$"):
        fit(dataclasses.replace(config, workers=workers), show=False)


def test_processes_that_see_other_runs_stop(tone_bank, tmp_path, monkeypatch):
    """As if the second process found a last.pt that the first does not have."""
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    monkeypatch.setattr(processes, "gather", lambda x: torch.cat([x, x + 7]))
    with pytest.raises(TrainingError, match=r"the processes do not share one .*last.pt: put runs/ on a disk that all machines share"):
        fit(several_processes.run_config(str(tone_bank.paths[0]), "cnn"), show=False)
