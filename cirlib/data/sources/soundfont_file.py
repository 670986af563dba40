"""Reading SoundFonts (2.04): presets, license, and the families of presets."""

import mmap
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ...audio import ogg
from ...audio.containers import TRUNCATED
from ...audio.unusable import Unusable
from ..family_names import guess_family
from ..taxonomy import GM_GROUPS

MAX_LIST = 64 << 20  # bytes of a list that is read
DRUM_BANK, GM_DRUM_BANKS = 128, (120, 127)  # in every font; also in General MIDI fonts
EFFECTS_BANK, EFFECTS_VOICES = 126, 64  # XG, in General MIDI fonts: kits of sound effects; programs that are none of General MIDI
GM_PROGRAMS = 100  # melodic programs in bank 0 from which on a font counts as General MIDI
MISNAMED = 8  # presets of a bank whose names may contradict their General MIDI programs
COMPRESSED = 0x10  # in the type of a sample
OWN_BANK = 16000  # of a preset that shares its number with another


def _read_lists(file: Path) -> dict[bytes, dict[bytes, bytes]]:
    """Return the chunks of the lists INFO and pdta of a SoundFont. Raises ValueError if it is none, or truncated."""
    lists, left = {}, file.stat().st_size - 8
    with open(file, "rb") as data:
        if data.read(4) != b"RIFF" or len(size := data.read(4)) < 4 or data.read(4) != b"sfbk":
            raise ValueError("no SoundFont (wrong first bytes)")
        if int.from_bytes(size, "little") > left:
            raise ValueError(TRUNCATED)
        while len(head := data.read(12)) == 12:
            size, kind = struct.unpack("<I", head[4:8])[0] - 4, head[8:]
            if size < 0 or (kind in (b"INFO", b"pdta") and size > MAX_LIST):
                raise ValueError("no SoundFont, or a damaged one (the size of a list is impossible)")
            if kind in (b"INFO", b"pdta"):
                lists[kind] = dict(_chunks(data.read(size)))
            else:
                data.seek(size, 1)
            if size % 2 and data.read(1) == b"L":
                data.seek(-1, 1)  # some writers omit the padding
    if b"phdr" not in lists.get(b"pdta", {}):
        raise ValueError("truncated: its list of presets is missing")
    return lists


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield identifiers and bodies of the chunks of a RIFF list."""
    at = 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def read_presets(file: Path) -> list[tuple[int, int, str]]:
    """Return (bank, program, name) of every preset (SoundFont 2.04, section 7.2), by bank and program, else as in the file."""
    table = _read_lists(file)[b"pdta"][b"phdr"]
    rows = [struct.unpack("<20sHH14x", table[i : i + 38]) for i in range(0, len(table) - 38, 38)]  # the last row only ends the list
    if not rows:
        raise ValueError("no SoundFont, or an empty one (it has no preset)")
    rows = [(bank, program, name.split(b"\0")[0].decode("latin-1")) for name, program, bank in rows]
    return sorted(rows, key=lambda row: row[:2])


def check_samples(file: Path) -> None:
    """Raise Unusable for a font with a damaged compressed sample, of which FluidSynth would render the rest."""
    headers = _read_lists(file)[b"pdta"].get(b"shdr", b"")
    with open(file, "rb") as data, mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) as font:
        first = font.find(b"smpl", font.find(b"sdta")) + 8
        for name, start, end, kind in struct.iter_unpack("<20sII16xH", headers[: len(headers) // 46 * 46]):
            try:
                if kind & COMPRESSED:
                    ogg.links(font[first + start : first + end])
            except Unusable as error:
                raise Unusable(f"{name.rstrip(bytes(1)).decode('latin-1')}: {error}") from None


def read_license(file: Path) -> str:
    """Return the copyright text of a SoundFont."""
    text = _read_lists(file).get(b"INFO", {}).get(b"ICOP", b"")
    return text.split(b"\0")[0].decode("latin-1").strip() or "license not in the file"


def general_midi_banks(presets: list[tuple[int, int, str]]) -> set[int]:
    """Return the banks whose programs are those of General MIDI: those whose names do not contradict it, none if bank 0 has too few."""
    banks: dict[int, dict[int, str]] = {}
    for bank, program, name in presets:
        banks.setdefault(bank, {}).setdefault(program, name)
    numbered = set()
    for bank, programs in banks.items():
        guesses = [(guess_family(name), GM_GROUPS.get(program)) for program, name in programs.items()]
        agree = [guess == group for guess, group in guesses if guess not in (None, "Drum Kit")]
        if agree.count(False) <= max(MISNAMED, agree.count(True)):
            numbered.add(bank)
    return numbered if 0 in numbered and len(banks[0]) >= GM_PROGRAMS else set()


def preset_family(bank: int, program: int, *, name: str, general_midi: bool) -> str | None:
    """Return the family, or other group of General MIDI, of a preset; None if it is unknown."""
    if bank == DRUM_BANK or (general_midi and bank in GM_DRUM_BANKS):
        return "Drum Kit"
    if general_midi and bank == EFFECTS_BANK:
        return "Drum Kit" if guess_family(name) == "Drum Kit" and "sfx" not in name.lower() else "Sound Effects"
    return GM_GROUPS[program] if general_midi and bank != EFFECTS_VOICES and program in GM_GROUPS else guess_family(name)


@contextmanager
def own_bank(file: Path, number: tuple[int, int], index: int) -> Iterator[tuple[str, int]]:
    """Yield a copy of a font, and the bank in it of the preset that is the `index`-th with its number (bank, program).

    FluidSynth selects presets by number only, and of several with one number not always the first.
    """
    with TemporaryDirectory(prefix="cirlib-") as folder:
        copy = shutil.copyfile(file, Path(folder) / file.name)
        table = _read_lists(copy)[b"pdta"][b"phdr"]
        rows = [at for at in range(0, len(table) - 38, 38) if struct.unpack_from("<HH", table, at + 20) == number[::-1]]
        with open(copy, "r+b") as data, mmap.mmap(data.fileno(), 0) as font:
            struct.pack_into("<H", font, font.rfind(table) + rows[index] + 22, OWN_BANK)
        yield str(copy), OWN_BANK
