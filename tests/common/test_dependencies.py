"""Optional packages are imported where they are used and named if they are missing; pins agree with pyproject.toml and .ci."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zlib

import pytest
import yaml
from conftest import tone
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from tones import write

from cirlib.common import tracking
from cirlib.common.paths import ROOT
from cirlib.data import note_statistics as midi
from cirlib.data.mixtures import MixtureDataset
from cirlib.data.sources import build_bank
from cirlib.evaluation import demucs, robustness
from cirlib.models import onnx as export
from cirlib.models.encoder import AudioEncoder
from cirlib.search.library import Library

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
CORE = [Requirement(line).name for line in PROJECT["dependencies"]]
MODULE = {"pyfluidsynth": "fluidsynth", "scikit-learn": "sklearn", "umap-learn": "umap", "websocket-client": "websocket"}  # else the same
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
PINS = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
OPTIONAL = [MODULE.get(p.name, p.name) for p in PINS if p.name.lower() not in CORE] + ["demucs", "surgepy", "IPython", "numba"]


def test_search_and_training_need_base_packages_only(tone_bank, tmp_path):
    """All modules are imported; sounds are read into a bank; two steps of training; a library is built and searched."""
    write(tmp_path / "sounds" / "bass C2.wav", tone(40))
    code = f"""
import sys
for name in {OPTIONAL}:
    sys.modules[name] = None
