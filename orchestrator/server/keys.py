"""API keys: how one is made, rotated, revoked and recognised. Nothing here does I/O; times are Unix seconds.

A key is written ``vo_<id>_<secret>``. Its id is no secret: it stands in lists, records and logs. Of the secret only a
SHA-256 is kept. That is enough because the secret is 256 random bits: nobody can try them all, however quick the hash
is. Slow hashes (bcrypt, argon2) are for passwords, which people choose, and one at each request would hold calls up.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from orchestrator.server.identity import Identity, Scope

PREFIX = "vo_"
FORGET_AFTER_S = 30 * 86_400.0
"""How long a key that works no more is still listed, and its bearer told why."""
LONGEST_NAME = 60
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
_VERSION = 1


class KeysInvalid(ValueError):
    """What is kept cannot be read as keys, or a key cannot be made as asked; says what to do."""


class UnknownKey(LookupError):
    """There is no key of that id; says which there are."""


class Fault(StrEnum):
    """Why a key that was presented opens nothing."""

    UNKNOWN = "invalid_api_key"
    REVOKED = "key_revoked"
    EXPIRED = "key_expired"
    ROTATED = "key_rotated"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`digest` is the hash of its secret; `old_digest` of the one before, which works until `old_until`."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created: float
    digest: str
    expires: float | None = None
    rotated: float | None = None
    old_digest: str | None = None
    old_until: float | None = None
    revoked: float | None = None

    def works(self, now: float) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)

    def state(self, now: float) -> str:
        """In one word: active, rotating, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        if not self.works(now):
            return "expired"
        return "rotating" if self.old_until is not None and now < self.old_until else "active"

    def told(self, now: float) -> dict[str, Any]:
        """What people and their programs may see of it."""
        shown = asdict(self)
        del shown["digest"], shown["old_digest"]
        return {**shown, "scopes": [str(scope) for scope in self.scopes], "state": self.state(now)}


def new_key(
    name: str, scopes: Collection[Scope], now: float, expires: float | None = None
) -> tuple[ApiKey, str]:
    """A key, and what its bearer presents, which can never be shown again. Raises `KeysInvalid`."""
    name = name.strip()
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise KeysInvalid(f"expected a name of 1 to {LONGEST_NAME} characters, got {name[:80]!r}")
    if not scopes:
        raise KeysInvalid(f"a key without a scope opens nothing; give one or more of {', '.join(Scope)}")
    id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    ordered = tuple(scope for scope in Scope if scope in scopes)
    return ApiKey(id, name, ordered, now, digest_of(secret), expires), f"{PREFIX}{id}_{secret}"


def rotated(key: ApiKey, now: float, overlap_s: float) -> tuple[ApiKey, str]:
    """The key with another secret, and what its bearer presents; the one before works for `overlap_s` still."""
    if not key.works(now):
        raise KeysInvalid(f"the key {key.id} is {key.state(now)}; make a new one")
    secret = secrets.token_urlsafe(32)
    again = replace(
        key, digest=digest_of(secret), rotated=now, old_digest=key.digest, old_until=now + overlap_s
    )
    return again, f"{PREFIX}{key.id}_{secret}"


def revoked(key: ApiKey, now: float) -> ApiKey:
    """The key as it opens nothing any more."""
    return key if key.revoked is not None else replace(key, revoked=now)


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The keys at one moment. `used`: there is a list of keys, though it may be empty by now."""

    def __init__(self, keys: Iterable[ApiKey] = (), *, used: bool = True) -> None:
        self._keys = {key.id: key for key in keys}
        self._who = {
            key.id: Identity(f"key_{key.id}", key.name, frozenset(key.scopes)) for key in self._keys.values()
        }
        self.used = used

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys.values())

    def __getitem__(self, id: str) -> ApiKey:
        id = id.removeprefix("key_").removeprefix(PREFIX).partition("_")[0]
        if id not in self._keys:
            known = ", ".join(sorted(self._keys)) or "none"
            raise UnknownKey(f"there is no key {id[:40]!r}; there are: {known}")
        return self._keys[id]

    def find(self, presented: str, now: float) -> Identity | Fault:
        """Who presents this, or why it opens nothing."""
        _, _, rest = presented.partition("_")
        id, _, secret = rest.partition("_")
        key = self._keys.get(id)
        if key is None:
            return Fault.UNKNOWN
        digest = digest_of(secret)
        current = hmac.compare_digest(digest, key.digest)
        # Both are compared in any case: how long it takes must not tell which of them it was.
        before = hmac.compare_digest(digest, key.old_digest or "")
        if not current and not before:
            return Fault.UNKNOWN
        if key.revoked is not None:
            return Fault.REVOKED
        if not key.works(now):
            return Fault.EXPIRED
        if not current and now >= (key.old_until or 0.0):
            return Fault.ROTATED
        return self._who[key.id]

    def with_key(self, key: ApiKey, now: float) -> KeyRing:
        """These keys and this one, or it instead of the one of its id; without those that ended long ago."""
        kept = [k for k in (*(k for k in self if k.id != key.id), key) if not _long_gone(k, now)]
        return KeyRing(kept)

    def to_json(self) -> str:
        # What was written is told from all that was ever written before, also where keys are the same.
        told = {"version": _VERSION, "revision": secrets.token_hex(8), "keys": [asdict(key) for key in self]}
        return json.dumps(told, indent=1)

    @classmethod
    def from_json(cls, text: str | None) -> KeyRing:
        """None is a list that was never made. Raises `KeysInvalid`, which shows nothing of the text."""
        if text is None:
            return cls(used=False)
        try:
            told = json.loads(text)
            if told["version"] != _VERSION:
                raise KeysInvalid(f"they were written by another version ({str(told['version'])[:20]})")
            return cls([_parse(fields) for fields in told["keys"]])
        except KeysInvalid:
            raise
        except (ValueError, TypeError, KeyError, AttributeError):
            raise KeysInvalid("it is not a list of keys as `orchestrator keys` writes it") from None


def _parse(fields: dict[str, Any]) -> ApiKey:
    key = ApiKey(**{**fields, "scopes": tuple(Scope(name) for name in fields["scopes"])})
    if not all(isinstance(text, str) for text in (key.id, key.name, key.digest)):
        raise TypeError("an id, a name and a digest are text")
    return key


def _long_gone(key: ApiKey, now: float) -> bool:
    ended = key.revoked if key.revoked is not None else key.expires
    return ended is not None and ended + FORGET_AFTER_S < now
