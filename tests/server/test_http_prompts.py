"""Prompts over HTTP: files with tags and ranges, signed addresses, previews; the real catalogue, words for sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from cache import FORMS
from orchestrator.server.links import Link, LinkInvalid, Links
from orchestrator.server.prompt_files import AudioName
from tests import planted
from tests.server.test_http import Server, client_of, error_of, make_server

KEY = {"Authorization": f"Bearer {planted.SERVER}"}
QUEUE = {"position": 2, "minutes": 5}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = make_server(server={"api_key": planted.SERVER})
    await server.fleet.start()
    yield server
    await server.fleet.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server, headers=KEY) as client:
        yield client


@pytest.fixture
async def stranger(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key, and from elsewhere."""
    async with client_of(server, peer="203.0.113.9") as client:
        yield client


def test_requests_name_every_form_there_is() -> None:
    assert set(get_args(AudioName)) == set(FORMS)


@pytest.mark.parametrize("times", [1, 2], ids=["rendered", "from memory"])
async def test_a_get_says_what_a_post_says(client: httpx.AsyncClient, times: int) -> None:
    for _ in range(times):
        got = await client.get("/v1/prompts/queue_update?var.position=2&var.minutes=5&format=mp3")
    posted = await client.post("/v1/prompts/queue_update", json={"variables": QUEUE, "format": "mp3"})
    assert got.status_code == 200, got.text
    assert got.content == posted.content
    assert got.content.startswith(b"mp3:Thank you for waiting. Your position")
    assert got.headers["content-type"] == "audio/mpeg"
    assert got.headers["x-cache"] == ("miss" if times == 1 else "hit")
    assert posted.headers["x-cache"] == "hit"
    assert got.headers["etag"] == posted.headers["etag"]
    assert got.headers["cache-control"] == "private, no-cache"


