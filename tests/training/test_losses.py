"""Every loss equals a plain loop over its equation, value and gradient."""

import pytest
import torch

from cirlib.training.config import TrainConfig
from cirlib.training.losses import LOSSES, MIXTURE_LOSSES, PAIR_LOSSES, class_loss, cosine_loss, family_infonce, mixture_loss, pair_loss

SHAPES = [(2, 1, 3, 0.1), (4, 1, 6, 0.1), (1, 3, 4, 0.05), (2, 2, 5, 0.1), (3, 4, 2, 1.0), (6, 3, 8, 0.1)]  # M, S, D, temperature
MARGIN, EPS = 1.0, 1e-6


def d(a, b):
    """Distance of torch.nn.functional.triplet_margin_loss, its eps included."""
    return ((a - b + EPS) ** 2).sum().sqrt()


def c(a, b, temperature):
    return (a @ b) / (a.norm() * b.norm()) / temperature


def cross_entropy(logits, target):
    return torch.logsumexp(torch.stack(logits), 0) - logits[target]


def mean(values):
    return sum(values) / len(values)


def hinge(anchor, positive, negative):
    return (d(anchor, positive) - d(anchor, negative) + MARGIN).clamp_min(0)


def loop_pair_triplet(a, p, temperature):
    """Pairs (a_i, p_i); negatives: the 2 (N - 1) embeddings of other pairs."""
    n = range(len(a))
    return mean([hinge(a[i], p[i], x[j]) for i in n for j in n if j != i for x in (a, p)])


def loop_pair_infonce(a, p, temperature):
    """Symmetric cross-entropy of cosine / temperature, mean of both directions."""
    n = range(len(a))
    there = [cross_entropy([c(a[i], p[j], temperature) for j in n], i) for i in n]
    back = [cross_entropy([c(a[j], p[i], temperature) for j in n], i) for i in n]
    return (mean(there) + mean(back)) / 2


def triplets(stems, mixtures):
    """(anchor mixture, positive stem, negative): other stems of the mixture, all stems and mixtures of other groups."""
    out = []
    groups, parts = range(len(stems)), range(stems.shape[1])
    for m in groups:
        for s in parts:
            for other in groups:
                out += [(mixtures[m], stems[m, s], stems[other, k]) for k in parts if (other, k) != (m, s)]
                out += [(mixtures[m], stems[m, s], mixtures[other])] if other != m else []
    return out


def loop_triplet(stems, mixtures, labels, temperature):
    return mean([hinge(*t) for t in triplets(stems, mixtures)])


def loop_triplet_full(stems, mixtures, labels, temperature):
    """The same triplets and those with anchor and positive swapped, one mean over both."""
    found = triplets(stems, mixtures)
    return mean([hinge(a, p, n) for a, p, n in found] + [hinge(p, a, n) for a, p, n in found])


def loop_infonce(stems, mixtures, labels, temperature):
    """Each stem is classified among the M mixtures."""
    groups = range(len(stems))
    return mean([cross_entropy([c(x, m, temperature) for m in mixtures], g) for g in groups for x in stems[g]])


def all_tracks(stems, mixtures):
    """Every track with (group, is it a mixture): stems first."""
    tracks = [(x, g, False) for g in range(len(stems)) for x in stems[g]]
    return tracks + [(x, g, True) for g, x in enumerate(mixtures)]


def full_rows(stems, mixtures, temperature):
    """Rows of all tracks against all, the diagonal overwritten with 0, and the positives of each row."""
    tracks = all_tracks(stems, mixtures)
    for i, (x, group, whole) in enumerate(tracks):
        logits = [x.new_zeros(()) if j == i else c(x, y, temperature) for j, (y, _, _) in enumerate(tracks)]
        yield i, logits, [j for j, (_, g, w) in enumerate(tracks) if g == group and w != whole]


def loop_infonce_full(stems, mixtures, labels, temperature):
    """Targets (not normalised): identity + 1 at every (stem, own mixture) and (mixture, own stem)."""
    rows = full_rows(stems, mixtures, temperature)
    return mean([sum(cross_entropy(logits, j) for j in [i, *positives]) for i, logits, positives in rows])


