"""Attacks through note banks, settings, names of runs, libraries, and names on pages."""

import itertools
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import build_bank, sound, tone
from hostile import Scene, attack, attacks, bounded, quiet, refused
from tones import write

from cirlib.common import paths
from cirlib.common.files import sha256
from cirlib.common.settings import read_params
from cirlib.data import card, sources
from cirlib.data.bank import NoteBank
from cirlib.data.notes import SCHEMA
from cirlib.data.sources import ensure_banks, missing
from cirlib.evaluation.open_mixtures import Presence
from cirlib.models.encoder import AudioEncoder
from cirlib.reporting import rows as sweep
from cirlib.reporting.examples import Example, Sound, examples_page
from cirlib.reporting.map_page import Instrument, Mixture, map_page
from cirlib.search.library import Library
from cirlib.training import runs
from cirlib.training.config import TrainConfig, read_config

# Banks


def bank(scene: Scene):
    """Write a valid bank of two sounds; return its folder."""
    return build_bank(scene.inside / "bank", [sound("a/b/c", quiet()), sound("a/b/d", quiet(0.2))]).paths[0]


def change_info(folder, **values) -> None:
    """Change values in bank.json."""
    info = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(info | values))


def write_notes(folder, table: pa.Table) -> None:
    """Replace the notes of a bank; the checksum in bank.json matches."""
    pq.write_table(table, folder / "notes.parquet")
    info = json.loads((folder / "bank.json").read_text())
    change_info(folder, sha256=info["sha256"] | {"notes.parquet": sha256(folder / "notes.parquet")})


ROWS = {  # data/test_bank_files.py has values at the limits
    "far behind the audio": ("offset", 2**62),
    "longer than the audio": ("length", 4801),
    "so long that the end overflows": ("length", 2**63 - 1),
    "of gain NaN": ("gain", float("nan")),
    "of infinite gain": ("gain", float("inf")),
    "of an unknown split": ("split", "<script>"),
    "of an unknown family": ("family", "$(touch x)"),
    "of an endless name": ("instrument", "x" * 10**6),
    "with an endless tag": ("tags", ["y" * 10**6]),
}


@attacks("bank", ROWS, name="a sound {}")
def _row(scene, column, value):
    folder = bank(scene)
    rows = pq.read_table(folder / "notes.parquet").to_pylist()
    rows[1][column] = value
    write_notes(folder, pa.Table.from_pylist(rows, schema=SCHEMA))
    with bounded(), refused("is damaged"):
        NoteBank.open(folder)


INFOS = {
    "counts that are wrong": {"counts": {"notes": 3, "samples": 4800, "instruments": 2}},
    "counts that are texts": {"counts": {"notes": "2", "samples": "4800", "instruments": None}},
    "a count that is a text": {"counts": {"notes": 2, "samples": 4800, "instruments": "2"}},
    "counts that are none": {"counts": 5},
    "checksums of other files": {"sha256": {"../../secret.txt": "x", "/etc/passwd": "x"}},
    "a rate of 0": {"sample_rate": 0},
    "a rate that is a text": {"sample_rate": "16000"},
    "options that are a list": {"made": ["source"]},
    "reasons that are no texts": {"skipped": {"a": {"b": 1}}},
    "a license that is a list": {"license": ["x"]},
    "a format that is an object": {"format": {"x": "y" * 10**5}},
}


@attacks("bank", INFOS)
def _info(scene, values):
    folder = bank(scene)
    change_info(folder, **values)
    with bounded(), refused("delete"):
        NoteBank.open(folder)


@attack("bank", "no license and no citation")
def _no_license(scene):
    folder = bank(scene)
    info = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps({k: info[k] for k in ("format", "sample_rate", "counts", "sha256")}))
    assert "license   unknown" in card.text_card(NoteBank.open(folder))


JSONS = {"nesting without end": "[" * 10**6, "NaN": '{"format": NaN}', "a number of 5,000 digits": '{"format": 1' + "0" * 5000 + "}"}


@attacks("bank", JSONS, name="a bank.json with {}")
def _json(scene, text):
    folder = bank(scene)
    (folder / "bank.json").write_text(text)
    with refused("is damaged"):
        NoteBank.open(folder)


