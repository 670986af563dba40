"""Shards of a bank that is being built: what each finished job leaves in the working folder, and joining them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..common.files import HashingWriter, write_json
from ..common.paths import short
from .notes import SCHEMA

ROWS_AT_ONCE = 10_000  # as Python objects


def read_state(path: Path) -> dict | None:
    """Return the JSON value of a file; None if it is absent or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


class Shards:
    """Shards in a working folder: `<key>.json` (rows and remarks, or why the job failed) and `<key>.i16` (samples).

    With `streaming`, samples of a shard are deleted once they are in the bank's audio.
    """

    def __init__(self, work: Path, *, streaming: bool):
        self.work, self.streaming = work, streaming
        self._audio, self._joined = None, 0  # the bank's audio, and the number of jobs in it

    def path(self, key: str) -> Path:
        """Return the file that exists once a job is finished. Raises ValueError for a key that cannot be a file name."""
        if Path(key).name != key or key == "..":
            raise ValueError(f"{key!r:.100} cannot be a file name of a build")
        return self.work / f"{key}.json"

    def samples(self, key: str) -> Path:
        """Return the file of a job's samples."""
        return self.path(key).with_suffix(".i16")

    def marker(self, key: str) -> Path:
        """Return the file that exists while a job runs."""
        return self.path(key).with_suffix(".started")

    def unfinished(self, keys: Sequence[str]) -> list[str]:
        """Return the keys of jobs without a shard."""
        return [key for key in keys if not self.path(key).exists()]

    def fail(self, key: str, reason: str) -> None:
        """Write the shard of a failed job."""
        self.samples(key).unlink(missing_ok=True)
        write_json(self.path(key), {"failed": reason, "rows": [], "skipped": {}, "noted": {}})

    def failed(self, keys: Sequence[str]) -> dict[str, str]:
        """Return {key: reason} of the failed jobs."""
        states = {key: read_state(self.path(key)) for key in keys}
        return {key: state["failed"] for key, state in states.items() if "failed" in state}

    def load(self, key: str) -> tuple[list[dict], np.ndarray]:
        """Return the rows and int16 samples of a finished job."""
        return read_state(self.path(key))["rows"], np.fromfile(self.samples(key), "<i2")

    def join(self, keys: Sequence[str], file: Path) -> None:
        """Append samples to the bank's audio `file`, in the order of `keys`, up to the first unfinished job."""
        if self._audio is None:
            self._open(keys, file)
        while self._joined < len(keys) and self.path(keys[self._joined]).exists():
            samples = self.samples(keys[self._joined])
            if samples.exists():  # a failed job has none
                with open(samples, "rb") as source:
                    shutil.copyfileobj(source, self._audio, 1 << 20)
                if self.streaming:
                    self._audio.flush()
                    samples.unlink()
            self._joined += 1

    def _open(self, keys: Sequence[str], file: Path) -> None:
        """Open the audio file after the samples that an interrupted build joined: those of the first jobs, no longer in shards."""
        size = 0
        for key in keys if self.streaming else ():
            state = read_state(self.path(key))
            if state is None or self.samples(key).exists():
                break
            size += 2 * sum(row["length"] for row in state["rows"])
            self._joined += 1
        file.parent.mkdir(exist_ok=True)
        file.touch()
        if file.stat().st_size < size:
            raise ValueError(f"{short(self.work)} is damaged (joined samples are missing): delete it and build again")
        self._audio = HashingWriter(file.open("r+b"), size)

    def close(self) -> str:
        """Close the bank's audio and return its SHA-256."""
        self._audio.close()
        return self._audio.digest()

    def collect(self, keys: Sequence[str]) -> tuple[pa.Table, dict[str, str], dict[str, str]]:
        """Return the notes of finished jobs in the order of `keys`, and names with reasons: skipped and noted."""
        tables, rows, offset, skipped, noted = [], [], 0, {}, {}
        for key in keys:
            state = read_state(self.path(key))
            for row in state["rows"]:
                row["offset"], offset = offset, offset + row["length"]
            rows += state["rows"]
            if len(rows) >= ROWS_AT_ONCE:
                tables.append(pa.Table.from_pylist(rows, schema=SCHEMA))
                rows = []
            skipped |= state["skipped"]
            noted |= state["noted"]
        return pa.concat_tables([*tables, pa.Table.from_pylist(rows, schema=SCHEMA)]), skipped, noted
