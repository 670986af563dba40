"""The one taxonomy: the 13 MIDI instrument families of the paper, with the pitches and rhythms that play them."""

from dataclasses import dataclass

from .config import choose

# Note lengths in quarter notes and their probabilities (paper, mixture generation).
PERCUSSION_RHYTHM = {1.0: 0.8, 0.5: 0.2}
BASS_RHYTHM = {2.0: 0.45, 1.0: 0.4, 0.5: 0.1, 0.25: 0.05}
MELODIC_RHYTHM = {2.0: 0.1, 1.0: 0.3, 0.5: 0.3, 0.25: 0.3}


@dataclass(frozen=True)
class Family:
    """One instrument family."""

    name: str
    tag: str  # merged family among the 27 tags of the paper
    pitch: tuple[int, int, int]  # lowest, middle, highest MIDI pitch that it is played at
    rhythm: tuple[tuple[float, float], ...]  # (length in quarters, probability)
    rest: float = 0.25  # probability that a slot is silent
    weight: float = 1.0  # gain of its track in a mixture


def _family(name, tag, pitch, rhythm=None, **kwargs):
    return Family(name, tag, pitch, tuple((rhythm or MELODIC_RHYTHM).items()), **kwargs)


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        _family("Piano", "piano", (45, 60, 76)),
        _family("Chromatic Percussion", "percussion", (52, 64, 78), PERCUSSION_RHYTHM, rest=0.0, weight=4.0),
        _family("Organ", "organ", (45, 60, 76)),
        _family("Guitar", "guitar", (43, 57, 72)),
        _family("Bass", "bass", (28, 36, 48), BASS_RHYTHM),
        _family("Strings", "strings", (48, 62, 80)),
        _family("Voice", "vocal", (48, 60, 74)),
        _family("Brass", "brass", (46, 59, 74)),
        _family("Reed", "wind", (50, 62, 78)),
        _family("Pipe", "wind", (60, 72, 88)),
        _family("Synth Lead", "lead", (55, 66, 79)),
        _family("Synth Pad", "pad", (45, 60, 76)),
        _family("Synth Effects", "effects", (48, 60, 74)),
    )
}
MIXTURE_FAMILIES = ("Chromatic Percussion", "Bass", "Synth Lead")  # the three of the paper's mixtures


def family(name: str) -> Family:
    """The family of that name; an unknown name is a ValueError that names the valid ones."""
    return FAMILIES[choose("family", name, FAMILIES)]
