"""Models: `htdemucs` is in the cache, all others are not, and there is no network; a local folder holds `<name>.yaml`."""

import sys
from pathlib import Path
from urllib.error import URLError

import torch
import yaml

loaded = []  # (name, repo) of all models that were loaded


class Model(torch.nn.Module):
    """Sources and input format of a model."""

    def __init__(self, sources=("drums", "bass", "other", "vocals"), samplerate=44100):
        super().__init__()
        self.sources, self.samplerate, self.audio_channels = list(sources), samplerate, 2
        self.weight = torch.nn.Parameter(torch.ones(()))


def get_model(name: str, repo: Path | None = None) -> Model:
    """Return the model of that name."""
    loaded.append((name, repo))
    if repo is not None and not repo.is_dir():
        sys.exit(1)
    if repo is None and name != "htdemucs":
        raise URLError("Name or service\nnot known")
    return Model(**yaml.safe_load((repo / f"{name}.yaml").read_text()) if repo else {})
