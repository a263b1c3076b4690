"""Words as they were said or transcribed, as units: digits, letters, other words and signs.

"four one seven two", "4 1 7 2", "forty-one seventy-two" and "4172" are all digits that join to 4172; "A as in Alpha"
and "Alpha" are the letter A. English number words are known; single digits in German, Spanish and French too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

from orchestrator.protocol.number_words import DIGIT_OF, REPEATS, TEEN_OF, TENS_OF


class UnitKind(Enum):
    DIGITS = "digits"
    LETTER = "letter"
    """One or more letters that were spelled."""
    WORD = "word"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Unit:
    """`forms`: what it may stand for, folded, the likeliest first. `start`, `end`: where it is in the text."""

    kind: UnitKind
    forms: tuple[str, ...]
    start: int
    end: int
    glued: bool = False
    """Nothing stands between it and the unit before."""
    fresh: bool = False
    """A sentence ended before it, or the text begins."""
    comma: bool = False
    sure: bool = False
    """A letter that was named with a word: "A as in Alpha"."""

    @property
    def form(self) -> str:
        return self.forms[0]

    @property
    def plain(self) -> str:
        """A numeral, or the word as it is: what might be a letter's name, such as November, may be a month."""
        named = self.kind is UnitKind.LETTER and not self.sure and len(self.forms[-1]) > 1
        return self.forms[-1] if named else self.forms[0]

    @property
    def counts(self) -> bool:
        """Whether it is part of a number or of something that is spelled."""
        return self.kind in (UnitKind.DIGITS, UnitKind.LETTER)


_NATO_WORDS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey xray yankee zulu alfa juliett whisky"
)
NATO = {word: word[0] for word in _NATO_WORDS.split()}
NATO_OF = {letter: word.capitalize() for word, letter in reversed(NATO.items())} | {"x": "X-ray"}
_OTHER_DIGITS = {
    word: str(digit)
    for words in (
        "null eins zwei drei vier fünf sechs sieben acht neun",
        "cero uno dos tres cuatro cinco seis siete ocho nueve",
        "zéro un deux trois quatre cinq six sept huit neuf",
    )
    for digit, word in enumerate(words.split())
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_NUMBER_WORDS = frozenset((*DIGIT_OF, *TEEN_OF, *TENS_OF, *_SCALES, "a", "an"))
_NOT_SPELLED = frozenset(
    [
        "ID",
        "OK",
        "NO",
        "TV",
        "PIN",
        "ZIP",
        "USD",
        "EUR",
        "GBP",
        "AM",
        "PM",
        "IS",
        "TO",
        "OF",
        "IN",
        "ON",
        "AT",
        "IT",
        "MY",
        "I",
        "A",
        "UK",
        "US",
        "EU",
    ]
)
"""Capitals before digits that are words of their own: "ID 4172"."""

_TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?![\d,])|\d+|[^\W\d_]+(?:'[^\W\d_]+)*|[-.,!?;:@+_/#$€£¥%&…\n]")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{2,3}")
_SENTENCE_SIGNS = ".!?;:…\n"
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {"\u2019": "'"})


def fold(text: str) -> str:
    """Text for comparing: small letters without accents and apostrophes."""
    if text.isascii():
        return text.lower().replace("'", "")
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char) and char != "'")


