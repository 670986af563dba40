"""Golden values of log-mel, mixtures, batches, losses and ranks. `python tests/golden/make.py` writes golden.json.

Run it only after an intended change of these values, and note that in the changelog.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from cirlib.audio.log_mel import LogMel
from cirlib.data.bank import NoteBank
from cirlib.data.batches import FamilySteps, MixtureSteps
from cirlib.data.mixtures import PROTOCOLS, MixtureDataset
from cirlib.data.pairs import NoteSteps, PairSteps
from cirlib.evaluation import ranking
from cirlib.training import losses

FILE = Path(__file__).with_name("golden.json")


def chirp(seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    """Return a sweep from 50 Hz to 7 kHz, (n,) float32."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (50 * t + 3475 * t**2 / seconds))).astype(np.float32)


def batches(bank: NoteBank) -> dict[str, list[int]]:
    """Return some steps of each kind of batch."""
    out, steps = {}, (0, 7, 12)
    source = MixtureSteps(bank, batch_size=12, steps=10, size=20, seed=1, max_instruments=2)
    drawn = [source.batch(step) for step in steps]
    out["mixtures, max_instruments"] = [int(x) for data, indices in drawn for x in (data.seed, data.max_instruments, *indices)]
    options = {"families": bank.notes.family.unique()[:2], "batch_size": 18, "mixtures_per_instrument": 2}
    families = [FamilySteps(bank, **options, seed=1, steps=9, seconds=0.5).batch(k) for k in (0, 5)]
    out["family steps"] = [int(x) for data, indices, _, rows in families for x in (data.seed, *indices, *rows.flat)]
    for name, source in {"pairs": PairSteps(bank, pairs=4, seed=1), "notes": NoteSteps(np.arange(50), 8, seed=1)}.items():
        out[name] = [int(x) for step in steps for x in source.batch(step).flat]
    return {f"batches of {name}": values for name, values in out.items()}


def golden(bank: NoteBank) -> dict[str, list[float]]:
    """Return values by name, of the bank of tones."""
    out = {"log-mel of a chirp": LogMel(112)(torch.from_numpy(chirp())[None])[0, ::9, ::17].flatten().tolist()}
    for protocol in PROTOCOLS:
        for split in ("train", "test"):
            mix = MixtureDataset(bank, split=split, size=8, seed=3, protocol=protocol, seconds=2.0)[5]
            out[f"mixture, {split}, {protocol}"] = mix.mixture[::997].tolist() + mix.references[:, ::3989].flatten().tolist()
    for count in (1, 3):
        for split in ("train", "test"):
            data = MixtureDataset(bank, split=split, size=12, seed=3, max_instruments=count)
            out[f"instruments, {split}, {count}"] = [bank.instruments.index.get_loc(uid) for i in range(12) for _, uid in data.plan(i)]
    out |= batches(bank)
    rng = np.random.default_rng(0)
    stems, mixtures = (torch.from_numpy(rng.normal(size=size)) for size in ((5, 3, 8), (5, 8)))
    out |= {f"mixture loss {name}": [losses.mixture_loss(name, stems, mixtures).item()] for name in losses.MIXTURE_LOSSES}
    out |= {f"pair loss {name}": [losses.pair_loss(name, stems[:, 0], stems[:, 1]).item()] for name in losses.PAIR_LOSSES}
    queries, gallery, truth = rng.normal(size=(20, 4)), rng.normal(size=(30, 4)), rng.integers(30, size=20)
    for metric in ranking.METRICS:
        out[f"ranks, {metric}"] = ranking.ranks(queries, gallery, truth, groups=np.arange(30) % 2, metric=metric).tolist()
    return out


def main() -> None:
    """Write golden.json."""
    from conftest import build_bank, tone_sounds

    with tempfile.TemporaryDirectory() as folder:
        values = golden(build_bank(Path(folder) / "tones", tone_sounds()))
    FILE.write_text(json.dumps(values, indent=0) + "\n")


if __name__ == "__main__":
    main()
