"""fit(config): train an encoder for one row of a table. Resumes exactly, stops cleanly, never overwrites the last good state."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from ..common import paths, provenance, tracking
from ..common.files import one_line, write_atomic, write_json, writing
from ..data.bank import NoteBank
from ..evaluation.protocol import open_banks, progress
from ..models import distributed as processes
from ..models.checkpoints import read_tensors, write_tensors
from .config import TrainConfig, learning_rate, shown_values, stored_config, write_config
from .gradients import backward, check_chunks
from .optimiser import make_optimiser
from .tasks import Task, make_task


@dataclasses.dataclass
class Run:
    """A finished run."""

    folder: Path
    metrics: dict  # best validation

    @property
    def checkpoint(self) -> Path:
        """Weights of the best validation."""
        return self.folder / "best.pt"

    @property
    def history(self) -> pd.DataFrame:
        """One row per logged step: step, loss, lr, clips_per_s (steps a second times `clips`) and, where validated, valid_*."""
        return pd.read_csv(self.folder / "history.csv")


class TrainingError(RuntimeError):
    """Training cannot go on; the last good state is kept."""


def fit(config: TrainConfig, progress: bool = True) -> Run:
    """Train and validate; returns the finished run. Called again, it continues an interrupted run or returns a finished one.

    A folder of a run with other settings is moved aside (`seed0.<key>`), never mixed or deleted, and stays where it is if these settings
    cannot be trained (ValueError). Raises TrainingError on a non-finite loss and KeyboardInterrupt on Ctrl-C; in both cases the state on
    disk is good and fit() continues from it. Raises TrainingError too if another process trains this very run.
    """
    accelerator = processes.make_accelerator(config.precision)
    bank = open_banks(config.bank)
    trainer = None if _is_finished(config, bank) else _Trainer(config, bank, accelerator, progress and accelerator.is_main_process)
    with claimed(config, bank) if accelerator.is_main_process else contextlib.nullcontext():
        accelerator.wait_for_everyone()
        finished = config.folder / "train.json"
        if trainer is None or finished.exists():
            _tell_other_code(config.folder)
        else:
            trainer.run()
            accelerator.wait_for_everyone()
        return Run(config.folder, json.loads(finished.read_text()))


def _is_finished(config: TrainConfig, bank: NoteBank) -> bool:
    folder = config.folder
    return (folder / "train.json").exists() and stored_config(folder)["key"] == config.key([info["sha256"] for info in bank.infos])


def _tell_other_code(folder: Path) -> None:
    """A finished run is kept when the code changes, which most often changes nothing that it did: say so, once."""
    path = folder / "provenance.json"
    made = json.loads(path.read_text()) if path.exists() else {}
    if made.get("code") != provenance.code_digest() and processes.rank() == 0:
        print(f"{paths.short(folder)} was trained by other code than is here now (commit {made.get('git')}): delete it to train it again")


@contextlib.contextmanager
def claimed(config: TrainConfig, bank: NoteBank) -> Iterator[Path]:
    """The run's folder as `claim` leaves it, locked; it may be entered again inside. TrainingError if another process holds it."""
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
    """The run's folder; one of other settings or other sounds is moved aside first."""
    folder, key = config.folder, config.key([info["sha256"] for info in bank.infos])
    if (folder / "config.yaml").exists():
        earlier = stored_config(folder)["key"]
        if earlier == key:
            write_config(folder, config, key)  # tests and logging may differ
            return folder
        aside = folder.with_name(f"{folder.name}.{earlier}")
        if aside.exists():
            aside = folder.with_name(f"{folder.name}.{earlier}.{int(time.time())}")
        with writing(aside):
            os.replace(folder, aside)
        print(f"settings or sounds changed: the earlier run was moved to {aside.name}")
    write_config(folder, config, key)
    return folder


class _Steps:
    """The batches of a task as a data set: item k is the batch of step k."""

    def __init__(self, task: Task):
        self.task = task

    def __getitem__(self, step: int) -> dict[str, torch.Tensor] | ValueError:
        try:
            return self.task.batch(step)
        except ValueError as error:  # comes back from a worker process as it is
            return error


