"""fit(): exact resume, clean stop, non-finite losses, finished and changed runs, tracking, the command line."""

import dataclasses
import json
import subprocess
import sys
from itertools import count

import numpy as np
import pytest
import torch

from cirlib.common.settings import to_dict
from cirlib.evaluation import classifiers
from cirlib.models.encoder import AudioEncoder
from cirlib.training import loop, losses, runs
from cirlib.training.config import TrainConfig, read_config
from cirlib.training.loop import TrainingError, fit
from cirlib.training.optimiser import learning_rate
from cirlib.training.tasks import MixtureTask

LOSSES = [(task, loss) for task in ("mixture", "single", "classify") for loss in losses.LOSSES[task]]


def state_of(run) -> dict:
    return torch.load(run.folder / "last.pt", weights_only=True)


def assert_same_weights(a: dict, b: dict) -> None:
    assert a["model"].keys() == b["model"].keys() and all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"])


def stop_at(monkeypatch, step: int):
    """Interrupt training before `step`; return a function that undoes it."""
    update = loop._Trainer._update

    def interrupted(self, at, batch):
        if at == step:
            raise KeyboardInterrupt
        update(self, at, batch)

    monkeypatch.setattr(loop._Trainer, "_update", interrupted)
    return lambda: monkeypatch.setattr(loop._Trainer, "_update", update)


@pytest.mark.parametrize(("task", "loss"), LOSSES)
def test_every_loss_trains(config, tone_bank, task, loss):
    run = fit(dataclasses.replace(config, task=task, loss=loss, experiment=loss, steps=2), show=False)
    encoder = AudioEncoder.load(run.checkpoint)
    assert np.isfinite(run.history.loss).all() and 0 <= run.metrics["valid"]["top1"] <= 1 and encoder.dim == 256
    assert encoder.labels == (classifiers.labels(tone_bank, loss) if task == "classify" else [])
    assert encoder.config.outputs == len(encoder.labels)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"optimiser": "muon"}])
def test_precision_and_optimiser_change_training(config, change, monkeypatch):
    """The first loss is nearly the same, the others differ."""
    monkeypatch.setattr("cirlib.models.distributed.fast_bf16", lambda device: True)
    plain = fit(config, show=False).history.loss.dropna().to_numpy()
    other = fit(dataclasses.replace(config, experiment="other", **change), show=False).history.loss.dropna().to_numpy()
    assert other[0] == pytest.approx(plain[0], rel=0.05) and (other[1:] != plain[1:]).all()


def test_emulated_bf16_is_replaced_by_float32(config, monkeypatch, capsys):
    monkeypatch.setattr("cirlib.models.distributed.fast_bf16", lambda device: False)
    plain = fit(config, show=False).history.loss
    assert "bf16" not in capsys.readouterr().out
    other = fit(dataclasses.replace(config, experiment="other", precision="bf16"), show=False).history.loss
    np.testing.assert_array_equal(other, plain)
    assert "this device would emulate bf16, ten times slower than float32: training in float32" in capsys.readouterr().out


@pytest.mark.parametrize(("task", "loss", "batch_size"), [("mixture", "multi-infonce", 12), ("family", "family-infonce", 24)])
def test_training_calls_the_compiled_encoder(config, monkeypatch, task, loss, batch_size):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda encode: lambda features: calls.append(len(features)) or encode(features))
    fit(dataclasses.replace(config, task=task, loss=loss, batch_size=batch_size, steps=2, compile=True), show=False)
    assert len(calls) > 2  # two steps, and validation


