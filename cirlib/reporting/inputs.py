"""Inputs that the rows of a preset need before hours of training: note statistics, packages, checkpoints, pretrained weights."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..common.files import one_line
from ..common.packages import Missing
from ..common.paths import at_home, short
from ..data.note_statistics import load_statistics
from ..evaluation.demucs import require_demucs
from ..models.checkpoints import find_checkpoint
from ..models.encoder import ENCODERS
from ..models.pretrained import encoder_folder, weights_path
from ..training.config import WITH_ENCODER, TrainConfig
from .rows import Row

HUB_SECONDS = 5  # time to wait for the hub
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def missing_of_rows(rows: Iterable[Row]) -> list[str]:
    """Return one sentence for each input of the rows that is missing, each input once."""
    needed: dict[tuple[Callable, tuple], list[str]] = {}
    for row in rows:
        for need in _needs(row.config(), made=bool(row.continues)):
            needed.setdefault(need, []).append(row.name)
    found = []
    for (check, given), names in needed.items():
        try:
            check(*given)
        except (Missing, ValueError, OSError) as error:
            found.append(f"{error} (for {', '.join(names[:2])}{f' and {len(names) - 2} more' if names[2:] else ''})")
    return found


def _needs(config: TrainConfig, *, made: bool) -> Iterator[tuple[Callable, tuple]]:
    """Yield (check, arguments) of each input: the check raises if it is missing. `made`: another row makes the encoder."""
    if config.statistics:
        yield _statistics, (config.statistics,)
    if config.task == "demucs":
        yield require_demucs, ()
    if config.task in WITH_ENCODER and config.encoder not in ENCODERS and not made:
        yield _encoder, (config.encoder,)


def _statistics(name: str) -> None:
    load_statistics(at_home(name))


def _encoder(name: str) -> None:
    """Raise FileNotFoundError for a checkpoint, a folder or a model of the hub that is not available."""
    place = weights_path(name)
    if name.endswith(".pt"):
        find_checkpoint(place)
    elif encoder_folder(name):
        pass
    elif place:
        if not (place / "config.json").is_file():
            raise FileNotFoundError(f"no config.json in {short(place)}: an encoder's folder must be in the format of the hub")
    else:
        _hub(name)


def _hub(name: str) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if "/" not in name or Path(name).is_absolute():
        raise FileNotFoundError(f"no folder {name}, and a model of the hub is named owner/name")
    try:
        if not any(isinstance(try_to_load_from_cache(name, file), str) for file in HUB_WEIGHTS):
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_SECONDS)
    except Exception as error:
        what = f"no {name} in the cache of the Hugging Face hub, and the hub gives none ({one_line(error)[:120]})"
        raise FileNotFoundError(f"{what}: connect once, or set encoder to a local folder") from None
