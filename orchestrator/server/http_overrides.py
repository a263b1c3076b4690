"""Overrides over HTTP: `/v1/overrides`. Who made one is known from the key; what they typed stands beside it."""

from __future__ import annotations

import logging
from typing import Protocol

from fastapi import FastAPI, Request

from orchestrator.core.overrides import Override, OverrideError
from orchestrator.core.redaction import Redactor
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import ExtendBody, OverrideBody, Overrides, OverrideView
from orchestrator.server.audit import Audit
from orchestrator.server.fleet import Fleet
from orchestrator.server.guards import Guards, who

log = logging.getLogger(__name__)


class Service(Protocol):
    @property
    def fleet(self) -> Fleet: ...

    @property
    def audit(self) -> Audit: ...

    @property
    def redactor(self) -> Redactor: ...


def add_overrides(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/overrides", tags=["operations"], dependencies=guards.operator, responses=ERRORS)
    async def list_overrides() -> Overrides:
        """The overrides in force, the newest first."""
        return Overrides(overrides=[override_view(override) for override in service.fleet.overrides])

    @api.post(
        "/v1/overrides", tags=["operations"], dependencies=guards.operator, status_code=201, responses=ERRORS
    )
    async def force_tier(body: OverrideBody, request: Request) -> OverrideView:
        """Forces a tier or a rung on the calls of a scope, or limits them to what is no better or no worse, for a time.

        New calls and those in progress; with a `share`, some of those that begin from now on.
        """
        identity = who(request)
        try:
            override = service.fleet.force(
                tier=body.tier,
                scope=body.scope,
                duration=body.duration,
                reason=service.redactor.text(body.reason),
                who=identity.id,
                limit=body.limit,
                share=body.share,
                when=body.when,
                name=identity.name,
                typed=service.redactor.text(body.who),
            )
        except OverrideError as error:
            raise ApiError(422, "invalid_override", str(error), error.param) from None
        log.warning("%s made override %s: %s", override.by, override.id, override.reason)
        told = override.to_dict()
        details = {name: told[name] for name in ("tier", "rung", "limit", "scope", "share", "when", "typed")}
        service.audit.note(
            identity, "override.made", override.id, override.reason, **details, until=override.until
        )
        return override_view(override)

    _add_changes(api, service, guards)


def _add_changes(api: FastAPI, service: Service, guards: Guards) -> None:
    unknown = {**ERRORS, **answers(404, "There is no such override.")}

    @api.patch("/v1/overrides/{id}", tags=["operations"], dependencies=guards.operator, responses=unknown)
    async def extend_override(id: str, body: ExtendBody, request: Request) -> OverrideView:
        """Gives an override a new time to live, from now on; it may be a shorter one."""
        try:
            override = service.fleet.extend(id, body.duration)
        except OverrideError as error:
            raise ApiError(422, "invalid_override", str(error), error.param) from None
        if override is None:
            raise _unknown(service.fleet, id)
        log.warning("%s extended override %s by %s", who(request).name, id, body.duration)
        service.audit.note(
            who(request), "override.extended", id, body.reason, until=override.until, typed=body.who
        )
        return override_view(override)

    @api.delete(
        "/v1/overrides/{id}",
        tags=["operations"],
        dependencies=guards.operator,
        status_code=204,
        responses=unknown,
    )
    async def clear_override(id: str, request: Request) -> None:
        """Ends an override before its time."""
        if not service.fleet.clear(id):
            raise _unknown(service.fleet, id)
        log.warning("%s cleared override %s", who(request).name, id)
        service.audit.note(who(request), "override.cleared", id)


def _unknown(fleet: Fleet, id: str) -> ApiError:
    known = ", ".join(override.id for override in fleet.overrides) or "none"
    message = f"there is no override {id!r} in force; there are: {known}"
    return ApiError(404, "unknown_override", message, "id")


def override_view(override: Override) -> OverrideView:
    return OverrideView.model_validate(override.to_dict())
