"""Shortcuts: what trivial features of the sounds retrieve, with the queries and the gallery of the single test.

Where note length or level alone retrieves an instrument, an encoder can learn it instead of timbre, and the accuracy on single sounds
is no evidence of timbre. The order of the sounds in a bank is no feature here: notes of an instrument lie side by side, but encoders get
audio only.

`python -m cirlib.evaluation.shortcuts PATH ...` prints the table of banks; a path is relative to the working directory, or to CIRLIB_HOME.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.command_line import arguments, clean_exit
from ..common.paths import at_home
from ..data.bank import NoteBank
from .protocol import single_queries, single_ranks
from .ranking import chance, top_k

LEAK = 3  # times chance at top-1 above which a feature is reported
ONSET_S, FRAME_S = 0.05, 0.02
SILENCE_DB = -60.0  # re full scale: banks end sounds 60 dB below their peak
FEATURES = {  # name -> measures
    "length": ["length"],
    "hold": ["hold"],
    "hold and length": ["hold", "length"],
    "peak level": ["peak"],
    "RMS level": ["rms"],
    "spectral mean, first 50 ms": ["onset"],
    "noise floor": ["floor"],
}


def measures(bank: NoteBank, rows: Sequence[int]) -> pd.DataFrame:
    """Return trivial measures of sounds, (N, 6).

    length, hold: seconds, hold NaN where unknown. In dB re full scale: peak; rms; onset, the mean magnitude of the spectrum of the first
    50 ms; floor, the RMS level of the quietest 20 ms, at least SILENCE_DB.
    """
    table = pd.DataFrame([_measure(bank.audio(row), bank.sample_rate) for row in rows], columns=["length", "peak", "rms", "onset", "floor"])
    return table.assign(hold=bank.notes.hold_s.to_numpy(float)[rows])


def _measure(audio: np.ndarray, rate: int) -> tuple[float, ...]:
    onset, frame = round(ONSET_S * rate), round(FRAME_S * rate)
    spectrum = np.abs(np.fft.rfft(audio[:onset] * np.hanning(len(audio[:onset])), onset)) / onset
    frames = np.resize(audio, (max(1, len(audio) // frame), frame))  # a shorter sound is repeated
    levels = np.abs(audio).max(), np.sqrt((audio**2).mean()), spectrum.mean(), np.sqrt((frames**2).mean(axis=1).min())
    *others, floor = (20 * np.log10(level + 1e-6) for level in levels)
    return len(audio) / rate, *others, max(floor, SILENCE_DB)


def shortcuts(bank: NoteBank, split: str = "test", protocol: str = "strict") -> pd.DataFrame:
    """Return top-1 and top-5 of each trivial feature that the bank has, in percent, and top-1 in multiples of chance.

    Queries, gallery and ranks are those of the single test; features are standardised and compared by l2. The last row is chance.
    """
    items, rows = bank.gallery(), single_queries(bank, split, protocol)
    items = items[(items.split != "test") | (split == "test")]
    both = measures(bank, np.concatenate([items.reference, rows]))
    both = (both - both.mean()) / both.std(ddof=0).where(lambda deviation: deviation > 1e-9, 1)
    found = {}
    for name, columns in FEATURES.items():
        if both[columns].notna().all(axis=None):
            gallery, vectors = np.split(both[columns].to_numpy(), [len(items)])
            ranks = single_ranks(vectors, rows, bank=bank, gallery=gallery, items=items, metric="l2")["rank"]
            found[name] = [100 * top_k(ranks, k) for k in (1, 5)]
    found["chance"] = [100 * chance({"all": len(items)}, k) for k in (1, 5)]
    table = pd.DataFrame(found, ["top-1", "top-5"]).T
    return table.assign(**{"times chance": table["top-1"] / table["top-1"]["chance"]})


def report(table: pd.DataFrame) -> str:
    """Return a sentence that names the features more than LEAK times above chance."""
    found = table[table["times chance"] > LEAK]
    names = ", ".join(f"{name} ({times:.1f} times)" for name, times in found["times chance"].items())
    if names:
        return f"WARNING: more than {LEAK} times chance at top-1: {names}; an encoder can retrieve sounds of this bank without their timbre"
    return f"no trivial feature retrieves more than {LEAK} times chance at top-1"


def main() -> None:
    """usage: python -m cirlib.evaluation.shortcuts PATH [PATH ...]"""
    paths = arguments(main.__doc__, 1)
    with clean_exit():
        table = shortcuts(NoteBank.open([p if Path(p).exists() else at_home(p) for p in paths]))
        print(table.round(2).to_string(), report(table), sep="\n")


if __name__ == "__main__":
    main()
