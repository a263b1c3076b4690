"""Every fault of the realtime simulator, as a real client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from orchestrator.simulate.commands import catalogues
from orchestrator.simulate.fault_board import parse_option
from orchestrator.simulate.faults import (
    CATALOGUE,
    FaultBoard,
    FaultId,
    Moment,
    parse_fault,
)
from tests import planted
from tests.simulate.simulated import (
    MODEL,
    PATIENCE,
    Bench,
    Client,
    check_golden,
    plain_http,
    speech,
)

Start = Callable[..., Awaitable[Bench]]
Observer = Callable[[Bench], Awaitable[None]]
OBSERVERS: dict[FaultId, Observer] = {}
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "simulators.md"
SOON = 0.15
"""Seconds of silence that count as silence, where an answer is due after 10 ms."""
KEY = {"Authorization": f"Bearer {planted.PROVIDER}"}


def observes(*faults: FaultId) -> Callable[[Observer], Observer]:
    def register(observer: Observer) -> Observer:
        OBSERVERS.update(dict.fromkeys(faults, observer))
        return observer

    return register


async def nothing_comes(client: Client) -> None:
    """The socket says nothing for a while, though the server is due to."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await client.next()


async def speak(bench: Bench) -> Client:
    client = await bench.connect()
    client.events.clear()
    await client.say(speech())
    return client


async def closed(client: Client) -> ConnectionClosed:
    error = await client.ended()
    assert isinstance(error, ConnectionClosed), error
    return error


# -- the connection is never made ------------------------------------------------------------------


@observes(FaultId.REFUSED)
async def refused(bench: Bench) -> None:
    bench.arm("refused")
    with pytest.raises((InvalidMessage, ConnectionError)):
        await bench.dial()


@observes(FaultId.HTTP_401, FaultId.HTTP_403, FaultId.HTTP_404, FaultId.HTTP_429, FaultId.HTTP_5XX)
async def http_status(bench: Bench) -> None:
    statuses = {"http_401": 401, "http_403": 403, "http_404": 404, "http_429": 429, "http_5xx": 503}
    for fault, status in statuses.items():
        bench.arm(fault)
        with pytest.raises(InvalidStatus) as refusal:
            await bench.dial()
        assert refusal.value.response.status_code == status
        assert json.loads(refusal.value.response.body or b"")["error"]["code"] == fault
    await bench.connect()


