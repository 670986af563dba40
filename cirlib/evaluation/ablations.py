"""Ablations: how much changes of a recipe gain on validation instruments, with intervals over instruments and training runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_json
from ..data.bank import NoteBank
from .protocol import TESTS, Retriever, embed_test, rank_test

NAME = "ablations.json"
DRAWS = 1000  # of the bootstrap


def validate(retriever: Retriever, bank: NoteBank, config) -> dict[str, pd.DataFrame]:
    """Return the ranks of validation instruments in the tests of `config`, in a gallery without test instruments."""
    return rank_test(embed_test(retriever, bank, config, split="valid"), bank, config)


def shares(ranks: dict[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Return the top-1 accuracy of each instrument in each test."""
    return {test: (table["rank"] < 1).groupby(table.instrument).mean() for test, table in ranks.items()}


class Ablations:
    """Results of ideas, one record per idea and seed, in a JSON file that is written after each.

    `keys`: digest of each idea. Records with other keys are skipped, and deleted when the file is written again.
    """

    def __init__(self, path: Path, keys: dict[str, str]):
        self.path, self.keys = path, keys
        stored = json.loads(path.read_text()) if path.exists() else {"instruments": {}, "records": []}
        self.records = [r for r in stored["records"] if keys.get(r["idea"]) == r["key"]]
        self.instruments = stored["instruments"] if self.records else {}
        if skipped := len(stored["records"]) - len(self.records):
            print(f"{skipped} records of {path.name} are skipped: the code, settings or sounds of their ideas changed")

    def has(self, idea: str, seed: int) -> bool:
        """Return whether there is a record of an idea with a seed."""
        return any(r["idea"] == idea and r["seed"] == seed for r in self.records)

    def add(self, idea: str, seed: int, accuracy: dict[str, pd.Series], **details) -> None:
        """Store the accuracy of each instrument in each test. Raises ValueError if earlier records have other instruments."""
        for test, shares in accuracy.items():
            if self.instruments.setdefault(test, list(shares.index)) != list(shares.index):
                raise ValueError(f"{self.path.name} holds results on other instruments: delete it")
        percent = {test: [round(100 * float(x), 1) for x in shares] for test, shares in accuracy.items()}
        self.records.append({"idea": idea, "seed": seed, "key": self.keys[idea], **details, **percent})
        write_json(self.path, {"instruments": self.instruments, "records": self.records})

    def other_code(self, recipe: str) -> list[str]:
        """Return the ideas that ran with other versions of cirlib than the recipe (`provenance` of their records)."""
        codes = {idea: {r["provenance"].get("code") for r in self.records if r["idea"] == idea} for idea in self.keys}
        return [idea for idea, own in codes.items() if own - codes[recipe]]

    def table(self, recipe: str, tests=TESTS) -> pd.DataFrame:
        """Return a row per idea: seeds and, for each test, top-1, its gain over the recipe and the half width of the gain's 95% interval.

        In percent. The width combines a bootstrap over instruments, each compared with itself, and the standard deviation between seeds,
        pooled over all ideas with several seeds (Student's t); NaN if no idea has several.
        """
        from scipy.stats import t

        ideas = {name: [r for r in self.records if r["idea"] == name] for name in dict.fromkeys(r["idea"] for r in self.records)}
        rng, out = np.random.default_rng(0), pd.DataFrame({"seeds": {name: len(runs) for name, runs in ideas.items()}})
        for test in tests:
            scores = {name: np.array([r[test] for r in runs]) for name, runs in ideas.items()}  # (seeds, instruments)
            means = [x.mean(axis=1) for x in scores.values() if len(x) > 1]
            freedom = sum(len(x) - 1 for x in means)
            variance = sum(((x - x.mean()) ** 2).sum() for x in means) / freedom if freedom else np.nan
            own = scores[recipe]
            draws = rng.integers(own.shape[1], size=(DRAWS, own.shape[1]))
            for name, x in scores.items():
                gains = x.mean(axis=0) - own.mean(axis=0)
                between = 0 if name == recipe else t.ppf(0.975, freedom) * np.sqrt(variance * (1 / len(x) + 1 / len(own)))
                width = np.hypot(1.96 * gains[draws].mean(axis=1).std(), between)
                out.loc[name, [test, f"{test}_gain", f"{test}_width"]] = x.mean(), gains.mean(), width
        return out


def markdown(rows: pd.DataFrame) -> str:
    """Return Ablations.table as Markdown."""
    tests = [name.removesuffix("_gain") for name in rows.columns if name.endswith("_gain")]
    header = ["idea", *(name for test in tests for name in (f"{test}, top-1", "gain")), "seeds"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for idea, row in rows.iterrows():
        cells = []
        for test in tests:
            gain, width = row[f"{test}_gain"], row[f"{test}_width"]
            text = f"{gain:+.1f}" + ("" if np.isnan(width) else f" ± {width:.1f}")
            cells += [f"{row[test]:.1f}", text if gain or width else ""]
        lines.append([idea, *cells, f"{row.seeds:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
