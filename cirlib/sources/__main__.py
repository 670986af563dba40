"""python -m cirlib.sources PRESET [ROW ...]: what the preset's banks and these rows need and do not find; exit status 1 if anything."""

import sys

from ..inputs import missing_of_rows
from . import missing


def main() -> None:
    """python -m cirlib.sources PRESET [ROW ...]"""
    if len(sys.argv) < 2:
        raise SystemExit(main.__doc__)
    preset, *names = sys.argv[1:]
    try:
        found = [*missing(preset), *missing_of_rows(preset, names)]
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    if found:
        raise SystemExit("\n".join([f"preset {preset} needs what is not here:", *(f"- {line}" for line in found)]))


if __name__ == "__main__":
    main()
