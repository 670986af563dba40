"""Contrastive instrument retrieval: find in a library the instruments that play in a sound or in a mix.

The paper: G. Le Vaillant and Y. Molle, "Contrastive timbre representations for musical instrument and
synthesizer retrieval", ICASSP 2026, arXiv 2509.13285. Sound is float32 mono in [-1, 1] at 16 kHz unless a
docstring says otherwise; B is a batch, T samples, M mixtures, S stems per mixture, D embedding size.
"""

__version__ = "0.1.0"
