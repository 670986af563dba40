"""Tables come from files: aggregation over seeds, rendering, and a README that agrees with figures/demo."""

import dataclasses
import json

import pandas as pd
import pytest

from cirlib import report
from cirlib.experiment import write_config
from cirlib.paths import ROOT


def result(experiment: str, seed: int, top1: float) -> dict:
    """metrics.json of a run, as 03_retrieve writes it."""
    scores = {"metric": "cosine", "chance": {"top1": 0.01, "top5": 0.05}, "rank_median": 3.0, "queries": 10}
    scores |= {"top1": top1, "top1_ci": [top1 - 0.1, top1 + 0.1], "top5": 0.8, "top5_ci": [0.7, 0.9]}
    part = {"top1": top1, "top5": 0.8, "queries": 5}
    scores |= {"by_family": {"Bass": part}, "by_source": {"virtual": part}}
    return {"experiment": experiment, "seed": seed, "mixture": scores, "single": scores}


def write(runs, *results):
    for r in results:
        folder = runs / "p" / r["experiment"] / f"seed{r['seed']}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(r))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def test_table_averages_seeds_and_widens_the_interval_by_their_spread(runs):
    write(runs, result("triplet", 0, 0.4), result("triplet", 1, 0.6), result("untrained", 0, 0.1))
    table = report.table(report.collect("p"), "mixture").set_index("experiment")
    assert list(table.index) == ["untrained", "triplet"], "rows stand in the order of LABELS"
    assert table.top1["triplet"] == pytest.approx(50) and table.seeds["triplet"] == 2
    standard_error = 1.96 * 0.1414213562 / 2**0.5
    assert table.top1_low["triplet"] == pytest.approx(100 * (0.5 - (0.1**2 + standard_error**2) ** 0.5))
    assert table.top1_low["untrained"] == pytest.approx(0) and table.top1_high["untrained"] == pytest.approx(20)
    assert table.top1_paper["triplet"] == 64.8


def test_runs_that_were_moved_aside_do_not_count(runs):
    write(runs, result("triplet", 0, 0.4))
    (runs / "p" / "triplet" / "seed0").rename(runs / "p" / "triplet" / "seed0.abc")
    with pytest.raises(ValueError, match="no finished run of preset 'p'"):
        report.collect("p")


def test_run_with_other_settings_than_its_params_file_is_refused(runs, tmp_path, monkeypatch):
    """A short run under the name of a row would silently stand in the table."""
    monkeypatch.setattr(report, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "params" / "p").mkdir(parents=True)
    (tmp_path / "params" / "p" / "triplet.yaml").write_text("preset: p\nexperiment: triplet\nloss: triplet\nsteps: 7\n")
    write(runs, result("triplet", 0, 0.4))
    config = report.TrainConfig(preset="p", loss="triplet", steps=7)
    write_config(runs / "p" / "triplet" / "seed0", config, "key")
    assert len(report.collect("p")) == 1
    write_config(runs / "p" / "triplet" / "seed0", dataclasses.replace(config, steps=3), "key")
    with pytest.raises(ValueError, match=r"trained with steps=3, .* says 7"):
        report.collect("p")


def test_tables_are_written_in_three_forms_that_agree(runs, tmp_path):
    write(runs, result("triplet", 0, 0.4))
    report.write_tables("p", tmp_path / "figures")
    (row,) = json.loads((tmp_path / "figures" / "table_mixture.json").read_text())
    assert row["top1"] == 40.0
    assert (
        "| triplet | cosine | 40.0 (30.0 to 50.0) | 80.0 (70.0 to 90.0) | 4 | 64.8 / 85.0 |"
        in (tmp_path / "figures" / "table_mixture.md").read_text()
    )
    assert "40.0" in (tmp_path / "figures" / "table_mixture.csv").read_text()


def test_readme_block_is_put_between_its_marks_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    folder = tmp_path / "figures" / "p"
    folder.mkdir(parents=True)
    for task in ("mixture", "single"):
        frame = report.table([result("triplet", 0, 0.4)], task)
        (folder / f"table_{task}.json").write_text(frame.to_json(orient="records"))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results:p -->\nold\n<!-- end:p -->\nafter\n")
    assert not report.update_readme("p", check=True, readme=readme) and "old" in readme.read_text()
    assert not report.update_readme("p", readme=readme)
    text = readme.read_text()
    assert text.startswith("before\n<!-- results:p -->\n| three-instrument mixtures |") and text.endswith("<!-- end:p -->\nafter\n")
    assert "old" not in text and text.count("40.0 (30.0 to 50.0)") == 2
    assert report.update_readme("p", check=True, readme=readme)
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        report.update_readme("p", readme=readme)


@pytest.mark.parametrize("task", ["mixture", "single"])
def test_tables_of_the_demo_agree_with_each_other(task):
    folder = ROOT / "figures" / "demo"
    frame = pd.read_json(folder / f"table_{task}.json")
    assert (folder / f"table_{task}.md").read_text() == report.markdown(frame, task)
    csv = pd.read_csv(folder / f"table_{task}.csv")
    pd.testing.assert_frame_equal(csv, frame[csv.columns], rtol=1e-3, check_dtype=False)


def test_readme_agrees_with_the_tables_of_the_demo():
    assert report.update_readme("demo", check=True), "run `python -m cirlib.report demo`"