class _Trainer:
    """State of one run: model, optimiser, step, history. ValueError for settings of which no model or no batch can be made."""

    def __init__(self, config: TrainConfig, bank: NoteBank, accelerator, progress: bool):
        self.config, self.bank, self.folder, self.progress = config, bank, config.folder, progress
        self.accelerator, self.main = accelerator, accelerator.is_main_process
        torch.manual_seed(config.seed)
        self.task = make_task(config, bank, accelerator.process_index, accelerator.num_processes)
        model = self.task.model()
        if config.gradient_cache_size:
            check_chunks(model)
        if config.compile:
            model.encode = torch.compile(model.encode)  # all but the front end, which runs without gradients
        self.model = accelerator.prepare(model)
        self.optimiser = make_optimiser(config.optimiser, self.module)
        self.step, self.best, self.history = 0, -1.0, []
        self.losses, self.unread = [], []  # of the steps that are not logged yet; the latest are still on the device
        self.validation = self.task.validation()
        if config.steps:
            self.task.batch(0)  # refuses a bank that is too small

    @property
    def module(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model)

    def run(self) -> None:
        """All steps that are left."""
        config = self.config
        self._restore()
        if self.main:
            self._tell_origin()
        mode = config.wandb if self.main else "off"
        name = f"{config.preset}/{config.experiment}/seed{config.seed}"
        tracker = tracking.start(mode, name, config=shown_values(config), folder=self.folder)
        bar = progress(range(self.step, config.steps), config.experiment, show=self.progress, done=self.step)
        try:
            self._start_clock()
            for step, batch in zip(bar, self._batches(), strict=True):
                self._update(step, batch)
                if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                    self._log(tracker, bar)
                if (step + 1) % config.valid_every == 0 or step + 1 == config.steps:
                    self._validate(tracker)
                    self._start_clock()
            if not config.steps:
                self._validate(tracker)
            if self.main:
                tracker.checkpoint(self.folder / "best.pt", "best")
        except KeyboardInterrupt:
            kept = "the last validation" if (self.folder / "last.pt").exists() else "the start"
            if self.main:
                print(f"stopped after step {self.step} of {config.steps}; run it again to go on from {kept}")
            raise
        finally:
            self.task.close()
            tracker.finish()
        self._finish()

    def _tell_origin(self) -> None:
        """provenance.json; of a run that goes on with other code or elsewhere, `began` tells how its first steps were made."""
        path, made = self.folder / "provenance.json", provenance.collect(self.config.seed, self.bank)
        earlier = json.loads(path.read_text()) if self.step and path.exists() else {}
        began = earlier.pop("began", earlier)
        write_json(path, made | ({"began": began} if began and began != made else {}))

    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of the steps that are left, made ahead by worker processes, or in line: a CPU has no core to spare."""
        steps = range(self.step, self.config.steps)
        gpu = self.accelerator.device.type != "cpu"
        workers = int(gpu) if self.config.workers < 0 else self.config.workers
        ahead = {"num_workers": workers, "multiprocessing_context": "fork", "prefetch_factor": 2} if workers else {}
        own = torch.Generator()  # else each start draws from the random numbers of training, which then differ in a run that went on
        batches = iter(DataLoader(_Steps(self.task), batch_size=None, sampler=steps, pin_memory=gpu, generator=own, **ahead))
        for _ in steps:
            started = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - started
            if isinstance(batch, ValueError):
                raise batch
            yield batch

    def _update(self, step: int, batch: dict[str, torch.Tensor]) -> None:
        self.model.train()
        batch = {k: v.to(self.accelerator.device, non_blocking=True) for k, v in batch.items()}
        self.optimiser.zero_grad()
        self.unread.append(
            backward(self.task, self.model, batch, self.config.gradient_cache_size, partial(self.accelerator.no_sync, self.model))
        )
        self.counted += 1
        self.optimiser.step(learning_rate(step, self.config))
        self.step = step + 1

    def _read_losses(self) -> None:
        """Losses of all processes, of the steps since the last time: a GPU waits once for many. TrainingError if one is not finite."""
        if not self.unread:
            return
        losses = self.accelerator.reduce(torch.stack(self.unread), "mean").tolist()
        self.losses, self.unread = self.losses + losses, []
        for step, loss in enumerate(losses, self.step - len(losses)):
            if not math.isfinite(loss):
                kept = "the last validated state is kept in last.pt" if (self.folder / "last.pt").exists() else "nothing was saved yet"
                raise TrainingError(
                    f"the loss of {self.config.experiment} is not finite at step {step}: lower start_lr or look at the data; {kept}"
                )

    def _start_clock(self) -> None:
        """Speed is that of the steps from here on; `waited`: seconds of them without a batch."""
        self.started, self.counted, self.waited = time.perf_counter(), 0, 0.0

    def _log(self, tracker, bar) -> None:
        self._read_losses()
        elapsed = time.perf_counter() - self.started
        row = {
            "step": self.step,
            "loss": float(np.mean(self.losses)),
            "lr": learning_rate(self.step - 1, self.config),
            "clips_per_s": round(self.config.batch_size * self.counted / elapsed, 1),
            "data_wait": round(self.waited / elapsed, 3),  # share of the time
        }
        self.losses = []
        self.history.append(row)
        tracker.log(row, self.step)
        bar.set_postfix(refresh=False, loss=f"{row['loss']:.3f}", clips_per_s=row["clips_per_s"])
        self._start_clock()

    def _validate(self, tracker) -> None:
        """Retrieval among validation instruments, then best and last state to disk."""
        self._read_losses()
        scores = self.validation(self.task.retriever(self.module))  # shared by all processes
        if not self.history or self.history[-1]["step"] != self.step:
            self.history.append({"step": self.step})
        self.history[-1] |= {f"valid_{k}": v for k, v in scores.items()}
        tracker.log(self.history[-1], self.step)
        if not self.main:
            return
        if scores["mrr"] > self.best:
            self.best = scores["mrr"]
            self.module.save(self.folder / "best.pt", step=self.step, valid=scores)
        self._save()

    def _save(self) -> None:
        state = {
            "step": self.step, "best": self.best, "history": json.dumps(self.history), "losses": self.losses,
            "model": self.module.state_dict(), "optimiser": self.optimiser.state_dict(), "rng": torch.get_rng_state(),
        }  # fmt: skip
        write_history(self.folder / "history.csv", self.history)
        write_tensors(self.folder / "last.pt", state)

    def _restore(self) -> None:
        path = self.folder / "last.pt"
        size = path.stat().st_size if path.exists() else 0
        seen = processes.gather(torch.tensor([size], dtype=torch.int64, device=self.accelerator.device))
        if (seen != seen[0]).any():
            raise TrainingError(f"the processes do not all see the same {paths.short(path)}: put runs/ on a disk that all machines share")
        if not path.exists():
            return
        try:
            state = read_tensors(path)
            self.module.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            torch.set_rng_state(state["rng"])
            self.step, self.best, self.history = state["step"], state["best"], json.loads(state["history"])
            self.losses = state["losses"]
        except Exception as error:  # whatever its bytes lead to
            where = f"{paths.short(path)} is damaged or of another version ({one_line(error)})"
            raise TrainingError(f"{where}: delete {paths.short(self.folder)} and train again") from None
        if self.main:
            print(f"continuing {self.config.experiment} from step {self.step}")

    def _finish(self) -> None:
        if not self.main:
            return
        validated = [h for h in self.history if "valid_mrr" in h]
        best = max(validated, key=lambda h: h["valid_mrr"])
        rates = [h["clips_per_s"] for h in self.history if "clips_per_s" in h]
        write_json(
            self.folder / "train.json",
            {
                "valid": {k.removeprefix("valid_"): v for k, v in best.items() if k.startswith("valid_")},
                "best_step": best["step"],
                "parameters": sum(p.numel() for p in self.module.parameters()),
                "clips_per_s": float(np.median(rates)) if rates else None,
            },
        )


def write_history(path: Path, history: list[dict]) -> None:
    """History rows as CSV, with the union of their columns."""
    columns = list(dict.fromkeys(k for row in history for k in row))

    def save(part: Path) -> None:
        with open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)

    write_atomic(path, save)
