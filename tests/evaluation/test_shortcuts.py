"""Trivial features retrieve little in the embedded sources, and a planted leak is reported."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import RATE, build_bank, sound

from cirlib.common.paths import ROOT
from cirlib.data.sources import soundfont, virtual
from cirlib.evaluation import shortcuts
from cirlib.evaluation.shortcuts import FEATURES, LEAK, measures, report

NOTES, COUNT = 14, 60  # of each instrument, instruments


def noise(seconds: float, level: float, rng, tail: float = 0.0) -> np.ndarray:
    """Return noise with a peak of `level`, then quiet noise with a level of `tail`."""
    n = round(seconds * RATE)
    audio = rng.uniform(-1, 1, n) * np.where(np.arange(n) < 0.8 * n, 1, tail)
    return level * audio / np.abs(audio).max()


def planted(path, leak: str):
    """Return a bank of noise in which one value is drawn per instrument, and everything else per note."""
    rng, sounds = np.random.default_rng(0), []
    for i in range(COUNT):
        own, split = rng.random(4), ("train", "valid", "test")[i % 3]
        for _ in range(NOTES):
            drawn = dict(zip(("hold", "length", "level", "floor"), rng.random(4), strict=True))
            if leak in drawn:
                drawn[leak] = own[["hold", "length", "level", "floor"].index(leak)]
            level = 0.1 + 0.8 * drawn["level"]
            audio = noise(0.2 + drawn["length"], level, rng, tail=0.1 * 10 ** (-1.5 * drawn["floor"]) / level)
            sounds.append(sound(f"i{i}", audio, split=split, hold_s=0.1 + drawn["hold"]))
    return build_bank(path, sounds)


@pytest.mark.parametrize(
    ("leak", "found"),
    [
        ("hold", {"hold"}),
        ("length", {"length"}),
        ("level", {"peak level", "RMS level", "spectral mean, first 50 ms"}),
        ("floor", {"noise floor"}),
        ("nothing", set()),
    ],
)
def test_planted_leak_is_reported(tmp_path, leak, found):
    table = shortcuts.shortcuts(planted(tmp_path / "bank", leak))
    assert set(table.index) == {*FEATURES, "chance"}
    high = table.index[table["times chance"] > LEAK]
    assert found <= set(high) and set(high) <= found | {"hold and length"}, table
    text = report(table)
    assert all(name in text for name in high) and text.startswith("WARNING" if found else "no trivial feature")


SMALL = {"train": 6, "valid": 1, "test": 8, "others": 0, "notes": 9}


def check_no_leak(bank, names=tuple(FEATURES)) -> None:
    """Check that each of these features retrieves at most LEAK times chance, with the queries and gallery of the single test."""
    table = shortcuts.shortcuts(bank)
    assert set(table.index) == {*FEATURES, "chance"}
    assert table["top-1"]["chance"] == pytest.approx(100 / len(bank.gallery()))
    assert (table["times chance"][list(names)] <= LEAK).all(), table


def test_virtual_instruments_have_no_shortcut(tmp_path):
    """Except for hold and length together, whose difference is how long an instrument fades."""
    bank = virtual.build(tmp_path / "bank", virtual.VirtualConfig(**SMALL), n_jobs=1)
    check_no_leak(bank, [name for name in FEATURES if name != "hold and length"])


def test_hold_per_instrument_would_be_reported(tmp_path, monkeypatch):
    """As all notes of a virtual instrument once had."""
    render = virtual.render
    monkeypatch.setattr(virtual, "ALIKE", 0.0)
    monkeypatch.setattr(virtual, "render", lambda patch, notes, holds, stretches: render(patch, notes, holds[:1].repeat(len(notes))))
    text = report(shortcuts.shortcuts(virtual.build(tmp_path / "bank", virtual.VirtualConfig(**SMALL), n_jobs=1)))
    assert text.startswith("WARNING: more than 3 times chance at top-1: length (")


def test_soundfont_has_no_shortcut(tmp_path):
    """In what rendering decides. How a sample starts and fades is its own, so length stays a clue (with one hold: 34 times chance)."""
    try:
        soundfont.fluidsynth()
    except ValueError as missing:
        pytest.skip(str(missing))
    bank = soundfont.build(tmp_path / "bank", soundfont.SoundFontConfig(notes=8, valid=0.1, test=0.4), n_jobs=1)
    check_no_leak(bank, ("hold", "peak level", "RMS level", "noise floor"))
    assert shortcuts.shortcuts(bank)["times chance"]["length"] < 10


def test_measures_of_known_sounds(tmp_path):
    """Levels in dB re full scale, times in seconds."""
    ramp = np.concatenate([np.full(RATE, 0.5), np.full(RATE // 50, 0.005)])
    bank = build_bank(tmp_path / "bank", [sound("a", ramp, hold_s=0.75), sound("a", np.full(10, 0.1), hold_s=None, pitch=61.0)])
    first, short = measures(bank, [0, 1]).itertuples(index=False)
    assert (first.length, first.hold) == (1.02, 0.75) and np.isnan(short.hold) and short.length == 10 / RATE
    assert first.peak == pytest.approx(-6.02, abs=0.01) and first.floor == pytest.approx(-46.02, abs=0.05)
    assert short.peak == pytest.approx(short.rms, abs=0.01) == pytest.approx(short.floor, abs=0.01)
    assert np.isfinite(short.onset) and first.onset > short.onset


def test_features_that_a_bank_lacks_are_skipped(tmp_path):
    sounds = [sound(f"i{k % 9}", noise(0.1, 0.5, np.random.default_rng(k)), split="test", hold_s=None) for k in range(27)]
    table = shortcuts.shortcuts(build_bank(tmp_path / "bank", sounds))
    assert set(FEATURES) - set(table.index) == {"hold", "hold and length"} and table["top-1"]["length"] == 0  # all tie


def test_command_prints_the_table(tone_bank):
    done = subprocess.run(
        [sys.executable, "-m", "cirlib.evaluation.shortcuts", str(tone_bank.paths[0])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "times chance" in lines[0] and [line.split("  ")[0] for line in lines[1:-1]] == [*FEATURES, "chance"]
    assert lines[-1] == report(shortcuts.shortcuts(tone_bank))
