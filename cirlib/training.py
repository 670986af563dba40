"""fit(config): train an encoder for one row of a table. Resumes exactly, stops cleanly, never overwrites the last good state."""

import contextlib
import csv
import ctypes
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from . import evaluate, paths, provenance, tracking
from .bank import NoteBank
from .config import from_dict, read_params, to_dict
from .experiment import TrainConfig, learning_rate, write_config
from .files import write_atomic, write_json
from .sources import ensure_banks
from .tasks import make_task


@dataclass
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
        """One row per logged step: step, loss, lr, clips_per_s and, where validated, valid_*."""
        return pd.read_csv(self.folder / "history.csv")


class TrainingError(RuntimeError):
    """Training cannot go on; the last good state is kept."""


def fit(config: TrainConfig, progress: bool = True) -> Run:
    """Train and validate; returns the finished run. Called again, it continues an interrupted run or returns a finished one.

    A folder of a run with other settings is moved aside (`seed0.<key>`), never mixed or deleted. Raises TrainingError on a
    non-finite loss and KeyboardInterrupt on Ctrl-C; in both cases the state on disk is good and fit() continues from it. Raises
    TrainingError too if another process trains this very run.
    """
    if not torch.cuda.is_available():
        _keep_memory()
    bank = evaluate.open_banks(config.bank)
    with claimed(config, bank) as folder:
        finished = folder / "train.json"
        if not finished.exists():
            _Trainer(config, bank, folder, progress).run()
        return Run(folder, json.loads(finished.read_text()))


def _keep_memory() -> None:
    """Let glibc reuse the memory of large tensors instead of returning it after each step: a third faster on a CPU."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no memory mappings, they are unmapped when freed
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: do not give the top of the heap back


@contextlib.contextmanager
def claimed(config: TrainConfig, bank: NoteBank) -> Iterator[Path]:
    """The run's folder as `claim` leaves it, locked; it may be entered again inside. TrainingError if another process holds it."""
    from filelock import FileLock, Timeout

    folder = config.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)
    try:
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
        earlier = yaml.safe_load((folder / "config.yaml").read_text())["key"]
        if earlier == key:
            write_config(folder, config, key)  # tests and logging may differ
            return folder
        aside = folder.with_name(f"{folder.name}.{earlier}")
        if aside.exists():
            aside = folder.with_name(f"{folder.name}.{earlier}.{int(time.time())}")
        os.replace(folder, aside)
        print(f"settings or sounds changed: the earlier run was moved to {aside.name}")
    write_config(folder, config, key)
    return folder


