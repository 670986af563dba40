"""Demucs, here a stand-in with known stems: how mixtures go in, how stems come out, and clear errors without package or weights."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE

from cirlib.data.mixtures import PEAK
from cirlib.evaluation import demucs
from cirlib.evaluation.demucs import separate, stem_retriever
from cirlib.evaluation.protocol import Retriever
from cirlib.models.encoder import AudioEncoder

TWO = ("Bass", "Synth Lead")
FREQUENCIES = {"bass": 80.0, "other": 600.0, "drums": 4000.0}  # Hz, of a tone in one source only


def noise(*shape):
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def tones(samples, rate=RATE, **levels):
    """Return a tone (samples,) for each source, at these levels."""
    time = np.arange(samples) / rate
    return {name: (level * np.sin(2 * np.pi * FREQUENCIES[name] * time)).astype(np.float32) for name, level in levels.items()}


def middle(sound, share=0.1):
    """Cut off both ends, where resampling and filters ring."""
    n = round(share * sound.shape[-1])
    return sound[..., n:-n]


@pytest.fixture
def stand_in(monkeypatch):
    """Replace the package demucs; return its modules `pretrained` and `apply`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in_demucs"))
    for name in [n for n in sys.modules if n.partition(".")[0] == "demucs"]:
        monkeypatch.delitem(sys.modules, name)
    demucs._load.cache_clear()
    yield import_module("demucs.pretrained"), import_module("demucs.apply")
    demucs._load.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "demucs"]:
        del sys.modules[name]


@pytest.mark.parametrize(("samples", "rate"), [(16000, 16000), (15999, 16000), (22050, 44100)])
def test_each_family_gets_its_source(stand_in, samples, rate):
    """Stems keep length, sample rate and level."""
    sources = [tones(samples, rate, bass=0.5, other=0.1, drums=0.2), tones(samples, rate, bass=0.01, other=0.03, drums=0.02)]
    stems = separate([sum(s.values()) for s in sources], ["Chromatic Percussion", "Bass", "Synth Lead"], sample_rate=rate)
    assert (stems.shape, stems.dtype) == ((2, 3, samples), np.float32)
    for got, source in zip(stems, sources, strict=True):
        for stem, name in zip(got, ("drums", "bass", "other"), strict=True):
            np.testing.assert_allclose(middle(stem), middle(source[name]), atol=0.02 * np.abs(source[name]).max())


def test_families_of_one_source_get_the_same_stem(stand_in):
    mixture = sum(tones(4000, bass=0.5, other=0.1, drums=0.2).values())
    drums, bass, other = separate(mixture[None], ["Chromatic Percussion", "Bass", "Piano"])[0]
    families = ["Voice", "Drum Kit", "Synth Effects", "Bass", "Percussion", "Organ"]
    np.testing.assert_array_equal(separate(mixture[None], families)[0], [other, drums, other, bass, drums, other])
    assert np.abs(drums - other).max() > 0.1


def test_input_is_normalised_stereo_at_the_models_rate(stand_in):
    """One mixture at a time, mean 0, deviation 1, equal channels, no random shift; the mean returns in every stem."""
    _, apply = stand_in
    mixtures = np.stack([sum(tones(8000, other=level).values()) + 0.25 for level in (0.5, 0.02)])
    stems = separate(mixtures, ["Synth Lead", "Bass"])
    assert len(apply.calls) == 2
    for got, shifts in apply.calls:
        assert (got.shape, shifts) == ((1, 2, 22050), 0)
        assert torch.equal(got[0, 0], got[0, 1])
        np.testing.assert_allclose([got.mean(), got.std()], [0, 1], atol=1e-3)
        expected = np.sqrt(2) * tones(22050, 44100, other=1.0)["other"]
        np.testing.assert_allclose(middle(got[0, 0].numpy(), 0.2), middle(expected, 0.2), atol=0.1)
    np.testing.assert_allclose(middle(stems).mean(axis=2), 0.25, atol=0.01)


def test_model_is_loaded_once(stand_in, tmp_path):
    pretrained, _ = stand_in
    for _ in range(2):
        separate(noise(2, 800), TWO)
    (tmp_path / "tiny.yaml").write_text("{sources: [other, bass], samplerate: 8000}")
    for _ in range(2):
        assert separate(noise(2, 800), TWO, model="tiny", repo=tmp_path).shape == (2, 2, 800)
    assert pretrained.loaded == [("htdemucs", None), ("tiny", tmp_path)]


def test_silence_stays_silent(stand_in):
    stems = separate(np.stack([np.zeros(800, np.float32), *noise(1, 800)]), TWO)
    assert not stems[0].any() and stems[1].any()
    assert separate(np.zeros((0, 800)), TWO).shape == (0, 2, 800)


def test_unknown_names_are_refused(stand_in, tmp_path):
    (tmp_path / "tiny.yaml").write_text("{sources: [bass, other]}")
    with pytest.raises(ValueError, match=r"^unknown source of Demucs 'tiny' 'drums'; valid: bass, other$"):
        separate(noise(1, 800), ["Bass", "Chromatic Percussion"], model="tiny", repo=tmp_path)
    with pytest.raises(ValueError, match=r"unknown family 'Base' \(did you mean 'Bass'\?\)"):
        separate(noise(1, 800), ["Base"])


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "demucs", None)
    demucs._load.cache_clear()
    with pytest.raises(ValueError, match=r"^stems by Demucs need the package demucs: pip install demucs$"):
        separate(noise(1, 800), TWO)


def test_missing_weights_are_one_line(stand_in, tmp_path, monkeypatch):
    """The error says where demucs looked; a demucs that exits the process is caught."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/hub")
    with pytest.raises(OSError, match=r"^the weights of Demucs 'htdemucs_ft' cannot be loaded \(URLError: .* not known.*\): ") as caught:
        separate(noise(1, 800), TWO, model="htdemucs_ft")
    assert "/hub/checkpoints" in str(caught.value) and "\n" not in str(caught.value)
    for repo in (tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=rf"\(.*\): {repo} must be a folder with htdemucs.yaml and the .th files that it names$"):
            separate(noise(1, 800), TWO, repo=repo)
    monkeypatch.setattr(stand_in[0], "get_model", lambda *_: sys.exit(1))
    with pytest.raises(OSError, match=r"cannot be loaded \(SystemExit: 1\)"):
        separate(noise(1, 800), TWO)


@pytest.mark.parametrize("bad", [np.zeros(800), np.zeros((2, 0)), np.zeros((2, 2, 800)), np.full((2, 800), np.nan), [[0.1, np.inf]]])
def test_unusable_mixtures_are_refused(stand_in, bad):
    with pytest.raises(ValueError, match=r"^mixtures must be mono \(B, T\) with T > 0 and finite samples, got shape \("):
        separate(bad, TWO)


def test_stems_are_normalised_and_embedded():
    """Silent stems stay silent."""
    torch.manual_seed(0)
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8)
    stems = np.stack([0.01 * noise(2, 8000), np.zeros((2, 8000), np.float32)], axis=1)
    retriever = stem_retriever(encoder, lambda mixtures: stems)
    assert retriever.separate(None) is stems and Retriever(encoder).separate is None
    loud = PEAK * stems[:, 0] / np.abs(stems[:, 0]).max(axis=1, keepdims=True)
    expected = np.stack([encoder.embed(loud), encoder.embed(np.zeros((2, 8000), np.float32))], axis=1)
    np.testing.assert_allclose(retriever.mixtures(None), expected, atol=1e-5)
