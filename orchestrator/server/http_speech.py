"""OpenAI's speech API: any text as audio, at once where it was said before, else in pieces as it is made.

``POST /v1/audio/speech`` is what OpenAI's own is, with a few more forms and a language; what is wrong is answered
as there, with 400. ``GET /v1/models`` and ``GET /v1/audio/voices`` say what may be asked for.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from cache import FORMS, MEDIA_TYPES, Source
from orchestrator.config import Settings
from orchestrator.server.api_errors import ERRORS, ApiError, answers, speech_failure
from orchestrator.server.api_models import Body
from orchestrator.server.guards import Guards
from orchestrator.server.prompt_files import AudioName
from orchestrator.server.speaking import (
    Saying,
    Speaking,
    SpeechAsked,
    UnknownModel,
    UnknownVoice,
)

log = logging.getLogger(__name__)

PATHS = "/v1/audio/"
"""Under here wrong requests are answered with 400, as OpenAI does."""
LONGEST = 4096
"""Characters of input, as OpenAI has it."""
_WRONG = answers(400, "The request is not as it should be; the message says what was expected.")
_LOADING = answers(503, "The voices are still being loaded.")
_HEADERS = {
    "X-Cache": {
        "description": "hit: it was said before, and came from memory.",
        "schema": {"enum": ["hit", "miss"]},
    },
    "X-Speech-Engine": {"description": "Who speaks.", "schema": {"type": "string"}},
    "X-Audio-Seconds": {
        "description": "Its length, where that is known yet.",
        "schema": {"type": "string"},
    },
}


class VoiceRef(Body):
    id: str = Field(min_length=1, max_length=100)


class SpeechBody(Body):
    """As OpenAI's; `language` and the last four forms are ours."""

    model: str = Field(max_length=100)
    input: str = Field(min_length=1, max_length=LONGEST)
    voice: str | VoiceRef = Field("", description="One of OpenAI's, or one of /v1/audio/voices.")
    response_format: AudioName = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    instructions: str = Field("", max_length=LONGEST, description="Taken, and not followed by these engines.")
    stream_format: Literal["audio", "sse"] = "audio"
    language: str = Field("en", max_length=35, description="In which the input is read.")


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds: since when it is served.")
    owned_by: str


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class VoiceView(BaseModel):
    id: str
    object: Literal["voice"] = "voice"
    model: str
    languages: list[str] = Field(description="Tags of the languages it speaks; none where that is not known.")
    like: str | None = Field(description="The engine's own voice that speaks for one of OpenAI's.")


class Voices(BaseModel):
    object: Literal["list"] = "list"
    data: list[VoiceView]


class Service(Protocol):
    @property
    def settings(self) -> Settings: ...

    @property
    def speaking(self) -> Speaking | None: ...


def add_speech(api: FastAPI, service: Service, guards: Guards) -> None:
    audio = {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()}
    errors = {status: answer for status, answer in ERRORS.items() if status != 422} | _WRONG

    @api.post(
        "/v1/audio/speech",
        tags=["speech"],
        dependencies=guards.service,
        response_class=Response,
        responses={
            200: {
                "content": {**audio, "text/event-stream": {}},
                "headers": _HEADERS,
                "description": "Audio, in chunks as it is made; or events with pieces of it.",
            },
            **errors,
            **answers(404, "There is no such model."),
            **answers(429, "The day's budget is spent; or too many requests, see Retry-After."),
            **answers(503, "No engine could say it, or none has time: see Retry-After."),
        },
    )
    async def create_speech(body: SpeechBody) -> Response:
        """Text as speech, as OpenAI's API has it."""
        speaking = _speaking(service)
        voice = body.voice.id if isinstance(body.voice, VoiceRef) else body.voice
        asked = SpeechAsked(body.input, body.model, voice, body.language, body.speed, body.response_format)
        saying = await _begin(speaking, asked)
        if body.stream_format == "sse":
            return StreamingResponse(
                _events(saying), media_type="text/event-stream", headers=_headers(saying)
            )
        media = MEDIA_TYPES[FORMS[body.response_format]]
        if saying.whole is not None:
            return Response(saying.whole, media_type=media, headers=_headers(saying))
        return StreamingResponse(saying.pieces, media_type=media, headers=_headers(saying))

    @api.get(
        "/v1/audio/voices", tags=["speech"], dependencies=guards.service, responses={**errors, **_LOADING}
    )
    async def list_voices() -> Voices:
        """The voices there are. Services that are paid for have more of their own."""
        found = await _speaking(service).voices()
        return Voices(
            data=[
                VoiceView(
                    id=each.id, model=each.model, languages=list(each.languages), like=each.like or None
                )
                for each in found
            ]
        )

    _add_models(api, service, guards)


