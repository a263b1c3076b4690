"""Whether what a caller has said so far sounds finished: from the words alone, in microseconds.

A recogniser puts a full stop behind whatever it was given, so the last words count for more than the last sign. What
cannot be told is `UNKNOWN`; in a language without data here that is everything but a trailing comma.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum


class Ending(Enum):
    FINISHED = "finished"
    UNFINISHED = "unfinished"
    """More is to come: in the middle of a sentence, or of a number."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Language:
    dangling: frozenset[str]
    """No sentence ends with these, whatever sign stands behind."""
    stranded: frozenset[str] = frozenset()
    """Prepositions: a question may end with one, and so may some verbs' sentences."""
    strands: frozenset[str] = frozenset()
    """Words before a stranded preposition that make it an end: "come in", "waiting for"."""
    leads: tuple[str, ...] = ()
    """Ends of a sentence that only announce what is to follow: "my number is"."""
    whole: frozenset[str] = frozenset()
    """Utterances that are complete without any sign."""
    digits: frozenset[str] = frozenset()
    """Words for digits. Those for more than one ("eleven") count as one: how many are told is known at least."""
    multiples: dict[str, int] = field(default_factory=dict)
    """Words that repeat the digit behind them: "double five"."""
    numbers: tuple[tuple[str, int], ...] = ()
    """What a number is called, and how many digits one has at least; the first that is named counts."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH = _Language(
    dangling=_words(
        "a an the and or but nor because although unless until whereas my your his its our their um uh uhm er erm "
        "hmm if whether than gonna wanna very every to i'm i'd i'll i've you're we're they're it'll we'll he's she's"
    ),
    stranded=_words(
        "to of for with from at by in on about into onto under over between through without via per"
    ),
    strands=_words(
        "come came log logged sign signed turn turned go goes going went hold switch switched get got moved move "
        "looking look waiting wait asked asking ask paid pay hoping talking thinking speak dealing it them me you"
    ),
    leads=(
        "number is",
        "name is",
        "address is",
        "email is",
        "code is",
        "date is",
        "id is",
        "reference is",
        "i want",
        "i need",
        "i would like",
        "i'd like",
        "can you",
        "could you",
        "would you",
        "can i",
        "could i",
        "do you have",
        "is there any",
        "so",
        "well",
        "it says",
        "you know",
        "i mean",
        "let me see",
        "hang on",
        "hold on",
    ),
    whole=_words(
        "yes yeah yep no nope okay ok sure thanks hello hi hey goodbye bye stop cancel correct exactly please"
    ),
    digits=_words(
        "zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
    ),
    multiples={"double": 2, "triple": 3},
    numbers=(
        ("card number", 12),
        ("phone number", 7),
        ("telephone number", 7),
        ("mobile number", 7),
        ("account number", 6),
        ("tracking number", 6),
        ("zip code", 5),
        ("order number", 4),
        ("booking number", 4),
        ("reference number", 4),
        ("customer number", 4),
        ("order", 3),
    ),
)

_GERMAN = _Language(
    dangling=_words(
        "und oder aber weil dass ob der die das den dem ein eine einen mein meine ihr ähm äh hm mit von für zu"
    ),
    leads=("nummer ist", "name ist", "adresse ist", "ich möchte", "können sie"),
    whole=_words("ja nein doch genau danke hallo tschüss stopp okay"),
)
_SPANISH = _Language(
    dangling=_words("y o pero porque que el la los las un una mi su de del con para por a eh em si"),
    leads=("número es", "nombre es", "dirección es", "quiero", "me gustaría"),
    whole=_words("sí no gracias hola adiós vale claro"),
)
_FRENCH = _Language(
    dangling=_words("et ou mais parce que le la les un une des mon ma mes de du avec pour à euh si"),
    leads=("numéro est", "nom est", "adresse est", "je voudrais", "est-ce que"),
    whole=_words("oui non merci bonjour voilà d'accord"),
)
_LANGUAGES = {"en": _ENGLISH, "de": _GERMAN, "es": _SPANISH, "fr": _FRENCH}
_NONE = _Language(frozenset())

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|\d+")
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_OPEN_ENDS = (",", "-", "\N{EN DASH}", "\N{EM DASH}", "\N{HORIZONTAL ELLIPSIS}", "...", ":", ";", "(")
_ENDS = ".!?\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH QUESTION MARK}\N{FULLWIDTH EXCLAMATION MARK}"


def ending(text: str, language: str = "en", asked: str = "") -> Ending:
    """How `text`, all that was said of a turn so far, ends. `asked`: what the assistant said before it."""
    text = text.strip().replace(_APOSTROPHE, "'")
    known = _LANGUAGES.get(language.split("-")[0], _NONE)
    words = _WORD.findall(text.lower())
    if not words:
        return Ending.UNKNOWN
    if text.endswith(_OPEN_ENDS) or _dangles(words, text, known) or _cut_number(words, known, asked.lower()):
        return Ending.UNFINISHED
    if text[-1] in _ENDS or _is_whole(words, known):
        return Ending.FINISHED
    return Ending.UNKNOWN


def _dangles(words: Sequence[str], text: str, known: _Language) -> bool:
    last = words[-1]
    if text.endswith("?"):
        return last in known.dangling and last != "to"
    if last in known.dangling:
        return True
    said = " ".join(words)
    if any(said == lead or said.endswith(" " + lead) for lead in known.leads):
        return True
    return last in known.stranded and (len(words) < 2 or words[-2] not in known.strands)


def _is_whole(words: Sequence[str], known: _Language) -> bool:
    return all(word in known.whole for word in words)


def _cut_number(words: Sequence[str], known: _Language, asked: str) -> bool:
    """Whether it ends in a number that has fewer digits than what is being told, or was asked for, must have."""
    digits = _trailing_digits(words, known)
    if not digits:
        return False
    said = " ".join(words)
    for source in (said, asked):
        for name, expected in known.numbers:
            if re.search(rf"\b{name}\b", source):
                return digits < expected
    return False


def _trailing_digits(words: Sequence[str], known: _Language) -> int:
    """How many digits the words end with, in figures or in words."""
    count, multiple = 0, 1
    if words[-1:] == ["one"] and not (len(words) > 1 and (words[-2].isdigit() or words[-2] in known.digits)):
        return 0  # "the blue one"
    for word in reversed(words):
        if word.isdigit():
            count, multiple = count + len(word), len(word)
        elif word in known.digits:
            count, multiple = count + 1, 1
        elif word in known.multiples and count:
            count += (known.multiples[word] - 1) * multiple
        else:
            break
    return count


_MURMUR = re.compile(r"(?:m+|h+m+|m+-?h+m*|a+h+|o+h+|u+h+-?h+u+h+|a+-?h+a+)")
_NODS = _words("okay ok yeah yep yup right sure alright cool great good fine really wow thanks")
_NOD_PHRASES = (
    "i see",
    "got it",
    "thank you",
    "all right",
    "go on",
    "of course",
    "makes sense",
    "uh huh",
    "very good",
    "sounds good",
)


def is_backchannel(text: str) -> bool:
    """Whether all of `text` only says "I am listening": "mm-hm", "okay", "yeah, I see". Nothing at all is not one."""
    words = _WORD.findall(text.lower().replace(_APOSTROPHE, "'"))
    if not words or len(words) > 4:
        return False
    rest = " ".join(words)
    for phrase in _NOD_PHRASES:
        rest = re.sub(rf"\b{phrase}\b", " ", rest)
    if all(len(word) == 1 for word in rest.split()):  # "M.H.M."
        rest = rest.replace(" ", "")
    return all(word in _NODS or _MURMUR.fullmatch(word) for word in rest.split())
