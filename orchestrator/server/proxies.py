"""What trusted proxies say of the request they pass on: whose it is, and which address it was sent to.

Anybody can send an X-Forwarded-For. It counts only where the connection itself comes from a proxy that the settings
name, and only as far back as the chain of such proxies goes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from orchestrator.server.auth import FORWARDED

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
_SPENT = frozenset({_FOR, _PROTO, _HOST, *(name.encode() for name in FORWARDED)})
_SECURE = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as its client made it. `headers` hold no word of proxies any more."""

    peer: str | None
    headers: Mapping[str, str]
    scheme: str | None
    """"http" or "https"; None where no proxy said."""


class Proxies:
    """`networks`: addresses of proxies, like 10.0.0.0/8."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str | None) -> bool:
        try:
            found = ipaddress.ip_address((address or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)

    def seen(self, headers: Mapping[str, str], peer: str | None) -> Seen:
        """`headers` have lower-case names."""
        if not self._networks or not self.trusts(peer):
            return Seen(peer, headers, None)
        kept = {name: value for name, value in headers.items() if name.encode() not in _SPENT}
        host = headers.get("x-forwarded-host", "").split(",")[-1].strip()
        if host:
            kept["host"] = host
        scheme = _SECURE.get(headers.get("x-forwarded-proto", "").split(",")[-1].strip().lower())
        return Seen(self._client(headers.get("x-forwarded-for", ""), peer), kept, scheme)

    def _client(self, chain: str, peer: str | None) -> str | None:
        """The last address that no trusted proxy stands for. What is before it the client may have made up."""
        client = peer
        for part in reversed(chain.split(",")):
            if not part.strip():
                continue
            client = _address(part.strip())
            if client is None or not self.trusts(client):
                break
        return client


class BehindProxies:
    """ASGI middleware, around all others: requests that came through trusted proxies look as they were made."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app, self._proxies = app, proxies

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client and self._proxies.trusts(client[0]):
            seen = self._proxies.seen(_text(scope["headers"]), client[0])
            raw = [(name, value) for name, value in scope["headers"] if name not in _SPENT]
            if seen.headers.get("host") is not None:
                host = seen.headers["host"].encode("latin-1")
                raw = [(name, value) for name, value in raw if name != b"host"] + [(b"host", host)]
            scope = {**scope, "headers": raw, "client": None if seen.peer is None else (seen.peer, 0)}
            if seen.scheme is not None:
                scope["scheme"] = seen.scheme
        await self._app(scope, receive, send)


def _text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers that stand there several times are one list."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _address(text: str) -> str | None:
    """An address as proxies write it: bare, with a port, or in brackets. None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
