"""The W&B key, the user's name and the home folder, replaced by markers, occur in nothing that is written or printed.

test_notebooks.py checks the notebooks, test_tracking.py what is sent to a server.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import markers
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from cirlib.common import paths
from cirlib.common.paths import ROOT
from cirlib.data.jobs import run_job
from cirlib.models.encoder import AudioEncoder
from cirlib.models.pretrained import weights_path
from cirlib.training.config import TrainConfig, read_config, write_config

SCRIPT = """
import sys
from pathlib import Path
from cirlib.common import paths  # before conftest, which changes CIRLIB_HOME
sys.path.insert(0, sys.argv[1])
from conftest import tone_sounds, build_bank, tone
from tones import write
from cirlib.data.builder import BankBuilder
from cirlib.models.encoder import AudioEncoder
from cirlib.training.config import TrainConfig
from cirlib.models.onnx import export_onnx
from cirlib.search.library import Library
from cirlib.search.__main__ import main
from cirlib.data import note_statistics as midi
from cirlib.data.sources import cir
from cirlib.data.sources import folder
from cirlib.data.sources import nsynth
from cirlib.training.loop import fit

user = Path.home()
bank = build_bank(user / "banks" / "tones", tone_sounds())
start = AudioEncoder.create("cnn", seconds=0.3, width=8, dim=8).save(user / "models" / "start.pt")
config = dict(preset="p", bank=(str(bank.paths[0]),), seconds=0.3, steps=2, batch_size=12, valid_size=4, valid_every=1, log_every=1)
run = fit(TrainConfig(**config, encoder=str(start), wandb="offline"), show=False)
export_onnx(AudioEncoder.load(run.checkpoint), run.folder / "encoder.onnx")
for name in ("bass", "lead"):
    write(user / "Samples" / f"{name}.wav", tone(50))
write(user / "Samples" / "silent.wav", 0 * tone(50))
folder.build(paths.HOME / "data" / "own", folder.FolderConfig(path=str(user / "Samples"), estimate=False), n_jobs=1)
Library.build(user / "Samples", paths.LIB / "own", str(start))
wrong = ["search own " + str(user / "none.wav"), "add own " + str(user / "none"), "remove own " + str(user / "none"),
         "build other " + str(user / "Samples") + " --encoder " + str(user / "none.pt"), "add own " + str(user)]
for arguments in ("info own", "search own " + str(user / "Samples" / "bass.wav"), *wrong):
    try:
        main(arguments.split())
    except SystemExit as error:
        print(error)
