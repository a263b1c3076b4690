"""Entities in a caller's words: numbers, e-mail addresses and spelled names, each as it is compared.

What a caller took back ("4 1 7 2, no sorry, 4 1 7 3") is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.amounts import amounts
from orchestrator.core.entity_names import name_in, normal_name, spelled_runs
from orchestrator.core.spoken_words import Unit, UnitKind, sign_of, units


class Entity(StrEnum):
    ORDER_NUMBER = "order_number"
    """Any id or code: letters and digits, case and dashes do not count."""
    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"
    AMOUNT = "amount"


@dataclass(frozen=True, slots=True)
class Found:
    """`named`: it was introduced as what it is ("order number", a currency), or spelled out."""

    value: str
    named: bool = False


MIN_CODE = 3
MIN_PHONE = 5
"""A number that is not introduced as what it is has at least so many characters."""

LONGEST = 1000
"""Characters of a turn that are looked at, the last ones: more than a minute of speech."""

_CORRECTION = re.compile(
    r"(?<!\border )(?<!\bnumber )(?<!\baccount )(?<!\bbooking )\b(?:no|nope|i mean|i meant|sorry|correction|"
    r"scratch that|make that|make it|actually|rather|wait|oops|nein|ich meine|entschuldigung|perdón|digo|pardon|"
    r"je veux dire|non)\b(?!\.?\s?:)",
    re.IGNORECASE,
)


def found(kind: Entity, text: str) -> list[Found]:
    """What the text holds of a kind, in order. A correction that is no whole entity makes everything uncertain."""
    kept: list[Found] = []
    for segment in _CORRECTION.split(text[-LONGEST:]):
        here, partial = _in_segment(kind, segment)
        if here and kept and kind in (Entity.ORDER_NUMBER, Entity.PHONE):
            partial = len(here[-1].value) < len(kept[-1].value)
        if here and not partial:
            kept = here
        elif partial and kept:
            return []
    return kept


def corrects(text: str) -> bool:
    """Whether the text takes something back."""
    return _CORRECTION.search(text) is not None


def _in_segment(kind: Entity, text: str) -> tuple[list[Found], bool]:
    """Whole entities, and whether there is a piece of one."""
    if kind in (Entity.ORDER_NUMBER, Entity.PHONE):
        runs = [run for run in _runs(kind, text) if not run.other]
        whole = [run for run in runs if run.is_whole(kind)]
        digits = [run for run in whole if any(char.isdigit() for char in run.value)]
        best = digits or whole
        return [Found(run.value, run.named) for run in best], bool(runs) and not best
    if kind is Entity.EMAIL:
        return [Found(address, True) for address in emails(text)], False
    if kind is Entity.AMOUNT:
        said = amounts(text)
        clear = [amount for amount in said if amount.currency]
        return [
            Found(str(amount), bool(amount.currency or "." in str(amount))) for amount in clear or said
        ], False
    name = name_in(text)
    return ([Found(normal_name(name[0]), name[1])] if name else []), False


# Numbers and codes


@dataclass(frozen=True, slots=True)
class _Run:
    """Digits and letters that belong together. `other`: it is introduced as something else, or taken back."""

    value: str
    named: bool
    other: bool

    def is_whole(self, kind: Entity) -> bool:
        return self.named or len(self.value) >= (MIN_CODE if kind is Entity.ORDER_NUMBER else MIN_PHONE)


_FILLERS = frozenset(["um", "uh", "er", "erm", "then", "so"])
_LINKS = r"(?:[\s,:#]|\b(?:with|the|number|no|nr|id|is|was|its|it's|called|code|and|will be|be)\b\.?)*$"
_CODE_NAMES = (
    r"orders?|packages?|parcels?|shipments?|booking|reservation|reference|account|customer|case|ticket|invoice|member\w*|"
    r"confirmation|tracking|order_?id|code|id|bestell\w*|buchung\w*|auftrag\w*|kunden\w*|pedido|reserva|commande"
)
_PHONE_NAMES = (
    r"phone|telephone|mobile|cell|call me (?:back )?(?:at|on|under)|reach me (?:at|on|under)|telefon\w*|handy\w*|"
    r"teléfono|móvil|téléphone"
)
_OTHER_NAMES = r"zip|post ?code|postal|card|pin|extension|street|room|flat|apartment|birth\w*|year"
_MONTHS = r"jan\w*|feb\w*|mar(?:ch)?|apr\w*|may|june?|july?|aug\w*|sep\w*|oct\w*|nov\w*|dec\w*"
_NAMED = {
    Entity.ORDER_NUMBER: re.compile(rf"(?:\b(?:{_CODE_NAMES})|\bnumber){_LINKS}", re.IGNORECASE),
    Entity.PHONE: re.compile(rf"\b(?:{_PHONE_NAMES}){_LINKS}", re.IGNORECASE),
}
_NOT = {
    Entity.ORDER_NUMBER: re.compile(rf"\b(?:{_PHONE_NAMES}|{_OTHER_NAMES}|{_MONTHS}){_LINKS}", re.IGNORECASE),
    Entity.PHONE: re.compile(rf"\b(?:{_CODE_NAMES}|{_OTHER_NAMES}){_LINKS}", re.IGNORECASE),
}
_TAKEN_BACK = re.compile(r"\b(?:not|nicht|pas)\s+(?:(?:order|number|the|my)\s+)*$", re.IGNORECASE)
_COUNTED = re.compile(
    r"\s*(?:%|percent|dollars?|euros?|pounds?|cents?|[€£]|days?|hours?|minutes?|weeks?|months?|years?|people|persons?)",
    re.IGNORECASE,
)


def _runs(kind: Entity, text: str) -> list[_Run]:
    runs: list[_Run] = []
    current: list[Unit] = []
    before = ""
    """A sign in front of the run: a plus, or a currency."""
    said = units(text)
    for at, unit in enumerate(said):
        if unit.fresh:
            runs += _closed(kind, text, current, before)
            current, before = [], ""
        if not current and unit.plain == "november":
            continue
        if unit.kind is UnitKind.DIGITS or (unit.kind is UnitKind.LETTER and kind is Entity.ORDER_NUMBER):
            current.append(_as_zero(unit, current, said[at + 1] if at + 1 < len(said) else None))
        elif not (current and (sign_of(unit) in tuple("-/._,") or unit.form in _FILLERS)):
            runs += _closed(kind, text, current, before)
            current, before = [], sign_of(unit)
    return runs + _closed(kind, text, current, before)


def _closed(kind: Entity, text: str, units_: Sequence[Unit], before: str) -> list[_Run]:
    """Units as a run; none of what only counts something ("2 days")."""
    if units_ and _COUNTED.match(text[units_[-1].end :]):
        units_ = units_[: max(at for at, unit in enumerate(units_) if unit.comma or at == 0)]
    if not units_:
        return []
    sentence = re.split(r"[.!?;]\s", text[: units_[0].start].rstrip("+#"))[-1]
    sentence = re.sub(r"\bplus\s*$", "", sentence)
    plus = "+" if before == "+" and kind is Entity.PHONE else ""
    value = plus + "".join(unit.form for unit in units_)
    unlike = _NOT[kind].search(sentence) or _TAKEN_BACK.search(sentence)
    other = bool(unlike) or before in tuple("$€£¥")
    return [_Run(_number(kind, value), bool(_NAMED[kind].search(sentence)), other)]


def _as_zero(unit: Unit, current: Sequence[Unit], following: Unit | None) -> Unit:
    """A letter O among digits is a zero, unless it was named."""
    if unit.kind is not UnitKind.LETTER or "0" not in unit.forms or unit.sure:
        return unit
    around = [other for other in (current[-1] if current else None, following) if other is not None]
    if any(other.kind is UnitKind.DIGITS for other in around):
        return Unit(UnitKind.DIGITS, ("0",), unit.start, unit.end)
    return unit


def _number(kind: Entity, value: str) -> str:
    if kind is Entity.PHONE and value.startswith("00"):
        return "+" + value[2:]
    return value.upper()


# E-mail addresses


_ADDRESS = re.compile(r"[a-z0-9._%+-]*[a-z0-9_%+-]@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
_BEFORE_ADDRESS = frozenset(
    [
        "is",
        "its",
        "it",
        "thats",
        "that",
        "this",
        "my",
        "your",
        "his",
        "her",
        "the",
        "a",
        "an",
        "email",
        "mail",
        "e",
        "address",
        "adress",
        "under",
        "as",
        "to",
        "use",
        "me",
        "so",
        "and",
        "or",
        "yes",
        "yeah",
        "yep",
        "no",
        "not",
        "um",
        "uh",
        "okay",
        "ok",
        "please",
        "sure",
        "be",
        "was",
        "would",
        "at",
        "by",
        "with",
        "on",
        "for",
        "from",
        "send",
        "reach",
        "contact",
        "write",
        "you",
        "i",
        "can",
        "have",
        "heres",
        "here",
        "account",
        "name",
        "says",
        "spelled",
        "spelt",
        "like",
        "ist",
        "lautet",
        "meine",
        "es",
        "mi",
        "correo",
        "est",
        "mon",
        "adresse",
    ]
)
_CASES = frozenset(["capital", "uppercase", "lowercase"])


def emails(text: str) -> list[str]:
    """The e-mail addresses in a text, spoken or written, in small letters; none if one is spelled in two ways."""
    said = units(text)
    results: list[str] = []
    spans: list[tuple[int, int]] = []
    for at, unit in enumerate(said):
        if sign_of(unit) != "@" or (spans and at < spans[-1][1]):
            continue
        start, local = _local_part(said, at, spans[-1][1] if spans else 0)
        end, domain = _domain(said, at)
        address = f"{local}@{domain}"
        if _ADDRESS.fullmatch(address):
            spans.append((start, end))
            if not (start and said[start - 1].form == "not"):
                results.append(address)
    outside = [unit for at, unit in enumerate(said) if not any(start <= at < end for start, end in spans)]
    letters = [run for run in spelled_runs(outside) if len(run) >= 3]
    if results and any(run not in re.sub(r"\W", "", results[-1]) for run in letters):
        return []
    return results


def _local_part(said: Sequence[Unit], at: int, least: int) -> tuple[int, str]:
    """The part before the sign at a position, and where it begins."""
    taken: list[Unit] = []
    place = at - 1
    while place >= least and not said[place + 1].fresh:
        unit, after = said[place], said[place + 1]
        sign = sign_of(unit)
        if not unit.counts and (sign == "@" or (not sign and not _may_stand_in(unit, said, place, at))):
            break
        if after.comma and not (unit.counts or sign) and not sign_of(after):
            break
        taken.insert(0, unit)
        place -= 1
    start = place + 1
    while taken and sign_of(taken[0]) in tuple(".-/:#,"):
        taken.pop(0)
        start += 1
    written = said[at].glued
    return start, "".join(_in_address(taken, written=written))


def _may_stand_in(unit: Unit, said: Sequence[Unit], place: int, at: int) -> bool:
    """A word of the part before the sign, rather than of the sentence that leads to it."""
    if unit.form not in _BEFORE_ADDRESS:
        return True
    linked = place > 0 and sign_of(said[place - 1]) in tuple("._-+") and not unit.fresh
    return linked or (sign_of(said[place + 1]) in tuple("._-+") and said[place + 1].glued)


def _in_address(taken: Sequence[Unit], *, written: bool) -> list[str]:
    """What units contribute. Dashes between letters are how a recogniser writes spelling, unless all is written."""
    named = sum(unit.plain != unit.form for unit in taken)
    parts: list[str] = []
    for at, unit in enumerate(taken):
        sign = sign_of(unit)
        around = [taken[other] for other in (at - 1, at + 1) if 0 <= other < len(taken)]
        if sign == "-" and unit.kind is UnitKind.SIGN and not written and all(o.counts for o in around):
            continue
        if unit.form in _CASES and at + 1 < len(taken) and taken[at + 1].kind is UnitKind.LETTER:
            continue
        parts.append("" if sign == "," else sign or (unit.form if named > 1 else unit.plain))
    return parts


def _domain(said: Sequence[Unit], at: int) -> tuple[int, str]:
    """The part behind the sign at a position, and where it ends."""
    taken: list[Unit] = []
    dots = 0
    place = at + 1
    while place < len(said) and not said[place].fresh:
        unit = said[place]
        sign = sign_of(unit)
        last = taken[-1] if taken else None
        if sign == ".":
            dots += 1
        elif sign and sign != "-":
            break
        elif dots and last is not None and not sign_of(last):
            spelled = unit.kind is last.kind is UnitKind.LETTER
            if not (spelled or (unit.glued and not sign) or (sign == "-" and unit.glued)):
                break
        elif len(taken) > 40 or (unit.comma and not (unit.counts or sign) and not (last and sign_of(last))):
            break
        taken.append(unit)
        place += 1
    while taken and sign_of(taken[-1]):
        taken.pop()
        place -= 1
    return place, "".join(_in_address(taken, written=said[at].kind is UnitKind.SIGN and said[at].glued))
