"""The faults of the realtime simulator: which there are, and the moments of a call that they strike at."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from orchestrator.simulate import fault_board
from orchestrator.simulate.fault_board import Catalogue, Fault, FaultBoard, Kind

__all__ = ["ALL", "CATALOGUE", "BillFault", "Fault", "FaultBoard", "FaultId", "Moment", "parse_fault"]


class Moment(StrEnum):
    """Where in a call a fault strikes."""

    CONNECTING = "connecting"
    REPLAYING = "replaying"
    IDLE = "idle"
    CALLER_SPEAKING = "caller_speaking"
    ANSWER_OWED = "answer_owed"
    MID_ANSWER = "mid_answer"
    TOOL_PENDING = "tool_pending"
    TOOL_RESULT_SENT = "tool_result_sent"


class FaultId(StrEnum):
    """The faults that a call can need another tier for."""

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


class BillMoment(StrEnum):
    """Where a fault of the bill strikes: at the end of a response, whatever the call is at."""

    RESPONSE_OVER = "response_over"


class BillFault(StrEnum):
    """What can be wrong with the bill of an answer that is itself well; no failover comes of these."""

    NO_USAGE = "no_usage"
    NO_DONE = "no_done"


HTTP_STATUS: dict[StrEnum, int] = {
    FaultId.HTTP_401: 401,
    FaultId.HTTP_403: 403,
    FaultId.HTTP_404: 404,
    FaultId.HTTP_429: 429,
    FaultId.HTTP_5XX: 503,
}
"""Refusals before anything begins."""

_CONNECTING = (Moment.CONNECTING,)
_OWED = (Moment.ANSWER_OWED, Moment.TOOL_RESULT_SENT)
_OWED_OR_MID = (*_OWED, Moment.MID_ANSWER)
_MID = (Moment.MID_ANSWER,)


def _first(first: Moment, *, connecting: bool = True) -> tuple[Moment, ...]:
    """Any moment, `first` being the default; without `connecting`, only those of a session that is up."""
    others = (moment for moment in Moment if moment is not first)
    return (first, *(moment for moment in others if connecting or moment is not Moment.CONNECTING))


_ANY = _first(Moment.CONNECTING)
_ANY_MID = _first(Moment.MID_ANSWER)
_UP_MID = _first(Moment.MID_ANSWER, connecting=False)
_UP_IDLE = _first(Moment.IDLE, connecting=False)

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
    FaultId.MUTE: Kind("nothing more is sent; pings are still answered", _ANY),
    FaultId.ABORT: Kind("the TCP connection is reset", _ANY_MID),
    FaultId.CLOSE_1011: Kind("a close frame with 1011", _ANY_MID),
    FaultId.CLOSE_1000: Kind("a close frame with 1000", _ANY_MID),
    FaultId.HALF_OPEN: Kind("the socket stays, nothing is sent or read, pings stay unanswered", _ANY_MID),
    FaultId.SILENT_TURN: Kind("no event after speech_stopped and committed, or after response.create", _OWED),
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
    FaultId.EXPIRED: Kind("error session_expired, then close 1001", _UP_IDLE),
    FaultId.GARBAGE: Kind("a text frame that is not JSON; then things go on", _UP_MID),
    FaultId.UNKNOWN: Kind("an event of a type nobody knows; then things go on", _UP_MID),
    FaultId.ORPHAN: Kind("audio of a response that was never announced; then things go on", _UP_MID),
    FaultId.DUPLICATE: Kind("the next event is sent twice", _UP_MID),
}

_OVER = (BillMoment.RESPONSE_OVER,)
BILLING: dict[BillFault, Kind] = {
    BillFault.NO_USAGE: Kind("response.done with usage null", _OVER),
    BillFault.NO_DONE: Kind("the answer is complete, and its response.done never comes", _OVER),
}

ALL: Catalogue = {**CATALOGUE, **BILLING}
"""What can be armed."""

OF_A_RESPONSE = frozenset(
    fault for fault, kind in CATALOGUE.items() if set(kind.moments) <= {*_OWED, Moment.MID_ANSWER}
)
"""Faults that only a response can show: they wait for one."""


def parse_fault(body: Any) -> Fault:
    """A fault of the realtime simulator, see `fault_board.parse`."""
    return fault_board.parse(body, ALL)
