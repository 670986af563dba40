"""The gradient of one training step: in one pass, or chunk by chunk with gradient caching."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from .tasks import Batch, Task


def backward(
    task: Task, model, batch: Batch, chunk: int = 0, unsynchronised: Callable[[], AbstractContextManager] = nullcontext
) -> torch.Tensor:
    """Add the gradient of the task's loss to the parameters of the model; returns the loss.

    `chunk`: sounds of the batch in the model's memory at once, 0 for all. Their embeddings are made first, without
    gradients; the loss gives the gradient of each; then each chunk is embedded again and takes its part back (Gao et al. 2021,
    "Scaling deep contrastive learning batch size under memory limited setup", arXiv 2101.06983). The gradient is the same, for a third more
    time, so the number of negatives is not bound by memory. `unsynchronised`: context in which a chunk does not yet exchange
    gradients with other processes. See check_chunks.
    """
    if not chunk:
        loss = task.loss(model, batch)
        loss.backward()
        return loss.detach()
    sounds = task.sounds(batch).split(chunk)
    with torch.no_grad():
        vectors = torch.cat([model(part, outputs=task.outputs).float() for part in sounds])
    vectors.requires_grad_()
    loss = task.objective(vectors, batch)
    gradients = torch.autograd.grad(loss, vectors)[0].split(chunk)
    for i, (part, gradient) in enumerate(zip(sounds, gradients, strict=True)):
        with unsynchronised() if i + 1 < len(sounds) else nullcontext():
            model(part, outputs=task.outputs).float().backward(gradient)
    return loss.detach()


def check_chunks(model: torch.nn.Module) -> None:
    """ValueError if a chunk of a batch would not be embedded as in the whole batch."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            raise ValueError("chunk needs an encoder without batch normalisation, which joins the sounds of a batch: an AST, or chunk 0")
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError("chunk needs an encoder without dropout, which embeds a sound differently each time: set it to 0, or chunk 0")
