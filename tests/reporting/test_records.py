"""Records of runs that are made in parts: added, replaced and dropped as they should be."""

import json

import pytest
from fake_runs import write_params

from cirlib.common import paths
from cirlib.common.files import write_json
from cirlib.common.settings import to_dict
from cirlib.reporting import records, tables
from cirlib.reporting import rows as sweep
from cirlib.training.config import TrainConfig, write_config

STEPS = {"steps": 4, "batch_size": 48}
DATA = [{"audio.i16": "1"}]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Rows triplet and infonce of the preset p, and places of its runs and figures."""
    text = "{preset: p, experiment: NAME, loss: NAME, steps: 4, batch_size: 48}"
    write_params(tmp_path, **{name: text.replace("NAME", name) for name in ("triplet", "infonce")})
    for module, name in ((sweep, "PARAMS"), (paths, "PARAMS"), (tables, "RUNS"), (paths, "RUNS"), (sweep, "RUNS"), (records, "FIGURES")):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    return tmp_path


def finish(place, name, seed=0, top1=0.5, data=DATA, code="c0de"):
    """A finished run of a row."""
    folder = place / "runs" / "p" / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, TrainConfig(preset="p", experiment=name, seed=seed, loss=name, **STEPS), "key")
    score = {"top1": top1, "top1_ci": [top1, top1], "top5": top1, "top5_ci": [top1, top1], "rank_median": 0, "metric": "l2"}
    score["chance"] = {"top1": 0, "top5": 0}
    about = {"preset": "p", "experiment": name, "seed": seed, "provenance": {"data": data, "git": "0123456789", "code": code}}
    write_json(folder / "metrics.json", {**about, "mixture": score})
    (folder / "history.csv").write_text("step,clips_per_s,valid_top1,valid_top5\n2,48,,\n4,96,0.25,0.5\n")


def forget_runs(place):
    for file in (place / "runs").rglob("metrics.json"):
        file.unlink()


def test_records_stay_when_the_runs_are_gone(place):
    finish(place, "triplet", 1, 0.3)
    finish(place, "infonce")
    stored = records.update("p")
    assert [(r["experiment"], r["seed"]) for r in stored] == [("triplet", 1), ("infonce", 0)]
    assert stored == json.loads((place / "figures" / "p" / "runs.json").read_text())
    assert stored[0]["curve"] == [{"step": 4, "minutes": 0.04, "top1": 0.25, "top5": 0.5}]  # 4 steps of 48 clips, 72 a second
    forget_runs(place)
    assert records.update("p") == stored
    finish(place, "triplet", 1, 0.4)
    finish(place, "triplet", 0, 0.2)
    assert [r["mixture"]["top1"] for r in records.update("p")] == [0.2, 0.4, 0.5]
    table = tables.table(records.update("p"), "mixture").set_index("experiment")
    assert table.seeds["triplet"] == 2 and table.top1["triplet"] == pytest.approx(30) and table.clip_s["triplet"] == 4


def test_list_of_tests_forgets_none(place):
    """The same test counts once; one of another run or code is added; the page says what was repeated."""
    path = place / "figures" / "p" / records.TESTED
    finish(place, "triplet")
    records.update("p"), records.update("p")
    (first,) = json.loads(path.read_text())
    assert first["day"][:2] == "20"
    assert (first["row"], first["seed"], first["code"], first["mixture"]) == ("triplet", 0, "c0de", [50.0, 50.0])
    finish(place, "triplet", top1=0.6, code="other")
    finish(place, "infonce", 3)
    records.update("p")
    forget_runs(place)
    records.update("p")
    found = sorted((t["row"], t["mixture"][0], t["code"]) for t in json.loads(path.read_text()))
    assert found == [("infonce", 50.0, "c0de"), ("triplet", 50.0, "c0de"), ("triplet", 60.0, "other")]
    text = (path.parent / "tested.md").read_text()
    assert text.count("| replaced |") == 1 and "| triplet | 0 | 01234567 | c0de | 50.0 / 50.0 |  | replaced |" in text
    assert text.endswith("3 tests of 2 rows and seeds, top-1 / top-5 in percent. Tested more than once: triplet, seed 0.\n")


def test_list_of_tests_in_git_holds_every_record():
    folder = paths.ROOT / "figures" / "surge"
    tests = json.loads((folder / records.TESTED).read_text())
    assert (folder / "tested.md").read_text() == records.tests_markdown(tests)
    found = {(t["row"], t["seed"], *t.get("mixture", []), *t.get("single", [])) for t in tests}
    for r in json.loads((folder / records.NAME).read_text()):
        shown = [round(100 * r[task][k], 1) for task in ("mixture", "single") if task in r for k in ("top1", "top5")]
        assert (r["experiment"], r["seed"], *shown) in found


def test_best_rival_is_the_best_version_on_validation():
    """Of the paper's losses for mixtures, mean over seeds."""
    runs = [("triplet", "triplet", 0.3), ("tuned", "triplet-full", 0.5), ("tuned", "triplet-full", 0.3), ("infonce", "infonce", 0.39)]
    made = [
        {"experiment": name, "config": {"task": "mixture", "loss": loss}, "curve": [{"top1": top1}, {"top1": top1 - 0.1}]}
        for name, loss, top1 in [*runs, ("ours", "multi-infonce", 0.9)]
    ]
    assert records.best_rival(made) == "tuned" and records.best_rival(made[-1:]) == ""


