"""Tables come from files: aggregation over seeds, rendering, and a README that agrees with figures/demo."""

import dataclasses
import io
import json
import random
import subprocess

import pandas as pd
import pytest

from cirlib.common.paths import ROOT
from cirlib.reporting import rows as sweep
from cirlib.reporting import tables as report
from cirlib.training.config import row_config, write_config

COST = {"log_every": 3, "gradient_cache_size": 8, "workers": 2, "compile": True}  # settings that change no result
T_OF_TWO = 12.7062  # 97.5% quantile of Student's t with one degree of freedom, of tables


def scores(top1: float, top5: float = 0.8, **more) -> dict:
    return {"top1": top1, "top1_ci": [top1 - 0.1, top1 + 0.1], "top5": top5, "top5_ci": [top5 - 0.1, top5 + 0.1], "queries": 5, **more}


def result(experiment: str, seed: int, top1: float, tests=("mixture", "single")) -> dict:
    """metrics.json of a run, as 03_retrieve writes it."""
    part = scores(top1, metric="cosine", chance={"top1": 0.01, "top5": 0.05}, rank_median=3.0)
    part |= {"by_family": {"Bass": scores(top1)}, "by_source": {"virtual": scores(top1)}}
    part |= {"by_source and family": {"virtual, Bass": scores(top1)}}
    return {"experiment": experiment, "seed": seed, **dict.fromkeys(tests, part)}


def write(runs, *results):
    for r in results:
        folder = runs / "p" / r["experiment"] / f"seed{r['seed']}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(r))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    for module in (report, sweep):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(sweep, "PARAMS", tmp_path / "params")
    return tmp_path / "runs"


def params(home, **texts):
    """Params files of the preset p."""
    folder = home / "params" / "p"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


# Names and order


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("multi-infonce", "multi-positive InfoNCE (ours)"),
        ("single-sweep-hard_negative_ratio-0.25", "InfoNCE, single sounds, hard ratio 0.25"),
        ("triplet-24-temperature-0.05-seconds-4.0", "triplet, batch 24, temperature 0.05, seconds 4.0"),
        ("triplet-temperature-0.05", "triplet, temperature 0.05"),
        ("infonce-48-encoder-ast_tiny-loss-infonce_full", "InfoNCE, batch 48, encoder ast_tiny, loss infonce_full"),
        ("triplet-families-Bass+Synth_Lead-curriculum-none", "triplet, families Bass+Synth_Lead, curriculum none"),
        ("mine", "mine"),
        ("triplet-mine", "triplet-mine"),
        ("mine-steps-3", "mine-steps-3"),
        ("triplets-steps-3", "triplets-steps-3"),
    ],
)
def test_label_of_a_row(name, words):
    assert report.label(name) == words


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("ast-base", "untrained encoder"),
        ("MIT/ast-finetuned-audioset-12-12-0.447", "pretrained on AudioSet, not trained further"),
        ("models/mine", "pretrained encoder, not trained further"),
    ],
)
def test_what_was_pretrained_is_not_called_untrained(runs, tmp_path, encoder, words):
    """In every table; a run that does not tell its encoder has one of ours."""
    write(runs, *({**result(name, 0, 0.1), "encoder": encoder} for name in ("untrained", "untrained-seconds-2.0", "triplet")))
    report.write_tables("p", tmp_path)
    for name in ("table_mixture", "table_single", "by_source"):
        text = (tmp_path / f"{name}.md").read_text()
        assert f"| {words} |" in text and f"| {words}, seconds 2.0 |" in text and "| triplet |" in text
    assert report.labels([{"experiment": "untrained"}]) == {"untrained": "untrained encoder"}


def test_labels_of_swept_rows_tell_every_value():
    """Also values that are not plain in a name."""
    values = {"preset": "p", "experiment": "infonce-48", "encoder": ["MIT/ast-12-12", "cnn"], "hard_negative_ratio": [0, 0.5]}
    told = [report.label(row.name) for row in sweep.expand(values)]
    ends = [f"encoder {e}, hard ratio {h}" for e in ("MIT_ast_12_12", "cnn") for h in (0, 0.5)]
    assert told == [f"InfoNCE, batch 48, {end}" for end in ends]


def test_every_row_of_demo_and_paper_has_a_label_of_its_own():
    for preset in ("demo", "paper"):
        names = [row.name for row in sweep.rows(preset)]
        labels = [report.label(name) for name in names]
        assert len(set(labels)) == len(names) and not set(labels) & set(names) - {"multi-encoder"}


