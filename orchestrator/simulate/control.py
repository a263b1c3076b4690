"""The control interface of every simulator: its health, its faults, its state. On loopback only."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.simulate import fault_board
from orchestrator.simulate.brain import Brain, Manners
from orchestrator.simulate.fault_board import Catalogue, FaultBoard

Endpoint = Callable[[Request], Awaitable[Response]]


def control_routes(
    board: FaultBoard, catalogue: Catalogue, state: Callable[[], dict[str, Any]]
) -> list[Route]:
    """``GET /healthz``, ``GET /control/state``; ``GET``, ``POST`` and ``DELETE /control/faults``.

    `state` gives what there is to tell beside the armed faults.
    """

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def told() -> dict[str, Any]:
        return {"faults": board.describe(), "struck": list(board.struck)}

    async def show(request: Request) -> Response:
        return JSONResponse({**told(), **state()})

    async def show_faults(request: Request) -> Response:
        return JSONResponse(told())

    async def arm(request: Request) -> Response:
        try:
            fault = fault_board.parse(await request.json(), catalogue)
        except json.JSONDecodeError as error:
            return JSONResponse({"error": f"the body is not JSON: {error}"}, 400)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        board.arm(fault)
        return JSONResponse({"faults": board.describe()}, 201)

    async def clear(request: Request) -> Response:
        board.clear()
        return JSONResponse({"faults": []})

    return [
        Route("/healthz", health),
        Route("/control/state", loopback_only(show)),
        Route("/control/faults", loopback_only(show_faults)),
        Route("/control/faults", loopback_only(arm), methods=["POST"]),
        Route("/control/faults", loopback_only(clear), methods=["DELETE"]),
    ]


def manners_route(brain: Brain) -> Route:
    """``POST /control/manners``: from now on the model behaves so."""

    async def behave(request: Request) -> Response:
        try:
            brain.manners = Manners((await request.json())["manners"])
        except (ValueError, KeyError, TypeError):
            known = ", ".join(Manners)
            return JSONResponse({"error": f'expected {{"manners": …}} with one of {known}'}, 400)
        return JSONResponse({"manners": brain.manners})

    return Route("/control/manners", loopback_only(behave), methods=["POST"])


def loopback_only(endpoint: Endpoint) -> Endpoint:
    """`endpoint`, answering 403 to whoever asks from another machine."""

    async def guarded(request: Request) -> Response:
        host = request.client.host if request.client else ""
        try:
            near = ipaddress.ip_address(host).is_loopback
        except ValueError:
            near = False
        if not near:
            return JSONResponse({"error": "the control endpoints answer on loopback only"}, 403)
        return await endpoint(request)

    return guarded
