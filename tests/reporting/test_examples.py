"""Examples of a run: the matches that its embeddings give, as a figure and as a page, with names that try to break it."""

import base64
import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, drawn, hz, tone
from page_reader import HOSTILE, Reader
from tones import frequency

from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation.protocol import EVAL_SEED
from cirlib.evaluation.ranking import nearest
from cirlib.models.heads import head_names
from cirlib.reporting.examples import Example, Sound, examples_page, find_examples, matches_figure, write_examples
from cirlib.training.config import TrainConfig, write_config

QUERIES = 5


def run(folder, bank, heads=()) -> tuple[list, np.ndarray, np.ndarray]:
    """Write a run with random embeddings; query 0 is retrieved best. Return its mixtures, their embeddings and those of the gallery."""
    config = TrainConfig(preset="p", bank=(str(bank.paths[0]),), queries=QUERIES, seconds=1.0)
    folder.mkdir()
    write_config(folder, config, "key")
    rng, size = np.random.default_rng(0), (max(1, len(head_names(heads))), 4)
    vectors, gallery = (rng.normal(size=(n, *size)).astype(np.float32) for n in (QUERIES, len(bank.gallery())))
    np.savez(
        folder / "embeddings.npz",
        mixtures=vectors.reshape(QUERIES, -1),
        gallery=gallery.reshape(len(gallery), -1),
        heads=np.array(heads, str),
    )
    pd.DataFrame({"query": np.repeat(np.arange(QUERIES), 3), "rank": np.repeat(np.arange(QUERIES), 3)}).to_parquet(
        folder / "mixture_ranks.parquet"
    )
    return config.mixtures(bank, "test", QUERIES, EVAL_SEED), vectors, gallery


@pytest.mark.parametrize("heads", [(), MIXTURE_FAMILIES[:2]], ids=["one vector", "heads"])
def test_matches_are_the_nearest_notes_of_the_family(tone_bank, tmp_path, heads):
    """By the head of the family, or `mix` for a family without a head."""
    mixtures, vectors, gallery = run(tmp_path / "run", tone_bank, heads)
    examples, items = find_examples(tmp_path / "run", count=3, between=(0.0, 1.0)), tone_bank.gallery()
    assert [example.title for example in examples] == ["Mixture 0", "Mixture 2", "Mixture 4"], "from best to worst"
    for query, example in zip((0, 2, 4), examples, strict=True):
        for (family, true, matches), uid in zip(example.rows, mixtures[query].instruments, strict=True):
            k = head_names(heads).index(family if family in heads else "mix") if heads else 0
            inside = np.flatnonzero(items.family == family)
            expected = items.index[inside[nearest(vectors[query, k][None], gallery[inside, k], 3)[0]]]
            assert true.name == uid and [match.name for match in matches] == list(expected)
            assert [match.right for match in matches] == [name == uid for name in expected]


def test_page_and_figure(tone_bank, tmp_path, figure_style):
    run(tmp_path / "run", tone_bank)
    page = write_examples(tmp_path / "run", tmp_path / "page.html", title="Title", intro="Intro", count=2)
    assert page.read_text().count("<section>") == 2
    example = find_examples(tmp_path / "run", count=1)[0]
    figure = matches_figure(example)
    drawn(figure)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert len(titles) == 1 + 9 + 1 and titles.count("query: a mixture") == 1  # and the scale of the levels
    assert sum("correct" in title for title in titles) == sum(match.right for _, _, matches in example.rows for match in matches)
    framed = [axis.get_title(loc="left") for axis in figure.axes if axis.spines["top"].get_visible()]
    assert framed == [title for title in titles if "correct" in title] != []


def test_damaged_files_are_refused(tone_bank, tmp_path):
    run(tmp_path / "run", tone_bank, MIXTURE_FAMILIES[:2])
    (tmp_path / "run" / "embeddings.npz").write_bytes(b"no data")
    with pytest.raises(ValueError, match=r"is damaged .*: run 03_retrieve again"):
        find_examples(tmp_path / "run")
    (tmp_path / "run" / "embeddings.npz").unlink()
    with pytest.raises(FileNotFoundError):
        find_examples(tmp_path / "run")


