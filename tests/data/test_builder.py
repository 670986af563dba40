"""Building banks: jobs that crash or hang lose only their own sounds, interrupted builds resume, the result is always the same bank."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bad_jobs import KEYS, META, SPEC, jobs, make
from conftest import RATE, build_bank, sound, tone
from conftest import make as give
from tones import contents

from cirlib.data.bank import NoteBank
from cirlib.data.builder import BankBuilder, build_once, existing
from cirlib.data.jobs import Remark, encode

SCRIPT = f"""
import sys, pathlib
sys.path.insert(0, {os.path.dirname(__file__)!r})
from bad_jobs import META, SPEC, jobs, make
from cirlib.data.builder import build_once
if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1])
"""


def build(path, *, spec=SPEC, n_jobs=1, limit_s=None, remarks=(), **options):
    return build_once(path, spec, jobs(**options), make, meta=META, n_jobs=n_jobs, limit_s=limit_s, remarks=remarks)


def visible(folder):
    return [p.name for p in folder.iterdir() if not p.name.startswith(".")]


def command(folder, code, *arguments):
    """The command line of a process that runs SCRIPT and more code."""
    (folder / "script.py").write_text(SCRIPT + "".join(f"    {line}\n" for line in code.splitlines()))
    return [sys.executable, str(folder / "script.py"), *map(str, arguments)]


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The bank of the jobs, none of which goes wrong."""
    return build(tmp_path_factory.mktemp("clean") / "bank")


# Jobs that go wrong


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crash", "ended its process (Segmentation fault)"),
        ("leave", "ended its process (killed, or it exited)"),
        ("hang", "took longer than 1 s"),
        ("hold", "took longer than 1 s"),
        ("raise", "RuntimeError: a broken preset"),
    ],
)
def test_bad_job_loses_only_its_own_sounds(tmp_path, way, reason):
    bank = build(tmp_path / "bank", k03=way, n_jobs=2, limit_s=1)
    assert list(bank.instruments.index) == [f"tones/bank/{k}" for k in KEYS if k != "03"]
    assert bank.instruments.notes.eq(2).all()
    skipped = dict(bank.infos[0]["skipped"])
    assert skipped.pop("03") == reason
    assert skipped == {f"{k} third note": "silent" for k in KEYS if k != "03"}
    bank.verify()


def test_failed_job_is_not_tried_again(tmp_path):
    builder, log = BankBuilder(tmp_path / "bank", SPEC), tmp_path / "log"
    failed = builder.run(jobs(k01="raise"), make, n_jobs=1)
    assert failed == {"01": "RuntimeError: a broken preset"}
    assert builder.run(jobs(log=log), make, n_jobs=1) == failed and not log.exists()
    assert len(builder.finish(KEYS, META, failed).instruments) == 7


def test_no_usable_sound_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"no usable sound for bank: 8 skipped \(00: RuntimeError: a broken preset"):
        build(tmp_path / "bank", **{f"k{key}": "raise" for key in KEYS})
    assert visible(tmp_path) == []


def test_unusable_sound_fails_its_job(tmp_path):
    builder = BankBuilder(tmp_path / "bank", {})
    failed = builder.run({"a": {"sounds": [sound("a", np.full(10, np.nan))]}, "b": {"sounds": []}}, give, n_jobs=1)
    assert failed.keys() == {"a"} and "not finite" in failed["a"]  # a job without a sound is no failure


