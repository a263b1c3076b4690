"""Prompts over HTTP: spoken by POST, or by GET at an address that may be signed; and previews for operators.

What is in memory already is answered by `Memory`, ahead of FastAPI, in a fraction of a millisecond. Anything else,
wrong requests too, goes on to the paths below, which are also what /openapi.json describes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import orjson
from fastapi import FastAPI, Query, Request, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from cache import FORMS, MEDIA_TYPES
from orchestrator.config import Settings
from orchestrator.core.prices import NANO
from orchestrator.server.api_errors import ERRORS, ApiError, Refused, answers, speech_failure
from orchestrator.server.api_models import PreviewBody, PreviewView, PromptBody, PromptLink
from orchestrator.server.fleet import Fleet
from orchestrator.server.guards import Guards
from orchestrator.server.http_files import FileAnswer, RawHeaders, file_answer
from orchestrator.server.identity import Scope
from orchestrator.server.links import EXPIRES, SIGNATURE, LinkInvalid, Links, is_signed
from orchestrator.server.prompt_files import (
    FASTEST,
    SLOWEST,
    Asked,
    AudioName,
    PromptVoice,
    SpokenFile,
    audio_name,
    speak_paid,
)
from orchestrator.server.purse import Purse
from tiers.prompts.catalogue import DEFAULT_LANGUAGE, PromptError, UnknownPrompt, VariablesInvalid
from tiers.urgency import Priority, asking

T = TypeVar("T")

PATH = "/v1/prompts/"
VARIABLE = "var."
"""Before the names of variables in an address: ``?var.order_id=4172``."""
LONGEST = 1 << 16
"""Bytes of a body that is read ahead of the framework."""
FIELDS = frozenset({"format", "voice", "language", "speed", EXPIRES, SIGNATURE})
"""What an address may hold beside them."""
_MEDIA: Mapping[str, bytes] = {name: MEDIA_TYPES[form].encode() for name, form in FORMS.items()}
_NAMES = ", ".join(FORMS)
_HEADERS = {
    "X-Cost-USD": {"description": "What saying it cost.", "schema": {"type": "string"}},
    "X-Cache": {
        "description": "hit: nothing had to be rendered. stale: an older voice's, while a new one is made.",
        "schema": {"enum": ["hit", "stale", "miss"]},
    },
    "X-Audio-Seconds": {"description": "Its length.", "schema": {"type": "string"}},
    "ETag": {"description": "Of these very bytes.", "schema": {"type": "string"}},
}


AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
        },
        "headers": _HEADERS,
        "description": "Audio.",
    }
}
"""A file of sound as an answer, for a path's `responses`."""
PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part that `Range` asks for.", "content": AUDIO[200]["content"]},
    304: {"description": "`If-None-Match` names what there is."},
    416: {"description": "There is no such part."},
}
"""What may come of a GET of one as well."""
SIGNED: list[dict[str, list[str]]] = [{"HTTPBearer": []}, {"SignedAddress": []}]
"""Who may GET one, as OpenAPI says it."""


def _in_query(name: str, schema: dict[str, Any], description: str = "", **how: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description, **how}


_QUERY = [
    _in_query(
        "variables",
        {
            "type": "object",
            "patternProperties": {r"^var\.[A-Za-z0-9_]+$": {"type": "string"}},
            "additionalProperties": False,
        },
        "The prompt's variables, each as `var.NAME=…`.",
        style="form",
        explode=True,
        example={},
    ),
    _in_query("format", {"enum": [*FORMS], "default": "wav"}, "pcm is 24 kHz, 16 bit; pcmu 8 kHz."),
    _in_query("voice", {"type": "string"}),
    _in_query("language", {"type": "string", "default": DEFAULT_LANGUAGE}),
    _in_query("speed", {"type": "number", "minimum": SLOWEST, "maximum": FASTEST, "default": 1}),
]


class Service(Protocol):
    @property
    def settings(self) -> Settings: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def prompts(self) -> PromptVoice | None: ...

    @property
    def links(self) -> Links: ...


