"""Trained encoders by name: the one that comes with cirlib, checkpoints, folders and models of the hub."""

from pathlib import Path

from ..audio.log_mel import frames_for
from ..common.files import one_line
from ..common.paths import at_home, display_name, short
from .ast import AST_DETAILS, ast_shape
from .checkpoints import CONFIG, WEIGHTS, is_folder
from .encoder_config import ENCODERS, EncoderConfig

SHIPPED = "cirlib-small"  # the encoder that comes with cirlib
PLACE = Path(__file__).parent / "weights" / SHIPPED


def weights_path(name: str) -> Path | None:
    """Return the file or folder that holds the weights of an encoder; None for a hub id or a preset.

    It need not exist if the name is that of a checkpoint or SHIPPED.
    """
    if name.endswith(".pt"):
        return at_home(name)
    if name == SHIPPED:
        return PLACE / WEIGHTS
    folder = local_folder(name)
    if name in ENCODERS or not folder.is_dir():
        return None
    return folder / WEIGHTS if is_folder(folder) else folder


def local_folder(name: str) -> Path:
    """Return the folder that `name` may be: SHIPPED, or relative to the working directory or to the project's home, `~` is the user's."""
    place = PLACE if name == SHIPPED else Path(name).expanduser()
    return place if place.is_dir() else at_home(name)


def encoder_folder(name: str) -> Path | None:
    """Return the folder of an encoder of cirlib, downloaded or from the cache if it is a model of the hub; None for other encoders.

    Raises FileNotFoundError if `name` is SHIPPED and its files are not there.
    """
    if name == SHIPPED and not is_folder(PLACE):
        raise FileNotFoundError(
            f"this copy of cirlib comes without the weights of {SHIPPED} ({short(PLACE / WEIGHTS)}): install cirlib again, or name another "
            "encoder, such as runs/demo/family-infonce/seed0/best.pt (`make reproduce` trains it)"
        )
    folder = local_folder(name)
    if folder.is_dir():
        return folder if is_folder(folder) else None
    try:
        from huggingface_hub import hf_hub_download

        folder = Path(hf_hub_download(name, CONFIG)).parent
        return Path(hf_hub_download(name, WEIGHTS)).parent if is_folder(folder) else None
    except Exception:  # not on the hub, or no connection: the loader of other encoders says so
        return None


def load_ast(name: str, seconds: float) -> tuple[dict, dict]:
    """Load a pretrained AST by hub id or local folder: fields of EncoderConfig, and the state dict of its backbone.

    Raises OSError if no AST can be loaded, ValueError for the folder of a run, and if clips of `seconds` are longer than its input.
    """
    from transformers import ASTFeatureExtractor

    if runs := sorted([*Path(name).glob("best.pt"), *Path(name).glob("seed*/best.pt")]):
        raise ValueError(f"{short(Path(name))} is the folder of a run, not a pretrained AST: name its checkpoint, {short(runs[0])}")
    if Path(name).is_file():
        raise ValueError(f"{display_name(name)} is not an encoder: name a checkpoint (.pt), a hub id or the folder of a pretrained AST")
    shape, backbone = _read_ast(name)
    try:
        extractor = ASTFeatureExtractor.from_pretrained(name)
    except OSError:  # weights without a preprocessor_config.json: AudioSet's defaults
        extractor = ASTFeatureExtractor()
    frames = backbone.config.max_length
    if frames_for(seconds) > frames:
        raise ValueError(
            f"{name} takes {frames} frames of 10 ms, clips of {seconds:g} s are longer: set seconds to {frames / 100:g} or less"
        )
    label = name if "/" in name and not Path(name).exists() else Path(name).name
    return {"name": label, "seconds": seconds, "mean": extractor.mean, "std": extractor.std, "ast": shape}, backbone.state_dict()


def _read_ast(name: str):
    """Return the shape of an AST and its transformers.ASTModel; the shape is checked before memory is taken for the weights."""
    from transformers import ASTModel, AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if config.model_type != "audio-spectrogram-transformer":
            raise ValueError(f"its model type is {config.model_type}")
        shape = {k: v for k, v in config.to_dict().items() if k in {*ast_shape("ast-tiny", 16), *AST_DETAILS}}
        EncoderConfig(name=name, ast=shape)
        return shape, ASTModel.from_pretrained(name)
    except Exception as error:  # transformers raises all kinds
        raise OSError(f"no AST could be loaded from {display_name(name)!r}, as hub id or local folder ({one_line(error)})") from None
