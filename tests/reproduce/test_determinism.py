"""The same seed gives the same bank, batches, losses, weights, metrics and tables, bit for bit, whatever the number of worker processes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tone_sounds

from cirlib.common import provenance
from cirlib.common.files import sha256
from cirlib.data.builder import build_once
from cirlib.evaluation import protocol
from cirlib.reporting import tables as report
from cirlib.training.loop import TrainConfig, fit
from cirlib.training.tasks import make_task

SPEED = ["clips_per_s", "data_wait"]  # columns of the history that no seed determines
JOBS = 4


def share(part: int):
    """A job of the bank: every fourth sound."""
    return [sound for i, sound in enumerate(tone_sounds()) if i % JOBS == part]


def chain(home, workers: int, patch, **settings) -> dict:
    """A bank by several processes, a training with worker processes, a test and its tables; every result by its name."""
    patch.setattr("cirlib.common.paths.RUNS", home / "runs")
    patch.setattr(report, "RUNS", home / "runs")
    patch.setattr("cirlib.common.paths.HOME", home)
    jobs = {str(k): {"part": k} for k in range(JOBS)}
    bank = build_once(home / "bank", {"seed": 0}, jobs, share, meta={"source": "tones", "license": "CC0-1.0"}, n_jobs=max(1, workers))
    config = TrainConfig(
        preset="same", experiment="row", bank=("bank",), seconds=0.5, steps=4, batch_size=16, epoch_size=20, valid_every=2, valid_size=6,
        log_every=1, queries=20, workers=workers, **settings,
    )  # fmt: skip
    run = fit(config, show=False)
    task = make_task(config, bank)
    found = protocol.embed_test(task.retriever(task.load(run.checkpoint)), bank, config)
    ranks, result = protocol.score(found, bank, config)
    about = {"preset": "same", "experiment": "row", "seed": 0, "loss": config.loss, "encoder": "cnn"}
    protocol.write_results(run.folder, found, ranks, {**about, **result})
    report.write_tables("same", home / "figures")
    out = {p.name: sha256(p) for p in [*bank.paths[0].iterdir(), *(home / "figures").iterdir(), *run.folder.glob("*.parquet")]}
    out |= {name: json.loads((run.folder / name).read_text()) for name in ("metrics.json", "train.json")}
    out["train.json"].pop("clips_per_s")
    out["history"] = run.history.drop(columns=SPEED).to_csv()
    return out | {"weights": torch.load(run.folder / "last.pt", weights_only=True)["model"], "vectors": found.gallery}


@pytest.mark.parametrize(
    "settings", [{"loss": "triplet-full"}, {"task": "family", "loss": "family-infonce", "optimiser": "muon", "mixtures_per_instrument": 2}]
)
def test_any_number_of_workers_gives_the_same_bits(settings, tmp_path, monkeypatch):
    one, several = (chain(tmp_path / str(n), n, monkeypatch, **settings) for n in (0, 2))
    assert {"audio.i16", "notes.parquet", "bank.json", "table_mixture.md", "mixture_ranks.parquet"} < one.keys() == several.keys()
    for name, weight in one.pop("weights").items():
        assert torch.equal(weight, several["weights"][name]), name
    np.testing.assert_array_equal(one.pop("vectors"), several["vectors"])
    assert [name for name in one if one[name] != several[name]] == []


# What made a result


@pytest.fixture
def config(tone_bank, tmp_path, monkeypatch) -> TrainConfig:
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    bank = (str(tone_bank.paths[0]),)
    return TrainConfig(
        preset="same", bank=bank, seconds=0.5, steps=4, batch_size=12, epoch_size=20, valid_every=2, valid_size=6, log_every=1
    )


def test_another_seed_gives_another_run(config):
    first, second = (fit(replace(config, steps=1, seed=seed), show=False).history.loss[0] for seed in (0, 1))
    assert first != second


def test_a_finished_run_of_other_code_is_kept_and_told(config, monkeypatch, capsys):
    fit(config, show=False)
    fit(config, show=False)
    assert "other code" not in capsys.readouterr().out
    monkeypatch.setattr(provenance, "code_digest", lambda: "changed")
    fit(config, show=False)
    assert "seed0 was trained by a different code version (commit" in capsys.readouterr().out


def test_a_run_that_goes_on_with_other_code_tells_how_it_began(config, monkeypatch):
    stop = protocol.Validation.__call__
    calls = []

    def interrupted(self, retriever):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return stop(self, retriever)

    monkeypatch.setattr(protocol.Validation, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(config, show=False)
    began = json.loads((config.folder / "provenance.json").read_text())
    monkeypatch.setattr(provenance, "code_digest", lambda: "changed")
    run = fit(config, show=False)
    stored = json.loads((config.folder / "provenance.json").read_text())
    assert stored.pop("began") == began and stored == began | {"code": "changed"}
    assert pd.read_csv(run.folder / "history.csv").step.to_list() == [1, 2, 3, 4]
