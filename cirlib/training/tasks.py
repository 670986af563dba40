"""What is trained: each task makes its model, the batches of its steps, its loss, and the retriever that is validated and tested.

mixture        one vector for every sound, mixtures near their instruments (the paper's method)
family         heads of the vector for single sounds, for mixes and for each family: mixtures and pairs in one batch (ours)
single         pairs of sounds of one instrument (paper, single-instrument experiment)
classify       instrument, family or tags of single sounds; retrieval by the embedding under the head
multi-encoder  one vector per family, predicted from the mixture (Kim et al., arXiv 2211.07951)
separate       a small separator; its stems are embedded by an encoder for single sounds (the demo's stand-in for Demucs)
"""

import numpy as np
import torch
from torch.nn import functional

from ..common.device import best_device
from ..data.bank import NoteBank
from ..data.batches import FamilySteps, MixtureSteps
from ..data.mixtures import load_sounds
from ..data.pairs import NoteSteps, PairSteps
from ..evaluation import classifiers
from ..evaluation.protocol import Retriever, Validation
from ..models.distributed import gather
from ..models.encoder import AudioEncoder
from ..models.heads import MIX, SINGLE, head_names
from . import losses
from .config import ON_MIXTURES, TrainConfig

Batch = dict[str, torch.Tensor]
CHUNK = 64  # sounds that a frozen encoder embeds at once
MIX_WEIGHT = 0.3  # of the loss of the part `mix`; 1 costs single sounds accuracy


