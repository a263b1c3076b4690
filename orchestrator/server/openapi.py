"""/openapi.json: what FastAPI finds out by itself, and what it cannot know.

That is what any path may answer because of the limits of requests, who needs no key, and examples.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from orchestrator.server.api_examples import EXAMPLES
from orchestrator.server.links import SIGNATURE

DESCRIPTION = """\
Calls are WebSockets in the OpenAI Realtime protocol at `/v1/realtime`, which OpenAPI cannot describe. All else is here.

Every error is `{"error": {"type", "message", "code", "param"}}`. Its `code` stays the same; its message says what was
expected and what to do. What may be tried again says so with `Retry-After`, or in its message.
"""
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
_ANY_REQUEST = {
    "414": "The address is too long: `url_too_long`.",
    "431": "The headers are too large: `headers_too_large`.",
}
_WITH_BODY = {
    "408": "The body did not come in time: `request_timeout`.",
    "413": "The body is too large: `request_too_large`.",
}
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")
"""Errors that FastAPI thinks paths answer with where they do not say otherwise."""
_SIGNED = {
    "type": "apiKey",
    "in": "query",
    "name": SIGNATURE,
    "description": "An address that this server has signed, as a whole; it works until it expires.",
}
_HEADERS = {
    "401": {"WWW-Authenticate": {"schema": {"const": "Bearer"}, "description": "How to show a key."}},
    "429": {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds, where waiting helps."}},
    "503": {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds, where that is known."}},
}


def operation_id(route: APIRoute) -> str:
    """What a path is called in the document, and in clients that are made from it: its function's name."""
    return route.name


def describe(api: FastAPI) -> None:
    """Makes `api` answer /openapi.json with the whole of it, made when it is first asked for."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _document(api)
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]


def _document(api: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=api.title,
        version=api.version,
        summary=api.summary,
        description=DESCRIPTION,
        routes=api.routes,
        separate_input_output_schemas=api.separate_input_output_schemas,
    )
    components = found["components"]
    components.setdefault("securitySchemes", {})["SignedAddress"] = _SIGNED
    for name in _FASTAPIS_OWN:
        components["schemas"].pop(name, None)
    for path in found["paths"].values():
        for operation in path.values():
            _complete(operation)
    _add_heads(found["paths"], api)
    for name, example in EXAMPLES.items():
        if name in components["schemas"]:
            components["schemas"][name].setdefault("examples", [example])
    return found


def _add_heads(paths: dict[str, Any], api: FastAPI) -> None:
    """HEAD where it is answered: as GET, without a body, and without the answers that only a range has."""
    for route in api.routes:
        if isinstance(route, APIRoute) and "HEAD" in (route.methods or ()) and route.path_format in paths:
            get = paths[route.path_format]["get"]
            answers = {
                status: {name: value for name, value in answer.items() if name != "content"}
                for status, answer in get["responses"].items()
                if status not in ("206", "416")
            }
            paths[route.path_format]["head"] = get | {
                "operationId": f"{get['operationId']}_headers",
                "summary": "The headers of the same, without its body.",
                "responses": answers,
            }


def _complete(operation: dict[str, Any]) -> None:
    answers = {
        status: answer
        for status, answer in operation["responses"].items()
        if _FASTAPIS_OWN[0] not in str(answer.get("content"))
    }
    more = _ANY_REQUEST | (_WITH_BODY if "requestBody" in operation else {})
    for status, text in more.items():
        answers.setdefault(status, {"description": text, "content": _ERROR})
    for status, headers in _HEADERS.items():
        if status in answers:
            answers[status].setdefault("headers", headers)
    operation["responses"] = dict(sorted(answers.items()))
