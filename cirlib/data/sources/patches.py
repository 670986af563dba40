"""Virtual instruments drawn by a random generator: an SFZ patch (text) and a chain of effects.

Each family has a recipe (recipes.py) with the probabilities of the engines here: subtractive, FM, additive, struck partials, formants.
Sources: the SFZ format (sfzformat.com) for the opcodes; vowel formants after Peterson and Barney (JASA 1952); bar and
bell partials after Fletcher and Rossing, "The Physics of Musical Instruments".
"""

from dataclasses import dataclass, field

import numpy as np

from .recipes import RECIPES, Recipe

NOISE_FILE = "noise.wav"  # unlike sfizz's own *noise, which has a process-wide state, a file always sounds the same
NOISE_SAMPLES = 32000
BAR = (1.0, 2.756, 5.404, 8.933, 13.34)
BELL = (0.5, 1.0, 1.183, 1.506, 2.0, 2.514, 2.662, 3.011, 4.166)
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410), (440, 1020, 2240))


@dataclass
class Patch:
    """An instrument: SFZ text and effects (name, arguments)."""

    sfz: str
    fx: list[tuple[str, dict]] = field(default_factory=list)


def draw_patch(family: str, rng: np.random.Generator) -> Patch:
    """Return an instrument of a family; the same state of the generator gives the same patch."""
    recipe = RECIPES[family]
    engine = rng.choice(list(recipe.engines), p=list(recipe.engines.values()))
    regions = _ENGINES[engine](recipe, rng)
    if rng.random() < recipe.noise:
        regions.append(_noise(recipe, rng))
    head = _common(recipe, rng, filtered=engine != "vowel")
    sfz = "<global> " + _opcodes(head) + "\n" + "".join(f"<region> {_opcodes(r)}\n" for r in regions)
    return Patch(sfz, _effects(rng) if rng.random() < 0.5 else [])


def _opcodes(values: dict) -> str:
    return " ".join(f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())


