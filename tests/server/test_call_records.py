"""What is remembered of calls, and how it is asked for."""

from __future__ import annotations

import time

import httpx
import pytest

from orchestrator.server.call_records import FIRST_ROWS, LAST_ROWS, CallRecords
from orchestrator.server.calls import CallInfo
from orchestrator.server.events import EventLog
from tests.server.test_http import Server, client_of, make_server


def info(id: str, at: float = 0.0, **more: str) -> CallInfo:
    return CallInfo(id, "gpt-realtime", started_at=at, **more)  # type: ignore[arg-type]


def records(keep: int = 10) -> tuple[CallRecords, EventLog]:
    made, log = CallRecords(keep), EventLog(None)
    log.listeners.append(made.row)
    return made, log


def test_figures_are_those_of_the_rows() -> None:
    made, log = records()
    made.began(info("call_1", 5.0, user="u", purpose="support", bucket="acme", who="key_1f2e3d4c"))
    log.add("call_started", tier="A", call_id="call_1", rung="gpt-realtime", reason="default")
    for ms in (100.0, 300.0, 200.0):
        log.add("answer", tier="A", call_id="call_1", ttfa_ms=ms, voice_to_voice_ms=ms + 1)
        log.add("charge", tier="A", call_id="call_1", nanodollars=1_500_000)
        log.add("turn_ended", tier="A", call_id="call_1", turn=1, outcome="answered")
    log.add("handover", tier="B", call_id="call_1", to_tier="B", to_rung="kokoro", cause="closed")
    log.add("gap", tier="B", call_id="call_1", trigger="failure", cause="closed", gap_ms=420.0)
    log.add("latency_breach", tier="B", call_id="call_1", what="recovery")
    log.add("charge", tier="A", call_id="call_other", nanodollars=9_000_000)
    found = made.get("call_1")
    assert found is not None
    figures = found.figures()
    assert figures["who"] == "key_1f2e3d4c"
    assert figures["spent_usd"] == pytest.approx(0.0045)
    assert (figures["ttfa_ms"], figures["longest_ttfa_ms"]) == (200.0, 300.0)
    assert (figures["voice_to_voice_ms"], figures["longest_voice_to_voice_ms"]) == (201.0, 301.0)
    assert (figures["tier"], figures["rung"], figures["tiers"]) == ("B", "kokoro", ["A", "B"])
    counts = [figures[name] for name in ("turns", "handovers", "gaps", "breaches", "longest_gap_ms")]
    assert counts == [3, 1, 1, 1, 420.0]


def test_memory_is_bounded_and_the_beginning_stays() -> None:
    made, log = records(keep=2)
    for call in range(5):
        made.began(info(f"call_{call}", float(call)))
        for number in range(FIRST_ROWS + LAST_ROWS + 100):
            log.add("state", tier="A", call_id=f"call_{call}", number=number)
        made.closed(f"call_{call}", 100.0)
        made.closed(f"call_{call}", 100.0)
    assert [record.call_id for record in made.list(ended=True, wanted={}, order="started")] == [
        "call_4",
        "call_3",
    ]
    last = made.get("call_4")
    assert last is not None
    numbers = [row["number"] for row in last.rows()]
    assert numbers == [*range(FIRST_ROWS), *range(FIRST_ROWS + 100, FIRST_ROWS + LAST_ROWS + 100)]
    assert last.dropped == 100
    assert made.get("call_0") is None


def test_a_row_and_the_end_of_a_call_cost_little() -> None:
    """Bounds that hold on a busy machine; what it costs on a quiet one is in docs/monitoring.md."""
    made, log = CallRecords(100), EventLog(None)
    log.add("charge", tier="B", call_id="", what="agent", nanodollars=122_000, usage={"prompt_tokens": 237})
    log.add("answer", tier="B", call_id="", ttfa_ms=348.0, voice_to_voice_ms=358.8, text="It left on Monday.")
    log.add("state", tier="B", call_id="", state="local", move="degrade")
    rows, ends = [], []
    for call in range(20):
        id = f"call_{call}"
        made.began(info(id))
        start = time.perf_counter()
        for number in range(FIRST_ROWS + LAST_ROWS):
            made.row({**log.recent[number % 3], "call_id": id, "number": number})
        rows.append((time.perf_counter() - start) / (FIRST_ROWS + LAST_ROWS))
        start = time.perf_counter()
        made.closed(id, 1.0)
        ends.append(time.perf_counter() - start)
    print(f"a row {min(rows) * 1e6:.1f} µs, the end of a call of 500 rows {min(ends) * 1e3:.2f} ms")
    assert min(rows) < 50e-6
    assert min(ends) < 10e-3


@pytest.fixture
def server() -> Server:
    server = make_server()
    server.events.listeners.append(server.records.row)
    for number, (bucket, cost) in enumerate((("acme", 3), ("other", 9), ("acme", 6))):
        call = f"call_{number}"
        server.records.began(info(call, float(number), bucket=bucket))
        server.events.add("call_started", tier="A", call_id=call, rung="r", reason="default")
        server.events.add("charge", tier="A", call_id=call, nanodollars=cost)
        server.events.add("caller_said", tier="A", call_id=call, item_id="i", text="my name is Ada")
    server.records.closed("call_0", 9.0)
    return server


async def ids(client: httpx.AsyncClient, query: str) -> list[str]:
    return [call["call_id"] for call in (await client.get(f"/v1/calls{query}")).json()["calls"]]


async def test_calls_are_listed_filtered_and_sorted(server: Server) -> None:
    async with client_of(server) as client:
        assert await ids(client, "") == ["call_2", "call_1"]
        assert await ids(client, "?sort=cost&ended=true") == ["call_1", "call_2", "call_0"]
        assert await ids(client, "?bucket=acme&ended=true") == ["call_2", "call_0"]
        assert await ids(client, "?tier=B") == []
        limited = (await client.get("/v1/calls?limit=1")).json()
        assert (len(limited["calls"]), limited["found"]) == (1, 2)
        assert (await client.get("/v1/calls?sort=colour")).status_code == 422


@pytest.mark.parametrize("id", ["call_0", "call_1"])
async def test_a_timeline_has_words_for_those_only_who_ask(server: Server, id: str) -> None:
    async with client_of(server) as client:
        plain = (await client.get(f"/v1/calls/{id}")).json()
        assert [row["type"] for row in plain["rows"]] == ["call_started", "charge", "caller_said"]
        assert "Ada" not in str(plain)
        assert "Ada" in str((await client.get(f"/v1/calls/{id}?text=true")).json())
        unknown = await client.get("/v1/calls/call_9")
        assert unknown.status_code == 404
        assert unknown.json()["error"]["code"] == "unknown_call"