@lru_cache(maxsize=128)
def units(text: str) -> tuple[Unit, ...]:
    """The units of a text, in order. Never fails; signs that only structure a sentence are left out.

    Kept for the last texts: one turn of a call is looked at for several things.
    """
    tokens = _tokens(text.translate(_DASHES))
    found: list[Unit] = []
    position = 0
    while position < len(tokens):
        unit, used = _read(tokens, position, found)
        if unit.fresh and found and found[-1].sure and (unit.sure or unit.kind is UnitKind.DIGITS):
            unit = replace(unit, fresh=False, comma=True)  # "B as in Bravo. D as in Delta. 4172."
        found.append(unit)
        position += used
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    low: str
    start: int
    end: int
    glued: bool
    fresh: bool
    comma: bool

    @property
    def is_word(self) -> bool:
        return self.text[0].isalpha()

    @property
    def is_letter(self) -> bool:
        return len(self.text) == 1 and self.is_word

    def close(self) -> bool:
        """Whether it goes on from the token before it without a pause."""
        return not self.fresh and not self.comma


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    fresh, comma, end = True, False, -1
    for match in _TOKEN.finditer(text):
        sign, follows = match[0], text[match.end() : match.end() + 1]
        pause = not follows or follows.isspace() or sign in "\n…"
        if sign in _SENTENCE_SIGNS and pause:
            fresh = True
            continue
        if (sign == "," and pause) or (sign == "-" and pause and match.start() != end):
            comma = True
            continue
        if fresh and found and _told_one_by_one(found[-1].text, text[found[-1].end : match.end()]):
            fresh, comma = False, True
        found.append(
            _Token(sign, sign.lower(), match.start(), match.end(), match.start() == end, fresh, comma)
        )
        fresh, comma, end = False, False, match.end()
    return found


def _told_one_by_one(before: str, behind: str) -> bool:
    """Whether a full stop stands between single figures: "4. 1. 7. 2." is one number, told slowly."""
    return len(before) == 1 and before.isdecimal() and re.fullmatch(r"\.\s+\d", behind) is not None


def _read(tokens: Sequence[_Token], at: int, before: Sequence[Unit]) -> tuple[Unit, int]:
    """The unit that begins at a token, and how many tokens it takes."""
    token = tokens[at]
    read = None
    if token.is_letter or (token.is_word and len(token.text) <= 3):
        read = _named_letter(tokens, at)
    if read is None and token.low in REPEATS:
        read = _repeated(tokens, at)
    if read is None and (token.low in _NUMBER_WORDS or token.low[0].isdecimal()):
        read = _large(tokens, at) or _tens(tokens, at)
    return read or (_single(tokens, at, before), 1)


def _unit(kind: UnitKind, forms: Sequence[str], tokens: Sequence[_Token], *, sure: bool = False) -> Unit:
    first = tokens[0]
    return Unit(
        kind,
        tuple(dict.fromkeys(forms)),
        first.start,
        tokens[-1].end,
        glued=first.glued,
        fresh=first.fresh,
        comma=first.comma,
        sure=sure,
    )


def _named_letter(tokens: Sequence[_Token], at: int) -> tuple[Unit, int] | None:
    """ "A as in Alpha", "B for Bravo", "D like dog", and "be as in Bravo", as recognisers write it.

    What the word begins with counts: an M is soon heard as an N.
    """
    token = tokens[at]
    following = [other.low for other in tokens[at + 1 : at + 4]]
    used = (
        4
        if following[:2] in (["as", "in"], ["as", "an"])
        else 3
        if following[:1] in (["for"], ["like"])
        else 0
    )
    if token.low == "as" and following[:1] in (["in"], ["an"]) and following[1:2] and following[1] in NATO:
        return _unit(UnitKind.LETTER, [NATO[following[1]]], tokens[at : at + 3], sure=True), 3
    if not used or at + used > len(tokens):
        return None
    last = tokens[at + used - 1]
    if not last.is_word or last.fresh or (used == 3 and last.low[0] != token.low):
        return None
    more = _x_ray(tokens, at + used - 1)
    if (last.is_letter and not more) or not (token.is_letter or last.low in NATO):
        return None
    used += more
    return _unit(UnitKind.LETTER, [fold(last.text[0])], tokens[at : at + used], sure=True), used


def _x_ray(tokens: Sequence[_Token], at: int) -> int:
    """How many more tokens belong to a word that is written with a dash."""
    rest = [token.text for token in tokens[at + 1 : at + 3]]
    return 2 if rest[:1] == ["-"] and len(rest) == 2 and rest[1].lower() == "ray" else 0


