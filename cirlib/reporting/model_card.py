"""The model card of an encoder in hub form, written from its config.json and from the tables in figures/."""

from collections.abc import Iterator
from pathlib import Path

from ..audio.log_mel import RATE
from ..common.untrusted import read_json
from ..models.checkpoints import CONFIG
from ..models.encoder import AT_ONCE, AudioEncoder
from ..models.heads import head_names
from ..models.pretrained import SHIPPED
from .labels import LABELS

TEMPLATE = Path(__file__).with_name("model_card.md")
COMPARED = {"chance", *(LABELS[name] for name in ("mfcc", "untrained", SHIPPED))}  # rows of the tables of results


def model_card(folder: Path, figures: Path) -> str:
    """Return README.md of the folder of an encoder; `figures`: folder with the tables of each preset. Raises as AudioEncoder.load."""
    encoder, about = AudioEncoder.load(folder), read_json(folder / CONFIG)
    config = encoder.config
    return TEMPLATE.read_text().format(
        name=SHIPPED, architecture=_architecture(encoder), dim=encoder.dim, samples=round(config.seconds * RATE),
        at_once=AT_ONCE * config.seconds,
        data=_data(encoder.trained_on), training=_training(about["training"]), results=_results(figures), digest=about["digest"],
    )  # fmt: skip


def _architecture(encoder: AudioEncoder) -> str:
    config, millions = encoder.config, sum(p.numel() for p in encoder.parameters()) / 1e6
    heads = head_names(config.heads)
    vectors = f"{len(heads)} vectors of {encoder.head_dim} numbers: {', '.join(heads)}" if heads else f"one vector of {encoder.dim} numbers"
    return (
        f"{millions:.1f} million parameters (`{config.name}`), clips of {config.seconds:g} s, log-mel with 128 bands. An embedding has "
        f"{vectors}. They are compared by {config.metric} distance."
    )


def _data(banks: list[dict]) -> str:
    head = ["| bank | source | instruments | sounds | splits | licence |", "|---|---|---|---|---|---|"]
    rows = [
        f"| {b['bank']} | {b['source']} | {b['instruments']:,} | {b['sounds']:,} | {', '.join(b['splits'])} | {b['license']} |"
        for b in banks
    ]
    cited = [f"- {b['bank']}: {b['citation']}" for b in banks if b["citation"] != "unknown"]
    return "\n".join([*head, *rows, *([""] if cited else []), *cited])


def _training(about: dict) -> str:
    run, valid = about["settings"], about["valid"]
    return (
        f"```sh\n{about['command']}\n```\n\n{about['clips_seen']:,} clips in batches of {run['batch_size']}, loss `{run['loss']}`, "
        f"optimiser `{run['optimiser']}`: {about['minutes']:,.0f} minutes on {about['device']}. Validation instruments among themselves: "
        f"{100 * valid['top1']:.1f} / {100 * valid['top5']:.1f} percent (top-1 / top-5). `{CONFIG}` has all settings and versions."
    )


def _results(figures: Path) -> str:
    """Return the tables of figures/<preset>/*.md that have a row of the encoder, with the rows that it is compared with."""
    texts = [f"### {file.parent.name}: {file.stem}\n\n{table}" for file in sorted(figures.glob("*/*.md")) for table in _tables(file)]
    return "\n\n".join(texts) or "Not tested yet."


def _tables(file: Path) -> Iterator[str]:
    blocks = [block.splitlines() for block in file.read_text().strip().split("\n\n")]
    caption = [line for block in blocks for line in block if not line.startswith(("|", "#"))]
    for lines in blocks:
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        column = next((row.index(LABELS[SHIPPED]) for row in rows if LABELS[SHIPPED] in row), None)
        if column is not None and lines[0].startswith("|"):
            chosen = [line for line, row in zip(lines[2:], rows[2:], strict=True) if len(row) > column and row[column] in COMPARED]
            yield "\n".join([*lines[:2], *chosen, *(["", *caption] if caption else [])])
