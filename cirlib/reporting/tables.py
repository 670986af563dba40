"""Tables of a preset, computed from the metrics.json of its runs and written as csv, json and md."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_atomic, write_json
from ..common.paths import FIGURES, RUNS
from ..common.settings import to_dict
from ..models.encoder_config import ENCODERS
from ..models.pretrained import SHIPPED
from ..training.config import WITH_ENCODER, TrainConfig, read_config, row_config
from . import rows as sweep
from .labels import TITLES, base_row, label, labels, order
from .published import PAPER, PUBLISHED, PUBLISHED_BY_SOURCE, SOURCE_FAMILIES

ABSENT = "-"  # of a row that is not in the paper
BETTER = 1.0  # points of top-1 from which a better distance is named
SLICE_KEYS = ["experiment", "slice", "value"]
SCORES = {  # of classifiers.metrics -> column
    "accuracy": "top-1", "top5": "top-5", "exact_match": "exact match", "hamming": "Hamming loss", "f1_macro": "macro F1",
    "f1_micro": "micro F1", "roc_auc_macro": "macro AUC", "map": "mean AP",
}  # fmt: skip
OPTIONAL = (  # columns that older tables lack
    *("best_distance", "best_top1", "optimiser", "clips_seen", "pretrained", "parameters", "numbers", "families", "galleries"),
    "without_share",
)
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
        row = {"experiment": name, "row": names[name], "seeds": len(group), **_protocol(group, task)}
        for k in ("top1", "top5"):
            row[k], row[k + "_low"], row[k + "_high"] = _interval(tests, k)
        row["rank_median"] = float(np.mean([test["rank_median"] for test in tests]))
        row |= {f"{k}_chance": 100 * first[task]["chance"][k] for k in ("top1", "top5")}
        row["top1_paper"], row["top5_paper"] = PUBLISHED[task].get(base_row(name), (None, None))
        if without := [test["without_reference"] for test in tests if "top1" in test.get("without_reference", {})]:
            row["without_share"] = 100 * float(np.mean([part["share"] for part in without]))
            for k in ("top1", "top5"):
                row[f"without_{k}"], row[f"without_{k}_low"], row[f"without_{k}_high"] = _interval(without, k)
        rows.append(row)
    return pd.DataFrame(rows)


def _protocol(runs: list[dict], task: str) -> dict:
    """Return how the runs of a row were trained and tested: columns that have no value where the runs do not say it."""
    first, test = runs[0], runs[0][task]
    config, distances = first.get("config", {}), [run[task].get("distances", {}) for run in runs]
    trained = config.get("task") in WITH_ENCODER and config.get("steps", 0) > 0
    by_distance = {name: 100 * float(np.mean([d[name]["top1"] for d in distances])) for name in distances[0]}
    best = max(by_distance, key=by_distance.get, default=None)
    return {
        "distance": " or ".join(dict.fromkeys(run[task]["metric"] for run in runs)),
        "best_distance": best,
        "best_top1": by_distance.get(best),
        "optimiser": config.get("optimiser") if trained else None,
        "clips_seen": config["steps"] * config["batch_size"] if trained else 0 if config else None,
        "pretrained": first.get("encoder", "cnn") not in ENCODERS,
        "parameters": first.get("parameters"),
        "numbers": first.get("numbers"),
        "clip_s": config.get("seconds"),
        "families": ", ".join(config.get("families", ())) or None if task == "mixture" else None,
        "gallery": _gallery(test["chance"]["top1"]),
        "galleries": ", ".join(f"{name} {n}" for name, n in sorted(test.get("gallery", {}).items())) or None,
        "queries": first.get("queries") if task == "mixture" else test["queries"],
    }


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
    chance = {"top-1": f"{frame.top1_chance[0]:.2f}", "top-5": f"{frame.top5_chance[0]:.2f}"}
    lines = [{TITLES[task]: "chance", **chance}, *({TITLES[task]: r["row"], **_cells(r)} for _, r in frame.iterrows())]
    columns = [name for name in lines[-1] if any(line.get(name) for line in lines)]
    out = [columns, ["---"] * len(columns), *([line.get(name, "") for name in columns] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in out) + f"\n\n{caption(frame, task)}\n"


def _cells(row: pd.Series) -> dict[str, str]:
    """Return the cells of a row of a table of a test, by column."""
    has = {name for name in row.index if not pd.isna(row[name])}
    optimiser = row.optimiser.capitalize() if "optimiser" in has else ""
    untrained = "see its card" if row.experiment == SHIPPED else "none"
    return {
        "training": "" if "clips_seen" not in has else f"{optimiser}, {row.clips_seen / 1000:,.0f} k" if row.clips_seen else untrained,
        "size": f"{row.parameters / 1e6:.1f} M / {row.numbers:,.0f}" if {"parameters", "numbers"} <= has else "",
        "distance": row.distance,
        "top-1": _cell(row, "top1"),
        "top-5": _cell(row, "top5"),
        "top-1 without": _cell(row, "without_top1") if "without_top1" in has else "",
        "top-5 without": _cell(row, "without_top5") if "without_top5" in has else "",
        "median rank": f"{row.rank_median + 1:.0f}",
        "seeds": f"{row.seeds}",
        "paper": _paper(row),
    }


def caption(frame: pd.DataFrame, task: str) -> str:
    """Return what the numbers of a table are: queries, gallery, clips, training, sizes, seeds, and what the paper's are."""
    values = {name: frame[name].dropna() if name in frame else pd.Series(dtype=object) for name in (*frame, *OPTIONAL)}
    several = bool(frame.seeds.max() > 1)
    one = {name: values[name].iloc[0] if len(values[name]) else "" for name in ("families", "galleries", "without_share")}
    sizes = one["galleries"] or f"about {_span(values['gallery'])} each"
    if task == "mixture":
        what = f"{_span(values['queries'])} mixtures of test instruments{', one of each of ' * bool(one['families'])}{one['families']}"
        ranked = f"each instrument is ranked among those of its family ({sizes})"
    else:
        what, ranked = f"{_span(values['queries'])} notes of test instruments", f"ranked among {_span(values['gallery'])} instruments"
    texts = [
        f"Percent, with 95 % intervals over instruments{' and seeds' * several}",
        f"{what}; {ranked}; clips of {_span(values['clip_s'])} s; {_span(values['seeds'])} seed{'s' * several}",
        "Training: optimiser and clips seen (steps x batch size). Size: parameters / numbers per sound"
        if len(values["parameters"])
        else "",
        "Encoders are new, not pretrained" if len(values["pretrained"]) and not values["pretrained"].any() else "",
        _reference_sentence(one["without_share"]) if task == "mixture" else "",
        _distance_sentence(frame),
        f"Paper (top-1 / top-5; {ABSENT}: not in it): {PAPER}",
    ]
    return ". ".join(filter(None, texts)) + "."


def _reference_sentence(share: float | str) -> str:
    """Return which rankings the columns `without` hold, or that the table has no such columns."""
    if share == "":
        return "Rankings of instruments whose reference note, the one in the gallery, is among the notes of the mixture are included"
    return f"Without: the {share:.0f} % of rankings whose own reference note, the one in the gallery, is not among the notes of the mixture"


def _distance_sentence(frame: pd.DataFrame) -> str:
    """Return the rows that another distance than theirs serves at least BETTER points better, on these same queries."""
    better = frame[frame.best_top1 >= frame.top1 + BETTER] if "best_top1" in frame else frame[:0]
    names = ", ".join(f"{r['row']} {r.best_top1:.1f} ({r.best_distance})" for _, r in better.iterrows())
    return f"Top-1 of rows at a better distance, chosen on these queries: {names}" if names else ""


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
    return ABSENT if pd.isna(row.top1_paper) else f"{row.top1_paper:.1f} / {row.top5_paper:.1f}"


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
