"""The sounds that an encoder was trained on, and the refusal to test it on them.

An encoder stores an entry for each bank: names, licence, checksum, and digests of the instruments that training and validation used.
"""

import hashlib
from collections.abc import Iterable

from .bank import NoteBank

DIGEST_BYTES = 6


def describe(bank: NoteBank) -> list[dict]:
    """Return an entry for each bank, as plain data. `used`: digests of the training and validation instruments, as one text."""
    entries, first = [], 0
    for path, info in zip(bank.paths, bank.infos, strict=True):
        rows = bank.notes.iloc[first : first + info["counts"]["notes"]]
        first += len(rows)
        used = rows[(rows.split != "test") & rows.augments.isna()]
        entries.append({
            "bank": path.name, **{name: info.get(name, "unknown") for name in ("source", "license", "citation")},
            "sha256": info["sha256"]["audio.i16"], "splits": sorted(used.split.unique()),
            "instruments": int(used.instrument.nunique()), "sounds": len(used), "used": "".join(sorted(_digests(used.instrument.unique()))),
        })  # fmt: skip
    return entries


def check_unseen(trained_on: Iterable[dict], tested: Iterable[str]) -> None:
    """Raise ValueError if instruments that are tested were used to train an encoder."""
    size = 2 * DIGEST_BYTES
    used = {entry["used"][i : i + size]: entry["bank"] for entry in trained_on for i in range(0, len(entry["used"]), size)}
    tested = list(tested)
    seen = [(uid, used[digest]) for uid, digest in zip(tested, _digests(tested), strict=True) if digest in used]
    if seen:
        raise ValueError(
            f"this encoder was trained on {len(seen)} of the {len(tested)} test instruments, such as {seen[0][0]} (bank {seen[0][1]}): "
            "test it on other sounds"
        )


def _digests(names: Iterable[str]) -> list[str]:
    return [hashlib.blake2b(name.encode(), digest_size=DIGEST_BYTES).hexdigest() for name in names]
