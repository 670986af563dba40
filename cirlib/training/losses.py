"""Losses of the paper by name, corrected versions of them, and ours. Each returns a scalar.

Pairs (single-instrument task): anchors a and positives p, (N, D). Mixtures: stems (M, S, D) and mixtures (M, D).
`families` (M, S) are integer labels of the stems; without them, stem s of every mixture has label s.
Classifiers: logits (B, C). Encoders with per-family heads: `family_infonce`.
d is the Euclidean distance (with 1e-6 added to each difference, as torch does), c the cosine similarity / temperature.
"""

import inspect
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ..common.paths import plain_name
from ..common.settings import choose
from ..evaluation.classifiers import CLASS_LOSSES

TEMPERATURE = 0.1  # paper
MARGIN = 1.0  # paper
EPS = 1e-6  # torch.nn.functional.triplet_margin_loss


def pair_loss(name: str, anchors: torch.Tensor, positives: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return the loss `name` of PAIR_LOSSES for (N, D) anchors and positives. Raises ValueError for an unknown name or a wrong shape."""
    loss = PAIR_LOSSES[choose("pair loss", name, PAIR_LOSSES)]
    if anchors.shape != positives.shape or anchors.ndim != 2:
        raise ValueError(f"anchors and positives must both be (N, D), got {tuple(anchors.shape)} and {tuple(positives.shape)}")
    _check_count("pairs", len(anchors), 2 if name == "triplet" else 1)
    return loss(anchors, positives, temperature)


def mixture_loss(
    name: str, stems: torch.Tensor, mixtures: torch.Tensor, families: torch.Tensor | None = None, *, temperature: float = TEMPERATURE
) -> torch.Tensor:
    """Return the loss `name` of MIXTURE_LOSSES for (M, S, D) stems and (M, D) mixtures. Raises ValueError as pair_loss()."""
    loss = MIXTURE_LOSSES[choose("mixture loss", name, MIXTURE_LOSSES)]
    if stems.ndim != 3 or mixtures.shape != (stems.shape[0], stems.shape[2]):
        raise ValueError(f"stems must be (M, S, D) and mixtures (M, D), got {tuple(stems.shape)} and {tuple(mixtures.shape)}")
    _check_count("mixtures", len(stems), 2 if name.startswith("triplet") and stems.shape[1] == 1 else 1)
    if families is None:
        families = torch.arange(stems.shape[1], device=stems.device).expand(stems.shape[:2])
    return loss(stems, mixtures, families, temperature)


def _check_count(what: str, count: int, least: int) -> None:
    """Raise ValueError if the loss would be the mean of nothing, which is NaN."""
    if count < least:
        raise ValueError(f"this loss needs {least} or more {what} in a batch, got {count}: use a larger batch_size")


def _distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Euclidean distances (A, B), with the eps of torch's pairwise_distance, in little memory and without cancellation."""
    return torch.cdist(a + EPS, b, compute_mode="donot_use_mm_for_euclid_dist")


def _similarities(a: torch.Tensor, b: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return cosine similarities / temperature, (A, B)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature


def pair_triplet(a: torch.Tensor, p: torch.Tensor, temperature: float) -> torch.Tensor:
    """Average max(0, d(a_i, p_i) - d(a_i, n) + 1) over i and all negatives n: both sounds of the other pairs."""
    n = len(a)
    positive = F.pairwise_distance(a, p, eps=EPS)  # (N,)
    negative = torch.cat([_distances(a, a), _distances(a, p)], dim=1)  # (N, 2N)
    own = torch.eye(n, dtype=torch.bool, device=a.device).repeat(1, 2)
    return _hinges(positive, negative, own).sum() / (2 * n * (n - 1))


def _hinges(positive: torch.Tensor, negative: torch.Tensor, no_triplet: torch.Tensor) -> torch.Tensor:
    """Return the loss of each triplet, (N, K), from distances (N,) and (N, K); 0 where `no_triplet` (indexing would stall a GPU)."""
    return (positive[:, None] - negative + MARGIN).clamp_min(0).masked_fill(no_triplet, 0)


def pair_infonce(a: torch.Tensor, p: torch.Tensor, temperature: float) -> torch.Tensor:
    """Average the cross-entropies of a_i with all p and of p_i with all a (van den Oord et al. 2018)."""
    logits, target = _similarities(a, p, temperature), torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _triplets(stems, mixtures, swap: bool) -> torch.Tensor:
    """Average all triplets: anchor = mixture, positive = each of its stems, negatives = all other tracks; `swap`: also anchor = stem."""
    m, s, dim = stems.shape
    tracks = torch.cat([stems.reshape(m * s, dim), mixtures])  # (M * S + M, D)
    own = torch.arange(m, device=stems.device).repeat_interleave(s)  # mixture of each stem, (M * S,)
    stem = torch.arange(m * s, device=stems.device)
    to_mixture = _distances(mixtures, tracks)  # (M, M * S + M), anchor first
    itself = torch.zeros(m * s, m * s + m, dtype=torch.bool, device=stems.device)
    itself[stem, stem] = True  # the positive
    itself[stem, m * s + own] = True  # the anchor
    count = m * s * (m * s + m - 2)
    loss = _hinges(to_mixture[own, stem], to_mixture[own], itself).sum() / count
    if not swap:
        return loss
    to_stem = _distances(stems.reshape(m * s, dim), tracks)  # anchor = stem, same negatives
    return (loss + _hinges(to_stem[stem, m * s + own], to_stem, itself).sum() / count) / 2


def triplet(stems, mixtures, families, temperature):
    """Average triplets of a mixture, each of its stems, and as negatives its other stems and all tracks of others (paper, L_triplet)."""
    return _triplets(stems, mixtures, swap=False)


def triplet_full(stems, mixtures, families, temperature):
    """Average `triplet` and the same triplets with anchor and positive swapped (paper: full triplet)."""
    return _triplets(stems, mixtures, swap=True)


def infonce(stems, mixtures, families, temperature):
    """Classify each stem among the M mixtures: -log softmax_j c(stem, mixture_j) at its own mixture (paper: InfoNCE)."""
    m, s, dim = stems.shape
    logits = _similarities(stems.reshape(m * s, dim), mixtures, temperature)
    return F.cross_entropy(logits, torch.arange(m, device=stems.device).repeat_interleave(s))


def _all_tracks(stems, mixtures, temperature):
    """Return similarities of all tracks (stems, then mixtures), the mask of (stem, own mixture) both ways, and the own mixtures."""
    m, s, dim = stems.shape
    tracks = torch.cat([stems.reshape(m * s, dim), mixtures])
    own = torch.arange(m, device=stems.device).repeat_interleave(s)
    pairs = tracks.new_zeros(len(tracks), len(tracks))
    pairs[torch.arange(m * s, device=stems.device), m * s + own] = 1
    return _similarities(tracks, tracks, temperature), torch.maximum(pairs, pairs.T), own


def infonce_full(stems, mixtures, families, temperature):
    """Contrast all tracks with all, as the reference does: targets are the identity + (stem, own mixture) both ways, unnormalised.

    Self-similarities are 0 in the denominator, and targets. `infonce-full-mended` is without both.
    """
    logits, pairs, _ = _all_tracks(stems, mixtures, temperature)
    eye = torch.eye(len(logits), device=logits.device)
    return -((pairs + eye) * F.log_softmax(logits * (1 - eye), dim=1)).sum(dim=1).mean()


def infonce_full_asymmetric(stems, mixtures, families, temperature):
    """Classify each stem by its own mixture among all tracks: the stem rows of the matrix of `infonce-full`."""
    logits, _, own = _all_tracks(stems, mixtures, temperature)
    logits = logits * (1 - torch.eye(len(logits), device=logits.device))
    stem_count = len(own)
    return F.cross_entropy(logits[:stem_count], stem_count + own)


def infonce_full_mended(stems, mixtures, families, temperature):
    """Return `infonce-full` without self-similarities as targets or in the denominator; targets sum to 1."""
    logits, pairs, _ = _all_tracks(stems, mixtures, temperature)
    eye = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    log_p = F.log_softmax(logits.masked_fill(eye, float("-inf")), dim=1)
    return -(pairs / pairs.sum(dim=1, keepdim=True) * log_p.masked_fill(eye, 0)).sum(dim=1).mean()


def multi_infonce(stems, mixtures, families, temperature):
    """Average four cross-entropies between each mixture and each of its stems (multi-positive InfoNCE, ours).

    Mixture -> stem among the stems of the same family; mixture -> stem among all stems but its own others (several
    positives, none of them a negative of another); stem -> mixture among all mixtures; and stem -> mixture among the mixtures
    that have a stem of its family. Retrieval needs the first; the paper's `infonce` trains only the third.
    """
    m, s, dim = stems.shape
    logits = _similarities(mixtures, stems.reshape(m * s, dim), temperature)  # (M, M * S)
    own = torch.arange(m, device=stems.device).repeat_interleave(s)
    stem, label = torch.arange(m * s, device=stems.device), families.reshape(m * s)
    rows = logits[own]  # (M * S, M * S): the row of each stem's own mixture
    itself = stem[:, None] == stem[None]
    outside = own[:, None] != own[None]
    kin = label[:, None] == label[None]
    within = F.cross_entropy(rows.masked_fill(~(kin & (outside | itself)), float("-inf")), stem)
    across = F.cross_entropy(rows.masked_fill(~(outside | itself), float("-inf")), stem)
    back = F.cross_entropy(logits.T, own)
    has_kin = (families[None] == label[:, None, None]).any(dim=2)  # (M * S, M)
    back_within = F.cross_entropy(logits.T.masked_fill(~has_kin, float("-inf")), own)
    return (within + across + back + back_within) / 4


def family_infonce(references, families, instruments, mixtures, *, members, temperature=TEMPERATURE):
    """Return the multi-positive InfoNCE of mixtures, embedded by per-family heads, and notes of their instruments.

    References (R, D): notes of the instruments (R,), integers, of the families (R,), 0 to F - 1. Mixtures (M, F, D): outputs of the F
    family heads. Members (M, S): instruments in each mixture. For a note r of family f and a mixture m of its instrument, the mean of two
    cross-entropies: of c(r, m_f) among c of r and all mixtures without its instrument, and of c(r, m_f) among c of m_f and all notes of the
    family whose instruments are not in m. A note whose instrument is in no mixture is a negative of all.
    """
    by_family = F.normalize(mixtures, dim=-1)[:, families]  # (M, R, D)
    logits = torch.einsum("mrd,rd->mr", by_family, F.normalize(references, dim=-1)) / temperature
    inside = (members[:, :, None] == instruments).any(dim=1)  # (M, R)
    others = logits.masked_fill(inside, float("-inf"))
    kin = families == torch.arange(mixtures.shape[1], device=families.device)[:, None]  # (F, R)
    back = others.logsumexp(dim=0)  # (R,)
    within = others[:, None].masked_fill(~kin, float("-inf")).logsumexp(dim=2)[:, families]  # (M, R)
    entropies = torch.logaddexp(back, logits) + torch.logaddexp(within, logits) - 2 * logits
    return entropies.masked_fill(~inside, 0).sum() / inside.sum() / 2


def class_loss(name: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss `name` of CLASS_LOSSES for logits (B, C). Raises ValueError for an unknown name.

    instrument, family: cross-entropy with classes (B,); tags: binary cross-entropy with (B, C) of 0 and 1, mean over all (paper section 4).
    """
    choose("classification loss", name, CLASS_LOSSES)
    if name == "tags":
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
    return F.cross_entropy(logits, targets)


def cosine_loss(predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Average 1 - cosine similarity of (..., D) and (..., D) (multi-encoder of Kim et al., arXiv 2211.07951)."""
    return (1 - F.cosine_similarity(predicted, targets, dim=-1)).mean()


PAIR_LOSSES = {"triplet": pair_triplet, "infonce": pair_infonce}
MIXTURE_LOSSES = {
    "triplet": triplet,
    "triplet-full": triplet_full,
    "infonce": infonce,
    "infonce-full": infonce_full,
    "infonce-full-asymmetric": infonce_full_asymmetric,
    "infonce-full-mended": infonce_full_mended,
    "multi-infonce": multi_infonce,
}
LOSSES = {  # by task (tasks.py)
    "mixture": tuple(MIXTURE_LOSSES),
    "single": tuple(PAIR_LOSSES),
    "family": ("family-infonce",),
    "classify": CLASS_LOSSES,
    "multi-encoder": ("cosine",),
    **dict.fromkeys(("demucs", "mfcc", "timbre-toolbox"), ("none",)),
}
SOURCES: dict[tuple[str, str], str] = {}  # (task, name) of registered losses


def register_loss(name: str, function: Callable[..., torch.Tensor], task: str = "mixture") -> None:
    """Add a loss of your own, or its next version, for this process: then `TrainConfig(loss=name)`, `fit` and `mixture_loss` accept it.

    function: (stems (M, S, D), mixtures (M, D), families (M, S), temperature) -> scalar for task mixture, (anchors (N, D),
    positives (N, D), temperature) -> scalar for task single. Its source is part of the key of a run, so a changed loss is trained again.
    "triplet" in the name selects l2 instead of cosine. Raises ValueError for a name of cirlib's, or a function without source.
    """
    table = {"mixture": MIXTURE_LOSSES, "single": PAIR_LOSSES}
    table = table[choose("task of a loss", task, table)]
    if plain_name("loss", name) in table and (task, name) not in SOURCES:
        raise ValueError(f"{name} is a loss of cirlib: give yours another name")
    try:
        SOURCES[task, name] = inspect.getsource(function)
    except (OSError, TypeError):
        raise ValueError(f"the source of loss {name} cannot be read: define a function in a notebook cell or a file") from None
    table[name] = function
    LOSSES[task] = tuple(table)
