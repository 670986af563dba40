"""Figures draw what the tables hold, without warnings, the same bytes each time; rows and families look different."""

import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import drawn

from cirlib.data.taxonomy import GROUPS
from cirlib.reporting import plots

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("figure_style")]


def test_curves_differ_in_colour_or_line():
    styles = [plots.line_style(j) for j in range(28)]
    assert len({(s["color"], s["linestyle"]) for s in styles}) == 28 and plots.COLOURS[-1] not in {s["color"] for s in styles}


def results(rows: int, top1=30.0, top5=60.0) -> pd.DataFrame:
    """Return a table of rows with intervals and chance."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"row": [f"row {i}" for i in range(rows)], "top1_chance": 2.0, "top5_chance": 9.0})
    for k, middle in (("top1", top1), ("top5", top5)):
        table[k] = middle + rng.uniform(-9, 9, rows) * (middle > 0)
        table[f"{k}_low"], table[f"{k}_high"] = (table[k] - 4).clip(0), (table[k] + 6 * (middle > 0)).clip(None, 100)
    return table


def slices(experiments: int, values=("Bass", "Chromatic Percussion", "Synth Lead")) -> pd.DataFrame:
    """Return slices of one kind."""
    table = pd.DataFrame(list(itertools.product([f"row-{i}" for i in range(experiments)], values)), columns=["experiment", "value"])
    for k, middle in (("top1", 30.0), ("top5", 60.0)):
        table[k] = middle + np.arange(len(table)) % 7
        table[f"{k}_low"], table[f"{k}_high"] = table[k] - 5, table[k] + 8
    return table.assign(slice="family", queries=10.0)


def points(axis) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return x and y of the points of each error bar."""
    return [container[0].get_data(orig=False) for container in axis.containers]


def ends(container) -> np.ndarray:
    """Return the ends (N, 2) of error bars."""
    return np.array([segment[:, 0] for segment in container[2][0].get_segments()])


def names(axis, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axis, f"get_{which}ticklabels")()]


def test_rows_and_families_have_distinct_styles():
    """Neighbouring rows differ in both colour and marker."""
    rows = [plots.row_style(j) for j in range(64)]
    families = [plots.family_style(name) for name in (*GROUPS, "(none)")]
    for styles in (rows, families):
        assert len({(s["color"], s["marker"]) for s in styles}) == len(styles)
    assert all(a["color"] != b["color"] and a["marker"] != b["marker"] for a, b in itertools.pairwise(rows))
    assert plots.family_style("anything else") == plots.family_style("(none)")


@pytest.mark.parametrize("rows", [1, 16])
def test_accuracy(rows):
    """A panel per test; the first row on top; points, intervals and chance as in the table."""
    tables = {"mixture": results(rows), "single": results(max(1, rows - 2), top5=90.0)}
    figure = plots.accuracy(tables, "title")
    drawn(figure)
    limits = {axis.get_xlim() for axis in figure.axes}
    assert len(limits) == 1, "the panels have the same range"
    assert names(figure.axes[0], "y") == list(tables["mixture"]["row"])
    for axis, table in zip(figure.axes, tables.values(), strict=True):
        assert list(axis.get_yticks()) == list(range(rows))[::-1]
        ticks = axis.get_yticks()[: len(table)]  # the same heights in both panels
        for k, (x, y), container in zip(("top1", "top5"), points(axis), axis.containers, strict=True):
            np.testing.assert_allclose(x, table[k])
            np.testing.assert_allclose(y, ticks, atol=0.2)
            np.testing.assert_allclose(ends(container), table[[f"{k}_low", f"{k}_high"]])
        (first, _), (fifth, _) = (line.get_xdata() for line in axis.lines if line.get_linestyle() == ":")
        assert (first, fifth) == (2, 9)
        assert axis.get_xlim()[0] == 0 and table.top5_high.max() <= axis.get_xlim()[1] <= 100


def test_panels_of_accuracy_have_the_same_rows():
    mixture = results(2).assign(experiment=["mfcc", "family-infonce"], row=["MFCC", "heads"])
    single = results(2).assign(experiment=["single-infonce", "mfcc"], row=["InfoNCE, single sounds", "MFCC"])
    figure = plots.accuracy({"mixture": mixture, "single": single}, "title")
    drawn(figure)
    assert names(figure.axes[0], "y") == ["MFCC", "InfoNCE, single sounds", "heads"]
    heights = [points(axis)[0][1] for axis in figure.axes]
    np.testing.assert_allclose(heights, [[2, 0], [1, 2]], atol=0.2)


def test_gains_that_are_not_significant_are_pale():
    values = {"mixture_gain": [0.0, -9.0, 1.0], "mixture_width": [0.0, 3.0, np.nan], "mixture_p": [np.nan, 0.01, 0.6]}
    rows = pd.DataFrame(values, list("abc"))
    figure = plots.gains(rows, {"mixture": "Mixtures"}, "title")
    drawn(figure)
    clear, pale = figure.axes[0].containers
    assert list(clear[0].get_xdata()) == [-9] and list(pale[0].get_xdata()) == [0, 1]
    assert clear[0].get_color() == plots.COLOURS[0] != pale[0].get_color() and "Holm" in clear.get_label()


