"""Figures of an embedding space, from what 04_embedding_space wrote: space.json and space_map.parquet. Style and saving: plots.py."""

import numpy as np
import pandas as pd

from .plots import COLOURS, family_style, row_style, scatter_families

OWN, OTHER, CHANCE = COLOURS[0], COLOURS[1], "#666666"
LABELS_SHOWN = 7  # colours of a view; rarer labels share one


def _below(figure, axis, columns: int) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def map_views(points: pd.DataFrame, titles: dict[str, str], title: str):
    """One map, a panel for each of `titles` (column of points -> title of its panel): labels in colours, numbers on a scale.

    points: x, y, what (reference note, stem, mixture), family and the columns. Stems and mixtures have a place of their own
    in the panel of families and are grey elsewhere.
    """
    import matplotlib.pyplot as plt

    rows = -(-len(titles) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(11.5, 5.4 * rows), squeeze=False)
    notes = points[points.what == "reference note"]
    rest = points[points.what != "reference note"]
    for axis, (column, heading) in zip(axes.flat, titles.items(), strict=False):
        if column == "family":
            _family_view(axis, points)
        else:
            axis.scatter(rest.x, rest.y, s=5, color="#dddddd", linewidths=0, rasterized=True)
            (_number_view if pd.api.types.is_numeric_dtype(notes[column]) else _label_view)(axis, notes, column)
        axis.set(xticks=[], yticks=[], title=heading)
        axis.grid(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, markerscale=1.5, fontsize=8, columnspacing=1)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def _family_view(axis, points: pd.DataFrame) -> None:
    notes, stems, mixtures = (points[points.what == what] for what in ("reference note", "stem", "mixture"))
    scatter_families(axis, notes[["x", "y"]].to_numpy(), notes.family, s=16, rasterized=True)
    for name, part in stems.groupby("family"):
        colour = family_style(name)["color"]
        axis.scatter(part.x, part.y, s=14, facecolors="none", edgecolors=colour, linewidths=0.5, alpha=0.6, rasterized=True)
    if len(stems):
        axis.scatter([], [], s=14, facecolors="none", edgecolors="#666666", linewidths=0.6, label="stem, colour of its family")
    axis.scatter(mixtures.x, mixtures.y, s=12, color="black", marker="x", linewidths=0.7, label="mixture", rasterized=True)


def _label_view(axis, notes: pd.DataFrame, column: str) -> None:
    """The most frequent label below, the rarest on top."""
    labels = notes[column].fillna("(none)")
    shown = labels.value_counts().index[: LABELS_SHOWN - (labels.nunique() > LABELS_SHOWN)]
    labels = labels.where(labels.isin(shown), "other")
    for j, (name, count) in enumerate(labels.value_counts().items()):
        part = notes[labels == name]
        axis.scatter(part.x, part.y, s=16, linewidths=0, label=f"{name} ({count})", rasterized=True, **row_style(j))


def _number_view(axis, notes: pd.DataFrame, column: str) -> None:
    part = notes.dropna(subset=column)
    drawn = axis.scatter(part.x, part.y, c=part[column], cmap="viridis", s=16, linewidths=0, rasterized=True)
    below = axis.inset_axes([0.25, -0.06, 0.5, 0.025])
    axis.figure.colorbar(drawn, cax=below, label=column, orientation="horizontal")


