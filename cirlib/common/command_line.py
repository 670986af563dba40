"""How commands begin and end: usage where arguments are wrong, one sentence where anything else is, never a traceback."""

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LINE_BREAK = re.compile(r"\s*\n\s*")


def arguments(usage: str, least: int, most: float = math.inf) -> list[str]:
    """What was typed behind the command; too few or too many arguments end it with its usage, --help with no error."""
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print(usage)
        raise SystemExit(0)
    if not least <= len(given) <= most:
        raise SystemExit(usage)
    return given


@contextmanager
def one_sentence(*errors: type[Exception], stopped: str = "stopped") -> Iterator[None]:
    """What a command does: ValueError, OSError and `errors` end it with status 1 and are told in one line, Ctrl-C (130) as `stopped`.

    Who reads no further, as `| head` does, is told nothing.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # else Python would complain of it at the end
        raise SystemExit(1) from None
    except (ValueError, OSError, *errors) as error:
        raise SystemExit(f"error: {re.sub(LINE_BREAK, ' ', str(error))}") from None
    except KeyboardInterrupt:
        if stopped:
            print(stopped, file=sys.stderr)
        raise SystemExit(130) from None
