"""Training in several processes. With one process, `gather` and `share` are the identity.

A step of W processes has the loss and the gradient of a step of one process on the same global batch: `gather` joins the
embeddings before the loss, its gradient is summed over the processes, and DistributedDataParallel takes the mean over W.
"""

import contextlib
import ctypes
from collections.abc import Callable

import numpy as np
import torch
from torch import distributed, nn

from ..common.device import best_device, fast_bf16


def world() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, 0 to world() - 1."""
    return distributed.get_rank() if world() > 1 else 0


def make_accelerator(precision: str = ""):
    """Return the Accelerator of this process; CPU processes communicate by gloo.

    precision: "bf16", "float32" or "" (bf16 on GPUs). Devices without fast bf16 train in float32, and a message says so.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # of an earlier run in this process, perhaps of another precision
    device = torch.device(best_device())
    gpu, bf16 = device.type == "cuda", fast_bf16(device)
    mixed = "bf16" if bf16 and (precision == "bf16" or (gpu and not precision)) else "no"
    if not gpu:
        _keep_memory()
    accelerator = Accelerator(cpu=not gpu, mixed_precision=mixed)
    if precision == "bf16" and not bf16:
        accelerator.print("this device would emulate bf16, ten times slower than float32: training in float32")
    return accelerator


def _keep_memory() -> None:
    """Let glibc reuse the memory of large tensors instead of returning it after each step: a third faster on a CPU."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no memory mappings, they are unmapped when freed
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: do not give the top of the heap back


def end() -> None:
    """Leave the group of processes together, after all work is done: one that leaves early would abort the others."""
    if world() > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def gather(x: torch.Tensor) -> torch.Tensor:
    """Concatenate (N, ...) of each process to (W * N, ...), by process number, with gradients. N must be the same in each."""
    return _Gather.apply(x) if world() > 1 else x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        parts = [torch.empty_like(x) for _ in range(world())]
        distributed.all_gather(parts, x.contiguous())
        ctx.rows = slice(rank() * len(x), (rank() + 1) * len(x))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may give the same tensor to others
        distributed.all_reduce(gradient)
        return gradient[ctx.rows]


def share(count: int, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the rows of make(indices) for range(count): each process makes its share, all return the whole."""
    if world() == 1:
        return make(np.arange(count))
    parts, own = [None] * world(), np.arange(rank(), count, world())
    distributed.all_gather_object(parts, make(own) if len(own) else None)
    whole = np.empty((count, *parts[0].shape[1:]), parts[0].dtype)
    for r, part in enumerate(parts[:count]):
        whole[r :: world()] = part
    return whole


class BatchNorm(nn.BatchNorm2d):
    """Normalise over the batch of all processes, on any device; with one process as torch does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or world() == 1:
            return super().forward(x)
        # exact for parts of equal size: means of means, and the variance around the common mean
        dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        mean = gather(x.mean(dim=(0, 2, 3))[None]).mean(dim=0)
        centred = x - mean[:, None, None]
        variance = gather(centred.square().mean(dim=(0, 2, 3))[None]).mean(dim=0)
        with torch.no_grad():
            count = world() * x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)
