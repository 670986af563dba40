"""Weights & Biases: online with secrets.yaml, offline, or off. The API key is handed to wandb only."""

import contextlib
import importlib
import re
import shutil
import tempfile
import uuid
import warnings
from pathlib import Path

import yaml

from .files import sha256, write_atomic
from .paths import ROOT, plain_name, without_home
from .settings import choose
from .untrusted import inside

MODES = ("off", "offline", "online")
# otherwise wandb uploads the names of user and machine, the program and its folders, and what is printed
PRIVATE = {"x_disable_meta": True, "disable_git": True, "disable_code": True, "console": "off"}
START_SECONDS = 30  # timeout of a server that does not answer
FINISH_SECONDS = 600  # what is not uploaded by then stays in the run folder, for `wandb sync --include-online`


class Tracker:
    """A run of Weights & Biases, or none (mode off). A failure is a warning and never stops the training."""

    def __init__(self, run, name: str):
        self._run, self._name = run, name
        self._links: list[tempfile.TemporaryDirectory] = []  # to files that are being uploaded

    def log(self, values: dict, step: int) -> None:
        """Log values. wandb stores them on disk and sends them in the background."""
        self._try("log", lambda: self._run.log(values, step=step))

    def checkpoint(self, path: Path, alias: str) -> None:
        """Upload a .pt file as the next version of the run's artifact (type model), named as the run with `-` for `/`."""
        self._try("checkpoint", lambda: self._upload(Path(path), alias))

    def finish(self) -> None:
        """End the run; wait at most FINISH_SECONDS for uploads."""
        self._try("finish", self._finish)

    def _finish(self) -> None:
        self._run.finish()
        _remove_logs(self._run)
        for folder in self._links:
            folder.cleanup()

    def _upload(self, path: Path, alias: str) -> None:
        # wandb would copy the file to the user's home; this copy in the run's folder is there for a later `wandb sync`
        copy = write_atomic(Path(self._run.dir).parent / "checkpoints" / f"{sha256(path)}.pt", lambda part: shutil.copyfile(path, part))
        artifact = _package().Artifact(re.sub(r"[^A-Za-z0-9_.-]", "-", self._name), type="model")
        if not self._run.offline:  # the uploaded manifest has the path: that of a link does not contain the home folder
            self._links.append(tempfile.TemporaryDirectory(prefix="wandb-"))
            link = Path(self._links[-1].name, copy.name)
            link.symlink_to(copy.resolve())
            copy = link
        artifact.add_file(str(copy), name=path.name, policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact, aliases=[alias])

    def _try(self, what: str, action) -> None:
        try:
            if self._run:
                action()
        except Exception as error:
            warnings.warn(f"wandb {what} failed, training goes on: {_reason(error, self._run.settings.api_key)}", RuntimeWarning, 3)


def start(mode: str, name: str, *, config: dict, folder: Path) -> Tracker:
    """Start the W&B run of a folder, or continue it if the folder has one.

    Raises ValueError for an unknown mode, without the package wandb, and online without a usable secrets.yaml or server.
    """
    if choose("wandb mode", mode, MODES) == "off":
        return Tracker(None, name)
    wandb = _package()
    team, key = _secrets() if mode == "online" else (None, None)
    try:
        # a key in the settings is neither written to ~/.netrc (as wandb.login does) nor inherited by child processes
        settings = wandb.Settings(
            api_key=key, quiet=True, silent=not key, init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS, **PRIVATE
        )
        run = wandb.init(
            project="cirlib", entity=team, name=name, config=config, dir=str(folder), mode=mode, id=_run_id(Path(folder)),
            resume="allow", reinit="create_new", settings=settings,
        )  # fmt: skip
    except Exception as error:
        with contextlib.suppress(Exception, SystemExit):
            wandb.teardown()  # otherwise the id stays in use in this process and a second attempt fails
        raise ValueError(f"wandb={mode} could not start, set wandb=offline or off: {_reason(error, key)}") from None
    _remove_logs(run)
    return Tracker(run, name)


def download(name: str, folder: Path) -> Path:
    """Download the checkpoint of the artifact `entity/project/name:alias` to `folder`/<digest>/, unless it is there, and return its path.

    Its checksum is verified and nothing in it is run. Raises ValueError without the package wandb or a usable secrets.yaml, or if
    there is no such artifact with exactly one .pt file.
    """
    wandb, (_, key), folder = _package(), _secrets(), Path(folder)
    try:
        artifact = wandb.Api(api_key=key).artifact(name)
        found = [file for file, entry in artifact.manifest.entries.items() if file.endswith(".pt") and entry.ref is None]
        if len(found) == 1:
            place = folder / plain_name("digest", artifact.digest) / Path(found[0]).name
            return place if place.exists() else _fetch(artifact, found[0], place)
    except Exception as error:
        raise ValueError(f"artifact {name} (entity/project/name:alias) could not be fetched: {_reason(error, key)}") from None
    raise ValueError(f"artifact {name} holds {len(found)} .pt files, not one: name the artifact of a checkpoint")


def _fetch(artifact, file: str, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parents[1]) as part:
        for name in artifact.manifest.entries:
            inside(Path(part), name)
        artifact.download(root=part, skip_cache=True)
        artifact.verify(part)
        return Path(part, file).replace(place)


def _remove_logs(run) -> None:
    """Remove wandb's own logs and the links to them: they contain paths. What it writes from now on is lost."""
    folder = Path(run.dir).parent
    shutil.rmtree(folder / "logs", ignore_errors=True)
    for link in folder.parent.glob("debug*.log"):
        link.unlink(missing_ok=True)


def _package():
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise ValueError("Weights & Biases needs the package wandb: pip install wandb") from None


def _run_id(folder: Path) -> str:
    """Return the id of the W&B run, which is stored in the run folder."""
    path = folder / "wandb" / "id.txt"
    if not path.exists():
        write_atomic(path, lambda part: part.write_text(uuid.uuid4().hex[:12]))
    return path.read_text()


def _secrets() -> tuple[str | None, str]:
    """Return (team, key) of secrets.yaml. Errors of YAML are not passed on, as they quote the line."""
    path, key, team = ROOT / "secrets.yaml", None, None
    with contextlib.suppress(OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        values = yaml.safe_load(path.read_text())["wandb"]
        key, team = values["api_key"], values.get("team")
    if not isinstance(key, str) or not key.strip() or not isinstance(team, str | None):
        state = "malformed" if path.exists() else "absent"
        raise ValueError(f'secrets.yaml at the root of the repository is {state}: it must hold wandb: {{api_key: "...", team: "..."}}')
    return team, key.strip()


def _reason(error: Exception, key: str | None) -> str:
    """Return the message of an error on one line, without the key and the user's home folder."""
    return without_home(f"{type(error).__name__}: {' '.join(str(error).split())}").replace(key or "\n", "***")
