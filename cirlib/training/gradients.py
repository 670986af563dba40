"""The gradient of one training step: in one pass, or with gradient caching."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from .tasks import Batch, Task


def backward(
    task: Task, model, batch: Batch, *, cache_size: int = 0, unsynchronised: Callable[[], AbstractContextManager] = nullcontext
) -> torch.Tensor:
    """Add the gradient of the task's loss to the parameters of the model and return the loss.

    `cache_size`: sounds in the model's memory at once, 0 for the whole batch. All sounds are embedded without gradients, the loss gives the
    gradient of each embedding, and each chunk is embedded again to propagate it (gradient caching: Gao et al. 2021, "Scaling deep
    contrastive learning batch size under memory limited setup", arXiv 2101.06983). The gradient is the same, for a third more time, and
    memory does not limit the number of negatives. `unsynchronised`: context that delays the exchange of gradients between processes.
    """
    if not cache_size:
        loss = task.loss(model, batch)
        loss.backward()
        return loss.detach()
    chunks = task.sounds(batch).split(cache_size)
    with torch.no_grad():
        vectors = torch.cat([model(chunk, outputs=task.outputs).float() for chunk in chunks])
    vectors.requires_grad_()
    loss = task.objective(vectors, batch)
    gradients = torch.autograd.grad(loss, vectors)[0].split(cache_size)
    for i, (chunk, gradient) in enumerate(zip(chunks, gradients, strict=True)):
        with unsynchronised() if i + 1 < len(chunks) else nullcontext():
            model(chunk, outputs=task.outputs).float().backward(gradient)
    return loss.detach()


def check_chunks(model: torch.nn.Module) -> None:
    """Raise ValueError if the embedding of a sound depends on the other sounds of its batch, or on chance."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            raise ValueError("gradient_cache_size needs an encoder without batch normalisation: use an AST, or set it to 0")
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError("gradient_cache_size needs an encoder without dropout: set its dropout or gradient_cache_size to 0")
