"""Figures in one style, colour-blind safe (Okabe and Ito), written as svg and png from files or tables only."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_atomic
from ..data.taxonomy import GROUPS, MIXTURE_FAMILIES

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")  # yellow last: it is faint on white
MARKERS = "osD^vP*X"


def style() -> None:
    """Set the shared style."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "figure.constrained_layout.use": True, "figure.dpi": 110, "savefig.dpi": 160, "font.size": 10,
            "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.titlesize": 11,
            "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6, "axes.axisbelow": True,
            "axes.prop_cycle": mpl.cycler(color=COLOURS), "legend.frameon": False, "svg.hashsalt": "cirlib",
            "svg.fonttype": "none",
        }
    )  # fmt: skip


def save(figure, folder: Path, name: str) -> None:
    """Write figure as <name>.svg and <name>.png, the same bytes for the same figure."""
    for kind, metadata in (("svg", {"Date": None, "Creator": "cirlib"}), ("png", {"Software": None})):
        write_atomic(Path(folder) / f"{name}.{kind}", lambda part, k=kind, m=metadata: figure.savefig(part, format=k, metadata=m))


def family_style(name: str) -> dict:
    """Colour and marker of a group: no two of the 16 share both; grey points for sounds without one."""
    if name not in GROUPS:
        return {"color": "#888888", "marker": "."}
    i = GROUPS.index(name)
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}


def data_card(counts: pd.DataFrame, measures: pd.DataFrame, title: str):
    """Instruments by family and split, and pitch, length and level of their notes (card.py)."""
    import matplotlib.pyplot as plt

    counts = counts.groupby("family", sort=False).sum()
    y = np.arange(len(counts))
    figure, axes = plt.subplots(
        1, 4, figsize=(11, 1.6 + 0.3 * len(y)), sharey=True, gridspec_kw={"width_ratios": [1.3, 1, 1, 1]}, squeeze=False
    )
    left = np.zeros(len(y))
    colours = dict(zip(("train", "train (twins)", "valid", "test"), COLOURS, strict=False))
    for column in counts:
        axes[0, 0].barh(y, counts[column], left=left, color=colours[column], label=column)
        left += counts[column].to_numpy()
    axes[0, 0].set(xlabel="instruments", yticks=y, yticklabels=counts.index)
    axes[0, 0].xaxis.set_major_locator(plt.MaxNLocator(5, integer=True))
    labels = {"pitch": "MIDI pitch", "seconds": "length (s)", "rms_db": "level (dB re full scale)"}
    for axis, (column, label) in zip(axes[0, 1:], labels.items(), strict=True):
        values = [measures[measures.family == name][column].dropna() for name in counts.index]
        axis.boxplot(values, positions=y, orientation="horizontal", whis=(5, 95), showfliers=False, manage_ticks=False)
        axis.set(xlabel=label)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def note_statistics(statistics, title: str, families=MIXTURE_FAMILIES):
    """Distributions of pitch, velocity and duration that play each family (midi.py)."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3))
    for name in families:
        style = {"color": family_style(name)["color"], "label": name}
        axes[0].step(range(128), statistics.pitch(name), where="mid", **style)
        axes[1].step(range(128), statistics.velocity(name), where="mid", **style)
        edges, p = statistics.duration(name)
        axes[2].stairs(p, 10**edges, **style)
    axes[0].set(xlabel="MIDI pitch", ylabel="probability")
    axes[1].set(xlabel="MIDI velocity")
    axes[2].set(xlabel="duration (s)", xscale="log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(families))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def row_style(j: int) -> dict:
    """Colour and marker of row j: no two of 64 share both."""
    return {"color": COLOURS[j % len(COLOURS)], "marker": MARKERS[(j + j // len(COLOURS)) % len(MARKERS)]}


def accuracy(tables: dict[str, pd.DataFrame], title: str):
    """Top-1 and top-5 of every row with 95% intervals and chance, one panel per test that has rows."""
    import matplotlib.pyplot as plt

    titles = {"mixture": "Query: a mix of three instruments", "single": "Query: one note of one instrument"}
    tables = {task: frame for task, frame in tables.items() if len(frame)}
    rows = max(len(t) for t in tables.values())
    figure, axes = plt.subplots(1, len(tables), figsize=(6 * len(tables), 1.6 + 0.36 * rows), squeeze=False)
    for axis, (task, frame) in zip(axes[0], tables.items(), strict=True):
        y = np.arange(len(frame))[::-1] + rows - len(frame)
        for k, colour, marker, lift in (("top1", COLOURS[0], "o", 0.12), ("top5", COLOURS[1], "s", -0.12)):
            error = np.stack([frame[k] - frame[k + "_low"], frame[k + "_high"] - frame[k]]).clip(0)
            axis.errorbar(frame[k], y + lift, xerr=error, fmt=marker, color=colour, capsize=2.5, label=f"top-{k[3:]}")
            axis.axvline(frame[f"{k}_chance"][0], color=colour, linestyle=":", linewidth=1.2, label=f"chance, top-{k[3:]}")
        most = min(100, 1.08 * frame.top5_high.max()) or 100
        axis.set(yticks=y, yticklabels=frame["row"], xlim=(0, most), ylim=(-0.6, rows - 0.4), xlabel="accuracy (%)", title=titles[task])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def by_slice(part: pd.DataFrame, label, title: str):
    """Top-1 and top-5 of every experiment in each slice (rows of one kind of report.slices); `label` names an experiment."""
    import matplotlib.pyplot as plt

    values, experiments = part.value.unique(), part.experiment.unique()
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.2 + 0.16 * len(values) * max(3, len(experiments))), sharey=True)
    step = 0.84 / len(experiments)
    for axis, k in zip(axes, ("top1", "top5"), strict=True):
        for j, name in enumerate(experiments):
            found = part[part.experiment == name].set_index("value").reindex(values)
            y = np.arange(len(values))[::-1] + 0.42 - (j + 0.5) * step
            error = np.stack([found[k] - found[k + "_low"], found[k + "_high"] - found[k]]).clip(0)
            style = row_style(j)
            axis.errorbar(
                found[k], y, xerr=error, fmt=style["marker"], color=style["color"], markersize=5, elinewidth=0.8, label=label(name)
            )
        axis.set(yticks=np.arange(len(values))[::-1], yticklabels=values, xlim=(0, None), xlabel=f"top-{k[3:]} accuracy (%)")
        for y in np.arange(len(values) - 1) + 0.5:
            axis.axhline(y, color="#bbbbbb", linewidth=0.8)
        axis.grid(axis="y", visible=False)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = max(1, min(3, 140 // max(map(len, labels))))  # that fit
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def confusion(counts: pd.DataFrame, title: str, column_label: str = "family of the first match"):
    """Draw the confusion matrix of true (rows) against predicted (columns) labels: percent of each row, whose count is in brackets."""
    import matplotlib.pyplot as plt

    total = counts.sum(axis=1)
    share = (100 * counts.div(total.where(total > 0, 1), axis=0)).to_numpy()
    size = 2.2 + 0.42 * len(counts)
    figure, axis = plt.subplots(figsize=(size + 1.2, size))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate(share):
        if value >= 0.5:
            axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if value > 55 else "black")
    axis.set(
        xticks=range(len(counts.columns)), yticks=range(len(counts)), xlabel=column_label, ylabel="true family",
        yticklabels=[f"{name} ({n})" for name, n in total.astype(int).items()], title=title,
    )  # fmt: skip
    axis.set_xticklabels(counts.columns, rotation=45, ha="right", rotation_mode="anchor")
    axis.grid(False)
    return figure


def rank_boxes(ranks: dict[str, np.ndarray], title: str):
    """Rank of the true instrument of each query (1 = first), logarithmic, by row; whiskers at 5 and 95 percent."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 1.4 + 0.34 * len(ranks)))
    axis.boxplot(
        [r + 1 for r in ranks.values()], tick_labels=list(ranks), orientation="horizontal", whis=(5, 95),
        showfliers=False, widths=0.6, patch_artist=True, boxprops={"facecolor": "#cfe3f1"}, medianprops={"color": COLOURS[1]},
    )  # fmt: skip
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="rank of the true instrument (1 = best)", title=title)
    axis.xaxis.set_major_formatter("{x:g}")
    return figure


