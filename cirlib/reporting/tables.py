"""Tables of a preset, computed from the metrics.json of its runs and written as csv, json and md."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_atomic, write_json
from ..common.paths import FIGURES, RUNS
from ..common.settings import to_dict
from ..training.config import TrainConfig, read_config, row_config
from . import rows as sweep
from .labels import TITLES, base_row, label, labels, order

# The paper's top-1 and top-5 in percent (tables 1 and 2), by row. Rows that change something else than the loss have the number of their
# loss; for mixtures the paper has the triplet at batch 24 and InfoNCE at batch 48 only.
TRIPLET, FULL_TRIPLET, INFONCE, SINGLE_INFONCE = (64.8, 85.0), (84.2, 96.4), (75.0, 94.2), (80.4, 93.1)
PUBLISHED = {
    "mixture": {
        "demucs": (14.5, 25.8),
        "multi-encoder": (17.3, 62.6),
        **dict.fromkeys(("triplet", "triplet-24"), TRIPLET),
        "triplet-full-24": (81.7, 95.7),
        **dict.fromkeys(("triplet-full", "triplet-full-48", "triplet-full-tuned", "published"), FULL_TRIPLET),
        **dict.fromkeys(("infonce", "infonce-48"), INFONCE),
    },
    "single": {
        "timbre-toolbox": (29.7, 40.1),
        "single-tags": (62.9, 75.2),
        "single-instrument": (83.2, 95.0),
        "single-triplet": (79.0, 91.2),
        **dict.fromkeys(("single-infonce", "single-infonce-no-twins", "single-sweep"), SINGLE_INFONCE),
    },
}
SOURCE_FAMILIES = {"surge": ("Chromatic Percussion", "Bass", "Synth Lead"), "nsynth": ("Chromatic Percussion", "Bass")}
# mixtures by source and family (companion page of the paper), in the order of SOURCE_FAMILIES
PUBLISHED_BY_SOURCE = {
    "triplet-full-24": ((91.7, 99.5), (79.3, 93.1), (82.5, 94.2), (80.2, 100.0), (57.6, 94.8)),
    "triplet-full-48": ((92.1, 99.8), (83.3, 94.6), (85.8, 94.7), (47.4, 99.7), (71.8, 94.7)),
    "infonce-24": ((74.4, 98.4), (67.9, 89.7), (63.4, 88.9), (44.3, 95.4), (42.1, 87.2)),
    "infonce-48": ((78.4, 98.7), (82.1, 94.4), (69.1, 91.6), (33.3, 78.4), (71.8, 93.5)),
}
PAPER = "pretrained AST, 20,000 steps, clips of 10 s, other sounds"
SLICE_KEYS = ["experiment", "slice", "value"]
SCORES = {  # of classifiers.metrics -> column
    "accuracy": "top-1", "top5": "top-5", "exact_match": "exact match", "hamming": "Hamming loss", "f1_macro": "macro F1",
    "f1_micro": "micro F1", "roc_auc_macro": "macro AUC", "map": "mean AP",
}  # fmt: skip
NOT_COMPARED = ("seed", "bank", "wandb", "log_every", "gradient_cache_size", "workers", "compile")  # settings that change no result


def collect(preset: str) -> list[dict]:
    """Return metrics.json of every run of a preset, with its `config`, in the order of LABELS; ValueError if there is none.

    A run with other settings than its row is skipped, as it would stand in the table under a wrong name; that is printed.
    """
    wanted, skipped, runs = sweep.settings(preset), {}, []
    for file in RUNS.glob(f"{preset}/*/seed*/metrics.json"):
        if not file.parent.name[4:].isdigit():  # a run that was moved aside
            continue
        name, has_config = file.parent.parent.name, (file.parent / "config.yaml").exists()
        config = to_dict(read_config(file.parent)[0]) if has_config or name in wanted else {}
        if name in wanted and (other := other_settings(config, wanted[name])):
            skipped[name] = f"{name} is skipped: its run has {', '.join(other)}; `make reproduce` makes it again with these settings"
        else:
            runs.append({**json.loads(file.read_text()), "config": config})
    print(*sorted(skipped.values()), sep="\n", end="\n" if skipped else "")
    if not runs:
        raise ValueError(f"no finished run of preset {preset!r}: run notebooks/02_train.ipynb and 03_retrieve.ipynb first")
    return sorted(runs, key=lambda run: (*order(run["experiment"]), run["seed"]))


def other_settings(stored: dict, values: dict) -> list[str]:
    """Return the differences between the settings of a run and those of its row, as `steps=3 (its row: 7)`."""
    row, stored = to_dict(row_config(values)), {**to_dict(TrainConfig()), **stored}  # settings that are newer had their default
    names = [name for name in row if name not in NOT_COMPARED and stored[name] != row[name]]
    return [f"{name}={stored[name]} (its row: {row[name]})" for name in names]


def table(runs: list[dict], task: str) -> pd.DataFrame:
    """Return one row per experiment: top-k in percent, mean over seeds, with an interval; the published numbers beside.

    The interval is the mean over seeds of the bootstrap intervals over instruments; with several seeds it is widened by the 95% t
    interval of the seeds' mean (both as variances).
    """
    rows, names = [], labels(runs)
    for name, group in _by_experiment(runs, task).items():
        tests, first = [run[task] for run in group], group[0]
        row = {"experiment": name, "row": names[name], "seeds": len(group), "distance": first[task]["metric"]}
        for k in ("top1", "top5"):
            row[k], row[k + "_low"], row[k + "_high"] = _interval(tests, k)
        row["rank_median"] = float(np.mean([test["rank_median"] for test in tests]))
        row |= {f"{k}_chance": 100 * first[task]["chance"][k] for k in ("top1", "top5")}
        row["top1_paper"], row["top5_paper"] = PUBLISHED[task].get(base_row(name), (None, None))
        row |= {"clip_s": first.get("config", {}).get("seconds", np.nan), "gallery": _gallery(first[task]["chance"]["top1"])}
        rows.append(row | {"queries": first.get("queries") if task == "mixture" else first[task]["queries"]})
    return pd.DataFrame(rows)


def _by_experiment(runs: list[dict], key: str) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for run in runs:
        if key in run:
            groups.setdefault(run["experiment"], []).append(run)
    return groups


def _gallery(chance: float) -> int:
    """Return the number of instruments that a query is ranked among (of families: their harmonic mean)."""
    return round(1 / chance) if chance else 0


def _interval(seeds: list[dict], k: str) -> tuple[float, float, float]:
    """Return mean, low and high of top-k in percent; seeds without an interval of their own count in the mean only."""
    from scipy.stats import t

    values, n = [s[k] for s in seeds], len(seeds)
    mean, spread = float(np.mean(values)), t.ppf(0.975, n - 1) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else 0.0
    below, above = np.mean([np.subtract(s[k + "_ci"], s[k]) for s in seeds if k + "_ci" in s], axis=0)
    return 100 * mean, 100 * max(0.0, mean - np.hypot(below, spread)), 100 * min(1.0, mean + np.hypot(above, spread))


def slices(runs: list[dict], task: str) -> pd.DataFrame:
    """Return the accuracy of every experiment by family, source, distance in pitch ..., in percent; intervals as in `table`."""
    rows = []
    for name, group in _by_experiment(runs, task).items():
        tests = [run[task] for run in group]
        for kind in (k for k in tests[0] if k.startswith("by_")):
            for value in tests[0][kind]:
                parts = [test[kind][value] for test in tests if value in test[kind]]
                row = {"experiment": name, "slice": kind.removeprefix("by_"), "value": value}
                for k in ("top1", "top5"):
                    row[k], row[k + "_low"], row[k + "_high"] = _interval(parts, k)
                rows.append(row | {"queries": float(np.mean([part["queries"] for part in parts]))})
    return pd.DataFrame(rows, columns=[*SLICE_KEYS, "top1", "top1_low", "top1_high", "top5", "top5_low", "top5_high", "queries"])


def by_source(slices_: pd.DataFrame) -> pd.DataFrame:
    """Return mixtures by source and family, the published numbers beside where the paper has them."""
    out = slices_[slices_["slice"] == "source and family"].drop(columns="slice").reset_index(drop=True)
    places = [f"{source}, {family}" for source, families in SOURCE_FAMILIES.items() for family in families]
    published = {(name, place): n for name, numbers in PUBLISHED_BY_SOURCE.items() for place, n in zip(places, numbers, strict=True)}
    found = [published.get((row.experiment, row.value), (None, None)) for row in out.itertuples()]
    return out.assign(top1_paper=[f[0] for f in found], top5_paper=[f[1] for f in found])


def classification_table(runs: list[dict]) -> pd.DataFrame:
    """Return the scores of the classifiers as classifiers, in percent, mean over seeds; empty where a score is not defined."""
    rows = []
    for name, group in _by_experiment(runs, "classification").items():
        found = [run["classification"] for run in group]
        scores = {column: 100 * float(np.mean([f[k] for f in found])) for k, column in SCORES.items() if all(k in f for f in found)}
        rows.append({"experiment": name, "row": label(name), "seeds": len(group), "sounds": found[0]["sounds"], **scores})
    return pd.DataFrame(rows, columns=["experiment", "row", "seeds", "sounds", *SCORES.values()])


def markdown(frame: pd.DataFrame, task: str) -> str:
    """Return the table of a test as Markdown, with a caption."""
    if frame.empty:
        return f"No row was tested on {TITLES[task]}.\n"
    head = [f"| {TITLES[task]} | distance | top-1 | top-5 | median rank | seeds | paper |", "|---|---|---|---|---|---|---|"]
    chance = f"| chance | | {frame.top1_chance[0]:.1f} | {frame.top5_chance[0]:.1f} | | | |"
    body = [
        f"| {r['row']} | {r.distance} | {_cell(r, 'top1')} | {_cell(r, 'top5')} | {r.rank_median + 1:.0f} | {r.seeds} | {_paper(r)} |"
        for _, r in frame.iterrows()
    ]
    return "\n".join([*head, chance, *body, "", caption(frame, task)]) + "\n"


def caption(frame: pd.DataFrame, task: str) -> str:
    """Return what the numbers of a table are: queries, gallery, clips, seeds, and what the paper's are."""
    what, about, where = ("mixtures", "about ", " of a family") if task == "mixture" else ("notes", "", "")
    texts = [
        f"Percent, with 95 % intervals over instruments{' and seeds' if frame.seeds.max() > 1 else ''}",
        f"{_span(frame.queries)} {what} of test instruments, ranked among {about}{_span(frame.gallery)} instruments{where}",
        f"clips of {_span(frame.clip_s)} s",
        f"{_span(frame.seeds)} seed{'s' if frame.seeds.max() > 1 else ''}",
        f"median rank: 1 is best. Paper (top-1 / top-5): {PAPER}",
    ]
    return "; ".join(texts) + "."