def test_rows_stand_in_the_order_of_the_labels_and_a_sweep_behind_its_base(runs):
    order = [
        "untrained",
        "single-infonce",
        "single-infonce-no-twins",
        "single-sweep-hard_negative_ratio-0.25",
        "single-sweep-hard_negative_ratio-1.0",
    ]
    order += ["triplet", "triplet-steps-2", "triplet-24", "triplet-24-seconds-4", "infonce-full-48", "published", "another", "zebra"]
    shuffled = random.Random(0).sample(order, len(order))
    write(runs, *(result(name, seed, 0.4) for name in shuffled for seed in (1, 0)))
    assert [(r["experiment"], r["seed"]) for r in report.collect("p")] == [(name, seed) for name in order for seed in (0, 1)]


# Tables


def test_table_averages_seeds_and_widens_the_interval_by_their_spread(runs):
    write(runs, result("triplet-24", 0, 0.49), result("triplet-24", 1, 0.51), result("untrained", 0, 0.1))
    table = report.table(report.collect("p"), "mixture").set_index("experiment")
    assert list(table.index) == ["untrained", "triplet-24"], "rows stand in the order of LABELS"
    assert table.top1["triplet-24"] == pytest.approx(50) and table.seeds["triplet-24"] == 2
    spread = T_OF_TWO * 0.01414213562 / 2**0.5
    assert table.top1_low["triplet-24"] == pytest.approx(100 * (0.5 - (0.1**2 + spread**2) ** 0.5), rel=1e-4)
    assert table.top1_low["untrained"] == pytest.approx(0) and table.top1_high["untrained"] == pytest.approx(20)
    assert (table.top1_paper["triplet-24"], table.top5_paper["triplet-24"]) == (64.8, 85.0)
    assert pd.isna(table.top1_paper["untrained"])
    assert (table.top1_chance["untrained"], table.top5_chance["untrained"]) == (1, 5)


def test_seeds_without_an_interval_count_in_the_mean_and_in_the_spread_of_seeds():
    runs = [result("a", 0, 0.49), result("a", 1, 0.51)]
    whole = report.table(runs, "mixture")
    del runs[1]["mixture"]["top1_ci"]
    pd.testing.assert_frame_equal(report.table(runs, "mixture"), whole)


def test_intervals_stay_between_0_and_100():
    table = report.table([result("a", 0, 0.05), result("b", 0, 0.95)], "mixture").set_index("experiment")
    assert table.top1_low["a"] == 0 and table.top1_high["b"] == 100
    assert table.top1_high["a"] == pytest.approx(15) and table.top1_low["b"] == pytest.approx(85)


def test_tables_hold_rows_that_were_tested_only():
    made = [result("triplet-24", 0, 0.4, ["mixture"]), result("single-tags", 0, 0.5, ["single"]), result("mfcc", 0, 0.1)]
    assert list(report.table(made, "mixture").experiment) == ["triplet-24", "mfcc"]
    assert list(report.table(made, "single").experiment) == ["single-tags", "mfcc"]
    assert set(report.slices(made, "single").experiment) == {"single-tags", "mfcc"}
    single = report.table(made, "single").set_index("experiment")
    assert single.top1_paper["single-tags"] == 62.9 and pd.isna(single.top1_paper["mfcc"])


def test_slices_are_means_over_seeds_with_intervals():
    made = [result("a", 0, 0.4), result("a", 1, 0.6), result("b", 0, 0.3)]
    made[0]["mixture"]["by_family"] = {"Bass": scores(0.29, queries=4), "Lead": scores(0.5)}
    made[1]["mixture"]["by_family"] = {"Bass": scores(0.31, queries=6)}
    table = report.slices(made, "mixture").set_index(report.SLICE_KEYS)
    row = table.loc[("a", "family", "Bass")]
    half = 100 * (0.1**2 + (T_OF_TWO * 0.01414213562 / 2**0.5) ** 2) ** 0.5
    assert (row.top1, row.queries) == (pytest.approx(30), 5)
    assert row.top1_low == pytest.approx(30 - half, rel=1e-4) and row.top1_high == pytest.approx(30 + half, rel=1e-4)
    assert (row.top5, row.top5_low, row.top5_high) == (pytest.approx(80), pytest.approx(70), pytest.approx(90))
    assert table.top1[("a", "family", "Lead")] == pytest.approx(50), "a slice that one seed has"
    assert table.top1[("b", "source and family", "virtual, Bass")] == pytest.approx(30)
    assert len(table) == 4 + 3 and table.index.is_unique


