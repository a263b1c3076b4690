"""Faults on command, for every simulator: how one is described, parsed, armed and used up."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fault does, and the moments it can strike at; the first one is its default."""

    help: str
    moments: tuple[StrEnum, ...]


Catalogue = Mapping[Any, Kind]
"""A simulator's faults: a `StrEnum` member for each."""

KEPT_STRIKES = 1000
FIELDS = ("fault", "moment", "after_ms", "after_chunks", "count", "model", "new_sessions")


@dataclass(slots=True, eq=False)
class Fault:
    """One armed fault. `remaining` None means for ever; `model` limits it to requests for that model,
    `new_sessions` to connections that were opened after it was armed.

    It strikes when its moment has lasted `after_ms`, or in a streamed answer when that much audio or
    `after_chunks` chunks were sent.
    """

    id: StrEnum
    moment: StrEnum
    after_ms: int = 0
    remaining: int | None = 1
    model: str | None = None
    after_chunks: int = 0
    new_sessions: bool = False
    armed_at: float = 0.0
    """Second of the monotonic clock."""
    fired: int = 0

    def describe(self) -> dict[str, Any]:
        return {
            "fault": self.id.value,
            "moment": self.moment.value,
            "after_ms": self.after_ms,
            "after_chunks": self.after_chunks,
            "count": "forever" if self.remaining is None else self.remaining,
            "model": self.model,
            "new_sessions": self.new_sessions,
            "fired": self.fired,
        }


def parse(body: Any, catalogue: Catalogue) -> Fault:
    """A fault from the body of ``POST /control/faults``; ValueError says what was expected."""
    if not isinstance(body, dict):
        example = next(iter(catalogue))
        raise ValueError(f'expected a JSON object such as {{"fault": "{example}"}}, not {body!r}')
    if unknown := sorted(set(body) - set(FIELDS)):
        raise ValueError(f"unknown field {unknown[0]!r}; a fault has {', '.join(FIELDS)}")
    fault_id = next((known for known in catalogue if known == body.get("fault")), None)
    if fault_id is None:
        known = ", ".join(catalogue)
        raise ValueError(f"fault: expected one of {known}, not {body.get('fault')!r}")
    moments = catalogue[fault_id].moments
    wanted = body.get("moment") or moments[0]
    moment = next((moment for moment in moments if moment == wanted), None)
    if moment is None:
        raise ValueError(f"moment: {fault_id} strikes at {', '.join(moments)}, not at {wanted!r}")
    return Fault(
        fault_id,
        moment,
        after_ms=_integer(body, "after_ms", 0, 0),
        after_chunks=_integer(body, "after_chunks", 0, 0),
        remaining=None if body.get("count") == "forever" else _integer(body, "count", 1, 1),
        model=body.get("model"),
        new_sessions=_flag(body, "new_sessions"),
    )


def _integer(body: dict[str, Any], name: str, default: int, least: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, not {value!r}")
    return value


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, not {value!r}")
    return value


_OPTION = re.compile(r"(?P<fault>\w+)(@(?P<moment>\w+))?(\+(?P<after_ms>\d+))?(\*(?P<count>\d+))?")


def parse_option(text: str, catalogue: Catalogue) -> Fault:
    """A fault from the command line, ``FAULT[@MOMENT][+AFTER_MS][*COUNT]``; without a count it stays armed."""
    match = _OPTION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"expected FAULT[@MOMENT][+AFTER_MS][*COUNT], such as abort@mid_answer+800, not {text!r}"
        )
    body: dict[str, Any] = {"fault": match["fault"], "moment": match["moment"], "count": "forever"}
    body |= {name: int(match[name]) for name in ("after_ms", "count") if match[name]}
    return parse(body, catalogue)


class FaultBoard:
    """The armed faults, first armed first to strike. Listeners are told when one is armed or all are cleared."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._listeners: set[Callable[[], None]] = set()
        self.struck: deque[dict[str, Any]] = deque(maxlen=KEPT_STRIKES)
        """What struck, `at` which second of the monotonic clock, which all processes of a machine share."""

    def arm(self, fault: Fault) -> None:
        fault.armed_at = time.monotonic()
        self._faults.append(fault)
        self._tell()

    def clear(self) -> None:
        self._faults.clear()
        self._tell()

    def peek(self, moment: StrEnum, model: str, opened: float = math.inf) -> Fault | None:
        """The fault that would strike a request for `model` at `moment`; it stays armed.

        `opened`: when the request's connection was opened; one that is just being opened needs none.
        """
        for fault in self._faults:
            fits = fault.moment is moment and fault.model in (None, model)
            if fits and (opened > fault.armed_at or not fault.new_sessions):
                return fault
        return None

    def claim(self, fault: Fault) -> bool:
        """Use the fault once; False when it was cleared or used up meanwhile."""
        if fault not in self._faults:
            return False
        fault.fired += 1
        self.struck.append({"fault": fault.id.value, "moment": fault.moment.value, "at": time.monotonic()})
        if fault.remaining is not None:
            fault.remaining -= 1
            if fault.remaining == 0:
                self._faults.remove(fault)
        return True

    def take(self, moment: StrEnum, model: str, opened: float = math.inf) -> Fault | None:
        """The fault that strikes now, used."""
        fault = self.peek(moment, model, opened)
        return fault if fault is not None and self.claim(fault) else None

    def describe(self) -> list[dict[str, Any]]:
        return [fault.describe() for fault in self._faults]

    def listen(self, listener: Callable[[], None]) -> None:
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        self._listeners.discard(listener)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()
