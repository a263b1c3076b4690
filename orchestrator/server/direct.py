"""Direct media: a provider's own client secret for one session, and what nobody here can enforce in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchestrator.config import Settings
from orchestrator.core.grants import Grant
from orchestrator.core.health import Cause
from orchestrator.core.provider import TERMINAL_CODES
from orchestrator.protocol.session import Session, upstream_update
from orchestrator.protocol.wire import Event
from orchestrator.server.calls import cause_of
from orchestrator.server.session_models import NotEnforced
from tiers.realtime.link import Loss, LossKind

_INSTEAD = 'try again, or ask for media "through"'


@dataclass(frozen=True, slots=True)
class Secret:
    """What a provider gave: `session` as it says it will begin, `url` of the WebSocket that the secret opens."""

    value: str = field(repr=False)
    expires_at: int
    session: Event
    url: str


class SecretRefused(Exception):
    """A provider gave no secret; the text says which, why, and what to do.

    `cause` is what that says of its rung, None where it says nothing; `elsewhere` whether another rung may give one.
    """

    def __init__(
        self, status: int, code: str, message: str, cause: Cause | None = None, *, elsewhere: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.cause = cause
        self.elsewhere = elsewhere


class Direct:
    """Asks providers for client secrets, with the rungs' own keys, which stay here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def mint(self, rung: str, grant: Grant, session: Session, seconds: int) -> Secret:
        """A secret of `rung` that may begin sessions for `seconds`. Raises `SecretRefused`."""
        target = self._settings.realtime(rung)
        key = target.api_key.get_secret_value() if target.api_key else ""
        body = {
            "expires_after": {"anchor": "created_at", "seconds": seconds},
            "session": self._session(grant, session, target.model),
        }
        try:
            async with asyncio.timeout(self._settings.credentials.direct_timeout_s):
                answer = await self._open_client().post(
                    f"{target.base_url}/realtime/client_secrets",
                    json=body,
                    headers=self._settings.provider_headers(rung),
                )
        except (TimeoutError, httpx.TimeoutException):
            message = f"the provider of {rung} gave no secret in time; {_INSTEAD}"
            raise SecretRefused(504, "provider_timeout", message, Cause.CONNECT_TIMEOUT) from None
        except httpx.HTTPError as error:
            message = f"the provider of {rung} cannot be reached ({type(error).__name__}); {_INSTEAD}"
            raise SecretRefused(502, "provider_unreachable", message, Cause.REFUSED) from None
        if not answer.is_success:
            raise _refused(rung, answer, key)
        return _secret(rung, answer, self._settings.realtime_url(rung))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _session(self, grant: Grant, session: Session, model: str) -> Event:
        """The grant as far as a provider can be told of it: a beginning, which the client may change."""
        wanted = upstream_update(
            session,
            dict(grant.session),
            # Its client sees all that the provider sends: nothing is asked for behind its back.
            transcription_model=None,
            max_output_tokens=self._settings.tier_a.max_output_tokens,
        )
        if grant.tools is not None and "tools" in wanted:
            wanted["tools"] = [tool for tool in wanted["tools"] or [] if tool.get("name") in grant.tools]
        return {**wanted, "model": model}

    def _open_client(self) -> httpx.AsyncClient:
        """Made when it is first needed: it takes 40 ms."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=None, trust_env=False, follow_redirects=False)
        return self._client


def _refused(rung: str, answer: httpx.Response, key: str) -> SecretRefused:
    """What a provider's error means for whoever asked. Its own words are passed on where they are about the session."""
    code, text = _error_of(answer)
    status = answer.status_code
    if code in TERMINAL_CODES or status in (401, 403):
        cause = TERMINAL_CODES.get(code, Cause.BAD_KEY)
        known = {
            Cause.BAD_KEY: ("provider_refused_key", "does not take the key of this server"),
            Cause.NO_CREDIT: ("provider_no_credit", "has no credit left on the account of this server"),
        }
        found, what = known.get(cause, ("provider_model_not_found", "does not have the model of this rung"))
        return SecretRefused(
            502, found, f"the provider of {rung} {what}; its operator has to see to that", cause
        )
    if status == 429:
        message = f"the provider of {rung} asks for fewer requests; try again later"
        return SecretRefused(503, "provider_rate_limited", message, Cause.RATE_LIMITED)
    if status == 400:
        said = text.replace(key, "[key]") if key else text
        message = (
            f"the provider of {rung} does not take this session: {said[:300]} Correct that and ask again"
        )
        return SecretRefused(422, "provider_refused_session", message, elsewhere=False)
    if status in (404, 405):
        message = f'the provider of {rung} makes no client secrets; ask for media "through"'
        return SecretRefused(502, "provider_has_no_secrets", message)
    message = f"the provider of {rung} failed (HTTP {status}); {_INSTEAD}"
    return SecretRefused(502, "provider_failed", message, cause_of(Loss(LossKind.HTTP, status, code)))


def _error_of(answer: httpx.Response) -> tuple[str, str]:
    """Code and message of an error in OpenAI's shape; nothing where it has another one."""
    try:
        error = answer.json()["error"]
        return str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""


def _secret(rung: str, answer: httpx.Response, url: str) -> Secret:
    try:
        told: Any = answer.json()
        value, expires_at, session = told["value"], told["expires_at"], told["session"]
        if isinstance(value, str) and value and isinstance(session, dict):
            return Secret(value, int(expires_at), session, url)
    except (ValueError, LookupError, TypeError):
        pass
    message = f"the provider of {rung} answered with something that is no client secret; {_INSTEAD}"
    raise SecretRefused(502, "provider_answer_invalid", message)


def not_enforced(
    grant: Grant, settings: Settings, server_tools: tuple[str, ...], expires_at: int
) -> list[NotEnforced]:
    """What nobody here can hold a client to, and save it from, once it talks to the provider itself."""
    found = _lost(grant, server_tools, expires_at)
    hooks = [name for name in ("heard", "said", "called") if getattr(settings.guardrails, name) is not None]
    if hooks:
        found["guardrails"] = f"The guardrails ({', '.join(hooks)}) are not asked about anything in it."
    return [NotEnforced(what=what, sentence=sentence) for what, sentence in found.items()]


def _lost(grant: Grant, server_tools: tuple[str, ...], expires_at: int) -> dict[str, str]:
    locked = ", ".join(sorted(grant.locked)) or "nothing"
    left_out = f" Tools of this server ({', '.join(server_tools)}) are not in it." if server_tools else ""
    return {
        "session": "The client can change the whole session with session.update: what is locked "
        f"({locked}) is only how it begins.",
        "tools": "Tools run at the client, which may declare any: nothing is read back, confirmed, approved or kept "
        f"from running twice.{left_out}",
        "budget": f"What the call costs is not counted on the bucket {grant.bucket!r}, and no cap stops it: it stands "
        "on the provider's bill alone.",
        "duration": "Nobody here ends the call: only the provider does, at its own limit (60 minutes at OpenAI).",
        "fallback": "If the provider fails, so does the call: there is no Tier B, no Tier C, no bridge.",
        "single_use": f"The secret opens any number of sessions until it expires (Unix seconds: {expires_at}), for "
        "whoever holds it and from any web origin.",
        "operators": "Overrides do not move the call; status, events and summaries know nothing of it.",
    }
