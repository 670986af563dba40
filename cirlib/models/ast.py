"""The Audio Spectrogram Transformer of the paper (section 3): shapes, and names of weights in published files."""

import torch
from torch import nn

from ..audio.log_mel import BANDS

AST_SHAPES = {  # hidden size, layers, heads
    "ast-base": (768, 12, 12),
    "ast-small": (384, 12, 6),
    "ast-tiny": (192, 6, 3),
}
AST_DETAILS = ("hidden_act", "layer_norm_eps", "qkv_bias")  # of an AST, beside its sizes
AST_PREFIX = "audio_spectrogram_transformer."  # parameter names of transformers.ASTForAudioClassification
AST_NAMES = {  # names in transformers 5 -> in published files (transformers 4)
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def ast_shape(name: str, frames: int) -> dict:
    """Return the fields of transformers.ASTConfig of a preset with an input of `frames` frames of 10 ms."""
    hidden, layers, heads = AST_SHAPES[name]
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * hidden,
        "patch_size": 16, "time_stride": 12, "frequency_stride": 12, "max_length": frames, "num_mel_bins": BANDS,
    }  # fmt: skip


def stored_shape(weights: dict[str, torch.Tensor], frames: int) -> dict:
    """Return the shape of an AST from its weights by their published names, for files without one."""
    position = weights["embeddings.position_embeddings"]  # (1, patches + 2, hidden)
    layers = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.layer."))
    shape = ast_shape("ast-base", frames)
    shape |= {"hidden_size": position.shape[2], "num_hidden_layers": layers, "num_attention_heads": position.shape[2] // 64}
    return shape | {"intermediate_size": weights["encoder.layer.0.intermediate.dense.weight"].shape[0]}


def make_ast(shape: dict) -> nn.Module:
    """Return a transformers.ASTModel with random weights."""
    with torch.device("cpu"):  # also while a caller is on meta: what this imports keeps tensors of its own
        from transformers import ASTConfig, ASTModel

    return ASTModel(ASTConfig(**shape))


def published_name(name: str) -> str:
    """Return the name of an AST's weight in published files; names of other backbones stay as they are."""
    if name.startswith("layers."):
        name = "encoder.layer." + name.removeprefix("layers.")
    for ours, theirs in AST_NAMES.items():
        name = name.replace(ours, theirs)
    return name
