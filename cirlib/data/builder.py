"""Building a NoteBank: jobs run in parallel, each leaves a shard, the shards become the bank.

An interrupted build goes on from its shards. A job that fails, crashes its process or hangs costs only itself.
Worker processes of this machine run the jobs, or of a Dask cluster: `with joblib.parallel_config(backend="dask"): ...`
(workers that see the same disk, one thread each).
"""

import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..common.files import HashingWriter, check_space, sha256, sync, write_atomic, write_json, writing
from ..common.paths import short
from .bank import FORMAT, NoteBank
from .jobs import Remark, last_words, run_job, worker_died
from .notes import SCHEMA


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of what is made at `path`: a second process that wants to make it waits, and then finds it there."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is building {path.name}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Hold the lock of a bank whose place was checked; a full disk is told in one sentence."""
    _check_place(path)
    with writing(path), locked(path):
        work = _work_folder(path)
        if (work / "spec.json").exists() and (work / "old").exists() and not path.exists():  # killed while they changed places
            os.replace(work / "old", path)
        yield


def _check_place(path: Path) -> None:
    """Refuse a place that is no bank and not empty, or that cannot be written to, before anything is written there."""
    if path.exists() and not (path / "bank.json").exists():
        raise ValueError(f"{short(path)} is there and is no note bank: choose another path, a bank would replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{short(path)} cannot be written ({error.strerror}): choose another place for the bank") from None


def existing(path: Path, spec: dict) -> NoteBank | None:
    """The bank at `path` if it was made with this very spec."""
    if not (path / "bank.json").exists():
        return None
    bank = NoteBank.open(path)
    if bank.infos[0].get("made") != spec:
        return None
    work = _work_folder(path)
    if _read_json(work / "spec.json") == spec or (work.exists() and not any(work.iterdir())):
        with suppress(OSError):  # of a build that was killed after its last step
            _discard(work)
    return bank


def made_elsewhere(path: Path, source: str, options: dict) -> NoteBank | None:
    """The bank at `path` if it was made with these options, from sounds that need not be on this machine."""
    if not (path / "bank.json").exists():
        return None
    bank = NoteBank.open(path)
    made = bank.infos[0].get("made", {})
    plain = json.loads(json.dumps(options))
    if "path" in plain:
        plain["path"] = names(plain["path"])
    same = made.get("source") == source and all(made[k] == v for k, v in plain.items() if k in made)
    return bank if same else None


def names(path: str | Iterable[str]) -> list[str]:
    """Last parts of one path or of several: what a specification keeps of where its sounds were."""
    return [Path(p).name for p in ([path] if isinstance(path, str) else path)]


def build_once(
    path: Path, spec: dict, jobs: dict[str, dict], make: Callable, meta: dict, *,
    n_jobs: int = -1, title: str = "instruments", limit_s: float | None = None, remarks: Iterable[Remark] = (),
) -> NoteBank:  # fmt: skip
    """The bank of these jobs, made unless that very bank is there. Keys of jobs are names of files and tell the order.

    ValueError if no job gives a sound; nothing is left behind then.
    """
    if bank := existing(path, spec):
        return bank
    with building(path):
        if bank := existing(path, spec):
            return bank
        builder = BankBuilder(path, spec, streaming=True)
        failed = builder.run(jobs, make, n_jobs, title, limit_s)
        failed = {jobs[key].get("uid", key): why for key, why in failed.items()}
        return builder.finish(list(jobs), meta, failed, remarks)


def _work_folder(path: Path) -> Path:
    return path.with_name(path.name + ".building")


def _discard(work: Path) -> None:
    """Delete a working folder, last of all what tells that it is one: a kill meanwhile leaves one that is known."""
    for entry in work.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != "spec.json":
            entry.unlink(missing_ok=True)
    (work / "spec.json").unlink(missing_ok=True)
    work.rmdir()