def test_record_without_a_newer_setting_stays(place):
    finish(place, "triplet")
    stored = records.update("p")
    forget_runs(place)
    old = [{**r, "config": {k: v for k, v in r["config"].items() if k != "effects"}} for r in stored]
    (place / "figures" / "p" / records.NAME).write_text(json.dumps(old))
    assert records.update("p") == old


def test_record_of_other_settings_is_dropped(place, capsys):
    finish(place, "triplet")
    finish(place, "infonce")
    records.update("p")
    forget_runs(place)
    (place / "params" / "p" / "triplet.yaml").write_text("{preset: p, experiment: triplet, loss: triplet, steps: 5, batch_size: 48}")
    (place / "params" / "p" / "infonce.yaml").unlink()
    assert records.update("p") == []
    printed = capsys.readouterr().out
    assert "triplet, seed 0, is dropped: steps=4 (its row: 5)" in printed and "infonce, seed 0, is dropped: no row" in printed


def test_runs_on_other_sounds_are_refused_and_nothing_is_lost(place):
    finish(place, "triplet")
    stored = records.update("p")
    finish(place, "infonce", data=[{"audio.i16": "2"}])
    with pytest.raises(ValueError, match="triplet, seed 0 and infonce, seed 0 have different sounds"):
        records.update("p")
    assert json.loads((place / "figures" / "p" / "runs.json").read_text()) == stored


def test_nothing_is_written_where_nothing_ran(place):
    assert records.update("p") == records.update("no-such-preset") == [] and not (place / "figures").exists()


def test_rows_of_surge_are_trained_alike():
    """Same sounds, steps and clips, encoder and clip length, and the seeds of the command."""
    rows = [row for row in sweep.rows("surge") if "method" not in row.values and row.name != "cirlib-small"]
    same = ("steps", "batch_size", "seconds", "precision", "valid_every", "queries", "encoder")
    values = {tuple(to_dict(row.config())[k] for k in same) for row in rows if row.values.get("steps") != 0}
    assert len(values) == 1 and not any(row.seeds for row in rows)


def test_records_in_git_are_those_of_the_rows():
    stored = json.loads((paths.ROOT / "figures" / "surge" / records.NAME).read_text())
    rows = {row.name: row.values for row in sweep.rows("surge")}
    assert {r["experiment"] for r in stored} == rows.keys()
    assert [r["experiment"] for r in stored if tables.other_settings(r["config"], rows[r["experiment"]])] == []
