"""Helpers of the attacks: a folder for hostile files, what must not change beside it, and the form of a refusal."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from conftest import tone
from tones import write

ATTACKS: dict[str, Callable[["Scene"], None]] = {}  # "kind of file: attack" -> function that asserts that it fails
MEMORY = 1 << 20  # kB of memory that an attack may take


def attack(kind: str, what: str):
    """Register an attack."""

    def register(function):
        assert f"{kind}: {what}" not in ATTACKS
        ATTACKS[f"{kind}: {what}"] = function
        return function

    return register


def attacks(kind: str, cases: dict, name: str = "{}"):
    """Register an attack for each case: what it tries -> arguments after `scene`."""

    def register(function):
        for what, values in cases.items():
            arguments = values if isinstance(values, tuple) else (values,)
            attack(kind, name.format(what))(lambda scene, arguments=arguments: function(scene, *arguments))
        return function

    return register


class Scene:
    """`inside`: folder of the hostile files; beside it are a secret sound and text. Code of an attack would create `canary`."""

    def __init__(self, root: Path, monkeypatch):
        self.root, self.patch = root, monkeypatch
        self.inside, self.canary = root / "inside", root / "canary"
        self.inside.mkdir()
        self.secret = write(root / "secret.wav", tone(69, 0.5))
        (root / "secret.txt").write_text("secret")
        self._before = self._outside()

    def _outside(self) -> dict[str, bytes]:
        found = (f for f in self.root.rglob("*") if not f.is_relative_to(self.inside) and f.is_file())
        return {str(f): f.read_bytes() for f in found}

    def allow(self) -> None:
        """Accept the files that are outside now."""
        self._before = self._outside()

    def evil(self):
        """Return an object whose pickle runs a command."""
        return _Evil(f"touch {self.canary}")

    def check(self) -> None:
        """Assert that no code was run, and nothing outside of `inside` was written or changed."""
        assert not self.canary.exists(), "hostile code was run"
        assert self._outside() == self._before, "a file outside of the hostile folder was written"


class _Evil:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@contextmanager
def refused(words: str = "", kinds: tuple = (ValueError, OSError)) -> Iterator[None]:
    """Assert that the block raises an error of these types, on one line, with these words."""
    try:
        yield
    except kinds as error:
        text = str(error)
        assert type(error) is not UnicodeDecodeError and len(text) > 10 and "\n" not in text and len(text) < 2500, repr(text)
        assert words in text, text
    else:
        raise AssertionError("it was not refused")


@contextmanager
def bounded() -> Iterator[None]:
    """Assert that the block takes less than MEMORY."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


def quiet(seconds: float = 0.1) -> np.ndarray:
    """Return a sound other than the secret one."""
    return tone(50, seconds, 0.3)
