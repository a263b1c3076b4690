"""Answers of the HTTP API other than success, all in one shape."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from orchestrator.server.api_models import ErrorBody
from orchestrator.server.auth import Refusal
from orchestrator.server.purse import BudgetSpent

log = logging.getLogger(__name__)


class Refused(Exception):
    """The request may not be made."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class ApiError(Exception):
    """An answer other than success, in the API's one shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        kinds = {
            401: "authentication_error",
            403: "permission_error",
            404: "not_found_error",
            429: "rate_limit_error",
        }
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"type": kind, "message": str(self), "code": self.code, "param": self.param}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def speech_failure(error: Exception, what: str) -> ApiError:
    """What a client is told of an engine that could not say `what`; the log gets the rest."""
    if isinstance(error, BudgetSpent):
        remedy = f"raise budget.buckets.{error.bucket}.usd_per_day, or ask for an engine that costs nothing"
        return ApiError(429, "budget_spent", f"{error}; {remedy}")
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        message = f"more speech is waiting than can be made in time, so {what} was not begun; try again later"
        return ApiError(503, "overloaded", message, headers={"Retry-After": str(math.ceil(retry_after_s))})
    log.error("%s could not be said", what, exc_info=error)
    kind = type(error).__name__
    return ApiError(
        503,
        "speech_unavailable",
        f"no speech engine could say {what} ({kind}); /readyz says what is missing",
    )


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        401: "No key or token, or one that opens nothing.",
        403: "A key without the scope that is needed, or not from this machine or page.",
        422: "The request is not as it should be; the message says what was expected.",
        429: "Too many with this key or of this user: see Retry-After.",
        500: "A fault of ours.",
        503: "What a key or token is compared with could not be read yet: see Retry-After.",
    }.items()
}
"""What every path may answer, as OpenAPI wants it."""


def answers(status: int, text: str) -> dict[int | str, dict[str, Any]]:
    """One more answer other than success, for a path's `responses`."""
    return {status: {"model": ErrorBody, "description": text}}
