"""Strategies of hypothesis for odd sounds, names and banks, and the definition of a clear refusal.

MORE_EXAMPLES=50 in the environment draws 50 times as many examples, different ones at every start.
"""

import ast
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from conftest import sound
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import cirlib
from cirlib.data.jobs import Sound
from cirlib.data.notes import SPLITS
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.training.loop import TrainingError

MORE = int(os.environ.get("MORE_EXAMPLES", "1"))
HERE = str(Path(cirlib.__file__).parent)
LOUD = 1e30  # its square overflows single precision
LEVELS = [0.0, 1e-45, 1e-30, 1e-12, 1e-3, 1.0, 1e6, 1e19, 3e38]  # of vectors


def examples(number: int) -> settings:
    """Return settings of hypothesis: few examples, the same at every start, or MORE_EXAMPLES."""
    return settings(
        max_examples=number * MORE, deadline=None, derandomize=MORE == 1, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
        phases=[Phase.explicit, Phase.generate],  # no shrinking, which would take minutes
    )  # fmt: skip


@cache
def _refusals(file: str) -> set[int]:
    """Return the lines of the `raise` statements of a file."""
    found = [node for node in ast.walk(ast.parse(Path(file).read_text())) if isinstance(node, ast.Raise)]
    return {line for node in found for line in range(node.lineno, node.end_lineno + 1)}


def assert_clear(error: Exception) -> None:
    """Assert that an error is one line, of an expected type, and raised by cirlib, not deep inside numpy."""
    assert isinstance(error, (ValueError, OSError, TrainingError)) and not isinstance(error, UnicodeError), repr(error)
    text = str(error)
    assert len(text.split()) > 2 and "\n" not in text, repr(error)
    if not isinstance(error, OSError):
        trace = error.__traceback__
        while trace.tb_next:
            trace = trace.tb_next
        file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        assert file.startswith(HERE) and line in _refusals(file), f"raised at {file}:{line}: {error!r}"


def done_or_refused(act: Callable):
    """Return the result of `act`, or None if it refuses clearly."""
    try:
        return act()
    except Exception as error:
        assert_clear(error)
        return None


def finite(*arrays) -> bool:
    """Return whether all numbers are finite."""
    return all(np.isfinite(np.asarray(x)).all() for x in arrays if x is not None)


KINDS: dict[str, Callable] = {  # (samples, generator) -> (n,)
    "silence": lambda n, rng: np.zeros(n),
    "offset": lambda n, rng: np.full(n, rng.choice([-1.0, 1e-3, 0.5, 1.0])),
    "clipped": lambda n, rng: np.sign(rng.normal(size=n)),
    "clipped below": lambda n, rng: -np.abs(np.sign(rng.normal(size=n))),
    "noise": lambda n, rng: rng.normal(0, 0.3, n),
    "impulse at the end": lambda n, rng: np.eye(1, n, n - 1)[0],
    "subnormal": lambda n, rng: np.full(n, 1e-42),
    "tiny": lambda n, rng: rng.normal(0, 1e-12, n),
    "loud": lambda n, rng: LOUD * rng.normal(size=n),
    "out of single precision": lambda n, rng: 1e300 * rng.normal(size=n),
    "NaN": lambda n, rng: np.where(np.arange(n) == rng.integers(n), np.nan, 0.1),
    "infinite": lambda n, rng: np.where(np.arange(n) == rng.integers(n), -np.inf, 0.1),
}
GOOD = ("silence", "offset", "clipped", "clipped below", "noise", "impulse at the end", "subnormal", "tiny")


@st.composite
def sounds(draw, kinds=tuple(KINDS), longest: int = 3000) -> np.ndarray:
    """Draw a sound (n,) of float32, float64 or int16, of 1 to `longest` samples."""
    count = draw(st.sampled_from([1, 2, 3, 399, 400, 401, longest]) | st.integers(1, longest))
    audio = KINDS[draw(st.sampled_from(kinds))](count, np.random.default_rng(draw(st.integers(0, 99))))
    dtype = draw(st.sampled_from(["float32", "float64", "int16"]))
    with np.errstate(over="ignore"):
        return np.clip(np.nan_to_num(audio) * 32768, -32768, 32767).astype(np.int16) if dtype == "int16" else audio.astype(dtype)


def shapes(audio: np.ndarray) -> st.SearchStrategy[np.ndarray]:
    """Return a strategy for the sound, or an array of another shape."""
    return st.sampled_from([audio, audio, audio, np.stack([audio, audio]), audio[:, None], audio[:0], audio[0]])


ODD_NAMES = [
    *("a b", " ", "'", '"', "''; drop table", "a\nb", "a\tb", "..", "../../etc", "/", "a/b", "\\", "a\\b", "C:\\x", "%s{0}$HOME"),
    *("\x00", "\x7f", "n" * 300, "nan", "None", "-1", "<b>", "\ufeff", "\u200b", "\u202eabc", "e\u0301", "é", "שלום", "名前", "🎹"),
]
names = st.sampled_from(ODD_NAMES) | st.text(min_size=1, max_size=6)
pitches = st.none() | st.sampled_from([0.0, 127.0, 60.0, 60.4, 300.0, -5.0]) | st.floats(21, 108, width=32)


@st.composite
def banks(draw, kinds=GOOD, families=(*MIXTURE_FAMILIES, None, "Drum Kit"), most: int = 2) -> list[Sound]:
    """Draw sounds of a bank: 0 to `most` instruments of each family and split, of 1 to 3 notes; some have a twin; at least one sound."""
    out, used = [], set()
    for family in families:
        for split in SPLITS:
            for _ in range(draw(st.integers(0, most))):
                uid = draw(names.filter(lambda name: name not in used))
                used.add(uid)
                twin = split == "train" and uid + "_no_fx" not in used and draw(st.booleans())
                columns = {"family": family, "split": split, "tags": draw(st.sampled_from([[], ["bass"], ["no tag"]]))}
                for _ in range(draw(st.integers(1, 3))):
                    note = {"pitch": draw(pitches), "velocity": draw(st.none() | st.sampled_from([0.0, 100.0, 127.0]))}
                    audio = draw(sounds(kinds, 1200))
                    out.append(sound(uid, audio, **columns, **note))
                    if twin:
                        used.add(uid + "_no_fx")
                        out.append(sound(uid + "_no_fx", audio[::-1].copy(), **columns, **note, augments=uid))
    return out or [sound("the only one", np.zeros(1))]


@st.composite
def vectors(draw, count: int, dim: int = 3, bad: bool = True) -> np.ndarray:
    """Draw (count, dim) of extreme levels, with ties, copies and zeros, and with NaN if `bad`."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    out = rng.normal(size=(count, dim)) if draw(st.booleans()) else rng.integers(-1, 2, (count, dim)).astype(float)
    out = out * draw(st.sampled_from(LEVELS)) + draw(st.sampled_from([0.0, 0.0, 1.0, 1e6]))
    if count and draw(st.booleans()):
        out[rng.integers(count)] = draw(st.sampled_from([0.0, 1.0, 1e-40] + [np.nan, np.inf] * bad))
    if count and draw(st.booleans()):
        out[:] = out[rng.integers(count, size=count)]
    with np.errstate(over="ignore"):
        return np.clip(out, -3e38, 3e38).astype(draw(st.sampled_from(["float32", "float64"])))
