"""Names of files: notes, layers, takes and tempos, and the instruments that they give, in the forms of eleven kinds of libraries."""

import random
import subprocess
from pathlib import Path
from unicodedata import normalize

import pytest
import yaml
from library_names import LIBRARIES, Truth, library
from tones import rows, write

from cirlib.common.paths import ROOT
from cirlib.data.sources.folder import FolderConfig, build, find_sounds
from cirlib.data.sources.grouping import group_files
from cirlib.data.sources.names import tokenise

NAMES = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))


def read(*names, **options):
    """Return path -> (uid, family, pitch, velocity, kind) of files with these names; .wav is added."""
    root = Path("/library")
    found = group_files(root, sorted(root / f"{name}.wav" for name in names), **options)
    return {path.removesuffix(".wav"): (uid, it.family, *what) for uid, it in found.items() for path, *what in it.notes}


def instruments(*names, **options) -> int:
    return len({uid for uid, *_ in read(*names, **options).values()})


def pitches(*names, **options) -> list[int | None]:
    found = read(*names, **options)
    return [found[name][2] for name in names]


# Libraries


def share(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def compare(name: str) -> dict[str, tuple[int, int, int]]:
    """Return for instruments, pitches and families of an imitated library how many are true, right of these, and invented.

    An instrument is right if exactly its files are together; a pitch or family is counted per file, where the name gives one or not.
    """
    true, root = library(name), Path("/library")
    found = group_files(root, sorted(root / path for path in true))
    members = [{path for path, *_ in it.notes} for it in found.values()]
    wanted: dict[str, set[str]] = {}
    for path, truth in true.items():
        wanted.setdefault(truth.instrument, set()).add(path)
    got = {path: Truth("", it.family, pitch, velocity, kind) for it in found.values() for path, pitch, velocity, kind in it.notes}
    together = sum(files in members for files in wanted.values())
    out = {"instruments": (len(wanted), together, 0)}
    for what in ("pitch", "family", "kind"):
        pairs = [(getattr(truth, what), getattr(got[path], what)) for path, truth in true.items()]
        right = sum(a == b for a, b in pairs if a is not None)
        out[what] = sum(a is not None for a, _ in pairs), right, sum(a is None and b is not None for a, b in pairs)
    pairs = [(truth.velocity, got[path].velocity) for path, truth in true.items() if truth.velocity is not None]
    out["velocity"] = len(pairs), sum(a == b for a, b in pairs), 0  # relative where a name gives a layer only
    return out


@pytest.mark.parametrize("name", LIBRARIES)
def test_names_of_libraries(name):
    """At least 95 percent are right where the name gives them, none where it does not."""
    for true, right, invented in compare(name).values():
        assert right >= 0.95 * true
        assert not invented


@pytest.mark.parametrize("name", LIBRARIES)
def test_table_of_libraries(name):
    """The table in tests/README.md has the numbers of `compare`."""
    found = compare(name)
    counts = [f"{true} / {right}" for true, right, _ in (found[what] for what in ("instruments", "pitch", "family"))]
    assert f"| {name} | {len(library(name))} | {' | '.join(counts)} |" in (ROOT / "tests" / "README.md").read_text()


def public_names() -> dict[str, dict[str, list]]:
    """Return library -> path -> [instrument, family, pitch, kind] of the names in public_names.txt."""
    libraries: dict[str, dict[str, list]] = {}
    for line in Path(__file__).with_name("public_names.txt").read_text(encoding="utf-8").splitlines()[1:]:
        if not line.startswith(" "):
            files = libraries.setdefault(line, {})
            continue
        path, *truth = (field.strip() or None for field in line.split("|"))
        instrument, family, pitch, kind = [*truth, None, None, None][:4]
        files[path] = [instrument, family, pitch and int(pitch), kind]
    return libraries


@pytest.mark.parametrize("name", public_names())
def test_names_as_in_public_libraries(name):
    true = public_names()[name]
    found, of = read(*true), {}
    for path, (uid, family, pitch, _, kind) in found.items():
        assert [family, pitch, kind] == true[path][1:], path
        of.setdefault(true[path][0], set()).add(uid)
    assert len(set.union(*of.values())) == len(of) == sum(map(len, of.values()))


def installed(package: str, folder: str) -> list[str]:
    """Return the sound files of a Debian package below a folder."""
    done = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True) if Path("/usr/bin/dpkg").exists() else None
    if done is None or done.returncode:
        pytest.skip(f"the Debian package {package} is not installed")
    return [line.removeprefix(folder) for line in done.stdout.splitlines() if line.endswith((".wav", ".flac", ".aiff"))]


