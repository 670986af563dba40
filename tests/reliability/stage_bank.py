"""The stage that builds a bank, every second time in place of an older one. Workers import this file: it is light."""

from pathlib import Path

import numpy as np

from cirlib.data.bank import NoteBank
from cirlib.data.builder import build_once
from cirlib.data.jobs import Sound, note_row

META = {"source": "tones", "license": "CC0-1.0", "citation": "none"}
JOBS = 6
PITCHES = 3


def make(key: str, level: float):
    """Yield the tones of an instrument."""
    time = np.arange(4000) / 16000
    for pitch in range(60, 60 + PITCHES):
        tone = level * np.cos(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)
        yield Sound(note_row(f"tones/kills/{key}", "Bass", "tones", "train", pitch=float(pitch)), tone)


def build(path: Path, level: float, n_jobs: int) -> NoteBank:
    """Build the bank of all jobs."""
    jobs = {f"{i:02d}": {"key": f"{i:02d}", "level": level * (1 + i) / JOBS} for i in range(JOBS)}
    return build_once(path, {"level": level}, jobs, make, meta=META, n_jobs=n_jobs)


class Bank:
    """Jobs in worker processes whose results are joined, then exchanged with an older bank."""

    name = "building a bank"

    def __init__(self, base: Path):
        self.base = base

    def make_base(self) -> None:
        """Do nothing: there is no input."""

    def prepare(self, folder: Path, again: bool) -> None:
        """Build the older bank."""
        if again:
            build(folder / "bank", 0.9, 1)

    def run(self, folder: Path, way: str) -> None:
        """Build the bank; in one process if kills come with system calls or writes, which workers would report as errors."""
        build(folder / "bank", 0.5, 1 if way in ("write", "call") else 2)

    def check(self, folder: Path, again: bool) -> None:
        """Assert that one of the two banks is complete, possibly moved aside."""
        there = [p for p in (folder / "bank", folder / "bank.building" / "old") if p.exists()]
        assert there or not again, "the older bank is lost"
        for path in there:
            bank = NoteBank.open(path)
            bank.verify()
            assert len(bank) == JOBS * PITCHES, f"{path.name} holds {len(bank)} sounds"

    def result(self, folder: Path) -> dict:
        """Return the number of notes; the files are compared in any case."""
        return {"notes": len(NoteBank.open(folder / "bank"))}
