"""`make reproduce PRESET=paper`: what it prints without its data, and that it runs through on miniature data of the official formats."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
import soundfile
from conftest import tone

from cirlib.common.paths import ROOT
from cirlib.data.sources import missing

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
TINY = "encoder=ast-tiny seconds=2.0 steps=2 batch_size=8 valid_size=8 valid_every=1 log_every=1 queries=8"
ROWS = "single-infonce triplet-full-24 multi-encoder"


def reproduce(home, *settings: str) -> subprocess.CompletedProcess:
    """The command of the README in a home folder of its own, with the Python of the tests."""
    ready = home / "ready"  # newer than the requirements: nothing is set up
    ready.touch()
    command = ["make", "--no-print-directory", "reproduce", "PRESET=paper", f"PY={sys.executable}", f"READY={ready}", *settings]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "CIRLIB_HOME": str(home)}, capture_output=True, text=True, timeout=400)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["ROWS=triplet-ful"], "error: no row is named triplet-ful; there are: "),
        (["SET=stepz=3"], "error: unknown parameter 'stepz' (did you mean 'steps'?)"),
        (["PRESET=papr"], "error: unknown preset 'papr' (did you mean 'paper'?)"),
    ],
)
def test_wrong_variables_end_with_one_sentence(tmp_path, settings, words):
    done = reproduce(tmp_path, *settings)
    assert done.returncode and done.stderr.startswith(words) and done.stdout == "" and "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["ready"]


def write_nsynth(root) -> None:
    """NSynth in small: three instruments and more of bass and mallet in every split, synth leads in train only."""
    lowest = {"bass": 24, "mallet": 70, "synth_lead": 47}  # no two instruments sound alike
    parts = {"train": {"bass": (20, 4), "mallet": (20, 4), "synth_lead": (20, 4)}}
    parts |= {split: {"bass": (first, 3), "mallet": (first, 3)} for split, first in (("valid", 25), ("test", 29))}
    for part, families in parts.items():
        folder, notes = root / f"nsynth-{part}", {}
        (folder / "audio").mkdir(parents=True)
        for family, (first, count) in families.items():
            for i in range(first, first + count):
                for pitch in (lowest[family] + 2 * (i - 20), lowest[family] + 2 * (i - 20) + 3):
                    name = f"{family}_synthetic_{i:03d}-{pitch}-100"
                    notes[name] = {"note_str": name, "instrument_str": name.split("-")[0], "pitch": pitch, "velocity": 100}
                    notes[name] |= {"instrument": i, "sample_rate": 16000, "qualities": [0] * 10, "qualities_str": []}
                    notes[name] |= {"instrument_family_str": family, "instrument_source_str": "synthetic"}
                    soundfile.write(folder / "audio" / f"{name}.wav", tone(pitch, 0.1), 16000, "PCM_16")
        (folder / "examples.json").write_text(json.dumps(notes))


def write_surge(folder) -> None:
    """The authors' Surge set in small: notes, a stem of several notes and an effects-off twin."""
    lines = []

    def add(patch: str, pitch: int | None, *, split: str, family: str, fx: str = "") -> None:
        path = f"audio/{patch}/{'stem' if pitch is None else pitch}.wav"
        values = {"path": path, "split": split, "patch_UID": patch, "patch_family": family, "patch_fx": fx}
        lines.append({**values, "midi_pitch": pitch, "midi_velocity": None if pitch is None else 100})
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, tone(pitch or 69, 0.5, 0.25), 16000)

    for s, split in enumerate(("train", "valid", "test")):
        for f, family in enumerate(("Leads", "Basses", "Percussion")):
            for k in range(3):
                patch = f"{s}{f}{k:02d}"
                for pitch in [40 + 9 * s + 3 * k + f + step for step in (0, 40)] + [None] * (k == 0):
                    add(patch, pitch, split=split, family=family, fx="Reverb 1")
                for pitch in (45, 49) if split == "train" else ():
                    add(patch + "_no_fx", pitch, split=split, family=family)
    with open(folder / "audio.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def write_statistics(folder) -> None:
    """Slakh's statistics in small."""
    pitch = {"Bass": {"values": [40, 45, 50], "probabilities": [0.2, 0.5, 0.3]}}
    folder.mkdir(parents=True)
    (folder / "notes_distributions.json").write_text(json.dumps({"pitch": pitch, "velocity": {}, "log_duration_s": {}}))


def test_every_missing_input_is_listed_and_nothing_is_made(tmp_path):
    done = reproduce(tmp_path)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("- ")]
    assert len(lines) == 5, "the authors' checkpoint is none of the rows that are made by default"
    for part in ("train", "valid", "test"):
        assert f"nsynth-{part}/examples.json or nsynth-{part}.jsonwav.tar.gz" in lines[0]
    assert "in data/downloads/nsynth: " in lines[0]
    assert "surge_v<version>/audio.csv" in lines[1] and " in data: " in lines[1]
    assert " at data/slakh2100_no_audio/notes_distributions.json: " in lines[2]
    assert "MIT/ast-finetuned-audioset-12-12-0.447 in the cache of the Hugging Face hub" in lines[3]
    assert "pip install demucs" in lines[4] and lines[4].endswith("(for demucs)")
    assert [p.name for p in tmp_path.iterdir()] == ["ready"]


def test_only_inputs_of_the_chosen_rows_are_missing(tmp_path):
    done = reproduce(tmp_path, "ROWS=published mfcc")
    lines = [line for line in done.stderr.splitlines() if line.startswith("- ")]
    assert len(lines) == 4 and "no checkpoint data/ICASSP26_" in lines[3]
    assert "checkpoint" not in reproduce(tmp_path, "ROWS=published", f"SET={TINY}").stderr


def test_miniature_data_run_through_with_a_tiny_encoder(tmp_path):
    write_nsynth(tmp_path / "data" / "downloads" / "nsynth")
    write_surge(tmp_path / "data" / "surge_v1.0")
    write_statistics(tmp_path / "data" / "slakh2100_no_audio")
    done = reproduce(tmp_path, f"ROWS={ROWS}", f"SET={TINY}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    table = json.loads((tmp_path / "figures" / "paper" / "table_mixture.json").read_text())
    assert [r["experiment"] for r in table] == ["multi-encoder", "single-infonce", "triplet-full-24"]
    assert {r["experiment"]: r["top1_paper"] for r in table}["triplet-full-24"] == 81.7
    by_source = (tmp_path / "figures" / "paper" / "by_source.md").read_text()
    assert "| nsynth, Bass | full triplet, batch 24 |" in by_source and "80.2 / 100.0" in by_source
    config = (tmp_path / "runs" / "paper" / "triplet-full-24" / "seed0" / "config.yaml").read_text()
    assert "encoder: ast-tiny" in config and "protocol: paper" in config
    again = reproduce(tmp_path, f"ROWS={ROWS}", f"SET={TINY}")
    assert again.returncode == 0 and again.stdout.startswith("paper: 0 of 8 steps to do"), again.stdout


def test_the_paper_preset_is_complete_only_with_all_of_its_data():
    assert len(missing("paper")) == 2