@attack("bank", "a bank.json of gigabytes")
def _large_json(scene):
    folder = bank(scene)
    with open(folder / "bank.json", "wb") as file:
        file.truncate(1 << 33)
    with bounded(), refused("bytes are too many"):
        NoteBank.open(folder)


@attacks("bank", {name: name for name in ("audio.i16", "notes.parquet", "bank.json")}, name="{} is a link out")
def _link(scene, name):
    folder = bank(scene)
    shutil.move(folder / name, scene.root / name)
    scene.allow()
    (folder / name).symlink_to(scene.root / name)
    with refused("leads outside of"):
        NoteBank.open(folder)


@attack("parquet", "a column type that is a pickle")
def _extension(scene):
    folder = bank(scene)
    import pickle

    meta = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(scene.evil())}
    table = pq.read_table(folder / "notes.parquet")
    fields = [f.with_metadata(meta) if f.name == "instrument" else f for f in table.schema]
    write_notes(folder, table.cast(pa.schema(fields)))
    assert len(NoteBank.open(folder)) == 2


METADATA = {"no JSON": b"{", "odd columns": b'{"index_columns": ["gone"], "columns": 5}', "code": b"\x80\x04cos\nsystem\n."}


@attacks("parquet", METADATA, name="metadata for pandas that is {}")
def _metadata(scene, meta):
    folder = bank(scene)
    write_notes(folder, pq.read_table(folder / "notes.parquet").replace_schema_metadata({"pandas": meta}))
    assert len(NoteBank.open(folder).instruments) == 2


@attack("parquet", "few bytes that unpack to gigabytes of names")
def _names(scene):
    folder, count = bank(scene), 20000
    rows = pq.read_table(folder / "notes.parquet").to_pylist()[:1]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).take(pa.array(np.zeros(count, int)))
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, "i4")), pa.array(["x" * 300_000]))
    write_notes(folder, table.set_column(0, "instrument", name))
    np.zeros(count, "<i2").tofile(folder / "audio.i16")
    change_info(folder, counts={"notes": count, "samples": count, "instruments": 1})
    assert (folder / "notes.parquet").stat().st_size < 1 << 21
    with bounded(), refused("instrument is longer than"):
        NoteBank.open(folder)


@attack("parquet", "few bytes that unpack to billions of tags")
def _tags(scene):
    folder = bank(scene)
    rows = pq.read_table(folder / "notes.parquet").to_pylist()[:1]
    write_notes(folder, pa.Table.from_pylist([{**rows[0], "tags": ["a"] * 10**6}], schema=SCHEMA))
    change_info(folder, counts={"notes": 1, "samples": 4800, "instruments": 1})
    with bounded(), refused("too large when unpacked"):
        NoteBank.open(folder)


@attack("parquet", "damage that its checksum shows, before it is parsed")
def _damaged(scene):
    folder = bank(scene)
    with open(folder / "notes.parquet", "r+b") as file:
        file.seek(-20, 2)
        file.write(b"\xff")
    scene.patch.setattr(pq, "ParquetFile", None)
    with refused("checksum of notes.parquet differs"):
        NoteBank.open(folder)


@attack("parquet", "a folder in its place")
def _folder(scene):
    folder = bank(scene)
    (folder / "notes.parquet").rename(folder / "x.parquet")
    (folder / "notes.parquet").mkdir()
    (folder / "x.parquet").rename(folder / "notes.parquet" / "x.parquet")
    with refused("is damaged"):
        NoteBank.open(folder)


# Settings

UNFOLDING = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in itertools.pairwise("abcdefghij"))
YAMLS = {
    "an object that runs code": "steps: !!python/object/apply:os.system ['touch {canary}']",
    "a module": "steps: !!python/module:os",
    "a name": "steps: !!python/name:os.system",
    "aliases that unfold to gigabytes": UNFOLDING,
    "a value inside itself": "a: &a [*a]",
    "nesting without end": "a: " + "[" * 10**5,
    "a tag that does not fit": "a: !!timestamp x",
    "another one": "a: !!bool x",
    "megabytes": "a: " + "x" * (2 << 20),
    "bytes that are no text": "a: \x00",
    "two documents": "a: 1\n---\nb: 2",
}


@attacks("params", YAMLS)
def _yaml(scene, text):
    (scene.inside / "x.yaml").write_text(text.replace("{canary}", str(scene.canary)))
    with bounded(), refused("x.yaml is not valid YAML"):
        read_params(scene.inside / "x.yaml")


@attacks("config.yaml of a run", YAMLS)
def _config(scene, text):
    (scene.inside / "config.yaml").write_text("key: k\nconfig:\n  " + text.replace("{canary}", str(scene.canary)).replace("\n", "\n  "))
    with bounded(), refused("config.yaml is damaged"):
        read_config(scene.inside)


CONFIGS = {
    "no config": "key: k",
    "a list": "[1]",
    "a config that is a list": "key: k\nconfig: [1]",
    "a key that is a path": "key: ../../x\nconfig: {}",
    "a key that is none": "key: [1]\nconfig: {}",
    "a number that no float holds": "key: k\nconfig: {start_lr: 1" + "0" * 400 + "}",
    "settings of the future": "key: k\nconfig: {of_the_future: 1}",
}


@attacks("config.yaml of a run", CONFIGS)
def _other_config(scene, text):
    (scene.inside / "config.yaml").write_text(text)
    with refused():
        read_config(scene.inside)


@attack("config.yaml of a run", "a key that would move the run elsewhere")
def _key(scene):
    folder = bank(scene)
    scene.patch.setattr(paths, "RUNS", scene.inside / "runs")
    config = TrainConfig(preset="p", experiment="x", bank=(str(folder),))
    config.folder.mkdir(parents=True)
    (config.folder / "config.yaml").write_text("key: '/../../../../evil'\n")
    with refused("key must be a plain name"):
        runs.claim(config, NoteBank.open(folder))


NAMES = (
    *("../../x", "/etc/x", "..", ".", "a/b", "a\\b", "$(shell touch canary)", "$(shell,touch)", "a b", "a\nb", "a;touch", "`id`", "-rf"),
    *("a\0b", "x:y"),
)


@attacks("params", {repr(name): name for name in NAMES}, name="a preset, row or single-sound row named {}")
def _name(scene, name):
    for field in ("preset", "experiment", "single"):
        with refused("must be a plain name"):
            TrainConfig(**{field: name})
    for preset, row in (("p", name), (name, "x")):
        with refused("must be a plain name"):
            paths.run_folder(preset, row, 0)


@attack("params", "a name that a shell would run")
def _shell(scene):
    """The row is refused before any notebook starts."""
    params = scene.inside / "params" / "p"
    params.mkdir(parents=True)
    (params / "data.yaml").write_text("source: virtual")
    name = f"x$(touch {scene.canary.name})"
    (params / f"{name}.yaml").write_text(json.dumps({"preset": "p", "experiment": name}))
    scene.patch.setattr(sweep, "PARAMS", scene.inside / "params")
    with refused("experiment must be a plain name"):
        [row.config() for row in sweep.rows("p")]


DATA = {
    "a bank above the project": ({"bank": "../../evil"}, "outside of"),
    "a bank above the project, through a folder": ({"bank": "data/../../evil"}, "outside of"),
    "an absolute bank": ({"bank": "{root}/evil"}, "outside of"),
    "a bank in the user's home": ({"bank": "~/evil"}, "outside of"),
    "no bank": ({"bank": ""}, "outside of"),
    "a bank that is a list": ({"bank": ["a"]}, "must be text"),
    "a card above the figures": ({"card": "../../x"}, "card must be a plain name"),
    "a preset above the runs": ({"preset": "../x"}, "preset must be a plain name"),
    "a name that papermill would run": ({"x = open('{root}/canary', 'w')\ny": 1}, "unknown parameter of data.yaml"),
    "an unknown source": ({"source": "os"}, "unknown source"),
    "options that are a text": ({"options": "x"}, "options must be"),
    "an option of another kind": ({"source": "nsynth", "options": {"protocol": 5}}, "must be str"),
}


@attacks("params", DATA)
def _data(scene, values, words):
    file = scene.inside / "params" / "p" / "data.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(values).replace("{root}", str(scene.root)))
    scene.patch.setattr(sources, "PARAMS", scene.inside / "params")
    scene.patch.setattr(paths, "HOME", scene.inside)
    for act in (missing, ensure_banks):
        with refused(words):
            act("p")


# Libraries


