"""What a service asks a session to begin with, checked before a credential holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.core.grants import AUDIO_FIELDS, FIELDS, Grant
from orchestrator.protocol.client_events import ClientError, check_session
from orchestrator.protocol.session import Session
from orchestrator.protocol.wire import Event
from orchestrator.server.api_errors import ApiError
from orchestrator.server.calls import SESSION_S

SIDES = ("input", "output")
OURS = ("type", "model", "id", "object", "expires_at")
"""Fields of a session that `session.update` does not change."""


def checked_session(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a session that the protocol takes; `ApiError` names the first that is wrong."""
    session = {"type": "realtime", **fields}
    try:
        json.dumps(session, ensure_ascii=False, allow_nan=False).encode()
        check_session(session)
        _check_names(session)
    except ClientError as error:
        raise _wrong(error) from None
    except (TypeError, ValueError) as error:
        message = f"session: not what JSON in UTF-8 can hold ({error}); correct that"
        raise ApiError(422, "invalid_value", message, "session") from None
    return session


def _check_names(session: Event) -> None:
    """A misspelt field would silently be none, and a tool without a kind would not be there. Raises `ClientError`."""
    audio = {
        f"audio.{side}.{name}" for side in SIDES for name in (session.get("audio") or {}).get(side) or {}
    }
    given = {name for name in session if name != "audio"} | audio
    given |= {f"audio.{side}" for side in session.get("audio") or {} if side not in SIDES}
    for name in sorted(given - FIELDS - AUDIO_FIELDS - set(OURS)):
        known = ", ".join(sorted(FIELDS | AUDIO_FIELDS))
        message = f"session.{name}: there is no such field; there are {known}."
        raise ClientError(message, code="unknown_parameter", param=f"session.{name}")
    for n, tool in enumerate(session.get("tools") or []):
        label = {"function": "name", "mcp": "server_label"}.get(str(tool.get("type")))
        if label is None:
            message = f"session.tools.{n}.type must be 'function' or 'mcp', got {tool.get('type')!r}."
            raise ClientError(message, param=f"session.tools.{n}.type")
        if not tool.get(label):
            raise ClientError(f"session.tools.{n} needs a {label}.", param=f"session.tools.{n}.{label}")


def effective_session(grant: Grant, now: float) -> Session:
    """The session as the call will begin with it. Raises `ApiError` for values that do not fit together."""
    token = grant.call_id.removeprefix("call_")
    session = Session(f"sess_{token}", grant.model or "", int(now) + SESSION_S)
    try:
        session.update(dict(grant.session))
    except ClientError as error:
        raise _wrong(error) from None
    except (TypeError, ValueError, AttributeError) as error:
        message = f"session: a value in it is not of the kind that belongs there ({error}); correct that"
        raise ApiError(422, "invalid_value", message, "session") from None
    return session


def _wrong(error: ClientError) -> ApiError:
    return ApiError(422, error.code, f"{error.message} Correct that and ask again.", error.param)
