"""Tokens of an identity provider: real signatures, a real key set over loopback HTTP, each failure its own code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from orchestrator.access_sections import Access
from orchestrator.server import tokens
from orchestrator.server.auth import Refusal
from orchestrator.server.identity import Identity, Scope
from orchestrator.server.tokens import KeySet, Tokens, public_key
from tests.certificates import make_pair
from tests.server.fleets import until

ISSUER, AUDIENCE = "https://id.example/", "voice"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def published(id: str, key: Any, alg: str | None) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    found: dict[str, Any] = {**kind.to_jwk(key.public_key(), as_dict=True), "kid": id, "use": "sig"}
    return found if alg is None else {**found, "alg": alg}


BOTH = [published("r1", RSA, "RS256"), published("e1", EC, None)]


def token(key: Any = EC, id: str | None = "e1", alg: str = "ES256", **claims: Any) -> str:
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-42",
        "exp": now + 600,
        "iat": now,
        "scope": "service",
    }
    told = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(told, key, alg, {} if id is None else {"kid": id})


class Issuer:
    """An HTTP server on loopback that publishes a key set, or anything else."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = list(BOTH)
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = orjson.dumps({"keys": self.keys}) if self.body is None else self.body
        head = f"HTTP/1.1 {self.status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    async with server:
        yield issuer


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as each:
        yield each


def settings(issuer: Issuer | None = None, **fields: Any) -> Access:
    told = {"jwt_issuer": ISSUER, "jwt_audience": (AUDIENCE,), **fields}
    return Access(**told if issuer is None else {"jwt_jwks_url": issuer.url, **told})


@pytest.fixture
async def known(issuer: Issuer) -> Tokens:
    found = Tokens(settings(issuer))
    assert await found.keys.refreshed()
    return found


def refused(found: Identity | Refusal, status: int, code: str) -> str:
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (status, code), found
    return found.message


@pytest.mark.parametrize(("key", "id", "alg"), [(RSA, "r1", "RS256"), (EC, "e1", "ES256")])
async def test_a_token_names_its_bearer_and_what_they_may(known: Tokens, key: Any, id: str, alg: str) -> None:
    found = known.identify(token(key, id, alg, scope="openid service metrics"))
    assert found == Identity(
        f"jwt:{ISSUER}|user-42", "user-42", frozenset({Scope.SERVICE, Scope.METRICS}), user="user-42"
    )


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"exp": int(time.time()) - 60}, "token_expired", "get a new one"),
        ({"nbf": int(time.time()) + 600}, "token_not_yet_valid", "compare the clocks"),
        ({"iat": int(time.time()) + 600}, "token_not_yet_valid", "compare the clocks"),
        ({"aud": "billing"}, "token_wrong_audience", "the audience voice"),
        ({"aud": ["billing", "mail"]}, "token_wrong_audience", "the audience voice"),
        ({"iss": "https://id.example"}, "token_wrong_issuer", ISSUER),
        ({"exp": None}, "token_invalid", "it has no exp"),
        ({"aud": None}, "token_invalid", "it has no aud"),
        ({"iss": None}, "token_invalid", "it has no iss"),
        ({"sub": None}, "token_invalid", "it has no sub"),
        ({"key": OTHER}, "token_invalid", "signature is not its issuer's"),
        ({"id": "r1"}, "token_invalid", "fits its issuer's key"),
        ({"id": "e2"}, "token_unknown_key", "did not publish"),
        ({"id": None}, "token_unknown_key", "did not publish"),
        ({"key": RSA, "id": "r1", "alg": "PS256"}, "token_invalid", "not signed with one of RS256, ES256"),
    ],
)
async def test_each_failure_has_its_code(
    known: Tokens, change: Mapping[str, Any], code: str, says: str
) -> None:
    presented = token(**change)
    message = refused(known.identify(presented), 401, code)
    assert says in message
    assert not any(part in message for part in presented.split("."))
    assert "user-42" not in message


async def test_nobody_signs_with_what_everybody_knows(known: Tokens) -> None:
    claims = jwt.decode(token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, "none", {"kid": "e1"})  # type: ignore[arg-type]
    refused(known.identify(unsigned), 401, "token_invalid")
    head, _, rest = unsigned.partition(".")
    mac = jwt.encode(claims, "the public key, say, as every one knows it", "HS256", {"kid": "r1"})
    refused(known.identify(mac), 401, "token_invalid")
    for text in ("a.b.c", "..", f"{head}.{head}.{head}", "é.é.é", f"{head}.{rest}", "x" * 9000 + ".y.z"):
        refused(known.identify(text), 401, "token_invalid")


