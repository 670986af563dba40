"""Cells of the notebooks, for tests that read or run them without a kernel."""

import json
from pathlib import Path

from cirlib.common.paths import ROOT
from cirlib.reporting.executed import NO_SOUND

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


def seen_and_heard(text: str) -> float:
    """Pictures and sounds of an executed notebook (JSON) for each code cell but the parameters."""
    cells = json.loads(text)["cells"]
    code = [c for c in cells if c["cell_type"] == "code" and not {"parameters", "injected-parameters"} & set(c["metadata"].get("tags", []))]
    data = [out.get("data", {}) for cell in code for out in cell["outputs"]]
    sounds = ["".join(d.get("text/html", "")) for d in data]
    return sum("image/png" in d or "<audio" in html or NO_SOUND in html for d, html in zip(data, sounds, strict=True)) / len(code)
