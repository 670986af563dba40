"""Steps on a GPU that is not there: PyTorch's fake tensors have a device and no values, and refuse what a GPU refuses.

Without gradients, whose engine needs a GPU, and without tensors whose size depends on values on the GPU.
"""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from cirlib.training.losses import LOSSES
from cirlib.training.optimiser import make_optimiser
from cirlib.training.tasks import make_task

STEPS = [(task, loss, "cnn") for task in ("mixture", "family", "single", "classify") for loss in LOSSES[task]]
STEPS += [("mixture", "multi-infonce", "ast-tiny"), ("single", "infonce", "ast-tiny"), ("classify", "tags", "ast-tiny")]


class NoIndexFromTheHost(TorchFunctionMode):
    """A GPU takes it, but waits for it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__getitem__ and args[0].device.type == "cuda":
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(i, torch.Tensor) and i.device.type == "cpu" for i in index)
        return function(*args, **(kwargs or {}))


def on_gpu(tensors, mode):
    """Fake copies of named tensors, on a GPU."""
    return {name: x if x is None else mode.from_tensor(x).to("cuda").detach() for name, x in tensors.items()}


@pytest.fixture
def gpu_step(config, tone_bank):
    """Loss of a step (task, loss, encoder, optimiser) whose batch, parameters and buffers are on the GPU, and nothing else."""

    def step(name, loss, encoder, optimiser):
        batch_size = 28 if name == "family" else 12
        task = make_task(dataclasses.replace(config, task=name, loss=loss, encoder=encoder, batch_size=batch_size), tone_bank)
        batch, model = task.batch(0), task.model().train()
        with FakeTensorMode() as mode, NoIndexFromTheHost(), torch.no_grad():
            for module in model.modules():
                parameters = on_gpu(module._parameters, mode)
                module._parameters.update({name: x if x is None else torch.nn.Parameter(x) for name, x in parameters.items()})
                module._buffers.update(on_gpu(module._buffers, mode))
            found = task.loss(model, on_gpu(batch, mode))
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            make_optimiser(optimiser, model).step(0.1)
        return found

    return step


@pytest.mark.parametrize(("task", "loss", "encoder"), STEPS)
def test_loss(gpu_step, task, loss, encoder):
    found = gpu_step(task, loss, encoder, "adam")
    assert found.device.type == "cuda" and found.shape == ()


@pytest.mark.parametrize("bf16", [True, False])
def test_muon(gpu_step, monkeypatch, bf16):
    monkeypatch.setattr("cirlib.training.optimiser.fast_bf16", lambda device: bf16 and device.type == "cuda")
    gpu_step("family", "family-infonce", "cnn", "muon")
