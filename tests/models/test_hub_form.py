"""Encoders as folders in the form of the Hugging Face hub, the one that comes with cirlib among them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tones import sounds

from cirlib.common import paths
from cirlib.models import pretrained
from cirlib.models.checkpoints import is_folder
from cirlib.models.encoder import AudioEncoder, digest
from cirlib.search.library import load_trained
from cirlib.training.config import TrainConfig


@pytest.fixture
def released(tmp_path):
    """A small encoder with heads, and its folder."""
    torch.manual_seed(0)
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=8, dim=16, heads=("Bass", "Piano"), metric="cosine").eval()
    encoder.trained_on = [{"bank": "tones", "used": ""}]
    return encoder, encoder.save_folder(tmp_path / "released" / "small", training={"minutes": 1.0})


def test_a_folder_holds_float16_weights_and_plain_data(released):
    """The same encoder but for rounding, its heads, metric and sounds included; torch and cirlib are not needed to read the files."""
    encoder, folder = released
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}
    weights, about = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    assert {w.dtype for w in weights.values()} == {torch.float16, torch.int64} and about["model_type"] == "cirlib"
    assert about["training"] == {"minutes": 1.0} and about["cirlib"]["heads"] == ["Bass", "Piano"]
    loaded = AudioEncoder.load(folder)
    assert loaded.config == encoder.config and loaded.trained_on == encoder.trained_on and not loaded.training
    assert digest(loaded) == about["digest"] != digest(encoder)
    clips = sounds(8000, 3000)
    np.testing.assert_allclose(loaded.embed(clips), encoder.embed(clips), atol=5e-3)
    again = AudioEncoder.load(loaded.save_folder(folder.parent / "again"))
    assert digest(again) == digest(loaded)


def test_a_classifier_in_the_form_of_the_hub(tmp_path):
    encoder = AudioEncoder.create("ast-tiny", seconds=0.5, outputs=2).eval()
    encoder.labels = ["a", "b"]
    loaded = AudioEncoder.load(encoder.save_folder(tmp_path / "x"))
    assert loaded.labels == ["a", "b"]
    np.testing.assert_allclose(loaded.embed(sounds(8000), outputs=True), encoder.embed(sounds(8000), outputs=True), atol=0.02)


def test_the_encoder_that_comes_with_cirlib(released, monkeypatch):
    """Without a name and by its name, its metric included; `cirlib-small` may also be a start of training."""
    monkeypatch.setattr(pretrained, "PLACE", released[1])
    expected = digest(AudioEncoder.load(released[1]))
    assert digest(AudioEncoder.load()) == digest(AudioEncoder.load("cirlib-small")) == expected
    for name in (None, "cirlib-small"):
        encoder, shown, metric = load_trained(name)
        assert (digest(encoder), shown, metric) == (expected, "cirlib-small", "cosine")
    assert digest(AudioEncoder.create("cirlib-small", seconds=0.5, heads=None)) == expected
    with pytest.raises(ValueError, match=r"^cirlib-small was trained on clips of 0\.5 s: set seconds to that, not to 4$"):
        AudioEncoder.create("cirlib-small", seconds=4.0)


def test_a_run_starts_from_weights_not_from_their_model_card(released, monkeypatch):
    """The key of a run depends on the weights alone, as the card changes with every result."""
    monkeypatch.setattr(pretrained, "PLACE", released[1])
    config = TrainConfig(encoder="cirlib-small", seconds=0.5)
    before = config.key([])
    (released[1] / "README.md").write_text("card")
    assert config.key([]) == before == TrainConfig(encoder=str(released[1]), seconds=0.5).key([])
    AudioEncoder.create("cnn", seconds=0.5, width=8, dim=16).save_folder(released[1])
    assert config.key([]) != before


def test_without_weights_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "PLACE", tmp_path / "none")
    for name in (None, "cirlib-small"):
        with pytest.raises(
            FileNotFoundError, match=r"^this copy of cirlib comes without the weights of cirlib-small \(.*safetensors\): inst"
        ):
            AudioEncoder.load(name)


def test_a_model_of_the_hub(released, monkeypatch, tmp_path):
    """From the cache of the hub, without a connection."""
    snapshot = tmp_path / "cache" / "models--someone--small" / "snapshots" / "1"
    snapshot.parent.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("1")
    shutil.copytree(released[1], snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert digest(AudioEncoder.load("someone/small")) == digest(AudioEncoder.load(released[1]))


def replace_weight(folder, value):
    """Write a weight with one other number."""
    weights = load_file(folder / "model.safetensors")
    next(w for w in weights.values() if w.is_floating_point()).view(-1)[0] = value
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "is damaged .*: get model.safetensors and config.json again$"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99),
            "is damaged .*: get model.safetensors and config.json again$",
        ),
        (
            lambda folder: replace_weight(folder, 7.0),
            r"is damaged \(its weights have another digest than its config.json says\): get it again$",
        ),
        (lambda folder: replace_weight(folder, np.inf), "its weight .* is not finite, or no plain tensor$"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "cirlib"}'), "does not fit an encoder of this version"),
    ],
    ids=["no weights", "damaged", "another number", "infinite", "no settings"],
)
def test_damaged_folders(released, damage, message):
    damage(released[1])
    with pytest.raises(ValueError, match=message):
        AudioEncoder.load(released[1])


def test_weights_beyond_float16(tmp_path):
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8)
    with torch.no_grad():
        next(encoder.parameters()).fill_(1e5)
    with pytest.raises(ValueError, match=r"no checkpoint of an encoder in float16: its weight '.*' is not finite"):
        encoder.save_folder(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_loading_imports_no_more_than_torch(released):
    """Neither transformers nor the compiler of torch, each of which takes seconds."""
    code = f"""
import torch, time, sys
start = time.process_time()
from cirlib import AudioEncoder
AudioEncoder.load({str(released[1])!r})
assert time.process_time() - start < 1
print(*({{"transformers", "torch._dynamo", "sympy", "pandas", "huggingface_hub"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.stdout == "\n", done.stderr


@pytest.mark.skipif(not is_folder(pretrained.PLACE), reason="the weights of cirlib-small are not in this copy")
def test_the_shipped_files():
    """Sizes, digest, and an ONNX file that gives the same embeddings."""
    sizes = {p.name: p.stat().st_size / 1e6 for p in pretrained.PLACE.iterdir()}
    assert {"config.json", "model.safetensors", "model.onnx", "README.md"} <= sizes.keys()
    assert sizes["model.safetensors"] <= 8 and sizes["model.safetensors"] + sizes["model.onnx"] <= 16
    encoder = AudioEncoder.load()
    assert encoder.trained_on and encoder.config.metric and encoder.config.heads
    clips = np.stack(sounds(*2 * [round(encoder.config.seconds * 16000)]))
    session = pytest.importorskip("onnxruntime").InferenceSession(pretrained.PLACE / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"waveforms": clips})[0], encoder.embed(clips), atol=1e-4)
