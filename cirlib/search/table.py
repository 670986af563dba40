"""The LanceDB table of a library: one row per sound. Every write makes a version, whole or not at all."""

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

LONGEST_LIST = 500  # ids in one condition
KEEP = timedelta(hours=1)  # versions made in the last hour stay, for processes that are just reading one
LABELS = ("uid", "family", "source")  # what the name of a sound tells


class Table:
    """Rows: id, uid, family, source, origin, path, stamp, start, seconds, vector (catalog.py tells what they are)."""

    def __init__(self, folder: Path):
        import lancedb

        self.folder = folder
        with self._told():
            self._table = lancedb.connect(folder).open_table("sounds")

    @classmethod
    def create(cls, folder: Path, dim: int) -> "Table":
        """An empty one; what is left of another is deleted."""
        import lancedb

        texts = [pa.field(name, pa.string()) for name in ("id", *LABELS, "origin", "path", "stamp")]
        numbers = [pa.field(name, pa.float64()) for name in ("start", "seconds")]
        shutil.rmtree(folder / "sounds.lance", ignore_errors=True)
        schema = pa.schema([*texts, *numbers, pa.field("vector", pa.list_(pa.float32(), dim))])
        with writing(folder):
            lancedb.connect(folder).create_table("sounds", schema=schema)
        return cls(folder)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What LanceDB cannot read or write (a damaged file) as one sentence."""
        try:
            yield
        except Unwritable:
            raise
        except (RuntimeError, OSError) as error:
            raise OSError(f"the table of library {paths.short(self.folder)} cannot be read or written ({one_line(error)})") from None

    @property
    def version(self) -> int:
        """Number of the newest version, which is read from here on."""
        with self._told():
            self._table.checkout_latest()
            return self._table.version

    def whole(self) -> pa.Table:
        """All rows of the newest version."""
        try:
            return self._table.to_arrow()
        except RuntimeError:  # tidied away by a writer since: it left a newer one
            with self._told():
                self._table.checkout_latest()
                return self._table.to_arrow()

    def rows(self, *columns: str, origin: Path | None = None) -> pd.DataFrame:
        """These columns of all rows, or of those of one origin."""
        with self._told():
            self._table.checkout_latest()
            found = self._table.search().select(list(columns)).limit(max(1, self._table.count_rows()))
            return (found if origin is None else found.where(f"origin = {_quoted(str(origin))}")).to_pandas()

    def write(self, rows: Sequence[dict]) -> None:
        """Add rows, in place of those with the same id."""
        if not rows:
            return
        schema = self._table.schema
        columns = {name: [row[name] for row in rows] for name in schema.names if name != "vector"}
        vectors = pa.array(np.concatenate([row["vector"] for row in rows], dtype=np.float32))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(vectors, schema.field("vector").type.list_size)
        with self._told(), writing(self.folder):
            insert = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            insert.execute(pa.table(columns, schema=schema))

    def relabel(self, labels: pd.DataFrame) -> None:
        """Give rows (index: id) other LABELS; their vectors stay."""
        for ids in _parts(labels.index):
            with self._told():
                rows = self._table.search().where(_among(ids)).limit(len(ids)).to_list()
            self.write([{**row, **labels.loc[row["id"]].to_dict()} for row in rows])

    def delete(self, ids: Iterable[str]) -> None:
        """Delete rows."""
        for part in _parts(ids):
            with self._told(), writing(self.folder):
                self._table.delete(_among(part))

    def tidy(self) -> None:
        """Join the files of many writes, delete those of old versions."""
        with self._told(), writing(self.folder):
            self._table.optimize(cleanup_older_than=KEEP)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _among(ids: Iterable[str]) -> str:
    return f"id IN ({', '.join(map(_quoted, ids))})"


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    ids = list(ids)
    return (ids[i : i + LONGEST_LIST] for i in range(0, len(ids), LONGEST_LIST))
