"""The taxonomy: one vocabulary of families and tags, and the names of others mapped into it."""

import pytest

from cirlib.data.taxonomy import (
    FAMILIES,
    FAMILY_TAGS,
    FX_TAGS,
    GM_GROUPS,
    GROUPS,
    MIXTURE_FAMILIES,
    NSYNTH,
    NSYNTH_EXCLUDED,
    NSYNTH_KEPT_BY_REFERENCE,
    SURGE,
    SURGE_FX,
    TAGS,
    family,
    fx_tags,
    surge_category,
)


def test_sizes_of_the_paper():
    """27 tags (3 of origin, 15 of family, 9 of effects), 13 families, and what General MIDI adds."""
    assert len(set(TAGS)) == len(TAGS) == 27
    assert (len(set(FAMILY_TAGS)), len(set(FX_TAGS))) == (15, 9)
    assert len(FAMILIES) == 13
    assert set(MIXTURE_FAMILIES) < set(FAMILIES)
    assert set(GROUPS) - set(FAMILIES) == {"Percussion", "Sound Effects", "Drum Kit"}


def test_every_name_is_of_the_vocabulary():
    """Families have tags among the 27, and NSynth and Surge lead to families and tags."""
    assert {f.tag for f in FAMILIES.values()} < set(FAMILY_TAGS)
    assert {tag for _, tag in SURGE_FX} - {None} == set(FX_TAGS)
    for group, tag, _ in [*NSYNTH.values(), *SURGE.values()]:
        assert group is None or group in FAMILIES
        assert tag is None or tag in FAMILY_TAGS
    assert {player for *_, player in SURGE.values()} < set(FAMILIES)


@pytest.mark.parametrize(("low", "middle", "high"), [f.pitch for f in FAMILIES.values()] + [p for *_, p in NSYNTH.values()])
def test_pitches_are_in_order(low, middle, high):
    assert 0 <= low < middle < high <= 127


@pytest.mark.parametrize("name", FAMILIES)
def test_rhythms_are_probabilities(name):
    assert sum(p for _, p in family(name).rhythm) == pytest.approx(1)


def test_unknown_family():
    with pytest.raises(ValueError, match=r"unknown family 'Pianoo' \(did you mean 'Piano'\?\); valid: Piano, "):
        family("Pianoo")


def test_excluded_instruments():
    """12 instruments of NSynth; the reference failed to exclude two of them."""
    assert len(NSYNTH_EXCLUDED) == 12
    assert NSYNTH_KEPT_BY_REFERENCE < NSYNTH_EXCLUDED


# General MIDI


@pytest.mark.parametrize(
    ("program", "group"),
    [
        *((0, "Piano"), (7, "Piano"), (8, "Chromatic Percussion"), (16, "Organ"), (24, "Guitar"), (32, "Bass"), (39, "Bass")),
        *((40, "Strings"), (46, "Strings"), (47, "Chromatic Percussion"), (48, "Strings"), (52, "Voice"), (55, "Percussion")),
        *((56, "Brass"), (64, "Reed"), (72, "Pipe"), (80, "Synth Lead"), (88, "Synth Pad"), (96, "Synth Effects"), (104, "Guitar")),
        *((108, "Chromatic Percussion"), (109, "Reed"), (110, "Strings"), (111, "Reed"), (112, "Percussion"), (119, "Percussion")),
        *((120, "Sound Effects"), (127, "Sound Effects"), (128, "Drum Kit")),
    ],
)
def test_general_midi(program, group):
    """Slakh's groups: timpani (47) and kalimba (108) are tuned percussion, the sitar (104) is a guitar, 128 is the drum kit."""
    assert GM_GROUPS[program] == group


def test_every_program_has_a_group():
    assert sorted(GM_GROUPS) == list(range(129))
    assert set(GM_GROUPS.values()) == set(GROUPS)


# Surge


@pytest.mark.parametrize(
    ("name", "group", "tag", "player"),
    [
        ("Basses", "Bass", "bass", "Bass"),
        ("Bass", "Bass", "bass", "Bass"),
        ("bass", "Bass", "bass", "Bass"),
        (" BASSES ", "Bass", "bass", "Bass"),
        ("Brass", "Brass", "brass", "Brass"),
        ("Keys", "Piano", "piano", "Piano"),
        ("Key", "Piano", "piano", "Piano"),
        ("Lead", "Synth Lead", "lead", "Synth Lead"),
        ("Synth", "Synth Lead", "lead", "Synth Lead"),
        ("Pluck", "Guitar", "pluck", "Guitar"),
        ("Winds", "Reed", "wind", "Reed"),
        ("Woodwinds", "Reed", "wind", "Reed"),
        ("Woodwind", "Reed", "wind", "Reed"),
        ("Drums", "Chromatic Percussion", "percussion", "Chromatic Percussion"),
        ("Bells", "Chromatic Percussion", "mallet", "Chromatic Percussion"),
        ("Vocals", "Voice", "vocal", "Voice"),
        ("Ambiance", "Synth Effects", "atmosphere", "Synth Pad"),
        ("Soundscapes", "Synth Effects", "atmosphere", "Synth Pad"),
        ("FX", "Synth Effects", "effects", "Piano"),
        ("Polysynths", None, None, "Piano"),
        ("Arps", None, None, "Synth Pad"),
    ],
)
def test_surge_category(name, group, tag, player):
    """Number, case and near-synonyms of a category do not matter."""
    assert surge_category(name) == (group, tag, player)


@pytest.mark.parametrize("name", ["Templates", "Tutorials", "MPE", "", "s", "My Basses"])
def test_unknown_surge_category(name):
    assert surge_category(name) is None


@pytest.mark.parametrize(
    ("names", "tags"),
    [
        ([], []),
        (["EQ", "Conditioner", "Vocoder", "Airwindows"], []),
        (["Reverb 1", "Delay"], ["reverb", "delay"]),
        (["Reverb 2", "EQ", "Spring Reverb", "Reverb 1"], ["reverb"]),
        (["Distortion", "CHOW", "Tape", "Waveshaper", "Bonsai"], ["distortion"]),
        (["Ensemble", "Combulator", "Exciter"], ["chorus", "flanger", "resonator"]),
        (["Freq Shift", "Rotary"], ["frequency shifter", "rotary speaker"]),
        (["chorus", "Chorus", "rotary speaker"], ["chorus", "rotary speaker"]),
        (["an effect of the future"], []),
    ],
)
def test_fx_tags(names, tags):
    """Each tag once, in the order of the effects; what has no tag gives none."""
    assert fx_tags(names) == tags
