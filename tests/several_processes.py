"""Script of each of several processes in test_distributed.py.

`gradients BANK FOLDER`: one step of every case -> gradients.pt; `train BANK ENCODER`: fit() in CIRLIB_HOME, interrupted at step STOP.
"""

import os
import sys
from contextlib import nullcontext

import torch
from torch import nn

from cirlib.data.bank import NoteBank
from cirlib.models.distributed import BatchNorm, end, gather, rank, share, world
from cirlib.training import loop as training
from cirlib.training.config import TrainConfig
from cirlib.training.gradients import backward
from cirlib.training.tasks import make_task

CASES = [
    ("mixture", "triplet"), ("mixture", "triplet-full"), ("mixture", "infonce"), ("mixture", "infonce-full"),
    ("mixture", "infonce-full-asymmetric"), ("mixture", "infonce-full-mended"), ("mixture", "multi-infonce"),
    ("family", "family-infonce"), ("single", "triplet"), ("single", "infonce"), ("classify", "family"),
]  # fmt: skip


def config(bank: str, task: str, loss: str, **values) -> TrainConfig:
    """Return settings: two mixtures, two groups of a family run, or four pairs for each of two processes."""
    if task == "family":
        values = {"batch_size": 32, "mixtures_per_instrument": 2} | values
    values = {"batch_size": 16} | values
    return TrainConfig(preset="test", bank=(bank,), task=task, loss=loss, seconds=0.5, epoch_size=20, **values)


class Small(nn.Module):
    """(N, T) waveforms -> (N, 20), in double precision, with a normalisation over the batch."""

    def __init__(self, norm: bool):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(1, 6, 16, stride=16).double(), nn.Linear(6 * 5 * 6, 20).double()
        self.norm = BatchNorm(6).double() if norm else nn.Identity()

    def forward(self, waveforms, outputs=False):
        x = waveforms.double()[:, :7680].reshape(len(waveforms), 1, 80, 96)
        return self.last(torch.tanh(self.norm(self.first(x))).flatten(1))


def gradients(bank, task: str, loss: str, norm: bool, chunk: int) -> dict[str, torch.Tensor]:
    """Return loss, gradients and buffers after one step, equal in every process."""
    model = wrapped = Small(norm)
    if world() > 1:
        wrapped = nn.parallel.DistributedDataParallel(model)
    steps = make_task(config(str(bank.paths[0]), task, loss), bank, rank(), world())
    out = {"loss": backward(steps, wrapped, steps.batch(1), cache_size=chunk, unsynchronised=getattr(wrapped, "no_sync", nullcontext))}
    if world() > 1:
        torch.distributed.all_reduce(out["loss"])
        out["loss"] /= world()
    return out | {k: p.grad for k, p in model.named_parameters()} | dict(model.named_buffers())


def all_gradients(bank) -> dict:
    """Return the gradients of every case: with batch normalisation, without, and with a gradient cache of 3 sounds."""
    return {
        (*case, norm, chunk): gradients(bank, *case, norm, chunk) for case in CASES for norm, chunk in ((True, 0), (False, 0), (False, 3))
    }


def scores(bank) -> dict[str, float]:
    """Return validation scores of untrained encoders, on mixtures and single sounds."""
    found = {}
    for task in ("mixture", "single"):
        torch.manual_seed(0)
        steps = make_task(config(str(bank.paths[0]), task, "infonce", valid_size=7), bank)
        found |= {f"{task}-{k}": v for k, v in steps.validation()(steps.retriever(steps.model().eval())).items()}
    return found


def run_config(bank: str, encoder: str) -> TrainConfig:
    """Return settings of six steps."""
    return config(bank, "mixture", "multi-infonce", encoder=encoder, steps=6, valid_every=2, valid_size=5, log_every=1)


def train(bank: str, encoder: str) -> None:
    update = training._Trainer._update

    def interrupted(self, step, batch):
        if step == int(os.environ["STOP"]):
            os._exit(0)
        update(self, step, batch)

    training._Trainer._update = interrupted
    training.fit(run_config(bank, encoder), show=False)


def main() -> None:
    what, bank, argument = sys.argv[1:]
    if what == "train":
        train(bank, argument)
        return
    torch.distributed.init_process_group("gloo")
    opened = NoteBank.open(bank)
    found = {"gradients": all_gradients(opened), "scores": scores(opened)}
    found["shared"] = [share(n, lambda own: own[:, None] * 10).tolist() for n in (5, 1)]
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    ((gather(a) + gather(b)) * torch.tensor([1.0, 2.0])).sum().backward()
    found["twice"] = [a.grad.item(), b.grad.item()]
    if rank() == 0:
        torch.save(found, os.path.join(argument, "gradients.pt"))
    end()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # running threads of gloo sometimes abort the process at exit
