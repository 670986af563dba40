"""Audio players of notebooks: clips inside the notebook, each under 20 KB, as MP3, which all browsers decode."""

import numpy as np

from ..audio.io import RATE, as_float, fade_end, resample
from .web import MP3_LEVEL, data_uri, escaped, mp3

MOST_BYTES = 14_400  # of a clip; a third more in base64, as a notebook stores it
QUALITIES = ((MP3_LEVEL, "VARIABLE"), (0.9, "AVERAGE"), (0.94, "AVERAGE"), (0.96, "AVERAGE"))  # the first that fits


def player(sound: np.ndarray, rate: int, title: str = "") -> "HTML":  # noqa: F821
    """Return a player of a mono sound (n,) of `rate` Hz under a title; of a long sound, what fits (6 s or more), as the title says then."""
    from IPython.display import HTML

    clip = sound = resample(as_float(sound), rate)
    for quality in QUALITIES:
        if len(data := mp3(clip, RATE, *quality)) <= MOST_BYTES:
            break
    while len(data) > MOST_BYTES:
        clip = fade_end(clip[: int(0.97 * len(clip) * MOST_BYTES / len(data))].copy())
        data = mp3(clip, RATE, *QUALITIES[-1])
    title = title if len(clip) == len(sound) else f"{title} (first {len(clip) / RATE:.1f} s)".strip()
    audio = f'<audio controls style="width: 185px; height: 32px" src="{data_uri("audio/mpeg", data)}"></audio>'
    return HTML(f'<div style="display: inline-block; margin: 2px 6px"><small>{escaped(title)}</small><br>{audio}</div>')


def players(sounds: dict[str, np.ndarray], rate: int) -> "HTML":  # noqa: F821
    """Return players side by side, one for each title and mono sound (n,) of `rate` Hz."""
    from IPython.display import HTML

    return HTML("".join(player(sound, rate, title).data for title, sound in sounds.items()))


def mixer(stems: dict[str, np.ndarray], rate: int):
    """Return a widget with a check box for each stem (n,) of `rate` Hz, and a player of the sum of the checked ones."""
    import ipywidgets as widgets

    boxes = {name: widgets.Checkbox(value=True, description=name, indent=False) for name in stems}
    sound = widgets.HTML()

    def play(_=None) -> None:
        chosen = [stems[name] for name, box in boxes.items() if box.value]
        sound.value = player(np.sum(chosen, axis=0), rate, f"{len(chosen)} of {len(stems)} stems").data if chosen else "no stem"

    for box in boxes.values():
        box.observe(play, "value")
    play()
    return widgets.VBox([widgets.HBox(list(boxes.values())), sound])
