"""Log-mel spectrogram, batched, on the device of its input; equal to `transformers.ASTFeatureExtractor`.

Kaldi filter bank: frames of 25 ms every 10 ms, mean removed, pre-emphasis 0.97, Hann window, 512-point power spectrum,
128 HTK mel bands from 20 Hz to 8 kHz, natural logarithm; zero-padded or cut to a number of frames; then
(x - mean) / (2 * std) with AudioSet statistics (paper section 3; Gong et al., "AST", Interspeech 2021).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

RATE, WINDOW, HOP, BANDS, FFT = 16000, 400, 160, 128, 512
MEAN, STD = -4.2677393, 4.5689974
PREEMPHASIS = torch.tensor(0.97).item()  # rounded to float32, so that the share of the mean is subtracted exactly
CPU_FRAMES = 1200  # per block: more would not fit the cache of a CPU, fewer would cost more calls
EPSILON = torch.finfo(torch.float32).eps


def frames_for(seconds: float) -> int:
    """Return the spectrogram frames of an encoder for clips of `seconds`: 102.4 per second, a multiple of the patch size 16."""
    return 16 * -(-round(102.4 * seconds) // 16)


class LogMel(nn.Module):
    """(B, T) waveforms in [-1, 1] at 16 kHz -> (B, frames, 128) normalised log-mel. No trainable parameters."""

    def __init__(self, frames: int = 1024, mean: float = MEAN, std: float = STD):
        super().__init__()
        self.frames, self.mean, self.std = frames, mean, std
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False), persistent=False)
        self.register_buffer("mel", mel_filters().repeat_interleave(2, dim=0), persistent=False)  # real and imaginary part of each bin
        self.blocks = _filter_blocks()

    @torch.no_grad()
    def forward(self, waveforms: torch.Tensor, frames: int | None = None) -> torch.Tensor:
        """Return `frames` frames, by default those of the front end: longer waveforms are cut, shorter ones padded with silence."""
        length = frames or self.frames
        if waveforms.ndim != 2:
            raise ValueError(f"expected waveforms of shape (batch, samples), got {tuple(waveforms.shape)}")
        with torch.autocast(waveforms.device.type, enabled=False):
            out = waveforms.new_empty(len(waveforms), length, BANDS, dtype=torch.float32)
            n = min(length, max(0, (waveforms.shape[1] - WINDOW) // HOP + 1))
            out[:, n:] = -self.mean / (2 * self.std)  # padding: log-mel of 0
            if n:
                used = waveforms[:, : WINDOW + (n - 1) * HOP].float()
                block = max(1, CPU_FRAMES // n if waveforms.device.type == "cpu" else len(used))  # waveforms at once
                frames = used.new_zeros(block, n, FFT)
                for start in range(0, len(used), block):
                    self._log_mel(used[start : start + block], frames, out[start : start + block, :n])
            return out

    def _log_mel(self, x: torch.Tensor, frames: torch.Tensor, out: torch.Tensor) -> None:
        """Write the log-mel of x (B, T) to out (B, n, 128). `frames` (at least B, n, 512) is a work buffer, 0 from sample 399 on."""
        frames, window = frames[: len(x)], self.window[1:]  # the window is 0 at the first sample of a frame
        emphasised = torch.sub(x[:, 1:], x[:, :-1], alpha=PREEMPHASIS).unfold(1, WINDOW - 1, HOP)  # (B, n, 399)
        means = x.unfold(1, WINDOW, HOP).mean(dim=2, keepdim=True)
        windowed = frames[..., : WINDOW - 1]
        torch.sub(emphasised, means, alpha=1 - PREEMPHASIS, out=windowed)  # pre-emphasis scales the mean of a frame by 1 - 0.97
        windowed *= window
        squares = torch.view_as_real(torch.fft.rfft(frames)).square_().flatten(2)  # (B, n, 2 * 257)
        for bins, bands in self.blocks:
            torch.bmm(squares[..., bins], self.mel[bins, bands].expand(len(x), -1, -1), out=out[..., bands])
        shift = torch.tensor(-self.mean / (2 * self.std))
        torch.add(shift, out.clamp_min_(EPSILON).log_(), alpha=1 / (2 * self.std), out=out)  # normalised in one pass


def mel_filters() -> torch.Tensor:
    """Return triangular filters on the HTK mel scale, (257, 128), from 20 Hz to half the sample rate, as Kaldi computes them."""

    def mel(hz):
        return 1127.0 * torch.log1p(hz / 700.0)

    low, high = mel(torch.tensor(20.0)), mel(torch.tensor(RATE / 2))
    step = (high - low) / (BANDS + 1)
    left = low + torch.arange(BANDS) * step  # (128,)
    bins = mel(torch.arange(FFT // 2) * RATE / FFT)[:, None]  # (256, 1)
    triangles = torch.minimum((bins - left) / step, (left + 2 * step - bins) / step).clamp_min(0)
    return F.pad(triangles, (0, 0, 0, 1))  # the last bin, 8 kHz, belongs to no band


def _filter_blocks(size: int = 32) -> list[tuple[slice, slice]]:
    """Return (rows, columns) of LogMel.mel for each `size` bands, without the rows that are 0: these are most of the matrix."""

    def bin_at(edge: int) -> float:  # one of the BANDS + 2 edges of the triangles
        low, high = (math.log1p(hz / 700) for hz in (20, RATE / 2))
        return 700 * math.expm1(low + (high - low) * edge / (BANDS + 1)) * FFT / RATE

    starts = range(0, BANDS, size)
    return [(slice(2 * int(bin_at(s)), 2 * int(bin_at(s + size + 1)) + 2), slice(s, s + size)) for s in starts]
