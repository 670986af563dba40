"""Playing an instrument note by note: what the sources that render share."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...audio.io import Unusable, check_usable, fade_end, resample, trim
from ..jobs import Remark, Sound

RATE = 48000  # of rendering; the bank is at 16 kHz
VELOCITIES = (100, 70, 127, 85, 110, 60)


def instrument_rng(seed: int, uid: str) -> np.random.Generator:
    """Generator of one instrument: the same one whatever else is rendered."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "little")])


def rendered(stereo: np.ndarray, rate: int = RATE) -> np.ndarray:
    """A rendered note (channels, n) as it goes into a bank: mean of the channels, 16 kHz, faded, without the silent tail."""
    mono = check_usable(stereo.mean(axis=0, dtype=np.float32), rate)
    return trim(fade_end(resample(mono, rate)))


def render_notes(
    row: dict, notes: Sequence[tuple[int, int]], play: Callable[[int, int], np.ndarray], nothing: str
) -> Iterator[Sound | Remark]:
    """Sounds of the notes that `play(pitch, velocity)` renders, (channels, n), then a remark for each unusable one.

    ValueError with the text `nothing`, its {reason} filled in, if none is usable.
    """
    remarks = []
    for pitch, velocity in notes:
        try:
            yield Sound({**row, "pitch": float(pitch), "velocity": float(velocity)}, rendered(play(pitch, velocity)))
        except Unusable as reason:
            remarks.append(Remark(f"{row['instrument']} note {pitch}-{velocity}", str(reason)))
    if len(remarks) == len(notes):
        raise ValueError(nothing.format(reason=remarks[0].text))
    yield from remarks
