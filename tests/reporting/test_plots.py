"""Figures draw what the tables hold, without warnings, the same bytes each time; rows can be distinguished."""

import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import drawn

from cirlib.data.taxonomy import GROUPS
from cirlib.reporting import plots

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("figure_style")]


def results(rows: int, top1=30.0, top5=60.0) -> pd.DataFrame:
    """A table as report.table makes it."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"row": [f"row {i}" for i in range(rows)], "top1_chance": 2.0, "top5_chance": 9.0})
    for k, middle in (("top1", top1), ("top5", top5)):
        table[k] = middle + rng.uniform(-9, 9, rows) * (middle > 0)
        table[f"{k}_low"], table[f"{k}_high"] = (table[k] - 4).clip(0), (table[k] + 6 * (middle > 0)).clip(None, 100)
    return table


def points(axis) -> list[tuple[np.ndarray, np.ndarray]]:
    """x and y of the points of each error bar."""
    return [container[0].get_data(orig=False) for container in axis.containers]


# Styles


def test_rows_never_share_colour_and_marker():
    """Also neighbours differ in both."""
    styles = [plots.row_style(j) for j in range(64)]
    assert len({(s["color"], s["marker"]) for s in styles}) == 64
    for a, b in itertools.pairwise(styles):
        assert a["color"] != b["color"] and a["marker"] != b["marker"]


def test_families_never_share_colour_and_marker():
    styles = [plots.family_style(name) for name in (*GROUPS, "(none)")]
    assert len({(s["color"], s["marker"]) for s in styles}) == len(GROUPS) + 1
    assert plots.family_style("anything else") == plots.family_style("(none)")


# Accuracy


@pytest.mark.parametrize("rows", [1, 16])
def test_accuracy(rows):
    """One panel per test; the first row on top; points, intervals and chance where the table says."""
    tables = {"mixture": results(rows), "single": results(max(1, rows - 2), top5=90.0)}
    figure = plots.accuracy(tables, "title")
    drawn(figure)
    assert len(figure.axes) == 2
    for axis, table in zip(figure.axes, tables.values(), strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == list(table["row"])
        ticks = axis.get_yticks()
        assert (np.diff(ticks) == -1).all() and ticks[0] == rows - 1, "rows of both panels stand at the same heights"
        for k, (x, y), container in zip(("top1", "top5"), points(axis), axis.containers, strict=True):
            np.testing.assert_allclose(x, table[k])
            np.testing.assert_allclose(y, ticks, atol=0.2)
            ends = np.array([segment[:, 0] for segment in container[2][0].get_segments()])
            np.testing.assert_allclose(ends, table[[f"{k}_low", f"{k}_high"]])
        (first, _), (fifth, _) = (line.get_xdata() for line in axis.lines if line.get_linestyle() == ":")
        assert (first, fifth) == (2, 9)
        assert axis.get_xlim()[0] == 0 and table.top5_high.max() <= axis.get_xlim()[1] <= 100


def test_accuracy_of_the_tests_that_have_rows():
    figure = plots.accuracy({"mixture": results(3), "single": pd.DataFrame()}, "title")
    drawn(figure)
    assert len(figure.axes) == 1 and "mix" in figure.axes[0].get_title(loc="left")


def test_accuracy_of_rows_that_find_nothing():
    """All at 0."""
    drawn(plots.accuracy({"single": results(2, 0.0, 0.0)}, "title"))


# Slices


def slices(experiments: int, values=("Bass", "Chromatic Percussion", "Synth Lead")) -> pd.DataFrame:
    """Rows of report.slices of one kind."""
    table = pd.DataFrame(list(itertools.product([f"row-{i}" for i in range(experiments)], values)), columns=["experiment", "value"])
    for k, middle in (("top1", 30.0), ("top5", 60.0)):
        table[k] = middle + np.arange(len(table)) % 7
        table[f"{k}_low"], table[f"{k}_high"] = table[k] - 5, table[k] + 8
    return table.assign(slice="family", queries=10.0)


@pytest.mark.parametrize("experiments", [1, 16])
def test_by_slice(experiments):
    """A row is a colour and a marker in all slices, within the band of its slice; the first slice on top."""
    part = slices(experiments)
    figure = plots.by_slice(part, str.upper, "title")
    drawn(figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(part.value.unique())
    for axis, k in zip(figure.axes, ("top1", "top5"), strict=True):
        ticks = np.array(axis.get_yticks())
        assert list(ticks) == [2, 1, 0] and len(axis.containers) == experiments
        heights = np.array([y for _, y in points(axis)])  # (experiments, slices)
        assert (np.abs(heights - ticks) < 0.45).all(), "between the lines that part the slices"
        assert (np.diff(heights, axis=0) < 0).all(), "the first row on top"
        for (name, rows), (x, _), container in zip(part.groupby("experiment", sort=False), points(axis), axis.containers, strict=True):
            np.testing.assert_allclose(x, rows[k])
            ends = np.array([segment[:, 0] for segment in container[2][0].get_segments()])
            np.testing.assert_allclose(ends, rows[[f"{k}_low", f"{k}_high"]])
            assert container.get_label() == name.upper()
        lines = [(c[0].get_color(), c[0].get_marker()) for c in axis.containers]
        assert len(set(lines)) == experiments
    assert len(figure.legends[0].get_texts()) == experiments


def test_slices_that_a_row_lacks_or_has_no_number_for():
    """They stay empty; the other points stay where they are."""
    part = slices(3)
    part.loc[4, [c for c in part if c.startswith("top")]] = np.nan
    figure = plots.by_slice(part.drop(index=[2, 7]), str, "title")
    drawn(figure)
    x = np.array([x for x, _ in points(figure.axes[0])])
    expected = part.top1.to_numpy().reshape(3, 3).copy()
    expected[0, 2] = expected[2, 1] = np.nan
    np.testing.assert_allclose(x, expected)


def test_one_slice_of_one_row():
    drawn(plots.by_slice(slices(1, ["near half"]), str, "title"))


# Confusion


def test_confusion():
    """Shares of each true family; cells under half a percent are blank; a family without sounds divides by nothing."""
    counts = pd.DataFrame([[3, 1, 0], [0, 0, 0], [1, 0, 999]], index=list("abc"), columns=list("xyz"))
    figure = plots.confusion(counts, "title", "predicted family")
    drawn(figure)
    (axis,) = figure.axes
    np.testing.assert_allclose(axis.images[0].get_array().filled(-1), [[75, 25, 0], [0, 0, 0], [0.1, 0, 99.9]])
    assert axis.images[0].get_clim() == (0, 100)
    texts = {t.get_position(): t.get_text() for t in axis.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (2, 2): "100"}, "(predicted, true)"
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a (4)", "b (0)", "c (1000)"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["x", "y", "z"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted family", "true family")


def test_confusion_of_one_family():
    drawn(plots.confusion(pd.DataFrame([[7]], index=["Bass"], columns=["Bass"]), "title"))


# Other figures


def test_ranks_are_counted_from_one():
    figure = plots.rank_boxes({"a": np.zeros(5), "b": np.array([0, 3, 0.5, 9])}, "title")
    drawn(figure)
    medians = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == plots.COLOURS[1]]
    assert medians == [1.0, 1 + (0.5 + 3) / 2]


def test_training_curves_of_16_rows():
    history = pd.DataFrame({"step": [0, 10, 20], "loss": [4.0, 2.0, np.nan], "valid_top1": [np.nan, 0.2, 0.5]})
    figure = plots.training_curves({f"row {i}": history for i in range(16)}, "title")
    drawn(figure)
    for line in figure.axes[0].lines:
        np.testing.assert_allclose(line.get_xydata(), [[0, 1], [10, 0.5]])
    for line in figure.axes[1].lines:
        np.testing.assert_allclose(line.get_xydata(), [[10, 20], [20, 50]])
    assert len({(line.get_color(), line.get_marker()) for line in figure.axes[1].lines}) == 16


def test_curves_are_means_over_seeds():
    rows = pd.DataFrame({"step": [10, 20, 10, 20], "minutes": [1.0, 2.0, 3.0, 4.0], "top1": [0.2, 0.4, 0.4, 0.8], "seed": [0, 0, 1, 1]})
    figure = plots.race_curves({f"row {i}": rows.assign(device="a CPU") for i in range(10)}, "title")
    drawn(figure)
    by_step, by_minute = (axis.lines[3].get_xydata() for axis in figure.axes)
    np.testing.assert_allclose(by_step, [[10, 30], [20, 60]])
    np.testing.assert_allclose(by_minute, [[2, 30], [3, 60]])


def test_race_curves_compare_minutes_on_the_fastest_device():
    rows = pd.DataFrame({"step": [10, 20], "minutes": [1.0, 2.0], "top1": [0.2, 0.4], "seed": [0, 0]})
    both = pd.concat([rows.assign(device="fast"), (2 * rows).assign(device="slow", step=rows.step)])
    figure = plots.race_curves({"one": rows.assign(device="fast"), "both": both, "slow": both.iloc[2:].assign(seed=1)}, "title")
    drawn(figure)
    steps, minutes = ([len(line.get_xydata()) for line in axis.lines] for axis in figure.axes)
    assert steps == [2, 2, 2] and minutes == [2, 2, 0] and "fast" in figure.axes[1].get_xlabel()
    np.testing.assert_allclose(figure.axes[0].lines[1].get_xydata(), [[10, 30], [20, 60]])
    np.testing.assert_allclose(figure.axes[1].lines[1].get_xydata(), [[1, 20], [2, 40]])


# Files


@pytest.mark.parametrize(
    "make",
    [
        lambda: plots.accuracy({"mixture": results(2), "single": results(3)}, "title"),
        lambda: plots.by_slice(slices(2), str, "title"),
        lambda: plots.confusion(pd.DataFrame([[3, 1], [2, 2]]), "title"),
    ],
    ids=["accuracy", "by_slice", "confusion"],
)
def test_saved_twice_is_the_same_bytes(tmp_path, make):
    """Drawn anew each time; both formats, nothing left beside them."""
    for folder in ("a", "b"):
        plots.save(make(), tmp_path / folder, "figure")
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {"figure.svg", "figure.png"}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"title" in (tmp_path / "a" / "figure.svg").read_bytes() and (tmp_path / "a" / "figure.png").read_bytes()[1:4] == b"PNG"