def add_prompts(api: FastAPI, service: Service, guards: Guards) -> None:
    paths = _Paths(service, guards)
    responses: dict[int | str, dict[str, Any]] = {
        **AUDIO,
        **ERRORS,
        **answers(404, "There is no such prompt."),
        **answers(503, "No engine could say it, or none has time: see Retry-After."),
    }
    add = api.add_api_route
    add(
        "/v1/prompts/{name}",
        paths.post,
        methods=["POST"],
        tags=["prompts"],
        dependencies=guards.service,
        response_class=Response,
        response_model=None,
        operation_id="speak_prompt",
        responses={**responses, 201: {"model": PromptLink, "description": "With `output`: url."}},
        summary="A prompt of the catalogue with its variables filled in, as audio or as an address of it.",
    )
    for method in ("GET", "HEAD"):
        add(
            "/v1/prompts/{name}",
            paths.get,
            methods=[method],
            tags=["prompts"],
            response_class=Response,
            responses={**responses, **PARTS},
            openapi_extra={"parameters": _QUERY, "security": SIGNED},
            include_in_schema=method == "GET",
            operation_id="get_prompt",
            summary="The same at an address: with the API key, or signed and for some minutes without it.",
        )
    add(
        "/v1/prompts/{name}/preview",
        paths.preview,
        methods=["POST"],
        tags=["prompts"],
        dependencies=guards.operator,
        response_model=PreviewView,
        operation_id="preview_prompt",
        responses={
            **ERRORS,
            **answers(404, "There is no such prompt."),
            **answers(503, "The prompts are still being loaded."),
        },
        summary="What would be said and what that would cost, without rendering it.",
    )
    api.add_middleware(Memory, service=service, guards=guards)


class _Paths:
    """What the paths do; bound methods, so that FastAPI reads their parameters."""

    def __init__(self, service: Service, guards: Guards) -> None:
        self._service, self._guards = service, guards

    async def post(
        self,
        request: Request,
        name: str,
        body: PromptBody,
        format: Annotated[
            AudioName | None, Query(description="Instead of the body's. pcm is 24 kHz, 16 bit; pcmu 8 kHz.")
        ] = None,
    ) -> Response:
        form = format or body.format
        asked = Asked(name, body.variables, form, body.voice, body.language, body.speed)
        spoken = await speak_prompt(self._service, asked)
        if body.output == "url":
            link = self._link(request, asked, spoken, body.expires_in_s)
            return Response(link.model_dump_json(), 201, media_type="application/json")
        return file_response(prompt_file("POST", {}, spoken, form))

    async def get(self, request: Request, name: str) -> Response:
        headers = dict(request.headers)
        until = admit(self._service, self._guards, request.scope, headers)
        asked = _asked_by(name, request.scope["query_string"].decode("latin-1"))
        spoken = await speak_prompt(self._service, asked)
        return file_response(prompt_file(request.method, headers, spoken, asked.form, until))

    async def preview(self, request: Request, name: str, body: PreviewBody) -> PreviewView:
        asked = Asked(name, body.variables, body.format, body.voice, body.language, body.speed)
        found = await _or_api_error(name, lambda: _voice(self._service).preview(asked))
        return PreviewView(
            name=name,
            language=found.language,
            voice=found.voice,
            text=found.text,
            spoken=found.spoken,
            cached=found.cached,
            worst_cost_usd=found.worst_nanodollars / NANO,
            **_address(request, self._service, asked),
        )

    def _link(self, request: Request, asked: Asked, spoken: SpokenFile, ttl_s: float | None) -> PromptLink:
        return PromptLink(
            **_address(request, self._service, asked, ttl_s),
            format=asked.form,
            text=spoken.text,
            seconds=round(spoken.seconds, 3),
            bytes=len(spoken.audio),
            cache=spoken.cache,
            cost_usd=spoken.cost_nanodollars / NANO,
        )


