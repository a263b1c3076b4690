"""Who may use which path: what the paths of the HTTP API depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import Scope as AsgiScope

from orchestrator.server.api_errors import Refused
from orchestrator.server.auth import Refusal
from orchestrator.server.door import Door
from orchestrator.server.identity import Identity, Scope

_BEARER = HTTPBearer(auto_error=False, description="A key; not needed on this machine where none is set.")


class Guards:
    """Dependencies of paths: for those who have the scope, or one of the two. `metrics` is for operators too."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.service = self._paths_for(Scope.SERVICE)
        self.operator = self._paths_for(Scope.OPERATOR)
        self.metrics = self._paths_for(Scope.OPERATOR, Scope.METRICS)
        self.service_or_operator = self._paths_for(Scope.SERVICE, Scope.OPERATOR)

    def admit(self, scope: AsgiScope, headers: Mapping[str, str], *scopes: Scope) -> Identity:
        """Who asks. Raises `Refused` for a request of nobody known, of one who may do none of `scopes`, of too many.

        Whoever asks again about the same request gets the same answer: it is counted once.
        """
        state = scope.setdefault("state", {})
        found = state.get("identity")
        if found is None:
            peer = scope.get("client")
            # Words of trusted proxies are out of the headers already: see `proxies.BehindProxies`.
            found = self._door.auth.identify(headers, peer[0] if peer else None)
            _raise(found if isinstance(found, Refusal) else self._door.limits.request(found))
            state["identity"] = found
        _raise(lacking(found, *scopes))
        assert isinstance(found, Identity)
        return found

    def _paths_for(self, *scopes: Scope) -> list[Any]:
        async def authorised(request: Request) -> None:
            headers = dict(request.headers)
            try:
                self.admit(request.scope, headers, *scopes)
            except Refused as error:
                if not await self._door.look_again(error.refusal):
                    raise
                self.admit(request.scope, headers, *scopes)

        return [Depends(authorised), Depends(_BEARER)]


def _raise(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise Refused(refusal)


def who(request: Request) -> Identity:
    """Who asks, on a path that is guarded."""
    found = request.state.identity
    assert isinstance(found, Identity)
    return found


def lacking(identity: Identity, *scopes: Scope) -> Refusal | None:
    """Why somebody known may not do what wants one of `scopes`; None where it may."""
    if identity.may(*scopes):
        return None
    if identity.grant is not None:
        message = "this credential opens one call at /v1/realtime and nothing else; use a key"
        return Refusal(403, "credential_for_one_call", message)
    wanted = " or ".join(scopes)
    has = ", ".join(sorted(identity.scopes)) or "none"
    message = (
        f"this wants a key with the scope {wanted}, and that of {identity.name} has {has}; use another key"
    )
    return Refusal(403, "scope_missing", message)
