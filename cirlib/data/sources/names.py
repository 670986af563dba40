"""Tokens of a file name: the words that name an instrument, and what is no part of its name (note, layer, take, microphone, tempo).

Each library has its own form: VSCO 2 `PSBassoon_A#0_v2_rr1`, Salamander `A0v16`, FreePats `C4vH`, Philharmonia
`cello_A2_05_mezzo-piano_arco-normal`, NSynth `bass_synthetic_033-022-050`, Iowa `Cello.arco.ff.sulA.C4`, jRhodes3d `A_029__F1_1`,
Sonatina `1st-violins-piz-rr1-a#3`, Freesound `148604__user__name-d4`, loops `Bass_Loop_085_Am`. `tokenise` reads all of them.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ..family_names import WORDS, split_words

DYNAMICS, LEVELS = WORDS["dynamics"], WORDS["dynamics"] | WORDS["strengths"]  # word -> MIDI velocity
KIND_OF = {
    **{word: "strength" for word in WORDS["strengths"]},
    **{word: "dynamic" for word in DYNAMICS if word != "piano"},
    **{word: kind for kind, words in WORDS["tokens"].items() for word in words.split()},
}
_CLASSES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11, "h": 11}
_FREESOUND = re.compile(r"^\d{2,}__.+?__(?=.*[A-Za-z]{3})")  # number of the sound and name of the user
_MODEL = re.compile(r"(?i)(hammond)[ _-]?[abc]\d+|\bb3[ _-]?(organ)|fruity[ _-]?loops")
_PAIR = re.compile(r"-(\d{3})-(\d{3})$")  # NSynth: pitch and velocity
_SPELLED = re.compile(r"(?<![A-Za-z])([A-Ga-g])[\s_-]?(sharp|flat)[\s_-]?(?=-?\d)", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?<![A-Za-z0-9])([A-GH][#b♯♭s]?)-(?=[12](?!\d))")
_MINUS = "\u2212"
_SCHEME = re.compile(r"-(?:N|alt\d|\dc)-(?:N|[RT]\d+[ud])$")  # SOL: string, resampled or tuned by
_SEPARATOR = re.compile(rf"(?:_|[^\w#♯♭{_MINUS}])+")
_NOTE = re.compile(rf"([A-Ha-h])(#|♯|♭|is|es|s|b)?({_MINUS}?\d)((?:v\d{{1,3}}|v[LMH]|rr\d+|ppp?|p|m[pf]|fff?|f)?)")
_SYLLABLE = re.compile(rf"(do|r[eé]|mi|fa|sol|la|si)(#|♯|♭|b)?({_MINUS}?\d)", re.IGNORECASE)
_RUN = re.compile(r"(?:[A-G][#b]?\d){2}")  # Iowa: C4B4, all notes from one to the other
_FORMS = (  # forms of a whole token
    ("layer", re.compile(r"(?:v|vl|vel|velo|velocity|lyr|layer|level)(\d{1,3})", re.IGNORECASE)),
    ("take", re.compile(r"(?:rr|take|tk)(\d+)", re.IGNORECASE)),
    ("loop", re.compile(r"(\d{2,3})bpm", re.IGNORECASE)),
    ("length", re.compile(r"(\d+)(?:ms|s|secs?)", re.IGNORECASE)),
    ("format", re.compile(r"(\d+)(?:bit|khz|k)", re.IGNORECASE)),
    ("key", re.compile(r"[A-G][#b]?(?:m|[Mm]in|[Mm]inor|[Mm]aj|[Mm]ajor)(\d?)")),
    ("articulation", re.compile(r"sul[A-G]()")),
    ("number", re.compile(r"(\d+)")),
)
_COUNTED = {"rr": "take", "robin": "take", "take": "take", "mic": "microphone"}  # words beside a number
_COUNTED |= dict.fromkeys(("v", "vel", "velocity", "layer"), "layer") | dict.fromkeys(("oct", "octave"), "format")
_SECONDS = ("025", "05", "1", "15")  # Philharmonia: lengths of 0.25 to 1.5 s, before a dynamic, and articulations behind it
_SPELLED_DYNAMICS = {word for word in DYNAMICS if len(word) > 3}


@dataclass(frozen=True)
class Note:
    """A note name: letter a to h, accidental, octave; `strong` if it counts alone, without others; `syllable`: written as do, re, mi."""

    letter: str
    accidental: str
    octave: int
    strong: bool
    syllable: bool = False

    @property
    def german(self) -> bool:
        """Return whether only German writes it so (H, Cis, Des, Es): then B is B flat and As is A flat."""
        return self.letter == "h" or self.accidental in ("is", "es") or (self.letter, self.accidental) == ("e", "s")

    def pitch(self, middle_c: int, german: bool = False) -> int:
        """Return the MIDI pitch, if MIDI pitch 60 is C of the octave `middle_c`; with `german` notation or English."""
        flat = self.accidental in ("b", "♭", "es") or (german and self.letter + self.accidental in ("as", "es", "b"))
        return _CLASSES[self.letter] + 12 * (self.octave - middle_c) + 60 + (-1 if flat else bool(self.accidental))


@dataclass(frozen=True)
class Token:
    """A part of a name. kind: word, number, note, pair, run, key, layer, dynamic, strength, take, microphone, articulation, length, format
    or one of taxonomy.KINDS. value: its number, its Note, or (pitch, velocity) of a pair."""

    kind: str
    text: str
    value: int | Note | tuple[int, int] | None = None


def clean(stem: str) -> str:
    """Return a name in the composed form of Unicode (NFC), without the number and user of Freesound, and models that look like notes."""
    return _MODEL.sub(lambda m: m[1] or m[2] or "", _SCHEME.sub("", _FREESOUND.sub("", unicodedata.normalize("NFC", stem))))


@lru_cache(4096)  # folders
def tokenise(stem: str) -> tuple[Token, ...]:
    """Return the tokens of a name without its suffix."""
    stem, tokens = clean(stem), []
    if (m := _PAIR.search(stem)) and int(m[1]) <= 127 and int(m[2]) <= 127:
        stem, tokens = stem[: m.start()], [Token("pair", m[0], (int(m[1]), int(m[2])))]
    stem = _SPELLED.sub(lambda m: m[1] + ("#" if m[2].lower() == "sharp" else "b"), stem)
    stem = _NEGATIVE.sub(rf"\1{_MINUS}", stem)
    found = [token for chunk in _SEPARATOR.split(stem) if chunk for token in _read_chunk(chunk)]
    return *_join(found, "__" in stem), *tokens


@lru_cache(4096)
def _read_chunk(chunk: str) -> list[Token]:
    """Return the tokens of a part of a name that has no separator inside: `PianoC3`, `A0v8`, `Claves1`."""
    if known := _read_whole(chunk, strong=True):
        return known
    pieces = split_words(chunk) or [chunk]
    if KIND_OF.get(pieces[0].lower()) == "articulation" and all(piece.isupper() and len(piece) < 3 for piece in pieces[1:]):
        return [Token("articulation", chunk)]  # pizzT, harmonM
    if len(pieces) > 1:
        return [token for piece in pieces for token in _read_whole(piece, strong=False) or _read_letters(piece)]
    return _read_letters(chunk)


def _read_letters(piece: str) -> list[Token]:
    parts = re.findall(r"\d+|[^\d]+", piece)
    return [Token("number", part, int(part)) if part.isdecimal() else Token(_kind_of_word(part.lower()), part) for part in parts]


def _kind_of_word(word: str) -> str:
    """Return the kind of a word in lower case, also of glued ones: drumloop, expvib."""
    glued = any(KIND_OF.get(word[:i]) == KIND_OF.get(word[i:]) == "articulation" for i in range(2, len(word) - 1))
    return KIND_OF.get(word) or ("loop" if word.endswith(("loop", "loops")) else "articulation" if glued else "word")


def _read_whole(piece: str, *, strong: bool) -> list[Token] | None:
    """Return the tokens of a piece that as a whole is a known word, a note, a run of notes, or one of _FORMS."""
    if piece in ("F", "P"):
        return [Token("word", piece)]  # F horn
    if kind := KIND_OF.get(piece.lower()):
        return [Token(kind, piece)]
    if m := _NOTE.fullmatch(piece):
        note = Note(m[1].lower(), m[2] or "", int(m[3].replace(_MINUS, "-")), strong and m[1].isupper() and m[1] != "H")
        return [Token("note", piece[: m.end(3)], note), *(_read_whole(m[4], strong=False) or () if m[4] else ())]
    if m := _SYLLABLE.fullmatch(piece):
        letter = "cdefgab"[("do", "re", "mi", "fa", "so", "la", "si").index(m[1].lower().replace("é", "e")[:2])]
        return [Token("note", piece, Note(letter, m[2] or "", int(m[3].replace(_MINUS, "-")), False, syllable=True))]
    if _RUN.fullmatch(piece):
        return [Token("run", piece)]
    for kind, form in _FORMS:
        if m := form.fullmatch(piece):
            return [Token(kind, piece, int(m[1]) if m[1] else None)]
    return None


def _join(tokens: list[Token], pause: bool) -> list[Token]:
    """Return tokens with those joined that mean something together: mezzo-piano, vel 3, C3 to B3; length, dynamic, articulation.

    pause: whether a name has two underscores together.
    """
    out: list[Token] = []
    for token in tokens:
        if token.kind == "note" and len(out) > 1 and out[-1].text.lower() == "to":
            out.pop()
        last = out[-1] if out else None
        text = token.text.lower()
        if token is tokens[-1] and token.text in ("L", "R") and any(t.kind == "note" for t in out):
            token = Token("microphone", token.text)
        if last and last.text.lower() == "mezzo" and text in ("piano", "forte"):
            out[-1] = Token("dynamic", "mezzo" + text)
        elif last and token.kind == "number" and (kind := _COUNTED.get(last.text.lower())):
            out[-1] = Token(kind, last.text + token.text, token.value)
        elif text in ("loop", "looped") and re.search(r"\bnote( word)?$", " ".join(t.kind if len(t.text) < 4 else "" for t in out)):
            out.append(Token("articulation", token.text))  # of a note: C4-loop
        elif last and token.kind == last.kind == "note" and token.value.pitch(4) > last.value.pitch(4):
            out[-1] = Token("run", last.text + token.text)
        else:
            out.append(token)
    for i, (token, after) in enumerate(pairwise(out)):
        ordered = pause or any(t.kind == "note" for t in out[:i])  # an instrument and its note, or none: then two underscores
        if ordered and (token.text in _SECONDS or token.text.lower() in ("long", "phrase")) and after.text.lower() in _SPELLED_DYNAMICS:
            kind = "phrase" if token.kind == "phrase" else "length"
            return [*out[:i], Token(kind, token.text), Token("dynamic", after.text), *(Token("articulation", t.text) for t in out[i + 2 :])]
    return out
