"""Names of files: notes, layers, takes and tempos, and the instruments that they give, in the forms of eleven kinds of libraries."""

import random
import subprocess
from pathlib import Path
from unicodedata import normalize

import pytest
from library_names import LIBRARIES, Truth, library
from tones import rows, write

from cirlib.common.paths import ROOT
from cirlib.data.sources.folder import FolderConfig, build, find_sounds
from cirlib.data.sources.grouping import group_files
from cirlib.data.sources.names import tokenise


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, "loop")
            for name in ("Kits/Alive (G Minor - 175bpm)/Kick", "drumloop_01", "90_Dm_Rhodes_01", "Breaks/Amen", "Loops/x/Hat")
        ),
        *((name, "phrase") for name in ("Vocals/Phrases/hey", "violin_A4_phrase_forte_normal", "Flute.ff.C4B4", "Guitar Riff")),
        *((name, "drum hit") for name in ("Loops/One Shots/Kick", "Breaks/Kick 1", "Percussion/Conga", "Kit/noise tom")),
        *(
            (name, None)
            for name in (
                "Lo-Fi Beats/Keys/EP 1",
                "Loops/Bass C1",
                "Fruity Loops/Pad",
                "Loops/One Shots/Pad",
                "Pad Am",
                "Steel Guitar C3",
                "Rhodes_90",
                "Fillmore Piano",
                "Timpani C2",
            )
        ),
        *((name, None) for name in ("Lo-Fi Beats/Keys/EP 1", "Loops/Bass C1", "Fruity Loops/Pad")),
        ("Salamander/rel12", "noise"),
    ],
)
def test_what_is_no_note(name, kind):
    assert read(name)[name][4] == kind


# Notes

PITCHES = {
    "C4": 60, "Piano C#3": 49, "Cs3 Piano": 49, "Piano_Bb2_long": 46, "E♭4": 63, "F♯4": 66, "Cb4": 59, "C-1": 0, "G9": 127,
    "Violin (A4)": 69, "[A4] Violin": 69, "Rhodes-A4-vel3-rr2": 69, "Piano-060-100": 60, "x-000-127": 0, "A4-045-100": 45, "060 A4": 69,
    "Bsharp3": 60, "D flat 4": 61, "cSHARP4 Csharp4": None, "A0v16": 21, "C4vH": 60, "808 C1": 24,
}  # fmt: skip
NO_PITCH = (  # lone numbers, machines, tempos, notes outside of MIDI, parts of words, runs of notes, drums and loops
    "060", "Piano 060", "Snare 020", "take 109", "TR-909", "808 Kick", "Loop 120 bpm", "Snare 60", "2024", "Kick 2 060", "120 bpm 060",
    "G#9", "C-2", "H4", "c4", "PianoC4", "Abc4", "A4x", "Track A1B", "C", "", "castanets__025_forte_struck-singly", "_085_Am",
    "Hammond B3", "B3 Organ", "Bass Drum 060", "808 Kick C2", "C1_Kick", "Conga C3", "A1 to B2", "Flute.ff.C4B4", "C4-B4",
)  # fmt: skip


@pytest.mark.parametrize("name", PITCHES)
def test_lone_names_with_a_pitch(name):
    assert pitches(name) == [PITCHES[name]]


@pytest.mark.parametrize("name", NO_PITCH)
def test_lone_names_without_a_pitch(name):
    assert pitches(name) == [None]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["28_60", "28_100", "40_60"], [28, 28, 40]),
        (["FM 36", "FM 40", "FM 43"], [36, 40, 43]),
        (["060", "072"], [60, 72]),
        (["Pad-c3", "Pad-a3"], [48, 57]),
        (["PianoC3", "PianoC#3"], [48, 49]),
        (["Klavier_H3", "Klavier_B3", "Klavier_Cis4", "Klavier_As3", "Klavier_Es4"], [59, 58, 61, 56, 63]),  # German
        (["p_As3", "p_B3", "p_Cs4"], [58, 59, 61]),  # s is a sharp, not German
        (["Pad_C-2", "Pad_C-1", "Pad_C3", "Pad_G8"], [0, 12, 60, 127]),  # C3 is MIDI pitch 60
        (["EP_060_C3", "EP_062_D3"], [60, 62]),  # the number gives the octave
        (["A_029__F1_1", "A_029__F1_2", "A_035__B1_1"], [29, 29, 35]),
        (["a#3", "bb3", "b3"], [58, 58, 59]),
        (["H1", "H2", "H3"], [None] * 3),
        (["Piano A-1", "Piano C7"], [21, 108]),  # no piano has the A of 14 Hz
        (["103.703", "98.002"], [None] * 2),  # Hz
        (["Kick 01", "Kick 02", "Kick 36"], [None] * 3),
        (["Kick 36", "Snare 40"], [None] * 2),
        (["Shaker 36", "Shaker 38"], [None] * 2),
        (["Break_90", "Break_95"], [None] * 2),
        (["Amen 080", "Amen 085"], [None] * 2),  # tempos
        (["Bass_085_Am", "Bass_090_Cm"], [None] * 2),
        (["Pad 01", "Pad 36", "Pad 40"], [None] * 3),  # counted
        (["Pad 36", "Pad 36 b"], [None] * 2),
        (["Pad-c3", "Lead-c3"], [None] * 2),
        (["castanets__025_forte", "castanets__05_forte", "castanets__1_forte"], [None] * 3),
    ],
)
def test_names_with_a_pitch_only_together(names, expected):
    assert pitches(*names) == expected


