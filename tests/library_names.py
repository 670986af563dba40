"""Imitations of the names of eleven kinds of sample libraries: true instrument, pitch, family and kind of each file.

Names as in VSCO 2 Community Edition, Salamander Grand Piano, the Philharmonia Orchestra's samples, NSynth, FreePats, the University of
Iowa's instrument samples, commercial loop packs, Hydrogen's drum kits, jRhodes3d, packs of Freesound and Sonatina Symphonic Orchestra.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import PurePath

CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class Truth:
    """What a file is: `instrument` is any text that all files of one instrument share; None where a name does not give it."""

    instrument: str
    family: str | None
    pitch: int | None = None
    velocity: int | None = None  # where the name gives a MIDI velocity
    kind: str | None = None


def pitch(note: str) -> int:
    """Return the MIDI pitch of a note name: letter, # or s or b, octave; C4 is 60."""
    letter, accidental, octave = note[0].upper(), note[1:-1], int(note[-1])
    return CLASSES[letter] + {"": 0, "#": 1, "s": 1, "b": -1}[accidental] + 12 * (octave + 1)


def vsco() -> Iterator[tuple[str, Truth]]:
    for articulation, note, layer in product(("sus", "mute"), ("A#1", "C3", "D#2", "F4"), (1, 2, 3)):
        yield f"Brass/F Horn/{articulation}/MOHorn_{articulation}_{note}_v{layer}_1", Truth("horn", "Brass", pitch(note))
    for folder, note, layer, take in product(("stac", "sus", "vib"), ("A#0", "C3", "E2"), (1, 2), (1, 2)):
        suffix = f"rr{take}" if folder == "stac" else take
        yield f"Woodwinds/Bassoon/{folder}/PSBassoon_{note}_v{layer}_{suffix}", Truth("bassoon", "Reed", pitch(note))
    for articulation, note, layer in product(("harmonM-sus", "straightM-sus", "stac"), ("A#2", "C3"), (1, 3)):
        yield f"Brass/Trumpet/{articulation}/Sum_SHTrumpet_{articulation}_{note}_v{layer}_rr1", Truth("trumpet", "Brass", pitch(note))
    for note, layer, take in product(("A#2", "D3", "F4"), (1, 2, 3), (1, 2)):
        yield f"Woodwinds/Clarinet/stac/DCClar_stac_{note}_v{layer}_rr{take}_sum", Truth("clarinet", "Reed", pitch(note))
    for folder, note, layer in product(("pizzT", "spic"), ("A2", "B1", "C1"), (1, 2)):
        yield f"Strings/Cello Section/{folder}/{folder}_{note}_v{layer}_RR1", Truth("celli", "Strings", pitch(note))
    for folder, note, layer in product(("Pizz", "Trem"), ("A2", "F#3", "D5"), (1, 2)):
        yield f"Strings/Violin Section/{folder}/VlnEns_{folder}_{note}_v{layer}", Truth("violins", "Strings", pitch(note))
    for note, dynamic, take in product(("C1", "C4", "C6"), ("pp", "mf", "f"), (1, 2)):
        yield f"Keys/Upright Nr1/UR1_{note}_{dynamic}_RR{take}", Truth("piano", "Piano", pitch(note))
    for key in range(1, 62, 3):
        yield f"Keys/Organ/Loud/Rode_Man3Open_{key:02d}", Truth("organ", "Organ")
    for note in ("B2", "C4", "F5"):
        yield f"Percussion/Marimba/Marimba_hit_Outrigger_{note}_loud_01", Truth("marimba", "Chromatic Percussion", pitch(note))
    for name, family in (("Claves1_Hit", "Percussion"), ("Cowbell1_Hit", "Percussion"), ("BDrumNew_hit", "Drum Kit")):
        for layer, take in product((1, 2, 3), (1, 2)):
            yield f"Percussion/{name}_v{layer}_rr{take}_Sum", Truth(name, family, kind="drum hit")


