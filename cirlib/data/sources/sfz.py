"""SFZ instruments through sfizz (package pysfizz): every .sfz file of a folder is an instrument.

Its texts and samples must lie in that folder (sfz_paths.py). The family comes from the name of the file or the nearest folder that tells
one, else there is none. Notes are spread over the keys that the instrument plays, within the range of its family where they meet. An
instrument that picks samples at random gives other ones at every rendering.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...audio.io import SUFFIXES
from ...common.files import listing_hash
from ...common.packages import require
from ...common.settings import check_above_zero, to_dict
from ...common.untrusted import as_text, is_text, leads_outside
from .. import note_statistics as midi
from ..bank import NoteBank
from ..builder import build_once, names
from ..jobs import Remark, Sound, note_row
from ..taxonomy import FAMILIES, family, group_tags, guess_family
from .render import RATE, VELOCITIES, instrument_rng, render_notes
from .sfz_paths import check_paths, check_sample
from .splits import assign_splits

VERSION = 1
BLOCK = 256  # samples
LOADING_S = 0.03  # sfizz reads samples in the background and waits for them only once that has begun: until then they end early


@dataclass
class SfzConfig:
    """What to render."""

    path: str = ""  # folder of .sfz files, searched below too, or one file
    seed: int = 0  # of the notes
    notes: int = 16  # per instrument
    hold_s: float = 1.0  # note on to note off
    tail_s: float = 1.5  # after note off, at most
    valid: float = 0.15  # share of the instruments of each family
    test: float = 0.15
    license: str = "not told"  # of the library
    limit_s: float = 300.0  # an instrument that takes longer is left out


def build(path: Path, config: SfzConfig, n_jobs: int = -1) -> NoteBank:
    """Render the instruments into a NoteBank at `path`; nothing is done if that very bank is there already."""
    check_above_zero(config, "notes", "hold_s", "tail_s", "limit_s")
    require("SFZ instruments", "joblib", "pysfizz", "soxr")
    root = Path(config.path)
    found = root.rglob("*") if config.path else ()
    found = (f for f in found if f.suffix.lower() == ".sfz" and f.is_file() and not leads_outside(root, f))
    found = [root] if root.is_file() else sorted(found)
    files = [f for f in found if is_text(f)]
    remarks = [Remark(as_text(f.name), "its name is not UTF-8") for f in found if not is_text(f)]
    if not files:
        raise FileNotFoundError(f"no .sfz file in {config.path or 'an empty path'}: set path to a folder of SFZ instruments")
    folder = root.parent if root.is_file() else root
    groups = {}
    for file in files:
        inside = file.relative_to(folder).with_suffix("")
        uid = f"sfz/{folder.name}/{inside.as_posix()}"
        groups[uid if uid not in groups else uid + file.suffix] = guess_family(*reversed(inside.parts), folder.name)
    splits = assign_splits(groups, config.valid, config.test)
    jobs = {
        f"{i:05d}": {"uid": uid, "file": str(file), "group": groups[uid], "split": splits[uid], "config": config}
        for i, (uid, file) in enumerate(zip(groups, files, strict=True))
    }
    # SFZ files, the texts that they include, their samples
    parts = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".sfz", ".h", ".inc", ".txt", *SUFFIXES) and f.is_file())
    inputs = listing_hash(folder, parts)
    values = {k: v for k, v in to_dict(config).items() if k not in ("path", "limit_s")}
    spec = {"source": "sfz", "version": VERSION, **values, "path": names(config.path), "inputs": inputs}
    meta = {"source": "sfz", "license": config.license, "citation": f"SFZ library {folder.name}, rendered with sfizz"}
    return build_once(path, spec, jobs, render_instrument, meta, n_jobs=n_jobs, limit_s=config.limit_s, remarks=remarks)


def choose_notes(keys: list[int], group: str | None, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """`count` notes (pitch, velocity) on playable keys, the middle one first; within the range of the family where it has any."""
    if group in FAMILIES:
        low, _, high = family(group).pitch
        keys = [k for k in keys if low <= k <= high] or keys
    places = midi.spread_notes((0, len(keys) // 2, len(keys) - 1), VELOCITIES, count, rng)
    return [(keys[place], velocity) for place, velocity in places]


def render_instrument(uid: str, file: str, group: str | None, split: str, config: SfzConfig) -> Iterator[Sound | Remark]:
    """Sounds of one instrument. ValueError if it does not load or no note of it is usable."""
    import pysfizz

    library = Path(config.path).parent if Path(config.path).is_file() else Path(config.path)
    check_paths(Path(file), library)
    synth = pysfizz.Synth(sample_rate=RATE, block_size=BLOCK)
    if not synth.load_sfz_file(file):
        raise ValueError("sfizz finds no region in it whose sample is there")
    try:
        samples = {synth._synth.get_region_data(region)["sample_id"] for region in range(synth._synth.get_num_regions())}
    except RuntimeError:
        raise ValueError("the name of a sample of it is not UTF-8") from None
    for sample in samples:  # what sfizz made of the text, should it understand it otherwise
        check_sample(sample, Path(file), library)
    if not synth.playable_keys:
        raise ValueError("it has no playable key")
    notes = choose_notes(synth.playable_keys, group, config.notes, instrument_rng(config.seed, uid))
    row = note_row(uid, group, "sfz", split, hold_s=config.hold_s, tags=group_tags(group))
    nothing = "no usable note ({reason}): are its samples there?"
    yield from render_notes(row, notes, lambda pitch, velocity: _play(synth._synth, pitch, velocity, config), nothing)


def _play(synth, pitch: int, velocity: int, config: SfzConfig) -> np.ndarray:
    """One note (2, n) float32."""
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
