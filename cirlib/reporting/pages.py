"""Retrieval examples to listen to: one HTML file with players and spectrograms (examples_page.html, .css, .js).

Sounds are MP3. Pictures are log-mel spectrograms that share a time axis, a frequency axis and a colour scale.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .web import check_sounds, data_uri, escaped, mp3, write_page

WIDTH, HEIGHT = 260, 110  # pixels of a picture: frames and mel bands
LOWEST_HZ = 20
WINDOW_S = 0.064
RANGE_DB, STEP_DB = 70.0, 2.5  # coarse steps keep pictures small


@dataclass
class Sound:
    """A sound on the page: audio (n,) in [-1, 1], its name (of an instrument), a short note, and whether it is the true instrument."""

    audio: np.ndarray
    name: str
    note: str = ""
    right: bool = False


@dataclass
class Example:
    """A mixture and, for each family, its name, the true reference note and the best matches in order."""

    title: str
    mixture: Sound
    rows: list[tuple[str, Sound, list[Sound]]]


def examples_page(path: Path, examples: list[Example], *, title: str, intro: str, sample_rate: int = 16000) -> Path:
    """Write the examples as one HTML file and return its path. The same input gives the same bytes.

    Audio above full scale is scaled down; repeated sounds are stored once. Raises ValueError without examples, for audio that is empty,
    not finite or not (n,), and for a rate that MP3 does not have.
    """
    if not examples:
        raise ValueError("a page of examples needs at least one example")
    sounds = [s for e in examples for s in (e.mixture, *(s for _, true, matches in e.rows for s in (true, *matches)))]
    check_sounds(sounds, sample_rate)
    page = _Page(max(len(sound.audio) for sound in sounds), sample_rate)
    scale = data_uri("image/png", _png(np.linspace(-RANGE_DB, 0, WIDTH)[None]))
    about = {"seconds": f"{page.hop * WIDTH / sample_rate:.2g}", "axis": page.axis, "range": f"{RANGE_DB:g}", "scale": scale}
    return write_page(path, "examples_page", title=title, intro=intro, sections="".join(map(page.section, examples)), **about)


def _png(decibels: np.ndarray) -> bytes:
    """Return a picture of levels (rows, columns) from -RANGE_DB to 0 dB, dark to bright, in steps of STEP_DB; the first row on top."""
    import matplotlib as mpl
    from PIL import Image

    levels = round(RANGE_DB / STEP_DB) + 1
    image = Image.fromarray(np.round((decibels + RANGE_DB) / STEP_DB).astype(np.uint8))
    image.putpalette(mpl.colormaps["magma"](np.linspace(0, 1, levels), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


class _Page:
    """What the sounds of a page share: the sample rate, the axes of the pictures, and the sounds stored so far."""

    def __init__(self, longest: int, sample_rate: int):
        from torchaudio.transforms import MelSpectrogram

        self.rate, self.stored = sample_rate, {}
        self.axis = f"{LOWEST_HZ} Hz to {sample_rate / 2000:g} kHz"
        self.hop = -(-longest // WIDTH)  # samples of a column
        window = max(round(WINDOW_S * sample_rate), 2 * self.hop)
        self.mel = MelSpectrogram(
            sample_rate, n_fft=2 * window, win_length=window, hop_length=self.hop, f_min=LOWEST_HZ, n_mels=HEIGHT, pad_mode="constant"
        ).double()

    def section(self, example: Example) -> str:
        """Return the mixture and a row of sounds for each family."""
        rows = [f'<section>\n<h2>{escaped(example.title)}</h2>\n<div class="row">\n{self.card(example.mixture, "Mix")}</div>\n']
        for family, true, matches in example.rows:
            cards = self.card(true, "True") + "".join(self.card(match, f"Match {i}") for i, match in enumerate(matches, 1))
            rows.append(f'<h3>{escaped(family)}</h3>\n<div class="row">\n{cards}</div>\n')
        return "".join(rows) + "</section>\n"

    def card(self, sound: Sound, label: str) -> str:
        """Return a sound with its caption, its picture, which is a button, and its player."""
        title = f"{label}, {sound.name}"
        alt = escaped(f"Play {title} (spectrogram of {len(sound.audio) / self.rate:.3g} s, {self.axis})")
        picture = data_uri("image/png", _png(self.decibels(sound.audio)))
        right = ' <span class="right">✓ true instrument</span>' if sound.right else ""
        note = f' <span class="note">{escaped(sound.note)}</span>' if sound.note else ""
        return (
            f"<figure>\n<figcaption><b>{label}</b>{right} <span>{escaped(sound.name)}</span>{note}</figcaption>\n"
            f'<button type="button" aria-pressed="false"><img src="{picture}" width="{WIDTH}" height="{HEIGHT}" alt="{alt}"></button>\n'
            f'<audio controls preload="none" aria-label="{escaped(title)}" {self.source(sound)}></audio>\n</figure>\n'
        )

    def source(self, sound: Sound) -> str:
        """Return the data of a player; a repeated sound refers to its first player."""
        uri = data_uri("audio/mpeg", mp3(sound.audio, self.rate))
        if uri in self.stored:
            return f'data-same="{self.stored[uri]}"'
        self.stored[uri] = f"sound{len(self.stored)}"
        return f'id="{self.stored[uri]}" src="{uri}"'

    def decibels(self, audio: np.ndarray) -> np.ndarray:
        """Return a log-mel spectrogram (HEIGHT, WIDTH) in dB relative to its maximum, high frequencies first; silence is -RANGE_DB."""
        import torch

        audio = np.pad(np.asarray(audio, np.float64), (0, self.hop * WIDTH - len(audio)))
        power = self.mel(torch.from_numpy(audio)).numpy()[::-1, :WIDTH]
        return 10 * np.log10(np.maximum(power / max(power.max(), 1e-30), 10 ** (-RANGE_DB / 10)))
