"""fit(config): train an encoder for one row of a table. Resumes exactly, stops cleanly, never overwrites the last good state."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..common import paths, provenance, tracking
from ..common.files import one_line, write_json
from ..data import trained_on
from ..data.bank import NoteBank
from ..evaluation.protocol import open_banks, progress
from ..models import distributed
from ..models.checkpoints import read_tensors, write_tensors
from .config import TrainConfig, shown_values
from .gradients import backward, check_chunks
from .optimiser import learning_rate, make_optimiser
from .runs import Run, TrainingError, claimed, is_finished, load_run, write_history
from .tasks import Task, make_task


def fit(config: TrainConfig, *, show: bool = True, on_log: Callable[[list[dict]], None] | None = None) -> Run:
    """Train and validate; return the finished run. Called again, it resumes an interrupted run or returns a finished one.

    `show`: progress bar. `on_log`: called after each logged and each validated step with the history so far (Run.history as a list of
    rows), also that of the steps before an interruption. The folder of a run with other settings is moved aside (`seed0.<key>`), and
    only once these settings can be trained (else ValueError). Raises TrainingError for a loss that is not finite or if another process
    trains this run, and KeyboardInterrupt on Ctrl-C; the state on disk is good then, and fit() resumes from it.
    """
    accelerator = distributed.make_accelerator(config.precision)
    bank = open_banks(config.bank)
    trainer = None if is_finished(config, bank) else _Trainer(config, bank, accelerator, show=show, on_log=on_log)
    with claimed(config, bank) if accelerator.is_main_process else contextlib.nullcontext():
        accelerator.wait_for_everyone()
        if trainer and not (config.folder / "train.json").exists():
            trainer.run()
            accelerator.wait_for_everyone()
        return load_run(config.folder)


class _Steps:
    """The batches of a task as a data set: item k is the batch of step k, or the ValueError that it raised in a worker process."""

    def __init__(self, task: Task):
        self.task = task

    def __getitem__(self, step: int) -> dict[str, torch.Tensor] | ValueError:
        try:
            return self.task.batch(step)
        except ValueError as error:
            return error


class _Trainer:
    """State of a run: model, optimiser, step, history. Raises ValueError for settings that give no model or no batch."""

    def __init__(self, config: TrainConfig, bank: NoteBank, accelerator, *, show: bool, on_log: Callable | None):
        self.config, self.bank, self.folder, self.accelerator = config, bank, config.folder, accelerator
        self.main = accelerator.is_main_process
        self.show, self.on_log = show and self.main, on_log if self.main and on_log else lambda history: None
        torch.manual_seed(config.seed)
        self.task = make_task(config, bank, accelerator.process_index, accelerator.num_processes)
        model = self.task.model()
        if config.steps:
            model.trained_on = [*model.trained_on, *trained_on.describe(bank)]
        if config.gradient_cache_size:
            check_chunks(model)
        if config.compile:
            model.encode = torch.compile(model.encode)  # not the front end, which runs without gradients
        self.model = accelerator.prepare(model)
        self.optimiser = make_optimiser(config.optimiser, self.module)
        self.step, self.best, self.history = 0, -1.0, []
        self.losses, self.unread = [], []  # of steps not yet logged; `unread` ones are still on the device
        self.validation = self.task.validation()
        if config.steps:
            self.task.batch(0)  # raises ValueError if the bank is too small

    @property
    def module(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model)

    def run(self) -> None:
        """Run the remaining steps."""
        config = self.config
        self._restore()
        if self.main:
            self._write_provenance()
        mode = config.wandb if self.main else "off"
        name = f"{config.preset}/{config.experiment}/seed{config.seed}"
        tracker = tracking.start(mode, name, config=shown_values(config), folder=self.folder)
        bar = progress(range(self.step, config.steps), config.experiment, show=self.show, done=self.step)
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
                tracker.checkpoint(self.folder / "best.pt")
        except KeyboardInterrupt:
            kept = "the last validation" if (self.folder / "last.pt").exists() else "the start"
            if self.main:
                print(f"stopped after step {self.step} of {config.steps}; run it again to resume from {kept}")
            raise
        finally:
            tracker.finish()
        self._finish()

    def _write_provenance(self) -> None:
        """Write provenance.json; `began`: that of the first steps, of a run resumed by other code or on another machine."""
        path, made = self.folder / "provenance.json", provenance.collect(self.config.seed, self.bank)
        earlier = json.loads(path.read_text()) if self.step and path.exists() else {}
        began = earlier.pop("began", earlier)
        write_json(path, made | ({"began": began} if began and began != made else {}))

    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the batches of the remaining steps, prepared by worker processes or, by default on a CPU, in this one."""
        steps = range(self.step, self.config.steps)
        gpu = self.accelerator.device.type != "cpu"
        workers = int(gpu) if self.config.workers < 0 else self.config.workers
        ahead = {"num_workers": workers, "multiprocessing_context": "fork", "prefetch_factor": 2} if workers else {}
        own = torch.Generator()  # without it, every start would draw from the generator of training, and a resumed run would differ
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
        options = {"cache_size": self.config.gradient_cache_size, "unsynchronised": partial(self.accelerator.no_sync, self.model)}
        self.unread.append(backward(self.task, self.model, batch, **options))
        self.counted += 1
        self.optimiser.step(learning_rate(step, self.config))
        self.step = step + 1

    def _read_losses(self) -> None:
        """Read the losses of the last steps at once, as reading waits for the GPU. Raises TrainingError if one is not finite."""
        if not self.unread:
            return
        losses = self.accelerator.reduce(torch.stack(self.unread), "mean").tolist()
        self.losses, self.unread = self.losses + losses, []
        for step, loss in enumerate(losses, self.step - len(losses)):
            if not math.isfinite(loss):
                kept = "the last validated state is in last.pt" if (self.folder / "last.pt").exists() else "nothing was saved yet"
                raise TrainingError(
                    f"the loss of {self.config.experiment} is not finite at step {step}: lower start_lr or check the data; {kept}"
                )

    def _start_clock(self) -> None:
        """Start measuring speed; `waited`: seconds spent waiting for batches."""
        self.started, self.counted, self.waited = time.perf_counter(), 0, 0.0

    def _log(self, tracker, bar) -> None:
        self._read_losses()
        elapsed = time.perf_counter() - self.started
        row = {
            "step": self.step,
            "loss": float(np.mean(self.losses)),
            "lr": learning_rate(self.step - 1, self.config),
            "clips_per_s": round(self.config.batch_size * self.counted / elapsed, 1),
            "data_wait": round(self.waited / elapsed, 3),  # share of the time spent waiting for batches
        }
        self.losses = []
        self.history.append(row)
        tracker.log(row, self.step)
        bar.set_postfix(refresh=False, loss=f"{row['loss']:.3f}", clips_per_s=row["clips_per_s"])
        self.on_log(self.history)
        self._start_clock()

    def _validate(self, tracker) -> None:
        """Retrieve validation instruments, then write the best and the last state."""
        self._read_losses()
        scores = self.validation(self.task.retriever(self.module))  # computed by all processes together
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
        self.on_log(self.history)

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
        sizes = distributed.gather(torch.tensor([size], dtype=torch.int64, device=self.accelerator.device))
        if (sizes != sizes[0]).any():
            raise TrainingError(f"the processes do not share one {paths.short(path)}: put runs/ on a disk that all machines share")
        if not path.exists():
            return
        try:
            state = read_tensors(path)
            self.module.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            torch.set_rng_state(state["rng"])
            self.step, self.best, self.history = state["step"], state["best"], json.loads(state["history"])
            self.losses = state["losses"]
        except Exception as error:  # a damaged file leads to all kinds
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
