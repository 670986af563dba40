"""SFZ instruments of tones, rendered by sfizz: keys, pitches, levels, lengths, and reasons for skipped ones."""

from collections import Counter

import numpy as np
import pytest
from conftest import RATE, hz
from sound_files import encode
from source_files import write_sfz
from tones import amplitude, at_rate, frequency, rows, write

pytest.importorskip("pysfizz")

from cirlib.data.sources.sfz import VELOCITIES, SfzConfig, build, choose_notes

GAIN = 0.2657  # of sfizz, for a mono sample in the middle at its default volume
LIBRARY = {  # name: text
    "Keyboards/Grand": "<region> sample=../samples/a4.wav pitch_keycenter=69 lokey=48 hikey=72 amp_veltrack=0",
    "Bass/Finger": "<region> sample=../samples/a2.wav pitch_keycenter=45 lokey=40 hikey=50 loop_mode=loop_continuous",
    "thing": "<region> sample=samples/a4.wav pitch_keycenter=69 lokey=69 hikey=71\n<region> sample=samples/c6.wav key=84",
}


def config(root, **options):
    """Few notes, not held for long; all instruments train."""
    return SfzConfig(**{"path": str(root), "notes": 4, "hold_s": 0.3, "tail_s": 0.4, "valid": 0.0, "test": 0.0, **options})


def render(tmp_path, text, **options):
    """Bank of a library of one instrument."""
    return build(tmp_path / "bank", config(write_sfz(tmp_path / "library", {"x": text}), **options), n_jobs=1)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return write_sfz(tmp_path_factory.mktemp("sfz") / "library", LIBRARY)


@pytest.fixture(scope="module")
def bank(library):
    return build(library.parent / "bank", config(library, license="CC0-1.0"), n_jobs=1)


# Rendered notes


def test_instruments(bank):
    """Named by their place; the file or the folder gives the family, if any."""
    assert Counter(rows(bank, "instrument", "family", "split")) == {
        ("sfz/library/Bass/Finger", "Bass", "train"): 4,
        ("sfz/library/Keyboards/Grand", "Piano", "train"): 4,
        ("sfz/library/thing", None, "train"): 4,
    }
    assert set(bank.notes.source) == {"sfz"}
    assert (bank.notes.hold_s == np.float32(0.3)).all()
    tags = {uid.rpartition("/")[2]: list(tags) for uid, tags in rows(bank, "instrument", "tags")}
    assert tags == {"Finger": ["bass"], "Grand": ["piano"], "thing": []}
    assert bank.infos[0]["license"] == "CC0-1.0"
    assert bank.infos[0]["skipped"] == {}


