"""Folders of runs: who may write to one, what is in a finished one, and when an earlier one is moved aside."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..common import paths, provenance
from ..common.files import write_atomic, writing
from ..data.bank import NoteBank
from ..models import distributed
from .config import TrainConfig, stored_config, write_config


class TrainingError(RuntimeError):
    """Training cannot continue; the last good state is on disk."""


@dataclass
class Run:
    """A finished run."""

    folder: Path
    metrics: dict  # of the best validation

    @property
    def checkpoint(self) -> Path:
        """Weights of the best validation."""
        return self.folder / "best.pt"

    @property
    def history(self) -> pd.DataFrame:
        """A row per logged step: step, loss, lr, clips_per_s (steps per second x batch_size), data_wait and, after validation, valid_*."""
        return pd.read_csv(self.folder / "history.csv")


def run_key(config: TrainConfig, bank: NoteBank) -> str:
    """Return the key of a run on the sounds of a bank."""
    return config.key([info["sha256"] for info in bank.infos])


def is_finished(config: TrainConfig, bank: NoteBank) -> bool:
    """Return whether the folder of a run holds a finished run of these settings and sounds."""
    return (config.folder / "train.json").exists() and stored_config(config.folder)["key"] == run_key(config, bank)


def load_run(folder: Path) -> Run:
    """Return a finished run, and print a line if another code version made it; most changes of code do not change a run."""
    path = folder / "provenance.json"
    made = json.loads(path.read_text()) if path.exists() else {}
    if made.get("code") != provenance.code_digest() and distributed.rank() == 0:
        print(
            f"{paths.short(folder)} was trained by a different code version (commit {made.get('git')}): delete the folder to train it again"
        )
    return Run(folder, json.loads((folder / "train.json").read_text()))


@contextlib.contextmanager
def claimed(config: TrainConfig, bank: NoteBank) -> Iterator[Path]:
    """Lock the folder of a run and prepare it with `claim`; may be nested. Raises TrainingError if another process has it locked."""
    from filelock import FileLock, Timeout

    folder = config.folder
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)
    try:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(f"{paths.short(folder)} is being made by another process: wait for it, or give this run another name") from None
    try:
        yield claim(config, bank)
    finally:
        lock.release()


def claim(config: TrainConfig, bank: NoteBank) -> Path:
    """Return the folder of a run; a run of other settings or sounds is moved aside (`seed0.<key>`) first."""
    folder, key = config.folder, run_key(config, bank)
    if (folder / "config.yaml").exists() and (earlier := stored_config(folder)["key"]) != key:
        aside = folder.with_name(f"{folder.name}.{earlier}")
        if aside.exists():
            aside = folder.with_name(f"{folder.name}.{earlier}.{int(time.time())}")
        with writing(aside):
            os.replace(folder, aside)
        print(f"settings or sounds changed: the earlier run was moved to {aside.name}")
    write_config(folder, config, key)  # also if the key is the same: tests and logging may differ
    return folder


def write_history(path: Path, history: list[dict]) -> None:
    """Write rows as CSV, with the union of their columns."""
    write_atomic(path, lambda part: pd.DataFrame(history).to_csv(part, index=False))