async def test_a_key_is_used_only_as_its_issuer_says(issuer: Issuer) -> None:
    issuer.keys = [
        published("r1", RSA, "RS256"),
        {**published("e1", EC, None), "use": "enc"},
        {"kty": "oct", "kid": "o1", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken"},
        published("r2", RSA, None),
    ]
    found = Tokens(settings(issuer, jwt_algorithms=("RS256", "PS256", "ES256")))
    await found.keys.refreshed()
    assert found.keys.problem == ""
    assert isinstance(found.identify(token(RSA, "r1", "RS256")), Identity)
    assert isinstance(found.identify(token(RSA, "r2", "PS256")), Identity)
    refused(found.identify(token(RSA, "r1", "PS256")), 401, "token_invalid")
    refused(found.identify(token(EC, "e1")), 401, "token_unknown_key")
    refused(found.identify(token(RSA, "broken", "RS256")), 401, "token_unknown_key")


async def test_a_set_of_one_key_needs_no_ids(issuer: Issuer) -> None:
    issuer.keys = [published("e1", EC, None)]
    found = Tokens(settings(issuer))
    await found.keys.refreshed()
    assert isinstance(found.identify(token(id=None)), Identity)


@pytest.mark.parametrize("size", [1024])
async def test_a_key_that_is_too_short_is_not_trusted(issuer: Issuer, size: int) -> None:
    weak = rsa.generate_private_key(65537, size)
    issuer.keys = [published("w", weak, "RS256")]
    found = Tokens(settings(issuer))
    await found.keys.refreshed()
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        presented = token(weak, "w", "RS256")
    refused(found.identify(presented), 401, "token_invalid")


async def test_clocks_may_differ_a_little(issuer: Issuer) -> None:
    just, long_ago = token(exp=int(time.time()) - 20), token(exp=int(time.time()) - 40)
    found = Tokens(settings(issuer))
    await found.keys.refreshed()
    assert isinstance(found.identify(just), Identity)
    refused(found.identify(long_ago), 401, "token_expired")


async def test_a_token_that_was_found_right_is_not_checked_anew_and_expires_all_the_same(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    found = Tokens(settings(issuer, jwt_leeway_s=0), lambda: now)
    await found.keys.refreshed()
    presented = token(exp=int(now) + 5)
    first = found.identify(presented)
    with monkeypatch.context() as patch:
        patch.setattr(jwt, "decode", None)
        assert found.identify(presented) is first
        now = int(now) + 5
        with pytest.raises(TypeError):
            jwt.decode("")  # type: ignore[misc]
        refused(found.identify(presented), 401, "token_invalid")  # it was checked anew, which fails here


async def test_what_is_remembered_ends_with_the_keys_that_signed_it(issuer: Issuer, known: Tokens) -> None:
    presented = token()
    assert isinstance(known.identify(presented), Identity)
    issuer.keys = [published("e2", OTHER, None)]
    assert isinstance(known.keys, KeySet)
    known.keys._clock = lambda: time.monotonic() + tokens.FETCH_AGAIN_S
    assert await known.keys.refreshed()
    refused(known.identify(presented), 401, "token_unknown_key")
    assert isinstance(known.identify(token(OTHER, "e2")), Identity)


async def test_what_is_remembered_is_bounded(known: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 3)
    for n in range(5):
        assert isinstance(known.identify(token(sub=f"user-{n}")), Identity)
    assert len(known._right) == 3


async def test_an_unknown_key_makes_the_set_be_fetched_but_not_at_every_request(issuer: Issuer) -> None:
    now = 100.0
    keys = KeySet(issuer.url, clock=lambda: now)
    assert await keys.refreshed()
    for _ in range(20):
        assert isinstance(keys.find("e2"), Refusal)
        assert not await keys.refreshed()
    assert issuer.asked == 1
    issuer.keys = [*BOTH, published("e2", OTHER, None)]
    now += tokens.FETCH_AGAIN_S
    assert all(await asyncio.gather(*(keys.refreshed() for _ in range(20))))
    assert issuer.asked == 2
    assert not isinstance(keys.find("e2"), Refusal)


async def test_whoever_gives_up_waiting_does_not_stop_the_others(issuer: Issuer) -> None:
    keys = KeySet(issuer.url)
    first, second = (asyncio.create_task(keys.refreshed()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert keys.problem == ""


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"status": 500}, "did not answer as it should"),
        ({"body": b"<html>"}, "gave no set of public keys"),
        ({"body": b"[]"}, "gave no set of public keys"),
        ({"body": b'{"keys": []}'}, "gave no set of public keys"),
        ({"body": b'{"keys": ["x"]}'}, "gave no set of public keys"),
        ({"body": b" " * (tokens.LONGEST_SET + 1)}, "gave no set of public keys"),
    ],
)
async def test_without_a_usable_set_the_last_one_holds(
    issuer: Issuer, fault: dict[str, Any], says: str
) -> None:
    now = 100.0
    keys = KeySet(issuer.url, clock=lambda: now)
    before = {name: getattr(issuer, name) for name in fault}
    vars(issuer).update(fault)
    await keys.refreshed()
    assert says in keys.problem
    refusal = keys.find("e1")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "token_keys_away", 1)
    vars(issuer).update(before)
    now += tokens.FETCH_AGAIN_S
    await keys.refreshed()
    assert keys.problem == ""
    vars(issuer).update(fault)
    now += tokens.FETCH_AGAIN_S
    await keys.refreshed()
    assert says in keys.problem
    assert not isinstance(keys.find("e1"), Refusal)


