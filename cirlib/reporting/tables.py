"""Tables from the metrics.json of every run, never typed: csv, json and md files, and the results block of the README.

`python -m cirlib.reporting.tables demo` (make readme) writes the block; with --check it only compares.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.command_line import arguments, one_sentence
from ..common.files import write_atomic, write_json
from ..common.paths import FIGURES, ROOT, RUNS
from ..common.settings import to_dict
from ..models.encoder import ENCODERS
from ..training.config import TrainConfig, read_config, row_config
from . import rows as sweep

# top-1 and top-5 in percent (paper, tables 1 and 2); rows that the paper does not have are absent
PUBLISHED = {
    "mixture": {
        "demucs": (14.5, 25.8),
        "separation": (14.5, 25.8),
        "multi-encoder": (17.3, 62.6),
        "triplet-24": (64.8, 85.0),
        "triplet-full-24": (81.7, 95.7),
        "triplet-full-48": (84.2, 96.4),
        "infonce-48": (75.0, 94.2),
        "published": (84.2, 96.4),
    },
    "single": {
        "timbre-toolbox": (29.7, 40.1),
        "single-tags": (62.9, 75.2),
        "single-instrument": (83.2, 95.0),
        "single-triplet": (79.0, 91.2),
        "single-infonce": (80.4, 93.1),
    },
}
SOURCE_FAMILIES = {
    "surge": ("Chromatic Percussion", "Bass", "Synth Lead"),
    "nsynth": ("Chromatic Percussion", "Bass"),
}
# mixtures by source and family (companion page of the paper), in the order of SOURCE_FAMILIES
PUBLISHED_BY_SOURCE = {
    "triplet-full-24": ((91.7, 99.5), (79.3, 93.1), (82.5, 94.2), (80.2, 100.0), (57.6, 94.8)),
    "triplet-full-48": ((92.1, 99.8), (83.3, 94.6), (85.8, 94.7), (47.4, 99.7), (71.8, 94.7)),
    "infonce-24": ((74.4, 98.4), (67.9, 89.7), (63.4, 88.9), (44.3, 95.4), (42.1, 87.2)),
    "infonce-48": ((78.4, 98.7), (82.1, 94.4), (69.1, 91.6), (33.3, 78.4), (71.8, 93.5)),
}
LABELS = {  # in the order of the tables
    "untrained": "untrained encoder",
    "mfcc": "MFCC",
    "timbre-toolbox": "Timbre Toolbox",
    "demucs": "Demucs + single encoder",
    "separation": "separator (for Demucs) + single encoder",
    "multi-encoder": "multi-encoder",
    "single-family": "classifier of 13 families",
    "single-tags": "classifier of 27 tags",
    "single-instrument": "classifier of instruments",
    "single-triplet": "triplet, single sounds",
    "single-infonce": "InfoNCE, single sounds",
    "single-infonce-no-twins": "InfoNCE, single sounds, no effects-off twins",
    "single-sweep": "InfoNCE, single sounds",
    "triplet": "triplet",
    "triplet-24": "triplet, batch 24",
    "triplet-full": "full triplet",
    "triplet-full-24": "full triplet, batch 24",
    "triplet-full-48": "full triplet, batch 48",
    "triplet-full-tuned": "full triplet, with the optimiser of ours",
    "infonce": "InfoNCE",
    "infonce-24": "InfoNCE, batch 24",
    "infonce-48": "InfoNCE, batch 48",
    "infonce-full": "full InfoNCE",
    "infonce-full-48": "full InfoNCE, batch 48",
    "infonce-full-asymmetric-48": "full InfoNCE, asymmetric, batch 48",
    "infonce-full-mended-48": "full InfoNCE, mended, batch 48",
    "multi-infonce": "multi-positive InfoNCE (ours)",
    "multi-infonce-muon": "multi-positive InfoNCE, Muon (ours)",
    "multi-infonce-open": "multi-positive InfoNCE, open mixtures (ours)",
    "multi-infonce-open-muon": "multi-positive InfoNCE, open mixtures, Muon (ours)",
    "family-infonce": "a part for each family (ours)",
    "family-infonce-effects": "a part for each family, effects (ours)",
    "family-infonce-open": "a part for each family, open mixtures (ours)",
    "published": "the authors' checkpoint",
}
SLICE_KEYS = ["experiment", "slice", "value"]
SCORES = ("accuracy", "top5", "exact_match", "hamming", "f1_macro", "f1_micro", "roc_auc_macro", "map")  # classification.py
NOT_COMPARED = ("seed", "bank", "wandb", "log_every", "gradient_cache_size", "workers", "compile")  # settings that change no result
TITLES = {"mixture": "three-instrument mixtures", "single": "single instruments"}


def label(experiment: str, encoder: str = "cnn") -> str:
    """A row as tables name it; a row of a sweep tells its values: `single-sweep-hard_negative_ratio-0.25`.

    The encoder of its run tells whether what was not trained has random weights or those of somebody else's training.
    """
    words = LABELS if encoder in ENCODERS else LABELS | {"untrained": _pretrained(encoder)}
    if experiment in words:
        return words[experiment]
    base = max((name for name in words if experiment.startswith(name + "-")), key=len, default="")
    told = re.findall(r"([a-z_]+)-(.+?)(?=-[a-z_]+-|$)", experiment.removeprefix(base).removeprefix("-"))
    return ", ".join([words[base], *(f"{k.replace('_', ' ')} {v}" for k, v in told)]) if base and told else experiment


def _pretrained(encoder: str) -> str:
    return f"pretrained{' on AudioSet' if 'audioset' in encoder.lower() else ' encoder'}, not trained further"


def labels(runs: list[dict]) -> dict[str, str]:
    """Experiment -> label, of runs as `collect` gives them."""
    return {r["experiment"]: label(r["experiment"], r.get("encoder", "cnn")) for r in runs}


def order(experiment: str) -> tuple:
    """Sorts the rows of tables: as LABELS, then by name."""
    names = list(LABELS)
    base = max((n for n in names if experiment == n or experiment.startswith(n + "-")), key=len, default="")
    by_number = re.sub(r"\d+(\.\d+)?", lambda m: f"{float(m[0]):016.6f}", experiment)
    return (names.index(base) if base else len(names), by_number)


def collect(preset: str) -> list[dict]:
    """metrics.json of every run of a preset, in the order of LABELS, then by name; ValueError if there is none.

    A run whose settings are not those of its row would stand in the table under a wrong name: it is left out, and that is told.
    """
    files = sorted(f for f in RUNS.glob(f"{preset}/*/seed*/metrics.json") if f.parent.name[4:].isdigit())
    wanted, told = sweep.settings(preset), {}
    for file in list(files):
        name = file.parent.parent.name
        if name in wanted and (other := other_settings(to_dict(read_config(file.parent)[0]), wanted[name])):
            files.remove(file)
            told[name] = f"{name} is left out: its run has {', '.join(other)}; `make reproduce` makes it again with these settings"
    if told:
        print(*told.values(), sep="\n")
    if not files:
        raise ValueError(f"no finished run of preset {preset!r}: run notebooks/02_train.ipynb and 03_retrieve.ipynb first")
    return sorted((json.loads(f.read_text()) for f in files), key=lambda r: (*order(r["experiment"]), r["seed"]))


def other_settings(stored: dict, values: dict) -> list[str]:
    """What differs between the settings of a run and those of its row, as `steps=3 (its row: 7)`."""
    row, stored = to_dict(row_config(values)), {**to_dict(TrainConfig()), **stored}  # settings that came later were at their default
    names = [name for name in row if name not in NOT_COMPARED and stored[name] != row[name]]
    return [f"{name}={stored[name]} (its row: {row[name]})" for name in names]


def table(runs: list[dict], task: str) -> pd.DataFrame:
    """One row per experiment: top-k in percent, mean over seeds, with an interval; the published numbers beside.

    The interval is the mean over seeds of the bootstrap intervals over instruments, of those seeds that have one; with several seeds it is
    widened by the 95% t interval of the seeds' mean (both as variances): few seeds tell little of their spread.
    """
    rows, names = [], labels(runs)
    for name in dict.fromkeys(r["experiment"] for r in runs if task in r):
        group = [r[task] for r in runs if r["experiment"] == name]
        paper = PUBLISHED[task].get(name, (None, None))
        row = {"experiment": name, "row": names[name], "seeds": len(group), "distance": group[0]["metric"]}
        for k in ("top1", "top5"):
            row[k], row[k + "_low"], row[k + "_high"] = _interval(group, k)
        row |= {"rank_median": float(np.mean([g["rank_median"] for g in group]))}
        row |= {"top1_chance": 100 * group[0]["chance"]["top1"], "top5_chance": 100 * group[0]["chance"]["top5"]}
        rows.append(row | {"top1_paper": paper[0], "top5_paper": paper[1]})
    return pd.DataFrame(rows)


def _interval(seeds: list[dict], k: str) -> tuple[float, float, float]:
    """Mean, low and high in percent of top-k."""
    from scipy.stats import t

    values, n = [s[k] for s in seeds], len(seeds)
    mean, spread = float(np.mean(values)), t.ppf(0.975, n - 1) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else 0.0
    below, above = np.mean([np.subtract(s[k + "_ci"], s[k]) for s in seeds if k + "_ci" in s], axis=0)
    return 100 * mean, 100 * max(0.0, mean - np.hypot(below, spread)), 100 * min(1.0, mean + np.hypot(above, spread))


def slices(runs: list[dict], task: str) -> pd.DataFrame:
    """Accuracy of every experiment by family, source, distance in pitch ..., in percent: mean over seeds, intervals as in `table`."""
    rows = []
    for name in dict.fromkeys(r["experiment"] for r in runs if task in r):
        group = [r[task] for r in runs if r["experiment"] == name]
        for kind in (k for k in group[0] if k.startswith("by_")):
            for value in group[0][kind]:
                parts = [g[kind][value] for g in group if value in g[kind]]
                row = {"experiment": name, "slice": kind.removeprefix("by_"), "value": value}
                for k in ("top1", "top5"):
                    row[k], row[k + "_low"], row[k + "_high"] = _interval(parts, k)
                rows.append(row | {"queries": float(np.mean([p["queries"] for p in parts]))})
    return pd.DataFrame(rows, columns=[*SLICE_KEYS, "top1", "top1_low", "top1_high", "top5", "top5_low", "top5_high", "queries"])


def by_source(slices_: pd.DataFrame) -> pd.DataFrame:
    """Mixtures by source and family, the published numbers beside where the paper has them."""
    out = slices_[slices_["slice"] == "source and family"].copy()
    published = {
        (name, f"{source}, {family}"): numbers[i]
        for name, numbers in PUBLISHED_BY_SOURCE.items()
        for i, (source, family) in enumerate((s, f) for s, families in SOURCE_FAMILIES.items() for f in families)
    }
    found = [published.get((r.experiment, r.value), (None, None)) for r in out.itertuples()]
    out["top1_paper"], out["top5_paper"] = [f[0] for f in found], [f[1] for f in found]
    return out.drop(columns="slice").reset_index(drop=True)


def classification_table(runs: list[dict]) -> pd.DataFrame:
    """Scores of the classifiers as classifiers, in percent, mean over seeds; empty where a score is not defined for a kind."""
    rows = []
    for name in dict.fromkeys(r["experiment"] for r in runs if "classification" in r):
        group = [r["classification"] for r in runs if r["experiment"] == name]
        scores = {k: 100 * float(np.mean([g[k] for g in group])) for k in SCORES if all(k in g for g in group)}
        rows.append({"experiment": name, "row": label(name), "seeds": len(group), "sounds": group[0]["sounds"], **scores})
    return pd.DataFrame(rows, columns=["experiment", "row", "seeds", "sounds", *SCORES])


def markdown(frame: pd.DataFrame, task: str) -> str:
    """The table as people read it."""
    if frame.empty:
        return f"No row was tested on {TITLES[task]}.\n"
    gallery = "the gallery of its family" if task == "mixture" else "the whole gallery"
    head = [
        f"| {TITLES[task]} | distance | top-1 | top-5 | median rank (1 = best) | paper, top-1 / top-5 |",
        "|---|---|---|---|---|---|",
    ]
    chance_ = f"| chance in {gallery} | | {frame.top1_chance[0]:.1f} | {frame.top5_chance[0]:.1f} | | |"
    body = [
        f"| {r['row']} | {r.distance} | {_cell(r, 'top1')} | {_cell(r, 'top5')} | {r.rank_median + 1:.0f} | {_paper(r)} |"
        for _, r in frame.iterrows()
    ]
    return "\n".join([*head, chance_, *body]) + "\n"


def by_source_markdown(frame: pd.DataFrame, names: dict[str, str]) -> str:
    """The table by source and family as people read it; names: as `labels` gives them."""
    head = ["| mixtures by source and family | row | queries | top-1 | top-5 | paper, top-1 / top-5 |", "|---|---|---|---|---|---|"]
    body = [
        f"| {r['value']} | {names[r.experiment]} | {r.queries:.0f} | {_cell(r, 'top1')} | {_cell(r, 'top5')} | {_paper(r)} |"
        for _, r in frame.sort_values("value", kind="stable").iterrows()
    ]
    return "\n".join([*head, *body]) + "\n"


def classification_markdown(frame: pd.DataFrame) -> str:
    """The classifiers' table as people read it."""
    if frame.empty:
        return "No row is a classifier.\n"
    head = [f"| classifier | sounds | {' | '.join(SCORES)} |", "|---" * (2 + len(SCORES)) + "|"]
    body = [
        f"| {r['row']} | {r.sounds} | {' | '.join('' if pd.isna(r[k]) else f'{r[k]:.1f}' for k in SCORES)} |" for _, r in frame.iterrows()
    ]
    return "\n".join([*head, *body]) + "\n"


