"""The jobs of a build: sounds on their way into a bank, made in a worker process that may crash or hang.

A job leaves a shard: a json file with its rows and remarks, or why it failed, and beside it the samples of its sounds.
"""

import faulthandler
import json
import math
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.io import LOUDEST
from ..common.files import DISK_FULL, write_atomic, writing
from ..common.settings import choose
from .notes import SPLITS
from .taxonomy import GROUPS

FULL_SCALE = 32768  # gain of sounds that came as 16 bits: kept as they are


@dataclass
class Sound:
    """One sound on its way into a bank: its row (SCHEMA without offset, length, gain) and its audio (n,), float or int16."""

    row: dict
    audio: np.ndarray


@dataclass
class Remark:
    """What the data card tells of one file or note: left out (`kept=False`), or kept though odd."""

    name: str
    text: str
    kept: bool = False


def note_row(instrument: str, family: str | None, source: str, split: str, **columns) -> dict:
    """Row of a sound; pitch, velocity, hold_s and augments are null and tags and fx empty unless given."""
    row = {"instrument": instrument, "family": family, "source": source, "split": split, "pitch": None, "velocity": None}
    return {**row, "hold_s": None, "tags": [], "fx": [], "augments": None, **columns}


def worker_died(error: Exception) -> bool:
    """Whether a backend of joblib (loky, Dask) tells that a worker process ended."""
    return type(error).__name__ in ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker")


def last_words(marker: Path, limit_s: float | None) -> str:
    """Why a job ended its process, from what faulthandler wrote."""
    text = marker.read_text(errors="replace") if marker.exists() else ""
    if text.startswith("Timeout"):
        return f"took longer than {limit_s:g} s"
    cause = text.partition("\n")[0].removeprefix("Fatal Python error: ")
    return f"ended its process ({cause or 'killed, or it left by itself'})"


def run_job(make: Callable, job: dict, shard: Path, limit_s: float | None) -> None:
    """One job: make the sounds, write their samples, then the shard. What fails in `make` costs only this job, but for a full disk."""
    part = shard.with_suffix(f".{uuid.uuid4().hex}.part")  # of its own: a worker that outlived a killed build may still be at this job
    try:
        with writing(shard):
            _run(make, job, shard, part, limit_s)
    finally:
        part.unlink(missing_ok=True)


def _run(make: Callable, job: dict, shard: Path, part: Path, limit_s: float | None) -> None:
    if multiprocessing.parent_process() is None:
        limit_s = None  # in the user's own process: never end it
    marker = shard.with_suffix(".started")
    state = {"rows": [], "skipped": {}, "noted": {}}
    with open(marker, "w") as log, open(part, "wb") as file:
        if limit_s:  # a watchdog thread that works though native code holds the interpreter
            faulthandler.enable(log)
            faulthandler.dump_traceback_later(limit_s, exit=True, file=log)
        try:
            for item in _caught(make, job, state):
                if isinstance(item, Remark):
                    state["noted" if item.kept else "skipped"][item.name] = item.text
                else:
                    row, audio = item
                    state["rows"].append(row)
                    file.write(audio.tobytes())  # unlike tofile, it tells why it fails
        finally:
            if limit_s:
                faulthandler.cancel_dump_traceback_later()
                faulthandler.disable()
    if shard.exists():
        return
    if "failed" in state:
        state["rows"] = []
    else:
        os.replace(part, shard.with_suffix(".i16"))
    write_atomic(shard, lambda part: part.write_text(json.dumps(state, allow_nan=False)))
    marker.unlink(missing_ok=True)


def _caught(make: Callable, job: dict, state: dict) -> Iterator[Remark | tuple[dict, np.ndarray]]:
    """Items of a job, sounds encoded; an exception ends them and is told in state["failed"]."""
    try:
        for item in make(**job):
            yield item if isinstance(item, Remark) else encode(item)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise  # it is not the fault of this sound: the next would fail too, and all would be left out
        # its own text tells the whole path
        state["failed"] = f"{Path(error.filename).name}: {error.strerror}" if error.filename and error.strerror else str(error)
    except ValueError as error:
        state["failed"] = str(error)
    except Exception as error:
        state["failed"] = f"{type(error).__name__}: {error}"


def encode(sound: Sound) -> tuple[dict, np.ndarray]:
    """Row and int16 samples of a sound. Floats use the full 16 bits and keep their level in `gain`; int16 stays as it is."""
    audio, row = np.asarray(sound.audio), sound.row
    _check_row(row)
    choose("split", row["split"], SPLITS)
    if row["family"] is not None:
        choose("family", row["family"], GROUPS)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"a sound of {row.get('instrument')} is empty, not mono or not finite")
    if np.abs(audio).max() > LOUDEST:
        raise ValueError(f"a sound of {row.get('instrument')} is louder than {LOUDEST:g} times full scale")
    if audio.dtype == np.int16:
        return {**row, "length": len(audio), "gain": float(FULL_SCALE)}, audio.astype("<i2", copy=False)
    audio = audio.astype(np.float64)
    gain = np.float32(32767 / max(np.abs(audio).max(), 1e-4))
    return {**row, "length": len(audio), "gain": float(gain)}, np.round(audio * gain).astype("<i2")


def _check_row(row: dict) -> None:
    """ValueError for names and numbers that the files of a bank cannot hold."""
    for name in ("instrument", "family", "source", "augments"):
        try:
            str(row[name]).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} {row[name]!r} is not UTF-8: rename it") from None
    if not row["instrument"]:
        raise ValueError("a sound has no instrument")
    for name in ("pitch", "velocity", "hold_s"):
        if row[name] is not None and not math.isfinite(row[name]):
            raise ValueError(f"{name} of a sound of {row['instrument']} is {row[name]}: a number, or None where it is unknown")
