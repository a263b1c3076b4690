"""Faults of the simulators that answer over plain HTTP: the text model and the speech server."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from starlette.responses import JSONResponse, Response

from orchestrator.simulate.fault_board import Fault, FaultBoard, Kind
from orchestrator.simulate.streaming import Cut, HangUp, Silence, forever


class Moment(StrEnum):
    """Where a fault strikes: at a request, or in the body of its answer."""

    REQUEST = "request"
    STREAM = "stream"


class FaultId(StrEnum):
    REFUSED = "refused"
    HTTP_401 = "http_401"
    HTTP_404 = "http_404"
    HTTP_429 = "http_429"
    HTTP_500 = "http_500"
    HTTP_503 = "http_503"
    HANG = "hang"
    CUT = "cut"
    STALL = "stall"
    SLOW = "slow"
    GARBAGE = "garbage"


_REQUEST = (Moment.REQUEST,)
_STREAM = (Moment.STREAM,)

CATALOGUE: dict[FaultId, Kind] = {
    FaultId.REFUSED: Kind("the TCP connection is reset before any answer", _REQUEST),
    FaultId.HTTP_401: Kind("HTTP 401, invalid_api_key", _REQUEST),
    FaultId.HTTP_404: Kind("HTTP 404, model_not_found", _REQUEST),
    FaultId.HTTP_429: Kind("HTTP 429, rate_limit_exceeded", _REQUEST),
    FaultId.HTTP_500: Kind("HTTP 500, server_error", _REQUEST),
    FaultId.HTTP_503: Kind("HTTP 503, overloaded", _REQUEST),
    FaultId.HANG: Kind("the connection stays and not a byte comes", _REQUEST),
    FaultId.CUT: Kind("the connection is reset after `after_chunks` chunks", _STREAM),
    FaultId.STALL: Kind("nothing comes any more after `after_chunks` chunks", _STREAM),
    FaultId.SLOW: Kind("after `after_chunks` chunks each one takes ten times as long", _STREAM),
    FaultId.GARBAGE: Kind("something malformed after `after_chunks` chunks; then things go on", _STREAM),
}
STATUS: dict[StrEnum, tuple[int, str]] = {
    FaultId.HTTP_401: (401, "invalid_api_key"),
    FaultId.HTTP_404: (404, "model_not_found"),
    FaultId.HTTP_429: (429, "rate_limit_exceeded"),
    FaultId.HTTP_500: (500, "server_error"),
    FaultId.HTTP_503: (503, "overloaded"),
}
SLOWNESS = 10.0


def error(status: int, code: str, message: str, param: str | None = None) -> Response:
    """An error in OpenAI's shape."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": body}, status)


async def struck(board: FaultBoard, model: str) -> Response | None:
    """What a request gets instead of an answer, where a fault is armed for it."""
    fault = board.take(Moment.REQUEST, model)
    if fault is None:
        return None
    await asyncio.sleep(fault.after_ms / 1000)
    if fault.id is FaultId.REFUSED:
        return HangUp()
    if fault.id is FaultId.HANG:
        return Silence()
    status, code = STATUS[fault.id]
    return error(status, code, f"simulated fault {fault.id}")


class StreamFault:
    """Watches the chunks of one streamed answer. `slowness` is what each pause between them is multiplied by."""

    def __init__(self, board: FaultBoard, model: str) -> None:
        self.slowness = 1.0
        self._board = board
        self._model = model
        self._sent = 0

    async def before_chunk(self) -> bool:
        """Let a fault strike before the next chunk; True when something malformed belongs here."""
        fault = self._board.peek(Moment.STREAM, self._model)
        self._sent += 1
        if fault is None or self._sent <= fault.after_chunks or not self._board.claim(fault):
            return False
        return await self._strike(fault)

    async def _strike(self, fault: Fault) -> bool:
        if fault.id is FaultId.CUT:
            raise Cut
        if fault.id is FaultId.STALL:
            await forever()
        if fault.id is FaultId.SLOW:
            self.slowness = SLOWNESS
        return fault.id is FaultId.GARBAGE