def mixture_distances(stored: dict, title: str):
    """Distances of mixtures to what plays in them and to others of the same family, and the share of others that lie farther away.

    stored: {"stems" and "references": {"edges", "own", "other" (densities), "families": {family: {"mean", "low", "high"}}}, "metric"}.
    """
    import matplotlib.pyplot as plt

    names = {k: n for k, n in (("stems", "stems"), ("references", "reference notes")) if k in stored}
    figure, axes = plt.subplots(1, len(names) + 1, figsize=(4.2 * (len(names) + 1), 3.6), squeeze=False)
    for axis, (key, name) in zip(axes[0], names.items(), strict=False):
        for which, colour, label in (("own", OWN, "of its own instruments"), ("other", OTHER, "of others of the same family")):
            axis.stairs(stored[key][which], stored[key]["edges"], fill=True, alpha=0.3, color=colour)
            axis.stairs(stored[key][which], stored[key]["edges"], color=colour, linewidth=1.4, label=label)
        axis.set(xlabel=f"{stored['metric']} distance", title=f"From a mixture to {name}", yticks=[])
    axes[0, 0].set(ylabel="density")
    families = list(stored["references"]["families"])
    last = axes[0, -1]
    for lift, (key, name), marker, colour in zip((0.1, -0.1), names.items(), "os", COLOURS[2:4], strict=False):
        found = pd.DataFrame(stored[key]["families"]).T.reindex(families)
        error = 100 * np.stack([found["mean"] - found.low, found.high - found["mean"]]).clip(0)
        y = np.arange(len(families))[::-1] + lift
        last.errorbar(100 * found["mean"], y, xerr=error, fmt=marker, capsize=2.5, color=colour, label=name)
    last.axvline(50, color=CHANCE, linestyle=":", label="chance")
    last.set(yticks=np.arange(len(families))[::-1], yticklabels=families, ylim=(-0.6, len(families) - 0.4))
    last.set(xlabel="others that lie farther away than its own (%)", title="By family")
    entries = zip(*(axis.get_legend_handles_labels() for axis in (axes[0, 0], last)), strict=True)
    figure.legend(*(first + second for first, second in entries), loc="outside lower center", ncols=5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def hubs(reports: dict[str, dict], title: str):
    """How many gallery items are found how often; reports: what queries are -> space.hub_report."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(reports), figsize=(5.2 * len(reports), 3.6), squeeze=False)
    for axis, (name, report) in zip(axes[0], reports.items(), strict=True):
        shares = {"this space": report["histogram"], "random order": report["histogram_random"]}
        for (label, share), colour, marker in zip(shares.items(), (OWN, CHANCE), "o.", strict=True):
            count = report["items"] * np.asarray(share)
            x = np.arange(len(count))
            seen = count >= 0.5
            axis.plot(x[seen] + 1, count[seen], marker, markersize=4, color=colour, label=label)
        axis.set(xscale="log", yscale="log", xlabel=f"times found among the {report['k']} nearest")
        ticks = [0, 1, 3, 10, 30, 100, 300, 1000]
        ticks = [t for t in ticks if t <= report["most"]]
        axis.set_xticks([t + 1 for t in ticks], [str(t) for t in ticks])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set(title=f"{report['queries']} {name}: skewness {report['skewness']:.1f} (random {report['random']['skewness'][1]:.1f})")
    axes[0, 0].set(ylabel="instruments of the gallery")
    _below(figure, axes[0, 0], 2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def purity(reports: dict[str, dict], k: int, title: str):
    """Share of the k nearest that have the same label, against chance: each family, and all labellings.

    reports: labelling ("family" among them) -> space.purity_report.
    """
    import matplotlib.pyplot as plt

    families = pd.DataFrame(reports["family"]["labels"]).T.sort_values("same")
    families.index = [f"{name} ({n:.0f})" for name, n in families["items"].items()]
    order = sorted(reports, key=lambda name: reports[name]["same"] - reports[name]["chance"])
    every = pd.DataFrame({name: {k: reports[name][k] for k in ("same", "chance")} for name in order}).T
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.8 + 0.27 * len(families)), width_ratios=[3, 2])
    headings = ("By family (instruments)", "All instruments, by label")
    for axis, table, heading in zip(axes, (families, every), headings, strict=True):
        y = np.arange(len(table))
        axis.hlines(y, 100 * table.chance, 100 * table.same, color="#bbbbbb", linewidth=2)
        axis.plot(100 * table.same, y, "o", color=OWN, label="this space")
        axis.plot(100 * table.chance, y, "|", color=CHANCE, markersize=11, markeredgewidth=2, label="random order")
        axis.set(yticks=y, yticklabels=table.index, xlim=(-2, 102), ylim=(-0.7, len(table) - 0.3), title=heading)
        axis.set(xlabel=f"of the {k} nearest, share with the same label (%)")
    _below(figure, axes[0], 2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def probes(stored: list[dict], title: str):
    """R2 of linear probes, each {"name", "by": what it is read from -> space.probe}; a stroke for each fold, intervals over the folds."""
    import matplotlib.pyplot as plt

    sources = list(stored[0]["by"])
    figure, axis = plt.subplots(figsize=(9, 2 + 0.6 * len(stored)))
    heights = np.arange(len(stored))[::-1]
    for j, source in enumerate(sources):
        style, y = row_style(j), heights + 0.16 - 0.32 * j
        found = [probed["by"][source] for probed in stored]
        for height, one in zip(y, found, strict=True):
            axis.plot(one["folds"], np.full(len(one["folds"]), height), "|", color=style["color"], alpha=0.6, markersize=9)
        axis.hlines(y, [one["low"] for one in found], [one["high"] for one in found], color=style["color"], linewidth=1.5)
        axis.plot([one["r2"] for one in found], y, linestyle="none", markersize=7, label=source, **style)
    axis.axvline(0, color=CHANCE, linestyle=":", label="the mean of all sounds")
    axis.set(yticks=heights, yticklabels=[probed["name"] for probed in stored], ylim=(-0.6, len(stored) - 0.4))
    axis.set(xlabel="R² on sounds of other instruments (1 = fully readable); strokes: folds, lines: 95% intervals")
    _below(figure, axis, 3)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def effects(stored: dict, title: str):
    """Distance of a note to its effects-off twin by effect, and of what it is compared with; stored: {"boxes": [box, ...], "metric"}.

    A box: {"name", "quantiles": at 5, 25, 50, 75, 95 percent, "count", "compared": whether others are compared with it}.
    """
    import matplotlib.pyplot as plt

    boxes = stored["boxes"]
    keys = ("whislo", "q1", "med", "q3", "whishi")
    drawn = [dict(zip(keys, box["quantiles"], strict=True), label=f"{box['name']} ({box['count']})") for box in boxes]
    figure, axis = plt.subplots(figsize=(9, 1.5 + 0.36 * len(drawn)))
    colours = [CHANCE if box["compared"] else OWN for box in boxes]
    parts = axis.bxp(drawn, orientation="horizontal", showfliers=False, widths=0.6, patch_artist=True, medianprops={"color": "black"})
    for patch, colour in zip(parts["boxes"], colours, strict=True):
        patch.set(facecolor=colour, alpha=0.45)
    axis.invert_yaxis()
    axis.set(xlabel=f"{stored['metric']} distance (pairs in brackets, whiskers at 5 and 95 percent)", xlim=(0, None))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def curves(stored: dict, title: str):
    """Distance to the own reference note by difference in pitch and in velocity; stored: {"curves", "lines", "metric"}."""
    import matplotlib.pyplot as plt

    labels = {"interval": "interval to the reference note (semitones)", "louder": "velocity difference (intervals under 7 semitones)"}
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        curve = pd.DataFrame(stored["curves"][name], columns=["from", "to", "low", "median", "high", "notes"], dtype=float)
        x = (curve["from"] + curve["to"] - 1) / 2
        axis.fill_between(x, curve.low, curve.high, alpha=0.2, linewidth=0)
        axis.plot(x, curve["median"], "o-", label="own reference note (quartiles shaded)")
        for (what, level), dash in zip(stored["lines"].items(), ("--", ":"), strict=True):
            axis.axhline(level, color=OTHER, linestyle=dash, label=what)
        if curve.empty:
            axis.text(0.5, 0.5, "too few notes", transform=axis.transAxes, ha="center")
        axis.set(xlabel=label, ylim=(0, None))
    axes[0].set(ylabel=f"{stored['metric']} distance")
    _below(figure, axes[0], 3)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure
