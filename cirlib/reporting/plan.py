"""Steps of a preset: which notebooks run, and why each has to run or not.

A step is up to date by the keys of its settings and sounds, never by the times of files.
"""

import hashlib
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common import provenance
from ..common.files import write_json
from ..common.paths import FIGURES, RUNS, at_home, short
from ..common.settings import read_params
from ..common.untrusted import read_json
from ..data.builder import made_elsewhere
from ..data.sources import data_files, data_values, source_options
from ..training.config import WITH_SINGLE, TrainConfig, stored_config
from .rows import Row

ROUGH_MINUTES = {
    "01_data": 1.2, "03_retrieve": 0.4, "04_embedding_space": 0.8, "05_baselines": 0.5, "06_paper": 0.7, "07_search": 0.3,
    "09_open_mixtures": 0.8,
}  # fmt: skip
ROUGH_SPEED = 250  # clips of 4 s that training takes in a second: the small encoder on two CPU cores
RESULTS = {"04_embedding_space": "space.json", "09_open_mixtures": "open.json"}


@dataclass
class Step:
    """One notebook to run. `reason()` returns why it must run, "" if its result is up to date."""

    title: str
    notebook: str
    copy: str  # name of the executed copy
    parameters: dict
    reason: Callable[[], str] = lambda: "on request"
    config: TrainConfig | None = None  # of the run that it makes
    clips: float = 0  # that it trains on, in clips of 4 s
    key: Callable[[], str] = str  # what the result is made of, where the notebook does not write it

    @property
    def other_code(self) -> bool:
        """Whether the run was made by a different version of cirlib."""
        made = _json(self.config.folder / "provenance.json") if self.config else {}
        return bool(made) and made.get("code") != provenance.code_digest()