def loop_infonce_full_asymmetric(stems, mixtures, labels, temperature):
    """Stem rows only, class = column of the own mixture."""
    rows = list(full_rows(stems, mixtures, temperature))[: stems.shape[0] * stems.shape[1]]
    return mean([cross_entropy(logits, positives[0]) for _, logits, positives in rows])


def loop_infonce_full_mended(stems, mixtures, labels, temperature):
    """No track is in its own denominator or its own target; the targets of a row sum to 1."""
    losses = []
    for i, logits, positives in full_rows(stems, mixtures, temperature):
        others = [x for j, x in enumerate(logits) if j != i]
        losses.append(mean([cross_entropy(others, j - (j > i)) for j in positives]))
    return mean(losses)


def loop_multi_infonce(stems, mixtures, labels, temperature):
    """Four cross-entropies between mixture g and each of its stems; its own other stems are never negatives."""
    groups, parts, losses = range(len(stems)), range(stems.shape[1]), [[], [], [], []]
    for g in groups:
        for s in parts:
            others = [(o, k) for o in groups for k in parts if o != g]
            kin = [(o, k) for o, k in others if labels[o][k] == labels[g][s]]
            mixtures_of_kin = [o for o in groups if labels[g][s] in labels[o]]
            for out, negatives in zip(losses, (kin, others), strict=False):
                logits = [c(mixtures[g], stems[o, k], temperature) for o, k in [(g, s), *negatives]]
                out.append(cross_entropy(logits, 0))
            losses[2].append(cross_entropy([c(stems[g, s], mixtures[o], temperature) for o in groups], g))
            logits = [c(stems[g, s], mixtures[o], temperature) for o in mixtures_of_kin]
            losses[3].append(cross_entropy(logits, mixtures_of_kin.index(g)))
    return mean([mean(x) for x in losses])


PAIR_LOOPS = {"triplet": loop_pair_triplet, "infonce": loop_pair_infonce}
MIXTURE_LOOPS = {
    "triplet": loop_triplet,
    "triplet-full": loop_triplet_full,
    "infonce": loop_infonce,
    "infonce-full": loop_infonce_full,
    "infonce-full-asymmetric": loop_infonce_full_asymmetric,
    "infonce-full-mended": loop_infonce_full_mended,
    "multi-infonce": loop_multi_infonce,
}


def embeddings(*shape, seed=0):
    """Random float64 embeddings whose triplets lie on both sides of the margin."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


def assert_same(loss, loop, inputs):
    """Both values, and the gradients with respect to every input, agree."""
    torch.testing.assert_close(loss, loop, rtol=1e-9, atol=1e-12)
    got, expected = (torch.autograd.grad(x, inputs) for x in (loss, loop))
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-10)


def test_every_loss_has_a_loop():
    assert PAIR_LOOPS.keys() == PAIR_LOSSES.keys()
    assert MIXTURE_LOOPS.keys() == MIXTURE_LOSSES.keys()


@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (9, 16)])
@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_pair_loss_equals_its_loop(name, shape):
    a, p = embeddings(*shape), embeddings(*shape, seed=1)
    with torch.device("meta"):  # new tensors must be on the device of the embeddings
        loss = pair_loss(name, a, p)
    assert_same(loss, PAIR_LOOPS[name](a, p, 0.1), (a, p))


def test_pair_triplet_equals_torch():
    """Against torch's own triplet loss, over all triplets written out."""
    a, p = embeddings(5, 4), embeddings(5, 4, seed=1)
    rows = [(a[i], p[i], x[j]) for i in range(5) for j in range(5) if j != i for x in (a, p)]
    expected = torch.nn.functional.triplet_margin_loss(*(torch.stack(x) for x in zip(*rows, strict=True)), margin=1.0)
    assert_same(pair_loss("triplet", a, p), expected, (a, p))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MIXTURE_LOSSES)
def test_mixture_loss_equals_its_loop(name, shape):
    m, s, dim, temperature = shape
    stems, mixtures = embeddings(m, s, dim), embeddings(m, dim, seed=1)
    loop = MIXTURE_LOOPS[name](stems, mixtures, [list(range(s))] * m, temperature)
    with torch.device("meta"):
        loss = mixture_loss(name, stems, mixtures, temperature=temperature)
    assert_same(loss, loop, (stems, mixtures))