def salamander() -> Iterator[tuple[str, Truth]]:
    for note, layer in product(("A0", "C1", "D#3", "F#5", "C8"), range(1, 17)):
        velocity = round(127 * layer / 16)
        yield f"Salamander Grand Piano V3/Samples/{note}v{layer}.flac", Truth("piano", "Piano", pitch(note), velocity)
    for key in range(1, 89):
        yield f"Salamander Grand Piano V3/Samples/rel{key}.flac", Truth("keys", "Piano", kind="noise")


def philharmonia() -> Iterator[tuple[str, Truth]]:
    dynamics = {"pianissimo": 33, "piano": 49, "mezzo-piano": 64, "forte": 96}
    for name, folder, family, plain in (
        ("cello", "strings", "Strings", "arco-normal"),
        ("double-bass", "strings", "Strings", "pizz-normal"),
        ("banjo", "strings", "Guitar", "normal"),
        ("saxophone", "woodwind", "Reed", "normal"),
        ("cor-anglais", "woodwind", "Reed", "normal"),
        ("bass-clarinet", "woodwind", "Reed", "minor-trill"),
        ("french-horn", "brass", "Brass", "normal"),
        ("contrabassoon", "woodwind", "Reed", "normal"),
    ):
        for note, length, (dynamic, velocity) in product(("A2", "As3", "C4"), ("025", "05", "1", "very-long"), dynamics.items()):
            yield f"{folder}/{name}/{name}_{note}_{length}_{dynamic}_{plain}.mp3", Truth(name, family, pitch(note), velocity)
    for name, family in (
        ("castanets", "Percussion"),
        ("agogo-bells", "Percussion"),
        ("flexatone", "Percussion"),
        ("bass-drum", "Drum Kit"),
    ):
        for length, dynamic in product(("025", "1", "long"), ("forte", "piano")):
            truth = Truth(name, family, velocity=dynamics[dynamic], kind="drum hit")
            yield f"percussion/{name}/{name}__{length}_{dynamic}_{'struck-singly' if length == '1' else 'bass-drum-mallet'}.mp3", truth


def nsynth() -> Iterator[tuple[str, Truth]]:
    families = {"bass": "Bass", "string": "Strings", "keyboard": "Piano", "mallet": "Chromatic Percussion", "synth_lead": "Synth Lead"}
    for (word, family), source, number in product(families.items(), ("acoustic", "synthetic"), (0, 33)):
        for key, velocity in product((24, 60, 100), (25, 127)):
            name = f"{word}_{source}_{number:03d}"
            yield f"nsynth-test/audio/{name}-{key:03d}-{velocity:03d}", Truth(name, family, key, velocity)


def freepats() -> Iterator[tuple[str, Truth]]:
    for note, layer in product(("A0", "D#4", "F#6"), ("L", "H")):
        velocity = {"L": 49, "H": 112}[layer]
        yield f"UprightPianoKW/samples/{note}v{layer}.flac", Truth("piano", "Piano", pitch(note), velocity)
    for note in ("E2", "A2", "D3"):
        yield f"SpanishClassicalGuitar/samples/{note}.wav", Truth("guitar", "Guitar", pitch(note))
    for name, family in (
        ("000_Acoustic_Grand_Piano", "Piano"), ("009_Glockenspiel", "Chromatic Percussion"), ("019_Church_Organ", "Organ"),
        ("025_Steel_Guitar", "Guitar"), ("033_Finger_Bass", "Bass"), ("045_Pizzicato_Strings", "Strings"), ("053_Voice_Oohs", "Voice"),
        ("059_Muted_Trumpet", "Brass"), ("069_English_Horn", "Reed"), ("075_Pan_Flute", "Pipe"), ("094_Halo_Pad", "Synth Pad"),
        ("080_Square_Wave", None), ("088_New_Age", None), ("125_Helicopter", "Sound Effects"),
    ):  # fmt: skip
        yield f"Tone_000/{name}", Truth(name, family)
    for name in ("035_Kick_1", "036_Kick_2", "042_Hi-Hat_Closed", "049_Cymbal_Crash_1", "034_Metronome_Bell"):
        yield f"Drum_000/{name}", Truth(name, "Drum Kit", kind="drum hit")


