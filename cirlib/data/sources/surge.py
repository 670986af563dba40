"""Presets of the Surge XT synthesizer, rendered with its Python bindings `surgepy`.

surgepy is built from Surge's source tree (params/README.md). Its factory presets are found automatically, or `path` names folders of
.fxp files in subfolders named by category. For every preset, notes are drawn from the statistics of its group and, with a folder of MIDI
scores, excerpts of scores (pitch and velocity are null: paper section 3, data sets). Training presets with audible effects also give a
twin without effects. surge_synth.py renders them.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...common.files import listing_hash, sha256
from ...common.packages import Missing, require
from ...common.paths import short
from ...common.settings import check_above_zero
from .. import note_statistics as midi
from ..bank import NoteBank
from ..builder import build_once, existing
from ..jobs import Remark
from ..taxonomy import surge_category
from .folder import find_files
from .shared import instrument_rng, make_spec, split_jobs
from .surge_synth import quiet, render_preset, synthesizer

VERSION = 2
FACTORY, AUTHORS = "patches_factory", "patches_3rdparty"  # of Surge's data: <category>/ and <author>/<category>/
MISSING = (
    "rendering Surge presets needs the Python package surgepy, which is built from Surge's source tree "
    "(see params/README.md): build it, or read rendered sets with source cir"
)
LICENSE = "presets and synthesizer: GPL-3.0-or-later (factory and third-party content)"


@dataclass
class SurgeConfig:
    """What to render."""

    path: tuple[str, ...] = ()  # folders of .fxp files; none: the factory and third-party presets of surgepy
    seed: int = 0  # of notes and scores
    notes: int = 16  # per preset
    stems: int = 4  # excerpts of scores per preset, if midi is given
    midi: str = ""  # folder of MIDI scores for stems
    statistics: str = ""  # file of note statistics (note_statistics.py); empty: the documented default
    valid: float = 0.15  # share of the presets of each family
    test: float = 0.15
    twins: bool = True  # twins of training presets without effects
    longest_s: float = 2.5  # from note on to note off, at most
    tail_s: float = 1.5  # after note off, at most
    stem_s: float = 10.0  # length of an excerpt
    limit_s: float = 120.0  # a preset that takes longer is skipped


class Preset(NamedTuple):
    """A preset file with its family, tag, and the group whose note statistics it is played with."""

    file: Path
    family: str | None
    tag: str | None
    statistics_group: str


def build(path: Path, config: SurgeConfig, *, n_jobs: int = -1) -> NoteBank:
    """Render presets into a NoteBank at `path`, or open it if it is up to date. Raises ValueError if there is no preset."""
    check_above_zero(config, "notes", "longest_s", "tail_s", "stem_s", "limit_s")
    check(config)
    require("Surge presets", "joblib", "soxr", *(["pretty_midi"] if config.midi else []))
    import surgepy

    statistics = midi.load_statistics(config.statistics)
    roots = [Path(p) for p in config.path] or _factory_folders()
    presets, remarks = find_presets(roots)
    if not presets:
        raise ValueError(f"no .fxp preset in {', '.join(map(str, roots))}: set path to the folder of Surge's presets")
    inputs = {
        "presets": hashlib.sha256(repr([(uid, sha256(preset.file)) for uid, preset in presets.items()]).encode()).hexdigest(),
        "statistics": sha256(midi.statistics_file(config.statistics)) if config.statistics else "",
        "midi": listing_hash(Path(config.midi), midi.midi_files(config.midi)) if config.midi else "",
    }
    version = surgepy.getVersion()
    spec = make_spec(config, source="surge", version=VERSION, surge=version, inputs=inputs)
    if bank := existing(path, spec):
        return bank
    scores, unreadable = _read_scores(config, n_jobs)
    instruments = ((uid, preset.family, _draw_notes(uid, preset, statistics, scores, config=config)) for uid, preset in presets.items())
    meta = {"source": "surge", "license": LICENSE, "citation": f"Surge XT {version}, surge-synthesizer.github.io"}
    return build_once(
        path, spec, split_jobs(instruments, config), render_preset,
        meta=meta, n_jobs=n_jobs, title="presets", limit_s=config.limit_s, remarks=remarks + unreadable,
    )  # fmt: skip


def check(config: SurgeConfig) -> None:
    """Raise Missing if surgepy is not installed, FileNotFoundError if there is no folder of scores."""
    if find_spec("surgepy") is None:
        raise Missing(MISSING)
    if config.midi:
        try:
            midi.midi_files(config.midi)
        except ValueError as error:
            raise FileNotFoundError(error) from None


def _factory_folders() -> list[Path]:
    with quiet():
        data = Path(synthesizer().getFactoryDataPath())
    folders = [folder for name in (FACTORY, AUTHORS) if (folder := data / name).is_dir()]
    if not folders:
        raise ValueError(
            f"surgepy has no presets in {data}: set the environment variable SURGE_DATA_HOME to Surge's resources/data, or set path"
        )
    return folders


def find_presets(roots: list[Path]) -> tuple[dict[str, Preset], list[Remark]]:
    """Return uid -> preset, and remarks about files that are no preset and about categories without a family.

    The category is the nearest folder above the file with the name of one. A uid is surge/<bank>/<category>/<name>.
    """
    presets, remarks, unknown = {}, [], Counter()
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {short(root)}: set path to folders of .fxp presets")
        files, skipped = find_files(root, (".fxp",))
        remarks += skipped
        for file in files:
            bank, category, *inner = _folders(root, file)
            group = surge_category(category)
            unknown[f"{bank}/{category}"] += group is None
            uid = "/".join(["surge", bank, category, *inner, file.stem])
            while uid in presets:
                uid += "'"
            presets[uid] = Preset(file, *(group or (None, None, "Piano")))
    why = "no folder above is a known category, so there is no family (presets: {})"
    return presets, remarks + [Remark(place, why.format(count), stored=True) for place, count in unknown.items() if count]


def _folders(root: Path, file: Path) -> list[str]:
    """Return the bank of a preset, its category and the folders below.

    In Surge's own data the bank is `factory` or the author, whichever folder `root` is; elsewhere it is the first folder below the root.
    """
    above = file.absolute().parts[:-1]
    own = [k for k, name in enumerate(above) if name in (FACTORY, AUTHORS)]
    if not own:
        folders = [root.name, *file.relative_to(root).parts[:-1]]
    elif above[own[-1]] == FACTORY:
        folders = ["factory", *above[own[-1] + 1 :]]
    else:
        folders = list(above[own[-1] + 1 :]) or [AUTHORS]
    known = [k for k, name in enumerate(folders) if surge_category(name) and not (own and k == 0)]  # an author's name is no category
    at = known[-1] if known else len(folders) - 1
    bank = folders[0] if own else (folders[1:at] or folders)[0]
    return [bank, folders[at], *(folders[at + 1 :] if known else [])]


def _read_scores(config: SurgeConfig, n_jobs: int) -> tuple[dict[str, list[np.ndarray]], list[Remark]]:
    """Return excerpts of scores by group, and a remark for each unreadable file."""
    if not config.midi:
        return {}, []
    excerpts: dict[str, list[np.ndarray]] = {}
    scores, bad = midi.read_folder(config.midi, n_jobs)
    for notes in scores.values():
        for group, rows in notes.items():
            excerpts.setdefault(group, []).extend(midi.excerpts(rows, config.stem_s))
    return excerpts, [Remark(name, why) for name, why in bad.items()]


def _draw_notes(uid: str, preset: Preset, statistics: midi.NoteStatistics, scores: dict[str, list], *, config: SurgeConfig) -> dict:
    """Return the arguments of render_preset for one preset: its notes (pitch, velocity, seconds) and excerpts of scores are drawn here."""
    rng = instrument_rng(config.seed, uid)
    notes = statistics.draw(preset.statistics_group, config.notes, rng)
    excerpts = scores.get(preset.statistics_group, [])
    chosen = rng.choice(len(excerpts), min(config.stems, len(excerpts)), replace=False) if excerpts else []
    notes = [(pitch, velocity, min(seconds, config.longest_s)) for pitch, velocity, seconds in notes]
    return {"file": str(preset.file), "tag": preset.tag, "notes": notes, "scores": [excerpts[k] for k in chosen]}