def test_jobs_in_threads_never_end_the_process(tmp_path):
    """The time limit would end the user's own process: it is for worker processes."""
    code = """import joblib
with joblib.parallel_config(backend="threading"):
    bank = build_once(path, SPEC, {"03": jobs(k03="slow")["03"]}, make, meta=META, n_jobs=2, limit_s=0.2)
print(len(bank), "notes")"""
    done = subprocess.run(command(tmp_path, code, tmp_path / "bank"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 notes" in done.stdout


# Interruptions; reliability/torture.py kills at any moment


@pytest.mark.parametrize("streaming", [False, True])
def test_interrupted_build_resumes(tmp_path, clean, streaming):
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        BankBuilder(tmp_path / "bank", SPEC, streaming=streaming).run(jobs(k02="interrupt"), make, n_jobs=1)
    builder = BankBuilder(tmp_path / "bank", SPEC, streaming=streaming)
    assert builder.run(jobs(log=log), make, n_jobs=1) == {}
    assert log.read_text() == "020304050607"
    builder.finish(KEYS, META, {})
    assert contents(tmp_path / "bank") == contents(clean.paths[0])


def test_surviving_worker_changes_nothing(tmp_path, clean):
    """The build is killed, its workers are not: what they still write is not used by the next build."""
    path, gate, work = tmp_path / "bank", tmp_path / "gate", tmp_path / "bank.building"
    code = 'build_once(path, SPEC, jobs(gate=sys.argv[2], k02="wait"), make, meta=META, n_jobs=2)'
    process = subprocess.Popen(command(tmp_path, code, path, gate), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(work.glob("02.*.part")))
    process.kill()
    process.wait()
    builder = BankBuilder(path, SPEC, streaming=True)
    builder.run(jobs(), make, n_jobs=1)  # the same job, while the worker of the killed build is in the middle of it
    gate.touch()
    wait_until(lambda: not list(work.glob("02.*.part")))
    assert not (work / "02.i16").exists()  # joined once; what the worker made was thrown away
    builder.finish(KEYS, META, {}).verify()
    assert contents(path) == contents(clean.paths[0])


@pytest.mark.parametrize("case", ["half a shard joined", "joined shard lost", "too much joined"])
def test_interrupted_joining_resumes(tmp_path, clean, case):
    """What was joined when the process ended is neither lost nor there twice."""
    path = tmp_path / "bank"
    builder = BankBuilder(path, SPEC, streaming=True)
    builder.run({k: v for k, v in jobs().items() if k < "05"}, make, n_jobs=1)
    if case == "joined shard lost":
        builder.shards.path("04").unlink()
    else:
        with open(builder.work / "bank" / "audio.i16", "ab") as file:
            file.write(b"half of the next job" if case.startswith("half") else bytes(10_000))
    bank = build(path)
    assert contents(path) == contents(clean.paths[0])
    assert bank.infos == clean.infos


def test_lost_joined_samples_are_an_error(tmp_path):
    builder = BankBuilder(tmp_path / "bank", SPEC, streaming=True)
    builder.run({"00": jobs()["00"]}, make, n_jobs=1)
    (builder.work / "bank" / "audio.i16").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is damaged \(joined samples are missing\): delete it and build again"):
        build(tmp_path / "bank")


def test_kill_while_banks_change_places_loses_neither(tmp_path, monkeypatch):
    path, replace = tmp_path / "bank", os.replace
    build(path, spec={"seed": 1})

    def killed(source, target):
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            build(path)
    assert len(NoteBank.open(tmp_path / "bank.building" / "old")) == 16
    assert build(path).infos[0]["made"] == SPEC
    assert visible(tmp_path) == ["bank"]


def test_old_bank_comes_back_after_such_a_kill(tmp_path):
    path, work = tmp_path / "bank", tmp_path / "bank.building"
    bank = build(path)
    work.mkdir()
    (work / "spec.json").write_text('{"seed": 1}')
    os.replace(path, work / "old")
    assert build_once(path, SPEC, jobs(), None, meta=META, n_jobs=1).infos == bank.infos, "it is not made again"


@pytest.mark.parametrize("spec", [SPEC, {"seed": 1}], ids=["the same", "another"])
def test_kill_during_cleanup_leaves_a_known_folder(tmp_path, monkeypatch, spec):
    """Whatever is deleted first; the same build opens its bank, another one starts."""
    path, unlink, rmtree = tmp_path / "bank", os.unlink, shutil.rmtree

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    for last in ("rmdir", "unlink"):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda place, **_: (unlink(Path(place) / "spec.json"), killed()))
            patch.setattr(os, last, killed)
            with pytest.raises(KeyboardInterrupt):
                build(path)
        assert (tmp_path / "bank.building").exists()
        assert len(build(path, spec=spec)) == 16
        assert visible(tmp_path) == ["bank"]
        rmtree(path)


def test_kill_while_the_spec_is_written_starts_anew(tmp_path):
    work = tmp_path / "bank.building"
    work.mkdir()
    (work / ".spec.json.here.1.part").write_text("{")
    assert len(build(tmp_path / "bank")) == 16 and not work.exists()


# The same bank, or another one


def test_dask_gives_the_same_bank(tmp_path, clean):
    """Two worker processes of a Dask cluster on this machine."""
    pytest.importorskip("distributed")
    code = """import joblib
from dask.distributed import Client, LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
    with joblib.parallel_config(backend="dask"):
        print(build_once(path, SPEC, jobs(k03="raise"), make, meta=META).infos[0]["skipped"]["03"])"""
    env = {**os.environ, "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tcp"}
    done = subprocess.run(command(tmp_path, code, tmp_path / "bank"), capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "RuntimeError: a broken preset" in done.stdout
    bank = NoteBank.open(tmp_path / "bank")
    rows = [i for i, uid in enumerate(clean.notes.instrument) if not uid.endswith("03")]
    assert list(bank.notes.instrument) == list(clean.notes.instrument[rows])
    for i, j in enumerate(rows):
        np.testing.assert_array_equal(bank.audio(i), clean.audio(j))


def test_same_build_again_changes_nothing(tmp_path):
    path, log = tmp_path / "bank", tmp_path / "log"
    build(path)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.iterdir()}
    build(path, log=log)
    assert not log.exists()
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.iterdir()} == before
    assert existing(path, {"seed": 1}) is None


def test_replacing_a_bank_is_announced(tmp_path, capsys):
    path = tmp_path / "bank"
    for seed, count in ((1, 0), (1, 0), (2, 1)):
        build(path, spec={"seed": seed})
        words = f"{path} has other settings or sounds: it is replaced when the new bank is complete\n"
        assert capsys.readouterr().err.count(words) == count


