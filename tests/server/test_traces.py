"""Traces, as a collector gets them: OTLP over HTTP on this machine, the protobuf decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator.config import Settings
from orchestrator.operations_sections import Telemetry
from orchestrator.server.app import Orchestrator
from orchestrator.server.events import EventLog
from orchestrator.server.traces import MOST_ROWS, Traces
from tests import planted
from tests.server.collectors import Collector, attributes, collecting

WORDS = "my name is Ada and my card is 4111 1111 1111 1111"
BEGIN = 1_772_000_000.0


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


class Rows:
    """Rows of a call at times of the test's own."""

    def __init__(self, traces: Traces, call_id: str = "call_1") -> None:
        self._traces, self._call_id = traces, call_id

    def add(self, after: float, type: str, tier: str = "A", **fields: Any) -> None:
        row = {"time": BEGIN + after, "type": type, "tier": tier, "call_id": self._call_id, **fields}
        self._traces.row(row)


def a_call(traces: Traces, call_id: str = "call_1") -> None:
    """A turn in Tier A; the provider is lost in the second, which Tier B answers after a tool."""
    add = Rows(traces, call_id).add
    add(0, "call_started", rung="gpt-realtime-2.1", reason="default")
    usage = {"input_tokens": 30, "output_tokens": 50}
    add(1, "caller_said", text=WORDS, item_id="i1")
    charge = {"what": "response", "model": "gpt-realtime-2.1", "turn": 1, "estimated": False}
    add(4, "charge", **charge, nanodollars=2_000_000, usage=usage)
    add(
        4, "answer", status="completed", text=WORDS, owed_at=BEGIN + 2, ttfa_ms=400.0, voice_to_voice_ms=900.0
    )
    add(4, "turn_ended", turn=1, outcome="answered")
    add(
        6,
        "handover",
        from_tier="A",
        to_tier="B",
        from_rung="gpt-realtime-2.1",
        to_rung="kokoro",
        trigger="fault",
        cause="closed",
    )
    add(6.5, "latency_breach", "B", what="recovery", limit_ms=100.0, took_ms=500.0, rung="kokoro")
    add(6.5, "gap", "B", trigger="fault", cause="closed", gap_ms=500.0)
    part = {"model": "whisper", "rung": "kokoro", "turn": 2, "nanodollars": 0, "estimated": False}
    add(7, "charge", "B", **part, what="transcription", usage={"seconds": 2.0})
    tool = {
        "tool": "refund",
        "tool_call_id": "call_t1",
        "arguments": {"why": WORDS},
        "output": WORDS,
        "kind": "write",
        "runs": "webhook",
    }
    add(8, "tool_result", "B", **tool, result="unknown", latency_ms=250.0, message=WORDS)
    tokens = {"prompt_tokens": 100, "completion_tokens": 20}
    add(9, "charge", "B", **{**part, "model": "smollm2"}, what="agent", usage=tokens)
    parts = {"agent_first_token": 0.3, "tts_first_audio": 0.4, "first_audio": 1.0}
    add(
        10,
        "answer",
        "B",
        status="completed",
        text=WORDS,
        rung="kokoro",
        owed_at=BEGIN + 6,
        ttfa_ms=2500.0,
        parts=parts,
    )
    add(10, "turn_ended", "B", turn=2, outcome="answered")
    add(12, "call_ended", "B", spent_usd=0.002, turns={"answered": 2})


async def sent(collector: Collector, **settings: Any) -> dict[str, Span]:
    traces = Traces(Telemetry(otlp_endpoint=collector.url, **settings), "replica_1")
    a_call(traces)
    await traces.close()
    return {span.name: span for span in collector.spans()}


async def test_a_call_arrives_as_spans_inside_each_other(collector: Collector) -> None:
    spans = await sent(collector, otlp_headers={"x-key": planted.COLLECTOR})
    assert (set(collector.paths), collector.headers[0]["x-key"]) == ({"/v1/traces"}, planted.COLLECTOR)
    (resource,) = collector.requests[0].resource_spans
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert about == {"service.name": "voice-orchestrator", "service.instance.id": "replica_1"}
    turns = [span for span in collector.spans() if span.name == "turn"]
    call = spans["call"]
    assert len({span.trace_id for span in collector.spans()}) == 1
    assert not call.parent_span_id
    assert [span.parent_span_id for span in (*turns, spans["handover"])] == [call.span_id] * 3
    inside = {name: span.parent_span_id for name, span in spans.items()}
    assert inside["agent gpt-realtime-2.1"] == turns[0].span_id
    for name in ("stt whisper", "agent smollm2", "tts", "execute_tool refund"):
        assert inside[name] == turns[1].span_id, name