def test_published_numbers_by_source_stand_beside_the_right_rows():
    """Companion page of the paper: sources and families in their order; nothing where the paper has nothing."""
    values = ["surge, Chromatic Percussion", "surge, Bass", "surge, Synth Lead", "nsynth, Chromatic Percussion", "nsynth, Bass"]
    made = [result(name, 0, 0.4) for name in ("triplet-full-24", "infonce-48", "triplet-24")]
    for r in made:
        r["mixture"]["by_source and family"] = {v: scores(0.3 + 0.1 * i) for i, v in enumerate([*values, "virtual, Bass"])}
    table = report.by_source(report.slices(made, "mixture"))
    assert "slice" not in table and len(table) == 18
    found = table.set_index(["experiment", "value"])
    paper = {
        "triplet-full-24": [(91.7, 99.5), (79.3, 93.1), (82.5, 94.2), (80.2, 100.0), (57.6, 94.8)],
        "infonce-48": [(78.4, 98.7), (82.1, 94.4), (69.1, 91.6), (33.3, 78.4), (71.8, 93.5)],
    }
    for name, numbers in paper.items():
        assert [(found.top1_paper[name, v], found.top5_paper[name, v]) for v in values] == numbers
        assert pd.isna(found.top1_paper[name, "virtual, Bass"])
    assert found.top1_paper["triplet-24"].isna().all()
    assert found.top1["infonce-48", "surge, Synth Lead"] == pytest.approx(50)
    text = report.by_source_markdown(table, report.labels(made)).splitlines()
    assert text[2] == "| nsynth, Bass | full triplet, batch 24 | 5 | 70.0 (60.0 to 80.0) | 80.0 (70.0 to 90.0) | 57.6 / 94.8 |"
    assert text[4] == "| nsynth, Bass | triplet, batch 24 | 5 | 70.0 (60.0 to 80.0) | 80.0 (70.0 to 90.0) |  |"
    assert len(text) == 2 + 18 and text[-1].startswith("| virtual, Bass | triplet, batch 24 |")


def test_published_numbers_belong_to_rows_of_the_paper_preset():
    """The separator of the demo stands in for Demucs."""
    names = {row.name for row in sweep.rows("paper")} | {"separation"}
    for numbers in (*report.PUBLISHED.values(), report.PUBLISHED_BY_SOURCE):
        assert numbers.keys() <= names <= report.LABELS.keys() | {n for n in names if "sweep" in n}
    tops = [t for numbers in report.PUBLISHED.values() for t in numbers.values()]
    tops += [t for numbers in report.PUBLISHED_BY_SOURCE.values() for t in numbers]
    assert all(0 < top1 <= top5 <= 100 for top1, top5 in tops)


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
    assert list(table.columns) == ["experiment", "row", "seeds", "sounds", *report.SCORES]
    assert list(table.experiment) == ["single-family", "single-tags"] and list(table.seeds) == [1, 2]
    found = table.set_index("experiment")
    assert found.exact_match["single-tags"] == pytest.approx(30) and found.hamming["single-tags"] == pytest.approx(10)
    assert found.accuracy["single-family"] == pytest.approx(75) and pd.isna(found.accuracy["single-tags"])
    text = report.classification_markdown(table).splitlines()
    assert text[0].split(" | ")[2:] == [*report.SCORES[:-1], "map |"] and text[1].count("---") == 2 + len(report.SCORES)
    assert text[2] == "| classifier of 13 families | 30 | 75.0 |  |  |  | 70.0 |  |  |  |"
    assert text[3] == "| classifier of 27 tags | 40 |  |  | 30.0 | 10.0 |  |  |  | 50.0 |"


def test_rows_of_the_markdown_table():
    """Ranks count from 1; chance comes first, in the gallery of the test; the paper's numbers where it has them."""
    made = [result("mfcc", 0, 0.1), result("triplet-24", 0, 0.4)]
    lines = report.markdown(report.table(made, "mixture"), "mixture").splitlines()
    assert lines[2:] == [
        "| chance in the gallery of its family | | 1.0 | 5.0 | | |",
        "| MFCC | cosine | 10.0 (0.0 to 20.0) | 80.0 (70.0 to 90.0) | 4 |  |",
        "| triplet, batch 24 | cosine | 40.0 (30.0 to 50.0) | 80.0 (70.0 to 90.0) | 4 | 64.8 / 85.0 |",
    ]
    assert all(line.count("|") == 7 for line in lines)
    assert "chance in the whole gallery" in report.markdown(report.table(made, "single"), "single")


# Runs