def library(scene: Scene) -> Library:
    """Build a library of one instrument."""
    return Library.build(bank(scene), scene.inside / "lib", AudioEncoder.create("cnn", seconds=0.5, width=2, dim=8).eval())


INFO = {
    "a metric that is unknown": {"metric": "x"},
    "a metric that is a list": {"metric": ["cosine"]},
    "an encoder that is a number": {"encoder": 5},
    "heads that are numbers": {"heads": [1]},
    "a size that is a text": {"dim": "8"},
    "no digest": {"digest": None},
    "a format that is a list": {"format": [1]},
}


@attacks("library.json", INFO)
def _library(scene, values):
    file = library(scene).path / "library.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with refused("delete it and build it again"):
        Library.open(file.parent)


PRESENCES = {
    "weights of another size": {"weights": [[1.0], [2.0]]},
    "weights that are no numbers": {"weights": [["x"]]},
    "no weights": {"weights": None},
    "weights that are too large": {"weights": [[1e300] * 8]},
    "a family that is unknown": {"families": ["<script>"]},
    "families that are a text": {"families": "Bass"},
    "a bias of another size": {"bias": [1.0, 2.0]},
    "weights of uneven rows": {"weights": [[1], [1, 2]]},
}


@attacks("presence.json", PRESENCES)
def _presence(scene, values):
    good = {"families": ["Bass"], "weights": [[0.0] * 8], "bias": [0.0], "encoder": "abc"}
    (scene.inside / "presence.json").write_text(json.dumps(good | values))
    with bounded(), refused("presence.json is damaged"):
        Presence.load(scene.inside / "presence.json", "abc")


@attack("library", "a presence of vectors of another length")
def _presence_length(scene):
    lib = library(scene)
    Presence(["Bass"], np.zeros((1, 5)), np.zeros(1)).save(lib.path / "presence.json", lib.info.digest)
    with refused("presence.json"):
        lib.families(quiet(0.5))


@attack("library", "names that would be conditions of its table")
def _conditions(scene):
    """They are names like any other."""
    root = scene.inside / "a' OR '1'='1"
    names = ["x' OR 'a'='a.wav", 'y" OR 1=1 --.wav', "z'; DROP TABLE sounds; --.wav", "w\\' OR 1=1.wav", "%.wav", "_.wav"]
    for k, name in enumerate(names):
        write(root / name, tone(50 + 2 * k, 0.3))
    write(scene.inside / "other" / "b.wav", tone(80, 0.3))
    lib = Library.build(root, scene.inside / "lib", AudioEncoder.create("cnn", seconds=0.5, width=2, dim=8).eval())
    lib.add(scene.inside / "other")
    (root / names[0]).unlink()
    assert lib.add(root).removed == 1 and lib.describe()["sounds"] == 6
    write(root / "w\\' OR 1=1.wav", tone(40, 0.4))
    assert lib.add(root).changed == 1
    assert lib.remove(root).removed == 5 and lib.describe()["sounds"] == 1


# Pages

WORDS = (
    "<script>hacked=1</script>",
    "</script><img src=x onerror=hacked=1>",
    "\"' onmouseover='hacked=1",
    "<!--",
    "]]>",
    "${bokeh}",
    "\u202egnp",
    "\0\x1b[31m",
)


class _Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def safe(html: str, scripts: int) -> None:
    """Assert that a page has only its own scripts and policy."""
    tags = _Tags(html).tags
    assert sum(tag == "script" for tag, _ in tags) == scripts
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:") for tag, attributes in tags if tag in ("img", "audio") and "src" in attributes)
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", html) and not set(html) & set("\u202e\0\x1b")


@attacks("page", {repr(word): word for word in WORDS}, name="a name {}")
def _page(scene, word):
    sample = Sound(tone(60, 0.2).astype(np.float32), word, word)
    page = examples_page(scene.inside / "e.html", [Example(word, sample, [(word, sample, [sample])])], title=word, intro=word)
    safe(page.read_text(), 1)
    points = [Instrument(word, word, word, sample.audio), Instrument(word, None, word, sample.audio)]
    page = map_page(
        scene.inside / "m.html", np.zeros((3, 2)), instruments=points, mixtures=[Mixture(word, sample.audio, [])], title=word, intro=word
    )
    safe(page.read_text(), 5)
