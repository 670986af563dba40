"""What all origins share: options by name, paths, splits, banks made elsewhere, several banks in one experiment."""

import json
import shutil

import pytest
from conftest import build_bank, hz, tone_sounds
from tones import at_rate, frequency, write

from cirlib import sources
from cirlib.bank import NoteBank
from cirlib.experiment import TrainConfig
from cirlib.jobs import Missing, require
from cirlib.sources import build_bank as make_bank
from cirlib.sources import ensure_banks, source_config, source_options
from cirlib.sources.splits import assign_splits
from cirlib.training import fit


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a folder of six basses."""
    monkeypatch.setattr("cirlib.paths.HOME", tmp_path)
    for i in range(6):
        write(tmp_path / "sounds" / f"Bass {'abcdef'[i]}.wav", at_rate(40 + i, 16000))
    return tmp_path


# Options


@pytest.mark.parametrize("source", sources.SOURCES)
def test_every_source_has_a_configuration_with_defaults(source):
    config = source_config(source)()
    assert source_options(source, {}).keys() == vars(config).keys()
    for name, value in source_options(source, {}).items():
        if name not in ("path", "midi", "statistics"):
            assert value == getattr(config, name)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("foldr", {}, r"unknown source 'foldr' \(did you mean 'folder'\?\)"),
        ("folder", {"midle_c": 3}, r"unknown FolderConfig parameter 'midle_c' \(did you mean 'middle_c'\?\)"),
        ("folder", {"middle_c": "three"}, r"FolderConfig.middle_c must be int, not str"),
        ("folder", [1], r"options must be `name: value` pairs, got \[1\]"),
    ],
)
def test_wrong_option(source, options, words):
    with pytest.raises(ValueError, match=words):
        source_options(source, options)


def test_paths_are_relative_to_home(home, monkeypatch):
    """Whatever the working directory; a tilde is the user's home; one path is a list of one; defaults too."""
    assert source_options("folder", {"path": "sounds"})["path"] == str(home / "sounds")
    assert source_options("soundfont", {"path": "a.sf2"})["path"] == (str(home / "a.sf2"),)
    assert source_options("surge", {"path": ["x", "/y"], "midi": "z"})["path"] == (str(home / "x"), "/y")
    assert source_options("nsynth", {})["path"].startswith(str(home))
    monkeypatch.setenv("HOME", "/root/of/user")
    assert source_options("sfz", {"path": "~/sfz"})["path"] == "/root/of/user/sfz"


def test_empty_options_are_the_defaults():
    assert source_options("surge", {"path": "", "statistics": ""}) == source_options("surge", {}, "", "") == source_options("surge", {})


def test_statistics_are_an_option_of_sources_that_render_scores_only():
    assert "statistics" not in source_options("folder", {}, "x", "s.json")
    assert source_options("surge", {}, statistics="/s.json")["statistics"] == "/s.json"


@pytest.mark.parametrize(("option", "value"), [("seconds", -1.0), ("seconds", 0.0), ("limit_s", 0.0), ("seconds", float("nan"))])
def test_option_out_of_range(home, option, value):
    with pytest.raises(ValueError, match=rf"{option} must be above 0, got {value}"):
        make_bank("folder", "data/mine", {"path": "sounds", option: value}, n_jobs=1)


@pytest.mark.parametrize("place", ["sounds", "sounds/Bass a.wav", "/proc/nothing/bank", "sounds/Bass a.wav/bank"])
def test_a_place_that_cannot_take_a_bank(home, place):
    """One sentence before anything is done, and nothing is left there."""
    before = sorted(home.rglob("*"))
    with pytest.raises((ValueError, OSError), match=r"is no note bank: choose another|cannot be written .*: choose another place"):
        make_bank("folder", place, {"path": "sounds", "estimate": False}, n_jobs=1)
    assert sorted(home.rglob("*")) == before


# Splits


