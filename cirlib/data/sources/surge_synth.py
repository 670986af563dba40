"""Surge XT through its Python bindings surgepy: one preset, loaded, analysed and rendered in a worker process.

Only what upstream's bindings have is needed. They cannot set the tempo, which some forks can.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...audio.io import Unusable
from ..jobs import Remark, Sound, note_row
from ..taxonomy import SURGE_FX, fx_tags
from .shared import RATE, to_mono

TEMPO = 120.0
SLOTS = ("A1", "A2", "B1", "B2", "S1", "S2", "G1", "G2", "A3", "A4", "B3", "B4", "S3", "S4", "G3", "G4")
BYPASSED = {1: "S", 2: "SG", 3: "ABSG"}  # fx_bypass -> first letters of the slots that are off


def synthesizer():
    """Return a new synthesizer at 120 beats per minute.

    It is made in an empty home folder: Surge creates folders in the user's, and reads preferences there that change the sound.
    """
    import surgepy

    with TemporaryDirectory() as empty:
        data = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())  # where Surge looks for its presets
        places = {"HOME": empty, "XDG_CONFIG_HOME": empty, "XDG_DOCUMENTS_DIR": empty, "XDG_DATA_HOME": data}
        before = {name: os.environ.get(name) for name in places}
        os.environ.update(places)
        try:
            return surgepy.createSurge(RATE)
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def render_preset(
    *, uid: str, file: str, family: str | None, tag: str | None, split: str, notes: list, scores: list, config
) -> Iterator[Sound | Remark]:
    """Yield the sounds of one preset, then of its twin without effects. Raises ValueError if it does not load or has no usable note.

    `config` is a SurgeConfig. The synthesizer is new: a preset without a tempo of its own would keep that of the preset before it.
    """
    with quiet():
        synth = synthesizer()
        load(synth, file)
        fx = audible_fx(synth)
    row = note_row(uid, family, "surge", split, fx=fx, tags=["synthetic", *([tag] if tag else []), *fx_tags(fx)])
    excerpts = [(np.array([[0.0, seconds, pitch, velocity]]), seconds + config.tail_s) for pitch, velocity, seconds in notes]
    excerpts += [(score, config.stem_s) for score in scores]
    yield from _render_all(synth, file, row, excerpts=excerpts, dry=False)
    if fx and split == "train" and config.twins:
        twin = row | {"instrument": uid + "_no_fx", "augments": uid, "fx": [], "tags": row["tags"][: 1 + bool(tag)]}
        yield from _render_all(synth, file, twin, excerpts=excerpts, dry=True)


def _render_all(synth, file: str, row: dict, *, excerpts: list[tuple[np.ndarray, float]], dry: bool) -> Iterator[Sound | Remark]:
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
                stereo = render(synth, file, notes, seconds=seconds, dry=dry)
                if not stereo.any():  # some presets are silent without aftertouch
                    stereo = render(synth, file, notes, seconds=seconds, dry=dry, aftertouch=127)
            yield Sound({**row, **columns}, to_mono(stereo, remarks=(odd := [])))
            yield from (Remark(f"{row['instrument']} {name}", text, stored=True) for text in odd)
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
    if synth.loadPatch(file) is False:  # the preset before it stays loaded
        raise ValueError("surgepy does not load this preset")
    if hasattr(synth, "tempo"):  # only forks of surgepy have it; a preset may bring its own tempo
        synth.tempo = TEMPO
    if dry:
        for slot in synth.getPatch()["fx"]:
            synth.setParamVal(slot["type"], 0)
        synth.processMultiBlock(synth.createMultiBlock(1), 0, 1)


def render(synth, file: str, notes: np.ndarray, *, seconds: float, dry: bool, aftertouch: int = 0) -> np.ndarray:
    """Return audio (2, n) of notes (m, 4: start s, duration s, pitch, velocity). The preset is loaded anew: effect tails outlast notes."""
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
    """Discard what C code writes to stdout and stderr, which Surge does without the name of the preset."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        with suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # else buffered output would be written later
        for number, copy in enumerate(saved, 1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
