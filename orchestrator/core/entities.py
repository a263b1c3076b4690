"""Values that have to be taken down exactly: ids, e-mail addresses, phone numbers, names and amounts.

`capture` finds one in a caller's words, `spoken` says one so that it can be checked by ear, `normalise` makes two
comparable, `check` finds what a model took down wrong. No validation: that is the tool's schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.core.amounts import parse
from orchestrator.core.entity_finding import Entity, Found, corrects, found
from orchestrator.core.entity_names import normal_name
from orchestrator.core.entity_spoken import spoken
from orchestrator.core.spoken_words import fold
from orchestrator.core.tools import Tool

__all__ = ["Entity", "capture", "check", "flat", "normalise", "spoken"]


def capture(kind: str, text: str) -> str | None:
    """The entity in a caller's words, as `normalise` writes it; None if there is none or it is uncertain.

    Of several the last one counts, of an id the longest. Raises ValueError for a kind that is no `Entity`.
    """
    entity = Entity(kind)
    those = found(entity, text)
    if entity in (Entity.ORDER_NUMBER, Entity.PHONE):
        those = [one for one in those if one.named] or those
        longest = max((len(one.value) for one in those), default=0)
        those = [one for one in those if len(one.value) == longest]
    return those[-1].value if those else None


def normalise(kind: str, value: Any) -> str:
    """A value as it is compared.

    An id is capitals and digits; an address is small letters; a phone number is digits, with a plus sign for a country
    code; a name is words without accents; an amount is "25.50 EUR", the currency only if it has one.
    """
    entity, text = Entity(kind), str(value).strip()
    if entity is Entity.ORDER_NUMBER:
        return "".join(char for char in text.upper() if char.isalnum())
    if entity is Entity.PHONE:
        digits = "".join(char for char in text if char.isdigit())
        return f"+{digits.removeprefix('00')}" if text.startswith(("+", "00")) else digits
    if entity is Entity.NAME:
        return normal_name(text)
    if entity is Entity.AMOUNT and (amount := parse(value)) is not None:
        return str(amount)
    return "".join(fold(text).split()) if entity is Entity.AMOUNT else "".join(text.lower().split())


def check(tool: Tool, arguments: Mapping[str, Any], said: Sequence[str]) -> list[str]:
    """Names of arguments whose value is not what the caller said. `said`: their turns, newest last.

    Lenient, because a value may come from elsewhere: one that was said in any turn and not taken back later passes, and
    so does one of a kind that was not said at all. Names count only where they were spelled, amounts with a currency
    or cents.
    """
    wrong = []
    for name, kind in tool.entities.items():
        if kind not in tuple(Entity):
            continue
        values = [value for path, value in flat(arguments) if path == name or path.startswith(f"{name}.")]
        live = _live(Entity(kind), said)
        if live and any(not any(_fits(Entity(kind), value, one) for one in live) for value in values):
            wrong.append(name)
    return wrong


def flat(arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Values with their paths ("address.city", "items.0"), nested ones too; an empty list or object is a value."""
    found_: list[tuple[str, Any]] = []
    for name, value in arguments.items():
        if isinstance(value, Mapping) and value:
            found_ += [(f"{name}.{path}", inner) for path, inner in flat(value)]
        elif isinstance(value, list | tuple) and value:
            inner = flat({str(at): entry for at, entry in enumerate(value)})
            found_ += [(f"{name}.{path}", entry) for path, entry in inner]
        else:
            found_.append((name, value))
    return found_


def _live(kind: Entity, said: Sequence[str]) -> list[str]:
    """What was said of a kind and still holds: a turn that corrects something replaces what was said before it."""
    live: list[str] = []
    for turn in said:
        those = [one for one in found(kind, turn) if _tells(kind, one)]
        if those and corrects(turn):
            live = []
        live += [one.value for one in those]
    return live


def _tells(kind: Entity, one: Found) -> bool:
    if kind in (Entity.NAME, Entity.AMOUNT):
        return one.named
    return kind is not Entity.ORDER_NUMBER or one.named or any(char.isdigit() for char in one.value)


def _fits(kind: Entity, value: Any, said: str) -> bool:
    if kind is Entity.AMOUNT:
        amount, other = parse(value), parse(said)
        return amount is None or other is None or amount.fits(other)
    mine = normalise(kind, value)
    if kind is Entity.PHONE:
        return _same_phone(mine, said) or _same_phone(said, mine)
    if kind is Entity.NAME:
        return set(said.split()) <= set(mine.split()) or set(mine.split()) <= set(said.split())
    return mine == said


def _same_phone(full: str, short: str) -> bool:
    """Equal, or but for a country code of the first: "+1 415 555 0132" and "415 555 0132"."""
    if full == short:
        return True
    national = short.lstrip("+0")
    code = len(full) - len(national) - 1
    return full.startswith("+") and not short.startswith("+") and 1 <= code <= 3 and full.endswith(national)
