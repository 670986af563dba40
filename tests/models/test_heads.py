"""Per-family heads: what each attends to, how they are stored, and which head is compared."""

import math

import numpy as np
import pytest
import torch

from cirlib.models.encoder import AudioEncoder, digest
from cirlib.models.heads import ATTENTION_HEADS, MIX, SINGLE, FamilyHeads, head_names, select_family_head, select_head

FAMILIES = ("Chromatic Percussion", "Bass", "Synth Lead")


def test_family_heads_attend_over_time_in_each_band():
    torch.manual_seed(0)
    b, bands, t, channels, families = 2, 3, 5, 2 * ATTENTION_HEADS, 4
    layer = FamilyHeads(channels=channels, bands=bands, pooled=7, families=families, dim=6)
    maps, pooled = torch.randn(b, bands, t, channels), torch.randn(b, 7)
    scores, got = layer.attention(maps), layer(maps, pooled)
    assert got.shape == (b, 1 + families, 6)
    for i in range(b):
        mix = layer.mix(pooled[i])
        torch.testing.assert_close(got[i, 0], mix / mix.norm())
        for p in range(families):
            attended = []
            for band in range(bands):
                for h in range(ATTENTION_HEADS):
                    weight = torch.stack([scores[i, band, k, h * families + p] for k in range(t)]).softmax(0)
                    attended.append(sum(weight[k] * maps[i, band, k, 2 * h : 2 * h + 2] for k in range(t)))
            expected = layer.dense(torch.cat(attended))
            torch.testing.assert_close(got[i, 1 + p], expected / expected.norm())


@pytest.mark.parametrize("name", ["cnn", "ast-tiny"])
def test_encoder_with_parts(tmp_path, name):
    """Each head has unit length; a checkpoint gives the same embedding; the digest depends on the weights of the heads."""
    torch.manual_seed(0)
    encoder = AudioEncoder.create(name, seconds=0.5, heads=FAMILIES).eval()
    sounds = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32) / 10
    vectors = encoder.embed(sounds)
    size = encoder.dim // 5
    assert vectors.shape == (3, encoder.dim) and size in (256, 192)
    np.testing.assert_allclose(np.linalg.norm(vectors.reshape(3, 5, size), axis=2), 1, atol=1e-5)
    assert np.abs(vectors[:, :size] - vectors[:, size : 2 * size]).max() > 1e-5
    loaded = AudioEncoder.load(encoder.save(tmp_path / "parts.pt"))
    assert loaded.config.heads == FAMILIES
    np.testing.assert_array_equal(loaded.embed(sounds), vectors)
    before = digest(encoder)
    with torch.no_grad():
        encoder.family_heads.dense.bias += 1
    assert digest(loaded) == before != digest(encoder)


@pytest.mark.parametrize("name", ["cnn", "ast-tiny"])
def test_training_with_parts_can_start_from_an_encoder_without(tmp_path, name):
    """The first part is the embedding that the encoder without parts gives, and gives again without them."""
    plain = AudioEncoder.create(name, seconds=0.5)
    path = str(plain.save(tmp_path / "plain.pt"))
    encoder = AudioEncoder.create(path, seconds=0.5, heads=FAMILIES)
    assert encoder.config.heads == FAMILIES and encoder.dim == 5 * plain.dim
    sounds = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32) / 10
    before = plain.embed(sounds)
    np.testing.assert_allclose(
        select_head(encoder.embed(sounds), SINGLE, FAMILIES), before / np.linalg.norm(before, axis=1, keepdims=True), atol=1e-6
    )
    back = AudioEncoder.create(str(encoder.save(tmp_path / "parts.pt")), seconds=0.5)
    assert back.family_heads is None
    np.testing.assert_array_equal(back.embed(sounds), before)


def test_heads_are_kept_when_training_goes_on(tmp_path):
    """Heads of families that the encoder has stay as they are, in any order; a new family has a new one."""
    torch.manual_seed(0)
    first = AudioEncoder.create("cnn", seconds=0.5, width=8, dim=16, heads=("Bass", "Piano", "Organ")).eval()
    with torch.no_grad():
        first.family_heads.attention.weight *= 50  # else random heads of all families are nearly the same
    path, clips = str(first.save(tmp_path / "x.pt")), 0.1 * np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)
    before = dict(zip(("single", "mix", *first.config.heads), np.split(first.embed(clips), 5, axis=1), strict=True))
    other = AudioEncoder.create(path, seconds=0.5, heads=("Organ", "Guitar", "Bass")).eval()
    after = dict(zip(("single", "mix", *other.config.heads), np.split(other.embed(clips), 5, axis=1), strict=True))
    for name in ("single", "mix", "Organ", "Bass"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-6)
    assert np.abs(after["Guitar"] - before["Piano"]).max() > 1e-3


def test_no_embeddings_have_parts_too():
    assert select_head(np.empty((0, 6)), SINGLE, ["Bass"]).shape == select_family_head(np.empty((0, 6)), [], ["Bass"]).shape == (0, 2)


def test_the_part_of_the_own_family_is_compared():
    vectors = np.arange(30.0).reshape(3, 10)  # three sounds, five parts of two numbers
    expected = [vectors[0, 6:8], vectors[1, 2:4], vectors[2, 2:4]]
    np.testing.assert_array_equal(select_family_head(vectors, ["Bass", "Piano", math.nan], FAMILIES), expected)
    for k, name in enumerate((SINGLE, MIX, *FAMILIES)):
        assert head_names(FAMILIES)[k] == name
        np.testing.assert_array_equal(select_head(vectors, name, FAMILIES), vectors[:, 2 * k : 2 * k + 2])
    assert head_names(()) == () and select_family_head(vectors, ["Bass"] * 3, ()) is vectors is select_head(vectors, MIX, ())
