"""Read the text of an SFZ instrument, expand it to the plain text that sfizz renders, and check that its paths stay in its library.

sfizz opens every path in a text: hostile ones could name any file of the machine. It skips the first line after a byte order mark, and
variables that hold whole opcodes (`#define $root pitch_keycenter=60`). So it never reads the text itself, but an expanded one without
marks, comments, includes and variables, whose paths have been checked; the samples that it found are checked afterwards (sfz.py).
"""

import codecs
import os
import re
from itertools import product
from pathlib import Path

from ...common.untrusted import inside

MAX_DEPTH = 20  # of texts that include each other, and of variables in variables
MAX_TEXTS, MAX_BYTES = 2000, 64 << 20  # of one instrument
_LINE = re.compile(r"[\r\n]+")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_COMMENT = r"(?://[^\r\n]*|/\*(?:.|[\r\n])*?(?:\*/|\Z))"
_APART = re.compile(r"(?<!\S)" + _COMMENT)  # one after a space; `a.wav//b.wav` may also be a path
_GLUED = re.compile(_COMMENT)
_DIRECTIVE = re.compile(
    r"""\#define[ \t]+\$(?P<name>\w+)[ \t]*=?[ \t]*(?P<value>\S*) | \#include[ \t]*"(?P<path>[^"\r\n]*)"
    | \#\s*(?:define|include)\b[^\r\n]*  # malformed ones are removed""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_VARIABLE = re.compile(r"\$(\w{0,200})", re.ASCII)
_SPACED = re.compile(r"^([ \t]*(?:<\w+>)?[ \t]*\w+)[ \t]+=[ \t]*", re.MULTILINE)  # `key = 60`, which sfizz skips
_VALUE = re.compile(r"(sample|default_path)\s*=[ \t]*(.*)", re.IGNORECASE)
_ENDS = (re.compile(r"\s+[^\s=<>]+=|<"), re.compile(r"\s"), re.compile('(?<=.)"'))  # of a value that ends before its line


def expand(file: Path, library: Path) -> tuple[str, set[Path], list[str]]:
    """Return the expanded text of an instrument, the other texts that it includes, and the names of those that do not exist.

    Raises ValueError for texts outside of the library, too many of them, or too many variables.
    """
    reader = _Reader(file, library)
    reader.read(file)
    text = _SPACED.sub(r"\1=", "".join(reader.pieces))
    if _DIRECTIVE.search(text):
        raise ValueError("a variable in it holds a directive: write it out")
    return text, reader.included, reader.missing


def without_comments(text: str) -> str:
    """Return an expanded text without comments that follow a word without a space, as sfizz understands it."""
    return _GLUED.sub(" ", text)


def check_paths(text: str, file: Path, library: Path) -> None:
    """Raise ValueError for an expanded text that would read samples outside of its library."""
    folders, checked = {""}, set()  # possible values of default_path; paths
    for line in _LINE.split(text):
        while found := _VALUE.search(line):
            name, line = found[1].lower(), found[2]
            ends = (end.start() for pattern in _ENDS if (end := pattern.search(line)))
            values = {line.rstrip(), *(line[:end] for end in ends)}  # all that sfizz could understand
            if name == "default_path":
                folders = values
                continue
            for folder, value in product(folders, sorted(values, key=len)):
                if (path := value if value.startswith("*") else folder + value) not in checked:
                    check_sample(path, file, library)
                    checked.add(path)


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
        self.variables: dict[str, str] = {}
        self.pieces: list[str] = []
        self.included: set[Path] = set()
        self.missing: list[str] = []
        self.texts = self.bytes = 0

    def read(self, text: Path, depth: int = 0) -> None:
        """Append the expanded text of a file to `pieces`."""
        self.texts += 1
        if depth > MAX_DEPTH or self.texts > MAX_TEXTS:
            raise ValueError("it includes too many texts, or too large ones")
        self._count(text.stat().st_size, "it includes too many texts, or too large ones")
        source, at = _APART.sub(" ", _decode(text.read_bytes())), 0
        for found in _DIRECTIVE.finditer(source):
            self.pieces.append(self._expand(source[at : found.start()]))
            at = found.end()
            if found["name"]:
                self.variables[found["name"]] = found["value"]
            elif found["path"]:
                self._include(self._expand(found["path"]).replace("\\", "/"), text, depth)
        self.pieces.append(self._expand(source[at:]) + "\n")

    def _include(self, name: str, text: Path, depth: int) -> None:
        """Read a text whose path is relative to the instrument, or else to the text that includes it."""
        check_sample(name, self.file, self.library)
        for folder in dict.fromkeys((self.file.parent, text.parent)):
            if (included := folder / name).is_file():
                check_sample(str(included.absolute()), self.file, self.library)
                self.included.add(included.resolve())
                self.read(included, depth + 1)
                return
        self.missing.append(name)

    def _expand(self, text: str) -> str:
        """Return a text with its variables replaced by their values; unknown ones are removed, as by sfizz."""
        for _ in range(MAX_DEPTH):
            if "$" not in text:
                return text
            text = _VARIABLE.sub(self._value, text)
        raise ValueError("it has too many variables, or one that contains itself")

    def _value(self, found: re.Match) -> str:
        for end in range(1, len(found[1]) + 1):  # the shortest known name counts
            if (value := self.variables.get(found[1][:end])) is not None:
                self._count(len(value), "it has too many variables, or one that contains itself")
                return value + found[1][end:]
        return ""

    def _count(self, size: int, message: str) -> None:
        self.bytes += size
        if self.bytes > MAX_BYTES:
            raise ValueError(message)


def _decode(raw: bytes) -> str:
    """Return a text without its byte order mark and zeros; bytes that are not UTF-8 become surrogates."""
    for mark, encoding in _MARKS.items():
        if raw.startswith(mark):
            return raw.decode(encoding, "replace").replace("\0", "")
    return os.fsdecode(raw).replace("\0", "")
