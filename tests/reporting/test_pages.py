"""The page of examples: what a browser gets, what is played, what is seen, and names that try to break it."""

import base64
import hashlib
import io
import re

import numpy as np
import pytest
import soundfile
from conftest import RATE, hz, tone
from page_reader import HOSTILE, Reader
from PIL import Image
from tones import frequency

from cirlib.reporting.pages import Example, Sound, examples_page


def data(uri: str, kind: str) -> bytes:
    """Content of a data URI."""
    head, _, body = uri.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(body, validate=True)


def example(title: str = "Mixture 1", mixture=None, *families) -> Example:
    """One example; without sounds of one's own a mixture and a family without matches."""
    sound = Sound(tone(60), "a tone") if mixture is None else mixture
    return Example(title, sound, list(families) or [("Bass", sound, [])])


def read(path, *examples, **options) -> Reader:
    """Write a page and read it."""
    page = examples_page(path / "page.html", list(examples), **{"title": "Title", "intro": "Intro", **options})
    return Reader(page.read_bytes().decode())


def sounds_of(page: Reader) -> list[np.ndarray]:
    """Audio of every player, those that refer to another one too."""
    players = [attributes for _, attributes, _ in page.all("audio")]
    sources = {p["id"]: p["src"] for p in players if "src" in p}
    assert len(sources) == len(set(sources.values()))
    out = []
    for player in players:
        assert ("src" in player) != ("data-same" in player)
        mp3 = data(sources[player.get("data-same") or player["id"]], "audio/mpeg")
        assert soundfile.info(io.BytesIO(mp3)).channels == 1
        out.append(soundfile.read(io.BytesIO(mp3), dtype="float32"))
    assert {rate for _, rate in out} <= {RATE}
    return [audio for audio, _ in out]


def pictures(page: Reader) -> list[np.ndarray]:
    """Colour indices (rows, columns) of the picture of every sound; the palette gets lighter with the index."""
    out = []
    for uri in page.attribute("img", "src"):
        image = Image.open(io.BytesIO(data(uri, "image/png")))
        light = np.array(image.getpalette()).reshape(-1, 3) @ (0.2, 0.7, 0.1)
        assert (np.diff(light) > 0).all() and len(light) == 29
        out.append(np.array(image).astype(int))
    scale, *out = out
    assert np.array_equal(np.unique(scale), np.arange(29)) and (np.diff(scale) >= 0).all()
    return out


def full_example() -> Example:
    """Two families; the second match of the first one is the instrument of the mix, the same sound as its true note."""
    low, high = Sound(tone(40), "src/low", "rank 2"), Sound(tone(80), "src/high", "rank 9")
    found = [Sound(tone(41), "src/near", "distance 0.1"), Sound(tone(40), "src/low", "distance 0.2", right=True)]
    return example("Mixture 7", Sound(tone(40) + tone(80), "both"), ("Bass", low, found), ("Synth Lead", high, [Sound(tone(79), "x")]))


def test_every_sound_has_caption_picture_and_player(tmp_path):
    """Labels, names and remarks in order; only the right match is marked, in words."""
    page = read(tmp_path, full_example(), example(), title="Title", intro="What this is.")
    assert page.texts("h1", "h2", "h3") == ["Title", "Mixture 7", "Bass", "Synth Lead", "Mixture 1", "Bass"]
    assert [tag for tag, *_ in page.all("h1", "h2", "h3")] == ["h1", "h2", "h3", "h3", "h2", "h3"]
    found = ["Match 1 src/near distance 0.1", "Match 2 ✓ true instrument src/low distance 0.2"]
    first = ["Mix both", "True src/low rank 2", *found, "True src/high rank 9", "Match 1 x"]
    assert page.texts("figcaption") == [*first, "Mix a tone", "True a tone"]
    assert [len(page.all(tag)) for tag in ("figure", "button", "audio", "img")] == [8, 8, 8, 9]  # one picture is the legend's
    assert "What this is." in page.texts("p")