def training_curves(histories: dict[str, pd.DataFrame], title: str):
    """Loss and validation accuracy of every row against training steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2 + 0.1 * len(histories)))
    for j, (name, history) in enumerate(histories.items()):
        colour, marker = row_style(j).values()
        loss = history.dropna(subset="loss")
        axes[0].plot(loss.step, loss.loss / loss.loss.iloc[:1].mean(), color=colour, label=name)
        valid = history.dropna(subset="valid_top1")
        axes[1].plot(valid.step, 100 * valid.valid_top1, color=colour, marker=marker, label=name)
    axes[0].set(xlabel="training step", ylabel="loss / first logged loss", title="Training loss")
    axes[1].set(xlabel="training step", ylabel="top-1 (%)", title="Validation: mixtures, unseen instruments", ylim=(0, None))
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def gains(rows: pd.DataFrame, titles: dict[str, str], title: str):
    """Gain of each idea with its interval (ablations.Ablations.table), one panel for each test of `titles`."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(titles), figsize=(4.5 * len(titles) + 2, 1.4 + 0.27 * len(rows)), sharey=True, squeeze=False)
    y = np.arange(len(rows))[::-1]
    for axis, (test, name) in zip(axes[0], titles.items(), strict=True):
        axis.axvline(0, color="#888888", linewidth=1)
        axis.errorbar(rows[f"{test}_gain"], y, xerr=rows[f"{test}_width"].fillna(0), fmt="o", color=COLOURS[0], capsize=2.5, markersize=4)
        axis.set(yticks=y, yticklabels=rows.index, xlabel="gain in top-1 (percent of queries)", title=name)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def race_curves(curves: dict[str, pd.DataFrame], title: str):
    """Accuracy among validation instruments against steps and against minutes: mean over seeds, and their range.

    `curves`: label -> rows of race.curve of all seeds, with columns `seed` and `device`. Minutes are compared on one device only, the
    fastest: the one with the run of the fewest minutes a step.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    every = pd.concat(curves)
    device = every.device.iloc[(every.minutes / every.step).to_numpy().argmin()]
    for j, (label, rows) in enumerate(curves.items()):
        for axis, x, shown in zip(axes, ("step", "minutes"), (rows, rows[rows.device == device]), strict=True):
            by_step = shown.groupby("step")
            mean, low, high = (100 * getattr(by_step.top1, how)() for how in ("mean", "min", "max"))
            place = by_step[x].mean()
            axis.plot(place, mean, **row_style(j), markersize=3.5, label=label)
            axis.fill_between(place, low, high, color=row_style(j)["color"], alpha=0.15, linewidth=0)
    axes[0].set(xlabel="step", ylabel="top-1 (%)", ylim=(0, None))
    axes[1].set(xlabel=f"minutes of training, {device}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def scatter_families(axis, points: np.ndarray, families, **kwargs) -> None:
    """Points (N, 2) coloured and marked by family, one legend entry each."""
    families = np.asarray(families)
    for name in (f for f in (*GROUPS, "(none)") if f in set(families)):
        inside = families == name
        axis.scatter(*points[inside].T, **{"s": 14, "linewidths": 0, "label": name, **family_style(name), **kwargs})
