"""Contrastive instrument retrieval: find in a library the instruments that play in a sound or in a mix.

The paper: G. Le Vaillant and Y. Molle, "Contrastive timbre representations for musical instrument and
synthesizer retrieval", ICASSP 2026, arXiv 2509.13285. Sound is float32 mono in [-1, 1] at 16 kHz unless a
docstring says otherwise; B is a batch, T samples, M mixtures, S stems per mixture, D embedding size.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .data.bank import NoteBank
    from .data.mixtures import MixtureDataset
    from .evaluation import ranking
    from .models.encoder import AudioEncoder
    from .search.library import Library
    from .training import losses
    from .training.config import TrainConfig
    from .training.loop import fit

# read when torch is imported: threads that spin while they wait slow down whatever else runs on these cores, up to ten times
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
__all__ = ["AudioEncoder", "Library", "MixtureDataset", "NoteBank", "TrainConfig", "fit", "losses", "ranking"]

_MODULES = {
    "AudioEncoder": "models.encoder",
    "Library": "search.library",
    "MixtureDataset": "data.mixtures",
    "NoteBank": "data.bank",
    "TrainConfig": "training.config",
    "fit": "training.loop",
    "losses": "training.losses",
    "ranking": "evaluation.ranking",
}


def __getattr__(name: str):
    """Import a public name when it is first used, so that `import cirlib` does not load torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cirlib' has no attribute {name!r}")
    module = import_module(f"cirlib.{_MODULES[name]}")
    return module if name in ("losses", "ranking") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