@pytest.mark.parametrize("spec", ['{"seed": 1}', "{"], ids=["another", "damaged"])
def test_another_spec_starts_anew(tmp_path, spec):
    builder, log = BankBuilder(tmp_path / "bank", SPEC), tmp_path / "log"
    builder.run(jobs(), make, n_jobs=1)
    (builder.work / "spec.json").write_text(spec)
    BankBuilder(tmp_path / "bank", SPEC).run(jobs(log=log), make, n_jobs=1)
    assert log.read_text() == "".join(KEYS)


def test_opening_a_bank_leaves_another_build_alone(tmp_path):
    path = tmp_path / "bank"
    build(path)
    other = BankBuilder(path, {"seed": 1}, streaming=True)
    other.run({"00": jobs()["00"]}, make, n_jobs=1)
    assert existing(path, SPEC) is not None
    assert other.shards.path("00").exists()


def test_second_builder_waits(tmp_path, capsys, monkeypatch):
    """While one process holds the lock, another one waits for it."""
    from filelock import FileLock

    other = FileLock(tmp_path / ".bank.lock")
    other.acquire()
    acquire = FileLock.acquire

    def acquired(lock, timeout=None, **kwargs):
        if timeout is None:  # it waits: the other process finishes
            other.release()
        return acquire(lock, timeout=timeout, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", acquired)
    build(tmp_path / "bank")
    assert "another process is building bank: waiting for it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bank", "bank.building"])
def test_folder_of_the_user_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "kick.wav").write_bytes(b"precious")
    with pytest.raises(
        ValueError, match=r"is no note bank: choose another path|is no unfinished build: delete it if .*, or choose another"
    ):
        BankBuilder(tmp_path / "bank", SPEC)
    assert (tmp_path / name / "kick.wav").exists()


def test_instrument_in_two_splits_is_refused(tmp_path):
    with pytest.raises(ValueError, match="x of bank is in two splits: test instruments would be trained on"):
        build_bank(tmp_path / "bank", [sound("x", np.ones(9), split=split) for split in ("train", "test")])


def test_twin_of_an_instrument_of_another_split_is_refused(tmp_path):
    sounds = [sound("x", np.ones(9), split="test"), sound("x dry", np.ones(9), split="train", augments="x")]
    with pytest.raises(ValueError, match="x of bank is in two splits: test instruments would be trained on, or their twins"):
        build_bank(tmp_path / "bank", sounds)
    counts = build_bank(tmp_path / "other", [sound("x", np.ones(9)), sound("x dry", np.ones(9), augments="x")]).infos[0]["counts"]
    assert counts["instruments"] == 2


# Full disks


def test_full_disk_stops_the_build(tmp_path, clean):
    """It is not the fault of a sound; the build resumes when there is room."""
    path = tmp_path / "bank"
    with pytest.raises(OSError, match=r"03.json cannot be written \(No space left on device\): make room or choose another place"):
        build(path, k03="full")
    assert not path.exists() and not list((tmp_path / "bank.building").glob("*.part"))
    assert contents(build(path).paths[0]) == contents(clean.paths[0])


def test_full_disk_when_joining_stops_the_build(tmp_path, monkeypatch):
    builder = BankBuilder(tmp_path / "bank", SPEC)
    assert builder.run(jobs(), make, n_jobs=1) == {}
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(OSError, match=r"the bank bank needs .* GB, 0.00 GB are free in .*: make room or set CIRLIB_HOME"):
        builder.finish(KEYS, META, {})
    monkeypatch.undo()
    assert len(builder.finish(KEYS, META, {})) == 16


# Sounds and remarks


def test_sixteen_bit_sounds_are_stored_unchanged():
    samples = np.array([0, 1, -32768, 32767, -5], np.int16)
    row, audio = encode(sound("a", samples))
    np.testing.assert_array_equal(audio, samples)
    assert row["gain"] == 32768 and row["length"] == 5


@pytest.mark.parametrize("audio", [[], [[0.0, 0.1], [0.0, 0.1]], [0, np.nan], [np.inf, 0]], ids=str)
def test_unusable_audio_is_refused(audio):
    with pytest.raises(ValueError, match="a sound of a is empty, not mono or not finite"):
        encode(sound("a", np.array(audio)))


def test_unknown_split_or_family_is_refused():
    with pytest.raises(ValueError, match="unknown split 'dev'; valid: train, valid, test"):
        encode(sound("a", tone(60), split="dev"))
    with pytest.raises(ValueError, match=r"unknown family 'Bas' \(did you mean 'Bass'\?\)"):
        encode(sound("a", tone(60), family="Bas"))
    for name in (None, "Drum Kit"):
        assert encode(sound("a", tone(60), family=name))[0]["family"] == name


def test_remarks_are_in_bank_json(tmp_path):
    remarks = [Remark("x", "excluded"), Remark("y", "noise only", stored=True)]
    bank = build(tmp_path / "bank", remarks=remarks)
    info = json.loads((tmp_path / "bank" / "bank.json").read_text())
    assert info == bank.infos[0]
    assert info["skipped"]["x"] == "excluded"
    assert info["noted"] == {"y": "noise only"}
    assert (info["sample_rate"], info["counts"]["instruments"]) == (RATE, 8)
