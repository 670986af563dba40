"""Jobs of a bank build: each makes the sounds of one instrument and writes a shard, rows beside the samples of its sounds."""

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
from .untrusted import MAX_TEXT

FULL_SCALE = 32768  # gain of sounds that came as 16 bits and are stored unchanged


@dataclass
class Sound:
    """One sound for a bank: its row (SCHEMA without offset, length, gain) and its audio (n,), float or int16."""

    row: dict
    audio: np.ndarray


@dataclass
class Remark:
    """A line of the data card about one file or note: why it was skipped, or, if `stored`, what is odd about it."""

    name: str
    text: str
    stored: bool = False


def note_row(instrument: str, family: str | None, source: str, split: str, **columns) -> dict:
    """Return the row of a sound; pitch, velocity, hold_s and augments are null, tags and fx empty unless given."""
    row = {"instrument": instrument, "family": family, "source": source, "split": split, "pitch": None, "velocity": None}
    return {**row, "hold_s": None, "tags": [], "fx": [], "augments": None, **columns}


def worker_died(error: Exception) -> bool:
    """Return whether an error of joblib's backends (loky, Dask) means that a worker process ended."""
    return type(error).__name__ in ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker")


def crash_reason(marker: Path, limit_s: float | None) -> str:
    """Return why a job ended its process, from what faulthandler wrote to its marker."""
    text = marker.read_text(errors="replace") if marker.exists() else ""
    if text.startswith("Timeout"):
        return f"took longer than {limit_s:g} s"
    cause = text.partition("\n")[0].removeprefix("Fatal Python error: ")
    return f"ended its process ({cause or 'killed, or it exited'})"


def run_job(make: Callable, job: dict, shard: Path, limit_s: float | None) -> None:
    """Run one job: write the samples of its sounds, then the shard. An error in `make` fails only this job, except for a full disk."""
    part = shard.with_suffix(f".{uuid.uuid4().hex}.part")  # unique: a worker that outlived a killed build may still run this job
    try:
        with writing(shard):
            state = _write_samples(make, job, marker=shard.with_suffix(".started"), part=part, limit_s=limit_s)
            if shard.exists():
                return
            if "failed" not in state:
                os.replace(part, shard.with_suffix(".i16"))
            write_atomic(shard, lambda file: file.write_text(json.dumps(state, allow_nan=False)))
            shard.with_suffix(".started").unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)


def _write_samples(make: Callable, job: dict, *, marker: Path, part: Path, limit_s: float | None) -> dict:
    """Write the samples of a job to `part`; return its rows and remarks, or why it failed."""
    if multiprocessing.parent_process() is None:
        limit_s = None  # the user's own process: never end it
    state = {"rows": [], "skipped": {}, "noted": {}}
    with open(marker, "w") as log, open(part, "wb") as file:
        if limit_s:  # a watchdog thread, which works even while native code holds the interpreter
            faulthandler.enable(log)
            faulthandler.dump_traceback_later(limit_s, exit=True, file=log)
        try:
            for item in _items(make, job, state):
                if isinstance(item, Remark):
                    texts = state["noted" if item.stored else "skipped"]
                    texts[item.name] = f"{texts[item.name]}; {item.text}" if item.name in texts else item.text
                else:
                    row, audio = item
                    state["rows"].append(row)
                    file.write(audio.tobytes())  # unlike tofile, its error has a reason
        finally:
            if limit_s:
                faulthandler.cancel_dump_traceback_later()
                faulthandler.disable()
    return state | {"rows": []} if "failed" in state else state


def _items(make: Callable, job: dict, state: dict) -> Iterator[Remark | tuple[dict, np.ndarray]]:
    """Yield the items of a job, sounds encoded; an exception ends them and is stored in state["failed"]."""
    try:
        for item in make(**job):
            yield item if isinstance(item, Remark) else encode(item)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise  # not the fault of this sound: all others would fail too
        # without the folders, which the error's own text has
        state["failed"] = f"{Path(error.filename).name}: {error.strerror}" if error.filename and error.strerror else str(error)
    except ValueError as error:
        state["failed"] = str(error)
    except Exception as error:
        state["failed"] = f"{type(error).__name__}: {error}"


def encode(sound: Sound) -> tuple[dict, np.ndarray]:
    """Return the row and int16 samples of a sound. Floats use the full 16 bits and store their level in `gain`; int16 is unchanged.

    Raises ValueError for a row or audio that a bank cannot store.
    """
    audio, row = np.asarray(sound.audio), sound.row
    _check_row(row)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"a sound of {row['instrument']} is empty, not mono or not finite")
    if np.abs(audio).max() > LOUDEST:
        raise ValueError(f"a sound of {row['instrument']} is louder than {LOUDEST:g} times full scale")
    if audio.dtype == np.int16:
        return {**row, "length": len(audio), "gain": float(FULL_SCALE)}, audio.astype("<i2", copy=False)
    audio = audio.astype(np.float64)
    gain = np.float32(32767 / max(np.abs(audio).max(), 1e-4))
    return {**row, "length": len(audio), "gain": float(gain)}, np.round(audio * gain).astype("<i2")


def _check_row(row: dict) -> None:
    """Raise ValueError for names and numbers that the files of a bank cannot store."""
    for name in ("instrument", "family", "source", "augments"):
        try:
            size = len(str(row[name]).encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name} {row[name]!r} is not UTF-8: rename it") from None
        if size > MAX_TEXT:
            raise ValueError(f"{name} has {size} bytes, of at most {MAX_TEXT}: shorten the names of files and folders")
    if not row["instrument"]:
        raise ValueError("a sound has no instrument")
    choose("split", row["split"], SPLITS)
    if row["family"] is not None:
        choose("family", row["family"], GROUPS)
    for name in ("pitch", "velocity", "hold_s"):
        if row[name] is not None and not math.isfinite(row[name]):
            raise ValueError(f"{name} of a sound of {row['instrument']} is {row[name]}: give a number, or None where it is unknown")
