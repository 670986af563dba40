"""NSynth from release folders of the official layout, made here from tones, and from their tarballs."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone
from source_files import EXCLUDED, FAMILIES, KEPT_BY_PAPER, ORIGINS, TAXONOMY, example, pack, pcm, tones, write_release
from tones import contents

from cirlib.data.notes import SPLITS
from cirlib.data.sources import build_bank, nsynth
from cirlib.data.sources.nsynth import NSynthConfig, noise_only


def noise(slope, seconds=1.0, seed=0):
    """Noise of 16 bits whose power falls with frequency to the power of `slope`: 0 white, 1 pink."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * RATE)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (slope / 2)
    audio = np.fft.irfft(spectrum)
    return np.round(16000 * audio / np.abs(audio).max()).astype(np.int16)


def build(path, release, protocol="strict", n_jobs=1):
    return nsynth.build(path, NSynthConfig(str(release), protocol=protocol), n_jobs=n_jobs)


TRAIN = {f"{family}_{ORIGINS[i % 3]}_0{i + 20}-060-{25 + i:03d}": pcm(60, 0.1 + i / 100) for i, family in enumerate(FAMILIES)}
MORE = tones("bass_electronic_021-041-127", "bass_electronic_021-040-100")  # not in the order of their names
HELD_OUT = {"valid": tones("bass_acoustic_001-050-050"), "test": tones("mallet_acoustic_000-070-075")}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """An instrument of each family that trains, two that are held out, and noise."""
    hiss = {"organ_electronic_005-060-100": noise(0)}
    qualities = {"bass_electronic_021-040-100": ["bright", "reverb"], "bass_electronic_021-041-127": ["distortion"]}
    return write_release(tmp_path_factory.mktemp("nsynth"), qualities, train={**TRAIN, **MORE, **hiss}, **HELD_OUT)


@pytest.fixture(scope="module")
def bank(release, tmp_path_factory):
    return build(tmp_path_factory.mktemp("bank") / "nsynth", release)


# What is in it


def test_rows_of_all_families(bank):
    """Name, family, tags, pitch, velocity and split of every note, instruments by name."""
    expected = []
    for name in sorted([*TRAIN, *MORE, *HELD_OUT["valid"], *HELD_OUT["test"]]):
        instrument, pitch, velocity = name.split("-")
        group, tag, _, _ = TAXONOMY[instrument.rsplit("_", 2)[0]]
        tags = [instrument.rsplit("_", 2)[1], tag]
        fx = ["reverb"] if name == "bass_electronic_021-040-100" else []
        split = "test" if name in HELD_OUT["valid"] or name in HELD_OUT["test"] else "train"
        expected.append((f"nsynth/official/{instrument}", group, tags + fx, fx, float(pitch), float(velocity), split))
    notes = bank.notes
    columns = (notes.instrument, notes.family, notes.tags.map(list), notes.fx.map(list), notes.pitch, notes.velocity, notes.split)
    assert list(zip(*columns, strict=True)) == expected
    assert set(notes.source) == {"nsynth"}
    assert set(notes.hold_s) == {3.0}
    assert notes.augments.isna().all()


def test_audio_is_bit_exact(bank):
    files = {**TRAIN, **MORE, **HELD_OUT["valid"], **HELD_OUT["test"]}
    for i, name in enumerate(sorted(files)):
        np.testing.assert_array_equal(bank.audio(i) * 32768, files[name], name)
    assert set(bank.notes.gain) == {32768.0}


@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_pitch_ranges(tmp_path, protocol):
    """Both ends of a range are in it; what lies outside is counted."""
    ends = {f"{family}_acoustic_030": limits[2:] for family, limits in TAXONOMY.items()}
    names = [f"{name}-{pitch:03d}-100" for name, (low, high) in ends.items() for pitch in (low - 1, low, high, high + 1)]
    names.append("vocal_acoustic_031-020-100")  # nothing of it is left
    bank = build(tmp_path / "bank", write_release(tmp_path, train=tones(*names)), protocol)
    stored = bank.notes.groupby("instrument").pitch.agg(list).to_dict()
    assert stored == {f"nsynth/official/{name}": [float(low), float(high)] for name, (low, high) in ends.items()}
    skipped = {name: f"2 notes outside MIDI {low} to {high}" for name, (low, high) in ends.items()}
    assert bank.infos[0]["skipped"] == {**skipped, "vocal_acoustic_031": "1 notes outside MIDI 38 to 86"}


