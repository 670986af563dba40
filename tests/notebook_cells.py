"""Cells of the notebooks, for tests that read or run them without a kernel."""

import json
from pathlib import Path

from cirlib.common.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def cells(path: Path) -> list[dict]:
    """All cells of a notebook."""
    return json.loads(path.read_text())["cells"]


def parameters(path: Path) -> str:
    """The source of the parameters cell."""
    (cell,) = (c for c in cells(path) if "parameters" in c["metadata"].get("tags", []))
    return "".join(cell["source"])


def declared(path: Path) -> dict:
    """Names that the parameters cell assigns, with their values."""
    names: dict = {}
    exec(parameters(path), names)
    return {n: v for n, v in names.items() if not n.startswith("__")}


def run_cell(notebook: str, words: str, **names) -> dict:
    """Run the one code cell that contains `words`, with these names; return the names that there are then."""
    (path,) = (p for p in NOTEBOOKS if p.stem == notebook)
    sources = ["".join(c["source"]) for c in cells(path) if c["cell_type"] == "code"]
    (source,) = (s for s in sources if words in s)
    exec(source, names)
    return names
