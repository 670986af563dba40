"""Tables of runs: means over seeds with intervals, published numbers beside the right rows, files that agree."""

import dataclasses
import io
import json

import pandas as pd
import pytest
from fake_runs import result, scores, write_params, write_results

from cirlib.common.paths import ROOT
from cirlib.reporting import labels
from cirlib.reporting import rows as sweep
from cirlib.reporting import tables as report
from cirlib.training.config import row_config, write_config

COST = {"log_every": 3, "gradient_cache_size": 8, "workers": 2, "compile": True}  # settings that change no result
T_OF_TWO = 12.7062  # 97.5% quantile of Student's t with one degree of freedom, of tables


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder of runs, in which a test writes its own."""
    for module in (report, sweep):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(sweep, "PARAMS", tmp_path / "params")
    return tmp_path / "runs"


def half_width(spread_of_two: float) -> float:
    """Half of an interval in percent: 0.1 of each seed, and the t interval of two seeds that differ by `spread_of_two`."""
    return 100 * (0.1**2 + (T_OF_TWO * spread_of_two / 2**0.5 / 2**0.5) ** 2) ** 0.5


# Tables


def test_seeds_are_averaged_and_widen_the_interval(runs):
    write_results(runs, result("triplet-24", 0, 0.49), result("triplet-24", 1, 0.51), result("untrained", 0, 0.1))
    table = report.table(report.collect("p"), "mixture").set_index("experiment")
    assert list(table.index) == ["untrained", "triplet-24"], "rows stand in the order of LABELS"
    mean = table.loc["triplet-24"]
    assert (mean.top1, mean.seeds, mean.queries, mean.gallery) == (pytest.approx(50), 2, 2000, 100)
    assert mean.top1_low == pytest.approx(50 - half_width(0.02), rel=1e-4)
    floor = table.loc["untrained"]
    assert (floor.top1_low, floor.top1_high) == (pytest.approx(0), pytest.approx(20))
    assert (mean.top1_paper, mean.top5_paper) == (64.8, 85.0) and pd.isna(floor.top1_paper)
    assert (floor.top1_chance, floor.top5_chance) == (1, 5)


def test_seeds_without_an_interval_count_in_the_mean():
    runs = [result("a", 0, 0.49), result("a", 1, 0.51)]
    whole = report.table(runs, "mixture")
    del runs[1]["mixture"]["top1_ci"]
    pd.testing.assert_frame_equal(report.table(runs, "mixture"), whole)


def test_intervals_stay_between_0_and_100():
    table = report.table([result("a", 0, 0.05), result("b", 0, 0.95)], "mixture").set_index("experiment")
    assert table.top1_low["a"] == 0 and table.top1_high["b"] == 100
    assert table.top1_high["a"] == pytest.approx(15) and table.top1_low["b"] == pytest.approx(85)


def test_tables_hold_only_rows_that_were_tested():
    made = [result("triplet-24", 0, 0.4, ["mixture"]), result("single-tags", 0, 0.5, ["single"]), result("mfcc", 0, 0.1)]
    assert list(report.table(made, "mixture").experiment) == ["triplet-24", "mfcc"]
    assert set(report.slices(made, "single").experiment) == {"single-tags", "mfcc"}
    single = report.table(made, "single").set_index("experiment")
    assert list(single.index) == ["single-tags", "mfcc"] and single.queries["mfcc"] == 5
    assert single.top1_paper["single-tags"] == 62.9 and pd.isna(single.top1_paper["mfcc"])


def test_slices_are_means_over_seeds_with_intervals():
    made = [result("a", 0, 0.4), result("a", 1, 0.6), result("b", 0, 0.3)]
    made[0]["mixture"]["by_family"] = {"Bass": scores(0.29, queries=4), "Lead": scores(0.5)}
    made[1]["mixture"]["by_family"] = {"Bass": scores(0.31, queries=6)}
    table = report.slices(made, "mixture").set_index(report.SLICE_KEYS)
    row = table.loc[("a", "family", "Bass")]
    assert (row.top1, row.queries) == (pytest.approx(30), 5)
    assert row.top1_low == pytest.approx(30 - half_width(0.02), rel=1e-4) and row.top1_high == pytest.approx(
        30 + half_width(0.02), rel=1e-4
    )
    assert (row.top5, row.top5_low, row.top5_high) == (pytest.approx(80), pytest.approx(70), pytest.approx(90))
    assert table.top1[("a", "family", "Lead")] == pytest.approx(50), "a slice that one seed has"
    assert table.top1[("b", "source and family", "virtual, Bass")] == pytest.approx(30)
    assert len(table) == 4 + 3 and table.index.is_unique


# The paper's numbers


@pytest.mark.parametrize(
    ("test", "name", "numbers"),
    [
        ("mixture", "triplet", (64.8, 85.0)),
        ("mixture", "triplet-full", (84.2, 96.4)),
        ("mixture", "triplet-full-tuned", (84.2, 96.4)),
        ("mixture", "infonce", (75.0, 94.2)),
        ("mixture", "infonce-24", None),
        ("mixture", "triplet-24", (64.8, 85.0)),
        ("mixture", "infonce-full", None),
        ("mixture", "multi-infonce", None),
        ("mixture", "single-infonce", None),
        ("single", "single-infonce-no-twins", (80.4, 93.1)),
        ("single", "single-sweep-hard_negative_ratio-1.0", (80.4, 93.1)),
        ("single", "triplet-full", None),
    ],
)
def test_published_numbers_go_by_the_loss(test, name, numbers):
    row = report.table([result(name, 0, 0.5)], test).iloc[0]
    assert (None if pd.isna(row.top1_paper) else (row.top1_paper, row.top5_paper)) == numbers


def test_published_numbers_by_source_stand_beside_their_rows():
    values = ["surge, Chromatic Percussion", "surge, Bass", "surge, Synth Lead", "nsynth, Chromatic Percussion", "nsynth, Bass"]
    made = [result(name, 0, 0.4) for name in ("triplet-full-24", "infonce-48", "triplet-24", "infonce", "triplet-full-tuned")]
    for r in made:
        r["mixture"]["by_source and family"] = {v: scores(0.3 + 0.1 * i) for i, v in enumerate([*values, "virtual, Bass"])}
    table = report.by_source(report.slices(made, "mixture"))
    assert "slice" not in table and len(table) == 30
    found = table.set_index(["experiment", "value"])
    paper = {
        "triplet-full-24": [(91.7, 99.5), (79.3, 93.1), (82.5, 94.2), (80.2, 100.0), (57.6, 94.8)],
        "infonce-48": [(78.4, 98.7), (82.1, 94.4), (69.1, 91.6), (33.3, 78.4), (71.8, 93.5)],
    }
    for name, numbers in paper.items():
        assert [(found.top1_paper[name, v], found.top5_paper[name, v]) for v in values] == numbers
        assert pd.isna(found.top1_paper[name, "virtual, Bass"])
    assert found.top1_paper["triplet-24"].isna().all()
    assert found.top1_paper["infonce", "surge, Bass"] == 82.1 and found.top1_paper["triplet-full-tuned", "surge, Bass"] == 83.3
    text = report.by_source_markdown(table, labels.labels(made)).splitlines()
    assert text[2] == "| nsynth, Bass | full triplet, batch 24 | 5 | 70.0 (60.0 to 80.0) | 80.0 (70.0 to 90.0) | 57.6 / 94.8 |"
    assert text[4] == "| nsynth, Bass | triplet, batch 24 | 5 | 70.0 (60.0 to 80.0) | 80.0 (70.0 to 90.0) | - |"
    assert len(text) == 2 + 30 and text[-1].startswith("| virtual, Bass | full triplet + Muon |")


def test_published_numbers_belong_to_known_rows():
    for numbers in (*report.PUBLISHED.values(), report.PUBLISHED_BY_SOURCE):
        assert numbers.keys() <= labels.LABELS.keys()
    tops = [t for numbers in report.PUBLISHED.values() for t in numbers.values()]
    tops += [t for numbers in report.PUBLISHED_BY_SOURCE.values() for t in numbers]
    assert all(0 < top1 <= top5 <= 100 for top1, top5 in tops)


# Markdown


def test_classification_table():
    """Percent, means over seeds; a score that a kind does not have is empty."""
    tags = [{"sounds": 40, "labels": ["a"], "exact_match": e, "hamming": 0.1, "map": 0.5} for e in (0.2, 0.4)]
    family = {"sounds": 30, "accuracy": 0.75, "f1_macro": 0.7, "confusion": [[1]]}
    made = [
        {"experiment": "single-family", "seed": 0, "classification": family},
        {"experiment": "single-tags", "seed": 0, "classification": tags[0]},
        {"experiment": "single-tags", "seed": 1, "classification": tags[1]},
        result("mfcc", 0, 0.1),
    ]
    table = report.classification_table(made)
    assert list(table.experiment) == ["single-family", "single-tags"] and list(table.seeds) == [1, 2]
    text = report.classification_markdown(table).splitlines()
    assert text[0] == "| classifier | sounds | top-1 | top-5 | exact match | Hamming loss | macro F1 | micro F1 | macro AUC | mean AP |"
    assert text[2] == "| classifier, 13 families | 30 | 75.0 |  |  |  | 70.0 |  |  |  |"
    assert text[3] == "| classifier, 27 tags | 40 |  |  | 30.0 | 10.0 |  |  |  | 50.0 |"


def trained(name: str, seed: int, top1: float, **more) -> dict:
    """metrics.json of a run with its settings and size."""
    config = {"task": "mixture", "optimiser": "muon", "steps": 100, "batch_size": 48, "seconds": 4.0, "families": ["Bass", "Synth Lead"]}
    run = {**result(name, seed, top1), "config": {**config, **more}, "encoder": "cnn", "parameters": 1_234_567, "numbers": 1280}
    for test in ("mixture", "single"):
        run[test] = {**run[test], "gallery": {"Bass": 90, "Synth Lead": 110} if test == "mixture" else {"all": 100}}
        run[test]["distances"] = {"cosine": {"top1": top1, "top5": 0.8}, "l2": {"top1": top1 + 0.02, "top5": 0.8}}
    run["mixture"]["without_reference"] = {"share": 0.6, **scores(top1 - 0.05)}
    return run


def test_markdown_table_and_its_caption():
    """Ranks count from 1; chance comes first; the caption says how the rows were trained and tested."""
    baseline = trained("mfcc", 0, 0.1, task="mfcc")
    made = [baseline, *(trained("triplet-24", seed, 0.4, seconds=2.5) for seed in (0, 1))]
    lines = report.markdown(report.table(made, "mixture"), "mixture").splitlines()
    columns = "training | size | distance | top-1 | top-5 | top-1 without | top-5 without | median rank | seeds | paper"
    assert lines[0] == f"| three-instrument mixtures | {columns} |"
    assert lines[2:6] == [
        "| chance |  |  |  | 1.00 | 5.00 |  |  |  |  |  |",
        "| MFCC | none | 1.2 M / 1,280 | cosine | 10.0 (0.0 to 20.0) | 80.0 (70.0 to 90.0) | 5.0 (0.0 to 15.0) | 80.0 (70.0 to 90.0) "
        "| 4 | 1 | - |",
        "| triplet, batch 24 | Muon, 5 k | 1.2 M / 1,280 | cosine | 40.0 (30.0 to 50.0) | 80.0 (70.0 to 90.0) | 35.0 (25.0 to 45.0) "
        "| 80.0 (70.0 to 90.0) | 4 | 2 | 64.8 / 85.0 |",
        "",
    ]
    for words in (
        "95 % intervals over instruments and seeds",
        "2,000 mixtures of test instruments, one of each of Bass, Synth Lead",
        "ranked among those of its family (Bass 90, Synth Lead 110)",
        "clips of 2.5 to 4 s; 1 to 2 seeds",
        "clips seen (steps x batch size)",
        "parameters / numbers per sound",
        "not pretrained",
        "Without: the 60 % of rankings whose own reference note",
        "chosen on these queries: MFCC 12.0 (l2), triplet, batch 24 42.0 (l2)",
        f"-: not in it): {report.PAPER}",
    ):
        assert words in lines[6]
    single = report.markdown(report.table(made[:1], "single"), "single")
    assert "; ranked among 100 instruments; clips of 4 s; 1 seed. " in single and "without" not in single and "Without" not in single


def test_columns_without_values_are_absent():
    """As in tables of runs that did not store them; the caption then says that own reference notes are included."""
    text = report.markdown(report.table([result("triplet-24", 0, 0.4)], "mixture"), "mixture")
    assert text.startswith("| three-instrument mixtures | distance | top-1 | top-5 | median rank | seeds | paper |\n")
    assert "is among the notes of the mixture are included" in text and "Training:" not in text and "(about 100 each)" in text


def test_seeds_may_have_chosen_different_distances():
    made = [result("triplet-24", seed, 0.4) for seed in (0, 1, 2)]
    made[1]["mixture"] = {**made[1]["mixture"], "metric": "l2"}
    assert list(report.table(made, "mixture").distance) == ["cosine or l2"]


# Runs


def test_runs_that_were_moved_aside_do_not_count(runs):
    write_results(runs, result("triplet", 0, 0.4))
    (runs / "p" / "triplet" / "seed0").rename(runs / "p" / "triplet" / "seed0.abc")
    with pytest.raises(ValueError, match="no finished run of preset 'p'"):
        report.collect("p")


@pytest.fixture
def rows(runs, tmp_path):
    """params/p with a row, a sweep and a baseline; their runs as their notebooks leave them."""
    write_params(
        tmp_path,
        triplet="{preset: p, experiment: triplet, loss: triplet, steps: 7}",
        swept="{preset: p, experiment: swept, loss: infonce, temperature: [0.1, 0.2]}",
        mfcc="{preset: p, experiment: mfcc, method: mfcc, seconds: 2.0, tests: [single]}",
    )
    configs = {row.name: row_config(row.values) for row in sweep.rows("p")}
    write_results(runs, *(result(name, 0, 0.4) for name in configs))
    for name, config in configs.items():
        write_config(runs / "p" / name / "seed0", dataclasses.replace(config, seed=0, wandb="offline", bank=("x",), **COST), "key")
    return configs


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("triplet", {"steps": 3, "batch_size": 9}, "steps=3 (its row: 7), batch_size=9 (its row: 64)"),
        ("swept-temperature-0.2", {"temperature": 0.1}, "temperature=0.1 (its row: 0.2)"),
        ("mfcc", {"seconds": 4.0}, "seconds=4.0 (its row: 2.0)"),
        ("mfcc", {"task": "timbre-toolbox"}, "task=timbre-toolbox (its row: mfcc)"),
        ("triplet", {"tests": ("single",)}, "tests=['single'] (its row: ['mixture', 'single'])"),
    ],
    ids=lambda v: v if isinstance(v, str) and " " not in v else "",
)
def test_run_with_other_settings_than_its_row_is_skipped(runs, rows, capsys, name, changed, words):
    """A short run under the name of a row would silently stand in the table; seed, banks and logging may differ."""
    assert len(report.collect("p")) == 4 and not capsys.readouterr().out
    write_results(runs, result(name, 1, 0.4))
    for seed in (0, 1):
        write_config(runs / "p" / name / f"seed{seed}", dataclasses.replace(rows[name], **changed), "key")
    assert {r["experiment"] for r in report.collect("p")} == rows.keys() - {name}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{name} is skipped: its run has {words}; ")


def test_overrides_of_the_command_belong_to_the_row(runs, rows):
    (runs / "p" / "overrides.yaml").write_text("steps: 3\n")
    with pytest.raises(ValueError, match="no finished run of preset 'p'"):
        report.collect("p")
    for name, config in rows.items():
        write_config(runs / "p" / name / "seed0", dataclasses.replace(config, steps=3), "key")
    assert len(report.collect("p")) == 4 and {r["config"]["steps"] for r in report.collect("p")} == {3}


def test_runs_without_a_row_need_no_params(runs, rows):
    """A run of one's own stands in the table under its own name."""
    write_results(runs, result("mine", 0, 0.4))
    assert [r["experiment"] for r in report.collect("p")] == ["mfcc", "triplet", "mine", "swept-temperature-0.1", "swept-temperature-0.2"]


