"""Drum kits of Hydrogen: a folder of sounds whose drumkit.xml gives the instruments and their velocity layers."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from ..family_names import guess_family

MAX_BYTES = 4 << 20  # of a drumkit.xml
PIECES = ("Drum Kit", "Percussion")  # groups of instruments in a kit


def kit_pieces(files: Iterable[Path]) -> dict[Path, tuple[str, int | None]]:
    """Return (instrument, velocity) of the sounds that a kit beside them names; kits that are damaged name none.

    A sound that several instruments use belongs to the first. The velocity is the highest of its layer, None for an only layer.
    """
    files, pieces = set(files), {}
    for folder in sorted({file.parent for file in files}):
        names: set[str] = set()
        for name, layers in _instruments(folder / "drumkit.xml"):
            tops = {place: top for file, top in layers if (place := folder / file) in files and place not in pieces}
            while tops and name in names:
                name += "'"
            names.add(name)
            pieces |= {place: (name, max(1, round(127 * top)) if len(tops) > 1 else None) for place, top in tops.items()}
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
        for instrument in ElementTree.fromstring(text).iterfind(".//{*}instrument"):
            layers = instrument.findall(".//{*}layer") or [instrument]  # kits before version 0.9.4 have no layers
            files = [(PurePosixPath(layer.findtext("{*}filename", "").strip()).name, layer.findtext("{*}max", "1")) for layer in layers]
            files = [(file, min(max(float(top), 0.0), 1.0)) for file, top in files if file]
            name = (instrument.findtext("{*}name") or "").strip().replace("/", "-")
            found.append((name or (files[0][0] if files else ""), files))
        return found
    except (OSError, ValueError, ElementTree.ParseError):
        return []
