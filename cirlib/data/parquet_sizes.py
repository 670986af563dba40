"""How much a Parquet file would become, from its footer alone: pyarrow ends the process for some footers when asked for the same.

The footer is in Thrift's compact protocol (parquet.thrift names the fields); only numbers are kept of it.
"""

import struct
from pathlib import Path

MOST_FOOTER = 16 << 20  # bytes
ROWS, GROUPS, COLUMNS, META, VALUES, UNPACKED = 3, 4, 1, 3, 5, 6  # numbers of fields
FIXED = {1: 0, 2: 0, 3: 1, 7: 8}  # bytes of a field: true, false, a byte, a double
WHOLE, BINARY, LIST, SET, MAP, STRUCT = (4, 5, 6), 8, 9, 10, 11, 12


def sizes(path: Path) -> tuple[int, int, int]:
    """Rows, most values of a column in one group of rows, and bytes of all columns once unpacked; raises for what is no footer."""
    with open(path, "rb") as file:
        file.seek(-8, 2)
        length, mark = struct.unpack("<I4s", file.read())
        if mark != b"PAR1" or length > MOST_FOOTER:
            raise ValueError("no Parquet file, or a damaged one")
        file.seek(-8 - length, 2)
        footer = _Compact(file.read(length)).struct()
    columns = [column[META] for group in footer[GROUPS] for column in group[COLUMNS]]
    return footer[ROWS], max(c[VALUES] for c in columns), sum(max(0, c[UNPACKED]) for c in columns)


class _Compact:
    """Reads values one after the other."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value, shift = 0, 0
        while (byte := self.byte()) & 0x80:
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if shift > 63:
                raise ValueError("a number without end")
        return value | byte << shift

    def number(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self) -> dict[int, object]:
        """Field -> value."""
        out, field = {}, 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.number()
            out[field] = self.value(head & 15)
        return out

    def value(self, kind: int) -> object:
        if kind in WHOLE:
            return self.number()
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.varint()
            return [self.value(3 if head & 15 in (1, 2) else head & 15) for _ in range(count)]
        if kind == MAP:
            if count := self.varint():
                kinds = self.byte()
                return [(self.value(kinds >> 4), self.value(kinds & 15)) for _ in range(count)]
            return []
        size = self.varint() if kind == BINARY else FIXED[kind]
        self.at += size
        if self.at > len(self.data):
            raise ValueError("it ends too early")
        return None
