"""Weights & Biases: online with secrets.yaml, offline, or off. The API key is handed to wandb only."""

import contextlib
import shutil
import uuid
import warnings
from pathlib import Path

import yaml

from .files import write_atomic
from .packages import require
from .paths import ROOT, without_home
from .settings import choose

MODES = ("off", "offline", "online")
# otherwise wandb uploads the names of user and machine, the program and its folders, and what is printed
PRIVATE = {"x_disable_meta": True, "disable_git": True, "disable_code": True, "console": "off"}
START_SECONDS = 30  # timeout of a server that does not answer
FINISH_SECONDS = 600  # what is not uploaded by then stays in the run folder, for `wandb sync --include-online`


class Tracker:
    """A run of Weights & Biases, or none (mode off). A failure is a warning and never stops the training."""

    def __init__(self, run):
        self._run = run

    def log(self, values: dict, step: int) -> None:
        """Log values. wandb stores them on disk and sends them in the background."""
        self._try("log", lambda: self._run.log(values, step=step))

    def checkpoint(self, path: Path) -> None:
        """Add a copy of a file to the files of the run, which are uploaded at its end."""
        self._try("checkpoint", lambda: self._run.save(shutil.copy(path, self._run.dir), base_path=self._run.dir, policy="end"))

    def finish(self) -> None:
        """End the run; wait at most FINISH_SECONDS for uploads."""
        self._try("finish", lambda: (self._run.finish(), _remove_logs(self._run)))

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
        return Tracker(None)
    require("Weights & Biases runs", "wandb")
    import wandb

    team, key = _secrets() if mode == "online" else (None, None)
    identity = Path(folder) / "wandb" / "id.txt"
    if not identity.exists():
        write_atomic(identity, lambda part: part.write_text(uuid.uuid4().hex[:12]))
    try:
        # a key in the settings is neither written to ~/.netrc (as wandb.login does) nor inherited by child processes
        settings = wandb.Settings(
            api_key=key, quiet=True, silent=not key, init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS, **PRIVATE
        )
        run = wandb.init(
            project="cirlib", entity=team, name=name, config=config, dir=str(folder), mode=mode, id=identity.read_text(),
            resume="allow", reinit="create_new", settings=settings,
        )  # fmt: skip
    except Exception as error:
        with contextlib.suppress(Exception, SystemExit):
            wandb.teardown()  # otherwise the id stays in use in this process and a second attempt fails
        raise ValueError(f"wandb={mode} could not start, set wandb=offline or off: {_reason(error, key)}") from None
    _remove_logs(run)
    return Tracker(run)


def _remove_logs(run) -> None:
    """Remove wandb's own logs and the links to them: they contain paths. What it writes from now on is lost."""
    folder = Path(run.dir).parent
    shutil.rmtree(folder / "logs", ignore_errors=True)
    for link in folder.parent.glob("debug*.log"):
        link.unlink(missing_ok=True)


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
