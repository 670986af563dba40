"""Separation by frequency: bass below 200 Hz, drums above 2 kHz, other between; no vocals."""

import torch

BANDS = {"bass": (0, 200), "other": (200, 2000), "drums": (2000, torch.inf), "vocals": (0, 0)}
PAN = torch.tensor([1.5, 0.5])  # level of the channels of all stems
HUM = 1e-4  # a network is never silent
calls = []  # (mix, shifts) of all calls


def apply_model(model, mix, shifts=1, split=True, overlap=0.25, transition_power=1.0, progress=False, device=None):
    """Stems (batch, sources, channels, samples) of mixtures (batch, channels, samples), silent ones in training mode."""
    calls.append((mix.clone(), shifts))
    spectrum = torch.fft.rfft(mix)
    hz = torch.fft.rfftfreq(mix.shape[-1], 1 / model.samplerate)
    bands = torch.stack([(hz >= low) & (hz < high) for low, high in map(BANDS.get, model.sources)])[:, None]
    return torch.fft.irfft(spectrum[:, None] * bands, mix.shape[-1]) * PAN[:, None] * (not model.training) + HUM
