"""Building a NoteBank: jobs run in parallel, each leaves a shard, the shards are joined into the bank.

An interrupted build resumes from its shards. A job that fails, crashes its process or hangs loses only its own sounds.
Jobs run in worker processes of this machine, or of a Dask cluster: `with joblib.parallel_config(backend="dask"): ...`
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..common.files import check_space, sha256, sync, write_atomic, write_json, writing
from ..common.paths import short
from .bank import FORMAT, NoteBank
from .jobs import Remark, crash_reason, run_job, worker_died
from .shards import Shards, read_state


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of what is made at `path`; wait while another process holds it."""
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
    """Check the place of a bank and hold its lock. Raises ValueError for a place in use, OSError for a disk that cannot be written."""
    _check_place(path)
    with writing(path), locked(path):
        work = _work_folder(path)
        if (work / "spec.json").exists() and (work / "old").exists() and not path.exists():  # killed while the new bank replaced it
            os.replace(work / "old", path)
        yield


def _check_place(path: Path) -> None:
    if path.exists() and not (path / "bank.json").exists():
        raise ValueError(f"{short(path)} exists and is no note bank: choose another path, a bank would replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{short(path)} cannot be written ({error.strerror}): choose another place for the bank") from None


def existing(path: Path, spec: dict) -> NoteBank | None:
    """Return the bank at `path` if it was made with exactly this spec."""
    if not (path / "bank.json").exists():
        return None
    bank = NoteBank.open(path)
    if bank.infos[0].get("made") != spec:
        return None
    work = _work_folder(path)
    if read_state(work / "spec.json") == spec or (work.exists() and not any(work.iterdir())):
        with suppress(OSError):  # left by a build that was killed after its last step
            _discard(work)
    return bank


def made_elsewhere(path: Path, source: str, options: dict) -> NoteBank | None:
    """Return the bank at `path` if it was made with these options, even if its original sounds are not on this machine."""
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
    """Return the last part of one path or of several: what a spec stores of where its sounds were."""
    return [Path(p).name for p in ([path] if isinstance(path, str) else path)]


def build_once(
    path: Path, spec: dict, jobs: dict[str, dict], make: Callable, *, meta: dict,
    n_jobs: int = -1, title: str = "instruments", limit_s: float | None = None, remarks: Sequence[Remark] = (),
) -> NoteBank:  # fmt: skip
    """Return the bank of these jobs, built unless it exists. Keys of jobs are file names and give the order.

    Args as in BankBuilder. Raises ValueError, and leaves nothing, if no job gives a sound.
    """
    if bank := existing(path, spec):
        return bank
    with building(path):
        if bank := existing(path, spec):
            return bank
        builder = BankBuilder(path, spec, streaming=True)
        failed = builder.run(jobs, make, n_jobs=n_jobs, title=title, limit_s=limit_s)
        failed = {jobs[key].get("uid", key): why for key, why in failed.items()}
        return builder.finish(list(jobs), meta, failed, remarks=remarks)


def _work_folder(path: Path) -> Path:
    return path.with_name(path.name + ".building")


def _discard(work: Path) -> None:
    """Delete a working folder, spec.json last: after a kill meanwhile it is still recognised as one."""
    for entry in work.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != "spec.json":
            entry.unlink(missing_ok=True)
    (work / "spec.json").unlink(missing_ok=True)
    work.rmdir()


