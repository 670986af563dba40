"""How each family is played: the distribution of pitches that mixtures draw notes from.

Without statistics of real scores the documented default is a normal distribution around the middle pitch of the
family, a third of its range wide on each side, cut at the range.
"""

from functools import cache

import numpy as np

from .families import family


@cache
def pitch_probabilities(name: str) -> np.ndarray:
    """Probability of each MIDI pitch 0..127 for a family, shape (128,), sums to 1."""
    low, middle, high = family(name).pitch
    pitch = np.arange(128)
    spread = np.where(pitch < middle, middle - low, high - middle) / 1.5
    density = np.exp(-0.5 * ((pitch - middle) / spread) ** 2) * ((pitch >= low) & (pitch <= high))
    density /= density.sum()
    density.setflags(write=False)
    return density
