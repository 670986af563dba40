"""The LanceDB table of a library: one row per sound. Each write makes a new version, whole or not at all."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ..common import paths
from ..common.files import Unwritable, one_line, writing

TEXTS = ("id", "instrument", "family", "predicted", "kind", "source", "origin", "path", "stamp")
NUMBERS = ("pitch", "start", "seconds")
MAX_IDS = 500  # in one condition
KEEP = timedelta(hours=1)  # age of the versions that `tidy` deletes: other processes may still read newer ones


class Table:
    """Rows: one for each clip of a sound. catalog.py describes the columns; `predicted` is a family from neighbours.py."""

    def __init__(self, folder: Path):
        import lancedb

        self.folder = folder
        with self._clear_errors():
            self._table = lancedb.connect(folder).open_table("sounds")

    @classmethod
    def create(cls, folder: Path, dim: int) -> "Table":
        """Create an empty table for vectors (dim,); an incomplete one in its place is deleted."""
        import lancedb

        texts = [pa.field(name, pa.string()) for name in TEXTS]
        numbers = [pa.field(name, pa.float64()) for name in NUMBERS]
        schema = pa.schema([*texts, *numbers, pa.field("vector", pa.list_(pa.float32(), dim))])
        shutil.rmtree(folder / "sounds.lance", ignore_errors=True)
        with writing(folder):
            lancedb.connect(folder).create_table("sounds", schema=schema)
        return cls(folder)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Raise LanceDB's errors, such as for a damaged file, as one sentence, and those of a full or read-only disk as Unwritable."""
        try:
            with writing(self.folder):
                yield
        except Unwritable:
            raise
        except (RuntimeError, OSError) as error:
            raise OSError(f"the table of library {paths.short(self.folder)} cannot be read or written ({one_line(error)})") from None

    @property
    def version(self) -> int:
        """Change to the newest version and return its number."""
        with self._clear_errors():
            self._table.checkout_latest()
            return self._table.version

    def read(self) -> pa.Table:
        """Return all rows of the current version, or of the newest one if a writer has deleted it."""
        try:
            return self._table.to_arrow()
        except RuntimeError:
            with self._clear_errors():
                self._table.checkout_latest()
                return self._table.to_arrow()

    def rows(self, *columns: str, origin: Path | None = None) -> pd.DataFrame:
        """Return columns of all rows of the newest version, or of the rows of one origin."""
        with self._clear_errors():
            self._table.checkout_latest()
            query = self._table.search().select(list(columns)).limit(max(1, self._table.count_rows()))
            return (query if origin is None else query.where(f"origin = {_quoted(str(origin))}")).to_pandas()

    def write(self, rows: Sequence[dict]) -> None:
        """Add rows; each replaces a row of the same id."""
        if not rows:
            return
        schema = self._table.schema
        columns = {name: [row[name] for row in rows] for name in schema.names if name != "vector"}
        vectors = pa.array(np.concatenate([row["vector"] for row in rows], dtype=np.float32))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(vectors, schema.field("vector").type.list_size)
        with self._clear_errors():
            insert = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            insert.execute(pa.table(columns, schema=schema))

    def delete(self, ids: Iterable[str]) -> None:
        """Delete rows."""
        for condition in _conditions(ids):
            with self._clear_errors():
                self._table.delete(condition)

    def set(self, column: str, value: str | None, ids: Iterable[str]) -> None:
        """Set a column of rows to a value."""
        for condition in _conditions(ids):
            with self._clear_errors():
                self._table.update(where=condition, values={column: value})

    def tidy(self) -> None:
        """Join the files of many writes and delete old versions."""
        with self._clear_errors():
            self._table.optimize(cleanup_older_than=KEEP)


def lock(folder: Path):
    """Return a context that only one process can be in: the one that writes to the library; wait for another one to leave it."""
    from filelock import FileLock, Timeout

    held = FileLock(folder / ".lock")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return held.acquire(timeout=0)
        except Timeout:
            print(f"{paths.short(folder)} is being written by another process: waiting for it", flush=True)
            return held.acquire()


def matrix(table: pa.Table) -> np.ndarray:
    """Return the vectors (N, D) of rows."""
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), table.schema.field("vector").type.list_size)


def _conditions(ids: Iterable[str]) -> Iterator[str]:
    """Yield conditions that select rows, at most MAX_IDS each."""
    ids = list(ids)
    for i in range(0, len(ids), MAX_IDS):
        yield f"id IN ({', '.join(map(_quoted, ids[i : i + MAX_IDS]))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