def test_screen_reader_labels(tmp_path):
    page = read(tmp_path, full_example())
    named = ["Mix, both", "True, src/low", "Match 1, src/near", "Match 2, src/low", "True, src/high", "Match 1, x"]
    assert page.attribute("audio", "aria-label") == named
    alts = page.attribute("img", "alt")[1:]
    assert alts == [f"Play {name} (spectrogram of 0.2 s, 20 Hz to 8 kHz)" for name in named]
    assert page.attribute("button", "type") == ["button"] * 6
    assert all(name in page.texts("header")[0] for name in ("Mix", "True", "Match 1", "✓ true instrument", "20 Hz to 8 kHz", "0.21 s"))


def test_document_loads_nothing(tmp_path):
    """Declared language, characters and viewport; every address is data; the policy allows this style and this script only."""
    page = read(tmp_path, full_example(), title="The title")
    text = (tmp_path / "page.html").read_text()
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    meta = page.all("meta")
    assert meta[0][1] == {"charset": "utf-8"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [m for _, m, _ in meta]
    assert page.texts("title") == ["The title"]
    assert not re.search(r"https?:|@import|url\(", text, re.I)
    for tag, attributes, _ in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert all(attributes.get(name, "data:").startswith("data:") for name in ("src", "href"))
    policy = next(m["content"] for _, m, _ in meta if m.get("http-equiv") == "Content-Security-Policy").split("; ")
    for tag in ("style", "script"):
        ((_, _, code),) = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert {"default-src 'none'", "img-src data:", "media-src data:"} < set(policy)


def hostile_example() -> Example:
    match = Sound(tone(61), HOSTILE + "m", HOSTILE)
    return example(HOSTILE + "t", Sound(tone(60), HOSTILE + "x", HOSTILE), (HOSTILE + "f", Sound(tone(62), HOSTILE), [match]))


def test_hostile_names_stay_text(tmp_path):
    """Names that close elements or attributes are read back as they were; the page has the elements of a page with plain names."""
    plain = read(tmp_path, example("t", Sound(tone(60), "x", "n"), ("f", Sound(tone(62), "x"), [Sound(tone(61), "m", "n")])))
    page = read(tmp_path, hostile_example(), title=HOSTILE, intro=HOSTILE)
    assert [(tag, list(a)) for tag, a, _ in page.elements] == [(tag, list(a)) for tag, a, _ in plain.elements]
    one_line = HOSTILE.replace("\n", " ")
    assert page.all("title")[0][2] == page.all("h1")[0][2] == one_line
    assert [page.all(tag)[0][2] for tag in ("h2", "h3")] == [one_line + "t", one_line + "f"]
    assert page.all("figcaption")[0][2] == f"Mix {one_line}x {one_line}"
    assert page.attribute("audio", "aria-label")[2] == f"Match 1, {one_line}m"


def test_invalid_characters_are_replaced(tmp_path):
    """NUL, escape, half of a surrogate pair (a file name that is not UTF-8), reversed writing; other scripts stay."""
    page = read(tmp_path, example("t", Sound(tone(60), "a\0b\x1bc\udcffd\u202ee\u3000Ünïcode 音")))
    assert page.texts("figcaption")[0] == "Mix a\ufffdb\ufffdc\ufffdd\ufffde Ünïcode 音"


def test_same_input_same_bytes(tmp_path):
    one, two = (examples_page(tmp_path / name / "page.html", [full_example()], title="t", intro="i") for name in "ab")
    assert one == tmp_path / "a" / "page.html" and one.read_bytes() == two.read_bytes()
    assert [path.name for path in one.parent.iterdir()] == ["page.html"]


def test_the_same_sound_is_stored_once(tmp_path):
    """By what it is, not by its name; a sound that differs a little is another one."""
    sounds = [Sound(tone(p, level=level), f"s{i}") for i, (p, level) in enumerate([(60, 0.5), (62, 0.5), (60, 0.5), (60, 0.4), (62, 0.5)])]
    page = read(tmp_path, example("t", sounds[0], ("Bass", sounds[1], sounds[2:])))
    assert [source is None for source in page.attribute("audio", "src")] == [False, False, True, False, True]
    assert page.attribute("audio", "data-same") == [None, None, "sound0", None, "sound1"]
    assert [round(frequency(x)) for x in sounds_of(page)] == [round(hz(p)) for p in (60, 62, 60, 60, 62)]


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.7, 4.0])
def test_players_have_the_given_sounds(tmp_path, seconds):
    """Decoded audio has the length, the level and, sample by sample, the course of the input; of noise only the level."""
    given = sum(tone(p, seconds, 0.2) for p in (50, 62, 81)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.2, len(given)).clip(-1, 1)
    got, noisy = sounds_of(read(tmp_path, example("t", Sound(given, "s"), ("Bass", Sound(noise, "n"), []))))
    assert len(got) == len(noisy) == len(given)
    if seconds > 0.1:
        assert np.std(got - given) < 0.1 * np.std(given)
        assert abs(20 * np.log10(np.std(got) / np.std(given))) < 0.2
        assert abs(20 * np.log10(np.std(noisy) / np.std(noise))) < 0.5


