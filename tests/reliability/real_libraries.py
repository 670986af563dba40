"""Real libraries: the instruments, pitches and families that cirlib finds in sounds that others made, as a table in tests/README.md.

`python tests/reliability/real_libraries.py [NAME=PATH ...]` reads what is installed: the Debian packages fluid-soundfont-gm,
musescore-general-soundfont, timgm6mb-soundfont, opl3-soundfont, freepats, hydrogen-drumkits and sonic-pi-samples. `Salamander=FOLDER` adds
a piano whose files are named after notes and layers (A0v10.ogg). Rows of libraries that are missing stay as they are.
"""

import re
import struct
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from joblib import Parallel, delayed

from cirlib.common.files import write_atomic
from cirlib.common.paths import ROOT
from cirlib.data.jobs import Sound
from cirlib.data.sources import folder, soundfont
from cirlib.data.sources.grouping import group_files

README = ROOT / "tests" / "README.md"
MARKS = ("<!-- libraries: begin (python tests/reliability/real_libraries.py) -->\n", "<!-- libraries: end -->")
HEAD = "| library | sounds | instruments | pitches | families | left unknown |\n|---|---:|---:|---:|---:|---:|\n"
NOTES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
Found = dict[str, tuple[str, int | None, str | None]]  # path -> instrument, pitch, family


@dataclass(frozen=True)
class Truth:
    """What a file is: files of one instrument share `instrument`; `pitch` and `families` are empty where no name gives them.

    families: all that are right: a cowbell is percussion, or a piece of a drum kit. series: files that differ in a number only may also be
    instruments of their own.
    """

    instrument: str
    pitch: int | None = None
    families: tuple[str, ...] = ()
    series: bool = False


Row = list[tuple[int, int]]  # (right, in all) of sounds, instruments, pitches, families, and names without a family


def compare(truth: dict[str, Truth], found: Found, sounds: tuple[int, int]) -> Row:
    """Return the row of a folder from what its files are and what was found. A pitch that no name gives counts as one that is wrong."""
    true, groups = defaultdict(set), defaultdict(set)
    for path, its in truth.items():
        true[its.instrument].add(path)
        groups[found[path][0]].add(path)
    whole = [set(group) for group in groups.values()]
    firsts = {name: truth[min(group)] for name, group in true.items()}
    right = [group in whole or (firsts[name].series and all({path} in whole for path in group)) for name, group in true.items()]
    pitches = [found[path][1] == its.pitch for path, its in truth.items() if its.pitch is not None or found[path][1] is not None]
    families = [(found[min(group)][2], firsts[name].families) for name, group in true.items()]
    named = [family in families for family, families in families if families]
    unknown = [family is None for family, families in families if not families]
    return [sounds, *((sum(values), len(values)) for values in (right, pitches, named, unknown))]


def read_folder(root: Path, truth: dict[str, Truth], every: int = 1) -> Row:
    """Return the row of a folder of sounds, as the source `folder` and libraries read it; every sound is decoded if `every` is 1."""
    files, _ = folder.find_sounds(root)
    instruments = group_files(root, files)
    found = {path: (uid, pitch, its.family) for uid, its in instruments.items() for path, pitch, *_ in its.notes}
    if every > 1:
        return compare(truth, found, (0, 0))
    with tempfile.TemporaryDirectory() as place:
        bank = folder.build(Path(place) / "bank", folder.FolderConfig(path=str(root), estimate=False, seconds=0.5), n_jobs=2)
        reasons = list(bank.infos[0]["skipped"].values())  # empty samples of kits, clicks of a few samples
        right = len(bank) + sum(reason == "silent" or reason.startswith("shorter than") for reason in reasons)
        return compare(truth, found, (right, len(files)))


# General MIDI: the families of the programs, and of names that say more, less or something else

