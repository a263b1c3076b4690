"""What may go wrong when an orchestrator is asked: one small tree, made from the API's own errors."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx


class OrchestratorError(Exception):
    """Whatever went wrong. Its text says what was expected, what came and what to do, and never holds a key.

    `status` is that of the HTTP answer, None where there was none; `code` a short id that stays the same;
    `param` the part of the request that is wrong.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class Unreachable(OrchestratorError):
    """Nobody answered, or somebody who is no orchestrator. `sent`: whether the request may have been carried out."""

    def __init__(self, message: str, *, status: int | None = None, sent: bool = True) -> None:
        super().__init__(message, status=status)
        self.sent = sent


class Refused(OrchestratorError):
    """The key is missing, unknown, or may not do that (401, 403)."""


class NotFound(OrchestratorError):
    """There is no such thing (404)."""


class Invalid(OrchestratorError):
    """The request is not as it should be (400, 422 and the like), or it could not even be made."""


class Conflict(OrchestratorError):
    """It was decided already (409)."""


class Overloaded(OrchestratorError):
    """Not now (429, 503): too much at once, or something is not ready. `retry_after_s`: when, where that is known."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, param=param)
        self.retry_after_s = retry_after_s


class ServerFault(OrchestratorError):
    """The server failed (500 and the like)."""


_KINDS: dict[int, type[OrchestratorError]] = {
    401: Refused,
    403: Refused,
    404: NotFound,
    409: Conflict,
}
_LATER = frozenset({408, 429, 503})


def error_of(response: httpx.Response) -> OrchestratorError:
    """The error that an answer other than success tells. Its body has been read."""
    status = response.status_code
    found = _body(response)
    if found is None:
        if status in (502, 504):
            return Unreachable(f"a proxy answered with {status}: the server behind it did not", status=status)
        return no_orchestrator(response)
    message = str(found.get("message") or f"the server answered with {status}")
    code, param = found.get("code"), found.get("param")
    if status in _LATER:
        wait = _retry_after(response)
        return Overloaded(message, status=status, code=code, param=param, retry_after_s=wait)
    kind = _KINDS.get(status, ServerFault if status >= 500 else Invalid)
    return kind(message, status=status, code=code, param=param)


def no_orchestrator(response: httpx.Response) -> Unreachable:
    """What answers is something else."""
    address = f"{response.url.scheme}://{response.url.netloc.decode()}"
    message = (
        f"what answers at {address} is no orchestrator (status {response.status_code}); check the address"
    )
    return Unreachable(message, status=response.status_code)


def _body(response: httpx.Response) -> dict[str, Any] | None:
    """The error in the API's shape; None where there is none."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        found = response.json()["error"]
        if isinstance(found, dict) and "message" in found:
            return found
    return None


def _retry_after(response: httpx.Response) -> float | None:
    with contextlib.suppress(ValueError):
        return max(0.0, float(response.headers.get("retry-after", "")))
    return None
