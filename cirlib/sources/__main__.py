"""python -m cirlib.sources PRESET [ROW ...]: what the preset's banks and these rows need and do not find; exit status 1 if anything."""

from ..inputs import missing_of_rows
from ..shell import arguments, one_sentence
from . import missing


def main() -> None:
    """python -m cirlib.sources PRESET [ROW ...]"""
    preset, *names = arguments(main.__doc__, 1)
    with one_sentence():
        found = [*missing(preset), *missing_of_rows(preset, names)]
    if found:
        raise SystemExit("\n".join([f"preset {preset} needs what is not here:", *(f"- {line}" for line in found)]))


if __name__ == "__main__":
    main()
