"""Losses of extreme embeddings: a finite value and finite gradients, or a clear refusal."""

import numpy as np
import pytest
import torch
from awful import done_or_refused, examples, finite, vectors
from hypothesis import given
from hypothesis import strategies as st

from cirlib.training import losses


def with_gradient(loss, *arrays):
    """Return the loss and its gradients for these arrays."""
    tensors = [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in arrays]
    value = loss(*tensors)
    value.backward()
    return value.detach().numpy(), *(t.grad.numpy() for t in tensors)


@examples(60)
@given(st.data(), st.integers(0, 4), st.integers(1, 3))
def test_losses_and_gradients_are_finite_or_refused(data, mixtures, stems):
    def drawn(count):
        return np.clip(data.draw(vectors(count, bad=False)), -1e9, 1e9)

    m, s, other = drawn(mixtures), drawn(mixtures * stems).reshape(mixtures, stems, 3), drawn(mixtures)
    families = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=mixtures * stems, max_size=mixtures * stems)))
    for labels in (None, families.reshape(mixtures, stems)):
        for name in losses.MIXTURE_LOSSES:
            got = done_or_refused(lambda: with_gradient(lambda *x: losses.mixture_loss(name, *x, labels), s, m))  # noqa: B023
            assert got is None or finite(*got), name
            assert got is not None or mixtures < 2, name
    for name in losses.PAIR_LOSSES:
        got = done_or_refused(lambda: with_gradient(lambda *x: losses.pair_loss(name, *x), m, other))  # noqa: B023
        assert got is None or finite(*got), name
        assert got is not None or mixtures < 2, name


@examples(40)
@given(st.data(), st.integers(2, 4), st.integers(1, 3))
def test_family_loss_and_its_gradients_are_finite(data, count, families):
    """With few instruments, so that some mixtures have no negatives."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    members = torch.tensor(rng.integers(data.draw(st.integers(1, 3)), size=(count, families)) * families + np.arange(families))
    instruments = members.unique().repeat(2)
    notes, mixtures = data.draw(vectors(len(instruments), bad=False)), data.draw(vectors(count * families, bad=False))
    notes, mixtures = np.clip(notes, -1e9, 1e9), np.clip(mixtures, -1e9, 1e9).reshape(count, families, 3)
    loss = lambda r, m: losses.family_infonce(r, instruments % families, instruments, m, members=members)  # noqa: E731
    assert finite(*with_gradient(loss, notes, mixtures))


def test_triplets_without_negatives_are_refused():
    """Their mean would be NaN."""
    one = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="this loss needs 2 or more pairs in a batch, got 1: use a larger batch_size"):
        losses.pair_loss("triplet", one, one)
    with pytest.raises(ValueError, match="this loss needs 2 or more mixtures in a batch, got 1: use a larger batch_size"):
        losses.mixture_loss("triplet-full", one[None], one)
    with pytest.raises(ValueError, match="this loss needs 1 or more pairs in a batch, got 0: use a larger batch_size"):
        losses.pair_loss("infonce", one[:0], one[:0])
    assert losses.mixture_loss("infonce", one[None], one) == 0, "one instrument and no negatives"
    assert torch.isfinite(losses.mixture_loss("triplet-full", torch.eye(3)[None], one)), "stems of other families are negatives"