SECTIONS = (
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Strings", "Brass", "Reed", "Pipe"),
    *("Synth Lead", "Synth Pad", "Synth Effects", "Guitar", "Percussion", "Sound Effects"),
)  # eight programs each
OTHERS = {47: "Chromatic Percussion", 52: "Voice", 53: "Voice", 54: "Voice", 55: "Percussion", 108: "Chromatic Percussion"}
OTHERS |= {109: "Reed", 110: "Strings", 111: "Reed"}
UNPITCHED = ("Drum Kit", "Percussion", "Sound Effects", "Synth Effects")
NO_FAMILY = re.compile("charang|new.age|crystal|goblin|square.wave")
ALSO = {  # words of names -> families that are right too
    "voice|choir|vox": "Voice", "drum|tom|cymbal": "Drum Kit", "guitar": "Guitar", "bass": "Bass", "bell|steel": "Chromatic Percussion",
}  # fmt: skip
MIDI_JS = re.findall(
    r"\w+",
    """acoustic_grand_piano bright_acoustic_piano electric_grand_piano honkytonk_piano electric_piano_1 electric_piano_2 harpsichord
clavinet celesta glockenspiel music_box vibraphone marimba xylophone tubular_bells dulcimer drawbar_organ percussive_organ rock_organ
church_organ reed_organ accordion harmonica tango_accordion acoustic_guitar_nylon acoustic_guitar_steel electric_guitar_jazz
electric_guitar_clean electric_guitar_muted overdriven_guitar distortion_guitar guitar_harmonics acoustic_bass electric_bass_finger
electric_bass_pick fretless_bass slap_bass_1 slap_bass_2 synth_bass_1 synth_bass_2 violin viola cello contrabass tremolo_strings
pizzicato_strings orchestral_harp timpani string_ensemble_1 string_ensemble_2 synth_strings_1 synth_strings_2 choir_aahs voice_oohs
synth_choir orchestra_hit trumpet trombone tuba muted_trumpet french_horn brass_section synth_brass_1 synth_brass_2 soprano_sax alto_sax
tenor_sax baritone_sax oboe english_horn bassoon clarinet piccolo flute recorder pan_flute blown_bottle shakuhachi whistle ocarina
lead_1_square lead_2_sawtooth lead_3_calliope lead_4_chiff lead_5_charang lead_6_voice lead_7_fifths lead_8_bass__lead pad_1_new_age
pad_2_warm pad_3_polysynth pad_4_choir pad_5_bowed pad_6_metallic pad_7_halo pad_8_sweep fx_1_rain fx_2_soundtrack fx_3_crystal
fx_4_atmosphere fx_5_brightness fx_6_goblins fx_7_echoes fx_8_scifi sitar banjo shamisen koto kalimba bagpipe fiddle shanai tinkle_bell
agogo steel_drums woodblock taiko_drum melodic_tom synth_drum reverse_cymbal guitar_fret_noise breath_noise seashore bird_tweet
telephone_ring helicopter applause gunshot""",
)
WEB_FONTS = ("Aspirin_sf2_file", "Chaos_sf2_file", "FluidR3_GM_sf2_file", "GeneralUserGS_sf2_file", "JCLive_sf2_file", "SBLive_sf2")


