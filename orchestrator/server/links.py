"""Signed short-lived addresses: whoever holds one may fetch it without a key until it expires.

They are for those who fetch audio and cannot send a header, as telephone platforms do. The signature is an HMAC
over path and query, so that nothing in an address can be changed; only reading (GET and HEAD) is ever signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import SecretStr

EXPIRES, SIGNATURE = "expires", "signature"
_LABEL = b"orchestrator-link-1\n"
"""What a signature is of stands in what is signed: the same secret signs other things elsewhere."""


class LinkInvalid(Exception):
    """An address that opens nothing; the text says why, `code` in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Link:
    """`target` is path and query, to be put behind an origin; `expires_at` in Unix seconds."""

    target: str
    expires_at: int


class Links:
    """`ttl_s`: how long an address works. Without a secret one is made up: its addresses die with the process."""

    def __init__(self, secret: SecretStr | None, ttl_s: float, wall: Callable[[], float] = time.time) -> None:
        self.ttl_s = ttl_s
        self._key = secret.get_secret_value().encode() if secret else secrets.token_bytes(32)
        self._wall = wall

    def make(self, path: str, query: Mapping[str, str], ttl_s: float | None = None) -> Link:
        """`path` is not yet percent-encoded. An address lives for `ttl_s` if that is less than what is usual."""
        life = self.ttl_s if ttl_s is None else min(ttl_s, self.ttl_s)
        expires_at = int(self._wall() + life)
        told = {**query, EXPIRES: str(expires_at)}
        told[SIGNATURE] = self._sign(path, told)
        return Link(f"{quote(path)}?{urlencode(told, quote_via=quote)}", expires_at)

    def check(self, path: str, query: str) -> int:
        """When the address expires. `path` is decoded, `query` as it came. Raises `LinkInvalid`."""
        pairs = parse_qsl(query, keep_blank_values=True)
        told = dict(pairs)
        signature = told.pop(SIGNATURE, "")
        expires = told.get(EXPIRES, "")
        altered = LinkInvalid(
            "link_invalid",
            "this is not an address that was signed here; ask for a new one, and change nothing",
        )
        if len(told) + 1 != len(pairs) or not expires.isascii() or not expires.isdigit():
            raise altered
        if not hmac.compare_digest(self._sign(path, told).encode(), signature.encode()):
            raise altered
        if int(expires) <= self._wall():
            raise LinkInvalid("link_expired", "this address has expired; ask for a new one")
        return int(expires)

    def _sign(self, path: str, told: Mapping[str, str]) -> str:
        query = urlencode(sorted(told.items()), quote_via=quote)
        digest = hmac.new(self._key, _LABEL + f"{path}?{query}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_signed(query: bytes) -> bool:
    """Whether a query may be that of a signed address."""
    return SIGNATURE.encode() + b"=" in query
