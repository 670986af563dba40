"""figures/README.md and the short table of the README: all numbers come from the tables in figures/."""

import json
import subprocess

import pytest
from fake_runs import result

from cirlib.common.paths import ROOT
from cirlib.reporting import results, tables


@pytest.fixture
def figures(tmp_path):
    """Tables of the rows of the short table, and open mixtures."""
    for preset, column in (("surge", 0), ("demo", 1)):
        (tmp_path / preset).mkdir()
        for task, top1 in (("mixture", 0.4), ("single", 0.5)):
            made = [result(names[column], 0, top1 + 0.01 * i) for i, names in enumerate(results.SHORT.values()) if names[column]]
            frame = tables.table(made, task)
            (tmp_path / preset / f"table_{task}.json").write_text(frame.to_json(orient="records"))
            (tmp_path / preset / f"table_{task}.md").write_text(tables.markdown(frame, task))
    (tmp_path / "demo" / "open.md").write_text("| open |\n")
    (tmp_path / "demo" / "classification.md").write_text("No row is a classifier.\n")
    (tmp_path / "demo" / "accuracy.svg").write_text("")
    (tmp_path / "quick").mkdir()
    return tmp_path


def test_short_table_has_five_rows(figures):
    lines = results.short_table(figures).splitlines()
    assert lines[2] == "| MFCC | 40.0 / 80.0 | 50.0 / 80.0 | 40.0 / 80.0 | 50.0 / 80.0 |"
    assert lines[4].startswith("| full triplet + Muon | 42.0 / 80.0 |") and lines[4].endswith("|  |  |")  # not trained on the demo
    assert lines[5].startswith("| per-family heads (ours) | 43.0 / 80.0 |")
    assert lines[6] == "| cirlib-small (comes with cirlib) | 44.0 / 80.0 | 54.0 / 80.0 |  |  |"  # not tested on the demo
    about = "galleries of about 100 and 100 instruments (mixtures, single sounds), chance 1.00 and 1.00 at top-1, 1 seed"
    assert lines[7:] == ["", f"Surge XT: {about}. demo: {about}."]
    frame = json.loads((figures / "demo" / "table_single.json").read_text())
    (figures / "demo" / "table_single.json").write_text(json.dumps([row for row in frame if row["experiment"] != "family-infonce"]))
    with pytest.raises(KeyError, match="family-infonce"):
        results.short_table(figures)


def test_page_holds_every_table_and_figure(figures):
    text = results.page(figures)
    assert text.index("## surge") < text.index("## demo") and "quick" not in text and "No row" not in text
    assert text.count("### Single sounds") == 2 and text.count("\n| MFCC |") == 4
    assert "### Mixtures of an unknown number of instruments\n\n| open |\n" in text and "[accuracy](demo/accuracy.svg)" in text


def test_short_table_is_put_between_its_marks():
    for name in ("short", "example"):
        begin, end = (mark.format(name) for mark in results.MARKS)
        assert results.with_block(f"a\n{begin}old\n{end}\nb\n", "new\n", name) == f"a\n{begin}new\n{end}\nb\n"
    with pytest.raises(ValueError, match=r"must have the marks <!-- results:short --> and <!-- end:short -->"):
        results.with_block("no marks", "new\n")


def test_generated_results_in_git_agree_with_the_tables():
    """As they are in git: a run of one's own changes figures/ only."""
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "figures"], cwd=ROOT, capture_output=True).returncode == 1:
        pytest.skip("figures/ was made again here; python -m cirlib.reporting.results writes the pages")
    differ = [path.name for path, text in results.written().items() if path.read_text() != text]
    assert differ == [], "run `python -m cirlib.reporting.results`"
