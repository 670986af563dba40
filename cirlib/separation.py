"""Separation of mixtures into one stem per family, for the baseline "Demucs + single encoder" (paper section 4).

`separate_demucs`: pretrained Hybrid Transformer Demucs (Rouard, Massa and Défossez, ICASSP 2023), of the package demucs.
`MaskSeparator`: a small network that learns to separate in a minute on a CPU; it downloads nothing and stands in for Demucs in the demo.
"""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .checkpoints import read_checkpoint, write_checkpoint
from .config import choose, from_dict
from .device import best_device
from .families import GROUPS
from .files import one_line
from .frontend import RATE
from .jobs import require
from .paths import short

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


@dataclasses.dataclass
class SeparatorConfig:
    """All that is needed to build a separator again before its weights are loaded."""

    families: tuple[str, ...]  # one stem each, in this order
    width: int = 16  # channels of the first stage


class MaskSeparator(nn.Module):
    """Waveforms (B, T) at 16 kHz -> stems (B, S, T), one per family; the stems of a mixture sum to it.

    A U-Net sees the square root of the magnitude spectrogram and gives one mask per family; masks sum to one (softmax) and
    weigh the spectrogram, whose phase all stems share. Any level is heard alike.
    """

    def __init__(self, config: SeparatorConfig):
        super().__init__()
        if not config.families or len(set(config.families)) < len(config.families):
            raise ValueError(f"families must be one or more different ones, got {', '.join(config.families) or 'none'}")
        self.config = config
        self.net = UNet(config.width, len(config.families))
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Stems, with gradients of the weights."""
        spectrum = self._stft(waveforms)
        stems = self._masks(spectrum.abs()) * spectrum[:, None]
        waves = torch.istft(stems.flatten(0, 1), FFT, HOP, window=self.window, length=waveforms.shape[1])
        return waves.view(*stems.shape[:2], -1)

    def loss(self, mixtures: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
        """L1 distance of the magnitudes of masked mixtures (B, T) and true stems (B, S, T): a scalar, the mean over bins.

        Divided by the level of each mixture, so that quiet ones count the same. Raises ValueError for stems of another shape.
        """
        if stems.shape != (len(mixtures), len(self.config.families), mixtures.shape[1]):
            raise ValueError(
                f"stems must be (B, {len(self.config.families)}, T), one per family of mixtures (B, T), "
                f"got {tuple(stems.shape)} for mixtures {tuple(mixtures.shape)}"
            )
        mixed, true = self._stft(mixtures).abs(), self._stft(stems.flatten(0, 1)).abs()  # (B, F, N), (B * S, F, N)
        masked = self._masks(mixed) * mixed[:, None]  # (B, S, F, N)
        distance = (masked - true.view_as(masked)).abs().mean(dim=(1, 2, 3))
        return (distance / _level(mixed).flatten()).mean()

    @torch.inference_mode()
    def separate(self, waveforms: np.ndarray, batch: int = 32) -> np.ndarray:
        """Stems (B, S, T) float32 of mixtures (B, T), no gradients. ValueError for mixtures that are empty, not mono or not finite."""
        waveforms = _checked(waveforms)
        out = np.zeros((len(waveforms), len(self.config.families), waveforms.shape[1]), np.float32)
        was_training, device = self.training, self.window.device
        self.eval()
        for start in range(0, len(waveforms), batch):
            block = torch.from_numpy(waveforms[start : start + batch]).to(device)
            out[start : start + batch] = MaskSeparator.forward(self, block).cpu().numpy()  # float32, also inside mixed precision
        self.train(was_training)
        return out

    def save(self, path: Path, **extra) -> Path:
        """Write a checkpoint atomically; `extra` is plain data kept in custom_config."""
        custom = {"model": {"base": "U-Net", "sr": RATE}, "cirlib": dataclasses.asdict(self.config), **extra}
        return write_checkpoint(path, self.net.state_dict(), custom)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "MaskSeparator":
        """Separator of a checkpoint, in eval mode. Raises FileNotFoundError or ValueError that says what it is."""
        weights, custom = read_checkpoint(path, "a separator")
        try:
            config = from_dict(SeparatorConfig, custom["cirlib"])
            if not 0 < config.width <= WIDEST or len(config.families) > WIDEST:
                raise ValueError(f"width and number of families must be 1 to {WIDEST}")
            with torch.device("meta"):  # without memory: does the file hold what its settings ask for?
                cls(config).net.load_state_dict(weights, assign=True)
            separator = cls(config)
            separator.net.load_state_dict(weights)
        except Exception as error:  # whatever its settings lead to
            raise ValueError(f"{short(path)} does not fit a separator that this version knows ({one_line(error)})") from None
        return separator.eval().to(device)

    def _stft(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, F, N) complex; zeros around, so that any length will do."""
        return torch.stft(waveforms.float(), FFT, HOP, window=self.window, pad_mode="constant", return_complex=True)

    def _masks(self, magnitude: torch.Tensor) -> torch.Tensor:
        """(B, F, N) -> (B, S, F, N)"""
        return self.net((magnitude / _level(magnitude)).sqrt()).float().softmax(dim=1)


def _level(magnitude: torch.Tensor) -> torch.Tensor:
    """Root mean square of spectrograms (B, F, N), at least 1e-8: (B, 1, 1)."""
    return magnitude.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-8)


class UNet(nn.Module):
    """(B, F, N) spectrogram -> (B, S, F, N) logits. The lowest F - 1 bins are seen, the highest bin shares the logits below it."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        widths = [width * 2**i for i in range(DEPTH + 1)]
        kernel = tuple(2 * s - 1 for s in STEM)
        self.stem = _conv(2, width, kernel, STEM)
        self.down = nn.ModuleList(_conv(a, b, (3, 3), 2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.mix = nn.ModuleList(_conv(a, a, (3, 3), 1) for a in widths[:-1])
        self.head = nn.ConvTranspose2d(width, outputs, STEM, STEM)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        bins, frames = spectrogram.shape[1] - 1, spectrogram.shape[2]
        x = F.pad(spectrogram[:, None, :-1], (0, -frames % (STEM[1] << DEPTH), 0, -bins % (STEM[0] << DEPTH)))
        height = torch.linspace(-1, 1, x.shape[2], device=x.device)[:, None].expand_as(x)  # convolutions alone hardly know the pitch
        x = self.stem(torch.cat([x, height], dim=1).contiguous(memory_format=torch.channels_last))  # half the time on a CPU
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up, mix, skip in zip(reversed(self.up), reversed(self.mix), reversed(skips), strict=True):
            x = mix(up(x) + skip)
        logits = self.head(x)[:, :, :bins, :frames]
        return torch.cat([logits, logits[:, :, -1:]], dim=2)


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int | tuple[int, int]) -> nn.Sequential:
    padding = tuple(k // 2 for k in kernel)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio (...,) in dB of estimates of targets, both (..., T).

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019 (no mean is removed). Infinite for a perfect estimate, minus infinite
    for a silent one or one that holds nothing of the target, NaN for a silent target, which has no such ratio.
    """
    estimate, target = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (estimate * target).sum(-1, keepdims=True) / (target**2).sum(-1, keepdims=True)
        signal, rest = ((scale * target) ** 2).sum(-1), ((scale * target - estimate) ** 2).sum(-1)
        return np.where(signal == 0, -np.inf, 10 * np.log10(signal / rest))