async def test_times_are_those_of_the_rows(collector: Collector) -> None:
    spans = await sent(collector)

    def of(name: str) -> tuple[float, float]:
        span = spans[name]
        begin, end = (ns / 1e9 - BEGIN for ns in (span.start_time_unix_nano, span.end_time_unix_nano))
        return pytest.approx(begin, abs=1e-3), pytest.approx(end, abs=1e-3)

    assert of("call") == (0, 12)
    assert of("agent gpt-realtime-2.1") == (2, 4)
    assert of("turn") == (6, 10)  # the second
    assert of("handover") == (6, 6.5)
    assert of("stt whisper") == (6, 7)
    assert of("agent smollm2") == (7.5, 9)
    assert of("tts") == (8.1, 10)
    assert of("execute_tool refund") == (7.75, 8)


async def test_attributes_have_the_names_of_the_conventions_and_no_words(collector: Collector) -> None:
    spans = await sent(collector)
    chat = attributes(spans["agent gpt-realtime-2.1"])
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.request.model"] == "gpt-realtime-2.1"
    assert (chat["gen_ai.conversation.id"], chat["gen_ai.provider.name"]) == ("call_1", "openai")
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (30, 50)
    assert chat["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.4)
    assert attributes(spans["agent smollm2"])["gen_ai.usage.input_tokens"] == 100
    tool = attributes(spans["execute_tool refund"])
    assert (tool["gen_ai.tool.name"], tool["gen_ai.operation.name"]) == ("refund", "execute_tool")
    assert tool["error.type"] == "unknown"
    call = attributes(spans["call"])
    assert (call["gen_ai.conversation.id"], call["orchestrator.last_tier"]) == ("call_1", "B")
    assert (call["orchestrator.turns"], call["orchestrator.handovers"]) == (2, 1)
    assert call["orchestrator.cost_usd"] == pytest.approx(0.002)
    assert attributes(spans["handover"])["orchestrator.gap_ms"] == 500.0
    assert spans["handover"].status.code == Status.STATUS_CODE_ERROR
    assert [event.name for event in spans["call"].events] == ["latency_breach"]
    everything = b"".join(request.SerializeToString() for request in collector.requests)
    for said in ("Ada", "4111", "card"):
        assert said.encode() not in everything


async def test_names_that_are_no_words_are_not_told() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(Telemetry(), "r", exporter)
    add = Rows(traces).add
    add(0, "call_started", rung="a rung of many words", reason="x" * 500)
    add(1, "tool_result", tool=WORDS, tool_call_id=WORDS, result="done", latency_ms="soon")
    add(1, "answer", owed_at="then", ttfa_ms=None)
    add(1, "answer", owed_at=BEGIN, ttfa_ms=None, parts=None, status=WORDS)
    add(2, "turn_ended", turn=1, outcome=WORDS, reason=WORDS)
    add(3, "call_ended")
    await traces.close()
    spans = exporter.get_finished_spans()
    assert "Ada" not in str([span.to_json() for span in spans])
    assert "execute_tool other" in [span.name for span in spans]


async def test_a_collector_that_hangs_holds_nothing_up(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.hangs = threading.Event()
    traces = Traces(Telemetry(otlp_endpoint=collector.url, queue_limit=50), "r")
    began = time.perf_counter()
    for number in range(200):
        a_call(traces, f"call_{number}")
    took_ms = (time.perf_counter() - began) / 200 * 1000
    print(f"{took_ms:.2f} ms of the loop for a call of 9 spans")
    assert took_ms < 20
    assert not traces._calls
    collector.hangs.set()
    await traces.close()


async def test_memory_is_bounded() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(Telemetry(), "r", exporter)
    add = Rows(traces).add
    add(0, "call_started", rung="r", reason="default")
    for number in range(10 * MOST_ROWS):
        add(number / 1000, "answer_failed", cause="agent")
    assert len(traces._calls["call_1"].rows) == MOST_ROWS
    Rows(traces, "call_unknown").add(0, "turn_ended", turn=1, outcome="answered")
    assert list(traces._calls) == ["call_1"]
    await traces.close()


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_share_of_calls_is_traced_as_a_whole(share: float) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(Telemetry(share=share), "r", exporter)
    a_call(traces)
    await traces.close()
    assert len(exporter.get_finished_spans()) == (9 if share else 0)


async def test_a_server_traces_where_the_settings_say_so(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    given: dict[str, Any] = {"openai": {"api_key": planted.PROVIDER}}
    assert Orchestrator(Settings(**given)).traces is None
    service = Orchestrator(Settings(**given, telemetry={"otlp_endpoint": collector.url + "/custom/path"}))
    assert service.traces is not None
    log: EventLog = service.events
    log.add("call_started", tier="A", call_id="call_1", rung="r", reason="default")
    log.add("call_ended", tier="A", call_id="call_1", spent_usd=0.0)
    await service.traces.close()
    assert [span.name for span in collector.spans()] == ["call"]
    assert collector.paths == ["/custom/path"]
