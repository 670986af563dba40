"""SFZ instruments rendered by sfizz (package pysfizz): every .sfz file of a folder is an instrument.

Its texts and samples must lie in that folder (sfz_paths.py). The family comes from the name of the file, else from the nearest folder
whose name says one. Notes are spread over the playable keys, within the range of the family where the two overlap. An instrument that
picks samples at random sounds different each time it is rendered.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...audio.io import SUFFIXES
from ...common.files import listing_hash
from ...common.packages import require
from ...common.settings import check_above_zero
from ...common.untrusted import as_text, is_text, leads_outside
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..note_statistics import spread_notes
from ..taxonomy import FAMILIES, group_tags, guess_family
from .sfz_paths import check_paths, check_sample
from .shared import RATE, VELOCITIES, instrument_rng, make_spec, render_notes, split_jobs

VERSION = 1
BLOCK = 256  # samples
LOADING_S = 0.03  # sfizz loads samples in the background and waits only once it has begun: before that, notes would end early
TEXTS = (".sfz", ".h", ".inc", ".txt")  # suffixes of instruments and of the texts that they include


@dataclass
class SfzConfig:
    """What to render."""

    path: str = ""  # folder of .sfz files, searched with its subfolders, or one file
    seed: int = 0  # of the notes
    notes: int = 16  # per instrument
    hold_s: float = 1.0  # from note on to note off
    tail_s: float = 1.5  # after note off, at most
    valid: float = 0.15  # share of the instruments of each family
    test: float = 0.15
    license: str = "unknown"  # of the library
    limit_s: float = 300.0  # an instrument that takes longer is skipped

    @property
    def library(self) -> Path:
        """Folder that all files must lie in."""
        return Path(self.path).parent if Path(self.path).is_file() else Path(self.path)


def build(path: Path, config: SfzConfig, *, n_jobs: int = -1) -> NoteBank:
    """Render the instruments into a NoteBank at `path`, or open it if it is up to date. Raises FileNotFoundError if there is none."""
    check_above_zero(config, "notes", "hold_s", "tail_s", "limit_s")
    require("SFZ instruments", "joblib", "pysfizz", "soxr")
    library = config.library
    found = sorted(f for f in library.rglob("*") if f.is_file() and not leads_outside(library, f)) if config.path else []
    instruments = [f for f in found if f.suffix.lower() == ".sfz"] if library == Path(config.path) else [Path(config.path)]
    remarks = [Remark(as_text(f.name), "its name is not UTF-8") for f in instruments if not is_text(f)]
    files: dict[str, Path] = {}
    for file in filter(is_text, instruments):
        uid = f"sfz/{library.name}/{file.relative_to(library).with_suffix('').as_posix()}"
        files[uid if uid not in files else uid + file.suffix] = file
    if not files:
        raise FileNotFoundError(f"no .sfz file in {config.path or 'an empty path'}: set path to a folder of SFZ instruments")
    jobs = split_jobs(((uid, _guess_family(library, file), {"file": str(file)}) for uid, file in files.items()), config)
    inputs = listing_hash(library, [f for f in found if f.suffix.lower() in (*TEXTS, *SUFFIXES)])
    spec = make_spec(config, source="sfz", version=VERSION, inputs=inputs)
    meta = {"source": "sfz", "license": config.license, "citation": f"SFZ library {library.name}, rendered with sfizz"}
    return build_once(path, spec, jobs, render_instrument, meta=meta, n_jobs=n_jobs, limit_s=config.limit_s, remarks=remarks)


def _guess_family(library: Path, file: Path) -> str | None:
    return guess_family(*reversed(file.relative_to(library).with_suffix("").parts), library.name)


def choose_notes(keys: list[int], family: str | None, *, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return `count` notes (pitch, velocity) on playable keys, the middle key first; within the range of the family if it has such keys."""
    if family in FAMILIES:
        low, _, high = FAMILIES[family].pitch
        keys = [key for key in keys if low <= key <= high] or keys
    notes = spread_notes((0, len(keys) // 2, len(keys) - 1), VELOCITIES, count, rng)
    return [(keys[i], velocity) for i, velocity in notes]


def render_instrument(*, uid: str, file: str, family: str | None, split: str, config: SfzConfig) -> Iterator[Sound | Remark]:
    """Yield the sounds of one instrument. Raises ValueError if it does not load, reads other folders, or has no usable note."""
    import pysfizz

    check_paths(Path(file), config.library)
    synth = pysfizz.Synth(sample_rate=RATE, block_size=BLOCK)
    if not synth.load_sfz_file(file):
        raise ValueError("sfizz finds no region in it whose sample exists")
    try:
        samples = {synth._synth.get_region_data(region)["sample_id"] for region in range(synth._synth.get_num_regions())}
    except RuntimeError:
        raise ValueError("the name of one of its samples is not UTF-8") from None
    for sample in samples:  # as sfizz understood the text, which may differ from check_paths
        check_sample(sample, Path(file), config.library)
    if not synth.playable_keys:
        raise ValueError("it has no playable key")
    notes = choose_notes(synth.playable_keys, family, count=config.notes, rng=instrument_rng(config.seed, uid))
    row = note_row(uid, family, "sfz", split, hold_s=config.hold_s, tags=group_tags(family))
    failure = "no usable note ({reason}): are its samples there?"
    yield from render_notes(row, notes, lambda pitch, velocity: _render(synth._synth, pitch, velocity, config), failure=failure)


def _render(synth, pitch: int, velocity: int, config: SfzConfig) -> np.ndarray:
    """Return one note (2, n) float32."""
    held, total = round(config.hold_s * RATE), round((config.hold_s + config.tail_s) * RATE)
    synth.note_on(0, pitch, velocity)
    time.sleep(LOADING_S)
    blocks = [np.array(synth.render_block()) for _ in range(held // BLOCK)]
    synth.note_off(held % BLOCK, pitch, 0)
    time.sleep(LOADING_S)
    while len(blocks) * BLOCK < total:
        blocks.append(np.array(synth.render_block()))
    synth.all_sound_off()
    return np.concatenate(blocks, axis=1)[:, :total]