def _log(rng, low: float, high: float) -> float:
    """Return a log-uniform random number."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _common(recipe: Recipe, rng, filtered: bool) -> dict:
    """Return what all regions of a patch share: envelopes, filter, velocity and key tracking, slow modulation."""
    decay = _log(rng, *recipe.decay)
    head = {
        "ampeg_attack": _log(rng, *recipe.attack), "ampeg_decay": decay, "ampeg_sustain": float(rng.uniform(*recipe.sustain)),
        "ampeg_release": _log(rng, *recipe.release), "amp_veltrack": float(rng.uniform(50, 100)),
    }  # fmt: skip
    if filtered:
        head |= _filter(recipe, rng, decay)
    for band in range(1, 1 + rng.choice([0, 1, 2, 3], p=[0.1, 0.2, 0.35, 0.35])):  # resonances of the body, at fixed frequencies
        gain = float(rng.uniform(6, 18) if rng.random() < 0.6 else rng.uniform(-24, -8))
        head |= {f"eq{band}_freq": _log(rng, 120, 6000), f"eq{band}_bw": float(rng.uniform(0.3, 1.8)), f"eq{band}_gain": gain}
    if rng.random() < recipe.vibrato:
        head |= {"lfo01_freq": _log(rng, 3.0, 8.0), "lfo01_fade": float(rng.uniform(0, 0.4)), "lfo01_pitch": float(rng.uniform(5, 40))}
        head |= {"lfo01_volume": float(rng.choice([0.0, rng.uniform(0, 5)]))}
    if rng.random() < 0.1:
        head |= {"pitcheg_depth": float(rng.uniform(-1200, 2400)), "pitcheg_decay": _log(rng, 0.02, 0.12), "pitcheg_sustain": 0}
    return head


def _filter(recipe: Recipe, rng, decay: float) -> dict:
    """Return the filter with its envelope, sometimes with slow modulation."""
    values = {
        "fil_type": rng.choice(["lpf_2p", "lpf_4p", "lpf_6p", "bpf_2p"], p=[0.5, 0.3, 0.1, 0.1]),
        "cutoff": _log(rng, *recipe.cutoff), "resonance": float(rng.uniform(*recipe.resonance)),
        "fil_keytrack": float(rng.uniform(30, 100)), "fil_keycenter": 60, "fil_veltrack": float(rng.uniform(0, 1200)),
        "fileg_depth": float(rng.uniform(*recipe.env)), "fileg_attack": _log(rng, *recipe.attack),
        "fileg_decay": _log(rng, 0.05, max(0.1, decay)), "fileg_sustain": float(rng.uniform(0, 60)),
    }  # fmt: skip
    if rng.random() < 0.15:
        values |= {"lfo02_freq": _log(rng, 0.8, 8), "lfo02_cutoff": float(rng.uniform(200, 1800))}
    return values


def _subtractive(recipe: Recipe, rng) -> list[dict]:
    """Return one to three detuned oscillators."""
    regions = []
    for i in range(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25])):
        region = {
            "sample": "*" + rng.choice(recipe.waves), "transpose": 0 if i == 0 else int(rng.choice([-12, 0, 0, 7, 12])),
            "tune": 0.0 if i == 0 else float(rng.uniform(-15, 15)), "volume": float(rng.uniform(-16, -6)),
            "oscillator_phase": float(rng.uniform(0, 0.99)),
        }  # fmt: skip
        if rng.random() < recipe.unison:
            region |= {"oscillator_multi": int(rng.choice([3, 5])), "oscillator_detune": _log(rng, 4, 45), "volume": region["volume"] - 5}
        regions.append(region)
    return regions


def _fm(recipe: Recipe, rng) -> list[dict]:
    """Return one or two phase-modulated pairs; simple ratios sound harmonic, others metallic."""
    regions = []
    for i in range(rng.choice([1, 2], p=[0.6, 0.4])):
        ratio = rng.choice([1, 2, 3, 4, 5, 7]) if rng.random() < 0.75 else rng.uniform(1.1, 7)
        regions.append({
            "sample": "*" + rng.choice(["sine", "triangle"]), "transpose": 0 if i == 0 else int(rng.choice([0, 12, 19])),
            "volume": float(rng.uniform(-16, -6)), "oscillator_mode": 2, "oscillator_multi": 2,
            "oscillator_detune": float(1200 * np.log2(ratio) + rng.uniform(-4, 4)), "oscillator_mod_depth": _log(rng, 60, 900),
        })  # fmt: skip
    return regions


def _partials(ratios, levels_db, rng, decays=None) -> list[dict]:
    """Return a sine for each partial: ratio to the fundamental, level in dB, decay in s where given."""
    regions = []
    for k, (ratio, level) in enumerate(zip(ratios, levels_db, strict=True)):
        cents = 1200 * np.log2(ratio)
        region = {"sample": "*sine", "transpose": int(cents // 100), "tune": float(cents % 100), "volume": float(level)}
        if decays is not None:
            region["ampeg_decay"] = float(decays[k])
        regions.append(region)
    return regions


def _additive(recipe: Recipe, rng) -> list[dict]:
    """Return harmonic partials with a random slope, odd-even balance and ripple."""
    count = int(rng.integers(4, 13))
    n = np.arange(1, count + 1)
    level = -rng.uniform(1.5, 9) * np.log2(n) + rng.uniform(-8, 4, count)
    level -= (n % 2 == 0) * max(0.0, rng.uniform(-20, 25))
    keep = (rng.random(count) < rng.uniform(0.5, 1)) | (n == 1)
    stretch = 1 + (rng.random() < 0.2) * rng.uniform(0, 4e-4) * n**2
    decays = None
    if recipe.sustain[1] == 0:
        decays = _log(rng, *recipe.decay) * n ** -rng.uniform(0, 0.8)
        decays = decays[keep]
    return _partials((n * stretch)[keep], level[keep] - level.max() - 10, rng, decays)


def _modes(modes):
    """Return the engine of a struck body with these partials, slightly detuned; higher ones decay faster."""

    def engine(recipe: Recipe, rng) -> list[dict]:
        count = int(rng.integers(3, len(modes) + 1))
        ratios = np.array(modes[:count]) ** rng.uniform(0.85, 1.15) * np.exp(rng.normal(0, 0.02, count))
        level = -rng.uniform(0, 5) * np.arange(count) + rng.uniform(-9, 3, count)
        decays = _log(rng, *recipe.decay) * np.maximum(ratios, 0.5) ** -rng.uniform(0.1, 1.0)
        return _partials(ratios, level - level.max() - 8, rng, decays)

    return engine


def _vowel(recipe: Recipe, rng) -> list[dict]:
    """Return a rich oscillator in three parallel formants."""
    formants = np.array(VOWELS[rng.integers(len(VOWELS))]) * rng.uniform(0.85, 1.25)
    wave, detune = rng.choice(recipe.waves), _log(rng, 4, 25)
    unison = int(rng.choice([1, 3, 5], p=[0.5, 0.3, 0.2]))
    levels = (0, -rng.uniform(2, 12), -rng.uniform(6, 20))
    return [
        {
            "sample": "*" + wave, "fil_type": "bpf_2p", "cutoff": float(f), "resonance": float(rng.uniform(8, 22)),
            "oscillator_multi": unison, "oscillator_detune": detune, "volume": float(level),
        }
        for f, level in zip(formants, levels, strict=True)
    ]  # fmt: skip


def _noise(recipe: Recipe, rng) -> dict:
    """Return filtered noise: a click, a breath or a hiss."""
    struck = recipe.sustain[1] == 0 or rng.random() < 0.4
    shape = {"ampeg_decay": _log(rng, 0.01, 0.15), "ampeg_sustain": 0} if struck else {}
    return {
        "sample": NOISE_FILE, "pitch_keytrack": 0, "loop_mode": "loop_continuous", "loop_start": 0, "loop_end": NOISE_SAMPLES - 1,
        "offset": int(rng.integers(NOISE_SAMPLES // 2)), "volume": float(rng.uniform(-30, -6)) + (6.0 if struck else -6.0),
        "fil_type": rng.choice(["bpf_2p", "hpf_2p", "lpf_2p"]), "cutoff": _log(rng, 500, 6000), "resonance": float(rng.uniform(0, 8)),
        **shape,
    }  # fmt: skip


def _effects(rng) -> list[tuple[str, dict]]:
    """Return one or two effects of pedalboard, in their usual order."""
    chosen = rng.choice(["distortion", "chorus", "phaser", "delay", "reverb"], size=rng.choice([1, 2], p=[0.6, 0.4]), replace=False)
    uniform = rng.uniform
    draw = {
        "distortion": lambda: {"drive_db": uniform(10, 32)},
        "chorus": lambda: {"rate_hz": _log(rng, 0.4, 4), "depth": uniform(0.15, 0.6), "mix": uniform(0.35, 0.6)},
        "phaser": lambda: {"rate_hz": _log(rng, 0.3, 4), "depth": uniform(0.4, 0.9), "feedback": uniform(0, 0.6)},
        "delay": lambda: {"delay_seconds": uniform(0.08, 0.4), "feedback": uniform(0, 0.45), "mix": uniform(0.2, 0.45)},
        "reverb": lambda: {"room_size": uniform(0.3, 0.9), "damping": uniform(0.1, 0.9), "wet_level": uniform(0.15, 0.45)},
    }
    return [(name, draw[name]()) for name in draw if name in chosen]


_ENGINES = {"sub": _subtractive, "fm": _fm, "add": _additive, "bar": _modes(BAR), "bell": _modes(BELL), "vowel": _vowel}
