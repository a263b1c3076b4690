"""A prompt as pieces that can be said once and put together for any values: its carriers and its slots' units.

A unit is a word, or a few that people say as one: a digit, "twenty-three", "four hundred", a year, a status.
How a piece sounds depends on where it stands, so a piece is its words and what comes before and after them.
"""

from __future__ import annotations

import datetime as dt
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from tiers.prompts import variables as kinds
from tiers.prompts.speakable import SPEAKABLE, Speakable
from tiers.prompts.variables import Variable


class Join(Enum):
    """What lies between two pieces."""

    ON = "on"
    """Nothing: they are said in one breath."""
    BREATH = "breath"
    """Between a value and the words after it, which are easier to take in with it."""
    PAUSE = "pause"
    """What a comma stands for."""
    END = "end"
    """The end of a sentence, or of the prompt."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`words` as said after `before` and up to `after` (on, pause or end). A prompt begins after an end."""

    words: str
    before: Join
    after: Join

    def order(self) -> tuple[str, str, str]:
        """To sort by."""
        return self.words, self.before.value, self.after.value


class Spot(NamedTuple):
    """A piece in a line, and what lies between it and the next one."""

    piece: Piece
    join: Join


class _Said(NamedTuple):
    """Words, and what follows them."""

    words: str
    join: Join


class _Slot(NamedTuple):
    """A variable's place, and the mark that the template has behind it."""

    name: str
    join: Join | None = None


UNBOUNDED = (kinds.Text,)
"""Types whose values cannot all be said beforehand."""
_MARKS = {**dict.fromkeys(",;:\u2013\u2014", Join.PAUSE), **dict.fromkeys(".!?\u2026", Join.END)}
_EDGES = re.compile(r"^\s*([,;:.!?\u2026\u2013\u2014]*)(.*?)([,;:.!?\u2026\u2013\u2014]*)\s*$", re.DOTALL)
_ENDS_WITH_ONE = ("hundred", "and")
_STARTS_ONE = ("oh",)
_BIGGEST = 10**12 - 1
YEARS = range(1900, 2100)
"""Those that dates are said in from pieces."""


def pieces_of(template: str, said: Mapping[str, str], types: Mapping[str, Variable]) -> tuple[Spot, ...]:
    """The pieces of a template whose variables are said as `said` (words as `Spoken` has them), in order."""
    spoken: list[_Said] = []
    for item in _items(template):
        if isinstance(item, _Said):
            spoken.append(item)
        else:
            spoken += _units(said[item.name], types[item.name], item.join)
    return tuple(_placed(spoken, Join.END, Join.END))


def inventory(template: str, types: Mapping[str, Variable], language: str) -> set[Piece]:
    """Every piece that any values can need. Values that are said as they come (`other` of an enum) are left out."""
    found: set[Piece] = set()
    items = _items(template)
    for index, item in enumerate(items):
        before = _sound(items[index - 1].join) if index else Join.END
        end = Join.END if index == len(items) - 1 else None
        if isinstance(item, _Said):
            found.update(spot.piece for spot in _placed([item], before, end))
            continue
        kind = types[item.name]
        for words in _samples(kind, language):
            found.update(spot.piece for spot in _placed(_units(words, kind, item.join), before, end))
    return found


def _items(template: str) -> list[_Said | _Slot]:
    items: list[_Said | _Slot] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        before, core, after = _edges(literal)
        if before is not None and items:
            items[-1] = items[-1]._replace(join=before)
        if core:
            items.append(_Said(core, after or Join.ON))
        elif after is not None and items:
            items[-1] = items[-1]._replace(join=after)
        if field is not None:
            items.append(_Slot(field))
    return items


def _edges(literal: str) -> tuple[Join | None, str, Join | None]:
    """The mark that a literal begins with, its words, and the mark that it ends with."""
    match = _EDGES.match(literal)
    assert match is not None
    before, core, after = match.groups()
    core = " ".join(core.split())
    if not any(char.isalnum() for char in core):
        core = ""
    return _mark(before), core, _mark(after)


def _mark(marks: str) -> Join | None:
    joins = {_MARKS[mark] for mark in marks}
    return Join.END if Join.END in joins else Join.PAUSE if joins else None


def _units(words: str, kind: Variable, mark: Join | None) -> list[_Said]:
    """A value's units; the last one is followed by a breath, unless a mark of the template follows."""
    last = mark or Join.BREATH
    if isinstance(kind, kinds.Enum):
        return [_Said(words.rstrip(" .,;:!?"), last)]
    units: list[_Said] = []
    for number, group in enumerate(words.split(", ")):
        # A year in parts is taken for another one: "twenty, twenty-nine".
        whole = number > 0 and isinstance(kind, kinds.Date)
        units += (_Said(unit, Join.ON) for unit in ([group] if whole else _grouped(group.split())))
        units[-1] = units[-1]._replace(join=Join.PAUSE)
    units[-1] = units[-1]._replace(join=last)
    return units


def _grouped(words: list[str]) -> Iterator[str]:
    """Words, those that belong together as one: "four hundred", "dollars and", "oh five"."""
    index = 0
    while index < len(words):
        pair = words[index : index + 2]
        together = len(pair) == 2 and (pair[1] in _ENDS_WITH_ONE or pair[0] in _STARTS_ONE)
        yield " ".join(pair) if together else words[index]
        index += 2 if together else 1


def _placed(items: list[_Said], before: Join, end: Join | None) -> Iterator[Spot]:
    """`end` stands for the join of the last item, where that is not what counts."""
    for index, item in enumerate(items):
        join = end if end is not None and index == len(items) - 1 else item.join
        sound = _sound(join)
        yield Spot(Piece(item.words, before, sound), join)
        before = sound


def _sound(join: Join | None) -> Join:
    """How the words beside it are said: the breath after a value is too short to be heard in them."""
    return Join.PAUSE if join in (None, Join.BREATH) else join


# --- values whose pieces are all the pieces there are ---


def _samples(kind: Variable, language: str) -> Iterator[str]:
    """Words of values of a type that together need every unit in every place."""
    speakable = SPEAKABLE[language.partition("-")[0].lower()]
    match kind:
        case kinds.Enum():
            yield from kind.wording[language].values()
        case kinds.SpelledId():
            yield from _spelled(speakable)
        case kinds.Phone():
            yield from (speakable.phone(digit * 3 + " " + digit * 3).words for digit in "0123456789")
            yield speakable.phone("+1 23").words
            yield from (speakable.phone(f"+{digit} {digit}1").words for digit in "0123456789")
            yield from (speakable.phone(f"1{digit} {digit} {digit}").words for digit in "0123456789")
        case kinds.Integer():
            yield from (speakable.integer(value).words for value in _integers(kind.minimum, kind.maximum))
        case kinds.Money():
            yield from _amounts(kind, speakable)
        case kinds.Date():
            yield from _dates(speakable)
        case kinds.Time():
            yield from (speakable.time(dt.time(minute // 60, minute % 60)).words for minute in range(1440))
        case _:
            raise ValueError(f"the values of a {kind.type} have no end")


def _spelled(speakable: Speakable) -> Iterator[str]:
    for digit in "0123456789":
        # In groups of four, alone, and with letters before it, behind it, on both sides.
        for value in (digit * 8, digit, f"A{digit}", f"{digit}A", f"A{digit}A"):
            yield speakable.spelled(value).words
    for letter in string.ascii_uppercase:
        yield speakable.spelled(f"{letter}{letter}{letter}").words
        yield speakable.spelled(letter).words
    for sign in "-/._":
        yield speakable.spelled(f"A{sign}1").words


def _integers(minimum: int, maximum: int) -> Iterator[int]:
    """Whole numbers of a range that need every number word there is in it."""
    if maximum - minimum <= 2000:
        yield from range(minimum, maximum + 1)
        return
    wanted = {minimum, maximum}
    for scale in (1, 1000, 10**6, 10**9):
        # Where nothing smaller precedes them, and behind the first larger numbers of the range, on both its sides.
        block = 1000 * scale
        starts = {0, -(-minimum // block) * block, (maximum // block - 1) * block, maximum // block * block}
        for start in starts:
            for count in range(1000):
                value = start + count * scale
                wanted.update(
                    (value, -value, value + scale // 1000, value + (scale > 1), value + scale // 10)
                )
    yield from sorted(value for value in wanted if minimum <= value <= maximum)


def _amounts(kind: kinds.Money, speakable: Speakable) -> Iterator[str]:
    currencies = kind.currencies or tuple(speakable.currencies)
    for value in _integers(0, _BIGGEST):
        yield speakable.money(Decimal(value), currencies[0]).words
    for currency in currencies:
        cents = range(100) if speakable.currencies[currency].minor_one else (0,)
        for whole in (0, 1, 2):
            for cent in cents:
                amount = Decimal(whole) + Decimal(cent) / 100
                yield speakable.money(amount, currency).words
                yield speakable.money(-amount, currency).words


def _dates(speakable: Speakable) -> Iterator[str]:
    for month in range(1, 13):
        yield speakable.date(dt.date(2026, month, 1)).words
    for day in range(1, 32):
        yield speakable.date(dt.date(2026, 1, day)).words
    for year in YEARS:
        yield speakable.date(dt.date(year, 1, 1)).words
