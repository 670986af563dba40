"""Extreme embeddings: ranks and scores are finite, or there is a clear refusal."""

import numpy as np
import pandas as pd
from awful import done_or_refused, examples, finite, vectors
from hypothesis import given
from hypothesis import strategies as st

from cirlib.evaluation import classifiers, open_mixtures, ranking, space


@examples(80)
@given(st.data(), st.integers(0, 6), st.integers(0, 6), st.sampled_from(ranking.METRICS))
def test_ranks_are_finite_or_refused(data, count, size, metric):
    queries, gallery = data.draw(vectors(count)), data.draw(vectors(size))
    rng, good = np.random.default_rng(0), finite(queries, gallery)
    truth, groups = rng.integers(max(size, 1), size=count), data.draw(st.sampled_from([None, [str(i % 2) for i in range(size)]]))
    near = done_or_refused(lambda: ranking.nearest(queries, gallery, 2, metric=metric))
    far = done_or_refused(lambda: ranking.distances(queries, gallery, metric))
    rank = done_or_refused(lambda: ranking.ranks(queries, gallery, truth, groups=groups, metric=metric))
    assert (near is None) == (far is None) == (not good) and (good or rank is None)
    if good:
        assert finite(far) and (near < max(size, 1)).all() and (rank is not None or not size)
    if rank is not None:
        assert finite(rank) and ((rank >= 0) & (rank < max(size, 1))).all()


@examples(40)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 3.0, 1e6]), st.sampled_from("ab"), st.sampled_from(["x", "y", "z"])), max_size=6))
def test_accuracies_are_shares_or_refused(rows):
    table = pd.DataFrame(rows, columns=["rank", "family", "instrument"])
    for by in (None, "family"):
        got = done_or_refused(lambda: ranking.summary(table, by=by, draws=20))  # noqa: B023
        assert (got is None) == (not rows)
        if got:
            assert finite(*got.values()) and all(0 <= got[k] <= 1 for k in ("top1", "top5", "mrr"))
    assert (done_or_refused(lambda: ranking.top_k(table["rank"], 1)) is None) == (not rows)
    assert (done_or_refused(lambda: ranking.chance({f: 1 for f in table.family}, 1)) is None) == (not rows)


@examples(30)
@given(st.data(), st.integers(0, 5))
def test_classifier_scores_are_finite_or_refused(data, count):
    names = ["a", "b", "c"]
    logits, classes = data.draw(vectors(count)), np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)), int)
    for loss, truth in (("instrument", classes), ("family", classes), ("tags", np.eye(3, dtype=int)[classes])):
        got = done_or_refused(lambda: classifiers.metrics(loss, logits, truth, names))  # noqa: B023
        assert (got is None) == (not count or not finite(logits))
        assert got is None or finite(*got.values())


@examples(20)
@given(st.data(), st.integers(1, 30))
def test_presence_is_finite_or_refused(data, count):
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=2 * count, max_size=2 * count))).reshape(count, 2)
    x = data.draw(vectors(count, bad=False))
    model = done_or_refused(lambda: open_mixtures.Presence.fit(["Bass", "Piano"], (x, truth), (x, truth)))
    if model:
        probability = model(x)
        assert finite(probability) and finite(*open_mixtures.presence_summary(probability, truth, draws=20).values())


@examples(30)
@given(st.data(), st.integers(1, 8))
def test_measures_of_a_space_are_finite_or_refused(data, count):
    x = data.draw(vectors(count, bad=False))
    groups = [str(i // 2) for i in range(count)]
    near = done_or_refused(lambda: space.neighbours(x, 3))
    if near is not None:
        report = done_or_refused(lambda: space.purity_report(near, groups))
        assert report is None or finite(report["same"], report["chance"])
    assert finite(*done_or_refused(lambda: space.interval(x[:, 0].astype(float), groups, draws=20)).values())
    done_or_refused(lambda: space.probe(x, range(count), groups))


def test_empty_galleries_have_no_distances():
    for metric in ranking.METRICS:
        assert ranking.distances(np.ones((2, 3)), np.ones((0, 3)), metric).shape == (2, 0)
        assert ranking.nearest(np.ones((2, 3)), np.ones((0, 3)), 1, metric=metric).shape == (2, 0)