# The page


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


def full_example() -> Example:
    """Two families; the second match of the first one is the instrument of the mix, the same sound as its true note."""
    low, high = Sound(tone(40), "src/low", "rank 2"), Sound(tone(80), "src/high", "rank 9")
    found = [Sound(tone(41), "src/near", "distance 0.1"), Sound(tone(40), "src/low", "distance 0.2", right=True)]
    return example("Mixture 7", Sound(tone(40) + tone(80), "both"), ("Bass", low, found), ("Synth Lead", high, [Sound(tone(79), "x")]))


def test_every_sound_has_caption_and_player(tmp_path):
    """Labels, names and remarks in order; only the right match is marked, in words."""
    page = read(tmp_path, full_example(), example(), title="Title", intro="What this is.")
    assert page.texts("h1", "h2", "h3") == ["Title", "Mixture 7", "Bass", "Synth Lead", "Mixture 1", "Bass"]
    found = ["Match 1 src/near distance 0.1", "Match 2 ✓ true instrument src/low distance 0.2"]
    first = ["Mix both", "True src/low rank 2", *found, "True src/high rank 9", "Match 1 x"]
    assert page.texts("figcaption") == [*first, "Mix a tone", "True a tone"]
    named = ["Mix, both", "True, src/low", "Match 1, src/near", "Match 2, src/low", "True, src/high", "Match 1, x"]
    assert page.attribute("audio", "aria-label") == [*named, "Mix, a tone", "True, a tone"]
    assert "What this is." in page.texts("p")


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
    assert {"default-src 'none'", "media-src data:"} < set(policy)


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


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.7])
def test_players_have_the_given_sounds(tmp_path, seconds):
    """Decoded audio has the length, the level and, sample by sample, the course of the input; above full scale it is scaled down."""
    given = sum(tone(p, seconds, 0.2) for p in (50, 62, 81)).astype(np.float32)
    loud = np.minimum(tone(69, seconds, 3.0), 0.9)
    got, scaled = sounds_of(read(tmp_path, example("t", Sound(given, "s"), ("Bass", Sound(loud, "n"), []))))
    assert len(got) == len(scaled) == len(given)
    if seconds > 0.1:
        assert np.std(got - given) < 0.1 * np.std(given)
        assert np.std(scaled) == pytest.approx(np.std(loud) / 3, rel=0.05)


ACT = """
const all = [...document.querySelectorAll("audio")];
const event = audio => new Promise(done => audio.addEventListener("timeupdate", done, {once: true}));
const past = async audio => { while (!(audio.currentTime > 0)) await event(audio); };
const act = async () => {
  const report = {played: []};
  for (const i of [0, 1, 3, 2]) {
    await all[i].play(); await past(all[i]);
    report.played.push([i, all.map(audio => [!audio.paused, audio.currentTime > 0])]);
  }
  report.seconds = all.map(audio => audio.duration);
  return report;
};
"""


def test_in_a_real_browser(tmp_path, browser):
    """One starts, the others stop at their beginning; nothing is reported as wrong."""
    audio = {p: tone(p, 30.0, 0.1) for p in (60, 62, 64)}
    mix, true, match, again = (Sound(audio[p], HOSTILE + "x" * 99) for p in (60, 62, 64, 62))
    page = examples_page(tmp_path / "page.html", [example(HOSTILE, mix, (HOSTILE, true, [match, again]))], title=HOSTILE, intro=HOSTILE)
    browser.open(page, 380, 800)
    report = browser.ask(ACT + "act()")
    for i, state in report["played"]:
        assert state == [[j == i] * 2 for j in range(4)]  # playing, not at its beginning
    assert report["seconds"] == pytest.approx([30] * 4, abs=0.2)
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth && typeof hacked == 'undefined'")
    assert browser.complaints == [] and browser.requests == [page.as_uri()]
