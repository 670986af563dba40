"""Trees of sound files of every kind: what they hold comes into the bank, what is no sound is told, names tell the rest."""

import numpy as np
import pytest
from conftest import RATE, hz, tone
from tones import amplitude, at_rate, frequency, rows, write

from cirlib.data.sources.folder import FolderConfig, build, estimate_pitch, name_pitch


def read(root, **options):
    """Bank of a folder, made beside it in this process; pitches are not estimated and all instruments train unless asked for."""
    options = {"path": str(root), "estimate": False, "valid": 0.0, "test": 0.0, **options}
    return build(root.parent / "bank", FolderConfig(**options), n_jobs=1)


def tones(root, *names, seconds=0.05):
    """Short files of these names; each holds the tone of its place in the list: MIDI 60, 61, ..."""
    for i, name in enumerate(names):
        write(root / name, tone(60 + i, seconds))
    return root


def pcm(pitch=60, seconds=0.1, level=0.5):
    """A tone of 16 bits."""
    return np.round(32767 * tone(pitch, seconds, level)).astype(np.int16)


# Sound


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
KINDS = {
    f"{kind} {subtype} {rate} {channels}": (kind, subtype, rate, channels)
    for kind, subtype, rate in LOSSLESS + LOSSY
    for channels in (1, 2)
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """One file of each kind, 0.5 s of A4 at half of full scale; of two channels, the second has half of the first one's level."""
    root = tmp_path_factory.mktemp("kinds") / "sounds"
    for name, (kind, subtype, rate, channels) in KINDS.items():
        audio = at_rate(69, rate, level=0.5)
        stereo = np.stack([audio, audio / 2], axis=1)
        write(root / f"{name}.{kind}", audio if channels == 1 else stereo, rate, subtype=subtype, format=CONTAINER.get(kind))
    return read(root)


@pytest.mark.parametrize("name", KINDS)
def test_any_kind_of_file(kinds, name):
    """Length, pitch and level are right whatever the format, rate and depth; channels are averaged."""
    kind, subtype, _, channels = KINDS[name]
    (i,) = np.flatnonzero(kinds.notes.instrument == f"folder/sounds/{name}.{kind}")
    audio = kinds.audio(i)
    assert abs(len(audio) - 0.5 * RATE) <= 1
    assert frequency(audio) == pytest.approx(440, abs=0.1)
    tolerance = 0.08 if (kind, subtype) in {k[:2] for k in LOSSY} else 0.01 if subtype.endswith("8") else 0.001
    assert amplitude(audio, 440) == pytest.approx(0.5 if channels == 1 else 0.375, rel=tolerance)


def test_every_file_is_one_sound(kinds):
    assert len(kinds) == len(KINDS)
    assert kinds.infos[0]["skipped"] == {}


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff"])
def test_sixteen_bits_at_16_khz_are_kept_bit_by_bit(tmp_path, kind):
    written = np.random.default_rng(0).integers(-32768, 32768, 5000, dtype=np.int16)
    written[[10, 20]] = -32768, 32767
    write(tmp_path / "sounds" / f"a.{kind}", written)
    bank = read(tmp_path / "sounds")
    np.testing.assert_array_equal(np.round(bank.audio(0) * 32768).astype(int), written)
    assert bank.notes.gain[0] == 32768


def test_other_depths_are_kept_to_16_bits_of_their_peak(tmp_path):
    """Floats far from full scale lose neither precision nor level."""
    for level in (1e-3, 4.0):
        write(tmp_path / "sounds" / f"{level}.wav", tone(69, 0.1, level), subtype="FLOAT")
    bank = read(tmp_path / "sounds")
    for i, level in enumerate((1e-3, 4.0)):
        np.testing.assert_allclose(bank.audio(i), tone(69, 0.1, level), atol=level * 0.51 / 32767)


def test_long_sounds_are_cut(tmp_path):
    """At `seconds`, whatever the rate; shorter ones keep their length."""
    write(tmp_path / "sounds" / "a long one.wav", at_rate(69, 44100, 0.8), 44100)
    write(tmp_path / "sounds" / "another.wav", at_rate(69, 11025, 0.8), 11025)
    write(tmp_path / "sounds" / "short.wav", pcm(seconds=0.3))
    assert list(read(tmp_path / "sounds", seconds=0.5).lengths) == [8000, 8000, 4800]


# Bad files


GOOD = {  # odd, but sounds: name: (audio, rate, options)
    "192 kHz.flac": (np.stack([at_rate(69, 192000, 0.1)] * 2, axis=1), 192000, {"subtype": "PCM_24"}),
    "8 bit.wav": (tone(69, 0.1), RATE, {"subtype": "PCM_U8"}),
    "really wav.mp3": (tone(69, 0.1), RATE, {"format": "WAV"}),
    "really wav.aiff": (tone(69, 0.1), RATE, {"format": "WAV"}),
    "really flac.wav": (tone(69, 0.1), RATE, {"format": "FLAC"}),
    "UPPER CASE.WAV": (tone(69, 0.1), RATE, {}),
    "Grüße, 音 (1).wav": (tone(69, 0.1), RATE, {}),
    "just long enough.wav": (tone(69, 0.021), RATE, {}),
    "quiet.wav": (tone(69, 0.1, 0.001), RATE, {}),
}


def _empty(file):
    file.touch()


def _text(file):
    file.write_text("no sound at all " * 100)


def _garbage(file):
    file.write_bytes(np.random.default_rng(0).bytes(5000))


def _truncated(file):
    write(file, tone(60, 0.5))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def _header(file):
    write(file, tone(60, 0.5))
    file.write_bytes(file.read_bytes()[:20])


def _nan(file):
    write(file, np.where(np.arange(1600) == 800, np.nan, tone(60, 0.1)), subtype="FLOAT")


def _infinite(file):
    write(file, np.where(np.arange(1600) == 800, np.inf, tone(60, 0.1)), subtype="FLOAT")


def _short(file):
    write(file, tone(60, 0.01))


def _no_samples(file):
    write(file, np.zeros(0))


def _silent(file):
    write(file, np.zeros(1600))


def _too_quiet(file):
    write(file, tone(60, 0.1, 1e-4), subtype="FLOAT")


def _folder(file):
    file.mkdir()


def _dangling(file):
    file.symlink_to("nowhere")


BAD = {  # name: (how it is made, start of the reason)
    "empty.wav": (_empty, "an empty file"),
    "truncated.wav": (_truncated, "truncated"),
    "truncated.aiff": (_truncated, "truncated"),
    "truncated.flac": (_truncated, "not readable as sound ("),
    "truncated.ogg": (_truncated, "not readable as sound ("),
    "header.wav": (_header, "not readable as sound ("),
    "text.wav": (_text, "not readable as sound ("),
    "garbage.mp3": (_garbage, "not readable as sound ("),
    "garbage.flac": (_garbage, "not readable as sound ("),
    "nan.wav": (_nan, "not finite"),
    "infinite.wav": (_infinite, "not finite"),
    "short.wav": (_short, "shorter than 0.02 s"),
    "no samples.wav": (_no_samples, "shorter than 0.02 s"),
    "silent.wav": (_silent, "silent"),
    "too quiet.wav": (_too_quiet, "silent"),
    "folder.wav": (_folder, "a folder, not a file"),
    "unreadable.wav": (_dangling, "no such file"),
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Good files and bad ones, in two folders each."""
    root = tmp_path_factory.mktemp("mixed") / "sounds"
    for place in (root, root / "below"):
        for name, (audio, rate, options) in GOOD.items():
            write(place / name, audio, rate, **options)
        for name, (spoil, _) in BAD.items():
            spoil(place / name)
    return root


@pytest.fixture(scope="module")
def mixed_bank(mixed):
    return read(mixed)


def test_good_files_among_bad_ones(mixed_bank):
    """All of them are there, and sound as they should."""
    uids = {f"folder/sounds/{place}{name}" for place in ("", "below/") for name in GOOD}
    assert set(mixed_bank.notes.instrument) == uids
    for i, uid in enumerate(mixed_bank.notes.instrument):
        audio = mixed_bank.audio(i)
        assert frequency(audio) == pytest.approx(440, rel=0.02)
        assert np.abs(audio).max() == pytest.approx(0.001 if "quiet" in uid else 0.5, rel=0.1)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_told(mixed_bank, name):
    """Each with its reason."""
    skipped = mixed_bank.infos[0]["skipped"]
    assert len(skipped) == 2 * len(BAD)
    for place in ("", "below/"):
        assert skipped[place + name].startswith(BAD[name][1])


def test_a_bad_note_costs_only_itself(tmp_path):
    tones(tmp_path / "sounds", "C4.wav", "E4.wav")
    _truncated(tmp_path / "sounds" / "D4.wav")
    bank = read(tmp_path / "sounds")
    assert rows(bank, "instrument", "pitch") == [("folder/sounds/sounds", 60), ("folder/sounds/sounds", 64)]
    assert bank.infos[0]["skipped"].keys() == {"D4.wav"}


def test_only_bad_files(tmp_path):
    """One sentence, and nothing is left behind."""
    write(tmp_path / "sounds" / "a.wav", np.zeros(1600))
    with pytest.raises(ValueError, match=r"no usable sound for bank: 1 skipped \(a\.wav: silent\)"):
        read(tmp_path / "sounds")
    assert not (tmp_path / "bank").exists()
    assert not (tmp_path / "bank.building").exists()


def test_files_that_are_not_meant(tmp_path):
    """Hidden files, what macOS leaves in archives, and other suffixes are not looked at."""
    tones(tmp_path / "sounds", "a.wav", ".b.wav", ".hidden/c.wav", "__MACOSX/d.wav")
    (tmp_path / "sounds" / "notes.txt").write_text("no sound")
    bank = read(tmp_path / "sounds")
    assert list(bank.notes.instrument) == ["folder/sounds/a.wav"]
    assert bank.infos[0]["skipped"] == {}


@pytest.mark.parametrize("path", ["", "nowhere", "empty"])
def test_no_sounds_at_all(tmp_path, path):
    (tmp_path / "empty").mkdir()
    reason = "no sound file" if path == "empty" else f"no folder '.*{path}': set path to a folder of sounds"
    with pytest.raises(FileNotFoundError, match=reason):
        build(tmp_path / "bank", FolderConfig(path=path and str(tmp_path / path)))


# Names


@pytest.mark.parametrize(
    ("stem", "pitch", "velocity", "rest"),
    [
        ("C4", 60, None, ""),
        ("Piano C#3", 49, None, "Piano"),
        ("Cs3 Piano", 49, None, "Piano"),
        ("Piano_Bb2_long", 46, None, "Piano long"),
        ("E♭4", 63, None, ""),
        ("F♯4", 66, None, ""),
        ("Cb4", 59, None, ""),
        ("C-1", 0, None, ""),
        ("G9", 127, None, ""),
        ("Violin (A4)", 69, None, "Violin"),
        ("[A4] Violin", 69, None, "Violin"),
        ("Rhodes_A4_v100", 69, None, "Rhodes"),
        ("Rhodes-A4-vel3-rr2", 69, None, "Rhodes"),
        ("Rhodes A4 ff", 69, None, "Rhodes"),
        ("A1 to B2", 47, None, "A1 to"),
        ("060", 60, None, ""),
        ("Piano 060", 60, None, "Piano"),
        ("021", 21, None, ""),
        ("108", 108, None, ""),
        ("Piano-060-100", 60, 100, "Piano"),
        ("bass_synthetic_033-022-050", 22, 50, "bass_synthetic_033"),
        ("x-000-127", 0, 127, "x"),
        ("A4-045-100", 45, 100, "A4"),
        ("060 A4", 69, None, "060"),
    ],
)
def test_names_that_tell_a_pitch(stem, pitch, velocity, rest):
    """A pair before a note name before a number; the last one of each counts; layers are no part of the rest."""
    assert name_pitch(stem) == (pitch, velocity, rest)


@pytest.mark.parametrize(
    "stem",
    [
        *(
            "Snare 001",
            "Snare 020",
            "take 109",
            "TR-909",
            "808 Kick",
            "Loop 120 bpm",
            "Snare 60",
            "Snare 0060",
            "2024",
            "Kick 2 060",
            "120 bpm 060",
        ),
        *("G#9", "C-2", "H4", "c4", "Abc4", "A4x", "Track A1B", "C", "", "Kick"),
    ],
)
def test_names_that_tell_no_pitch(stem):
    """Counters of files, names of machines, one number of several, notes outside of MIDI, parts of words."""
    assert name_pitch(stem) == (None, None, stem)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["28_60", "28_100", "40_60"], [(28, 60), (28, 100), (40, 60)]),
        (["FM 36", "FM 40", "FM 43"], [(36, None), (40, None), (43, None)]),
        (["Pad-c3", "Pad-a3"], [(48, None), (57, None)]),
        (["PianoC3", "PianoC#3"], [(48, None), (49, None)]),
        (["Kick 01", "Kick 02", "Kick 36"], [(None, None)] * 3),  # counted
        (["Kick 36"], [(None, None)]),  # alone
        (["Kick 36", "Snare 40"], [(None, None)] * 2),  # not alike
        (["Kick 36", "Kick 36 b"], [(None, None)] * 2),
        (["Pad-c3", "Lead-c3"], [(None, None)] * 2),
    ],
)
def test_names_that_tell_a_pitch_together(tmp_path, names, told):
    """What alone is no pitch is one beside files that are alike but for it."""
    tree = tones(tmp_path / "sounds", *(f"Box/{name}.wav" for name in names))
    assert sorted(rows(read(tree), "pitch", "velocity"), key=str) == sorted(told, key=str)
    assert len(read(tree).instruments) == (1 if told[0][0] else len(names))


@pytest.mark.parametrize(("middle_c", "expected"), [(3, 72), (4, 60), (5, 48)])
def test_middle_c(tmp_path, middle_c, expected):
    """The octave that names MIDI 60; numbers do not depend on it."""
    assert name_pitch("Piano C4", middle_c)[0] == expected
    assert name_pitch(f"Piano C{middle_c}", middle_c)[0] == 60
    bank = read(tones(tmp_path / "sounds", "a/C4.wav", "b/060.wav"), middle_c=middle_c)
    assert list(bank.pitches) == [expected, 60]


# Instruments


TREE = [
    "Grand Piano/C3.wav",
    "Grand Piano/E3.wav",
    "Grand Piano/G#3.wav",
    "Orchestra/Flute C5 v1.wav",
    "Orchestra/Flute C5 v2.wav",
    "Orchestra/Flute E5.wav",
    "Orchestra/Oboe C4.wav",
    "Orchestra/Oboe E4.wav",
    "Orchestra/Triangle.wav",
    "Keys/kb-060-050.wav",
    "Keys/kb-060-100.wav",
    "Drums/Snare 001.wav",
    "Drums/Snare 060.wav",
    "Strange/thing.wav",
]


@pytest.fixture
def tree(tmp_path):
    return tones(tmp_path / "sounds", *TREE)


def test_instruments_of_a_tree(tree):
    """Files whose names tell a pitch and are else alike are one instrument, others are their own; names tell the family."""
    assert sorted(rows(read(tree), "instrument", "family", "pitch", "velocity"), key=str) == sorted(
        [
            *[("folder/sounds/Grand Piano", "Piano", p, None) for p in (48, 52, 56)],
            *[("folder/sounds/Orchestra/Flute", "Pipe", p, None) for p in (72, 72, 76)],
            *[("folder/sounds/Orchestra/Oboe", "Reed", p, None) for p in (60, 64)],
            ("folder/sounds/Orchestra/Triangle.wav", "Percussion", None, None),
            *[("folder/sounds/Keys", "Piano", 60, v) for v in (50, 100)],
            *[(f"folder/sounds/Drums/Snare {i}.wav", "Drum Kit", None, None) for i in ("001", "060")],  # counted, not pitched
            ("folder/sounds/Strange/thing.wav", None, None, None),
        ],
        key=str,
    )


def test_rows_are_their_files(tree):
    """Each note sounds as the file that it was read from, and what a folder cannot tell is null or empty."""
    bank = read(tree, instrument="file")
    for i, (instrument, note) in enumerate(zip(bank.notes.instrument, bank.notes.itertuples(), strict=True)):
        pitch = 60 + TREE.index(instrument.removeprefix("folder/sounds/"))
        assert frequency(bank.audio(i)) == pytest.approx(hz(pitch), rel=0.02)
        assert (note.source, note.split, list(note.fx)) == ("folder", "train", [])
    assert rows(bank, "hold_s", "augments") == [(None, None)] * len(TREE)
    tags = dict(rows(bank, "instrument", "tags"))
    assert list(tags["folder/sounds/Orchestra/Oboe C4.wav"]) == ["wind"]
    assert list(tags["folder/sounds/Drums/Snare 001.wav"]) == []
    assert list(tags["folder/sounds/Strange/thing.wav"]) == []


def test_an_instrument_is_a_folder(tree):
    """The first file of a folder that tells no family does not matter: the folder does."""
    bank = read(tree, instrument="folder")
    assert bank.instruments.notes.to_dict() == {f"folder/sounds/{k}": n for k, n in
        {"Drums": 2, "Grand Piano": 3, "Keys": 2, "Orchestra": 6, "Strange": 1}.items()}  # fmt: skip
    assert bank.instruments.family["folder/sounds/Drums"] == "Drum Kit"


def test_an_instrument_is_a_file(tree):
    bank = read(tree, instrument="file")
    assert set(bank.notes.instrument) == {f"folder/sounds/{name}" for name in TREE}
    assert (bank.instruments.notes == 1).all()
    assert bank.instruments.family["folder/sounds/Grand Piano/C3.wav"] == "Piano"  # of the folder above
    assert bank.notes.pitch.count() == 10  # names tell pitches all the same


def test_unknown_way_to_make_instruments(tree):
    with pytest.raises(ValueError, match=r"unknown instrument 'files' .*; valid: auto, folder, file"):
        read(tree, instrument="files")


def test_the_root_may_tell_the_family(tmp_path):
    bank = read(tones(tmp_path / "Violins", "C4.wav", "D4.wav", "old/take.wav"))
    assert rows(bank, "instrument", "family") == [
        *[("folder/Violins/Violins", "Strings")] * 2,
        ("folder/Violins/old/take.wav", "Strings"),
    ]


def test_splits(tmp_path):
    """Shares of the instruments of each family, by instrument, the same ones every time."""
    names = [f"{family}/{i} {note}.wav" for family in ("Bass", "Flute") for i in range(10) for note in ("C4", "D4")]
    tones(tmp_path / "sounds", *names)
    banks = [read(tmp_path / "sounds", valid=0.2, test=0.3, license=text) for text in ("one", "another")]
    table = banks[0].instruments
    counts = table.groupby(["family", "split"]).size().to_dict()
    assert counts == {(f, s): n for f in ("Bass", "Pipe") for s, n in {"train": 5, "valid": 2, "test": 3}.items()}
    assert (banks[0].notes.groupby("instrument").split.nunique() == 1).all()
    assert table.split.to_dict() == banks[1].instruments.split.to_dict()


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (-0.1, 0.2)])
def test_impossible_splits(tmp_path, valid, test):
    with pytest.raises(ValueError, match="valid and test are shares with a sum under 1"):
        read(tones(tmp_path / "sounds", "a.wav"), valid=valid, test=test)


def test_license(tmp_path):
    """That of the configuration, else it says that there is none."""
    tones(tmp_path / "sounds", "a.wav")
    assert read(tmp_path / "sounds").infos[0]["license"] == "unknown"
    assert read(tmp_path / "sounds", license="CC BY 4.0").infos[0]["license"] == "CC BY 4.0"


# Estimated pitch


def harmonic(pitch, seconds=0.4, odd=False, decay=0.0):
    """A sound of all harmonics, or the odd ones, under 7 kHz, that fades or does not."""
    t = np.arange(round(seconds * RATE)) / RATE
    numbers = range(1, int(7000 / hz(pitch)) + 1, 2 if odd else 1)
    return (0.3 * np.exp(-decay * t) * sum(np.sin(2 * np.pi * n * hz(pitch) * t) / n for n in numbers)).astype(np.float32)


@pytest.mark.parametrize("pitch", [28, 40, 60, 79, 96])
def test_estimated_pitch(pitch):
    """Of tones and of harmonic sounds, whether they last or fade, floats or 16 bits, a little out of tune or not."""
    assert estimate_pitch(tone(pitch, 0.4)) == pitch
    assert estimate_pitch(tone(pitch + 0.3, 0.4)) == pitch
    assert estimate_pitch(harmonic(pitch)) == pitch
    assert estimate_pitch(harmonic(pitch, odd=True)) == pitch
    assert estimate_pitch(harmonic(pitch, decay=5)) == pitch
    assert estimate_pitch(pcm(pitch, 0.4)) == pitch


@pytest.mark.parametrize("kind", ["noise", "click", "sweep", "too short"])
def test_no_pitch_to_estimate(kind):
    t = np.arange(RATE) / RATE
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    audio = {
        "noise": noise,
        "click": noise * np.exp(-80 * t),
        "sweep": 0.3 * np.sin(2 * np.pi * np.cumsum(200 * 4**t) / RATE),
        "too short": tone(69, 0.12),
    }[kind]
    assert estimate_pitch(audio.astype(np.float32)) is None


def test_pitch_is_estimated_where_names_tell_none(tmp_path):
    """And only where it is asked for; a name is believed."""
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


# Building


def test_another_content_is_read_anew(tmp_path):
    """Of a file with the same name and size; so is a file that is new or gone."""
    root = tones(tmp_path / "sounds", "a.wav", "b.wav")
    assert frequency(read(root).audio(0)) == pytest.approx(hz(60), rel=0.02)
    write(root / "a.wav", tone(72, 0.05))
    assert frequency(read(root).audio(0)) == pytest.approx(hz(72), rel=0.02)
    tones(root, "c.wav")
    (root / "b.wav").unlink()
    assert list(read(root).notes.instrument) == ["folder/sounds/a.wav", "folder/sounds/c.wav"]
