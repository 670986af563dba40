"""Folders of sound files: every format, bad files, pitches and instruments from names, estimated pitches."""

import io

import numpy as np
import pytest
import soundfile
from conftest import RATE, hz, sound, tone
from source_files import pcm
from tones import amplitude, at_rate, frequency, rows, write

from cirlib.data.jobs import encode
from cirlib.data.sources.folder import FolderConfig, build, estimate_pitch


def read(root, **options):
    """Return the bank of a folder, built beside it; by default without estimated pitches, and all instruments train."""
    options = {"path": str(root), "estimate": False, "valid": 0.0, "test": 0.0, **options}
    return build(root.parent / "bank", FolderConfig(**options), n_jobs=1)


def tones(root, *names, seconds=0.05):
    """Write short files with these names; each holds the tone of its place in the list: MIDI 60, 61, ..."""
    for i, name in enumerate(names):
        write(root / name, tone(60 + i, seconds))
    return root


# Formats

LOSSLESS = [
    *(("wav", subtype, 44100) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("wav", "PCM_16", rate) for rate in (8000, 11025, 16000, 22050, 48000, 96000, 192000)),
    *(("flac", subtype, 48000) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("aiff", subtype, 22050) for subtype in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT")),
]
LOSSY = [
    *(("ogg", "VORBIS", rate) for rate in (16000, 44100)),
    *(("opus", "OPUS", rate) for rate in (16000, 48000)),
    *(("mp3", "MPEG_LAYER_III", rate) for rate in (16000, 44100)),
]
CONTAINER = {"opus": "OGG", "aiff": "AIFF"}
FORMATS = {f"{' '.join(map(str, kind))} {channels}": (*kind, channels) for kind in LOSSLESS + LOSSY for channels in (1, 2)}


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """The bank of a file of each format: 0.5 s of A4 at half of full scale; the second channel has half the level of the first."""
    root = tmp_path_factory.mktemp("formats") / "sounds"
    for name, (kind, subtype, rate, channels) in FORMATS.items():
        audio = at_rate(69, rate, level=0.5)
        stereo = np.stack([audio, audio / 2], axis=1)
        write(root / f"{name}.{kind}", audio if channels == 1 else stereo, rate, subtype=subtype, format=CONTAINER.get(kind))
    return read(root)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_right_length_pitch_and_level(formats, name):
    kind, subtype, _, channels = FORMATS[name]
    assert len(formats) == len(FORMATS) and formats.infos[0]["skipped"] == {}
    (i,) = np.flatnonzero(formats.notes.instrument == f"folder/sounds/{name}.{kind}")
    audio = formats.audio(i)
    assert abs(len(audio) - 0.5 * RATE) <= 1
    assert frequency(audio) == pytest.approx(440, abs=0.1)
    tolerance = 0.08 if (kind, subtype) in {k[:2] for k in LOSSY} else 0.01 if subtype.endswith("8") else 0.001
    assert amplitude(audio, 440) == pytest.approx(0.5 if channels == 1 else 0.375, rel=tolerance)


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff"])
def test_16_bits_at_16_khz_stay_bit_exact(tmp_path, kind):
    written = np.random.default_rng(0).integers(-32768, 32768, 5000, dtype=np.int16)
    written[[10, 20]] = -32768, 32767
    write(tmp_path / "sounds" / f"a.{kind}", written)
    bank = read(tmp_path / "sounds")
    np.testing.assert_array_equal(np.round(bank.audio(0) * 32768).astype(int), written)
    assert bank.notes.gain[0] == 32768


def test_floats_keep_16_bits_of_their_peak(tmp_path):
    for level in (1e-3, 4.0):
        write(tmp_path / "sounds" / f"{level}.wav", tone(69, 0.1, level), subtype="FLOAT")
    bank = read(tmp_path / "sounds")
    for i, level in enumerate((1e-3, 4.0)):
        np.testing.assert_allclose(bank.audio(i), tone(69, 0.1, level), atol=level * 0.51 / 32767)


def test_long_sounds_are_cut(tmp_path):
    write(tmp_path / "sounds" / "a long one.wav", at_rate(69, 44100, 0.8), 44100)
    write(tmp_path / "sounds" / "another.wav", at_rate(69, 11025, 0.8), 11025)
    write(tmp_path / "sounds" / "short.wav", pcm(60, 0.3))
    assert list(read(tmp_path / "sounds", seconds=0.5).lengths) == [8000, 8000, 4800]


# Bad files

GOOD = {  # unusual, but usable: name: (audio, rate, options)
    "192 kHz.flac": (np.stack([at_rate(69, 192000, 0.1)] * 2, axis=1), 192000, {"subtype": "PCM_24"}),
    "8 bit.wav": (tone(69, 0.1), RATE, {"subtype": "PCM_U8"}),
    "really wav.mp3": (tone(69, 0.1), RATE, {"format": "WAV"}),
    "really flac.wav": (tone(69, 0.1), RATE, {"format": "FLAC"}),
    "UPPER CASE.WAV": (tone(69, 0.1), RATE, {}),
    "Grüße, 音 (1).wav": (tone(69, 0.1), RATE, {}),
    "just long enough.wav": (tone(69, 0.021), RATE, {}),
    "quiet.wav": (tone(69, 0.1, 0.001), RATE, {}),
}


def encoded(audio, kind="WAV", subtype=None, share=1.0):
    """Return the first bytes of a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, RATE, format=kind, subtype=subtype)
    data = buffer.getvalue()
    return data[: round(share * len(data))]


def one(value):
    """Return a short tone with one other sample."""
    return encoded(np.where(np.arange(1600) == 800, value, tone(60, 0.1)), subtype="FLOAT")


LONG = tone(60, 0.5)
BAD = {  # name: (bytes, start of the reason)
    "empty.wav": (b"", "an empty file"),
    "truncated.wav": (encoded(LONG, share=0.5), "truncated"),
    "truncated.aiff": (encoded(LONG, "AIFF", share=0.5), "truncated"),
    "truncated.flac": (encoded(LONG, "FLAC", share=0.5), "truncated"),
    "truncated.ogg": (encoded(LONG, "OGG", share=0.5), "truncated"),
    "header.wav": (encoded(LONG)[:20], "truncated"),
    "text.wav": (b"no sound at all " * 100, "not readable as sound ("),
    "garbage.mp3": (np.random.default_rng(0).bytes(5000), "not readable as sound ("),
    "nan.wav": (one(np.nan), "not finite"),
    "infinite.wav": (one(np.inf), "not finite"),
    "short.wav": (encoded(tone(60, 0.01)), "shorter than 0.02 s"),
    "no samples.wav": (encoded(np.zeros(0)), "shorter than 0.02 s"),
    "silent.wav": (encoded(np.zeros(1600)), "silent"),
    "too quiet.wav": (encoded(tone(60, 0.1, 1e-4), subtype="FLOAT"), "silent"),
}
ODD = {"folder.wav": "a folder, not a file", "dangling.wav": "a link to a missing file"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The bank of good and bad files, in two folders each."""
    root = tmp_path_factory.mktemp("mixed") / "sounds"
    for place in (root, root / "below"):
        for name, (audio, rate, options) in GOOD.items():
            write(place / name, audio, rate, **options)
        for name, (content, _) in BAD.items():
            (place / name).write_bytes(content)
        (place / "folder.wav").mkdir()
        (place / "dangling.wav").symlink_to("nowhere")
    return read(root)


def test_good_files_among_bad_ones_are_stored(mixed):
    assert set(mixed.notes.instrument) == {f"folder/sounds/{place}{name}" for place in ("", "below/") for name in GOOD}
    for i, uid in enumerate(mixed.notes.instrument):
        audio = mixed.audio(i)
        assert frequency(audio) == pytest.approx(440, rel=0.02)
        assert np.abs(audio).max() == pytest.approx(0.001 if "quiet" in uid else 0.5, rel=0.1)


def test_bad_files_are_skipped_with_a_reason(mixed):
    reasons = {name: reason for name, (_, reason) in BAD.items()} | ODD
    skipped = mixed.infos[0]["skipped"]
    assert skipped.keys() == {place + name for place in ("", "below/") for name in reasons}
    for name, reason in skipped.items():
        assert reason.startswith(reasons[name.removeprefix("below/")]), name


def test_bad_note_costs_only_itself(tmp_path):
    tones(tmp_path / "sounds", "C4.wav", "E4.wav")
    (tmp_path / "sounds" / "D4.wav").write_bytes(BAD["truncated.wav"][0])
    bank = read(tmp_path / "sounds")
    assert rows(bank, "instrument", "pitch") == [("folder/sounds/sounds", 60), ("folder/sounds/sounds", 64)]
    assert bank.infos[0]["skipped"].keys() == {"D4.wav"}


def test_only_bad_files_leave_nothing(tmp_path):
    write(tmp_path / "sounds" / "a.wav", np.zeros(1600))
    with pytest.raises(ValueError, match=r"no usable sound for bank: 1 skipped \(a\.wav: silent\)"):
        read(tmp_path / "sounds")
    assert not list(tmp_path.glob("bank*"))


def test_hidden_and_other_files_are_ignored(tmp_path):
    tones(tmp_path / "sounds", "a.wav", ".b.wav", ".hidden/c.wav", "__MACOSX/d.wav")
    (tmp_path / "sounds" / "notes.txt").write_text("no sound")
    bank = read(tmp_path / "sounds")
    assert list(bank.notes.instrument) == ["folder/sounds/a.wav"] and bank.infos[0]["skipped"] == {}


@pytest.mark.parametrize("path", ["", "nowhere", "empty"])
def test_folder_without_sounds(tmp_path, path):
    (tmp_path / "empty").mkdir()
    reason = "no sound file" if path == "empty" else f"no folder '.*{path}': set path to a folder of sounds"
    with pytest.raises(FileNotFoundError, match=reason):
        build(tmp_path / "bank", FolderConfig(path=path and str(tmp_path / path)))


# Instruments

TREE = [
    *(f"Grand Piano/{note}.wav" for note in ("C3", "E3", "G#3")),
    *(f"Orchestra/{name}.wav" for name in ("Flute C5 v1", "Flute C5 v2", "Flute E5", "Oboe C4", "Oboe E4", "Triangle")),
    *(f"{name}.wav" for name in ("Keys/kb-060-050", "Keys/kb-060-100", "Drums/Snare 001", "Drums/Snare 060", "Strange/thing")),
]


@pytest.fixture
def tree(tmp_path):
    return tones(tmp_path / "sounds", *TREE)


def test_instruments_of_a_tree(tree):
    """Names give instruments, families, pitches and velocities; a tag says what is no note."""
    assert sorted(rows(read(tree), "instrument", "family", "pitch", "velocity"), key=str) == sorted(
        [
            *[("folder/sounds/Grand Piano", "Piano", p, None) for p in (48, 52, 56)],
            *[("folder/sounds/Orchestra/Flute", "Pipe", p, v) for p, v in ((72, 64), (72, 127), (76, None))],
            *[("folder/sounds/Orchestra/Oboe", "Reed", p, None) for p in (60, 64)],
            ("folder/sounds/Orchestra/Triangle.wav", "Percussion", None, None),
            *[("folder/sounds/Keys", "Piano", 60, v) for v in (50, 100)],
            *[(f"folder/sounds/Drums/Snare {i}.wav", "Drum Kit", None, None) for i in ("001", "060")],  # counted, not pitched
            ("folder/sounds/Strange/thing.wav", None, None, None),
        ],
        key=str,
    )


def test_instrument_option_file(tree):
    """Each row sounds as its file; what a folder does not give is null or empty."""
    bank = read(tree, instrument="file")
    assert set(bank.notes.instrument) == {f"folder/sounds/{name}" for name in TREE}
    for i, (instrument, note) in enumerate(zip(bank.notes.instrument, bank.notes.itertuples(), strict=True)):
        assert frequency(bank.audio(i)) == pytest.approx(hz(60 + TREE.index(instrument.removeprefix("folder/sounds/"))), rel=0.02)
        assert (note.source, note.split, list(note.fx)) == ("folder", "train", [])
    assert rows(bank, "hold_s", "augments") == [(None, None)] * len(TREE)
    tags = {uid: list(tags) for uid, tags in rows(bank, "instrument", "tags")}
    assert tags["folder/sounds/Orchestra/Oboe C4.wav"] == ["wind"]
    assert (tags["folder/sounds/Drums/Snare 001.wav"], tags["folder/sounds/Strange/thing.wav"]) == (["drum hit"], [])
    assert bank.instruments.family["folder/sounds/Grand Piano/C3.wav"] == "Piano"  # of the folder above
    assert bank.notes.pitch.count() == 10


def test_instrument_option_folder(tree):
    bank = read(tree, instrument="folder")
    counts = {"Drums": 2, "Grand Piano": 3, "Keys": 2, "Orchestra": 6, "Strange": 1}
    assert bank.instruments.notes.to_dict() == {f"folder/sounds/{name}": n for name, n in counts.items()}
    assert bank.instruments.family["folder/sounds/Drums"] == "Drum Kit"
    with pytest.raises(ValueError, match=r"unknown instrument 'files' .*; valid: auto, folder, file"):
        read(tree, instrument="files")


def test_root_gives_the_family_if_nothing_else_does(tmp_path):
    bank = read(tones(tmp_path / "Violins", "C4.wav", "old/take.wav"), license="CC BY 4.0")
    assert rows(bank, "instrument", "family") == [("folder/Violins/Violins", "Strings"), ("folder/Violins/old/take.wav", "Strings")]
    assert bank.infos[0]["license"] == "CC BY 4.0"


def test_splits_are_shares_of_each_family(tmp_path):
    names = [f"{family}/{i} {note}.wav" for family in ("Bass", "Flute") for i in range(10) for note in ("C4", "D4")]
    bank = read(tones(tmp_path / "sounds", *names), valid=0.2, test=0.3)
    counts = bank.instruments.groupby(["family", "split"]).size().to_dict()
    assert counts == {(f, s): n for f in ("Bass", "Pipe") for s, n in {"train": 5, "valid": 2, "test": 3}.items()}
    assert (bank.notes.groupby("instrument").split.nunique() == 1).all()


# Estimated pitch


def harmonic(pitch, seconds=0.4, odd=False, decay=0.0):
    """Return a sound of all harmonics under 7 kHz, or the odd ones, that decays or not."""
    t = np.arange(round(seconds * RATE)) / RATE
    numbers = range(1, int(7000 / hz(pitch)) + 1, 2 if odd else 1)
    return (0.3 * np.exp(-decay * t) * sum(np.sin(2 * np.pi * n * hz(pitch) * t) / n for n in numbers)).astype(np.float32)


@pytest.mark.parametrize("pitch", [28, 40, 60, 79, 96])
def test_estimated_pitch(pitch):
    sounds = (
        tone(pitch, 0.4),
        tone(pitch + 0.3, 0.4),
        harmonic(pitch),
        harmonic(pitch, odd=True),
        harmonic(pitch, decay=5),
        pcm(pitch, 0.4),
    )
    assert [estimate_pitch(sound) for sound in sounds] == [pitch] * len(sounds)


@pytest.mark.parametrize("kind", ["noise", "click", "sweep", "too short"])
def test_no_pitch_to_estimate(kind):
    t = np.arange(RATE) / RATE
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    sweep = 0.3 * np.sin(2 * np.pi * np.cumsum(200 * 4**t) / RATE)
    audio = {"noise": noise, "click": noise * np.exp(-80 * t), "sweep": sweep, "too short": tone(69, 0.12)}[kind]
    assert estimate_pitch(audio.astype(np.float32)) is None


def test_pitch_is_estimated_only_without_one_in_the_name(tmp_path):
    root = tmp_path / "sounds"
    write(root / "a.wav", tone(67, 0.5))
    write(root / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 8000).clip(-1, 1))
    write(root / "named" / "C4.wav", tone(67, 0.5))
    names = [f"folder/sounds/{name}" for name in ("a.wav", "named", "noise.wav")]
    bank = read(root, estimate=True)
    assert rows(bank, "instrument", "pitch") == list(zip(names, [67, 60, None], strict=True))
    noted = bank.infos[0]["noted"]
    assert noted.pop("sounds").startswith("2 of 3 names have no pitch: each file is an instrument")
    assert noted == {"a.wav": "pitch estimated", "noise.wav": "pitch unknown"}
    assert rows(read(root), "instrument", "pitch") == list(zip(names, [None, 60, None], strict=True))