def _repeated(tokens: Sequence[_Token], at: int) -> tuple[Unit, int] | None:
    times = REPEATS.get(tokens[at].low)
    if times is None or at + 1 >= len(tokens) or not tokens[at + 1].close():
        return None
    token = tokens[at + 1]
    digits = DIGIT_OF.get(token.low) or (token.text if token.text.isdecimal() else "")
    if digits and len(digits) > 1 and digits[0] == digits[1]:
        return None
    if digits:  # "double five one two" may be written "double 512"
        return _unit(UnitKind.DIGITS, [digits[0] * times + digits[1:]], tokens[at : at + 2]), 2
    if token.is_letter:
        return _unit(UnitKind.LETTER, [fold(token.text) * times], tokens[at : at + 2]), 2
    return None


def _below_hundred(tokens: Sequence[_Token], at: int) -> tuple[int, int] | None:
    """A number below 100 in words, or up to three figures, and how many tokens it takes."""
    if at >= len(tokens):
        return None
    word = tokens[at].low
    if word in TENS_OF:
        value, used = int(TENS_OF[word]) * 10, 1
        step = 2 if at + 1 < len(tokens) and tokens[at + 1].text == "-" else 1
        if at + step < len(tokens) and tokens[at + step].close():
            ones = DIGIT_OF.get(tokens[at + step].low, "0")
            if ones != "0":
                value, used = value + int(ones), step + 1
        return value, used
    if word in TEEN_OF or (word in DIGIT_OF and word not in ("o", "oh")):
        return int(TEEN_OF.get(word) or DIGIT_OF[word]), 1
    return (int(word), 1) if word.isdecimal() and len(word) <= 3 else None


def _large(tokens: Sequence[_Token], at: int) -> tuple[Unit, int] | None:
    """A number with a hundred, thousand or million in it: "four thousand one hundred and seventy-two"."""
    total, group, place, scaled = 0, -1, at, 10**12
    seen = False
    while place < len(tokens) and (place == at or tokens[place].close()):
        word = tokens[place].low
        below = _below_hundred(tokens, place)
        if (
            word in _SCALES
            and (group >= 0 or not seen)
            and _SCALES[word] < scaled
            and (word != "hundred" or group < 100)
        ):
            seen = True
            if word == "hundred":
                group = (group if group > 0 else 1) * 100
            else:
                scaled = _SCALES[word]
                total, group = total + (group if group > 0 else 1) * scaled, -1
            place += 1
        elif below is not None and (group < 0 or (group >= 100 and group % 100 == 0 and below[0] < 100)):
            group = max(group, 0) + below[0]
            place += below[1]
        elif (
            seen
            and word == "and"
            and (next_ := _below_hundred(tokens, place + 1)) is not None
            and next_[0] < 100
        ) or (place == at and word in ("a", "an") and at + 1 < len(tokens) and tokens[at + 1].low in _SCALES):
            place += 1
        else:
            break
    if not seen:
        return None
    return _unit(UnitKind.DIGITS, [str(total + max(group, 0))], tokens[at:place]), place - at


def _tens(tokens: Sequence[_Token], at: int) -> tuple[Unit, int] | None:
    if tokens[at].low not in TENS_OF:
        return None
    read = _below_hundred(tokens, at)
    assert read is not None
    value, used = read
    return _unit(UnitKind.DIGITS, [str(value)], tokens[at : at + used]), used


def _single(tokens: Sequence[_Token], at: int, before: Sequence[Unit]) -> Unit:
    token = tokens[at]
    word = token.low
    if word[0].isdecimal():
        return _unit(UnitKind.DIGITS, ["".join(str(int(c)) for c in word if c != ",")], [token])
    if not token.is_word:
        return _unit(UnitKind.SIGN, [token.text], [token])
    if word in ("oh", "o") and _among_digits(tokens, at, before):
        return _unit(UnitKind.DIGITS, ["0", fold(word)], [token])
    if word in DIGIT_OF and word not in ("oh", "o"):
        return _unit(UnitKind.DIGITS, [DIGIT_OF[word], fold(word)], [token])
    if word in TEEN_OF:
        return _unit(UnitKind.DIGITS, [TEEN_OF[word], fold(word)], [token])
    if _is_spelled(tokens, at):
        return _unit(UnitKind.LETTER, [fold(word), *(["0"] if word == "o" else [])], [token])
    if word in NATO and _near_spelled(tokens, at, before):
        return _unit(UnitKind.LETTER, [NATO[word], fold(word)], [token])
    other = [_OTHER_DIGITS[word]] if word in _OTHER_DIGITS else []
    return _unit(UnitKind.WORD, [fold(word), *other], [token])


