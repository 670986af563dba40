"""Files of sound sources for the tests: NSynth releases, sets of the paper's authors, SoundFonts, SFZ libraries, Surge presets."""

import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from conftest import RATE, build_bank, sound, tone
from tones import at_rate, write

from cirlib.data.notes import SPLITS
from cirlib.data.taxonomy import GM_GROUPS, SURGE_FX

FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal")
ORIGINS = ("acoustic", "electronic", "synthetic")
QUALITIES = (
    *("bright", "dark", "distortion", "fast_decay", "long_release"),
    *("multiphonic", "nonlinear_env", "percussive", "reverb", "tempo-synced"),
)
TAXONOMY = {  # family: (group, tag, lowest and highest pitch)
    "bass": ("Bass", "bass", 23, 63), "brass": ("Brass", "brass", 31, 89), "flute": ("Pipe", "wind", 35, 108),
    "guitar": ("Guitar", "guitar", 25, 86), "keyboard": ("Piano", "piano", 21, 108),
    "mallet": ("Chromatic Percussion", "mallet", 36, 108), "organ": ("Organ", "organ", 21, 96), "reed": ("Reed", "wind", 31, 96),
    "string": ("Strings", "strings", 24, 96), "synth_lead": ("Synth Lead", "lead", 36, 84), "vocal": ("Voice", "vocal", 38, 86),
}  # fmt: skip
EXCLUDED = [f"vocal_synthetic_{i:03d}" for i in (0, 1, 2, 3, 7, 8, 9, 10, 12)] + ["bass_synthetic_000"]
KEPT_BY_PAPER = ["bass_synthetic_002", "guitar_electronic_014"]


def pcm(pitch, seconds=0.1, level=0.5):
    """Return a 16-bit tone."""
    return np.round(32767 * tone(pitch, seconds, level)).astype(np.int16)


def tones(*names):
    """Return {note_str: tone of its pitch}."""
    return {name: pcm(int(name.split("-")[1])) for name in names}


def example(number, name, qualities=()):
    """Return the metadata of a note, with every field of the official release."""
    instrument, pitch, velocity = name.split("-")
    family, origin, index = instrument.rsplit("_", 2)
    return {
        "note": number, "note_str": name, "instrument": int(index), "instrument_str": instrument, "pitch": int(pitch),
        "velocity": int(velocity), "sample_rate": RATE, "qualities": [int(q in qualities) for q in QUALITIES],
        "qualities_str": list(qualities), "instrument_family": FAMILIES.index(family), "instrument_family_str": family,
        "instrument_source": ORIGINS.index(origin), "instrument_source_str": origin,
    }  # fmt: skip


def write_release(root, qualities=None, **parts):
    """Write the folders of a release. A part is {note_str: int16 or float audio, bytes of a file, or None: no file}."""
    for part in SPLITS:
        folder = root / f"nsynth-{part}"
        (folder / "audio").mkdir(parents=True)
        notes = parts.get(part, {})
        table = {name: example(i, name, (qualities or {}).get(name, ())) for i, name in enumerate(notes)}
        (folder / "examples.json").write_text(json.dumps(table, indent=4))
        for name, audio in notes.items():
            file = folder / "audio" / f"{name}.wav"
            if isinstance(audio, bytes):
                file.write_bytes(audio)
            elif audio is not None:
                soundfile.write(file, audio, RATE, "PCM_16" if audio.dtype == np.int16 else "FLOAT")
    return root


def pack(release, target):
    """Write the archives of a release."""
    target.mkdir(exist_ok=True)
    for part in SPLITS:
        with tarfile.open(target / f"nsynth-{part}.jsonwav.tar.gz", "w:gz", compresslevel=1) as tar:
            tar.add(release / f"nsynth-{part}", f"nsynth-{part}")
    return target


LEVEL = 0.25  # of sounds of sets