def test_only_audio_above_full_scale_is_scaled(tmp_path):
    given = np.minimum(tone(69, 1.0, 3.0), 0.9), tone(69, 1.0, 0.01)
    loud, quiet = sounds_of(read(tmp_path, example("t", Sound(given[0], "s"), ("Bass", Sound(given[1], "s"), []))))
    assert [np.std(loud), np.std(quiet)] == pytest.approx([np.std(given[0]) / 3, np.std(given[1])], rel=0.05)


def mel(frequency: float) -> float:
    return 2595 * np.log10(1 + frequency / 700)


@pytest.mark.parametrize("pitch", [45, 69, 93, 117])
def test_picture_of_a_tone_is_bright_at_its_frequency(tmp_path, pitch):
    """The brightest row is as far up as the pitch on the mel scale from 20 Hz to 8 kHz, and stays there."""
    picture = pictures(read(tmp_path, example("t", Sound(tone(pitch, 1.0), "s"))))[0]
    height = (mel(hz(pitch)) - mel(20)) / (mel(8000) - mel(20)) * 111  # in bands
    assert picture.shape == (110, 260)
    steady = picture[:, 20:240]
    assert (abs(steady.argmax(axis=0) - (110 - height)) < 1.5).all()
    assert (steady.max(axis=0) == 28).all() and np.median(steady) < 5


def test_pictures_share_time_axis_and_colours(tmp_path):
    """A sound half as long fills half of its picture; 20 dB are 8 steps; silence is dark; each is relative to its own maximum."""
    soft = np.concatenate([tone(69, 1.0), tone(69, 1.0, 0.05)])
    sounds = [Sound(x, "s") for x in (soft, tone(69, 1.0, 0.01), np.zeros(RATE))]
    two_levels, half, silence, _ = pictures(read(tmp_path, example("t", sounds[0], ("Bass", sounds[1], sounds[2:] * 2))))
    top = two_levels.max(axis=0)
    assert set(top[10:120]) == {28} and set(top[140:250]) == {20}
    assert set(half.max(axis=0)[10:120]) == {28} and not half[:, 140:].any()
    assert not silence.any()


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates(tmp_path, rate):
    """The picture reaches half the rate."""
    audio = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    page = read(tmp_path, example("t", Sound(audio, "s")), sample_rate=rate)
    mp3 = data(page.attribute("audio", "src")[0], "audio/mpeg")
    assert (soundfile.info(io.BytesIO(mp3)).samplerate, soundfile.info(io.BytesIO(mp3)).frames) == (rate, rate)
    height = (mel(1000) - mel(20)) / (mel(rate / 2) - mel(20)) * 111
    assert abs(pictures(page)[0][:, 130].argmax() - (110 - height)) < 1.5
    assert f"20 Hz to {rate / 2000:g} kHz" in page.attribute("img", "alt")[1]


