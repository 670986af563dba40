"""Ablations: what a change of a recipe gains on validation instruments, with an interval that counts instruments and training runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_json
from ..data.bank import NoteBank
from . import protocol as evaluate
from .protocol import Retriever

NAME = "ablations.json"
DRAWS = 1000


def validate(retriever: Retriever, bank: NoteBank, config) -> dict[str, pd.DataFrame]:
    """Ranks of validation instruments in the tests that `config` names, among all instruments but those of the test."""
    return evaluate.rank_test(evaluate.embed_test(retriever, bank, config, "valid"), bank, config, config.metric)


def shares(ranks: dict[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Top-1 of each instrument in each test."""
    return {test: (table["rank"] < 1).groupby(table.instrument).mean() for test, table in ranks.items()}


class Ablations:
    """What ideas found, one record for each idea and seed, kept in a file that is written after each.

    `keys`: what tells each idea as it is now. Records of ideas that were others, or are no more, are left out and go with the next record.
    """

    def __init__(self, path: Path, keys: dict[str, str]):
        self.path, self.keys = path, keys
        stored = json.loads(path.read_text()) if path.exists() else {"instruments": {}, "records": []}
        self.records = [r for r in stored["records"] if keys.get(r["idea"]) == r["key"]]
        self.instruments = stored["instruments"] if self.records else {}
        if gone := len(stored["records"]) - len(self.records):
            print(f"{gone} records of {path.name} are left out: their ideas have other code, settings or sounds now")

    def holds(self, idea: str, seed: int) -> bool:
        """Whether an idea was tried with a seed."""
        return any(r["idea"] == idea and r["seed"] == seed for r in self.records)

    def add(self, idea: str, seed: int, found: dict[str, pd.Series], **told) -> None:
        """Keep what was found. ValueError if earlier records are of other instruments."""
        for test, shares in found.items():
            if self.instruments.setdefault(test, list(shares.index)) != list(shares.index):
                raise ValueError(f"{self.path.name} holds ideas that were tried on other sounds: delete it")
        shares = {test: [round(100 * float(x), 1) for x in values] for test, values in found.items()}
        self.records.append({"idea": idea, "seed": seed, "key": self.keys[idea], **told, **shares})
        write_json(self.path, {"instruments": self.instruments, "records": self.records})

    def of_other_code(self, recipe: str) -> list[str]:
        """Ideas that were tried with another state of cirlib than the recipe (`provenance` in each record)."""
        codes = {idea: {r["provenance"].get("code") for r in self.records if r["idea"] == idea} for idea in self.keys}
        return [idea for idea, own in codes.items() if own - codes[recipe]]

    def table(self, recipe: str, tests=evaluate.TESTS, seed: int = 0) -> pd.DataFrame:
        """A row per idea: seeds, and for each test top-1, its gain over the recipe and the half width of the gain's 95% interval.

        All in percent. Two spreads add up in the width: bootstrap over instruments, each compared with itself, and the
        standard deviation between seeds, pooled over all ideas that have several (by Student's t, wide while few have); NaN while none has.
        """
        from scipy.stats import t

        ideas = {}
        for record in self.records:
            ideas.setdefault(record["idea"], []).append(record)
        rng, out = np.random.default_rng(seed), pd.DataFrame({"seeds": {name: len(runs) for name, runs in ideas.items()}})
        for test in tests:
            shares = {name: np.array([r[test] for r in runs]) for name, runs in ideas.items()}  # (seeds, instruments)
            several = [x.mean(axis=1) for x in shares.values() if len(x) > 1]
            freedom = sum(len(x) - 1 for x in several)
            between = sum(((x - x.mean()) ** 2).sum() for x in several) / freedom if freedom else np.nan
            own = shares[recipe]
            draws = rng.integers(own.shape[1], size=(DRAWS, own.shape[1]))
            for name, x in shares.items():
                gains = x.mean(axis=0) - own.mean(axis=0)
                runs = 0 if name == recipe else t.ppf(0.975, freedom) * np.sqrt(between * (1 / len(x) + 1 / len(own)))
                width = np.hypot(1.96 * gains[draws].mean(axis=1).std(), runs)
                out.loc[name, [test, f"{test}_gain", f"{test}_width"]] = x.mean(), gains.mean(), width
        return out


def markdown(rows: pd.DataFrame) -> str:
    """The table of Ablations.table."""
    tests = [name.removesuffix("_gain") for name in rows.columns if name.endswith("_gain")]
    head = " | ".join(f"{test}, top-1 | gain" for test in tests)
    lines = [f"| idea | {head} | seeds |", "|---|" + "---:|---:|" * len(tests) + "---:|"]
    for name, row in rows.iterrows():
        cells = []
        for test in tests:
            width = "" if np.isnan(row[f"{test}_width"]) else f" ± {row[f'{test}_width']:.1f}"
            gain = "" if row[f"{test}_gain"] == 0 and not row[f"{test}_width"] else f"{row[f'{test}_gain']:+.1f}{width}"
            cells.append(f"{row[test]:.1f} | {gain}")
        lines.append(f"| {name} | {' | '.join(cells)} | {row.seeds:.0f} |")
    return "\n".join(lines) + "\n"
