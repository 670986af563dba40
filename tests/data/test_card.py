"""The data card: counts, measures and reasons are those of the bank; the command prints them and verifies the files."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import build_bank, sound, tone

from cirlib.data import card
from cirlib.data.bank import NoteBank
from cirlib.data.builder import build_once
from cirlib.data.jobs import Remark

META = {"source": "tones", "license": "CC0-1.0", "citation": "tones of the tests"}


def make(sounds):
    yield from sounds
    yield Remark("kick 12.wav", "12 notes outside MIDI 23 to 63")
    yield Remark("kick 9.wav", "7 notes outside MIDI 23 to 63")
    yield Remark("hat.wav", "silent")
    yield Remark("snare.wav", "noise only", stored=True)


@pytest.fixture
def bank(tmp_path):
    """Two basses, one with a twin, and a sound of no family without a pitch."""
    sounds = [
        *(sound("tones/a/one", tone(p, 0.5, 0.5), pitch=float(p)) for p in (40, 50, 60)),
        sound("tones/a/one_no_fx", tone(40, 0.5, 0.5), augments="tones/a/one"),
        sound("tones/a/two", tone(40, 0.5, 0.05), split="test", velocity=64.0),
        sound("tones/a/hat", tone(90, 0.1, 0.5), family=None, pitch=None, velocity=None, tags=["drum hit"]),
    ]
    return build_once(tmp_path / "bank", {"seed": 0}, {"all": {"sounds": sounds}}, make, meta=META, n_jobs=1)


def test_counts_of_instruments(bank):
    """By source, family and split; twins apart; sounds without a family last."""
    counts = card.instrument_counts(bank)
    assert list(counts.index) == [("tones", "Bass"), ("tones", "(none)")]
    assert counts.loc[("tones", "Bass")].to_dict() == {"train": 1, "train (twins)": 1, "test": 1}
    assert counts.loc[("tones", "(none)")].to_dict() == {"train": 1, "train (twins)": 0, "test": 0}


def test_counts_of_several_sources(tmp_path, bank):
    other = build_bank(tmp_path / "other", [sound("x/y/z", tone(60), source="other", family="Piano")])
    both = card.instrument_counts(NoteBank.open([bank.paths[0], other.paths[0]]))
    assert {source for source, _ in both.index} == {"tones", "other"}
    assert both.to_numpy().sum() == 5


def test_measures(bank):
    """A tone's level is its amplitude in dB, 3 dB more than its effective value."""
    measures = card.note_measures(bank)
    np.testing.assert_allclose(measures.peak_db[[0, 4]], [20 * np.log10(0.5), 20 * np.log10(0.05)], atol=0.01)
    np.testing.assert_allclose(measures.peak_db - measures.rms_db, 3.01, atol=0.1)
    assert list(measures.seconds) == pytest.approx([0.5] * 5 + [0.1])
    assert measures.family.iloc[5] == "(none)"
    table = card.quantiles(measures)
    assert table.loc["pitch", "median"] == 60
    assert table.loc["velocity", "5%"] < table.loc["velocity", "median"] == 100


def test_levels_of_large_banks_are_sampled(bank, monkeypatch):
    monkeypatch.setattr(card, "SAMPLED", 3)
    measures = card.note_measures(bank)
    assert measures.rms_db.notna().sum() == 3
    assert measures.rms_db.notna()[[0, 5]].all()


def test_reasons_are_counted_without_their_numbers(bank):
    assert card.reasons(bank.infos[0]).to_dict() == {"n notes outside MIDI n to n": 2, "silent": 1}
    assert card.reasons(bank.infos[0], "noted").to_dict() == {"noise only": 1}


def test_sounds_shared_by_two_splits(tmp_path):
    """The same sound at another level and with silence before it; not another pitch, another sound, or the same split."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 8000)) * np.exp(-np.arange(8000) / 1000)
    sounds = [
        sound("x/train/a", noise[0]),
        sound("x/train/b", noise[0], pitch=61.0),
        sound("x/train/c", tone(69, 0.5)),
        sound("x/valid/a", np.concatenate([np.zeros(500), 0.1 * noise[0]]), split="valid"),
        sound("x/test/b", noise[1], split="test"),
        sound("x/test/c", tone(70, 0.5), split="test"),
    ]
    bank = build_bank(tmp_path / "bank", sounds)
    assert card.near_identical(bank) == [("x/train/a", "x/valid/a"), ("x/train/b", "x/valid/a")]


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "cirlib.data.card", *map(str, arguments)], capture_output=True, text=True)


def test_command_prints_the_card_and_verifies(bank):
    done = command(bank.paths[0])
    assert done.returncode == 0
    for words in (
        "license   CC0-1.0",
        "citation  tones of the tests",
        "4 instruments, 6 notes",
        "skipped: 3",
        "hat.wav: silent",
        "stored with a remark: 1",
        "1 without a pitch",
        "1 with the tag drum hit: no single notes",
        "pairs of instruments with nearly the same sound in two splits: 2\n  tones/a/one ~ tones/a/two\n",
        "checksums: all files are unchanged",
    ):
        assert words in done.stdout
    audio = bank.paths[0] / "audio.i16"
    audio.write_bytes(audio.read_bytes()[::-1])
    done = command(bank.paths[0])
    assert done.returncode == 1
    assert "audio.i16 is damaged (checksum differs)" in done.stderr
    assert "checksums: all" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"), [([], "usage: python -m cirlib.data.card PATH"), (["/nowhere"], "error: no note bank at /nowhere")]
)
def test_command_errors(arguments, words):
    done = command(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
