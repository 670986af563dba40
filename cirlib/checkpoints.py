"""Checkpoints: plain dictionaries of tensors and simple values, in the form of the published ones, read without running any code."""

from pathlib import Path

import torch

from .files import write_atomic
from .paths import short, without_home

AUTHORS = "ICASSP26_"  # the names of the paper's published checkpoints begin so
PARTS = ("model_state_dict", "custom_config")


def write_checkpoint(path: Path, state: dict[str, torch.Tensor], custom: dict) -> Path:
    """Write weights and plain data atomically."""
    content = dict(zip(PARTS, ({k: v.detach().cpu() for k, v in state.items()}, custom), strict=True))
    return write_tensors(path, content)


def write_tensors(path: Path, content: dict) -> Path:
    """torch.save, atomically; through a file of Python's, which tells what the system refused."""

    def save(part: Path) -> None:
        with open(part, "wb") as file:
            torch.save(content, file)

    return write_atomic(path, save)


def find_checkpoint(path: str | Path) -> Path:
    """The path of a file that is there; FileNotFoundError that says how to get it."""
    path = Path(path)
    if path.is_file():
        return path
    if path.name.startswith(AUTHORS):
        raise FileNotFoundError(f"no checkpoint {short(path)}: it is the file that the paper's authors published; put it there")
    raise FileNotFoundError(f"no checkpoint {short(path)}: train one with notebooks/02_train.ipynb")


def read_checkpoint(path: str | Path, of: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights and plain data of a checkpoint; FileNotFoundError or ValueError that says what the file is not (`of`: "an encoder")."""
    path = find_checkpoint(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{short(path)} is damaged or no checkpoint of {of} ({one_line(error)})") from None
    if not isinstance(content, dict) or not set(PARTS) <= content.keys():
        raise ValueError(f"{short(path)} is no checkpoint of {of}: it lacks {' or '.join(PARTS)}")
    return content[PARTS[0]], content[PARTS[1]]


def one_line(error: Exception) -> str:
    """An error on one line, cut to 300 characters, without the name of the user's home folder."""
    return without_home(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]
