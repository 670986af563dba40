"""Sounds of any length as blocks of waveforms of equal length."""

from collections.abc import Iterable, Iterator

import torch
from torch.nn import functional as F

PAD_TO = 4  # parts of a clip; windows longer than a clip are padded with silence to a whole number of them


def window_blocks(
    sounds: Iterable[torch.Tensor], clip: int, most: int, *, batch: int
) -> Iterator[tuple[list[int], list[float], torch.Tensor]]:
    """Cut sounds (T,) into windows of at most `most` clips of `clip` samples, shorter ones padded with silence to one clip.

    Yield blocks: the places of the sounds of N windows, the share of each window of its sound, and the windows (N, T), as many as fill
    `batch` clips at most, or one.
    """
    step, by_length = max(1, clip // PAD_TO), {}
    for place, sound in enumerate(sounds):
        for window in sound.split(clip * most):
            length = max(clip, min(-(-len(window) // step) * step, clip * most))
            by_length.setdefault(length, []).append((place, len(window) / len(sound), window))
    for length, windows in by_length.items():
        count = max(1, batch * clip // length)
        for start in range(0, len(windows), count):
            places, shares, block = zip(*windows[start : start + count], strict=True)
            yield list(places), list(shares), torch.stack([F.pad(window, (0, length - len(window))) for window in block])
