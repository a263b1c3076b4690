"""Who may begin which call: a service's wish becomes a grant, or is refused by the name of what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.config import Settings
from orchestrator.core.budget import CallBudget
from orchestrator.core.explaining import Explanation
from orchestrator.core.grants import Grant
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import nanodollars
from orchestrator.core.routing import RouteRequest
from orchestrator.core.tools import Toolset
from orchestrator.protocol.session import Session
from orchestrator.protocol.wire import Event
from orchestrator.server.api_errors import ApiError
from orchestrator.server.calls import new_call_id
from orchestrator.server.credentials import Credentials, CredentialTooLarge
from orchestrator.server.direct import Direct, SecretRefused, not_enforced
from orchestrator.server.events import EventLog
from orchestrator.server.fleet import Fleet
from orchestrator.server.identity import Identity
from orchestrator.server.session_checks import OURS, checked_session, effective_session
from orchestrator.server.session_models import NotEnforced, SessionBody

POLICY = ("instructions", "tools", "model", "prompt")
"""Fields of a session that say what a call is about: its client cannot change those that its service set."""


class Tools(Protocol):
    def toolset(self, purpose: str, bucket: str) -> Toolset:
        """What calls of that purpose and bucket may use."""
        ...


@dataclass(frozen=True, slots=True)
class Minted:
    """A credential, and the call that it opens. `url`: where a provider's own secret is used; None for ours."""

    value: str
    expires_at: int
    grant: Grant
    found: Explanation
    session: Event
    """As the client will see it."""
    url: str | None = None
    not_enforced: Sequence[NotEnforced] = ()