def test_accuracy_without_rows_or_matches():
    """A test without rows has no panel; rows that never retrieve are at 0."""
    figure = plots.accuracy({"mixture": results(3, 0.0, 0.0), "single": pd.DataFrame()}, "title")
    drawn(figure)
    assert len(figure.axes) == 1 and "mix" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize("experiments", [1, 16])
def test_by_slice(experiments):
    """A row has a colour and a marker in all slices, inside the band of its slice; the first slice on top."""
    part = slices(experiments)
    figure = plots.by_slice(part, str.upper, "title")
    drawn(figure)
    assert names(figure.axes[0], "y") == list(part.value.unique())
    for axis, k in zip(figure.axes, ("top1", "top5"), strict=True):
        ticks = np.array(axis.get_yticks())
        assert list(ticks) == [2, 1, 0] and len(axis.containers) == experiments
        heights = np.array([y for _, y in points(axis)])  # (experiments, slices)
        assert (np.abs(heights - ticks) < 0.45).all() and (np.diff(heights, axis=0) < 0).all()
        for (name, rows), (x, _), container in zip(part.groupby("experiment", sort=False), points(axis), axis.containers, strict=True):
            np.testing.assert_allclose(x, rows[k])
            np.testing.assert_allclose(ends(container), rows[[f"{k}_low", f"{k}_high"]])
            assert container.get_label() == name.upper()
    assert len(figure.legends[0].get_texts()) == experiments


def test_missing_slices_stay_empty():
    part = slices(3)
    part.loc[4, [c for c in part if c.startswith("top")]] = np.nan
    figure = plots.by_slice(part.drop(index=[2, 7]), str, "title")
    drawn(figure)
    expected = part.top1.to_numpy().reshape(3, 3).copy()
    expected[0, 2] = expected[2, 1] = np.nan
    np.testing.assert_allclose(np.array([x for x, _ in points(figure.axes[0])]), expected)
    drawn(plots.by_slice(slices(1, ["near half"]), str, "title"))


def test_confusion():
    """Percent of each true family; cells under half a percent are blank; a family without sounds divides by nothing."""
    counts = pd.DataFrame([[3, 1, 0], [0, 0, 0], [1, 0, 999]], index=list("abc"), columns=list("xyz"))
    figure = plots.confusion(counts, "title", "predicted family")
    drawn(figure)
    (axis,) = figure.axes
    np.testing.assert_allclose(axis.images[0].get_array().filled(-1), [[75, 25, 0], [0, 0, 0], [0.1, 0, 99.9]])
    assert axis.images[0].get_clim() == (0, 100)
    assert {t.get_position(): t.get_text() for t in axis.texts} == {(0, 0): "75", (1, 0): "25", (2, 2): "100"}, "(predicted, true)"
    assert names(axis, "y") == ["a (4)", "b (0)", "c (1000)"] and names(axis, "x") == ["x", "y", "z"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted family", "true family")
    drawn(plots.confusion(pd.DataFrame([[7]], index=["Bass"], columns=["Bass"]), "title"))


def test_ranks_are_counted_from_one():
    figure = plots.rank_boxes({"a": np.zeros(5), "b": np.array([0, 3, 0.5, 9])}, "title")
    drawn(figure)
    medians = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == plots.COLOURS[1]]
    assert medians == [1.0, 1 + (0.5 + 3) / 2]


def test_training_curves_of_16_rows():
    history = pd.DataFrame({"step": [0, 10, 20], "loss": [4.0, 2.0, np.nan], "valid_top1": [np.nan, 0.2, 0.5]})
    figure = plots.training_curves({f"row {i}": history for i in range(16)}, "title")
    drawn(figure)
    for axis, expected in zip(figure.axes, ([[0, 1], [10, 0.5]], [[10, 20], [20, 50]]), strict=True):
        for line in axis.lines:
            np.testing.assert_allclose(line.get_xydata(), expected)
    for axis in figure.axes:
        assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == 16


def test_curves_are_means_over_seeds_on_the_fastest_device():
    rows = pd.DataFrame({"step": [10, 20, 10, 20], "minutes": [1.0, 2.0, 3.0, 4.0], "top1": [0.2, 0.4, 0.4, 0.8], "seed": [0, 0, 1, 1]})
    fast, slow = rows.assign(device="fast"), rows.assign(device="slow", minutes=9 * rows.minutes)
    figure = plots.race_curves({"fast": fast, "both": pd.concat([fast, slow]), "slow": slow}, "title")
    drawn(figure)
    for line in figure.axes[0].lines:
        np.testing.assert_allclose(line.get_xydata(), [[10, 30], [20, 60]])
    minutes = [line.get_xydata() for line in figure.axes[1].lines]
    np.testing.assert_allclose(minutes[:2], [[[2, 30], [3, 60]]] * 2)
    assert len(minutes[2]) == 0 and "fast" in figure.axes[1].get_xlabel()


@pytest.mark.parametrize("make", [lambda: plots.accuracy({"single": results(3)}, "title"), lambda: plots.by_slice(slices(2), str, "title")])
def test_saved_figures_are_reproducible(tmp_path, make):
    for folder in ("a", "b"):
        plots.save(make(), tmp_path / folder, "figure")
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"figure.svg", "figure.png"}
    for name in ("figure.svg", "figure.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"title" in (tmp_path / "a" / "figure.svg").read_bytes() and (tmp_path / "a" / "figure.png").read_bytes()[1:4] == b"PNG"