def test_learning_rate_warms_up_then_decays():
    config = TrainConfig(steps=1000, warmup=0.01, start_lr=1e-3, end_lr=1e-5)
    rates = [learning_rate(step, config) for step in (0, 5, 10, 505, 1000)]
    assert rates == pytest.approx([1e-5, (1e-5 + 1e-3) / 2, 1e-3, 1e-4, 1e-5])


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("task", ["mixture", "single", "classify", "multi-encoder"])
def test_resume_is_bitwise_equal(config, monkeypatch, task, stop):
    """Weights, random numbers, history (also losses not yet logged, and as on_log gets it) and metrics."""
    single = dataclasses.replace(config, task="single", loss="infonce", experiment="single-infonce")
    if task == "multi-encoder":
        fit(dataclasses.replace(single, steps=2), show=False)
    if task != "mixture":
        config = dataclasses.replace(single, task=task, loss=losses.LOSSES[task][-1], experiment=task)
    config = dataclasses.replace(config, log_every=4)
    whole = fit(dataclasses.replace(config, experiment="whole"), show=False)
    undo = stop_at(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        fit(config, show=False)
    assert not (config.folder / "train.json").exists()
    undo()
    steps = []
    resumed = fit(config, show=False, on_log=lambda history: steps.append([row["step"] for row in history]))
    assert steps[-1] == list(resumed.history.step) and all(seen == steps[-1][: len(seen)] for seen in steps)
    assert_same_weights(state_of(whole), state_of(resumed))
    assert torch.equal(state_of(whole)["rng"], state_of(resumed)["rng"])
    timeless = [c for c in whole.history if c not in ("clips_per_s", "data_wait")]
    assert whole.history[timeless].equals(resumed.history[timeless])
    assert whole.metrics["valid"] == resumed.metrics["valid"]


def test_finished_run_is_not_trained_again(config, monkeypatch):
    run = fit(config, show=False)
    before = (run.folder / "last.pt").stat().st_mtime_ns
    monkeypatch.setattr(loop, "_Trainer", None)
    again = fit(config, show=False)
    assert again.metrics == run.metrics and (run.folder / "last.pt").stat().st_mtime_ns == before


def test_speed_excludes_validation(config, monkeypatch):
    config, at = dataclasses.replace(config, steps=4), loop.time
    clock = type("Clock", (), {"seconds": 0.0, "perf_counter": classmethod(lambda cls: cls.seconds), "time": at.time})

    def slow(method, seconds):
        def wrapped(*args):
            clock.seconds += seconds
            return method(*args)

        return wrapped

    monkeypatch.setattr(loop, "time", clock)
    for name, seconds in (("_update", 2.0), ("_validate", 100.0)):
        monkeypatch.setattr(loop._Trainer, name, slow(getattr(loop._Trainer, name), seconds))
    assert set(fit(config, show=False).history.clips_per_s) == {config.batch_size / 2}


def test_changed_settings_move_the_earlier_run_aside(config, capsys):
    earlier = state_of(fit(config, show=False))
    second = fit(dataclasses.replace(config, steps=4), show=False)
    (aside,) = [p for p in config.folder.parent.iterdir() if p != config.folder and p.is_dir()]
    assert "moved" in capsys.readouterr().out and read_config(second.folder)[0].steps == 4
    assert_same_weights(earlier, torch.load(aside / "last.pt", weights_only=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 400}, "a batch of 100 mixtures needs as many instruments of each family"),
        ({"batch_size": 1}, "a batch_size of 1 is less than one mixture and its 3 instruments"),
        ({"families": ("Bass", "Organ")}, "the bank has no valid instrument of family 'Organ'"),
        ({"encoder": "none.pt"}, "none.pt"),
        ({"task": "single", "loss": "infonce", "batch_size": 400}, "200 pairs need as many training instruments"),
    ],
)
def test_impossible_settings_touch_no_run(config, values, message):
    first = fit(config, show=False)
    before = {p: p.read_bytes() for p in first.folder.iterdir() if p.is_file()}
    for name in (config.experiment, "fresh"):
        with pytest.raises((ValueError, OSError), match=message):
            fit(dataclasses.replace(config, experiment=name, **values), show=False)
    assert {p: p.read_bytes() for p in first.folder.iterdir() if p.is_file()} == before
    assert [p.name for p in first.folder.parent.parent.iterdir()] == [config.experiment]


