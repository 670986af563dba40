"""Inputs of rows that are missing: each named once, with what to do."""

import json

import pytest

from cirlib.common import paths
from cirlib.data.note_statistics import NoteStatistics
from cirlib.reporting import rows as sweep
from cirlib.reporting.inputs import missing_of_rows
from cirlib.reporting.rows import pick, rows


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with the preset p, which has no rows yet."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(sweep, "PARAMS", tmp_path / "params")
    (tmp_path / "params" / "p").mkdir(parents=True)
    (tmp_path / "params" / "p" / "data.yaml").write_text("{preset: p, bank: data/p}")
    (tmp_path / "sounds").mkdir()
    return tmp_path


def put(home, name: str, **values) -> None:
    (home / "params" / "p" / f"{name}.yaml").write_text(json.dumps({"preset": "p", "experiment": name, **values}))


def absent(*names: str, **overrides) -> list[str]:
    return missing_of_rows(pick(rows("p", overrides), names))


def test_statistics_are_named_once(home):
    """A file or the authors' folder, relative to the project's home."""
    for name in ("a", "b"):
        put(home, name, statistics="data/slakh/notes.json")
    put(home, "c", statistics="sounds")
    one, two = absent("all")
    assert " at data/slakh/notes.json: " in one and one.endswith("(for a, b)")
    assert two.startswith("no slakh2100_no_audio/notes_distributions.json in")
    NoteStatistics({"pitch": {}}).save(home / "data" / "slakh" / "notes.json")
    NoteStatistics({"pitch": {}}).save(home / "sounds" / "slakh2100_no_audio" / "notes_distributions.json")
    assert absent("all") == []


def test_encoders_and_packages_are_looked_for(home):
    """Of the chosen rows and those that they need, with the settings of the command."""
    put(home, "ours")
    put(home, "single-infonce", task="single", loss="infonce", encoder="owner/name")
    put(home, "demucs", method="demucs", encoder="is/not-used")
    put(home, "mine", encoder="data/mine.pt")
    put(home, "published", encoder="data/ICASSP26_x.pt", steps=0)
    put(home, "folder", encoder=str(home / "sounds"))
    put(home, "gone", encoder="/no/such/folder")
    put(home, "later", encoder="runs/p/ours/seed0/best.pt")
    assert absent("ours") == absent("later") == [], "the command trains it first"
    hub, package = absent("demucs")
    assert hub.startswith("no owner/name in the cache of the Hugging Face hub, and the hub gives none (OfflineModeIsEnabled: ")
    assert hub.endswith("connect once, or set encoder to a local folder (for single-infonce)")
    assert "pip install demucs" in package and package.endswith("(for demucs)")
    found = absent("mine", "published", "folder", "gone")
    starts = ("no config.json in sounds: ", "no folder /no/such/folder", "no checkpoint data/mine.pt", "no checkpoint data/ICASSP26_x.pt")
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True))
    assert absent("mine", "published", "folder", "gone", encoder="ast-tiny") == []


@pytest.mark.parametrize("there", ["cached", "reachable"])
def test_weights_of_the_hub_are_asked_for_once(home, monkeypatch, there):
    asked = []
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/cache/file" if there == "cached" else None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url, timeout: asked.append((url, timeout)))
    for name in ("row", "other"):
        put(home, name, encoder="owner/name")
    assert absent("all") == []
    assert asked == ([] if there == "cached" else [("https://huggingface.co/owner/name/resolve/main/config.json", 5)])
