"""Attacks through sources of sounds: archives, SFZ instruments, SoundFonts, tables, audio and MIDI files."""

import gzip
import io
import json
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hostile import Scene, attack, attacks, bounded, quiet, refused
from source_files import NSYNTH, tones, write_release, write_set
from tones import write

from cirlib.audio.io import read_audio, read_long
from cirlib.data.note_statistics import NoteStatistics, read_midi
from cirlib.data.sources import cir, folder, nsynth, sfz, soundfont
from cirlib.data.sources.download import extract
from cirlib.search.catalog import open_catalog

NAME = "nsynth-test"


def member(name: str, data: bytes = b"", **values) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in values.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind=tarfile.SYMTYPE):
    return member(name, type=kind, linkname=target)


DEEP = "/".join(["d" * 200] * 20)  # so long that the target of a link cannot be resolved
ARCHIVES = {
    "a member above its folder": [member("../../evil", b"evil")],
    "a member above its folder, within a path": [member(f"{NAME}/x/../../../evil", b"evil")],
    "a link out": [link(f"{NAME}/l", "../.."), member(f"{NAME}/l/evil", b"evil")],
    "an absolute link": [link(f"{NAME}/l", "/etc/passwd")],
    "a hard link out": [link(f"{NAME}/l", "../../secret.txt", tarfile.LNKTYPE)],
    "a link inside": [link(f"{NAME}/audio", f"{NAME}"), member(f"{NAME}/audio/x", b"x")],
    "links so long that they cannot be followed": [
        link(f"{NAME}/a", DEEP),
        link(f"{NAME}/b", f"a/{DEEP}/../../../.."),
        member("b/evil", b"x"),
    ],
    "a device": [member(f"{NAME}/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a pipe": [member(f"{NAME}/pipe", type=tarfile.FIFOTYPE)],
}


@attacks("archive", ARCHIVES)
def _archive(scene, members):
    unpack(scene, [*members, member(f"{NAME}/examples.json", b"{}")], "is damaged or another archive")


def unpack(scene: Scene, members: list, words: str) -> None:
    """Assert that an archive of these members is refused and leaves nothing."""
    place = scene.inside / "deep" / "in"
    place.mkdir(parents=True)
    with gzip.open(place / "a.tar.gz", "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    with bounded(), refused(words):
        extract(place / "a.tar.gz", NAME, "examples.json")
    assert [f.name for f in scene.inside.rglob("*") if f.name != "deep"] == ["in", "a.tar.gz"]


@attack("archive", "an absolute member")
def _absolute(scene):
    """tarfile extracts it into the folder."""
    place = scene.inside / "in"
    place.mkdir()
    with tarfile.open(place / "a.tar.gz", "w:gz") as tar:
        for info, data in (member(f"{scene.root}/evil", b"evil"), member(f"{NAME}/examples.json", b"{}")):
            tar.addfile(info, io.BytesIO(data))
    extract(place / "a.tar.gz", NAME, "examples.json")
    assert sorted(f.name for f in place.rglob("*")) == ["a.tar.gz", "examples.json", NAME]


@attack("archive", "few bytes that unpack to many")
def _bomb(scene):
    unpack(scene, [member(f"{NAME}/zeros", bytes(300 << 20)), member(f"{NAME}/examples.json", b"{}")], "far larger than audio does")


@attack("archive", "a name of megabytes")
def _long_name(scene):
    name = member("././@LongLink", b"x" * (30 << 20), type=tarfile.GNUTYPE_LONGNAME)
    unpack(scene, [name, member(f"{NAME}/x", b"x"), member(f"{NAME}/examples.json", b"{}")], "is damaged or another archive")


# NSynth and the authors' tables


def release(scene: Scene, change) -> Path:
    """Write a release whose metadata of the only note is changed."""
    root = write_release(scene.inside / "release", train=tones("bass_acoustic_000-040-100"))
    file = root / "nsynth-train" / "examples.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    return root


NOTE = "bass_acoustic_000-040-100"
NOTES = {
    "a note that is a path": lambda notes: {"../../../../secret": notes[NOTE]},
    "an instrument whose work would be written elsewhere": lambda notes: {NOTE: {**notes[NOTE], "instrument_str": "../../../../evil"}},
    "an absolute instrument": lambda notes: {NOTE: {**notes[NOTE], "instrument_str": "/tmp/evil"}},
    "a pitch that is a text": lambda notes: {NOTE: {**notes[NOTE], "pitch": "40"}},
    "qualities that are a number": lambda notes: {NOTE: {**notes[NOTE], "qualities_str": 3}},
    "a family that is a list": lambda notes: {NOTE: {**notes[NOTE], "instrument_family_str": ["bass"]}},
}


@attacks("NSynth", NOTES)
def _note(scene, change):
    with refused("is not the metadata of NSynth"):
        nsynth.build(scene.inside / "bank", nsynth.NSynthConfig(str(release(scene, change))), n_jobs=1)


@attack("NSynth", "a sound that is a link out")
def _note_link(scene):
    root = release(scene, lambda notes: notes)
    file = root / "nsynth-train" / "audio" / f"{NOTE}.wav"
    file.unlink()
    file.symlink_to(scene.secret)
    with refused("leads outside of"):
        nsynth.build(scene.inside / "bank", nsynth.NSynthConfig(str(root)), n_jobs=1)


@attack("NSynth", "metadata that nests without end")
def _nested(scene):
    root = release(scene, lambda notes: notes)
    (root / "nsynth-train" / "examples.json").write_text("[" * 10**6)
    with refused("is not the metadata of NSynth"):
        nsynth.build(scene.inside / "bank", nsynth.NSynthConfig(str(root)), n_jobs=1)


CELLS = {
    "a path above the set": ("path", "../../secret.wav", "leads outside of"),
    "an absolute path": ("path", "{root}/secret.wav", "leads outside of"),
    "a pitch that is a text": ("pitch", "high", "pitch must hold numbers"),
}


@attacks("table of the authors' layout", CELLS)
def _cell(scene, column, value, words):
    line = {**NSYNTH[0], column: value.format(root=scene.root)}
    write_set(scene.inside / "nsynth_v1.0", [line], sounds=False)
    with refused(words):
        cir.build(scene.inside / "bank", cir.CirConfig(str(scene.inside)), n_jobs=1)


# SFZ

TEXTS = {
    "a sample above": "<region> sample=../secret.wav key=60",
    "a sample above, by backslashes": "<region> sample=..\\secret.wav key=60",
    "a sample above, through a folder": "<region> sample=s/../../secret.wav key=60",
    "an absolute sample": "<region> sample={root}/secret.wav key=60",
    "a file of the system": "<region> sample=/etc/passwd key=60",
    "default_path above": "<control> default_path=../\n<region> sample=secret.wav key=60",
    "default_path that is half of a step": "<control> default_path=.\n<region> sample=./secret.wav key=60",
    "default_path and a sample that only together lead out": "<control> default_path=s/../\n<region> sample=../secret.wav key=60",
    "a variable": "#define $A ..\n<region> sample=$A/secret.wav key=60",
    "a variable made of variables": "#define $A $B\n#define $B ..\n<region> sample=$A/secret.wav key=60",
    "two halves in variables": "#define $A .\n<region> sample=$A$A/secret.wav key=60",
    "a variable in the name of the opcode": "#define $S sample\n<region> $S=../secret.wav key=60",
    "a comment that is none": "/*\n// */ <region> sample=../secret.wav key=60",
    "slashes as of a comment": "<region> sample=s/good.wav//../../../secret.wav",
    "a comment that hides default_path": "<control> default_path=../\n<control> x=1/* default_path=s/\n*/<region> sample=secret.wav key=60",
    "a comment made of variables": "#define $A /\n<control> default_path=../ $A$A default_path=s/\n<region> sample=secret.wav key=60",
    "a path with an empty variable": "<region> sample=.$./secret.wav key=60",
    "a definition of an opcode": "#define $A sample=../secret.wav\n<region> $A\nkey=60",
    "upper case": "<region> SAMPLE=../secret.wav key=60",
    "an include above": '#include "../secret.txt"\n<region> sample=s/good.wav key=60',
    "an absolute include": '#include "{root}/secret.txt"\n<region> sample=s/good.wav key=60',
    "an include in a variable": '#define $A ..\n#include "$A/secret.txt"\n<region> sample=s/good.wav key=60',
    "an include that leads out": '#include "s/more.sfz"\n<region> sample=s/good.wav key=60',
    "a link to a sound": "<region> sample=s/link.wav key=60",
    "a link to a folder": "<region> sample=up/secret.wav key=60",
    "many variables": "\n".join(f"#define $A{'A' * i} x$A" for i in range(30)) + "\n<region> sample=" + "$A" * 40 + " key=60",
}


def instrument(scene: Scene, text: str) -> sfz.SfzConfig:
    """Write a library of one instrument, with a valid sample, links that lead outside and a text that does."""
    library = scene.inside
    write(library / "s" / "good.wav", quiet(0.5))
    (library / "s" / "link.wav").symlink_to(scene.secret)
    (library / "up").symlink_to(scene.root)
    (library / "s" / "more.sfz").write_text("<region> sample=../secret.wav key=62\n")
    (library / "x.sfz").write_text(text.format(root=scene.root) + "\n", "utf-8", "surrogateescape")
    return sfz.SfzConfig(str(library / "x.sfz"), notes=1, hold_s=0.1, tail_s=0.1, valid=0.0, test=0.0)


@attacks("SFZ", TEXTS)
def _sfz(scene, text):
    with bounded(), refused("too many variables" if "$AA" in text else "outside of its library"):
        sfz.build(scene.inside / "bank", instrument(scene, text), n_jobs=1)


@attack("SFZ", "a directive in a variable")
def _directive(scene):
    text = '#define $A #include\n$A "../secret.txt"\n<region> sample=s/good.wav key=60'
    with refused("a variable in it holds a directive"):
        sfz.build(scene.inside / "bank", instrument(scene, text), n_jobs=1)


@attack("SFZ", "a name that is not UTF-8")
def _not_utf8(scene):
    config = instrument(scene, "<region> sample=s/\udcff.wav key=60")
    shutil.copy(scene.inside / "s" / "good.wav", scene.inside / "s" / "\udcff.wav")
    with refused("is not UTF-8"):
        sfz.build(scene.inside / "bank", config, n_jobs=1)


@attack("SFZ", "a link whose name is not ASCII")
def _not_ascii(scene):
    config = instrument(scene, "<region> sample=s/\u00fc.wav key=60")
    (scene.inside / "s" / "\u00fc.wav").symlink_to(scene.secret)
    with refused("outside of its library"):
        sfz.build(scene.inside / "bank", config, n_jobs=1)


@attack("SFZ", "a text that includes itself")
def _loop(scene):
    """sfizz reads it once; it is refused."""
    with refused("too many texts"):
        sfz.build(scene.inside / "bank", instrument(scene, '#include "x.sfz"\n<region> sample=s/good.wav key=60'), n_jobs=1)


@attack("SFZ", "a text that sfizz interprets differently")
def _otherwise(scene):
    """The paths that sfizz found are checked too."""
    scene.patch.setattr(sfz, "check_paths", lambda *_: None)
    with refused("outside of its library"):
        sfz.build(scene.inside / "bank", instrument(scene, TEXTS["a sample above"]), n_jobs=1)


@attack("SFZ", "an instrument that is a link out")
def _instrument_link(scene):
    (scene.root / "other.sfz").write_text("<region> sample=secret.wav key=60")
    scene.allow()
    (scene.inside / "library").mkdir()
    (scene.inside / "library" / "x.sfz").symlink_to(scene.root / "other.sfz")
    with refused("no .sfz file in"):
        sfz.build(scene.inside / "bank", sfz.SfzConfig(str(scene.inside / "library")), n_jobs=1)


# Folders of sounds, SoundFonts


@attack("folder of sounds", "a name that is not UTF-8")
def _name(scene):
    """Only this file is skipped."""
    root = scene.inside / "sounds"
    shutil.copy(write(root / "good.wav", quiet(0.5)), root / "bad\udcff.wav")
    bank = folder.build(scene.inside / "bank", folder.FolderConfig(str(root), estimate=False, valid=0.0, test=0.0), n_jobs=1)
    assert list(bank.notes.instrument) == ["folder/sounds/good.wav"]


@attack("folder of sounds", "links out, to sounds and to folders")
def _folder_links(scene):
    root = scene.inside / "sounds"
    write(root / "good.wav", quiet(0.5))
    (root / "link.wav").symlink_to(scene.secret)
    (root / "up").symlink_to(scene.root)
    bank = folder.build(scene.inside / "bank", folder.FolderConfig(str(root), estimate=False, valid=0.0, test=0.0), n_jobs=1)
    assert list(bank.notes.instrument) == ["folder/sounds/good.wav"]
    assert bank.infos[0]["skipped"]["link.wav"] == "a link out of the folder, not followed unless the option links is set"
    catalog = open_catalog(root)
    assert list(catalog.entries.path) == ["good.wav"] and "link.wav" in catalog.skipped


def font(*chunks: bytes) -> bytes:
    return b"RIFF\0\0\0\0sfbk" + b"".join(chunks)


def chunk(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    return b"LIST" + struct.pack("<I", len(body) + 4 if size is None else size) + kind + body


FONTS = {
    "garbage": b"RIFF" + np.random.default_rng(0).bytes(5000),
    "a list of a negative size": font(chunk(b"INFO", b"", 0), chunk(b"pdta", b"", 2)),
    "a list of 4 GB": font(chunk(b"pdta", b"phdr", 2**32 - 1)),
    "a list within a list of 4 GB": font(chunk(b"INFO", b"ICOP\xff\xff\xff\xff"), chunk(b"pdta", b"phdr\xff\xff\xff\xff")),
}


@attacks("SoundFont", FONTS)
def _font(scene, data):
    pytest.importorskip("fluidsynth", exc_type=ImportError)  # the package alone is not enough
    (scene.inside / "x.sf2").write_bytes(data)
    with bounded(), refused("SoundFont"):
        soundfont.build(scene.inside / "bank", soundfont.SoundFontConfig((str(scene.inside / "x.sf2"),)), n_jobs=1)


@attack("SoundFont", "a program that General MIDI does not have")
def _program(scene):
    assert soundfont.preset_family(0, 60000, name="Grand Piano", general_midi=True) == "Piano"


# Audio


def wav(channels: int = 1, rate: int = 16000, bits: int = 16, size: int = 3200, body: bytes | None = None, kind: int = 1) -> bytes:
    """Return a WAV file with this header."""
    body = np.int16(9000 * quiet(0.1)).tobytes() if body is None else body
    step = max(1, channels * bits // 8)
    head = struct.pack("<HHIIHH", kind, channels & 0xFFFF, rate, (rate * step) & 0xFFFFFFFF, step & 0xFFFF, bits)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size) + body


AUDIO = {
    "a rate of 1 Hz": wav(rate=1),
    "a rate of 4 GHz": wav(rate=2**32 - 1),
    "65,535 channels": wav(channels=65535),
    "1,024 channels": wav(channels=1024),
    "1 GB that is not there": wav(size=2**30),
    "no bits": wav(bits=0),
    "samples that no arithmetic can hold": wav(kind=3, bits=32, body=np.full(800, 3e38, "<f4").tobytes()),
    "samples that are no numbers": wav(kind=3, bits=32, body=np.full(800, np.nan, "<f4").tobytes()),
    "a FLAC file that promises days": b"fLaC\x80\x00\x00\x22" + bytes.fromhex("1000100000000000000003e800ffffffffff") + bytes(16),
    "garbage": np.random.default_rng(0).bytes(5000),
}


@attacks("audio", AUDIO)
def _audio(scene, data):
    (scene.inside / "x.wav").write_bytes(data)
    for read in (read_audio, read_long):
        with bounded(), refused():
            read(scene.inside / "x.wav")


@attack("audio", "hours of silence in a few bytes")
def _hours(scene):
    import soundfile

    with soundfile.SoundFile(scene.inside / "x.flac", "w", 16000, 1, "PCM_16") as file:
        file.write(np.int16(9000 * quiet(1.0)))
        for _ in range(150):
            file.write(np.zeros(60 * 16000, np.int16))
    assert (scene.inside / "x.flac").stat().st_size < 2 << 20
    with bounded(), refused("longer than 2 hours"):
        read_long(scene.inside / "x.flac")


# MIDI and note statistics

TRACK = b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk"
SCORES = {
    "garbage": np.random.default_rng(0).bytes(3000),
    "a header alone": TRACK[:14],
    "no time": b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\x0c\0\x90\x3c\x40\1\x80\x3c\0\0\xff\x2f\0",
    "a track of 4 GB": TRACK + b"\xff\xff\xff\xff\0\x90\x3c\x40",
    "an event after a million bars": TRACK + b"\0\0\0\x10\0\x90\x3c\x40\xff\xff\xff\x7f\x80\x3c\0\0\xff\x2f\0",
    "no tempo": TRACK + b"\0\0\0\x13\0\xff\x51\3\0\0\0\0\x90\x3c\x40\1\x80\x3c\0\0\xff\x2f\0",
}


@attacks("MIDI", SCORES)
def _score(scene, data):
    (scene.inside / "x.mid").write_bytes(data)
    with bounded():
        try:
            notes = read_midi(scene.inside / "x.mid")
        except ValueError as error:
            assert str(error).startswith("not readable as MIDI (") and "\n" not in str(error)
        else:
            assert all(np.isfinite(rows).all() for rows in notes.values())


TABLES = {
    "nesting without end": "[" * 10**6,
    "numbers in two dimensions": '{"pitch": {"Bass": {"values": [[1, 2]], "probabilities": [[1, 2]]}}}',
    "a number that is too large": '{"pitch": {"Bass": {"values": [1], "probabilities": [1' + "0" * 400 + "]}}}",
    "no list": '{"log_duration_s": {"Bass": {"bin_edges": 5, "probabilities": [1]}}}',
    "durations of ages": '{"log_duration_s": {"Bass": {"bin_edges": [0, 400], "probabilities": [1]}}}',
    "NaN": '{"pitch": {"Bass": {"values": [1], "probabilities": [NaN]}}}',
}


@attacks("note statistics", TABLES)
def _statistics(scene, text):
    (scene.inside / "x.json").write_text(text)
    with bounded(), refused("is no file of note statistics"):
        NoteStatistics.load(scene.inside / "x.json")
