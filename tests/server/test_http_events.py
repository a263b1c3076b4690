"""`GET /v1/events` over real sockets: who sees what, going on after a break, and readers that are too slow."""

from __future__ import annotations

import ast
import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

import orchestrator.core
from orchestrator.core.redaction import REDACTED, Redactor
from orchestrator.server import http_events
from orchestrator.server.event_fields import FIGURES, FREE, NAMES, WORDS, show
from orchestrator.server.events import EventLog
from orchestrator.server.http import build_api
from tests import planted
from tests.server.test_http import Server, client_of, error_of, make_server, no_environment

__all__ = ["no_environment"]

SAID_REASONS = {"transfer", "tool_approval"}
"""Rows whose reason a model or a person has written."""
SECRET = planted.AGENT


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, str]]:
    server = make_server()
    await server.fleet.start()
    config = uvicorn.Config(build_api(server), log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(running.serve(sockets=[listener]))
        yield server, f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        server.events.end_followers()
        await task
    await server.fleet.close()


class Reader:
    """The blocks of a stream, one after another."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()
        self.id = ""

    async def block(self) -> dict[str, str]:
        """The fields up to the next empty line; none where the stream has ended."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                self.id = fields.get("id", self.id)
                return fields
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields

    async def row(self) -> dict[str, Any]:
        """The next event's data."""
        while True:
            fields = await self.block()
            assert fields, "the stream has ended"
            if "data" in fields:
                found: dict[str, Any] = json.loads(fields["data"])
                return found


@asynccontextmanager
async def reading(url: str, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.stream("GET", f"{url}/v1/events{query}", headers=sent) as response:
            assert response.status_code == 200, await response.aread()
            reader = Reader(response)
            first = await reader.block()
            assert first["retry"] == "2000"
            yield reader


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("what was waited for did not come")


def add(server: Server, type: str, tier: str = "A", call_id: str = "call_1", **fields: Any) -> None:
    server.events.add(type, tier=tier, call_id=call_id, **fields)


async def test_rows_as_they_happen() -> None:
    async with serving() as (server, url):
        add(server, "before")
        async with reading(url) as reader:
            assert reader.response.headers["content-type"].startswith("text/event-stream")
            assert reader.response.headers["cache-control"] == "no-store"
            assert reader.id == f"{server.events.epoch}-1"
            add(server, "call_started", rung="gpt-realtime-2.1", reason="default")
            row = await reader.row()
            assert row.pop("time") == pytest.approx(server.events.recent[-1]["time"])
            assert row == {
                "type": "call_started",
                "tier": "A",
                "call_id": "call_1",
                "rung": "gpt-realtime-2.1",
                "reason": "default",
            }
            assert reader.id == f"{server.events.epoch}-2"


async def test_filters() -> None:
    async with (
        serving() as (server, url),
        reading(url, "?call=call_1&call=call_2&type=bridge&tier=B") as reader,
    ):
        add(server, "bridge", "B", "call_3")
        add(server, "bridge", "A", "call_1")
        add(server, "state", "B", "call_1")
        add(server, "bridge", "B", "call_1")
        add(server, "bridge", "B", "call_2")
        assert [(await reader.row())["call_id"] for _ in range(2)] == ["call_1", "call_2"]
    async with client_of(make_server()) as client:
        error = error_of(await client.get("/v1/events?tier=D"), 422)
        assert error["param"] == "tier.0"


async def test_what_was_said_is_left_out_unless_asked_for() -> None:
    said = {"text": "my order is 4172", "item_id": "item_1", "arguments": {"card": SECRET, "amount": 20}}
    async with serving() as (server, url), reading(url) as plain, reading(url, "?text=true") as full:
        add(server, "tool_confirmation", tool="refund", consent="yes", **said)
        row = await plain.row()
        assert row.keys() == {"time", "type", "tier", "call_id", "item_id", "tool", "consent"}
        row = await full.row()
        assert row["text"] == "my order is 4172"
        assert row["arguments"] == {"card": REDACTED, "amount": 20}
        assert list(row) == list(server.events.recent[-1])


async def test_a_reader_who_comes_back_misses_nothing() -> None:
    async with serving() as (server, url):
        async with reading(url) as reader:
            add(server, "one")
            await reader.row()
        for type in ("two", "three"):
            add(server, type)
        async with reading(url, last_event_id=reader.id) as again:
            assert [(await again.row())["type"] for _ in range(2)] == ["two", "three"]
            add(server, "four")
            assert (await again.row())["type"] == "four"
        async with reading(url, "?type=five", last_event_id=again.id) as filtered:
            add(server, "six")
            add(server, "five")
            assert (await filtered.row())["type"] == "five"
            assert filtered.id == f"{server.events.epoch}-6"


async def test_what_is_forgotten_is_said() -> None:
    async with serving() as (server, url):
        add(server, "first")
        for n in range(1001):
            add(server, "state", n=n)
        async with reading(url, last_event_id=f"{server.events.epoch}-0") as reader:
            missed = await reader.row()
            assert (missed["type"], missed["count"]) == ("events_missed", 2)
            assert (await reader.row())["n"] == 1
            assert reader.id == f"{server.events.epoch}-3"


@pytest.mark.parametrize(
    "id", ["otherproc-7", "{epoch}-7", "{epoch}-x", "{epoch}-" + "9" * 5000, "nonsense"], ids=range(5)
)
async def test_an_id_of_another_process_misses_who_knows_what(id: str) -> None:
    async with serving() as (server, url):
        add(server, "old")
        async with reading(url, last_event_id=id.format(epoch=server.events.epoch)) as reader:
            missed = await reader.row()
            assert (missed["type"], missed["count"]) == ("events_missed", None)
            add(server, "new")
            assert (await reader.row())["type"] == "new"


async def test_quiet_streams_are_kept_alive_and_move_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_events, "KEEP_ALIVE_S", 0.02)
    async with serving() as (server, url), reading(url, "?type=bridge") as reader:
        add(server, "state")
        while reader.id != f"{server.events.epoch}-1":
            assert "data" not in await reader.block()


async def test_a_stream_ends_when_it_was_to_end_and_nothing_stays_behind() -> None:
    async with serving() as (server, url):
        async with reading(url, "?for_s=0.05") as reader:
            while await reader.block():
                pass
        assert server.events.followers == []
        async with reading(url) as reader:
            server.events.followers[0].end()
            assert await reader.block() == {}
        async with reading(url):
            pass
        # The server finds out by itself that the reader is gone.
        await until(lambda: not server.events.followers)


def small_window(url: str) -> socket.socket:
    """A connection that has asked for everything, and whose receiving end holds little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    connection.setblocking(False)
    return connection


async def fill(server: Server, rows: int = 60_000) -> None:
    """More than sockets hold, in portions: somebody else has to have a turn as well."""
    for n in range(rows):
        add(server, "state", model="x" * 100)
        if n % 200 == 0:
            await asyncio.sleep(0)


async def follower_of(server: Server) -> Any:
    await until(lambda: bool(server.events.followers))
    return server.events.followers[0]


async def test_a_slow_reader_is_cut_off_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (server, url):
        with small_window(url) as connection:
            follower = await follower_of(server)
            await fill(server)
            assert follower.too_slow
            assert not follower._waiting
            read, loop = b"", asyncio.get_running_loop()
            while not read.endswith(b"0\r\n\r\n"):
                piece = await asyncio.wait_for(loop.sock_recv(connection, 1 << 20), 10)
                assert piece, "it ended without its end"
                read += piece
            assert b"events_cut_off" in read[-400:]
            assert read.count(b"data: ") < 60_000
        assert server.events.followers == []
    assert "too slow and was cut off" in caplog.text


async def test_a_reader_that_reads_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_events, "SEND_S", 0.1)
    async with serving() as (server, url):
        with small_window(url):
            await follower_of(server)
            await fill(server)
            await until(lambda: not server.events.followers)
    assert "took nothing for 0.1 s and was given up" in caplog.text


async def test_there_are_only_so_many_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_events, "MOST_READERS", 1)
    async with serving() as (server, url), reading(url):
        async with httpx.AsyncClient(trust_env=False) as client:
            refused = await client.get(f"{url}/v1/events")
        assert error_of(refused, 503)["code"] == "too_many_readers"
        assert refused.headers["retry-after"] == "10"
        assert len(server.events.followers) == 1


# --- rows ---


def fields_of(module: Path) -> set[tuple[str, str]]:
    """The rows that a module writes to the timeline, and the names of their fields."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "record":
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant):
                found |= {(str(first.value), word.arg) for word in node.keywords if word.arg}
    return found


