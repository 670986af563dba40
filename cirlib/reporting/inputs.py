"""What the rows of a preset need before hours of training: note statistics, packages, checkpoints, pretrained weights."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..common.command_line import arguments, one_sentence
from ..common.files import one_line
from ..common.packages import Missing
from ..common.paths import at_home, short
from ..common.settings import choose
from ..data.note_statistics import load_statistics
from ..data.sources import missing
from ..evaluation.separation import need_demucs
from ..models.checkpoints import find_checkpoint
from ..models.encoder import ENCODERS, origin
from ..training.config import WITH_ENCODER, TrainConfig, row_config
from .rows import current

HUB_SECONDS = 5  # then the hub is given up
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def missing_of_rows(preset: str, names: Iterable[str]) -> list[str]:
    """One sentence for each input that is not here, of these rows and of those that they stand on, each input once.

    Settings are those of the last `make reproduce`. ValueError for an unknown row.
    """
    made, wanted = {row.name: row for row in current(preset)}, {}
    for name in names:
        row = made[choose("row", name, made)]
        wanted |= dict.fromkeys(part for part in (row.needs, row.name) if part)
    asked: dict[tuple[Callable, tuple], list[str]] = {}
    for name in wanted:
        for need in _needs(row_config(made[name].values)):
            asked.setdefault(need, []).append(name)
    found = []
    for (check, given), rows in asked.items():
        try:
            check(*given)
        except (Missing, ValueError, OSError) as error:
            found.append(f"{error} (for {', '.join(rows[:2])}{f' and {len(rows) - 2} more' if rows[2:] else ''})")
    return found


def _needs(config: TrainConfig) -> Iterator[tuple[Callable, tuple]]:
    """(check, arguments) of each need: the check raises if that is not here."""
    if config.statistics:
        yield _statistics, (config.statistics,)
    if config.task == "demucs":
        yield need_demucs, ()
    if config.task in WITH_ENCODER and config.encoder not in ENCODERS and not config.encoder.startswith("wandb:"):
        yield _encoder, (config.encoder,)


def _statistics(name: str) -> None:
    load_statistics(at_home(name))


def _encoder(name: str) -> None:
    """FileNotFoundError for a checkpoint, a folder or a model of the hub that cannot be had."""
    place = origin(name)
    if name.endswith(".pt"):
        find_checkpoint(place)
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


def main() -> None:
    """python -m cirlib.reporting.inputs PRESET [ROW ...]"""
    preset, *names = arguments(main.__doc__, 1)
    with one_sentence():
        found = [*missing(preset), *missing_of_rows(preset, names)]
    if found:
        raise SystemExit("\n".join([f"preset {preset} needs what is not here:", *(f"- {line}" for line in found)]))


if __name__ == "__main__":
    main()
