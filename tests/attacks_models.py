"""Attacks through checkpoints and files beside them: code in pickles, huge sizes, numbers that are not finite."""

import json
import pickle
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from conftest import build_bank, sound
from hostile import Scene, attack, attacks, bounded, quiet, refused

from cirlib.models.encoder import AudioEncoder
from cirlib.reporting.examples import write_examples
from cirlib.search.library import Library
from cirlib.training.loop import TrainingError, _Trainer


def content(**config) -> dict:
    """Return a valid checkpoint of a small encoder, with changed values of its configuration."""
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=2, dim=8)
    custom = {"cirlib": {"name": "cnn", "seconds": 0.5, "width": 2, "dim": 8, **config}}
    return {"model_state_dict": encoder.backbone.state_dict(), "custom_config": custom}


def ast(**shape) -> dict:
    """Return a checkpoint with the configuration of an AST."""
    config = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768, "patch_size": 16}
    config |= {"time_stride": 12, "frequency_stride": 12, "max_length": 64, "num_mel_bins": 128, **shape}
    return content(name="ast-tiny", ast=config)


def load(scene: Scene, what, words: str, write=torch.save, load=AudioEncoder.load) -> None:
    """Assert that a file with this content is refused."""
    with open(scene.inside / "x.pt", "wb") as file:
        write(what, file)
    with bounded(), refused(words):
        load(scene.inside / "x.pt")


for write in (torch.save, pickle.dump):

    @attack("checkpoint", f"code in its configuration, {write.__module__}")
    def _code(scene, write=write):
        load(scene, {**content(), "custom_config": {"x": scene.evil()}}, "damaged or no checkpoint of an encoder", write)

    @attack("checkpoint", f"code in place of weights, {write.__module__}")
    def _code_for_weights(scene, write=write):
        load(scene, {**content(), "model_state_dict": scene.evil()}, "damaged or no checkpoint of an encoder", write)

    @attack("checkpoint", f"code in the state of an interrupted run, {write.__module__}")
    def _code_of_state(scene, write=write):
        with open(scene.inside / "last.pt", "wb") as file:
            write({"model": {}, "step": scene.evil()}, file)
        resume(scene)


def resume(scene: Scene) -> None:
    """Resume a run from the state in its folder."""
    trainer = object.__new__(_Trainer)
    trainer.folder, trainer.accelerator = scene.inside, SimpleNamespace(device=torch.device("cpu"), is_main_process=True)
    trainer.optimiser = torch.nn.Linear(2, 2)
    scene.patch.setattr(_Trainer, "module", torch.nn.Linear(2, 2), raising=False)
    with refused("last.pt is damaged or of another version", (TrainingError,)):
        trainer._restore()


@attack("checkpoint", "an empty state of a run")
def _other_state(scene):
    torch.save({"model": {}}, scene.inside / "last.pt")
    resume(scene)


@attack("checkpoint", "a pickle as weights of a pretrained folder")
def _code_of_hub(scene):
    config = {"model_type": "audio-spectrogram-transformer", "hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3}
    (scene.inside / "config.json").write_text(json.dumps({**config, "intermediate_size": 64, "max_length": 112}))
    torch.save({"x": scene.evil()}, scene.inside / "pytorch_model.bin")
    with refused("no AST could be loaded"):
        AudioEncoder.create(str(scene.inside), seconds=1.0)


@attack("checkpoint", "code that a pretrained folder brings along")
def _code_of_folder(scene):
    (scene.inside / "evil.py").write_text(f"open({str(scene.canary)!r}, 'w')\nclass C: pass\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.C"}}
    (scene.inside / "config.json").write_text(json.dumps(config))
    with refused("no AST could be loaded"):
        AudioEncoder.create(str(scene.inside), seconds=1.0)


@attack("checkpoint", "a pretrained folder that asks for terabytes")
def _size_of_folder(scene):
    config = {"model_type": "audio-spectrogram-transformer", "hidden_size": 10**9, "num_hidden_layers": 10**9}
    (scene.inside / "config.json").write_text(json.dumps(config))
    with bounded(), refused("hidden_size must be 1 to 4096"):
        AudioEncoder.create(str(scene.inside), seconds=1.0)


