"""Faults on command: which there are, when each may strike, and the board they are armed on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Moment(StrEnum):
    """Where in a call a fault strikes."""

    CONNECTING = "connecting"
    IDLE = "idle"
    CALLER_SPEAKING = "caller_speaking"
    ANSWER_OWED = "answer_owed"
    MID_ANSWER = "mid_answer"
    TOOL_PENDING = "tool_pending"


ANY_TIME = tuple(Moment)
CONNECTED = tuple(moment for moment in Moment if moment is not Moment.CONNECTING)
ANSWERING = (Moment.ANSWER_OWED, Moment.MID_ANSWER)


class FaultId(StrEnum):
    """Every fault the realtime simulator knows."""

    REFUSED = "refused"
    HTTP_401 = "http_401"
    HTTP_403 = "http_403"
    HTTP_404 = "http_404"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    HANG = "hang"
    LATE_REFUSAL_3000 = "late_refusal_3000"
    LATE_REFUSAL_1013 = "late_refusal_1013"
    LATE_REFUSAL_4000 = "late_refusal_4000"
    LATE_REFUSAL_4004 = "late_refusal_4004"
    MUTE = "mute"
    ABORT = "abort"
    CLOSE_1011 = "close_1011"
    CLOSE_1000 = "close_1000"
    HALF_OPEN = "half_open"
    SILENT_TURN = "silent_turn"
    SILENT_INPUT = "silent_input"
    SILENT_RESPONSE = "silent_response"
    STALL = "stall"
    SLOW = "slow"
    FAILED = "failed"
    RATE_LIMITED = "rate_limited"
    NO_CREDIT = "no_credit"
    EMPTY = "empty"
    EXPIRED = "expired"
    GARBAGE = "garbage"
    UNKNOWN = "unknown"
    ORPHAN = "orphan"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fault does, and the moments it can strike at; the first one is its default."""

    help: str
    moments: tuple[Moment, ...]


_CONNECTING = (Moment.CONNECTING,)
_OWED = (Moment.ANSWER_OWED,)
_OWED_OR_MID = ANSWERING
_MID = (Moment.MID_ANSWER,)


def _any_time_first(first: Moment) -> tuple[Moment, ...]:
    return (first, *(moment for moment in ANY_TIME if moment is not first))


def _connected_first(first: Moment) -> tuple[Moment, ...]:
    return (first, *(moment for moment in CONNECTED if moment is not first))


CATALOGUE: dict[FaultId, Kind] = {
    FaultId.REFUSED: Kind("the TCP connection is reset before any answer to the upgrade", _CONNECTING),
    FaultId.HTTP_401: Kind("the upgrade is refused with HTTP 401", _CONNECTING),
    FaultId.HTTP_403: Kind("the upgrade is refused with HTTP 403", _CONNECTING),
    FaultId.HTTP_404: Kind("the upgrade is refused with HTTP 404", _CONNECTING),
    FaultId.HTTP_429: Kind("the upgrade is refused with HTTP 429", _CONNECTING),
    FaultId.HTTP_5XX: Kind("the upgrade is refused with HTTP 503", _CONNECTING),
    FaultId.HANG: Kind("the upgrade is never answered; the TCP connection stays", _CONNECTING),
    FaultId.LATE_REFUSAL_3000: Kind("101, then error invalid_api_key, then close 3000", _CONNECTING),
    FaultId.LATE_REFUSAL_1013: Kind("101, then error credit_balance_exhausted, then close 1013", _CONNECTING),
    FaultId.LATE_REFUSAL_4000: Kind("101, then error invalid_model, then close 4000", _CONNECTING),
    FaultId.LATE_REFUSAL_4004: Kind("101, then error model_not_found, then close 4004", _CONNECTING),
    FaultId.MUTE: Kind("nothing more is sent; pings are still answered", ANY_TIME),
    FaultId.ABORT: Kind("the TCP connection is reset", _any_time_first(Moment.MID_ANSWER)),
    FaultId.CLOSE_1011: Kind("a close frame with 1011", _any_time_first(Moment.MID_ANSWER)),
    FaultId.CLOSE_1000: Kind("a close frame with 1000", _any_time_first(Moment.MID_ANSWER)),
    FaultId.HALF_OPEN: Kind(
        "the socket stays, nothing is sent or read, pings stay unanswered", _any_time_first(Moment.MID_ANSWER)
    ),
    FaultId.SILENT_TURN: Kind("no event after speech_stopped and committed", _OWED),
    FaultId.SILENT_INPUT: Kind(
        "the caller speaks and no speech event comes at all", (Moment.CALLER_SPEAKING,)
    ),
    FaultId.SILENT_RESPONSE: Kind("response.created, then nothing", _OWED),
    FaultId.STALL: Kind("the answer's events stop and never go on", _MID),
    FaultId.SLOW: Kind("the answer's audio comes at 0.4 times real time", _MID),
    FaultId.FAILED: Kind("response.done with status failed, server_error", _OWED_OR_MID),
    FaultId.RATE_LIMITED: Kind("response.done with status failed, rate_limit_exceeded", _OWED_OR_MID),
    FaultId.NO_CREDIT: Kind("response.done with status failed, credit_balance_exhausted", _OWED_OR_MID),
    FaultId.EMPTY: Kind("response.done with status completed and no output", _OWED),
    FaultId.EXPIRED: Kind("error session_expired, then close 1001", _connected_first(Moment.IDLE)),
    FaultId.GARBAGE: Kind(
        "a text frame that is not JSON; then things go on", _connected_first(Moment.MID_ANSWER)
    ),
    FaultId.UNKNOWN: Kind(
        "an event of a type nobody knows; then things go on", _connected_first(Moment.MID_ANSWER)
    ),
    FaultId.ORPHAN: Kind(
        "audio of a response that was never announced; then things go on", _connected_first(Moment.MID_ANSWER)
    ),
    FaultId.DUPLICATE: Kind("the next event is sent twice", _connected_first(Moment.MID_ANSWER)),
}

