"""Bearers of an identity provider's tokens (JWT), where `access.jwt_issuer` names one.

Only signatures with a public key are looked at: with a shared secret whoever can check tokens can make them as well.
Public keys come from a file, or from the provider's key set, which a task fetches; knowing a token asks memory alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from orchestrator.access_sections import Access
from orchestrator.config import is_loopback
from orchestrator.server.auth import Refusal
from orchestrator.server.identity import Identity, Scope

log = logging.getLogger(__name__)

FETCH_EVERY_S = 300.0
"""Providers publish a new key long before they sign with it."""
FETCH_AGAIN_S = 5.0
"""The soonest that an unknown key makes the set be fetched again: anybody can name an unknown key."""
FETCH_TIMEOUT_S = 5.0
LONGEST_SET = 1 << 20
"""Bytes of a key set."""
LONGEST_TOKEN = 8_192
REMEMBERED = 10_000
TRUSTED_FOR_S = 60.0
"""How long a token is not checked anew that was found right: a signature costs as much as ten prompts."""
UNKNOWN_KEY = "token_unknown_key"
_MISFIT = "it is not signed in a way that fits its issuer's key"


class Tokens:
    """`wall` is Unix seconds; where it is not the machine's own clock, expiry is still that of the machine."""

    def __init__(self, access: Access, wall: Callable[[], float] = time.time) -> None:
        assert access.jwt_issuer is not None
        assert access.jwt_audience
        self._access = access
        self._issuer = access.jwt_issuer
        self._wall = wall
        self._right: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        """Tokens that were found right, by their hash: who, and until when that is believed."""
        self.keys: KeySet | FileKey = (
            FileKey(access.jwt_key_path)
            if access.jwt_key_path is not None
            else KeySet(str(access.jwt_jwks_url), on_change=self._right.clear)
        )

    def identify(self, token: str) -> Identity | Refusal:
        """Whom a token names, or what is wrong with it; no part of it is shown."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._right.get(digest)
        now = self._wall()
        if known is not None and now < known[1]:
            return known[0]
        self._right.pop(digest, None)
        if len(token) > LONGEST_TOKEN:
            return _refusal("token_invalid", f"a token has at most {LONGEST_TOKEN} characters")
        try:
            claims = self._claims(token)
        except jwt.PyJWTError as error:
            return self._fault(error)
        except (TypeError, ValueError, RecursionError):
            return _refusal("token_invalid", _MISFIT)
        if isinstance(claims, Refusal):
            return claims
        found = self._identity(claims)
        until = min(now + TRUSTED_FOR_S, float(claims["exp"]) + self._access.jwt_leeway_s)
        self._right[digest] = found, until
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return found

    def _claims(self, token: str) -> dict[str, Any] | Refusal:
        access = self._access
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in access.jwt_algorithms:
            usable = ", ".join(access.jwt_algorithms)
            return _refusal("token_invalid", f"it is not signed with one of {usable} (access.jwt_algorithms)")
        key = self.keys.find(header.get("kid"))
        if isinstance(key, Refusal):
            return key
        options: Any = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}
        return jwt.decode(
            token,
            key,
            algorithms=list(access.jwt_algorithms),
            audience=list(access.jwt_audience),
            issuer=self._issuer,
            leeway=access.jwt_leeway_s,
            options=options,
        )

    def _fault(self, error: jwt.PyJWTError) -> Refusal:
        # No text of the library's: it may hold parts of the token.
        match error:
            case jwt.ExpiredSignatureError():
                return _refusal("token_expired", "it has expired; get a new one from its issuer")
            case jwt.ImmatureSignatureError():
                return _refusal(
                    "token_not_yet_valid", "it is not valid yet; compare the clocks of both machines"
                )
            case jwt.InvalidAudienceError():
                wanted = ", ".join(self._access.jwt_audience)
                return _refusal(
                    "token_wrong_audience", f"it is for somebody else; ask for one with the audience {wanted}"
                )
            case jwt.InvalidIssuerError():
                return _refusal("token_wrong_issuer", f"it is not from {self._issuer} (access.jwt_issuer)")
            case jwt.MissingRequiredClaimError():
                return _refusal(
                    "token_invalid", f"it has no {error.claim}; a token needs exp, iss, aud and sub"
                )
            case jwt.InvalidAlgorithmError() | jwt.InvalidKeyError():
                return _refusal("token_invalid", _MISFIT)
            case jwt.InvalidSignatureError():
                return _refusal("token_invalid", "its signature is not its issuer's")
        return _refusal("token_invalid", "it is not a token as its issuer makes them (JWT, signed)")

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = str(claims["sub"])
        scopes = _scopes(_claim(claims, self._access.jwt_scope_claim), self._access.jwt_scopes)
        return Identity(f"jwt:{self._issuer}|{subject}", subject, scopes, user=subject)


class FileKey:
    """One public key out of a file, for all tokens."""

    problem = ""

    def __init__(self, path: Path) -> None:
        self._key = public_key(path)

    def find(self, key_id: object) -> Any:
        return self._key

    async def refreshed(self) -> bool:
        return False

    async def watch(self) -> None:
        """It stays as it was when the server started."""


class KeySet:
    """A provider's public keys by their ids, as they were last fetched. `on_change` is called when others come."""

    def __init__(
        self,
        url: str,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._on_change = on_change
        self._clock = clock
        self._text = b""
        self._keys: dict[str | None, Any] = {}
        self._fetched_at: float | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self.problem = "not fetched yet"
        """Why the last attempt failed; "" is that it did not."""

    def find(self, key_id: object) -> Any:
        """The key of an id; a set that holds one alone needs none. Else a refusal, and the set is fetched anew."""
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        found = self._keys.get(key_id) if isinstance(key_id, str) else None
        if found is not None:
            return found
        self._wanted.set()
        if not self._keys:
            return Refusal(
                503,
                "token_keys_away",
                "the issuer's keys could not be fetched yet, so no token can be checked; try again in a moment, and "
                "see /readyz for what is wrong",
                retry_after_s=1,
            )
        return Refusal(
            401,
            UNKNOWN_KEY,
            "the token is signed with a key that its issuer did not publish; get a new one, or try again in "
            f"{FETCH_AGAIN_S:g} s if the issuer has just changed its keys",
        )

    async def refreshed(self) -> bool:
        """After an unknown key: fetches the set if that may be done by now. True if it was."""
        if self._under_way is None:
            if self._fetched_at is not None and self._clock() - self._fetched_at < FETCH_AGAIN_S:
                return False
            self._under_way = asyncio.create_task(self._fetch(), name="key set")
        # Whoever gives up waiting does not stop the others.
        await asyncio.shield(self._under_way)
        return True

    async def watch(self) -> None:
        """Until cancelled: fetches the set at once, then now and then, and soon where a key was unknown."""
        while True:
            await self.refreshed()
            self._wanted.clear()
            await asyncio.sleep(FETCH_AGAIN_S)
            if self.problem:
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), FETCH_EVERY_S)

    async def _fetch(self) -> None:
        try:
            self._take(await _get(self._url))
            problem = ""
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = f"{self._url} did not answer as it should ({type(error).__name__})"
        except (ValueError, TypeError, AttributeError, jwt.PyJWTError):
            problem = f"{self._url} gave no set of public keys"
        finally:
            self._fetched_at, self._under_way = self._clock(), None
        if problem and problem != self.problem:
            log.warning("the key set cannot be fetched, going on with the last one: %s", problem)
        self.problem = problem

    def _take(self, text: bytes) -> None:
        if text == self._text:
            return
        keys: dict[str | None, Any] = {}
        for given in orjson.loads(text)["keys"]:
            if given.get("kty") in ("RSA", "EC", "OKP") and given.get("use", "sig") == "sig":
                try:
                    key = jwt.PyJWK(given)
                except jwt.PyJWTError:
                    continue  # one that is of no use here does not make the others so
                # Without an algorithm of its own it may be used with all that fit its kind.
                keys[given.get("kid")] = key if "alg" in given else key.key
        if not keys:
            raise ValueError("no key")
        self._text, self._keys = text, keys
        self._on_change()