class Task:
    """Shared by all tasks. `rank` and `world`: which process of how many makes batches."""

    def __init__(self, config: TrainConfig, bank: NoteBank, rank: int = 0, world: int = 1):
        self.config, self.bank, self.rank, self.world = config, bank, rank, world
        self.samples = round(config.seconds * bank.sample_rate)

    def model(self) -> torch.nn.Module:
        """A new model; it has save(path, **extra)."""
        return self._encoder()

    def _encoder(self, **options) -> AudioEncoder:
        encoder = AudioEncoder.create(self.config.encoder, seconds=self.config.seconds, **options)
        return encoder.to(memory_format=torch.channels_last) if self.config.encoder == "cnn" else encoder

    def load(self, path) -> torch.nn.Module:
        """The model of a checkpoint, where it is tested."""
        return AudioEncoder.load(path, device=best_device())

    def batch(self, step: int) -> Batch:
        """Tensors of a step."""
        raise NotImplementedError

    outputs = False  # the loss asks for the outputs of the encoder's head

    def sounds(self, batch: Batch) -> torch.Tensor:
        """Waveforms (N, T) of a batch that the model hears."""
        raise NotImplementedError

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Scalar loss of what the model makes of the sounds, (N, ...)."""
        raise NotImplementedError

    def loss(self, model, batch: Batch) -> torch.Tensor:
        """Scalar with gradients, every sound of the batch in one forward pass."""
        return self.objective(model(self.sounds(batch), outputs=self.outputs).float(), batch)

    def close(self) -> None:
        """Stop what runs beside the training, after its last batch."""

    def retriever(self, model) -> Retriever:
        """How the model is validated and tested."""
        return Retriever(model)

    def validation(self) -> Validation:
        """Scores retrievers of this task on validation instruments."""
        return Validation(self.bank, self.config, self.config.task in ON_MIXTURES)

    def _clips(self, rows: np.ndarray) -> np.ndarray:
        return load_sounds(self.bank, rows, samples=self.samples, protocol=self.config.protocol)


class MixtureTask(Task):
    """mixtures (M, T), references (M, S, T) of their instruments, families (M, S)."""

    def __init__(self, *args):
        super().__init__(*args)
        c = self.config
        self.steps = self._steps(self.bank, c.seed)

    def _steps(self, bank: NoteBank, seed: int) -> MixtureSteps:
        c = self.config
        return MixtureSteps(
            bank, families=c.families, batch_size=c.batch_size, steps=c.steps, max_instruments=c.max_instruments, size=c.epoch_size,
            seed=seed, rank=self.rank, world=self.world, protocol=c.protocol, seconds=c.seconds, statistics=c.note_statistics(),
            augmented=c.augmented, effects=c.effects,
        )  # fmt: skip

    tracks = "references"  # of a mixture: one note per instrument, or "stems", as they sound in it

    def batch(self, step: int) -> Batch:
        dataset, indices = self.steps.batch(step)
        mixtures, tracks = dataset.batch(indices, self.tracks)
        families = [[dataset.families.index(name) for name, _ in dataset.plan(i)] for i in indices]
        return {"mixtures": torch.from_numpy(mixtures), self.tracks: torch.from_numpy(tracks), "families": torch.tensor(families)}

    def sounds(self, batch: Batch) -> torch.Tensor:
        return torch.cat([batch["references"].flatten(0, 1), batch["mixtures"]])

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        m, s = batch["families"].shape
        stems, mixtures, families = map(gather, (vectors[: m * s].reshape(m, s, -1), vectors[m * s :], batch["families"]))
        return losses.mixture_loss(self.config.loss, stems, mixtures, families, self.config.temperature)


class FamilyTask(Task):
    """references (2, N, T) of instruments (N,) and families (N,), mixtures (M, T) of members (M, S), pairs (2, P, T) of other families."""

    def __init__(self, *args):
        super().__init__(*args)
        c = self.config
        self.steps = FamilySteps(
            self.bank, families=c.families, batch_size=c.batch_size - 2 * c.single_pairs,
            mixtures_per_instrument=c.mixtures_per_instrument, max_instruments=c.max_instruments, steps=c.steps, size=c.epoch_size,
            seed=c.seed, rank=self.rank, world=self.world, protocol=c.protocol, seconds=c.seconds, statistics=c.note_statistics(),
            augmented=c.augmented, effects=c.effects,
        )  # fmt: skip
        self.pairs = None
        if c.single_pairs:
            self.pairs = PairSteps(
                self.bank, pairs=c.single_pairs, hard_negative_ratio=c.hard_negative_ratio, seed=c.seed, augmented=c.augmented,
                excluded=self.steps.families, rank=self.rank, world=self.world,
            )  # fmt: skip
        self._number = {uid: i for i, uid in enumerate(self.bank.instruments.index)}

    def model(self) -> AudioEncoder:
        return self._encoder(heads=tuple(self.steps.families))

    def batch(self, step: int) -> Batch:
        dataset, indices, named, rows = self.steps.batch(step)
        out = {
            "references": torch.from_numpy(np.stack([self._clips(side) for side in rows])),
            "instruments": torch.tensor([self._number[uid] for _, uid in named]),
            "families": torch.tensor([dataset.families.index(name) for name, _ in named]),
            "mixtures": torch.from_numpy(dataset.batch(indices, "none")[0]),
            "members": torch.tensor([[self._number[uid] for _, uid in dataset.plan(i)] for i in indices]),
        }
        if self.pairs:
            out["single_pairs"] = torch.from_numpy(np.stack([self._clips(side) for side in self.pairs.batch(step).T]))
        return out

    def sounds(self, batch: Batch) -> torch.Tensor:
        pairs = [batch["single_pairs"].flatten(0, 1)] if self.pairs else []
        return torch.cat([batch["references"].flatten(0, 1), batch["mixtures"], *pairs])

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        n, m, temperature = len(batch["instruments"]), len(batch["mixtures"]), self.config.temperature
        names = head_names(self.steps.families)
        heads = vectors.reshape(len(vectors), len(names), -1)  # (N, heads, D)
        notes, mixtures, others = heads.split([2 * n, m, len(heads) - 2 * n - m])
        families, instruments = (batch[name].repeat(2) for name in ("families", "instruments"))
        members, first = gather(batch["members"]), len(names) - len(self.steps.families)
        own = notes[torch.arange(2 * n, device=notes.device), first + families]
        heard = gather(own), gather(families), gather(instruments), gather(mixtures[:, first:])
        loss = losses.family_infonce(*heard, members, temperature)

        mix = names.index(MIX)
        singles = torch.cat([notes, others])[:, mix]
        playing = functional.pad(instruments, (0, len(others)), value=-1)  # the others play in no mixture
        heard = gather(singles), gather(torch.zeros_like(playing)), gather(playing), gather(mixtures[:, mix, None])
        loss = loss + MIX_WEIGHT * losses.family_infonce(*heard, members, temperature)

        sound = names.index(SINGLE)
        sides = (torch.cat(pair) for pair in zip(notes[:, sound].chunk(2), others[:, sound].chunk(2), strict=True))
        return loss + self.alike(*map(gather, sides))

    def alike(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Loss of the heads `sound` (N, D) of two sounds of N instruments."""
        return losses.pair_loss("infonce", first, second, self.config.temperature)


