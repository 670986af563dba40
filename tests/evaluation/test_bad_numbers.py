"""Degenerate embeddings through retrieval, losses and scores: finite numbers, or a sentence that says what is wrong."""

import numpy as np
import pandas as pd
import pytest
import torch
from awful import done_or_refused, examples, finite
from hypothesis import given
from hypothesis import strategies as st

from cirlib.evaluation import classifiers as classification
from cirlib.evaluation import open_mixtures, space
from cirlib.evaluation import ranking as retrieval
from cirlib.training import losses

LEVELS = [0.0, 1e-45, 1e-30, 1e-12, 1e-3, 1.0, 1e6, 1e19, 3e38]


@st.composite
def vectors(draw, count: int, dim: int = 3, bad: bool = True) -> np.ndarray:
    """(count, dim) float32 of odd levels, with ties, copies, zeros and, on demand, NaN."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    out = rng.normal(size=(count, dim)) if draw(st.booleans()) else rng.integers(-1, 2, (count, dim)).astype(float)
    out = out * draw(st.sampled_from(LEVELS)) + draw(st.sampled_from([0.0, 0.0, 1.0, 1e6]))
    if count and draw(st.booleans()):
        out[rng.integers(count)] = draw(st.sampled_from([0.0, 1.0, 1e-40] + [np.nan, np.inf] * bad))
    if count and draw(st.booleans()):
        out[:] = out[rng.integers(count, size=count)]
    with np.errstate(over="ignore"):
        return np.clip(out, -3e38, 3e38).astype(draw(st.sampled_from(["float32", "float64"])))


@examples(80)
@given(st.data(), st.integers(0, 6), st.integers(0, 6), st.sampled_from(retrieval.METRICS))
def test_ranks_are_finite_or_refused(data, count, size, metric):
    queries, gallery = data.draw(vectors(count)), data.draw(vectors(size))
    rng, good = np.random.default_rng(0), finite(queries, gallery)
    truth, groups = rng.integers(max(size, 1), size=count), data.draw(st.sampled_from([None, [str(i % 2) for i in range(size)]]))
    near = done_or_refused(lambda: retrieval.nearest(queries, gallery, 2, metric))
    far = done_or_refused(lambda: retrieval.distances(queries, gallery, metric))
    rank = done_or_refused(lambda: retrieval.ranks(queries, gallery, truth, groups, metric))
    assert (near is None) == (far is None) == (not good) and (good or rank is None)
    if good:
        assert finite(far) and (near < max(size, 1)).all() and (rank is not None or not size)
    if rank is not None:
        assert finite(rank) and ((rank >= 0) & (rank < max(size, 1))).all()


@examples(40)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 3.0, 1e6]), st.sampled_from("ab"), st.sampled_from(["x", "y", "z"])), max_size=6))
def test_accuracy_and_its_interval_are_shares_or_refused(rows):
    table = pd.DataFrame(rows, columns=["rank", "family", "instrument"])
    for by in (None, "family"):
        found = done_or_refused(lambda: retrieval.summary(table, by, draws=20))  # noqa: B023
        assert (found is None) == (not rows)
        if found:
            assert finite(*found.values()) and all(0 <= found[k] <= 1 for k in ("top1", "top5", "mrr"))
    assert (done_or_refused(lambda: retrieval.top_k(table["rank"], 1)) is None) == (not rows)
    assert (done_or_refused(lambda: retrieval.chance({f: 1 for f in table.family}, 1)) is None) == (not rows)


def with_gradient(loss, *arrays):
    """Loss and gradients of tensors of these arrays."""
    tensors = [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in arrays]
    value = loss(*tensors)
    value.backward()
    return value.detach().numpy(), *(t.grad.numpy() for t in tensors)


@examples(60)
@given(st.data(), st.integers(0, 4), st.integers(1, 3))
def test_losses_and_their_gradients_are_finite_or_refused(data, mixtures, stems):
    def drawn(count):
        return np.clip(data.draw(vectors(count, bad=False)), -1e9, 1e9)

    m, s, other = drawn(mixtures), drawn(mixtures * stems).reshape(mixtures, stems, 3), drawn(mixtures)
    families = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=mixtures * stems, max_size=mixtures * stems)))
    for labels in (None, families.reshape(mixtures, stems)):
        for name in losses.MIXTURE_LOSSES:
            found = done_or_refused(lambda: with_gradient(lambda *x: losses.mixture_loss(name, *x, labels), s, m))  # noqa: B023
            assert found is None or finite(*found), name
            assert found is not None or mixtures < 2, name
    for name in losses.PAIR_LOSSES:
        found = done_or_refused(lambda: with_gradient(lambda *x: losses.pair_loss(name, *x), m, other))  # noqa: B023
        assert found is None or finite(*found), name
        assert found is not None or mixtures < 2, name


@examples(40)
@given(st.data(), st.integers(2, 4), st.integers(1, 3))
def test_the_loss_of_parts_and_its_gradients_are_finite(data, count, families):
    """Each mixture plays one instrument of each family; few instruments, so that some mixtures have no negatives."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    members = torch.tensor(rng.integers(data.draw(st.integers(1, 3)), size=(count, families)) * families + np.arange(families))
    instruments = members.unique().repeat(2)
    notes, mixtures = data.draw(vectors(len(instruments), bad=False)), data.draw(vectors(count * families, bad=False))
    notes, mixtures = np.clip(notes, -1e9, 1e9), np.clip(mixtures, -1e9, 1e9).reshape(count, families, 3)
    assert finite(*with_gradient(lambda r, m: losses.family_infonce(r, instruments % families, instruments, m, members), notes, mixtures))


