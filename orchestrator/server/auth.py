"""Who a request is from: the bearer of a key, of a token or of a credential; without any, only this machine.

Everything here looks at memory alone, so that it can be asked on the event loop before anything else.

Browsers cannot set headers on a WebSocket; as with OpenAI itself they send the key as a subprotocol:
``realtime``, ``openai-insecure-api-key.<key>``.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from orchestrator.config import is_loopback
from orchestrator.server.identity import LOCAL, METRICS, ROOT, Identity
from orchestrator.server.keys import PREFIX as KEY_PREFIX
from orchestrator.server.keys import Fault, KeyRing, UnknownKey

REALTIME_SUBPROTOCOL = "realtime"
CREDENTIAL_PREFIX = "ek_"
FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")
"""Headers that only a proxy sends."""
_KEY_SUBPROTOCOL = "openai-insecure-api-key."
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody may not, as an HTTP status and an error in the API's shape."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None

    def body(self) -> dict[str, dict[str, str | None]]:
        kind = _KINDS.get(self.status, "server_error")
        return {"error": {"type": kind, "message": self.message, "code": self.code, "param": None}}

    def headers(self) -> dict[str, str]:
        found = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return found if self.retry_after_s is None else {**found, "Retry-After": str(self.retry_after_s)}


class Opener(Protocol):
    """What opens credentials that begin with ``ek_``."""

    def open(self, value: str, origin: str | None) -> Identity | Refusal: ...


class Verifier(Protocol):
    """What knows tokens of an identity provider."""

    def identify(self, token: str) -> Identity | Refusal: ...


class Keys(Protocol):
    """The keys as they were last seen. While not `known`, nobody has seen them yet."""

    @property
    def ring(self) -> KeyRing: ...

    @property
    def known(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class NoKeys:
    """There is no list of keys."""

    ring: KeyRing = field(default_factory=lambda: KeyRing(used=False))
    known: bool = True


class Auth:
    """`allowed_origins`: web origins whose pages may use a key in a browser; none given, all may.

    `metrics_key` opens what is for metrics, whatever becomes of the other keys; that there is one asks nobody for
    anything. `public`: never lets this machine in for nothing, since the server is to be reached from others. `wall`
    is Unix seconds.
    """

    def __init__(
        self,
        api_key: SecretStr | None,
        allowed_origins: Iterable[str] = (),
        *,
        keys: Keys | None = None,
        tokens: Verifier | None = None,
        credentials: Opener | None = None,
        metrics_key: SecretStr | None = None,
        public: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._root, self._metrics = _encoded(api_key), _encoded(metrics_key)
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)
        self._keys = keys or NoKeys()
        self._tokens = tokens
        self._credentials = credentials
        self._public = public
        self._wall = wall

    def identify(self, headers: Mapping[str, str], peer: str | None) -> Identity | Refusal:
        """Who sends a request. `headers` have lower-case names; `peer` is the remote address."""
        presented = presented_key(headers)
        if presented is not None and self._is_credential(presented) and self._credentials is not None:
            found = self._credentials.open(presented, headers.get("origin"))
            found = self._maker_ended(found) or found
        elif not self._asks:
            return _check_local(headers, peer) or LOCAL
        elif presented is None:
            found = _MISSING if self._surely_asks else _KEYS_UNKNOWN
        else:
            found = self._bearer(presented)
        if isinstance(found, Refusal):
            return found
        return self._check_origin(headers) or found

    @property
    def has_root(self) -> bool:
        """Whether there is a key that is known whatever happens to the others."""
        return self._root is not None

    @property
    def bolted(self) -> bool:
        """Whether nobody can come in: something is asked for that nobody has."""
        nobody = self._keys.known and not any(self._keys.ring)
        return self._asks and nobody and self._root is None and self._tokens is None

    @property
    def _asks(self) -> bool:
        """Whether something has to be presented. Where that is not known, it has."""
        return self._surely_asks or not self._keys.known

    @property
    def _surely_asks(self) -> bool:
        return self._public or self._root is not None or self._tokens is not None or self._keys.ring.used

    def _is_root(self, presented: str) -> bool:
        return self._root is not None and hmac.compare_digest(presented.encode(), self._root)

    def _is_metrics(self, presented: str) -> bool:
        return self._metrics is not None and hmac.compare_digest(presented.encode(), self._metrics)

    def _is_credential(self, presented: str) -> bool:
        """Some SDKs want every key in a browser to begin like one, so that the master key may do so too."""
        return (
            presented.startswith(CREDENTIAL_PREFIX)
            and not self._is_root(presented)
            and not self._is_metrics(presented)
        )

    def _maker_ended(self, found: Identity | Refusal) -> Refusal | None:
        """A credential ends with the key that made it: then there is a reason to let nobody in with it."""
        if isinstance(found, Refusal) or not found.id.startswith("key_"):
            return None
        if not self._keys.known:
            return _KEYS_UNKNOWN
        try:
            works = self._keys.ring[found.id].works(self._wall())
        except UnknownKey:
            works = False
        if works:
            return None
        message = "the key that this credential was made with was revoked or has expired; mint a new one with another"
        return Refusal(401, "credential_revoked", message)

    def _bearer(self, presented: str) -> Identity | Refusal:
        fault = Fault.UNKNOWN
        if presented.startswith(KEY_PREFIX):
            found = self._keys.ring.find(presented, self._wall())
            if isinstance(found, Identity):
                return found
            fault = found
        if self._is_root(presented):
            return ROOT
        if self._is_metrics(presented):
            return METRICS
        if fault is Fault.UNKNOWN and self._tokens is not None and presented.count(".") == 2:
            return self._tokens.identify(presented)
        if fault is Fault.UNKNOWN and not self._keys.known and presented.startswith(KEY_PREFIX):
            return _KEYS_UNKNOWN
        return Refusal(401, fault.value, _REMEDIES[fault])

    def _check_origin(self, headers: Mapping[str, str]) -> Refusal | None:
        origin = headers.get("origin")
        if origin is None or not self._allowed_origins:
            return None
        if origin.rstrip("/").lower() in self._allowed_origins:
            return None
        return Refusal(
            403,
            "origin_not_allowed",
            f"pages of {origin[:200]} may not use this server; add it to server.allowed_origins",
        )


_MISSING = Refusal(
    401,
    "missing_api_key",
    "no API key came with the request; send `Authorization: Bearer <key>`, or in a browser the subprotocols "
    "`realtime` and `openai-insecure-api-key.<key>`",
)
_KEYS_UNKNOWN = Refusal(
    503,
    "keys_unknown",
    "the keys could not be read yet, so nobody knows whether there are any and which one is right; try again in a "
    "moment, and see /readyz for what is missing",
    retry_after_s=1,
)
_REMEDIES = {
    Fault.UNKNOWN: "the API key is none of this server; send one that `orchestrator keys create` made, or the value "
    "of its server.api_key setting (ORCHESTRATOR_API_KEY), not a provider's key",
    Fault.REVOKED: "this key was revoked; ask for another one (`orchestrator keys create`)",
    Fault.EXPIRED: "this key has expired; ask for another one (`orchestrator keys create`)",
    Fault.ROTATED: "this key was replaced and its time is over; use the one that `orchestrator keys rotate` printed",
}


def _encoded(secret: SecretStr | None) -> bytes | None:
    return None if secret is None else secret.get_secret_value().encode()


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key that came with a request: the Authorization header, else the subprotocol; None is none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    for offered in _offered(headers):
        if offered.startswith(_KEY_SUBPROTOCOL):
            return offered.removeprefix(_KEY_SUBPROTOCOL)
    return None


def subprotocol(headers: Mapping[str, str]) -> str | None:
    """The one to answer an upgrade with: ``realtime`` where it was offered. Never one that holds a key."""
    return REALTIME_SUBPROTOCOL if REALTIME_SUBPROTOCOL in _offered(headers) else None


def _offered(headers: Mapping[str, str]) -> list[str]:
    return [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",") if part.strip()]


def _check_local(headers: Mapping[str, str], peer: str | None) -> Refusal | None:
    """Without a key: this machine, and neither a web page of elsewhere nor one that renamed itself to here."""
    if peer is None or not is_loopback(peer):
        return Refusal(
            403,
            "not_local",
            "without an API key only this machine may connect; make one with `orchestrator keys create`, or set "
            "server.api_key (ORCHESTRATOR_API_KEY), and send it as `Authorization: Bearer <key>`",
        )
    if any(name in headers for name in FORWARDED):
        # A proxy on this machine would let the whole world in. Headers of trusted ones are gone by now.
        return Refusal(
            403,
            "not_local",
            "without an API key only this machine may connect, and this came through a proxy; make a key with "
            "`orchestrator keys create`, and name the proxy in access.trusted_proxies",
        )
    origin = headers.get("origin")
    if origin is not None and not is_loopback(urlsplit(origin).hostname or ""):
        return Refusal(
            403,
            "origin_not_allowed",
            f"without an API key pages of {origin[:200]} may not connect; set server.api_key "
            "(ORCHESTRATOR_API_KEY) and server.allowed_origins",
        )
    host = headers.get("host")
    if host is not None and not is_loopback(urlsplit(f"//{host}").hostname or ""):
        return Refusal(
            403,
            "host_not_local",
            f"without an API key this server answers as localhost only, not as {host[:200]}; "
            "use http://127.0.0.1, or set server.api_key (ORCHESTRATOR_API_KEY)",
        )
    return None