async def test_what_is_kept_is_not_sent_again(client: httpx.AsyncClient) -> None:
    path = "/v1/prompts/goodbye"
    whole = await client.get(path)
    tag = whole.headers["etag"]
    for condition in (tag, f'"other", W/{tag}', "*"):
        again = await client.get(path, headers={"If-None-Match": condition})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    changed = await client.get(path, headers={"If-None-Match": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    # The tag is of the bytes: another form is another file.
    other = await client.get(path + "?format=pcmu", headers={"If-None-Match": tag})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-0", 0, 1), ("2-5", 2, 6), ("4-", 4, None), ("-3", -3, None), ("0-99999", 0, None)],
)
async def test_a_part(client: httpx.AsyncClient, asked: str, start: int, end: int | None) -> None:
    path = "/v1/prompts/goodbye?format=pcm"
    whole = (await client.get(path)).content
    part = await client.get(path, headers={"Range": f"bytes={asked}"})
    assert part.status_code == 206
    assert part.content == whole[start:end]
    first = start % len(whole)
    told = f"bytes {first}-{first + len(part.content) - 1}/{len(whole)}"
    assert part.headers["content-range"] == told
    assert part.headers["content-length"] == str(len(part.content))


async def test_parts_that_are_none(client: httpx.AsyncClient) -> None:
    path = "/v1/prompts/goodbye?format=pcm"
    whole = await client.get(path)
    for asked in (f"bytes={len(whole.content)}-", "bytes=-0", "bytes=99999-100000"):
        beyond = await client.get(path, headers={"Range": asked})
        assert (beyond.status_code, beyond.content) == (416, b"")
        assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    for nonsense in ("bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=-", "bytes=0-1,4-5"):
        ignored = await client.get(path, headers={"Range": nonsense})
        assert (ignored.status_code, ignored.content) == (200, whole.content)
    # A part of a file that has changed meanwhile would not fit the rest.
    part = {"Range": "bytes=0-3", "If-Range": whole.headers["etag"]}
    assert (await client.get(path, headers=part)).status_code == 206
    changed = await client.get(path, headers={**part, "If-Range": '"older"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


async def test_head_is_get_without_the_body(client: httpx.AsyncClient) -> None:
    path = "/v1/prompts/goodbye?format=pcmu"
    for _ in ("rendered", "from memory"):
        head = await client.head(path, headers={"Range": "bytes=0-1"})
        assert (head.status_code, head.content) == (200, b"")
    got = await client.get(path)
    for name in ("content-length", "content-type", "etag", "accept-ranges", "x-audio-seconds"):
        assert head.headers[name] == got.headers[name]
    assert int(head.headers["content-length"]) == len(got.content)


async def test_an_address_needs_no_key(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    body = {"variables": QUEUE, "format": "pcmu", "output": "url", "voice": "ash", "expires_in_s": 60}
    for cache in ("miss", "hit"):
        made = await client.post("/v1/prompts/queue_update", json=body)
        assert made.status_code == 201, made.text
        assert made.json()["cache"] == cache
    told = made.json()
    assert told["text"].startswith("Thank you for waiting.")
    assert (told["format"], told["seconds"]) == ("pcmu", 1.25)
    got = await stranger.get(told["url"])
    assert got.status_code == 200, got.text
    assert got.content == f"pcmu:{told['text']}".encode()
    assert len(got.content) == told["bytes"]
    assert got.headers["cache-control"].startswith("private, max-age=")
    assert 50 <= int(got.headers["cache-control"].rpartition("=")[2]) <= 60
    part = await stranger.get(told["url"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"pcmu")
    # It opens that one file for reading, and nothing else.
    posted = await stranger.post(told["url"], json={"variables": QUEUE})
    assert error_of(posted, 401)["code"] == "missing_api_key"
    assert (await stranger.get("/v1/prompts/goodbye")).status_code == 401


async def test_nothing_in_an_address_can_be_changed(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    body = {"variables": QUEUE, "output": "url"}
    url = (await client.post("/v1/prompts/queue_update", json=body)).json()["url"]
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in {
        "var.position": "3",
        "expires": str(int(query["expires"]) + 1),
        "format": "mp3",
        "signature": query["signature"][:-2] + "AA",
        "voice": "ash",
    }.items():
        changed = f"{parts.path}?{urlencode({**query, name: value})}"
        error = error_of(await stranger.get(changed), 403)
        assert (error["type"], error["code"]) == ("permission_error", "link_invalid")
    doubled = error_of(await stranger.get(f"{url}&var.position=2"), 403)
    assert doubled["code"] == "link_invalid"
    elsewhere = parts._replace(path="/v1/prompts/goodbye").geturl()
    assert error_of(await stranger.get(elsewhere), 403)["code"] == "link_invalid"
    # The order of what it holds is no part of it.
    turned = f"{parts.path}?{urlencode(list(reversed(query.items())))}"
    assert (await stranger.get(turned)).status_code == 200


def test_links_expire_and_belong_to_their_secret() -> None:
    now = [1000.0]
    links = Links(SecretStr("s"), 60.0, wall=lambda: now[0])
    link = links.make("/v1/prompts/zur Begrüßung", {"a": "1 2&3", "b": ""}, ttl_s=1e9)
    assert link.expires_at == 1060
    path, _, query = link.target.partition("?")
    assert path == "/v1/prompts/zur%20Begr%C3%BC%C3%9Fung"
    assert links.check("/v1/prompts/zur Begrüßung", query) == 1060
    same = Links(SecretStr("s"), 1.0, wall=lambda: now[0])
    assert same.check("/v1/prompts/zur Begrüßung", query) == 1060
    for other in (Links(SecretStr("t"), 60.0), Links(None, 60.0)):
        with pytest.raises(LinkInvalid, match="change nothing"):
            other.check("/v1/prompts/zur Begrüßung", query)
    now[0] = 1060.0
    with pytest.raises(LinkInvalid, match="expired") as expired:
        links.check("/v1/prompts/zur Begrüßung", query)
    assert expired.value.code == "link_expired"
    for query in ("", "expires=²&signature=x", "signature=x", "expires=99999999999"):
        with pytest.raises(LinkInvalid):
            links.check("/v1/prompts/zur Begrüßung", query)
    assert links.make("/a", {}) == Link(links.make("/a", {}).target, 1120)


async def test_an_address_may_be_elsewhere_than_the_request_came_to() -> None:
    server = make_server(links={"public_url": "https://voice.example.com/"})
    async with client_of(server) as client:
        made = (await client.post("/v1/prompts/goodbye", json={"output": "url"})).json()
    assert made["url"].startswith("https://voice.example.com/v1/prompts/goodbye?format=wav&")


@pytest.mark.parametrize(
    ("query", "param", "teaches"),
    [
        ("var.position=2", "variables.minutes", "minutes (missing)"),
        ("position=2", "position", "var.position=…"),
        ("var.position=2&var.position=3", "var.position", "twice"),
        ("format=mp5", "format", "opus"),
        ("speed=9", "speed", "from 0.5 to 2.0"),
        ("speed=fast", "speed", "a number"),
    ],
)
async def test_a_wrong_address_teaches(
    client: httpx.AsyncClient, query: str, param: str, teaches: str
) -> None:
    error = error_of(await client.get(f"/v1/prompts/queue_update?{query}"), 422)
    assert error["param"] == param
    assert teaches in error["message"]


async def test_wrong_bodies_are_refused_though_the_prompt_is_in_memory(client: httpx.AsyncClient) -> None:
    path, said = "/v1/prompts/goodbye", {"variables": {}}
    assert (await client.post(path, json=said)).status_code == 200
    for wrong in ({"voice": 3}, {"variables": []}, {"speed": "quick"}, {"format": "mp5"}, {"word": 1}):
        assert error_of(await client.post(path, json=said | wrong), 422)["param"] == next(iter(wrong))
    assert (await client.post(path, content=b"{")).status_code == 422
    assert (await client.post(path, content=b"{}")).status_code == 422
    assert (await client.post(path + "?form=wav", json=said)).status_code == 200
    assert (await client.post(path + "?format=mp5", json=said)).status_code == 422


async def test_memory_asks_for_the_key_too(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/prompts/goodbye")).headers["x-cache"] == "miss"
    assert (await client.get("/v1/prompts/goodbye")).headers["x-cache"] == "hit"
    assert error_of(await stranger.get("/v1/prompts/goodbye"), 401)["code"] == "missing_api_key"
    assert error_of(await stranger.post("/v1/prompts/goodbye", json={}), 401)["code"] == "missing_api_key"


async def test_a_body_may_come_in_pieces(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"variables": {"pos', b'ition": 2, "minutes"', b": 5}}"):
            yield piece

    as_json = {"Content-Type": "application/json"}
    for cache in ("miss", "hit"):
        answer = await client.post("/v1/prompts/queue_update", content=pieces(), headers=as_json)
        assert (answer.status_code, answer.headers["x-cache"]) == (200, cache)


async def test_a_body_that_is_far_too_long_is_left_to_the_framework(client: httpx.AsyncClient) -> None:
    body = {"variables": QUEUE, "voice": "a" * 70_000}
    error = error_of(await client.post("/v1/prompts/queue_update", json=body), 422)
    assert error["param"] == "voice"


async def test_a_preview_costs_nothing(server: Server, client: httpx.AsyncClient) -> None:
    body = {"variables": {"order_id": "4172", "status": "shipped"}, "format": "mp3"}
    preview = (await client.post("/v1/prompts/order_status/preview", json=body)).json()
    assert preview["text"] == "Your order number 4172 has been shipped."
    assert preview["spoken"] != preview["text"]
    assert (preview["language"], preview["cached"]) == ("en", False)
    assert preview["worst_cost_usd"] == pytest.approx(1.5e-6)
    assert server.prompts is not None
    assert not server.prompts.said
    heard = await client.get(preview["url"])
    assert heard.content == f"mp3:{preview['text']}".encode()
    error = error_of(await client.post("/v1/prompts/order_status/preview", json={}), 422)
    assert error["code"] == "invalid_variables"
    assert (await client.post("/v1/prompts/nothing/preview", json={})).status_code == 404


async def test_what_a_prompt_costs_is_paid_once(server: Server, client: httpx.AsyncClient) -> None:
    spent = []
    for _ in range(3):
        await asyncio.gather(*(client.get("/v1/prompts/goodbye") for _ in range(2)))
        spent.append(server.fleet.ledgers.overview()["default"].spent)
    assert spent == [1500] * 3