@pytest.mark.parametrize(("protocol", "stored"), [("strict", []), ("paper", KEPT_BY_PAPER)])
def test_excluded_instruments(tmp_path, protocol, stored):
    """Twelve by the paper; two of them are in the authors' data because of a missing comma."""
    others = ["bass_synthetic_001", "vocal_synthetic_004"]
    release = write_release(tmp_path, train=tones(*(f"{name}-050-100" for name in EXCLUDED + KEPT_BY_PAPER + others)))
    bank = build(tmp_path / "bank", release, protocol)
    assert set(bank.instruments.index) == {f"nsynth/official/{name}" for name in others + stored}
    skipped = dict.fromkeys({*EXCLUDED, *KEPT_BY_PAPER} - set(stored), "instrument excluded by the paper")
    assert bank.infos[0]["skipped"] == skipped


# Noise


def decaying(*partials, seconds=2.0):
    """A struck bell: partials (pitch, decay per second), noise 60 dB under it."""
    time = np.arange(round(seconds * RATE)) / RATE
    audio = sum(np.exp(-time * decay) * tone(pitch, seconds, 0.3) for pitch, decay in partials)
    return audio + 0.0003 * np.random.default_rng(0).standard_normal(len(time))


def with_noise(pitch, decibels, slope=0):
    """A tone in noise, by the level of the tone over the noise."""
    hiss = noise(slope, 2.0) / 32768
    return hiss + tone(pitch, 2.0, np.sqrt(2) * hiss.std() * 10 ** (decibels / 20))


