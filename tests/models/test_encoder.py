"""Encoders: what they compute, what they refuse, and that a checkpoint gives back the same embeddings."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone
from safetensors.torch import load_file
from tones import sounds
from torchaudio.functional import resample
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from cirlib.common import paths
from cirlib.models.ast import AST_PREFIX, AST_SHAPES
from cirlib.models.encoder import AT_ONCE, ENCODERS, AudioEncoder, EncoderConfig, digest
from cirlib.search.library import load_trained
from cirlib.training.config import TrainConfig, write_config

SMALL = [name for name in ENCODERS if name != "ast-base"]
SHAPE = {"num_mel_bins": 128, "patch_size": 16, "time_stride": 12, "frequency_stride": 12}
SECOND = 16000


@pytest.fixture(scope="module")
def encoder():
    """A small encoder of clips of 1 s."""
    torch.manual_seed(0)
    return AudioEncoder.create("cnn", seconds=1.0, width=8, dim=16).eval()


# Presets


@pytest.mark.parametrize("name", SMALL)
def test_preset(name, tmp_path):
    """Embeddings of the promised size, different for different sounds; a checkpoint gives the same ones."""
    torch.manual_seed(0)
    encoder = AudioEncoder.create(name, seconds=1.0)
    clips = sounds(SECOND, SECOND)
    vectors = encoder.embed(clips)
    assert vectors.shape == (2, encoder.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)
    loaded = AudioEncoder.load(encoder.save(tmp_path / "encoder.pt"))
    assert (loaded.config, loaded.dim, loaded.training) == (encoder.config, encoder.dim, False)
    np.testing.assert_array_equal(loaded.embed(clips), vectors)


def test_shapes_of_the_asts():
    """ast-base has the paper's shape: hidden 768, 12 layers, 12 heads; 850 patches of 10 s."""
    assert AST_SHAPES["ast-base"] == (768, 12, 12)
    with torch.device("meta"):  # no weights
        position = AudioEncoder.create("ast-base").backbone.embeddings.position_embeddings
    assert position.shape == (1, 850 + 2, 768)


def test_new_encoders_follow_the_generator_of_torch():
    """The same seed gives the same weights, another seed others."""
    vectors = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        vectors.append(AudioEncoder.create("cnn", seconds=1.0, width=8, dim=16).embed(sounds(SECOND)))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_weight(name):
    encoder = AudioEncoder.create(name, seconds=1.0)
    encoder(torch.from_numpy(np.stack(sounds(SECOND, SECOND)))).square().sum().backward()
    without = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert [k for k in without if not k.endswith("key.bias")] == []  # a bias of all keys shifts every score alike


def test_unknown_preset_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"'ast-tinny' \(did you mean 'ast-tiny'\?\); valid: cnn, .* local folder or of a checkpoint"):
        AudioEncoder.create("ast-tinny")


# embed


def test_embed_a_list_or_an_array(encoder):
    """Of any lengths, in any batches, with no gradients, and the encoder stays in its mode."""
    clips = sounds(SECOND, SECOND, SECOND)
    vectors = encoder.embed(clips)
    np.testing.assert_allclose(encoder.embed(np.stack(clips)), vectors, atol=1e-6)
    np.testing.assert_allclose(encoder.embed(clips, batch=2), vectors, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([encoder.embed([c]) for c in clips]), vectors, atol=1e-6)
    np.testing.assert_allclose(vectors, encoder(torch.from_numpy(np.stack(clips))).detach(), atol=1e-6)
    assert encoder.embed([]).shape == (0, 16)
    assert not encoder.training
    encoder.train()
    np.testing.assert_allclose(encoder.embed(clips), vectors, atol=1e-6)  # as in eval mode
    assert encoder.training
    encoder.eval()


def test_shorter_sounds_are_padded_with_zeros(encoder):
    short = sounds(300, 5000)
    expected = encoder.embed(np.stack([np.pad(s, (0, SECOND - len(s))) for s in short]))
    np.testing.assert_allclose(encoder.embed(short), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.embed([s.astype(float).tolist() for s in short]), expected, atol=1e-6)


