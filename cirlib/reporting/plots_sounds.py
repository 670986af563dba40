"""Figures of sounds: log-mel spectrograms, and how a mixture is made of notes and stems."""

import textwrap

import numpy as np
import pandas as pd

from ..audio.log_mel import BANDS, HOP, RATE, STD, WINDOW, LogMel
from .plots import COLOURS, family_style, finish, panels

DYNAMICS = 80  # dB below the peak of a sound that log-mels show
LOUD = 100.0  # peak, which keeps what is shown above the floor of log-mels
COLUMNS = 4
WIDTH = 8.5  # inches


def decibels(sound: np.ndarray) -> np.ndarray:
    """Return the log-mel spectrogram of a sound (n,) at 16 kHz, (128, frames), in dB relative to its maximum."""
    import torch

    frames = max(1, (len(sound) - WINDOW) // HOP + 1)
    loud = np.asarray(sound, np.float32) * (LOUD / max(np.abs(sound).max(initial=0), 1e-9))
    levels = LogMel(frames)(torch.from_numpy(loud)[None])[0].numpy().T * 2 * STD * 10 / np.log(10)
    return levels - levels.max()


def log_mel(axis, sound: np.ndarray):
    """Draw the log-mel spectrogram of a sound (n,) at 16 kHz in a panel. Return the image, for a colour bar."""
    extent = (0, len(sound) / RATE, -0.5, BANDS - 0.5)
    image = axis.imshow(decibels(sound), cmap="magma", vmin=-DYNAMICS, vmax=0, origin="lower", aspect="auto", extent=extent)
    axis.set_yticks([_band(khz) for khz in (0.25, 1, 4)], ["0.25", "1", "4"])
    axis.set_facecolor(image.cmap(0.0))  # silence after the end
    axis.grid(False)
    return image


def _band(khz: float) -> float:
    """Return the position of a frequency among the mel bands, which are evenly spaced from 20 Hz to 8 kHz in mel."""
    low, here, high = (np.log1p(hz / 700) for hz in (20, 1000 * khz, RATE / 2))
    return (here - low) / (high - low) * (BANDS + 1) - 1


def log_mels(sounds: dict[str, np.ndarray], title: str):
    """Draw the log-mel spectrograms of sounds (n,) at 16 kHz, each under its caption, in rows of four on one time scale."""
    rows = -(-len(sounds) // COLUMNS)
    figure, axes = panels(COLUMNS, (WIDTH, 0.7 + 1.6 * rows), rows=rows, sharex=True, sharey=True)
    for axis, (caption, sound) in zip(axes.flat, sounds.items(), strict=False):
        image = log_mel(axis, sound)
        axis.set_title(textwrap.fill(caption, 26), fontsize=9)
    for axis in axes.flat[len(sounds) :]:
        axis.axis("off")
    axes[0, 0].set_xlim(0, max(map(len, sounds.values())) / RATE)
    for axis in axes[:, 0]:
        axis.set_ylabel("kHz (mel scale)")
    for axis in axes.flat[max(0, len(sounds) - COLUMNS) : len(sounds)]:
        axis.set_xlabel("time (s)")
        axis.tick_params(labelbottom=True)
    figure.colorbar(image, ax=axes, label="dB re maximum", pad=0.01)
    return finish(figure, title)


def stages(parts: dict[str, tuple[pd.DataFrame, np.ndarray]], title: str):
    """Draw the notes, the waveform and the log-mel spectrogram of each stem and of the mixture, a row for each of `parts`.

    parts: name -> notes (columns family, pitch in MIDI, start and end in seconds) and sound (n,) at 16 kHz. Notes without a pitch are
    drawn at pitch 0.
    """
    size = (WIDTH, 0.6 + 1.5 * len(parts))
    figure, axes = panels(3, size, rows=len(parts), sharex=True, sharey="col", gridspec_kw={"width_ratios": (1, 1, 1.15)})
    for (roll, wave, mel), (name, (notes, sound)) in zip(axes, parts.items(), strict=True):
        roll.hlines(notes.pitch.fillna(0), notes.start, notes.end, colors=[family_style(f)["color"] for f in notes.family], linewidth=4)
        wave.plot(np.arange(len(sound)) / RATE, sound, linewidth=0.4, color=family_style(name)["color"])
        image = log_mel(mel, sound)
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
