"""Proxies: who is believed, how far back, and what becomes of the request."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.server.proxies import BehindProxies, Proxies, Seen

PROXIES = Proxies(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("fd00::1%eth0", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("11.0.0.1", False),
        ("", False),
        (None, False),
        ("unix:", False),
    ],
)
def test_who_is_a_proxy(address: str | None, trusted: bool) -> None:
    assert PROXIES.trusts(address) is trusted


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 10.0.0.7, 10.0.0.8", "203.0.113.9"),
        ("10.0.0.7, 10.0.0.8", "10.0.0.7"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("203.0.113.9, , ", "203.0.113.9"),
        ("", "10.0.0.1"),
        ("localhost", None),
        ("127.0.0.1, nonsense, 10.0.0.7", None),
    ],
)
def test_the_client_is_the_last_address_that_no_proxy_stands_for(chain: str, client: str | None) -> None:
    assert PROXIES.seen({"x-forwarded-for": chain}, "10.0.0.1").peer == client


def test_what_a_proxy_says_of_address_and_scheme_counts_and_nobody_sees_it_again() -> None:
    headers = {
        "host": "127.0.0.1:8080",
        "x-forwarded-host": "voice.example.com",
        "x-forwarded-proto": "https",
        "x-forwarded-for": "203.0.113.9",
        "x-real-ip": "127.0.0.1",
        "forwarded": "for=127.0.0.1",
        "accept": "*/*",
    }
    seen = PROXIES.seen(headers, "10.0.0.1")
    assert seen == Seen("203.0.113.9", {"host": "voice.example.com", "accept": "*/*"}, "https")


def test_nobody_else_is_believed_and_what_they_say_stays_to_be_seen() -> None:
    headers = {"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "localhost", "x-forwarded-proto": "https"}
    for proxies in (PROXIES, Proxies([])):
        assert proxies.seen(headers, "203.0.113.9") == Seen("203.0.113.9", headers, None)


@pytest.mark.parametrize("proto", ["javascript", "", "httpss"])
def test_a_scheme_is_one_of_two(proto: str) -> None:
    assert PROXIES.seen({"x-forwarded-proto": proto}, "10.0.0.1").scheme is None


async def scope_after(peer: str, *headers: tuple[bytes, bytes], kind: str = "http") -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)

    scope = {"type": kind, "client": (peer, 5000), "scheme": "http", "headers": list(headers), "path": "/"}
    await BehindProxies(app, PROXIES)(scope, None, None)  # type: ignore[arg-type]
    assert scope["client"] == (peer, 5000)
    return found


async def test_the_application_sees_the_request_as_it_was_made() -> None:
    found = await scope_after(
        "10.0.0.1",
        (b"host", b"127.0.0.1:8080"),
        (b"x-forwarded-for", b"1.1.1.1"),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"voice.example.com"),
    )
    assert found["client"] == ("203.0.113.9", 0)
    assert found["scheme"] == "https"
    assert found["headers"] == [(b"host", b"voice.example.com")]


async def test_the_application_sees_others_as_they_are() -> None:
    headers = [(b"host", b"h"), (b"x-forwarded-for", b"127.0.0.1")]
    found = await scope_after("203.0.113.9", *headers)
    assert found["client"] == ("203.0.113.9", 5000)
    assert found["headers"] == headers
    found = await scope_after("10.0.0.1", *headers, kind="lifespan")
    assert found["headers"] == headers


async def test_a_chain_of_nonsense_is_nobody() -> None:
    found = await scope_after("10.0.0.1", (b"x-forwarded-for", b"'; drop table"))
    assert found["client"] is None