class Plan:
    """The steps of a preset, and what runs/<preset>/steps.json holds of earlier ones (minutes, keys, pace)."""

    def __init__(self, preset: str):
        self.preset, self._sums = preset, None
        self.earlier = _json(RUNS / preset / "steps.json")

    def record(self, step: Step, minutes: float) -> None:
        """Store that a step is done."""
        self._sums = None  # it may have made a bank
        kind, rough = _rough(step)
        self.earlier[step.copy] = {"minutes": round(minutes, 2), "key": step.key(), "kind": kind, "pace": round(minutes / rough, 3)}
        write_json(RUNS / self.preset / "steps.json", self.earlier)

    def minutes(self, step: Step) -> float:
        """Estimate how long a step takes: as long as before, else a rough estimate times the median pace of finished steps of its kind."""
        if step.copy in self.earlier:
            return self.earlier[step.copy]["minutes"]
        kind, rough = _rough(step)
        paces = [done["pace"] for done in self.earlier.values() if done.get("kind") == kind]
        return rough * statistics.median([1.0] * (1 + len(paces) % 2) + paces)  # one slow step does not change it

    def banks(self) -> list[Step]:
        """Return a step for each bank."""
        steps = []
        for file in data_files(self.preset):
            values = data_values(file)
            step = Step(f"make the sounds {values['bank']}", "01_data", f"01_data_{file.stem}", read_params(file))
            step.reason = lambda values=values: self._bank_reason(values)
            steps.append(step)
        return steps

    def _bank_reason(self, values: dict) -> str:
        if not (at_home(values["bank"]) / "bank.json").exists():
            return "not made yet"
        if _bank(values) is None:
            return "made with other settings"
        card = RUNS / self.preset / values.get("card", "data") / "metrics.json"
        return "" if card.exists() else "its data card is missing"

    def row(self, row: Row, seed: int) -> list[Step]:
        """Return the steps of one run: train and test, or a baseline."""
        config, run = row.config(seed), f"{row.name}, seed {seed}"
        clips = config.steps * config.batch_size * config.seconds / 4
        copy, values = f"{row.name}_seed{seed}", {**row.values, "seed": seed}

        def untested() -> str:
            return self._run_reason(config) or _test_reason(config)

        def untrained() -> str:
            return self._run_reason(config) or ("" if (config.folder / "train.json").exists() else "interrupted")

        if row.notebook == "05_baselines":
            clips = clips if "steps" in row.values else 0
            return [Step(f"baseline {run}", row.notebook, f"{row.notebook}_{copy}", values, untested, config, clips)]
        tested = {"preset": self.preset, "experiment": row.name, "seed": seed}
        return [
            Step(f"train {run}", row.notebook, f"{row.notebook}_{copy}", values, untrained, config, clips),
            Step(f"test {run}", "03_retrieve", f"03_retrieve_{copy}", tested, untested, config),
        ]

    def analysis(self, notebook: str, title: str, row: Row, seed: int) -> Step:
        """Return a step that analyses a run: 04_embedding_space or 09_open_mixtures."""
        config, copy = row.config(seed), f"{notebook}_{row.name}_seed{seed}"
        step = Step(f"{title} of {row.name}, seed {seed}", notebook, copy, {"preset": self.preset, "experiment": row.name, "seed": seed})
        step.key = lambda: stored_config(config.folder)["key"]

        def reason() -> str:
            absent = "" if (config.folder / RESULTS[notebook]).exists() else "not made yet"
            return self._run_reason(config) or absent or self._changed(step, "the run is a new one")

        step.reason = reason
        return step

    def tables(self, notebook: str) -> Step:
        """Return the step that writes the tables and figures of all finished runs."""
        step = Step("tables and figures", notebook, notebook, {"preset": self.preset})
        step.key = lambda: _digest([*RUNS.glob(f"{self.preset}/*/seed*/metrics.json"), RUNS / self.preset / "overrides.yaml"])
        table = FIGURES / self.preset / "table_mixture.json"
        step.reason = lambda: self._changed(step, "results changed") if table.exists() else "not written yet"
        return step

    def as_it_is(self, notebook: str) -> Step:
        """Return a step that runs a notebook once, with its default parameters."""
        copy = RUNS / self.preset / "notebooks" / f"{notebook}.ipynb"
        return Step(f"{notebook} as it is", notebook, notebook, {}, lambda: "" if copy.exists() else "not run yet")

    def _changed(self, step: Step, reason: str) -> str:
        return "" if self.earlier.get(step.copy, {}).get("key") == step.key() else reason

    def _run_reason(self, config: TrainConfig) -> str:
        """Return why the folder of a run does not hold a run of these settings and sounds; "" if it does."""
        if self._sums is None:
            banks = [_bank(data_values(file)) for file in data_files(self.preset)]
            self._sums = None if None in banks else [info["sha256"] for bank in banks for info in bank.infos]
        if self._sums is None:
            return "waits for its sounds"
        try:
            key = config.key(self._sums)
        except (ValueError, FileNotFoundError) as error:
            return f"waits for {config.single}" if config.task in WITH_SINGLE else str(error)
        if not (config.folder / "config.yaml").exists():
            return "not started yet"
        return "" if stored_config(config.folder)["key"] == key else "settings or sounds changed"


def _rough(step: Step) -> tuple[str, float]:
    kind = f"{step.notebook}, training" if step.clips else step.notebook
    return kind, ROUGH_MINUTES.get(step.notebook, 0.2) + step.clips / ROUGH_SPEED / 60


def _bank(values: dict):
    options = source_options(values["source"], values["options"] or {}, values["path"], values["statistics"])
    return made_elsewhere(at_home(values["bank"]), values["source"], options)


def _test_reason(config: TrainConfig) -> str:
    result = _json(config.folder / "metrics.json")
    if not result:
        return "not tested yet"
    if result.get("key") != stored_config(config.folder)["key"]:
        return "tested with an earlier run"
    same = result.get("queries") == config.queries and {"mixture", "single"} & result.keys() == set(config.tests)
    return "" if same else "tests changed"


def _json(path: Path) -> dict:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def _digest(files: list[Path]) -> str:
    rows = [(short(file), hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(files) if file.exists()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
