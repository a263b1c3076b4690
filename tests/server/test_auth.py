"""Who may use the server."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from orchestrator.core.grants import Grant
from orchestrator.server.auth import Auth, Refusal, presented_key, subprotocol
from orchestrator.server.credentials import Credentials
from orchestrator.server.identity import LOCAL, ROOT, Identity, Scope
from orchestrator.server.keys import ApiKey, KeyRing, new_key, revoked
from orchestrator.server.store import EmbeddedStore

KEYED = Auth(SecretStr("right-key"))
OPEN = Auth(None)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer right-key"},
        {"authorization": "bearer  right-key "},
        {"sec-websocket-protocol": "realtime, openai-insecure-api-key.right-key, openai-agents-sdk.0.20.0"},
        {"authorization": "Bearer right-key", "origin": "https://anywhere.example"},
    ],
)
def test_the_key_opens_from_anywhere(headers: dict[str, str]) -> None:
    assert KEYED.identify(headers, "203.0.113.9") is ROOT


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "right-key"}, "missing_api_key"),
        ({"authorization": "Basic right-key"}, "missing_api_key"),
        ({"sec-websocket-protocol": "realtime"}, "missing_api_key"),
        ({"authorization": "Bearer wrong-key"}, "invalid_api_key"),
        ({"authorization": "Bearer right-keys"}, "invalid_api_key"),
        ({"authorization": "Bearer schlüssel"}, "invalid_api_key"),
        ({"sec-websocket-protocol": "realtime,openai-insecure-api-key."}, "invalid_api_key"),
    ],
)
def test_without_the_key_nobody_gets_in_not_even_this_machine(headers: dict[str, str], code: str) -> None:
    refusal = KEYED.identify(headers, "127.0.0.1")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (401, code)
    assert "right-key" not in refusal.message
    assert "ORCHESTRATOR_API_KEY" in refusal.message or "Authorization: Bearer" in refusal.message


def test_with_origins_listed_other_pages_are_refused_despite_the_key() -> None:
    auth = Auth(SecretStr("right-key"), ["https://app.example.com"])
    bearer = {"authorization": "Bearer right-key"}
    assert auth.identify(bearer, "203.0.113.9") is ROOT
    assert auth.identify({**bearer, "origin": "https://App.example.com"}, "203.0.113.9") is ROOT
    refusal = auth.identify({**bearer, "origin": "https://evil.example"}, "203.0.113.9")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (403, "origin_not_allowed")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1"},
        {"origin": "http://[::1]:8080", "host": "[::1]:8080"},
        {"host": "localhost:8080"},
    ],
)
def test_without_a_key_this_machine_may(peer: str, headers: dict[str, str]) -> None:
    assert OPEN.identify(headers, peer) is LOCAL


@pytest.mark.parametrize(
    ("headers", "peer", "code"),
    [
        ({}, "192.168.1.7", "not_local"),
        ({}, None, "not_local"),
        ({"authorization": "Bearer anything"}, "203.0.113.9", "not_local"),
        ({"origin": "https://evil.example"}, "127.0.0.1", "origin_not_allowed"),
        ({"origin": "http://localhost.evil.example"}, "127.0.0.1", "origin_not_allowed"),
        ({"origin": "null"}, "127.0.0.1", "origin_not_allowed"),
        # A page whose own name was made to resolve to this machine sends no Origin on a plain GET.
        ({"host": "rebound.evil.example:8080"}, "127.0.0.1", "host_not_local"),
    ],
)
def test_without_a_key_nobody_else_may(headers: dict[str, str], peer: str | None, code: str) -> None:
    refusal = OPEN.identify(headers, peer)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (403, code)
    assert refusal.body()["error"]["type"] == "permission_error"
    assert "server.api_key" in refusal.message


def test_the_header_goes_before_the_subprotocol() -> None:
    headers = {"authorization": "Bearer a", "sec-websocket-protocol": "openai-insecure-api-key.b"}
    assert presented_key(headers) == "a"


def test_only_the_plain_subprotocol_is_ever_echoed() -> None:
    assert subprotocol({"sec-websocket-protocol": "openai-insecure-api-key.k, realtime"}) == "realtime"
    assert subprotocol({"sec-websocket-protocol": "openai-insecure-api-key.k"}) is None
    assert subprotocol({}) is None


NOW = 1_700_000_000.0
WHERE = "203.0.113.9"


class Seen:
    """The keys as they were last seen."""

    def __init__(self, *keys: ApiKey) -> None:
        self.ring = KeyRing(keys)
        self.known = True


def refused(found: Identity | Refusal) -> tuple[int, str]:
    assert isinstance(found, Refusal)
    return found.status, found.code


def test_a_credential_ends_with_the_key_that_made_it() -> None:
    key, _ = new_key("shop", [Scope.SERVICE], NOW)
    seen = Seen(key)
    credentials = Credentials(None, EmbeddedStore(), lambda: NOW)
    auth = Auth(SecretStr("right-key"), keys=seen, credentials=credentials, wall=lambda: NOW)
    made = {
        by: {"authorization": f"Bearer {credentials.mint(Grant('call_1'), None, int(NOW) + 60, by=by)}"}
        for by in (f"key_{key.id}", "key_gone", "root", "jwt:issuer|maria")
    }
    assert auth.identify(made[f"key_{key.id}"], WHERE).grant == Grant("call_1")  # type: ignore[union-attr]
    assert refused(auth.identify(made["key_gone"], WHERE)) == (401, "credential_revoked")
    seen.ring = KeyRing([revoked(key, NOW)])
    assert refused(auth.identify(made[f"key_{key.id}"], WHERE)) == (401, "credential_revoked")
    for other in ("root", "jwt:issuer|maria"):
        assert isinstance(auth.identify(made[other], WHERE), Identity)
    seen.known = False
    assert refused(auth.identify(made[f"key_{key.id}"], WHERE)) == (503, "keys_unknown")


def test_the_master_key_may_begin_like_a_credential() -> None:
    credentials = Credentials(None, EmbeddedStore())
    auth = Auth(SecretStr("ek_for-the-sdk-in-browsers"), credentials=credentials)
    assert auth.identify({"authorization": "Bearer ek_for-the-sdk-in-browsers"}, WHERE) is ROOT
    assert refused(auth.identify({"authorization": "Bearer ek_another"}, WHERE)) == (
        401,
        "credential_invalid",
    )
