"""Sounds to listen to: one HTML file with players and spectrograms that needs nothing but a browser.

Sounds are MP3, pictures are log-mel spectrograms with one time axis, one frequency axis and one colour scale for the whole page.
Names come from files of strangers: they are escaped, and the page's own policy runs no script but the one below.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.files import write_atomic
from .web import allowed, check_audio, check_rate, data_uri, mp3, text

WIDTH, HEIGHT = 260, 110  # pixels of a picture: frames and mel bands
LOWEST_HZ = 20
WINDOW_S = 0.064
RANGE_DB, STEP_DB = 70.0, 2.5  # coarse steps keep pictures small

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1f; --dim: #5a5a63; --line: #d8d8de; --paper: #ffffff; --right: #00694d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --dim: #a8a8b3; --line: #3b3b44; --paper: #17171a; --right: #63d4af; }
}
* { box-sizing: border-box; }
body { max-width: 74rem; margin: 0 auto; padding: 1rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 0.5rem; }
p { max-width: 46rem; margin: 0.5rem 0; }
.legend, .note { color: var(--dim); font-size: 0.875rem; }
.legend img { width: 8rem; height: 0.75rem; vertical-align: -0.1em; }
.right { color: var(--right); font-weight: 600; }
.scale { white-space: nowrap; }
.row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 1.25rem 1rem; }
figure { display: flex; flex-direction: column; gap: 0.4rem; margin: 0; }
figcaption { flex: 1; font-size: 0.875rem; line-height: 1.4; }
figcaption span { display: block; }
figcaption .right { display: inline; margin-left: 0.5em; }
button { display: block; padding: 0; border: 0; border-radius: 4px; background: none; cursor: pointer; overflow: hidden; }
button:focus-visible, button[aria-pressed=true] { outline: 3px solid var(--ink); outline-offset: 2px; }
button img { display: block; width: 100%; height: auto; }
audio { display: block; width: 100%; height: 2.25rem; }
@media (max-width: 60rem) { .row { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 34rem) {
  .row { grid-template-columns: minmax(0, 1fr); }
  figure { display: grid; grid-template-columns: minmax(0, 1fr) 10rem; column-gap: 0.75rem; }
  figcaption .right { display: block; margin: 0; }
  button { align-self: start; margin-top: 0.2rem; }
  audio { grid-column: 1 / -1; }
}
"""

# One sound at a time; one that is cut short starts from its beginning again. A sound that comes again borrows the first one's data.
SCRIPT = """
const players = [...document.querySelectorAll("audio")];
for (const player of players) {
  if (player.dataset.same) player.src = document.getElementById(player.dataset.same).src;
  const button = player.closest("figure").querySelector("button");
  button.addEventListener("click", () => player.paused ? player.play().catch(() => {}) : player.pause());
  player.addEventListener("pause", () => button.setAttribute("aria-pressed", "false"));
  player.addEventListener("play", () => {
    button.setAttribute("aria-pressed", "true");
    for (const other of players) if (other !== player && !other.paused) { other.pause(); other.currentTime = 0; }
  });
}
"""


@dataclass
class Sound:
    """One thing to hear: audio (n,) float32 in [-1, 1], what it is (an instrument's uid), a short remark, is it the true instrument."""

    audio: np.ndarray
    name: str
    note: str = ""
    right: bool = False


@dataclass
class Example:
    """A mixture, and for each family its name, the true reference note and the best matches in order."""

    title: str
    mixture: Sound
    families: list[tuple[str, Sound, list[Sound]]]


def examples_page(path: Path, examples: list[Example], title: str, intro: str, sample_rate: int = 16000) -> Path:
    """Write the examples as one HTML file that needs no other file: the path.

    Audio above full scale is scaled down to it. The same sound is stored once; the same input gives the same bytes.
    ValueError without examples, for audio that is empty, not finite or not (n,), and for a rate that MP3 lacks.
    """
    if not examples:
        raise ValueError("a page of examples needs at least one example")
    check_rate(sample_rate)
    sounds = [s for e in examples for s in (e.mixture, *(s for _, true, matches in e.families for s in (true, *matches)))]
    for sound in sounds:
        check_audio(sound.audio, sound.name)
    page = _Page(max(len(sound.audio) for sound in sounds), sample_rate)
    html = page.html(examples, title, intro)
    return write_atomic(Path(path), lambda part: part.write_bytes(html.encode()))


def _png(decibels: np.ndarray) -> bytes:
    """Picture of levels (rows, columns) from -RANGE_DB to 0 dB, dark to bright, in steps of STEP_DB; the first row is the top."""
    import matplotlib as mpl
    from PIL import Image

    levels = round(RANGE_DB / STEP_DB) + 1
    image = Image.fromarray(np.round((decibels + RANGE_DB) / STEP_DB).astype(np.uint8))
    image.putpalette(mpl.colormaps["magma"](np.linspace(0, 1, levels), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


class _Page:
    """What all sounds of a page share: the rate, the axes of the pictures, and the audio that is in the page already."""

    def __init__(self, longest: int, sample_rate: int):
        from torchaudio.transforms import MelSpectrogram

        self.rate, self.stored = sample_rate, {}
        self.hop = -(-longest // WIDTH)  # samples of a column
        window = max(round(WINDOW_S * sample_rate), 2 * self.hop)
        self.mel = MelSpectrogram(
            sample_rate, n_fft=2 * window, win_length=window, hop_length=self.hop, f_min=LOWEST_HZ, n_mels=HEIGHT, pad_mode="constant"
        ).double()

    def decibels(self, audio: np.ndarray) -> np.ndarray:
        """Log-mel spectrogram (HEIGHT, WIDTH) in dB below the sound's own maximum, high frequencies first; silence is -RANGE_DB."""
        import torch

        audio = np.pad(np.asarray(audio, np.float64), (0, self.hop * WIDTH - len(audio)))
        power = self.mel(torch.from_numpy(audio)).numpy()[::-1, :WIDTH]
        return 10 * np.log10(np.maximum(power / max(power.max(), 1e-30), 10 ** (-RANGE_DB / 10)))

    def player(self, sound: Sound, what: str) -> str:
        """The audio element; a sound that comes again refers to the first."""
        uri = data_uri("audio/mpeg", mp3(sound.audio, self.rate))
        first = f"sound{len(self.stored)}"
        source = f'data-same="{self.stored[uri]}"' if uri in self.stored else f'id="{first}" src="{uri}"'
        self.stored.setdefault(uri, first)
        return f'<audio controls preload="none" aria-label="{text(what)}" {source}></audio>'

    def card(self, sound: Sound, label: str) -> str:
        """A sound with its caption, its picture, which is a button, and its player."""
        what = f"{label}, {sound.name}"
        alt = f"Play {what} (spectrogram of {len(sound.audio) / self.rate:.3g} s, {self.axis()})"
        uri = data_uri("image/png", _png(self.decibels(sound.audio)))
        picture = f'<img src="{uri}" width="{WIDTH}" height="{HEIGHT}" alt="{text(alt)}">'
        right = ' <span class="right">✓ true instrument</span>' if sound.right else ""
        note = f' <span class="note">{text(sound.note)}</span>' if sound.note else ""
        return (
            f"<figure>\n<figcaption><b>{label}</b>{right} <span>{text(sound.name)}</span>{note}</figcaption>\n"
            f'<button type="button" aria-pressed="false">{picture}</button>\n'
            f"{self.player(sound, what)}\n</figure>\n"
        )

    def axis(self) -> str:
        """The range of frequencies."""
        return f"{LOWEST_HZ} Hz to {self.rate / 2000:g} kHz"

    def example(self, example: Example) -> str:
        """The mixture, then a row per family."""
        parts = [f'<section>\n<h2>{text(example.title)}</h2>\n<div class="row">\n{self.card(example.mixture, "Mix")}</div>\n']
        for family, true, matches in example.families:
            cards = [self.card(true, "True"), *(self.card(match, f"Match {i}") for i, match in enumerate(matches, 1))]
            parts.append(f'<h3>{text(family)}</h3>\n<div class="row">\n{"".join(cards)}</div>\n')
        return "".join(parts) + "</section>\n"

    def legend(self) -> str:
        """What the labels, the axes and the colours mean."""
        uri = data_uri("image/png", _png(np.linspace(-RANGE_DB, 0, WIDTH)[None]))
        scale = (
            f'<span class="scale">&minus;{RANGE_DB:g} dB <img src="{uri}" width="{WIDTH}" height="1" alt="from dark to bright"> 0 dB</span>'
        )
        return (
            '<p class="legend"><b>Mix</b>: the query. <b>True</b>: a note of the instrument that plays in the mix. '
            '<b>Match 1</b> and on: the nearest of the gallery, best first; <span class="right">✓ true instrument</span> marks the one '
            "that really plays. A click on a picture plays its sound and stops any other.</p>\n"
            f'<p class="legend">Every picture shows {self.hop * WIDTH / self.rate:.2g} s from left to right and {self.axis()} (mel scale) '
            f"from bottom to top. Colour tells the level below the sound's own maximum: {scale}</p>\n"
        )

    def html(self, examples: list[Example], title: str, intro: str) -> str:
        """The whole page."""
        policy = f"default-src 'none'; img-src data:; media-src data:; style-src {allowed(STYLE)}; script-src {allowed(SCRIPT)}"
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{text(title)}</h1>\n"
            f"<p>{text(intro)}</p>\n{self.legend()}"
            "<noscript><p>Without JavaScript a sound that comes again plays only where it comes first.</p></noscript>\n</header>\n"
            f"<main>\n{''.join(self.example(e) for e in examples)}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )
