"""API keys: made, recognised, rotated, revoked; what is kept of them, and who sees it."""

from __future__ import annotations

import json
import re
import time

import pytest

from orchestrator.server.identity import Identity, Scope
from orchestrator.server.keys import (
    FORGET_AFTER_S,
    ApiKey,
    Fault,
    KeyRing,
    KeysInvalid,
    UnknownKey,
    new_key,
    revoked,
    rotated,
)

NOW = 1_800_000_000.0
DAY = 86_400.0


def made(*scopes: Scope, expires: float | None = None, name: str = "shop") -> tuple[ApiKey, str]:
    return new_key(name, scopes or [Scope.SERVICE], NOW, expires)


def test_a_key_is_written_with_its_id_and_256_random_bits() -> None:
    key, presented = made(Scope.METRICS, Scope.SERVICE)
    assert re.fullmatch(rf"vo_{key.id}_[A-Za-z0-9_-]{{43}}", presented)
    assert key.scopes == (Scope.SERVICE, Scope.METRICS)
    others = {made()[1] for _ in range(200)}
    assert len(others) == 200


def test_a_key_is_recognised_and_says_what_it_may() -> None:
    key, presented = made(Scope.SERVICE, Scope.METRICS)
    found = KeyRing([key, made()[0]]).find(presented, NOW + 1)
    assert found == Identity(f"key_{key.id}", "shop", frozenset({Scope.SERVICE, Scope.METRICS}))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[:-1] + ("A" if p[-1] != "A" else "B"),
        lambda p: p + "A",
        lambda p: p[:-1],
        lambda p: "vo_00000000_" + p.split("_", 2)[2],
        lambda p: "vo_" + p.split("_")[1],
        lambda p: "vo_" + p.split("_")[1] + "_",
        lambda p: "vo_",
        lambda p: "vo_ü_ü",
    ],
)
def test_anything_else_opens_nothing(change) -> None:  # type: ignore[no-untyped-def]
    key, presented = made()
    assert KeyRing([key]).find(change(presented), NOW) is Fault.UNKNOWN


def test_a_secret_does_not_open_another_key() -> None:
    one, first = made()
    other, _ = made()
    swapped = f"vo_{other.id}_{first.split('_', 2)[2]}"
    assert KeyRing([one, other]).find(swapped, NOW) is Fault.UNKNOWN


def test_after_a_rotation_both_secrets_work_and_then_one() -> None:
    key, before = made()
    key, after = rotated(key, NOW + 10, DAY)
    ring = KeyRing([key])
    for at in (NOW + 10, NOW + 10 + DAY - 1):
        assert isinstance(ring.find(before, at), Identity)
        assert isinstance(ring.find(after, at), Identity)
    assert ring.find(before, NOW + 10 + DAY) is Fault.ROTATED
    assert isinstance(ring.find(after, NOW + 10 + DAY), Identity)
    key, last = rotated(key, NOW + 20, 0)
    assert KeyRing([key]).find(before, NOW + 20) is Fault.UNKNOWN
    assert KeyRing([key]).find(after, NOW + 20) is Fault.ROTATED
    assert isinstance(KeyRing([key]).find(last, NOW + 20), Identity)


def test_only_the_bearer_is_told_that_a_key_was_revoked_or_has_expired() -> None:
    key, presented = made(expires=NOW + DAY)
    guess = f"vo_{key.id}_{'A' * 43}"
    assert isinstance(KeyRing([key]).find(presented, NOW + DAY - 1), Identity)
    assert KeyRing([key]).find(presented, NOW + DAY) is Fault.EXPIRED
    gone = KeyRing([revoked(key, NOW)])
    assert gone.find(presented, NOW) is Fault.REVOKED
    assert gone.find(guess, NOW) is Fault.UNKNOWN
    assert KeyRing([key]).find(guess, NOW + DAY) is Fault.UNKNOWN


def test_what_works_no_more_is_not_rotated() -> None:
    key, _ = made(expires=NOW + 1)
    with pytest.raises(KeysInvalid, match="is expired; make a new one"):
        rotated(key, NOW + 1, 0)
    with pytest.raises(KeysInvalid, match="is revoked; make a new one"):
        rotated(revoked(key, NOW), NOW, 0)


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\nb"])
def test_a_name_is_one_that_can_be_shown(name: str) -> None:
    with pytest.raises(KeysInvalid, match="expected a name of 1 to 60 characters"):
        made(name=name)


def test_a_key_has_a_scope() -> None:
    with pytest.raises(KeysInvalid, match="give one or more of service, operator, metrics"):
        new_key("shop", [], NOW)


def test_what_is_kept_and_what_is_told_hold_no_secret() -> None:
    key, presented = made()
    key, second = rotated(key, NOW, DAY)
    secrets = [text.split("_", 2)[2] for text in (presented, second)]
    shown = KeyRing([key]).to_json() + json.dumps(key.told(NOW)) + repr(key)
    assert not any(secret in shown for secret in secrets)
    assert key.digest not in json.dumps(key.told(NOW))
    assert str(key.old_digest) not in json.dumps(key.told(NOW))


def test_what_is_kept_is_read_again() -> None:
    key, presented = made(Scope.OPERATOR, expires=NOW + DAY)
    key, second = rotated(key, NOW, DAY / 2)
    again = KeyRing.from_json(KeyRing([key, revoked(made()[0], NOW)]).to_json())
    assert again[key.id] == key
    assert [k.state(NOW) for k in again] == ["rotating", "revoked"]
    assert all(isinstance(again.find(text, NOW), Identity) for text in (presented, second))
    assert again.used
    assert not KeyRing.from_json(None).used


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 1}', '{"version": 1, "keys": [{}]}', '{"version": 2, "keys": []}', "null"],
)
def test_what_is_no_list_of_keys_is_refused(text: str) -> None:
    with pytest.raises(KeysInvalid):
        KeyRing.from_json(text)


def test_each_version_is_another_text() -> None:
    ring = KeyRing([made()[0]])
    assert ring.to_json() != ring.to_json()


def test_keys_are_named_by_their_id_however_it_is_written() -> None:
    key, presented = made()
    ring = KeyRing([key])
    assert all(ring[name] is key for name in (key.id, f"key_{key.id}", f"vo_{key.id}", presented))
    with pytest.raises(UnknownKey, match=f"no key 'nope'; there are: {key.id}"):
        ring["nope"]


def test_what_ended_long_ago_is_forgotten() -> None:
    old = revoked(made()[0], NOW)
    expired, _ = made(expires=NOW)
    later = NOW + FORGET_AFTER_S + 1
    kept = KeyRing([old, expired]).with_key(made()[0], later - 2)
    assert len(list(kept)) == 3
    assert len(list(kept.with_key(made()[0], later))) == 2
    assert kept.with_key(made()[0], later).used


def test_recognising_a_key_takes_no_time_to_speak_of() -> None:
    pairs = [made() for _ in range(1000)]
    ring = KeyRing([key for key, _ in pairs])
    begun = time.perf_counter()
    for _, presented in pairs:
        ring.find(presented, NOW)
    each_us = (time.perf_counter() - begun) * 1e6 / len(pairs)
    assert each_us < 100, f"{each_us:.1f} µs"
