"""Summaries over HTTP: a batch is taken at once, made while nobody waits, and told to the webhook when ready."""

from __future__ import annotations

from typing import Literal, Protocol

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from orchestrator.config import Settings
from orchestrator.protocol.answers import HistoryItem, Message
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import Body
from orchestrator.server.fleet import Fleet
from orchestrator.server.guards import Guards
from orchestrator.server.http_prompts import (
    AUDIO,
    PARTS,
    SIGNED,
    admit,
    file_response,
    origin,
    prompt_file,
    speak_prompt,
)
from orchestrator.server.links import Links
from orchestrator.server.prompt_files import AudioName, PromptVoice
from orchestrator.server.store import StoreUnavailable
from orchestrator.server.summaries import Item, Job, Summaries, TooMany

LONGEST_CONVERSATION = 50_000


_NULL: JsonDict = {"type": "null"}


class Said(Body):
    role: Literal["user", "assistant"]
    text: str = Field(max_length=4000)


class SummaryItem(Body):
    """Either the summary's own words, or the conversation that the text agent is to sum up."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["text"], "properties": {"text": {"not": _NULL}, "conversation": _NULL}},
                {"required": ["conversation"], "properties": {"conversation": {"not": _NULL}, "text": _NULL}},
            ]
        }
    )

    id: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,100}$", description="Yours; none: its place in the list.")
    text: str | None = Field(None, min_length=1, max_length=2000)
    conversation: list[Said] | None = Field(None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one_of_them(self) -> SummaryItem:
        if (self.text is None) == (self.conversation is None):
            raise PydanticCustomError("summary", "expected either `text` or `conversation`")
        length = sum(len(said.text) for said in self.conversation or ())
        if length > LONGEST_CONVERSATION:
            problem = "expected a conversation of at most {most} characters, got {length}; send its end"
            raise PydanticCustomError("summary", problem, {"most": LONGEST_CONVERSATION, "length": length})
        return self


class SummariesBody(Body):
    items: list[SummaryItem] = Field(min_length=1)
    voice: str = Field("", max_length=100)
    language: str = Field("en", max_length=35)
    format: AudioName = "mp3"
    bucket: str | None = Field(None, description="The budget it is charged to; none: the default one.")


class SummaryAudio(BaseModel):
    url: str = Field(description="GET it; no key is needed.")
    expires_at: int = Field(description="Unix seconds. GET the job again for a new address.")
    format: AudioName
    seconds: float


class SummaryView(BaseModel):
    id: str
    status: Literal["pending", "ready", "failed"]
    text: str
    error: str | None
    audio: SummaryAudio | None = None


class SummariesView(BaseModel):
    id: str
    status: Literal["pending", "ready", "failed"] = Field(
        description="ready: all are done, and some are ready."
    )
    created: float = Field(description="Unix seconds.")
    items: list[SummaryView]


class Service(Protocol):
    @property
    def settings(self) -> Settings: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def prompts(self) -> PromptVoice | None: ...

    @property
    def links(self) -> Links: ...

    @property
    def summaries(self) -> Summaries: ...


def add_summaries(api: FastAPI, service: Service, guards: Guards) -> None:
    away = answers(503, "The shared store is away, or too much waits already.")

    @api.post(
        "/v1/summaries",
        tags=["summaries"],
        dependencies=guards.service,
        status_code=202,
        responses={**ERRORS, **away},
    )
    async def make_summaries(body: SummariesBody, request: Request) -> SummariesView:
        """Begins a batch of summaries; `summary.url` is told when they are ready."""
        items, histories = _items(body, service.settings.summary.batch_limit)
        job = service.summaries.new_job(
            items,
            form=body.format,
            voice=body.voice,
            language=body.language,
            bucket=body.bucket or service.settings.budget.default_bucket,
            origin=origin(request, service.settings),
        )
        try:
            await service.summaries.take(job, histories)
        except TooMany as error:
            raise ApiError(
                503, "overloaded", f"{error}; try again later", headers={"Retry-After": "30"}
            ) from None
        except StoreUnavailable:
            raise _store_away() from None
        return SummariesView.model_validate(service.summaries.view(job))

    @api.get(
        "/v1/summaries/{id}",
        tags=["summaries"],
        dependencies=guards.service,
        responses={**ERRORS, **answers(404, "There is no such batch, or not any more."), **away},
    )
    async def get_summaries(id: str) -> SummariesView:
        """How far a batch is, with fresh addresses of what is ready."""
        return SummariesView.model_validate(service.summaries.view(await _job(service, id)))

    async def hear(request: Request, id: str, item: str, format: AudioName | None = None) -> Response:
        headers = dict(request.headers)
        until = admit(service, guards, request.scope, headers)
        job = await _job(service, id)
        found = next((each for each in job.items if each.id == item), None)
        if found is None or found.status != "ready":
            raise ApiError(404, "summary_not_ready", f"there is no summary {item!r} that is ready", "item")
        asked = job.asked(found, format)
        spoken = await speak_prompt(service, asked, job.bucket)
        return file_response(prompt_file(request.method, headers, spoken, asked.form, until))

    for method in ("GET", "HEAD"):
        api.add_api_route(
            "/v1/summaries/{id}/{item}",
            hear,
            methods=[method],
            tags=["summaries"],
            response_class=Response,
            responses={
                **AUDIO,
                **PARTS,
                **ERRORS,
                **answers(404, "There is no such summary, or it is not ready."),
                **away,
            },
            openapi_extra={"security": SIGNED},
            include_in_schema=method == "GET",
            operation_id="get_summary_audio",
            summary="A summary as audio: with the API key, or at its signed address without it.",
        )


def _items(body: SummariesBody, limit: int) -> tuple[list[Item], dict[str, list[HistoryItem]]]:
    if len(body.items) > limit:
        message = f"items: expected at most {limit}, got {len(body.items)}; send them in several requests"
        raise ApiError(422, "invalid_request", message, "items")
    items: list[Item] = []
    histories: dict[str, list[HistoryItem]] = {}
    for place, given in enumerate(body.items):
        item = Item(given.id or str(place), text=given.text or "")
        if any(item.id == other.id for other in items):
            message = f"items.{place}.id: {item.id!r} is there twice; give each its own"
            raise ApiError(422, "duplicate_id", message, f"items.{place}.id")
        items.append(item)
        if given.conversation is not None:
            histories[item.id] = [Message(said.role, said.text) for said in given.conversation]
    return items, histories


async def _job(service: Service, id: str) -> Job:
    try:
        job = await service.summaries.find(id)
    except StoreUnavailable:
        raise _store_away() from None
    if job is None:
        message = f"there are no summaries {id!r}, or not any more; they are kept for summary.keep_s"
        raise ApiError(404, "unknown_summaries", message, "id")
    return job


def _store_away() -> ApiError:
    return ApiError(503, "store_away", "the shared store is away; try again shortly")
