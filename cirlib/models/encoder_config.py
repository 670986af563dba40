"""The shape of an encoder: all that is needed to build it before its weights are loaded."""

import dataclasses

from ..audio.io import SHORTEST_S
from ..audio.log_mel import BANDS, MEAN, STD
from ..common.settings import choose, from_dict
from .ast import AST_DETAILS, AST_SHAPES, stored_shape

CNN_SHAPES = {"cnn": {}, "cnn-deep": {"blocks": 1}}
ENCODERS = (*CNN_SHAPES, *AST_SHAPES)  # presets, with random weights
LARGEST = {  # sizes that a stored encoder may ask for
    "width": 1024, "dim": 1 << 16, "blocks": 16, "hidden_size": 4096, "num_hidden_layers": 64, "num_attention_heads": 64,
    "intermediate_size": 1 << 14, "patch_size": 64, "time_stride": 64, "frequency_stride": 64, "max_length": 1 << 14, "num_mel_bins": BANDS,
}  # fmt: skip
LONGEST_S, MOST_OUTPUTS, MOST_HEADS = 120, 1 << 20, 256
METRICS = ("cosine", "l2")


@dataclasses.dataclass
class EncoderConfig:
    """Shape of an encoder. Raises ValueError for sizes that no machine holds."""

    name: str = "cnn"
    seconds: float = 10.0  # clip length; shorter sounds are zero-padded; windows.py cuts longer ones
    mean: float = MEAN  # of the log-mel
    std: float = STD
    width: int = 32  # channels of the first stage of the cnn
    dim: int = 256  # embedding size of the cnn
    blocks: int = 0  # residual convolutions in each of the last two stages of the cnn
    outputs: int = 0  # of the output layer (classes, or embeddings of several stems); 0: none
    heads: tuple[str, ...] = ()  # families with a head of their own (heads.py); (): one vector for all
    ast: dict = dataclasses.field(default_factory=dict)  # shape of an AST, as in its config.json
    metric: str = ""  # cosine or l2: the distance that it was trained with; empty: unknown

    def __post_init__(self):
        sizes = {"width": self.width, "dim": self.dim, "blocks": self.blocks, **{k: v for k, v in self.ast.items() if k not in AST_DETAILS}}
        for name, value in sizes.items():
            most = LARGEST[choose("size of an encoder", name, LARGEST)]
            least = int(name != "blocks")
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {value!r:.100}")
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise ValueError(f"the clip length of an encoder must be {SHORTEST_S:g} to {LONGEST_S} s, got {self.seconds}")
        if not abs(self.mean) < 1e3 or not 1e-3 < self.std < 1e3:
            raise ValueError(f"mean and std must be those of a log-mel, got {self.mean} and {self.std}")
        if not 0 <= self.outputs <= MOST_OUTPUTS or len(self.heads) > MOST_HEADS:
            raise ValueError(f"outputs must be 0 to {MOST_OUTPUTS}, heads {MOST_HEADS} at most")
        choose("metric of an encoder", self.metric, ("", *METRICS))


def stored_config(custom: dict, state: dict, output_layer: dict) -> EncoderConfig:
    """Return the configuration of a stored encoder; that of a published AST follows from its weights."""
    if "cirlib" in custom:
        return from_dict(EncoderConfig, custom["cirlib"])
    shape = stored_shape(state, custom["model"].get("max_num_mel_frames", 1024))
    outputs = len(output_layer["dense.weight"]) if "dense.weight" in output_layer else 0
    return EncoderConfig(name="published", seconds=10.0, outputs=outputs, ast=shape)
