"""A race that is run in parts: records of finished runs are kept, replaced and dropped as they should be."""

import json

import pytest
import yaml

from cirlib.common import paths
from cirlib.common.files import write_json
from cirlib.common.paths import PARAMS
from cirlib.common.settings import to_dict
from cirlib.reporting import race
from cirlib.reporting import rows as sweep
from cirlib.reporting import tables as report
from cirlib.training.config import TrainConfig, write_config

ROWS = {name: {"loss": name, "steps": 4, "batch_size": 48} for name in ("triplet", "infonce")}
DATA = [{"audio.i16": "1"}]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Rows of a preset, and places of its runs and figures."""
    for name, values in ROWS.items():
        file = tmp_path / "params" / "p" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({"preset": "p", "experiment": name, **values}))
    (tmp_path / "params" / "p" / "data.yaml").write_text("{preset: p, bank: data/p}")
    for module in (sweep, paths):
        monkeypatch.setattr(module, "PARAMS", tmp_path / "params")
    for module in (report, paths, sweep):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(race, "FIGURES", tmp_path / "figures")
    return tmp_path


def finish(place, name, seed=0, top1=0.5, data=DATA, **changes):
    folder = place / "runs" / "p" / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, TrainConfig(preset="p", experiment=name, seed=seed, **{**ROWS[name], **changes}), "key")
    score = {
        "top1": top1,
        "top1_ci": [top1, top1],
        "top5": top1,
        "top5_ci": [top1, top1],
        "rank_median": 0,
        "metric": "l2",
        "chance": {"top1": 0, "top5": 0},
    }
    write_json(folder / "metrics.json", {"experiment": name, "seed": seed, "mixture": score, "provenance": {"data": data}})
    (folder / "history.csv").write_text("step,clips_per_s,valid_top1,valid_top5\n2,48,,\n4,96,0.25,0.5\n")


def test_records_stay_when_the_runs_are_gone(place):
    finish(place, "triplet", 1, 0.3)
    finish(place, "infonce")
    kept = race.keep("p")
    assert [(r["experiment"], r["seed"]) for r in kept] == [("triplet", 1), ("infonce", 0)]
    assert kept == json.loads((place / "figures" / "p" / "race.json").read_text())
    assert kept[0]["curve"] == [{"step": 4, "minutes": 0.04, "top1": 0.25, "top5": 0.5}]  # 4 steps of 48 clips, 72 a second
    for file in (place / "runs").rglob("metrics.json"):
        file.unlink()
    assert race.keep("p") == kept
    finish(place, "triplet", 1, 0.4)
    finish(place, "triplet", 0, 0.2)
    assert [r["mixture"]["top1"] for r in race.keep("p")] == [0.2, 0.4, 0.5]
    table = report.table(race.keep("p"), "mixture").set_index("experiment")
    assert table.seeds["triplet"] == 2 and table.top1["triplet"] == pytest.approx(30)


def test_a_record_without_a_setting_that_came_later_stays(place):
    finish(place, "triplet")
    kept = race.keep("p")
    for file in (place / "runs").rglob("metrics.json"):
        file.unlink()
    old = [{**r, "config": {k: v for k, v in r["config"].items() if k != "effects"}} for r in kept]
    (place / "figures" / "p" / race.NAME).write_text(json.dumps(old))
    assert race.keep("p") == old


def test_a_record_of_other_settings_is_dropped(place, capsys):
    finish(place, "triplet")
    finish(place, "infonce")
    race.keep("p")
    for file in (place / "runs").rglob("metrics.json"):
        file.unlink()
    (place / "params" / "p" / "triplet.yaml").write_text("{preset: p, experiment: triplet, loss: triplet, steps: 5, clips: 48}")
    (place / "params" / "p" / "infonce.yaml").unlink()
    assert race.keep("p") == []
    told = capsys.readouterr().out
    assert "triplet, seed 0, is dropped: steps=4 (its row: 5)" in told and "infonce, seed 0, is dropped: no row" in told


def test_runs_on_other_sounds_are_refused_and_nothing_is_lost(place):
    finish(place, "triplet")
    kept = race.keep("p")
    finish(place, "infonce", data=[{"audio.i16": "2"}])
    with pytest.raises(ValueError, match="triplet, seed 0 and infonce, seed 0 heard different sounds"):
        race.keep("p")
    assert json.loads((place / "figures" / "p" / "race.json").read_text()) == kept


def test_nothing_is_written_where_nothing_ran(place):
    assert race.keep("p") == race.keep("no-such-preset") == [] and not (place / "figures").exists()


def test_every_row_of_the_race_is_trained_alike():
    """Same sounds, steps and clips, encoder and window, and the seeds of the command."""
    rows = [row for row in sweep.rows("surge") if "method" not in row.values]
    same = ("steps", "batch_size", "seconds", "precision", "valid_every", "queries")
    values = {tuple(to_dict(sweep.row_config(row.values))[k] for k in same) for row in rows if row.values.get("steps") != 0}
    assert len(values) == 1 and not any(row.seeds for row in rows)
    assert {r.values.get("encoder", "cnn") for r in rows} == {"cnn"} and PARAMS.is_dir()
    labels = [report.label(row.name) for row in sweep.rows("surge")]
    assert len(set(labels)) == len(labels) and not set(labels) & {row.name for row in rows} - {"triplet"}