class Memory:
    """ASGI middleware: answers what is in memory, and hands on everything else, its body read again."""

    def __init__(self, app: ASGIApp, service: Service, guards: Guards) -> None:
        self._app, self._service, self._guards = app, service, guards

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PATH):
            await self._app(scope, receive, send)
            return
        name, method = scope["path"][len(PATH) :], scope["method"]
        answer = None
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        if "/" not in name and method == "POST" and self._may_post(scope, headers):
            body, receive = await _read(receive)
            answer = await self._answer(scope, name, headers, body)
        elif "/" not in name and method in ("GET", "HEAD"):
            answer = await self._answer(scope, name, headers, b"")
        if answer is None:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _may_post(self, scope: AsgiScope, headers: Mapping[str, str]) -> bool:
        """Whether the body is worth reading: nobody sends one that may not, or one that is far too long."""
        try:
            self._guards.admit(scope, headers, Scope.SERVICE)
        except Refused:
            return False
        length = headers.get("content-length", "0")
        return length.isdecimal() and int(length) < LONGEST

    async def _answer(
        self, scope: AsgiScope, name: str, headers: Mapping[str, str], body: bytes
    ) -> FileAnswer | None:
        """None where anything is not as usual: then somebody else says what is wrong with it."""
        prompts, method = self._service.prompts, scope["method"]
        if prompts is None:
            return None
        try:
            if method == "POST":
                until, asked = None, _asked_in(name, headers, scope["query_string"], body)
            else:
                until = admit(self._service, self._guards, scope, headers)
                asked = _asked_by(name, scope["query_string"].decode("latin-1"))
            spoken = None if asked is None else await prompts.quick_file(asked)
        except (ApiError, Refused, PromptError):
            return None
        if asked is None or spoken is None:
            return None
        return prompt_file(method, headers, spoken, asked.form, until)


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """A request's body, and a `receive` that gives it once more."""
    message = await receive()
    first, chunks = message, [message.get("body", b"")]
    while message.get("more_body"):
        message = await receive()
        chunks.append(message.get("body", b""))
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    again: list[Message] = [{**first, "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return again.pop() if again else await receive()

    return body, receive_again


def admit(service: Service, guards: Guards, scope: AsgiScope, headers: Mapping[str, str]) -> int | None:
    """When a signed address expires; None for a request with the key. Raises `Refused` or `ApiError`."""
    if not is_signed(scope["query_string"]):
        guards.admit(scope, headers, Scope.SERVICE)
        return None
    try:
        return service.links.check(scope["path"], scope["query_string"].decode("latin-1"))
    except LinkInvalid as error:
        raise ApiError(403, error.code, str(error)) from None


_BODY: Mapping[str, type | tuple[type, ...]] = {
    "variables": dict, "voice": str, "language": str, "format": str, "speed": (int, float), "output": str
}  # fmt: skip


def _asked_in(name: str, headers: Mapping[str, str], query: bytes, body: bytes) -> Asked | None:
    """A POST that is as it should be; None for any that FastAPI had better look at."""
    if not headers.get("content-type", "").startswith("application/json"):
        return None
    try:
        given = orjson.loads(body)
    except ValueError:
        return None
    usual = isinstance(given, dict) and all(
        key in _BODY and isinstance(value, _BODY[key]) for key, value in given.items()
    )
    if not usual or given.pop("output", "audio") != "audio":
        return None
    form = given.pop("format", "wav")
    if audio_name(form) is None:
        return None
    if query:
        key, _, form = query.decode("latin-1").partition("=")
        if key != "format":
            return None
    found = audio_name(form)
    return None if found is None else Asked(name, given.pop("variables", {}), found, **given)


def _asked_by(name: str, query: str) -> Asked:
    """The prompt that an address asks for. Raises an `ApiError` for what is not understood."""
    variables: dict[str, object] = {}
    fields: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        into: MutableMapping[str, Any] = variables if key.startswith(VARIABLE) else fields
        known = key.removeprefix(VARIABLE)
        if into is fields and key not in FIELDS:
            remedy = f"a variable is written {VARIABLE}{key}=…"
            raise ApiError(422, "invalid_request", f"{key}: there is no such field; {remedy}", key)
        if known in into:
            raise ApiError(422, "invalid_request", f"{key}: it is there twice; leave one out", key)
        into[known] = value
    form = audio_name(fields.get("format", "wav"))
    if form is None:
        raise ApiError(422, "invalid_request", f"format: expected one of {_NAMES}", "format")
    return Asked(
        name,
        variables,
        form,
        fields.get("voice", ""),
        fields.get("language", DEFAULT_LANGUAGE),
        _speed(fields.get("speed", "1")),
    )


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not SLOWEST <= speed <= FASTEST:
        message = f"speed: expected a number from {SLOWEST} to {FASTEST}, got {text[:20]!r}"
        raise ApiError(422, "invalid_request", message, "speed")
    return speed


def _address(request: Request, service: Service, asked: Asked, ttl_s: float | None = None) -> dict[str, Any]:
    """``url`` and ``expires_at`` of a prompt's signed address."""
    query = {VARIABLE + name: str(value) for name, value in asked.variables.items()}
    told = {"format": asked.form, "voice": asked.voice, "language": asked.language}
    query |= {name: value for name, value in told.items() if value}
    if asked.speed != 1:
        query["speed"] = f"{asked.speed:g}"
    link = service.links.make(f"{PATH}{asked.name}", query, ttl_s)
    return {"url": origin(request, service.settings) + link.target, "expires_at": link.expires_at}


def origin(request: Request, settings: Settings) -> str:
    """Where this server is for whoever gets an address from it, without a slash at the end."""
    return (settings.links.public_url or str(request.base_url)).rstrip("/")


def _voice(service: Service) -> PromptVoice:
    if service.prompts is None:
        raise ApiError(503, "prompts_not_ready", "the prompts are still being loaded; try again shortly")
    return service.prompts


async def speak_prompt(service: Service, asked: Asked, bucket: str | None = None) -> SpokenFile:
    """Raises an `ApiError`. What it costs is paid by `bucket`, or the default one."""
    voice = _voice(service)
    purse, payer = Purse(service.fleet.ledgers), bucket or service.settings.budget.default_bucket
    with asking(Priority.REQUEST):
        return await _or_api_error(asked.name, lambda: speak_paid(voice, purse, payer, asked))


async def _or_api_error(name: str, work: Callable[[], Awaitable[T]]) -> T:
    try:
        return await work()
    except UnknownPrompt as error:
        raise ApiError(404, "unknown_prompt", f"{error}; use one of those names", "name") from None
    except VariablesInvalid as error:
        named = [f"variables.{wrong.variable}" for wrong in error.errors]
        remedy = f"correct {'it' if len(named) == 1 else 'them'} under `variables`"
        raise ApiError(422, "invalid_variables", f"{error}; {remedy}", ", ".join(named)) from None
    except PromptError as error:
        raise ApiError(422, "prompt_not_sayable", str(error)) from None
    except Exception as error:
        raise speech_failure(error, f"prompt {name}") from error


def prompt_file(
    method: str, request: Mapping[str, str], spoken: SpokenFile, form: AudioName, until: int | None = None
) -> FileAnswer:
    """`until`: when the address expires that it was asked for at."""
    # A prompt's words may be changed at any time, so that what is kept is asked about; behind a signed address it
    # is the caller's own for as long as that works.
    kept = b"private, no-cache" if until is None else b"private, max-age=%d" % max(0, until - time.time())
    headers: RawHeaders = [
        (b"content-type", _MEDIA[form]),
        (b"cache-control", kept),
        (b"x-cost-usd", f"{spoken.cost_nanodollars / NANO:.9f}".encode()),
        (b"x-cache", spoken.cache.encode()),
        (b"x-audio-seconds", f"{spoken.seconds:.3f}".encode()),
    ]
    return file_answer(method, request, spoken.audio, spoken.tag, headers)


def file_response(answer: FileAnswer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.headers
    return response
