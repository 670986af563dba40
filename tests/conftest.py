"""Fixtures of all tests: banks of synthetic tones, a browser, the style of figures."""

import itertools
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

# before cirlib is imported: tests write to a temporary folder and download nothing
_HOME = tempfile.TemporaryDirectory(prefix="cirlib-tests-")
os.environ["CIRLIB_HOME"] = _HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as cirlib does, but before torch is imported
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if PROCESSES > 1:  # they share the cores
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // PROCESSES))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from browser import CHROMIUM, Browser  # noqa: E402

from cirlib.data.bank import NoteBank  # noqa: E402
from cirlib.data.builder import BankBuilder  # noqa: E402
from cirlib.data.jobs import Sound  # noqa: E402
from cirlib.data.taxonomy import MIXTURE_FAMILIES  # noqa: E402
from cirlib.models.encoder import AudioEncoder  # noqa: E402
from cirlib.training.config import TrainConfig  # noqa: E402

torch.set_num_threads(min(2, torch.get_num_threads()))

LONGEST = ("test_chain.py", "test_paper_preset.py", "test_hostile.py", "test_library.py")  # slow files, which run first

RATE = 16000
SPLIT_SIZES = {"train": 6, "valid": 3, "test": 4}  # original instruments of each family in `tone_bank`
TWINS = 2  # training instruments of each family that have an effects-off twin
# (lowest of 12 pitches in a row, seconds): percussion is shorter than any slot, bass is longer than many
TONES = {"Chromatic Percussion": (60, 0.08), "Bass": (38, 1.0), "Synth Lead": (60, 0.3)}


def pytest_collection_modifyitems(items) -> None:
    """Run slow files first, so that no process is left with one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def hz(pitch: float) -> float:
    """Return the frequency of a MIDI pitch."""
    return 440 * 2 ** ((pitch - 69) / 12)


def tone(pitch: float, seconds: float = 0.2, level: float = 0.5) -> np.ndarray:
    """Return a tone of constant level that starts at its peak: its onset is the first sample."""
    return level * np.cos(2 * np.pi * hz(pitch) * np.arange(round(seconds * RATE)) / RATE)


def sound(instrument: str, audio: np.ndarray, **columns) -> Sound:
    """Return a sound of a bank with default values for columns that are not given."""
    row = {"family": "Bass", "tags": ["bass"], "source": "tones", "split": "train", "pitch": 60.0, "velocity": 100.0}
    row |= {"hold_s": 0.1, "fx": [], "augments": None}
    return Sound({**row, "instrument": instrument, **columns}, audio)


def make(sounds: list[Sound]) -> list[Sound]:
    """Return the sounds of a job of BankBuilder."""
    return sounds


def build_bank(path, sounds: list[Sound]) -> NoteBank:
    """Build a bank of these sounds in one job."""
    builder = BankBuilder(path, {"source": "tones"}, RATE)
    assert builder.run({"all": {"sounds": sounds}}, make, n_jobs=1) == {}
    return builder.finish(["all"], {"source": "tones", "license": "CC0-1.0"}, {})


def instrument_tones(family: str, uid: str, level: float, **columns) -> list[Sound]:
    """Return an instrument with all 12 pitch classes."""
    low, seconds = TONES[family]
    return [sound(uid, tone(p, seconds, level), family=family, pitch=float(p), **columns) for p in range(low, low + 12)]


def tone_sounds() -> list[Sound]:
    """Return tones of several instruments per mixture family and split; the first TWINS of each training family have a twin."""
    sounds = []
    for family in MIXTURE_FAMILIES:
        for split, count in SPLIT_SIZES.items():
            for i in range(count):
                uid, level, twin = f"tones/{split}/{family}{i}", 0.1 + 0.1 * i, split == "train" and i < TWINS
                sounds += instrument_tones(family, uid, level, split=split, fx=["chorus"] if twin else [])
                if twin:
                    sounds += instrument_tones(family, uid + "_no_fx", 0.05, split=split, augments=uid)
    return sounds


@pytest.fixture(scope="session")
def tone_bank(tmp_path_factory) -> NoteBank:
    """Bank of `tone_sounds`."""
    return build_bank(tmp_path_factory.mktemp("banks") / "tones", tone_sounds())


@pytest.fixture
def place(tmp_path):
    """Return a function that gives a new path for each example of a test."""
    numbers = itertools.count()
    return lambda: tmp_path / f"bank{next(numbers)}"


@pytest.fixture(scope="session")
def encoder() -> AudioEncoder:
    """A small untrained encoder of clips of 0.5 s."""
    torch.manual_seed(0)
    return AudioEncoder.create("cnn", seconds=0.5, width=4, dim=16).eval()


@pytest.fixture
def config(tone_bank, tmp_path, monkeypatch) -> TrainConfig:
    """Return settings of six training steps on `tone_bank`; runs are written to a temporary folder."""
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    return TrainConfig(
        preset="test", bank=(str(tone_bank.paths[0]),), loss="multi-infonce", seconds=0.5, steps=6, batch_size=12,
        epoch_size=20, valid_every=2, valid_size=6, log_every=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A Chromium browser for all tests."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on this machine")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def figure_style():
    """Use the style of all figures without a display, and close the figures of a test."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from cirlib.reporting import plots

    with mpl.rc_context():
        plt.switch_backend("agg")
        plots.style()
        yield
        plt.close("all")


def drawn(figure) -> None:
    """Draw a figure with layout and fonts."""
    figure.canvas.draw()


@pytest.fixture(scope="module")
def surgepy():
    """The stand-in for Surge's bindings, here and in worker processes: those of other tests must end, as they have an older sys.path."""
    from joblib.externals.loky import get_reusable_executor

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "data" / "sources" / "stand_in"))
        patch.delitem(sys.modules, "surgepy", raising=False)
        get_reusable_executor().shutdown()
        yield import_module("surgepy")
        del sys.modules["surgepy"]
