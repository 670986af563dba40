"""Mutated files: a valid file with random damage. The same generator gives the same bytes."""

import copy
import json

import numpy as np

EXTREME = (b"\0", b"\xff", b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff" * 8)
DIGITS = (b"-1", b"99999999999", b"1e999", b"0", b".")
ODD = (
    *(None, True, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 1e308, -0.0, 1e-320, "", "x", "../../x", "/etc/passwd", "NaN", "\0", "\ud800"),
    *("<script>", "x" * 5000, [], {}, [[]], [None], [1, "a"], {"": None}, [0] * 1000, [[1.0, 2.0], [3.0]]),
)


def mutate(data: bytes, rng: np.random.Generator, text: bool = False) -> bytes:
    """Return `data` with one to four changes; every other time those of JSON (`text`) are changes of its structure."""
    if text and rng.random() < 0.5:
        return _structure(data, rng)
    for _ in range(rng.integers(1, 5)):
        data = _changed(data, rng)
    return data


def _changed(data: bytes, rng) -> bytes:
    """Replace a span, which may be empty and every fourth time begins in the first 64 bytes: headers matter most."""
    digits = [i for i, byte in enumerate(data[:100_000]) if 48 <= byte <= 57]
    start = int(rng.integers(1 + (min(64, len(data)) if rng.random() < 0.25 else len(data))))
    end = min(len(data), start + int(rng.integers(1, rng.choice([2, 64, 512]))))
    match rng.integers(9):
        case 0:  # the file ends here
            end, new = len(data), b""
        case 1:  # removed
            new = b""
        case 2:  # repeated
            new = data[start:end] * int(rng.integers(1, 50))
        case 3:
            new = bytes(end - start)
        case 4:  # noise, inserted or in its place
            new, end = rng.bytes(int(rng.integers(1, 64))), rng.choice([start, end])
        case 5:  # moved here from elsewhere
            place = int(rng.integers(len(data) + 1))
            new, end = data[place : place + 512], start
        case 6 if digits:
            start = digits[rng.integers(len(digits))]
            new, end = DIGITS[rng.integers(len(DIGITS))], start + 1
        case 7:  # an extreme number
            new = EXTREME[rng.integers(len(EXTREME))]
            end = start + len(new)
        case _:  # a few bits
            new = bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[start : start + 8])
            end = start + 8
    return data[:start] + new + data[end:]


def _structure(data: bytes, rng) -> bytes:
    """Return a JSON text with one to three values, or names, changed."""
    value = json.loads(data)
    for _ in range(rng.integers(1, 4)):
        owner, key = _place(value, rng)
        odd = copy.deepcopy(ODD[rng.integers(len(ODD))])  # which the next change may modify
        if owner is None:
            return json.dumps(odd).encode()
        change = rng.integers(4)
        if change == 0:
            owner.pop(key)
        elif change == 1 and isinstance(owner, dict):
            owner[f"{key}x"] = owner.pop(key)
        else:
            owner[key] = odd
    return json.dumps(value).encode()


def _place(value, rng) -> tuple:
    """Return a random container in a value and one of its keys; (None, None) if there is none."""
    owner, key = None, None
    while isinstance(value, (dict, list)) and value and (owner is None or rng.random() < 0.7):
        owner, key = value, (list(value)[rng.integers(len(value))] if isinstance(value, dict) else int(rng.integers(len(value))))
        value = owner[key]
    return owner, key