def test_changed_files_are_read_again(tmp_path):
    """Another content of the same name and size, a new file, a deleted file."""
    root = tones(tmp_path / "sounds", "a.wav", "b.wav")
    assert frequency(read(root).audio(0)) == pytest.approx(hz(60), rel=0.02)
    write(root / "a.wav", tone(72, 0.05))
    assert frequency(read(root).audio(0)) == pytest.approx(hz(72), rel=0.02)
    tones(root, "c.wav")
    (root / "b.wav").unlink()
    assert list(read(root).notes.instrument) == ["folder/sounds/a.wav", "folder/sounds/c.wav"]


# Skipped files


def test_other_formats_are_named(tmp_path):
    tones(tmp_path / "sounds", "a.wav")
    for name in ("b.m4a", "c.WV", "d.wma", "pack.zip", "e.sfz", "f.sf2", "notes.txt", ".hidden.m4a"):
        (tmp_path / "sounds" / name).write_bytes(b"\0\0\0 ftypM4A ")
    skipped = read(tmp_path / "sounds").infos[0]["skipped"]
    assert sorted(skipped) == ["b.m4a", "c.WV", "d.wma", "e.sfz", "f.sf2", "pack.zip"]
    assert skipped["b.m4a"] == "a format that is not read: convert it to WAV or FLAC"
    assert skipped["pack.zip"] == "an archive is not read: unpack it"