def iowa() -> Iterator[tuple[str, Truth]]:
    velocities = {"pp": 33, "mf": 80, "ff": 112}
    for (dynamic, velocity), note in product(velocities.items(), ("A0", "Bb3", "C4", "Db5")):
        yield f"Piano/Piano.{dynamic}.{note}.aiff", Truth("piano", "Piano", pitch(note), velocity)
        yield f"Marimba/Marimba.yarn.{dynamic}.{note}.stereo.aif", Truth("marimba", "Chromatic Percussion", pitch(note), velocity)
    for string, note in product("ACDG", ("C3", "Eb4")):
        yield f"Strings/Cello.arco.ff.sul{string}.{note}.stereo.aif", Truth("cello", "Strings", pitch(note), 112)
        yield f"Strings/Cello.pizz.pp.sul{string}.{note}.stereo.aif", Truth("cello", "Strings", pitch(note), 33)
    for name, family in (
        ("AltoSax.NoVib", "Reed"), ("BbClar", "Reed"), ("Flute.nonvib", "Pipe"), ("TenorTrombone", "Brass"), ("Horn", "Brass"),
        ("bells.brass", "Chromatic Percussion"),
    ):  # fmt: skip
        for run in ("C4B4", "C5B5"):
            yield f"runs/{name}.ff.{run}.aiff", Truth(name, family, velocity=112, kind="phrase")


def loops() -> Iterator[tuple[str, Truth]]:
    for name, family in (
        ("Bass Loops/Bass_Loop_085_Am", "Bass"), ("Bass Loops/Bass_Loop_090_Cm", "Bass"), ("Drum Loops/Break_90", "Drum Kit"),
        ("Drum Loops/Break_95", "Drum Kit"), ("Drum Loops/Top Loop 128 BPM", "Drum Kit"), ("Melodic/Guitar_140_F#min", "Guitar"),
        ("Melodic/140_Bbmaj_Rhodes", "Piano"), ("Melodic/AMB_Texture_85bpm_Em", None), ("Melodic/Synth_Riff_100_Dm", None),
        ("Vocals/Vox_Chop_95bpm", "Voice"), ("Loops/Amen 060", None), ("Loops/Amen 065", None),
    ):  # fmt: skip
        yield name, Truth(name, family, kind="loop")
    for name, family in (("808 Kick C", "Drum Kit"), ("Kick 036", "Drum Kit"), ("Kick 037", "Drum Kit"), ("01 Kick", "Drum Kit")):
        yield f"One Shots/Drums/{name}", Truth(name, family, kind="drum hit")
    for name, family in (("Lead 01", "Synth Lead"), ("Lead 02", "Synth Lead"), ("Pad 061", "Synth Pad"), ("Stab 3", None)):
        yield f"One Shots/Synths/{name}", Truth(name, family)
    for note in ("C1", "F#1"):
        yield f"One Shots/808 Bass/808 Bass {note}", Truth("808", "Bass", pitch(note))


def drum_kits() -> Iterator[tuple[str, Truth]]:
    for name in ("BongoHi", "Clave", "Tambourine", "HandClap", "PearlKick", "SabianHatClosed", "ZildjianSplash"):
        for word, velocity in (("Softest", 33), ("Soft", 49), ("Med", 80), ("Hard", 112), ("Hardest", 126)):
            family = "Percussion" if name in ("BongoHi", "Clave", "Tambourine") else "Drum Kit"
            yield f"The Black Pearl 1.0/{name}-{word}", Truth(name, family, velocity=velocity, kind="drum hit")
    for name in ("BD_01", "BD_02", "SN3_01", "HH2_04", "floortom_01", "hhclosed_02", "rsnare_03", "Kick_Hard_1", "VP Hat 1 Cl", "tom1_a"):
        yield f"Pacific Kit/{name}.flac", Truth(name, "Drum Kit", kind="drum hit")
    for name in ("C1_Kick", "D1_Snare", "F#1_Hi-Hat", "Bass Drum 060"):
        yield f"Mapped/{name}", Truth(name, "Drum Kit", kind="drum hit")


def jrhodes() -> Iterator[tuple[str, Truth]]:
    for (number, note), layer in product(((29, "F1"), (35, "B1"), (40, "E2"), (96, "C7")), range(1, 6)):
        yield f"jRhodes3d-mono/A_{number:03d}__{note}_{layer}.flac", Truth("mono", "Piano", number)
        yield f"jRhodes3d-st/A_{number:03d}__{note}_{layer}-ST.flac", Truth("st", "Piano", number)


