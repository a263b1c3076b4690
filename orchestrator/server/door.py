"""All that decides who may come in, and how often: keys, tokens, credentials, limits, trusted proxies, TLS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.config import Settings, is_loopback
from orchestrator.server.auth import Auth, Opener, Refusal
from orchestrator.server.identity import Identity
from orchestrator.server.key_store import KeyWatch, key_store
from orchestrator.server.proxies import Proxies, Seen
from orchestrator.server.rate_limits import RateLimits
from orchestrator.server.store import Store
from orchestrator.server.tls import Certificate
from orchestrator.server.tokens import UNKNOWN_KEY, Tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part of the door that does not do its work. While it is `closed`, whoever it is for cannot come in."""

    part: str
    detail: str
    closed: bool


class Door:
    """Everything but `start`, `look_again` and `close` is memory only. `credentials` open what begins with ``ek_``."""

    def __init__(
        self, settings: Settings, store: Store | None = None, credentials: Opener | None = None
    ) -> None:
        access, server = settings.access, settings.server
        self.proxies = Proxies(access.trusted_proxies)
        self.limits = RateLimits(access)
        self.tokens = Tokens(access) if access.jwt_issuer is not None else None
        self.keys = KeyWatch(key_store(settings, store))
        self.auth = Auth(
            server.api_key,
            server.allowed_origins,
            keys=self.keys,
            tokens=self.tokens,
            credentials=credentials,
            metrics_key=access.metrics_key,
            # Behind a proxy everybody comes from where the proxy is.
            public=not is_loopback(server.host) or bool(self.proxies),
        )
        self.certificate: Certificate | None = None
        if server.tls_certificate is not None and server.tls_key is not None:
            self.certificate = Certificate(server.tls_certificate, server.tls_key)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Looks at keys before anybody is asked for one, and goes on looking."""
        await self.keys.refresh()
        if self.auth.bolted:
            log.warning(
                "nobody can come in yet: there is no key; make one with `orchestrator keys create`, or set "
                "server.api_key (ORCHESTRATOR_API_KEY)"
            )
        self._tasks = [asyncio.create_task(self.keys.watch(), name="keys")]
        if self.tokens is not None:
            self._tasks.append(asyncio.create_task(self.tokens.keys.watch(), name="token keys"))
        if self.certificate is not None:
            self._tasks.append(asyncio.create_task(self.certificate.watch(), name="certificate"))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def identify(self, headers: Mapping[str, str], peer: str | None) -> tuple[Identity | Refusal, Seen]:
        """Who asks on a connection from `peer`, and what the request is without words of proxies."""
        seen = self.proxies.seen(headers, peer)
        return self.auth.identify(seen.headers, seen.peer), seen

    async def look_again(self, refusal: Refusal) -> bool:
        """Whether something has been learned since, so that asking again may have another answer."""
        if self.tokens is None or refusal.code not in (UNKNOWN_KEY, "token_keys_away"):
            return False
        return await self.tokens.keys.refreshed()

    def troubles(self) -> Sequence[Trouble]:
        found = []
        if self.keys.problem or not self.keys.known:
            detail = self.keys.problem or "not read yet"
            found.append(Trouble("keys", detail, not self.keys.known and not self.auth.has_root))
        if self.tokens is not None and self.tokens.keys.problem:
            found.append(Trouble("token_keys", self.tokens.keys.problem, False))
        return found
