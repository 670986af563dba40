"""Cut sound files at every door: which ones each refuses, and why."""

from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
from conftest import tone
from notebook_cells import run_cell
from sound_files import FORMATS, encode
from source_files import write_font
from tones import write

from cirlib.common.paths import at_home, short
from cirlib.data.sources import folder, sfz, soundfont
from cirlib.models.encoder import AudioEncoder
from cirlib.search import example, query
from cirlib.search.library import Library

CUTS = 20
PLACE = {"library": "", "example": example, "at_home": at_home, "short": short, "load": query.load}  # names in 07_search
PLACE |= dict.fromkeys(("display", "player", "plots_sounds"), MagicMock())


def cuts(whole: bytes) -> list[bytes]:
    """Return the beginnings of a file up to 20 places, spread evenly."""
    return [whole[: len(whole) * (k + 1) // (CUTS + 1)] for k in range(CUTS)]


def write_cuts(root: Path) -> Path:
    """Write a folder with a valid file of each format, and its beginnings."""
    write(root / "good.wav", tone(60, 0.3))
    for kind in FORMATS:
        whole, suffix = encode(kind, np.tile(tone(60, 0.25), (2, 1)).T), kind.split()[0]
        (place := root / kind.replace(" ", "_")).mkdir()
        for name, data in [("whole", whole), *((f"cut {k}", data) for k, data in enumerate(cuts(whole)))]:
            (place / f"{name}.{suffix}").write_bytes(data)
    return root


def refusals(root: Path, encoder: AudioEncoder) -> dict[str, dict[str, str]]:
    """Return door -> path -> reason of the files of write_cuts that it refuses."""
    library = Library.build(root, root.parent / "library", encoder)
    doors = {"bank": _skipped(root), "library": library.changes.skipped}
    acts: dict[str, Callable] = {
        "query": library.search,
        "embed": lambda file: encoder.embed([file]),
        "notebook": lambda file: run_cell("07_search", "query_file = at_home(query)", query=str(file), **PLACE),
    }
    for door, act in acts.items():
        doors[door] = {}
        for file in sorted(root.rglob("*.*")):
            try:
                act(file)
            except ValueError as error:
                doors[door][file.relative_to(root).as_posix()] = str(error).partition(" cannot be ")[2].partition(": ")[2]
    return doors


def _skipped(root: Path) -> dict[str, str]:
    config = folder.FolderConfig(str(root), estimate=False, seconds=0.2)
    return folder.build(root.parent / "bank", config, n_jobs=1).infos[0]["skipped"]


def instruments(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield what reads the files of write_cuts as samples of instruments, how many are cut, and how many of these it refuses."""
    files = sorted(root.rglob("cut *"))
    for kind in {file.parent for file in files}:
        layers = "".join(f"<instrument><name>{f.name}</name><filename>{f.name}</filename></instrument>" for f in kind.iterdir())
        (kind / "drumkit.xml").write_text(f"<drumkit_info>{layers}</drumkit_info>")
    yield "kit of Hydrogen", len(files), sum("/cut " in name for name in _skipped(root))
    for number, file in enumerate(files):
        (root / f"{number}.sfz").write_text(f"<region> sample={file.relative_to(root).as_posix()} key=60\n")
    (root / "good.sfz").write_text("<region> sample=good.wav key=60\n")
    config = sfz.SfzConfig(str(root), notes=1, hold_s=0.1, tail_s=0.05)
    bank = sfz.build(root.parent / "sfz", config, n_jobs=1)
    yield "SFZ instrument", len(files), len(files) + 1 - len(bank.instruments)
    fonts = root.parent / "fonts"
    wholes = [write_font(fonts / f"good{vorbis}.sf2", vorbis=vorbis).read_bytes() for vorbis in (False, True)]
    for number, data in enumerate(cut for whole in wholes for cut in cuts(whole)):
        (fonts / f"{number}.sf2").write_bytes(data)
    config = soundfont.SoundFontConfig((str(fonts),), notes=1, hold_s=0.1, shortest_s=0.1, tail_s=0.05)
    names = {uid.split("/")[1] for uid in soundfont.build(root.parent / "font", config, n_jobs=1).instruments.index}
    yield "SoundFont", 2 * CUTS, 2 * CUTS + 2 - len(names)
