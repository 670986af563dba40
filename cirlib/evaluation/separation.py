"""Separation of mixtures into one stem per family, for the baseline "Demucs + single encoder" (paper section 4).

`separate_demucs`: pretrained Hybrid Transformer Demucs (Rouard, Massa and Défossez, ICASSP 2023), of the package demucs.
`MaskSeparator`: a small network that learns to separate in a minute on a CPU; it downloads nothing and stands in for Demucs in the demo.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..audio.log_mel import RATE
from ..common.device import best_device
from ..common.files import one_line
from ..common.packages import require
from ..common.settings import choose
from ..data.mixtures import PEAK
from ..data.taxonomy import GROUPS
from ..models.encoder import AudioEncoder
from .protocol import Retriever

DEMUCS_SOURCES = {"Chromatic Percussion": "drums", "Percussion": "drums", "Drum Kit": "drums", "Bass": "bass"}  # all else: other
FFT, HOP = 1024, 256
STEM = (4, 2)  # bins and frames that the first convolution of the network makes one
WIDEST = 256  # channels, and families, of a stored network
DEPTH = 4  # halvings of frequency and time after it


def separate_demucs(
    mixtures: np.ndarray,
    families: Sequence[str],
    sample_rate: int = RATE,
    model: str = "htdemucs",
    repo: str | Path | None = None,
) -> np.ndarray:
    """Stems (B, S, T) float32 of mono mixtures (B, T), one for each of S families, by a pretrained Demucs.

    Percussive families get its stem "drums", Bass gets "bass", all others get "other": families of one source get the same stem. Each
    mixture is normalised as demucs' own command does it; there is no random shift, so the same mixture gives the same stems.

    Args:
        model: name of a model of demucs. repo: a local folder with `<model>.yaml` and the .th files that it names; such files are
            pickles, which run code: take those of people you trust. None: demucs' caches, else downloaded.
    Raises ValueError without the package, for an unknown family or unusable mixtures, and OSError for weights that cannot be loaded.
    """
    mixtures = _checked(mixtures)
    sources = [DEMUCS_SOURCES.get(choose("family", name, GROUPS), "other") for name in families]
    net = _demucs(model, repo)
    from demucs.apply import apply_model
    from torchaudio.functional import resample

    rows = [net.sources.index(choose(f"source of Demucs {model!r}", s, net.sources)) for s in sources]
    device = next(net.parameters()).device
    stems = np.zeros((len(mixtures), len(families), mixtures.shape[1]), np.float32)
    for mixture, out in zip(mixtures, stems, strict=True):
        if not mixture.any():
            continue  # normalised, it would be anything
        wave = resample(torch.from_numpy(mixture), sample_rate, net.samplerate)
        mean, std = wave.mean(), wave.std(correction=0) + 1e-8
        channels = ((wave - mean) / std).expand(1, net.audio_channels, -1)
        separated = apply_model(net, channels, shifts=0, device=device)[0].mean(dim=1) * std + mean  # (sources, samples)
        out[:] = resample(separated[rows], net.samplerate, sample_rate)[:, : mixtures.shape[1]]
    return stems


def need_demucs() -> None:
    """Missing without the package."""
    require("stems by Demucs", "demucs")


@lru_cache(maxsize=1)
def _demucs(name: str, repo: str | Path | None) -> nn.Module:
    need_demucs()
    from demucs.pretrained import get_model

    try:
        if repo is not None and not Path(repo).is_dir():
            raise OSError("no such folder")
        net = get_model(name, None if repo is None else Path(repo))
    except (Exception, SystemExit) as error:  # demucs ends the process where a package of its own is missing
        needs = f"with {name}.yaml and the .th files that it names"
        where = f"{repo} must be a folder {needs}"
        if repo is None:
            where = f"demucs takes them from the cache of the Hugging Face hub, from {torch.hub.get_dir()}/checkpoints or "
            where += f"from the network; else give `repo`, a local folder {needs}"
        raise OSError(f"the weights of Demucs {name!r} cannot be loaded ({one_line(error)}): {where}") from None
    return net.eval().to(best_device())


def _checked(waveforms) -> np.ndarray:
    """Waveforms (B, T) as float32, or a ValueError."""
    waveforms = np.asarray(waveforms, np.float32)
    if waveforms.ndim != 2 or not waveforms.shape[1]:
        raise ValueError(f"mixtures must be mono, (batch, samples) with at least one sample, got shape {waveforms.shape}")
    if not np.isfinite(waveforms).all():
        raise ValueError("mixtures hold NaN or infinite samples")
    return waveforms


def separated(single: AudioEncoder, separate) -> Retriever:
    """Retriever of a separator, (B, T) -> (B, S, T), and an encoder for single sounds: stems are peak-normalised, as notes are."""

    def vectors(waveforms: np.ndarray) -> np.ndarray:
        stems = separate(waveforms)  # (B, S, T)
        peaks = np.abs(stems).max(axis=2, keepdims=True)
        stems = stems * np.where(peaks > 1e-9, PEAK / np.maximum(peaks, 1e-9), 0)
        return single.embed(stems.reshape(-1, stems.shape[2])).reshape(*stems.shape[:2], -1)

    return Retriever(single, vectors, separate)