@pytest.mark.parametrize(("middle_c", "expected"), [(3, 72), (4, 60), (5, 48)])
def test_middle_c_shifts_note_names_but_not_numbers(middle_c, expected):
    assert pitches("a/C4", "a/D4", "b/60", "b/62", middle_c=middle_c) == [expected, expected + 2, 60, 62]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["C3v1", "C3v2", "C3v4"], [32, 64, 127]),
        (["C3_vl1", "C3_vl3"], [42, 127]),
        (["C3 vel 64", "C3 vel 127"], [64, 127]),
        (["C3_64", "D3_64", "C3_127"], [64, 64, 127]),
        (["C3v1", "D3v1"], [None, None]),  # one layer
        (["C3_v1", "C3_v999"], [None, None]),
        (["C3pp", "C3ff", "D3mf"], [33, 112, 80]),
        (["x_C3_p", "x_C3_mf", "x_C3_f"], [49, 80, 96]),
        (["x_C3_p", "x_D3_p"], [None, None]),
        (["x_piano_C3", "x_mezzo-forte_C3", "x_fortissimo_C3"], [49, 80, 112]),
        (["Cello/piano/C3", "Cello/forte/C3"], [49, 96]),
        (["Snare-Hard", "Snare-Soft", "Snare-Med"], [112, 49, 80]),
        (["Kick Hard", "Snare Soft"], [None, None]),
        (["a-060-100", "a-060-025"], [100, 25]),
    ],
)
def test_layers_are_velocities(names, expected):
    found = read(*names)
    assert [found[name][3] for name in names] == expected


@pytest.mark.parametrize("name", ["mf", "MF", "rr2", "RR1", "v3", "take2", "085bpm", "Am", "F#min", "1s", "24bit", "sulA", "pizz", "cnd"])
def test_tokens_that_name_no_instrument(name):
    (token,) = tokenise(name)
    assert token.kind not in ("word", "note", "number")


# Instruments


@pytest.mark.parametrize(
    "names",
    [
        ["Salamander/A0v1", "Salamander/A0v16", "Salamander/D#3v8"],
        ["Upright/C4vH", "Upright/C4vL", "Upright/D#4vH"],
        ["cello_A2_025_pianissimo_arco-normal", "cello_A2_15_forte_arco-normal", "cello_C3_1_forte_arco-normal"],
        ["vib/PSBassoon_A2_v1_1", "vib/PSBassoon_C3_v2_2", "sus/PSBassoon_C3_v1_1"],
        ["148604__name-D4", "148605__name-E4"],
        ["448590__user__piano-d6", "448597__user__piano-g6"],
        ["piano_C3_close", "piano_C3_room", "piano_D3_far"],
        ["piano_C3_L", "piano_C3_R"],
        ["Flute/expvib/LDFlute_expvib_A3_v1_1", "Flute/susNV/LDFlute_susNV_A3_v1_1"],
        ["Claves1_Hit_v1_rr1_Sum", "Claves1_Hit_v2_rr2_Sum"],
        ["snare_take1", "snare_take2"],
        ["violin-c3", "Violin-D3"],
        [normalize("NFC", "Flöte/C3"), normalize("NFD", "Flöte/D3")],
        ["Close/Piano/C3", "Room/Piano/C3"],
        ["01 Piano C3", "02 Piano D3"],
        ["organ_01", "organ_04", "organ_07", "organ_10"],
    ],
)
def test_notes_of_one_instrument(names):
    assert instruments(*names) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["Flute C5", "Oboe C5"],
        ["Piano 1 C3", "Piano 1 D3", "Piano 2 C3", "Piano 2 D3"],
        ["1 C3", "1 D3", "2 C3", "2 D3"],
        ["bass_033-060-100", "bass_034-060-100"],
        ["Kick 01", "Kick 02"],
        ["Lead 01", "Lead 02"],
        ["bass_hard_c", "bass_hit_c"],
        ["X/Piano C3", "X/Violin C3"],
        ["Loops/Bass 120", "Loops/Bass 125"],
        ["a/C3", "b/C3"],
    ],
)
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
