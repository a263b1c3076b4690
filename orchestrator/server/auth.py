"""Who may use this server: the bearer of the API key, or, where none is set, only this machine.

Browsers cannot set headers on a WebSocket; as with OpenAI itself they send the key as a subprotocol:
``realtime``, ``openai-insecure-api-key.<key>``.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from orchestrator.config import is_loopback
from orchestrator.server.identity import LOCAL, ROOT, Identity

REALTIME_SUBPROTOCOL = "realtime"
_KEY_SUBPROTOCOL = "openai-insecure-api-key."


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody may not, as an HTTP status and an error in the API's shape."""

    status: int
    code: str
    message: str

    def body(self) -> dict[str, dict[str, str | None]]:
        kind = "authentication_error" if self.status == 401 else "permission_error"
        return {"error": {"type": kind, "message": self.message, "code": self.code, "param": None}}


class Auth:
    """`allowed_origins`: web origins whose pages may use the key in a browser; none given, all may."""

    def __init__(self, api_key: SecretStr | None, allowed_origins: Iterable[str] = ()) -> None:
        self._api_key = api_key
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    def identify(self, headers: Mapping[str, str], peer: str | None) -> Identity | Refusal:
        """Who sends a request. `headers` have lower-case names; `peer` is the remote address."""
        if self._api_key is None:
            return _check_local(headers, peer) or LOCAL
        return self._check_key(headers, self._api_key) or self._check_origin(headers) or ROOT

    def _check_key(self, headers: Mapping[str, str], api_key: SecretStr) -> Refusal | None:
        presented = presented_key(headers)
        if presented is None:
            return Refusal(
                401,
                "missing_api_key",
                "no API key came with the request; send `Authorization: Bearer <key>`, or in a browser the "
                "subprotocols `realtime` and `openai-insecure-api-key.<key>`",
            )
        if not hmac.compare_digest(presented.encode(), api_key.get_secret_value().encode()):
            return Refusal(
                401,
                "invalid_api_key",
                "the API key is not the one of this server; send the value of its server.api_key setting "
                "(ORCHESTRATOR_API_KEY), not a provider's key",
            )
        return None

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
            "without an API key only this machine may connect; set server.api_key (ORCHESTRATOR_API_KEY) "
            "and send it as `Authorization: Bearer <key>`",
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
