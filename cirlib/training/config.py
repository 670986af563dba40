"""The settings of one training run: one row of a table, one seed."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..common import paths, tracking
from ..common.files import content_hash, one_line, sha256, write_atomic
from ..common.settings import choose, from_dict, read_params, to_dict
from ..data.bank import NoteBank
from ..data.mixtures import PROTOCOLS, MixtureDataset
from ..data.note_statistics import NoteStatistics, load_statistics, statistics_file
from ..data.taxonomy import MIXTURE_FAMILIES
from ..evaluation.protocol import TESTS
from ..models.pretrained import weights_path
from . import losses
from .optimiser import OPTIMISERS

TASKS = tuple(losses.LOSSES)  # tasks.py, and baselines.py for those without a loss
METHODS = ("mfcc", "timbre-toolbox", "demucs", "multi-encoder")  # of 05_baselines
ON_MIXTURES = ("mixture", "family", "multi-encoder")  # tasks that hear mixtures of all families in training
WITH_ENCODER = ("mixture", "family", "single", "classify", "multi-encoder")  # tasks whose training starts from `encoder`
WITH_SINGLE = ("multi-encoder", "demucs")  # tasks that stand on a trained encoder for single sounds
PRECISIONS = ("", "float32", "bf16")
# what does not change the weights
ASIDE = ("preset", "experiment", "bank", "single", "queries", "tests", "wandb", "log_every", "gradient_cache_size", "workers", "compile")
LATER = ("effects",)  # settings that earlier runs do not tell: where they are off, the key is that of those runs


@dataclass
class TrainConfig:
    """One training run. Defaults train a small encoder on the demo bank in minutes on a CPU."""

    preset: str = "quick"  # folder of runs and params
    experiment: str = ""  # name of the row; "" takes the loss
    seed: int = 0
    bank: tuple[str, ...] = ("data/quick",)  # note banks; relative to the project's home
    task: str = "mixture"  # family, single, classify, multi-encoder (tasks.py); demucs, mfcc, timbre-toolbox (baselines.py)
    families: tuple[str, ...] = MIXTURE_FAMILIES  # that play together in mixtures; single and classify train on all
    protocol: str = "strict"  # or paper: keeps what the reference does
    statistics: str = ""  # file of note statistics (midi.py), relative to the project's home; "": the documented default
    loss: str = "multi-infonce"  # of losses.LOSSES[task]
    temperature: float = losses.TEMPERATURE  # of the InfoNCE losses
    encoder: str = "cnn"  # preset, hub id, local folder or checkpoint (.pt)
    single: str = "single-infonce"  # multi-encoder, demucs: row of the encoder for single sounds, same preset and seed
    seconds: float = 4.0  # length of every clip
    steps: int = 150
    batch_size: int = 64  # sounds per batch; a mixture of three instruments counts four
    max_instruments: int = 0  # mixture, family: batches of 1 to this many instruments, of any of the families; 0: one of each family
    mixtures_per_instrument: int = 3  # family: mixtures of a batch that each of its instruments plays in
    effects: float = 0.0  # mixture, family: share of the mixtures that training hears through random effects (effects.py)
    single_pairs: int = 0  # family: pairs of single sounds of the other families in a batch, of its clips
    hard_negative_ratio: float = 0.5  # single: share of the single_pairs that come from one family
    augmented: bool = True  # effects-off twins train too
    epoch_size: int = 40000  # mixtures drawn before every instrument must come again
    optimiser: str = "adam"  # or muon, whose learning rates are about 40 times as high
    start_lr: float = 5e-4
    end_lr: float = 5e-5
    warmup: float = 0.01  # share of the steps
    valid_every: int = 50  # steps
    valid_size: int = 300  # mixtures or sounds
    log_every: int = 10  # steps
    tests: tuple[str, ...] = TESTS  # what 03_retrieve tests
    queries: int = 2000  # test mixtures; the paper has 5000
    wandb: str = "off"  # online (needs secrets.yaml) or offline
    gradient_cache_size: int = 0  # batch_size that the encoder hears at once (gradient caching: less memory, the same gradient); 0: all
    workers: int = -1  # processes that make batches ahead of the steps; -1: one beside a GPU, none on a CPU
    compile: bool = False  # torch.compile the encoder, all but its front end
    precision: str = ""  # float32 or bf16 (mixed); "": bf16 on a GPU, float32 on a CPU. What is not fast at bf16 trains in float32

    def __post_init__(self):
        self.experiment = self.experiment or self.loss
        paths.plain_name("preset", self.preset)
        paths.plain_name("experiment", self.experiment)
        paths.plain_name("single", self.single)
        choose("task", self.task, TASKS)
        choose("protocol", self.protocol, PROTOCOLS)
        choose("optimiser", self.optimiser, OPTIMISERS)
        choose("precision", self.precision, PRECISIONS)
        choose("wandb mode", self.wandb, tracking.MODES)
        choose(f"{self.task} loss", self.loss, losses.LOSSES[self.task])
        if not self.tests:
            raise ValueError(f"tests must name what is tested: {', '.join(TESTS)}")
        for test in self.tests:
            choose("test", test, TESTS)
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        for name in ("hard_negative_ratio", "warmup", "effects"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        positive = "steps batch_size seconds mixtures_per_instrument epoch_size start_lr end_lr temperature "
        positive += "valid_every valid_size log_every queries"
        for name in positive.split():
            value = getattr(self, name)
            if not (0 < value < math.inf or (name == "steps" and value == 0)):
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("gradient_cache_size", "single_pairs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.max_instruments <= len(self.families) or (self.max_instruments and self.task not in ("mixture", "family")):
            raise ValueError(f"max_instruments must be 0 to {len(self.families)} (the number of families), of the mixture or family task")
        if self.effects and self.task not in ("mixture", "family"):
            raise ValueError(f"mixtures come through effects in the mixture and family tasks, not in {self.task}: set effects to 0")

    @property
    def folder(self) -> Path:
        """runs/<preset>/<experiment>/seed<k>"""
        return paths.run_folder(self.preset, self.experiment, self.seed)

    def key(self, data: list[dict]) -> str:
        """Digest of all that changes the result, checksums of the banks included: a folder with another key is another run.

        Raises as single_run() does, and for an encoder for single sounds that was trained on other sounds.
        """
        values = {k: v for k, v in to_dict(self).items() if k not in ASIDE and (v or k not in LATER)}
        if (place := weights_path(self.encoder)) and place.exists():
            values["encoder"] = content_hash(place)
        if self.task in WITH_SINGLE:
            values["single"] = sha256(self._single_of(data))
        if self.statistics:
            values["statistics"] = sha256(statistics_file(paths.at_home(self.statistics)))
        return hashlib.sha256(json.dumps([values, data], sort_keys=True).encode()).hexdigest()[:12]

    def note_statistics(self) -> NoteStatistics:
        """How each family is played in mixtures."""
        return load_statistics(paths.at_home(self.statistics) if self.statistics else "")

    def mixtures(self, bank: NoteBank, split: str, size: int, seed: int) -> MixtureDataset:
        """Mixtures of a split as this experiment hears them; of as many instruments as it hears at most."""
        statistics, most = self.note_statistics(), self.max_instruments or None
        return MixtureDataset(
            bank, families=self.families, split=split, size=size, seed=seed, protocol=self.protocol, seconds=self.seconds,
            max_instruments=most, statistics=statistics,
        )  # fmt: skip

    def single_run(self) -> tuple["TrainConfig", Path]:
        """Settings and checkpoint of the encoder for single sounds that this run stands on.

        FileNotFoundError if it is not trained, ValueError if it is no such encoder or hears batch_size of another length.
        """
        folder = paths.run_folder(self.preset, self.single, self.seed)
        config, _ = read_config(folder)
        if config.task != "single":
            raise ValueError(
                f"{self.experiment} needs an encoder for single sounds, {self.single} has task {config.task}: name another row"
            )
        if not (folder / "train.json").exists():
            raise FileNotFoundError(f"{paths.short(folder)} is not trained to its end: run notebooks/02_train.ipynb for it first")
        if config.seconds != self.seconds:
            raise ValueError(
                f"{self.single} hears batch_size of {config.seconds:g} s, {self.experiment} of {self.seconds:g} s: make them equal"
            )
        return config, folder / "best.pt"

    def _single_of(self, data: list[dict]) -> Path:
        """Checkpoint of single_run(); ValueError if it was trained on other sounds, among which may be those that are tested here."""
        config, checkpoint = self.single_run()
        if config.key(data) != read_config(checkpoint.parent)[1]:
            why = f"{paths.short(checkpoint.parent)} was trained on other sounds than {self.experiment}, or what it started from changed"
            raise ValueError(f"{why}: train it again on these (notebooks/02_train.ipynb)")
        return checkpoint

    @property
    def metric(self) -> str:
        """The distance that the loss trains: l2 for triplets, cosine for the others."""
        if self.task == "demucs":
            return self.single_run()[0].metric
        return "l2" if "triplet" in self.loss or self.task in ("mfcc", "timbre-toolbox") else "cosine"


def row_config(values: dict) -> TrainConfig:
    """Settings of a row from the parameters of 02_train, or of 05_baselines, whose `method` names the task."""
    values = dict(values)
    if "method" in values:
        values["task"] = choose("method", values.pop("method"), METHODS)
        values["loss"] = losses.LOSSES[values["task"]][0]
    return from_dict(TrainConfig, values)


def shown_values(config: TrainConfig) -> dict:
    """Plain values of a configuration as results show them: no path tells the user's home folder, and all are found again."""
    values = to_dict(config)
    values["bank"] = [paths.short(paths.at_home(name)) for name in config.bank]
    return {**values, **{name: paths.display_name(values[name]) for name in ("encoder", "statistics")}}


