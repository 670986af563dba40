"""Executed copies of the notebooks in figures/<preset>: with outputs, small, and without what belongs to one machine or one run.

A run of the same code with the same results gives the same bytes, except for times that a notebook prints.
"""

import base64
import io
import os
import platform
import re
import sys
import tempfile
from functools import partial
from pathlib import Path

from ..common.files import write_atomic
from ..common.paths import FIGURES, HOME, ROOT, RUNS

LARGEST, PLAYER, NARROWEST = 700_000, 20_000, 700  # bytes of a copy, bytes of a player in it, pixels of a picture in it
SHOWN = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg", "image/svg+xml")
SOUND = re.compile(r"<audio\b.*?</audio>", re.DOTALL)
ACTIVE = re.compile(r"<(script|iframe)\b.*?</\1>", re.DOTALL)
NO_SOUND, REPLACED = "(sound: run the notebook to listen)", "(large output: run the notebook to see it)"
TIMED = ("papermill", "execution", "ExecuteTime")  # metadata of a cell
ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]{6,}")
ABSOLUTE = re.compile(r"(?:(?<![\w.~:/<+=-])|(?<=file://))/([\w.+-]+)(?:/[\w.+@-]+)*/([\w.+@-]+)/?")
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
PICTURES = {  # one for each chapter, below figures/
    "01_data": "demo/data", "02_train": "demo/training", "03_retrieve": "demo/families_mixture",
    "04_embedding_space": "demo/space_map_family-infonce", "05_baselines": "demo/ranks_mixture", "06_paper": "demo/accuracy",
    "07_search": "demo/mix_to_matches", "08_performance": "performance/scaling", "09_open_mixtures": "open/accuracy",
    "10_beyond": "surge/curves_mixtures", "11_ablations": "surge/ablations", "12_robustness": "surge/degraded",
    "13_libraries": "libraries/libraries", "14_your_idea": "demo/training",
}  # fmt: skip


def write_copies(preset: str, copies: dict[str, list[str]], *, headline: str) -> list[Path]:
    """Write figures/<preset>/<notebook>.ipynb from the copies in runs/<preset>/notebooks. Return the files.

    Args:
        copies: notebook -> names of its executed copies, in the order of the rows.
        headline: row whose copy is preferred; otherwise the first copy is used. Copies with an error or without a file are skipped.
    """
    written = []
    for notebook, names in copies.items():
        folder = RUNS / preset / "notebooks"
        files = [*sorted(folder.glob(f"{notebook}_{headline}_seed*.ipynb")), *(folder / f"{name}.ipynb" for name in names)]
        texts = (file.read_text("utf-8") for file in files if file.exists())
        if text := next((text for text in texts if '"output_type": "error"' not in text), None):
            place = FIGURES / ("performance" if notebook == "08_performance" else preset) / f"{notebook}.ipynb"
            written.append(write_atomic(place, lambda part, text=text: part.write_text(shareable(text), "utf-8")))
    return written


def shareable(text: str, largest: int = LARGEST) -> str:
    """Return an executed notebook (JSON) of at most `largest` bytes, with outputs as text, tables and pictures.

    Warnings and progress (stderr), scripts, times and random names are removed, paths are shortened, controls show their last state.
    Where the notebook is too large, its pictures get fewer colours, then players go, the last first, then pictures are scaled down,
    then its largest outputs are replaced by a sentence.
    """
    import nbformat

    book = nbformat.v4.upgrade(nbformat.reads(text, as_version=4))
    states = book.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    book.metadata.pop("papermill", None)
    hidden = _names({*re.findall(r"\w+", " ".join(cell.source for cell in book.cells).lower())})
    for number, cell in enumerate(book.cells):
        cell.id, cell.source = f"cell-{number}", _without_machine(cell.source, hidden)
        cell.metadata = {name: value for name, value in cell.metadata.items() if name not in TIMED}
        if cell.cell_type == "code":
            cell.outputs = _merged(_output(out, hidden) for shown in cell.outputs for out in _static(shown, states))
    fewer_colours = partial(_pictures, change=lambda picture: picture.convert("RGB").quantize(256))
    for reduce in (fewer_colours, _without_players, _smaller, _smaller, _without_largest):
        if _size(book) > largest:
            reduce(book, largest)
    return nbformat.writes(book) + "\n"


def _size(book) -> int:
    import nbformat

    return len(nbformat.writes(book).encode()) + 1


def _names(used: set[str]) -> list[str]:
    """Return names of the user and the machine that are not words of the notebook too."""
    names = {os.environ.get("USER", ""), os.environ.get("LOGNAME", ""), Path.home().name, platform.node()}
    return [name for name in names if len(name) > 3 and name != "root" and name.lower() not in used]


