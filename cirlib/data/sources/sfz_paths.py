"""Check that an SFZ instrument reads only files of its library: hostile texts could name any file of the machine.

sfizz opens every path in a text. So all paths are checked before sfizz reads the text, those in comments too, with every value that a
variable was given; and the sample paths that sfizz understood are checked afterwards (sfz.py).
"""

import os
import re
from itertools import product
from pathlib import Path

from ...common.untrusted import inside

MAX_DEPTH = 20  # of texts that include each other
MAX_TEXTS, MAX_BYTES = 2000, 64 << 20  # of one instrument
MAX_VARIANTS = 500  # of one path, by the values of its variables
_LINE = re.compile(r"[\r\n]+")
_DEFINE = re.compile(r"#\s*define\s+(\$\S+?)\s+(\S*)", re.IGNORECASE)
_INCLUDE = re.compile(r"#\s*include\b\s*(.*)", re.IGNORECASE)
_VALUE = re.compile(r"(sample|default_path|[^\s=<>]*\$[^\s=<>]*)\s*=[ \t]*(.*)", re.IGNORECASE)
_ENDS = (re.compile(r"\s+[^\s=<>]+=|<"), re.compile(r"\s"), re.compile('(?<=.)"'))  # of a value that ends before its line


def check_paths(file: Path, library: Path) -> None:
    """Raise ValueError for an instrument that would read outside of its library."""
    _Reader(file, library).read(file)


def check_sample(sample: str, file: Path, library: Path) -> None:
    """Raise ValueError for a sample path outside of the library. Generated samples (`*sine`) have no path."""
    try:
        if not sample.startswith("*"):
            inside(library, file.parent / sample.replace("\\", "/"))
    except ValueError:
        raise ValueError(f"it reads {sample!r:.200}, outside of its library {library}: set path to the folder that holds both") from None


class _Reader:
    """Reads a text and the texts that it includes, in their order."""

    def __init__(self, file: Path, library: Path):
        self.file, self.library = file, library
        self.variables: dict[str, set[str]] = {}  # name (`$x`) -> all values so far
        self.folders = {""}  # possible values of default_path
        self.texts = self.bytes = 0

    def read(self, text: Path, depth: int = 0) -> None:
        self.texts, self.bytes = self.texts + 1, self.bytes + text.stat().st_size
        if depth > MAX_DEPTH or self.texts > MAX_TEXTS or self.bytes > MAX_BYTES:
            raise ValueError("it includes too many texts, or too large ones")
        for line in _LINE.split(os.fsdecode(text.read_bytes())):
            for name, value in _DEFINE.findall(line):
                self.variables.setdefault(name, set()).add(value)
            if found := _INCLUDE.search(line):
                self._include(found[1].lstrip('"<'), text, depth)
            while found := _VALUE.search(line):
                name, line = found[1].lower(), found[2]
                self._value(name, self._values(line))

    def _include(self, line: str, text: Path, depth: int) -> None:
        for name in self._values(line):
            check_sample(name, self.file, self.library)
            for folder in {self.file.parent, text.parent}:
                if (included := folder / name.replace("\\", "/")).is_file():
                    check_sample(str(included.absolute()), self.file, self.library)
                    self.read(included, depth + 1)

    def _value(self, name: str, values: set[str]) -> None:
        if name == "default_path":
            self.folders = values
        else:
            if "$" in name:  # may become `sample` or `default_path`
                self.folders |= values
            for folder, sample in product(self.folders if name == "sample" else {"", *self.folders}, sorted(values, key=len)):
                check_sample(sample if sample.startswith("*") else folder + sample, self.file, self.library)
        if len(self.folders) > MAX_VARIANTS:
            raise ValueError("its paths hold too many variables")

    def _values(self, line: str) -> set[str]:
        """Return all values that the rest of a line can mean: it ends with the line, before another opcode or header, or at a space."""
        values = set()
        for variant in self._variants(line):
            ends = (found.start() for end in _ENDS if (found := end.search(variant)))
            values |= {variant.rstrip(), *(variant[:end] for end in ends)}
        return values

    def _variants(self, text: str) -> set[str]:
        """Return a text with its variables replaced by all their values; each may also stay as it is."""
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
            if len(seen) > MAX_VARIANTS or len(text) > 100_000:
                raise ValueError("its paths hold too many variables")
        return done
