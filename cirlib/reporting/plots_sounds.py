"""Figures of sounds: log-mel spectrograms, and how a mixture is made of notes and stems."""

import textwrap

import numpy as np
import pandas as pd

from ..audio.log_mel import RATE
from .plots import COLOURS, family_style, finish, panels
from .plots_retrieval import log_mel

COLUMNS = 4
WIDTH = 8.5  # inches


def log_mels(sounds: dict[str, np.ndarray], title: str):
    """Draw the log-mel spectrograms of sounds (n,) at 16 kHz, each under its caption, in rows of four on one time scale."""
    rows = -(-len(sounds) // COLUMNS)
    figure, axes = panels(COLUMNS, (WIDTH, 0.7 + 1.6 * rows), rows=rows, sharex=True, sharey=True)
    for axis, (caption, sound) in zip(axes.flat, sounds.items(), strict=False):
        image = log_mel(axis, sound, textwrap.fill(caption, 26))
        axis.tick_params(labelbottom=True)
    for axis in axes.flat[len(sounds) :]:
        axis.axis("off")
    axes[0, 0].set_xlim(0, max(map(len, sounds.values())) / RATE)
    axes[-1, 0].set(xlabel="time (s)", ylabel="kHz (mel scale)")
    figure.colorbar(image, ax=axes, label="dB re maximum", pad=0.01)
    return finish(figure, title)


def stages(tracks: dict[str, tuple[pd.DataFrame, np.ndarray]], title: str):
    """Draw notes, waveform and log-mel of each stem and of the mixture in a row.

    tracks: name -> notes (family, pitch in MIDI, 0 without one, start and end in seconds) and sound (n,) at 16 kHz.
    """
    size = (WIDTH, 0.6 + 1.5 * len(tracks))
    figure, axes = panels(3, size, rows=len(tracks), sharex=True, sharey="col", gridspec_kw={"width_ratios": (1, 1, 1.15)})
    for (roll, wave, mel), (name, (notes, sound)) in zip(axes, tracks.items(), strict=True):
        roll.hlines(notes.pitch.fillna(0), notes.start, notes.end, colors=[family_style(f)["color"] for f in notes.family], linewidth=4)
        wave.plot(np.arange(len(sound)) / RATE, sound, linewidth=0.4, color=family_style(name)["color"])
        image = log_mel(mel, sound, "")
        roll.set_title(f"{name}: {len(notes)} note{'s' * (len(notes) != 1)}", fontsize=9)
        roll.set(ylabel="MIDI pitch", xlim=(0, len(sound) / RATE))
        wave.set(ylabel="amplitude", ylim=(-1, 1))
        mel.set(ylabel="kHz (mel scale)")
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    figure.colorbar(image, ax=axes[:, 2], label="dB re maximum", pad=0.02, shrink=0.4)
    return finish(figure, title)


def trivial_features(table: pd.DataFrame, title: str):
    """Draw top-1 and top-5 of each trivial feature, in percent, and chance (shortcuts.py)."""
    features, chance = table.drop(index="chance"), table.loc["chance"]
    figure, ((axis,),) = panels(1, (WIDTH, 1.4 + 0.45 * len(features)))
    y = np.arange(len(features))
    for k, lift, colour in (("top-1", -0.19, COLOURS[0]), ("top-5", 0.19, COLOURS[1])):
        axis.barh(y + lift, features[k], 0.36, color=colour, label=k)
        axis.axvline(chance[k], color=colour, linestyle="--", linewidth=1.2, label=f"{k} by chance ({chance[k]:.2g} %)")
    axis.set(yticks=y, yticklabels=features.index, xlabel="queries (%)")
    axis.invert_yaxis()
    return finish(figure, title, axis, columns=4)