def test_folder_of_links_says_how_to_follow_them(tmp_path):
    """Links may lead back, to a folder above or to one that is read already."""
    tones(tmp_path / "elsewhere", "a.wav", "more/b.wav")
    root = tmp_path / "sounds"
    root.mkdir()
    (root / "one.wav").symlink_to(tmp_path / "elsewhere" / "a.wav")
    (root / "x").symlink_to(tmp_path / "elsewhere" / "more")
    with pytest.raises(FileNotFoundError, match=r"2 skipped \(x: a link to a folder, not followed unless the option links is set\)"):
        read(root)
    (root / "back").symlink_to(tmp_path)
    (root / "y").symlink_to(tmp_path / "elsewhere" / "more")
    bank = read(root, links=True)
    assert sorted(bank.notes.instrument) == ["folder/sounds/one.wav", "folder/sounds/x/b.wav"]
    assert set(bank.infos[0]["skipped"]) == {"back", "y"}


def test_long_path_costs_only_itself(tmp_path):
    """More than libsndfile can open; and a name of more than a bank can store, although most systems allow more."""
    tones(tmp_path / "sounds", "a.wav")
    deep = tmp_path / "sounds" / "/".join(["d" * 200] * 4)
    deep.mkdir(parents=True)
    (tmp_path / "sounds" / "a.wav").rename(deep / f"{'e' * 200}.wav")
    tones(tmp_path / "sounds", "a.wav")
    bank = read(tmp_path / "sounds")
    assert list(bank.notes.instrument) == ["folder/sounds/a.wav"] and len(bank.infos[0]["skipped"]) == 1
    with pytest.raises(ValueError, match="instrument has 1001 bytes, of at most 1000: shorten the names of files and folders"):
        encode(sound("é" * 500 + "x", tone(60, 0.1)))
