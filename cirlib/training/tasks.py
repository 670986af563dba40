"""Tasks: each makes its model, the batches of its steps, its loss, and the retriever that is validated and tested.

mixture        one vector for each sound or mixture, mixtures near their instruments (the paper's method)
family         heads for single sounds, for mixes and for each family, trained on mixtures and pairs in one batch (ours)
single         pairs of sounds of one instrument (paper, single-instrument experiment)
classify       instrument, family or tags of single sounds; retrieval by the embedding before the output layer
multi-encoder  one vector per family, predicted from the mixture (Kim et al., arXiv 2211.07951)
"""

import numpy as np
import torch
from torch.nn import functional

from ..audio.effects import random_effects
from ..common.device import best_device
from ..data.bank import NoteBank
from ..data.batches import FamilySteps, MixtureSteps
from ..data.mixtures import load_sounds
from ..data.pairs import NoteSteps, PairSteps
from ..evaluation import classifiers
from ..evaluation.protocol import Retriever, Validation
from ..models.distributed import gather
from ..models.encoder import ENCODERS, AudioEncoder
from ..models.heads import MIX, SINGLE, head_names
from . import losses
from .config import ON_MIXTURES, TrainConfig

Batch = dict[str, torch.Tensor]
FROZEN_BATCH = 64  # sounds that a frozen encoder embeds at once
SINGLE_EFFECTS = 3 << 31  # seed of the effects of single sounds
MIX_WEIGHT = 0.3  # of the loss of the head `mix`; 1 lowers the accuracy of single sounds