@observes(FaultId.HANG)
async def hang(bench: Bench) -> None:
    bench.arm("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await bench.dial()
    await bench.connect()


@observes(
    FaultId.LATE_REFUSAL_3000, FaultId.LATE_REFUSAL_1013, FaultId.LATE_REFUSAL_4000, FaultId.LATE_REFUSAL_4004
)
async def late_refusal(bench: Bench) -> None:
    reasons = {
        3000: ("invalid_request_error", "invalid_api_key"),
        1013: ("insufficient_quota", "credit_balance_exhausted"),
        4000: ("invalid_request_error", "invalid_model"),
        4004: ("invalid_request_error", "model_not_found"),
    }
    for code, (kind, reason) in reasons.items():
        bench.arm(f"late_refusal_{code}")
        client = await bench.dial()
        end = await closed(client)
        assert [event["type"] for event in client.events] == ["error"]
        assert (client.events[0]["error"]["type"], client.events[0]["error"]["code"]) == (kind, reason)
        assert end.rcvd is not None
        assert (end.rcvd.code, end.rcvd.reason) == (code, f"{kind}.{reason}")


# -- the connection is lost or dead ----------------------------------------------------------------


@observes(FaultId.MUTE)
async def mute(bench: Bench) -> None:
    bench.arm("mute")
    async with connect(bench.url, additional_headers=KEY) as socket:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await socket.recv()
        await answered_ping(socket)


async def answered_ping(socket: ClientConnection) -> None:
    async with asyncio.timeout(PATIENCE):
        await (await socket.ping())


@observes(FaultId.HALF_OPEN)
async def half_open(bench: Bench) -> None:
    bench.arm("half_open", moment="idle")
    async with connect(bench.url, additional_headers=KEY, close_timeout=0) as socket:
        await socket.recv()
        for event in ("input_audio_buffer.clear", "response.create"):
            await socket.send(json.dumps({"type": event}))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await (await socket.ping())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await socket.recv()
        assert socket.close_code is None
    assert not bench.state()["connections"][0]["session"]["received"]


@observes(FaultId.ABORT)
async def abort(bench: Bench) -> None:
    bench.arm("abort", after_ms=500)
    client = await speak(bench)
    end = await closed(client)
    assert end.rcvd is None
    assert isinstance(end.__cause__, ConnectionResetError)
    assert client.audio_ms() == 500


@observes(FaultId.CLOSE_1011, FaultId.CLOSE_1000)
async def closes(bench: Bench) -> None:
    for code in (1011, 1000):
        bench.arm(f"close_{code}")
        client = await speak(bench)
        end = await closed(client)
        assert end.rcvd is not None
        assert end.rcvd.code == code
        assert client.audio_ms() > 0


@observes(FaultId.EXPIRED)
async def expired(bench: Bench) -> None:
    bench.arm("expired", moment="mid_answer")
    client = await speak(bench)
    end = await closed(client)
    assert client.events[-1]["error"]["code"] == "session_expired"
    assert end.rcvd is not None
    assert end.rcvd.code == 1001


# -- the connection is well and the answer is not --------------------------------------------------


@observes(FaultId.SILENT_TURN)
async def silent_turn(bench: Bench) -> None:
    bench.arm("silent_turn")
    client = await speak(bench)
    await client.until("input_audio_buffer.committed")
    await nothing_comes(client)
    check_golden("silent_turn", client.events)
    await client.say(speech())
    assert (await client.until("response.done"))["response"]["status"] == "completed"


@observes(FaultId.SILENT_INPUT)
async def silent_input(bench: Bench) -> None:
    bench.arm("silent_input")
    client = await speak(bench)
    await nothing_comes(client)
    assert client.events == []
    await client.say(speech())
    assert (await client.until("response.done"))["response"]["status"] == "completed"


@observes(FaultId.SILENT_RESPONSE)
async def silent_response(bench: Bench) -> None:
    bench.arm("silent_response")
    client = await speak(bench)
    await client.until("response.created")
    await nothing_comes(client)


@observes(FaultId.STALL)
async def stall(bench: Bench) -> None:
    bench.arm("stall", after_ms=300)
    client = await speak(bench)
    while client.audio_ms() < 300:
        await client.next()
    await nothing_comes(client)
    await client.settle()


@observes(FaultId.SLOW)
async def slow(bench: Bench) -> None:
    """One delta of 100 ms, then one of 200 ms half a second later, at 0.4 times real time."""
    bench.arm("slow")
    client = await speak(bench)
    await client.until("response.output_audio.delta")
    now = asyncio.get_running_loop().time
    await client.until("response.output_audio.delta")
    began = now()
    await client.until("response.output_audio.delta")
    assert 0.4 <= now() - began < 3.0


@observes(FaultId.FAILED, FaultId.RATE_LIMITED, FaultId.NO_CREDIT)
async def failures(bench: Bench) -> None:
    codes = {
        "failed": "server_error",
        "rate_limited": "rate_limit_exceeded",
        "no_credit": "credit_balance_exhausted",
    }
    for fault, code in codes.items():
        bench.arm(fault)
        client = await speak(bench)
        response = (await client.until("response.done"))["response"]
        check_golden("failed_at_once", client.events)
        assert response["status"] == response["status_details"]["type"] == "failed"
        assert response["status_details"]["error"]["code"] == code
        assert response["usage"]["total_tokens"] == 0
        await client.say(speech())
        assert (await client.until("response.done"))["response"]["status"] == "completed"


@observes(FaultId.EMPTY)
async def empty(bench: Bench) -> None:
    bench.arm("empty")
    client = await speak(bench)
    response = (await client.until("response.done"))["response"]
    check_golden("failed_at_once", client.events)
    assert (response["status"], response["output"]) == ("completed", [])


# -- events that no client expects -----------------------------------------------------------------


@observes(FaultId.GARBAGE)
async def garbage(bench: Bench) -> None:
    bench.arm("garbage", moment="idle")
    client = await bench.dial()
    await client.until("session.created")
    with pytest.raises(json.JSONDecodeError):
        await client.next()
    await client.settle()


@observes(FaultId.UNKNOWN)
async def unknown(bench: Bench) -> None:
    bench.arm("unknown", moment="idle")
    client = await bench.dial()
    await client.until("session.created")
    assert (await client.connection.recv()).type == "response.hologram.delta"
    await client.settle()


@observes(FaultId.ORPHAN)
async def orphan(bench: Bench) -> None:
    bench.arm("orphan", after_ms=300)
    client = await speak(bench)
    response = (await client.until("response.done"))["response"]
    strangers = [
        event for event in client.of("response.output_audio.delta") if event["response_id"] != response["id"]
    ]
    assert len(strangers) == 1


@observes(FaultId.DUPLICATE)
async def duplicate(bench: Bench) -> None:
    bench.arm("duplicate", after_ms=300)
    client = await speak(bench)
    await client.until("response.done")
    assert len(client.events) - len({event["event_id"] for event in client.events}) == 1


@pytest.mark.parametrize("observer", sorted(set(OBSERVERS.values()), key=lambda call: call.__name__))
async def test_fault(bench: Bench, observer: Observer) -> None:
    await observer(bench)
    assert bench.simulator.faults.describe() == []


def test_every_fault_is_observed() -> None:
    assert set(OBSERVERS) == set(FaultId) == set(CATALOGUE)


# -- arming ----------------------------------------------------------------------------------------


async def test_count_and_forever(bench: Bench) -> None:
    bench.arm("http_5xx", count=2)
    for _ in range(2):
        with pytest.raises(InvalidStatus):
            await bench.dial()
    await bench.connect()
    bench.arm("http_5xx", count="forever")
    for _ in range(3):
        with pytest.raises(InvalidStatus):
            await bench.dial()
    bench.simulator.faults.clear()
    await bench.connect()


async def test_a_fault_may_be_for_one_model_only(bench: Bench) -> None:
    bench.arm("http_5xx", count="forever", model=MODEL)
    with pytest.raises(InvalidStatus):
        await bench.dial()
    client = await bench.dial(model=f"{MODEL}-mini")
    assert (await client.until("session.created"))["session"]["model"] == f"{MODEL}-mini"


async def test_a_cleared_fault_does_not_strike_a_call_that_waits_for_it(bench: Bench) -> None:
    bench.arm("abort", moment="idle", after_ms=60_000)
    client = await bench.connect()
    bench.simulator.faults.clear()
    await client.settle()
    bench.arm("abort", moment="idle")
    await closed(client)


async def test_a_fault_may_be_for_sessions_that_open_later_only(bench: Bench) -> None:
    first = await bench.connect()
    bench.arm("abort", moment="idle", new_sessions=True)
    await first.settle()
    second = await bench.dial()
    await closed(second)
    bench.arm("failed", new_sessions=True)
    await first.say(speech())
    assert (await first.until("response.done"))["response"]["status"] == "completed"
    third = await bench.connect()
    await third.say(speech())
    assert (await third.until("response.done"))["response"]["status"] == "failed"


# -- the control interface -------------------------------------------------------------------------


async def test_control_over_http(bench: Bench) -> None:
    async with plain_http(base_url=bench.origin) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        body = {"fault": "abort", "moment": "mid_answer", "after_ms": 800, "count": 3}
        armed = await http.post("/control/faults", json=body)
        assert armed.status_code == 201
        assert armed.json()["faults"] == [
            {**body, "after_chunks": 0, "model": None, "new_sessions": False, "fired": 0}
        ]
        assert (await http.get("/control/state")).json()["faults"] == armed.json()["faults"]
        assert (await http.get("/control/faults")).json() == {"faults": armed.json()["faults"], "struck": []}
        assert (await http.delete("/control/faults")).json() == {"faults": []}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"fault": "explode"}, "expected one of refused"),
        ({"fault": "hang", "moment": "idle"}, "hang strikes at connecting, not at 'idle'"),
        ({"fault": "abort", "after_ms": -1}, "after_ms: expected a whole number of at least 0"),
        ({"fault": "abort", "count": 0}, "count: expected a whole number of at least 1"),
        ({"fault": "abort", "new_sessions": 1}, "new_sessions: expected true or false, not 1"),
        ({"fault": "abort", "when": "now"}, "unknown field 'when'"),
        ([], "expected a JSON object"),
    ],
)
async def test_bad_faults_are_explained(bench: Bench, body: object, told: str) -> None:
    async with plain_http(base_url=bench.origin) as http:
        answer = await http.post("/control/faults", json=body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert bench.simulator.faults.describe() == []


async def test_control_answers_on_loopback_only(bench: Bench) -> None:
    """A server that listens on every address still takes commands from its own machine alone."""
    stranger = httpx.ASGITransport(bench.simulator.app, client=("192.0.2.7", 4711))
    async with httpx.AsyncClient(transport=stranger, base_url="http://simulator") as http:
        assert (await http.get("/healthz")).status_code == 200
        for answer in (
            await http.get("/control/state"),
            await http.get("/control/faults"),
            await http.post("/control/faults", json={"fault": "abort"}),
            await http.delete("/control/faults"),
        ):
            assert answer.status_code == 403
    assert bench.simulator.faults.describe() == []


@pytest.mark.parametrize("name", catalogues())
def test_the_documentation_names_every_fault_and_its_moments(name: str) -> None:
    """Each fault stands in a row of its simulator's table; `llm` and `speech` share one."""
    chapters = DOCUMENTATION.read_text().split("\n## ")
    title = "speech" if name == "llm" else name
    chapter = next(chapter for chapter in chapters if chapter.startswith(f"{title}\n"))
    rows = [line.split("|") for line in chapter.splitlines() if line.startswith("| `")]
    for fault, kind in catalogues()[name].items():
        row = next((row for row in rows if f"`{fault}`" in row[1]), None)
        assert row is not None, fault
        assert kind.moments[0] in row[3], fault


def test_fault_options() -> None:
    fault = parse_option("abort@mid_answer+800*2", CATALOGUE)
    assert (fault.id, fault.moment, fault.after_ms, fault.remaining) == ("abort", "mid_answer", 800, 2)
    assert parse_option("refused", CATALOGUE).remaining is None
    with pytest.raises(ValueError, match=r"FAULT\[@MOMENT\]"):
        parse_option("abort at noon", CATALOGUE)


def test_two_calls_cannot_both_use_the_last_of_a_fault() -> None:
    board = FaultBoard()
    board.arm(parse_fault({"fault": "abort"}))
    first, second = (board.peek(Moment.MID_ANSWER, MODEL) for _ in range(2))
    assert first is second is not None
    assert [board.claim(first), board.claim(second)] == [True, False]
