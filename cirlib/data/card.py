"""The data card of a bank: its content, where it comes from, what was skipped and why.

`python -m cirlib.data.card PATH ...` prints it and verifies the checksums; a path is relative to the working directory, or to CIRLIB_HOME.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.io import RATE
from ..common.command_line import arguments, clean_exit
from ..common.paths import at_home, short
from .bank import NoteBank
from .notes import SPLITS
from .taxonomy import GROUPS, KINDS

SAMPLED = 2000  # notes whose level is measured, spread evenly over the bank
COMPARED = 20000  # notes that are compared across splits
SAME, ALIKE = 0.998, 0.9  # cosine of spectrograms and correlation of waveforms of nearly the same sounds, such as a sound and its mp3


def instrument_counts(bank: NoteBank) -> pd.DataFrame:
    """Return instruments by source and family, one column per split; twins are counted separately."""
    table = bank.instruments
    split = table.split + np.where(table.augments.isna(), "", " (twins)")
    counts = pd.crosstab([table.source, table.family.fillna("(none)")], split)
    columns = [c for c in ("train", "train (twins)", "valid", "test") if c in counts]
    order = {name: i for i, name in enumerate((*GROUPS, "(none)"))}
    return counts[columns].sort_index(key=lambda level: level.map(order) if level.name == "family" else level)


def note_measures(bank: NoteBank) -> pd.DataFrame:
    """Return family, pitch, velocity, seconds of every note; peak_db and rms_db (dB re full scale) of at most SAMPLED of them, else NaN."""
    notes = bank.notes
    table = pd.DataFrame({"family": notes.family.fillna("(none)"), "pitch": notes.pitch, "velocity": notes.velocity})
    table["seconds"] = bank.lengths / bank.sample_rate
    table[["peak_db", "rms_db"]] = np.nan
    rows = _spread(bank, SAMPLED)
    sounds = [bank.audio(i) for i in rows]
    table.loc[rows, "peak_db"] = [20 * np.log10(np.abs(x).max() + 1e-9) for x in sounds]
    table.loc[rows, "rms_db"] = [10 * np.log10(np.mean(x**2) + 1e-12) for x in sounds]
    return table


def _spread(bank: NoteBank, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, len(bank) - 1, min(count, len(bank))).astype(int))


def near_identical(bank: NoteBank) -> list[tuple[str, str]]:
    """Return pairs of instruments of two splits that share a sound, whatever its level and format; of at most COMPARED notes."""
    import torch

    from ..audio.log_mel import LogMel

    def start(i: int) -> torch.Tensor:
        """Return the first second of a sound (16000,) from its onset on, with norm 1."""
        audio = bank.audio(i, 2 * RATE)
        audio = audio[np.argmax(np.abs(audio) > 0.01 * np.abs(audio).max()) :][:RATE]
        return torch.nn.functional.normalize(torch.from_numpy(np.pad(audio, (0, RATE - len(audio)))), dim=0)

    def fingerprint(i: int) -> torch.Tensor:
        """Return the spectrogram of `start`, 12 times by 64 bands, without what is 60 dB (1.5) below its peak."""
        mel = log_mel(start(i)[None])[0]
        mel = mel.clamp_min(mel.max() - 1.5).reshape(12, 8, 64, 2).mean((1, 3)).flatten()
        return torch.nn.functional.normalize(mel - mel.mean(), dim=0)

    log_mel, rows, pairs = LogMel(96), _spread(bank, COMPARED), set()
    prints, notes = torch.stack([fingerprint(i) for i in rows]), bank.notes.iloc[rows]
    of = {split: np.flatnonzero(notes.split == split) for split in SPLITS}
    for one, two in (("train", "valid"), ("train", "test"), ("valid", "test")):
        for part in np.array_split(of[two], len(of[two]) // 512 + 1):
            for i, j in torch.nonzero(prints[part] @ prints[of[one]].T > SAME).tolist():
                pair = notes.instrument.iat[of[one][j]], notes.instrument.iat[part[i]]
                if pair not in pairs:  # noises with the same spectrum have other waveforms
                    spectra = torch.fft.rfft(torch.stack([start(rows[of[one][j]]), start(rows[part[i]])]), 2 * RATE)
                    pairs |= {pair} if torch.fft.irfft(spectra[0] * spectra[1].conj()).abs().max() > ALIKE else set()
    return sorted(pairs)


def quantiles(measures: pd.DataFrame) -> pd.DataFrame:
    """Return the 5, 50 and 95 percent quantiles of note_measures."""
    return measures.drop(columns="family").quantile([0.05, 0.5, 0.95]).T.set_axis(["5%", "median", "95%"], axis=1).round(2)


def reasons(info: dict, what: str = "skipped") -> pd.Series:
    """Return how often each reason occurs in bank.json (`skipped`, or `noted` for stored sounds); numbers in a reason are ignored."""
    text = pd.Series(info.get(what, {}), dtype=str)
    alike = text.groupby(text.str.replace(r"\d+(\.\d+)?", "n", regex=True))
    counts = {kind if len(set(group)) > 1 else group.iloc[0]: len(group) for kind, group in alike}
    return pd.Series(counts, dtype=int).sort_values(ascending=False, kind="stable")


def text_card(bank: NoteBank) -> str:
    """Return the card as plain text."""
    lines = []
    for path, info in zip(bank.paths, bank.infos, strict=True):
        counts, minutes = info["counts"], info["counts"]["samples"] / info["sample_rate"] / 60
        lines += [short(path), *(f"  {name:10}{info.get(name, 'unknown')}" for name in ("source", "license", "citation"))]
        lines.append(
            f"  content   {counts['instruments']} instruments, {counts['notes']} notes, {minutes:.1f} minutes at {info['sample_rate']} Hz"
        )
        for what, title in (("skipped", "skipped"), ("noted", "stored with a remark")):
            if entries := info.get(what):
                lines.append(f"  {title}: {len(entries)}")
                lines += [f"    {number:6d} {reason}" for reason, number in reasons(info, what).head(10).items()]
                lines += [f"      e.g. {name}: {why}" for name, why in list(entries.items())[:3]]
    for title, table in (("instruments", instrument_counts(bank)), ("notes", quantiles(note_measures(bank)))):
        lines += ["", title, *("  " + line for line in table.to_string().splitlines())]
    lines.append(f"  {bank.notes.pitch.isna().sum()} without a pitch (stems of several notes, or unknown)")
    kinds = bank.notes.tags.list.flatten().value_counts()
    lines += [f"  {kinds[kind]} with the tag {kind}: no single notes" for kind in KINDS if kind in kinds]
    same = near_identical(bank)
    lines += ["", f"pairs of instruments with nearly the same sound in two splits: {len(same)}", *(f"  {a} ~ {b}" for a, b in same[:10])]
    return "\n".join(lines)


def main() -> None:
    """Print the card of the banks, and verify their checksums."""
    paths = arguments("usage: python -m cirlib.data.card PATH [PATH ...]", 1)
    with clean_exit():
        bank = NoteBank.open([p if Path(p).exists() else at_home(p) for p in paths])
        print(text_card(bank), flush=True)
        bank.verify()
        print("checksums: all files are unchanged")


if __name__ == "__main__":
    main()
