"""A realtime server for tests, demos and fire drills: `/v1/realtime`, its client secrets, and `/control/*` for faults.

It stands in for OpenAI Realtime (GA protocol) and shares no code with the orchestrator's own wire handling, so
that it is a second opinion on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

from starlette.applications import Starlette

from orchestrator.simulate.client_secrets import ClientSecrets
from orchestrator.simulate.control import control_routes, manners_route
from orchestrator.simulate.faults import ALL, HTTP_STATUS, Fault, FaultBoard, FaultId, Moment
from orchestrator.simulate.serving import running
from orchestrator.simulate.session import Options, Session
from orchestrator.simulate.sockets import Accept, Hang, Refuse, Reset, Socket, Upgrade, Verdict

PATH = "/v1/realtime"
KEPT_SESSIONS = 1000
"""How many sessions `GET /control/state` remembers, open and closed."""
BROWSER_KEY = "openai-insecure-api-key."

LateRefusal = tuple[int, str, str, str]
"""Close code, error type, error code, message."""

LATE_REFUSALS: dict[StrEnum, LateRefusal] = {
    FaultId.LATE_REFUSAL_3000: (
        3000,
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided.",
    ),
    FaultId.LATE_REFUSAL_1013: (
        1013,
        "insufficient_quota",
        "credit_balance_exhausted",
        "You have run out of credits. Add credits to go on.",
    ),
    FaultId.LATE_REFUSAL_4000: (
        4000,
        "invalid_request_error",
        "invalid_model",
        "This model cannot be used here.",
    ),
    FaultId.LATE_REFUSAL_4004: (
        4004,
        "invalid_request_error",
        "model_not_found",
        "The model does not exist.",
    ),
}


class RealtimeSimulator:
    """The server's state. Serve `app` with `decide` for its upgrades, or use `async with simulator.start()`."""

    def __init__(self, options: Options, board: FaultBoard | None = None) -> None:
        self.options = options
        self.faults = board or FaultBoard()
        self.connections: deque[dict[str, Any]] = deque(maxlen=KEPT_SESSIONS)
        self.secrets = ClientSecrets(self.faults, self._refused)
        self.app = Starlette(
            routes=[
                self.secrets.route(),
                manners_route(options.brain),
                *control_routes(self.faults, ALL, self.state),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def start(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback in this event loop; gives the origin, such as ``http://127.0.0.1:8123``."""
        async with running(self.app, decide=self.decide, port=port) as origin:
            yield origin

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Models are loaded before the server is ready; lines known ahead are rendered after that."""
        await self.options.ears.warm()
        await self.options.voice.warm()
        await self.options.voice.prepare(list(self.options.prepare))
        preparing = asyncio.create_task(self.options.voice.prepare(self.options.brain.known_lines()))
        yield
        preparing.cancel()

    # -- connections -----------------------------------------------------------------------------

    def decide(self, upgrade: Upgrade) -> Verdict:
        """What to do with a WebSocket upgrade."""
        model = upgrade.query.get("model", "")
        connection = {
            "path": upgrade.path,
            "query": upgrade.query,
            "bearer_sha256": _digest(_bearer(upgrade)),
            "user_agent": upgrade.headers.get("user-agent"),
            "refused": None,
        }
        self.connections.append(connection)
        if upgrade.path != PATH:
            connection["refused"] = "not found"
            return Verdict(_http_refusal(404, "not_found", f"Nothing at {upgrade.path}; the path is {PATH}."))
        fault = self.faults.peek(Moment.CONNECTING, model)
        if fault is not None and self.faults.claim(fault):
            connection["refused"] = fault.id.value
            return Verdict(self._struck(fault, upgrade, connection), fault.after_ms / 1000)
        return Verdict(self._accept(upgrade, connection, self._late_refusal(upgrade)))

    def _struck(
        self, fault: Fault, upgrade: Upgrade, connection: dict[str, Any]
    ) -> Accept | Refuse | Reset | Hang:
        if fault.id in HTTP_STATUS:
            return _http_refusal(HTTP_STATUS[fault.id], fault.id.value, f"simulated fault {fault.id}")
        if fault.id is FaultId.REFUSED:
            return Reset()
        if fault.id is FaultId.HANG:
            return Hang()
        if fault.id in LATE_REFUSALS:
            return self._accept(upgrade, connection, LATE_REFUSALS[fault.id])
        return self._accept(upgrade, connection, None, fault)

    def _late_refusal(self, upgrade: Upgrade) -> LateRefusal | None:
        """Why the provider would take this connection and close it at once; None for a good one."""
        bearer, model = _bearer(upgrade), upgrade.query.get("model")
        if upgrade.headers.get("openai-beta"):
            message = "The Realtime Beta API is no longer supported. Please use the GA API."
            return (4000, "invalid_request_error", "beta_api_shape_disabled", message)
        secret = self.secrets.find(bearer)
        if bearer is None:
            message = "Missing bearer or basic authentication in header"
            return (3000, "invalid_request_error", "invalid_api_key", message)
        # One that was made here and has expired is no key of anybody's.
        gone = secret is None and bearer in self.secrets.made
        if gone or (secret is None and self._refused(bearer, "") is not None):
            return LATE_REFUSALS[FaultId.LATE_REFUSAL_3000]
        model = model or (secret.model if secret else None)
        if not model and upgrade.query.get("intent") != "transcription":
            message = "You must provide a model parameter."
            return (4000, "invalid_request_error", "missing_model", message)
        if self.options.models and model not in self.options.models:
            return LATE_REFUSALS[FaultId.LATE_REFUSAL_4004]
        return None

    def _refused(self, bearer: str | None, model: str) -> tuple[str, str] | None:
        """Why a key may not be used for a model ("": whichever), as a code and a message."""
        if bearer is None:
            return "invalid_api_key", "Missing bearer or basic authentication in header"
        if self.options.api_key is not None and bearer != self.options.api_key:
            return "invalid_api_key", "Incorrect API key provided."
        if model and self.options.models and model not in self.options.models:
            return "model_not_found", "The model does not exist."
        return None

    def _accept(
        self,
        upgrade: Upgrade,
        connection: dict[str, Any],
        refusal: LateRefusal | None,
        fault: Fault | None = None,
    ) -> Accept:
        socket = Socket()
        secret = self.secrets.find(_bearer(upgrade))
        begun = secret.session if secret is not None else None
        model = upgrade.query.get("model") or (secret.model if secret is not None else "")
        session = Session(socket, self.options, self.faults, model, upgrade.query.get("intent"), begun)
        connection["session"] = session

        def opened() -> None:
            if refusal is not None:
                code, kind, error, message = refusal
                connection["refused"] = error
                session.out.error(error, message, kind=kind)
                socket.close(code, f"{kind}.{error}")
                return
            if fault is not None and session.striker.execute(fault):
                return
            session.begin()

        socket.on_open, socket.on_text, socket.on_closed = opened, session.receive, session.end
        return Accept(socket, "realtime" if "realtime" in upgrade.subprotocols else None)

    def state(self) -> dict[str, Any]:
        """What `GET /control/state` tells beside the faults."""
        return {"connections": [_describe(connection) for connection in self.connections]}


def _describe(connection: dict[str, Any]) -> dict[str, Any]:
    session = connection.get("session")
    return {**connection, "session": session.describe() if session is not None else None}


def _bearer(upgrade: Upgrade) -> str | None:
    scheme, _, token = upgrade.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    offered = (name for name in upgrade.subprotocols if name.startswith(BROWSER_KEY))
    return next((name.removeprefix(BROWSER_KEY) for name in offered), None)


def _digest(secret: str | None) -> str | None:
    return hashlib.sha256(secret.encode()).hexdigest() if secret is not None else None


def _http_refusal(status: int, code: str, message: str) -> Refuse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Refuse(status, json.dumps({"error": error}).encode())
