"""Export an encoder as one ONNX file that runs without torch: waveforms (B, T) at 16 kHz, of its clip length -> embeddings (B, D).

The file is small: filters of the front end are computed when it is loaded, and weights that float16 holds exactly, as those of a released
encoder, are stored so.

python -m cirlib.models.onnx ENCODER FILE.onnx
"""

import copy
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..audio.log_mel import EPSILON, FFT, HOP, PREEMPHASIS, RATE, WINDOW
from ..common.command_line import arguments, clean_exit
from ..common.files import write_atomic
from ..common.packages import require
from ..common.paths import short
from .encoder import AudioEncoder
from .heads import head_names

OPSET = 18
BINS = FFT // 2 + 1
LARGE = 1000  # numbers in a weight that is worth a cast


class _Exportable(nn.Module):
    """Wrap an encoder with a front end of ONNX operations: its linear part, Fourier transform included, is one convolution.

    Batch norms become a scale and a shift, else the exporter would change the weights of convolutions.
    """

    def __init__(self, encoder: AudioEncoder):
        super().__init__()
        self.frontend, self.encoder = encoder.frontend, encoder
        self.register_buffer("kernel", torch.rand(2 * BINS, 1, WINDOW))  # _write_kernel replaces it
        self.register_buffer("mel", encoder.frontend.mel[::2].clone())  # which has each bin twice, for real and imaginary part
        for name, module in list(encoder.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                encoder.set_submodule(name, _Affine(module))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        front = self.frontend
        x = F.conv1d(waveforms[:, None], self.kernel, stride=HOP)[:, :, : front.frames]  # (B, 2 * 257, n)
        squares = x.square().transpose(1, 2)  # (B, n, 2 * 257)
        power = squares[..., :BINS] + squares[..., BINS:]
        logmel = F.pad((power @ self.mel).clamp_min(EPSILON).log(), (0, 0, 0, front.frames - power.shape[1]))
        return self.encoder.encode((logmel - front.mean) / (2 * front.std))


class _Affine(nn.Module):
    """A batch norm that does not train."""

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", (norm.bias.detach() - norm.running_mean * scale)[:, None, None])

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps * self.scale + self.shift


def _write_kernel(graph, window: np.ndarray) -> None:
    """Compute the initializer "kernel" (2 * 257, 1, 400) in the graph: mean removal, pre-emphasis, window and Fourier transform of a frame.

    cos and sin of each bin, times the window; what pre-emphasis and mean removal do to frames is done to these rows instead.
    """
    from onnx import TensorProto, helper, numpy_helper

    index = next(i for i, tensor in enumerate(graph.initializer) if tensor.name == "kernel")
    del graph.initializer[index]
    given = {
        "bins": np.arange(BINS)[:, None], "samples": np.arange(WINDOW), "period": np.array(FFT), "window": window, "axis": np.array([1]),
        "step": np.array(2 * np.pi / FFT, np.float32), "emphasis": np.array(PREEMPHASIS, np.float32), "one": np.array([1]),
        "end": np.array([WINDOW]), "after": np.array([0, 0, 0, 1]),
    }  # fmt: skip
    nodes = [
        ("Mul", "bins samples", "turns"), ("Mod", "turns period", "phases"), ("Cast", "phases", "steps", {"to": TensorProto.FLOAT}),
        ("Mul", "steps step", "angles"), ("Cos", "angles", "cos"), ("Sin", "angles", "sin"), ("Concat", "cos sin", "waves", {"axis": 0}),
        ("Mul", "waves window", "rows"), ("Slice", "rows one end axis", "later"), ("Pad", "later after", "next"),
        ("Mul", "next emphasis", "weighted"), ("Sub", "rows weighted", "emphasised"), ("ReduceMean", "emphasised axis", "means"),
        ("Sub", "emphasised means", "centred"), ("Unsqueeze", "centred axis", "kernel"),
    ]  # fmt: skip

    def name(word: str) -> str:
        return word if word == "kernel" else f"kernel.{word}"

    graph.initializer.extend(numpy_helper.from_array(value, name(word)) for word, value in given.items())
    for place, (kind, inputs, output, *options) in enumerate(nodes):
        graph.node.insert(place, helper.make_node(kind, [name(word) for word in inputs.split()], [name(output)], **dict(*options)))


def export_onnx(encoder: AudioEncoder, path: str | Path) -> Path:
    """Write `path`; inputs "waveforms" (B, T), outputs "embeddings" (B, D), any B. Its metadata holds sample_rate,
    seconds and the names of the heads, if any.

    Gives the embeddings of `AudioEncoder.embed` for clips of T samples (zero-padded by the caller). Raises ValueError without onnx.
    """
    require("ONNX files", "onnx", "onnxscript")
    import onnx

    module = _Exportable(copy.deepcopy(encoder).cpu()).eval()
    example = torch.zeros(2, round(encoder.config.seconds * RATE))
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # warns of torchvision, which is not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["waveforms"], output_names=["embeddings"], dynamic_shapes=({0: "batch"},),
        )  # fmt: skip
    metadata = {"sample_rate": str(RATE), "seconds": json.dumps(encoder.config.seconds), "encoder": encoder.config.name}
    if encoder.config.heads:
        metadata["heads"] = json.dumps(head_names(encoder.config.heads))  # in this order, of equal size
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.functions):
        part.ClearField("metadata_props")  # they hold paths of this machine
    onnx.helper.set_model_props(model, metadata)
    _write_kernel(model.graph, encoder.frontend.window.cpu().numpy())
    _halve(model.graph)
    write_atomic(Path(path), lambda part: onnx.save(model, part))
    return Path(path)


def _halve(graph) -> None:
    """Store weights that float16 holds exactly, as those of a released encoder, as float16 with a cast: the same numbers, half the size."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in graph.initializer:
        values, name = numpy_helper.to_array(tensor), tensor.name
        if values.dtype == np.float32 and values.size >= LARGE and (values.astype(np.float16) == values).all():
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            graph.node.insert(0, helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))


def main() -> None:
    """python -m cirlib.models.onnx ENCODER FILE.onnx"""
    checkpoint, file = arguments(main.__doc__, 2, 2)
    with clean_exit():
        path = export_onnx(AudioEncoder.load(checkpoint), file)
        print(f"{short(path)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
