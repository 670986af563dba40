"""ONNX files: the same embeddings without torch, no path of this machine, clear refusals."""

import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
import torch

from cirlib.models.encoder import AudioEncoder
from cirlib.models.onnx import export_onnx, main


def clips(seconds: float) -> np.ndarray:
    """Noise, a short tone, silence, and noise under a constant, (4, T)."""
    rng, samples = np.random.default_rng(0), round(16000 * seconds)
    out = np.zeros((4, samples), np.float32)
    out[0] = rng.normal(0, 0.2, samples)
    out[1, : samples // 3] = 0.9 * np.sin(0.07 * np.arange(samples // 3))
    out[3] = 0.3 + rng.normal(0, 1e-3, samples)
    return out


@pytest.mark.parametrize(("name", "seconds", "heads"), [("cnn", 0.7, ()), ("ast-tiny", 1.0, ()), ("cnn", 0.7, ("Bass",))])
def test_onnx_embeds_as_the_encoder_does(tmp_path, name, seconds, heads):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    encoder = AudioEncoder.create(name, seconds=seconds, heads=heads).eval()
    with torch.no_grad():  # embeddings of the size that training gives
        for weight in encoder.parameters():
            weight *= 1.5
    path = export_onnx(encoder, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = encoder.embed(clips(seconds))
    for count in (4, 1):  # any number of clips
        found = session.run(["embeddings"], {"waveforms": clips(seconds)[:count]})[0]
        np.testing.assert_allclose(found, expected[:count], atol=1e-4 * max(1, np.abs(expected).max()))
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    metadata = {"sample_rate": "16000", "seconds": str(seconds), "encoder": name}
    metadata |= {"heads": '["single", "mix", "Bass"]'} if heads else {}
    assert session.get_modelmeta().custom_metadata_map == metadata
    content = path.read_bytes()
    assert not any(word in content for word in (b"site-packages", str(tmp_path).encode(), b"cirlib/"))
    assert list(tmp_path.iterdir()) == [path]


def test_export_from_the_shell(tmp_path):
    pytest.importorskip("onnx")
    AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8).save(tmp_path / "best.pt")
    command = [sys.executable, "-m", "cirlib.models.onnx"]
    done = subprocess.run([*command, tmp_path / "best.pt", tmp_path / "cnn.onnx"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "cnn.onnx: " in done.stdout and (tmp_path / "cnn.onnx").stat().st_size > 1000, done.stderr
    assert not done.stderr
    arguments = ["export", str(tmp_path / "none.pt"), str(tmp_path / "none.onnx")]
    with patch.object(sys, "argv", arguments), pytest.raises(SystemExit, match=r"^error: [^\n]+$"):
        main()
    assert not (tmp_path / "none.onnx").exists()