async def test_the_watch_fetches_at_once_and_again_when_a_key_is_unknown(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "FETCH_AGAIN_S", 0.01)
    keys = KeySet(issuer.url)
    task = asyncio.create_task(keys.watch())
    await until(lambda: not isinstance(keys.find("e1"), Refusal))
    issuer.keys = [published("e2", OTHER, None)]
    await until(lambda: not isinstance(keys.find("e2"), Refusal))
    task.cancel()


async def test_the_key_may_be_in_a_file(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    private = pair.key.read_bytes()
    for path in (pair.public, pair.certificate):
        found = Tokens(settings(jwt_key_path=path))
        assert isinstance(found.identify(token(private, None)), Identity)
        refused(found.identify(token(OTHER, None)), 401, "token_invalid")
        refused(found.identify(token(RSA, None, "RS256")), 401, "token_invalid")
    with pytest.raises(ValueError, match="it holds a private key"):
        public_key(pair.key)
    pair.public.write_text("hunter2")
    with pytest.raises(ValueError, match=r"expected a public key in PEM \(-----BEGIN PUBLIC KEY-----\)$"):
        public_key(pair.public)


async def test_edwards_curves_too(issuer: Issuer) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    jwk = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    issuer.keys = [{**jwk, "kid": "d1"}]
    found = Tokens(settings(issuer, jwt_algorithms=("EdDSA",)))
    await found.keys.refreshed()
    assert isinstance(found.identify(token(key, "d1", "EdDSA")), Identity)


@pytest.mark.parametrize(
    ("claim", "names", "claims", "scopes"),
    [
        ("scope", {}, {"scope": "service operator"}, {Scope.SERVICE, Scope.OPERATOR}),
        ("scope", {}, {"scope": ["metrics", 7, None]}, {Scope.METRICS}),
        ("scope", {}, {"scope": None}, set()),
        ("scope", {}, {"scope": {"service": True}}, set()),
        ("scope", {}, {"scope": "SERVICE admin"}, set()),
        ("roles", {"voice-admin": "operator", "caller": "service"}, {"roles": ["caller"]}, {Scope.SERVICE}),
        ("roles", {"caller": "service"}, {"roles": ["service"]}, set()),
        ("realm.roles", {}, {"realm": {"roles": ["service"]}}, {Scope.SERVICE}),
        ("https://a.example/roles", {}, {"https://a.example/roles": ["service"]}, {Scope.SERVICE}),
        ("realm.roles", {}, {"realm": "service"}, set()),
    ],
)
async def test_what_a_bearer_may_do_is_in_a_claim(
    issuer: Issuer, claim: str, names: dict[str, str], claims: dict[str, Any], scopes: set[Scope]
) -> None:
    found = Tokens(settings(issuer, jwt_scope_claim=claim, jwt_scopes=names))
    await found.keys.refreshed()
    who = found.identify(token(**claims))
    assert isinstance(who, Identity)
    assert who.scopes == scopes
