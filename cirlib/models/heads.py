"""Per-family heads: an embedding with one head for single sounds, one for mixes, and one for each instrument family.

Head `single` is the embedding of an encoder without heads. Head `mix` is a linear layer on the pooled feature maps and lies near every
instrument of a mix. The head of a family is trained to lie near the instrument of that family that plays in a mix: attention pooling
over time in each frequency band, then one linear layer that all families share. Each head has unit length; sounds are compared by one head.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ATTENTION_HEADS = 8  # groups of channels with attention weights of their own
SINGLE, MIX = "single", "mix"  # heads before those of the families


class FamilyHeads(nn.Module):
    """Compute the heads `mix` and of each family (B, 1 + families, dim), of unit length.

    Inputs: feature maps (B, bands, T, C), C a multiple of ATTENTION_HEADS, and what the backbone pooled of them (B, P).
    """

    def __init__(self, *, channels: int, bands: int, pooled: int, families: int, dim: int):
        super().__init__()
        self.families = families
        self.mix = nn.Linear(pooled, dim)
        self.attention = nn.Linear(channels, families * ATTENTION_HEADS)
        self.dense = nn.Linear(bands * channels, dim)

    def forward(self, maps: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        b, bands, t, channels = maps.shape
        weights = self.attention(maps).float().softmax(dim=2).to(maps.dtype)
        weights = weights.reshape(b, bands, t, ATTENTION_HEADS, self.families).permute(0, 1, 3, 4, 2)  # (B, bands, heads, families, T)
        groups = maps.reshape(b, bands, t, ATTENTION_HEADS, channels // ATTENTION_HEADS).transpose(2, 3)  # (B, bands, heads, T, C / heads)
        attended = (weights @ groups).permute(0, 3, 1, 2, 4).flatten(2)  # (B, families, bands * C)
        return F.normalize(torch.cat([self.mix(pooled)[:, None], self.dense(attended)], dim=1).float(), dim=2)

    @torch.no_grad()
    def copy_from(self, other: "FamilyHeads", places: Sequence[tuple[int, int]]) -> None:
        """Copy what all families share from other heads, and the attention of families; `places`: (here, there) of each."""
        self.mix.load_state_dict(other.mix.state_dict())
        self.dense.load_state_dict(other.dense.state_dict())
        for own, given in ((self.attention.weight, other.attention.weight), (self.attention.bias, other.attention.bias)):
            own, given = (x.view(ATTENTION_HEADS, layer.families, -1) for x, layer in ((own, self), (given, other)))
            for here, there in places:
                own[:, here] = given[:, there]


class OutputLayer(nn.Module):
    """Map embeddings (B, D) to (B, outputs): layer norm and linear layer, as transformers.ASTForAudioClassification."""

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(dim, eps=1e-12)
        self.dense = nn.Linear(dim, outputs)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.dense(self.layernorm(vectors))


def head_names(families: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the heads, in order, of an encoder with a head for each of `families`; () without families."""
    return (SINGLE, MIX, *families) if len(families) else ()


def select_head(vectors: np.ndarray, name: str, families: Sequence[str]) -> np.ndarray:
    """Return one head (N, D) of embeddings (N, heads * D); without families the whole embedding."""
    if not len(families):
        return vectors
    return _split_heads(vectors, families)[:, head_names(families).index(name)]


def select_family_head(vectors: np.ndarray, wanted: Sequence[str | None], families: Sequence[str]) -> np.ndarray:
    """Return for each embedding (N, heads * D) the head (N, D) of its wanted family, or head `mix` for a family without a head."""
    if not len(families):
        return vectors
    place = {name: i for i, name in enumerate(head_names(families))}
    heads = _split_heads(vectors, families)
    return heads[np.arange(len(heads)), [place.get(name, place[MIX]) for name in wanted]]


def _split_heads(vectors: np.ndarray, families: Sequence[str]) -> np.ndarray:
    """Return embeddings (N, heads * D), N may be 0, as (N, heads, D)."""
    count = len(head_names(families))
    return vectors.reshape(len(vectors), count, vectors.shape[1] // count)
