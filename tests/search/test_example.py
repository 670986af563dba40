"""The bundled example: small, audible, rendered by the script beside it, and searched by one command."""

import re

import numpy as np
import pytest
import soundfile

from cirlib.common.paths import ROOT
from cirlib.models import pretrained
from cirlib.models.checkpoints import is_folder
from cirlib.reporting.release import example_block
from cirlib.reporting.results import with_block
from cirlib.search.__main__ import main
from cirlib.search.example import FOLDER, MIX, NOTES, RATE, SECONDS, render

SOUNDS = [MIX, *sorted(NOTES.iterdir())]


def test_files_are_small():
    assert len(SOUNDS) == 13 and sum(file.stat().st_size for file in FOLDER.rglob("*.*")) < 500_000
    assert "CC0-1.0" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("file", SOUNDS, ids=lambda file: file.stem)
def test_sounds_are_audible_and_do_not_clip(file):
    audio, rate = soundfile.read(file, dtype="float32")
    loudest = np.sqrt(np.convolve(audio**2, np.full(800, 1 / 800), "valid")).max()  # RMS of 50 ms
    assert rate == RATE and audio.ndim == 1 and 0.5 < np.abs(audio).max() < 0.99 and loudest > 0.05
    assert abs(audio.mean()) < 0.01 and (np.abs(audio) > 1e-3).mean() > 0.5
    assert len(audio) == SECONDS * RATE if file == MIX else 0.1 < len(audio) / RATE < 2.5


def test_the_script_renders_them_again(tmp_path):
    for package in ("pysfizz", "pedalboard", "joblib"):
        pytest.importorskip(package)
    render(tmp_path)
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text()
    for file in SOUNDS:
        old, new = (soundfile.read(place)[0] for place in (file, tmp_path / file.relative_to(FOLDER)))
        assert len(old) == len(new) and np.corrcoef(old, new)[0, 1] > 0.95, file.name


@pytest.mark.skipif(not is_folder(pretrained.PLACE), reason="the weights of cirlib-small are not in this copy")
def test_the_readme_shows_its_output():
    """But for the last digits of distances, which differ between machines."""
    text, expected = (re.sub(r"\d\.\d+", "", block) for block in ((ROOT / "README.md").read_text(), example_block()))
    assert expected in text and with_block(text, expected, "example") == text


def test_one_command_searches_it(tmp_path, monkeypatch, capsys, encoder):
    """The nearest note of each of its three families."""
    monkeypatch.setattr(pretrained, "PLACE", encoder.save_folder(tmp_path / "small"))
    main(["example"])
    output = capsys.readouterr().out
    lines = output.splitlines()[-3:]
    assert [sum(f"{name} " in line for line in lines) for name in ("bass", "lead", "mallet")] == [1, 1, 1]
    monkeypatch.setattr(pretrained, "PLACE", tmp_path / "none")
    with pytest.raises(SystemExit, match=r"^error: this copy of cirlib comes without the weights"):
        main(["example"])
