"""Figures of 03_retrieve: true items are marked where they are, shares add up, log-mels show frequencies at their place."""

import numpy as np
import pytest
from conftest import drawn, tone

from cirlib.reporting import plots_retrieval as plots

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("figure_style")]


@pytest.mark.parametrize("items", [1, 2, 40])
def test_heat_map_marks_true_items_and_first_matches(items):
    """Rows and columns are sorted, marks move with them; queries are in the order of their true items."""
    similarity, true = np.random.default_rng(0).random((10, items)), np.arange(10) % items
    similarity[:4, true[:4]] += np.eye(4) if items > 3 else 0
    figure = plots.heat_maps({"Bass": (similarity, true)}, "title", "cosine similarity")
    drawn(figure)
    axis = figure.axes[0]
    shown, (marked, first) = axis.images[0].get_array(), [line.get_xdata() for line in axis.lines]
    expected = sorted(similarity[np.arange(10), true])
    np.testing.assert_allclose(sorted(shown[np.arange(10), marked]), expected)
    np.testing.assert_allclose(shown[np.arange(10), first], shown.max(axis=1))
    assert (np.diff(marked) >= 0).all() and f"correct in {(similarity.argmax(axis=1) == true).mean():.0%}" in axis.get_title("left")


def test_similar_items_are_side_by_side():
    """Items 0, 2 and 4 look alike, and so do 1, 3 and 5."""
    similarity = np.random.default_rng(0).random((8, 2))[:, [0, 1] * 3]
    order = plots._side_by_side(similarity) % 2
    assert np.count_nonzero(np.diff(order)) == 1


def test_rank_histogram_shows_shares_of_queries():
    ranks = np.array([0, 0, 0.5, 1, 4, 9, 30])
    figure = plots.rank_histogram({"mixtures": ranks, "single": np.zeros(3)}, {"mixtures": 31, "single": 2}, "title")
    drawn(figure)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(np.array(heights) * 7 / 100, [3, 1, 0, 1, 1, 0, 1])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["1", "2", "3", "4 to 5", "6 to 10", "11 to 20", "21 to 31"]
    assert figure.axes[0].lines[0].get_ydata().sum() == pytest.approx(100)


def test_accuracy_of_each_slice_with_its_interval():
    scores = {"top1": 0.4, "top1_ci": [0.3, 0.6], "top5": 0.8, "top5_ci": [0.7, 0.9], "queries": 1200}
    figure = plots.accuracy_by({"families": {"Bass": scores, "Piano": scores}, "pitch": {"0": scores}}, "title")
    drawn(figure)
    families, pitch = figure.axes
    assert [text.get_text() for text in families.get_yticklabels()] == ["Bass (1,200)", "Piano (1,200)"] and len(pitch.containers) == 2
    bars = families.containers[0]
    assert [*bars[0].get_xdata()] == [40, 40] and [*bars[2][0].get_segments()[0][:, 0]] == pytest.approx([30, 60])


def test_log_mel_shows_a_tone_at_its_frequency():
    figure = plots.log_mels([[("tone", tone(69, 0.5).astype(np.float32)), ("silence", np.zeros(400, np.float32))]], "title")
    drawn(figure)
    picture = figure.axes[0].images[0].get_array()
    assert picture.max() == 0 and picture.mean(axis=1).argmax() == pytest.approx(plots._band(0.44), abs=1)
    assert plots._band(0.02) == -1 and plots._band(8) == plots.BANDS
