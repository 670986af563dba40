"""Tables from the metrics.json of every run, never typed: csv, json and md files, and the results block of the README.

`python -m cirlib.report demo` writes the block; with --check it only says whether the README agrees with the tables.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from .config import from_dict, read_params, to_dict
from .experiment import TrainConfig, read_config
from .files import write_atomic, write_json
from .paths import FIGURES, PARAMS, ROOT, RUNS, short

# top-1 and top-5 in percent (paper, tables 1 and 2); rows that the paper does not have are absent
PUBLISHED = {
    "mixture": {"triplet": (64.8, 85.0), "triplet-full": (84.2, 96.4), "infonce": (75.0, 94.2)},
    "single": {"single-triplet": (79.0, 91.2), "single-infonce": (80.4, 93.1)},
}
LABELS = {
    "untrained": "untrained encoder",
    "single-triplet": "triplet, trained on single sounds",
    "single-infonce": "InfoNCE, trained on single sounds",
    "triplet": "triplet",
    "triplet-full": "full triplet",
    "infonce": "InfoNCE",
    "infonce-full": "full InfoNCE",
    "infonce-full-mended": "full InfoNCE, mended",
    "multi-infonce": "multi-positive InfoNCE (ours)",
}


def collect(preset: str) -> list[dict]:
    """metrics.json of every run of a preset, in the order of LABELS, then by name; ValueError if there is none."""
    files = [f for f in RUNS.glob(f"{preset}/*/seed*/metrics.json") if f.parent.name[4:].isdigit()]
    runs = [json.loads(f.read_text()) for f in files]
    if not runs:
        raise ValueError(f"no finished run of preset {preset!r}: run notebooks/02_train.ipynb and 03_retrieve.ipynb first")
    for file in files:
        _check_settings(preset, file.parent)
    order = list(LABELS)
    return sorted(runs, key=lambda r: (order.index(r["experiment"]) if r["experiment"] in order else 99, r["experiment"], r["seed"]))


def _check_settings(preset: str, folder: Path) -> None:
    """Refuse a run whose settings are not those of its params file: it would stand in the table under a wrong name."""
    params = PARAMS / preset / f"{folder.parent.name}.yaml"
    if not params.exists():
        return
    stored = to_dict(read_config(folder)[0])
    for name, value in to_dict(from_dict(TrainConfig, read_params(params))).items():
        if name not in ("seed", "bank", "wandb", "log_every") and stored[name] != value:
            raise ValueError(
                f"{short(folder)} was trained with {name}={stored[name]}, {params.relative_to(ROOT)} says {value}: "
                "delete the run and make it again, or give it a name of its own"
            )


def table(runs: list[dict], task: str) -> pd.DataFrame:
    """One row per experiment: top-k in percent, mean over seeds, with an interval; the published numbers beside.

    The interval is the mean over seeds of the bootstrap intervals over instruments; with several seeds it is widened
    by 1.96 standard errors of the seeds' mean (both as variances).
    """
    rows = []
    for name in dict.fromkeys(r["experiment"] for r in runs):
        group = [r[task] for r in runs if r["experiment"] == name]
        paper = PUBLISHED[task].get(name, (None, None))
        row = {"experiment": name, "row": LABELS.get(name, name), "seeds": len(group), "distance": group[0]["metric"]}
        for k in ("top1", "top5"):
            row[k], row[k + "_low"], row[k + "_high"] = _interval([g[k] for g in group], [g[k + "_ci"] for g in group])
        row |= {"rank_median": float(np.mean([g["rank_median"] for g in group]))}
        row |= {"top1_chance": 100 * group[0]["chance"]["top1"], "top5_chance": 100 * group[0]["chance"]["top5"]}
        rows.append(row | {"top1_paper": paper[0], "top5_paper": paper[1]})
    return pd.DataFrame(rows)


def _interval(values: list[float], intervals: list[list[float]]) -> tuple[float, float, float]:
    """Mean, low and high in percent."""
    mean = float(np.mean(values))
    seeds = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    low, high = np.mean(intervals, axis=0)
    return 100 * mean, 100 * max(0.0, mean - np.hypot(mean - low, seeds)), 100 * min(1.0, mean + np.hypot(high - mean, seeds))


def slices(runs: list[dict], task: str) -> pd.DataFrame:
    """Accuracy by family and by source of every experiment, in percent, mean over seeds."""
    rows = [
        {
            "experiment": r["experiment"],
            "seed": r["seed"],
            "slice": kind,
            "value": value,
            **{k: 100 * s[k] for k in ("top1", "top5")},
            "queries": s["queries"],
        }
        for r in runs
        for kind in ("family", "source")
        for value, s in r[task][f"by_{kind}"].items()
    ]
    keys = ["experiment", "slice", "value"]
    return pd.DataFrame(rows).drop(columns="seed").groupby(keys, sort=False).mean().reset_index()


def markdown(frame: pd.DataFrame, task: str) -> str:
    """The table as people read it."""
    gallery = "the gallery of its family" if task == "mixture" else "the whole gallery"
    title = "three-instrument mixtures" if task == "mixture" else "single instruments"
    head = [
        f"| {title} | distance | top-1 | top-5 | median rank (1 = best) | paper, top-1 / top-5 |",
        "|---|---|---|---|---|---|",
    ]
    chance_ = f"| chance in {gallery} | | {frame.top1_chance[0]:.1f} | {frame.top5_chance[0]:.1f} | | |"
    body = [
        f"| {r['row']} | {r.distance} | {_cell(r, 'top1')} | {_cell(r, 'top5')} | {r.rank_median + 1:.0f} | {_paper(r)} |"
        for _, r in frame.iterrows()
    ]
    return "\n".join([*head, chance_, *body]) + "\n"


def _cell(row: pd.Series, k: str) -> str:
    return f"{row[k]:.1f} ({row[k + '_low']:.1f} to {row[k + '_high']:.1f})"


def _paper(row: pd.Series) -> str:
    return "" if pd.isna(row.top1_paper) else f"{row.top1_paper:.1f} / {row.top5_paper:.1f}"


def write_tables(preset: str, folder: Path | None = None) -> dict[str, pd.DataFrame]:
    """Write table_<task>.{json,csv,md} and slices_<task>.csv of a preset to figures/<preset>; return the tables."""
    folder = folder or FIGURES / preset
    runs, out = collect(preset), {}
    for task in ("mixture", "single"):
        frame = out[task] = table(runs, task)
        stored = write_json(folder / f"table_{task}.json", json.loads(frame.to_json(orient="records", double_precision=4)))
        for name, text in (
            (f"table_{task}.csv", frame.to_csv(index=False, float_format="%.4f")),
            (f"table_{task}.md", markdown(pd.read_json(stored), task)),  # rounded once, as in the README
            (f"slices_{task}.csv", slices(runs, task).to_csv(index=False, float_format="%.4f")),
        ):
            write_atomic(folder / name, lambda part, text=text: part.write_text(text))
    return out


def readme_block(preset: str) -> str:
    """Results as the README shows them, from the tables in figures/<preset>."""
    folder = ROOT / "figures" / preset
    return "\n".join(markdown(pd.read_json(folder / f"table_{task}.json"), task) for task in ("mixture", "single"))


def update_readme(preset: str, check: bool = False, readme: Path = ROOT / "README.md") -> bool:
    """Put the block between its two marks; with `check` only compare. True if the README already agreed."""
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
    """python -m cirlib.report PRESET [--check]"""
    if not sys.argv[1:]:
        raise SystemExit(main.__doc__)
    if not update_readme(sys.argv[1], check="--check" in sys.argv) and "--check" in sys.argv:
        raise SystemExit(f"README.md differs from figures/{sys.argv[1]}: run `python -m cirlib.report {sys.argv[1]}`")


if __name__ == "__main__":
    main()