FIELDS = ("fault", "moment", "after_ms", "count", "model")


@dataclass(slots=True, eq=False)
class Fault:
    """One armed fault. `remaining` None means for ever; `model` limits it to sessions of that model."""

    id: FaultId
    moment: Moment
    after_ms: int = 0
    remaining: int | None = 1
    model: str | None = None
    fired: int = 0

    def describe(self) -> dict[str, Any]:
        return {
            "fault": self.id.value,
            "moment": self.moment.value,
            "after_ms": self.after_ms,
            "count": "forever" if self.remaining is None else self.remaining,
            "model": self.model,
            "fired": self.fired,
        }


def _integer(body: dict[str, Any], name: str, default: int, least: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, not {value!r}")
    return value


def parse_fault(body: Any) -> Fault:
    """A fault from the body of ``POST /control/faults``; ValueError says what was expected."""
    if not isinstance(body, dict):
        raise ValueError(f'expected a JSON object such as {{"fault": "abort"}}, not {body!r}')
    if unknown := sorted(set(body) - set(FIELDS)):
        raise ValueError(f"unknown field {unknown[0]!r}; a fault has {', '.join(FIELDS)}")
    try:
        fault_id = FaultId(str(body.get("fault")))
    except ValueError:
        known = ", ".join(fault.value for fault in FaultId)
        raise ValueError(f"fault: expected one of {known}, not {body.get('fault')!r}") from None
    moments = CATALOGUE[fault_id].moments
    moment = body.get("moment") or moments[0].value
    if moment not in moments:
        raise ValueError(f"moment: {fault_id} strikes at {', '.join(moments)}, not at {moment!r}")
    remaining = None if body.get("count") == "forever" else _integer(body, "count", 1, 1)
    return Fault(fault_id, Moment(moment), _integer(body, "after_ms", 0, 0), remaining, body.get("model"))


_OPTION = re.compile(r"(?P<fault>\w+)(@(?P<moment>\w+))?(\+(?P<after_ms>\d+))?(\*(?P<count>\d+))?")


def parse_fault_option(text: str) -> Fault:
    """A fault from the command line, ``FAULT[@MOMENT][+AFTER_MS][*COUNT]``; without a count it stays armed."""
    match = _OPTION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"expected FAULT[@MOMENT][+AFTER_MS][*COUNT], such as abort@mid_answer+800, not {text!r}"
        )
    body: dict[str, Any] = {"fault": match["fault"], "moment": match["moment"], "count": "forever"}
    body |= {name: int(match[name]) for name in ("after_ms", "count") if match[name]}
    return parse_fault(body)


class FaultBoard:
    """The armed faults, first armed first to strike. Listeners are told when one is armed or all are cleared."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._listeners: set[Callable[[], None]] = set()

    def arm(self, fault: Fault) -> None:
        self._faults.append(fault)
        self._tell()

    def clear(self) -> None:
        self._faults.clear()
        self._tell()

    def peek(self, moment: Moment, model: str) -> Fault | None:
        """The fault that would strike a session of `model` at `moment`; it stays armed."""
        for fault in self._faults:
            if fault.moment is moment and fault.model in (None, model):
                return fault
        return None

    def claim(self, fault: Fault) -> bool:
        """Use the fault once; False when it was cleared or used up by another session meanwhile."""
        if fault not in self._faults:
            return False
        fault.fired += 1
        if fault.remaining is not None:
            fault.remaining -= 1
            if fault.remaining == 0:
                self._faults.remove(fault)
        return True

    def describe(self) -> list[dict[str, Any]]:
        return [fault.describe() for fault in self._faults]

    def listen(self, listener: Callable[[], None]) -> None:
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        self._listeners.discard(listener)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()
