"""An embedding in parts: one for any sound, and one for each family, which hears in a mixture what plays of that family.

The first is the embedding of an encoder without parts. The part of a family attends to its own moments of a sound (attention pooling
over time, in every frequency band), then one linear layer, the same for all families, makes a unit vector of it. Whether sounds are
alike is told by the cosine similarity of one of their parts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HEADS = 8  # groups of channels that attend on their own


class PartReadout(nn.Module):
    """Maps (B, bands, T, C) -> parts of the families (B, parts, dim) of length 1. C must be a multiple of HEADS."""

    def __init__(self, channels: int, bands: int, parts: int, dim: int):
        super().__init__()
        self.parts = parts
        self.attention = nn.Linear(channels, parts * HEADS)
        self.dense = nn.Linear(bands * channels, dim)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        b, bands, t, channels = maps.shape
        weights = self.attention(maps).float().softmax(dim=2).to(maps.dtype)
        weights = weights.reshape(b, bands, t, HEADS, self.parts).permute(0, 1, 3, 4, 2)  # (B, bands, HEADS, parts, T)
        groups = maps.reshape(b, bands, t, HEADS, channels // HEADS).transpose(2, 3)  # (B, bands, HEADS, T, C / HEADS)
        pooled = (weights @ groups).permute(0, 3, 1, 2, 4).flatten(2)  # (B, parts, bands * C)
        return F.normalize(self.dense(pooled).float(), dim=2)


def own_part(vectors: np.ndarray, families: Sequence[str | None], parts: Sequence[str]) -> np.ndarray:
    """The part (N, D) of each embedding (N, (1 + P) * D) that is compared for its family, of the P families in `parts`; else the first.

    Without parts the whole embedding.
    """
    if not parts:
        return vectors
    place = {name: i for i, name in enumerate(parts, 1)}
    cube = vectors.reshape(len(vectors), 1 + len(parts), -1)
    return cube[np.arange(len(cube)), [place.get(name, 0) for name in families]]


def first_part(vectors: np.ndarray, parts: Sequence[str]) -> np.ndarray:
    """The part (N, D) of embeddings that is compared for any sound; without parts the whole embedding."""
    return vectors[:, : vectors.shape[1] // (1 + len(parts))]
