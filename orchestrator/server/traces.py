"""Traces of calls for OpenTelemetry: a span for each call, inside it turns and handovers, inside these what was done.

`Traces.row` is a listener of the `EventLog` beside the metrics: spans are made from rows once what they tell of is
over, with the times of the rows. They wait in a bounded queue and leave by a thread of the SDK's, so that a collector
that is slow or away costs spans and no call anything. OpenTelemetry is imported where it is used, and not otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.operations_sections import Telemetry
from orchestrator.server.events import Row
from orchestrator.server.trace_shapes import Shape, handover_of, told, turn_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

MOST_CALLS = 20_000
MOST_ROWS = 200
"""Rows of a turn that spans are made from."""
OF_TURNS = frozenset({"answer", "answer_failed", "caller_said", "charge", "gap", "recovery", "tool_result"})
EVERY_S, EXPORT_S, CLOSE_S = 2.0, 10.0, 3.0


@dataclass(slots=True)
class _Call:
    """A call under way: its span, the rows of the turn under way, a handover whose gap may come."""

    span: Span
    inside: Context
    rows: list[Row] = field(default_factory=list)
    handover: Row | None = None
    handovers: int = 0
    turns: int = 0
    charged: int = 0


class Traces:
    """`exporter` is for tests; None sends to the settings' endpoint."""

    def __init__(self, settings: Telemetry, instance: str, exporter: SpanExporter | None = None) -> None:
        self._calls: dict[str, _Call] = {}
        self._provider = _provider(settings, instance, exporter)
        self._tracer = self._provider.get_tracer("orchestrator")

    def row(self, row: Row) -> None:
        """A row of the timeline; neither waits nor raises for what a row lacks."""
        call = self._calls.get(row["call_id"])
        if call is None:
            if row["type"] == "call_started" and len(self._calls) < MOST_CALLS:
                self._begin(row)
            return
        try:
            self._go_on(call, row)
        except Exception:
            log.exception("a span of call %s is lost", row["call_id"])

    def _begin(self, row: Row) -> None:
        from opentelemetry import trace

        attributes = told(call_id=row["call_id"], **{n: row.get(n) for n in ("tier", "rung", "reason")})
        attributes["gen_ai.conversation.id"] = row["call_id"]
        span = self._tracer.start_span(
            "call", kind=trace.SpanKind.SERVER, start_time=_ns(row["time"]), attributes=attributes
        )
        self._calls[row["call_id"]] = _Call(span, trace.set_span_in_context(span))

    def _go_on(self, call: _Call, row: Row) -> None:
        kind = row["type"]
        if kind in OF_TURNS and len(call.rows) < MOST_ROWS:
            call.rows.append(row)
        match kind:
            case "charge":
                call.charged += row["nanodollars"]
            case "handover":
                self._tell_handover(call)
                call.handover, call.handovers = row, call.handovers + 1
            case "gap":
                self._tell_handover(call, row)
            case "turn_ended":
                call.turns += 1
                self._tell_turn(call, row)
            case "latency_breach":
                breach = told(**{n: row.get(n) for n in ("what", "tier", "rung", "limit_ms", "took_ms")})
                call.span.add_event("latency_breach", breach, _ns(row["time"]))
            case "call_ended":
                self._end(call, row)

    def _tell_turn(self, call: _Call, ended: Row) -> None:
        from opentelemetry import trace

        rows, call.rows = call.rows, []
        turn, inside = turn_of(rows, ended)
        span = self._tell(turn, call.inside)
        context = trace.set_span_in_context(span)
        for shape in inside:
            if "gen_ai.operation.name" in shape.attributes:
                shape.attributes["gen_ai.conversation.id"] = ended["call_id"]
            self._tell(shape, context)

    def _tell_handover(self, call: _Call, gap: Row | None = None) -> None:
        row, call.handover = call.handover, None
        if row is not None:
            self._tell(handover_of(row, gap), call.inside)

    def _tell(self, shape: Shape, context: Context) -> Span:
        from opentelemetry import trace

        kind = trace.SpanKind.CLIENT if shape.calls_out else trace.SpanKind.INTERNAL
        span = self._tracer.start_span(
            shape.name, context, kind, attributes=shape.attributes, start_time=_ns(shape.start)
        )
        if shape.error:
            span.set_attribute("error.type", shape.error)
            span.set_status(trace.StatusCode.ERROR)
        span.end(_ns(shape.end))
        return span

    def _end(self, call: _Call, row: Row) -> None:
        self._tell_handover(call)
        del self._calls[row["call_id"]]
        figures: dict[str, Any] = {"turns": call.turns, "handovers": call.handovers}
        figures |= {"last_tier": row.get("tier"), "cost_usd": call.charged / 1e9}
        call.span.set_attributes(told(**figures))
        call.span.end(_ns(row["time"]))

    async def close(self) -> None:
        """What waits is sent if the collector takes it within some seconds; calls under way have no span."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.to_thread(self._provider.shutdown)
        except TimeoutError:
            log.warning("the collector of traces is too slow; what waited for it is lost")


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _provider(settings: Telemetry, instance: str, exporter: SpanExporter | None) -> TracerProvider:
    """Of our own and nobody else's: libraries that trace themselves do not come into it."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    if exporter is None:
        headers = {name: value.get_secret_value() for name, value in settings.otlp_headers.items()}
        exporter = OTLPSpanExporter(endpoint=settings.traces_url, headers=headers, timeout=EXPORT_S)
    resource = Resource({"service.name": settings.service_name, "service.instance.id": instance})
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.share)), resource=resource, shutdown_on_exit=False
    )
    batches = BatchSpanProcessor(
        exporter,
        max_queue_size=settings.queue_limit,
        schedule_delay_millis=EVERY_S * 1000,
        max_export_batch_size=min(512, settings.queue_limit),
        export_timeout_millis=EXPORT_S * 1000,
    )
    provider.add_span_processor(batches)
    return provider
