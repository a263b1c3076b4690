"""Which values some words hold, whoever worded them and however a recogniser wrote them down.

A number counts only as a whole: 4172 is not in "4 1 7 2 2", unless the last 2 is another value of the same call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from orchestrator.core.amounts import amounts, currency_said, parse
from orchestrator.core.entity_names import normal_name
from orchestrator.core.spoken_dates import moment, moment_said
from orchestrator.core.spoken_words import Unit, UnitKind, fold, sign_of, units
from orchestrator.core.value_shapes import Shape, figures, words_of

WORDS_EXACT = 8
"""A text of so many words has to be said as it is; of a longer one MOST words and all numbers."""
MOST = 0.85
LONGEST = 4000
"""Characters of words that are looked at, the last ones: a call does not wait for more."""

Said = tuple[str, Any, Shape]
Place = tuple[int, int]
"""First and last unit of a place where a value is said."""


def mentions(words: str, action: str) -> bool:
    """Whether the words have any of an action's words in them."""
    told = {word[:5] for word in fold(words_of(action)).split() if len(word) > 2}
    said = {word[:5] for word in re.findall(r"\w+", fold(words))}
    return bool(said) and (bool(told & said) or not told)


def is_said(words: str, values: Sequence[Said]) -> list[str]:
    """Paths of the values that the words do not hold."""
    words = words[-LONGEST:]
    said = units(words)
    places: dict[int, list[Place]] = {}
    missing: list[int] = []
    for at, (path, value, shape) in enumerate(values):
        plain = _PLAIN.get(shape)
        if plain is not None:
            if not plain(words, path, value):
                missing.append(at)
        elif shape is Shape.NUMBER and _is_amount(words, value):
            continue
        elif shape is Shape.TEXT and not _is_short(str(value)):
            if not _long_said(words, said, str(value)):
                missing.append(at)
        else:
            places[at] = _places(words, said, value, shape)
    _keep_whole(said, places)
    missing += [at for at, found in places.items() if not found]
    return [values[at][0] for at in sorted(missing)]


def where_said(words: str, values: Sequence[Said]) -> list[tuple[int, int, int]]:
    """Which values are said, by their positions, and from where to where in the words, in the words' order.

    None of dates, amounts, booleans and long texts.
    """
    said = units(words)
    places = {
        at: _places(words, said, value, shape)
        for at, (_, value, shape) in enumerate(values)
        if shape not in _PLAIN and (shape is not Shape.TEXT or _is_short(str(value)))
    }
    _keep_whole(said, places)
    spans = [(at, said[first].start, said[last].end) for at, found in places.items() for first, last in found]
    return sorted(spans, key=lambda span: span[1:])


def _amount_said(words: str, path: str, value: Any) -> bool:
    amount = parse(value)
    told = amounts(words)
    return amount is not None and any(
        amount.fits(other) and (other.currency or not amount.currency) for other in told
    )


def _is_amount(words: str, value: float) -> bool:
    """Whether the words hold a number as money, or with cents: "25 dollars and 50 cents"."""
    told = (amount for amount in amounts(words) if amount.currency or amount.number % 1)
    return any(amount.number == Decimal(str(value)) for amount in told)


_NO_WORDS = "no not without dont wont never kein keine keinen nicht ohne sin sans pas isnt nope nein non"
_NEGATIONS = frozenset(_NO_WORDS.split())


def _boolean_said(words: str, path: str, value: Any) -> bool:
    """By the name's words: "gift wrap: yes", "with gift wrap"; for a no with a negation before or right behind them."""
    names = [word[:5] for word in fold(words_of(path)).split() if not word.isdecimal()]
    for clause in re.split(r"[,.;!?\n]", fold(words)):
        said = re.findall(r"[^\W\d]\w*", clause)
        for first, last in _spans(names, said):
            around = [*said[max(0, first - 4) : first], *said[last + 1 : last + 2]]
            if any(word in _NEGATIONS for word in around) is not bool(value):
                return True
    return False


def _spans(names: Sequence[str], said: Sequence[str]) -> list[Place]:
    """Where words begin with the names: in a row, or else anywhere ("wrap it as a gift")."""
    if not names:
        return []
    rows = [
        (at, at + len(names) - 1)
        for at in range(len(said) - len(names) + 1)
        if all(word.startswith(name) for word, name in zip(said[at:], names, strict=False))
    ]
    anywhere = [next((at for at, word in enumerate(said) if word.startswith(name)), -1) for name in names]
    return rows or ([(min(anywhere), max(anywhere))] if min(anywhere) >= 0 else [])


_PLAIN: dict[Shape, Callable[[str, str, Any], bool]] = {
    Shape.NOTHING: lambda words, path, value: True,
    Shape.AMOUNT: _amount_said,
    Shape.BOOLEAN: _boolean_said,
    Shape.CURRENCY: lambda words, path, value: currency_said(value, words),
    Shape.MOMENT: lambda words, path, value: (at := moment(value)) is not None and moment_said(at, words),
}


def _is_short(text: str) -> bool:
    return len(units(text)) <= WORDS_EXACT


def _long_said(words: str, said: Sequence[Unit], text: str) -> bool:
    """Most words of a long text, and every number in it."""
    mine = units(text)
    if _find(said, _key(mine, _in_text), _in_text):
        return True
    numbers: list[list[Unit]] = [[]]
    for unit in mine:
        if unit.kind is UnitKind.DIGITS:
            numbers[-1].append(unit)
        else:
            numbers.append([])
    found = {at: _find(said, _key(run, _in_code), _in_code) for at, run in enumerate(numbers) if run}
    _keep_whole(said, found)
    wanted = {unit.form for unit in mine if unit.kind is UnitKind.WORD}
    told = {form for unit in said for form in unit.forms}
    return all(found.values()) and len(wanted & told) >= MOST * len(wanted)


# Places


Part = Callable[[Sequence[Unit], int], tuple[str, ...]]
"""What the unit at a position may stand for."""


def _in_code(said: Sequence[Unit], at: int) -> tuple[str, ...]:
    """Signs do not count in a code."""
    unit = said[at]
    if unit.kind is UnitKind.SIGN:
        return ("",)
    return (*unit.forms, "") if sign_of(unit) else unit.forms


def _in_address(said: Sequence[Unit], at: int) -> tuple[str, ...]:
    unit = said[at]
    sign = sign_of(unit)
    dash = unit.kind is UnitKind.SIGN and sign == "-"
    return (sign, "") if dash else (sign, *unit.forms) if sign else unit.forms


def _in_text(said: Sequence[Unit], at: int) -> tuple[str, ...]:
    """Signs do not count but for a decimal point."""
    unit = said[at]
    between = 0 < at < len(said) - 1 and said[at - 1].kind is said[at + 1].kind is UnitKind.DIGITS
    if sign_of(unit) == "." and between and not said[at + 1].fresh and not unit.fresh:
        return (".",)
    return ("",) if unit.kind is UnitKind.SIGN else unit.forms


def _key(mine: Sequence[Unit], part: Part) -> str:
    return "".join(part(mine, at)[0] for at in range(len(mine)))


def _places(words: str, said: Sequence[Unit], value: Any, shape: Shape) -> list[Place]:
    if shape is Shape.NUMBER:
        return _number_places(words, said, Decimal(str(value)))
    text = str(value)
    if shape is Shape.EMAIL:
        return [place for place in _find(said, text.lower(), _in_address) if not _goes_on(said, place)]
    if shape in (Shape.ORDER_NUMBER, Shape.PHONE):
        return _find(said, "".join(char for char in fold(text) if char.isalnum()), _in_code)
    places = _find(said, _key(units(text), _in_text), _in_text)
    if shape is Shape.NAME:
        places += _find(said, normal_name(text).replace(" ", "").lower(), _in_text)
    return places


def _goes_on(said: Sequence[Unit], place: Place) -> bool:
    """Whether an address has more to it than what was found."""
    first, last = place
    before = sign_of(said[first - 1]) if first and not said[first].fresh else ""
    behind = sign_of(said[last + 1]) if last + 1 < len(said) and not said[last + 1].fresh else ""
    return (before != "" and before in "._-+") or behind == "."


def _number_places(words: str, said: Sequence[Unit], value: Decimal) -> list[Place]:
    size = abs(value)
    keys = {key for key in (figures(size), f"{size:.2f}", f"{size:.1f}") if Decimal(key) == size}
    found = []
    for first, last in {place for key in keys for place in _find(said, key, _in_text)}:
        before = said[first - 1] if first and not said[first].fresh else None
        minus = before is not None and (
            before.form in ("minus", "negative") or (before.form == "-" and not before.glued)
        )
        behind = amounts(words[said[first].start :])
        other = (
            behind
            and behind[0].currency
            and behind[0].number != size
            and _begins(said, first, last, behind[0].number)
        )
        if minus == (value < 0) and not other:
            found.append((first, last))
    return found


def _begins(said: Sequence[Unit], first: int, last: int, number: Decimal) -> bool:
    """Whether a place is only the whole part of an amount with cents."""
    return str(int(number)) == "".join(unit.form for unit in said[first : last + 1])


def _find(said: Sequence[Unit], key: str, part: Part) -> list[Place]:
    """Where units that follow each other stand for the key. Units that stand for nothing do not begin or end it."""
    found: list[Place] = []
    for first in range(len(said)):
        open_ = {0}
        for at in range(first, len(said)):
            forms = part(said, at)
            if at == first:
                forms = tuple(form for form in forms if form)
            ends = {place + len(form) for place in open_ for form in forms if key.startswith(form, place)}
            if len(key) in {
                place + len(form) for place in open_ for form in forms if form and key.startswith(form, place)
            }:
                found.append((first, at))
            open_ = {place for place in ends if place < len(key)}
            if not open_:
                break
    return found


def _keep_whole(said: Sequence[Unit], places: dict[int, list[Place]]) -> None:
    """Drops places that are a part of a longer number, unless the rest of it is other values too."""
    changed = True
    while changed:
        changed = False
        firsts = {first for found in places.values() for first, _ in found}
        lasts = {last for found in places.values() for _, last in found}
        for at, found in places.items():
            kept = [
                (first, last)
                for first, last in found
                if _starts(said, first, lasts) and _stops(said, last, firsts)
            ]
            changed = changed or len(kept) != len(found)
            places[at] = kept


def _starts(said: Sequence[Unit], first: int, lasts: set[int]) -> bool:
    before = first - 1
    if before < 0 or said[first].fresh or not said[first].counts:
        return True
    if _links(said, before) and not said[before].fresh:
        before -= 1
    return before < 0 or not said[before].counts or before in lasts


def _stops(said: Sequence[Unit], last: int, firsts: set[int]) -> bool:
    after = last + 1
    if after >= len(said) or said[after].fresh or not said[last].counts:
        return True
    if _links(said, after):
        after += 1
    return after >= len(said) or said[after].fresh or not said[after].counts or after in firsts


def _links(said: Sequence[Unit], at: int) -> bool:
    """Whether a sign, or a spoken point, may stand inside a number."""
    return sign_of(said[at]) == "." or (said[at].kind is UnitKind.SIGN and said[at].form in tuple("-/,:#"))
