"""Keys, tokens and credentials side by side: which of them is asked, and what holds where something is missing."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.core.grants import Grant
from orchestrator.server import auth
from orchestrator.server.auth import Auth, Refusal
from orchestrator.server.identity import LOCAL, ROOT, Identity, Scope
from orchestrator.server.keys import KeyRing, new_key, revoked, rotated
from tests import planted

NOW = 1_800_000_000.0
KEY, PRESENTED = new_key("shop", [Scope.SERVICE], NOW, NOW + 100)
SHOP = Identity(f"key_{KEY.id}", "shop", frozenset({Scope.SERVICE}))
PERSON = Identity("jwt:i|42", "42", frozenset({Scope.SERVICE}), user="42")
CALLER = Identity("root", "root", grant=Grant("call_1"), origin="https://a.example")
ROOT_KEY = SecretStr(planted.SERVER)


@dataclass
class Keys:
    ring: KeyRing = field(default_factory=lambda: KeyRing([KEY]))
    known: bool = True


class Tokens:
    def identify(self, token: str) -> Identity | Refusal:
        return PERSON if token == "a.b.c" else Refusal(401, "token_invalid", "no")


class Credentials:
    def open(self, value: str, origin: str | None) -> Identity | Refusal:
        if value != "ek_right":
            return Refusal(401, "credential_invalid", "no")
        return CALLER if origin == CALLER.origin else Refusal(403, "origin_not_allowed", "no")


def asked(auth: Auth, bearer: str | None, peer: str = "203.0.113.9", **headers: str) -> Identity | Refusal:
    sent = {"authorization": f"Bearer {bearer}"} if bearer else {}
    return auth.identify({**sent, **headers}, peer)


def code(found: Identity | Refusal) -> str:
    assert isinstance(found, Refusal), found
    return found.code


def door(**parts: Any) -> Auth:
    told: dict[str, Any] = {"keys": Keys(), "tokens": Tokens(), "credentials": Credentials(), **parts}
    return Auth(told.pop("api_key", ROOT_KEY), told.pop("origins", ()), wall=lambda: NOW, **told)


def test_each_opens_as_what_it_is() -> None:
    all_kinds = door()
    assert asked(all_kinds, PRESENTED) == SHOP
    assert asked(all_kinds, planted.SERVER) is ROOT
    assert asked(all_kinds, "a.b.c") is PERSON
    assert asked(all_kinds, "ek_right", origin="https://a.example") is CALLER
    assert code(asked(all_kinds, "a.b.x")) == "token_invalid"
    assert code(asked(all_kinds, "ek_wrong")) == "credential_invalid"
    assert code(asked(all_kinds, "ek_right", origin="https://b.example")) == "origin_not_allowed"
    assert code(asked(all_kinds, "sk-other")) == "invalid_api_key"
    assert code(asked(all_kinds, "vo_x.y.z")) == "token_invalid"
    assert code(asked(all_kinds, None)) == "missing_api_key"
    assert code(asked(all_kinds, None, peer="127.0.0.1")) == "missing_api_key"


def test_a_key_alone_is_enough_and_the_master_key_is_not_needed() -> None:
    only_keys = door(api_key=None, tokens=None)
    assert asked(only_keys, PRESENTED) == SHOP
    assert code(asked(only_keys, planted.SERVER)) == "invalid_api_key"
    assert code(asked(only_keys, "a.b.c")) == "invalid_api_key"
    assert code(asked(only_keys, None, peer="127.0.0.1")) == "missing_api_key"


def test_keys_end_and_their_bearers_are_told_how() -> None:
    again, second = rotated(KEY, NOW - 10, 5)
    assert code(asked(door(keys=Keys(KeyRing([again]))), PRESENTED)) == "key_rotated"
    assert asked(door(keys=Keys(KeyRing([again]))), second) == SHOP
    assert code(asked(door(keys=Keys(KeyRing([revoked(KEY, NOW)]))), PRESENTED)) == "key_revoked"
    late = Auth(None, keys=Keys(), wall=lambda: NOW + 100)
    assert code(asked(late, PRESENTED)) == "key_expired"
    for told in auth._REMEDIES.values():
        assert "orchestrator keys" in told


def test_the_last_key_that_is_revoked_does_not_open_the_door() -> None:
    for ring in (KeyRing([revoked(KEY, NOW)]), KeyRing()):
        closed = door(api_key=None, tokens=None, credentials=None, keys=Keys(ring))
        assert code(asked(closed, None, peer="127.0.0.1")) == "missing_api_key"
    assert door(api_key=None, tokens=None, keys=Keys(KeyRing())).bolted


def test_nobody_is_let_in_while_it_is_not_known_whether_there_are_keys() -> None:
    unseen = Keys(KeyRing(used=False), known=False)
    closed = door(api_key=None, tokens=None, keys=unseen)
    assert code(asked(closed, None, peer="127.0.0.1")) == "keys_unknown"
    found = asked(closed, PRESENTED)
    assert isinstance(found, Refusal)
    assert (found.status, found.code, found.headers()) == (503, "keys_unknown", {"Retry-After": "1"})
    assert found.body()["error"]["type"] == "server_error"
    assert code(asked(closed, "sk-other")) == "invalid_api_key"
    assert asked(door(keys=unseen), planted.SERVER) is ROOT
    assert not closed.bolted


def test_without_anything_set_this_machine_is_let_in_and_a_credential_still_opens_one_call() -> None:
    none = Keys(KeyRing(used=False))
    free = door(api_key=None, tokens=None, keys=none)
    assert asked(free, None, peer="127.0.0.1") is LOCAL
    assert asked(free, "sk-whatever", peer="127.0.0.1") is LOCAL
    assert asked(free, "ek_right", peer="127.0.0.1", origin="https://a.example") is CALLER
    assert code(asked(free, "ek_wrong", peer="127.0.0.1")) == "credential_invalid"
    assert code(asked(free, None)) == "not_local"
    public = door(api_key=None, tokens=None, keys=none, public=True)
    assert code(asked(public, None, peer="127.0.0.1")) == "missing_api_key"
    assert public.bolted


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
@pytest.mark.parametrize("value", ["127.0.0.1", "203.0.113.9", ""])
def test_what_came_through_a_proxy_is_not_this_machine_whatever_it_says(header: str, value: str) -> None:
    found = Auth(None).identify({header: value, "host": "127.0.0.1:8080"}, "127.0.0.1")
    assert code(found) == "not_local"
    assert isinstance(found, Refusal)
    assert "access.trusted_proxies" in found.message


def test_listed_origins_hold_for_all_kinds() -> None:
    listed = door(origins=["https://app.example"])
    for bearer in (PRESENTED, planted.SERVER, "a.b.c"):
        assert code(asked(listed, bearer, origin="https://evil.example")) == "origin_not_allowed"
        assert isinstance(asked(listed, bearer, origin="https://app.example"), Identity)
    assert code(asked(listed, "ek_right", origin="https://a.example")) == "origin_not_allowed"


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def compare(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    asked(door(), "the-master-kez")
    asked(door(), PRESENTED[:-1])
    assert len(compared) == 4  # the master key; both secrets of a key, and then the master key again


def test_no_refusal_shows_what_was_presented() -> None:
    for bearer in (
        PRESENTED + "x",
        "the-master-kez",
        "vo_unknown_secretsecret",
        "ek_secretsecret",
        "x.secret.y",
    ):
        found = asked(door(), bearer)
        assert isinstance(found, Refusal)
        assert bearer not in found.message + repr(found)
        assert "secret" not in found.message