def test_fields_that_hold_words_somewhere_are_shown_nowhere() -> None:
    """Of what the core writes to the timeline. A field that nobody has listed is not shown either."""
    fields = set().union(*(fields_of(path) for path in Path(orchestrator.core.__path__[0]).glob("*.py")))
    words = {"text", "message", "detail", "arguments", "output", "summary", "line"}
    assert {("caller_said", "text"), ("transfer", "summary"), ("tool_result", "output")} <= fields
    assert words <= {name for _, name in fields}
    assert not words & (NAMES | WORDS | FIGURES)
    assert {(type, name) for type, name in fields if name == "reason" and type in SAID_REASONS} <= FREE


@given(
    st.dictionaries(
        st.sampled_from(["text", "message", "arguments", "reason", "code", "usage", "new_field", "tool"]),
        st.recursive(
            st.sampled_from(["cancel my order", "it is +49 30 1234567", f"key {SECRET}"]),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("x"), inner, max_size=1),
        ),
    )
)
def test_no_words_of_anybody_are_shown(fields: dict[str, Any]) -> None:
    row = {"time": 1.0, "type": "tool_call", "tier": "A", "call_id": "call_1", **fields}
    shown = show(row, Redactor(), text=False)
    assert shown.keys() <= {"time", "type", "tier", "call_id", "usage", "arguments"}
    assert not {"cancel", "+49", "sk-"} & set(json.dumps(shown).replace('"', " ").split())
    assert SECRET not in json.dumps(show(row, Redactor(), text=True))


