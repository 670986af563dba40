"""The group that a name of a file, folder or preset suggests, by the words in it (words.yaml), in several languages.

An instrument decides before a kind of instruments, a kind before a role; then the longest name, then the last one: a bass clarinet is a
clarinet, a pipe organ is an organ. The word piano is weaker than other instruments, beside which it is a dynamic; a bell may be a part of
a drum.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import yaml

WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
_INSTRUMENT, _BELL, _KIND, _PIANO, _ROLE, _WEAK = 6, 5, 4, 3, 2, 1  # ranks
_RANKS = {  # words -> (rank, number of words, group)
    tuple(word.split("_")): (rank, len(word.split("_")), group)
    for rank, table in ((_INSTRUMENT, "instruments"), (_KIND, "kinds"), (_ROLE, "roles"), (_WEAK, "weak"))
    for group, words in WORDS[table].items()
    for word in words.split()
}
_RANKS = {("".join(words),): rank for words, rank in _RANKS.items()} | _RANKS  # bassdrum too
_RANKS |= {(word,): (_BELL, 1, "Chromatic Percussion") for word in ("bell", "chime")} | {("piano",): (_PIANO, 1, "Piano")}
# also at the end of longer words: jsnare, Altflöte
_ENDS = {
    words[0]: rank
    for words, rank in _RANKS.items()
    if rank[:2] == (_INSTRUMENT, 1) and (len(words[0]) > 5 or words[0] in ("snare", "flute", "flote", "hihat", "cello", "geige", "orgel"))
}
# Names of products and styles that hold the name of an instrument
_PRODUCTS = re.compile(
    r"piano[ _-]?book|bass[ _-]?(?:station|house|music)|(?:future|uk)[ _-]bass|drums?[ _-]?(?:&|and|n)[ _-]?bass|guitar[ _-]rig|"
    r"(?:piano|organ)[ _-]house|voice[ _-](?:memo|note)s?",
    re.IGNORECASE,
)
_HAVE_A_BASS = ("Drum Kit", "Percussion", "Chromatic Percussion", "Reed", "Pipe", "Brass", "Voice", "Strings")


def split_words(name: str) -> list[str]:
    """Return the parts of a name between separators and at changes of case: PSBassoon_C3 -> PS, Bassoon, C3."""
    name = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+[#♯♭]?[^\W_]*", name)


@lru_cache(4096)
def _best_hint(name: str) -> tuple[int, int, int, str, bool] | None:
    """Return (rank, words, place, group, whether they are the whole name) of the words in a name that decide its group."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", _PRODUCTS.sub(" ", name)) if not unicodedata.combining(c))
    words = [word for part in split_words(plain) for word in re.findall(r"[a-z]+", part.lower())]
    found = []
    for at in range(len(words)):
        for count in (1, 2, 3):
            *start, last = words[at : at + count]
            singular = (last, *(last.removesuffix(end) for end in ("s", "es", "n")))
            found += [(*hint[:2], at, hint[2]) for word in singular if (hint := _RANKS.get((*start, word)))][:1]
        word = words[at].removesuffix("s")
        found += [(*rank[:2], at, rank[2]) for end, rank in _ENDS.items() if word != end and word.endswith(end)]
    return (*max(found), max(found)[1] == len(words)) if found else None


def guess_family(*names: str) -> str | None:
    """Return the group that names suggest, the most specific name (a file) first, then the folders above it; None if none does.

    Bass in a folder named Drums, Clarinets or Choir is the bass among them; a bell in a folder named Drums or below is one of them.
    """
    hints = [_best_hint(name) for name in names]
    first = next((i for i, hint in enumerate(hints) if hint), None)
    if first is None:
        return None
    rank, *_, group, _ = hints[first]
    others = [hint for hint in hints[first + 1 :] if not hint or hint[3] != group]
    nearest, kit = next(iter(others), None), next(filter(None, others), None)
    if rank == _BELL and kit and kit[3] == "Drum Kit" and kit[4]:
        return "Drum Kit"
    if group == "Bass" and rank <= _ROLE and nearest and nearest[0] >= _KIND and nearest[3] in _HAVE_A_BASS and nearest[4]:
        return nearest[3]
    return group
