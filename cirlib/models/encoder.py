"""AudioEncoder: log-mel front end + backbone -> one embedding per clip, for single sounds and mixtures alike.

Backbones: `ast-base` (the paper's shape), `ast-small`, `ast-tiny`, `cnn` (learns fast on a CPU), or pretrained AST
weights by hub id or local folder, e.g. MIT/ast-finetuned-audioset-12-12-0.447 (paper section 3).
An encoder may carry a head (layer norm and linear layer) for classification or for several embeddings per mixture.
Checkpoints: checkpoints.py.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..audio.io import LOUDEST, SHORTEST_S
from ..audio.log_mel import BANDS, MEAN, RATE, STD, LogMel, frames_for
from ..common.files import one_line
from ..common.paths import DATA, at_home, display_name, short
from ..common.settings import choose, from_dict
from .ast import AST_DETAILS, AST_PREFIX, AST_SHAPES, ast_shape, make_ast, published_name, stored_shape
from .checkpoints import read_checkpoint, write_checkpoint
from .cnn import ConvNet
from .heads import PartReadout, part_names

ENCODERS = ("cnn", *AST_SHAPES)
LARGEST = {  # sizes that a stored encoder may ask for
    "width": 1024, "dim": 1 << 16, "hidden_size": 4096, "num_hidden_layers": 64, "num_attention_heads": 64, "intermediate_size": 1 << 14,
    "patch_size": 64, "time_stride": 64, "frequency_stride": 64, "max_length": 1 << 14, "num_mel_bins": BANDS,
}  # fmt: skip
LONGEST_S, MOST_OUTPUTS, MOST_PARTS = 120, 1 << 20, 256


@dataclasses.dataclass
class EncoderConfig:
    """All that is needed to build an encoder again before its weights are loaded."""

    name: str = "cnn"
    seconds: float = 10.0  # clip length; shorter sounds are zero-padded, longer ones embedded in windows
    mean: float = MEAN  # of the log-mel
    std: float = STD
    width: int = 32  # channels of the first stage of the cnn
    dim: int = 256  # embedding size of the cnn
    outputs: int = 0  # of the head; 0: no head
    parts: tuple[str, ...] = ()  # families that the embedding has a part for (readout.py); (): it has no parts
    ast: dict = dataclasses.field(default_factory=dict)  # shape of an AST, as in its config.json

    def __post_init__(self):
        """ValueError for an encoder that no machine holds, or that transformers would build from more than a shape."""
        sizes = {"width": self.width, "dim": self.dim, **{k: v for k, v in self.ast.items() if k not in AST_DETAILS}}
        for name, value in sizes.items():
            most = LARGEST[choose("size of an encoder", name, LARGEST)]
            if type(value) is not int or not 0 < value <= most:
                raise ValueError(f"{name} must be 1 to {most}, got {value!r:.100}")
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise ValueError(f"encoders hear clips of {SHORTEST_S:g} to {LONGEST_S} s, got {self.seconds}")
        if not abs(self.mean) < 1e3 or not 1e-3 < self.std < 1e3:
            raise ValueError(f"mean and std must be those of a log-mel, got {self.mean} and {self.std}")
        if not 0 <= self.outputs <= MOST_OUTPUTS or len(self.parts) > MOST_PARTS:
            raise ValueError(f"outputs must be 0 to {MOST_OUTPUTS}, parts {MOST_PARTS} at most")


class AudioEncoder(nn.Module):
    """Waveforms (B, T) at 16 kHz -> embeddings (B, D), not normalised."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        frames = config.ast.get("max_length", frames_for(config.seconds))
        self.frontend = LogMel(frames, config.mean, config.std)
        if config.name == "cnn":
            self.backbone = ConvNet(config.width, config.dim)
            shape = self.backbone.channels, BANDS // 16, self.backbone.head.in_features
        else:
            self.backbone = make_ast(config.ast)
            shape = config.ast["hidden_size"], 1, config.ast["hidden_size"]
        self.readout = PartReadout(*shape, len(config.parts), self.part_dim) if config.parts else None
        self.classifier = Head(self.dim, config.outputs) if config.outputs else None
        self.labels: list[str] = []  # names of the outputs of a classifier

    @classmethod
    def create(cls, name: str, seconds: float = 10.0, **options) -> "AudioEncoder":
        """A new encoder by preset name, or a trained one: an AST by hub id ("owner/name") or local folder in hub format, a checkpoint
        (.pt, relative to the project's home), or one that W&B keeps ("wandb:entity/project/name:best").

        `options` are fields of EncoderConfig (width, dim, outputs, parts). Raises ValueError or OSError that says what is valid.
        """
        if name in ENCODERS:
            shape = ast_shape(name, frames_for(seconds)) if name in AST_SHAPES else {}
            return cls(EncoderConfig(name=name, seconds=seconds, ast=shape, **options))
        if name.startswith("wandb:") or name.endswith(".pt"):
            encoder = cls.load(origin(name))
        elif "/" not in name and not _local(name).is_dir():
            choose("encoder", name, [*ENCODERS, "owner/name of a hub model", "path of a local folder or of a checkpoint (.pt)"])
        else:
            encoder = cls._pretrained(str(_local(name)) if _local(name).is_dir() else name, seconds)
        if encoder.config.seconds != seconds:
            raise ValueError(f"{name} was trained on clips of {encoder.config.seconds:g} s: set seconds to that, not to {seconds:g}")
        outputs, parts = options.get("outputs", 0), tuple(options.get("parts", ()))
        if parts != encoder.config.parts:
            trained, encoder = encoder, cls(dataclasses.replace(encoder.config, outputs=0, parts=parts))
            encoder.backbone.load_state_dict(trained.backbone.state_dict())
        encoder.config = dataclasses.replace(encoder.config, outputs=outputs)
        encoder.classifier, encoder.labels = Head(encoder.dim, outputs) if outputs else None, []  # a stored head has other labels
        return encoder

    @classmethod
    def _pretrained(cls, name: str, seconds: float) -> "AudioEncoder":
        from transformers import ASTFeatureExtractor, ASTModel, AutoConfig

        if runs := sorted([*Path(name).glob("best.pt"), *Path(name).glob("seed*/best.pt")]):
            raise ValueError(f"{short(Path(name))} is the folder of a run, not a pretrained AST: name its checkpoint, {short(runs[0])}")
        if Path(name).is_file():
            raise ValueError(f"{display_name(name)} is no encoder: name a checkpoint (.pt), a hub id or the folder of a pretrained AST")
        try:
            told = AutoConfig.from_pretrained(name, trust_remote_code=False)
            if told.model_type != "audio-spectrogram-transformer":
                raise ValueError(f"it is a {told.model_type}")
            shape = {k: v for k, v in told.to_dict().items() if k in {*ast_shape("ast-tiny", 16), *AST_DETAILS}}
            EncoderConfig(name=name, ast=shape)  # of a size that a machine holds
            backbone = ASTModel.from_pretrained(name)
        except Exception as error:  # transformers raises whatever the files lead to
            raise OSError(f"no AST could be loaded from {display_name(name)!r}, as hub id or local folder ({one_line(error)})") from None
        try:
            extractor = ASTFeatureExtractor.from_pretrained(name)
        except OSError:  # weights without a preprocessor_config.json: AudioSet's defaults
            extractor = ASTFeatureExtractor()
        if frames_for(seconds) > backbone.config.max_length:
            raise ValueError(
                f"{name} hears {backbone.config.max_length} frames of 10 ms, clips of {seconds:g} s are longer: set seconds to less"
            )
        label = name if "/" in name and not Path(name).exists() else Path(name).name
        encoder = cls(EncoderConfig(name=label, seconds=seconds, mean=extractor.mean, std=extractor.std, ast=shape))
        encoder.backbone.load_state_dict(backbone.state_dict())
        return encoder.eval()

    @property
    def dim(self) -> int:
        """Embedding size D, all parts together."""
        return self.part_dim * max(1, len(part_names(self.config.parts)))

    @property
    def part_dim(self) -> int:
        """Size of one part of the embedding, of all of it where it has no parts."""
        return self.config.dim if self.config.name == "cnn" else self.config.ast["hidden_size"]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, waveforms: torch.Tensor, head: bool = False) -> torch.Tensor:
        """Embeddings (B, D) with gradients, or what the head makes of them (B, outputs).

        AST: mean of the class and distillation tokens after the last layer norm (paper section 3). With parts (readout.py): this
        embedding and the other parts in a row, each of length 1.
        """
        vectors = self.encode(self.frontend(waveforms))
        return self.classifier(vectors) if head else vectors

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Log-mel (B, frames, 128) -> embeddings (B, D)."""
        if self.readout is None:
            out = self.backbone(features)
            return out if isinstance(out, torch.Tensor) else out.pooler_output
        if self.config.name == "cnn":
            maps = self.backbone.maps(features)  # (B, C, T, bands)
            pooled = self.backbone.pool(maps)
            whole, maps = self.backbone.head(pooled), maps.permute(0, 3, 2, 1)
        else:
            out = self.backbone(features)
            whole = pooled = out.pooler_output
            maps = out.last_hidden_state[:, None, 2:]  # patches, without class and distillation
        return torch.cat([nn.functional.normalize(whole.float()), self.readout(maps, pooled).flatten(1)], dim=1)

    @torch.inference_mode()
    def embed(
        self, waveforms: Sequence[np.ndarray] | np.ndarray, sample_rate: int = RATE, batch: int = 32, head: bool = False
    ) -> np.ndarray:
        """Embeddings (B, D) float32 of a list of mono sounds or of (B, T), any length and rate, no gradients.

        A sound longer than the clip length is cut into windows, and their embeddings are averaged by their duration.
        With `head` its outputs (B, outputs) instead. Raises ValueError for sounds that are empty, not mono or not finite, and where the
        weights give no finite embedding.
        """
        if head and self.classifier is None:
            raise ValueError(f"this encoder ({self.config.name}) has no head: it was trained to embed only")
        samples = round(self.config.seconds * RATE)
        windows, owner, weight = [], [], []
        for i, sound in enumerate(waveforms):
            sound = _checked(sound, i, sample_rate)
            for start in range(0, len(sound), samples):
                part = sound[start : start + samples]
                windows.append(part)
                owner.append(i)
                weight.append(len(part) / len(sound))
        size = self.config.outputs if head else self.dim
        was_training, out = self.training, np.zeros((len(waveforms), size), np.float32)
        self.eval()
        for start in range(0, len(windows), batch):
            block = torch.stack([nn.functional.pad(w, (0, samples - len(w))) for w in windows[start : start + batch]])
            vectors = AudioEncoder.forward(self, block.to(self.device), head).cpu().numpy()  # float32, also inside mixed precision
            for k, vector in enumerate(vectors, start):
                out[owner[k]] += np.float32(weight[k]) * vector
        self.train(was_training)
        if not np.isfinite(out).all():
            raise ValueError(f"this encoder ({self.config.name}) gives embeddings that are not finite: its weights are damaged or diverged")
        return out

    def save(self, path: Path, **extra) -> Path:
        """Write a checkpoint atomically, in the form of the published ones; `extra` is plain data kept in custom_config."""
        prefix = "" if self.config.name == "cnn" else AST_PREFIX
        state = {prefix + published_name(k): v for k, v in self.backbone.state_dict().items()}
        if self.readout is not None:
            state |= {f"readout.{k}": v for k, v in self.readout.state_dict().items()}
        if self.classifier is not None:
            state |= {f"classifier.{k}": v for k, v in self.classifier.state_dict().items()}
        model = {
            "base": "CNN" if self.config.name == "cnn" else "AST",
            "sr": RATE,
            "num_mel_bins": BANDS,
            "max_num_mel_frames": self.frontend.frames,
        }
        dataset = {"id2label": dict(enumerate(self.labels))}
        custom = {"model": model, "dataset": dataset, "cirlib": dataclasses.asdict(self.config), **extra}
        return write_checkpoint(path, state, custom)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "AudioEncoder":
        """Encoder of a checkpoint, ours or the paper's, in eval mode. Raises FileNotFoundError or ValueError that says what it is."""
        weights, custom = read_checkpoint(path, "an encoder")
        try:
            stored = {k.removeprefix(AST_PREFIX): v for k, v in weights.items()}
            state = {published_name(k): v for k, v in stored.items() if not k.startswith(("classifier.", "readout."))}
            head = {k.removeprefix("classifier."): v for k, v in stored.items() if k.startswith("classifier.")}
            readout = {k.removeprefix("readout."): v for k, v in stored.items() if k.startswith("readout.")}
            config = _stored_config(custom, state, head)
            with torch.device("meta"):  # without memory: does the file hold what its settings ask for?
                cls(config)._take(state, readout, head, assign=True)
            encoder = cls(config)
            encoder._take(state, readout, head)
            if encoder.classifier is not None:
                labels = custom.get("dataset", {}).get("id2label", {})
                encoder.labels = [str(labels[i]) for i in sorted(labels, key=int)]
        except Exception as error:  # whatever its settings lead to
            raise ValueError(f"{short(path)} does not fit an encoder that this version knows ({one_line(error)})") from None
        return encoder.eval().to(device)

    def _take(self, state: dict, readout: dict, head: dict, assign: bool = False) -> None:
        """Take the weights of a checkpoint, the backbone's by their published names; RuntimeError for others than this encoder's."""
        names = {published_name(k): k for k in self.backbone.state_dict()}
        self.backbone.load_state_dict({names.get(k, k): v for k, v in state.items()}, assign=assign)
        if self.readout is not None:
            self.readout.load_state_dict(readout, assign=assign)
        if self.classifier is not None:
            self.classifier.load_state_dict(head, assign=assign)