def test_notes_are_on_playable_keys(bank):
    """Different ones, the middle key first, at the first velocity."""
    notes = bank.notes.groupby("instrument")[["pitch", "velocity"]].agg(list)
    keys = {"Bass/Finger": range(40, 49), "Keyboards/Grand": range(48, 73), "thing": (69, 70, 71, 84)}  # Bass ends at 48
    for name, playable in keys.items():
        pitch, velocity = notes.loc[f"sfz/library/{name}"]
        assert set(pitch) <= set(playable)
        assert (pitch[0], velocity[0]) == (playable[len(playable) // 2], VELOCITIES[0])
        assert len(set(zip(pitch, velocity, strict=True))) == len(pitch)


def test_pitch_and_level_of_every_note(bank):
    """Samples of any rate sound at the pitch of the row; velocity matters where the instrument says so."""
    for i, (instrument, pitch, velocity) in enumerate(rows(bank, "instrument", "pitch", "velocity")):
        middle = bank.audio(i)[1000:3500]
        expected = 0.5 * GAIN if instrument.endswith("Grand") else 0.5 * GAIN * (velocity / 127) ** 2
        assert frequency(bank.audio(i)) == pytest.approx(hz(pitch), rel=0.002)
        assert amplitude(middle, hz(pitch)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("opcodes", "seconds"),
    [
        ("", 0.3),  # note off ends it
        ("loop_mode=one_shot", 0.5),  # the sample's own end
        ("loop_mode=loop_continuous ampeg_release=5", 0.7),  # cut at hold_s + tail_s
        ("loop_mode=loop_continuous ampeg_decay=0.05 ampeg_sustain=0", 0.05),
    ],
)
def test_length(tmp_path, opcodes, seconds):
    """A note ends where it falls silent, or after hold_s + tail_s."""
    bank = render(tmp_path, f"<region> sample=samples/a4.wav pitch_keycenter=69 key=69 {opcodes}", notes=1)
    assert bank.lengths[0] / RATE == pytest.approx(seconds, abs=0.035)
    assert abs(bank.audio(0)[-1]) < 1e-3  # no click


def test_notes_do_not_sound_in_the_next_one(tmp_path):
    """Though every one of them goes on for seconds after note off."""
    text = "<region> sample=samples/a4.wav pitch_keycenter=69 lokey=60 hikey=84 loop_mode=loop_continuous ampeg_release=9 amp_veltrack=0"
    bank = render(tmp_path, text, notes=6)
    assert len(set(bank.pitches)) > 3
    for i in range(1, len(bank)):
        if bank.pitches[i] != bank.pitches[i - 1]:
            assert amplitude(bank.audio(i), hz(bank.pitches[i - 1])) < 0.002 * amplitude(bank.audio(i), hz(bank.pitches[i]))


def test_long_samples_are_played_whole(tmp_path):
    """sfizz reads their ends in the background: no note may be rendered before that."""
    root = write_sfz(tmp_path / "library", {str(i): "<region> sample=samples/a4.wav key=69" for i in range(10)})
    bank = build(tmp_path / "bank", config(root, notes=1), n_jobs=1)
    assert len(set(bank.lengths)) == 1


def test_channels_are_averaged(tmp_path):
    """A stereo sample with one silent side has half the level."""
    root = tmp_path / "library"
    write(root / "left.wav", np.stack([at_rate(69, 48000), np.zeros(24000)], axis=1), 48000)
    write(root / "both.wav", np.stack([at_rate(69, 48000)] * 2, axis=1), 48000)
    write_sfz(root, {name: f"<region> sample={name}.wav key=69" for name in ("left", "both")})
    bank = build(tmp_path / "bank", config(root, notes=1), n_jobs=1)
    levels = {uid: amplitude(bank.audio(i), 440) for i, uid in enumerate(bank.notes.instrument)}
    assert levels["sfz/library/left"] == pytest.approx(levels["sfz/library/both"] / 2, rel=0.01)


def test_choice_of_notes():
    """Keys outside the family's range are skipped if there are others; no more notes than there are keys and velocities."""
    rng = np.random.default_rng(0)
    assert {p for p, _ in choose_notes(list(range(128)), "Bass", count=40, rng=rng)} <= set(range(28, 49))
    assert {p for p, _ in choose_notes([100, 101], "Bass", count=8, rng=rng)} <= {100, 101}
    few = choose_notes([60], None, count=16, rng=rng)
    assert sorted(few) == sorted((60, v) for v in VELOCITIES)


# Texts as they occur

KEYS = "sample=samples/a4.wav pitch_keycenter=69 lokey=60 hikey=72 loop_mode=loop_continuous"
LEVEL = 0.5 * GAIN * (VELOCITIES[0] / 127) ** 2
WHOLE = {  # texts that mean the same as `<region> KEYS`
    "a pedal region": f"<group> lokey=-1 hikey=-1 on_locc64=127 on_hicc64=127\n<region> sample=samples/a4.wav\n<group>\n<region> {KEYS}",
    "a release region on all keys": f"<region> trigger=release volume=-40 sample=samples/a4.wav\n<region> trigger=attack {KEYS}",
    "UTF-8 with a byte order mark": f"<region> {KEYS}".encode("utf-8-sig"),
    "UTF-16": f"<region> {KEYS}".encode("utf-16"),
    "a mark before a definition": f"#define $A 60\n<region> {KEYS.replace('60', '$A')}".encode("utf-8-sig"),
    "a mark in an include": '<region>\n#include "parts/bom.txt"\nlokey=60 hikey=72',
    "lines of old Macs": f"<region> {KEYS}".replace(" ", "\r"),
    "spaces around =": f"<region> {KEYS}".replace(" ", "\n").replace("=", " = "),
    "a comment that names a file outside": f"// sample=../../old.wav\n<region> {KEYS} // was sample=/etc/passwd",
    "a block comment that names one": f'/* <region> sample=../../old.wav\n#include "/etc/passwd" */\n<region> {KEYS}',
    "a definition of an opcode": "#define $lo lokey=60\n#define $s sample=samples/a4.wav\n<region> $s\n$lo hikey=72 pitch_keycenter=69",
    "a definition with =": f"#define $LO=60\n#define $HI = 72\n<region> {KEYS.replace('60', '$LO').replace('72', '$HI')}",
    "a definition that changes": f"#define $A 84\n#define $A 60 #define $B 72\n<region> {KEYS.replace('60', '$A').replace('72', '$B')}",
    "a variable of which one is the beginning": f"#define $KEY 60\n#define $K 7\n<region> {KEYS.replace('72', '$K2')}",
    "an include of a variable": '#define $F parts\n<region>\n#include "$F\\bom.txt"\nlokey=60 hikey=72',
    "an absolute path": "<region> " + KEYS.replace("sample=", "sample={root}/"),
    "default_path": f"<control> default_path=samples/\n<region> {KEYS}".replace("samples/a4", "a4"),
    "controls without default_path": f"<control> default_path=gone/\n<Control> set_cc20=64 note_offset=0\n<region> {KEYS}",
    "zeros at the end": f"<region> {KEYS}\0\0",
    "a controller at 0": f"<region> {KEYS} locc1=1",
    "a controller that fades in": f"<region> {KEYS} xfin_locc20=0 xfin_hicc20=127",
    "a controller with a window": f"<region> {KEYS} locc4=20 hicc4=100",
    "no default keyswitch": f"<global> sw_lokey=24 sw_hikey=25\n<region> {KEYS} sw_last=24\n<region> {KEYS} sw_last=25 transpose=7",
    "a keyswitch with a name": f"<global> sw_lokey=c1 sw_hikey=d1\n<region> {KEYS} sw_last=c#1\n<region> {KEYS} sw_last=D1 transpose=7",
    "a keyswitch that is held": f"<region> {KEYS} sw_down=20",
    "a keyswitch and a controller": f"<global> sw_lokey=24 sw_hikey=25\n<region> {KEYS} sw_last=24 locc1=1",
    "a default keyswitch": f"<global> sw_default=25\n<region> {KEYS} sw_last=24 tune=300\n<region> {KEYS} sw_last=25",
    "an effect of its own": f"<region> {KEYS}\n<effect> bus=fx1 type=eq",
}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_texts_as_they_occur(tmp_path, text):
    """All notes of the keys are rendered, at their pitch and level."""
    root = write_sfz(tmp_path / "library", {})
    (root / "parts").mkdir()
    (root / "parts" / "bom.txt").write_bytes(b"\xef\xbb\xbfsample=samples/a4.wav pitch_keycenter=69 loop_mode=loop_continuous")
    (root / "x.sfz").write_bytes(text if isinstance(text, bytes) else text.replace("{root}", str(root)).encode())
    bank = build(tmp_path / "bank", config(root, notes=3, tail_s=0.1), n_jobs=1)
    assert bank.infos[0]["skipped"] == {}
    assert (len(bank), bank.pitches[0]) == (3, 66)
    assert bank.notes.pitch.between(60, 72).all()
    for i in range(len(bank)):
        assert frequency(bank.audio(i)) == pytest.approx(hz(bank.pitches[i]), rel=0.002)
    assert np.abs(bank.audio(0)).max() == pytest.approx(LEVEL, rel=0.5)


def test_included_texts_are_no_instruments(tmp_path):
    """Though they have the suffix of one and could be rendered; also those that an included text includes."""
    region = "<region> sample=samples/a4.wav key=69"
    texts = {"a": '#include "parts/b.sfz"', "parts/b": region + '\n#include "parts/c.sfz"', "parts/c": region}
    texts["d"] = region + '\n#include "gone.txt"'
    bank = build(tmp_path / "bank", config(write_sfz(tmp_path / "library", texts), notes=1), n_jobs=1)
    assert set(bank.notes.instrument) == {"sfz/library/a", "sfz/library/d"}
    missing = {"sfz/library/d gone.txt": "it includes this text, which does not exist"}
    assert bank.infos[0]["skipped"] == {"parts/b.sfz": "a part of a.sfz", "parts/c.sfz": "a part of a.sfz", **missing}


def test_folder_names_do_not_end_paths(tmp_path):
    """A space before a word and `=`, `#`, `$` or `//` would end a path, were it written into the text."""
    root = write_sfz(tmp_path / "my = $A #include" / "x key=1", {"x": f"<region> {KEYS}"})
    assert len(build(tmp_path / "bank", config(root, notes=3), n_jobs=1)) == 3


# Skipped instruments and notes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "sfizz finds no region in it whose sample exists"),
        ("no instrument at all", "sfizz finds no region in it whose sample exists"),
        ("<group> key=60", "sfizz finds no region in it whose sample exists"),
        ("<region> sample=gone.wav key=60", "sfizz finds no region in it whose sample exists"),
        ("<region> sample=samples/a4.wav lokey=61 hikey=60", "it has no playable key"),
        ("<region> sample=samples/a4.wav key=60 volume=-144", "no usable note (silent)"),
        ("<region> sample=samples/empty.wav key=60", "samples/empty.wav: an empty file"),
        ("<region> sample=samples\\cut.wav key=60", "samples/cut.wav: truncated: shorter than its header says"),
        (KEYS + "\n<region> sample=samples/cut.ogg trigger=release", "samples/cut.ogg: truncated: its last page is incomplete"),
    ],
)
def test_unplayable_instrument_costs_only_itself(tmp_path, text, reason):
    """It is listed with a reason."""
    root = write_sfz(tmp_path / "library", {"bad": text, "good": "<region> sample=samples/a4.wav key=69"})
    (root / "samples" / "empty.wav").touch()
    for kind in ("wav PCM_16", "ogg VORBIS"):
        (root / "samples" / f"cut.{kind[:3]}").write_bytes(encode(kind)[:-1000])
    bank = build(tmp_path / "bank", config(root), n_jobs=1)
    assert set(bank.notes.instrument) == {"sfz/library/good"}
    assert bank.infos[0]["skipped"] == {"sfz/library/bad": reason}