# Files


def test_tables_are_written_in_three_forms_that_agree(runs, tmp_path):
    tags = {"experiment": "single-tags", "seed": 0, "classification": {"sounds": 40, "exact_match": 0.2}}
    write_results(runs, result("triplet-24", 0, 0.4), {**result("single-tags", 0, 0.5, ["single"]), **tags})
    out = report.write_tables("p", tmp_path / "figures")
    files = {file.name: file.read_text() for file in (tmp_path / "figures").iterdir()}
    assert files.keys() == {
        *(f"table_{task}.{end}" for task in ("mixture", "single") for end in ("json", "csv", "md")),
        *("slices_mixture.csv", "slices_single.csv", "by_source.csv", "by_source.md", "classification.csv", "classification.md"),
    }
    (row,) = json.loads(files["table_mixture.json"])
    assert row["top1"] == 40.0 == out["mixture"].top1[0]
    assert "| triplet, batch 24 | cosine | 40.0 (30.0 to 50.0) |" in files["table_mixture.md"]
    assert pd.read_csv(io.StringIO(files["slices_single.csv"])).experiment.nunique() == 2
    assert "| virtual, Bass | triplet, batch 24 |" in files["by_source.md"]
    assert "| classifier, 27 tags | 40 |" in files["classification.md"]
    for name in ("table_mixture", "table_single"):
        frame = pd.read_csv(io.StringIO(files[f"{name}.csv"]))
        pd.testing.assert_frame_equal(frame, pd.read_json(io.StringIO(files[f"{name}.json"]))[frame.columns], check_dtype=False)