class Task:
    """What all tasks share. Process `rank` of `world` makes its share of each batch."""

    def __init__(self, config: TrainConfig, bank: NoteBank, rank: int = 0, world: int = 1):
        self.config, self.bank, self.rank, self.world = config, bank, rank, world
        self.samples = round(config.seconds * bank.sample_rate)

    def model(self) -> torch.nn.Module:
        """Return a new model, which has save(path, **extra)."""
        return self._encoder()

    def _encoder(self, **options) -> AudioEncoder:
        if not self.config.steps and self.config.encoder not in ENCODERS:
            options["heads"] = None  # a pretrained encoder is tested as it is
        encoder = AudioEncoder.create(self.config.encoder, seconds=self.config.seconds, metric=self.config.metric, **options)
        return encoder.to(memory_format=torch.channels_last) if encoder.config.name == "cnn" else encoder

    def load(self, path) -> torch.nn.Module:
        """Return the model of a checkpoint, on the device of the tests."""
        return AudioEncoder.load(path, device=best_device())

    def batch(self, step: int) -> Batch:
        """Return the tensors of a step. They depend on the seed and the step only."""
        raise NotImplementedError

    outputs = False  # whether the loss uses the output layer of the encoder instead of embeddings

    def sounds(self, batch: Batch) -> torch.Tensor:
        """Return the waveforms (N, T) of a batch, in the order that objective() expects."""
        raise NotImplementedError

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the scalar loss of the embeddings or outputs (N, ...) of sounds()."""
        raise NotImplementedError

    def loss(self, model, batch: Batch) -> torch.Tensor:
        """Return the scalar loss of a batch, embedded in one forward pass."""
        return self.objective(model(self.sounds(batch), outputs=self.outputs).float(), batch)

    def retriever(self, model) -> Retriever:
        """Return how the model embeds notes and mixtures in validation and tests."""
        return Retriever(model)

    def validation(self) -> Validation:
        """Return the function that scores retrievers on validation instruments."""
        return Validation(self.bank, self.config, self.config.task in ON_MIXTURES)

    def _clips(self, rows: np.ndarray) -> np.ndarray:
        return load_sounds(self.bank, rows, samples=self.samples, protocol=self.config.protocol)


class MixtureTask(Task):
    """Batches: mixtures (M, T), references (M, S, T) of their instruments, families (M, S)."""

    def __init__(self, *args):
        super().__init__(*args)
        c = self.config
        self.steps = MixtureSteps(
            self.bank, families=c.families, batch_size=c.batch_size, steps=c.steps, max_instruments=c.max_instruments, size=c.epoch_size,
            seed=c.seed, rank=self.rank, world=self.world, protocol=c.protocol, seconds=c.seconds, statistics=c.note_statistics(),
            augmented=c.augmented, effects=c.effects,
        )  # fmt: skip

    def batch(self, step: int) -> Batch:
        dataset, indices = self.steps.batch(step)
        mixtures, references = dataset.batch(indices, "references")
        families = [[dataset.families.index(name) for name, _ in dataset.plan(i)] for i in indices]
        return {"mixtures": torch.from_numpy(mixtures), "references": torch.from_numpy(references), "families": torch.tensor(families)}

    def sounds(self, batch: Batch) -> torch.Tensor:
        return torch.cat([batch["references"].flatten(0, 1), batch["mixtures"]])

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        m, s = batch["families"].shape
        stems, mixtures, families = map(gather, (vectors[: m * s].reshape(m, s, -1), vectors[m * s :], batch["families"]))
        return losses.mixture_loss(self.config.loss, stems, mixtures, families, temperature=self.config.temperature)


class FamilyTask(Task):
    """Batches: references (2, N, T) of instruments (N,) and families (N,), mixtures (M, T) of members (M, S), single_pairs (2, P, T)."""

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
            "references": self._two_clips(rows, step),
            "instruments": torch.tensor([self._number[uid] for _, uid in named]),
            "families": torch.tensor([dataset.families.index(name) for name, _ in named]),
            "mixtures": torch.from_numpy(dataset.batch(indices, "none")[0]),
            "members": torch.tensor([[self._number[uid] for _, uid in dataset.plan(i)] for i in indices]),
        }
        if self.pairs:
            out["single_pairs"] = self._two_clips(self.pairs.batch(step).T, step)
        return out

    def _two_clips(self, rows: np.ndarray, step: int) -> torch.Tensor:
        """Return the clips (2, N, T) of two notes (2, N) of each instrument; some of the first have random effects."""
        clips = np.stack([self._clips(side) for side in rows])
        rng = np.random.default_rng([self.config.seed, step, self.rank, SINGLE_EFFECTS])
        for k in np.flatnonzero(rng.random(len(clips[0])) < self.config.single_effects):
            clips[0, k] = random_effects(clips[0, k], self.bank.sample_rate, rng)
        return torch.from_numpy(clips)

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
        by_family = gather(own), gather(families), gather(instruments), gather(mixtures[:, first:])
        loss = losses.family_infonce(*by_family, members=members, temperature=temperature)

        mix = names.index(MIX)
        singles = torch.cat([notes, others])[:, mix]
        labels = functional.pad(instruments, (0, len(others)), value=-1)  # the others are in no mixture
        as_one_family = gather(singles), gather(torch.zeros_like(labels)), gather(labels), gather(mixtures[:, mix, None])
        loss = loss + MIX_WEIGHT * losses.family_infonce(*as_one_family, members=members, temperature=temperature)

        single = names.index(SINGLE)
        sides = (torch.cat(pair) for pair in zip(notes[:, single].chunk(2), others[:, single].chunk(2), strict=True))
        return loss + losses.pair_loss("infonce", *map(gather, sides), temperature=temperature)


class SingleTask(Task):
    """Batches: sounds (2, N, T), pairs of N instruments."""

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
    """Batches: sounds (B, T), targets (B,) or (B, C)."""

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


class MultiEncoderTask(MixtureTask):
    """Predict, from mixtures of one instrument of each family, what a frozen encoder for single sounds makes of their references."""

    def __init__(self, *args):
        super().__init__(*args)
        self.single = AudioEncoder.load(self.config.single_run()[1]).requires_grad_(False)

    def _split(self, vectors: np.ndarray) -> np.ndarray:
        """Reshape (B, S * D) or (B * S, D) to (B, S, D)."""
        return vectors.reshape(-1, len(self.config.families), self.single.dim)

    def model(self) -> AudioEncoder:
        return self._encoder(outputs=len(self.config.families) * self.single.dim)

    outputs = True

    def sounds(self, batch: Batch) -> torch.Tensor:
        return batch["mixtures"]

    def objective(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            single, references = self.single.to(vectors.device), batch["references"].flatten(0, 1)
            targets = self._split(torch.cat([single(chunk).float() for chunk in references.split(FROZEN_BATCH)]))
        return losses.cosine_loss(self._split(vectors), targets)

    def retriever(self, model) -> Retriever:
        return Retriever(self.single.to(model.device), lambda waveforms: self._split(model.embed(waveforms, outputs=True)))


TRAINED = {"mixture": MixtureTask, "family": FamilyTask, "single": SingleTask, "classify": ClassifyTask, "multi-encoder": MultiEncoderTask}


def make_task(config: TrainConfig, bank: NoteBank, rank: int = 0, world: int = 1) -> Task:
    """Return the task of a configuration. Raises ValueError if it is not trained."""
    if config.task not in TRAINED:
        raise ValueError(f"{config.task} is not trained: run notebooks/05_baselines.ipynb with method={config.task}")
    return TRAINED[config.task](config, bank, rank, world)
