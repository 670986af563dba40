"""The settings of one training run: one row of a table, one seed.

A setting is described and defaulted here only: settings.py writes the table in params/README.md and the parameters of 02_train from it.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from ..common import paths, tracking
from ..common.files import content_hash, one_line, sha256, write_atomic
from ..common.settings import check_above_zero, choose, from_dict, read_params, to_dict
from ..data.bank import NoteBank
from ..data.mixtures import PROTOCOLS, MixtureDataset
from ..data.note_statistics import NoteStatistics, load_statistics, statistics_file
from ..data.taxonomy import MIXTURE_FAMILIES
from ..evaluation.protocol import TESTS
from ..models.pretrained import weights_path
from . import losses
from .optimiser import OPTIMISERS

TASKS = tuple(losses.LOSSES)
METHODS = ("mfcc", "timbre-toolbox", "demucs", "multi-encoder")  # of 05_baselines
ON_MIXTURES = ("mixture", "family", "multi-encoder")  # tasks that train on mixtures of all families
WITH_ENCODER = ("mixture", "family", "single", "classify", "multi-encoder")  # tasks that train `encoder`
WITH_SINGLE = ("multi-encoder", "demucs")  # tasks that use the trained encoder of the row `single`
PRECISIONS = ("", "float32", "bf16")
NOT_IN_KEY = (  # settings that do not change the weights
    *("preset", "experiment", "bank", "single", "queries", "tests", "wandb", "log_every", "gradient_cache_size", "workers", "compile"),
)


@dataclass
class TrainConfig:
    """Settings of a run. The defaults train a small encoder on a small bank in a minute on a CPU. Raises ValueError for invalid values."""

    preset: str = "quick"  # folder in params/, which describes the banks, and in runs/
    experiment: str = ""  # name of the row; empty: the loss
    seed: int = 0  # of weights and batches
    bank: tuple[str, ...] = ("data/quick",)  # note banks, relative to the project's home
    task: str = "mixture"  # mixture, family, single, classify; in 05_baselines: multi-encoder, demucs, mfcc, timbre-toolbox
    families: tuple[str, ...] = MIXTURE_FAMILIES  # of the mixtures; single and classify train on all families
    protocol: str = "strict"  # strict, or paper: with the quirks of the reference implementation
    statistics: str = ""  # file of note statistics, relative to the project's home; empty: the documented default
    loss: str = "multi-infonce"  # one of losses.LOSSES[task]
    temperature: float = losses.TEMPERATURE  # of the InfoNCE losses
    encoder: str = "cnn"  # cnn, cnn-deep, ast-tiny, ast-small, ast-base, a hub id, a local folder or a checkpoint (.pt)
    single: str = "single-infonce"  # multi-encoder, demucs: row of the encoder for single sounds, same preset and seed
    seconds: float = 4.0  # length of every clip
    steps: int = 150  # training steps; 0: random or pretrained weights
    batch_size: int = 64  # clips in a batch; a mixture of three instruments counts as four
    max_instruments: int = 0  # mixture, family: mixtures of 1 to this many instruments of any family; 0: one of each family
    mixtures_per_instrument: int = 3  # family: mixtures of each instrument in a batch
    effects: float = 0.0  # mixture, family: share of training mixtures with random effects (tone, room, level, cut)
    single_effects: float = 0.0  # family: share of single sounds with random effects, one of two of an instrument
    single_pairs: int = 0  # family: pairs of single sounds of the other families in a batch, taken from batch_size
    hard_negative_ratio: float = 0.5  # single, family: share of the single pairs that come from one family
    augmented: bool = True  # also train on the effects-off twins of instruments
    epoch_size: int = 40000  # mixtures in an epoch, in which every instrument plays
    optimiser: str = "adam"  # adam, or muon, whose learning rates are about 40 times higher
    start_lr: float = 5e-4  # learning rate after warm-up
    end_lr: float = 5e-5  # learning rate at the first and the last step
    warmup: float = 0.01  # share of the steps
    valid_every: int = 50  # steps between validations
    valid_size: int = 300  # validation mixtures or sounds
    log_every: int = 10  # steps between log lines
    tests: tuple[str, ...] = TESTS  # tests of 03_retrieve: mixture, single
    queries: int = 2000  # test mixtures; the paper has 5000
    wandb: str = "off"  # off, offline, or online (needs secrets.yaml)
    gradient_cache_size: int = 0  # clips in memory at once (gradient caching: same gradient, less memory); 0: the whole batch
    workers: int = -1  # processes that prepare batches; -1: one beside a GPU, none on a CPU
    compile: bool = False  # torch.compile the encoder, except its front end
    precision: str = ""  # float32 or bf16 (mixed); empty: bf16 on a GPU, float32 on a CPU

    def __post_init__(self):
        self.experiment = self.experiment or self.loss
        self._check_names()
        self._check_numbers()
        self._check_mixtures()

    def _check_names(self) -> None:
        for name in ("preset", "experiment", "single"):
            paths.plain_name(name, getattr(self, name))
        choose("task", self.task, TASKS)
        choose("protocol", self.protocol, PROTOCOLS)
        choose("optimiser", self.optimiser, OPTIMISERS)
        choose("precision", self.precision, PRECISIONS)
        choose("wandb mode", self.wandb, tracking.MODES)
        choose(f"{self.task} loss", self.loss, losses.LOSSES[self.task])  # register_loss adds to them
        if not self.tests:
            raise ValueError(f"tests must name at least one test: {', '.join(TESTS)}")
        for test in self.tests:
            choose("test", test, TESTS)

    def _check_numbers(self) -> None:
        check_above_zero(
            self, "batch_size", "seconds", "mixtures_per_instrument", "epoch_size", "start_lr", "end_lr", "temperature", "valid_every",
            "valid_size", "log_every", "queries",
        )  # fmt: skip
        for name in ("seed", "steps", "gradient_cache_size", "single_pairs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("hard_negative_ratio", "warmup", "effects", "single_effects"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")

    def _check_mixtures(self) -> None:
        drawn = self.task in ("mixture", "family")
        if not 0 <= self.max_instruments <= len(self.families) or (self.max_instruments and not drawn):
            raise ValueError(f"max_instruments must be 0 to {len(self.families)} (the number of families), of task mixture or family")
        if self.effects and not drawn:
            raise ValueError(f"effects are for the tasks mixture and family, not for {self.task}: set effects to 0")

    @property
    def folder(self) -> Path:
        """runs/<preset>/<experiment>/seed<k>"""
        return paths.run_folder(self.preset, self.experiment, self.seed)

    @property
    def metric(self) -> str:
        """The distance that the loss trains: l2 for triplet losses and features, cosine for the others."""
        if self.task == "demucs":
            return self.single_run()[0].metric
        return "l2" if "triplet" in self.loss or self.task in ("mfcc", "timbre-toolbox") else "cosine"

    def key(self, data: list[dict]) -> str:
        """Return a digest of all that changes the weights; `data`: checksums of the banks. Another key is another run.

        Raises as single_run(), and ValueError if that encoder was trained on other sounds, which may include test sounds of this run.
        """
        values = {k: v for k, v in to_dict(self).items() if k not in NOT_IN_KEY}
        if (place := weights_path(self.encoder)) and place.exists():
            values["encoder"] = content_hash(place)
        if self.task in WITH_SINGLE:
            config, checkpoint = self.single_run()
            if config.key(data) != read_config(checkpoint.parent)[1]:
                where = paths.short(checkpoint.parent)
                raise ValueError(
                    f"{where} was trained on other sounds than {self.experiment}, or its start changed: train it again with 02_train"
                )
            values["single"] = sha256(checkpoint)
        if source := losses.SOURCES.get((self.task, self.loss)):
            values["loss_source"] = source
        if self.statistics:
            values["statistics"] = sha256(statistics_file(paths.at_home(self.statistics)))
        return hashlib.sha256(json.dumps([values, data], sort_keys=True).encode()).hexdigest()[:12]

    def note_statistics(self) -> NoteStatistics:
        """Return the note statistics of each family in mixtures."""
        return load_statistics(paths.at_home(self.statistics) if self.statistics else "")

    def mixtures(self, bank: NoteBank, split: str, size: int, seed: int) -> MixtureDataset:
        """Return `size` mixtures of a split, as this run trains on them."""
        return MixtureDataset(
            bank, families=self.families, split=split, size=size, seed=seed, protocol=self.protocol, seconds=self.seconds,
            max_instruments=self.max_instruments or None, statistics=self.note_statistics(),
        )  # fmt: skip

    def single_run(self) -> tuple["TrainConfig", Path]:
        """Return settings and checkpoint of the encoder for single sounds that this run uses.

        Raises FileNotFoundError if it is not trained, ValueError for another task or clip length.
        """
        folder = paths.run_folder(self.preset, self.single, self.seed)
        config, _ = read_config(folder)
        if config.task != "single":
            raise ValueError(f"{self.experiment} needs an encoder for single sounds, {self.single} has task {config.task}: set `single`")
        if not (folder / "train.json").exists():
            raise FileNotFoundError(f"the training of {paths.short(folder)} is not finished: run notebooks/02_train.ipynb for it first")
        if config.seconds != self.seconds:
            raise ValueError(
                f"clips of {self.single} have {config.seconds:g} s, those of {self.experiment} {self.seconds:g} s: make them equal"
            )
        return config, folder / "best.pt"


def config_from(names: dict) -> TrainConfig:
    """Return the settings among the names of a notebook (its globals()); `method` instead of `task` names a baseline."""
    wanted = {field.name for field in fields(TrainConfig)} - {"bank"}
    if "method" in names:
        wanted = wanted - {"task", "loss"} | {"method"}
    return row_config({name: names[name] for name in wanted & names.keys()})


def row_config(values: dict) -> TrainConfig:
    """Return the settings of a row from plain values, those of 02_train or of 05_baselines, whose `method` is the task."""
    values = dict(values)
    if "method" in values:
        method = choose("method", values.pop("method"), METHODS)
        values |= {"task": method, "loss": losses.LOSSES[method][0], "experiment": values.get("experiment") or method}
    return from_dict(TrainConfig, values)


def shown_values(config: TrainConfig) -> dict:
    """Return a configuration as plain values, with paths that do not reveal the user's home folder."""
    values = to_dict(config)
    values["bank"] = [paths.short(paths.at_home(name)) for name in config.bank]
    return {**values, **{name: paths.display_name(values[name]) for name in ("encoder", "statistics")}}


