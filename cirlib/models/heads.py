"""An embedding in parts: one for single sounds, one for mixes, and one for each family, which hears in a mix what plays of that family.

Part `sound` is the embedding of an encoder without parts; part `mix` is read from the same pooled maps by a linear layer of its own and
lies near all that plays in a mix. The part of a family attends to its own moments of a sound (attention pooling over time, in every
frequency band), then one linear layer, the same for all families. Each has length 1; whether sounds are alike is told by one part.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HEADS = 8  # groups of channels that attend on their own
SOUND, MIX = "sound", "mix"  # parts that stand before those of the families


class PartReadout(nn.Module):
    """Maps (B, bands, T, C) and what was pooled of them (B, P) -> parts mix and of the families (B, 1 + families, dim), of length 1.

    C must be a multiple of HEADS.
    """

    def __init__(self, channels: int, bands: int, pooled: int, families: int, dim: int):
        super().__init__()
        self.families = families
        self.mix = nn.Linear(pooled, dim)
        self.attention = nn.Linear(channels, families * HEADS)
        self.dense = nn.Linear(bands * channels, dim)

    def forward(self, maps: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        b, bands, t, channels = maps.shape
        weights = self.attention(maps).float().softmax(dim=2).to(maps.dtype)
        weights = weights.reshape(b, bands, t, HEADS, self.families).permute(0, 1, 3, 4, 2)  # (B, bands, HEADS, families, T)
        groups = maps.reshape(b, bands, t, HEADS, channels // HEADS).transpose(2, 3)  # (B, bands, HEADS, T, C / HEADS)
        attended = (weights @ groups).permute(0, 3, 1, 2, 4).flatten(2)  # (B, families, bands * C)
        return F.normalize(torch.cat([self.mix(pooled)[:, None], self.dense(attended)], dim=1).float(), dim=2)


def part_names(families: Sequence[str]) -> tuple[str, ...]:
    """Names of the parts of an embedding with a part for each of these families, in order; without families it has none: ()."""
    return (SOUND, MIX, *families) if len(families) else ()


def one_part(vectors: np.ndarray, name: str, families: Sequence[str]) -> np.ndarray:
    """One part (N, D) of embeddings (N, parts * D) that have parts for `families`; without families the whole embedding."""
    if not len(families):
        return vectors
    return _cube(vectors, families)[:, part_names(families).index(name)]


def _cube(vectors: np.ndarray, families: Sequence[str]) -> np.ndarray:
    """Embeddings (N, parts * D), of which there may be none, as (N, parts, D)."""
    count = len(part_names(families))
    return vectors.reshape(len(vectors), count, vectors.shape[1] // count)


def own_part(vectors: np.ndarray, asked: Sequence[str | None], families: Sequence[str]) -> np.ndarray:
    """The part (N, D) of each embedding that tells which instrument of the family that is asked for plays in a mix; mix if it has none."""
    if not len(families):
        return vectors
    place = {name: i for i, name in enumerate(part_names(families))}
    cube = _cube(vectors, families)
    return cube[np.arange(len(cube)), [place.get(name, place[MIX]) for name in asked]]