def test_names_of_sonic_pi():
    files = installed("sonic-pi-samples", "/usr/share/sonic-pi/samples/")
    found = read(*(Path(file).stem for file in files if "/" not in file))
    kinds = {
        "bd": "drum hit",
        "sn": "drum hit",
        "drum": "drum hit",
        "tabla": "drum hit",
        "loop": "loop",
        "bass": None,
        "guit": None,
        "ambi": None,
    }
    families = {"bd": "Drum Kit", "sn": "Drum Kit", "tabla": "Percussion", "bass": "Bass", "guit": "Guitar"}
    assert len(found) > 100
    for name, (_, family, pitch, _, kind) in found.items():
        prefix = name.partition("_")[0]
        assert pitch is None
        assert kind == kinds.get(prefix, kind), name
        assert family == families.get(prefix, family), name
    unknown = [name for name in found if name.startswith(("misc", "vinyl", "mehackit"))]
    assert unknown and {found[name][1] for name in unknown} == {None}


def test_names_of_hydrogen():
    files = installed("hydrogen-drumkits", "/usr/share/hydrogen/data/")
    root = Path("/data")
    found = group_files(root, [root / file for file in files])
    notes = [(it.family, pitch, kind) for it in found.values() for _, pitch, _, kind in it.notes]
    assert len(notes) > 500
    assert all(pitch is None for _, pitch, _ in notes)
    assert share(family in ("Drum Kit", "Percussion") and kind in ("drum hit", "loop") for family, _, kind in notes) > 0.98


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES["kinds"].items() for name in names])
def test_what_is_no_note(kind, name):
    assert read(name)[name][4] == kind


# Notes


@pytest.mark.parametrize("name", NAMES["pitches"])
def test_lone_names_with_a_pitch(name):
    assert pitches(name) == [NAMES["pitches"][name]]


@pytest.mark.parametrize("name", NAMES["no_pitch"])
def test_lone_names_without_a_pitch(name):
    assert pitches(name) == [None]


@pytest.mark.parametrize(("names", "expected"), NAMES["pitches_together"])
def test_names_with_a_pitch_only_together(names, expected):
    assert pitches(*names) == expected


@pytest.mark.parametrize(("middle_c", "expected"), [(3, 72), (4, 60), (5, 48)])
def test_middle_c_shifts_note_names_but_not_numbers(middle_c, expected):
    assert pitches("a/C4", "a/D4", "b/60", "b/62", middle_c=middle_c) == [expected, expected + 2, 60, 62]


@pytest.mark.parametrize(("names", "expected"), NAMES["velocities"])
def test_layers_are_velocities(names, expected):
    found = read(*names)
    assert [found[name][3] for name in names] == expected


@pytest.mark.parametrize("name", ["mf", "MF", "rr2", "RR1", "v3", "take2", "085bpm", "Am", "F#min", "1s", "24bit", "sulA", "pizz", "cnd"])
def test_tokens_that_name_no_instrument(name):
    (token,) = tokenise(name)
    assert token.kind not in ("word", "note", "number")


# Instruments


FORMS = [normalize("NFC", "Flöte/C3"), normalize("NFD", "Flöte/D3")]


@pytest.mark.parametrize("names", [*NAMES["one_instrument"], FORMS])
def test_notes_of_one_instrument(names):
    assert instruments(*names) == 1


