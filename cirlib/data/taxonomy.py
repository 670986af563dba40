"""The taxonomy: the 13 MIDI instrument families of the paper with their pitches and rhythms in mixtures, the 27 tags, and the
names of NSynth, Surge and General MIDI mapped to them (taxonomies of the paper and its companion page). family_names.py maps other names.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from ..common.settings import choose

# Note lengths in quarter notes and their probabilities (paper, mixture generation).
PERCUSSION_RHYTHM = {1.0: 0.8, 0.5: 0.2}
BASS_RHYTHM = {2.0: 0.45, 1.0: 0.4, 0.5: 0.1, 0.25: 0.05}
MELODIC_RHYTHM = {2.0: 0.1, 1.0: 0.3, 0.5: 0.3, 0.25: 0.3}


@dataclass(frozen=True)
class Family:
    """One instrument family."""

    name: str
    tag: str  # merged family among the 27 tags of the paper
    pitch: tuple[int, int, int]  # lowest, middle, highest MIDI pitch in mixtures
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
# General MIDI has more than the families: in banks and statistics, never in mixtures
GROUPS = (*FAMILIES, "Percussion", "Sound Effects", "Drum Kit")
MIXTURE_FAMILIES = ("Chromatic Percussion", "Bass", "Synth Lead")  # the three of the paper's mixtures


def group_tags(group: str | None) -> list[str]:
    """Return the tag of a group as a list; an empty one for a group that is no family."""
    return [FAMILIES[group].tag] if group in FAMILIES else []


def family(name: str) -> Family:
    """Return the family of that name. Raises ValueError with the valid names."""
    return FAMILIES[choose("family", name, FAMILIES)]


# Tags: the 27 labels of multi-label classification.
SOURCE_TAGS = ("acoustic", "electronic", "synthetic")
FAMILY_TAGS = (
    *("atmosphere", "bass", "brass", "effects", "guitar", "lead", "mallet", "organ"),
    *("pad", "percussion", "piano", "pluck", "strings", "vocal", "wind"),
)
FX_TAGS = ("chorus", "delay", "distortion", "flanger", "frequency shifter", "phaser", "resonator", "reverb", "rotary speaker")
TAGS = SOURCE_TAGS + FAMILY_TAGS + FX_TAGS

_NAMES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
NSYNTH = {name: (group, tag, tuple(pitches)) for name, (group, tag, *pitches) in _NAMES["nsynth"].items()}
NSYNTH_EXCLUDED = set(_NAMES["nsynth_excluded"].split())
NSYNTH_KEPT_BY_REFERENCE = set(_NAMES["nsynth_kept_by_reference"].split())
SURGE = {category: tuple(values) for category, values in _NAMES["surge"].items()}
_SURGE_SYNONYMS = {word: category for category, words in _NAMES["surge_synonyms"].items() for word in words.split()}
SURGE_FX = tuple(_NAMES["surge_fx"].items())
GM_GROUPS = {program: group for group, runs in _NAMES["general_midi"].items() for low, high in runs for program in range(low, high + 1)}


def surge_category(name: str) -> tuple[str | None, str | None, str] | None:
    """Return (group, tag, group of its note statistics) of a Surge category, or None for an unknown name.

    Case, a final s and near-synonyms do not matter: Bass is Basses, Woodwinds are Winds.
    """
    plain = name.strip().lower()
    for word in (plain, plain + "s", plain + "es", plain.removesuffix("s")):
        word = _SURGE_SYNONYMS.get(word, word)
        if word in SURGE:
            return SURGE[word]
    return None


def fx_tags(names: list[str]) -> list[str]:
    """Return the tags of effects (Surge's names, or tags), each once; some effects have no tag."""
    known = {**dict(SURGE_FX), "Freq Shift": "frequency shifter", "Rotary": "rotary speaker", **{tag: tag for tag in FX_TAGS}}
    tags = [known.get(name) for name in names]
    return list(dict.fromkeys(t for t in tags if t))


# What a file is if it is no single note; in banks it is one of its tags, beside that of its family
KINDS = ("loop", "phrase", "drum hit", "noise")
