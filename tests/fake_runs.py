"""Results of runs that nobody trained, as 03_retrieve writes them, and params files of the preset p."""

import json
from pathlib import Path


def scores(top1: float, top5: float = 0.8, **more) -> dict:
    """Scores with intervals of 0.1 to both sides."""
    return {"top1": top1, "top1_ci": [top1 - 0.1, top1 + 0.1], "top5": top5, "top5_ci": [top5 - 0.1, top5 + 0.1], "queries": 5, **more}


def result(experiment: str, seed: int, top1: float, tests=("mixture", "single")) -> dict:
    """metrics.json of a run."""
    test = scores(top1, metric="cosine", chance={"top1": 0.01, "top5": 0.05}, rank_median=3.0)
    test |= {"by_family": {"Bass": scores(top1)}, "by_source": {"virtual": scores(top1)}}
    test |= {"by_source and family": {"virtual, Bass": scores(top1)}}
    return {"experiment": experiment, "seed": seed, "queries": 2000, **dict.fromkeys(tests, test)}


def write_results(runs: Path, *results: dict) -> None:
    """Write metrics.json of runs of the preset p."""
    for found in results:
        folder = runs / "p" / found["experiment"] / f"seed{found['seed']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(found))


def write_params(home: Path, **texts: str) -> None:
    """Write params files of the preset p; a data file comes with them."""
    folder = home / "params" / "p"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"data": "{preset: p, source: virtual, bank: data/p}", **texts}.items():
        (folder / f"{name.replace('_', '-')}.yaml").write_text(text)
