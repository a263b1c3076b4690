"""Faults of the simulated business: where in a tool call they strike, and what the caller of the tool sees."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from starlette.responses import JSONResponse, Response

from orchestrator.simulate.fault_board import FaultBoard, Kind
from orchestrator.simulate.streaming import HangUp, Silence

FAILURE = "The warehouse system is being serviced, so nothing was changed."


class Moment(StrEnum):
    """Where a fault strikes: before the tool runs, so that it does not; or when it has run, and the answer is lost."""

    BEFORE_RUN = "before_run"
    AFTER_RUN = "after_run"


class FaultId(StrEnum):
    SLOW = "slow"
    HTTP_500 = "http_500"
    RESET = "reset"
    HANG = "hang"
    GARBAGE = "garbage"
    REFUSED = "refused"
    FAILS = "fails"


_BEFORE = (Moment.BEFORE_RUN,)
_AFTER = (Moment.AFTER_RUN,)

CATALOGUE: dict[FaultId, Kind] = {
    FaultId.SLOW: Kind("`after_ms` late, and otherwise well", (*_BEFORE, *_AFTER)),
    FaultId.HTTP_500: Kind("HTTP 500: nobody can tell whether the tool has run", (*_BEFORE, *_AFTER)),
    FaultId.RESET: Kind("the TCP connection is reset when the tool has run", _AFTER),
    FaultId.HANG: Kind("the connection stays and not a byte comes", (*_BEFORE, *_AFTER)),
    FaultId.GARBAGE: Kind("HTTP 200 with something that is not JSON", _AFTER),
    FaultId.REFUSED: Kind("the TCP connection is reset before the tool runs", _BEFORE),
    FaultId.FAILS: Kind("HTTP 422 with a message: the tool has not run", _BEFORE),
}


def error(status: int, code: str, message: str) -> Response:
    """An error of the business's own: ``{"error": {"code", "message"}}``."""
    return JSONResponse({"error": {"code": code, "message": message}}, status)


async def struck(board: FaultBoard, moment: Moment, tool: str) -> Response | None:
    """What a call of `tool` gets instead of its answer; None to go on. A fault's `model` is the tool's name."""
    fault = board.take(moment, tool)
    if fault is None:
        return None
    await asyncio.sleep(fault.after_ms / 1000)
    if fault.id is FaultId.SLOW:
        return None
    if fault.id is FaultId.HTTP_500:
        return error(500, "server_error", "simulated fault http_500")
    if fault.id is FaultId.HANG:
        return Silence()
    if fault.id is FaultId.GARBAGE:
        return Response(b'{"order_id": "41', media_type="application/json")
    if fault.id is FaultId.FAILS:
        return error(422, "not_possible", FAILURE)
    return HangUp()