def test_silent_notes_are_skipped(tmp_path):
    bank = render(tmp_path, "<region> sample=samples/a4.wav pitch_keycenter=69 key=69\n<region> sample=samples/a4.wav key=70 volume=-144")
    skipped = bank.infos[0]["skipped"]
    assert set(bank.pitches) == {69}
    assert skipped
    assert all(name.startswith("sfz/library/x note 70-") and why == "silent" for name, why in skipped.items())


@pytest.mark.parametrize("path", ["", "nowhere", "empty"])
def test_no_instruments(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.sfz file in .*: set path to a folder of SFZ instruments"):
        build(tmp_path / "bank", SfzConfig(path=path and str(tmp_path / path)))


def test_one_file_alone(library, tmp_path):
    """`path` may name it: its folder is its library; so may one with an upper-case suffix."""
    assert set(build(tmp_path / "one", config(library / "thing.sfz"), n_jobs=1).notes.instrument) == {"sfz/library/thing"}
    file = library / "Bass" / "Finger.sfz"
    with pytest.raises(ValueError, match=r"reads '\.\./samples/a2\.wav', outside of its library .*Bass: set path to the folder that holds"):
        build(tmp_path / "none", config(file), n_jobs=1)
    upper = file.rename(file.with_suffix(".SFZ"))
    assert "sfz/library/Bass/Finger" in build(tmp_path / "all", config(library), n_jobs=1).instruments.index
    upper.rename(file)


# Building


def test_another_sample_or_seed_is_played_anew(tmp_path):
    """A sample counts as much as the text of the instrument."""
    text = "<region> sample=samples/a4.wav pitch_keycenter=69 lokey=40 hikey=90"
    first = render(tmp_path, text, notes=1)
    sound = first.audio(0)
    assert render(tmp_path, text, notes=1).audio(0).shape == sound.shape
    root = tmp_path / "library"
    write(root / "samples" / "a4.wav", at_rate(70, 48000), 48000)
    again = build(tmp_path / "bank", config(root, notes=1), n_jobs=1)
    assert frequency(again.audio(0)) == pytest.approx(frequency(sound) * 2 ** (1 / 12), rel=0.002)
    notes = [rows(build(tmp_path / "bank", config(root, seed=seed), n_jobs=1), "pitch", "velocity") for seed in (0, 1)]
    assert notes[0] != notes[1]