def write_config(folder: Path, config: TrainConfig, key: str) -> None:
    """Write config.yaml of a run folder: the settings and the key of the run."""
    text = yaml.safe_dump({"key": key, "config": shown_values(config)}, sort_keys=False)
    write_atomic(folder / "config.yaml", lambda part: part.write_text(text))


def read_config(folder: Path) -> tuple[TrainConfig, str]:
    """Settings and key of the run in a folder; FileNotFoundError that says which notebook makes it."""
    path = folder / "config.yaml"
    if not path.exists():
        runs = sorted({paths.short(p.parent) for kind in ("train", "metrics") for p in paths.RUNS.glob(f"*/*/seed*/{kind}.json")})
        raise FileNotFoundError(
            f"no run in {paths.short(folder)}: run notebooks/02_train.ipynb with these parameters first; "
            f"there are: {', '.join(runs) or 'none'}"
        )
    stored = stored_config(folder)
    return from_dict(TrainConfig, stored["config"]), stored["key"]


def stored_config(folder: Path) -> dict:
    """What config.yaml of a run folder holds, {"key", "config"}; ValueError for one that is damaged."""
    try:
        stored = read_params(folder / "config.yaml")
        return {"key": paths.plain_name("key", stored["key"]), "config": stored["config"]}
    except (KeyError, ValueError) as error:
        where = paths.short(folder)
        raise ValueError(f"{where}/config.yaml is damaged ({one_line(error)}): delete {where} and train again") from None


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up from end_lr over a share of the steps, then exponential decay start_lr -> end_lr (paper section 3)."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return config.end_lr + (config.start_lr - config.end_lr) * step / warm
    return config.start_lr * (config.end_lr / config.start_lr) ** ((step - warm) / max(1, config.steps - warm))
