"""Every number in README.md and in the texts of notebooks is checked against code or figures/, or is of a neutral kind."""

import inspect
import json
import re
from functools import cache

import pandas as pd
import pytest

from cirlib.common.paths import ROOT
from cirlib.data import card, taxonomy
from cirlib.data.bank import NoteBank
from cirlib.evaluation import baselines, open_mixtures, ranking
from cirlib.models.ast import ast_shape
from cirlib.reporting import examples, results
from cirlib.reporting.published import PAPER
from cirlib.reporting.rows import rows
from cirlib.training.config import WITH_ENCODER

NEUTRAL = (  # numbers that are no results: times and sizes as measured, units, references, names, versions, tolerances
    r"\d[\d.]*( to \d[\d.]*)? (s|ms|minutes?|seconds?|GB|KB|MB|kHz|Hz|bits)\b",
    r"\d[\d.]* (quiet |otherwise idle )?(slow )?(CPU )?cores?\b",
    r"[Ss]ections? [\d, and]+|[Tt]ables? [\d, and]+|\b(19|20)\d\d\b|arXiv [\d.]+|Python [\d., or to]+",
    r"\b95 % intervals?|Intervals \(95 %\)|\btop-\d+\b|[Tt]op-\d+|\bat \d\b|\b1e-\d\b",
    r"\b\d\d_[a-z]+|\b0\d\b|# \d\d |\bNotebooks? [\d, and]+|Slakh2100|bf16|mp3|CC0|float16|cirlib-\d",
    r"FluidR3|timgm6mb|128 programs of General MIDI",
)


@cache
def table(preset: str, task: str) -> pd.DataFrame:
    return pd.read_json(ROOT / "figures" / preset / f"table_{task}.json").set_index("experiment")


def steps(preset: str) -> list[int]:
    """Steps of the trained rows in the tables of a preset."""
    shown = {*table(preset, "mixture").index, *table(preset, "single").index}
    return [row.config().steps for row in rows(preset) if row.name in shown and "method" not in row.values and row.config().steps]


def records() -> list[dict]:
    return json.loads((ROOT / "figures" / "surge" / "runs.json").read_text())


def setting(name: str) -> float:
    """Value of a setting of all records of trained encoders."""
    (value,) = {r["config"][name] for r in records() if r["config"]["task"] in WITH_ENCODER and r["config"]["steps"]}
    return value


AST = [ast_shape("ast-base", 1024)[name] for name in ("num_hidden_layers", "patch_size", "time_stride")]
PERFORMANCE = (ROOT / "figures" / "performance" / "performance.md").read_text()
FAMILIES = [len(taxonomy.FAMILIES), 1, open_mixtures.MOST]
CLAIMS = [  # text, its pattern with a group for each number, the numbers
    ("README.md", r"at the (\d+)th percentile", lambda: [100 * 0.3]),
    ("README.md", r"AST for ([\d,]+) steps on (\d+) s clips", lambda: re.search(r"([\d,]+) steps .* (\d+) s", PAPER).groups()),
    ("README.md", r"trains for ([\d,]+) to ([\d,]+) steps", lambda: [min(steps("demo")), max(steps("surge"))]),
    ("README.md", r"steps on (\d+) s clips\. The", lambda: [setting("seconds")]),
    ("01_data", r"velocity nearest to (\d+)", lambda: re.findall(r"velocity - (\d+)", inspect.getsource(NoteBank.instruments.func))),
    ("01_data", r"at most ([\d,]+) notes", lambda: [card.SAMPLED]),
    ("03_retrieve", r"with (\d+) draws", lambda: [inspect.signature(ranking.summary).parameters["draws"].default]),
    ("04_embedding_space", r"is (\d) if .* and ([\d.]+) by chance", lambda: [1, 0.5]),
    ("04_embedding_space", r"is (\d) for perfect predictions and (\d) for predicting the mean", lambda: [1, 0]),
    ("04_embedding_space", r"scaled to length (\d)", lambda: [1]),
    ("05_baselines", r"of (\d+) coefficients", lambda: [baselines.COEFFICIENTS]),
    ("06_paper", r"the paper's ([\d,]+) steps", lambda: re.search(r"([\d,]+) steps", PAPER).groups()),
    ("08_performance", r"AST-base \((\d+) layers, patches of (\d+) with stride (\d+)", lambda: AST),
    ("08_performance", r"timed with (\d+) queries", lambda: [2]),
    ("08_performance", r"vectors for (\d+) queries", lambda: set(re.findall(r"\| search, .* \| (\d+) queries", PERFORMANCE))),
    ("09_open_mixtures", r"(\d) to (\d) instruments", lambda: [1, open_mixtures.MOST]),
    ("11_ablations", r"some intervals miss (\d) by chance", lambda: [0]),
    ("results.PRESETS", r"([\d,]+) presets of the Surge XT", lambda: [table("surge", "single").gallery.iloc[0]]),
    ("results.PRESETS", r"([\d,]+) steps of (\d+) clips", lambda: [setting("steps"), setting("batch_size")]),
    ("results.PRESETS", r"small encoder, (\d+) steps", lambda: [max(steps("demo"))]),
    ("results.PRESETS", r"sounds alone have (\d+) steps", lambda: [min(steps("demo"))]),
    ("results.PRESETS", r"instruments of (\d+) families, and mixtures of (\d) to (\d)", lambda: FAMILIES),
]  # fmt: skip


def texts() -> dict[str, str]:
    """Return the texts that people write, without code, formulas, addresses and generated blocks."""
    out = {"README.md": (ROOT / "README.md").read_text(), "results.PRESETS": "\n\n".join(results.PRESETS.values())}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        out[path.stem] = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    clutter = r"<!-- (\w+:\w+) -->.*?<!-- end:\w+ -->|```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)"
    return {name: re.sub(clutter, "", text, flags=re.S) for name, text in out.items()}


@pytest.mark.parametrize(("name", "pattern", "numbers"), CLAIMS, ids=[f"{name}: {pattern}" for name, pattern, _ in CLAIMS])
def test_number_is_that_of_the_files(name, pattern, numbers):
    found = list(re.finditer(pattern, texts()[name]))
    assert found, "the sentence changed: change its claim"
    expected = [float(str(n).replace(",", "")) for n in numbers()]
    for match in found:
        assert [float(n.replace(",", "")) for n in match.groups()] == expected


def test_no_other_number_is_written():
    """A new one needs a claim above, or is generated."""
    left = []
    for name, text in texts().items():
        for pattern in [*(p for where, p, _ in CLAIMS if where == name), *NEUTRAL]:
            text = re.sub(pattern, "", text)
        left += [f"{name}: {line.strip()[:160]}" for line in text.splitlines() if re.search(r"\d", line)]
    assert left == []


def test_words_that_stand_for_numbers():
    """The mixture on the first page, and how the encoders of the short table differ."""
    readme = (ROOT / "README.md").read_text()
    assert "the three nearest reference notes" in readme and examples.MATCHES == 3
    assert "between=(0.3, 0.3)" in (ROOT / "notebooks" / "06_paper.ipynb").read_text()
    ratio = table("surge", "mixture").parameters["family-infonce"] / table("surge", "mixture").parameters["multi-infonce"]
    assert "about twice the parameters" in readme and 1.8 < ratio < 2.2
