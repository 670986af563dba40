"""Choice of device and number format."""

import functools

import torch


def best_device() -> str:
    """Return "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def fast_bf16(device: torch.device) -> bool:
    """Return whether a device has native bfloat16: recent GPUs, CPUs with avx512_bf16 or amx. Emulation is 10 to 100 times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
