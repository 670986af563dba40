"""Stages to kill: training, evaluating, indexing and writing figures, on a few tones."""

import dataclasses
import json
import shutil
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import torch
import yaml
from conftest import build_bank, tone, tone_sounds
from fake_runs import result as fake_result
from stage_bank import Bank
from tones import write

from cirlib.common import paths, provenance
from cirlib.common.files import write_json
from cirlib.evaluation import protocol
from cirlib.models.encoder import AudioEncoder
from cirlib.reporting import plots, records
from cirlib.reporting import rows as sweep
from cirlib.reporting import tables as report
from cirlib.search import library, update
from cirlib.training.config import TrainConfig, write_config
from cirlib.training.loop import fit

mpl.use("agg")


class Stage:
    """A stage: `prepare` a folder, `run` to the end, `check` the folder after a kill, and the `result` that is not in files.

    `again`: there is an earlier result, which the stage replaces.
    """

    name = ""

    def __init__(self, base: Path):
        self.base = base  # inputs of all runs, written by `make_base`

    def make_base(self) -> None:
        """Write the inputs."""

    def prepare(self, folder: Path, again: bool) -> None:
        """Prepare a folder."""

    def run(self, folder: Path, way: str) -> None:
        """Do the work."""
        raise NotImplementedError

    def check(self, folder: Path, again: bool) -> None:
        """Raise if results other than files are incomplete."""

    def result(self, folder: Path) -> dict:
        """Return results other than files."""
        return {}


class Training(Stage):
    """A training run, validated after every second step."""

    name = "training"

    def make_base(self) -> None:
        build_bank(self.base / "bank", [s for s in tone_sounds() if s.row["pitch"] % 4 == 0])

    def prepare(self, folder: Path, again: bool) -> None:
        """Train with other settings: that run is moved aside later."""
        if again:
            paths.RUNS = folder
            fit(self.config(steps=2), show=False)

    def config(self, **changes) -> TrainConfig:
        """Return settings of six steps."""
        values = {"steps": 6, "batch_size": 12, "epoch_size": 20, "valid_every": 2, "valid_size": 6, "log_every": 1}
        values |= {"optimiser": "muon", "queries": 20}
        return TrainConfig(preset="kills", bank=(str(self.base / "bank"),), seconds=0.25, **{**values, **changes})

    def run(self, folder: Path, way: str) -> None:
        paths.RUNS = folder
        fit(self.config(), show=False)


class Evaluating(Training):
    """The evaluation of 03_retrieve, every second time in place of an earlier one with fewer mixtures."""

    name = "evaluating"

    def make_base(self) -> None:
        super().make_base()
        paths.RUNS = self.base
        shutil.move(fit(self.config(steps=2), show=False).folder, self.base / "run")
        (self.base / "earlier").mkdir()
        self._evaluate(self.base / "earlier", 10)

    def prepare(self, folder: Path, again: bool) -> None:
        if again:
            shutil.copytree(self.base / "earlier", folder, dirs_exist_ok=True)

    def run(self, folder: Path, way: str) -> None:
        self._evaluate(folder, 20)

    def _evaluate(self, folder: Path, queries: int) -> None:
        config = dataclasses.replace(self.config(), queries=queries)
        bank, encoder = protocol.open_banks(config.bank), AudioEncoder.load(self.base / "run" / "best.pt", device="cpu")
        found = protocol.embed_test(protocol.Retriever(encoder), bank, config)
        ranks, result = protocol.score(found, bank, config)
        result["self_match"] = protocol.self_match(found, config.metric)
        protocol.write_results(folder, found, ranks, {**result, "provenance": provenance.collect(0, bank)})


class Indexing(Stage):
    """A library in blocks of four sounds; every second time it exists and sounds have changed."""

    name = "indexing"

    def make_base(self) -> None:
        torch.manual_seed(0)
        AudioEncoder.create("cnn", seconds=0.25, width=4, dim=16).eval().save(self.base / "best.pt")
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
    """Tables, a figure and records of runs, every second time in place of older ones."""

    name = "writing figures"

    def make_base(self) -> None:
        texts = {name: {"preset": "kills", "experiment": name, "loss": name, "steps": 4} for name in ("triplet", "infonce")}
        (self.base / "params" / "kills").mkdir(parents=True)
        for name, values in {**texts, "data": {"preset": "kills", "bank": "data/kills"}}.items():
            (self.base / "params" / "kills" / f"{name}.yaml").write_text(yaml.safe_dump(values))
        for name, values in texts.items():
            folder = self.base / "runs" / "kills" / name / "seed0"
            write_config(folder, TrainConfig(**values), "key")
            write_json(folder / "metrics.json", {**fake_result(name, 0, 0.5), "preset": "kills", "provenance": {"data": []}})
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