def test_missing_run_lists_finished_ones(config, monkeypatch):
    fit(config, show=False)
    stop_at(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        fit(dataclasses.replace(config, experiment="begun"), show=False)
    with pytest.raises(FileNotFoundError, match=r"no run in .*none.*; there are: [^,]*test/multi-infonce/seed0$"):
        read_config(config.folder.with_name("none"))


def test_locked_run_is_refused_until_its_process_ends(config, tone_bank):
    config.folder.parent.mkdir(parents=True)
    script = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(config.folder.with_name(".seed0.lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match=r"test/multi-infonce/seed0 is being made by another process: wait for it"):
            fit(config, show=False)
        assert not config.folder.exists()
        other.kill()
    with runs.claimed(config, tone_bank) as folder:
        assert fit(config, show=False).folder == folder


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_non_finite_loss_keeps_the_last_good_state(config, monkeypatch, log_every):
    loss, calls = MixtureTask.loss, count()
    monkeypatch.setattr(MixtureTask, "loss", lambda *args: loss(*args) * (float("nan") if next(calls) == 3 else 1))
    with pytest.raises(TrainingError, match=r"not finite at step 3.*the last validated state is in last\.pt"):
        fit(dataclasses.replace(config, log_every=log_every), show=False)
    state = torch.load(config.folder / "last.pt", weights_only=True)
    assert state["step"] == 2 and all(torch.isfinite(v).all() for v in state["model"].values())


def test_command_line_checks_settings_before_banks(config, tone_bank, tmp_path, monkeypatch, capsys):
    from cirlib.training import __main__ as command

    values = {k: v for k, v in to_dict(config).items() if k not in ("bank", "task")} | {"experiment": "shell"}
    (tmp_path / "row.yaml").write_text(json.dumps(values))
    presets = []
    monkeypatch.setattr(command, "ensure_banks", lambda preset: presets.append(preset) or tone_bank)
    for setting, message in {
        "stepz=9": "did you mean 'steps'",
        "seed=[0, 1]": "seed must be int, not list",
        "method=mfc": "unknown method 'mfc'",
    }.items():
        monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "row.yaml"), setting])
        with pytest.raises(SystemExit, match=message):
            command.main()
    assert not presets
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "row.yaml"), "steps=4"])
    command.main()
    assert presets == ["test"] and json.loads(capsys.readouterr().out)["best_step"] in (2, 4)
    assert read_config(tmp_path / "test" / "shell" / "seed0")[0].bank == (str(tone_bank.paths[0]),)


def test_offline_tracking_stores_the_checkpoint(config):
    run = fit(dataclasses.replace(config, wandb="offline", steps=2), show=False)
    assert list(run.folder.glob("wandb/offline-run-*/*.wandb"))
    (staged,) = run.folder.glob("wandb/offline-run-*/files/best.pt")
    assert staged.read_bytes() == run.checkpoint.read_bytes()


def test_fit_trains_with_a_registered_loss(config, monkeypatch):
    """Its source is part of the key of the run; without it, keys are what they were."""
    for name in ("MIXTURE_LOSSES", "LOSSES", "SOURCES"):
        monkeypatch.setattr(losses, name, dict(getattr(losses, name)))
    calls = []

    def near(stems, mixtures, families, temperature):
        calls.append(families.shape)
        return (stems.mean(dim=1) - mixtures).square().mean() / temperature

    def far(stems, mixtures, families, temperature):
        return -near(stems, mixtures, families, temperature)

    with pytest.raises(ValueError, match="unknown mixture loss 'near'"):
        TrainConfig(loss="near")
    keys = [config.key([])]
    for function in (near, far):
        losses.register_loss("near", function)
        keys.append(dataclasses.replace(config, loss="near", experiment="near").key([]))
    assert len(set(keys)) == 3 and config.key([]) == keys[0]
    losses.register_loss("near", near)
    run = fit(dataclasses.replace(config, loss="near", experiment="near"), show=False)
    assert np.isfinite(run.history.loss).all() and calls == [(3, 3)] * 6
    for name, function, task, words in (
        ("triplet", near, "mixture", "triplet is a loss of cirlib"),
        ("triplet", near, "single", "triplet is a loss of cirlib"),
        ("my/loss", near, "mixture", "loss must be a plain name"),
        ("none", max, "mixture", "the source of loss none cannot be read"),
        ("none", near, "family", "unknown task of a loss 'family'"),
    ):
        with pytest.raises(ValueError, match=words):
            losses.register_loss(name, function, task)
