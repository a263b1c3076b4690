"""Credentials (``ek_…``) that open one call each: sealed here, opened from memory, used once in the whole fleet.

A credential is its grant, encrypted: whoever carries it can neither read nor change what it holds. Every replica
that has the same secret can open it, and the shared store says whether its call was opened before.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from orchestrator.core.grants import Grant
from orchestrator.server.auth import Refusal
from orchestrator.server.identity import Identity
from orchestrator.server.store import Store, StoreUnavailable

PREFIX = "ek_"
LONGEST = 6_000
"""Characters of a credential: it travels in a header, and proxies take 8 KB of those."""
_LABEL = b"orchestrator-credential-1"
"""What the key is for stands in the key and in what is sealed: the same secret does other things elsewhere."""
_NONCE_BYTES = 12


class CredentialTooLarge(ValueError):
    """What the credential would have to hold does not fit into a header."""


class Use(Enum):
    """What came of using a credential."""

    FIRST = "first"
    FIRST_HERE = "first_here"
    """The store is away: it was not used at this replica, which is all that can be told."""
    USED = "used"
    """Its call was opened before."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a credential holds. `expires_at` in Unix seconds; `by` and `name` are who it was made for."""

    grant: Grant
    origin: str | None
    expires_at: int
    by: str
    name: str


class Credentials:
    """`shared` is whether other replicas, and this process started anew, open them too: without a secret they do not.

    `wall` is Unix seconds.
    """

    def __init__(self, secret: SecretStr | None, store: Store, wall: Callable[[], float] = time.time) -> None:
        self.shared = secret is not None
        made = secret.get_secret_value().encode() if secret else secrets.token_bytes(32)
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=_LABEL).derive(made))
        self._store = store
        self._wall = wall
        self._spent: set[str] = set()
        """Calls that were opened here, for as long as their credentials would work."""
        self._forget: list[tuple[float, str]] = []

    def mint(self, grant: Grant, origin: str | None, expires_at: int, *, by: str = "", name: str = "") -> str:
        """A credential for the call of `grant`. Raises `CredentialTooLarge`.

        `origin`: the one web origin that it may be used from; None for any, and for what is no browser.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        held = _pack(Sealed(grant, origin, expires_at, by, name))
        sealed = nonce + self._cipher.encrypt(nonce, zlib.compress(held, 9), _LABEL)
        value = PREFIX + _encode(sealed)
        if len(value) > LONGEST:
            raise CredentialTooLarge(
                f"the session's fields make a credential of {len(value)} characters, and {LONGEST} is the most that "
                "fits into a header; shorten the instructions or the descriptions of tools, or keep the tools on "
                "the server (`tools` in its settings) and name them in allowed_tools"
            )
        return value

    def open(self, value: str, origin: str | None) -> Identity | Refusal:
        """Whose call a credential opens; memory only. `origin` is the request's, None where it has none.

        Whether it was used before `spend` tells.
        """
        sealed = self._unseal(value)
        if sealed is None:
            return Refusal(
                401,
                "credential_invalid",
                "this credential was changed on its way, or was not made with the secret of this server "
                "(credentials.secret; without one, credentials end with the process that made them); mint a new one",
            )
        if sealed.expires_at <= self._wall():
            ago = int(self._wall()) - sealed.expires_at
            message = f"this credential expired {ago} s ago; mint a new one just before the call"
            return Refusal(401, "credential_expired", message)
        if sealed.origin is not None and (origin or "").rstrip("/").lower() != sealed.origin:
            came = f"from {origin[:200]}" if origin else "without an Origin header"
            remedy = "one for there" if origin else "one without `origin` for a client that is no page"
            message = f"this credential is for pages of {sealed.origin}, and it came {came}; mint {remedy}"
            return Refusal(403, "origin_not_allowed", message)
        return Identity(
            sealed.by or sealed.grant.call_id,
            sealed.name or "a credential",
            grant=sealed.grant,
            origin=sealed.origin,
            expires_at=sealed.expires_at,
        )

    async def spend(self, call_id: str, expires_at: float) -> Use:
        """Opens a call, which works once. To be asked after `open`, before anything is done for the call."""
        now = self._wall()
        while self._forget and self._forget[0][0] <= now:
            self._spent.discard(heapq.heappop(self._forget)[1])
        if call_id in self._spent:
            return Use.USED
        self._spent.add(call_id)
        heapq.heappush(self._forget, (expires_at, call_id))
        mine = secrets.token_hex(8)
        try:
            held = await self._store.put_if(f"credential:{call_id}", None, mine, max(1.0, expires_at - now))
        except StoreUnavailable:
            return Use.FIRST_HERE
        return Use.FIRST if held == mine else Use.USED

    def known_used(self, call_id: str) -> bool:
        """Whether a credential is known here to be used, so that trying it again is no call of its maker's."""
        return call_id in self._spent

    def _unseal(self, value: str) -> Sealed | None:
        sealed = _decode(value.removeprefix(PREFIX))
        if sealed is None or not value.startswith(PREFIX) or len(sealed) <= _NONCE_BYTES:
            return None
        try:
            held = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _LABEL)
        except InvalidTag:
            return None
        return _unpack(zlib.decompress(held))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    """None for anything but what `_encode` makes: of one credential there is one spelling."""
    if len(text) > LONGEST or not text.isascii():
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return data if _encode(data) == text else None


def _pack(sealed: Sealed) -> bytes:
    grant = sealed.grant
    told: dict[str, Any] = {
        "call_id": grant.call_id,
        "user": grant.user,
        "purpose": grant.purpose,
        "bucket": grant.bucket,
        "model": grant.model,
        "tools": None if grant.tools is None else list(grant.tools),
        "session": dict(grant.session),
        "locked": sorted(grant.locked),
        "cap": grant.cap,
        "max_s": grant.max_s,
        "recording_consent": grant.recording_consent,
        "origin": sealed.origin,
        "expires_at": sealed.expires_at,
        "by": sealed.by,
        "name": sealed.name,
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _unpack(held: bytes) -> Sealed:
    told = json.loads(held)
    tools = told["tools"]
    grant = Grant(
        call_id=told["call_id"],
        user=told["user"],
        purpose=told["purpose"],
        bucket=told["bucket"],
        model=told["model"],
        tools=None if tools is None else tuple(tools),
        session=told["session"],
        locked=frozenset(told["locked"]),
        cap=told["cap"],
        max_s=told["max_s"],
        recording_consent=told.get("recording_consent", False),
    )
    return Sealed(grant, told["origin"], told["expires_at"], told["by"], told["name"])