def test_runs_that_were_moved_aside_do_not_count(runs):
    write(runs, result("triplet", 0, 0.4))
    (runs / "p" / "triplet" / "seed0").rename(runs / "p" / "triplet" / "seed0.abc")
    with pytest.raises(ValueError, match="no finished run of preset 'p'"):
        report.collect("p")


@pytest.fixture
def rows(runs, tmp_path):
    """params/p with a row, a sweep and a baseline; their runs as their notebooks leave them."""
    params(
        tmp_path,
        data="preset: p",
        triplet="{preset: p, experiment: triplet, loss: triplet, steps: 7}",
        swept="{preset: p, experiment: swept, loss: infonce, temperature: [0.1, 0.2]}",
        mfcc="{preset: p, experiment: mfcc, method: mfcc, seconds: 2.0, tests: [single]}",
    )
    configs = {row.name: row_config(row.values) for row in sweep.rows("p")}
    write(runs, *(result(name, 0, 0.4) for name in configs))
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
def test_run_with_other_settings_than_its_params_file_is_left_out(runs, rows, capsys, name, changed, words):
    """A short run under the name of a row would silently stand in the table; seed, banks and logging may differ."""
    assert len(report.collect("p")) == 4 and not capsys.readouterr().out
    write_config(runs / "p" / name / "seed0", dataclasses.replace(rows[name], **changed), "key")
    assert {r["experiment"] for r in report.collect("p")} == rows.keys() - {name}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{name} is left out: its run has {words}; ")


def test_a_row_that_is_left_out_is_told_once_for_all_its_seeds(runs, rows, capsys):
    write(runs, result("triplet", 1, 0.4))
    for seed in (0, 1):
        write_config(runs / "p" / "triplet" / f"seed{seed}", dataclasses.replace(rows["triplet"], queries=5), "key")
    assert len(report.collect("p")) == 3 and capsys.readouterr().out.count("\n") == 1


def test_settings_that_the_command_overrode_are_those_of_the_row(runs, rows):
    (runs / "p" / "overrides.yaml").write_text("steps: 3\n")
    with pytest.raises(ValueError, match="no finished run of preset 'p'"):
        report.collect("p")
    for name, config in rows.items():
        write_config(runs / "p" / name / "seed0", dataclasses.replace(config, steps=3), "key")
    assert len(report.collect("p")) == 4


def test_runs_without_a_row_need_no_params(runs, rows):
    """A run of one's own stands in the table under its own name."""
    write(runs, result("mine", 0, 0.4))
    assert [r["experiment"] for r in report.collect("p")] == ["mfcc", "triplet", "mine", "swept-temperature-0.1", "swept-temperature-0.2"]


# Files


def test_tables_are_written_in_three_forms_that_agree(runs, tmp_path):
    tags = {"experiment": "single-tags", "seed": 0, "classification": {"sounds": 40, "exact_match": 0.2}}
    write(runs, result("triplet-24", 0, 0.4), {**result("single-tags", 0, 0.5, ["single"]), **tags})
    out = report.write_tables("p", tmp_path / "figures")
    files = {file.name: file.read_text() for file in (tmp_path / "figures").iterdir()}
    assert files.keys() == {
        *(f"table_{task}.{end}" for task in ("mixture", "single") for end in ("json", "csv", "md")),
        *("slices_mixture.csv", "slices_single.csv", "by_source.csv", "by_source.md", "classification.csv", "classification.md"),
    }
    (row,) = json.loads(files["table_mixture.json"])
    assert row["top1"] == 40.0 == out["mixture"].top1[0]
    line = "| triplet, batch 24 | cosine | 40.0 (30.0 to 50.0) | 80.0 (70.0 to 90.0) | 4 | 64.8 / 85.0 |"
    assert line in files["table_mixture.md"]
    assert "40.0" in files["table_mixture.csv"]
    assert pd.read_csv(io.StringIO(files["slices_single.csv"])).experiment.nunique() == 2
    assert "| virtual, Bass | triplet, batch 24 |" in files["by_source.md"]
    assert "| classifier of 27 tags | 40 |" in files["classification.md"]
    assert pd.read_csv(io.StringIO(files["classification.csv"])).exact_match[0] == 20
    for name in ("table_mixture", "table_single"):
        frame = pd.read_csv(io.StringIO(files[f"{name}.csv"]))
        pd.testing.assert_frame_equal(frame, pd.DataFrame(json.loads(files[f"{name}.json"]))[frame.columns], check_dtype=False)


