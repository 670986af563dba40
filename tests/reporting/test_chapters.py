"""What 01_data and 02_train show: sounds of a batch, log-mels, what a loss compares, losses written out, curves that grow."""

import dataclasses
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import RATE, drawn, tone
from notebook_cells import run_cell
from torch.nn import functional

from cirlib.reporting import batch_view, plots_retrieval, plots_sounds, plots_training
from cirlib.training import losses
from cirlib.training.tasks import make_task

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("figure_style")]
TASKS = {"mixture": "infonce", "single": "triplet", "classify": "instrument", "family": "family-infonce"}
NAMES = {"torch": torch, "F": functional, "np": np, "math": math, "partial": partial, "losses": losses, "batch_view": batch_view}


def task_of(config, bank, task: str, **changes):
    """A task and a small batch of it."""
    changes |= {"task": task, "loss": TASKS[task], "batch_size": 24 if task == "family" else 16}
    task = make_task(dataclasses.replace(config, **changes), bank)
    return task, task.batch(0)


def orthogonal_gradients(task, batch, name: str) -> np.ndarray:
    """The gradients of 02_train."""
    model = SimpleNamespace(model=lambda: torch.nn.Identity(), **vars(task))
    names = {**NAMES, "task": task.config.task, "method": task, "batch": batch, "model": model}
    code = {"best_device": lambda: "cpu", "seed": 0, "config": task.config, "plots_training": SimpleNamespace(heat_maps=lambda *_: None)}
    return run_cell("02_train", "def gradients(name)", **names, **code)["gradients"](name).numpy()


@pytest.mark.parametrize("peak", [1e-4, 1.0])
def test_log_mels_show_the_dynamics_of_a_sound_at_any_level(peak):
    image = plots_retrieval._decibels(peak * tone(60, 1.0))
    assert image.max() == 0 and image.min() < -plots_retrieval.DYNAMICS


def test_figures_of_sounds_draw_short_and_silent_ones():
    sounds = {f"sound {k}": sound for k, sound in enumerate([tone(60), tone(60, 0.001), np.zeros(RATE)] * 2)}
    drawn(plots_sounds.log_mels(sounds, "Sounds"))
    notes = pd.DataFrame({"family": ["Bass", "Organ"], "pitch": [40.0, np.nan], "start": [0.0, 0.1], "end": [0.1, 0.2]})
    figure = plots_sounds.stages({"Bass": (notes[:1], tone(40)), "mixture": (notes, tone(40))}, "Mixture")
    drawn(figure)
    assert [axis.get_title(loc="left") for axis in figure.axes[:6:3]] == ["Bass: 1 note", "mixture: 2 notes"]
    table = pd.DataFrame({"top-1": [3.0, 1.0], "top-5": [9.0, 5.0]}, ["length", "chance"])
    drawn(plots_sounds.trivial_features(table, "Trivial features"))


@pytest.mark.parametrize(("task", "changes"), [*((task, {}) for task in TASKS), ("mixture", {"max_instruments": 2})])
def test_views_of_a_batch(config, tone_bank, task, changes):
    """The loss of its arguments is the objective of the task; all figures can be drawn."""
    task, batch = task_of(config, tone_bank, task, **changes)
    shown = batch_view.sounds(task, batch)
    assert len(shown) >= 2 and all(sound.shape == (task.samples,) and sound.any() for sound in shown.values())
    columns = len(task.labels) if task.config.task == "classify" else 8 * batch_view.head_count(task)
    vectors = torch.randn(len(task.sounds(batch)), columns, generator=torch.Generator().manual_seed(0))
    name = task.config.loss
    loss = batch_view.loss(task, name, batch_view.arguments(task, vectors, batch))
    if task.config.task != "family":  # which adds two losses of other heads
        assert torch.allclose(loss, task.objective(vectors, batch))
    part = (*batch_view.values(task, name, vectors, batch), np.ones((len(vectors), max(columns, len(vectors)))))
    tracks = batch_view.tracks(task, batch)
    drawn(plots_training.heat_maps(tracks, {name: part}, "Pairs"))
    drawn(plots_training.few_steps(tracks, {"before": part, "after": part}, [2.0, 1.0], "Steps"))


