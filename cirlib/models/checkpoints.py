"""Files of encoders: plain tensors and simple values, read without running any code.

A checkpoint (.pt) has the form of the published ones. A folder in the form of the Hugging Face hub has float16 weights
(model.safetensors) and config.json.
"""

from pathlib import Path
from typing import Any

import torch

from ..common.files import one_line, write_atomic, write_json
from ..common.paths import short
from ..common.untrusted import check_uncompressed, read_json

AUTHORS = "ICASSP26_"  # the names of the paper's published checkpoints begin so
PARTS = ("model_state_dict", "custom_config")
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of a folder
MODEL_TYPE = "cirlib"  # in config.json
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def write_checkpoint(path: Path, state: dict[str, torch.Tensor], custom: dict) -> Path:
    """Write weights and plain data atomically."""
    content = dict(zip(PARTS, ({k: v.detach().cpu() for k, v in state.items()}, custom), strict=True))
    return write_tensors(path, content)


def write_tensors(path: Path, content: dict) -> Path:
    """Save by torch atomically; a file object of Python gives the reason if the system refuses to write."""

    def save(part: Path) -> None:
        with open(part, "wb") as file:
            torch.save(content, file)

    return write_atomic(path, save)


def find_checkpoint(path: str | Path) -> Path:
    """Return the path of a checkpoint that exists; the FileNotFoundError says how to get it."""
    path = Path(path)
    if path.is_file():
        return path
    if path.name.startswith(AUTHORS):
        raise FileNotFoundError(f"no checkpoint {short(path)}: it is the file that the paper's authors published; put it there")
    raise FileNotFoundError(f"no checkpoint {short(path)}: train one with notebooks/02_train.ipynb")


def read_checkpoint(path: str | Path, of: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Return weights and plain data of a checkpoint of what `of` names ("an encoder"). Raises FileNotFoundError or ValueError."""
    path = find_checkpoint(path)
    try:
        content = read_tensors(path)
    except Exception as error:
        raise ValueError(f"{short(path)} is damaged or no checkpoint of {of} ({one_line(error)})") from None
    if not isinstance(content, dict) or not set(PARTS) <= content.keys():
        raise ValueError(f"{short(path)} is no checkpoint of {of}: it lacks {' or '.join(PARTS)}")
    return _checked(path, *(content[part] for part in PARTS), of=of)


def _checked(path: Path, weights: Any, custom: Any, *, of: str) -> tuple[dict[str, torch.Tensor], dict]:
    if not isinstance(weights, dict) or not isinstance(custom, dict) or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"{short(path)} does not fit {of}: {' and '.join(PARTS)} must be names with values")
    if odd := next((name for name, value in weights.items() if not _usable(value)), None):
        raise ValueError(f"{short(path)} is damaged or no checkpoint of {of}: its weight {odd!r:.100} is not finite, or no plain tensor")
    return weights, custom


def read_tensors(path: Path) -> Any:
    """Read a file of torch.save, tensors and plain data only: no code is run, and compressed files are refused.

    Raises whatever the bytes of another file lead to.
    """
    check_uncompressed(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def write_folder(folder: Path, state: dict[str, torch.Tensor], custom: dict) -> Path:
    """Write weights as float16 and plain data; config.json comes last. Raises ValueError for weights that float16 cannot hold."""
    from safetensors.torch import save_file

    half = {k: v.detach().cpu().half() if v.is_floating_point() else v.detach().cpu() for k, v in state.items()}
    _checked(folder, half, custom, of="an encoder in float16")
    half = {k: v.contiguous() for k, v in half.items()}
    write_atomic(folder / WEIGHTS, lambda part: save_file(half, part, metadata={"format": "pt"}))
    write_json(folder / CONFIG, {"model_type": MODEL_TYPE, **custom})
    return folder


def is_folder(folder: Path) -> bool:
    """Return whether a folder holds what `write_folder` wrote, by its config.json."""
    try:
        return read_json(folder / CONFIG).get("model_type") == MODEL_TYPE
    except (OSError, ValueError, AttributeError):
        return False


def read_folder(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Return weights, float16, and plain data of a folder. Raises ValueError if a file is missing or damaged."""
    from safetensors.torch import load_file

    try:
        weights, custom = load_file(folder / WEIGHTS), read_json(folder / CONFIG)
    except Exception as error:  # safetensors raises an error of its own
        raise ValueError(f"the encoder in {short(folder)} is damaged ({one_line(error)}): get {WEIGHTS} and {CONFIG} again") from None
    return _checked(folder, weights, custom, of="an encoder")


def _usable(value: Any) -> bool:
    """Return whether a weight is a tensor of finite numbers that are all stored in the file."""
    if not isinstance(value, torch.Tensor) or value.device.type != "cpu" or value.layout is not torch.strided or value.dtype not in DTYPES:
        return False
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():  # one number that stands for many
        return False
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
