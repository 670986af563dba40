"""Fuzz test: every reader returns finite values for mutated files or refuses them in one line, in processes that may be killed.

`python tests/reliability/fuzz.py [--inputs 10000] [--seed 0] [--only KIND ...] [--no-record]` also runs the attacks of
tests/test_hostile.py, and reads sound files cut at 20 places at every door (`--cuts`: only these). Exits with status 1, prints the
number of each failing input (crash, hang, 2 GB, another error) and stores these inputs in a temporary folder.
"""

import argparse
import faulthandler
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import numpy as np  # noqa: E402
import record  # noqa: E402  (first: conftest changes CIRLIB_HOME)
from mutations import mutate  # noqa: E402
from readers import READERS, Reader  # noqa: E402

MEMORY = 2 << 30  # bytes, beyond those of a process at its start
SECONDS = 10  # for one input
PER_PROCESS = 250  # inputs
REFUSALS = (ValueError, OSError)


def mutated(kind: str, good: bytes, *, seed: int, number: int) -> bytes:
    """Return an input by its number."""
    return mutate(good, np.random.default_rng([seed, zlib.crc32(kind.encode()), number]), READERS[kind].json)


def wrong(reader: Reader, file: Path) -> str | None:
    """Return the failure of a reader; None if the file is read, or refused in one line."""
    try:
        reader.read(file)
    except REFUSALS as error:
        own = type(error).__module__ == "builtins" or type(error).__module__.startswith("cirlib")
        if isinstance(error, UnicodeError) or not own or "\n" in str(error) or not str(error):
            return f"{type(error).__name__} not converted: {error}"
    except BaseException as error:  # panics of Rust are no Exceptions
        return f"{type(error).__name__}: {error}"
    return None


def child(kind: str, seed: int, numbers: range, folder: Path) -> None:
    """Read inputs, write their numbers to the file `at` beforehand and failures to the file `wrong`; exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)  # libraries print messages
    faulthandler.disable()  # pytest's handler writes elsewhere
    warnings.simplefilter("ignore")
    status = 1
    try:
        shutil.rmtree(folder / "files", ignore_errors=True)
        (folder / "files").mkdir()
        reader = READERS[kind]
        file = reader.make(folder / "files")
        good = file.read_bytes()
        assert wrong(reader, file) is None, wrong(reader, file)
        (folder / "good").write_bytes(good)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        for number in numbers:
            file.write_bytes(mutated(kind, good, seed=seed, number=number))
            (folder / "at").write_text(str(number))
            signal.alarm(SECONDS)  # ends the process, in native code too
            reason = wrong(reader, file)
            signal.alarm(0)
            if reason:
                with open(folder / "wrong", "a") as log:
                    log.write(f"{number} {' '.join(reason.split())[:500]}\n")
        status = 0
    except BaseException as error:
        (folder / "broken").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(status)


def end_of(kind: str, status: int, folder: Path) -> tuple[int | None, str]:
    """Return the input that ended a process, and how; (None, "") if all were read. RuntimeError if the valid file was not read."""
    if status == 0:
        return None, ""
    if (folder / "broken").exists() or not (folder / "at").exists():
        reason = (folder / "broken").read_text() if (folder / "broken").exists() else f"status {status}"
        raise RuntimeError(f"{kind}: the valid file is not read ({reason})")
    number = int((folder / "at").read_text())
    if not os.WIFSIGNALED(status):
        return number, f"ended the process with {os.waitstatus_to_exitcode(status)}"
    name = signal.Signals(os.WTERMSIG(status)).name
    return number, f"took longer than {SECONDS} s" if name == "SIGALRM" else f"ended the process ({name})"


def first_ended(pids: Iterable[int]) -> tuple[int, int]:
    """Wait for one of these processes: its id and status. os.wait would also return other children of this process."""
    while True:
        for pid in pids:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return ended, status
        time.sleep(0.005)


def fuzz(shares: dict[str, int], *, seed: int, jobs: int, store: Path) -> dict[str, dict[int, str]]:
    """Return failures by kind and number of the input, and write these inputs to the folder `store`."""
    waiting = [(kind, range(k, min(k + PER_PROCESS, count))) for kind, count in shares.items() for k in range(0, count, PER_PROCESS)]
    failures, running = {kind: {} for kind in shares}, {}
    with tempfile.TemporaryDirectory() as work:
        while waiting or running:
            while waiting and len(running) < jobs:
                kind, numbers = waiting.pop(0)
                folder = Path(tempfile.mkdtemp(dir=work))
                if (pid := os.fork()) == 0:
                    child(kind, seed, numbers, folder)
                running[pid] = kind, numbers, folder
            pid, status = first_ended(running)
            kind, numbers, folder = running.pop(pid)
            number, reason = end_of(kind, status, folder)
            if (folder / "wrong").exists():
                lines = (line.split(" ", 1) for line in (folder / "wrong").read_text().splitlines())
                failures[kind] |= {int(n): why for n, why in lines}
            if number is not None:
                failures[kind][number] = reason
                waiting.insert(0, (kind, range(number + 1, numbers.stop)))
            for n in failures[kind].keys() & set(numbers):
                store.mkdir(parents=True, exist_ok=True)
                content = mutated(kind, (folder / "good").read_bytes(), seed=seed, number=n)
                (store / f"{kind.replace(' ', '-')}-{seed}-{n}").write_bytes(content)
            shutil.rmtree(folder)
    return failures


def split(inputs: int, only: list[str]) -> dict[str, int]:
    """Return the number of inputs of each kind."""
    kinds = {kind: READERS[kind].share for kind in only}
    return {kind: -(-round(inputs * share) // max(1, round(sum(kinds.values())))) for kind, share in kinds.items()}


def attacks() -> list[dict]:
    """Run the attacks and return a row for each kind of file: how many there are and were refused."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", str(TESTS / "test_hostile.py"), "-k", "test_attack", f"--junitxml={report}"]
        subprocess.run(command, cwd=TESTS.parent, stdout=subprocess.DEVNULL, check=False)
        tried, held = Counter(), Counter()
        for case in ElementTree.parse(report).iter("testcase"):
            kind = case.get("name").partition("[")[2].partition(": ")[0]
            tried[kind] += 1
            held[kind] += not any(child.tag in ("failure", "error", "skipped") for child in case)
    return [{"what": kind, "tried": count, "held": held[kind], "note": ""} for kind, count in tried.items()]