@pytest.mark.parametrize(("task", "name"), [(task, name) for task in ("mixture", "single", "family") for name in losses.LOSSES[task]])
def test_02_train_marks_positives_and_negatives(config, tone_bank, task, name):
    """A loss pulls together what belongs together, and nothing else; of mixtures, only the full losses push references apart."""
    task, batch = task_of(config, tone_bank, task)
    rows, row_names, columns, column_names = batch_view.tracks(task, batch)
    found = np.sign(np.round(orthogonal_gradients(task, batch, name), 6))[rows][:, columns]
    together = np.array(row_names)[:, None] == np.array(column_names)
    if task.config.task == "family":
        inside = (batch["members"][:, None] == batch["instruments"][:, None]).any(dim=2).numpy().T  # (instruments, mixtures)
        assert (found == np.where(inside, -1, 1).repeat(2, axis=0)).all()
        return
    size = 4 if task.config.task == "mixture" else 2
    first = np.arange(len(rows)) % size == 0  # a mixture, or the first sound of a pair
    assert ((found < 0) == together & (first[:, None] != first)).all()
    references = ~first[:, None] & ~first & ~np.eye(len(rows), dtype=bool)
    assert (found[references] > 0).all() == ("full" in name)


@pytest.mark.parametrize("task", ["mixture", "single", "family", "instrument", "tags"])
def test_02_train_writes_out_the_losses_of_cirlib(task):
    """The cell asserts it for a batch; here for random embeddings, in which mixtures share families."""
    draw = torch.Generator().manual_seed(0)
    stems, mixtures, logits = (torch.randn(shape, generator=draw) for shape in ((4, 2, 8), (4, 8), (5, 6)))
    families = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 1]])
    members, heads = torch.tensor([[0, 1], [0, 3], [2, 4], [4, 1]]), torch.randn(4, 3, 8, generator=draw)
    notes = (torch.randn(5, 8, generator=draw), torch.tensor([0, 1, 1, 2, 0]), torch.arange(5), heads, members)
    kind = "classify" if task in ("instrument", "tags") else task
    taken = {
        "mixture": (stems, mixtures, families),
        "single": (stems[:, 0], mixtures),
        "family": notes,
        "instrument": (logits, torch.tensor([0, 3, 5, 3, 1])),
        "tags": (logits, (logits > 0.3).long()),
    }[task]
    method = SimpleNamespace(config=SimpleNamespace(task=kind, temperature=0.1))
    value = {name: batch_view.loss(method, name, taken).item() for name in ([task] if kind == "classify" else losses.LOSSES[kind])}
    names = {**NAMES, "task": kind, "config": SimpleNamespace(temperature=0.1, loss=""), "taken": taken}
    for words in ("def c(a, b)", "def triplet(", "def all_tracks(", "def multi_infonce(", "def family_infonce("):
        names = run_cell("02_train", words, **names)
    run_cell("02_train", "readable = {", **names, value=value)
    for name in value:
        with pytest.raises(AssertionError, match=name):
            run_cell("02_train", "readable = {", **names, value={name: 1.01 * value[name]})


HISTORY = [
    {"step": 10, "loss": 2.0, "clips_per_s": 90.0},
    {"step": 20, "loss": 1.5, "clips_per_s": 91.0, "valid_top1": 0.5, "valid_top5": 0.7},
]


def test_live_curves_print_lines_in_a_script(capsys):
    curves = plots_training.LiveCurves("Run")
    for end in (1, 2):
        curves(HISTORY[:end])
    assert capsys.readouterr().out == "step 20, loss 1.5, valid_top1 0.5, clips_per_s 91\n"


def test_live_curves_update_one_figure_in_a_notebook(monkeypatch):
    """As often as drawing takes a small share of the time; the last one always."""
    updates, shown = [], []
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr(
        "IPython.display.display", lambda figure, display_id: shown.append(figure) or SimpleNamespace(update=updates.append)
    )
    curves = plots_training.LiveCurves("Run")
    for _ in range(3):
        curves(HISTORY)
    assert len(shown) == 1 and not updates
    curves.show(pd.DataFrame(HISTORY))
    curves.next = 0
    curves(HISTORY[:1])
    assert len(shown) == 1 and len(updates) == 2 and len(updates[0].axes) == 3
    drawn(plots_training.curves(pd.DataFrame([{"step": 0, "valid_top1": 0.1, "valid_top5": 0.2}]), "Without steps"))
