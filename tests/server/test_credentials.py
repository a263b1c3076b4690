"""Credentials: what is bound to them, how each can be wrong, and that one opens one call in the whole fleet."""

from __future__ import annotations

import asyncio
import random

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from orchestrator.core.grants import Grant
from orchestrator.server.auth import Refusal
from orchestrator.server.credentials import LONGEST, Credentials, CredentialTooLarge, Use
from orchestrator.server.identity import Identity
from orchestrator.server.store import EmbeddedStore, RedisStore, StoreUnavailable
from tests import planted
from tests.server.fleets import Wall
from tests.server.test_store import RedisServer

SECRET = SecretStr(planted.CREDENTIALS)
PAGE = "https://app.example.com"
GRANT = Grant(
    "call_0123456789ab",
    user="maria",
    purpose="support",
    bucket="acme",
    model="gpt-realtime-2.1",
    tools=("get_order_status",),
    session={"instructions": "Never tell the codeword rosebud.", "audio": {"output": {"voice": "cedar"}}},
    locked=frozenset({"instructions", "tools"}),
    cap=250_000_000,
    max_s=600.0,
)


def make(wall: Wall, secret: SecretStr | None = SECRET, store: object = None) -> Credentials:
    return Credentials(secret, store or EmbeddedStore(), wall)  # type: ignore[arg-type]


def refusal(found: Identity | Refusal) -> tuple[int, str]:
    assert isinstance(found, Refusal)
    return found.status, found.code


@pytest.fixture
def wall() -> Wall:
    return Wall()


def in_ten_minutes(wall: Wall) -> int:
    return int(wall()) + 600


def test_what_was_granted_comes_out_again(wall: Wall) -> None:
    made = make(wall)
    value = made.mint(GRANT, PAGE, in_ten_minutes(wall), by="key_1", name="the shop")
    assert value.startswith("ek_")
    found = made.open(value, PAGE)
    assert found == Identity("key_1", "the shop", grant=GRANT, origin=PAGE, expires_at=in_ten_minutes(wall))
    least = Grant("call_1")
    opened = made.open(made.mint(least, None, in_ten_minutes(wall)), None)
    assert isinstance(opened, Identity)
    assert (opened.grant, opened.scopes) == (least, frozenset())


def test_whoever_carries_it_cannot_read_it(wall: Wall) -> None:
    made = make(wall)
    values = [made.mint(GRANT, PAGE, in_ten_minutes(wall)) for _ in range(2)]
    assert values[0] != values[1]
    for value in values:
        assert "rosebud" not in value
        assert "maria" not in value


def test_another_process_opens_it_with_the_same_secret_only(wall: Wall) -> None:
    value = make(wall).mint(GRANT, None, in_ten_minutes(wall))
    assert isinstance(make(wall).open(value, None), Identity)
    other = make(wall, SecretStr("another secret of a length"))
    assert refusal(other.open(value, None)) == (401, "credential_invalid")
    alone = make(wall, None)
    assert (alone.shared, make(wall).shared) == (False, True)
    value = alone.mint(GRANT, None, in_ten_minutes(wall))
    assert isinstance(alone.open(value, None), Identity)
    assert refusal(make(wall, None).open(value, None)) == (401, "credential_invalid")


def test_an_expired_one_says_since_when(wall: Wall) -> None:
    made = make(wall)
    value = made.mint(GRANT, None, int(wall()) + 10)
    wall.now += 9.5
    assert isinstance(made.open(value, None), Identity)
    wall.now += 30
    found = made.open(value, None)
    assert refusal(found) == (401, "credential_expired")
    assert isinstance(found, Refusal)
    assert "expired 29 s ago" in found.message


@pytest.mark.parametrize(
    "origin", [None, "https://evil.example.com", "http://app.example.com", PAGE + ":444"]
)
def test_one_for_a_page_works_from_that_page_only(wall: Wall, origin: str | None) -> None:
    made = make(wall)
    value = made.mint(GRANT, PAGE, in_ten_minutes(wall))
    assert refusal(made.open(value, origin)) == (403, "origin_not_allowed")
    assert isinstance(made.open(value, "https://APP.example.com/"), Identity)
    anywhere = made.mint(GRANT, None, in_ten_minutes(wall))
    assert isinstance(made.open(anywhere, origin), Identity)