import importlib, pkgutil
import cirlib
for module in pkgutil.walk_packages(cirlib.__path__, "cirlib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from cirlib.data.sources import build_bank
build_bank("folder", {str(tmp_path / "own")!r}, {{"path": {str(tmp_path / "sounds")!r}, "estimate": False}}, n_jobs=1)
from cirlib.training.loop import TrainConfig, fit
bank = ({str(tone_bank.paths[0])!r},)
config = TrainConfig(preset="t", bank=bank, seconds=0.5, steps=2, batch_size=12, epoch_size=20, valid_every=2, valid_size=6)
run = fit(config, show=False)
print(run.metrics["best_step"])
from cirlib.search.__main__ import main
main(["build", "one", {str(tmp_path / "sounds")!r}, "--encoder", str(run.checkpoint)])
main(["search", "one", {str(tmp_path / "sounds" / "bass C2.wav")!r}])
"""
    env = {**os.environ, "CIRLIB_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "2\n1 new, 0 changed" in done.stdout and "bass C2.wav" in done.stdout, done.stderr[-2000:]


def _render(source, **options):
    return lambda folder, bank: build_bank(source, folder / "bank", options, n_jobs=1)


def _search(folder, bank):
    write(folder / "sounds" / "a.wav", tone(60))
    Library.build(folder / "sounds", folder / "lib", AudioEncoder.create("cnn", seconds=0.5))


def _degrade(folder, bank):
    robustness.queries("room", MixtureDataset(bank, families=["Bass"], size=2, seconds=0.5), [0])


def _track(folder, bank):
    tracking.start("offline", "run", config={}, folder=folder)


USES = [  # package, start of the message, a use of it (bokeh: test_map_page.py)
    ("pysfizz", "virtual instruments need", _render("virtual")),
    ("pedalboard", "virtual instruments need", _render("virtual")),
    ("pysfizz", "SFZ instruments need", _render("sfz", path="x")),
    ("soxr", "folders of sounds need", _render("folder", path="x")),
    ("librosa", "folders of sounds need", _render("folder", path="x")),
    ("soxr", "sets of 48 kHz need", _render("cir", path="x")),
    ("joblib", "NSynth's notes need", _render("nsynth", path="x")),
    ("pyfluidsynth", "SoundFonts need", _render("soundfont")),
    ("surgepy", "rendering Surge presets needs", _render("surge")),
    ("pretty_midi", "MIDI files need", lambda folder, bank: midi.read_folder(folder)),
    ("lancedb", "libraries need", _search),
    ("soxr", "libraries need", _search),
    ("onnx", "ONNX files need", lambda folder, bank: export.export_onnx(AudioEncoder.create("cnn", seconds=0.5), folder / "x.onnx")),
    ("onnxscript", "ONNX files need", lambda folder, bank: export.export_onnx(AudioEncoder.create("cnn", seconds=0.5), folder / "x.onnx")),
    ("demucs", "stems by Demucs need", lambda folder, bank: demucs.require_demucs()),
    ("pedalboard", "degraded queries need", _degrade),
    (
        "scipy",
        "mixtures with effects need",
        lambda folder, bank: MixtureDataset(bank, families=["Bass"], size=2, seconds=0.5, effects=1)[0],
    ),
    ("wandb", "Weights & Biases runs need", _track),
]


@pytest.mark.parametrize(("package", "words", "use"), USES, ids=[f"{p}: {w}" for p, w, _ in USES])
def test_missing_package_is_named(package, words, use, tone_bank, tmp_path, monkeypatch):
    name = MODULE.get(package, package)
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises((ValueError, ImportError)) as caught:
        use(tmp_path, tone_bank)
    message = str(caught.value)
    assert message.startswith(words) and package in message and "\n" not in message
    assert f"pip install {package}" in message or package == "surgepy"  # which is not on PyPI
    assert not (tmp_path / "bank").exists()


def _packages(extra: str) -> set[str]:
    """Return the packages of an extra and of the extras that it names."""
    return {name for r in EXTRAS[extra] for name in (set().union(*map(_packages, r.extras)) if r.name == "cirlib" else [r.name])}


def test_versions_are_in_requirements_only():
    """They pin what the package and its extras name, and nothing else; `all` has every extra."""
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in PINS)
    named = [Requirement(line) for line in PROJECT["dependencies"]] + [r for extra in EXTRAS.values() for r in extra]
    assert not any(r.specifier or r.marker for r in named)
    assert sorted(map(canonicalize_name, {*CORE, *_packages("all")})) == sorted(canonicalize_name(pin.name) for pin in PINS)
    assert _packages("all") == set().union(*map(_packages, EXTRAS)) and not _packages("all") & set(CORE)
    own = [r.name for extra in EXTRAS.values() for r in extra if r.name != "cirlib"]
    assert len(own) == len(set(own)), "a package is in one extra"


def _script(path, text: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_make_installs_with_uv_where_it_is(tmp_path, installer):
    """In a folder with a space and an accent; Python and uv are scripts that write what they are asked for."""
    home, programs = tmp_path / "été 1", tmp_path / "programs"
    home.mkdir(), programs.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, home)
    log = f'echo "${{0##*/}} $*" >> "{tmp_path}/log"'
    _script(
        programs / "python3", f'case "$*" in -c*) exit 0;; esac; {log}; [ -e .venv ] || {{ mkdir -p .venv/bin; cp "$0" .venv/bin/python; }}'
    )
    if installer == "uv":
        _script(programs / "uv", log)
    for name in ("mkdir", "cp", "touch"):
        (programs / name).symlink_to(shutil.which(name))
    command = [shutil.which("make"), "setup", f"SHELL={shutil.which('sh')}"]
    done = subprocess.run(command, cwd=home, env={"PATH": str(programs)}, capture_output=True, text=True)
    made, *installed = (tmp_path / "log").read_text().splitlines()
    start = {"uv": "uv pip install --quiet --python .venv/bin/python", "pip": "python -m pip install --quiet --disable-pip-version-check"}
    assert made == "python3 -m venv .venv" and done.returncode == 0, done.stderr
    assert installed == [f"{start[installer]} -r requirements.txt", f"{start[installer]} --no-deps -e ."]
    assert (home / ".venv" / ".ready").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("name", "version"), [*(("python3", v) for v in ("3.10", *VERSIONS, "3.15")), *((f"python{v}", v) for v in VERSIONS)]
)
def test_make_finds_every_supported_python(tmp_path, name, version):
    """As pyproject.toml has them; without one, a sentence says which are needed. The Python here is a script with another version."""
    code = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); exec(sys.argv[1])"
    _script(tmp_path / name, f'exec "{sys.executable}" -c "{code}" "$2"')
    needed = SpecifierSet(PROJECT["requires-python"])
    command = [shutil.which("make"), "-n", "setup", f"SHELL={shutil.which('sh')}", f"READY={tmp_path / 'ready'}"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (f"{name} -m venv" in done.stdout) == (version in needed) == (version in VERSIONS), done.stdout + done.stderr
    assert f"Python {VERSIONS[0]} to {VERSIONS[-1]} is needed" in done.stdout


def test_every_file_of_the_package_is_installed():
    """Files that are no Python, such as pages, the example and weights, are package data."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = [p for p in (ROOT / "cirlib").glob("*/**/*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    installed = {
        file for name, globs in setup["package-data"].items() for glob in globs for file in ROOT.joinpath(*name.split(".")).glob(glob)
    }
    assert package and set(package) <= installed
    assert sum(len(zlib.compress(p.read_bytes(), 1)) for p in package) < 14.5e6, "the wheel must be under 15 MB"


def test_an_installed_package_needs_no_repository(tmp_path):
    """The files of the package alone: the encoder loads, the example is searched, and what is made goes to the user's home."""
    shutil.copytree(ROOT / "cirlib", tmp_path / "site" / "cirlib", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    weights = tmp_path / "site" / "cirlib" / "models" / "weights" / "cirlib-small"
    AudioEncoder.create("cnn", seconds=0.5, width=4, dim=16).save_folder(weights)
    (tmp_path / "home").mkdir()
    env = {k: v for k, v in os.environ.items() if k != "CIRLIB_HOME"} | {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(tmp_path / "site"),
    }

    def run(*command):
        return subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)

    done = run("-c", "import cirlib; from cirlib.common.paths import LIB; print(cirlib.AudioEncoder.load().config.width, LIB)")
    assert done.stdout == f"4 {tmp_path}/home/.cirlib/lib\n", done.stderr
    done = run("-m", "cirlib.search", "example")
    assert done.returncode == 0 and "bass" in done.stdout, done.stderr
    assert run("-m", "cirlib.reproduce", "demo").stderr.startswith(
        "error: presets are in the repository, not in the installed package: clone"
    )


def test_newest_allows_later_minor_versions():
    lines = subprocess.run([ROOT / ".ci" / "newest"], capture_output=True, text=True, check=True).stdout.splitlines()
    newest = {r.name: r.specifier for r in (Requirement(line) for line in lines if not line.startswith("#"))}
    assert list(newest) == [pin.name for pin in PINS]
    for pin in PINS:
        here = Version(str(pin.specifier).removeprefix("=="))
        pair = pin.name in ("torch", "torchaudio")
        later = f"{here.major}.{here.minor}.99" if pair else f"{here.major}.{here.minor + 99}"
        too_late = f"{here.major}.{here.minor + 1}" if pair else f"{here.major + 1}.0"
        assert here in newest[pin.name] and later in newest[pin.name] and too_late not in newest[pin.name], pin.name


@pytest.mark.parametrize("name", ["tests", "drift"])
def test_workflows_run_existing_scripts(name):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == VERSIONS
    commands = " ".join(step.get("run", "") for step in job["steps"])
    for script in re.findall(r"\.ci/\w+", commands):
        assert os.access(ROOT / script, os.X_OK)
    assert ".ci/run" in commands and (name == "tests" or ".ci/newest" in commands)
    assert ("schedule" if name == "drift" else "push") in workflow[True]  # YAML reads `on` as true
