"""What all origins share: options by name, paths, splits, banks made elsewhere, several banks in one experiment."""

import json
import shutil

import pytest
from conftest import build_bank, hz, tone_sounds
from tones import at_rate, frequency, write

from cirlib.data import sources
from cirlib.data.bank import NoteBank
from cirlib.data.note_statistics import NoteStatistics
from cirlib.data.sources import build_bank as make_bank
from cirlib.data.sources import ensure_banks, missing, source_config, source_options
from cirlib.data.sources.shared import assign_splits
from cirlib.training.config import TrainConfig
from cirlib.training.loop import fit


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a folder of six basses."""
    monkeypatch.setattr("cirlib.common.paths.HOME", tmp_path)
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


def test_statistics_are_an_option_of_rendering_sources_only():
    assert "statistics" not in source_options("folder", {}, "x", "s.json")
    assert source_options("surge", {}, statistics="/s.json")["statistics"] == "/s.json"


@pytest.mark.parametrize(("option", "value"), [("seconds", -1.0), ("seconds", 0.0), ("limit_s", 0.0), ("seconds", float("nan"))])
def test_option_out_of_range(home, option, value):
    with pytest.raises(ValueError, match=rf"{option} must be above 0, got {value}"):
        make_bank("folder", "data/mine", {"path": "sounds", option: value}, n_jobs=1)


@pytest.mark.parametrize("place", ["sounds", "sounds/Bass a.wav", "/proc/nothing/bank", "sounds/Bass a.wav/bank"])
def test_place_that_cannot_take_a_bank(home, place):
    """One sentence before anything is done, and nothing is left there."""
    before = sorted(home.rglob("*"))
    with pytest.raises((ValueError, OSError), match=r"is no note bank: choose another|cannot be written .*: choose another place"):
        make_bank("folder", place, {"path": "sounds", "estimate": False}, n_jobs=1)
    assert sorted(home.rglob("*")) == before


# What is missing


def put(home, name: str, **values) -> None:
    """A file of the preset `p`."""
    file = home / "params" / "p" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"preset": "p", **values}))


@pytest.fixture
def preset(home, monkeypatch):
    """A home folder whose preset `p` has a bank of the folder of basses."""
    monkeypatch.setattr(sources, "PARAMS", home / "params")
    put(home, "data", source="folder", path="sounds", bank="data/p", options={"estimate": False})
    return home


def test_nothing_is_missing(preset):
    put(preset, "row", experiment="row", statistics="")
    assert missing("p") == []


def test_every_split_of_nsynth_that_is_missing_is_named(preset):
    """Folders and tarballs are there; what is to be downloaded is not missing."""
    put(preset, "data-nsynth", source="nsynth", path="release", bank="data/nsynth")
    (found,) = missing("p")
    for word in ("params/p/data-nsynth.yaml: ", "nsynth-train/", "nsynth-valid/", "nsynth-test/", " in release: ", "download"):
        assert word in found
    (preset / "release").mkdir()
    (preset / "release" / "nsynth-valid.jsonwav.tar.gz").write_text("")
    (found,) = missing("p")
    assert "nsynth-train" in found and "nsynth-test" in found and "nsynth-valid" not in found
    (preset / "release" / "nsynth-train").mkdir()
    (preset / "release" / "nsynth-train" / "examples.json").write_text("{}")
    (found,) = missing("p")
    assert "nsynth-train" not in found and "nsynth-test" in found
    put(preset, "data-nsynth", source="nsynth", path="release", bank="data/nsynth", options={"download": True})
    assert missing("p") == []


def test_sets_of_the_authors_that_are_missing_are_named(preset):
    put(preset, "data-sets", source="cir", path="sets", bank="data/sets", options={"sets": ["surge"], "small": True})
    (found,) = missing("p")
    assert found.startswith("params/p/data-sets.yaml: none of surge_v<version>_small/audio.csv in sets: ")
    folder = preset / "sets" / "surge_v2_small"
    folder.mkdir(parents=True)
    (folder / "audio.csv").write_text("")
    assert missing("p") == []


def test_synthesizer_that_is_missing_is_named(preset, monkeypatch):
    put(preset, "data-surge", source="surge", bank="data/surge", options={"midi": "scores"})
    monkeypatch.setattr("cirlib.data.sources.surge.find_spec", lambda name: None)
    (found,) = missing("p")
    assert found.startswith("params/p/data-surge.yaml: ") and "surgepy" in found
    monkeypatch.setattr("cirlib.data.sources.surge.find_spec", lambda name: name)
    (found,) = missing("p")
    assert "no folder scores: " in found


def test_statistics_that_are_missing_are_named_once(preset):
    """A file, relative to the project's home."""
    put(preset, "data-surge", source="folder", path="sounds", bank="data/q", statistics="data/notes.json")
    (line,) = missing("p")
    assert " at data/notes.json: " in line
    NoteStatistics({"pitch": {}}).save(preset / "data" / "notes.json")
    assert missing("p") == []


