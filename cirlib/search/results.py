"""Results to use elsewhere: numbered copies with a table, a playlist, plain data, text; and the last search of a library."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_atomic, write_json, writing
from ..common.paths import at_home, short
from ..common.untrusted import read_json
from .catalog import is_bank
from .library import Library

PLAYLISTS, PAGES = (".m3u8", ".m3u"), (".html",)  # suffixes
LAST = "last.json"  # in the folder of a library


def copy_matches(library: Library, matches: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """Copy the sounds of matches to a folder, numbered as in the result, with matches.csv. Return matches with their `copy`.

    A sound that is matched several times is copied once; a note of a bank becomes a WAV file. Raises ValueError if the folder holds
    anything or lies in a folder of the library, FileNotFoundError if a sound no longer exists.
    """
    folder, copies = Path(folder).expanduser().resolve(), {}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{short(folder)} is not an empty folder: name a new one for the copies, so that nothing is overwritten")
    if inside := [Path(origin) for origin in library.gallery.rows.origin.unique() if folder.is_relative_to(origin)]:
        raise ValueError(f"{short(folder)} lies in {short(inside[0])}, which is searched: name a folder outside of it for the copies")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, match in enumerate(matches.itertuples(), 1):
            if (sound := (match.path, match.instrument)) not in copies:
                copies[sound] = str(_copy(library, match, folder, f"{number:0{len(str(len(matches)))}d}"))
        matches = matches.assign(copy=[copies[sound] for sound in zip(matches.path, matches.instrument, strict=True)])
        write_atomic(folder / "matches.csv", lambda part: _numbered(matches).to_csv(part, index=False))
    return matches


def _copy(library: Library, match, folder: Path, number: str) -> Path:
    """Copy the sound of one match and return the path of the copy."""
    source = Path(match.path)
    name, suffix = (match.instrument.rpartition("/")[2], ".wav") if is_bank(source) else (source.stem, source.suffix)
    name = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name).encode()[:200].decode(errors="ignore")
    target = folder / f"{number} {name}{suffix}"
    if is_bank(source):
        import soundfile

        audio, rate = library.preview(match._replace(seconds=3600.0))
        soundfile.write(target, audio, rate, subtype="PCM_16")
    elif source.is_file():
        shutil.copyfile(source, target)
    else:
        raise FileNotFoundError(f"{match.instrument} is no longer at {short(source)}: bring the library up to date, then search again")
    return target


def write_playlist(matches: pd.DataFrame, path: str | Path) -> Path:
    """Write the files of matches, or their copies, as a playlist (M3U in UTF-8) that starts long files at the match. Return its path.

    Raises ValueError for another suffix than .m3u8 or .m3u, and for matches of a note bank without copies.
    """
    path, lines = check_suffix(path, *PLAYLISTS), ["#EXTM3U"]
    for match in matches.drop_duplicates(["path", "instrument", "start"]).itertuples():
        file = Path(getattr(match, "copy", match.path))
        if is_bank(file):
            raise ValueError(f"{match.instrument} lies in a note bank, not in a file of its own: copy the matches too (--copy-to)")
        place = file.as_uri() if re.search(r"[\r\n]", str(file)) else str(file)
        start = [f"#EXTVLCOPT:start-time={match.start:.2f}"] if match.start >= 1 else []
        lines += [f"#EXTINF:-1,{' '.join(match.instrument.split())}", *start, place]
    return write_atomic(path, lambda part: part.write_text("\n".join(lines) + "\n", "utf-8"))


def check_suffix(path: str | Path, *suffixes: str) -> Path:
    """Return the path of a file to write. Raises ValueError if its name does not end with one of the suffixes."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{short(path)} cannot be written: its name must end with {' or '.join(suffixes)}")
    return path


def plain(matches: pd.DataFrame) -> dict:
    """Return `matches`, those of the whole query, and `sections` with begin, end and matches, as plain data; missing values are None."""
    rows = _numbered(matches).astype(object).where(_numbered(matches).notna(), None)
    if "section" not in rows:
        return {"matches": rows.to_dict("records")}
    parts = [(place, part.drop(columns=["section", "begin", "end"])) for place, part in rows.groupby(["section", "begin", "end"])]
    tables = [{"begin": begin, "end": end, "matches": part.to_dict("records")} for (_, begin, end), part in parts]
    return {"matches": tables[0]["matches"], "sections": tables[1:]}


def _numbered(matches: pd.DataFrame) -> pd.DataFrame:
    numbered = matches.copy()
    numbered.insert(0, "number", range(1, len(matches) + 1))
    return numbered


def text(matches: pd.DataFrame) -> str:
    """Return matches as text: a table for the whole query and one for each section, of a family search with what plays above it."""
    if "section" not in matches:
        return _table(_numbered(matches))
    lines = []
    for (section, begin, end), part in _numbered(matches).groupby(["section", "begin", "end"]):
        place = f"{'the whole' if section == 0 else f'section {section}'}, {clock(begin)} to {clock(end)}"
        likely = part.drop_duplicates("family").dropna(subset="presence") if "presence" in part else part[:0]
        plays = ", ".join(f"{row.family} {100 * row.presence:.0f} %" for row in likely.itertuples())
        lines += ["", f"{place}: {plays}" if plays else place, _table(part)]
    return "\n".join(lines[1:])


def _table(part: pd.DataFrame) -> str:
    """Return numbered matches as lines of text."""
    late = (part.start >= 1) & ~part.path.map(lambda path: is_bank(Path(path)))  # a position in a long file
    columns = {
        "": part.number,
        "distance": part.distance.map("{:.3f}".format),
        "family": part.family.fillna("") + np.where(part.predicted, " (predicted)", ""),
        "kind": part.kind,
        "note": part.note.fillna(""),
        "sounds": part.sounds.astype(str).where(part.sounds > 1, ""),
        "at": part.start.map(clock).where(late, ""),
        "instrument": [name.rpartition("/")[2] for name in part.instrument],
        "file": part.path.map(short),
    }
    shown = {name: [name, *map(str, values)] for name, values in columns.items() if any(value != "" for value in values)}
    widths = {name: max(map(len, cells)) * (-1 if name in ("", "at", "sounds") else 1) for name, cells in shown.items()}
    lines = zip(*([f"{cell:>{-w}}" if w < 0 else f"{cell:<{w}}" for cell in shown[name]] for name, w in widths.items()), strict=True)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, such as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def remember(library: Library, matches: pd.DataFrame) -> None:
    """Store the matches of a search in the folder of the library, if it can be written, so that `recall` finds them by their number."""
    with suppress(OSError):
        rows = matches[["path", "instrument", "start", "seconds"]].assign(path=matches.path.map(short))
        write_json(library.path / LAST, rows.to_dict("records"))


def recall(library: Library, number: int) -> pd.Series:
    """Return a match of the last search by its number, from 1. Raises ValueError if there is none."""
    try:
        rows = read_json(library.path / LAST)
        match = pd.Series(rows[number - 1] | {"path": str(at_home(rows[number - 1]["path"]))})
        assert number > 0 and [type(match[name]) for name in ("path", "instrument", "start", "seconds")] == [str, str, float, float]
    except (OSError, ValueError, LookupError, TypeError, AssertionError):
        raise ValueError(f"no file and no result {number} of the last search of {short(library.path)}: search with a file first") from None
    return match
