"""The field's terms, one meaning each: no private vocabulary and no personified code in any tracked text, figures included."""

import json
import re
import subprocess
from functools import cache

import pytest

from cirlib.common.paths import ROOT

SUFFIXES = (".py", ".md", ".ipynb", ".yaml", ".yml", ".toml", ".txt", ".csv", ".json", ".svg", ".html", ".js", ".css", ".cff")
SETTING = r"(?:`{0}`|\"{0}\"|\b{0} ?= ?\d|[{{,\s-]{0}: ?[\d\[])"  # a name as a setting: in code, text, YAML or JSON
WORDS = {  # pattern -> what to write instead
    r"\btold\b": "the thing itself: labels, metadata, settings, predictions",
    r"\b(?:tells?|telling)\b": "say, return, report, show",
    r"\b(?:hears?|heard)\b": "embed, read",
    r"\bknows\b": "has, supports, detects",
    r"\bst(?:ands?|ood) on\b": "uses, depends on",
    r"\bjudged?\b": "evaluate",
    r"\bleft out\b": "skipped",
    r"\bworse queries\b|\bqueries that come worse\b|\bmixes that come worse\b": "degraded queries",
    r"\bparts? for each family\b|\bpart_(?:dim|names)\b|\bPartReadout\b|`parts`": "per-family heads",
    r"\boptimiser of ours\b": "+ Muon",
    r"\bin order anew\b": "top-10 re-ranking",
    r"\bNothing is lost\b|\bnothing lies\b": "Reliability",
    r"\bruns? of other code\b": "runs made by a different code version",
    r"\bknow bf16\b": "CPUs with native bf16",
    r"\breads no further\b": "a broken pipe",
    r"\bhard_ratio\b": "hard_negative_ratio",
    SETTING.format("voices"): "max_instruments",
    SETTING.format("plays"): "mixtures_per_instrument",
    SETTING.format("chunk"): "gradient_cache_size",
    SETTING.format("clips"): "batch_size",
}
ALLOWED = {  # right English: (file, text around the word)
    ("tests/test_words.py", ""),
    ("cirlib/data/taxonomy.py", '"voices": "vox"'),  # a category of Surge
    ("tests/data/sources/test_folder.py", "buffer.tell()"),
}


@cache
def texts() -> dict[str, list[str]]:
    """Lines of every tracked text file; of notebooks, those of the cells."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git repository")
    out = {}
    for name in done.stdout.split("\0"):
        path = ROOT / name
        if path.is_file() and (path.suffix in SUFFIXES or path.name == "Makefile"):
            text = path.read_text()
            if path.suffix == ".ipynb":
                text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
            out[name] = text.splitlines()
    return out


@pytest.mark.parametrize("pattern", WORDS)
def test_private_words_do_not_occur(pattern):
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, lines in texts().items()
        for number, line in enumerate(lines, 1)
        if re.search(pattern, line) and not any(name == file and text in line for file, text in ALLOWED)
    ]
    assert not found, f"write: {WORDS[pattern]}\n" + "\n".join(found)


def test_names_of_tests_are_short():
    lines = [line for name, lines in texts().items() if name.startswith("tests/") for line in lines]
    found = [match[1] for line in lines if (match := re.match(r"\s*def (test_\w+)", line))]
    assert len(found) > 500
    assert not [name for name in found if len(name) >= 60]
