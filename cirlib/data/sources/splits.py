"""Splits of origins that have none: by instrument, family by family, the same ones every time."""

import hashlib


def assign_splits(families: dict[str, str | None], valid: float, test: float) -> dict[str, str]:
    """instrument -> split, from instrument -> family. Shares of each family; from three instruments on, one at least of each.

    The order within a family is that of a hash of the name, so it does not follow alphabet or folder.
    """
    if valid < 0 or test < 0 or valid + test >= 1:
        raise ValueError(f"valid and test are shares with a sum under 1, got {valid} and {test}")
    groups: dict[str | None, list[str]] = {}
    for name, family in families.items():
        groups.setdefault(family, []).append(name)
    splits = {}
    for names in groups.values():
        names = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        counts = [max(round(share * len(names)), int(share > 0 and len(names) > 2)) for share in (test, valid)]
        for i, name in enumerate(names):
            splits[name] = "test" if i < counts[0] else "valid" if i < sum(counts) else "train"
    return splits
