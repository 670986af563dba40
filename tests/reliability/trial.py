"""Run the tests of a module, with or without a mutant (mutate.py), in a process forked from this one.

Slow imports should be done before, but none of cirlib: the mutant replaces its module when the tests import it. Tests that start a new
Python import the unchanged module.
"""

import ast
import gc
import importlib.abc
import importlib.machinery
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutate import Mutant, mutants

MEMORY = 8 << 30  # bytes
# unraisableexception runs the garbage collector five times at the end, which takes longer than most tests
UNUSED = ("cacheprovider", "unraisableexception", "threadexception", "doctest")
OPTIONS = ["-x", "-q", "--tb=no", "--assert=plain", *(f"-pno:{name}" for name in UNUSED)]


@dataclass
class Target:
    """A module, its file and its tests."""

    module: str
    path: Path
    tests: Sequence[str]

    def __post_init__(self):
        source = self.path.read_text()
        self.tree = ast.parse(source)
        self.mutants = mutants(self.tree, source)
        functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]
        # without decorated ones: a cached result hides which tests need a function
        self.plain = {(f.lineno, f.end_lineno) for f in functions if not f.decorator_list}


class Swap(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports a module from a tree instead of its file."""

    def __init__(self, target: Target):
        super().__init__(target.module, str(target.path))
        self.tree = target.tree

    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, origin=self.path) if name == self.name else None

    def exec_module(self, module):
        module.__file__ = self.path
        exec(compile(self.tree, self.path, "exec"), module.__dict__)


class Plan:
    """pytest plugin: runs the fastest tests first and collects {seconds, lines} of each test, and the one that failed.

    `lines`: first lines of the functions of the module that a test, or a fixture of its file, calls.
    """

    def __init__(self, path: Path, known: dict[str, dict], chosen: set[str] | None):
        self.path, self.known, self.chosen = str(path), known, chosen
        self.tests, self.failed, self._called, self._shared = {}, None, set(), {}

    def pytest_collection_modifyitems(self, items):
        if self.chosen is not None:
            items[:] = [item for item in items if item.nodeid in self.chosen]
        files = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda item: (files.index(item.path), self.known.get(item.nodeid, {}).get("seconds", 0)))

    def pytest_runtest_logstart(self):
        if not self.known:
            sys.settrace(self._trace)

    def pytest_runtest_logreport(self, report):
        test = self.tests.setdefault(report.nodeid, {"seconds": 0, "lines": []})
        test["seconds"] += report.duration
        shared = self._shared.setdefault(report.nodeid.split("::")[0], set())
        if report.when == "setup":
            shared |= self._called
        test["lines"] = sorted({*test["lines"], *self._called, *shared})
        self._called.clear()
        if report.failed:
            self.failed = report.nodeid

    def _trace(self, frame, event, argument):
        if frame.f_code.co_filename == self.path:
            self._called.add(frame.f_code.co_firstlineno)


def covering(target: Target, mutant: Mutant, known: dict[str, dict]) -> set[str] | None:
    """Return the tests that call the function of a mutant; None if any test may notice it."""
    around = [span for span in target.plain if span[0] < mutant.line <= span[1]]
    if not around:
        return None
    first, last = max(around)
    return {name for name, test in known.items() if any(first <= line <= last for line in test["lines"])}


def run(target: Target, mutant: Mutant | None = None, *, known: dict | None = None, chosen: set[str] | None = None, cpu: int = 600) -> dict:
    """Run the tests against a mutant, or none; return {state, failed, tests}.

    state: passed, failed, or late (more than `cpu` seconds, or 5 times that by the clock). `known`: tests of a run without a mutant.
    """
    folder = tempfile.mkdtemp(prefix="mutant-")
    gc.freeze()
    child = os.fork()
    if child == 0:
        code = 3  # the mutant broke pytest itself
        try:
            code = _child(target, mutant, Plan(target.path, known or {}, chosen), Path(folder), cpu)
        finally:
            os._exit(code)
    code = _wait(child, 5 * cpu)
    file = Path(folder) / "result.json"
    result = json.loads(file.read_text()) if file.exists() else {"failed": None, "tests": {}}
    shutil.rmtree(folder, ignore_errors=True)
    return {"state": "passed" if code == 0 else "late" if code in (None, -signal.SIGXCPU, -signal.SIGKILL) else "failed", **result}


def _child(target: Target, mutant: Mutant | None, plan: Plan, folder: Path, cpu: int) -> int:
    os.setsid()
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    os.environ |= {"TMPDIR": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    tempfile.tempdir = str(folder)
    sys.dont_write_bytecode = True
    if mutant:
        mutant.apply()
    sys.meta_path.insert(0, Swap(target))
    code = pytest.main([*OPTIONS, *target.tests], plugins=[plan])
    (folder / "result.json").write_text(json.dumps({"failed": plan.failed, "tests": plan.tests}))
    return int(code)


def _wait(child: int, wall: float) -> int | None:
    end = time.monotonic() + wall
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)  # its session: with the processes that the tests started
    os.waitpid(child, 0)
    return None