def _without_machine(text: str, names: list[str]) -> str:
    """Return a text with paths relative to the project or to `~`, other absolute paths as .../<name>, and no addresses of objects."""
    places = {str(HOME): ".", str(ROOT): ".", sys.prefix: "...", tempfile.gettempdir(): "...", str(Path.home()): "~"}
    for place in sorted(places, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(place)}(?![\w.-])", places[place], text) if len(place) > 1 else text
    text = ABSOLUTE.sub(lambda found: f".../{found[2]}" if Path(f"/{found[1]}").exists() else found[0], text)
    for name in names:
        text = re.sub(rf"\b{re.escape(name)}\b", "user", text)
    return ADDRESS.sub("0x", text)


def _static(output, states: dict) -> list:
    """Return an output, or for a control the texts and pictures of its last state; none for stderr."""
    if output.output_type == "stream":
        return [output] if output.name == "stdout" else []
    if VIEW not in output.get("data", {}):
        return [output]
    others = {kind: value for kind, value in output.data.items() if kind not in (VIEW, "text/plain")}
    if others:
        return [_display(others | {"text/plain": output.data.get("text/plain", "")})]
    return _state(output.data[VIEW]["model_id"], states)


def _state(model: str, states: dict) -> list:
    from nbformat import from_dict

    state = states.get(model, {}).get("state", {})
    found = [out for shown in state.get("outputs", []) for out in _static(from_dict(shown), states)]
    if state.get("_model_name") == "ImageModel":
        found += [_display({f"image/{state.get('format', 'png')}": b["data"]}) for b in states[model].get("buffers", [])]
    elif isinstance(state.get("value"), str) and state["value"]:
        found.append(_display({"text/html": state["value"], "text/plain": re.sub(r"<[^>]*>", "", state["value"])}))
    return [*found, *(out for child in state.get("children", []) for out in _state(child.removeprefix("IPY_MODEL_"), states))]


def _display(data: dict):
    from nbformat.v4 import new_output

    return new_output("display_data", data=data)


def _output(output, names: list[str]):
    """Return an output without scripts, sounds that are too large, and what belongs to the machine."""
    if output.output_type == "stream":
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n")]  # the last state of a progress bar
        output.text = _without_machine("\n".join(lines), names)
        return output
    output.data = {kind: value for kind, value in output.data.items() if kind in SHOWN}
    for kind, value in output.data.items():
        if kind == "text/html":
            value = SOUND.sub(lambda found: found[0] if len(found[0]) <= PLAYER else NO_SOUND, ACTIVE.sub("", value))
        if kind.startswith("text/"):
            parts = re.split(r"(data:[\w/+-]+;base64,[\w/+=]+)", value)
            output.data[kind] = "".join(part if i % 2 else _without_machine(part, names) for i, part in enumerate(parts))
    return output


def _merged(outputs) -> list:
    """Return outputs that show something; texts that were printed in several pieces become one."""
    found = []
    for output in outputs:
        if output.output_type == "stream" and found and found[-1].output_type == "stream":
            found[-1].text += output.text
        elif output.get("text") or output.get("data"):
            found.append(output)
    return found


def _datas(book) -> list[dict]:
    return [out.data for cell in book.cells for out in cell.get("outputs", []) if "data" in out]


def _pictures(book, largest: int, change) -> None:
    """Replace the PNG pictures by what `change` makes of them, where that is smaller."""
    from PIL import Image

    for data in _datas(book):
        if "image/png" in data:
            file = io.BytesIO()
            change(Image.open(io.BytesIO(base64.b64decode(data["image/png"])))).save(file, "PNG", optimize=True)
            data["image/png"] = min(data["image/png"], base64.b64encode(file.getvalue()).decode() + "\n", key=len)


def _smaller(book, largest: int) -> None:
    def scaled(picture):
        width = max(min(NARROWEST, picture.width), picture.width * 3 // 4)
        return picture.convert("RGB").resize((width, round(picture.height * width / picture.width))).quantize(64)

    _pictures(book, largest, scaled)


def _without_players(book, largest: int) -> None:
    for data in reversed(_datas(book)):
        if "<audio" in data.get("text/html", "") and _size(book) > largest:
            data["text/html"] = SOUND.sub(NO_SOUND, data["text/html"])


def _without_largest(book, largest: int) -> None:
    outputs = [(len(str(out)), cell, i) for cell in book.cells for i, out in enumerate(cell.get("outputs", []))]
    for _, cell, i in sorted(outputs, key=lambda found: -found[0]):
        if _size(book) > largest:
            cell.outputs[i] = _display({"text/plain": REPLACED})


def with_copies(text: str, figures: Path) -> str:
    """Return notebooks/README.md with links to the executed copies in `figures` and a picture in the last two columns of its table."""

    def line(found: re.Match) -> str:
        copies = [
            f"[{file.parent.name}](../figures/{file.parent.name}/{file.name})" for file in sorted(figures.glob(f"*/{found[2]}.ipynb"))
        ]
        picture = f'<img src="../figures/{PICTURES[found[2]]}.png" width="220" alt="{found[2]}">'
        return f"{found[1]} {', '.join(copies) or 'not yet'} | {picture} |"

    return re.sub(r"^(\| \[(\w+)\]\(\w+\.ipynb\) \|[^|\n]*\|[^|\n]*\|).*$", line, text, flags=re.MULTILINE)