class BankBuilder:
    """Collects sounds in `<path>.building`, one shard per job, and joins them into a bank when all jobs are done.

    Args:
        spec: how the bank is made. A build with the same spec resumes from existing shards, another one starts anew.
        streaming: join samples while jobs run and delete them from the shards, so that a large bank is on the disk once.
    """

    def __init__(self, path: Path, spec: dict, sample_rate: int = 16000, *, streaming: bool = False):
        self.path, self.spec, self.sample_rate = Path(path), spec, sample_rate
        self.work = _work_folder(self.path)
        self.shards, self._new = Shards(self.work, streaming=streaming), self.work / "bank"
        _check_place(self.path)
        known = (self.work / "spec.json").exists() or not self.work.exists()
        if not known and any(not entry.name.startswith(".spec.json.") for entry in self.work.iterdir()):  # killed while it was written
            raise ValueError(
                f"{short(self.work)} exists and is no unfinished build: delete it if it is the rest of one, or choose another path"
            )
        if self.work.exists() and read_state(self.work / "spec.json") != spec:
            _discard(self.work)
        if (self.path / "bank.json").exists():
            print(f"{short(self.path)} has other settings or sounds: it is replaced when the new bank is complete", file=sys.stderr)
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(self.work / "spec.json", spec)

    def load(self, key: str) -> tuple[list[dict], np.ndarray]:
        """Return rows and int16 samples of a finished job."""
        return self.shards.load(key)

    def run(
        self, jobs: dict[str, dict], make: Callable, *, n_jobs: int = -1, title: str = "sounds", limit_s: float | None = None
    ) -> dict[str, str]:
        """Run `make(**jobs[key])`, which yields Sounds and Remarks, for keys without a shard; return {key: reason} of failed jobs.

        Args:
            n_jobs: worker processes, -1: one per core; 1 runs in this process, where crashes and hangs are not caught.
            limit_s: longest time of one job; a job that takes longer or crashes its process is a failed job.
        """
        import joblib
        from tqdm import tqdm

        for marker in self.work.glob("*.started"):
            marker.unlink()  # of an interrupted build
        waiting = self.shards.unfinished(jobs)
        if limit_s and n_jobs == -1:
            n_jobs = max(2, joblib.cpu_count())  # one would run here
        with tqdm(total=len(waiting), desc=title, mininterval=5, disable=not waiting) as bar, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A worker stopped", UserWarning)  # handled below
            while waiting:
                try:
                    for _ in self._pool({key: jobs[key] for key in waiting}, make, n_jobs=n_jobs, limit_s=limit_s):
                        bar.update()
                        if self.shards.streaming:
                            self.shards.join(list(jobs), self._new / "audio.i16")
                except Exception as error:
                    if not worker_died(error):
                        raise
                    started = {key: jobs[key] for key in self.shards.unfinished(waiting) if self.shards.marker(key).exists()}
                    bar.update(self._isolate(started, make, limit_s))
                waiting = self.shards.unfinished(waiting)
        return self.shards.failed(jobs)

    def _pool(self, jobs: dict[str, dict], make: Callable, *, n_jobs: int, limit_s: float | None) -> Iterator[None]:
        """Run jobs in worker processes; yield after each."""
        from joblib import Parallel, delayed

        limit_s = limit_s if n_jobs != 1 else None
        tasks = (delayed(run_job)(make, job, self.shards.path(key), limit_s) for key, job in jobs.items())
        yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)(tasks)

    def _isolate(self, suspects: dict[str, dict], make: Callable, limit_s: float | None) -> int:
        """Run the jobs during which a process died, one by one: a job that ends its process again failed. Return how many."""
        if not suspects:
            raise RuntimeError("worker processes die before they start a job: is there enough memory?")
        for key, job in suspects.items():
            try:
                list(self._pool({key: job}, make, n_jobs=2, limit_s=limit_s))
            except Exception as error:
                if not worker_died(error):
                    raise
                self.shards.fail(key, crash_reason(self.shards.marker(key), limit_s))
        return len(suspects)

    def finish(self, keys: Sequence[str], meta: dict, skipped: dict[str, str], *, remarks: Sequence[Remark] = ()) -> NoteBank:
        """Join the shards in the order of `keys` into the bank and delete the working folder; failed jobs add nothing.

        Args:
            meta: source, license and citation. skipped: names with reasons, stored in bank.json together with the remarks.
        """
        remaining = sum(self.shards.samples(key).stat().st_size for key in keys if self.shards.samples(key).exists())
        check_space(self.path.parent, remaining, f"the bank {self.path.name}")
        self.shards.join(keys, self._new / "audio.i16")
        digest = self.shards.close()
        table, skipped_in_jobs, noted = self.shards.collect(keys)
        noted = {r.name: r.text for r in remarks if r.stored} | noted
        skipped = skipped | {r.name: r.text for r in remarks if not r.stored} | skipped_in_jobs
        counts = self._check(table, skipped)
        sync(self._new / "audio.i16")
        write_atomic(self._new / "notes.parquet", lambda part: pq.write_table(table, part))
        sums = {"audio.i16": digest, "notes.parquet": sha256(self._new / "notes.parquet")}
        info = {"format": FORMAT, "sample_rate": self.sample_rate, **meta, "made": self.spec, "counts": counts, "sha256": sums}
        write_json(self._new / "bank.json", info | {"skipped": skipped, "noted": noted})
        if self.path.exists():
            os.replace(self.path, self.work / "old")
        os.replace(self._new, self.path)
        with suppress(OSError):
            _discard(self.work)
        return NoteBank.open(self.path)

    def _check(self, table: pa.Table, skipped: dict[str, str]) -> dict[str, int]:
        """Return the counts of a bank. Raises ValueError if it has no sound, lacks samples, or has an instrument in two splits.

        A twin counts as its original.
        """
        if not table.num_rows:
            _discard(self.work)
            examples = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
            raise ValueError(f"no usable sound for {self.path.name}: {len(skipped)} skipped{f' ({examples})' if examples else ''}")
        samples = pc.sum(table["length"]).as_py()
        if (self._new / "audio.i16").stat().st_size != 2 * samples:
            raise ValueError(f"{short(self.work)} is damaged (samples are missing): delete it and build again")
        originals = table.append_column("original", pc.coalesce(table["augments"], table["instrument"]))
        splits = originals.group_by(["original"], use_threads=False).aggregate([("split", "count_distinct")])
        several = splits.filter(pc.greater(splits["split_count_distinct"], 1))["original"].to_pylist()
        if several:
            raise ValueError(f"{several[0]} of {self.path.name} is in two splits: test instruments would be trained on, or their twins")
        return {"notes": table.num_rows, "samples": samples, "instruments": pc.count_distinct(table["instrument"]).as_py()}