def cuts() -> list[dict]:
    """Return a row for each door: how many cut files there are, and how many it refuses as truncated."""
    os.environ["TQDM_DISABLE"] = "1"
    import doors

    from cirlib.models.encoder import AudioEncoder

    with tempfile.TemporaryDirectory() as folder:
        root = doors.write_cuts(Path(folder) / "sounds")
        encoder = AudioEncoder.create("cnn", seconds=0.25, width=2, dim=8).eval()
        count = len(list(root.rglob("cut *")))
        found = doors.refusals(root, encoder).items()
        held = [(door, count, sum("/cut " in name and why.startswith("truncated: ") for name, why in its.items())) for door, its in found]
        return [{"what": what, "tried": tried, "held": refused, "note": ""} for what, tried, refused in [*held, *doors.instruments(root)]]


def main() -> int:
    """Fuzz, run the attacks, read cut files, and record all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=READERS, nargs="+", default=list(READERS), metavar="KIND")
    parser.add_argument("--no-record", action="store_true", help="do not run the attacks either")
    parser.add_argument("--cuts", action="store_true", help="only read and record cut sound files")
    options = parser.parse_args()
    if options.cuts:
        record.record("cuts", rows := cuts(), "python tests/reliability/fuzz.py --cuts")
        sys.stdout.writelines(f"{row['what']}: {row['held']} of {row['tried']} refused\n" for row in rows)
        return int(any(row["held"] < row["tried"] for row in rows))
    started, shares = time.perf_counter(), split(options.inputs, options.only)
    store = Path(tempfile.gettempdir(), f"cirlib-fuzz-{os.getpid()}")
    failures = fuzz(shares, seed=options.seed, jobs=options.jobs, store=store)
    for kind, found in failures.items():
        print(f"{kind}: {shares[kind]} inputs, {len(found)} wrong")
        for number, reason in list(found.items())[:10]:
            print(f"  --seed {options.seed}, input {number}: {reason}")
    where = f"; those that failed are in {store}" if store.exists() else ""
    print(f"{sum(shares.values())} inputs in {time.perf_counter() - started:.0f} s{where}")
    bad = any(failures.values())
    if not options.no_record:
        command = f"python tests/reliability/fuzz.py --inputs {options.inputs} --seed {options.seed}"
        rows = [{"what": k, "tried": shares[k], "held": shares[k] - len(failures[k]), "note": ""} for k in shares]
        record.record("fuzz", rows, command)
        rows = attacks()
        record.record("attacks", rows, command)
        cut = cuts()
        record.record("cuts", cut, "python tests/reliability/fuzz.py --cuts")
        bad = bad or any(row["held"] < row["tried"] for row in (*rows, *cut))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
