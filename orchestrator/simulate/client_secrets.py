"""``POST /v1/realtime/client_secrets``: short-lived secrets that open sessions, as the provider makes them.

One opens any number of sessions until it expires, and whoever connects with it may change what it began with.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.simulate.faults import HTTP_STATUS, FaultBoard, FaultId, Moment
from orchestrator.simulate.outbox import new_id
from orchestrator.simulate.session_config import Invalid, default_session, updated_session
from orchestrator.simulate.streaming import HangUp, Silence

PREFIX = "ek_"
DEFAULT_S = 600
SHORTEST_S, LONGEST_S = 10, 7200
DEFAULT_MODEL = "gpt-realtime"


@dataclass(frozen=True, slots=True)
class Secret:
    """`expires_at` in Unix seconds; `session`: what a session of it begins with, as `session.update` has it."""

    expires_at: int
    session: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.session.get("model") or DEFAULT_MODEL)


@dataclass(slots=True)
class ClientSecrets:
    """The secrets of a server. `refused`: why a bearer or a model is not taken, None where they are."""

    board: FaultBoard
    refused: Callable[[str | None, str], tuple[str, str] | None]
    made: dict[str, Secret] = field(default_factory=dict)

    def find(self, bearer: str | None) -> Secret | None:
        """The secret that a connection came with; None for an ordinary key, and for one that has expired."""
        secret = self.made.get(bearer or "")
        return secret if secret is not None and secret.expires_at > time.time() else None

    def route(self) -> Route:
        return Route("/v1/realtime/client_secrets", self._create, methods=["POST"])

    async def _create(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body() or b"{}")
            seconds, session = _read(body)
        except json.JSONDecodeError:
            return _error(400, "invalid_json", "We could not parse the JSON body of your request.")
        except Invalid as error:
            return _error(400, error.code, error.message, error.param)
        model = str(session.get("model") or DEFAULT_MODEL)
        struck = self._struck(model)
        if struck is not None:
            return struck
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        is_key = scheme.lower() == "bearer" and not bearer.startswith(PREFIX)
        refusal = self.refused(bearer.strip() if is_key else None, model)
        if refusal is not None:
            code, message = refusal
            return _error(401 if code == "invalid_api_key" else 404, code, message)
        return self._made(seconds, session, model)

    def _made(self, seconds: int, session: dict[str, Any], model: str) -> Response:
        transcription = session["type"] == "transcription"
        try:
            fresh = default_session(new_id("sess"), model, 0, transcription=transcription)
            shown = updated_session(fresh, session, voice_locked=False)
        except Invalid as error:
            return _error(400, error.code, error.message, error.param)
        value, expires_at = PREFIX + secrets.token_hex(16), int(time.time()) + seconds
        self.made[value] = Secret(expires_at, session)
        return JSONResponse({"value": value, "expires_at": expires_at, "session": shown})

    def _struck(self, model: str) -> Response | None:
        """What a fault makes of the request. Those that only a WebSocket can have are left for one."""
        fault = self.board.peek(Moment.CONNECTING, model)
        known = {*HTTP_STATUS, FaultId.REFUSED, FaultId.HANG, FaultId.LATE_REFUSAL_1013}
        if fault is None or fault.id not in known or not self.board.claim(fault):
            return None
        if fault.id is FaultId.REFUSED:
            return HangUp()
        if fault.id is FaultId.HANG:
            return Silence()
        if fault.id is FaultId.LATE_REFUSAL_1013:
            message = "You have run out of credits. Add credits to go on."
            return _error(429, "credit_balance_exhausted", message)
        return _error(HTTP_STATUS[fault.id], fault.id.value, f"simulated fault {fault.id}")


def _read(body: Any) -> tuple[int, dict[str, Any]]:
    """Seconds and session of a request; Invalid otherwise."""
    if not isinstance(body, dict):
        raise Invalid("invalid_type", "Expected a JSON object.")
    for name in body:
        if name not in ("expires_after", "session"):
            raise Invalid("unknown_parameter", f"Unknown parameter: '{name}'.", name)
    expires = body.get("expires_after") or {}
    if expires.get("anchor", "created_at") != "created_at":
        message = f"Invalid value: '{expires['anchor']}'. Supported values are: 'created_at'."
        raise Invalid("invalid_value", message, "expires_after.anchor")
    seconds = expires.get("seconds", DEFAULT_S)
    if not isinstance(seconds, int) or not SHORTEST_S <= seconds <= LONGEST_S:
        message = f"Invalid value: expected an integer from {SHORTEST_S} to {LONGEST_S}, got {seconds}."
        raise Invalid("invalid_value", message, "expires_after.seconds")
    session = body.get("session") or {"type": "realtime"}
    if not isinstance(session, dict) or session.get("type") not in ("realtime", "transcription"):
        message = "Missing required parameter: 'session.type'."
        raise Invalid("missing_required_parameter", message, "session.type")
    return seconds, session


def _error(status: int, code: str, message: str, param: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)
