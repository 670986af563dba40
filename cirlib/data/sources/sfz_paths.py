"""What an SFZ instrument would read: the texts that it includes and its samples must lie in its library, whoever wrote it.

sfizz opens whatever a text names, so every path is looked at before it gets the text, in comments too, with every value that a variable
was given; and what it made of the samples afterwards, should it understand the text otherwise.
"""

import os
import re
from itertools import product
from pathlib import Path

from ...common.untrusted import inside

DEEPEST = 20  # texts that include one another
MOST_TEXTS, MOST_BYTES = 2000, 64 << 20  # of one instrument
MOST_WAYS = 500  # that the variables of one path can be meant in
_LINE = re.compile(r"[\r\n]+")
_DEFINE = re.compile(r"#\s*define\s+(\$\S+?)\s+(\S*)", re.IGNORECASE)
_INCLUDE = re.compile(r"#\s*include\b\s*(.*)", re.IGNORECASE)
_VALUE = re.compile(r"(sample|default_path|[^\s=<>]*\$[^\s=<>]*)\s*=[ \t]*(.*)", re.IGNORECASE)
_ENDS = (re.compile(r"\s+[^\s=<>]+=|<"), re.compile(r"\s"), re.compile('(?<=.)"'))  # of a value, if not its line


def check_paths(file: Path, library: Path) -> None:
    """ValueError for an instrument that would read outside of its library."""
    _Reader(file, library).read(file, 0)


def check_sample(sample: str, file: Path, library: Path) -> None:
    """ValueError for a path outside of the library; a sound that sfizz makes (`*sine`) has none."""
    try:
        if not sample.startswith("*"):
            inside(library, file.parent / sample.replace("\\", "/"))
    except ValueError:
        raise ValueError(f"it reads {sample!r:.200}, outside of its library {library}: set path to the folder that holds both") from None


class _Reader:
    """Goes through a text and those that it includes, in their order."""

    def __init__(self, file: Path, library: Path):
        self.file, self.library = file, library
        self.variables: dict[str, set[str]] = {}  # name (`$x`) -> all values so far
        self.folders = {""}  # what default_path can be
        self.texts, self.bytes = 0, 0

    def read(self, place: Path, depth: int) -> None:
        """One text; ValueError as check_paths."""
        self.texts, self.bytes = self.texts + 1, self.bytes + place.stat().st_size
        if depth > DEEPEST or self.texts > MOST_TEXTS or self.bytes > MOST_BYTES:
            raise ValueError("it includes too many texts, or too large ones")
        for line in _LINE.split(os.fsdecode(place.read_bytes())):
            for name, value in _DEFINE.findall(line):
                self.variables.setdefault(name, set()).add(value)
            if found := _INCLUDE.search(line):
                self._include(found[1].lstrip('"<'), place, depth)
            while found := _VALUE.search(line):
                name, line = found[1].lower(), found[2]
                self._value(name, {cut for way in self._ways(line) for cut in _cuts(way)})

    def _include(self, told: str, place: Path, depth: int) -> None:
        for name in {cut for way in self._ways(told) for cut in _cuts(way)}:
            check_sample(name, self.file, self.library)
            for folder in {self.file.parent, place.parent}:
                if (text := folder / name.replace("\\", "/")).is_file():
                    check_sample(str(text.absolute()), self.file, self.library)
                    self.read(text, depth + 1)

    def _value(self, name: str, values: set[str]) -> None:
        if name == "default_path":
            self.folders = values
        elif "$" in name:  # it may become either
            self.folders |= values
        if name != "default_path":
            for folder, sample in product(self.folders if name == "sample" else {"", *self.folders}, sorted(values, key=len)):
                check_sample(sample if sample.startswith("*") else folder + sample, self.file, self.library)
        if len(self.folders) > MOST_WAYS:
            raise ValueError("its paths hold too many variables")

    def _ways(self, text: str) -> set[str]:
        """A text with its variables in all ways that they can be meant; each may stay as it is too."""
        done, seen = set(), {(text, 0)}
        waiting = list(seen)
        while waiting:
            text, start = waiting.pop()
            if (at := text.find("$", start)) < 0:
                done.add(text)
                continue
            names = [name for name in self.variables if text.startswith(name, at)]
            fresh = {(text, at + 1), *((text[:at] + v + text[at + len(name) :], at) for name in names for v in self.variables[name])}
            waiting += fresh - seen
            seen |= fresh
            if len(seen) > MOST_WAYS or len(text) > 100_000:
                raise ValueError("its paths hold too many variables")
        return done


def _cuts(value: str) -> set[str]:
    """All that a value can be: it ends where another opcode or header begins, or with its line; names may hold spaces."""
    ends = (found.start() for end in _ENDS if (found := end.search(value)))
    return {value.rstrip(), *(value[:end] for end in ends)}
