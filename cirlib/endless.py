"""Training sets without end: virtual instruments are rendered while earlier ones train, and forgotten afterwards.

Set k of a run is a pure function of (seed, k). Another process renders it, and ends with the one that started it:
`python -m cirlib.endless FOLDER SEED SIZE PARENT`.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .bank import NoteBank
from .sources.virtual import VirtualConfig, build

FIRST_SEED = 1_000_000  # of the instruments; stored banks have small seeds
MOST_SETS = 10_000  # of one seed


class EndlessSteps:
    """Batch of training step k, for any k: a set of new instruments trains for `renew` steps.

    Args:
        folder: where the sets are rendered; those long past are deleted. size: instruments of each mixture family in a
            set. steps: of the run. make: (bank, seed) -> what has batch(step), the batches from one set.
    While a set trains, the next one is rendered. Processes that share a folder render each set once.
    """

    def __init__(self, folder: Path, size: int, seed: int, renew: int, steps: int, make: Callable):
        self.folder, self.size, self.seed, self.renew, self.make = folder, size, seed, renew, make
        self.last = max(0, steps - 1) // renew
        if self.last >= MOST_SETS:
            raise ValueError(f"{steps} steps with new instruments every {renew} are more than {MOST_SETS} sets: renew less often")
        self._set, self._batches, self._renderers = None, None, {}
        self._training = os.getpid()  # the process; its workers are forked

    def batch(self, step: int):
        """What `make` gives for a step of the set that trains then. Raises ValueError if its instruments could not be rendered."""
        k, i = divmod(step, self.renew)
        if k != self._set:
            self._set, self._batches = k, self.make(self._bank(k), k)
        return self._batches.batch(i)

    def _bank(self, k: int) -> NoteBank:
        renderer = self._renderer(k)
        self._wait(renderer)
        del self._renderers[k]
        if renderer.returncode:
            told = self._log(k).read_text().strip() or "the process was killed"
            raise ValueError(f"new instruments could not be rendered: {told.splitlines()[-1]}")
        bank = NoteBank.open(self._path(k))
        for old in self.folder.glob("set*"):
            if old.is_dir() and old.name < self._path(max(0, k - 3)).name:  # other workers may still be at the ones between
                shutil.rmtree(old, ignore_errors=True)
        if k < self.last:
            self._renderer(k + 1)
        return bank

    def _wait(self, renderer: subprocess.Popen) -> None:
        """Wait for a renderer; a worker whose training was killed ends, and the renderer with it."""
        while True:
            try:
                renderer.wait(timeout=2)
                return
            except subprocess.TimeoutExpired:
                if self._training not in (os.getpid(), os.getppid()):
                    renderer.terminate()
                    raise SystemExit("the training has ended") from None

    def close(self) -> None:
        """End the rendering of sets that will not train."""
        for renderer in self._renderers.values():
            renderer.terminate()
            renderer.wait()
        self._renderers = {}

    def _path(self, k: int) -> Path:
        return self.folder / f"set{k:05d}"

    def _log(self, k: int) -> Path:
        return self.folder / f"set{k:05d}.log"

    def _renderer(self, k: int) -> subprocess.Popen:
        """The process that renders set k, started if it was not."""
        if k not in self._renderers:
            arguments = [self._path(k), FIRST_SEED + MOST_SETS * self.seed + k, self.size, os.getpid()]
            command = [sys.executable, "-m", "cirlib.endless", *map(str, arguments)]
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._log(k), "w") as log:
                self._renderers[k] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        return self._renderers[k]


def render(path: Path, seed: int, size: int) -> None:
    """The bank of one set, made unless it is there."""
    build(path, VirtualConfig(seed=seed, train=size, valid=0, test=0, others=0), n_jobs=max(1, (os.cpu_count() or 2) // 2))


if __name__ == "__main__":
    os.nice(5)  # training comes first
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: end with the training
    if os.getppid() != int(sys.argv[4]):  # it ended before
        raise SystemExit("the training has ended")
    try:
        with contextlib.redirect_stderr(open(os.devnull, "w")):  # no progress bar
            render(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except Exception as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