def nsynth_note(instrument, pitch, velocity=100, split="train", qualities=()):
    """Return a line of examples.csv."""
    family, origin, _ = instrument.rsplit("_", 2)
    line = {"path": f"audio/{instrument}-{pitch:03d}-{velocity:03d}.wav", "split": split, "instrument": instrument}
    line |= {"instrument_family": family, "instrument_source": origin, "pitch": pitch, "velocity": velocity}
    return {**line, "sample_rate": 48000, "qualities": str(list(qualities))}


def surge_note(patch, pitch, velocity=100, split="train", family="Leads", fx=""):
    """Return a line of audio.csv; a stem of several notes has no pitch and no velocity."""
    name = "stem" if pitch is None else f"{pitch}-{velocity}"
    line = {"path": f"audio/{patch}/{name}.wav", "split": split, "patch_UID": patch, "patch_family": family, "patch_fx": fx}
    return {**line, "midi_pitch": pitch, "midi_velocity": None if pitch is None else velocity}


def write_set(folder, lines, sounds=True):
    """Write the table of a set and its sounds: 0.5 s of the pitch of each line at 48 kHz, A4 for stems of several notes."""
    table = "examples.csv" if folder.name.startswith("nsynth") else "audio.csv"
    folder.mkdir(parents=True)
    pd.DataFrame(lines).to_csv(folder / table, index=False)
    for line in lines if sounds else ():
        pitch = line.get("pitch", line.get("midi_pitch"))
        write(folder / line["path"], at_rate(pitch or 69, 48000, 0.5, LEVEL), 48000)
    return folder


NSYNTH = [
    nsynth_note("bass_electronic_018", 40, qualities=["bright", "reverb"]),
    nsynth_note("bass_electronic_018", 45, 50),
    nsynth_note("flute_acoustic_002", 72, split="valid", qualities=["dark"]),
    nsynth_note("mallet_acoustic_000", 60, split="test"),
]
SURGE = [
    surge_note("0001", 60, 90, fx="Reverb 2, Chorus"),
    surge_note("0001", None, fx="Reverb 2, Chorus"),
    surge_note("0001_no_fx", 60, 90),
    surge_note("0001_no_fx_aftertouch", 60, 90),
    surge_note("0005", 36, split="valid", family="Basses"),
    surge_note("0005", 38, split="valid", family="Basses"),
    surge_note("0003", 64, split="test", family="Polysynths", fx="EQ"),
    surge_note("0004", 64, split="test", family="Zithers", fx="Tape"),
]
PRESETS = [  # bank, program, name, lowest and highest key
    (128, 0, "Kit", 36, 50),
    (0, 0, "Grand Piano", 0, 127),
    (0, 33, "Bass", 30, 40),
    (1, 7, "Strange", 60, 72),
]


def chunk(name: bytes, *bodies: bytes) -> bytes:
    """Return a chunk of a RIFF file, of even length."""
    body = b"".join(bodies)
    body += bytes(len(body) % 2)
    return name + struct.pack("<I", len(body)) + body


