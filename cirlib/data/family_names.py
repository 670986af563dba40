"""The group that a name of a file, folder or preset suggests, by the names of instruments in it, in several languages.

An instrument decides before a kind of instruments, a kind before a role; then the longest name, then the last one: a bass clarinet is a
clarinet, a pipe organ is an organ. The word piano is weaker than other instruments, beside which it is a dynamic; a bell may be a part of
a drum.
"""

import re
import unicodedata
from functools import lru_cache

INSTRUMENTS = {  # words joined by _ in names of several words
    "Chromatic Percussion": (
        "chromatic_percussion marimba vibraphone vibrafono vibe glockenspiel glocken xylophone xylophon xilofono celesta "
        "celeste tubular_bell music_box carillon kalimba mbira dulcimer hackbrett timpani timpano pauke crotale crotales "
        "handbell"
    ),
    "Percussion": (
        "conga bongo shaker tambourine tamburin pandereta pandeiro woodblock wood_block temple_block cowbell cow_bell agogo "
        "agogo_bell taiko steel_drum steel_pan steelpan claves clave castanet castanets timbale timbales guiro triangle cabasa "
        "maraca caxixi cuica djembe darbuka doumbek cajon tabla udu bodhran tamtam tam_tam gong ratchet vibraslap flexatone "
        "anvil sleigh_bell sleighbell jingle_bell bell_tree belltree bar_chime wind_chime mark_tree log_drum frame_drum "
        "hand_drum surdo repinique tamborim dunun djundjun dununba kenkeni sangban quinto finger_snap fingersnap washboard "
        "brake_drum rainstick motor_horn train_whistle spring_coil"
    ),
    "Drum Kit": (
        "drumkit drum_kit drum_set kick kick_drum bass_drum grosse_caisse gran_cassa bombo snare snare_drum caisse_claire "
        "rullante hihat hi_hat hat hhat cymbal becken piatti tom tom_tom tomtom floor_tom floortom clap hand_clap rimshot rim "
        "rim_shot side_stick sidestick crash ride ride_bell splash bd sd sn hh ohh chh hhclosed hhopen hhpedal"
    ),
    "Organ": (
        "organ hammond harmonium accordion accordeon akkordeon acordeon fisarmonica harmonica melodica concertina bandoneon "
        "orgel orgue organo"
    ),
    "Reed": (
        "clarinet clar clarinette klarinette clarinete clarinetto sax saxophone saxofon saxofono altosax tenorsax oboe hautbois "
        "english_horn cor_anglais bassoon fagott fagotto fagot basson bagpipe duduk"
    ),
    "Pipe": "flute flote flauta flauto piccolo recorder ocarina whistle panpipe pan_pipe pan_flute shakuhachi fife",
    "Brass": (
        "trumpet trompete trompette trompeta tromba trombone posaune trombon tuba horn corno cornet flugelhorn euphonium sousaphone bugle"
    ),
    "Piano": (
        "rhodes wurlitzer wurli clavinet clav harpsichord cembalo clavecin epiano grand_piano upright_piano electric_piano "
        "toy_piano fortepiano pianoforte klavier flugel"
    ),
    "Voice": "choir chor coro choeur choral chorus_female chorus_male female_chorus male_chorus stimme voix voz voce",
    "Bass": "bass_guitar guitar_bass",
    "Guitar": (
        "guitar guitarra guitare gitarre chitarra banjo ukulele mandolin mandoline mandolino lute laute sitar koto shamisen "
        "bouzouki oud charango balalaika dobro gtr guit violao"
    ),
    "Strings": (
        "violin viola cello celli contrabass violoncello fiddle harp violine geige bratsche violon violoncelle violino "
        "violonchelo violoncelo kontrabass contrebasse contrabajo contrabbasso double_bass harfe arpa harpe erhu vln vlns vla "
        "vlc"
    ),
}
KINDS_OF_INSTRUMENTS = {
    "Chromatic Percussion": "mallet",
    "Percussion": "percussion perc perkussion percusion",
    "Drum Kit": "drum kit batterie bateria batteria schlagzeug trommel tambor breakbeat",
    "Brass": "brass cuivres",
    "Piano": "keyboard keys",
    "Voice": "voice vocal vox aah ooh singer",
    "Strings": "strings streicher cordes cuerdas cordas archi",
}
ROLES = {
    "Bass": "bass basse bajo baixo",
    "Synth Lead": "lead",
    "Synth Pad": "pad",
    "Synth Effects": "fx sfx riser sweep atmosphere drone downlifter uplifter",
}
WEAK = {  # parts of names of other instruments (pipe organ), or words with other meanings
    "Reed": "reed",
    "Pipe": "pipe",
    "Voice": "soprano mezzosoprano male female",
    "Bass": "sub",
    "Guitar": "pluck",
    "Strings": "string",
}
_INSTRUMENT, _BELL, _KIND, _PIANO, _ROLE, _WEAK = 6, 5, 4, 3, 2, 1  # ranks
_RANKS = {  # words -> (rank, number of words, group)
    tuple(word.split("_")): (rank, len(word.split("_")), group)
    for rank, table in ((_INSTRUMENT, INSTRUMENTS), (_KIND, KINDS_OF_INSTRUMENTS), (_ROLE, ROLES), (_WEAK, WEAK))
    for group, words in table.items()
    for word in words.split()
}
_RANKS |= {(word,): (_BELL, 1, "Chromatic Percussion") for word in ("bell", "chime")} | {("piano",): (_PIANO, 1, "Piano")}
# also at the end of longer words: bassdrum, Altflöte
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
