"""Every stage on a full, read-only or forbidden disk: a clear error, unchanged earlier files, and completion once there is room.

`python tests/reliability/refusals.py [STAGE ...]` prints JSON for test_full_disk.py: for each stage and way the failure, "" for none, "-"
where this machine cannot run the test: mounting a disk needs root on Linux. Only the forked process and its children see the disk.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torture  # first: it sets CIRLIB_HOME
import whole
import yaml
from killing import done, forked
from stages import STAGES

from cirlib.data.bank import NoteBank
from cirlib.search import __main__ as library_cli
from cirlib.training import __main__ as command
from cirlib.training import loop as training

SIZE, NOBODY = 96 << 20, 65534
READ_ONLY, REMOUNT, PRIVATE = 1, 1 << 5, 1 << 14 | 1 << 18  # of mount(2)
# "full, 0.5": room for half of what the stage writes; "limited": small files only
STRICT, SOME_ROOM = ("full, 0", "read-only", "forbidden"), ("full, 0.5",)
WAYS = (*STRICT, *SOME_ROOM, "limited")


def mount(folder: Path, flags: int = 0) -> bool:
    """Mount a disk of SIZE at a folder, or change its flags; return False if that is not allowed."""
    return not ctypes.CDLL(None).mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, f"size={SIZE}".encode())


def mounted(folder: Path) -> bool:
    """Mount a disk at a folder in a name space of this process; return False if that is not allowed."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return False
    libc = ctypes.CDLL(None)
    return not libc.unshare(0x20000) and not libc.mount(b"none", b"/", None, PRIVATE, None) and mount(folder)


@contextmanager
def refusing(way: str, disk: Path, needed: int):
    """Make a disk refuse to write in one of WAYS. `forbidden`: to the folders on it; root becomes another user."""
    folders, root = [disk, *(p for p in disk.rglob("*") if p.is_dir())], not os.geteuid()
    if way.startswith("full"):
        with open(disk / "filler", "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        size = (disk / "filler").stat().st_size
        os.truncate(disk / "filler", max(0, size - int(needed * float(way.split()[1]))))
    elif way == "read-only":
        assert mount(disk, REMOUNT | READ_ONLY)
    elif way == "limited":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    else:
        for folder in folders:
            folder.chmod(0o555)
        if root:
            os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        if way == "read-only":
            assert mount(disk, REMOUNT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for folder in folders:
            folder.chmod(0o755)
        (disk / "filler").unlink(missing_ok=True)


def refused(stage, way: str, *, disk: Path, goal: torture.Whole, needed: int) -> str:
    """Run a stage on a disk that refuses, then with room; return the failure, or ""."""
    if not mounted(disk) and way not in ("limited", "forbidden"):
        return "-"
    folder = disk / "work"
    folder.mkdir()
    prepare(stage, folder)
    before, error = whole.digests(folder), None
    with refusing(way, disk, needed):
        for attempt in commands(stage, folder):
            try:
                attempt()
            except (OSError, SystemExit) as raised:
                error = str(raised)
                if "\n" in error or "cannot be written (" not in error or " choose another place" not in error:
                    return f"unclear: {error}"
    after = whole.digests(folder)
    stage.check(folder, True)
    if (error is None or (way in STRICT and after != before)) and way not in SOME_ROOM:
        return f"error {error!r}, changed {sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))}"
    stage.run(folder, "")
    if torture.outcome(stage, folder) != goal.made or set(whole.names(folder)) != set(goal.names):
        return f"another result, or left over: {sorted(set(whole.names(folder)) ^ set(goal.names))}"
    return ""


def prepare(stage, folder: Path) -> None:
    """Prepare earlier results; of training, a run that was stopped after its second validation."""
    stage.prepare(folder, True)
    if stage.name == "training":
        save = training._Trainer._save

        def stopped(self):
            save(self)
            if self.step == 4:
                raise KeyboardInterrupt

        with patch.object(training._Trainer, "_save", stopped):
            try:
                stage.run(folder, "")
            except KeyboardInterrupt:
                return


def commands(stage, folder: Path):
    """Yield the stage as a function, then its command line, if it has one."""
    yield lambda: stage.run(folder, "moment")
    if stage.name == "training":
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(stage.config()).items()}
        file = stage.base / "params.yaml"
        if not file.exists():
            file.write_text(yaml.safe_dump(values))
        banks = patch.object(command, "ensure_banks", lambda preset: NoteBank.open(stage.base / "bank"))
        with banks, patch.object(sys, "argv", ["training", str(file)]):
            yield command.main
    if stage.name == "indexing":
        yield lambda: library_cli.main(["build", str(folder / "lib"), str(stage.base / "sounds"), "--encoder", str(stage.base / "best.pt")])


def main() -> None:
    """python tests/reliability/refusals.py [STAGE ...]"""
    found = {}
    for name in sys.argv[1:] or STAGES:
        with tempfile.TemporaryDirectory(prefix="cirlib-disks-") as place:
            base = Path(place).resolve()
            base.chmod(0o755)  # for the other user
            found |= {f"{name}: {way}": wrong for way, wrong in all_ways(STAGES[name](base / "base"), base).items()}
    print(json.dumps(found, indent=1))


def all_ways(stage, base: Path) -> dict[str, str]:
    """Return the failure in each of WAYS."""
    stage.base.mkdir()
    done(stage.make_base, base)
    goal = torture.undisturbed(stage, base / "whole", again=True)
    needed = sum(file.stat().st_size for file in (base / "whole").rglob("*") if file.is_file())
    found = {}
    for way in WAYS:
        disk = base / way.replace(", ", "-")
        disk.mkdir()
        ended = forked(partial(refused, stage, way, disk=disk, goal=goal, needed=needed), base)
        found[way] = ended.error or ended.value
    return found


if __name__ == "__main__":
    os.umask(0o022)
    main()
