"""Players in notebooks: small, of the sound that they were given, several in a row, titles escaped."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile

from cirlib.audio.io import RATE, as_float, resample
from cirlib.reporting.players import mixer, player, players

SWEEP = np.sin(np.linspace(0, 150, 4 * RATE) ** 2).astype(np.float32)
NOISE = (0.2 * np.random.default_rng(0).standard_normal(30 * RATE)).astype(np.float32)


def decoded(html: str) -> list[np.ndarray]:
    """The sounds (n,) of the players."""
    found = [io.BytesIO(base64.b64decode(data, validate=True)) for data in re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', html)]
    return [soundfile.read(file, dtype="float32")[0] for file in found]


@pytest.mark.parametrize(("sound", "rate"), [(SWEEP, RATE), (SWEEP, 44100), ((SWEEP * 32767).astype(np.int16), RATE), (NOISE, RATE)])
def test_player_has_the_sound_in_20_kb(sound, rate):
    """The whole sound, or the first seconds of a long one, as its title says then."""
    (clip,) = decoded(html := player(sound, rate, "a sound").data)
    wanted = resample(as_float(sound), rate)
    title, least = (f"a sound (first {len(clip) / RATE:.1f} s)", 6 * RATE) if sound is NOISE else ("a sound", len(wanted))
    assert len(html) < 20_000 and f"<small>{title}</small>" in html and len(clip) >= least
    assert np.corrcoef(clip, wanted[: len(clip)])[0, 1] > (0.5 if sound is NOISE else 0.99)


def test_players_are_in_a_row_with_escaped_titles():
    html = players({"<b> & co": SWEEP[: RATE // 2], "silence": np.zeros(RATE, np.float32)}, RATE).data
    assert "<small>&lt;b&gt; &amp; co</small>" in html and "<small>silence</small>" in html
    assert [(len(clip), clip.any()) for clip in decoded(html)] == [(RATE / 2, True), (RATE, False)]


def test_mixer_mutes_the_unchecked_stems():
    low, high = SWEEP[:RATE], SWEEP[-RATE:]
    box = mixer({"low": low, "high": high}, RATE)
    boxes, sound = box.children[0].children, box.children[1]
    assert np.corrcoef(*decoded(sound.value), low + high)[0, 1] > 0.95
    boxes[0].value = False
    assert np.corrcoef(*decoded(sound.value), high)[0, 1] > 0.95 and "1 of 2 stems" in sound.value
    boxes[1].value = False
    assert sound.value == "no stem"