def test_examples_stay_small(tmp_path):
    """Two of 6 examples that share no sound: a third of 2.5 MB, with 4 s of sustained notes full of partials and dense mixes."""
    rng, t = np.random.default_rng(0), np.arange(4 * RATE) / RATE

    def note() -> np.ndarray:
        low = hz(rng.uniform(36, 84))
        vibrato = 2 * np.pi * low * t + 0.5 * np.sin(2 * np.pi * 5 * t)
        return 0.3 * np.clip((3.5 - t) / 0.5, 0, 1) * sum(np.sin(k * vibrato) / k for k in range(1, int(7900 / low)))

    examples = []
    for _ in range(2):
        notes = [Sound(note(), "note") for _ in range(12)]
        mix = rng.normal(0, 0.3, len(t)) * np.exp(-12 * (t % 0.5)) + sum(true.audio for true in notes[::4])
        examples.append(example("t", Sound(mix, "mix"), *(("Bass", notes[i], notes[i + 1 : i + 4]) for i in (0, 4, 8))))
    page = read(tmp_path, *examples)
    assert (tmp_path / "page.html").stat().st_size < 2.5e6 / 3
    assert len(set(page.attribute("audio", "src"))) == 26


@pytest.mark.parametrize(
    "audio, message",
    [
        (np.zeros(0), r"audio of 'it' must be one channel of at least one sample, got shape \(0,\)"),
        (np.zeros((9, 2)), r"audio of 'it' must be one channel of at least one sample, got shape \(9, 2\)"),
        (np.array([0, np.nan]), "audio of 'it' holds NaN or infinite values"),
        (np.array([-np.inf, 0]), "audio of 'it' holds NaN or infinite values"),
    ],
)
@pytest.mark.parametrize("place", ["mixture", "true", "match"])
def test_unplayable_audio_is_refused(tmp_path, audio, message, place):
    """Wherever it stands, and nothing is written."""
    sounds = {name: Sound(tone(60), name) for name in ("mixture", "true", "match")} | {place: Sound(audio, "it")}
    with pytest.raises(ValueError, match=message):
        read(tmp_path, example(), example("t", sounds["mixture"], ("Bass", sounds["true"], [sounds["match"]])))
    assert not list(tmp_path.iterdir())


def test_no_examples_or_wrong_rate_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one example"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"sample_rate must be one that MP3 has \(8000, .*48000\), got 96000"):
        read(tmp_path, example(), sample_rate=96000)


ACT = """
const figures = [...document.querySelectorAll("figure")].map(f => [f.querySelector("button"), f.querySelector("audio")]);
const state = () => figures.map(([button, audio]) => [!audio.paused, button.ariaPressed === "true", audio.currentTime > 0]);
const event = (audio, kind) => new Promise(done => audio.addEventListener(kind, done, {once: true}));
const past = async audio => { while (!(audio.currentTime > 0)) await event(audio, "timeupdate"); };
const act = async () => {
  const report = {played: []};
  for (const i of [0, 1, 3]) { figures[i][0].click(); await past(figures[i][1]); report.played.push([i, state()]); }
  await figures[2][1].play(); await past(figures[2][1]); report.played.push([2, state()]);
  figures[2][0].click(); await event(figures[2][1], "pause"); report.stopped = state();
  report.early = figures[2][1].currentTime < 20;
  report.seconds = figures.map(([_, audio]) => audio.duration);
  return report;
};
"""


def test_in_a_real_browser(tmp_path, browser):
    """A click on a picture plays, so does the player; one starts, the others stop at their beginning; nothing is reported as wrong."""
    audio = {p: tone(p, 30.0, 0.1) for p in (60, 62, 64)}
    mix, true, match, again = (Sound(audio[p], HOSTILE + "x" * 99) for p in (60, 62, 64, 62))
    page = examples_page(tmp_path / "page.html", [example(HOSTILE, mix, (HOSTILE, true, [match, again]))], title=HOSTILE, intro=HOSTILE)
    browser.open(page, 380, 800)
    report = browser.ask(ACT + "act()")
    for i, state in report["played"]:
        assert state == [[j == i] * 3 for j in range(4)]  # playing, marked, not at its beginning
    assert report["stopped"] == [[False, False, j == 2] for j in range(4)] and report["early"]
    assert report["seconds"] == pytest.approx([30] * 4, abs=0.01)
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth && typeof hacked == 'undefined'")
    assert browser.complaints == [] and browser.requests == [page.as_uri()]
