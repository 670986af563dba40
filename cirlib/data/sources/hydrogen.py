"""Drum kits of Hydrogen: a folder of sounds whose drumkit.xml gives the instruments and their velocity layers."""

import os
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from ..family_names import guess_family

KIT = "drumkit.xml"
MAX_BYTES = 4 << 20  # of a drumkit.xml
PIECES = ("Drum Kit", "Percussion")  # groups of instruments in a kit


def kit_pieces(files: Iterable[Path]) -> dict[Path, tuple[str, int | None]]:
    """Return (instrument, velocity) of the sounds that a kit beside them names; kits that are damaged name none.

    A sound that several instruments use belongs to the first. The velocity is the highest of its layer, None for an only layer.
    """
    files, pieces = set(files), {}
    for folder in sorted({file.parent for file in files}):
        names: set[str] = set()
        for name, layers in _instruments(folder / KIT):
            layers = [(place, top) for file, top in layers if (place := folder / file) in files and place not in pieces]
            while layers and name in names:
                name += "'"
            names.add(name)
            pieces |= {place: (name, max(1, round(127 * top)) if len(layers) > 1 else None) for place, top in layers}
    return pieces


def piece_family(name: str) -> str:
    """Return the group of an instrument of a kit: a djembe's bass is no bass."""
    return found if (found := guess_family(name)) in PIECES else PIECES[0]


def _instruments(kit: Path) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return the name of each instrument of a kit and its layers: (file, highest velocity in [0, 1])."""
    try:
        if not kit.is_file() or kit.stat().st_size > MAX_BYTES or b"<!ENTITY" in (text := kit.read_bytes()):
            return []
        found = []
        for instrument in _all(ElementTree.fromstring(text), "instrument"):
            layers = _all(instrument, "layer") or [instrument]  # kits before version 0.9.4 have no layers
            layers = [(_text(layer, "filename"), float(_text(layer, "max") or 1)) for layer in layers]
            layers = [(os.path.basename(file), min(max(top, 0.0), 1.0)) for file, top in layers if file]
            name = _text(instrument, "name").replace("/", "-") or (layers[0][0] if layers else "")
            found.append((name, layers))
        return found
    except (OSError, ValueError, ElementTree.ParseError):
        return []


def _all(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return element.findall(f".//{{*}}{tag}")


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(f"{{*}}{tag}") or "").strip()