def _cell(row: pd.Series, k: str) -> str:
    return f"{row[k]:.1f} ({row[k + '_low']:.1f} to {row[k + '_high']:.1f})"


def _paper(row: pd.Series) -> str:
    return "" if pd.isna(row.top1_paper) else f"{row.top1_paper:.1f} / {row.top5_paper:.1f}"


def write_tables(preset: str, folder: Path | None = None, runs: list[dict] | None = None) -> dict[str, pd.DataFrame]:
    """Write the tables of a preset (of these `runs`, else of those that `collect` finds) to figures/<preset>, return those of the tests.

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
        texts[f"table_{task}.md"] = markdown(pd.read_json(stored), task)  # rounded once, as in the README
    for name, text in texts.items():
        write_atomic(folder / name, lambda part, text=text: part.write_text(text))
    return out


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.4f")


def performance_block() -> str:
    """The measurements that have a goal, as 08_performance wrote them."""
    lines = (ROOT / "figures" / "performance" / "performance.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    return "\n".join([lines[0], "", *table[:2], *(line for line in table[2:] if not line.endswith("|  |"))]) + "\n"


def readme_block(preset: str) -> str:
    """Results as the README shows them, from the tables in figures/<preset>: the rows of params files, not runs of one's own.

    Raises ValueError that names the rows of params/<preset> that are not there.
    """
    if preset == "performance":
        return performance_block()
    if preset == "open":  # open mixtures of any preset; the other tables of this one are of small interest
        return "\n".join(path.read_text() for path in sorted((ROOT / "figures").glob("*/open.md")))
    if (ROOT / "figures" / preset / "race.json").exists():  # run in parts: what is there so far
        folder = ROOT / "figures" / preset
        shown = [folder / f"table_{task}.md" for task in TITLES] + list(folder.glob("ablations.md"))  # if there are any
        return "\n".join(path.read_text() for path in shown)
    folder, tested = ROOT / "figures" / preset, {row.name: row_config(row.values).tests for row in sweep.rows(preset)}
    parts, absent = [], {}
    for task in TITLES:
        frame = pd.read_json(folder / f"table_{task}.json")
        wanted = [name for name, tests in tested.items() if task in tests]
        absent |= dict.fromkeys(name for name in wanted if frame.empty or name not in set(frame.experiment))
        parts.append(markdown(frame if frame.empty else frame[frame.experiment.isin(wanted)].reset_index(drop=True), task))
    if absent:
        what = f"figures/{preset} lacks {len(absent)} of the rows of params/{preset} ({', '.join(absent)})"
        raise ValueError(f"{what}, and the README shows all of them: run make reproduce PRESET={preset} ROWS=all first")
    return "\n".join(parts)


def update_readme(preset: str, check: bool = False, readme: Path = ROOT / "README.md") -> bool:
    """Put the block between its two marks; with `check` only compare. True if the README already agreed.

    Raises ValueError without the marks, or if a row is missing.
    """
    begin, end = f"<!-- results:{preset} -->\n", f"<!-- end:{preset} -->"
    text = readme.read_text()
    if begin not in text or end not in text:
        raise ValueError(f"{readme.name} lacks the marks {begin.strip()} and {end}")
    before, rest = text.split(begin, 1)
    new = before + begin + readme_block(preset) + end + rest.split(end, 1)[1]
    if not check and new != text:
        write_atomic(readme, lambda part: part.write_text(new))
    return new == text


def main() -> None:
    """python -m cirlib.reporting.tables PRESET [--check]"""
    preset, *options = arguments(main.__doc__, 1, 2)
    check = "--check" in options
    with one_sentence():
        agreed = update_readme(preset, check)
    if check and not agreed:
        raise SystemExit(f"README.md differs from figures/{preset}: run `make readme PRESET={preset}`")


if __name__ == "__main__":
    main()
