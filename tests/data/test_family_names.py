"""Families from names of files, folders and presets: the longest and most specific instrument word decides."""

import pytest

from cirlib.data.family_names import guess_family


@pytest.mark.parametrize(
    ("group", "names"),
    {
        "Piano": ["Grand Piano", "grand_piano", "GrandPiano", "PIANO", "pianos", "E-Piano 2", "Harpsichord", "Keys"],
        "Chromatic Percussion": ["Vibraphone", "Tubular Bells", "Chromatic Percussion", "Glockenspiel soft", "Timpani"],
        "Organ": ["Church Organ", "Pipe Organ", "Reed Organ", "Accordion"],
        "Guitar": ["Electric Guitar", "Lead Guitar", "gtr-01", "Pluck"],
        "Bass": ["Bass", "basses", "Synth Bass 2", "Bass Guitar", "slapBass", "String Bass"],
        "Strings": ["Strings", "Violin", "Synth Strings", "Cellos", "Harp"],
        "Voice": ["Choir Aahs", "Vocals", "Solo Vox", "Voice Pad"],
        "Brass": ["French Horn", "Trumpets", "Bass Trombone"],
        "Reed": ["Alto Sax", "Bass Clarinet", "oboe"],
        "Pipe": ["Flute", "Pan Flute", "Recorder"],
        "Synth Lead": ["Saw Lead", "leads"],
        "Synth Pad": ["Warm Pad", "Pads"],
        "Synth Effects": ["FX Rain", "Drones", "Atmospheres"],
        "Percussion": ["Claves", "Steel Drums", "Congas", "Percussion", "shaker 3"],
        "Drum Kit": ["808 Kick", "Bass Drum", "HiHat closed", "Snares", "Drums"],
        None: ["", "Untitled", "Padded", "sound 12", "Pianissimo", "bassline", "alto", "Morgan", "steel", "English", "Custom"],
    }.items(),
)
def test_guess_family(group, names):
    """Whole words, singular or plural, in any case, joined by anything."""
    assert {name: guess_family(name) for name in names} == dict.fromkeys(names, group)


def test_most_specific_name_decides():
    """A file before its folder, a near folder before a far one."""
    assert guess_family("Violin", "Piano", "Drums") == "Strings"
    assert guess_family("take 3", "Piano", "Drums") == "Piano"
    assert guess_family("take 3", "session") is None
    assert guess_family() is None


@pytest.mark.parametrize(
    ("group", "names"),
    {
        "Brass": ["MOHorn", "trumpet_forte", "french-horn piano", "basstrombone", "Trompete", "trompette", "tromba", "Posaunen"],
        "Chromatic Percussion": ["bells.brass", "Tubular Bells", "Röhrenglocken", "xilofono", "Pauken", "Bell Pad"],
        "Drum Kit": ["drum_bass_hard", "bd_808", "jsnare", "hhclosed", "Ride Bell", "caisse claire", "Becken", "batería", "HandClap"],
        "Guitar": ["banjo piano normal", "Steel Guitar", "12 string guitar", "guitare", "Konzertgitarre", "violão", "Lead Guitar"],
        "Organ": ["Pipe Organ", "orgue", "Kirchenorgel", "órgano"],
        "Percussion": ["agogo bells", "Sleighbells", "Bell Tree", "train whistle", "LogDrumHi", "castanets", "Congas & Bongos"],
        "Piano": ["Soft Piano", "Piano Pad", "forte piano", "Klavier", "Electric Piano", "jRhodes3d"],
        "Pipe": ["Blockflöte", "flûte", "flauta", "Bass Flute", "Alto Flute"],
        "Reed": ["PSBassoon", "BbClar", "Bass Clarinet", "cor anglais", "English Horn", "hautbois", "Fagott", "saxofón", "AltoSax"],
        "Strings": ["double-bass", "violín", "Geige", "celli", "contrebasse", "VlnEns", "cello mezzo-piano", "Streicher", "arpa"],
        "Synth Lead": ["Bass Station lead", "Bass Lead"],
        "Voice": ["chorus-female", "Chor", "choeur", "Stimmen"],
        None: ["Piano Book", "Bass Station", "Drum & Bass", "Drum n Bass", "Future Bass", "Voice Memo 3", "chorus"],
    }.items(),
)
def test_specific_words_win(group, names):
    """Compounds, glued words, other languages; dynamics, products and styles are no instruments."""
    assert {name: guess_family(name) for name in names} == dict.fromkeys(names, group)


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
