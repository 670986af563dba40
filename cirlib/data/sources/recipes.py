"""Recipes of the virtual instruments: the ranges from which the patches of each family are drawn."""

from dataclasses import dataclass


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


_STRUCK = {"sustain": (0, 0), "attack": (0.001, 0.004), "vibrato": 0.0}
# fmt: off
RECIPES = {
    "Chromatic Percussion": Recipe(
        {"bar": 0.3, "bell": 0.2, "fm": 0.25, "sub": 0.25},
        decay=(0.12, 2.0), release=(0.05, 0.6), cutoff=(300, 6000), env=(0, 4800), noise=0.6, unison=0.1, **_STRUCK,
    ),
    "Bass": Recipe(
        {"sub": 0.55, "fm": 0.3, "add": 0.15},
        attack=(0.001, 0.03), decay=(0.1, 1.2), sustain=(0, 100), release=(0.03, 0.2), cutoff=(90, 1800), env=(0, 4800),
        resonance=(0, 18), vibrato=0.1, noise=0.15,
    ),
    "Synth Lead": Recipe(
        {"sub": 0.6, "fm": 0.3, "add": 0.1},
        attack=(0.001, 0.12), cutoff=(500, 6000), env=(-1200, 3600), resonance=(0, 20), vibrato=0.5, noise=0.15, unison=0.5,
    ),
    "Piano": Recipe(
        {"add": 0.5, "fm": 0.4, "sub": 0.1},
        decay=(0.6, 2.5), release=(0.08, 0.3), cutoff=(700, 4000), noise=0.5, unison=0.4, **_STRUCK,
    ),
    "Organ": Recipe(
        {"add": 0.9, "sub": 0.1},
        attack=(0.003, 0.05), sustain=(90, 100), release=(0.03, 0.15), cutoff=(1500, 7000), env=(0, 300), resonance=(0, 2), vibrato=0.5,
        unison=0.1,
    ),
    "Guitar": Recipe(
        {"sub": 0.5, "add": 0.3, "fm": 0.2},
        decay=(0.3, 1.8), release=(0.05, 0.2), cutoff=(500, 4000), env=(600, 3600), resonance=(0, 4), noise=0.4, unison=0.2,
        waves=("saw", "square"), **_STRUCK,
    ),
    "Strings": Recipe(
        {"sub": 0.8, "add": 0.2},
        attack=(0.06, 0.35), sustain=(80, 100), release=(0.15, 0.6), cutoff=(700, 5000), env=(0, 900), resonance=(0, 3), vibrato=0.7,
        noise=0.3, unison=0.8, waves=("saw",),
    ),
    "Voice": Recipe(
        {"vowel": 1.0},
        attack=(0.04, 0.25), sustain=(80, 100), release=(0.1, 0.4), vibrato=0.8, noise=0.4, unison=0.5, waves=("saw", "square"),
    ),
    "Brass": Recipe(
        {"sub": 0.7, "fm": 0.3},
        attack=(0.02, 0.12), sustain=(70, 100), release=(0.05, 0.2), cutoff=(250, 1500), env=(1200, 3600), resonance=(0, 3), noise=0.1,
        waves=("saw",),
    ),
    "Reed": Recipe(
        {"add": 0.6, "sub": 0.3, "fm": 0.1},
        attack=(0.02, 0.1), sustain=(80, 100), release=(0.04, 0.15), cutoff=(800, 4000), env=(0, 1200), resonance=(0, 6), vibrato=0.4,
        noise=0.4, unison=0.0, waves=("square", "saw"),
    ),
    "Pipe": Recipe(
        {"add": 0.8, "sub": 0.2},
        attack=(0.03, 0.15), sustain=(85, 100), release=(0.05, 0.2), cutoff=(900, 3000), env=(0, 600), resonance=(0, 2), vibrato=0.5,
        noise=0.9, unison=0.0, waves=("triangle",),
    ),
    "Synth Pad": Recipe(
        {"sub": 0.6, "add": 0.2, "fm": 0.2},
        attack=(0.1, 0.5), sustain=(80, 100), release=(0.3, 0.8), cutoff=(300, 4000), env=(-1200, 2400),
        resonance=(0, 10), vibrato=0.4, noise=0.3, unison=0.8,
    ),
    "Synth Effects": Recipe(
        {"fm": 0.4, "sub": 0.4, "bell": 0.2},
        attack=(0.001, 0.4), sustain=(30, 100), release=(0.2, 0.8), cutoff=(300, 6000), env=(-4800, 4800),
        resonance=(4, 24), vibrato=0.9, noise=0.7, unison=0.5,
    ),
}