def test_long_sounds_are_embedded_in_one_pass_by_a_cnn(encoder):
    """2.2 s: padded to 2.25 s, a whole number of quarters of a clip; pooled over all of its time."""
    (long,) = sounds(11 * SECOND // 5)
    whole = torch.from_numpy(np.pad(long, (0, 9 * SECOND // 4 - len(long))))
    with torch.no_grad():
        expected = encoder(whole[None])[0].numpy()
    got = encoder.embed([*sounds(100, seed=1), long, *sounds(SECOND, seed=2)], batch=2)
    np.testing.assert_allclose(got[1], expected, atol=1e-5)
    assert np.abs(expected - encoder.embed([long[:SECOND]])[0]).max() > 1e-3  # the end counts
    np.testing.assert_allclose(got[2], encoder.embed(sounds(SECOND, seed=2))[0], atol=1e-6)


@pytest.mark.parametrize(("name", "window"), [("cnn", AT_ONCE), ("ast-tiny", 1)])
def test_windows_are_averaged_by_their_duration(name, window):
    """Two whole windows and a quarter."""
    torch.manual_seed(0)
    encoder, clip = AudioEncoder.create(name, seconds=0.5).eval(), SECOND // 2
    (long,) = sounds(9 * window * clip // 4)
    cuts = [long[: window * clip], long[window * clip : 2 * window * clip], long[2 * window * clip :]]
    expected = np.concatenate([encoder.embed([cut]) for cut in cuts]).T @ [4 / 9, 4 / 9, 1 / 9]
    np.testing.assert_allclose(encoder.embed([long])[0], expected, atol=1e-5)


@pytest.mark.parametrize("rate", [48000, 44100, 8000])
def test_sample_rates_are_converted(encoder, rate):
    """A tone has the same embedding at any sample rate."""
    time = np.arange(rate) / rate
    there = (0.5 * np.cos(2 * np.pi * 440 * time)).astype(np.float32)
    expected = encoder.embed([tone(69, 1.0).astype(np.float32), tone(74, 1.0).astype(np.float32)])
    got = encoder.embed([there], sample_rate=rate)[0]
    assert np.linalg.norm(got - expected[0]) < np.linalg.norm(got - expected[1])
    direct = encoder.embed([resample(torch.from_numpy(there), rate, SECOND).numpy()])[0]
    np.testing.assert_allclose(got, direct, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(0), r"sound 1 must be mono with at least one sample, got shape \(0,\)"),
        (np.zeros((2, 800)), r"sound 1 must be mono with at least one sample, got shape \(2, 800\)"),
        (np.array([0.1, np.nan]), "sound 1 holds NaN or infinite samples"),
        (np.array([0.1, np.inf]), "sound 1 holds NaN or infinite samples"),
    ],
    ids=["empty", "stereo", "nan", "inf"],
)
def test_unusable_sounds(encoder, bad, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        encoder.embed([np.zeros(800), bad])


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", ">i2", ">f4", "float64"])
def test_samples_of_any_type_have_the_same_embedding(encoder, dtype):
    full, middle = {"int16": (2**15, 0), ">i2": (2**15, 0), "int32": (2**31, 0), "uint8": (2**7, 2**7)}.get(dtype, (1, 0))
    stored = (tone(69, 1.0) * full + middle).astype(dtype)
    expected = encoder.embed([clip := ((stored.astype(float) - middle) / full).astype(np.float32), clip[::-1].copy()])
    np.testing.assert_array_equal(encoder.embed([stored, stored[::-1]]), expected)


@pytest.mark.parametrize(
    ("sounds", "rate", "message"),
    [
        ([np.zeros(800, np.int64)], 16000, "samples must be floats, or integers of 8 to 32 bits, not int64"),
        ([np.zeros(800, complex)], 16000, "samples must be floats, or integers of 8 to 32 bits, not complex128"),
        ([np.zeros(800)], None, "a sample rate must be a whole number of Hz from 1000 to 768000, got None"),
        ([np.zeros(800)], 0, "a sample rate must be a whole number of Hz from 1000 to 768000, got 0"),
    ],
)
def test_unknown_scales_and_rates_are_refused(encoder, sounds, rate, message):
    with pytest.raises(ValueError, match=f"^sound 0 cannot be embedded: {message}$"):
        encoder.embed(sounds, rate)


def test_files_have_their_own_sample_rate(encoder, tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(69, 1.0), 16000, subtype="FLOAT")
    expected = encoder.embed([tone(69, 1.0)])
    np.testing.assert_allclose(encoder.embed([tmp_path / "x.wav"], sample_rate=44100), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.embed([str(tmp_path / "x.wav")]), expected, atol=1e-5)
    with pytest.raises(FileNotFoundError):
        encoder.embed([tmp_path / "y.wav"])


# Weights from elsewhere


def ast(frames, num_labels=3, **shape):
    """A small AST with random weights, none of them at its initial 0 or 1."""
    torch.manual_seed(0)
    config = ASTConfig(**SHAPE, num_hidden_layers=2, max_length=frames, num_labels=num_labels, **shape)
    model = ASTForAudioClassification(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def test_the_folder_of_a_run_is_told_its_checkpoint(tmp_path):
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "best.pt").touch()
    for folder in (tmp_path, tmp_path / "seed0"):
        with pytest.raises(ValueError, match=r"is the folder of a run, not a pretrained AST: name its checkpoint, .*seed0/best\.pt$"):
            AudioEncoder.create(str(folder), seconds=1.0)


def test_another_file_is_no_encoder(tmp_path):
    (tmp_path / "mix.wav").touch()
    with pytest.raises(ValueError, match=r"mix\.wav is not an encoder: name a checkpoint \(\.pt\), a hub id or the folder"):
        AudioEncoder.create(str(tmp_path / "mix.wav"), seconds=1.0)


def hidden_mean(model, features):
    """Mean of the first two tokens after the last layer norm."""
    with torch.inference_mode():
        return model.audio_spectrogram_transformer(features).last_hidden_state[:, :2].mean(dim=1).numpy()


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """A model in the format of the hub, with statistics of its own, and the embeddings that it should give."""
    folder = tmp_path_factory.mktemp("hub") / "model"
    model = ast(112, hidden_size=32, num_attention_heads=2, intermediate_size=48)
    extractor = ASTFeatureExtractor(max_length=112, mean=-5.0, std=3.5)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    clips = sounds(SECOND, 5000)
    features = extractor([np.pad(c, (0, SECOND - len(c))) for c in clips], sampling_rate=SECOND, return_tensors="pt")
    return folder, clips, hidden_mean(model, features.input_values)


def test_local_folder_in_hub_format(hub_folder, tmp_path):
    """Embeds as transformers does, and so does its checkpoint."""
    folder, clips, expected = hub_folder
    encoder = AudioEncoder.create(str(folder), seconds=1.0)
    assert (encoder.dim, encoder.training, encoder.config.name) == (32, False, "model"), "its place is not stored"
    np.testing.assert_allclose(encoder.embed(clips), expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    loaded = AudioEncoder.load(encoder.save(tmp_path / "encoder.pt"))
    np.testing.assert_allclose(loaded.embed(clips), expected, atol=1e-4)


def test_clips_longer_than_the_input_of_a_pretrained_model(hub_folder):
    with pytest.raises(ValueError, match=r"model takes 112 frames of 10 ms, clips of 2 s are longer: set seconds to 1\.12 or less$"):
        AudioEncoder.create(str(hub_folder[0]), seconds=2.0)


def test_hub_model_that_cannot_be_had():
    """Offline here: transformers says so."""
    with pytest.raises(OSError, match="couldn't connect"):
        AudioEncoder.create("someone/nothing")


def published_weights(folder, model):
    """Weights by the names of transformers 4, which transformers still writes to its own files."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


LAYER = (
    "attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense",
    "intermediate.dense", "output.dense", "layernorm_before", "layernorm_after",
)  # fmt: skip


def published(folder, model, frames, labels=None):
    """A checkpoint in the form of the published ones; only a classifier has labels and a head."""
    weights = published_weights(folder, model)
    assert {f"{AST_PREFIX}encoder.layer.1.{name}.bias" for name in LAYER} <= weights.keys()
    state = {k: v for k, v in weights.items() if labels or not k.startswith("classifier.")}
    custom = {
        "run": {"project": "p", "name": "n", "wandb_id": "x", "local_logs_dir": "/logs"},
        "git": {"remote_url": "u", "branch_name": "main", "commit_hash": "0"},
        "dataset": {"use_small_dataset": False, "id2label": labels or {}},
        "model": {"base": "AST", "type": "t", "pretrained": True, "sr": 16000, "num_mel_bins": 128,
                  "max_num_mel_frames": frames, "instrument_group_source": None, "instrument_groups": ["Bass"]},
        "training": {"batch_size": 48},
        "validation": {},
    }  # fmt: skip
    return {"model_state_dict": state, "custom_config": custom}


@pytest.mark.parametrize("labels", [None, {0: "Bass", 1: "Brass", 2: "Organ"}], ids=["contrastive", "classifier"])
@pytest.mark.parametrize("frames", [1024, 160])
def test_published_checkpoint(tmp_path, frames, labels):
    """Its shape is read off its weights; it embeds 10 s as ASTForAudioClassification does, whose head is left away."""
    model = ast(frames, hidden_size=128, num_attention_heads=2, intermediate_size=200)
    torch.save(published(tmp_path / "model", model, frames, labels), tmp_path / "published.pt")
    encoder = AudioEncoder.load(tmp_path / "published.pt")
    clips = sounds(10 * SECOND, 3 * SECOND)
    padded = [np.pad(c, (0, 10 * SECOND - len(c))) for c in clips]
    features = ASTFeatureExtractor(max_length=frames)(padded, sampling_rate=SECOND, return_tensors="pt").input_values
    assert (encoder.dim, encoder.training, encoder.config.seconds) == (128, False, 10.0)
    np.testing.assert_allclose(encoder.embed(clips), hidden_mean(model, features), atol=1e-4)


def test_our_ast_checkpoint_has_the_published_form(tmp_path):
    """Prefix of ASTForAudioClassification, nested custom_config: others can read it."""
    encoder = AudioEncoder.create("ast-tiny", seconds=1.0)
    content = torch.load(encoder.save(tmp_path / "encoder.pt", step=7), weights_only=True)
    assert content.keys() == {"model_state_dict", "custom_config"}
    weights = published_weights(tmp_path / "model", ASTForAudioClassification(ASTConfig(**encoder.config.ast)))
    assert content["model_state_dict"].keys() == {k for k in weights if not k.startswith("classifier.")}
    custom = content["custom_config"]
    assert custom["model"] == {"base": "AST", "sr": 16000, "num_mel_bins": 128, "max_num_mel_frames": 112}
    assert (custom["cirlib"], custom["step"]) == (dataclasses.asdict(encoder.config), 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder.pt", "model"]


# Files that are no checkpoint


def test_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint .*none\.pt: train one with notebooks/02_train.ipynb$"):
        AudioEncoder.load(tmp_path / "none.pt")


FOREIGN = {  # attacks_models.py has more
    "a list": ([1, 2], "is no checkpoint of an encoder: it lacks model_state_dict"),
    "a state dict alone": ({"weight": torch.zeros(2)}, "is no checkpoint of an encoder: it lacks model_state_dict"),
    "no configuration": ({"model_state_dict": {}}, "lacks model_state_dict or custom_config"),
    "no weights": ({"model_state_dict": [1], "custom_config": {}}, "does not fit an encoder"),
    "no names": ({"model_state_dict": {1: torch.zeros(2)}, "custom_config": {}}, "does not fit an encoder"),
    "configuration is text": ({"model_state_dict": {}, "custom_config": "none"}, "does not fit an encoder"),
    "another model": ({"model_state_dict": {"a": torch.zeros(2)}, "custom_config": {"model": {}}}, "does not fit an encoder"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_checkpoint(tmp_path, content, message):
    """One sentence, on one line, that names the file."""
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match=rf"foreign\.pt .*{message}") as caught:
        AudioEncoder.load(tmp_path / "foreign.pt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_damaged_checkpoint(tmp_path):
    """Cut short, empty, or no such file at all."""
    whole = AudioEncoder(EncoderConfig(seconds=1.0, width=8, dim=16)).save(tmp_path / "whole.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"RIFF not a checkpoint"):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is damaged or no checkpoint of an encoder \(.*\)$"):
            AudioEncoder.load(tmp_path / "bad.pt")


# The head


def small(seed=0, **options):
    """A small encoder of clips of 1 s, maybe with a head, whose norm does something."""
    torch.manual_seed(seed)
    encoder = AudioEncoder.create("cnn", seconds=1.0, width=8, dim=16, **options).eval()
    with torch.no_grad():
        for weight in encoder.classifier.parameters() if encoder.classifier else []:
            weight += 0.1 * torch.randn_like(weight)
    return encoder


def test_head_is_a_norm_and_a_linear_layer():
    """Of the embedding, of a longer sound too."""
    encoder, clips = small(outputs=5), sounds(SECOND, SECOND)
    vectors = encoder.embed(clips).astype(float)
    mean, variance = vectors.mean(axis=1, keepdims=True), vectors.var(axis=1, keepdims=True)
    norm, dense = ([w.detach().numpy().astype(float) for w in part.parameters()] for part in encoder.classifier.children())
    expected = (norm[0] * (vectors - mean) / np.sqrt(variance + 1e-12) + norm[1]) @ dense[0].T + dense[1]
    np.testing.assert_allclose(encoder.embed(clips, outputs=True), expected, atol=1e-5)
    np.testing.assert_allclose(encoder(torch.from_numpy(np.stack(clips)), outputs=True).detach(), expected, atol=1e-5)
    long = [np.concatenate(clips)]
    outputs = encoder.classifier(torch.from_numpy(encoder.embed(long))).detach()
    np.testing.assert_allclose(encoder.embed(long, outputs=True), outputs, atol=1e-5)
    assert encoder.embed([], outputs=True).shape == (0, 5)


def test_embedding_does_not_depend_on_the_head():
    clips = sounds(SECOND, 3000)
    np.testing.assert_array_equal(small(outputs=5).embed(clips), small().embed(clips))
    waveforms = torch.from_numpy(np.stack(sounds(SECOND)))
    np.testing.assert_array_equal(small(outputs=5)(waveforms).detach(), small()(waveforms).detach())


@pytest.mark.parametrize("name", ["cnn", "ast-tiny"])
def test_gradients_of_the_head_reach_every_weight(name):
    """Those of the backbone too; the embedding alone has none to the head."""
    torch.manual_seed(0)
    encoder, waveforms = AudioEncoder.create(name, seconds=1.0, outputs=3), torch.from_numpy(np.stack(sounds(SECOND, SECOND)))
    encoder(waveforms).square().sum().backward()
    assert all(p.grad is None for p in encoder.classifier.parameters())
    encoder.zero_grad()
    encoder(waveforms, outputs=True).square().sum().backward()
    without = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert [k for k in without if not k.endswith("key.bias")] == []


def test_no_head(encoder):
    with pytest.raises(ValueError, match=r"^this encoder \(cnn\) has no output layer: it only embeds$"):
        encoder.embed(sounds(SECOND), outputs=True)


@pytest.mark.parametrize("name", ["cnn", "ast-tiny"])
@pytest.mark.parametrize("labels", [[], [f"instrument {k}" for k in range(12)][::-1]], ids=["no names", "names"])
def test_checkpoint_of_a_classifier(tmp_path, name, labels):
    """Gives back names in their order, outputs and embeddings; an output needs no name."""
    torch.manual_seed(0)
    encoder, clips = AudioEncoder.create(name, seconds=1.0, outputs=12).eval(), sounds(SECOND, 3 * SECOND // 2)
    encoder.labels = labels
    loaded = AudioEncoder.load(encoder.save(tmp_path / "classifier.pt"))
    assert (loaded.labels, loaded.config, loaded.training) == (labels, encoder.config, False)
    np.testing.assert_array_equal(loaded.embed(clips, outputs=True), encoder.embed(clips, outputs=True))
    np.testing.assert_array_equal(loaded.embed(clips), encoder.embed(clips))


def test_our_classifier_has_the_published_form(tmp_path):
    """Every name of ASTForAudioClassification, and the names of its outputs in custom_config."""
    encoder = AudioEncoder.create("ast-tiny", seconds=1.0, outputs=2)
    encoder.labels = ["Bass", "Organ"]
    content = torch.load(encoder.save(tmp_path / "encoder.pt"), weights_only=True)
    model = ASTForAudioClassification(ASTConfig(**encoder.config.ast, num_labels=2))
    weights = published_weights(tmp_path / "model", model)
    assert {k: v.shape for k, v in content["model_state_dict"].items()} == {k: v.shape for k, v in weights.items()}
    assert content["custom_config"]["dataset"]["id2label"] == {0: "Bass", 1: "Organ"}


@pytest.mark.parametrize("key", [int, str])
def test_published_classifier(tmp_path, key):
    """Its outputs are those of ASTForAudioClassification, named in the order of their numbers, not of their text or their place."""
    model, clips = ast(160, num_labels=12, hidden_size=64, num_attention_heads=1, intermediate_size=100), sounds(10 * SECOND, SECOND)
    names = {key(k): f"name {k}" for k in [11, 3, 10, 2, 0, 1, 4, 9, 5, 6, 7, 8]}
    torch.save(published(tmp_path / "model", model, 160, names), tmp_path / "published.pt")
    features = ASTFeatureExtractor(max_length=160)([np.pad(c, (0, 10 * SECOND - len(c))) for c in clips], SECOND, return_tensors="pt")
    with torch.inference_mode():
        expected = model(features.input_values).logits.numpy()
    encoder = AudioEncoder.load(tmp_path / "published.pt")
    assert encoder.labels == [f"name {k}" for k in range(12)]
    np.testing.assert_allclose(encoder.embed(clips, outputs=True), expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    again = AudioEncoder.load(encoder.save(tmp_path / "again.pt"))
    assert again.labels == encoder.labels
    np.testing.assert_allclose(again.embed(clips, outputs=True), expected, atol=1e-4)


def test_configuration_from_elsewhere_does_no_harm(tmp_path):
    """Places of another machine and plain data of any depth are neither looked up nor kept."""
    content = published(
        tmp_path / "model", ast(160, hidden_size=64, num_attention_heads=1, intermediate_size=100), 160, {0: "a", 1: "b", 2: "c"}
    )
    torch.save(content, tmp_path / "plain.pt")
    content["custom_config"]["dataset"] |= {"train_csv": "/home/someone/data/train.csv", "splits": {"a": [1, (2.5, None), {"b": b"c"}]}}
    content["custom_config"]["run"] |= {"local_logs_dir": "C:\\\\Users\\someone\\logs", "tags": {"x", "y"}, "seed": 1 << 80}
    content["custom_config"]["training"] |= {
        "scheduler": {"steps": [torch.arange(3), {1: {2: {3: True}}}]},
        "resume": "/scratch/someone/last.pt",
    }
    content["custom_config"] |= {"paths": ["/home/someone"], "someone": None, 7: {}}
    torch.save(content, tmp_path / "foreign.pt")
    plain, foreign = (AudioEncoder.load(tmp_path / f"{name}.pt") for name in ("plain", "foreign"))
    assert (plain.config, plain.labels) == (foreign.config, foreign.labels)
    np.testing.assert_array_equal(foreign.embed(sounds(SECOND), outputs=True), plain.embed(sounds(SECOND), outputs=True))
    kept = torch.load(foreign.save(tmp_path / "ours.pt"), weights_only=True)["custom_config"]
    assert "someone" not in str(kept)


HEADS = {  # what does not fit a head of 3 outputs
    "no head": lambda c: [c["model_state_dict"].pop(k) for k in list(c["model_state_dict"]) if k.startswith("classifier.")],
    "another size": lambda c: c["model_state_dict"].update({"classifier.dense.bias": torch.zeros(4)}),
    "names without numbers": lambda c: c["custom_config"].update(dataset={"id2label": {"Bass": 0}}),
}


@pytest.mark.parametrize("change", HEADS.values(), ids=HEADS)
def test_head_that_does_not_fit(tmp_path, change):
    content = torch.load(small(outputs=3).save(tmp_path / "encoder.pt"), weights_only=True)
    change(content)
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match=r"foreign\.pt does not fit an encoder") as caught:
        AudioEncoder.load(tmp_path / "foreign.pt")
    assert "\n" not in str(caught.value)


# Training goes on from a checkpoint


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A classifier of 3 outputs with names, in runs/best.pt of the project's home."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    (tmp_path / "runs").mkdir()
    encoder = small(outputs=3)
    encoder.labels = ["a", "b", "c"]
    encoder.save(tmp_path / "runs" / "best.pt")
    return encoder


@pytest.mark.parametrize("place", ["{home}/runs/best.pt", "runs/best.pt", "~/runs/best.pt"])
def test_create_from_a_checkpoint(trained, tmp_path, monkeypatch, place):
    """By its whole path, from the project's home, or from the user's; its head is a new one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    encoder, clips = AudioEncoder.create(place.format(home=tmp_path), seconds=1.0, outputs=3), sounds(SECOND)
    assert encoder.labels == [], "another task gives other names to as many outputs"
    assert np.abs(encoder.embed(clips, outputs=True) - trained.embed(clips, outputs=True)).max() > 1e-3
    np.testing.assert_array_equal(encoder.embed(clips), trained.embed(clips))


@pytest.mark.parametrize("outputs", [0, 2, 7])
def test_other_outputs_get_a_fresh_head_or_none(trained, tmp_path, outputs):
    """The backbone stays, the names go, and what is saved is what it is now."""
    encoder, clips = AudioEncoder.create("runs/best.pt", seconds=1.0, outputs=outputs), sounds(SECOND)
    for now in (encoder, AudioEncoder.load(encoder.save(tmp_path / "next.pt"))):
        assert (now.labels, now.config.outputs) == ([], outputs)
        np.testing.assert_array_equal(now.embed(clips), trained.embed(clips))
        if outputs:
            assert now.embed(clips, outputs=True).shape == (1, outputs)
        else:
            assert now.classifier is None


def test_pretrained_folder_gets_a_head(hub_folder):
    folder, clips, expected = hub_folder
    encoder = AudioEncoder.create(str(folder), seconds=1.0, outputs=4)
    assert encoder.embed(clips, outputs=True).shape == (2, 4)
    np.testing.assert_allclose(encoder.embed(clips), expected, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.5, 2.5])
def test_other_clip_length_than_the_checkpoint(trained, seconds):
    with pytest.raises(ValueError, match=rf"^runs/best\.pt was trained on clips of 1 s: set seconds to that, not to {seconds}$"):
        AudioEncoder.create("runs/best.pt", seconds=seconds)


def test_create_from_no_checkpoint(trained):
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint .*none\.pt: train one"):
        AudioEncoder.create("runs/none.pt", seconds=1.0)


def test_metric_of_a_trained_encoder(tmp_path):
    """By its run, else by the name of its loss in the name of the file."""
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8)
    files = [tmp_path / "run" / "best.pt", tmp_path / "ICASSP26_Triplet-full_bs48.pt", tmp_path / "other.pt"]
    for file in files:
        encoder.save(file)
    write_config(tmp_path / "run", TrainConfig(loss="triplet"), "key")
    loaded, _, metrics = zip(*(load_trained(str(file)) for file in files), strict=True)
    assert metrics == ("l2", "l2", "cosine") and {digest(e) for e in loaded} == {digest(encoder)}
    write_config(tmp_path / "run", TrainConfig(loss="infonce"), "key")
    assert load_trained(str(files[0]))[2] == "cosine"
    with pytest.raises(ValueError, match="cnn has random weights: name a trained encoder"):
        load_trained("cnn")


def test_digest_depends_on_all_that_changes_an_embedding():
    """Weights, clip length and the scale of the front end."""
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8)
    digests = {digest(encoder)}
    for name, value in (("seconds", 1.0), ("mean", 0.0), ("std", 1.0)):
        other = AudioEncoder(dataclasses.replace(encoder.config, **{name: value}))
        other.load_state_dict(encoder.state_dict())
        digests.add(digest(other))
    with torch.no_grad():
        next(encoder.parameters()).mul_(2)
    assert len(digests | {digest(encoder)}) == 5