class _Trainer:
    """State of one run: model, optimiser, step, history."""

    def __init__(self, config: TrainConfig, bank: NoteBank, folder: Path, progress: bool):
        from accelerate import Accelerator

        self.config, self.bank, self.folder, self.progress = config, bank, folder, progress
        gpu = torch.cuda.is_available()
        self.accelerator = Accelerator(mixed_precision="bf16" if gpu else "no", cpu=not gpu)
        torch.manual_seed(config.seed)
        self.task = make_task(config, bank, self.accelerator.process_index, self.accelerator.num_processes)
        model = self.task.model()
        optimiser = torch.optim.Adam(model.parameters(), lr=config.end_lr)
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        self.step, self.best, self.history, self.losses = 0, -1.0, [], []
        self.validation = self.task.validation()
        self._restore()

    @property
    def module(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model)

    def run(self) -> None:
        """All steps that are left."""
        config = self.config
        if self.accelerator.num_processes > 1:
            raise TrainingError("training with several processes is not supported yet: start one")
        if self.accelerator.is_main_process:
            write_json(self.folder / "provenance.json", provenance.collect(config.seed, self.bank))
        tracker = tracking.start(config.wandb, f"{config.preset}/{config.experiment}/seed{config.seed}", to_dict(config), self.folder)
        bar = evaluate.progress(range(self.step, config.steps), config.experiment, self.progress)
        try:
            started = time.perf_counter()
            for step, batch in zip(bar, self._batches(), strict=True):
                self._update(step, batch)
                if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                    started = self._log(tracker, bar, started)
                if (step + 1) % config.valid_every == 0 or step + 1 == config.steps:
                    self._validate(tracker)
                    started = time.perf_counter()
            if not config.steps:
                self._validate(tracker)
            tracker.checkpoint(self.folder / "best.pt", "best")
        except KeyboardInterrupt:
            kept = "the last validation" if (self.folder / "last.pt").exists() else "the start"
            print(f"stopped after step {self.step} of {config.steps}; run it again to go on from {kept}")
            raise
        finally:
            tracker.finish()
        self._finish()

    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of the steps that are left. A GPU computes while a thread makes the next two; a CPU has no core to spare."""
        steps = range(self.step, self.config.steps)
        if self.accelerator.device.type == "cpu":
            yield from map(self.task.batch, steps)
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = deque(pool.submit(self.task.batch, k) for k in steps[:2])
            for k in steps:
                batch = ahead.popleft().result()
                if k + 2 in steps:
                    ahead.append(pool.submit(self.task.batch, k + 2))
                yield batch

    def _update(self, step: int, batch: dict[str, torch.Tensor]) -> None:
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.config)
        batch = {k: v.to(self.accelerator.device) for k, v in batch.items()}
        loss = self.task.loss(self.model, batch)
        self.optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.losses.append(loss.detach())
        if not math.isfinite(self.losses[-1].item()):
            kept = "the last validated state is kept in last.pt" if (self.folder / "last.pt").exists() else "nothing was saved yet"
            raise TrainingError(
                f"the loss of {self.config.experiment} is not finite at step {step}: lower start_lr or look at the data; {kept}"
            )
        self.optimiser.step()
        self.step = step + 1

    def _log(self, tracker, bar, started: float) -> float:
        now, steps = time.perf_counter(), len(self.losses)
        row = {
            "step": self.step,
            "loss": float(torch.stack(self.losses).mean()),
            "lr": learning_rate(self.step - 1, self.config),
            "clips_per_s": round(self.config.clips * steps / (now - started), 1),
        }
        self.losses = []
        self.history.append(row)
        tracker.log(row, self.step)
        bar.set_postfix(refresh=False, loss=f"{row['loss']:.3f}", clips_per_s=row["clips_per_s"])
        return now

    def _validate(self, tracker) -> None:
        """Retrieval among validation instruments, then best and last state to disk."""
        scores = self.validation(self.task.retriever(self.module))
        if not self.history or self.history[-1]["step"] != self.step:
            self.history.append({"step": self.step})
        self.history[-1] |= {f"valid_{k}": v for k, v in scores.items()}
        tracker.log(self.history[-1], self.step)
        if not self.accelerator.is_main_process:
            return
        if scores["mrr"] > self.best:
            self.best = scores["mrr"]
            self.module.save(self.folder / "best.pt", step=self.step, valid=scores)
        self._save()

    def _save(self) -> None:
        state = {
            "step": self.step, "best": self.best, "history": json.dumps(self.history), "losses": [float(x) for x in self.losses],
            "model": self.module.state_dict(), "optimiser": self.optimiser.state_dict(), "rng": torch.get_rng_state(),
        }  # fmt: skip
        write_history(self.folder / "history.csv", self.history)
        write_atomic(self.folder / "last.pt", lambda part: torch.save(state, part))

    def _restore(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"])
        self.step, self.best, self.history = state["step"], state["best"], json.loads(state["history"])
        self.losses = [torch.tensor(x) for x in state["losses"]]
        print(f"continuing {self.config.experiment} from step {self.step}")

    def _finish(self) -> None:
        if not self.accelerator.is_main_process:
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


def main() -> None:
    """python -m cirlib.training params/demo/triplet-24.yaml [name=value ...]"""
    if len(sys.argv) < 2:
        raise SystemExit(main.__doc__)
    try:
        values = read_params(Path(sys.argv[1]))
        values |= {name: yaml.safe_load(value) for name, _, value in (a.partition("=") for a in sys.argv[2:])}
        bank = ensure_banks(values.get("preset", TrainConfig.preset))
        run = fit(from_dict(TrainConfig, {"bank": [paths.short(p) for p in bank.paths], **values}))
    except (ValueError, FileNotFoundError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(json.dumps({"run": paths.short(run.folder), **run.metrics}, indent=1))


if __name__ == "__main__":
    main()
