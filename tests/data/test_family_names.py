"""Families from names of files, folders and presets: the longest and most specific instrument word decides."""

from pathlib import Path

import pytest
import yaml

from cirlib.data.family_names import guess_family
from cirlib.data.taxonomy import GM_GROUPS

NAMES = yaml.safe_load((Path(__file__).parent / "sources" / "names.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("group", "names"), NAMES["families"].items())
def test_guess_family(group, names):
    """Whole words, singular or plural, in any case, joined by anything."""
    assert {name: guess_family(name) for name in names} == dict.fromkeys(names, group)


def test_most_specific_name_decides():
    """A file before its folder, a near folder before a far one."""
    assert guess_family("Violin", "Piano", "Drums") == "Strings"
    assert guess_family("take 3", "Piano", "Drums") == "Piano"
    assert guess_family("take 3", "session") is None
    assert guess_family() is None


@pytest.mark.parametrize(("group", "names"), NAMES["families_of_compounds"].items())
def test_specific_words_win(group, names):
    """Compounds, glued words, other languages; dynamics, products and styles are no instruments."""
    assert {name: guess_family(name) for name in names} == dict.fromkeys(names, group)


GM = (  # names of General MIDI's programs, as in folders of samples of them
    "acoustic_grand_piano bright_acoustic_piano electric_grand_piano honkytonk_piano electric_piano_1 electric_piano_2 harpsichord "
    "clavinet celesta glockenspiel music_box vibraphone marimba xylophone tubular_bells dulcimer drawbar_organ percussive_organ "
    "rock_organ church_organ reed_organ accordion harmonica tango_accordion acoustic_guitar_nylon acoustic_guitar_steel "
    "electric_guitar_jazz electric_guitar_clean electric_guitar_muted overdriven_guitar distortion_guitar guitar_harmonics "
    "acoustic_bass electric_bass_finger electric_bass_pick fretless_bass slap_bass_1 slap_bass_2 synth_bass_1 synth_bass_2 violin "
    "viola cello contrabass tremolo_strings pizzicato_strings orchestral_harp timpani string_ensemble_1 string_ensemble_2 "
    "synth_strings_1 synth_strings_2 choir_aahs voice_oohs synth_choir orchestra_hit trumpet trombone tuba muted_trumpet french_horn "
    "brass_section synth_brass_1 synth_brass_2 soprano_sax alto_sax tenor_sax baritone_sax oboe english_horn bassoon clarinet piccolo "
    "flute recorder pan_flute blown_bottle shakuhachi whistle ocarina lead_1_square lead_2_sawtooth lead_3_calliope lead_4_chiff "
    "lead_5_charang lead_6_voice lead_7_fifths lead_8_bass__lead pad_1_new_age pad_2_warm pad_3_polysynth pad_4_choir pad_5_bowed "
    "pad_6_metallic pad_7_halo pad_8_sweep fx_1_rain fx_2_soundtrack fx_3_crystal fx_4_atmosphere fx_5_brightness fx_6_goblins "
    "fx_7_echoes fx_8_scifi sitar banjo shamisen koto kalimba bagpipe fiddle shanai tinkle_bell agogo steel_drums woodblock taiko_drum "
    "melodic_tom synth_drum reverse_cymbal guitar_fret_noise breath_noise seashore bird_tweet telephone_ring helicopter applause gunshot"
)


@pytest.mark.parametrize("program", range(128))
def test_names_of_general_midi(program):
    assert guess_family(GM.split()[program]) == GM_GROUPS[program]


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (("basses-sus", "Basses", "Strings"), "Strings"),
        (("C3", "Bass", "Clarinets"), "Reed"),
        (("Bass 01", "Drums"), "Drum Kit"),
        (("bass", "Guitars"), "Bass"),
        (("Bass C1", "Trap Drum Kit"), "Bass"),  # a pack of everything
        (("Metronome Bell", "Drums"), "Drum Kit"),
        (("bells", "Percussion"), "Chromatic Percussion"),
        (("Lead", "Guitar"), "Synth Lead"),
    ],
)
def test_bass_and_bell_depend_on_their_folder(names, group):
    assert guess_family(*names) == group