class BankBuilder:
    """Collects sounds in `<path>.building`, one shard per job, and turns them into a bank when all are there.

    Shards survive an interruption: a build with the same `spec` continues, one with another spec starts anew. `streaming`
    joins the samples of jobs, in their order, as they come and removes them from the shards: a large bank is on the disk once.
    """

    def __init__(self, path: Path, spec: dict, sample_rate: int = 16000, streaming: bool = False):
        self.path, self.spec, self.sample_rate, self.streaming = Path(path), spec, sample_rate, streaming
        self.work = _work_folder(self.path)
        _check_place(self.path)
        known = (self.work / "spec.json").exists() or not self.work.exists()
        if not known and any(not entry.name.startswith(".spec.json.") for entry in self.work.iterdir()):  # killed while it was written
            raise ValueError(
                f"{short(self.work)} is there and is no unfinished build: delete it if it is the rest of one, or choose another path"
            )
        if self.work.exists() and _read_json(self.work / "spec.json") != spec:
            _discard(self.work)
        if (self.path / "bank.json").exists():
            print(
                f"{short(self.path)} was made with other settings or sounds: it is replaced when the new bank is complete", file=sys.stderr
            )
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(self.work / "spec.json", spec)
        self.whole = self.work / "bank"
        self._audio, self._joined = None, 0  # the bank's audio in the making, and how many jobs are in it

    def shard(self, key: str) -> Path:
        """File that is there when a job is done; the samples of its sounds are beside it."""
        if Path(key).name != key or key == "..":
            raise ValueError(f"{key!r:.100} cannot name a file of a build")
        return self.work / f"{key}.json"

    def _samples(self, key: str) -> Path:
        return self.work / f"{key}.i16"

    def run(
        self, jobs: dict[str, dict], make: Callable, n_jobs: int = -1, title: str = "sounds", limit_s: float | None = None
    ) -> dict[str, str]:
        """Run `make(**jobs[key])`, which gives Sounds and Remarks, for the keys without a shard; return {key: why it failed}.

        Args:
            n_jobs: worker processes, -1: one per core; 1 runs in this process, where nothing can be guarded.
            limit_s: longest time of one job; a job that takes longer or crashes its process is a failed job.
        """
        import joblib

        for marker in self.work.glob("*.started"):
            marker.unlink()  # of an interrupted build
        waiting = [key for key in jobs if not self.shard(key).exists()]
        if limit_s and n_jobs == -1:
            n_jobs = max(2, joblib.cpu_count())  # one would run here
        with _progress(len(waiting), title) as bar, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A worker stopped", UserWarning)  # it is dealt with below
            while waiting:
                try:
                    for _ in self._pool(waiting, jobs, make, n_jobs, limit_s, bar):
                        if self.streaming:
                            self._join(list(jobs))
                except Exception as error:
                    if not worker_died(error):
                        raise
                    self._isolate([k for k in waiting if self._started(k)], jobs, make, limit_s, bar)
                waiting = [key for key in waiting if not self.shard(key).exists()]
        reasons = ((key, _read_json(self.shard(key)).get("failed")) for key in jobs)
        return {key: reason for key, reason in reasons if reason is not None}

    def _started(self, key: str) -> bool:
        return not self.shard(key).exists() and self.shard(key).with_suffix(".started").exists()

    def _pool(self, keys, jobs, make, n_jobs, limit_s, bar) -> Iterator[None]:
        from joblib import Parallel, delayed

        guard = limit_s if n_jobs != 1 else None
        tasks = (delayed(run_job)(make, jobs[key], self.shard(key), guard) for key in keys)
        for _ in Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)(tasks):
            bar.update()
            yield

    def _isolate(self, suspects: list[str], jobs, make, limit_s, bar) -> None:
        """Run what was under way when a process died, one by one: the job that ends its process again is the guilty one."""
        if not suspects:
            raise RuntimeError("worker processes die before they start a job: is there memory enough?")
        for key in suspects:
            try:
                list(self._pool([key], jobs, make, 2, limit_s, bar))
            except Exception as error:
                if not worker_died(error):
                    raise
                reason = last_words(self.shard(key).with_suffix(".started"), limit_s)
                self._samples(key).unlink(missing_ok=True)
                write_json(self.shard(key), {"failed": reason, "rows": [], "skipped": {}, "noted": {}})
                bar.update()

    def load(self, key: str) -> tuple[list[dict], np.ndarray]:
        """Rows and int16 samples of a finished job."""
        return _read_json(self.shard(key))["rows"], np.fromfile(self._samples(key), "<i2")

    def _join(self, keys: Sequence[str]) -> None:
        """Append the samples of finished jobs to the bank's audio, in the order of `keys`, up to the first job that is not finished."""
        if self._audio is None:
            self._open(keys)
        while self._joined < len(keys) and self.shard(keys[self._joined]).exists():
            samples = self._samples(keys[self._joined])
            if samples.exists():  # a failed job has none
                with open(samples, "rb") as part:
                    shutil.copyfileobj(part, self._audio, 1 << 20)
                if self.streaming:
                    self._audio.flush()
                    samples.unlink()
            self._joined += 1

    def _open(self, keys: Sequence[str]) -> None:
        """Open the bank's audio behind what an interrupted build has joined: the first jobs whose samples are no longer in shards."""
        size = 0
        for key in keys:
            state = _read_json(self.shard(key))
            if not self.streaming or state is None or self._samples(key).exists():
                break
            size += 2 * sum(row["length"] for row in state["rows"])
            self._joined += 1
        self.whole.mkdir(exist_ok=True)
        path = self.whole / "audio.i16"
        path.touch()
        if path.stat().st_size < size:
            raise ValueError(f"{short(self.work)} is damaged (joined samples are missing): delete it and build again")
        self._audio = HashingWriter(path.open("r+b"), size)

    def finish(self, keys: Sequence[str], meta: dict, skipped: dict[str, str], remarks: Iterable[Remark] = ()) -> NoteBank:
        """Join the shards in the order of `keys` into the bank and remove the working folder; failed jobs among them add nothing."""
        skipped, noted = dict(skipped), {}
        for remark in remarks:
            (noted if remark.kept else skipped)[remark.name] = remark.text
        left = sum(self._samples(key).stat().st_size for key in keys if self._samples(key).exists())
        check_space(self.path.parent, left, f"the bank {self.path.name}")
        self._join(keys)
        self._audio.close()
        tables, rows, offset, instruments = [], [], 0, {}
        for i, key in enumerate(keys):
            state = _read_json(self.shard(key))
            for row in state["rows"]:
                row["offset"], offset = offset, offset + row["length"]
                if instruments.setdefault(row["instrument"], row["split"]) != row["split"]:
                    raise ValueError(f"{row['instrument']} of {self.path.name} is in two splits: what is tested would have been trained on")
            rows += state["rows"]
            if len(rows) >= 10_000 or i == len(keys) - 1:
                tables.append(pa.Table.from_pylist(rows, schema=SCHEMA))
                rows = []
            skipped |= state["skipped"]
            noted |= state["noted"]
        whole = self.whole
        if not offset:
            _discard(self.work)
            told = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
            raise ValueError(f"no usable sound for {self.path.name}: {len(skipped)} left out{' (' + told + ')' if told else ''}")
        if (whole / "audio.i16").stat().st_size != 2 * offset:
            raise ValueError(f"{short(self.work)} is damaged (samples are missing): delete it and build again")
        sync(whole / "audio.i16")
        write_atomic(whole / "notes.parquet", lambda part: pq.write_table(pa.concat_tables(tables), part))
        info = {
            "format": FORMAT,
            "sample_rate": self.sample_rate,
            **meta,
            "made": self.spec,
            "counts": {"notes": sum(t.num_rows for t in tables), "samples": offset, "instruments": len(instruments)},
            "skipped": skipped,
            "noted": noted,
            "sha256": {"audio.i16": self._audio.digest(), "notes.parquet": sha256(whole / "notes.parquet")},
        }
        write_json(whole / "bank.json", info)
        if self.path.exists():
            os.replace(self.path, self.work / "old")
        os.replace(whole, self.path)
        with suppress(OSError):
            _discard(self.work)
        return NoteBank.open(self.path)


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def _progress(total: int, title: str):
    from tqdm import tqdm

    with tqdm(total=total, desc=title, mininterval=5, disable=not total) as bar:
        yield bar
