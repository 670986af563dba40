"""A small convolutional encoder that trains fast on a CPU: dense 3x3 convolutions that halve time and frequency."""

from itertools import pairwise

import torch
from torch import nn

from .distributed import BatchNorm


class Residual(nn.Module):
    """Add a 3x3 convolution of feature maps (B, C, T, bands) to them."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), BatchNorm(channels), nn.ReLU(inplace=True))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps + self.branch(maps)


class ConvNet(nn.Module):
    """Embed log-mels (B, frames, 128) as (B, dim): four strided convolutions, mean and maximum over time, a linear layer.

    `blocks`: residual convolutions at the end of each of the last two stages, where maps are small.
    """

    def __init__(self, width: int = 32, dim: int = 256, blocks: int = 0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 5, stride=(4, 2), padding=2), nn.ReLU(inplace=True))
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), BatchNorm(b), nn.ReLU(inplace=True))
                for a, b in pairwise(widths)
            )
        )
        for stage, channels in zip(self.stages[1:], widths[2:], strict=True):
            stage.extend(Residual(channels) for _ in range(blocks))
        self.channels = widths[-1]
        self.head = nn.Linear(2 * widths[-1] * 8, dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.maps(features)))

    def maps(self, features: torch.Tensor) -> torch.Tensor:
        """Return the feature maps (B, C, frames / 32, 8)."""
        return self.stages(self.stem(features[:, None]))

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        """Return mean and maximum over time of feature maps: (B, 2C * 8)."""
        return torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1).flatten(1)
