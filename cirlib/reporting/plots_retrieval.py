"""Figures of 03_retrieve: queries against the gallery, ranks, accuracy by slice, and queries beside their matches as log-mels."""

import numpy as np
import pandas as pd
import torch

from ..audio.log_mel import BANDS, HOP, RATE, STD, WINDOW, LogMel
from .plots import COLOURS, finish, intervals, panels

RANKS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # first rank (0 = best) of each bar
DYNAMICS = 70  # dB below the peak of a sound that log-mels show


def heat_maps(parts: dict[str, tuple[np.ndarray, np.ndarray]], title: str, label: str):
    """Draw the similarity of queries (rows) to the gallery (columns), a panel for each part; the true item and the first match are marked.

    parts: name -> similarity (Q, G) and column (Q,) of the true item. Items that look alike to the queries are side by side, and the
    queries are in the order of their true items, so that correct first matches lie on a rising line.
    """
    figure, axes = panels(1, (9, 1 + 0.11 * sum(len(true) for _, true in parts.values()) + 0.7 * len(parts)), rows=len(parts))
    for axis, (name, (similarity, true)) in zip(axes[:, 0], parts.items(), strict=True):
        column = np.argsort(_side_by_side(similarity))  # of each item
        rows = np.argsort(column[true])
        shown, true = similarity[rows][:, np.argsort(column)], column[true[rows]]
        drawn = axis.imshow(shown, cmap="magma", aspect="auto", interpolation="nearest", origin="lower")
        y, first = np.arange(len(true)), shown.argmax(axis=1)
        axis.plot(true, y, "o", markerfacecolor="none", color="#56B4E9", markersize=8, markeredgewidth=1.8, label="true instrument")
        axis.plot(first, y, ".", color="#009E73", markersize=6, label="first match")
        axis.set(yticks=[], ylabel=f"{len(true)} queries", xlim=(-0.5, shown.shape[1] - 0.5))
        axis.set_title(f"{name}: first match correct in {np.mean(first == true):.0%}, gallery of {shown.shape[1]} instruments")
        axis.grid(False)
        figure.colorbar(drawn, ax=axis, label=label, pad=0.01)
    axes[-1, 0].set(xlabel="gallery instrument, similar ones side by side")
    return finish(figure, title, axes[0, 0])


def _side_by_side(similarity: np.ndarray) -> np.ndarray:
    """Return the items (G,) in the order of a hierarchical clustering of their columns."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    return leaves_list(linkage(similarity.T, "average")) if similarity.shape[1] > 2 else np.arange(similarity.shape[1])


def rank_histogram(ranks: dict[str, np.ndarray], sizes: dict[str, float], title: str):
    """Draw the share of queries by the rank of their true instrument, beside a random order; a panel for each test.

    ranks: test -> ranks (N,), 0 = first. sizes: test -> number of instruments in a ranking.
    """
    figure, axes = panels(len(ranks), (9, 3.4), sharey=True)
    for axis, (name, rank) in zip(axes[0], ranks.items(), strict=True):
        edges = np.array([e for e in RANKS if e < sizes[name]] + [sizes[name]])
        share, x = 100 * np.histogram(rank, edges)[0] / len(rank), np.arange(len(edges) - 1)
        axis.bar(x, share, color=COLOURS[0], label="this encoder")
        axis.plot(x, 100 * np.diff(edges) / sizes[name], "_", color=COLOURS[1], markersize=14, markeredgewidth=2.5, label="random order")
        names = [f"{a + 1:.0f}" if b - a <= 1 else f"{a + 1:.0f} to {b:.0f}" for a, b in zip(edges, edges[1:], strict=False)]
        axis.set(xlabel="rank of the true instrument", title=f"{len(rank):,} {name}")
        axis.set_xticks(x, names, rotation=45, ha="right", rotation_mode="anchor")
    axes[0, 0].set(ylabel="queries (%)")
    return finish(figure, title, axes[0, 0])


def accuracy_by(parts: dict[str, dict[str, dict]], title: str):
    """Draw top-1 and top-5 with intervals, a panel for each part. parts: heading -> value -> ranking.summary."""
    tables = {heading: pd.DataFrame(part).T for heading, part in parts.items()}
    figure, axes = panels(len(tables), (9, 1.7 + 0.33 * max(map(len, tables.values()))))
    for axis, (heading, table) in zip(axes[0], tables.items(), strict=True):
        y = np.arange(len(table))[::-1]
        for k, marker, lift in ((1, "o", 0.13), (5, "s", -0.13)):
            low, high = zip(*table[f"top{k}_ci"], strict=True)
            shown = pd.DataFrame({"k": table[f"top{k}"].astype(float), "k_low": low, "k_high": high}) * 100
            axis.errorbar(shown.k, y + lift, xerr=intervals(shown, "k"), fmt=marker, markersize=4, capsize=2, label=f"top-{k}")
        axis.set(yticks=y, yticklabels=[f"{name} ({n})" for name, n in table.queries.items()], title=heading)
        axis.set(xlabel="accuracy (%)", xlim=(0, 102), ylim=(-0.6, len(table) - 0.4))
    return finish(figure, title, axes[0, 0])


def log_mels(rows: list[list[tuple[str, np.ndarray]]], title: str):
    """Draw sounds (T,) at 16 kHz as log-mels, each under its caption; a line of the figure for each of the rows of (caption, sound)."""
    figure, axes = panels(len(rows[0]), (9, 0.6 + 1.35 * len(rows)), rows=len(rows), sharex=True, sharey=True)
    for line, sounds in zip(axes, rows, strict=True):
        for axis, (caption, sound) in zip(line, sounds, strict=True):
            extent = (0, len(sound) / RATE, -0.5, BANDS - 0.5)
            drawn = axis.imshow(_decibels(sound), "magma", origin="lower", aspect="auto", extent=extent, vmin=-DYNAMICS, vmax=0)
            axis.set_title(caption, fontsize=8.5)
            axis.set_yticks([_band(khz) for khz in (0.25, 1, 4)], ["0.25", "1", "4"])
            axis.grid(False)
    figure.supxlabel("time (s)", fontsize=10)
    figure.supylabel("frequency (kHz, mel scale)", fontsize=10)
    figure.colorbar(drawn, ax=axes, label="level (dB re its maximum)", shrink=0.6, pad=0.01)
    return finish(figure, title)


def _decibels(sound: np.ndarray) -> np.ndarray:
    """Return the log-mel of a sound (128, frames) in dB relative to its maximum."""
    frames = max(1, (len(sound) - WINDOW) // HOP + 1)
    levels = 2 * STD * 10 / np.log(10) * LogMel(frames)(torch.from_numpy(sound)[None])[0].numpy().T
    return levels - levels.max()


def _band(khz: float) -> float:
    """Return the position of a frequency among the mel bands, from 20 Hz to half the sample rate."""
    low, here, high = (np.log1p(hz / 700) for hz in (20, 1000 * khz, RATE / 2))
    return (here - low) / (high - low) * (BANDS + 1) - 1