@attack("checkpoint", "few bytes that unpack to many")
def _packed(scene):
    torch.save(content(), scene.inside / "good.pt")
    with zipfile.ZipFile(scene.inside / "good.pt") as good, zipfile.ZipFile(scene.inside / "x.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name) + (bytes(200 << 20) if name.endswith("data/0") else b""))
    assert (scene.inside / "x.pt").stat().st_size < 1 << 20
    with bounded(), refused("it would become larger when unpacked"):
        AudioEncoder.load(scene.inside / "x.pt")


class _Larger:
    """A tensor that is larger than its storage."""

    def __init__(self, size: int, stride: int):
        self.layout = size, stride

    def __reduce__(self):
        size, stride = self.layout
        return torch._utils._rebuild_tensor_v2, (torch.zeros(4).storage(), 0, (size,), (stride,), False, OrderedDict())


@attack("checkpoint", "a weight that is larger than what is stored of it")
def _larger(scene):
    load(scene, {**content(), "model_state_dict": {"stem.0.weight": _Larger(10**11, 1)}}, "damaged or no checkpoint of an encoder")


@attack("checkpoint", "one number that stands for 100 billion")
def _repeated(scene):
    load(scene, {**content(), "model_state_dict": {"stem.0.weight": _Larger(10**11, 0)}}, "is not finite, or no plain tensor")


SIZES = {
    "hidden_size": 10**9,
    "num_hidden_layers": 10**9,
    "intermediate_size": 10**12,
    "max_length": 10**9,
    "patch_size": 0,
    "time_stride": -1,
}


@attacks("checkpoint", {f"{name} is {value}": (name, value) for name, value in SIZES.items()}, name="an AST whose {}")
def _ast(scene, name, value):
    load(scene, ast(**{name: value}), f"does not fit an encoder of this version (ValueError: {name} must be 1 to")


@attack("checkpoint", "an AST of allowed size without weights")
def _ast_within(scene):
    load(scene, ast(hidden_size=4096, num_attention_heads=64, intermediate_size=16384, num_hidden_layers=64), "does not fit an encoder")


@attack("checkpoint", "an AST with an attention kernel to download")
def _ast_code(scene):
    load(scene, ast(_attn_implementation="someone/kernel"), "unknown size of an encoder '_attn_implementation'")


ODD = {
    "width": (10**9, "width must be 1 to"), "dim": (-5, "dim must be 1 to"), "outputs": (10**12, "outputs must be"),
    "heads": ([f"p{i}" for i in range(10**4)], "heads"), "seconds": (1e9, "the clip length"), "mean": (float("nan"), "mean and std"),
    "std": (0.0, "mean and std"), "of_the_future": (1, "unknown EncoderConfig parameter 'of_the_future'"), "ast": ("x", "must be dict"),
}  # fmt: skip


@attacks("checkpoint", {name: (name, *rest) for name, rest in ODD.items()}, name="an encoder whose {} is odd")
def _cnn(scene, name, value, words):
    load(scene, content(**{name: value}), words)


@attack("checkpoint", "of another shape")
def _shape(scene):
    load(scene, content(width=4), "does not fit an encoder")


@attack("checkpoint", "weights that are not finite")
def _not_finite(scene):
    what = content()
    what["model_state_dict"]["head.bias"] = torch.full((8,), float("nan"))
    load(scene, what, "weight 'head.bias' is not finite")


@attack("checkpoint", "finite weights whose embeddings are not")
def _overflow(scene):
    what = content()
    what["model_state_dict"]["stem.0.bias"].fill_(1e30)
    what["model_state_dict"]["head.weight"].fill_(3e38)
    torch.save(what, scene.inside / "x.pt")
    with refused("are not finite"):
        AudioEncoder.load(scene.inside / "x.pt").embed([quiet(0.5).astype(np.float32)])


@attack("checkpoint", "an encoder of a library that was replaced by code")
def _library(scene):
    folder = scene.inside / "lib"
    build_bank(scene.inside / "bank", [sound("a/b/c", quiet())])
    Library.build(scene.inside / "bank", folder, AudioEncoder.create("cnn", seconds=0.5, width=2, dim=8).eval())
    torch.save({"x": scene.evil()}, folder / "encoder.pt")
    with refused("damaged or no checkpoint of an encoder"):
        Library.open(folder).search(quiet())


@attack("embeddings.npz", "objects in arrays")
def _objects(scene):
    np.savez(scene.inside / "embeddings.npz", mixtures=np.array([scene.evil()], object), gallery=np.zeros((1, 2)), heads=np.array([]))
    examples(scene)


@attack("embeddings.npz", "a pickle")
def _pickled(scene):
    with open(scene.inside / "embeddings.npz", "wb") as file:
        pickle.dump(scene.evil(), file)
    examples(scene)


def examples(scene: Scene) -> None:
    """Draw a page of a run with these embeddings."""
    build_bank(scene.inside / "bank", [sound("a/b/c", quiet())])
    (scene.inside / "config.yaml").write_text(f"key: k\nconfig: {{preset: p, bank: ['{scene.inside / 'bank'}']}}\n")
    pd.DataFrame({"query": [0], "rank": [1]}).to_parquet(scene.inside / "mixture_ranks.parquet")
    with refused("is damaged"):
        write_examples(scene.inside, scene.inside / "page.html", title="t", intro="i")
