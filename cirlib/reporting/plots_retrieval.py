"""Figures of 03_retrieve: queries against the gallery, ranks, accuracy by slice, and queries beside their matches as log-mels."""

from itertools import pairwise

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
        axis.set(xticks=[], yticks=[], ylabel=f"{len(true)} queries", xlim=(-0.5, shown.shape[1] - 0.5))
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
        names = [f"{a + 1:.0f}" if b - a <= 1 else f"{a + 1:.0f} to {b:.0f}" for a, b in pairwise(edges)]
        axis.set(xlabel="rank of the true instrument", title=f"{name}: {len(rank):,} rankings")
        axis.set_xticks(x, names, rotation=45, ha="right", rotation_mode="anchor")
    axes[0, 0].set(ylabel="queries (%)")
    return finish(figure, title, axes[0, 0])


def accuracy_by(parts: dict[str, dict[str, dict]], title: str):
    """Draw top-1 and top-5 with intervals, a panel for each part. parts: heading -> value -> ranking.summary."""
    counts = [len(part) for part in parts.values()]
    figure, axes = panels(1, (9, 1.4 + 0.6 * len(parts) + 0.3 * sum(counts)), rows=len(parts), sharex=True, height_ratios=counts)
    for axis, (heading, part) in zip(axes[:, 0], parts.items(), strict=True):
        table, y = 100 * pd.DataFrame({name: _flat(scores) for name, scores in part.items()}).T, np.arange(len(part))[::-1]
        for k, marker, lift in (("top1", "o", 0.13), ("top5", "s", -0.13)):
            axis.errorbar(table[k], y + lift, xerr=intervals(table, k), fmt=marker, markersize=5, capsize=2, label=f"top-{k[3:]}")
        names = [f"{name} ({scores['queries']:,})" for name, scores in part.items()]
        axis.set(yticks=y, yticklabels=names, title=heading, ylim=(-0.6, len(part) - 0.4), xlim=(-1, 101))
    axes[-1, 0].set(xlabel="accuracy (%), in brackets: queries")
    return finish(figure, title, axes[0, 0])


def _flat(scores: dict) -> dict[str, float]:
    return {
        f"{k}{end}": value
        for k in ("top1", "top5")
        for end, value in zip(("", "_low", "_high"), (scores[k], *scores[f"{k}_ci"]), strict=True)
    }


def log_mels(rows: list[list[tuple[str, np.ndarray]]], title: str):
    """Draw sounds (T,) at 16 kHz as log-mels, each under its caption; a line of the figure for each of the rows of (caption, sound)."""
    figure, axes = panels(len(rows[0]), (9, 0.8 + 1.3 * len(rows)), rows=len(rows), sharex=True, sharey=True)
    for line, sounds in zip(axes, rows, strict=True):
        for axis, (caption, sound) in zip(line, sounds, strict=True):
            drawn = log_mel(axis, sound, caption)
    axes[-1, 0].set(xlabel="time (s)", ylabel="kHz, mel scale")
    figure.colorbar(drawn, ax=axes, label="level (dB re the maximum of the sound)", shrink=0.5)
    return finish(figure, title)


def log_mel(axis, sound: np.ndarray, caption: str):
    """Draw the log-mel of a sound (T,) at 16 kHz, in few colours, which keeps files small. Return the image."""
    from matplotlib import colormaps

    extent = (0, len(sound) / RATE, -0.5, BANDS - 0.5)
    options = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "extent": extent, "vmin": -DYNAMICS, "vmax": 0}
    drawn = axis.imshow(_decibels(sound), colormaps["magma"].resampled(DYNAMICS // 5), **options)
    axis.set_title(caption, fontsize=8.5)
    axis.set_yticks([_band(khz) for khz in (0.25, 1, 4)], ["0.25", "1", "4"])
    axis.set_facecolor("black")  # where a sound is shorter than its neighbours
    axis.grid(False)
    return drawn


def _decibels(sound: np.ndarray) -> np.ndarray:
    """Return the log-mel of a sound (128, frames) in dB relative to its maximum."""
    frames = max(1, (len(sound) - WINDOW) // HOP + 1)
    loud = torch.from_numpy(np.asarray(sound, np.float32) * 100 / max(np.abs(sound).max(), 1e-9))  # above the floor of log-mels
    levels = 2 * STD * 10 / np.log(10) * LogMel(frames)(loud[None])[0].numpy().T
    return levels - levels.max()


def _band(khz: float) -> float:
    """Return the position of a frequency among the mel bands, from 20 Hz to half the sample rate."""
    low, here, high = (np.log1p(hz / 700) for hz in (20, 1000 * khz, RATE / 2))
    return (here - low) / (high - low) * (BANDS + 1) - 1
