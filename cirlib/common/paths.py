"""Where things are. Nothing depends on the working directory; CIRLIB_HOME moves all that is made: data, runs, indexes, figures."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("CIRLIB_HOME") or ROOT).expanduser().resolve()
DATA = HOME / "data"
RUNS = HOME / "runs"
LIB = HOME / "lib"
PARAMS = ROOT / "params"
FIGURES = HOME / "figures"


def run_folder(preset: str, experiment: str, seed: int) -> Path:
    """Folder of one training run: one row of a table, one seed."""
    return RUNS / plain_name("preset", preset) / plain_name("experiment", experiment) / f"seed{int(seed)}"


def plain_name(kind: str, name: str) -> str:
    """`name` if it can name one folder, and stand in a Makefile; otherwise a ValueError."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"{kind} must be a plain name (letters, digits and . _ + -), without folders, got {name!r:.100}")
    return name


def inside(folder: Path, path: str | Path) -> Path:
    """`path`, relative to `folder`, if it lies in there once all links are followed; otherwise a ValueError."""
    place = Path(folder, path)
    if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{str(path)!r:.200} leads outside of {folder}")
    return place


def leads_outside(folder: Path, file: Path) -> bool:
    """Whether a file of a folder is a link, or lies behind one, to a place outside of it."""
    try:
        inside(folder, file)
    except ValueError:
        return True
    return False


def is_text(path: str | Path) -> bool:
    """Whether a table can hold a name: those of files may be bytes that are no UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in str(path))


def as_text(path: str | Path) -> str:
    """A name that any table can hold."""
    return str(path).encode(errors="replace").decode()


def at_home(path: str | Path) -> Path:
    """A path as parameters name it: relative to the project's home, `~` is the user's."""
    return Path(HOME, Path(path).expanduser())


def short(path: Path) -> str:
    """A path as results and messages show it: relative to the project's home where it lies inside it, by its name or once links are
    followed, `~/...` where it lies in the user's home folder, whose name nobody needs to read, else as it was given. `at_home` finds all.
    """
    places, user = (Path(os.path.abspath(path)), Path(path).resolve()), Path("~").expanduser()
    for place in places:
        if place.is_relative_to(HOME):
            return str(place.relative_to(HOME))
    for place, home in [(place, home) for place in places for home in (user, user.resolve())]:
        if home.parts[1:] and place.is_relative_to(home):
            return str("~" / place.relative_to(home))
    return str(path)


def without_home(text: str) -> str:
    """What a library says, with `~` for the user's home folder."""
    user = Path("~").expanduser()
    return text.replace(str(user), "~") if user.parts[1:] else text


def shown(name: str) -> str:
    """The name of an encoder as results show it: a file or folder as `short` does."""
    place = Path(name).expanduser()
    return short(place) if place.is_absolute() else name