def gm_family(program: int) -> str:
    """Return the family of a General MIDI program."""
    return OTHERS.get(program, SECTIONS[program // 8])


def gm_families(program: int, name: str) -> tuple[str, ...]:
    """Return the families that are right for a name of a program; none if the name gives none."""
    if NO_FAMILY.search(name) and not re.match("lead|pad|fx", name):
        return ()
    return gm_family(program), *(family for words, family in ALSO.items() if re.search(words, name))


def read_font(path: Path, every: int = 1) -> Row:
    """Return the row of a General MIDI font. A pitch is right if no other key would explain the harmonics of the sound better."""
    presets = soundfont.read_presets(path)
    found = list(soundfont.list_instruments("font", path, presets))
    true = ["Drum Kit" if bank >= 120 else gm_family(program) for bank, program, _ in presets]
    notes = Parallel(n_jobs=2 if every == 1 else 1)(delayed(render)(uid, family, place) for uid, family, place in found[::every])
    right = [off == 0 for offs, family in zip(notes, true[::every], strict=True) for off in offs if family not in UNPITCHED]
    families = [family == expected for (_, family, _), expected in zip(found, true, strict=True)]
    instruments = [bool(offs) for offs in notes]
    return [(sum(map(len, notes)), 2 * len(notes)), *((sum(values), len(values)) for values in (instruments, right, families)), (0, 0)]


def render(uid: str, family: str | None, place: dict) -> list[int]:
    """Return how far each note of a preset lies from its key."""
    config = soundfont.SoundFontConfig(notes=2, hold_s=0.6, tail_s=0.2)
    try:
        items = list(soundfont.render_preset(uid=uid, family=family, split="train", config=config, **place))
    except ValueError:
        return []
    return [semitones_off(item.audio, item.row["pitch"]) for item in items if isinstance(item, Sound)]


def semitones_off(audio: np.ndarray, key: float) -> int:
    """Return how far the key whose harmonics are strongest in a sound lies from `key`, in -6..5: octaves count as equal."""
    audio = audio[:12800] * np.hanning(min(len(audio), 12800))
    spectrum = np.abs(np.fft.rfft(audio, 1 << 16))

    def strength(pitch: float) -> float:
        harmonics = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 9)
        bins = [harmonic * len(spectrum) / 8000 for harmonic in harmonics if harmonic < 7800]
        return sum(np.sqrt(spectrum[int(0.985 * at) : int(1.015 * at) + 2].max()) for at in bins) / np.sqrt(max(1, len(bins)))

    return int(np.argmax([strength(key + off) for off in range(-6, 6)])) - 6


# Folders


def imitate(root: Path, names: dict[str, tuple[str, ...]], file: Callable[[int], str], every: int) -> Row:
    """Return the row of folders of mp3 files with these names (folder -> families), of three tones each."""
    truth = {}
    for place, families in names.items():
        for key in (48, 60, 72):
            (root / place).mkdir(parents=True, exist_ok=True)
            audio = 0.5 * np.sin(2 * np.pi * 440 * 2 ** ((key - 69) / 12) * np.arange(4800) / 16000)
            soundfile.write(root / place / file(key), audio, 16000, format="MP3")
            truth[f"{place}/{file(key)}"] = Truth(place, key, families)
    return read_folder(root, truth, every)


def read_midi_js(_, every: int = 1) -> Row:
    """Return the row of a folder named as the sounds of MIDI.js: acoustic_grand_piano-mp3/C4.mp3."""
    names = {f"{name}-mp3": gm_families(program, name) for program, name in enumerate(MIDI_JS)}
    with tempfile.TemporaryDirectory() as place:
        return imitate(Path(place) / "sounds", names, lambda key: f"{NOTES[key % 12]}{key // 12 - 1}.mp3", every)


def read_webaudiofont(_, every: int = 1) -> Row:
    """Return the row of a folder named as the sounds of webaudiofont: a number and the name of a font, which give no family."""
    names = {f"{10 * program:04d}_{WEB_FONTS[i]}": () for program in range(0, 100, 4) for i in range(6)}
    with tempfile.TemporaryDirectory() as place:
        return imitate(Path(place) / "sounds", names, lambda key: f"{key}.mp3", every)


def read_salamander(root: Path, every: int = 1) -> Row:
    """Return the row of one piano, whose files are named after notes and layers."""
    files = [file.relative_to(root).as_posix() for file in folder.find_sounds(root)[0]]
    parsed = {file: re.fullmatch(r"([A-G]#?)(\d)v\d+\..*", Path(file).name) for file in files}
    steps = {"C": 0, "D#": 3, "F#": 6, "A": 9}
    truth = {file: Truth("piano", steps[m[1]] + 12 * int(m[2]) + 12, ("Piano",)) for file, m in parsed.items() if m}
    return read_folder(root, truth, every)


def read_freepats(root: Path, every: int = 1) -> Row:
    """Return the row of patches of the Gravis Ultrasound, unpacked into files named after patch and note; drums have no note."""
    truth = {}
    with tempfile.TemporaryDirectory() as place:
        for patch in sorted(root.rglob("*.pat")):
            drum, name = patch.parent.name.startswith("Drum"), patch.stem
            for key, rate, audio in unpack(patch.read_bytes()):
                file = f"{patch.parent.name}/{name}" + ("" if drum else f"_{NOTES[key % 12]}{key // 12 - 1}") + ".wav"
                (Path(place) / "freepats" / file).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(Path(place) / "freepats" / file, audio, rate)
                families = ("Drum Kit", "Percussion") if drum else gm_families(int(name[:3]), name.lower())
                truth[file] = Truth(name, None if drum else key, families, series=drum)
        return read_folder(Path(place) / "freepats", truth, every)


def unpack(patch: bytes) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the MIDI pitch, rate and audio of each sample of a Gravis Ultrasound patch."""
    at, count = 129 + 63 + 47, patch[129 + 63 + 6]  # after the headers of patch, instrument and layer
    for _ in range(count):
        size, _, _, rate, _, _, root = struct.unpack_from("<IIIHIII", patch, at + 8)
        mode, data = patch[at + 55], patch[at + 96 : at + 96 + size]
        audio = np.frombuffer(data[: size // 2 * 2] if mode & 1 else data, "<i2" if mode & 1 else "i1").astype(float)
        audio = (audio + (2 ** (15 if mode & 1 else 7) if mode & 2 else 0)) / 2 ** (15 if mode & 1 else 7)  # 2: unsigned
        yield round(69 + 12 * np.log2(root / 440_000)), rate, (audio + 1) % 2 - 1
        at += 96 + size


def read_hydrogen(root: Path, every: int = 1) -> Row:
    """Return the row of kits, whose drumkit.xml gives the instruments. A sound that two instruments use belongs to the first."""
    truth = {}
    for kit in sorted(root.glob("*/drumkit.xml")):
        for number, text in enumerate(re.findall(r"<instrument>(.*?)</instrument>", kit.read_text(errors="replace"), re.DOTALL)):
            for file in re.findall(r"<filename>(.*?)</filename>", text):
                if (kit.parent / file).is_file():
                    truth.setdefault(f"{kit.parent.name}/{file}", Truth(f"{kit.parent.name} {number}", None, ("Drum Kit", "Percussion")))
    return read_folder(root, truth, every)


SONIC_PI = {  # beginning of a name -> families; the first that fits counts
    "ambi_choir": ("Voice",), "ambi_piano": ("Piano",), "ambi_drone|loop_drone": ("Synth Effects",), "bass_|glitch_bass": ("Bass",),
    "drum_cowbell|.*_triangle|perc_|tabla_|glitch_perc|loop_perc|loop_tabla": ("Percussion", "Chromatic Percussion"),
    "bd_|drum_|sn_|.*_(?:snare|kick|tom|cymbal)": ("Drum Kit",), ".*_(?:bell|chime)": ("Chromatic Percussion",), "guit_": ("Guitar",),
    "loop_breakbeat": ("Drum Kit",),
}  # fmt: skip


def read_sonic_pi(root: Path, every: int = 1) -> Row:
    """Return the row of one folder of single sounds and loops; a letter at the end of some names is a key without an octave."""
    truth = {}
    for file in folder.find_sounds(root)[0]:
        families = next((families for words, families in SONIC_PI.items() if re.match(words, file.stem)), ())
        truth[file.name] = Truth(re.sub(r"\d+$|_(?:hard|soft)$", "", file.stem), None, families, series=True)
    return read_folder(root, truth, every)


SHARE = Path("/usr/share")
LIBRARIES = {  # name -> how to read it, and where it is
    "FluidR3 GM": (read_font, SHARE / "sounds/sf2/FluidR3_GM.sf2"),
    "MuseScore General (.sf3)": (read_font, SHARE / "sounds/sf3/MuseScore_General.sf3"),
    "TimGM6mb": (read_font, SHARE / "sounds/sf2/TimGM6mb.sf2"),
    "OPL-3 FM": (read_font, SHARE / "sounds/sf2/OPL-3_FM_128M.sf2"),
    "Salamander": (read_salamander, None),
    "FreePats": (read_freepats, SHARE / "midi/freepats"),
    "Hydrogen": (read_hydrogen, SHARE / "hydrogen/data/drumkits"),
    "Sonic Pi": (read_sonic_pi, SHARE / "sonic-pi/samples"),
    "mp3, names of MIDI.js": (read_midi_js, ROOT),
    "mp3, names of webaudiofont": (read_webaudiofont, ROOT),
}
PACKAGES = {  # name -> Debian package
    "FluidR3 GM": "fluid-soundfont-gm", "MuseScore General (.sf3)": "musescore-general-soundfont", "TimGM6mb": "timgm6mb-soundfont",
    "OPL-3 FM": "opl3-soundfont", "FreePats": "freepats", "Hydrogen": "hydrogen-drumkits", "Sonic Pi": "sonic-pi-samples",
}  # fmt: skip


def line(name: str, row: Row) -> str:
    """Return a row of the table."""
    return f"| {name} | " + " | ".join(f"{right} of {count}" if count else "" for right, count in row) + " |\n"


def main(places: dict[str, Path], readme: Path = README) -> None:
    """Measure the libraries that are there, print their rows and write them into a README."""
    before, begin, rest = readme.read_text().partition(MARKS[0])
    block, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise ValueError(f"{readme.name} must have the marks {MARKS[0].strip()} and {MARKS[1]}")
    lines = {row.split(" | ")[0].removeprefix("| "): row for row in block.splitlines(keepends=True)}
    for name, (read, default) in LIBRARIES.items():
        place = places.get(name, default)
        if place and Path(place).exists():
            lines[name] = line(name, read(Path(place)))
        sys.stdout.write(lines.get(name, f"{name} is not installed\n"))
        sys.stdout.flush()
    text = HEAD + "".join(lines[name] for name in LIBRARIES if name in lines)
    write_atomic(readme, lambda part: part.write_text(before + begin + text + end + after))


if __name__ == "__main__":
    main({name: Path(place) for name, _, place in (argument.partition("=") for argument in sys.argv[1:])})
