"""Figures of an embedding space, drawn from space.json and space_map.parquet of 04_embedding_space."""

import numpy as np
import pandas as pd

from .plots import COLOURS, family_style, finish, panels, row_style, scatter_families

OWN, OTHER, CHANCE = COLOURS[0], COLOURS[1], "#666666"
LABELS_SHOWN = 7  # colours of a panel; rarer labels share one


def map_views(points: pd.DataFrame, titles: dict[str, str], title: str):
    """Draw one map with a panel for each of `titles` (column of points -> title): labels in colours, numbers on a scale.

    points: x, y, what (reference note, stem or mixture), family and the columns. Stems and mixtures are coloured in the panel of families
    and grey elsewhere.
    """
    rows = -(-len(titles) // 2)
    figure, axes = panels(2, (9.5, 4.8 * rows), rows=rows)
    is_note = points.what == "reference note"
    notes, rest = points[is_note], points[~is_note]
    for axis, (column, heading) in zip(axes.flat, titles.items(), strict=False):
        if column == "family":
            _family_view(axis, points)
        else:
            axis.scatter(rest.x, rest.y, s=5, color="#dddddd", linewidths=0, rasterized=True)
            (_number_view if pd.api.types.is_numeric_dtype(notes[column]) else _label_view)(axis, notes, column)
        axis.set(xticks=[], yticks=[], title=heading)
        axis.grid(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, markerscale=1.5, fontsize=8, columnspacing=1)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    return finish(figure, title)


def mixture_lines(points: pd.DataFrame, lines: pd.DataFrame, title: str):
    """Draw some mixtures on the map of all reference notes, with a line to each of their instruments.

    points: as for map_views. lines: query, family and name (of a reference note) for each instrument of the mixtures.
    """
    figure, ((axis,),) = panels(1, (9, 6.2))
    notes = points[points.what == "reference note"].set_index("name")
    axis.scatter(notes.x, notes.y, s=9, color="#dddddd", linewidths=0)
    mixtures = points[points.what == "mixture"].set_index("query").loc[lines["query"].unique()]
    for name, part in lines.groupby("family"):
        ends, starts = notes.loc[part.name, ["x", "y"]].to_numpy(), mixtures.loc[part["query"], ["x", "y"]].to_numpy()
        axis.plot(*np.stack([starts, ends]).transpose(2, 0, 1), color=family_style(name)["color"], linewidth=1.2, alpha=0.8)
    scatter_families(axis, notes.loc[lines.name, ["x", "y"]].to_numpy(), lines.family, s=40)
    axis.plot(mixtures.x, mixtures.y, "X", color="black", markersize=9, label="mixture")
    for query, x, y in zip(mixtures.index, mixtures.x, mixtures.y, strict=True):
        axis.annotate(f"{query:.0f}", (x, y), xytext=(6, 4), textcoords="offset points", fontsize=9)
    axis.set(xticks=[], yticks=[], xlabel="UMAP, first dimension", ylabel="second dimension")
    axis.grid(False)
    return finish(figure, title, axis, columns=4)


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
    """Draw the most frequent label first, so that rare ones are on top."""
    labels = notes[column].fillna("(none)")
    shown = labels.value_counts().index[: LABELS_SHOWN - (labels.nunique() > LABELS_SHOWN)]
    labels = labels.where(labels.isin(shown), "other")
    for j, (name, count) in enumerate(labels.value_counts().items()):
        part = notes[labels == name]
        axis.scatter(part.x, part.y, s=16, linewidths=0, label=f"{name} ({count})", rasterized=True, **row_style(j))


def _number_view(axis, notes: pd.DataFrame, column: str) -> None:
    part = notes.dropna(subset=column)
    drawn = axis.scatter(part.x, part.y, c=part[column], cmap="viridis", s=16, linewidths=0, rasterized=True)
    axis.figure.colorbar(
        drawn,
        cax=axis.inset_axes([0.25, -0.06, 0.5, 0.025]),
        label=f"{column} (MIDI)" if column == "pitch" else column,
        orientation="horizontal",
    )


def mixture_distances(stored: dict, title: str):
    """Draw distances of mixtures to their own and to other instruments of the family, and the share of others that are farther away.

    stored: {"stems" and "references": {"edges", "own", "other" (densities), "families": {family: {"mean", "low", "high"}}}, "metric"}.
    """
    names = {k: n for k, n in (("stems", "stems"), ("references", "reference notes")) if k in stored}
    figure, axes = panels(len(names) + 1, (3.2 * (len(names) + 1), 3.4))
    for axis, (key, name) in zip(axes[0], names.items(), strict=False):
        for which, colour, label in (("own", OWN, "own instruments"), ("other", OTHER, "others of the family")):
            axis.stairs(stored[key][which], stored[key]["edges"], fill=True, alpha=0.3, color=colour)
            axis.stairs(stored[key][which], stored[key]["edges"], color=colour, linewidth=1.4, label=label)
        axis.set(xlabel=f"{stored['metric']} distance", title=f"From a mixture to {name}", yticks=[])
    axes[0, 0].set(ylabel="density")
    families, last = list(stored["references"]["families"]), axes[0, -1]
    y = np.arange(len(families))[::-1]
    for lift, (key, name), marker, colour in zip((0.1, -0.1), names.items(), "os", COLOURS[2:4], strict=False):
        share = 100 * pd.DataFrame(stored[key]["families"]).T.reindex(families)
        error = np.stack([share["mean"] - share.low, share.high - share["mean"]]).clip(0)
        last.errorbar(share["mean"], y + lift, xerr=error, fmt=marker, capsize=2.5, color=colour, label=name)
    last.axvline(50, color=CHANCE, linestyle=":", label="chance")
    last.set(yticks=y, yticklabels=families, ylim=(-0.6, len(families) - 0.4), xlabel="others farther away (%)", title="By family")
    return finish(figure, title, axes[0, 0], last, columns=5)


def hubs(reports: dict[str, dict], title: str):
    """Draw how many gallery items are retrieved how often. reports: kind of queries -> space.hub_report."""
    figure, axes = panels(len(reports), (4.8 * len(reports), 4.2))
    for axis, (name, report) in zip(axes[0], reports.items(), strict=True):
        shares = {"this space": report["histogram"], "random order": report["histogram_random"]}
        for (label, share), colour, marker in zip(shares.items(), (OWN, CHANCE), "o.", strict=True):
            count = report["items"] * np.asarray(share)
            times = np.flatnonzero(count >= 0.5)
            axis.plot(times + 1, count[times], marker, markersize=4, color=colour, label=label)
        axis.set(xscale="log", yscale="log", xlabel=f"times among the {report['k']} nearest")
        ticks = [t for t in (0, 1, 3, 10, 30, 100, 300, 1000) if t <= report["most"]]
        axis.set_xticks([t + 1 for t in ticks], [str(t) for t in ticks])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set(title=f"{report['queries']} {name}: skewness {report['skewness']:.1f}, random {report['random']['skewness'][1]:.1f}")
    axes[0, 0].set(ylabel="gallery instruments")
    return finish(figure, title, axes[0, 0])


def purity(reports: dict[str, dict], k: int, title: str):
    """Draw the share of the k nearest with the same label, against chance: for each family, and for each kind of label.

    reports: kind of label ("family" among them) -> space.purity_report.
    """
    families = pd.DataFrame(reports["family"]["labels"]).T.sort_values("same")
    families.index = [f"{name} ({n:.0f})" for name, n in families["items"].items()]
    order = sorted(reports, key=lambda name: reports[name]["same"] - reports[name]["chance"])
    kinds = pd.DataFrame({name: {key: reports[name][key] for key in ("same", "chance")} for name in order}).T
    figure, axes = panels(2, (9.5, 1.8 + 0.27 * len(families)), width_ratios=[3, 2])
    headings = ("By family (instruments)", "All instruments, by label")
    for axis, table, heading in zip(axes[0], (families, kinds), headings, strict=True):
        y = np.arange(len(table))
        axis.hlines(y, 100 * table.chance, 100 * table.same, color="#bbbbbb", linewidth=2)
        axis.plot(100 * table.same, y, "o", color=OWN, label="this space")
        axis.plot(100 * table.chance, y, "|", color=CHANCE, markersize=11, markeredgewidth=2, label="random order")
        axis.set(yticks=y, yticklabels=table.index, xlim=(-2, 102), ylim=(-0.7, len(table) - 0.3), title=heading)
        axis.set(xlabel=f"same label among {k} nearest (%)")
    return finish(figure, title, axes[0, 0])


def probes(stored: list[dict], title: str):
    """Draw R2 of linear probes with 95% intervals over the folds, and a stroke for each fold.

    stored: [{"name", "by": {what is read: space.probe}}].
    """
    figure, ((axis,),) = panels(1, (9, 2 + 0.6 * len(stored)))
    heights = np.arange(len(stored))[::-1]
    for j, source in enumerate(stored[0]["by"]):
        style, y, results = row_style(j), heights + 0.16 - 0.32 * j, [probe["by"][source] for probe in stored]
        for height, result in zip(y, results, strict=True):
            axis.plot(result["folds"], np.full(len(result["folds"]), height), "|", color=style["color"], alpha=0.6, markersize=9)
        axis.hlines(y, [r["low"] for r in results], [r["high"] for r in results], color=style["color"], linewidth=1.5)
        axis.plot([r["r2"] for r in results], y, linestyle="none", markersize=7, label=source, **style)
    axis.axvline(0, color=CHANCE, linestyle=":", label="mean of all sounds")
    axis.set(yticks=heights, yticklabels=[probe["name"] for probe in stored], ylim=(-0.6, len(stored) - 0.4))
    axis.set(xlabel="R² on other instruments")
    return finish(figure, title, axis)


def effects(stored: dict, title: str):
    """Draw distances of notes to their effects-off twins, by effect, and to other notes, in grey; whiskers at 5 and 95 percent.

    stored: {"boxes": [{"name", "quantiles" (5, 25, 50, 75, 95 percent), "count", "compared" (in grey)}], "metric"}.
    """
    boxes, keys = stored["boxes"], ("whislo", "q1", "med", "q3", "whishi")
    drawn = [dict(zip(keys, box["quantiles"], strict=True), label=f"{box['name']} ({box['count']})") for box in boxes]
    figure, ((axis,),) = panels(1, (9, 1.5 + 0.36 * len(drawn)))
    artists = axis.bxp(drawn, orientation="horizontal", showfliers=False, widths=0.6, patch_artist=True, medianprops={"color": "black"})
    for patch, box in zip(artists["boxes"], boxes, strict=True):
        patch.set(facecolor=CHANCE if box["compared"] else OWN, alpha=0.45)
    axis.invert_yaxis()
    axis.set(xlabel=f"{stored['metric']} distance", xlim=(0, None))
    return finish(figure, title)


def curves(stored: dict, title: str):
    """Draw the distance of notes to their own reference note by difference in pitch and in velocity, with quartiles.

    stored: {"curves", "lines" (label -> distance), "metric"}.
    """
    labels = {"interval": "interval (semitones)", "louder": "velocity difference (MIDI)"}
    figure, axes = panels(2, (9.5, 3.6), sharey=True)
    for axis, (name, label) in zip(axes[0], labels.items(), strict=True):
        curve = pd.DataFrame(stored["curves"][name], columns=["from", "to", "low", "median", "high", "notes"], dtype=float)
        x = (curve["from"] + curve["to"] - 1) / 2
        axis.fill_between(x, curve.low, curve.high, alpha=0.2, linewidth=0)
        axis.plot(x, curve["median"], "o-", label="own reference note")
        for (line, level), dash in zip(stored["lines"].items(), ("--", ":"), strict=True):
            axis.axhline(level, color=OTHER, linestyle=dash, label=line)
        if curve.empty:
            axis.text(0.5, 0.5, "too few notes", transform=axis.transAxes, ha="center")
        axis.set(xlabel=label, ylim=(0, None))
    axes[0, 0].set(ylabel=f"{stored['metric']} distance")
    return finish(figure, title, axes[0, 0])
