"""The bundled example: a note of each of a dozen virtual instruments, and a mix of three of them. Rendered by cirlib, CC0.

`python -m cirlib.search example` searches it; `python -m cirlib.search.example` renders it again.
"""

import tempfile
from pathlib import Path

import numpy as np
import soundfile

from ..audio.io import RATE
from ..common.command_line import arguments, clean_exit
from ..data.mixtures import MixtureDataset
from ..data.sources.virtual import VirtualConfig, build

FOLDER = Path(__file__).with_name("example")
MIX, NOTES = FOLDER / "mix.ogg", FOLDER / "notes"
CONFIG = VirtualConfig(seed=1977, train=0, valid=0, test=4, others=0, notes=24)  # a seed that no preset trains on
NAMES = {"Chromatic Percussion": "mallet", "Bass": "bass", "Synth Lead": "lead"}
SECONDS, PEAK = 8.0, 0.8  # of the mix; the codec may exceed the peak a little


def render(folder: Path = FOLDER) -> None:
    """Write mix.ogg, notes/<name>.ogg and README.md, which names the instruments of the mix."""
    with tempfile.TemporaryDirectory(prefix="cirlib-") as work:
        bank = build(Path(work) / "bank", CONFIG, n_jobs=1)
        items = bank.gallery()
        numbers = items.groupby("family").cumcount() + 1
        names = {uid: f"{NAMES[item.family]} {numbers[uid]}" for uid, item in items.iterrows()}
        for uid, name in names.items():
            _write(folder / "notes" / f"{name}.ogg", bank.audio(items.reference[uid]))
        made = MixtureDataset(bank, families=list(NAMES), split="test", size=1, seed=0, seconds=SECONDS)[0]
        _write(folder / "mix.ogg", made.mixture)
    playing = ", ".join(sorted(names[uid] for uid in made.instruments))
    text = f"Notes of a dozen virtual instruments, and a mix of three of them: {playing}."
    (folder / "README.md").write_text(f"# Example\n\n{text} Rendered by cirlib/search/example.py; CC0-1.0.\n")


def _write(path: Path, audio: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio * (PEAK / np.abs(audio).max()), RATE, format="OGG", subtype="VORBIS")


def main() -> None:
    """python -m cirlib.search.example"""
    arguments(main.__doc__, 0, 0)
    with clean_exit():
        render()


if __name__ == "__main__":
    main()
