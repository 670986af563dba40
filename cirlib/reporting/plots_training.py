"""Figures of 02_train: what a loss does to each pair of tracks, a few training steps, and curves that grow while a run trains."""

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from .plots import COLOURS, finish, panels

COLUMNS, WIDTH = 3, 8.5
SHARE = 15  # live curves take at most one of so many seconds
PULLED, PUSHED = (
    {"marker": "o", "s": 26, "color": COLOURS[1], "edgecolors": "white", "linewidths": 0.6, "label": "pulled together (positive)"},
    {"marker": "x", "s": 14, "color": "#333333", "linewidths": 0.8, "label": "pushed apart (negative)"},
)
KINDS = {"distance": -1, "cosine similarity": 1, "probability": 1}  # -1: small values are near, and dark


def heat_maps(tracks: tuple, matrices: dict[str, tuple], title: str):
    """Draw what each loss compares in a panel, with the pairs that it pulls together and pushes apart marked.

    tracks: of batch_view.py. matrices: name -> values, what they are (one of KINDS), and gradients of the loss by the similarity of
    each pair, below 0 where it pulls.
    """
    columns = min(COLUMNS, len(matrices) + 1)
    lines = -(-(len(matrices) + 1) // columns)
    figure, axes = panels(columns, (WIDTH, 0.6 + lines * (3.5 if columns < COLUMNS else 2.75)), rows=lines)
    images = _draw(axes.flat, tracks, matrices)
    for axis in axes.flat[len(matrices) :]:
        axis.axis("off")
    key = axes.flat[len(matrices)]
    key.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper left", borderpad=0)
    for j, (kind, image) in enumerate(images.items()):
        bar = figure.colorbar(image, cax=key.inset_axes((0.05, 0.52 - 0.36 * j, 0.85, 0.07)), orientation="horizontal", label=kind)
        bar.ax.locator_params(nbins=5)
    return finish(figure, title)


def few_steps(tracks: tuple, matrices: dict[str, tuple], losses: Sequence[float], title: str):
    """Draw the loss of a few training steps, and what it compares before and after them (two `matrices`, as of heat_maps)."""
    figure, axes = panels(COLUMNS, (WIDTH, 4.1))
    images = _draw(axes.flat, tracks, matrices)
    axes[0, 2].plot(range(1, len(losses) + 1), losses, "o-", markersize=4)
    axes[0, 2].set(title="loss", xlabel="step", ylabel="loss")
    for kind, image in images.items():
        figure.colorbar(image, ax=axes[0, :2], location="bottom", shrink=0.5, label=kind)
    return finish(figure, title, axes[0, 0])


def _draw(axes, tracks: tuple, matrices: dict[str, tuple]) -> dict:
    """Draw a matrix in each panel. Return an image of each kind of values."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    rows, row_names, columns, column_names = tracks
    shown = {name: (np.asarray(v)[rows][:, columns], kind, np.asarray(g)[rows][:, columns]) for name, (v, kind, g) in matrices.items()}
    light, images = colormaps["Blues"](np.linspace(0, 0.62, 256)), {}  # so that marks remain visible
    for axis, (name, (values, kind, gradients)) in zip(axes, shown.items(), strict=False):
        alike = np.concatenate([v.ravel() for v, other, _ in shown.values() if other == kind])
        limits = {"vmin": np.nanmin(alike), "vmax": np.nanmax(alike)}
        images[kind] = axis.imshow(values, cmap=ListedColormap(light[:: KINDS[kind]]), aspect="auto", interpolation="nearest", **limits)
        for chosen, mark in ((gradients < -1e-6, PULLED), (gradients > 1e-6, PUSHED)):
            axis.scatter(*np.nonzero(chosen)[::-1], **mark)
        _name_tracks(axis.yaxis, row_names, axis.axhline)
        _name_tracks(axis.xaxis, column_names, axis.axvline)
        axis.set_title(name, fontsize=9.5)
        axis.grid(False)
    return images


def _name_tracks(axis, names: Sequence[str], line) -> None:
    """Write each name once, in the middle of its tracks, with a line between two names."""
    edges = [0, *(k for k in range(1, len(names)) if names[k] != names[k - 1]), len(names)]
    for edge in edges[1:-1]:
        line(edge - 0.5, color="white", linewidth=2)
    turned = {"rotation": 90} if axis.axis_name == "x" and len(edges) > 5 else {}
    axis.set_ticks([(a + b - 1) / 2 for a, b in pairwise(edges)], [names[edge] for edge in edges[:-1]], fontsize=7.5, **turned)
    axis.set_tick_params(length=0)


def curves(history: pd.DataFrame, title: str):
    """Draw loss, validation accuracy and speed of a run against training steps; what it does not have is omitted."""
    shown = {"loss": ("Training loss", "loss"), "valid_top1": ("Validation", "accuracy (%)"), "clips_per_s": ("Speed", "clips per second")}
    shown = {column: text for column, text in shown.items() if column in history}
    figure, axes = panels(max(1, len(shown)), (WIDTH, 2.7))
    for axis, (column, (name, label)) in zip(axes[0], shown.items(), strict=False):
        part = history.dropna(subset=column)
        if column == "valid_top1":
            for k, style in ((1, "-o"), (5, "--s")):
                axis.plot(part.step, 100 * part[f"valid_top{k}"], style, markersize=4, label=f"top-{k}")
            axis.legend()
        else:
            axis.plot(part.step, part[column], "-" if len(part) > 1 else ".", color=COLOURS[0])
        axis.set(title=name, xlabel="training step", ylabel=label, ylim=(0, None) if column != "loss" else None)
    return finish(figure, title)


class LiveCurves:
    """Curves of a run while it trains: `fit(config, on_log=LiveCurves(title))`.

    In a notebook they are one figure, which is updated; papermill stores the last. In a script each validation prints a line.
    """

    def __init__(self, title: str):
        self.title, self.handle, self.next = title, None, 0.0

    def __call__(self, history: list[dict]) -> None:
        from IPython import get_ipython

        if hasattr(get_ipython(), "kernel"):
            if time.monotonic() >= self.next:
                self.show(pd.DataFrame(history))
        elif "valid_top1" in history[-1]:
            print(
                ", ".join(f"{name} {history[-1][name]:g}" for name in ("step", "loss", "valid_top1", "clips_per_s") if name in history[-1])
            )

    def show(self, history: pd.DataFrame) -> None:
        """Display the curves of `history`, in place of the earlier ones."""
        import matplotlib.pyplot as plt
        from IPython.display import display

        started = time.monotonic()
        figure = curves(history, self.title)
        if self.handle:
            self.handle.update(figure)
        else:
            self.handle = display(figure, display_id=True)
        plt.close(figure)
        self.next = time.monotonic() + SHARE * (time.monotonic() - started)
