"""Write every setting of a run into params/README.md and into the parameters of notebooks/02_train.ipynb, from TrainConfig.

python -m cirlib.training.settings
"""

import inspect
import json
import re
from pathlib import Path
from typing import NamedTuple

from ..common.command_line import arguments, clean_exit
from ..common.files import write_atomic
from ..common.paths import ROOT, short
from ..common.settings import to_dict
from .config import TrainConfig

README, NOTEBOOK = ROOT / "params" / "README.md", ROOT / "notebooks" / "02_train.ipynb"
BEGIN, END = "<!-- settings: begin (python -m cirlib.training.settings) -->", "<!-- settings: end -->"
NOT_OF_NOTEBOOK = ("bank", "single")  # 02_train takes the banks of the preset and needs no trained encoder


class Setting(NamedTuple):
    """A field of TrainConfig as its source describes it."""

    name: str
    type: str
    default: str
    comment: str


def settings() -> list[Setting]:
    """Return every setting; lists are shown as lists. Raises ValueError for a field without a comment on its line."""
    lines, out = inspect.getsource(TrainConfig).splitlines(), []
    for name, value in (to_dict(TrainConfig()) | {"experiment": ""}).items():
        found = [match for line in lines if (match := re.fullmatch(rf"    {name}: (.+?) = .+?  # (.+)", line))]
        if not found:
            raise ValueError(f"TrainConfig.{name} has no comment: say on its line what it sets")
        default = json.dumps(value) if isinstance(value, (str, list)) else repr(value)
        out.append(Setting(name, found[0][1].replace("tuple[str, ...]", "list[str]"), default, found[0][2]))
    return out


def table() -> str:
    """Return the Markdown table of all settings, with its marks."""
    rows = [f"| `{s.name}` | {s.type} | `{s.default}` | {s.comment} |" for s in settings()]
    return "\n".join([BEGIN, "| setting | type | default | what it sets |", "|---|---|---|---|", *rows, END])


def parameters() -> str:
    """Return the parameters cell of 02_train."""
    return "\n".join(f"{s.name}: {s.type} = {s.default}  # {s.comment}" for s in settings() if s.name not in NOT_OF_NOTEBOOK)


def updated_readme(text: str) -> str:
    """Return the text of params/README.md with the current table. Raises ValueError if its marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"params/README.md needs the lines {BEGIN} and {END} around its table of settings")
    return before + table() + after


def updated_notebook(text: str) -> str:
    """Return the JSON of a notebook with the current parameters cell."""
    notebook = json.loads(text)
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    cell["source"] = parameters().splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """python -m cirlib.training.settings"""
    arguments(main.__doc__, 0, 0)
    with clean_exit():
        for path, update in ((README, updated_readme), (NOTEBOOK, updated_notebook)):
            _rewrite(path, update(path.read_text()))


def _rewrite(path: Path, text: str) -> None:
    if text == path.read_text():
        print(f"{short(path)} is up to date")
    else:
        write_atomic(path, lambda part: part.write_text(text))
        print(f"{short(path)} was updated")


if __name__ == "__main__":
    main()
