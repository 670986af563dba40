"""Export an encoder as one ONNX file that runs without torch: waveforms (B, T) at 16 kHz, of its clip length -> embeddings (B, D).

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

from ..audio.log_mel import EPSILON, FFT, HOP, PREEMPHASIS, RATE, WINDOW, LogMel
from ..common.command_line import arguments, clean_exit
from ..common.files import write_atomic
from ..common.packages import require
from ..common.paths import short
from .encoder import AudioEncoder
from .heads import head_names

OPSET = 18
LARGE = 1000  # numbers in a weight that is worth a cast


class _Exportable(nn.Module):
    """Wrap an encoder with a front end of ONNX operations: its linear part, Fourier transform included, is one convolution."""

    def __init__(self, encoder: AudioEncoder):
        super().__init__()
        self.frontend, self.encoder = encoder.frontend, encoder
        self.register_buffer("kernel", _kernel(encoder.frontend))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        front = self.frontend
        x = F.conv1d(waveforms[:, None], self.kernel, stride=HOP)[:, :, : front.frames]  # (B, 2 * 257, n)
        squares = x.square().transpose(1, 2)  # (B, n, 2 * 257)
        logmel = F.pad((squares @ front.mel).clamp_min(EPSILON).log(), (0, 0, 0, front.frames - squares.shape[1]))
        return self.encoder.encode((logmel - front.mean) / (2 * front.std))


def _kernel(frontend: LogMel) -> torch.Tensor:
    """Return mean removal, pre-emphasis, window and FFT of a frame as filters (2 * 257, 1, 400), real and imaginary part in turn."""
    frames = torch.eye(WINDOW, dtype=torch.float64)  # what becomes of each sample of a frame
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - PREEMPHASIS * torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    spectrum = torch.fft.rfft(frames * frontend.window.double().cpu(), FFT)  # (400, 257)
    return torch.view_as_real(spectrum).flatten(1).T[:, None].float().contiguous()


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
