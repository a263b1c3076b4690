"""The bill of recorded calls: every charge of an event log priced again from what was used, and added up.

A charge whose usage never came to light is taken as it stands, and so is one that rates do not tell (``priced_by``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.prices import DEAREST_TRANSCRIPTION, NANO, PriceTable, UnknownPrice

BY = ("call", "turn", "bucket", "user", "tier", "rung", "what")
"""What a bill can be split by."""
NOBODY = "-"
"""Where a row says nothing of it."""


@dataclass(slots=True)
class Sum:
    """Charges, and of their nano-dollars those that were estimated."""

    charges: int = 0
    nanodollars: int = 0
    estimated: int = 0

    def add(self, nanodollars: int, *, estimated: bool) -> None:
        self.charges += 1
        self.nanodollars += nanodollars
        self.estimated += nanodollars if estimated else 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A charge that is not what its usage comes to. `again` None: nobody knows, and `why` says why not."""

    row: int
    """Counted from 1, in the order read."""
    call: str
    what: str
    model: str
    told: int
    again: int | None
    why: str = ""


@dataclass(slots=True)
class Bill:
    """Money in nano-dollars, as priced again; a charge that cannot be counts as it was told."""

    total: Sum = field(default_factory=Sum)
    by: dict[str, dict[str, Sum]] = field(default_factory=lambda: {name: {} for name in BY})
    differences: list[Difference] = field(default_factory=list)
    taken: Sum = field(default_factory=Sum)
    """The part that is taken as it was told."""
    unheard_ms: int = 0
    unheard: int = 0
    """What the talk cost that nobody heard; it is part of the total."""

    def add(self, row: Mapping[str, Any], nanodollars: int) -> None:
        estimated = bool(row.get("estimated"))
        self.total.add(nanodollars, estimated=estimated)
        for name, key in _keys(row).items():
            self.by[name].setdefault(key, Sum()).add(nanodollars, estimated=estimated)


def bill(rows: Iterable[Mapping[str, Any]], prices: PriceTable, models: Mapping[str, str]) -> Bill:
    """The bill of an event log. `models`: what each rung of Tier A is priced as, its own name where it is left out.

    Raises ValueError for a charge that lacks what every charge has.
    """
    found = Bill()
    for number, row in enumerate(rows, 1):
        if row.get("type") == "charge":
            _add(found, number, row, prices, models)
        elif row.get("type") == "waste":
            found.unheard_ms += _whole(number, row, "unheard_ms")
            found.unheard += _whole(number, row, "nanodollars")
        elif row.get("type") == "probe" and row.get("cost_usd"):
            # Nobody's call, but somebody's money.
            cost = round(row["cost_usd"] * NANO)
            found.taken.add(cost, estimated=False)
            found.add({**row, "what": "probe"}, cost)
    return found


def _add(
    found: Bill, number: int, row: Mapping[str, Any], prices: PriceTable, models: Mapping[str, str]
) -> None:
    told, usage = _whole(number, row, "nanodollars"), row.get("usage")
    what, model = str(row.get("what")), str(row.get("model"))
    if what not in ("response", "transcription", "agent", "speech") or not isinstance(usage, Mapping):
        raise ValueError(
            f"row {number}: expected a charge with `what`, `model` and `usage`, as a server writes it"
        )
    if not usage or "priced_by" in usage:
        found.taken.add(told, estimated=bool(row.get("estimated")))
        found.add(row, told)
        return
    again, why = None, ""
    if what == "response":
        model = models.get(model, model)
    elif what == "transcription" and model not in prices:
        model = DEAREST_TRANSCRIPTION
    try:
        again = prices.charge(what, model, usage)
    except UnknownPrice as error:
        why = str(error)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"row {number}: expected the usage of a {what}, not {dict(usage)!r} ({error})"
        ) from None
    found.add(row, told if again is None else again)
    if again != told:
        call = str(row.get("call_id") or NOBODY)
        found.differences.append(Difference(number, call, what, model, told, again, why))


def _keys(row: Mapping[str, Any]) -> dict[str, str]:
    """What a charge is added to, by each way of splitting the bill."""
    call = str(row.get("call_id") or NOBODY)
    return {
        "call": call,
        "turn": f"{call} {row.get('turn') or NOBODY}",
        **{name: str(row.get(name) or NOBODY) for name in ("bucket", "user", "tier", "rung", "what")},
    }


def _whole(number: int, row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"row {number}: expected `{name}` to be a whole number of 0 or more, not {value!r}")
    return value
