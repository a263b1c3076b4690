"""How an argument's value is said: what it is, by a tool's declaration or by its looks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any

from orchestrator.core.amounts import is_currency, parse
from orchestrator.core.entity_finding import Entity
from orchestrator.core.entity_names import normal_name
from orchestrator.core.spoken_dates import moment
from orchestrator.core.spoken_words import UnitKind, units
from orchestrator.core.tools import Tool


class Shape(Enum):
    """How a value is said: an entity, or what it looks like."""

    ORDER_NUMBER = Entity.ORDER_NUMBER.value
    EMAIL = Entity.EMAIL.value
    PHONE = Entity.PHONE.value
    NAME = Entity.NAME.value
    AMOUNT = Entity.AMOUNT.value
    MOMENT = "moment"
    CURRENCY = "currency"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    NOTHING = "nothing"
    """Without anything that could be said."""


_EMAIL = re.compile(r"[A-Za-z0-9._+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
_CODE = re.compile(r"(?=.*\d)#?[A-Za-z0-9]+(?:[-/#.][A-Za-z0-9]+)*")
_PHONE = re.compile(r"\+?[\d\s().\-/]*\d[\d\s().\-/]*")
_ID_NAME = re.compile(
    r"(?:^|[_.])(?:id|ids|number|no|code|zip|pin|reference|ref|phone|account)(?:$|[_.])|Id$|Number$|Code$"
)


def shape_of(tool: Tool, path: str, value: Any) -> Shape:
    """The shape of an argument's value: as the tool declares it where it fits, else by its looks."""
    if isinstance(value, bool):
        return Shape.BOOLEAN
    if isinstance(value, int | float) and math.isfinite(value):
        declared = _declared(tool, path)
        if declared in (Entity.ORDER_NUMBER, Entity.PHONE) and isinstance(value, int) and value >= 0:
            return Shape(declared.value)
        if declared is Entity.AMOUNT and parse(value) is not None and Decimal(str(value)) * 100 % 1 == 0:
            return Shape.AMOUNT
        as_id = isinstance(value, int) and value > 999 and _ID_NAME.search(path)
        return Shape.ORDER_NUMBER if as_id else Shape.NUMBER
    text = str(value).strip() if isinstance(value, str | float) else ""
    if all(unit.kind is UnitKind.SIGN for unit in units(text)):
        return Shape.NOTHING
    declared = _declared(tool, path)
    if declared is not None and _FITS[declared](text):
        return Shape(declared.value)
    return _by_looks(text)


def _declared(tool: Tool, path: str) -> Entity | None:
    """The entity that a tool declares a path, or what holds it, to be."""
    parts = [part for part in path.split(".") if not part.isdecimal()]
    for end in range(len(parts), 0, -1):
        kind = tool.entities.get(".".join(parts[:end]))
        if kind in tuple(Entity):
            return Entity(kind)
    return None


_FITS: dict[Entity, Callable[[str], Any]] = {
    Entity.ORDER_NUMBER: lambda text: (
        len(text) <= 60 and re.fullmatch(r"[#\w./ -]*", text) and re.search(r"[^\W_]", text)
    ),
    Entity.EMAIL: _EMAIL.fullmatch,
    Entity.PHONE: _PHONE.fullmatch,
    Entity.NAME: lambda text: normal_name(text) and not re.search(r"\d", text),
    Entity.AMOUNT: parse,
}


def _by_looks(text: str) -> Shape:
    if moment(text) is not None:
        return Shape.MOMENT
    if is_currency(text):
        return Shape.CURRENCY
    if _EMAIL.fullmatch(text):
        return Shape.EMAIL
    if text.startswith("+") and _PHONE.fullmatch(text):
        return Shape.PHONE
    return Shape.ORDER_NUMBER if _CODE.fullmatch(text) else Shape.TEXT


def figures(value: float | Decimal) -> str:
    """A finite number as it is written out: "-0.5", "25", never with an exponent."""
    plain = f"{Decimal(str(value)):f}" if value else "0"  # no "-0"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def words_of(name: str) -> str:
    """The words of an identifier: "cancel_order" and "cancelOrder" are "cancel order"."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[_\W]+", " ", name).lower().split())