def test_splits_hold_shares_of_each_family_and_never_change():
    families = {f"x/y/{family}{i}": family for family in ("Bass", "Piano", None) for i in range(20)}
    splits = assign_splits(families, 0.1, 0.2)
    for family in ("Bass", "Piano", None):
        part = [splits[name] for name in families if families[name] == family]
        assert [part.count(s) for s in ("train", "valid", "test")] == [14, 2, 4]
    assert assign_splits(dict(reversed(families.items())), 0.1, 0.2) == splits
    assert len({tuple(splits[f"x/y/{f}{i}"] for i in range(20)) for f in ("Bass", "Piano")}) == 2


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (8, (6, 1, 1))])
def test_splits_of_small_families(count, expected):
    """From three instruments on, each split has one."""
    splits = list(assign_splits({f"a{i}": "Bass" for i in range(count)}, 0.15, 0.15).values())
    assert tuple(splits.count(s) for s in ("train", "valid", "test")) == expected


def test_wrong_shares():
    with pytest.raises(ValueError, match=r"shares with a sum under 1, got 0.5 and 0.5"):
        assign_splits({}, 0.5, 0.5)


# Banks


def test_a_bank_made_elsewhere_is_opened(home, capsys):
    """Its origin is not on this machine; with other options it would be another bank."""
    options = {"path": "sounds", "estimate": False}
    made = make_bank("folder", "data/mine", options, n_jobs=1)
    shutil.rmtree(home / "sounds")
    again = make_bank("folder", "data/mine", options, n_jobs=1)
    assert again.infos == made.infos
    assert "mine is taken as it is: no folder" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_bank("folder", "data/mine", {**options, "seconds": 1.0}, n_jobs=1)
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_bank("folder", "data/other", options, n_jobs=1)


def test_a_package_that_is_missing_is_named():
    with pytest.raises(Missing, match="SFZ instruments need the package no_such_thing: pip install no_such_thing"):
        require("SFZ instruments", "joblib", "no_such_thing")


def test_a_preset_with_several_banks(home, monkeypatch):
    """Each data*.yaml of it is one; together they are one bank, in the order of their names."""
    write(home / "keys" / "Piano" / "Piano C4.wav", at_rate(60, 44100), 44100)
    folder = home / "params" / "mixed"
    folder.mkdir(parents=True)
    for name, path in (("data-keys", "keys"), ("data", "sounds")):
        values = {"preset": "mixed", "source": "folder", "path": path, "bank": f"data/{path}", "options": {"estimate": False}}
        (folder / f"{name}.yaml").write_text(json.dumps(values))
    (folder / "triplet.yaml").write_text("preset: mixed")
    monkeypatch.setattr(sources, "PARAMS", home / "params")
    bank = ensure_banks("mixed")
    assert [p.relative_to(home).as_posix() for p in bank.paths] == ["data/keys", "data/sounds"]
    assert set(bank.instruments.family) == {"Piano", "Bass"}
    assert len(bank.instruments) == 7
    assert frequency(bank.audio(0)) == pytest.approx(hz(60), rel=0.01)
    with pytest.raises(ValueError, match=r"unknown preset 'mixd' \(did you mean 'mixed'\?\)"):
        ensure_banks("mixd")


def test_an_experiment_on_banks_of_two_origins(tmp_path, monkeypatch):
    """One trains, the other is validated: both play in one run."""
    monkeypatch.setattr("cirlib.paths.RUNS", tmp_path / "runs")
    sounds = tone_sounds()
    for item in sounds:
        item.row["source"] = "one" if item.row["split"] == "train" else "two"
    banks = [build_bank(tmp_path / s, [x for x in sounds if x.row["source"] == s]) for s in ("one", "two")]
    config = TrainConfig(
        preset="test",
        bank=tuple(str(b.paths[0]) for b in banks),
        seconds=0.5,
        steps=2,
        clips=12,
        epoch_size=20,
        valid_every=2,
        valid_size=6,
    )
    run = fit(config, progress=False)
    assert 0 <= run.metrics["valid"]["mrr"] <= 1
    assert NoteBank.open([b.paths[0] for b in banks]).instruments.source.nunique() == 2
