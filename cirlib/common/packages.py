"""Optional packages and what else a machine may lack."""

from importlib.util import find_spec


class Missing(ValueError):
    """What reads or plays an origin of sound is not on this machine."""


def require(what: str, *packages: str) -> None:
    """Missing that names the first package that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise Missing(f"{what} need the package {package}: pip install {package}")