@examples(30)
@given(st.data(), st.integers(0, 5))
def test_scores_of_a_classifier_are_finite_or_refused(data, count):
    names = ["a", "b", "c"]
    logits, classes = data.draw(vectors(count)), np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)), int)
    for loss, truth in (("instrument", classes), ("family", classes), ("tags", np.eye(3, dtype=int)[classes])):
        found = done_or_refused(lambda: classification.metrics(loss, logits, truth, names))  # noqa: B023
        assert (found is None) == (not count or not finite(logits))
        assert found is None or finite(*(v for v in found.values()))


@examples(20)
@given(st.data(), st.integers(1, 30))
def test_presence_is_finite_or_refused(data, count):
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=2 * count, max_size=2 * count))).reshape(count, 2)
    x = data.draw(vectors(count, bad=False))
    model = done_or_refused(lambda: open_mixtures.Presence.fit(["Bass", "Piano"], (x, truth), (x, truth)))
    if model:
        told = model(x)
        assert finite(told) and finite(*(v for v in open_mixtures.presence_summary(told, truth, draws=20).values()))


@examples(30)
@given(st.data(), st.integers(1, 8))
def test_what_is_told_of_a_space_is_finite_or_refused(data, count):
    x = data.draw(vectors(count, bad=False))
    groups = [str(i // 2) for i in range(count)]
    near = done_or_refused(lambda: space.neighbours(x, 3))
    if near is not None:
        report = done_or_refused(lambda: space.purity_report(near, groups))
        assert report is None or finite(report["same"], report["chance"])
    found = done_or_refused(lambda: space.interval(x[:, 0].astype(float), groups, draws=20))
    assert finite(*found.values())
    done_or_refused(lambda: space.probe(x, range(count), groups))


# One by one


def test_nothing_to_rank_is_told():
    nothing = pd.DataFrame({"rank": [], "family": [], "instrument": []})
    for act in (lambda: retrieval.summary(nothing), lambda: retrieval.top_k([], 1), lambda: retrieval.chance({}, 1)):
        with pytest.raises(ValueError, match="nothing was ranked: accuracy needs one query and one item at least"):
            act()
    for metric in retrieval.METRICS:
        assert retrieval.distances(np.ones((2, 3)), np.ones((0, 3)), metric).shape == (2, 0)
        assert retrieval.nearest(np.ones((2, 3)), np.ones((0, 3)), 1, metric).shape == (2, 0)
    with pytest.raises(ValueError, match="embeddings hold NaN or infinite values"):
        retrieval.distances(np.full((1, 2), np.nan), np.ones((1, 2)))


def test_triplets_without_negatives_are_refused():
    """Their mean is NaN, and training would be told to lower its learning rate."""
    one = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="this loss needs 2 or more pairs in a batch, got 1: use more clips"):
        losses.pair_loss("triplet", one, one)
    with pytest.raises(ValueError, match="this loss needs 2 or more mixtures in a batch, got 1: use more clips"):
        losses.mixture_loss("triplet-full", one[None], one)
    with pytest.raises(ValueError, match="this loss needs 1 or more pairs in a batch, got 0: use more clips"):
        losses.pair_loss("infonce", one[:0], one[:0])
    assert losses.mixture_loss("infonce", one[None], one) == 0, "of one instrument each: nothing to tell it from"
    assert torch.isfinite(losses.mixture_loss("triplet-full", torch.eye(3)[None], one)), "stems of other families are negatives"


def test_one_vector_has_no_neighbours():
    with pytest.raises(ValueError, match="neighbours need two vectors or more, got 1"):
        space.neighbours(np.ones((1, 3)), 1)