def origin(name: str) -> Path | None:
    """File or folder that an encoder of this name comes from, fetched first if W&B keeps it; None for a preset's name or a hub id."""
    if name.startswith("wandb:"):
        from ..common.tracking import download

        return download(name.removeprefix("wandb:"), DATA / "checkpoints")
    if name.endswith(".pt"):
        return at_home(name)
    return _local(name) if name not in ENCODERS and _local(name).is_dir() else None


def _local(name: str) -> Path:
    """The folder that a name may be: relative to where one is or to the project's home, `~` is the user's."""
    place = Path(name).expanduser()
    return place if place.is_dir() else at_home(name)


def digest(encoder: AudioEncoder) -> str:
    """Digest of all that an embedding depends on: weights and clip length."""
    told = [encoder.config.seconds, encoder.config.mean, encoder.config.std, *encoder.config.parts]
    out = hashlib.sha256(json.dumps(told).encode())
    weights = encoder.backbone.state_dict() | ({} if encoder.readout is None else encoder.readout.state_dict(prefix="readout."))
    for name, value in sorted(weights.items()):
        out.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return out.hexdigest()


class Head(nn.Module):
    """Embeddings (B, D) -> (B, outputs): layer norm, linear layer; as in transformers.ASTForAudioClassification."""

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(dim, eps=1e-12)
        self.dense = nn.Linear(dim, outputs)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.dense(self.layernorm(vectors))


def _checked(sound, i: int, sample_rate: int) -> torch.Tensor:
    """A sound as a float32 tensor at 16 kHz, or a ValueError."""
    sound = torch.as_tensor(np.asarray(sound), dtype=torch.float32)
    if sound.ndim != 1 or not len(sound):
        raise ValueError(f"sound {i} must be mono with at least one sample, got shape {tuple(sound.shape)}")
    if not torch.isfinite(sound).all():
        raise ValueError(f"sound {i} holds NaN or infinite samples")
    if sound.abs().max() > LOUDEST:
        raise ValueError(f"sound {i} is louder than {LOUDEST:g} times full scale")
    if sample_rate != RATE:
        from torchaudio.functional import resample

        sound = resample(sound, sample_rate, RATE)
    return sound


def _stored_config(custom: dict, state: dict, head: dict) -> EncoderConfig:
    """Configuration of a stored encoder; the paper's files tell an AST by its weights."""
    if "cirlib" in custom:
        return from_dict(EncoderConfig, custom["cirlib"])
    shape = stored_shape(state, custom["model"].get("max_num_mel_frames", 1024))
    return EncoderConfig(name="published", seconds=10.0, outputs=len(head["dense.weight"]) if "dense.weight" in head else 0, ast=shape)