def write_font(path: Path, presets=PRESETS, copyright=b"", *, level=0.5, controller=None, vorbis=False) -> Path:
    """Write a SoundFont (2.04): all presets have one looped sample, A4, each with its keys and, if given, semitones by which it is off.

    The number of a `controller` makes it the level; `vorbis` compresses the sample as in .sf3 files.
    """
    count, period = len(presets), 1200  # 11 periods of 440 Hz at 48 kHz
    sample = level * np.sin(2 * np.pi * 440 * np.arange(4 * period) / 48000)
    data = np.round(32767 * sample).astype("<i2").tobytes()
    if vorbis:
        soundfile.write(ogg := io.BytesIO(), sample, 48000, format="OGG", subtype="VORBIS")
        data = ogg.getvalue()
    place = (0, len(data), period, 3 * period) if vorbis else (0, 4 * period, period, 3 * period)
    head = b"".join(struct.pack("<20sHHH12x", name.encode(), program, bank, i) for i, (bank, program, name, *_) in enumerate(presets))
    names = b"".join(struct.pack("<20sH", b"tone", i) for i in range(count))
    keys = [(low, high, off[0] if off else 0) for *_, low, high, off in ((*preset[:5], preset[5:]) for preset in presets)]
    zones = b"".join(struct.pack("<HBBHhHHHH", 43, low, high, 51, off, 54, 1, 53, 0) for low, high, off in keys)  # 51: tuning, 54: loop
    modulators = struct.pack("<HHhHH", 0x0180 + (controller or 0), 48, 960, 0, 0) * (controller is not None)  # at 0: 96 dB less
    tables = {
        b"phdr": head + struct.pack("<20sHHH12x", b"EOP", 0, 0, count),
        b"pbag": b"".join(struct.pack("<HH", i, 0) for i in range(count + 1)),
        b"pmod": bytes(10),
        b"pgen": b"".join(struct.pack("<HH", 41, i) for i in range(count)) + bytes(4),  # instrument
        b"inst": names + struct.pack("<20sH", b"EOI", count),
        b"ibag": b"".join(struct.pack("<HH", 4 * i, i * bool(modulators)) for i in range(count + 1)),
        b"imod": modulators * count + bytes(10),
        b"igen": zones + bytes(4),
        b"shdr": struct.pack("<20s5IBbHH", b"tone", *place, 48000, 69, 0, 0, 0x11 if vorbis else 1) + struct.pack("<20s26x", b"EOS"),
    }
    info = [chunk(b"ifil", struct.pack("<HH", 3 if vorbis else 2, 4)), chunk(b"isng", b"EMU8000\0"), chunk(b"INAM", b"tones\0")]
    info += [chunk(b"ICOP", copyright + b"\0")] if copyright else []
    lists = [
        chunk(b"LIST", b"INFO", *info),
        chunk(b"LIST", b"sdta", chunk(b"smpl", data, bytes(92))),
        chunk(b"LIST", b"pdta", *(chunk(*table) for table in tables.items())),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chunk(b"RIFF", b"sfbk", *lists))
    return path


def write_sfz(root: Path, texts: dict[str, str]) -> Path:
    """Write a library of {name: text} with samples of half a second: tones at different rates and depths."""
    write(root / "samples" / "a4.wav", at_rate(69, 48000), 48000)
    write(root / "samples" / "a2.wav", at_rate(45, 44100), 44100, subtype="PCM_24")
    write(root / "samples" / "c6.wav", at_rate(84, 22050), 22050, subtype="FLOAT")
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.sfz").write_text(text + "\n")
    return root


def write_preset(path: Path, **behaviour) -> Path:
    """Write a preset of the stand-in for surgepy; `fx` maps numbers of slots to names of effects."""
    types = {name: number for number, (name, _) in enumerate(SURGE_FX)}
    fx = {str(slot): types.get(name, name) for slot, name in behaviour.pop("fx", {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"fx": fx, **behaviour}))
    return path


PROGRAMS = (0, 4, 16, 33, 40, 73)  # families Piano (two), Organ, Bass, Strings, Pipe


def general_midi_bank(folder, name, *, swapped=(), skipped=(), banks=(0,)):
    """Build a bank of PROGRAMS, each at a frequency of its own, whatever the pitch; two programs may be `swapped`."""
    sounds, time = [], np.arange(RATE // 2) / RATE
    for bank in banks:
        for program in set(PROGRAMS) - set(skipped):
            shown = dict(zip(swapped, reversed(swapped), strict=True)).get(program, program)
            for pitch in (48, 60, 72):
                audio = 0.5 * np.sin(2 * np.pi * (200 + 20 * shown) * time)
                uid = f"soundfont/{name}/{bank:03d}-{program:03d} Program {program}"
                sounds.append(sound(uid, audio, family=GM_GROUPS[program], pitch=float(pitch), split="train"))
    return build_bank(folder / name, sounds)