def _span(values: pd.Series) -> str:
    found = sorted({float(v) for v in values.dropna()})
    return " to ".join(f"{value:,g}" for value in found[:1] + found[1:][-1:]) or "?"


def by_source_markdown(frame: pd.DataFrame, names: dict[str, str]) -> str:
    """Return the table by source and family as Markdown; `names`: experiment -> label."""
    head = ["| mixtures by source and family | row | queries | top-1 | top-5 | paper |", "|---|---|---|---|---|---|"]
    body = [
        f"| {r['value']} | {names[r.experiment]} | {r.queries:.0f} | {_cell(r, 'top1')} | {_cell(r, 'top5')} | {_paper(r)} |"
        for _, r in frame.sort_values("value", kind="stable").iterrows()
    ]
    return "\n".join([*head, *body]) + "\n"


def classification_markdown(frame: pd.DataFrame) -> str:
    """Return the table of the classifiers as Markdown."""
    if frame.empty:
        return "No row is a classifier.\n"
    columns = list(SCORES.values())
    head = [f"| classifier | sounds | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    scores = [" | ".join("" if pd.isna(r[c]) else f"{r[c]:.1f}" for c in columns) for _, r in frame.iterrows()]
    return "\n".join([*head, *(f"| {r['row']} | {r.sounds} | {s} |" for (_, r), s in zip(frame.iterrows(), scores, strict=True))]) + "\n"


def _cell(row: pd.Series, k: str) -> str:
    return f"{row[k]:.1f} ({row[k + '_low']:.1f} to {row[k + '_high']:.1f})"


def _paper(row: pd.Series) -> str:
    return "" if pd.isna(row.top1_paper) else f"{row.top1_paper:.1f} / {row.top5_paper:.1f}"


def write_tables(preset: str, folder: Path | None = None, runs: list[dict] | None = None) -> dict[str, pd.DataFrame]:
    """Write the tables of a preset (of these `runs`, else of `collect`) to figures/<preset>; return those of the tests.

    table_<test>.{json,csv,md}, slices_<test>.csv, by_source.{csv,md}, classification.{csv,md}.
    """
    folder = folder or FIGURES / preset
    runs, out = runs or collect(preset), {}
    parts = {task: slices(runs, task) for task in TITLES}
    sources, classifiers = by_source(parts["mixture"]), classification_table(runs)
    texts = {
        "by_source.csv": _csv(sources), "by_source.md": by_source_markdown(sources, labels(runs)),
        "classification.csv": _csv(classifiers), "classification.md": classification_markdown(classifiers),
    }  # fmt: skip
    for task in TITLES:
        frame = out[task] = table(runs, task)
        stored = write_json(folder / f"table_{task}.json", json.loads(frame.to_json(orient="records", double_precision=4)))
        texts |= {f"table_{task}.csv": _csv(frame), f"slices_{task}.csv": _csv(parts[task])}
        texts[f"table_{task}.md"] = markdown(pd.read_json(stored), task)  # rounded once
    for name, text in texts.items():
        write_atomic(folder / name, lambda part, text=text: part.write_text(text))
    return out


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.4f")
