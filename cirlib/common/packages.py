"""Optional packages."""

from importlib.util import find_spec


class Missing(ValueError):
    """A package, program or data set that is not on this machine."""


def require(what: str, *packages: str) -> None:
    """Raise Missing, which names the first of `packages` that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise Missing(f"{what} need the package {package}: pip install {package}")
