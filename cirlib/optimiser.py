"""The optimiser of a run: Adam, as in the paper, or Muon, which trains a new encoder in far fewer steps.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon; torch.optim.Muon) replaces the momentum of each weight matrix by the nearest
matrix whose singular values are near 1, so that rare directions of the gradient count as much as frequent ones. Here a convolution
is the matrix of its filters; biases, normalisations and what has fewer than 32 rows or columns are left to Adam.
"""

import torch
from torch import nn

from .config import choose

OPTIMISERS = ("adam", "muon")
ADAM_SHARE = 1 / 40  # learning rate of what Adam trains beside Muon, as a share of Muon's
SMALLEST = 32  # rows and columns of a matrix for Muon


def make_optimiser(name: str, model: nn.Module) -> "Optimiser":
    """The optimiser of all parameters of a model, which must be on its device already. ValueError for an unknown name."""
    choose("optimiser", name, OPTIMISERS)
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if name == "muon" and p.ndim in (2, 4) and min(len(p), p[0].numel()) >= SMALLEST]
    chosen = set(map(id, matrices))
    others = [p for p in parameters if id(p) not in chosen]
    return Optimiser(matrices, others)


class Optimiser:
    """Muon for `matrices`, Adam for the others, as one; without matrices, Adam alone."""

    def __init__(self, matrices: list[nn.Parameter], others: list[nn.Parameter]):
        self.matrices = matrices
        self.views = [_rows(p, p).requires_grad_() for p in matrices]  # torch's Muon takes nothing but (rows, columns)
        assert all(view.data_ptr() == p.data_ptr() for view, p in zip(self.views, matrices, strict=True)), "a copy would not train"
        self.adam = torch.optim.Adam(others) if others else None
        self.muon = torch.optim.Muon(self.views, weight_decay=0.0) if matrices else None
        self._all = [*matrices, *others]

    def step(self, lr: float) -> None:
        """Update all parameters by their gradients. `lr`: of Muon if there are matrices, else of Adam."""
        if self.muon:
            for view, weight in zip(self.views, self.matrices, strict=True):
                view.grad = None if weight.grad is None else _rows(weight.grad, weight)  # a matrix that was not used
            self.muon.param_groups[0]["lr"] = lr
            self.muon.step()
        if self.adam:
            self.adam.param_groups[0]["lr"] = lr * (ADAM_SHARE if self.muon else 1)
            self.adam.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._all:
            parameter.grad = None

    def state_dict(self) -> dict:
        """All that another process needs to go on."""
        return {name: part.state_dict() for name, part in (("adam", self.adam), ("muon", self.muon)) if part}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state_dict()."""
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)


def _rows(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(filters, inputs) of a tensor of the shape of a weight; of the weight itself a view, whatever its memory format."""
    tensor = tensor.detach()
    if weight.ndim == 4 and not weight.is_contiguous():  # channels last
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(len(tensor), -1)