def test_inputs_of_existing_banks_are_not_missing(preset):
    """Nothing renders it again."""
    for name, values in (("nsynth", {}), ("cir", {}), ("surge", {"statistics": "notes.json"})):
        put(preset, f"data-{name}", source=name, path="gone", bank=f"data/{name}", **values)
    assert len(missing("p")) >= 3
    for name in ("nsynth", "cir", "surge"):
        (preset / "data" / name).mkdir(parents=True)
        (preset / "data" / name / "bank.json").write_text("{}")
    assert missing("p") == []


# Splits


def test_splits_hold_shares_of_each_family_and_never_change():
    families = {f"x/y/{family}{i}": family for family in ("Bass", "Piano", None) for i in range(20)}
    splits = assign_splits(families, valid=0.1, test=0.2)
    for family in ("Bass", "Piano", None):
        part = [splits[name] for name in families if families[name] == family]
        assert [part.count(s) for s in ("train", "valid", "test")] == [14, 2, 4]
    assert assign_splits(dict(reversed(families.items())), valid=0.1, test=0.2) == splits
    assert len({tuple(splits[f"x/y/{f}{i}"] for i in range(20)) for f in ("Bass", "Piano")}) == 2


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (8, (6, 1, 1))])
def test_splits_of_small_families(count, expected):
    """From three instruments on, each split has one."""
    splits = list(assign_splits({f"a{i}": "Bass" for i in range(count)}, valid=0.15, test=0.15).values())
    assert tuple(splits.count(s) for s in ("train", "valid", "test")) == expected


def test_wrong_shares():
    with pytest.raises(ValueError, match=r"shares with a sum under 1, got 0.5 and 0.5"):
        assign_splits({}, valid=0.5, test=0.5)


# Banks


def test_bank_made_elsewhere_is_opened(home, capsys):
    """Its origin is not on this machine; with other options it would be another bank."""
    options = {"path": "sounds", "estimate": False}
    made = make_bank("folder", "data/mine", options, n_jobs=1)
    shutil.rmtree(home / "sounds")
    again = make_bank("folder", "data/mine", options, n_jobs=1)
    assert again.infos == made.infos
    assert "mine is opened as it is: no folder" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_bank("folder", "data/mine", {**options, "seconds": 1.0}, n_jobs=1)
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_bank("folder", "data/other", options, n_jobs=1)


def test_preset_with_several_banks(home, monkeypatch):
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


def test_experiment_on_banks_of_two_origins(tmp_path, monkeypatch):
    """One trains, the other is validated: in one run."""
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path / "runs")
    sounds = tone_sounds()
    for item in sounds:
        item.row["source"] = "one" if item.row["split"] == "train" else "two"
    banks = [build_bank(tmp_path / s, [x for x in sounds if x.row["source"] == s]) for s in ("one", "two")]
    config = TrainConfig(
        preset="test",
        bank=tuple(str(b.paths[0]) for b in banks),
        seconds=0.5,
        steps=2,
        batch_size=12,
        epoch_size=20,
        valid_every=2,
        valid_size=6,
    )
    run = fit(config, show=False)
    assert 0 <= run.metrics["valid"]["mrr"] <= 1
    assert NoteBank.open([b.paths[0] for b in banks]).instruments.source.nunique() == 2
