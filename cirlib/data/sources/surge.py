"""Presets of the Surge XT synthesizer, rendered with its Python bindings `surgepy`.

surgepy is built from Surge's source tree (README). Its factory presets are found automatically, or `path` names folders of .fxp files
in subfolders named by category. For every preset, notes are drawn from the statistics of its group and, with a folder of MIDI scores,
excerpts of scores (pitch and velocity are null: paper section 3, data sets). Training presets with audible effects also give a twin
without effects.
"""

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...audio.io import Unusable
from ...common.files import listing_hash, sha256
from ...common.packages import Missing, require
from ...common.paths import short
from ...common.settings import check_above_zero
from .. import note_statistics as midi
from ..bank import NoteBank
from ..builder import build_once, existing
from ..jobs import Remark, Sound, note_row
from ..taxonomy import SURGE_FX, fx_tags, surge_category
from .shared import RATE, instrument_rng, make_spec, split_jobs, to_mono

VERSION = 1
TEMPO = 120.0
SLOTS = ("A1", "A2", "B1", "B2", "S1", "S2", "G1", "G2", "A3", "A4", "B3", "B4", "S3", "S4", "G3", "G4")
BYPASSED = {1: "S", 2: "SG", 3: "ABSG"}  # fx_bypass -> first letters of the slots that are off
MISSING = (
    "rendering Surge presets needs the Python package surgepy, which is built from Surge's source tree "
    "(cmake -DSURGE_BUILD_PYTHON_BINDINGS=ON, see README): build it, or read rendered sets with source cir"
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
        data = Path(_synthesizer().getFactoryDataPath())
    folders = [folder for name in ("patches_factory", "patches_3rdparty") if (folder := data / name).is_dir()]
    if not folders:
        raise ValueError(
            f"surgepy has no presets in {data}: set the environment variable SURGE_DATA_HOME to Surge's resources/data, or set path"
        )
    return folders


def find_presets(roots: list[Path]) -> tuple[dict[str, Preset], list[Remark]]:
    """Return uid -> preset, and remarks about presets without a known category.

    The category is the nearest folder above the file with the name of one; the bank is the folder above the category
    (an author), or `factory`. A uid is surge/<bank>/<category>/<name>.
    """
    presets, remarks = {}, []
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {short(root)}: set path to folders of .fxp presets")
        for file in sorted(root.rglob("*.fxp")):
            folders = [root.name, *file.relative_to(root).parts[:-1]]
            known = [k for k, name in enumerate(folders) if surge_category(name)]
            if not known:
                remarks.append(Remark(str(file.relative_to(root)), "no folder above it is a known category: no family", stored=True))
            at = known[-1] if known else len(folders) - 1
            above = folders[1:at][:1] or ["factory" if root.name == "patches_factory" else root.name]
            inner = folders[at + 1 :] if known else []
            uid = "/".join(["surge", *above, folders[at], *inner, file.stem])
            while uid in presets:
                uid += "'"
            presets[uid] = Preset(file, *(surge_category(folders[at]) or (None, None, "Piano")))
    return presets, remarks


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


# Rendering, in worker processes


@cache
def _synthesizer():
    import surgepy

    return surgepy.createSurge(RATE)


def render_preset(
    *, uid: str, file: str, family: str | None, tag: str | None, split: str, notes: list, scores: list, config: SurgeConfig
) -> Iterator[Sound | Remark]:
    """Yield the sounds of one preset, then of its twin without effects. Raises ValueError if it does not load or has no usable note."""
    with quiet():
        load(_synthesizer(), file)
        fx = audible_fx(_synthesizer())
    row = note_row(uid, family, "surge", split, fx=fx, tags=["synthetic", *([tag] if tag else []), *fx_tags(fx)])
    excerpts = [(np.array([[0.0, seconds, pitch, velocity]]), seconds + config.tail_s) for pitch, velocity, seconds in notes]
    excerpts += [(score, config.stem_s) for score in scores]
    yield from _render_all(file, row, excerpts, dry=False)
    if fx and split == "train" and config.twins:
        twin = row | {"instrument": uid + "_no_fx", "augments": uid, "fx": [], "tags": row["tags"][: 1 + bool(tag)]}
        yield from _render_all(file, twin, excerpts, dry=True)


def _render_all(file: str, row: dict, excerpts: list[tuple[np.ndarray, float]], *, dry: bool) -> Iterator[Sound | Remark]:
    """Yield the sound of each (notes, length in s), then a remark for each unusable one. An excerpt of one note is a note, else a stem."""
    remarks, stems = [], 0
    for notes, seconds in excerpts:
        columns, name = {}, f"stem {stems}"
        if len(notes) == 1:
            _, hold, pitch, velocity = map(float, notes[0])
            columns, name = {"pitch": pitch, "velocity": velocity, "hold_s": hold}, f"note {pitch:.0f}-{velocity:.0f}"
        stems += len(notes) > 1
        try:
            with quiet():
                stereo = render(file, notes, seconds, dry=dry)
                if not stereo.any():  # some presets are silent without aftertouch
                    stereo = render(file, notes, seconds, dry=dry, aftertouch=127)
            yield Sound({**row, **columns}, to_mono(stereo))
        except Unusable as reason:
            remarks.append(Remark(f"{row['instrument']} {name}", str(reason)))
    if len(remarks) < len(excerpts):
        yield from remarks
    elif dry:
        yield Remark(row["instrument"], "no usable note without effects")
    else:
        raise ValueError(f"no usable note: {remarks[0].text if remarks else 'none was requested'}")


def load(synth, file: str, *, dry: bool = False) -> None:
    """Load a preset; `dry` turns all effects off."""
    if synth.loadPatch(file) is False:
        raise ValueError("surgepy does not load this preset")
    if hasattr(synth, "tempo"):  # only forks of surgepy have it; a preset may bring its own tempo
        synth.tempo = TEMPO
    if dry:
        for slot in synth.getPatch()["fx"]:
            synth.setParamVal(slot["type"], 0)
        synth.processMultiBlock(synth.createMultiBlock(1), 0, 1)


def render(file: str, notes: np.ndarray, seconds: float, *, dry: bool, aftertouch: int = 0) -> np.ndarray:
    """Return audio (2, n) of notes (m, 4: start s, duration s, pitch, velocity). The preset is loaded anew: effect tails outlast notes."""
    synth = _synthesizer()
    load(synth, file, dry=dry)
    block = synth.getBlockSize()
    blocks = int(np.ceil(seconds * RATE / block))
    synth.channelAftertouch(0, aftertouch)  # it outlasts presets, too
    events = []  # (block, is note on, pitch, velocity)
    for start, duration, pitch, velocity in notes:
        on = int(start * RATE / block)
        events.append((on, 1, int(pitch), int(velocity)))
        events.append((max(on + 1, round((start + duration) * RATE / block)), 0, int(pitch), 0))
    audio, at = synth.createMultiBlock(blocks), 0
    for when, on, pitch, velocity in [*sorted(event for event in events if event[0] < blocks), (blocks, 0, 0, 0)]:  # note offs first
        if when > at:
            synth.processMultiBlock(audio, at, when - at)
            at = when
        if on:
            synth.playNote(0, pitch, velocity, 0)
        elif when < blocks:
            synth.releaseNote(0, pitch, 0)
    return np.array(audio)


def audible_fx(synth) -> list[str]:
    """Return the names of the effects that sound in the loaded preset, in the order of the slots.

    An effect sounds if it is not off, masked or bypassed, its scene plays, and, for a send, a send level is above 0. Parameters that
    a version of the bindings does not have count as sounding.
    """
    patch, value = synth.getPatch(), synth.getParamVal
    masked, bypass, mode, active = (int(value(patch[name])) if name in patch else None for name in (
        "fx_disable", "fx_bypass", "scenemode", "scene_active"))  # fmt: skip
    scenes = [scene for scene in (0, 1) if mode != 0 or active in (scene, None)]
    levels = [patch["scene"][scene].get("send_level", []) for scene in scenes] if "scene" in patch else [[]]
    found = []
    for i, (slot, fx) in enumerate(zip(SLOTS, patch["fx"], strict=False)):
        kind, chain, number = int(value(fx["type"])), slot[0], int(slot[1]) - 1
        if not kind or (masked or 0) >> i & 1 or chain in BYPASSED.get(bypass, ""):
            continue
        if chain in "AB" and "AB".index(chain) not in scenes:
            continue
        if chain == "S" and not any(number >= len(level) or value(level[number]) > 0 for level in levels):
            continue
        found.append(SURGE_FX[kind][0] if kind < len(SURGE_FX) else synth.getParamDisplay(fx["type"]))
    return list(dict.fromkeys(found))


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what C code writes to stdout, which Surge does."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        with suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # else buffered output would be written later
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)