def _among_digits(tokens: Sequence[_Token], at: int, before: Sequence[Unit]) -> bool:
    """Whether an "oh" is a zero: it follows digits, or goes on to digits without a pause."""
    if before and before[-1].kind is UnitKind.DIGITS and not tokens[at].fresh:
        return True
    step = 2 if at + 1 < len(tokens) and tokens[at + 1].text == "-" else 1
    return at + step < len(tokens) and tokens[at + step].close() and _is_number(tokens[at + step])


def _is_number(token: _Token) -> bool:
    word = token.low
    return word[0].isdecimal() or (word in DIGIT_OF and word != "o") or word in TEEN_OF or word in TENS_OF


def _is_spelled(tokens: Sequence[_Token], at: int) -> bool:
    """Whether a word is letters that are spelled: "B", "j a n e", the AB of "AB-4172"."""
    token = tokens[at]
    if token.is_letter:
        if token.text.isupper() and token.text not in "IA":
            return True
        if token.low not in "aio":
            return True
        around = [other for other in (_beside(tokens, at, -1), _beside(tokens, at, 1)) if other is not None]
        return any(o.is_letter or (token.text.isupper() and o.text[0].isdecimal()) for o in around)
    if len(token.text) > 4 or not token.text.isascii():
        return False
    after, before = _beside(tokens, at, 1), _beside(tokens, at, -1)
    dashed = at > 0 and tokens[at].glued and tokens[at - 1].text == "-"
    cluster = (dashed and token.text.isupper()) or _CONSONANTS.fullmatch(token.low)
    if before is not None and before.is_letter and cluster:  # "S-M-Y-TH", "s m y th"
        return True
    if after is None or not after.text[0].isdecimal():
        return False
    joined = after.glued
    return joined or (token.text.isupper() and token.text not in _NOT_SPELLED and len(token.text) <= 3)


def _beside(tokens: Sequence[_Token], at: int, way: int) -> _Token | None:
    """The next token in one direction, beyond one dash; None beyond the end of a sentence."""
    place = at + way
    if 0 <= place < len(tokens) and tokens[place].text == "-":
        place += way
    if not 0 <= place < len(tokens) or tokens[max(at, place)].fresh:
        return None
    return tokens[place]


def _near_spelled(tokens: Sequence[_Token], at: int, before: Sequence[Unit]) -> bool:
    if before and before[-1].counts and not tokens[at].fresh:
        return True
    after = _beside(tokens, at, 1)
    named = after is not None and _named_letter(tokens, at + 1) is not None
    return after is not None and (_is_number(after) or after.low in NATO or after.is_letter or named)


_WORD_SIGNS = {
    "dash": "-", "hyphen": "-", "slash": "/", "dot": ".", "period": ".", "underscore": "_", "plus": "+",
    "bindestrich": "-", "minus": "-", "unterstrich": "_", "punkt": ".", "guion": "-", "punto": ".", "tiret": "-",
    "point": ".", "arroba": "@", "arobase": "@", "at": "@", "klammeraffe": "@", "mas": "+",
}  # fmt: skip


def sign_of(unit: Unit) -> str:
    """The sign that a unit is or names ("dash", "dot", "at"), or nothing."""
    if unit.kind is UnitKind.SIGN:
        return unit.form
    return _WORD_SIGNS.get(unit.form, "") if unit.kind is UnitKind.WORD else ""


def numerals(text: str) -> str:
    """Text with figures for number words and two spaces between sentences; commas and other signs stay."""
    said = ""
    for unit in units(text):
        pause = "," if unit.comma else " " if unit.fresh else ""
        said += ("" if not said else pause if unit.glued else f"{pause} ") + unit.plain
    return said
