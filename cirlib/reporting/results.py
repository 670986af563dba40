"""figures/README.md, which shows all results in git, the short table of the README at the root and the links of notebooks/README.md.

All are made of the files in figures/.

`python -m cirlib.reporting.results` writes them; with --check it only compares, and fails if they differ.
"""

from pathlib import Path

import pandas as pd

from ..common.command_line import arguments, clean_exit
from ..common.files import write_atomic
from ..common.paths import ROOT
from ..models.checkpoints import is_folder
from ..models.pretrained import PLACE
from .executed import with_copies
from .model_card import model_card

PRESETS = {  # folders of figures/ that are in git -> what they hold
    "surge": "2,686 presets of the Surge XT synthesizer, the small encoder, 3,000 steps of 48 clips (`make reproduce PRESET=surge`). "
    "The paper's losses have its optimiser and schedule unless the row says `+ Muon`; the rows marked as ours, the two on single sounds "
    "and `multi-positive, open + Muon` train with Muon.",
    "demo": "Virtual instruments that the project renders itself, the small encoder, 480 steps (`make reproduce`; `ROWS=all` makes more). "
    "Hold, level, decay and release vary from note to note, so that length says little about the instrument. "
    "Rows on single sounds alone have 180 steps, and the rows with heads train with Muon.",
    "open": "Virtual instruments of 13 families, and mixtures of 1 to 6 of them (`make reproduce PRESET=open`). These tables were measured "
    "before hold, level, decay and release varied from note to note, so that a new run gives other numbers.",
    "libraries": "Notes and mixtures of other General MIDI libraries, searched in FluidR3 (`make reproduce PRESET=libraries`).",
    "performance": "What each stage costs, beside a straightforward version with equal outputs (`make performance`).",
    "reliability": "Processes killed at random moments, damaged files, attacks and changed lines of code (`make reliability`).",
}
TABLES = {  # file -> heading
    "table_mixture.md": "Mixtures of three instruments",
    "table_single.md": "Single sounds",
    "open.md": "Mixtures of an unknown number of instruments",
    "ablations.md": "Changes of the recipe",
    "degraded.md": "Degraded queries",
    "transfer.md": "Instruments of other collections",
    "by_source.md": "Mixtures by source and family",
    "classification.md": "Classifiers as classifiers",
    "tested.md": "What was tested when",
    "libraries.md": "The same program in another library",
    "performance.md": "",
    "reliability.md": "",
}
SHORT = {  # row of the short table: experiments in figures/surge and figures/demo; None: not trained there
    "MFCC": ("mfcc", "mfcc"),
    "InfoNCE (paper)": ("infonce", "infonce-48"),
    "full triplet + Muon": ("triplet-full-tuned", None),
    "per-family heads (ours)": ("family-infonce", "family-infonce"),
    "cirlib-small (comes with cirlib)": ("cirlib-small", None),
}
MARKS = ("<!-- results:{} -->\n", "<!-- end:{} -->")


def page(figures: Path = ROOT / "figures") -> str:
    """Return figures/README.md: each folder with its tables and links to its figures."""
    lines = ["# Results", "", "Written by `python -m cirlib.reporting.results` from the tables in this folder; nothing here is typed.", ""]
    for preset, about in PRESETS.items():
        folder = figures / preset
        if not folder.is_dir():
            continue
        lines += [f"## {preset}", "", about, ""]
        for name, heading in TABLES.items():
            text = (folder / name).read_text().strip() if (folder / name).exists() else ""
            if "|" in text:
                lines += [*([f"### {heading}", ""] if heading else []), text, ""]
        if drawn := [f"[{path.stem}]({preset}/{path.name})" for path in sorted(folder.glob("*.svg"))]:
            lines += [f"Figures: {', '.join(drawn)}.", ""]
        if copies := [f"[{path.stem}]({preset}/{path.name})" for path in sorted(folder.glob("*.ipynb"))]:
            lines += [f"Executed notebooks: {', '.join(copies)}.", ""]
    return "\n".join(lines)


def short_table(figures: Path = ROOT / "figures") -> str:
    """Return five rows of the results on presets of Surge XT and on the demo, and how they were tested. KeyError if a row is missing."""
    columns = [("surge", "mixture"), ("surge", "single"), ("demo", "mixture"), ("demo", "single")]
    tables = {c: pd.read_json(figures / c[0] / f"table_{c[1]}.json").set_index("experiment") for c in columns}
    head = ["| top-1 / top-5 (%) | Surge XT, mixtures | Surge XT, single | demo, mixtures | demo, single |", "|---|---|---|---|---|"]
    lines = []
    for name, (surge, demo) in SHORT.items():
        found = [(tables[c], surge if c[0] == "surge" else demo) for c in columns]
        cells = [f"{table.top1[row]:.1f} / {table.top5[row]:.1f}" if row else "" for table, row in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    about = []
    for preset, title in (("surge", "Surge XT"), ("demo", "demo")):
        mixture, single = tables[preset, "mixture"], tables[preset, "single"]
        shown = [name for names in SHORT.values() for name in names if name in mixture.index]
        galleries = f"galleries of about {mixture.gallery.iloc[0]} and {single.gallery.iloc[0]:,}"
        chance = f"chance {mixture.top1_chance.iloc[0]:.2f} and {single.top1_chance.iloc[0]:.2f} at top-1"
        about.append(f"{title}: {galleries} instruments (mixtures, single sounds), {chance}, {_seeds(mixture.seeds[shown])}")
    return "\n".join([*head, *lines, "", f"{'. '.join(about)}."]) + "\n"


def _seeds(counts: pd.Series) -> str:
    return " to ".join(f"{n}" for n in sorted({counts.min(), counts.max()})) + f" seed{'s' * bool(counts.max() > 1)}"


def with_block(text: str, block: str, name: str = "short") -> str:
    """Return the text of a README with a generated block between its marks. ValueError without the marks."""
    begin, end = (mark.format(name) for mark in MARKS)
    if begin not in text or end not in text:
        raise ValueError(f"README.md must have the marks {begin.strip()} and {end}")
    before, rest = text.split(begin, 1)
    return before + begin + block + end + rest.split(end, 1)[1]


def written(root: Path = ROOT) -> dict[Path, str]:
    """Return the files with generated results, the model card of the encoder among them, and what they must hold."""
    readme, notebooks = root / "README.md", root / "notebooks" / "README.md"
    figures, encoder = root / "figures", root / PLACE.relative_to(ROOT)
    return {
        figures / "README.md": page(figures),
        notebooks: with_copies(notebooks.read_text(), figures),
        readme: with_block(readme.read_text(), short_table(figures)),
        **({encoder / "README.md": model_card(encoder, figures)} if is_folder(encoder) else {}),
    }


def main() -> None:
    """python -m cirlib.reporting.results [--check]"""
    check = "--check" in arguments(main.__doc__, 0, 1)
    with clean_exit():
        changed = {path: text for path, text in written().items() if not path.exists() or path.read_text() != text}
        for path, text in {} if check else changed.items():
            write_atomic(path, lambda part, text=text: part.write_text(text))
    if check and changed:
        raise SystemExit(f"{', '.join(path.name for path in changed)} differ from figures/: run `python -m cirlib.reporting.results`")


if __name__ == "__main__":
    main()
