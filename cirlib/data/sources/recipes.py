"""Recipes of the virtual instruments: the ranges from which the patches of each family are drawn."""

from dataclasses import dataclass
from pathlib import Path

from ...common.settings import from_dict
from ...common.untrusted import read_yaml


@dataclass(frozen=True)
class Recipe:
    """Ranges of one family: times in seconds, cutoff in Hz, env (filter envelope) in cents, sustain in percent, resonance in dB."""

    engines: dict[str, float]  # name in patches.py -> probability
    attack: tuple[float, float] = (0.002, 0.05)
    decay: tuple[float, float] = (0.2, 1.5)
    sustain: tuple[float, float] = (40, 100)
    release: tuple[float, float] = (0.05, 0.4)
    cutoff: tuple[float, float] = (400, 5000)
    env: tuple[float, float] = (0, 3000)
    resonance: tuple[float, float] = (0, 12)
    vibrato: float = 0.3  # probability
    noise: float = 0.2  # probability
    unison: float = 0.3  # probability
    waves: tuple[str, ...] = ("saw", "square", "triangle")


RECIPES = {family: from_dict(Recipe, ranges) for family, ranges in read_yaml(Path(__file__).with_suffix(".yaml")).items()}
