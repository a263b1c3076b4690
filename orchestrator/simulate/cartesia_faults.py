"""The faults of the Cartesia simulator."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.simulate.fault_board import Kind


class Moment(StrEnum):
    """Where a fault strikes: at a connection or HTTP request, at a new context, or in its audio."""

    CONNECTING = "connecting"
    CONTEXT = "context"
    MID_CONTEXT = "mid_context"


class FaultId(StrEnum):
    REFUSED = "refused"
    HTTP_401 = "http_401"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    HANG = "hang"
    SILENT = "silent"
    DROP = "drop"
    CLOSE_1011 = "close_1011"
    STALL = "stall"
    SLOW = "slow"
    RATE_LIMITED = "rate_limited"
    ERROR = "error"
    ERROR_WITHOUT_CONTEXT = "error_without_context"


_CONNECTING = (Moment.CONNECTING,)
_MID = (Moment.MID_CONTEXT,)
_MID_OR_NEW = (Moment.MID_CONTEXT, Moment.CONTEXT)
_NEW_OR_MID = (Moment.CONTEXT, Moment.MID_CONTEXT)

CATALOGUE: dict[FaultId, Kind] = {
    FaultId.REFUSED: Kind("the TCP connection is reset before any answer", _CONNECTING),
    FaultId.HTTP_401: Kind("HTTP 401", _CONNECTING),
    FaultId.HTTP_429: Kind("HTTP 429, concurrency_limited", _CONNECTING),
    FaultId.HTTP_5XX: Kind("HTTP 503", _CONNECTING),
    FaultId.HANG: Kind("the upgrade or request is never answered", _CONNECTING),
    FaultId.SILENT: Kind("the context is taken and nothing ever comes", (Moment.CONTEXT,)),
    FaultId.DROP: Kind("the TCP connection is reset", _MID_OR_NEW),
    FaultId.CLOSE_1011: Kind("a close frame with 1011 (websocket only)", _MID_OR_NEW),
    FaultId.STALL: Kind("the audio stops and never goes on", _MID),
    FaultId.SLOW: Kind("the audio comes at 0.4 times real time", _MID),
    FaultId.RATE_LIMITED: Kind("an error event, concurrency_limited, for the context", _NEW_OR_MID),
    FaultId.ERROR: Kind("an error event for the context", _NEW_OR_MID),
    FaultId.ERROR_WITHOUT_CONTEXT: Kind("an error event that names no context", _NEW_OR_MID),
}