def test_an_operators_own_names_are_not_lost_but_keys_in_them_are() -> None:
    row = {"time": 1.0, "type": "charge", "tier": "A", "call_id": "call_1", "user": f"Ann {SECRET}",
           "usage": {"input_tokens": 3, "input_token_details": {"text": 1}}, "model": "gpt-realtime-2.1"}  # fmt: skip
    shown = show(row, Redactor(), text=False)
    assert shown["user"] == f"Ann {REDACTED}"
    assert (shown["usage"], shown["model"]) == (row["usage"], row["model"])


def test_rows_of_which_nobody_knows_cost_nothing() -> None:
    events = EventLog(None, keep=3)
    for n in range(5):
        events.add("state", tier="A", call_id="c", n=n)
    assert (events.last, [row["n"] for row in events.recent]) == (5, [2, 3, 4])
    assert events.since(0)[0] == 2
    assert [number for number, _ in events.since(3)[1]] == [4, 5]
    assert events.since(5) == (0, [])


async def test_a_follower_holds_no_more_than_it_may() -> None:
    events = EventLog(None)
    follower = events.follow(lambda row: row["n"] != 1, most=2)
    for n in range(3):
        events.add("state", tier="A", call_id="c", n=n)
    assert [row["n"] for _, row in await follower.next(1)] == [0, 2]
    assert await follower.next(0.001) == []
    for n in range(3, 6):
        events.add("state", tier="A", call_id="c", n=n)
    assert follower.too_slow
    assert await follower.next(1) == []
    events.unfollow(follower)
    events.unfollow(follower)
    assert events.followers == []
