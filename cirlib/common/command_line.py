"""Start and end of the command lines: usage for wrong arguments, one line for an error, no traceback."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def arguments(usage: str, least: int, most: float = math.inf) -> list[str]:
    """Return the arguments of the command; exit with its usage if there are too few or too many, or for --help."""
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print(usage)
        raise SystemExit(0)
    if not least <= len(given) <= most:
        raise SystemExit(usage)
    return given


@contextmanager
def clean_exit(*errors: type[Exception], stopped: str = "stopped") -> Iterator[None]:
    """Exit with one line and status 1 on ValueError, OSError and `errors`, with `stopped` and status 130 on Ctrl-C.

    Exit quietly on a broken pipe, such as `| head`.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # Python would report the pipe at exit
        raise SystemExit(1) from None
    except (ValueError, OSError, *errors) as error:
        lines = (line.strip() for line in str(error).splitlines())
        raise SystemExit(f"error: {' '.join(line for line in lines if line)}") from None
    except KeyboardInterrupt:
        if stopped:
            print(stopped, file=sys.stderr)
        raise SystemExit(130) from None
