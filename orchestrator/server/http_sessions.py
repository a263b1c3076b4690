"""The session broker over HTTP: `POST /realtime/session`, and OpenAI's own `POST /v1/realtime/client_secrets`.

Both make a credential for one call. The first takes all of a call's limits, the second what stock SDKs send.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response

from orchestrator.config import Settings
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import Connect
from orchestrator.server.broker import Broker, Minted
from orchestrator.server.guards import Guards, who
from orchestrator.server.session_models import SecretAnswer, SecretBody, SessionAnswer, SessionBody

SECRETS_PATH = "/v1/realtime/client_secrets"
_SECRET_RESPONSES = {
    **{status: answer for status, answer in ERRORS.items() if status != 422},
    **answers(400, "The request is not as it should be; the message says what was expected."),
    **answers(503, "No tier is ready to take a call."),
}
_RESPONSES = {
    **ERRORS,
    **answers(409, "Direct media, and the call would not get a provider."),
    **answers(502, "Direct media, and no provider gave a secret."),
    **answers(
        503, "No tier is ready to take a call, or, with direct media, the provider asks for fewer requests."
    ),
    **answers(504, "Direct media, and the provider gave no secret in time."),
}


class Service(Protocol):
    @property
    def settings(self) -> Settings: ...

    @property
    def broker(self) -> Broker: ...


def add_sessions(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.post(
        "/v1/realtime/session",
        tags=["sessions"],
        dependencies=guards.service,
        responses=_RESPONSES,
        operation_id="create_session_v1",
    )
    @api.post(
        "/realtime/session",
        tags=["sessions"],
        dependencies=guards.service,
        responses=_RESPONSES,
    )
    async def create_session(body: SessionBody, request: Request, response: Response) -> SessionAnswer:
        """A credential that opens one call, bound to all that is said here, and where to use it.

        The call is routed when it begins; `tier` and `rung` are those that it would get now.
        """
        minted = await service.broker.mint(body, who(request))
        response.headers["Cache-Control"] = "no-store"
        decision = minted.found.decision
        return SessionAnswer(
            value=minted.value,
            expires_at=minted.expires_at,
            session=minted.session,
            call_id=minted.grant.call_id,
            tier=decision.tier.value,
            rung=decision.rung,
            reason=decision.reason.value,
            decided_by=decision.decided_by.value,
            sentence=minted.found.sentence,
            media=body.media,
            connect=_connect(minted, request, service.settings),
            not_enforced=list(minted.not_enforced),
        )

    @api.post(
        SECRETS_PATH,
        tags=["sessions"],
        dependencies=guards.service,
        responses=_SECRET_RESPONSES,
    )
    async def create_client_secret(
        request: Request, response: Response, body: SecretBody | None = None
    ) -> SecretAnswer:
        """A credential that opens one call, for SDKs that mint OpenAI's client secrets.

        Unlike OpenAI's it opens one call and no more, and what `session` says of instructions, tools, model and
        prompt the client cannot change.
        """
        asked = body or SecretBody(session=None)
        try:
            minted = await service.broker.mint(SessionBody(**asked.model_dump()), who(request))
        except ApiError as error:
            if error.status != 422:
                raise
            raise ApiError(400, error.code, str(error), error.param) from None
        response.headers["Cache-Control"] = "no-store"
        return SecretAnswer(value=minted.value, expires_at=minted.expires_at, session=minted.session)


def _connect(minted: Minted, request: Request, settings: Settings) -> Connect:
    """The credential holds all that the call is; the address names it, so that a mix-up is noticed."""
    url = minted.url
    if url is None:
        base = (settings.links.public_url or str(request.base_url)).rstrip("/").replace("http", "ws", 1)
        told = {"model": minted.grant.model or "", "call_id": minted.grant.call_id}
        url = f"{base}/v1/realtime?{urlencode(told)}"
    return Connect(kind="realtime", method="GET", url=url)
