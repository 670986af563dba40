"""The optimiser of a run and its learning rate: Adam, as in the paper, or Muon, which trains a new encoder in far fewer steps.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of each weight matrix by the nearest matrix whose
singular values are near 1, so that rare directions of the gradient count as much as frequent ones. A convolution counts as the
matrix of its filters; Adam trains biases, normalisations and matrices with fewer than 32 rows or columns.

torch.optim.Muon computes the same, but always in bfloat16, which takes a hundred times as long on a CPU that emulates it.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ..common.device import fast_bf16
from ..common.settings import choose

OPTIMISERS = ("adam", "muon")
ADAM_SHARE = 1 / 40  # learning rate of what Adam trains beside Muon, as a share of Muon's
SMALLEST = 32  # rows and columns of a matrix for Muon
MOMENTUM = 0.95
TINY = 1e-20  # smaller momenta become 0: without gradients they fade to subnormal numbers, 20 times slower on a CPU
ITERATION = (3.4445, -4.7750, 2.0315)  # Newton-Schulz polynomial a x + b x^3 + c x^5 of the post
ITERATIONS = 5


def learning_rate(step: int, config) -> float:
    """Return the learning rate of a step: linear warm-up from end_lr, then exponential decay start_lr -> end_lr (paper section 3).

    `config`: a TrainConfig.
    """
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return config.end_lr + (config.start_lr - config.end_lr) * step / warm
    return config.start_lr * (config.end_lr / config.start_lr) ** ((step - warm) / max(1, config.steps - warm))


def make_optimiser(name: str, model: nn.Module) -> "Optimiser":
    """Return the optimiser of all parameters of a model, which must be on its device already. Raises ValueError for an unknown name."""
    choose("optimiser", name, OPTIMISERS)
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if name == "muon" and p.ndim in (2, 4) and min(len(p), p[0].numel()) >= SMALLEST]
    chosen = set(map(id, matrices))
    others = [p for p in parameters if id(p) not in chosen]
    return Optimiser(matrices, others)


class Optimiser:
    """Muon for `matrices` and Adam for the others; without matrices, Adam alone."""

    def __init__(self, matrices: list[nn.Parameter], others: list[nn.Parameter]):
        self.matrices, self.momenta = matrices, [torch.zeros_like(p) for p in matrices]
        self.adam = torch.optim.Adam(others) if others else None
        self._all = [*matrices, *others]

    def step(self, lr: float) -> None:
        """Update all parameters by their gradients. `lr`: of Muon if there are matrices, else of Adam."""
        for weight, momentum in zip(self.matrices, self.momenta, strict=True):
            if weight.grad is not None:
                _muon(weight, momentum, lr)
        if self.adam:
            self.adam.param_groups[0]["lr"] = lr * (ADAM_SHARE if self.matrices else 1)
            self.adam.step()

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for parameter in self._all:
            parameter.grad = None

    def state_dict(self) -> dict:
        """Return all that is needed to resume."""
        return {"momenta": self.momenta, "adam": self.adam and self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Resume from a state_dict()."""
        for momentum, stored in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(stored)
        if self.adam:
            self.adam.load_state_dict(state["adam"])


@torch.no_grad()
def _muon(weight: nn.Parameter, momentum: torch.Tensor, lr: float) -> None:
    momentum.copy_(F.hardshrink(momentum.lerp_(weight.grad, 1 - MOMENTUM), TINY))
    direction = orthogonal(weight.grad.lerp(momentum, MOMENTUM).flatten(1))  # Nesterov
    rows, columns = direction.shape
    weight.sub_(direction.view_as(weight), alpha=lr * max(1, rows / columns) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Approximate the nearest matrix (rows, columns) whose singular values are 1: they become 0.7 to 1.2, tiny ones less.

    In bfloat16 on devices with native bfloat16, as in the post, else in float32.
    """
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = _iterate(x.to(torch.bfloat16)) if fast_bf16(matrix.device) else _iterate_gram(x.float())
    return (x if len(matrix) <= matrix.shape[1] else x.T).to(matrix.dtype)


def _iterate(wide: torch.Tensor) -> torch.Tensor:
    wide = wide / wide.norm().clamp(min=1e-7)
    a, b, c = ITERATION
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide


def _iterate_gram(wide: torch.Tensor) -> torch.Tensor:
    """Compute _iterate with a third of the work for long rows: only the small squares X X^T and their polynomials are iterated."""
    wide = wide / wide.norm().clamp(min=1e-7)
    a, b, c = ITERATION
    gram, product = wide @ wide.T, None
    for _ in range(ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    return product @ wide
