"""Building banks with worker processes: what crashes or hangs costs only itself, a second builder waits, every backend gives one bank."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, sound, tone

from cirlib.data import jobs as job_module
from cirlib.data.bank import NoteBank
from cirlib.data.builder import BankBuilder, build_once, existing
from cirlib.data.jobs import Remark, Sound, encode, note_row

META = {"source": "tones", "license": "CC0-1.0", "citation": "none"}
SPEC = {"seed": 0}
KEYS = [f"{i:02d}" for i in range(8)]


def make(key, how="well", log=None, gate=None):
    """Two sounds of one instrument, or one of the ways in which native code goes wrong."""
    if log:
        with open(log, "a") as file:
            file.write(key)
    yield Sound(note_row(f"tones/bank/{key}", "Bass", "tones", "train", pitch=60.0), tone(60 + int(key), 0.05))
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "leave":
        os._exit(3)
    while how == "wait" and not os.path.exists(gate):
        time.sleep(0.05)
    if how == "slow":
        time.sleep(0.5)
    if how == "hang":
        time.sleep(600)
    if how == "deaf":  # native code that holds the interpreter
        import ctypes

        ctypes.PyDLL(None).sleep(600)
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == "raise":
        raise RuntimeError("a broken preset")
    yield Sound(note_row(f"tones/bank/{key}", "Bass", "tones", "train", pitch=61.0), tone(61 + int(key), 0.05))
    yield Remark(f"{key} third note", "silent")


def jobs(log=None, gate=None, **ways):
    return {key: {"key": key, "how": ways.get(f"k{key}", "well"), "log": log, "gate": gate} for key in KEYS}


def contents(path):
    """Bytes of the files of a bank, without what tells how it went."""
    return {name: (path / name).read_bytes() for name in ("audio.i16", "notes.parquet")}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The bank of the jobs, none of which goes wrong."""
    return build_once(tmp_path_factory.mktemp("clean") / "bank", SPEC, jobs(), make, meta=META, n_jobs=1)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crash", "ended its process (Segmentation fault)"),
        ("leave", "ended its process (killed, or it left by itself)"),
        ("hang", "took longer than 1 s"),
        ("deaf", "took longer than 1 s"),
        ("raise", "RuntimeError: a broken preset"),
    ],
)
def test_a_job_that_goes_wrong_costs_only_itself(tmp_path, way, reason):
    bank = build_once(tmp_path / "bank", SPEC, jobs(k03=way), make, meta=META, n_jobs=2, limit_s=1)
    assert list(bank.instruments.index) == [f"tones/bank/{k}" for k in KEYS if k != "03"]
    assert bank.instruments.notes.eq(2).all()
    skipped = dict(bank.infos[0]["skipped"])
    assert skipped.pop("03") == reason
    assert skipped == {f"{k} third note": "silent" for k in KEYS if k != "03"}
    bank.verify()


def test_every_job_goes_wrong(tmp_path):
    """One sentence, and nothing is left behind."""
    ways = {f"k{key}": "raise" for key in KEYS}
    with pytest.raises(ValueError, match=r"no usable sound for bank: 8 left out \(00: RuntimeError: a broken preset"):
        build_once(tmp_path / "bank", SPEC, jobs(**ways), make, meta=META, n_jobs=1)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_worker_processes_give_the_same_bank(tmp_path, clean):
    bank = build_once(tmp_path / "bank", SPEC, jobs(), make, meta=META, n_jobs=2)
    assert contents(bank.paths[0]) == contents(clean.paths[0])