SOUNDS = {
    "white noise": (noise(0), True),
    "white noise of 4 s": (noise(0, 4.0, seed=1), True),
    "pink noise": (noise(1), True),
    "pink noise of 4 s": (noise(1, 4.0, seed=1), True),
    "quiet white noise as float": (noise(0) / np.float32(32768 * 300), True),
    "noise that fades away": (noise(0, 2.0) * np.exp(-np.arange(2 * RATE) / RATE * 6), True),
    "low bass": (pcm(28, 2.0), False),
    "lowest tone": (pcm(21, 2.0), False),
    "middle tone": (pcm(60, 2.0), False),
    "highest tone": (pcm(108, 2.0), False),
    "quiet tone": (pcm(60, 2.0, 0.003), False),
    "bell": (decaying((72, 4), (84, 8), (91, 15)), False),
    "short bell": (decaying((72, 40), (91, 60)), False),
    "tone in white noise": (with_noise(69, -6), False),
    "tone in pink noise": (with_noise(69, -6, slope=1), False),
    "high tone in white noise": (with_noise(100, -12), False),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_noise_only(name):
    audio, expected = SOUNDS[name]
    assert noise_only(audio) is expected


def test_noise_is_left_out_or_noted(tmp_path):
    """By the protocol; each builds a bank of its own in the place of the other's."""
    hiss, note = "reed_acoustic_030-060-100", "reed_acoustic_030-061-100"
    release = write_release(tmp_path, train={hiss: noise(1), note: pcm(61, 1.0)})
    strict = build(tmp_path / "bank", release)
    assert (list(strict.notes.pitch), strict.infos[0]["skipped"], strict.infos[0]["noted"]) == ([61], {hiss: "noise only"}, {})
    paper = build(tmp_path / "bank", release, "paper")
    assert (list(paper.notes.pitch), paper.infos[0]["skipped"], paper.infos[0]["noted"]) == ([60, 61], {}, {hiss: "noise only"})
    np.testing.assert_array_equal(paper.audio(0) * 32768, noise(1))


# Splits


def test_held_out_instruments_are_in_one_split(tmp_path):
    """The official valid and test share instruments; here each has all its notes in one, family by family in turn."""
    valid = ["guitar_acoustic_000-050-100", "guitar_acoustic_001-050-100", "guitar_acoustic_002-050-100", "organ_acoustic_007-050-100"]
    test = ["guitar_acoustic_000-051-100", "guitar_acoustic_001-051-100", "guitar_acoustic_003-051-100", "organ_acoustic_008-051-100"]
    train = ["guitar_acoustic_010-050-100", "guitar_acoustic_010-051-100", "organ_acoustic_000-050-100"]
    release = write_release(tmp_path, train=tones(*train), valid=tones(*valid), test=tones(*test))
    bank = build(tmp_path / "bank", release)
    assert bank.notes.groupby("instrument").split.nunique().eq(1).all()
    counts = Counter(f"nsynth/official/{name.split('-')[0]}" for name in train + valid + test)
    assert bank.instruments.notes.to_dict() == counts
    splits = ("test", "valid", "test", "valid", "train", "train", "test", "valid")  # guitars 0 to 3 and 10, organs 0, 7, 8
    assert tuple(bank.instruments.split) == splits
    i = bank.notes.index[(bank.notes.instrument == "nsynth/official/guitar_acoustic_000") & (bank.notes.pitch == 51)][0]
    np.testing.assert_array_equal(bank.audio(i) * 32768, pcm(51))  # read from the folder that it lies in


def test_instrument_of_train_and_test_trains(tmp_path):
    """Whatever the release holds, no instrument is in two splits."""
    names = [f"guitar_acoustic_000-{pitch:03d}-100" for pitch in (50, 51, 52)]
    release = write_release(tmp_path, **{part: tones(name) for part, name in zip(SPLITS, names, strict=True)})
    assert list(build(tmp_path / "bank", release).notes.split) == ["train"] * 3


# Files that cannot be used


def test_bad_files_are_listed(tmp_path):
    """With the reason; the other notes of the instrument stay."""
    wav = tmp_path / "good.wav"
    soundfile.write(wav, pcm(40, 1.0), RATE, "PCM_16")
    bad = {
        "026": (None, "no such file"),
        "027": (b"", "an empty file"),
        "028": (b"<html>not found</html>" * 100, "not readable as sound"),
        "029": (wav.read_bytes()[:9000], "truncated"),
        "030": (np.zeros(8000, np.int16), "silent"),
        "031": (np.full(8000, np.nan, np.float32), "not finite"),
        "032": (pcm(40, 0.01), "shorter than 0.02 s"),
        "033": (wav.read_bytes()[:20], "truncated"),
    }
    names = {f"bass_acoustic_030-{pitch}-100": value for pitch, value in bad.items()}
    release = write_release(tmp_path, train={**{n: audio for n, (audio, _) in names.items()}, **tones("bass_acoustic_030-040-100")})
    (release / "nsynth-train" / "audio" / "bass_acoustic_030-025-100.wav").mkdir()
    examples = release / "nsynth-train" / "examples.json"
    folder = "bass_acoustic_030-025-100"
    examples.write_text(json.dumps({**json.loads(examples.read_text()), folder: example(9, folder)}))
    bank = build(tmp_path / "bank", release)
    assert list(bank.notes.pitch) == [40]
    skipped = bank.infos[0]["skipped"]
    assert skipped.pop(folder) == "a folder, not a file"
    assert skipped.keys() == names.keys()
    for name, (_, reason) in names.items():
        assert skipped[name].startswith(reason)


def test_no_release(tmp_path):
    wanted = r"no nsynth-train/examples\.json or nsynth-train\.jsonwav\.tar\.gz and no nsynth-valid/.* in .*: set path"
    with pytest.raises(FileNotFoundError, match=wanted):
        build(tmp_path / "bank", tmp_path)


def test_folder_without_metadata(tmp_path, release):
    """As an unpacking that was interrupted leaves it; the tarball beside it does not help."""
    pack(release, tmp_path)
    (tmp_path / "nsynth-valid" / "audio").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"nsynth-valid has no examples\.json: delete it"):
        build(tmp_path / "bank", tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": {"instrument_str": "a"}}', '{"a": 1}', "\x80"])  # attacks_sources.py has more
def test_damaged_metadata(tmp_path, text):
    release = write_release(tmp_path)
    (release / "nsynth-test" / "examples.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match=r"nsynth-test/examples\.json is not the metadata of NSynth .*: unpack the archive again"):
        build(tmp_path / "bank", release)


def test_unknown_family(tmp_path, monkeypatch):
    monkeypatch.setattr("source_files.FAMILIES", (*FAMILIES, "theremin"))
    release = write_release(tmp_path, train=tones("theremin_acoustic_000-060-100"))
    with pytest.raises(ValueError, match="unknown NSynth family 'theremin' of theremin_acoustic_000"):
        build(tmp_path / "bank", release)


def test_unknown_protocol(tmp_path, release):
    with pytest.raises(ValueError, match=r"unknown protocol 'papers' .*did you mean 'paper'"):
        build(tmp_path / "bank", release, "papers")


# Again, interrupted, elsewhere: the same bank


def test_tarballs_give_the_same_bank(tmp_path, release, bank):
    """They are unpacked beside themselves, once."""
    target = pack(release, tmp_path / "tarballs")
    build(tmp_path / "bank", target)
    assert contents(tmp_path / "bank") == contents(bank.paths[0])
    assert sorted(f.name for f in target.glob("nsynth-*")) == sorted(
        f"nsynth-{p}{suffix}" for p in SPLITS for suffix in ("", ".jsonwav.tar.gz")
    )
    before = [(target / f"nsynth-{part}").stat().st_ino for part in SPLITS]
    build(tmp_path / "again", target)
    assert [(target / f"nsynth-{part}").stat().st_ino for part in SPLITS] == before
    assert contents(tmp_path / "again") == contents(bank.paths[0])


def test_release_in_the_project_home(tmp_path, release, bank, monkeypatch):
    """Relative paths are relative to it, wherever the program runs."""
    monkeypatch.setattr("cirlib.common.paths.HOME", tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "nsynth").symlink_to(release)
    assert build_bank("nsynth", "banks/nsynth", {"path": "nsynth"}, n_jobs=1).paths == [tmp_path / "banks" / "nsynth"]
    assert contents(tmp_path / "banks" / "nsynth") == contents(bank.paths[0])
