"""What is killed: training, evaluating, indexing and writing figures, each as the pipeline does it, on a few tones."""

import dataclasses
import json
import shutil
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import torch
import yaml
from conftest import build_bank, tone, tone_sounds
from stage_bank import Bank
from fake_runs import result as fake_result
from tones import write

from cirlib.common import paths, provenance
from cirlib.common.files import write_json
from cirlib.evaluation import protocol as evaluate
from cirlib.models.encoder import AudioEncoder
from cirlib.reporting import plots, records
from cirlib.reporting import rows as sweep
from cirlib.reporting import tables as report
from cirlib.search import library, update
from cirlib.training.config import TrainConfig, write_config
from cirlib.training.loop import fit

mpl.use("agg")


class Stage:
    """One stage: `prepare` a folder, `run` until done, `check` what a kill left, and the `result` besides what files hold.

    `again`: the stage comes upon an earlier result, which it replaces.
    """

    name = ""

    def __init__(self, base: Path):
        self.base = base  # what all runs of the stage read; `make_base` makes it

    def make_base(self) -> None:
        """What the stage reads."""

    def prepare(self, folder: Path, again: bool) -> None:
        """Where it begins."""

    def run(self, folder: Path, way: str) -> None:
        """The work itself."""
        raise NotImplementedError

    def check(self, folder: Path, again: bool) -> None:
        """Raise if what is there is not whole, besides files."""

    def result(self, folder: Path) -> dict:
        """What it made, besides files."""
        return {}


class Training(Stage):
    """A run that is validated after every second step."""

    name = "training"

    def make_base(self) -> None:
        build_bank(self.base / "bank", [s for s in tone_sounds() if s.row["pitch"] % 4 == 0])

    def prepare(self, folder: Path, again: bool) -> None:
        """A finished run of other settings, which is to be moved aside."""
        if again:
            paths.RUNS = folder
            fit(self.config(steps=2), progress=False)

    def config(self, **changes) -> TrainConfig:
        """Six steps."""
        values = {"steps": 6, "batch_size": 12, "curriculum": (0.34,), "epoch_size": 20, "valid_every": 2, "valid_size": 6, "log_every": 1}
        values |= {"optimiser": "muon", "queries": 20}
        return TrainConfig(preset="kills", bank=(str(self.base / "bank"),), seconds=0.25, **{**values, **changes})

    def run(self, folder: Path, way: str) -> None:
        paths.RUNS = folder
        fit(self.config(), progress=False)


class Evaluating(Training):
    """What 03_retrieve does, in place of an earlier test with fewer mixtures every second time."""

    name = "evaluating"

    def make_base(self) -> None:
        super().make_base()
        paths.RUNS = self.base
        shutil.move(fit(self.config(steps=2), progress=False).folder, self.base / "run")
        (self.base / "earlier").mkdir()
        self._evaluate(self.base / "earlier", 10)

    def prepare(self, folder: Path, again: bool) -> None:
        if again:
            shutil.copytree(self.base / "earlier", folder, dirs_exist_ok=True)

    def run(self, folder: Path, way: str) -> None:
        self._evaluate(folder, 20)

    def _evaluate(self, folder: Path, queries: int) -> None:
        config = dataclasses.replace(self.config(), queries=queries)
        bank, encoder = evaluate.open_banks(config.bank), AudioEncoder.load(self.base / "run" / "best.pt", "cpu")
        found = evaluate.embed_test(evaluate.Retriever(encoder), bank, config)
        ranks, result = evaluate.score(found, bank, config)
        result["self_match"] = evaluate.self_match(found, config.metric)
        evaluate.write_results(folder, found, ranks, {**result, "provenance": provenance.collect(0, bank)})


class Indexing(Stage):
    """A library of a folder in blocks of four sounds; every second time it is there and its sounds changed."""

    name = "indexing"

    def make_base(self) -> None:
        torch.manual_seed(0)
        AudioEncoder.create("cnn", 0.25, width=4, dim=16).eval().save(self.base / "best.pt")
        for i in range(14):
            write(self.base / "sounds" / f"bass {i}.wav", tone(40 + i))
        self.run(self.base / "before", "")
        for i in range(5):
            write(self.base / "sounds" / f"bass {i}.wav", tone(70 + i))
            (self.base / "sounds" / f"bass {9 + i}.wav").unlink()
        write(self.base / "sounds" / "lead one.wav", tone(80))

    def prepare(self, folder: Path, again: bool) -> None:
        if again:
            shutil.copytree(self.base / "before", folder, dirs_exist_ok=True)

    def run(self, folder: Path, way: str) -> None:
        update.BLOCK = 4
        library.Library.build(self.base / "sounds", folder / "lib", str(self.base / "best.pt"))

    def check(self, folder: Path, again: bool) -> None:
        if (folder / "lib" / "library.json").exists():
            self.result(folder)
        assert (folder / "lib" / "library.json").exists() or not again, "the library is lost"

    def result(self, folder: Path) -> dict:
        rows = library.Library.open(folder / "lib")._table.read().to_pandas()
        assert rows.id.is_unique
        return {f"{row.path} {row.stamp} {row.instrument} {row.family}": row.vector.tobytes().hex() for row in rows.itertuples()}


class Figures(Stage):
    """Tables, a figure, records of runs, a page of JSON; in place of older ones every second time."""

    name = "writing figures"

    def make_base(self) -> None:
        texts = {name: {"preset": "kills", "experiment": name, "loss": name, "steps": 4} for name in ("triplet", "infonce")}
        (self.base / "params" / "kills").mkdir(parents=True)
        for name, values in {**texts, "data": {"preset": "kills", "bank": "data/kills"}}.items():
            (self.base / "params" / "kills" / f"{name}.yaml").write_text(yaml.safe_dump(values))
        for name, values in texts.items():
            folder = self.base / "runs" / "kills" / name / "seed0"
            write_config(folder, TrainConfig(**values), "key")
            write_json(folder / "metrics.json", {**fake_result(name, 0, 0.5), "provenance": {"data": []}})
            (folder / "history.csv").write_text("step,clips_per_s,valid_top1,valid_top5\n2,48,,\n4,96,0.25,0.5\n")

    def prepare(self, folder: Path, again: bool) -> None:
        if again:
            self._write(folder, 0.2)

    def run(self, folder: Path, way: str) -> None:
        self._write(folder, 0.4)

    def _write(self, folder: Path, top1: float) -> None:
        sweep.PARAMS = paths.PARAMS = self.base / "params"
        report.RUNS = paths.RUNS = sweep.RUNS = self.base / "runs"
        records.FIGURES = report.FIGURES = folder / "figures"
        place = folder / "figures" / "kills"
        runs = [fake_result(name, seed, top1 + 0.01 * seed) for name in ("triplet", "infonce") for seed in range(2)]
        tables = report.write_tables("kills", runs=runs)
        plots.style()
        stored = {task: pd.read_json(place / f"table_{task}.json") for task in tables}
        plots.save(plots.accuracy(stored, "Kills"), place, "accuracy")
        for record in records.update("kills"):
            write_json(place / f"{record['experiment']}.json", json.loads(json.dumps(record)))


STAGES = {"bank": Bank, "training": Training, "evaluating": Evaluating, "indexing": Indexing, "figures": Figures}
