"""python -m cirlib.sources PRESET: what the preset needs and does not find; exit status 1 if there is anything."""

import sys

from . import missing


def main() -> None:
    """python -m cirlib.sources PRESET"""
    if len(sys.argv) != 2:
        raise SystemExit(main.__doc__)
    try:
        found = missing(sys.argv[1])
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    if found:
        raise SystemExit("\n".join([f"preset {sys.argv[1]} needs what is not here:", *(f"- {line}" for line in found)]))


if __name__ == "__main__":
    main()
