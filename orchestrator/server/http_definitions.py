"""The part of the HTTP API with which operators see prompts, define them, and take definitions back."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from fastapi import Body, FastAPI, Request
from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.audit import Audit
from orchestrator.server.definitions import Definitions, UnknownDefinition
from orchestrator.server.guards import Guards, who
from orchestrator.server.store import StoreUnavailable
from tiers.prompts.catalogue import CatalogueInvalid, Prompt


class PromptVariable(BaseModel):
    type: str
    expected: str
    """What to send, in words."""


class PromptAbout(BaseModel):
    """A prompt as it is in use."""

    name: str
    version: str
    description: str
    origin: Literal["built_in", "file", "api"]
    bridge: bool
    render: Literal["whole", "stitched"]
    voice: str
    speed: float
    cacheable: bool
    ttl_s: float | None
    text: dict[str, str]
    variables: dict[str, PromptVariable]


class PromptAbouts(BaseModel):
    prompts: list[PromptAbout]
    problem: str | None
    """Why the catalogue's file is not in use as it is now."""


class Service(Protocol):
    @property
    def definitions(self) -> Definitions: ...

    @property
    def audit(self) -> Audit: ...


class _AsTable:
    """Describes a body that is checked elsewhere: the catalogue's own errors say more."""

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        table = dict(handler.resolve_ref_schema(handler(Prompt.__pydantic_core_schema__)))
        table.pop("required")
        # A variable may be given in part, as everything here.
        told = "By name: its `type`, and its limits, as in a catalogue file."
        variables = {"type": "object", "additionalProperties": {"type": "object"}, "description": told}
        table["properties"] = {**table["properties"], "variables": variables}
        told = "What a catalogue file has under its name."
        example = {"text": {"en": "Your parcel is here.", "de": "Ihr Paket ist da."}}
        return table | {"title": "PromptTable", "description": told, "examples": [example]}


_STORE = answers(503, "The shared store is away: nothing can be defined.")


def add_definitions(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/prompts", tags=["prompts"], dependencies=guards.service_or_operator, responses=ERRORS)
    async def list_prompts() -> PromptAbouts:
        """All prompts, with what their variables take."""
        found = service.definitions.prompts()
        about = [_about(name, prompt, origin) for name, (prompt, origin) in found.items()]
        return PromptAbouts(prompts=about, problem=service.definitions.problem or None)

    @api.put(
        "/v1/prompts/{name}",
        tags=["prompts"],
        dependencies=guards.operator,
        responses={**ERRORS, **_STORE},
    )
    async def define_prompt(
        name: str, table: Annotated[dict[str, Any], _AsTable, Body()], request: Request
    ) -> PromptAbout:
        """Defines a prompt, or changes one, for all replicas: the body is what a catalogue file has under its name.

        What it does not give stays as the file or the built-in catalogue has it. A fixed prompt is rendered before this
        answers.
        """
        try:
            prompt = await service.definitions.put(name, table)
        except CatalogueInvalid as error:
            raise ApiError(422, "invalid_prompt", f"{error}; correct that") from None
        except StoreUnavailable:
            raise _away() from None
        service.audit.note(who(request), "prompt.defined", name, version=prompt.version)
        return _about(name, prompt, "api")

    @api.delete(
        "/v1/prompts/{name}",
        tags=["prompts"],
        dependencies=guards.operator,
        status_code=204,
        responses={**ERRORS, **answers(404, "Nothing was defined by API under this name."), **_STORE},
    )
    async def delete_prompt(name: str, request: Request) -> None:
        """Takes back what was defined by API; a prompt of the file or a built-in one is as it was before."""
        try:
            await service.definitions.delete(name)
        except UnknownDefinition:
            known = [key for key, (_, origin) in service.definitions.prompts().items() if origin == "api"]
            raise ApiError(
                404,
                "unknown_definition",
                f"nothing was defined by API under {name!r}; there are: {', '.join(known) or 'none'}",
                "name",
            ) from None
        except CatalogueInvalid as error:
            raise ApiError(422, "invalid_prompt", f"{error}; correct that") from None
        except StoreUnavailable:
            raise _away() from None
        service.audit.note(who(request), "prompt.taken_back", name)


def _away() -> ApiError:
    return ApiError(
        503, "store_away", "the shared store is away, so nothing can be defined; try again shortly"
    )


def _about(name: str, prompt: Prompt, origin: str) -> PromptAbout:
    language = next(iter(prompt.text))
    variables = {
        key: PromptVariable(type=kind.type, expected=kind.expected(language))
        for key, kind in prompt.variables.items()
    }
    given = prompt.model_dump(exclude={"variables"})
    return PromptAbout.model_validate({"name": name, "origin": origin, "variables": variables, **given})