def test_dask_gives_the_same_bank(tmp_path, clean):
    """Two worker processes of a Dask cluster on this machine."""
    pytest.importorskip("distributed")
    script = f"""
import sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
if __name__ == "__main__":
    import joblib
    from dask.distributed import Client, LocalCluster
    from test_builder import META, SPEC, build_once, jobs, make
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            bank = build_once(__import__("pathlib").Path({str(tmp_path / "bank")!r}), SPEC, jobs(k03="raise"), make, meta=META)
    print(bank.infos[0]["skipped"]["03"])
"""
    (tmp_path / "with_dask.py").write_text(script)
    env = {**os.environ, "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tcp"}
    done = subprocess.run([sys.executable, tmp_path / "with_dask.py"], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "RuntimeError: a broken preset" in done.stdout
    bank = NoteBank.open(tmp_path / "bank")
    assert list(bank.instruments.index) == [f"tones/bank/{k}" for k in KEYS if k != "03"]
    kept = [i for i, uid in enumerate(clean.notes.instrument) if not uid.endswith("03")]
    for i, j in enumerate(kept):
        np.testing.assert_array_equal(bank.audio(i), clean.audio(j))


def test_a_worker_that_outlives_its_build_changes_nothing(tmp_path, clean):
    """The driver is killed, its workers are not: what they still write is never taken for the work of the next build."""
    path, gate = tmp_path / "bank", tmp_path / "gate"
    script = f"""
import sys, pathlib
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_builder import META, SPEC, build_once, jobs, make
if __name__ == "__main__":
    build_once(pathlib.Path({str(path)!r}), SPEC, jobs(gate={str(gate)!r}, k02="wait"), make, meta=META, n_jobs=2)
"""
    (tmp_path / "driver.py").write_text(script)
    process = subprocess.Popen([sys.executable, tmp_path / "driver.py"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work, deadline = tmp_path / "bank.building", time.monotonic() + 60
    while not list(work.glob("02.*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    builder = BankBuilder(path, SPEC, streaming=True)
    builder.run(jobs(), make, n_jobs=1)  # the same job, while the worker of the killed build is in the middle of it
    gate.touch()
    while list(work.glob("02.*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (work / "02.i16").exists()  # joined once; what the worker made was thrown away
    bank = builder.finish(KEYS, META, {})
    assert contents(path) == contents(clean.paths[0])
    bank.verify()


def test_a_killed_build_goes_on(tmp_path, clean):
    """SIGKILL in the middle; the second build makes only what is missing, and the bank is that of a clean build."""
    log, path = tmp_path / "log", tmp_path / "bank"
    script = f"""
import sys, pathlib
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_builder import META, SPEC, build_once, jobs, make
build_once(pathlib.Path({str(path)!r}), SPEC, jobs(k05="hang"), make, meta=META, n_jobs=1)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = tmp_path / "bank.building" / "05.started"
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert started.exists() and not path.exists()
    bank = build_once(path, SPEC, jobs(log=str(log)), make, meta=META, n_jobs=1)
    assert log.read_text() == "050607"
    assert contents(path) == contents(clean.paths[0])
    assert bank.infos == clean.infos
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".building")] == []


def test_the_same_build_again_changes_nothing(tmp_path):
    path, log = tmp_path / "bank", tmp_path / "log"
    build_once(path, SPEC, jobs(log=str(log)), make, meta=META, n_jobs=1)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.iterdir()}
    log.unlink()
    build_once(path, SPEC, jobs(log=str(log)), make, meta=META, n_jobs=1)
    assert not log.exists()
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.iterdir()} == before
    assert existing(path, {"seed": 1}) is None


def test_a_bank_of_other_settings_is_told_before_it_is_replaced(tmp_path, capsys):
    path = tmp_path / "bank"
    for seed, told in ((1, 0), (1, 0), (2, 1)):
        build_once(path, {"seed": seed}, {"a": jobs()["00"]}, make, meta=META, n_jobs=1)
        said = f"{path} was made with other settings or sounds: it is replaced when the new bank is complete\n"
        assert capsys.readouterr().err.count(said) == told


def test_a_bank_takes_the_place_of_another_one_at_once(tmp_path, monkeypatch):
    """A kill while they change places loses neither: the next build ends it."""
    path = tmp_path / "bank"
    build_once(path, {"seed": 1}, {"a": jobs()["00"]}, make, meta=META, n_jobs=1)
    replace = os.replace

    def killed(source, target):
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
    assert len(NoteBank.open(tmp_path / "bank.building" / "old")) == 2
    bank = build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
    assert len(bank) == 16
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["bank"]


@pytest.mark.parametrize("spec", [SPEC, {"seed": 1}], ids=["the same", "another"])
def test_a_kill_while_the_working_folder_goes_leaves_one_that_is_known(tmp_path, monkeypatch, spec):
    """Whatever goes first; the same build opens its bank, another one starts."""
    path, unlink, rmtree = tmp_path / "bank", os.unlink, shutil.rmtree

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    for last in ("rmdir", "unlink"):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda place, **_: (unlink(Path(place) / "spec.json"), killed()))
            patch.setattr(os, last, killed)
            with pytest.raises(KeyboardInterrupt):
                build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
        assert (tmp_path / "bank.building").exists()
        assert len(build_once(path, spec, jobs(), make, meta=META, n_jobs=1)) == 16
        assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["bank"]
        rmtree(path)


def test_a_kill_while_a_build_tells_what_it_is_starts_anew(tmp_path):
    work = tmp_path / "bank.building"
    work.mkdir()
    (work / ".spec.json.here.1.part").write_text("{")
    assert len(build_once(tmp_path / "bank", SPEC, jobs(), make, meta=META, n_jobs=1)) == 16 and not work.exists()


def test_the_older_bank_comes_back_if_another_build_follows_a_kill_while_they_changed_places(tmp_path):
    path, work = tmp_path / "bank", tmp_path / "bank.building"
    bank = build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
    work.mkdir()
    (work / "spec.json").write_text('{"seed": 1}')
    os.replace(path, work / "old")
    assert build_once(path, SPEC, jobs(), None, meta=META, n_jobs=1).infos == bank.infos, "it is not made again"


def test_a_full_disk_is_no_fault_of_a_sound(tmp_path, clean):
    """The build stops in one sentence, instead of leaving out one sound after the other, and goes on when there is room."""
    path = tmp_path / "bank"
    with pytest.raises(OSError, match=r"03.json cannot be written \(No space left on device\): make room or choose another place"):
        build_once(path, SPEC, jobs(k03="full"), make, meta=META, n_jobs=1)
    assert not path.exists() and not list((tmp_path / "bank.building").glob("*.part"))
    assert contents(build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1).paths[0]) == contents(clean.paths[0])


def test_a_folder_of_the_user_is_never_taken_for_an_unfinished_build(tmp_path):
    (tmp_path / "bank.building").mkdir()
    (tmp_path / "bank.building" / "kick.wav").write_bytes(b"precious")
    with pytest.raises(ValueError, match="is no unfinished build: delete it if it is the rest of one, or choose another path"):
        build_once(tmp_path / "bank", SPEC, jobs(), make, meta=META, n_jobs=1)
    assert (tmp_path / "bank.building" / "kick.wav").exists()


def test_opening_a_bank_leaves_the_unfinished_build_of_another_one(tmp_path):
    path = tmp_path / "bank"
    build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
    other = BankBuilder(path, {"seed": 1}, streaming=True)
    other.run({"00": jobs()["00"]}, make, n_jobs=1)
    assert existing(path, SPEC) is not None
    assert other.shard("00").exists()


def test_jobs_in_threads_never_end_the_process(tmp_path):
    """The guard would end the user's own process: it is for worker processes."""
    script = f"""
import sys, pathlib, joblib
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_builder import META, SPEC, build_once, jobs, make
with joblib.parallel_config(backend="threading"):
    bank = build_once(pathlib.Path({str(tmp_path / "bank")!r}), SPEC, {{"03": jobs(k03="slow")["03"]}}, make, meta=META, n_jobs=2, limit_s=0.2)
print(len(bank), "notes")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 notes" in done.stdout


def test_a_second_builder_waits(tmp_path, capsys, monkeypatch):
    """While one process holds the lock, another one waits for it and then finds the bank there."""
    from filelock import FileLock

    path = tmp_path / "bank"
    other = FileLock(tmp_path / ".bank.lock")
    other.acquire()
    taken = FileLock.acquire

    def acquire(lock, timeout=None, **kwargs):
        if timeout is None:  # it waits: the other process finishes
            other.release()
        return taken(lock, timeout=timeout, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
    assert "another process is building bank: waiting for it" in capsys.readouterr().err


def test_a_full_disk_stops_the_build(tmp_path, monkeypatch):
    """It is no fault of a job: the sentence tells what is missing, the shards stay."""
    builder = BankBuilder(tmp_path / "bank", SPEC)
    assert builder.run(jobs(), make, n_jobs=1) == {}
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(OSError, match=r"the bank bank needs .* GB, 0.00 GB are free in .*: make room or set CIRLIB_HOME"):
        builder.finish(KEYS, META, {})
    monkeypatch.undo()
    assert len(builder.finish(KEYS, META, {})) == 16


@pytest.mark.parametrize("keep", [0, 3, 10**9], ids=["nothing joined", "a part joined", "more joined than told"])
def test_an_interruption_while_joining(tmp_path, clean, keep):
    """What was joined when the process ended is neither lost nor there twice."""
    path = tmp_path / "bank"
    builder = BankBuilder(path, SPEC, streaming=True)
    builder.run({k: v for k, v in jobs().items() if k < "05"}, make, n_jobs=1)
    audio = builder.whole / "audio.i16"
    if keep == 0:  # ended before the samples of a job were removed: they are joined again
        with open(audio, "ab") as file:
            file.write(b"half of the next job")
    elif keep == 3:
        builder.shard("04").unlink()
    else:
        with open(audio, "ab") as file:
            file.write(bytes(10_000))
    bank = build_once(path, SPEC, jobs(), make, meta=META, n_jobs=1)
    assert contents(path) == contents(clean.paths[0])
    assert bank.infos == clean.infos


def test_joined_samples_that_are_lost(tmp_path):
    builder = BankBuilder(tmp_path / "bank", SPEC, streaming=True)
    builder.run({"00": jobs()["00"]}, make, n_jobs=1)
    (builder.whole / "audio.i16").write_bytes(b"")
    with pytest.raises(ValueError, match="joined samples are missing"):
        build_once(tmp_path / "bank", SPEC, jobs(), make, meta=META, n_jobs=1)


def test_a_shard_that_cannot_be_written_stops_the_build(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job_module, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        BankBuilder(tmp_path / "bank", SPEC).run(jobs(), make, n_jobs=1)


def test_sixteen_bit_sounds_are_kept_bit_by_bit():
    samples = np.array([0, 1, -32768, 32767, -5], np.int16)
    row, audio = encode(sound("a", samples))
    np.testing.assert_array_equal(audio, samples)
    assert row["gain"] == 32768
    assert row["length"] == 5


def test_unknown_family_is_refused_and_no_family_is_not():
    with pytest.raises(ValueError, match="unknown family 'Bas' \\(did you mean 'Bass'\\?\\)"):
        encode(sound("a", tone(60), family="Bas"))
    assert encode(sound("a", tone(60), family=None))[0]["family"] is None
    assert encode(sound("a", tone(60), family="Drum Kit"))[0]["family"] == "Drum Kit"


def test_remarks_are_told_in_the_bank(tmp_path):
    remarks = [Remark("x", "excluded"), Remark("y", "noise only", stored=True)]
    bank = build_once(tmp_path / "bank", SPEC, jobs(), make, meta=META, n_jobs=1, remarks=remarks)
    info = json.loads((tmp_path / "bank" / "bank.json").read_text())
    assert info == bank.infos[0]
    assert info["skipped"]["x"] == "excluded"
    assert info["noted"] == {"y": "noise only"}
    assert (info["sample_rate"], info["counts"]["instruments"]) == (RATE, 8)
