"""Figures in one style, safe for colour-blind readers (Okabe and Ito), drawn from tables and saved as svg and png."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_atomic
from ..data.taxonomy import GROUPS, MIXTURE_FAMILIES
from ..evaluation.ablations import LEVEL
from .labels import order

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")  # yellow last: it is faint on white
MARKERS = "osD^vP*X"
LINES = ("-", "--", ":", "-.")


def style() -> None:
    """Set the style of all figures."""
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
    """Write a figure as <name>.svg and <name>.png; the same figure gives the same bytes."""
    for kind, metadata in (("svg", {"Date": None, "Creator": "cirlib"}), ("png", {"Software": None})):
        write_atomic(Path(folder) / f"{name}.{kind}", lambda part, k=kind, m=metadata: figure.savefig(part, format=k, metadata=m))


def family_style(name: str) -> dict:
    """Return the colour and marker of a family, unlike those of any other; grey dots for sounds without a family."""
    if name not in GROUPS:
        return {"color": "#888888", "marker": "."}
    return row_style(GROUPS.index(name))


def row_style(j: int) -> dict:
    """Return the colour and marker of row j; no two of 64 rows share both."""
    return {"color": COLOURS[j % len(COLOURS)], "marker": MARKERS[(j + j // len(COLOURS)) % len(MARKERS)]}


def line_style(j: int) -> dict:
    """Return the colour, line and marker of curve j, without yellow; no two of 28 curves share colour and line."""
    colours = COLOURS[:-1]
    line = {"color": colours[j % len(colours)], "linestyle": LINES[j // len(colours) % len(LINES)]}
    return {**line, "marker": MARKERS[j % len(MARKERS)], "markersize": 4}


def panels(columns: int, size: tuple[float, float], *, rows: int = 1, **options):
    """Return a figure of `size` inches and its axes (rows, columns)."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def finish(figure, title: str, *labelled, columns: int = 3):
    """Add a title above the panels and a legend of the labelled axes below them. Return the figure."""
    entries = {label: handle for axis in labelled for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def intervals(table: pd.DataFrame, key: str) -> np.ndarray:
    """Return the distances (2, N) from a value to the ends of its interval: columns <key>, <key>_low and <key>_high."""
    return np.stack([table[key] - table[f"{key}_low"], table[f"{key}_high"] - table[key]]).clip(0)


def data_card(counts: pd.DataFrame, measures: pd.DataFrame, title: str):
    """Draw instruments by family and split, and pitch, length and level of their notes (card.py)."""
    counts = counts.groupby("family", sort=False).sum()
    y = np.arange(len(counts))
    figure, axes = panels(4, (9, 1.6 + 0.3 * len(y)), sharey=True, gridspec_kw={"width_ratios": [1.3, 1, 1, 1]})
    first, left = axes[0, 0], np.zeros(len(y))
    colours = dict(zip(("train", "train (twins)", "valid", "test"), COLOURS, strict=False))
    for column in counts:
        first.barh(y, counts[column], left=left, color=colours[column], label=column)
        left += counts[column].to_numpy()
    first.set(xlabel="instruments", yticks=y, yticklabels=counts.index)
    first.locator_params(axis="x", nbins=5, integer=True)
    labels = {"pitch": "MIDI pitch", "seconds": "length (s)", "rms_db": "level (dB re full scale)"}
    for axis, (column, label) in zip(axes[0, 1:], labels.items(), strict=True):
        values = [measures[measures.family == name][column].dropna() for name in counts.index]
        axis.boxplot(values, positions=y, orientation="horizontal", whis=(5, 95), showfliers=False, manage_ticks=False)
        axis.set(xlabel=label)
    first.invert_yaxis()
    return finish(figure, title, first, columns=4)


def note_statistics(statistics, title: str, families=MIXTURE_FAMILIES):
    """Draw the distributions of pitch, velocity and duration of the notes of each family (note_statistics.py)."""
    figure, ((pitch, velocity, duration),) = panels(3, (8.5, 2.8))
    for name in families:
        style = {"color": family_style(name)["color"], "label": name}
        pitch.step(range(128), statistics.pitch(name), where="mid", **style)
        velocity.step(range(128), statistics.velocity(name), where="mid", **style)
        edges, p = statistics.duration(name)
        duration.stairs(p, 10**edges, **style)
    pitch.set(xlabel="MIDI pitch", ylabel="probability")
    velocity.set(xlabel="MIDI velocity")
    duration.set(xlabel="duration (s)", xscale="log")
    return finish(figure, title, pitch, columns=len(families))


def accuracy(tables: dict[str, pd.DataFrame], title: str):
    """Draw top-1 and top-5 of every row with 95% intervals and chance; a panel for each test, with the same rows and range."""
    titles = {"mixture": "Query: a mix of three instruments", "single": "Query: one note of one instrument"}
    tables = {test: table for test, table in tables.items() if len(table)}
    every = pd.concat(tables.values()).drop_duplicates("row")
    if "experiment" in every:
        every = every.sort_values("experiment", key=lambda names: names.map(order))
    places = pd.Series(range(len(every))[::-1], every["row"].to_list())
    figure, axes = panels(len(tables), (2.5 + 3.4 * len(tables), 1.6 + 0.36 * len(every)), sharey=True)
    most = min(100, 1.08 * max(table.top5_high.max() for table in tables.values())) or 100
    for axis, (test, table) in zip(axes[0], tables.items(), strict=True):
        y = places[table["row"]].to_numpy()
        for k, colour, marker, lift in (("top1", COLOURS[0], "o", 0.12), ("top5", COLOURS[1], "s", -0.12)):
            axis.errorbar(table[k], y + lift, xerr=intervals(table, k), fmt=marker, color=colour, capsize=2.5, label=f"top-{k[3:]}")
            axis.axvline(table[f"{k}_chance"][0], color=colour, linestyle=":", linewidth=1.2, label=f"chance, top-{k[3:]}")
        axis.set(yticks=places, yticklabels=places.index, xlim=(0, most), ylim=(-0.6, len(every) - 0.4))
        axis.set(xlabel="accuracy (%)", title=titles[test])
    return finish(figure, title, axes[0, 0], columns=4)


def by_slice(part: pd.DataFrame, label, title: str):
    """Draw top-1 and top-5 of every experiment in each slice of the queries (one kind of slices); label(experiment) is its name."""
    values, experiments = part.value.unique(), part.experiment.unique()
    figure, axes = panels(2, (9.5, 2.2 + 0.16 * len(values) * max(3, len(experiments))), sharey=True)
    step, y = 0.84 / len(experiments), np.arange(len(values))[::-1]
    for axis, k in zip(axes[0], ("top1", "top5"), strict=True):
        for j, name in enumerate(experiments):
            rows, style = part[part.experiment == name].set_index("value").reindex(values), row_style(j)
            line = {"fmt": style["marker"], "color": style["color"], "markersize": 5, "elinewidth": 0.8, "label": label(name)}
            axis.errorbar(rows[k], y + 0.42 - (j + 0.5) * step, xerr=intervals(rows, k), **line)
        axis.set(yticks=y, yticklabels=values, xlim=(0, None), xlabel=f"top-{k[3:]} accuracy (%)")
        for line in y[1:] + 0.5:
            axis.axhline(line, color="#bbbbbb", linewidth=0.8)
        axis.grid(axis="y", visible=False)
    longest = max(len(label(name)) for name in experiments)
    return finish(figure, title, axes[0, 0], columns=max(1, min(3, 140 // longest)))


def confusion(counts: pd.DataFrame, title: str, column_label: str = "family of the first match"):
    """Draw a confusion matrix of true (rows) against other (columns) labels: percent of each row, whose count is in brackets."""
    total, size = counts.sum(axis=1), 2.2 + 0.42 * len(counts)
    share = (100 * counts.div(total.where(total > 0, 1), axis=0)).to_numpy()
    figure, ((axis,),) = panels(1, (size + 1.2, size))
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
    """Draw the rank of the true instrument (1 = first, logarithmic) by row; whiskers at 5 and 95 percent of the queries."""
    figure, ((axis,),) = panels(1, (8, 1.4 + 0.34 * len(ranks)))
    axis.boxplot(
        [r + 1 for r in ranks.values()], tick_labels=list(ranks), orientation="horizontal", whis=(5, 95),
        showfliers=False, widths=0.6, patch_artist=True, boxprops={"facecolor": "#cfe3f1"}, medianprops={"color": COLOURS[1]},
    )  # fmt: skip
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="rank of the true instrument (1 = best)", title=title)
    axis.xaxis.set_major_formatter("{x:g}")
    return figure


def training_curves(histories: dict[str, pd.DataFrame], title: str):
    """Draw loss and validation accuracy of every row against training steps."""
    figure, ((left, right),) = panels(2, (10, 3.2 + 0.1 * len(histories)))
    for j, (name, history) in enumerate(histories.items()):
        loss, valid = history.dropna(subset="loss"), history.dropna(subset="valid_top1")
        left.plot(loss.step, loss.loss / loss.loss.iloc[:1].mean(), **{**line_style(j), "marker": ""})
        right.plot(valid.step, 100 * valid.valid_top1, label=name, **line_style(j))
    left.set(xlabel="training step", ylabel="loss / first logged loss", title="Training loss")
    right.set(xlabel="training step", ylabel="top-1 (%)", title="Validation: mixtures, ranked among validation instruments", ylim=(0, None))
    return finish(figure, title, right)


def gains(rows: pd.DataFrame, titles: dict[str, str], title: str):
    """Draw the gain of each idea with its interval (ablations.Ablations.table); a panel for each test of `titles`.

    Gains that are not significant after the correction for their number are pale.
    """
    figure, axes = panels(len(titles), (4.5 * len(titles) + 2, 1.4 + 0.27 * len(rows)), sharey=True)
    y = np.arange(len(rows))[::-1]
    for axis, (test, name) in zip(axes[0], titles.items(), strict=True):
        axis.axvline(0, color="#888888", linewidth=1)
        clear = (rows[f"{test}_p"] < LEVEL).to_numpy()
        for chosen, colour, label in ((clear, COLOURS[0], f"p < {LEVEL:g}, Holm-corrected"), (~clear, "#999999", "not significant")):
            part, style = rows[chosen], {"fmt": "o", "capsize": 2.5, "markersize": 4, "color": colour, "label": label}
            axis.errorbar(part[f"{test}_gain"], y[chosen], xerr=part[f"{test}_width"].fillna(0), **style)
        axis.set(yticks=y, yticklabels=rows.index, xlabel="gain in top-1 (percent of queries)", title=name)
    return finish(figure, title, axes[0, 0], columns=2)


def race_curves(curves: dict[str, pd.DataFrame], title: str):
    """Draw validation accuracy against steps and against minutes: mean and range over seeds.

    curves: label -> rows with step, minutes, top1, seed and device. Minutes are compared on the fastest device only, the one with the
    fewest minutes per step.
    """
    figure, axes = panels(2, (10, 3.6), sharey=True)
    every = pd.concat(curves)
    device = every.device.iloc[(every.minutes / every.step).to_numpy().argmin()]
    for j, (label, rows) in enumerate(curves.items()):
        for axis, x, shown in zip(axes[0], ("step", "minutes"), (rows, rows[rows.device == device]), strict=True):
            by_step = shown.groupby("step")
            place, top1 = by_step[x].mean(), 100 * by_step.top1.agg(["mean", "min", "max"])
            axis.plot(place, top1["mean"], **line_style(j), label=label)
            axis.fill_between(place, top1["min"], top1["max"], color=line_style(j)["color"], alpha=0.15, linewidth=0)
    axes[0, 0].set(xlabel="training step", ylabel="top-1 (%)", ylim=(0, None))
    axes[0, 1].set(xlabel=f"minutes of training, {device}")
    return finish(figure, title, axes[0, 0])


def scatter_families(axis, points: np.ndarray, families, **options) -> None:
    """Draw points (N, 2) in the colour and marker of their family, with a legend entry for each family."""
    families = np.asarray(families)
    for name in (f for f in (*GROUPS, "(none)") if f in set(families)):
        axis.scatter(*points[families == name].T, **{"s": 14, "linewidths": 0, "label": name, **family_style(name), **options})