LABELINGS = {
    "all alike": [[0, 0, 0]] * 4,
    "all different": [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]],
    "other order": [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]],
    "not all families": [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]],
    "a family twice in a mixture": [[0, 0, 1], [0, 1, 1], [2, 2, 2], [0, 1, 2]],
}


@pytest.mark.parametrize("labels", LABELINGS.values(), ids=LABELINGS)
@pytest.mark.parametrize("name", ["multi-infonce", "infonce"])
def test_families_of_the_stems(name, labels):
    """multi-infonce contrasts stems of one family, whatever their place; the other losses ignore families."""
    stems, mixtures = embeddings(4, 3, 5), embeddings(4, 5, seed=1)
    loop = MIXTURE_LOOPS[name](stems, mixtures, labels, 0.1)
    assert_same(mixture_loss(name, stems, mixtures, torch.tensor(labels)), loop, (stems, mixtures))


def test_distances_do_not_cancel_far_from_the_origin():
    stems, mixtures = (100 + 0.1 * torch.randn(size, generator=torch.Generator().manual_seed(0)) for size in ((20, 3, 8), (20, 8)))
    expected = mixture_loss("triplet-full", stems.double(), mixtures.double()).item()
    assert mixture_loss("triplet-full", stems, mixtures).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["triplet", "triplet-full"])
def test_triplets_hold_nothing_of_pairs_times_dimensions(name):
    """Gradient caching bounds the memory of the encoder; the loss of a large batch must not undo that."""
    stems, mixtures = (torch.randn(size, requires_grad=True) for size in ((20, 3, 500), (20, 500)))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        mixture_loss(name, stems, mixtures)
    assert max(sizes) <= 80 * 500


@pytest.mark.parametrize(("groups", "count"), [(6, 396), (12, 1656)])
def test_triplet_count(groups, count):
    """396 triplets for 6 mixtures of 3, 1,656 for 12 (twice that in the full loss): the denominator of the mean."""
    stems, mixtures = (x.detach() * 2 for x in (embeddings(groups, 3, 4), embeddings(groups, 4, seed=1)))
    found = triplets(stems, mixtures)
    assert len(found) == count
    total = sum(hinge(*t) for t in found)
    swapped = sum(hinge(p, a, n) for a, p, n in found)
    assert mixture_loss("triplet", stems, mixtures).item() == pytest.approx(total.item() / count)
    assert mixture_loss("triplet-full", stems, mixtures).item() == pytest.approx((total + swapped).item() / (2 * count))


@pytest.mark.parametrize("name", MIXTURE_LOSSES)
def test_finite_where_embeddings_collapse(name):
    """Equal embeddings, as a collapsed encoder gives them, have a finite loss and gradient."""
    stems, mixtures = torch.ones(3, 2, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    loss = mixture_loss(name, stems, mixtures)
    assert all(g.isfinite().all() for g in (loss, *torch.autograd.grad(loss, (stems, mixtures))))


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (pair_loss, ("tripelt", (2, 2), (2, 2)), r"loss 'tripelt' \(did you mean 'triplet'\?\); valid: triplet, infonce$"),
        (mixture_loss, ("no", (2, 2, 2), (2, 2)), "valid: " + ", ".join(MIXTURE_LOSSES)),
        (class_loss, ("famly", (2, 2), (2,)), r"'famly' \(did you mean 'family'\?\); valid: instrument, family, tags$"),
        *((pair_loss, ("triplet", *shapes), r"must both be \(N, D\)") for shapes in [((3, 4), (2, 4)), ((3, 2, 4), (3, 2, 4))]),
        *(
            (mixture_loss, ("triplet", stems, mixtures), r"stems must be \(M, S, D\) and mixtures \(M, D\)")
            for stems, mixtures in [((3, 2, 4), (2, 4)), ((3, 2, 4), (3, 5)), ((3, 2, 4), (3, 2, 4)), ((3, 4), (3, 4))]
        ),
    ],
)
def test_unknown_names_and_wrong_shapes(loss, arguments, message):
    name, *shapes = arguments
    with pytest.raises(ValueError, match=message):
        loss(name, *map(torch.ones, shapes))


