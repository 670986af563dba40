"""A panel for JupyterLab that searches a library by clicks: a file or a bundled sound, matches to listen to, copies of them."""

import io
import warnings
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..audio.io import RATE, resample
from ..common.files import one_line
from ..common.paths import at_home, short
from ..reporting.players import player
from ..reporting.plots_retrieval import log_mel
from . import example
from .library import Library
from .query import load
from .results import copy_matches

SHOWN_S = 10.0  # of a sound
DROP = """<div style="border: 2px dashed #888; padding: 2px 12px" ondragover="event.preventDefault()" ondrop="
event.preventDefault(); event.stopPropagation();
const files = event.dataTransfer.files, click = HTMLInputElement.prototype.click;
HTMLInputElement.prototype.click = function () { this.files = files; this.dispatchEvent(new Event('change')) };
this.closest('.cirlib-panel').querySelector('.widget-upload').click();
HTMLInputElement.prototype.click = click">Drop a sound here</div>"""  # the upload button keeps its input to itself


class Panel:
    """Search a library by clicks. A notebook shows it as the value of a cell. `found`: the matches of the last search.

    query: file that is chosen first. copies: folder in which each search proposes a new folder for copies of its matches.
    family, k, mix: values of the panel at the beginning; choice: kind and exclude, as of Library.search.
    """

    def __init__(self, library: Library, query: Path, *, copies: Path, family: str = "", k: int = 5, mix: bool = True, **choice):
        import ipywidgets as widgets

        self.library, self.copies, self.choice, self.found = library, copies, choice, None
        self._uploads = TemporaryDirectory(prefix="cirlib-")  # deleted with the panel
        self.upload = widgets.FileUpload(accept="audio/*,.aif,.aiff,.caf,.w64", description="Choose a file")
        self.path = widgets.Text(placeholder="or the path of a file, then Enter", continuous_update=False)
        sounds = [example.MIX, *sorted(example.NOTES.glob("*.ogg"))]
        self.query = widgets.Dropdown(description="Query", options={f"bundled: {file.stem}": str(file) for file in sounds})
        self.kind = widgets.ToggleButtons(options={"mix": True, "single sound": False}, value=mix, tooltips=("", ""))
        families = ["", *library.describe()["families"]]
        options = [(name or "all", name) for name in families if name != "no family"]
        self.family = widgets.Dropdown(description="Family", options=options, value=family if family in families else "")
        self.k = widgets.BoundedIntText(k, 1, 50, description="Matches")
        self.search = widgets.Button(description="Search", button_style="primary")
        self.folder = widgets.Text(description="Folder", layout={"width": "420px"})
        self.copy = widgets.Button(description="Copy the matches to a folder", layout={"width": "auto"}, disabled=True)
        self.message, self.results = widgets.HTML(), widgets.VBox()
        self._choose(query)
        self.upload.observe(lambda change: self._report(lambda: self._uploaded(change.new)), "value")
        self.path.observe(lambda change: change.new and self._choose(at_home(change.new)), "value")
        self.search.on_click(lambda _: self._report(self._search))
        self.copy.on_click(lambda _: self._report(self._copy))
        rows = ((widgets.HTML(DROP), self.upload, self.path), (self.query, self.kind, self.family, self.k, self.search))
        rows = [widgets.Box(row, layout={"flex_flow": "row wrap", "align_items": "center"}) for row in (*rows, (self.folder, self.copy))]
        self.view = widgets.VBox([*rows, self.message, self.results]).add_class("cirlib-panel")

    def _repr_mimebundle_(self, **options):
        return self.view._repr_mimebundle_(**options)

    def _choose(self, file: Path) -> None:
        """Choose a file as the query; one that is new becomes an option."""
        if str(file) not in dict(self.query.options).values():
            self.query.options = {**dict(self.query.options), file.name: str(file)}
        self.query.value = str(file)

    def _uploaded(self, files: tuple[dict, ...]) -> str:
        for file in files:
            place = Path(self._uploads.name, Path(file["name"]).name or "sound")
            place.write_bytes(file["content"])
            self._choose(place)
        return f"{Path(self.query.value).name} is chosen."

    def _report(self, action) -> None:
        """Run a click. What it returns, its warnings or its error become one line of the panel."""
        self.search.disabled = self.copy.disabled = True
        self.message.value, colour = "…", "inherit"
        try:
            with warnings.catch_warnings(record=True) as odd:
                warnings.simplefilter("always")
                text = " ".join([action(), *(f"{remark.message}." for remark in odd if remark.category is UserWarning)])
        except Exception as error:  # whatever it is, the panel must show it
            text, colour = one_line(error).partition(": ")[2], "#c00"
        finally:
            self.search.disabled, self.copy.disabled = False, self.found is None
        text = text.replace(f"{short(Path(self._uploads.name))}/", "")
        self.message.value = f'<span style="color: {colour}">{escape(text)}</span>'

    def _search(self) -> str:
        self.found, self.results.children, file = None, (), Path(self.query.value)
        audio = load(file)
        found = self.library.search(audio, self.family.value or None, k=self.k.value, mix=self.kind.value, **self.choice)
        rows = [_row(audio, f"<b>Query</b> {escape(file.name)}")]
        for number, match in enumerate(found.itertuples(), 1):
            family = f"{match.family}{' (predicted)' * match.predicted}" if match.family == match.family else ""
            words = [match.instrument.rpartition("/")[2], family, f"distance {match.distance:.3f}", short(match.path)]
            text = f"<b>{number}</b> {', '.join(escape(str(word)) for word in words if word)}"
            rows.append(_row(resample(*self.library.preview(match)), text))
        self.results.children, self.found = rows, found
        folder, number = self.copies / file.stem, 1
        while folder.exists():
            folder, number = self.copies / f"{file.stem} {number + 1}", number + 1
        self.folder.value = short(folder)
        return f"{len(found)} matches for {file.name}, nearest first."

    def _copy(self) -> str:
        copied = copy_matches(self.library, self.found, folder := at_home(self.folder.value.strip()))
        return f"{copied['copy'].nunique()} sounds and matches.csv are in {short(folder)}."


def _row(audio: np.ndarray, text: str):
    """Return a line of the result as a widget: text (HTML), a player and a log-mel spectrogram."""
    import ipywidgets as widgets
    from matplotlib.figure import Figure

    audio = audio[: round(SHOWN_S * RATE)]
    text = f'<div style="line-height: 1.4; overflow-wrap: anywhere">{text}</div>{player(audio, RATE).data}'
    label = widgets.HTML(text, layout={"width": "340px"})
    figure, picture = Figure((4.2, 1.8), dpi=100, layout="constrained"), io.BytesIO()
    log_mel(axis := figure.subplots(), audio, "")
    axis.set(xlabel="time (s)", ylabel="frequency (kHz)")
    figure.savefig(picture, format="png")
    return widgets.Box([label, widgets.Image(value=picture.getvalue(), layout={"width": "420px"})], layout={"flex_flow": "row wrap"})
