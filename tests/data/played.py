"""Mixtures together with their slots, tracks and delays, which tests observe while they are made."""

from dataclasses import dataclass

import numpy as np
import pytest

from cirlib.data import mixtures, scores


@dataclass
class Played:
    """A mixture and what was drawn on the way to it."""

    mixture: mixtures.Mixture
    quarters: list[float]  # of each track, samples
    slots: list[tuple[np.ndarray, np.ndarray]]  # of each track
    tracks: np.ndarray  # (S, T) before they are delayed
    delay: int


def play(dataset, count):
    """`count` mixtures of a dataset."""
    out, slots, add_delayed = [], scores.slots, mixtures.add_delayed
    for i in range(count):
        drawn, tracks, delays = [], [], set()

        def spy_slots(lengths, *, quarter, drawn=drawn, **options):
            drawn.append((quarter, slots(lengths, quarter=quarter, **options)))
            return drawn[-1][1]

        def spy_add_delayed(track, delay, *, tracks=tracks, delays=delays, **options):
            tracks.append(track.copy())
            delays.add(delay)
            add_delayed(track, delay, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scores, "slots", spy_slots)
            patch.setattr(mixtures, "add_delayed", spy_add_delayed)
            mixture = dataset[i]
        out.append(Played(mixture, [q for q, _ in drawn], [s for _, s in drawn], np.stack(tracks), *delays))  # one delay for all
    return out
