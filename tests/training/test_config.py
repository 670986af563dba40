"""Settings of rows: checks, keys of all that changes the weights, and the encoder for single sounds that a row needs."""

import dataclasses

import pytest

from cirlib.common import paths
from cirlib.common.settings import from_dict
from cirlib.data.note_statistics import NoteStatistics
from cirlib.training.config import TrainConfig, row_config, write_config


@pytest.mark.parametrize(
    ("values", "task", "loss", "metric"),
    [
        ({"method": "mfcc"}, "mfcc", "none", "l2"),
        ({"method": "timbre-toolbox"}, "timbre-toolbox", "none", "l2"),
        ({"method": "multi-encoder"}, "multi-encoder", "cosine", "cosine"),
        ({"method": "demucs"}, "demucs", "none", "l2"),
        ({"loss": "triplet-full"}, "mixture", "triplet-full", "l2"),
        ({"task": "single", "loss": "infonce"}, "single", "infonce", "cosine"),
        ({"task": "classify", "loss": "tags"}, "classify", "tags", "cosine"),
    ],
    ids=lambda v: "-".join(v.values()) if isinstance(v, dict) else "",
)
def test_settings_of_a_row(tmp_path, monkeypatch, values, task, loss, metric):
    """Demucs ranks by the distance of its encoder for single sounds, here that of a triplet loss."""
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
def test_invalid_rows(values, words):
    with pytest.raises(ValueError, match=words):
        row_config({"preset": "p", "experiment": "x", **values})


def trained(config: TrainConfig, checkpoint: bytes = b"weights") -> None:
    """Write the files of a finished run."""
    write_config(config.folder, config, config.key([]))
    (config.folder / "best.pt").write_bytes(checkpoint)
    (config.folder / "train.json").write_text("{}")


def test_single_encoder_of_a_row(tmp_path, monkeypatch):
    """Same preset, seed and clip length, trained to its end."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    single = TrainConfig(preset="p", experiment="single-infonce", seed=2, task="single", loss="infonce")
    row = row_config({"preset": "p", "experiment": "x", "method": "demucs", "seed": 2})
    with pytest.raises(FileNotFoundError, match=r"no run in .*p/single-infonce/seed2"):
        row.single_run()
    trained(dataclasses.replace(single, seed=0))
    write_config(single.folder, single, "key")
    with pytest.raises(FileNotFoundError, match=r"the training of .*p/single-infonce/seed2 is not finished: run notebooks/02_train"):
        row.single_run()
    trained(single)
    assert row.single_run() == (single, tmp_path / "p" / "single-infonce" / "seed2" / "best.pt")
    with pytest.raises(ValueError, match=r"clips of single-infonce have 4 s, those of x 2 s"):
        dataclasses.replace(row, seconds=2.0).single_run()


def test_wrong_single_encoder(tmp_path, monkeypatch):
    """With another split, its training sounds could be test sounds of the row."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    row = row_config({"preset": "p", "experiment": "x", "method": "demucs", "single": "other"})
    trained(TrainConfig(preset="p", experiment="other"))
    with pytest.raises(ValueError, match=r"^x needs an encoder for single sounds, other has task mixture: set `single`$"):
        row.single_run()
    trained(TrainConfig(preset="p", experiment="other", task="single", loss="infonce"))
    assert row.key([])
    with pytest.raises(ValueError, match=r"p/other/seed0 was trained on other sounds than x, .*: train it again with 02_train"):
        row.key([{"audio.i16": "another bank"}])


KEYED = {
    "seed": 1, "task": "single", "families": ("Bass",), "protocol": "paper", "statistics": "notes.json", "loss": "triplet",
    "temperature": 0.2, "encoder": "ast-tiny", "seconds": 2.0, "steps": 3, "batch_size": 12, "hard_negative_ratio": 0.1,
    "augmented": False, "epoch_size": 100, "start_lr": 1e-3, "end_lr": 1e-6, "warmup": 0.2, "valid_every": 7, "valid_size": 9,
    "max_instruments": 2, "mixtures_per_instrument": 2, "single_pairs": 1, "effects": 0.5, "single_effects": 0.5,
    "precision": "bf16", "optimiser": "muon",
}  # fmt: skip
NOT_KEYED = {
    "preset": "q", "experiment": "y", "bank": ("elsewhere",), "single": "other", "log_every": 3, "tests": ("single",), "queries": 9,
    "wandb": "offline", "gradient_cache_size": 4, "workers": 2, "compile": True,
}  # fmt: skip


