"""Demucs as a baseline: separate a mixture into one stem for each family and embed the stems with an encoder for single sounds.

The separator is Hybrid Transformer Demucs (Rouard, Massa and Défossez, ICASSP 2023), pretrained, from the package demucs (paper section 4).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..audio.log_mel import RATE
from ..common.device import best_device
from ..common.files import one_line
from ..common.packages import require
from ..common.settings import choose
from ..data.mixtures import PEAK
from ..data.taxonomy import GROUPS
from ..models.encoder import AudioEncoder
from .protocol import Retriever

SOURCES = {"Chromatic Percussion": "drums", "Percussion": "drums", "Drum Kit": "drums", "Bass": "bass"}  # of other families: other


def separate(
    mixtures: np.ndarray, families: Sequence[str], *, sample_rate: int = RATE, model: str = "htdemucs", repo: str | Path | None = None
) -> np.ndarray:
    """Separate mono mixtures (B, T) into stems (B, S, T) float32, one for each of S families.

    Families with the same source (SOURCES) get the same stem. Mixtures are normalised as by demucs' own command; there is no random
    shift, so equal mixtures give equal stems. Silence gives silence.

    Args:
        model: name of a Demucs model.
        repo: local folder with `<model>.yaml` and the .th files that it names, else demucs' cache or the network. The .th files are
            pickles, which can run code: use only files from people you trust.

    Raises ValueError if the package is missing, a family is unknown or a mixture is not mono or not finite, and OSError if the weights
    cannot be loaded.
    """
    mixtures = np.asarray(mixtures, np.float32)
    if mixtures.ndim != 2 or not mixtures.shape[1] or not np.isfinite(mixtures).all():
        raise ValueError(f"mixtures must be mono (B, T) with T > 0 and finite samples, got shape {mixtures.shape}")
    sources = [SOURCES.get(choose("family", name, GROUPS), "other") for name in families]
    net = _load(model, repo)
    from demucs.apply import apply_model
    from torchaudio.functional import resample

    rows = [net.sources.index(choose(f"source of Demucs {model!r}", source, net.sources)) for source in sources]
    device = next(net.parameters()).device
    stems = np.zeros((len(mixtures), len(families), mixtures.shape[1]), np.float32)
    for mixture, out in zip(mixtures, stems, strict=True):
        if mixture.any():
            wave = resample(torch.from_numpy(mixture), sample_rate, net.samplerate)
            mean, std = wave.mean(), wave.std(correction=0) + 1e-8
            stereo = ((wave - mean) / std).expand(1, net.audio_channels, -1)
            separated = apply_model(net, stereo, shifts=0, device=device)[0].mean(dim=1) * std + mean  # (sources, samples)
            out[:] = resample(separated[rows], net.samplerate, sample_rate)[:, : mixtures.shape[1]]
    return stems


def require_demucs() -> None:
    """Raise Missing if the package demucs is not installed."""
    require("stems by Demucs", "demucs")


@lru_cache(maxsize=1)
def _load(name: str, repo: str | Path | None) -> torch.nn.Module:
    require_demucs()
    from demucs.pretrained import get_model

    try:
        if repo is not None and not Path(repo).is_dir():
            raise OSError("no such folder")
        net = get_model(name, None if repo is None else Path(repo))
    except (Exception, SystemExit) as error:  # demucs exits if a package that it needs is missing
        files = f"with {name}.yaml and the .th files that it names"
        where = f"{repo} must be a folder {files}"
        if repo is None:
            where = f"demucs looks in the cache of the Hugging Face hub, in {torch.hub.get_dir()}/checkpoints and on the network; "
            where += f"without a network, set `repo` to a folder {files}"
        raise OSError(f"the weights of Demucs {name!r} cannot be loaded ({one_line(error)}): {where}") from None
    return net.eval().to(best_device())


def stem_retriever(single: AudioEncoder, separate: Callable[[np.ndarray], np.ndarray]) -> Retriever:
    """Return a Retriever that separates mixtures, (B, T) -> (B, S, T), and embeds the peak-normalised stems with `single`."""

    def embed(waveforms: np.ndarray) -> np.ndarray:
        stems = separate(waveforms)
        peaks = np.abs(stems).max(axis=2, keepdims=True)
        stems = stems * np.where(peaks > 1e-9, PEAK / np.maximum(peaks, 1e-9), 0)
        return single.embed(stems.reshape(-1, stems.shape[2])).reshape(*stems.shape[:2], -1)

    return Retriever(single, embed, separate)