# Classifiers and predicted embeddings


@pytest.mark.parametrize("shape", [(1, 2), (4, 3), (9, 13)], ids=str)
@pytest.mark.parametrize("name", ["instrument", "family"])
def test_class_loss_is_cross_entropy(name, shape):
    """Mean over sounds; the last class never occurs."""
    logits, targets = embeddings(*shape), torch.arange(shape[0]) % (shape[1] - 1)
    loop = mean([cross_entropy(list(row), t) for row, t in zip(logits, targets, strict=True)])
    assert_same(class_loss(name, logits, targets), loop, (logits,))


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_tag_loss_is_binary_cross_entropy(share):
    """-log of the probability of each bit as it is, mean over sounds and tags; targets are integers."""
    logits = embeddings(5, 7)
    targets = (torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) < share).long()
    p = 1 / (1 + torch.exp(-logits))
    loop = mean([-torch.log(p[i, j] if targets[i, j] else 1 - p[i, j]) for i in range(5) for j in range(7)])
    assert_same(class_loss("tags", logits, targets), loop, (logits,))


@pytest.mark.parametrize("shape", [(1, 3), (6, 4), (3, 2, 5)], ids=str)
def test_cosine_loss_equals_its_loop(shape):
    """1 - cosine of each vector with its own target, mean over all."""
    predicted, targets = embeddings(*shape), embeddings(*shape, seed=1)
    rows = zip(predicted.reshape(-1, shape[-1]), targets.reshape(-1, shape[-1]), strict=True)
    assert_same(cosine_loss(predicted, targets), mean([1 - c(p, t, 1.0) for p, t in rows]), (predicted, targets))


def test_losses_of_each_task():
    """No task takes another's."""
    for task, names in LOSSES.items():
        assert [TrainConfig(task=task, loss=name).loss for name in names] == list(names) != []
        with pytest.raises(ValueError, match=f"unknown {task} loss .*valid: {', '.join(names)}$"):
            TrainConfig(task=task, loss="family" if task != "classify" else "cosine")


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_family_infonce(repeats):
    """Against a loop: note r and a mixture m of its instrument, among the mixtures without it and among other notes of its family.

    `repeats`: mixtures of each instrument.
    """
    generator = torch.Generator().manual_seed(repeats)
    groups, families_, dim, t = 3, 3, 2, 0.3
    instruments = torch.arange(groups * families_).repeat(2) + 40  # two notes of each
    families = (torch.arange(groups * families_) % families_).repeat(2)
    columns = [
        torch.cat([40 + f + families_ * torch.randperm(groups, generator=generator) for _ in range(repeats)]) for f in range(families_)
    ]
    members = torch.stack(columns, dim=1)
    references = torch.randn(len(instruments), dim, generator=generator, dtype=torch.float64, requires_grad=True)
    heads = families_ + 1  # there is no note of the last family
    mixtures = torch.randn(len(members), heads, dim, generator=generator, dtype=torch.float64, requires_grad=True)
    within, back = [], []
    for m, playing in enumerate(members.tolist()):
        for r, (uid, f) in enumerate(zip(instruments.tolist(), families.tolist(), strict=True)):
            if uid in playing:
                own = c(references[r], mixtures[m, f], t)
                rivals = [k for k in range(len(families)) if families[k] == f and instruments[k] not in playing]
                others = [k for k in range(len(members)) if uid not in members[k].tolist()]
                within.append(cross_entropy([own, *(c(references[k], mixtures[m, f], t) for k in rivals)], 0))
                back.append(cross_entropy([own, *(c(references[r], mixtures[k, f], t) for k in others)], 0))
    expected = (mean(within) + mean(back)) / 2
    with torch.device("meta"):  # new tensors must be on the device of the embeddings
        found = family_infonce(references, families, instruments, mixtures, members=members, temperature=t)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(*(torch.autograd.grad(x, (references, mixtures)) for x in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)
