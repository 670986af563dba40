"""Building blocks of the HTML pages: one file each, with escaped text, sounds and pictures as data, and a content security policy."""

import base64
import hashlib
import io
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from ..common.files import write_atomic

MP3_LEVEL = 0.6  # of soundfile, 0 is best: about 4 kB for a second of a steady tone


def write_page(path: Path, name: str, *, title: str, intro: str, **content: str) -> Path:
    """Fill the template <name>.html with <name>.css, <name>.js, texts and content, and write it as one file. Return its path.

    The page loads nothing and runs only <name>.js.
    """
    folder = Path(__file__).parent
    template, style, script = ((folder / f"{name}.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    policy = f"default-src 'none'; media-src data:; style-src {source_hash(style)}; script-src {source_hash(script)}"
    policy += "; base-uri 'none'; form-action 'none'"
    content |= {"policy": policy, "style": style, "script": script, "title": escaped(title), "intro": escaped(intro)}
    html = Template(template).substitute(content)
    return write_atomic(Path(path), lambda part: part.write_bytes(html.encode()))


def plain(text: str) -> str:
    """Return text on one line; characters that are invalid in HTML or that hide text become a replacement character."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def escaped(text: str) -> str:
    """Return plain text escaped for elements and quoted attributes."""
    return escape(plain(text))


def data_uri(kind: str, data: bytes) -> str:
    """Return a data URI of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def source_hash(code: str) -> str:
    """Return a style or script as a content security policy allows it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def mp3(audio: np.ndarray, sample_rate: int, level: float = MP3_LEVEL, mode: str = "VARIABLE") -> bytes:
    """Return audio (n,) as an MP3 file of exact length, scaled down to full scale if it is above; `level`, `mode`: of soundfile."""
    import soundfile

    audio, file = np.asarray(audio, np.float32), io.BytesIO()
    mode = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": mode, "compression_level": level}
    soundfile.write(file, audio / max(1, np.abs(audio).max()), sample_rate, **mode)
    return file.getvalue()
