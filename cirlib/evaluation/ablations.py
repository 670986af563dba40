"""Ablations: how much changes of a recipe gain on validation instruments, with intervals over instruments and training runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_json
from ..data.bank import NoteBank
from .protocol import TESTS, Retriever, embed_test, rank_test
from .ranking import hits

NAME = "ablations.json"
DRAWS = 1000  # of the bootstrap
LEVEL = 0.05  # of significance, of all gains of a table together


def validate(retriever: Retriever, bank: NoteBank, config) -> dict[str, pd.DataFrame]:
    """Return the ranks of validation instruments in the tests of `config`, in a gallery without test instruments."""
    return rank_test(embed_test(retriever, bank, config, split="valid"), bank, config)


def shares(ranks: dict[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Return the top-1 accuracy of each instrument in each test."""
    return {test: hits(table["rank"], 1).groupby(table.instrument).mean() for test, table in ranks.items()}


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
        """Return a row per idea: seeds and, for each test, top-1, its gain over the recipe, half width of the gain's 95% interval, and p.

        In percent. The width combines a bootstrap over instruments, each compared with itself, and the standard deviation between seeds,
        pooled over all ideas with several seeds (Student's t); NaN if no idea has several. p: the level at which the interval would end
        at 0, corrected for the number of gains in the table (`holm`).
        """
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
                between = 0 if name == recipe else np.sqrt(variance * (1 / len(x) + 1 / len(own)))
                errors = gains[draws].mean(axis=1).std(), between, freedom
                values = x.mean(), gains.mean(), _width(LEVEL, *errors), np.nan if name == recipe else _level(gains.mean(), *errors)
                out.loc[name, [test, *(f"{test}_{value}" for value in ("gain", "width", "p"))]] = values
        columns = [f"{test}_p" for test in tests]
        out[columns] = holm(out[columns].to_numpy())
        return out


def _width(level: float, within: float, between: float, freedom: int) -> float:
    """Return the half width of an interval with standard errors of a normal distribution and of Student's t; NaN without freedom."""
    from scipy.stats import norm, t

    return np.hypot(norm.isf(level / 2) * within, t.isf(level / 2, freedom) * between if between else between)


def _level(gain: float, *errors: float) -> float:
    """Return the level at which the interval of a gain ends at 0."""
    from scipy.optimize import brentq

    if np.isnan(_width(LEVEL, *errors)):
        return np.nan
    return brentq(lambda level: _width(level, *errors) - abs(gain), 1e-12, 1) if 0 < abs(gain) < _width(1e-12, *errors) else float(not gain)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values of any shape, corrected for their number by the method of Holm (1979); NaN stays NaN and does not count."""
    out, known = p.astype(float), np.isfinite(p)
    order, m = np.argsort(p[known]), int(known.sum())
    corrected = np.empty(m)
    corrected[order] = np.maximum.accumulate((m - np.arange(m)) * p[known][order]).clip(max=1)
    out[known] = corrected
    return out


def findings(rows: pd.DataFrame) -> str:
    """Return a sentence: how many gains Ablations.table compares, and which of them are significant after the correction."""
    tests = [name.removesuffix("_p") for name in rows.columns if name.endswith("_p")]
    count = int(rows[[f"{test}_p" for test in tests]].notna().sum().sum())
    found = {f"{sign} on {test}": [] for test in tests for sign in ("gain", "loss")}
    for test in tests:
        for idea, gain in rows[f"{test}_gain"][rows[f"{test}_p"] < LEVEL].items():
            found[f"{'gain' if gain > 0 else 'loss'} on {test}"].append(f"{idea} ({gain:+.1f})")
    parts = "; ".join(f"{what}: {', '.join(names) or 'none'}" for what, names in found.items())
    return f"Of {count} comparisons with the recipe, significant after Holm's correction (p < {LEVEL:g} for all together): {parts}."


def markdown(rows: pd.DataFrame) -> str:
    """Return Ablations.table as Markdown."""
    tests = [name.removesuffix("_gain") for name in rows.columns if name.endswith("_gain")]
    header = ["idea", *(name for test in tests for name in (f"{test}, top-1", "gain", "p")), "seeds"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for idea, row in rows.iterrows():
        cells = []
        for test in tests:
            gain, width = row[f"{test}_gain"], row[f"{test}_width"]
            text = f"{gain:+.1f}" + ("" if np.isnan(width) else f" ± {width:.1f}")
            p = row[f"{test}_p"]
            cells += [f"{row[test]:.1f}", text if gain or width else "", "" if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"]
        lines.append([idea, *cells, f"{row.seeds:.0f}"])
    note = "Percent of queries of validation instruments; gains with single 95 % intervals, over instruments and seeds; p: Holm-corrected."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note} {findings(rows)}\n"