async def _get(url: str) -> bytes:
    """At most `LONGEST_SET` bytes, in at most `FETCH_TIMEOUT_S`. Raises HTTPError or ValueError."""
    # A proxy of the environment is the way out of here, and not to here.
    elsewhere = not is_loopback(urlsplit(url).hostname or "")
    try:
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, trust_env=elsewhere) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
        ):
            answer.raise_for_status()
            held = b""
            async for chunk in answer.aiter_bytes():
                held += chunk
                if len(held) > LONGEST_SET:
                    raise ValueError("too long")
            return held
    except TimeoutError:
        raise httpx.ReadTimeout("too slow") from None


def public_key(path: Path) -> Any:
    """A public key out of a PEM file, or that of a certificate. Raises ValueError or OSError; shows no key."""
    data = path.read_bytes()
    if b"PRIVATE KEY" in data:
        raise ValueError("it holds a private key; put the public one there (`openssl pkey -pubout`)")
    try:
        if b"BEGIN CERTIFICATE" in data:
            return load_pem_x509_certificate(data).public_key()
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("expected a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None


def _refusal(code: str, why: str) -> Refusal:
    return Refusal(401, code, f"the token cannot be used: {why}")


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """``scope``, or ``realm_access.roles`` for what is inside. A name with dots in it is looked for first."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _scopes(value: Any, names: Mapping[str, str]) -> frozenset[Scope]:
    """Of what a claim holds, a list or words with spaces between, what means something here."""
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    known = names or {str(scope): str(scope) for scope in Scope}
    return frozenset(Scope(known[word]) for word in words if isinstance(word, str) and word in known)
