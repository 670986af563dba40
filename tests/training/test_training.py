"""fit(): schedule, exact resume, clean stop, non-finite loss, changed settings, tracking."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from itertools import count

import numpy as np
import pytest
import torch

from cirlib.common import tracking
from cirlib.common.settings import from_dict, to_dict
from cirlib.evaluation import classifiers as classification
from cirlib.models.encoder import AudioEncoder
from cirlib.training import config as experiment
from cirlib.training import loop as training
from cirlib.training import losses
from cirlib.training.config import read_config
from cirlib.training.loop import TrainConfig, TrainingError, fit, learning_rate
from cirlib.training.tasks import MixtureTask


@pytest.fixture
def config(tone_bank, tmp_path, monkeypatch) -> TrainConfig:
    """Six steps on the tones, in a runs folder of its own."""
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    return TrainConfig(
        preset="test", bank=(str(tone_bank.paths[0]),), loss="multi-infonce", seconds=0.5, steps=6, batch_size=12, 
        epoch_size=20, valid_every=2, valid_size=6, log_every=1,
    )  # fmt: skip


def weights(run) -> dict[str, torch.Tensor]:
    return torch.load(run.folder / "last.pt", weights_only=True)["model"]


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"optimiser": "muon"}])
def test_precision_and_optimiser_reach_the_training(config, change, monkeypatch):
    """The first loss is near; what is learned is not the same; an interrupted run goes on with it (test_optimiser.py)."""
    monkeypatch.setattr("cirlib.models.distributed.fast_bf16", lambda device: True)
    plain = fit(config, progress=False).history.loss.dropna().to_numpy()
    other = fit(dataclasses.replace(config, experiment="other", **change), progress=False).history.loss.dropna().to_numpy()
    assert other[0] == pytest.approx(plain[0], rel=0.05) and (other[1:] != plain[1:]).all()


def test_what_is_not_fast_at_bf16_trains_in_float32_and_says_so(config, monkeypatch, capsys):
    monkeypatch.setattr("cirlib.models.distributed.fast_bf16", lambda device: False)
    plain = fit(config, progress=False).history.loss
    assert "bf16" not in capsys.readouterr().out
    other = fit(dataclasses.replace(config, experiment="other", precision="bf16"), progress=False).history.loss
    np.testing.assert_array_equal(other, plain)
    assert "this device would emulate bf16, ten times slower than float32: training in float32" in capsys.readouterr().out


@pytest.mark.parametrize(("task", "loss", "batch_size"), [("mixture", "multi-infonce", 12), ("family", "family-infonce", 24)])
def test_what_is_compiled_is_what_training_calls(config, monkeypatch, task, loss, batch_size):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda encode: lambda features: calls.append(len(features)) or encode(features))
    config = dataclasses.replace(config, task=task, loss=loss, batch_size=batch_size, steps=2, compile=True)
    fit(config, progress=False)
    assert len(calls) > 2  # two steps, and validation


def test_learning_rate_warms_up_then_decays_exponentially():
    config = TrainConfig(steps=1000, warmup=0.01, start_lr=1e-3, end_lr=1e-5)
    assert learning_rate(0, config) == pytest.approx(1e-5)
    assert learning_rate(5, config) == pytest.approx((1e-5 + 1e-3) / 2)
    assert learning_rate(10, config) == pytest.approx(1e-3)
    assert learning_rate(505, config) == pytest.approx(1e-4)
    assert learning_rate(1000, config) == pytest.approx(1e-5)


@pytest.mark.parametrize("loss", losses.MIXTURE_LOSSES)
def test_every_mixture_loss_trains(config, loss):
    run = fit(dataclasses.replace(config, loss=loss, experiment=loss, steps=2), progress=False)
    assert np.isfinite(run.history.loss).all() and AudioEncoder.load(run.checkpoint).dim == 256


@pytest.mark.parametrize("loss", losses.PAIR_LOSSES)
def test_every_pair_loss_trains(config, loss):
    run = fit(dataclasses.replace(config, task="single", loss=loss, experiment=loss, steps=2), progress=False)
    assert np.isfinite(run.history.loss).all() and 0 <= run.metrics["valid"]["top1"] <= 1


@pytest.mark.parametrize("loss", losses.CLASS_LOSSES)
def test_every_classifier_trains_and_keeps_its_labels(config, tone_bank, loss):
    run = fit(dataclasses.replace(config, task="classify", loss=loss, experiment=loss, steps=2), progress=False)
    encoder = AudioEncoder.load(run.checkpoint)
    assert encoder.labels == classification.labels(tone_bank, loss) and encoder.config.outputs == len(encoder.labels)
    assert np.isfinite(run.history.loss).all() and 0 <= run.metrics["valid"]["top1"] <= 1


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("task", ["mixture", "single", "classify", "multi-encoder"])
def test_interrupted_run_continues_to_the_same_weights_bit_for_bit(config, monkeypatch, task, stop):
    single = dataclasses.replace(config, task="single", loss="infonce", experiment="single-infonce")
    if task == "multi-encoder":
        fit(dataclasses.replace(single, steps=2), progress=False)
    if task != "mixture":
        config = dataclasses.replace(single, task=task, loss=losses.LOSSES[task][-1], experiment=task)
    config = dataclasses.replace(config, log_every=4)  # logged between validations: what is not logged yet survives too
    whole = fit(dataclasses.replace(config, experiment="whole"), progress=False)
    update = training._Trainer._update

    def interrupted(self, step, batch):
        if step == stop:
            raise KeyboardInterrupt
        update(self, step, batch)

    monkeypatch.setattr(training._Trainer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(config, progress=False)
    assert not (config.folder / "train.json").exists()
    monkeypatch.setattr(training._Trainer, "_update", update)
    resumed = fit(config, progress=False)
    a, b = weights(whole), weights(resumed)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    a, b = (torch.load(run.folder / "last.pt", weights_only=True)["rng"] for run in (whole, resumed))
    assert torch.equal(a, b), "an encoder with dropout would go on with other numbers"
    timeless = [c for c in whole.history if c not in ("clips_per_s", "data_wait")]
    assert whole.history[timeless].equals(resumed.history[timeless])
    assert whole.metrics["valid"] == resumed.metrics["valid"]


def test_finished_run_is_returned_and_not_trained_again(config, monkeypatch):
    run = fit(config, progress=False)
    before = (run.folder / "last.pt").stat().st_mtime_ns
    monkeypatch.setattr(training, "_Trainer", None)
    again = fit(config, progress=False)
    assert again.metrics == run.metrics and (run.folder / "last.pt").stat().st_mtime_ns == before


def test_speed_is_that_of_training_without_validation(config, monkeypatch):
    """A slow validation is no part of clips per second or of the share of waiting."""
    config, at = dataclasses.replace(config, steps=4), training.time
    clock = type("Clock", (), {"seconds": 0.0, "perf_counter": classmethod(lambda cls: cls.seconds), "time": at.time})
    update, validate = training._Trainer._update, training._Trainer._validate

    def slow(method, seconds):
        def wrapped(*args):
            clock.seconds += seconds
            return method(*args)

        return wrapped

    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(training._Trainer, "_update", slow(update, 2.0))
    monkeypatch.setattr(training._Trainer, "_validate", slow(validate, 100.0))
    assert set(fit(config, progress=False).history.clips_per_s) == {config.batch_size / 2}


def test_what_a_task_keeps_open_is_closed_however_training_ends(config, monkeypatch):
    closed = []
    monkeypatch.setattr(MixtureTask, "close", lambda self: closed.append(self))
    fit(config, progress=False)
    monkeypatch.setattr(MixtureTask, "loss", lambda *args: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingError):
        fit(dataclasses.replace(config, experiment="other"), progress=False)
    assert len(closed) == 2


def test_changed_settings_move_the_earlier_run_aside(config, capsys):
    first = fit(config, progress=False)
    kept = weights(first)
    second = fit(dataclasses.replace(config, steps=4), progress=False)
    aside = [p for p in config.folder.parent.iterdir() if p != config.folder and p.is_dir()]
    assert len(aside) == 1 and "moved" in capsys.readouterr().out
    old = torch.load(aside[0] / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(kept[k], old[k]) for k in kept)
    assert read_config(second.folder)[0].steps == 4


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 400}, "a batch of 200 mixtures needs as many instruments of each family"),  # one instrument plays at first
        ({"batch_size": 1}, "a batch needs 2 clips or more, for a mixture and its 1 instruments; got 1"),
        ({"families": ("Bass", "Organ")}, "the bank has no valid instrument of family 'Organ'"),
        ({"encoder": "none.pt"}, "none.pt"),
        ({"task": "single", "loss": "infonce", "batch_size": 400}, "200 pairs need as many training instruments"),
    ],
)
def test_settings_that_cannot_be_trained_touch_no_run(config, values, said):
    """Neither the finished run of that name, nor is a folder left where there was none."""
    first = fit(config, progress=False)
    before = {p: p.read_bytes() for p in first.folder.iterdir() if p.is_file()}
    for name in (config.experiment, "fresh"):
        with pytest.raises((ValueError, OSError), match=said):
            fit(dataclasses.replace(config, experiment=name, **values), progress=False)
    assert {p: p.read_bytes() for p in first.folder.iterdir() if p.is_file()} == before
    assert [p.name for p in first.folder.parent.parent.iterdir()] == [config.experiment]


def test_a_missing_run_names_those_that_are_finished(config, monkeypatch):
    fit(config, progress=False)
    monkeypatch.setattr(training._Trainer, "_update", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit(dataclasses.replace(config, experiment="begun"), progress=False)
    with pytest.raises(FileNotFoundError, match=r"no run in .*none.*; there are: [^,]*test/multi-infonce/seed0$"):
        read_config(config.folder.with_name("none"))


def test_a_run_that_another_process_trains_is_left_alone(config, tone_bank, tmp_path):
    """Two would write into one best.pt; when the other has ended, however it did, the run is free."""
    config.folder.parent.mkdir(parents=True)
    script = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(config.folder.with_name(".seed0.lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match=r"test/multi-infonce/seed0 is being made by another process: wait for it"):
            fit(config, progress=False)
        assert not config.folder.exists()
        other.kill()
    with training.claimed(config, tone_bank) as folder:
        assert fit(config, progress=False).folder == folder


def test_other_sounds_are_another_run(tone_bank):
    config, data = TrainConfig(), [info["sha256"] for info in tone_bank.infos]
    other = [{**data[0], "audio.i16": "0" * 64}]
    assert config.key(data) == dataclasses.replace(config, bank=("moved",), experiment="renamed").key(data)
    assert config.key(data) != config.key(other) and config.key(data) != dataclasses.replace(config, seed=1).key(data)


def test_a_setting_that_came_later_leaves_the_key_of_earlier_runs_where_it_is_off():
    values = {k: v for k, v in to_dict(TrainConfig()).items() if k not in (*experiment.ASIDE, "effects")}
    assert TrainConfig().key([]) == hashlib.sha256(json.dumps([values, []], sort_keys=True).encode()).hexdigest()[:12]
    assert TrainConfig().key([]) != TrainConfig(effects=0.5).key([])


@pytest.mark.parametrize("values", [{"effects": 1.1}, {"effects": -0.1}, {"effects": 0.5, "task": "single", "loss": "triplet"}])
def test_effects_are_a_share_of_mixtures(values):
    with pytest.raises(ValueError, match=r"effects must be between 0 and 1|in the mixture and family tasks, not in single"):
        TrainConfig(**values)


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_non_finite_loss_stops_with_a_clear_error_and_keeps_the_last_good_state(config, monkeypatch, log_every):
    """Losses are read when they are logged and before anything is saved."""
    loss, calls = MixtureTask.loss, count()
    monkeypatch.setattr(MixtureTask, "loss", lambda *args: loss(*args) * (float("nan") if next(calls) == 3 else 1))
    with pytest.raises(TrainingError, match=r"not finite at step 3.*the last validated state is kept in last\.pt"):
        fit(dataclasses.replace(config, log_every=log_every), progress=False)
    state = torch.load(config.folder / "last.pt", weights_only=True)
    assert state["step"] == 2 and all(torch.isfinite(v).all() for v in state["model"].values())


def test_command_line_checks_the_settings_before_sounds_are_made(config, tone_bank, tmp_path, monkeypatch, capsys):
    """As `python -m cirlib.training`; the settings of a baseline are read as its notebook reads them."""
    values = {k: v for k, v in to_dict(config).items() if k not in ("bank", "task")} | {"experiment": "shell"}
    (tmp_path / "row.yaml").write_text(json.dumps(values))
    asked = []
    monkeypatch.setattr(training, "ensure_banks", lambda preset: asked.append(preset) or tone_bank)
    wrong = {"stepz=9": "did you mean 'steps'", "seed=[0, 1]": "seed must be int, not list", "method=mfc": "unknown method 'mfc'"}
    for setting, said in wrong.items():
        monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "row.yaml"), setting])
        with pytest.raises(SystemExit, match=said):
            training.main()
    assert not asked
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "row.yaml"), "steps=4"])
    training.main()
    assert asked == ["test"] and json.loads(capsys.readouterr().out)["best_step"] in (2, 4)
    assert read_config(tmp_path / "test" / "shell" / "seed0")[0].bank == (str(tone_bank.paths[0]),)


def test_offline_tracking_writes_a_run_that_can_be_synced(config):
    run = fit(dataclasses.replace(config, wandb="offline", steps=2), progress=False)
    assert list(run.folder.glob("wandb/offline-run-*/*.wandb"))
    (staged,) = run.folder.glob("wandb/offline-run-*/checkpoints/*.pt")
    assert staged.read_bytes() == run.checkpoint.read_bytes()


def test_online_tracking_without_secrets_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"secrets\.yaml"):
        tracking.start("online", "name", config={}, folder=tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"loss": "tripplet"}, "did you mean 'triplet'"),
        ({"task": "double"}, "valid: mixture, single"),
        ({"protocol": "strickt"}, "strict"),
        ({"wandb": "on"}, "offline"),
        ({"steps": -1}, "steps must be"),
        ({"batch_size": 0}, "clips must be"),
        ({"valid_size": 0}, "valid_size must be"),
        ({"start_lr": float("nan")}, "start_lr must be"),
        ({"hard_negative_ratio": 1.5}, "hard_negative_ratio must be between 0 and 1, got 1.5"),
        ({"hard_negative_ratio": float("nan")}, "hard_negative_ratio must be between 0 and 1, got nan"),
        ({"warmup": -0.1}, "warmup must be between 0 and 1, got -0.1"),
        ({"max_instruments": 4}, "voices must be 0 to 3"),
        ({"max_instruments": 2, "task": "single", "loss": "infonce"}, "of the mixture or family task"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"tests": []}, "tests must name what is tested: mixture, single"),
        ({"step": 3}, "did you mean 'steps'"),
        ({"steps": "many"}, "TrainConfig.steps must be int"),
    ],
)
def test_wrong_values_are_one_clear_sentence(values, words):
    with pytest.raises(ValueError, match=words):
        from_dict(TrainConfig, values)