@pytest.mark.parametrize("test", ["mixture", "single"])
def test_tables_of_a_test_that_no_row_has(runs, tmp_path, monkeypatch, test):
    """One sentence instead of a table, in the files and in the README; the csv files can be read."""
    other = {"mixture": "single", "single": "mixture"}[test]
    write(runs, result("triplet-24", 0, 0.4, [other]))
    folder = tmp_path / "figures" / "p"
    out = report.write_tables("p", folder)
    assert out[test].empty and len(out[other]) == 1
    sentence = f"No row was tested on {report.TITLES[test]}.\n"
    assert (folder / f"table_{test}.md").read_text() == sentence
    assert json.loads((folder / f"table_{test}.json").read_text()) == []
    assert pd.read_csv(folder / f"slices_{test}.csv").empty
    assert pd.read_csv(folder / "by_source.csv").empty == (test == "mixture")
    assert (folder / "classification.md").read_text() == "No row is a classifier.\n"
    monkeypatch.setattr(report, "ROOT", tmp_path)
    params(tmp_path, **{"data": "preset: p", "triplet-24": f"{{preset: p, experiment: triplet-24, tests: [{other}]}}"})
    assert sentence in report.readme_block("p") and "40.0 (30.0 to 50.0)" in report.readme_block("p")


def test_readme_block_of_open_mixtures_holds_those_of_every_preset(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    for name in ("p", "open"):
        (tmp_path / "figures" / name).mkdir(parents=True)
        (tmp_path / "figures" / name / "open.md").write_text(f"{name}\n")
    assert report.readme_block("open") == "open\n\np\n"


def tables(folder, *made):
    """The tables of runs, as they lie in figures/."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in ("mixture", "single"):
        (folder / f"table_{task}.json").write_text(report.table(list(made), task).to_json(orient="records"))


def test_readme_shows_all_rows_of_the_params_files_and_only_them(runs, tmp_path, monkeypatch):
    """A fresh clone makes some of the rows, and trial runs are nobody's results."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    texts = {"data": "preset: p", "mfcc": "{preset: p, experiment: mfcc, method: mfcc, tests: [single]}"}
    params(tmp_path, **texts, triplet="{preset: p, experiment: triplet}", infonce="{preset: p, experiment: infonce, loss: infonce}")
    readme, folder = tmp_path / "README.md", tmp_path / "figures" / "p"
    readme.write_text("<!-- results:p -->\nold\n<!-- end:p -->\n")
    tables(folder, result("a-trial", 0, 0.9), result("triplet", 0, 0.4), result("infonce", 0, 0.4, ["mixture"]))
    words = r"^figures/p lacks 2 of the rows of params/p \(infonce, mfcc\), .*: run make reproduce PRESET=p ROWS=all first$"
    with pytest.raises(ValueError, match=words):
        report.update_readme("p", readme=readme)
    assert "old" in readme.read_text()
    tables(folder, *(result(name, 0, 0.4) for name in ("a-trial", "triplet", "infonce", "mfcc")))
    report.update_readme("p", readme=readme)
    text = readme.read_text()
    assert "a-trial" not in text and text.count("| triplet |") == 2 and text.count("chance in") == 2 and text.count("| MFCC |") == 1


def test_reproduce_leaves_the_readme_alone():
    """Results go into it on demand only."""
    recipe = (ROOT / "Makefile").read_text().partition("\nreproduce:")[2].partition("\n\n")[0]
    assert "cat $(FIGURES)" in recipe and "cirlib.reporting.tables" not in recipe


def test_readme_block_is_put_between_its_marks_and_checked(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    params(tmp_path, data="preset: p", triplet="{preset: p, experiment: triplet}")
    tables(tmp_path / "figures" / "p", result("triplet", 0, 0.4))
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


@pytest.mark.parametrize("name", ["demo", "endless", "open", "performance", "surge"])
def test_readme_agrees_with_the_tables(name):
    """As they are in git: a run of one's own does not touch the README."""
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", f"figures/{name}"], cwd=ROOT, capture_output=True).returncode == 1:
        pytest.skip(f"figures/{name} was made anew here; python -m cirlib.reporting.tables {name} puts it into the README")
    assert report.update_readme(name, check=True), f"run `python -m cirlib.reporting.tables {name}`"


def test_performance_in_the_readme_is_what_has_a_goal():
    lines = report.performance_block().splitlines()
    assert lines[0].startswith("Measured on ") and lines[2].startswith("| stage |")
    goals = [line.split("|")[-2].strip() for line in lines[4:]]
    assert len(goals) >= 6 and all(goals)
