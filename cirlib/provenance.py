"""What made a result: git commit, versions, device, data checksums, seed."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from .bank import NoteBank
from .paths import ROOT

PACKAGES = ("cirlib", "numpy", "torch", "torchaudio", "transformers", "accelerate", "pysfizz", "pedalboard")


def collect(seed: int, bank: NoteBank | None = None) -> dict:
    """Plain values for provenance.json; no user names or paths."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "git": _git("rev-parse", "HEAD"),
        "dirty": None if (changes := _git("status", "--porcelain", "--untracked-files=no")) is None else bool(changes),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads ({platform.machine()})",
        "data": [] if bank is None else [info["sha256"] for info in bank.infos],
        "seed": seed,
    }


def _git(*args: str) -> str | None:
    try:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
