"""How a result was made: git commit, code, versions, device, checksums of the data, seed.

The results of a run contain it; `provenance.json` of a folder of figures has an entry for each notebook that drew there.
"""

import ast
import hashlib
import json
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .files import write_json
from .paths import ROOT

PACKAGES = ("cirlib", "numpy", "torch", "torchaudio", "transformers", "accelerate", "pysfizz", "pedalboard")


def collect(seed: int, bank=None) -> dict:
    """Return plain values for provenance.json, without user names or paths."""
    import torch

    from .device import best_device, fast_bf16

    device = torch.device(best_device())
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads ({platform.machine()})"
    return {
        "git": _git("rev-parse", "HEAD"),
        "dirty": _is_dirty(),
        "code": code_digest(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": name + ("" if fast_bf16(device) else ", not fast at bf16"),
        "data": [] if bank is None else [info["sha256"] for info in bank.infos],
        "seed": seed,
    }


def record(folder: Path, notebook: str, *, seed: int = 0, bank=None, data: list[dict] | None = None) -> None:
    """Write the entry of a notebook in provenance.json of a folder of figures. `data`: checksums, if no bank is open."""
    path = folder / "provenance.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    entry = collect(seed, bank) | ({} if data is None else {"data": data})
    write_json(path, entries | {notebook: entry})


@cache
def code_digest() -> str:
    """Return a hash of the Python files of cirlib, without comments and docstrings."""
    folder = Path(__file__).parent.parent
    files = sorted(folder.rglob("*.py"))
    return hashlib.sha256(repr([(f.name, _without_docstrings(f.read_text())) for f in files]).encode()).hexdigest()[:12]


def _without_docstrings(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def _is_dirty() -> bool | None:
    """Return whether files other than figures, and cells of notebooks, differ from the commit; None without git."""
    changed = _git("diff", "HEAD", "--name-only", "--relative", "-z", "--", ".", ":!figures")
    if changed is None:
        return None
    return any(not (name.endswith(".ipynb") and _same_cells(name)) for name in changed.split("\0") if name)


def _same_cells(notebook: str) -> bool:
    """Return whether a notebook (path relative to ROOT) differs from the commit in outputs and execution counts only."""
    try:
        texts = [(ROOT / notebook).read_text(), _git("show", f"HEAD:./{notebook}")]
        ours, theirs = ([(c["cell_type"], "".join(c["source"])) for c in json.loads(text)["cells"]] for text in texts)
    except (OSError, ValueError, TypeError, KeyError):  # deleted, new or no notebook
        return False
    return ours == theirs


def _git(*args: str) -> str | None:
    try:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
