"""The taxonomy: the 13 MIDI instrument families of the paper with their pitches and rhythms in mixtures, the 27 tags, and the
names of NSynth, Surge and General MIDI mapped to them (taxonomies of the paper and its companion page). family_names.py maps other names.
"""

from dataclasses import dataclass

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

# NSynth: family -> (group, tag, (lowest, middle, highest) pitch that is used)
NSYNTH = {
    "bass": ("Bass", "bass", (23, 40, 63)),
    "brass": ("Brass", "brass", (31, 60, 89)),
    "flute": ("Pipe", "wind", (35, 72, 108)),
    "guitar": ("Guitar", "guitar", (25, 60, 86)),
    "keyboard": ("Piano", "piano", (21, 60, 108)),
    "mallet": ("Chromatic Percussion", "mallet", (36, 60, 108)),
    "organ": ("Organ", "organ", (21, 54, 96)),
    "reed": ("Reed", "wind", (31, 60, 96)),
    "string": ("Strings", "strings", (24, 67, 96)),
    "synth_lead": ("Synth Lead", "lead", (36, 60, 84)),
    "vocal": ("Voice", "vocal", (38, 60, 86)),
}
NSYNTH_EXCLUDED = {
    *("bass_synthetic_000", "bass_synthetic_002", "guitar_electronic_014"),
    *(f"vocal_synthetic_{i:03d}" for i in (0, 1, 2, 3, 7, 8, 9, 10, 12)),
}
NSYNTH_KEPT_BY_REFERENCE = {"bass_synthetic_002", "guitar_electronic_014"}  # a missing comma in the list of the reference code

# Surge: category -> (group, tag, group of its note statistics); near-synonyms of category names
SURGE = {
    "basses": ("Bass", "bass", "Bass"),
    "brass": ("Brass", "brass", "Brass"),
    "fx": ("Synth Effects", "effects", "Piano"),
    "keys": ("Piano", "piano", "Piano"),
    "leads": ("Synth Lead", "lead", "Synth Lead"),
    "pads": ("Synth Pad", "pad", "Synth Pad"),
    "percussion": ("Chromatic Percussion", "percussion", "Chromatic Percussion"),
    "plucks": ("Guitar", "pluck", "Guitar"),
    "polysynths": (None, None, "Piano"),
    "sequences": (None, None, "Synth Pad"),
    "winds": ("Reed", "wind", "Reed"),
    "guitars": ("Guitar", "guitar", "Guitar"),
    "organs": ("Organ", "organ", "Organ"),
    "synths": ("Synth Lead", "lead", "Synth Lead"),
    "vox": ("Voice", "vocal", "Voice"),
    "atmospheres": ("Synth Effects", "atmosphere", "Synth Pad"),
    "mallets": ("Chromatic Percussion", "mallet", "Chromatic Percussion"),
    "strings": ("Strings", "strings", "Strings"),
    "drones": ("Synth Effects", "effects", "Synth Pad"),
}
_SURGE_SYNONYMS = {
    "drums": "percussion", "rhythms": "sequences", "arps": "sequences", "arpeggios": "sequences", "sequencer": "sequences",
    "woodwinds": "winds", "voices": "vox", "vocals": "vox", "ambiances": "atmospheres", "soundscapes": "atmospheres",
    "ambience": "atmospheres", "ambient": "atmospheres", "effects": "fx", "sfx": "fx", "bells": "mallets", "keyboards": "keys",
    "pianos": "keys", "textures": "atmospheres",
}  # fmt: skip


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


# Surge: effects in the order of their type ids, with their tag
SURGE_FX = (
    ("Off", None), ("Delay", "delay"), ("Reverb 1", "reverb"), ("Phaser", "phaser"), ("Rotary Speaker", "rotary speaker"),
    ("Distortion", "distortion"), ("EQ", None), ("Frequency Shifter", "frequency shifter"), ("Conditioner", None),
    ("Chorus", "chorus"), ("Vocoder", None), ("Reverb 2", "reverb"), ("Flanger", "flanger"), ("Ring Modulation", None),
    ("Airwindows", None), ("Neuron", None), ("Graphic EQ", None), ("Resonator", "resonator"), ("CHOW", "distortion"),
    ("Exciter", "resonator"), ("Ensemble", "chorus"), ("Combulator", "flanger"), ("Nimbus", None), ("Tape", "distortion"),
    ("Treemonster", None), ("Waveshaper", "distortion"), ("Mid-Side Tool", None), ("Spring Reverb", "reverb"),
    ("Bonsai", "distortion"), ("Audio Input", None),
)  # fmt: skip


def fx_tags(names: list[str]) -> list[str]:
    """Return the tags of effects (Surge's names, or tags), each once; some effects have no tag."""
    known = {**dict(SURGE_FX), "Freq Shift": "frequency shifter", "Rotary": "rotary speaker", **{tag: tag for tag in FX_TAGS}}
    tags = [known.get(name) for name in names]
    return list(dict.fromkeys(t for t in tags if t))


# General MIDI: programs -> group, as in the statistics of Slakh
_GM = {
    "Piano": range(8), "Chromatic Percussion": (*range(8, 16), 47, 108), "Organ": range(16, 24),
    "Guitar": (*range(24, 32), *range(104, 108)), "Bass": range(32, 40), "Strings": (*range(40, 47), *range(48, 52), 110),
    "Voice": range(52, 55), "Brass": range(56, 64), "Reed": (*range(64, 72), 109, 111), "Pipe": range(72, 80),
    "Synth Lead": range(80, 88), "Synth Pad": range(88, 96), "Synth Effects": range(96, 104),
    "Percussion": (55, *range(112, 120)), "Sound Effects": range(120, 128), "Drum Kit": (128,),
}  # fmt: skip
GM_GROUPS = {program: group for group, programs in _GM.items() for program in programs}

# What a file is if it is no single note; in banks it is one of its tags, beside that of its family
KINDS = ("loop", "phrase", "drum hit", "noise")
