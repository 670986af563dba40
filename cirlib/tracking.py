"""Weights & Biases: online with secrets.yaml, offline, or off. The key is handed to wandb and shown nowhere."""

import os
from pathlib import Path

import yaml

from .paths import ROOT

MODES = ("off", "offline", "online")


class Off:
    """Tracks nothing."""

    def log(self, values: dict, step: int) -> None:
        """Ignore values."""

    def finish(self) -> None:
        """Nothing to end."""


def start(mode: str, name: str, config: dict, folder: Path):
    """A tracker with log(values, step) and finish(); raises ValueError if online mode has no usable secrets.yaml."""
    if mode == "off":
        return Off()
    try:
        import wandb
    except ImportError:
        raise ValueError(f"wandb={mode} needs the package wandb: pip install wandb") from None
    team = None
    if mode == "online":
        team, key = _secrets()
        os.environ["WANDB_API_KEY"] = key
    os.environ.setdefault("WANDB_SILENT", "true")
    return wandb.init(project="cirlib", entity=team, name=name, config=config, dir=str(folder), mode=mode)


def _secrets() -> tuple[str | None, str]:
    """(team, key) of secrets.yaml at the root of the repository."""
    path = ROOT / "secrets.yaml"
    try:
        values = yaml.safe_load(path.read_text())["wandb"]
        return values.get("team"), values["api_key"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        raise ValueError("wandb=online needs secrets.yaml at the root of the repository, with\nwandb: {api_key: ..., team: ...}") from None
