"""Log-mel spectrograms equal those of transformers.ASTFeatureExtractor."""

import numpy as np
import pytest
import torch
from conftest import tone
from transformers import ASTFeatureExtractor

from cirlib.audio import log_mel
from cirlib.audio.log_mel import BANDS, MEAN, STD, LogMel, _filter_blocks, frames_for

PADDING = -MEAN / (2 * STD)  # a frame of zeros, normalised


def noise(samples, level=0.3, seed=0):
    return (level * np.random.default_rng(seed).standard_normal(samples)).clip(-1, 1).astype(np.float32)


def assert_equal(got, expected):
    """Equal up to float32 rounding, which shows most in bands with little energy."""
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)
    assert (got - expected).abs().mean() < 1e-6


def in_double(audio):
    """Log-mel in float64, without padding."""
    frames = torch.from_numpy(audio).double().unfold(0, 400, 160)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = (frames[:, 1:] - 0.97 * frames[:, :-1]) * torch.hann_window(400, periodic=False, dtype=torch.float64)[1:]
    power = torch.fft.rfft(frames, 512).abs().square()
    return (((power @ LogMel().mel[::2].double()).clamp_min(2**-23).log() - MEAN) / (2 * STD)).float()


def reference(audio, frames, **options):
    extractor = ASTFeatureExtractor(max_length=frames, **options)
    return extractor(audio, sampling_rate=16000, return_tensors="pt").input_values


@pytest.mark.parametrize("frames", [1024, 96])
@pytest.mark.parametrize("samples", [400, 401, 559, 560, 1000, 16000, 160000, 200000])
def test_equals_ast_feature_extractor(samples, frames):
    audio = noise(samples, seed=samples)
    got = LogMel(frames)(torch.from_numpy(audio)[None])
    assert got.shape == (1, frames, BANDS)
    assert_equal(got, reference(audio, frames))


@pytest.mark.parametrize("level", [1.0, 0.1, 1e-3, 1e-6, 0.0])
def test_all_levels_equal_ast_feature_extractor(level):
    """From full scale to silence, where the logarithm is clipped; no dither."""
    audio = noise(16000, level)
    assert_equal(LogMel(96)(torch.from_numpy(audio)[None]), reference(audio, 96))


def test_mean_of_each_frame_is_removed():
    audio = noise(8000, 0.1) + np.float32(0.4)
    assert_equal(LogMel(96)(torch.from_numpy(audio)[None]), reference(audio, 96))


@pytest.mark.parametrize("offset", [0.0, 0.4])
def test_rounding_error_is_below_that_of_the_extractor(offset):
    audio = noise(160000, 0.01) + np.float32(offset)
    exact = in_double(audio)
    error, bound = ((x[0, : len(exact)] - exact).abs().mean() for x in (LogMel()(torch.from_numpy(audio)[None]), reference(audio, 1024)))
    assert error < bound


def test_other_mean_and_standard_deviation():
    audio = noise(4000)
    expected = reference(audio, 64, mean=-6.0, std=3.0)
    assert_equal(LogMel(64, -6.0, 3.0)(torch.from_numpy(audio)[None]), expected)


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_shorter_than_one_frame_is_padding(samples):
    got = LogMel(32)(torch.ones(2, samples))
    torch.testing.assert_close(got, torch.full((2, 32, BANDS), PADDING))


@pytest.mark.parametrize("block", [0, 1, 4, 11])
def test_batch_equals_one_by_one(monkeypatch, block):
    monkeypatch.setattr(log_mel, "CPU_FRAMES", block * 29)  # 29 frames per clip
    batch = torch.from_numpy(np.stack([noise(5000, 0.5, seed) for seed in range(11)]))
    torch.testing.assert_close(LogMel(48)(batch), torch.cat([LogMel(48)(x[None]) for x in batch]), rtol=0, atol=1e-5)


def test_input_is_unchanged():
    audio = torch.from_numpy(noise(5000)[None])
    before = audio.clone()
    LogMel(48)(audio)
    assert torch.equal(audio, before)


def test_tone_is_in_its_band():
    frame = LogMel(16)(torch.from_numpy(tone(83.213, 0.2))[None].float())[0, 8]  # 1 kHz
    step = (1127 * np.log(1 + 8000 / 700) - 1127 * np.log(1 + 20 / 700)) / 129
    centre = (1127 * np.log(1 + 1000 / 700) - 1127 * np.log(1 + 20 / 700)) / step - 1
    assert abs(frame.argmax().item() - centre) <= 1


@pytest.mark.parametrize(("seconds", "frames"), [(10, 1024), (4, 416), (1, 112), (0.5, 64)])
def test_frames_for(seconds, frames):
    assert frames_for(seconds) == frames
    assert frames_for(seconds) % 16 == 0
    assert frames_for(seconds) >= 100 * seconds


@pytest.mark.parametrize("shape", [(16000,), (1, 1, 16000)], ids=str)
def test_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected waveforms of shape \(batch, samples\)"):
        LogMel()(torch.zeros(shape))


@pytest.mark.parametrize("size", [1, 32, 128])
def test_filters_are_zero_outside_their_blocks(size):
    mel, seen = LogMel().mel.clone(), 0
    for bins, bands in _filter_blocks(size):
        assert bins.stop <= len(mel)
        mel[bins, bands] = 0
        seen += bands.stop - bands.start
    assert seen == BANDS and not mel.any()