def write_config(folder: Path, config: TrainConfig, key: str) -> None:
    """Write config.yaml of a run: its settings and key."""
    text = yaml.safe_dump({"key": key, "config": shown_values(config)}, sort_keys=False)
    write_atomic(folder / "config.yaml", lambda part: part.write_text(text))


def read_config(folder: Path) -> tuple[TrainConfig, str]:
    """Return settings and key of the run in a folder. Raises FileNotFoundError if there is none, ValueError if it is damaged."""
    if not (folder / "config.yaml").exists():
        runs = sorted({paths.short(p.parent) for kind in ("train", "metrics") for p in paths.RUNS.glob(f"*/*/seed*/{kind}.json")})
        raise FileNotFoundError(
            f"no run in {paths.short(folder)}: run notebooks/02_train.ipynb with these parameters first; "
            f"there are: {', '.join(runs) or 'none'}"
        )
    stored = stored_config(folder)
    return from_dict(TrainConfig, stored["config"]), stored["key"]


def stored_config(folder: Path) -> dict:
    """Return the content of config.yaml of a run, {"key", "config"}. Raises ValueError if it is damaged."""
    try:
        stored = read_params(folder / "config.yaml")
        return {"key": paths.plain_name("key", stored["key"]), "config": stored["config"]}
    except (KeyError, ValueError) as error:
        where = paths.short(folder)
        raise ValueError(f"{where}/config.yaml is damaged ({one_line(error)}): delete {where} and train again") from None
