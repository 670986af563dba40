"""The mutation test of tests/reliability, on a small module: which mutants it makes and which of them tests find."""

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
EVALUATE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mutants
from trial import Target
sys.path.insert(0, ".")
mutants.LIMIT = 0, 1
states = {}
target = Target("mini.small", Path("mini/small.py").resolve(), ["test_small.py"])
found = mutants.evaluate(target, None, lambda mutant, state, test: states.update({f"{mutant.line}: {mutant.change}": state}))
print(json.dumps([states, {**found, "survivors": len(found["survivors"])}]))
"""


@pytest.fixture
def scripts(monkeypatch):
    """The modules mutate and mutants."""
    monkeypatch.syspath_prepend(FOLDER)
    yield tuple(map(importlib.import_module, ("mutate", "mutants")))
    for name in ("mutants", "mutate", "trial"):
        sys.modules.pop(name)


def test_wrong_results_errors_and_loops_are_found(tmp_path):
    """Equivalent mutants, and those of functions that no test calls, survive."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini/__init__.py").touch()
    (tmp_path / "mini/small.py").write_text(MODULE)
    (tmp_path / "test_small.py").write_text(TESTS)
    done = subprocess.run([sys.executable, "-c", EVALUATE, FOLDER], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    states, counts = json.loads(done.stdout)
    expected = {"8: x < low -> x >= low": "failed", "8: x < low -> x <= low": "passed", "9: return low -> return None": "failed"}
    expected |= {"17: n -= 1 -> pass": "late", "22: return lonely -> return None": "passed"}
    assert expected.items() <= states.items()
    assert not any(line.startswith(("1:", "3:", "5:")) or "above" in line.split(" -> ")[1] for line in states)
    assert (tmp_path / "mini/small.py").read_text() == MODULE
    found = list(states.values())
    assert counts == {"tried": len(found), "killed": found.count("failed"), "late": found.count("late"), "survivors": found.count("passed")}


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
def test_mutants_of_a_line(scripts, line, changes):
    source = f"z = {line}\n"
    found = scripts[0].mutants(ast.parse(source), source)
    assert sorted(" ".join(m.change.split()) for m in found) == sorted(changes)
    assert {m.text for m in found} == {source.strip()}


def test_reasons_belong_to_the_text_of_a_line(scripts):
    mutate, mutants = scripts
    source = "def f(a):\n    return a < 1\n"
    boundary, opposite, *_ = [m for m in mutate.mutants(ast.parse(source), source) if "<" in m.change]
    known = [{"line": "return a < 1", "change": boundary.change, "why": "a is no integer"}]
    assert mutants.reason(boundary, known) == "a is no integer"
    assert mutants.reason(opposite, known) == mutants.UNEXPLAINED
    assert mutants.reason(opposite, [{"line": "return a < 1", "why": "never"}]) == "never"
    table = mutants.survivors_table({"m": {"tried": 5, "survivors": [boundary]}, "n": {"tried": 2, "survivors": []}}, {"m": known})
    assert "m: 1 of 5" in table and f"| 2 | `{boundary.change}` | a is no integer |" in table and "n: 0 of 2" in table


def test_every_mutated_module_has_tests(scripts):
    mutants = scripts[1]
    for module in mutants.TESTS:
        assert (mutants.ROOT / "cirlib" / f"{module}.py").is_file() and mutants.test_files(module)
