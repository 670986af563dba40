"""Figures of an embedding space draw what space.json holds, without warnings, the same bytes each time."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import drawn

from cirlib.evaluation import space
from cirlib.reporting import plots, plots_space

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("figure_style")]


def legend(axis) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def points(stems: int = 8, mixtures: int = 4, effects: int = 3) -> pd.DataFrame:
    """A map of 20 reference notes, stems and mixtures, as 04_embedding_space writes it."""
    count = 20 + stems + mixtures
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(count, 2)), columns=["x", "y"])
    table["what"] = ["reference note"] * 20 + ["stem"] * stems + ["mixture"] * mixtures
    table["family"] = [*["Bass", "Synth Lead"] * ((20 + stems) // 2), *[None] * mixtures]
    table["effects"] = [*[f"effect {i % effects}" for i in range(20)], *[None] * (stems + mixtures)]
    table["pitch"] = [*np.arange(40.0, 59), np.nan, *[np.nan] * (stems + mixtures)]
    return table


def placed(axis) -> int:
    """Points of a panel."""
    return sum(len(collection.get_offsets()) for collection in axis.collections)


def test_map_views():
    """Every point in every panel, but notes without a pitch in that of pitch."""
    figure = plots_space.map_views(points(), {"family": "F", "effects": "E", "pitch": "P"}, "title")
    drawn(figure)
    family, effects, pitch, empty = figure.axes[:4]
    assert [axis.get_title(loc="left") for axis in (family, effects, pitch)] == ["F", "E", "P"] and not empty.get_visible()
    assert legend(family) == ["Bass", "Synth Lead", "stem, colour of its family", "mixture"]
    assert legend(effects) == ["effect 0 (7)", "effect 1 (7)", "effect 2 (6)"]
    assert [placed(axis) for axis in (family, effects, pitch)] == [32, 32, 31]
    np.testing.assert_array_equal(pitch.collections[1].get_array(), np.arange(40, 59))


def test_map_of_rare_labels_and_without_stems():
    figure = plots_space.map_views(points(effects=20, stems=0), {"effects": "E", "family": "F"}, "title")
    drawn(figure)
    names = legend(figure.axes[0])
    assert len(names) == plots_space.LABELS_SHOWN and "other (14)" in names
    assert "stem, colour of its family" not in legend(figure.axes[1]) and placed(figure.axes[1]) == 24


def test_lines_lead_from_mixtures_to_their_instruments():
    table = points(mixtures=4).assign(name=[f"note {i}" for i in range(32)])
    table["query"] = [*[np.nan] * 28, 0, 1, 2, 3]
    lines = pd.DataFrame({"query": [1, 1, 3], "family": ["Bass", "Synth Lead", "Bass"], "name": ["note 0", "note 5", "note 2"]})
    figure = plots_space.mixture_lines(table, lines, "title")
    drawn(figure)
    drawn_lines = {tuple(map(tuple, line.get_xydata())) for line in figure.axes[0].lines[:-1]}
    ends = [(tuple(table.loc[28 + query, ["x", "y"]]), tuple(table.loc[note, ["x", "y"]])) for query, note in ((1, 0), (1, 5), (3, 2))]
    assert drawn_lines == {*ends} and placed(figure.axes[0]) == 20 + 3 and len(figure.axes[0].lines[-1].get_xdata()) == 2


def compared(mean: float) -> dict:
    """One of the comparisons of space.json."""
    families = {name: {"mean": mean, "low": mean - 0.1, "high": mean + 0.05} for name in ("Bass", "Synth Lead")}
    return {"edges": [0.0, 0.5, 1.0], "own": [1.5, 0.5], "other": [0.5, 1.5], "families": families}


@pytest.mark.parametrize("names", [("references",), ("references", "stems")])
def test_mixture_distances(names):
    """A panel for each comparison, stems first, and shares in percent by family."""
    means = {"references": 0.8, "stems": 0.9}
    figure = plots_space.mixture_distances({"metric": "cosine", **{name: compared(means[name]) for name in names}}, "title")
    drawn(figure)
    assert len(figure.axes) == len(names) + 1
    assert "stems" in figure.axes[0].get_title(loc="left") or len(names) == 1
    shares = figure.axes[-1]
    assert [label.get_text() for label in shares.get_yticklabels()] == ["Bass", "Synth Lead"]
    found = [container[0].get_data(orig=False)[0] for container in shares.containers]
    np.testing.assert_allclose(found, [[100 * means[name]] * 2 for name in sorted(names, reverse=True)])
    ends = np.array([segment[:, 0] for segment in shares.containers[-1][2][0].get_segments()])
    np.testing.assert_allclose(ends, [[70, 85]] * 2)


def test_hubs():
    """Items by how often they are found, 0 among them; counts under a half are no point."""
    near = np.array([[0, 1], [0, 2], [0, 1], [0, 3]])
    report = space.hub_report(near, list("abcdef"))
    figure = plots_space.hubs({"mixtures": report, "single sounds": report}, "title")
    drawn(figure)
    for axis, name in zip(figure.axes, ("mixtures", "single sounds"), strict=True):
        ours, random = axis.lines
        np.testing.assert_allclose(ours.get_xydata(), [[1, 2], [2, 2], [3, 1], [5, 1]])  # found 0, 1, 2 and 4 times
        assert random.get_ydata().min() >= 0.5
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1", "3"]
        assert axis.get_title(loc="left").startswith(f"4 {name}: skewness 0.9, random 0.0")


def test_purity_of_all_and_of_each_family():
    families = {"Bass": {"same": 0.9, "chance": 0.5, "items": 6}, "Reed": {"same": 0.1, "chance": 0.1, "items": 2}}
    reports = {"family": {"same": 0.7, "chance": 0.3, "labels": families}, "split": {"same": 0.5, "chance": 0.5, "labels": {}}}
    figure = plots_space.purity(reports, 10, "title")
    drawn(figure)
    names = [[label.get_text() for label in axis.get_yticklabels()] for axis in figure.axes]
    assert names == [["Reed (2)", "Bass (6)"], ["split", "family"]], "the purest on top"
    for axis, same, chance in zip(figure.axes, ([10, 90], [50, 70]), ([10, 50], [50, 30]), strict=True):
        np.testing.assert_allclose([line.get_xdata() for line in axis.lines], [same, chance])


def test_probes():
    """The first on top; a stroke for each fold."""
    one = {"r2": 0.5, "low": 0.3, "high": 0.7, "folds": [0.4, 0.6]}
    other = {"r2": -0.2, "low": -0.4, "high": 0.0, "folds": [-0.1, -0.3, -0.2]}
    stored = [{"name": name, "by": {"embedding": one, "family alone": other}} for name in ("pitch", "velocity")]
    figure = plots_space.probes(stored, "title")
    drawn(figure)
    (axis,) = figure.axes
    heights = dict(zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    assert heights == {"pitch": 1, "velocity": 0}
    named = {line.get_label(): line.get_xdata() for line in axis.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(named["embedding"], [0.5, 0.5])
    np.testing.assert_allclose(named["family alone"], [-0.2, -0.2])
    assert sum(len(line.get_xdata()) for line in axis.lines if line.get_marker() == "|") == 10


def test_effects():
    """Boxes in the order of the file, from the top; what is compared is grey."""
    boxes = [
        {"name": name, "quantiles": [0.1 * i, 0.2, 0.3, 0.4, 0.9], "count": 5 + i, "compared": i > 1}
        for i, name in enumerate(("all off", "reverb off", "another note"))
    ]
    figure = plots_space.effects({"boxes": boxes, "metric": "l2"}, "title")
    drawn(figure)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all off (5)", "reverb off (6)", "another note (7)"]
    assert axis.yaxis_inverted() and "l2" in axis.get_xlabel()
    faces = [patch.get_facecolor()[:3] for patch in axis.patches]
    assert faces[0] == faces[1] == mpl.colors.to_rgb(plots_space.OWN) and faces[2] == mpl.colors.to_rgb(plots_space.CHANCE)


def test_curves_and_an_empty_one():
    first = {"from": 0, "to": 1, "low": 0.1, "median": 0.2, "high": 0.3, "notes": 12}
    bins = [first, {"from": 1, "to": 4, "low": 0.2, "median": 0.4, "high": 0.6, "notes": 10}]
    stored = {"curves": {"interval": bins, "louder": []}, "lines": {"nearest": 0.5, "random": 0.9}, "metric": "l2"}
    figure = plots_space.curves(stored, "title")
    drawn(figure)
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[0, 0.2], [2, 0.4]])
    assert [line.get_ydata()[0] for line in left.lines[1:]] == [0.5, 0.9]
    assert [text.get_text() for text in right.texts] == ["too few notes"] and not left.texts


def test_saved_twice_is_the_same_bytes(tmp_path):
    """Rasterised points too."""
    for folder in ("a", "b"):
        plots.save(plots_space.map_views(points(), {"family": "F", "pitch": "P"}, "title"), tmp_path / folder, "map")
    for name in ("map.svg", "map.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