class SingleTask(Task):
    """sounds (2, N, T): pairs of one instrument."""

    def __init__(self, *args):
        super().__init__(*args)
        c = self.config
        self.steps = PairSteps(
            self.bank, pairs=c.batch_size // 2, hard_negative_ratio=c.hard_negative_ratio, seed=c.seed, augmented=c.augmented,
            rank=self.rank, world=self.world,
        )  # fmt: skip

    def batch(self, step: int) -> Batch:
        return {"sounds": torch.from_numpy(np.stack([self._clips(side) for side in self.steps.batch(step).T]))}

    def sounds(self, batch: Batch) -> torch.Tensor:
        return batch["sounds"].flatten(0, 1)

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        return losses.pair_loss(self.config.loss, *map(gather, vectors.chunk(2)), temperature=self.config.temperature)


class ClassifyTask(Task):
    """sounds (B, T), targets (B,) or (B, C)."""

    def __init__(self, *args):
        super().__init__(*args)
        c = self.config
        self.labels = classifiers.labels(self.bank, c.loss, c.augmented)
        self.targets = classifiers.targets(self.bank, c.loss, self.labels)
        rows, _ = classifiers.split_rows(self.bank, c.loss, self.labels, c.augmented)
        self.steps = NoteSteps(rows, c.batch_size, seed=c.seed, rank=self.rank, world=self.world)

    def model(self) -> AudioEncoder:
        encoder = self._encoder(outputs=len(self.labels))
        encoder.labels = list(self.labels)
        return encoder

    def batch(self, step: int) -> Batch:
        rows = self.steps.batch(step)
        return {"sounds": torch.from_numpy(self._clips(rows)), "targets": torch.from_numpy(self.targets[rows])}

    outputs = True

    def sounds(self, batch: Batch) -> torch.Tensor:
        return batch["sounds"]

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        return losses.class_loss(self.config.loss, vectors, batch["targets"])


class SingleEncoderTask(MixtureTask):
    """Mixtures of all families, in their order, and a frozen encoder for single sounds."""

    def __init__(self, *args):
        super().__init__(*args)
        self.single = AudioEncoder.load(self.config.single_run()[1]).requires_grad_(False)

    def _split(self, vectors: np.ndarray) -> np.ndarray:
        """(B, S * D) or (B * S, D) -> (B, S, D)"""
        return vectors.reshape(-1, len(self.config.families), self.single.dim)


class MultiEncoderTask(SingleEncoderTask):
    """The head of the encoder predicts the embeddings of the references, one per family."""

    def model(self) -> AudioEncoder:
        return self._encoder(outputs=len(self.config.families) * self.single.dim)

    outputs = True

    def sounds(self, batch: Batch) -> torch.Tensor:
        return batch["mixtures"]

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            single, references = self.single.to(vectors.device), batch["references"].flatten(0, 1)
            targets = self._split(torch.cat([single(part).float() for part in references.split(CHUNK)]))
        return losses.cosine_loss(self._split(vectors), targets)

    def retriever(self, model) -> Retriever:
        return Retriever(self.single.to(model.device), lambda waveforms: self._split(model.embed(waveforms, outputs=True)))


TRAINED = {
    "mixture": MixtureTask,
    "family": FamilyTask,
    "single": SingleTask,
    "classify": ClassifyTask,
    "multi-encoder": MultiEncoderTask,
}


def make_task(config: TrainConfig, bank: NoteBank, rank: int = 0, world: int = 1) -> Task:
    """The task of a configuration; ValueError for one that is not trained."""
    if config.task not in TRAINED:
        raise ValueError(f"{config.task} is not trained: run notebooks/05_baselines.ipynb with method={config.task}")
    return TRAINED[config.task](config, bank, rank, world)
