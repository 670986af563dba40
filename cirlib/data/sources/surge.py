"""Presets of the Surge XT synthesizer, rendered with its Python bindings `surgepy`.

surgepy is built from Surge's source tree (README); the presets that come with it are found by themselves, or `path` names folders of
.fxp files whose folders are named by category. Every preset plays notes drawn from the statistics of its group and, where a folder
of MIDI scores is given, excerpts of scores (their pitch and velocity are null: paper section 3, data sets). Training presets
with audible effects also give an effects-off twin.
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

import numpy as np

from ...audio.io import Unusable
from ...common.files import listing_hash, sha256
from ...common.packages import Missing, require
from ...common.paths import short
from ...common.settings import check_above_zero, to_dict
from .. import note_statistics as midi
from ..bank import NoteBank
from ..builder import build_once, existing, names
from ..jobs import Remark, Sound, note_row
from ..taxonomy import SURGE_FX, fx_tags, surge_category
from .render import RATE, instrument_rng, rendered
from .splits import assign_splits

VERSION = 1
TEMPO = 120.0
SLOTS = ("A1", "A2", "B1", "B2", "S1", "S2", "G1", "G2", "A3", "A4", "B3", "B4", "S3", "S4", "G3", "G4")
BYPASSED = {1: "S", 2: "SG", 3: "ABSG"}  # fx_bypass -> first letters of the slots that are off
MISSING = (
    "rendering Surge presets needs the Python package surgepy, which is built from Surge's source tree "
    "(cmake -DSURGE_BUILD_PYTHON_BINDINGS=ON, see README): build it, or read rendered sets with source cir"
)


@dataclass
class SurgeConfig:
    """What to render."""

    path: tuple[str, ...] = ()  # folders of .fxp files; none: the factory and third-party presets that surgepy knows
    seed: int = 0  # of notes and scores
    notes: int = 16  # per preset
    stems: int = 4  # excerpts of scores per preset, if midi is given
    midi: str = ""  # folder of MIDI scores for stems
    statistics: str = ""  # file of note statistics (midi.py); empty: the documented default
    valid: float = 0.15  # share of the presets of each family
    test: float = 0.15
    twins: bool = True  # effects-off twins of training presets
    longest_s: float = 2.5  # note held, at most
    tail_s: float = 1.5  # after note off, at most
    stem_s: float = 10.0  # length of an excerpt
    limit_s: float = 120.0  # a preset that takes longer is left out


def build(path: Path, config: SurgeConfig, n_jobs: int = -1) -> NoteBank:
    """Render presets into a NoteBank at `path`; nothing is done if that very bank is there already."""
    check_above_zero(config, "notes", "longest_s", "tail_s", "stem_s", "limit_s")
    check(config)
    require("Surge presets", "joblib", "soxr", *(["pretty_midi"] if config.midi else []))
    import surgepy

    statistics = midi.load_statistics(config.statistics)
    with quiet():
        roots = [Path(p) for p in config.path] or _factory_roots(Path(surgepy.createSurge(RATE).getFactoryDataPath()))
    presets, remarks = find_presets(roots)
    if not presets:
        raise ValueError(f"no .fxp preset in {', '.join(map(str, roots))}: set path to the folder of Surge's presets")
    version = surgepy.getVersion()
    values = {k: v for k, v in to_dict(config).items() if k not in ("path", "midi", "statistics", "limit_s")}
    inputs = {
        "presets": hashlib.sha256(repr([(uid, sha256(f)) for uid, (f, *_) in presets.items()]).encode()).hexdigest(),
        "statistics": sha256(midi.statistics_file(config.statistics)) if config.statistics else "",
        "midi": listing_hash(Path(config.midi), midi.midi_files(config.midi)) if config.midi else "",
    }
    spec = {"source": "surge", "version": VERSION, "surge": version, **values, "path": names(config.path), "inputs": inputs}
    if bank := existing(path, spec):
        return bank
    jobs, unread = _jobs(presets, statistics, config, n_jobs)
    meta = {
        "source": "surge", "license": "presets and synthesizer: GPL-3.0-or-later (factory and third-party content)",
        "citation": f"Surge XT {version}, surge-synthesizer.github.io",
    }  # fmt: skip
    return build_once(
        path, spec, jobs, render_preset, meta, n_jobs=n_jobs, title="presets", limit_s=config.limit_s, remarks=remarks + unread
    )


def check(config: SurgeConfig) -> None:
    """Missing if surgepy is not installed; FileNotFoundError if the folder of scores is not there."""
    if find_spec("surgepy") is None:
        raise Missing(MISSING)
    if config.midi:
        try:
            midi.midi_files(config.midi)
        except ValueError as error:
            raise FileNotFoundError(error) from None


def _jobs(presets: dict[str, tuple], statistics: midi.NoteStatistics, config: SurgeConfig, n_jobs: int) -> tuple[dict, list[Remark]]:
    """One job per preset with the notes and excerpts of scores that it plays, and a remark for each file that is no score."""
    scores, unread = _scores(config, n_jobs)
    splits = assign_splits({uid: group for uid, (_, group, _, _) in presets.items()}, config.valid, config.test)
    jobs = {}
    for uid, (file, group, tag, player) in presets.items():
        rng = instrument_rng(config.seed, uid)
        notes = statistics.draw(player, config.notes, rng)
        parts = scores.get(player, [])
        chosen = rng.choice(len(parts), min(config.stems, len(parts)), replace=False) if parts else []
        jobs[f"{len(jobs):05d}"] = {
            "uid": uid, "file": str(file), "family": group, "tag": tag, "split": splits[uid], "config": config,
            "notes": [(p, v, min(s, config.longest_s)) for p, v, s in notes], "scores": [parts[k] for k in chosen],
        }  # fmt: skip
    return jobs, unread


def _factory_roots(data: Path) -> list[Path]:
    roots = [data / "patches_factory", data / "patches_3rdparty"]
    found = [r for r in roots if r.is_dir()]
    if not found:
        raise ValueError(
            f"surgepy has no presets in {data}: set the environment variable SURGE_DATA_HOME to Surge's resources/data, or set path"
        )
    return found


def find_presets(roots: list[Path]) -> tuple[dict[str, tuple], list[Remark]]:
    """uid -> (file, group, tag, group whose statistics play it), and remarks.

    The category is the nearest folder above the file with the name of one; the bank is the folder above the category
    (an author), or `factory`. A uid is surge/<bank>/<category>/<name>.
    """
    presets, remarks = {}, []
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {short(root)}: set path to folders of .fxp presets")
        for file in sorted(root.rglob("*.fxp")):
            folders = [root.name, *file.relative_to(root).parts[:-1]]
            at = next((k for k in range(len(folders) - 1, -1, -1) if surge_category(folders[k])), None)
            if at is None:
                remarks.append(Remark(str(file.relative_to(root)), "no folder above it is a known category: no family", kept=True))
            group, tag, player = (surge_category(folders[at]) if at is not None else None) or (None, None, "Piano")
            category = folders[at] if at is not None else folders[-1]
            above = folders[1:at] if at is not None else folders[1:-1]
            bank = above[0] if above else "factory" if root.name == "patches_factory" else root.name
            inner = "/".join([*folders[at + 1 :], file.stem]) if at is not None else file.stem
            uid = f"surge/{bank}/{category}/{inner}"
            while uid in presets:
                uid += "'"
            presets[uid] = (file, group, tag, player)
    return presets, remarks


def _scores(config: SurgeConfig, n_jobs: int) -> tuple[dict[str, list[np.ndarray]], list[Remark]]:
    """Excerpts of scores by group, and a remark for each file that is no score."""
    if not config.midi:
        return {}, []
    parts: dict[str, list[np.ndarray]] = {}
    scores, bad = midi.read_folder(config.midi, n_jobs)
    for notes in scores.values():
        for group, rows in notes.items():
            parts.setdefault(group, []).extend(midi.excerpts(rows, config.stem_s))
    return parts, [Remark(name, why) for name, why in bad.items()]


# Rendering: runs in worker processes


@cache
def _synth():
    import surgepy

    return surgepy.createSurge(RATE)


def render_preset(
    uid: str, file: str, family: str | None, tag: str | None, split: str, notes: list, scores: list, config: SurgeConfig
) -> Iterator[Sound | Remark]:
    """Sounds of one preset, then those of its effects-off twin. ValueError if it cannot be loaded or no note of it is usable."""
    with quiet():
        synth = _synth()
        load(synth, file)
        fx = audible_fx(synth)
    row = note_row(uid, family, "surge", split, fx=fx, tags=["synthetic", *([tag] if tag else []), *fx_tags(fx)])
    yield from _render(synth, file, row, notes, scores, config, dry=False)
    if fx and split == "train" and config.twins:
        twin = row | {"instrument": uid + "_no_fx", "augments": uid, "fx": [], "tags": row["tags"][: 1 + bool(tag)]}
        yield from _render(synth, file, twin, notes, scores, config, dry=True)


def _render(synth, file: str, row: dict, notes: list, scores: list, config: SurgeConfig, dry: bool) -> Iterator[Sound | Remark]:
    usable, remarks = 0, []
    single = [(np.array([[0.0, s, p, v]]), {"pitch": float(p), "velocity": float(v), "hold_s": s}) for p, v, s in notes]
    several = [(part, {"pitch": None, "velocity": None, "hold_s": None}) for part in scores]
    for number, (part, columns) in enumerate(single + several):
        end = config.stem_s if columns["pitch"] is None else part[0, 1] + config.tail_s
        try:
            with quiet():
                stereo = play(synth, file, part, end, dry)
                if not stereo.any():  # some presets speak only to aftertouch
                    stereo = play(synth, file, part, end, dry, aftertouch=127)
            yield Sound({**row, **columns}, rendered(stereo))
            usable += 1
        except Unusable as reason:
            what = f"stem {number - len(single)}" if columns["pitch"] is None else f"note {part[0, 2]:.0f}-{part[0, 3]:.0f}"
            remarks.append(Remark(f"{row['instrument']} {what}", str(reason)))
    if usable:
        yield from remarks
    elif dry:
        yield Remark(row["instrument"], "no usable note without effects")
    else:
        raise ValueError(f"no usable note: {remarks[0].text if remarks else 'none was asked for'}")


def load(synth, file: str, dry: bool = False) -> None:
    """Load a preset and set the tempo; `dry` turns all effects off."""
    if synth.loadPatch(file) is False:
        raise ValueError("surgepy does not load this preset")
    synth.tempo = TEMPO  # a preset may bring its own
    if dry:
        for slot in synth.getPatch()["fx"]:
            synth.setParamVal(slot["type"], 0)
        synth.processMultiBlock(synth.createMultiBlock(1), 0, 1)


def play(synth, file: str, part: np.ndarray, seconds: float, dry: bool, aftertouch: int = 0) -> np.ndarray:
    """Audio (2, n) of notes (m, 4: start s, duration s, pitch, velocity); the preset is loaded anew: tails of effects outlive notes."""
    load(synth, file, dry)
    block = synth.getBlockSize()
    blocks = int(np.ceil(seconds * RATE / block))
    synth.channelAftertouch(0, aftertouch)  # it outlives presets, too
    events = []
    for start, duration, pitch, velocity in part:
        on = int(start * RATE / block)
        events.append((on, 1, int(pitch), int(velocity)))
        events.append((max(on + 1, round((start + duration) * RATE / block)), 0, int(pitch), 0))
    audio, at = synth.createMultiBlock(blocks), 0
    for when, on, pitch, velocity in sorted(events):  # at one time, offs come before ons
        if when >= blocks:
            break
        if when > at:
            synth.processMultiBlock(audio, at, when - at)
            at = when
        if on:
            synth.playNote(0, pitch, velocity, 0)
        else:
            synth.releaseNote(0, pitch, 0)
    if at < blocks:
        synth.processMultiBlock(audio, at, blocks - at)
    return np.array(audio)


def audible_fx(synth) -> list[str]:
    """Names of the effects that sound in the loaded preset, in the order of the slots: not off, not masked, not bypassed, its scene plays,
    and, for sends, a send level is above 0. What a version of the bindings does not tell counts as sounding."""
    patch, value = synth.getPatch(), synth.getParamVal

    def told(name: str, default: int) -> int:
        return int(value(patch[name])) if name in patch else default

    masked, bypass = told("fx_disable", 0), told("fx_bypass", 0)
    both = told("scenemode", 1) != 0
    scenes = [s for s in (0, 1) if both or s == told("scene_active", s)]
    levels = [patch["scene"][s].get("send_level", []) for s in scenes] if "scene" in patch else [[]]
    found = []
    for i, (slot, fx) in enumerate(zip(SLOTS, patch["fx"], strict=False)):
        kind, chain, number = int(value(fx["type"])), slot[0], int(slot[1]) - 1
        if not kind or masked >> i & 1 or chain in BYPASSED.get(bypass, ""):
            continue
        if chain in "AB" and "AB".index(chain) not in scenes:
            continue
        if chain == "S" and not any(number >= len(level) or value(level[number]) > 0 for level in levels):
            continue
        found.append(SURGE_FX[kind][0] if kind < len(SURGE_FX) else synth.getParamDisplay(fx["type"]))
    return list(dict.fromkeys(found))


@contextmanager
def quiet() -> Iterator[None]:
    """Surge writes to C's stdout: keep it out of logs and notebooks."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        with suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # what C keeps in its buffers would come later
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
