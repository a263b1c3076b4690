"""Answers of the HTTP API other than success, all in one shape."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from orchestrator.server.api_models import ErrorBody


class ApiError(Exception):
    """An answer other than success, in the API's one shape."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def response(self) -> JSONResponse:
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"type": kind, "message": str(self), "code": self.code, "param": self.param}
        return JSONResponse({"error": error}, self.status)


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        401: "No API key, or not the right one.",
        403: "Not from this machine or page.",
        422: "The request is not as it should be; the message says what was expected.",
        500: "A fault of ours.",
    }.items()
}
"""What every path may answer, as OpenAPI wants it."""


def answers(status: int, text: str) -> dict[int | str, dict[str, Any]]:
    """One more answer other than success, for a path's `responses`."""
    return {status: {"model": ErrorBody, "description": text}}