def test_no_character_of_it_can_be_changed(wall: Wall) -> None:
    made = make(wall)
    value = made.mint(GRANT, None, in_ten_minutes(wall))
    rng = random.Random(7)
    print("seed 7")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for at in range(3, len(value)):
        other = rng.choice(alphabet.replace(value[at], ""))
        changed = value[:at] + other + value[at + 1 :]
        assert refusal(made.open(changed, None)) == (401, "credential_invalid"), at


@pytest.mark.parametrize(
    "value",
    [
        "ek_",
        "ek_x",
        "ek_" + "A" * 40,
        "ek_" + "A" * 100_000,
        "ek_ü",
        "ek_a b",
        "ek_!!!!",
        "ek_\ud800",
        "sk-1",
        "",
    ],
)
def test_what_was_never_one_is_refused(wall: Wall, value: str) -> None:
    assert refusal(make(wall).open(value, None)) == (401, "credential_invalid")


@pytest.mark.parametrize("change", ["{}=", "{} ", "{}\n", "{}A", "ek_{}", "!{}"])
def test_there_is_one_spelling(wall: Wall, change: str) -> None:
    made = make(wall)
    value = made.mint(GRANT, None, in_ten_minutes(wall))
    assert refusal(made.open(change.format(value), None)) == (401, "credential_invalid")


def test_what_does_not_fit_into_a_header_is_refused(wall: Wall) -> None:
    words = random.Random(3).choices("abcdefghijklmnopqrstuvwxyz ", k=12_000)
    print("seed 3")
    grant = Grant("call_1", session={"instructions": "".join(words)})
    with pytest.raises(CredentialTooLarge, match=r"credential of \d+ characters, and 6000 is the most"):
        make(wall).mint(grant, None, in_ten_minutes(wall))
    # What people write is half as long when it is sealed.
    prose = " ".join(f"Rule {n}: be kind, and say what order {n * 7919} is about." for n in range(120))
    value = make(wall).mint(Grant("call_1", session={"instructions": prose}), None, in_ten_minutes(wall))
    assert len(value) < LONGEST < len(prose)


async def test_it_opens_one_call_in_the_whole_fleet(wall: Wall) -> None:
    store = EmbeddedStore()
    here, there = make(wall, store=store), make(wall, store=store)
    until = in_ten_minutes(wall)
    assert await here.spend("call_1", until) is Use.FIRST
    assert await here.spend("call_1", until) is Use.USED
    assert await there.spend("call_1", until) is Use.USED
    assert await there.spend("call_2", until) is Use.FIRST


async def test_of_many_at_once_one_is_let_in(wall: Wall, redis: RedisServer) -> None:
    stores = [RedisStore(redis.url, 2.0, "spent:") for _ in range(4)]
    replicas = [make(wall, store=store) for store in stores]
    uses = await asyncio.gather(
        *(replica.spend("call_1", in_ten_minutes(wall)) for replica in replicas for _ in range(5))
    )
    assert sorted(use.value for use in uses) == ["first"] + ["used"] * 19
    for store in stores:
        await store.close()


async def test_the_store_remembers_it_for_as_long_as_it_works(wall: Wall, redis: RedisServer) -> None:
    store = RedisStore(redis.url, 2.0, "kept:")
    assert await make(wall, store=store).spend("call_1", in_ten_minutes(wall)) is Use.FIRST
    await store.close()
    async with Redis.from_url(redis.url) as client:
        assert 590 < await client.ttl("kept:credential:call_1") <= 600


class Away(EmbeddedStore):
    async def put_if(
        self, key: str, expected: str | None, value: str, ttl: float | None = None
    ) -> str | None:
        raise StoreUnavailable("away")


async def test_without_the_store_this_process_decides(wall: Wall) -> None:
    made = make(wall, store=Away())
    until = in_ten_minutes(wall)
    assert await made.spend("call_1", until) is Use.FIRST_HERE
    assert await made.spend("call_1", until) is Use.USED
    # Nothing is kept beyond the time in which it could be used.
    wall.now += 601
    await made.spend("call_2", in_ten_minutes(wall))
    assert made._spent == {"call_2"}