class Broker:
    """Not thread-safe: everything runs on the event loop. `wall` is Unix seconds."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        tools: Tools,
        credentials: Credentials,
        direct: Direct,
        events: EventLog,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._tools = tools
        self._credentials = credentials
        self._direct = direct
        self._events = events
        self._wall = wall

    async def mint(self, body: SessionBody, asker: Identity) -> Minted:
        """A credential for `asker`'s client. Raises `ApiError`: 422, 403 and 409 for direct media, 502 to 504."""
        if body.media == "direct" and not self._settings.credentials.direct:
            raise ApiError(
                403,
                "direct_not_allowed",
                'this server gives nobody a provider\'s own secret; use media "through", or have its operator set '
                "credentials.direct",
                "media",
            )
        self._check_origin(body.origin)
        grant = self._grant(body, asker)
        session = effective_session(grant, self._wall())
        found = self._place(grant, frozenset())
        seconds = body.expires_after.seconds if body.expires_after else None
        expires_at = int(self._wall()) + (seconds or self._settings.credentials.ttl_s)
        if body.media == "direct":
            return await self._mint_direct(grant, session, found, expires_at, asker)
        try:
            value = self._credentials.mint(grant, body.origin, expires_at, by=asker.id, name=asker.name)
        except CredentialTooLarge as error:
            raise ApiError(422, "credential_too_large", str(error), "session") from None
        minted = Minted(value, expires_at, grant, found, _shown(session, grant, found))
        self._record(minted, asker, "through")
        return minted

    # --- what is wished for ---

    def _grant(self, body: SessionBody, asker: Identity) -> Grant:
        fields = checked_session(body.session or {})
        bucket = self._bucket(body.bucket)
        given = {name for name in POLICY if name in fields}
        if body.allowed_tools is not None:
            given.add("tools")
        locked = frozenset(given if body.lock is None else body.lock)
        self._check_tools(body, bucket, fields, open_to_client="tools" not in locked)
        return Grant(
            call_id=new_call_id(),
            user=asker.user if body.user is None else body.user,
            purpose=body.purpose,
            bucket=bucket,
            model=fields.get("model") or self._settings.realtime(self._settings.tier_a.rungs[0]).model,
            tools=None if body.allowed_tools is None else tuple(dict.fromkeys(body.allowed_tools)),
            session={name: value for name, value in fields.items() if name not in OURS},
            locked=locked,
            cap=None if body.cap_usd is None else nanodollars(body.cap_usd),
            max_s=body.max_s,
            recording_consent=body.recording_consent,
        )

    def _check_origin(self, origin: str | None) -> None:
        allowed = [known.rstrip("/").lower() for known in self._settings.server.allowed_origins]
        if origin is not None and allowed and origin not in allowed:
            message = (
                f"origin: pages of {origin} may not use this server, which lets in {', '.join(allowed)}; name one of "
                "them, or add yours to server.allowed_origins"
            )
            raise ApiError(422, "origin_not_allowed", message, "origin")

    def _bucket(self, named: str | None) -> str:
        budget = self._settings.budget
        bucket = budget.default_bucket if named is None else named
        known = list(dict.fromkeys((budget.default_bucket, *budget.buckets)))
        if bucket not in known:
            message = f"bucket: there is no bucket {bucket!r}; there are {', '.join(known)}. Name one of them"
            raise ApiError(
                422, "unknown_bucket", f"{message}, or add it to the settings (budget.buckets)", "bucket"
            )
        return bucket

    def _check_tools(self, body: SessionBody, bucket: str, fields: Event, *, open_to_client: bool) -> None:
        toolset = self._tools.toolset(body.purpose, bucket)
        brought = [str(tool.get("name") or tool.get("server_label")) for tool in fields.get("tools") or []]
        barred = [name for name in brought if name not in toolset.tools and not toolset.allows(name)]
        if barred:
            allowed = ", ".join(sorted(toolset.client_tools or ())) or "none"
            message = (
                f"session.tools: the settings let clients bring {allowed}, and not {', '.join(barred)}; leave that "
                "out, or name it in tool_policy.client_tools"
            )
            raise ApiError(422, "tool_not_allowed", message, "session.tools")
        if body.allowed_tools is None:
            return
        left_out = [name for name in brought if name not in body.allowed_tools]
        if left_out:
            names = ", ".join(left_out)
            message = f"session.tools has {names}, which allowed_tools leaves out; add it there, or remove it"
            raise ApiError(422, "tool_not_allowed", message, "allowed_tools")
        unknown = [name for name in body.allowed_tools if name not in toolset.tools and name not in brought]
        if open_to_client:
            unknown = [name for name in unknown if not toolset.allows(name)]
        if unknown:
            there = ", ".join([*toolset.tools, *brought]) or "none"
            message = (
                f"allowed_tools: calls of the purpose {body.purpose!r} on the bucket {bucket!r} have no "
                f"{', '.join(unknown)}; they have {there}. Name those, or give your own functions in session.tools"
            )
            raise ApiError(422, "unknown_tool", message, "allowed_tools")

    # --- where it would go ---

    def _place(self, grant: Grant, excluded: frozenset[str]) -> Explanation:
        usual = self._settings.budget.cap_of_call(grant.bucket)
        cap = usual if grant.cap is None else min(usual, grant.cap)
        request = RouteRequest(
            grant.call_id, grant.user, grant.purpose, "websocket", grant.bucket, grant.tools or ()
        )
        found = self._fleet.explain(request, CallBudget(cap), excluded)
        if not found.decision.usable:
            why = " ".join(told.sentence for told in found.candidates)
            message = f"no tier is ready to take a call. {why} /readyz says what is missing"
            raise ApiError(503, "nothing_ready", message)
        return found

    async def _mint_direct(
        self, grant: Grant, session: Session, found: Explanation, expires_at: int, asker: Identity
    ) -> Minted:
        """The first rung of Tier A that gives a secret; those that fail are told so."""
        failed: set[str] = set()
        refusal: SecretRefused | None = None
        while found.decision.tier is Tier.A:
            rung = found.decision.rung
            seconds = max(1, expires_at - int(self._wall()))
            try:
                secret = await self._direct.mint(rung, grant, session, seconds)
            except SecretRefused as error:
                if not error.elsewhere:
                    raise ApiError(error.status, error.code, str(error), "session") from None
                if error.cause is not None:
                    self._fleet.failed(rung, error.cause)
                refusal = error
                failed.add(rung)
                found = self._place(grant, frozenset(failed))
                continue
            minted = Minted(
                secret.value,
                secret.expires_at,
                grant,
                found,
                secret.session,
                secret.url,
                self._not_enforced(grant, secret.expires_at),
            )
            self._record(minted, asker, "direct")
            return minted
        if refusal is not None:
            raise ApiError(refusal.status, refusal.code, str(refusal))
        message = (
            f"direct media needs a provider, and this call would get Tier {found.decision.tier}: "
            f'{found.sentence} Ask for media "through"'
        )
        raise ApiError(409, "no_provider", message, "media")

    def _not_enforced(self, grant: Grant, expires_at: int) -> Sequence[NotEnforced]:
        toolset = self._tools.toolset(grant.purpose, grant.bucket)
        wanted = tuple(name for name in toolset.tools if grant.tools is None or name in grant.tools)
        return not_enforced(grant, self._settings, wanted, expires_at)

    def _record(self, minted: Minted, asker: Identity, media: str) -> None:
        grant, decision = minted.grant, minted.found.decision
        self._events.add(
            "session_minted",
            tier=decision.tier.value,
            call_id=grant.call_id,
            rung=decision.rung,
            reason=decision.reason.value,
            by=asker.id,
            user=grant.user,
            bucket=grant.bucket,
            purpose=grant.purpose,
            media=media,
            expires_at=minted.expires_at,
        )


def _shown(session: Session, grant: Grant, found: Explanation) -> Event:
    decision = found.decision
    told = {
        "call_id": grant.call_id,
        "tier": decision.tier.value,
        "rung": decision.rung,
        "reason": decision.reason.value,
    }
    return session.describe(told)