for act in (lambda: fit(TrainConfig(**config | {"bank": (str(user / "none"),)})), lambda: AudioEncoder.load(user / "none.pt"),
            lambda: AudioEncoder.load(user / "Samples" / "bass.wav"), lambda: AudioEncoder.create(str(user / "Samples"), seconds=0.3),
            lambda: midi.load_statistics(user / "none.json"), lambda: midi.read_folder(user / "none"),
            lambda: cir.check(cir.CirConfig(path=str(user / "none"))), lambda: nsynth.check(nsynth.NSynthConfig(path=str(user / "none"))),
            lambda: BankBuilder(user / "Samples", {}), lambda: folder.build(user / "b", folder.FolderConfig(path=str(user / "none")))):
    try:
        act()
        raise SystemExit("no error")
    except (ValueError, OSError) as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(project folder, output) of a user whose bank, model and samples are in the home folder, outside of the project."""
    user = tmp_path_factory.mktemp("users") / markers.USER
    env = {**markers.environment(user), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(ROOT / "tests")], cwd=user, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return user / "project", done.stdout + done.stderr


def test_written_files_have_no_marker(made):
    """Except the table of a library, which needs paths of sounds."""
    project, _ = made
    names = {path.name for path in project.rglob("*")}
    assert {"best.pt", "last.pt", "config.yaml", "provenance.json", "encoder.onnx", "bank.json", "library.json"} <= names
    assert markers.found(project, but=("sounds.lance",)) == []


def test_wandb_leaves_no_logs(made):
    (file,) = made[0].rglob("*.wandb")
    assert not list(file.parent.parent.rglob("*.log"))


def test_output_and_errors_have_no_marker(made):
    _, printed = made
    assert printed.count("Error") >= 6 and "~/none" in printed and "~/Samples" in printed
    assert [line for line in printed.splitlines() if any(word.decode() in line for word in markers.WORDS)] == []


def test_onnx_file_has_no_path_of_the_code(made):
    content = next(made[0].rglob("*.onnx")).read_bytes()
    assert [word for word in (str(ROOT), "site-packages", sys.prefix, "cirlib/") if word.encode() in content] == []


def test_short_paths_are_found_again(monkeypatch, tmp_path):
    """Settings of a run contain them; its key does not change."""
    monkeypatch.setenv("HOME", str(tmp_path))
    models = tmp_path / "models"
    AudioEncoder.create("cnn", seconds=0.3, width=8, dim=8).save(models / "x.pt")
    config = TrainConfig(bank=(str(tmp_path / "banks" / "a"),), encoder=str(models / "x.pt"), statistics="")
    write_config(tmp_path / "run", config, "key")
    again, _ = read_config(tmp_path / "run")
    assert (again.bank, again.encoder) == (("~/banks/a",), "~/models/x.pt")
    assert paths.at_home(again.bank[0]) == tmp_path / "banks" / "a" and weights_path(again.encoder) == models / "x.pt"
    assert weights_path("~/models") == models and paths.display_name("owner/name") == "owner/name"
    assert again.key([]) == config.key([])


@pytest.mark.parametrize("shape", ["folder is a link", "home is a link"])
def test_linked_project_folder_is_shown_by_its_name(monkeypatch, tmp_path, shape):
    home, disk = tmp_path / "home", tmp_path / "disk"
    (disk / "bank").mkdir(parents=True)
    if shape == "home is a link":
        home.symlink_to(disk)
        monkeypatch.setattr(paths, "HOME", home.resolve())
        assert paths.short(home / "bank") == paths.short(disk / "bank") == "bank"
    else:
        home.mkdir()
        (home / "data").symlink_to(disk)
        monkeypatch.setattr(paths, "HOME", home)
        assert paths.short(home / "data" / "bank") == "data/bank" and paths.short(disk / "bank") == str(disk / "bank")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setattr(paths, "HOME", tmp_path / "elsewhere")
        assert paths.short(home / "data" / "bank") == "~/data/bank"


def unreadable():
    """Read a missing file."""
    (Path.home() / "gone" / "a.wav").read_bytes()


def test_missing_file_is_reported_by_its_name_only(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / markers.USER))
    run_job(unreadable, {}, tmp_path / "shard.json", None)
    assert '"failed": "a.wav: No such file or directory"' in (tmp_path / "shard.json").read_text()


@pytest.mark.parametrize("word", [word.decode() for word in markers.WORDS])
def test_marker_search_finds_every_place(tmp_path, word):
    """In texts, names, links, archives and compressed texts."""
    (tmp_path / "plain.txt").write_text(f"x{word}y")
    (tmp_path / word.replace("=", "")[:60]).mkdir()
    os.symlink(f"/home/{word}", tmp_path / "link")
    np.savez_compressed(tmp_path / "a.npz", names=np.array([word.encode()]))
    torch.save({"x": word}, tmp_path / "b.pt")
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d.txt", word * 9)
    text = PngImagePlugin.PngInfo()
    text.add_text("path", word * 9, zip=True)
    Image.new("L", (1, 1)).save(tmp_path / "e.png", pnginfo=text)
    found = {line.partition(":")[0] for line in markers.found(tmp_path)}
    assert found >= {"plain.txt", "link", "a.npz", "b.pt", "c.zip", "e.png"}
