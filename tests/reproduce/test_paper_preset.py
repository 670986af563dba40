"""`make reproduce PRESET=paper`: what it says without its data, and that it runs through on miniature data of the official formats."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from test_cir import surge_note, write_set
from test_nsynth import tones, write_release

from cirlib.common.paths import ROOT
from cirlib.data.sources import missing

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
TINY = "encoder=ast-tiny seconds=2.0 steps=2 batch_size=8 valid_size=8 valid_every=1 log_every=1 queries=8"
ROWS = "single-infonce triplet-full-24 multi-encoder"


def reproduce(home, *settings):
    """The command of the README in a home folder of its own, with the Python of the tests."""
    ready = home / "ready"  # newer than the requirements: nothing is set up
    ready.touch()
    command = ["make", "reproduce", "PRESET=paper", f"PY={sys.executable}", f"READY={ready}", *settings]
    env = {**os.environ, "CIRLIB_HOME": str(home)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)


def test_a_row_that_is_none_is_told_before_anything_is_made(tmp_path):
    done = reproduce(tmp_path, "ROWS=triplet-ful")
    assert done.returncode and "no row of paper is named triplet-ful; there are: " in done.stdout
    assert not (tmp_path / "figures").exists() and "Traceback" not in done.stdout + done.stderr


def test_a_wrong_setting_ends_it_though_an_earlier_run_left_its_rules(tmp_path):
    (tmp_path / "runs" / "paper").mkdir(parents=True)
    (tmp_path / "runs" / "paper" / "rows.mk").touch()
    done = reproduce(tmp_path, "SET=stepz=3")
    assert done.returncode and "unknown parameter 'stepz' (did you mean 'steps'?)" in done.stderr
    assert "no row of" not in done.stdout  # the earlier rules, which are empty, were not read


def release(root):
    """NSynth in small: three instruments and more of bass and mallet in every split, synth leads in train only."""

    lowest = {"bass": 24, "mallet": 70, "synth_lead": 47}  # no two instruments sound alike

    def notes(family, start, count):
        return [
            f"{family}_synthetic_{i:03d}-{lowest[family] + 2 * (i - 20) + step}-100" for i in range(start, start + count) for step in (0, 3)
        ]

    parts = {"train": notes("bass", 20, 4) + notes("mallet", 20, 4) + notes("synth_lead", 20, 4)}
    parts |= {split: notes("bass", start, 3) + notes("mallet", start, 3) for split, start in (("valid", 25), ("test", 29))}
    return write_release(root, **{split: tones(*names) for split, names in parts.items()})


def presets(root):
    """The authors' Surge set in small: notes, a stem of several notes and an effects-off twin."""
    lines = []
    for s, split in enumerate(("train", "valid", "test")):
        for f, family in enumerate(("Leads", "Basses", "Percussion")):
            for k in range(3):
                patch = f"{s}{f}{k:02d}"
                lines += [surge_note(patch, 40 + 9 * s + 3 * k + f + step, 100, split, family, "Reverb 1") for step in (0, 40)]
                lines += [surge_note(patch, None, split=split, family=family, fx="Reverb 1")] if k == 0 else []
                lines += [surge_note(patch + "_no_fx", 45 + step, 100, split, family) for step in (0, 4)] if split == "train" else []
    return write_set(root / "surge_v1.0", lines)


def statistics(root):
    """Slakh's statistics in small."""
    pitch = {"Bass": {"values": [40, 45, 50], "probabilities": [0.2, 0.5, 0.3]}}
    folder = root / "slakh2100_no_audio"
    folder.mkdir(parents=True)
    (folder / "notes_distributions.json").write_text(json.dumps({"pitch": pitch, "velocity": {}, "log_duration_s": {}}))


def test_without_data_it_lists_every_missing_input_and_makes_nothing(tmp_path):
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
    assert lines[4].endswith("the package demucs: pip install demucs (for demucs)")
    assert not list(tmp_path.rglob("bank.json")) and not list(tmp_path.rglob("train.json"))


def test_miniature_data_run_through_with_a_tiny_encoder(tmp_path, monkeypatch):
    release(tmp_path / "data" / "downloads" / "nsynth")
    presets(tmp_path / "data")
    statistics(tmp_path / "data")
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
    assert again.returncode == 0 and "training" not in again.stdout, "what is made is not made again"


def test_only_what_the_chosen_rows_need_is_missing(tmp_path):
    """By the settings of the command."""
    done = reproduce(tmp_path, "ROWS=published mfcc")
    lines = [line for line in done.stderr.splitlines() if line.startswith("- ")]
    assert len(lines) == 4 and "no checkpoint data/ICASSP26_" in lines[3] and "authors published" in lines[3]
    assert "checkpoint" not in reproduce(tmp_path, "ROWS=published", f"SET={TINY}").stderr


def test_the_space_of_its_best_row_is_mapped(tmp_path):
    """A row without a map saves time above; 04_embedding_space itself runs in test_notebooks.py."""
    planned = reproduce(tmp_path, f"ROWS={ROWS} triplet-full-48", "--dry-run").stdout
    (map_line,) = (line for line in planned.splitlines() if "papermill" in line and "04_embedding_space" in line)
    assert " -p preset paper -p experiment triplet-full-48 -p seed 0 " in map_line


def test_the_paper_preset_is_complete_only_with_all_of_its_data():
    assert len(missing("paper")) == 2