def test_key_covers_all_that_changes_the_weights(tmp_path, monkeypatch):
    """Names, paths, logging and tests do not change it."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    NoteStatistics({"pitch": {}}).save(tmp_path / "notes.json")
    assert {*KEYED, *NOT_KEYED} == {f.name for f in dataclasses.fields(TrainConfig)}
    config, data = TrainConfig(preset="p", experiment="x", loss="infonce"), [{"audio.i16": "1"}]
    key = config.key(data)
    keys = {name: dataclasses.replace(config, **{name: value}).key(data) for name, value in (KEYED | NOT_KEYED).items()}
    assert {name for name, other in keys.items() if other == key} == set(NOT_KEYED)
    assert len({*keys.values(), config.key([{"audio.i16": "2"}]), config.key(data * 2)}) == len(KEYED) + 3
    assert config.key(data) == key and len(key) == 12


def test_key_depends_on_bytes_of_files_not_names(tmp_path, monkeypatch):
    """Initial checkpoint, statistics, encoder for single sounds."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_bytes(b"one")
        (tmp_path / f"{name}.json").write_bytes(b"one")
        trained(TrainConfig(preset="p", experiment=name, task="single", loss="infonce"))

    def keys() -> list[list[str]]:
        made = [[TrainConfig(encoder=f"{n}.pt").key([]), TrainConfig(statistics=f"{n}.json").key([])] for n in ("a", "b")]
        baselines = [[row_config({"preset": "p", "method": m, "single": n}).key([]) for m in ("demucs", "multi-encoder")] for n in "ab"]
        return [x + y for x, y in zip(made, baselines, strict=True)]

    before = keys()
    assert before[0] == before[1] and len(set(before[0])) == 4
    for file in ("b.pt", "b.json", "p/b/seed0/best.pt"):
        (tmp_path / file).write_bytes(b"two")
    after = keys()
    assert after[0] == before[0] and not set(after[1]) & set(before[1])


def test_key_depends_on_weights_of_folders(tmp_path):
    """Other files may come under the name of a folder in hub format."""
    folder, seen = tmp_path / "model", []
    (folder / ".cache").mkdir(parents=True)
    for content in (b"one", b"two", b"one"):
        (folder / "model.safetensors").write_bytes(content)
        (folder / ".cache" / "note").write_text(str(len(seen)))
        seen.append(TrainConfig(encoder=str(folder)).key([]))
    assert seen[0] == seen[2] != seen[1]
    (folder / "model.safetensors").rename(folder / "config.json")
    assert TrainConfig(encoder=str(folder)).key([]) != seen[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"loss": "tripplet"}, "did you mean 'triplet'"),
        ({"task": "double"}, "valid: mixture, single"),
        ({"protocol": "strickt"}, "strict"),
        ({"wandb": "on"}, "offline"),
        ({"steps": -1}, "steps must be 0 or more, got -1"),
        ({"batch_size": 0}, "batch_size must be above 0"),
        ({"valid_size": 0}, "valid_size must be above 0"),
        ({"start_lr": float("nan")}, "start_lr must be above 0"),
        ({"hard_negative_ratio": 1.5}, "hard_negative_ratio must be between 0 and 1, got 1.5"),
        ({"hard_negative_ratio": float("nan")}, "hard_negative_ratio must be between 0 and 1, got nan"),
        ({"warmup": -0.1}, "warmup must be between 0 and 1, got -0.1"),
        ({"effects": 1.1}, "effects must be between 0 and 1, got 1.1"),
        ({"effects": 0.5, "task": "single", "loss": "triplet"}, "effects are for the tasks mixture and family, not for single"),
        ({"max_instruments": 4}, "max_instruments must be 0 to 3"),
        ({"max_instruments": 2, "task": "single", "loss": "infonce"}, "of task mixture or family"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"tests": []}, "tests must name at least one test: mixture, single"),
        ({"step": 3}, "did you mean 'steps'"),
        ({"steps": "many"}, "TrainConfig.steps must be int"),
    ],
)
def test_invalid_settings(values, words):
    with pytest.raises(ValueError, match=words):
        from_dict(TrainConfig, values)
