"""The mutants of tests/reliability: all of a small module, and which of them its tests find."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "reliability"
MODULE = '''"""Small."""

TABLE = {"a": 1}


def clamp(x: int, low: int = 0):
    """x, at least low."""
    if x < low:
        return low
    return x


def endless(n):
    if not n:
        raise ValueError(f"{n} is not above {0}")
    while n > 0:
        n -= 1
    return n


def lonely():
    return lonely
'''
TESTS = """
import pytest
from mini.small import clamp, endless


def test_clamp():
    assert [clamp(x, 2) for x in (1, 2, 3)] == [2, 2, 3]
    assert clamp(-1) == 0


def test_endless():
    assert endless(3) == 0
    with pytest.raises(ValueError):
        endless(0)
"""
JUDGE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mutants
from trial import Target
sys.path.insert(0, ".")
mutants.LIMIT = 0, 1
told = {}
target = Target("mini.small", Path("mini/small.py").resolve(), ["test_small.py"])
found = mutants.judge(target, None, lambda mutant, state, test: told.update({f"{mutant.line}: {mutant.change}": state}))
print(json.dumps([told, {**found, "survivors": len(found["survivors"])}]))
"""


@pytest.fixture
def scripts(monkeypatch):
    """The modules mutate and mutants."""
    monkeypatch.syspath_prepend(FOLDER)
    yield tuple(map(importlib.import_module, ("mutate", "mutants")))
    for name in ("mutants", "mutate", "trial"):
        sys.modules.pop(name)


def test_mutants_of_a_small_module(tmp_path):
    """A wrong answer, an exception and an endless loop are found; what changes nothing and what no test calls is not."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini/__init__.py").touch()
    (tmp_path / "mini/small.py").write_text(MODULE)
    (tmp_path / "test_small.py").write_text(TESTS)
    done = subprocess.run([sys.executable, "-c", JUDGE, FOLDER], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, counts = json.loads(done.stdout)
    assert told["8: x < low -> x >= low"] == "failed"
    assert told["8: x < low -> x <= low"] == "passed"  # equal ones are as good
    assert told["9: return low -> return None"] == "failed"
    assert told["17: n -= 1 -> pass"] == "late"
    assert told["22: return lonely -> return None"] == "passed"  # never called
    assert not any(line.startswith(("1:", "3:", "5:")) or "above" in line.split(" -> ")[1] for line in told)
    assert (tmp_path / "mini/small.py").read_text() == MODULE
    states = list(told.values())
    expected = {"killed": states.count("failed"), "late": states.count("late"), "survivors": states.count("passed")}
    assert counts == {"tried": len(told), **expected}


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("x[a:b]", ["a:b -> :b", "a:b -> a:"]),
        ("a and not b", ["a and (not b) -> a or not b", "a and (not b) -> a", "a and (not b) -> not b", "not b -> b"]),
        ("f(max(a, b), k=None)", ["f(max(a, b), k=None) -> f(max(a, b))", "max(a, b) -> min(a, b)"]),
        ("[s, 0.5]", ["[s, 0.5] -> [0.5]", "[s, 0.5] -> [s]", "0.5 -> 1.0"]),
        ("[a for a in b if c]", ["for a in b if c -> for a in b"]),
        ("a @ b.mean()", ["b.mean() -> b.sum()"]),
        ("1 if a else 2", ["a -> True", "a -> False", "1 -> 2", "2 -> 3"]),
    ],
)
def test_changes_of_a_line(scripts, line, changes):
    source = f"z = {line}\n"
    found = scripts[0].mutants(ast.parse(source), source)
    assert sorted(" ".join(m.change.split()) for m in found) == sorted(changes)
    assert {m.text for m in found} == {source.strip()}


def test_reasons_survive_other_lines(scripts):
    """They are kept by the text of a line, for one of its changes or all."""
    mutate, mutants = scripts
    source = "def f(a):\n    return a < 1\n"
    boundary, opposite, *_ = [m for m in mutate.mutants(ast.parse(source), source) if "<" in m.change]
    known = [{"line": "return a < 1", "change": boundary.change, "why": "a is no integer"}]
    assert mutants.reason(boundary, known) == "a is no integer"
    assert mutants.reason(opposite, known) == "no test finds it"
    assert mutants.reason(opposite, [{"line": "return a < 1", "why": "never"}]) == "never"
    table = mutants.survivors_table({"m": {"tried": 5, "survivors": [boundary]}, "n": {"tried": 2, "survivors": []}}, {"m": known})
    assert "m: 1 of 5" in table and f"| 2 | `{boundary.change}` | a is no integer |" in table and "n: 0 of 2" in table