@pytest.mark.parametrize("names", NAMES["different_instruments"])
def test_different_instruments(names):
    assert instruments(*names) == len({name.rpartition(" ")[0] or name for name in names if "C3" in name} or names)


def test_no_two_instruments_share_a_name():
    """Of a folder and of files beside it, and of a folder that is named like the root."""
    found = read("X/Piano C3", "X/Piano D3", "X/Violin C3", "X/Piano/C3", "X/Piano/E3", "C3", "D3", "library/C3", "library/D3")
    together = [{"X/Piano C3", "X/Piano D3"}, {"X/Violin C3"}, {"X/Piano/C3", "X/Piano/E3"}, {"C3", "D3"}, {"library/C3", "library/D3"}]
    uids = [{found[name][0] for name in names} for names in together]
    assert all(len(uid) == 1 for uid in uids)
    assert len(set.union(*uids)) == len(together)


@pytest.mark.parametrize("by", ["file", "folder"])
def test_every_file_is_in_one_instrument(by):
    for name in LIBRARIES:
        files = [Path("/library") / path for path in library(name)]
        found = group_files(Path("/library"), files, by=by)
        assert sorted(path for it in found.values() for path, *_ in it.notes) == sorted(library(name))
        assert len(found) == len(files if by == "file" else {file.parent for file in files})


PARTS = (
    "C4", "c#3", "A0v8", "C4B4", "B-1", "H3", "Es", "♯", "piano", "mezzo", "forte", "long", "05", "1", "v", "128", "9" * 30, "bpm", "Am",
    "loop", "Kick", "rr1", "pizzT", "F", "p", "to", "é", "e\u0301", "音", "²", "_", "__", "-", " ", "(", ")", "#", ".",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_any_names_are_grouped(seed):
    """Every file is in one instrument, and pitches and velocities are MIDI numbers, whatever a name is made of."""
    draw = random.Random(seed)
    for _ in range(40):
        names = {"".join(draw.choices(PARTS, k=draw.randint(1, 9))).strip(" /.") or "x" for _ in range(8)}
        folders = ["", "Loops/", "piano/", "forte/", "Drums/Hits/"]
        files = sorted({Path("/library") / f"{draw.choice(folders)}{name}.wav" for name in names})
        found = [note for it in group_files(Path("/library"), files).values() for note in it.notes]
        assert sorted(path for path, *_ in found) == sorted(file.relative_to("/library").as_posix() for file in files)
        assert {number for _, *numbers, _ in found for number in numbers} <= {None, *range(128)}


def test_one_file_of_two_forms_of_unicode(tmp_path):
    for form in ("NFC", "NFD"):
        write(tmp_path / "sounds" / normalize(form, "Flöte C3.wav"), [0.5, -0.5] * 400)
    files, remarks = find_sounds(tmp_path / "sounds")
    if len(list((tmp_path / "sounds").iterdir())) == 1:
        pytest.skip("this file system has one form of Unicode")
    assert len(files) == 1
    assert [remark.text for remark in remarks] == ["the name of another file, in another form of Unicode"]


def test_remarks_and_tags_of_a_bank(tmp_path):
    """What was grouped although names leave it open, and what is no note."""
    names = ("Cello_arco_C3", "Cello_pizz_C3", "Drum Loop 120", "Kick 01", "pad")
    for name in names:
        write(tmp_path / "sounds" / f"{name}.wav", [0.5, -0.5] * 400)
    bank = build(tmp_path / "bank", FolderConfig(path=str(tmp_path / "sounds")), n_jobs=1)
    noted = bank.infos[0]["noted"]
    assert noted == {"Cello": "one instrument, although names differ in articulation", "pad.wav": "pitch unknown"}
    tags = {uid.rpartition("/")[2]: list(tags) for uid, tags in rows(bank, "instrument", "tags")}
    assert tags == {"Cello": ["strings"], "Drum Loop 120.wav": ["loop"], "Kick 01.wav": ["drum hit"], "pad.wav": ["pad"]}
