"""AudioEncoder: log-mel front end and backbone; one embedding per clip, for single sounds and mixtures alike.

Backbones: `ast-base` (the paper's shape), `ast-small`, `ast-tiny`, `cnn` and `cnn-deep` (train fast on a CPU), or pretrained AST weights by
hub id or local folder, e.g. MIT/ast-finetuned-audioset-12-12-0.447 (paper section 3). An encoder may have per-family heads (heads.py) and
an output layer for classification or for several embeddings per mixture. Checkpoints: checkpoints.py.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..audio.io import LOUDEST, Unusable, as_float, check_rate, read_long
from ..audio.log_mel import BANDS, RATE, LogMel, frames_for
from ..common.files import one_line
from ..common.paths import short
from ..common.settings import choose
from .ast import AST_PREFIX, ast_shape, make_ast, published_name
from .checkpoints import read_checkpoint, read_folder, write_checkpoint, write_folder
from .cnn import ConvNet
from .encoder_config import CNN_SHAPES, ENCODERS, EncoderConfig, stored_config
from .heads import FamilyHeads, OutputLayer, head_names
from .pretrained import SHIPPED, encoder_folder, load_ast, local_folder, weights_path
from .windows import window_blocks

AT_ONCE = 8  # clip lengths that a CNN embeds in one pass: it pools over any time, an AST has positions for one clip only


class AudioEncoder(nn.Module):
    """Embed waveforms (B, T) at 16 kHz as (B, D), not normalised."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        frames = config.ast.get("max_length", frames_for(config.seconds))
        with torch.device("cpu"):  # also while a caller is on meta, where its tables would cost seconds
            self.frontend = LogMel(frames, config.mean, config.std)
        if config.name == "cnn":
            self.backbone = ConvNet(config.width, config.dim, config.blocks)
            shape = {"channels": self.backbone.channels, "bands": BANDS // 16, "pooled": self.backbone.head.in_features}
        else:
            self.backbone = make_ast(config.ast)
            shape = {"channels": config.ast["hidden_size"], "bands": 1, "pooled": config.ast["hidden_size"]}
        self.family_heads = FamilyHeads(**shape, families=len(config.heads), dim=self.head_dim) if config.heads else None
        self.classifier = OutputLayer(self.dim, config.outputs) if config.outputs else None
        self.labels: list[str] = []  # names of the outputs of a classifier
        self.trained_on: list[dict] = []  # banks, as data/trained_on.py describes them

    @classmethod
    def create(cls, name: str, *, seconds: float = 10.0, **options) -> "AudioEncoder":
        """Return a new encoder by preset name, or a trained one to continue from (see `load`), with clips of `seconds`.

        `options` are fields of EncoderConfig (width, dim, outputs, heads, metric). A trained one keeps its heads of these families, other
        heads and an output layer are new; `heads=None` keeps all heads. Raises ValueError or OSError that says what is valid.
        """
        if name in ENCODERS:
            options["heads"] = options.get("heads") or ()
            if name in CNN_SHAPES:
                return cls(EncoderConfig(name="cnn", seconds=seconds, **CNN_SHAPES[name], **options))
            return cls(EncoderConfig(name=name, seconds=seconds, ast=ast_shape(name, frames_for(seconds)), **options))
        encoder = cls._trained(name, seconds)
        if encoder.config.seconds != seconds:
            raise ValueError(f"{name} was trained on clips of {encoder.config.seconds:g} s: set seconds to that, not to {seconds:g}")
        outputs, heads = options.get("outputs", 0), options.get("heads", ())
        if heads is not None and tuple(heads) != encoder.config.heads:
            encoder = encoder._with_heads(tuple(heads))
        encoder.config = dataclasses.replace(encoder.config, outputs=outputs, metric=options.get("metric", encoder.config.metric))
        encoder.classifier, encoder.labels = OutputLayer(encoder.dim, outputs) if outputs else None, []
        return encoder

    @classmethod
    def load(cls, name: str | Path | None = None, *, device: str | torch.device = "cpu") -> "AudioEncoder":
        """Return a trained encoder in eval mode.

        `name`: None or "cirlib-small" for the one that comes with cirlib, a checkpoint (.pt, ours or the paper's, relative to the working
        directory or to the project's home), an encoder of cirlib or an AST by hub id ("owner/name") or local folder in hub format. Raises
        FileNotFoundError or ValueError that says what is wrong.
        """
        name = SHIPPED if name is None else name
        if isinstance(name, str) and name in ENCODERS:
            raise ValueError(f"{name} has random weights: name a trained encoder, such as runs/demo/family-infonce/seed0/best.pt")
        return cls._trained(str(name), 10.0).eval().to(device)

    @classmethod
    def _trained(cls, name: str, seconds: float) -> "AudioEncoder":
        if name.endswith(".pt"):
            return cls._from_checkpoint(Path(name) if Path(name).is_file() else weights_path(name))
        if folder := encoder_folder(name):
            return cls._from_folder(folder)
        folder = local_folder(name)
        if "/" not in name and not folder.is_dir():
            choose("encoder", name, [*ENCODERS, SHIPPED, "owner/name of a hub model", "path of a local folder or of a checkpoint (.pt)"])
        config, weights = load_ast(str(folder) if folder.is_dir() else name, seconds)
        encoder = cls(EncoderConfig(**config))
        encoder.backbone.load_state_dict(weights)
        return encoder.eval()

    @property
    def dim(self) -> int:
        """Embedding size D, all heads together."""
        return self.head_dim * max(1, len(head_names(self.config.heads)))

    @property
    def head_dim(self) -> int:
        """Size of one head, or of the whole embedding without heads."""
        return self.config.dim if self.config.name == "cnn" else self.config.ast["hidden_size"]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(self, waveforms: torch.Tensor, outputs: bool = False) -> torch.Tensor:
        """Return embeddings (B, D) with gradients, or with `outputs` those of the output layer (B, outputs).

        AST: mean of the class and distillation tokens after the last layer norm (paper section 3). With per-family heads (heads.py): this
        embedding and the other heads in a row, each of unit length.
        """
        frames = self.frontend.frames
        if self.config.name == "cnn":
            frames = max(frames, frames_for(waveforms.shape[1] / RATE))
        vectors = self.encode(self.frontend(waveforms, frames))
        return self.classifier(vectors) if outputs else vectors

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Embed log-mels (B, frames, 128) as (B, D)."""
        if self.family_heads is None:
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
        return torch.cat([nn.functional.normalize(whole.float()), self.family_heads(maps, pooled).flatten(1)], dim=1)

    @torch.inference_mode()
    def embed(
        self, waveforms: Sequence[np.ndarray | str | Path] | np.ndarray, sample_rate: int = RATE, *, batch: int = 32, outputs: bool = False
    ) -> np.ndarray:
        """Embed mono sounds, a list of arrays or (B, T), of any length and rate: (B, D) float32, without gradients.

        Integer samples have the full scale of their type. A sound may also be the path of a file, which has its own sample rate. A CNN
        embeds up to AT_ONCE clip lengths in one pass, an AST one; longer sounds are cut into windows of that length, whose embeddings are
        averaged by their duration. With `outputs`: outputs of the output layer (B, outputs). Raises ValueError for sounds that are
        empty, not mono, not finite or too loud, for files that cannot be read, and if an embedding is not finite.
        """
        if outputs and self.classifier is None:
            raise ValueError(f"this encoder ({self.config.name}) has no output layer: it only embeds")
        out = np.zeros((len(waveforms), self.config.outputs if outputs else self.dim), np.float32)
        was_training = self.training
        self.eval()
        sounds = (_checked(sound, i, sample_rate) for i, sound in enumerate(waveforms))
        clip = round(self.config.seconds * RATE)
        for owner, share, block in window_blocks(sounds, clip, AT_ONCE if self.config.name == "cnn" else 1, batch=batch):
            vectors = AudioEncoder.forward(self, block.to(self.device), outputs).cpu().numpy()  # float32, also inside mixed precision
            np.add.at(out, owner, np.float32(share)[:, None] * vectors)
        self.train(was_training)
        if not np.isfinite(out).all():
            raise ValueError(
                f"embeddings of this encoder ({self.config.name}) are not finite: its weights are damaged or training diverged"
            )
        return out

    def save(self, path: Path, **extra) -> Path:
        """Write a checkpoint atomically, in the published format; `extra` is plain data for custom_config."""
        return write_checkpoint(path, self._published_state(), {**self._custom(), **extra})

    def save_folder(self, folder: Path, **extra) -> Path:
        """Write config.json, with `extra`, and model.safetensors, in float16, in the form of the Hugging Face hub.

        Raises ValueError for weights that float16 cannot hold.
        """
        rounded = copy.deepcopy(self).half().float()
        return write_folder(Path(folder), rounded._published_state(), {**self._custom(), **extra, "digest": digest(rounded)})

    def _published_state(self) -> dict[str, torch.Tensor]:
        prefix = "" if self.config.name == "cnn" else AST_PREFIX
        state = {prefix + published_name(k): v for k, v in self.backbone.state_dict().items()}
        if self.family_heads is not None:
            state |= {f"family_heads.{k}": v for k, v in self.family_heads.state_dict().items()}
        if self.classifier is not None:
            state |= {f"classifier.{k}": v for k, v in self.classifier.state_dict().items()}
        return state

    def _custom(self) -> dict:
        """Return the plain data of a checkpoint."""
        model = {
            "base": "CNN" if self.config.name == "cnn" else "AST",
            "sr": RATE,
            "num_mel_bins": BANDS,
            "max_num_mel_frames": self.frontend.frames,
        }
        dataset = {"id2label": dict(enumerate(self.labels))}
        return {"model": model, "dataset": dataset, "cirlib": dataclasses.asdict(self.config), "trained_on": self.trained_on}

    @classmethod
    def _from_checkpoint(cls, path: Path) -> "AudioEncoder":
        return cls._restored(path, *read_checkpoint(path, "an encoder"))

    @classmethod
    def _from_folder(cls, folder: Path) -> "AudioEncoder":
        weights, custom = read_folder(folder)
        encoder = cls._restored(folder, weights, custom)
        if digest(encoder) != custom.get("digest"):
            raise ValueError(
                f"the encoder in {short(folder)} is damaged (its weights have another digest than its config.json says): get it again"
            )
        return encoder

    @classmethod
    def _restored(cls, path: Path, weights: dict, custom: dict) -> "AudioEncoder":
        """Return the encoder of a checkpoint or folder; ValueError if its weights do not fit its settings."""
        try:
            stored = {k.removeprefix(AST_PREFIX): v for k, v in weights.items()}
            output_layer, heads = (_with_prefix(stored, prefix) for prefix in ("classifier.", "family_heads."))
            state = {published_name(k): v for k, v in stored.items() if not k.startswith(("classifier.", "family_heads."))}
            config = stored_config(custom, state, output_layer)
            with torch.device("meta"):  # without memory: does the file hold what its settings ask for?
                cls(config)._load_weights(state, heads, output_layer, assign=True)
            encoder = cls(config)
            encoder._load_weights(state, heads, output_layer)
            if encoder.classifier is not None:
                labels = custom.get("dataset", {}).get("id2label", {})
                encoder.labels = [str(labels[i]) for i in sorted(labels, key=int)]
            encoder.trained_on = [dict(bank) for bank in custom.get("trained_on", [])]
        except Exception as error:  # a damaged file leads to all kinds
            raise ValueError(f"{short(path)} does not fit an encoder of this version ({one_line(error)})") from None
        return encoder.eval()

    def _with_heads(self, families: tuple[str, ...]) -> "AudioEncoder":
        """Return an encoder with heads of these families; those of families that this one has are copied."""
        other = type(self)(dataclasses.replace(self.config, outputs=0, heads=families))
        other.backbone.load_state_dict(self.backbone.state_dict())
        if self.family_heads is not None and other.family_heads is not None:
            other.family_heads.copy_from(
                self.family_heads, [(families.index(f), i) for i, f in enumerate(self.config.heads) if f in families]
            )
        other.trained_on = self.trained_on
        return other

    def _load_weights(self, state: dict, heads: dict, output_layer: dict, *, assign: bool = False) -> None:
        """Load the weights of a checkpoint, the backbone's by their published names; RuntimeError if they do not fit."""
        names = {published_name(k): k for k in self.backbone.state_dict()}
        self.backbone.load_state_dict({names.get(k, k): v for k, v in state.items()}, assign=assign)
        if self.family_heads is not None:
            self.family_heads.load_state_dict(heads, assign=assign)
        if self.classifier is not None:
            self.classifier.load_state_dict(output_layer, assign=assign)


def digest(encoder: AudioEncoder) -> str:
    """Return a digest of all that an embedding depends on: weights, clip length, normalisation and heads."""
    shape = [encoder.config.seconds, encoder.config.mean, encoder.config.std, *encoder.config.heads]
    out = hashlib.sha256(json.dumps(shape).encode())
    weights = encoder.backbone.state_dict()
    if encoder.family_heads is not None:
        weights |= encoder.family_heads.state_dict(prefix="family_heads.")
    for name, value in sorted(weights.items()):
        out.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return out.hexdigest()


def _checked(sound, i: int, sample_rate: int) -> torch.Tensor:
    """Return a sound as a float32 tensor (T,) at 16 kHz; ValueError for what cannot be embedded."""
    try:
        if isinstance(sound, (str, Path)):
            return torch.from_numpy(read_long(Path(sound).expanduser()))
        sound, sample_rate = torch.tensor(as_float(sound)), check_rate(sample_rate)
    except Unusable as error:
        raise ValueError(f"sound {i} cannot be embedded: {error}") from None
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


def _with_prefix(state: dict, prefix: str) -> dict:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