@pytest.mark.parametrize("test", ["mixture", "single"])
def test_tables_of_a_test_that_no_row_has(runs, tmp_path, test):
    """One sentence instead of a table; the csv files can be read."""
    other = {"mixture": "single", "single": "mixture"}[test]
    write_results(runs, result("triplet-24", 0, 0.4, [other]))
    out = report.write_tables("p", tmp_path)
    assert out[test].empty and len(out[other]) == 1
    assert (tmp_path / f"table_{test}.md").read_text() == f"No row was tested on {labels.TITLES[test]}.\n"
    assert json.loads((tmp_path / f"table_{test}.json").read_text()) == []
    assert pd.read_csv(tmp_path / f"slices_{test}.csv").empty
    assert pd.read_csv(tmp_path / "by_source.csv").empty == (test == "mixture")
    assert (tmp_path / "classification.md").read_text() == "No row is a classifier.\n"


@pytest.mark.parametrize("preset", ["demo", "open", "surge"])
@pytest.mark.parametrize("task", ["mixture", "single"])
def test_tables_in_git_agree_with_each_other(preset, task):
    folder = ROOT / "figures" / preset
    frame = pd.read_json(folder / f"table_{task}.json")
    assert (folder / f"table_{task}.md").read_text() == report.markdown(frame, task)
    csv = pd.read_csv(folder / f"table_{task}.csv")
    pd.testing.assert_frame_equal(csv, frame[csv.columns], rtol=1e-3, check_dtype=False)
    assert [*frame["row"]] == [labels.label(name) for name in frame.experiment]