def freesound() -> Iterator[tuple[str, Truth]]:
    for i, note in enumerate(("c2", "d#2", "f#2", "a2")):
        yield f"448590_pack/{448590 + 7 * i}__jobro__piano-ff-{note}", Truth("jobro", "Piano", pitch(note), 112)
        yield f"sustained/{148600 + i}__piano_sust_pedal__{note}.ogg", Truth("sust", "Piano", pitch(note))
    for i, note in enumerate(("D4", "E4", "G4")):
        yield f"names/{148604 + i}__name-{note}", Truth("name", None, pitch(note))
        yield f"violins/{356100 + i}__mtg__violin-{note.lower()}", Truth("violin", "Strings", pitch(note))
    for name, family in (
        ("101450__menegass__tom-h", "Drum Kit"), ("124101__hornman__crash", "Drum Kit"), ("116973__pianoguy__hat-light", "Drum Kit"),
        ("15590__lewis__thing", None), ("29800__bassface__3", None), ("16336__sstokes__085", None),
    ):  # fmt: skip
        yield f"mixed/{name}", Truth(name, family, kind=family and "drum hit")


def sonatina() -> Iterator[tuple[str, Truth]]:
    for folder, articulations, family in (
        ("1st Violins", ("piz-rr1", "piz-rr2", "sus"), "Strings"),
        ("Violas", ("piz-rr1", "stc-rr1", "sus"), "Strings"),
        ("Horns", ("stc-rr1", "sus"), "Brass"),
    ):
        for articulation, note in product(articulations, ("a#3", "c4", "g4")):
            truth = Truth(folder, family, pitch(note))
            yield f"Samples/{folder}/{folder.lower().replace(' ', '-')}-{articulation}-{note}", truth
    for (dynamic, velocity), note in product((("FF", 112), ("Mf", 80)), ("A4", "C7")):  # 88 keys from A-1 on: C3 is MIDI pitch 60
        yield f"Samples/Grand Piano/{dynamic} {note}.flac", Truth("piano", "Piano", pitch(note) + 12, velocity)
        yield f"Samples/Grand Piano/{dynamic} A-1.flac", Truth("piano", "Piano", 21, velocity)
    for voice, note in product(("female", "male"), ("a#4", "c5")):
        yield f"Samples/Chorus/chorus-{voice}-{note}", Truth(voice, "Voice", pitch(note))
    for name, note in product(("glockenspiel", "chimes", "xylophone"), ("a#3", "c4", "f#5")):
        yield f"Samples/Percussion/{name}-{note}", Truth(name, "Chromatic Percussion", pitch(note))
    for (dynamic, velocity), hand, note in product((("p", 49), ("f", 96)), ("lh", "rh"), ("a1", "d#1")):
        yield f"Samples/Percussion/timpani-{dynamic}-{hand}-{note}", Truth("timpani", "Chromatic Percussion", pitch(note), velocity)
    for take in (1, 2, 3):
        yield f"Samples/Percussion/triangle-opn-rr{take}", Truth("triangle", "Percussion", kind="drum hit")
    for name, family in (("piatti", "Drum Kit"), ("tamtam-a", "Percussion"), ("tamtam-b", "Percussion"), ("vibraslap", "Percussion")):
        yield f"Samples/Percussion/{name}", Truth(name, family, kind="drum hit")


LIBRARIES = {
    "VSCO 2 CE": vsco, "Salamander": salamander, "Philharmonia": philharmonia, "NSynth": nsynth, "FreePats": freepats, "Iowa": iowa,
    "loop packs": loops, "drum kits": drum_kits, "jRhodes3d": jrhodes, "Freesound": freesound, "Sonatina": sonatina,
}  # fmt: skip


def library(name: str) -> dict[str, Truth]:
    """Return path -> truth of the files of an imitated library; names without a suffix get .wav."""
    return {
        path if PurePath(path).suffix in (".flac", ".mp3", ".ogg", ".aif", ".aiff") else path + ".wav": truth
        for path, truth in LIBRARIES[name]()
    }
