"""Mutated files: a valid file with random damage. The same generator gives the same bytes."""

import copy
import json

import numpy as np

WORDS = (b"\0", b"\xff", b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff" * 8)
ODD = (
    *(None, True, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 1e308, -0.0, 1e-320, "", "x", "../../x", "/etc/passwd", "NaN", "\0", "\ud800"),
    *("<script>", "x" * 5000, [], {}, [[]], [None], [1, "a"], {"": None}, [0] * 1000, [[1.0, 2.0], [3.0]]),
)


def mutate(data: bytes, rng: np.random.Generator, text: bool = False) -> bytes:
    """Return `data` with one to four changes; every other time those of JSON (`text`) are changes of its structure."""
    if text and rng.random() < 0.5:
        return _structure(data, rng)
    for _ in range(rng.integers(1, 5)):
        data = _CHANGES[rng.integers(len(_CHANGES))](bytearray(data), rng)
    return bytes(data)


def _span(data: bytearray, rng, longest: int = 64) -> tuple[int, int]:
    start = int(rng.integers(len(data) + 1))
    return start, min(len(data), start + int(rng.integers(1, longest)))


def _bits(data: bytearray, rng) -> bytearray:
    for at in rng.integers(max(1, len(data)), size=rng.integers(1, 9)) if data else ():
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _head(data: bytearray, rng) -> bytearray:
    """Change the start: headers matter most."""
    return _bits(data[:64], rng) + data[64:]


def _cut(data: bytearray, rng) -> bytearray:
    return data[: _span(data, rng)[0]]


def _removed(data: bytearray, rng) -> bytearray:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _twice(data: bytearray, rng) -> bytearray:
    start, end = _span(data, rng, 512)
    return data[:end] + data[start:end] * int(rng.integers(1, 50)) + data[end:]


def _zeros(data: bytearray, rng) -> bytearray:
    start, end = _span(data, rng, 256)
    return data[:start] + bytes(end - start) + data[end:]


def _noise(data: bytearray, rng) -> bytearray:
    start, end = _span(data, rng)
    return data[:start] + rng.bytes(int(rng.integers(1, 64))) + data[(end if rng.random() < 0.5 else start) :]


def _word(data: bytearray, rng) -> bytearray:
    """Write an extreme number."""
    word, (start, _) = WORDS[rng.integers(len(WORDS))], _span(data, rng)
    return data[:start] + word + data[start + len(word) :]


def _moved(data: bytearray, rng) -> bytearray:
    (start, end), (place, _) = _span(data, rng, 512), _span(data, rng)
    return data[:place] + data[start:end] + data[place:]


def _digits(data: bytearray, rng) -> bytearray:
    """Replace a digit of a text."""
    places = [i for i, byte in enumerate(data[:100_000]) if 48 <= byte <= 57]
    if not places:
        return _word(data, rng)
    at = places[rng.integers(len(places))]
    return data[:at] + (b"-1", b"99999999999", b"1e999", b"0", b".")[rng.integers(5)] + data[at + 1 :]


_CHANGES = (_bits, _head, _cut, _removed, _twice, _zeros, _noise, _word, _moved, _digits)


def _structure(data: bytes, rng) -> bytes:
    """Return a JSON text with one to three values, or names, changed."""
    value = json.loads(data)
    for _ in range(rng.integers(1, 4)):
        owner, key = _place(value, rng)
        if owner is None:
            return json.dumps(_odd(rng)).encode()
        change = rng.integers(4)
        if change == 0:
            owner.pop(key)
        elif change == 1 and isinstance(owner, dict):
            owner[f"{key}x"] = owner.pop(key)
        else:
            owner[key] = _odd(rng)
    return json.dumps(value).encode()


def _odd(rng):
    return copy.deepcopy(ODD[rng.integers(len(ODD))])  # which the next change may modify


def _place(value, rng) -> tuple:
    """Return a random container in a value and one of its keys; (None, None) if there is none."""
    owner, key = None, None
    while isinstance(value, (dict, list)) and value and (owner is None or rng.random() < 0.7):
        owner, key = value, (list(value)[rng.integers(len(value))] if isinstance(value, dict) else int(rng.integers(len(value))))
        value = owner[key]
    return owner, key
