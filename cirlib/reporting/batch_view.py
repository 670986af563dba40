"""Views of one training batch, for 02_train: its sounds, its tracks in order, what the loss takes, and the values that it compares."""

import numpy as np
import torch
from torch.nn import functional as F

from ..training import losses
from ..training.config import TrainConfig
from ..training.tasks import Batch, Task

MOST = 20  # tracks of a small batch of mixtures


def small_batch_size(config: TrainConfig) -> int:
    """Return a batch_size for two to four mixtures, two groups of mixtures (task family), eight pairs or 16 sounds."""
    count = config.max_instruments or len(config.families)
    few = {"mixture": min(4, max(2, MOST // (1 + count))) * (1 + count)}
    few["family"] = 2 * (config.mixtures_per_instrument + 2 * count + config.single_pairs)
    return min(few.get(config.task, 16), config.batch_size)


def sounds(task: Task, batch: Batch) -> dict[str, np.ndarray]:
    """Return sounds (T,) of a batch with captions: the first mixture and notes of its instruments, two pairs, or four single sounds."""
    if task.config.task == "mixture":
        names = [f"reference: {task.config.families[k]}" for k in batch["families"][0]]
        shown = {"mixture 1": batch["mixtures"][0], **dict(zip(names, batch["references"][0], strict=True))}
    elif task.config.task == "family":
        inside = torch.isin(batch["instruments"], batch["members"][0]).nonzero()[:, 0]
        shown = {"mixture 1": batch["mixtures"][0]}
        shown |= {f"note: {task.config.families[batch['families'][k]]}": batch["references"][0, k] for k in inside}
    elif task.config.task == "single":
        sides = enumerate(batch["sounds"][:, :2])
        shown = {f"pair {k + 1}, {('first', 'second')[j]} sound": sound for j, side in sides for k, sound in enumerate(side)}
    else:
        shown = {f"sound {k + 1}": sound for k, sound in enumerate(batch["sounds"][:4])}
    return {name: sound.numpy() for name, sound in sorted(shown.items(), key=lambda item: item[0].startswith("pair 2"))}


def arguments(task: Task, vectors: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
    """Return what the losses of the task take of the embeddings or logits (N, ...) of the sounds of a batch (losses.py)."""
    if task.config.task == "mixture":
        m, s = batch["families"].shape
        return vectors[: m * s].reshape(m, s, -1), vectors[m * s :], batch["families"]
    if task.config.task != "family":
        return vectors.chunk(2) if task.config.task == "single" else (vectors, batch["targets"])
    families, instruments = batch["families"].repeat(2), batch["instruments"].repeat(2)  # two notes of each instrument
    notes, heads = len(families), vectors.reshape(len(vectors), head_count(task), -1)[:, -len(task.config.families) :]
    return heads[range(notes), families], families, instruments, heads[notes:][: len(batch["mixtures"])], batch["members"]


def head_count(task: Task) -> int:
    """Return the number of heads of an encoder: those of task family are for single sounds, for mixes and for each family."""
    return 2 + len(task.config.families) if task.config.task == "family" else 1


def loss(task: Task, name: str, parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return a loss of the task, by name, for its arguments."""
    if task.config.task == "family":
        return losses.family_infonce(*parts[:4], members=parts[4], temperature=task.config.temperature)
    if task.config.task == "classify":
        return losses.class_loss(name, *parts)
    function = losses.mixture_loss if task.config.task == "mixture" else losses.pair_loss
    return function(name, *parts, temperature=task.config.temperature)


def values(task: Task, name: str, vectors: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, str]:
    """Return the values that a loss compares, and what they are: "distance" or "cosine similarity" (N, N), or "probability" (B, C).

    NaN: a sound and itself; in task family, all but notes and mixtures, which are compared in the head of the family of the note.
    """
    if task.config.task == "classify":
        return vectors.sigmoid() if name == "tags" else vectors.softmax(dim=1), "probability"
    if task.config.task == "family":
        notes, families, _, mixtures, _ = arguments(task, vectors, batch)
        out = vectors.new_full((len(vectors), len(vectors)), float("nan"))
        out[: len(notes), len(notes) :][:, : len(mixtures)] = F.cosine_similarity(
            notes[:, None], mixtures[:, families].transpose(0, 1), dim=2
        )
        return out, "cosine similarity"
    if "triplet" in name:
        return torch.cdist(vectors, vectors).fill_diagonal_(float("nan")), "distance"
    return F.cosine_similarity(vectors[:, None], vectors, dim=2).fill_diagonal_(float("nan")), "cosine similarity"


def tracks(task: Task, batch: Batch) -> tuple[list[int], list[str], list[int], list[str]]:
    """Return rows and columns of `values` in the order of a heat map, and a name of each; those of one mixture or pair share a name."""
    kind, families = task.config.task, task.config.families
    if kind == "family":
        n, m = len(batch["instruments"]), len(batch["mixtures"])
        names = [f"{families[f]} {i + 1}" for i, f in enumerate(batch["families"]) for _ in range(2)]
        return [k for i in range(n) for k in (i, n + i)], names, list(range(2 * n, 2 * n + m)), [f"mix {k + 1}" for k in range(m)]
    if kind == "classify":
        columns = sorted(set(batch["targets"].tolist())) if batch["targets"].ndim == 1 else range(batch["targets"].shape[1])
        rows = range(len(batch["sounds"]))
        return list(rows), [f"sound {k + 1}" for k in rows], list(columns), [task.labels[k].rpartition("/")[2] for k in columns]
    if kind == "mixture":
        (m, s), name = batch["families"].shape, "mixture"
        order = [k for i in range(m) for k in (m * s + i, *range(i * s, i * s + s))]
    else:
        m, s, name = batch["sounds"].shape[1], 1, "pair"
        order = [k for i in range(m) for k in (i, m + i)]
    names = [f"{name} {i + 1}" for i in range(m) for _ in range(s + 1)]
    return order, names, order, names