def _add_models(api: FastAPI, service: Service, guards: Guards) -> None:
    since = int(time.time())

    def known() -> list[Model]:
        speaking, tier_a = service.speaking, service.settings.tier_a
        realtime = tier_a.rungs if tier_a.enabled else ()
        names = dict.fromkeys([*(speaking.models if speaking else ()), *realtime])
        return [Model(id=name, created=since, owned_by="orchestrator") for name in names]

    @api.get("/v1/models", tags=["speech"], dependencies=guards.service, responses=ERRORS)
    async def list_models() -> Models:
        """What may be asked for as a model: speech, and calls over /v1/realtime."""
        return Models(data=known())

    @api.get(
        "/v1/models/{id:path}",
        tags=["speech"],
        dependencies=guards.service,
        responses={**ERRORS, **answers(404, "There is no such model.")},
    )
    async def get_model(id: str) -> Model:
        """One of them."""
        for each in known():
            if each.id == id:
                return each
        names = ", ".join(each.id for each in known())
        raise _no_model(f"the model {id!r} does not exist here; there are {names}")


def _no_model(message: str) -> ApiError:
    return ApiError(404, "model_not_found", message, "model")


def _speaking(service: Service) -> Speaking:
    if service.speaking is None:
        raise ApiError(503, "speech_not_ready", "the voices are still being loaded; try again shortly")
    return service.speaking


async def _begin(speaking: Speaking, asked: SpeechAsked) -> Saying:
    if not any(char.isalnum() for char in asked.text):
        message = "input: expected text with something to say in it; send words"
        raise ApiError(400, "nothing_to_say", message, "input")
    try:
        return await speaking.begin(asked)
    except UnknownModel as error:
        raise _no_model(str(error)) from None
    except UnknownVoice as error:
        raise ApiError(400, "invalid_voice", f"{error}; use one of those", "voice") from None
    except Exception as error:
        raise speech_failure(error, "the input") from error


def _headers(saying: Saying) -> dict[str, str]:
    told = {"X-Cache": "miss" if saying.whole is None else "hit", "X-Speech-Engine": saying.told.engine}
    if saying.whole is not None:
        told["X-Audio-Seconds"] = f"{saying.told.seconds:.3f}"
    return told


async def _events(saying: Saying) -> AsyncIterator[bytes]:
    """OpenAI's events. Nothing here is counted in tokens, so the usage is none; what it cost stands beside it."""
    try:
        if saying.whole is not None:
            yield _delta(saying.whole)
        async for piece in saying.pieces:
            if piece:
                yield _delta(piece)
    except Exception as error:
        # The answer has begun as a success, so that this is where a client can still be told.
        failure = speech_failure(error, "the rest of the input")
        yield _event({"type": "error", **failure.body})
        return
    told = saying.told
    usage = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0)
    about = {
        "engine": told.engine,
        "seconds": round(told.seconds, 3),
        "cached": told.source in (Source.MEMORY, Source.STORE),
        "cost_usd": told.cost_usd,
    }
    yield _event({"type": "speech.audio.done", "usage": usage, "orchestrator": about})


def _delta(data: bytes) -> bytes:
    return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})


def _event(event: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
