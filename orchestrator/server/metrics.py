"""Figures for Prometheus: counters fed by rows of the timeline, and gauges that are read when somebody asks.

A registry belongs to one server object. No label holds a call, a user or anybody's words; buckets have a name here if
they are configured, and each family has a most of series: what comes after that counts as "other".
docs/monitoring.md tells what each figure means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from orchestrator.config import Settings
from orchestrator.core.latency import Part
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import NANO
from orchestrator.server.events import Row
from orchestrator.server.recording import State

M = TypeVar("M", Counter, Histogram)

# The time at which each series was made is a series of its own, otherwise.
disable_created_metrics()  # type: ignore[no-untyped-call]

PREFIX = "orchestrator_"
OTHER, NONE = "other", "none"
MOST = 60
"""Series of a counter, at most; of handovers, which have four labels, three times as many."""
WAITS_S = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
DELAYS_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
GAPS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0)
_TIERS = frozenset(Tier)
_WORD = re.compile(r"[A-Za-z0-9_.:/{}-]{1,64}")


def tier_label(tier: Any) -> str:
    return str(tier) if tier in _TIERS else NONE


class Family(Generic[M]):
    """A metric with labels that has at most `most` series."""

    def __init__(self, metric: M, most: int = MOST) -> None:
        self._metric: M = metric
        self._most = most
        self._known: dict[tuple[str, ...], M] = {}

    def at(self, *labels: str) -> M:
        found = self._known.get(labels)
        if found is None:
            if len(self._known) >= self._most or not all(_WORD.fullmatch(label) for label in labels):
                labels = (OTHER,) * len(labels)
            found = self._known[labels] = self._metric.labels(*labels)
        return found


class Metrics:
    """`row` and the others are called on the event loop and neither wait nor raise for what a row lacks."""

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self._buckets = frozenset(settings.budget.buckets) | {settings.budget.default_bucket}
        ProcessCollector(registry=self.registry)
        self._make_of_calls()
        self._make_of_money()
        self._make_of_requests()
        self._rows: Mapping[str, Callable[[Row], None]] = {
            "call_started": lambda row: self._started.at(tier_label(row["tier"])).inc(),
            "call_ended": lambda row: self._ended.at(tier_label(row["tier"])).inc(),
            "turn_ended": lambda row: self._turns.at(tier_label(row["tier"]), str(row["outcome"])).inc(),
            "answer": self._answer,
            "handover": self._handover,
            "gap": lambda row: self._gaps.at(str(row["trigger"]), str(row["cause"])).observe(
                row["gap_ms"] / 1000
            ),
            "charge": self._charge,
            "budget_step": lambda row: self._steps.at(str(row["action"])).inc(),
            "tool_result": lambda row: self._tools.at(str(row["result"])).inc(),
            "tool_approval": lambda row: self._decisions.at(str(row["decision"])).inc(),
            "hedge": lambda row: self._hedges.at(str(row["result"])).inc(),
            "probe": lambda row: self._probes.at("worked" if row["ok"] else "failed").inc(),
            "provider_lost": lambda row: self._errors.at("provider_lost", str(row["cause"])).inc(),
            "provider_error": lambda row: self._errors.at("provider_error", NONE).inc(),
            "answer_failed": lambda row: self._errors.at("answer_failed", str(row["cause"])).inc(),
            "recording": self._recording,
            "latency_breach": lambda row: self._breaches.at(str(row.get("what", NONE))).inc(),
        }

    def _counter(self, name: str, help: str, *labels: str, most: int = MOST) -> Family[Counter]:
        return Family(Counter(PREFIX + name, help, labels, registry=self.registry), most)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Family[Histogram]:
        return Family(
            Histogram(PREFIX + name, help, labels, buckets=buckets, registry=self.registry), MOST // 2
        )

    def _make_of_calls(self) -> None:
        counter, histogram = self._counter, self._histogram
        self._started = counter("calls_started", "Calls that began, by the tier that took them.", "tier")
        self._ended = counter("calls_ended", "Calls that ended, by the tier they ended in.", "tier")
        self._turns = counter("turns", "Turns of callers that ended, by how.", "tier", "outcome")
        self._ttfa = histogram(
            "time_to_first_audio_seconds", "From the answer being owed to its first audio.", WAITS_S, "tier"
        )
        self._voice_to_voice = histogram(
            "voice_to_voice_seconds", "From the caller's last sound to the answer's first.", WAITS_S, "tier"
        )
        self._gaps = histogram(
            "gap_seconds",
            "Silence that callers heard at a handover, until the first sound after it.",
            GAPS_S,
            "trigger",
            "cause",
        )
        self._handovers = counter(
            "handovers", "Handovers of calls.", "from_tier", "to_tier", "trigger", "cause", most=3 * MOST
        )
        self._hedges = counter("hedges", "Answers that Tier B began in silence, by result.", "result")
        self._errors = counter("call_errors", "What failed in calls, by kind and cause.", "kind", "cause")
        self._breaches = counter("latency_breaches", "Latency budgets that were exceeded.", "part")
        self._recordings = counter("recordings", "What has become of recordings of calls.", "state")
        self._frames_lost = Counter(
            PREFIX + "recording_frames_lost",
            "Frames that recordings lack, because the disk was too slow.",
            registry=self.registry,
        )
        # What alerts ask for is there from the beginning: Prometheus sees no increase in a series that begins with 1.
        for part in Part:
            self._breaches.at(part.value)
        for state in State:
            self._recordings.at(state.value)
        self._tools = counter("tool_runs", "Runs of tools, by result.", "result")
        self._decisions = counter("approvals_decided", "What people decided about tool calls.", "decision")

    def _make_of_money(self) -> None:
        self._charged = self._counter(
            "charged_usd", "US dollars that calls were charged.", "tier", "what", "bucket"
        )
        self._estimated = self._counter("estimated_usd", "Of that, what is an estimate at worst.", "tier")
        self._steps = self._counter("budget_steps", "Steps by which calls got cheaper.", "action")

    def _make_of_requests(self) -> None:
        self._http = self._counter("http_requests", "Requests over HTTP.", "route", "status", most=3 * MOST)
        self._refused = self._counter(
            "refused", "Requests and connections that were turned away.", "where", "code"
        )
        self._probes = self._counter("probes", "Probes of providers.", "outcome")
        self._trips = self._counter("breaker_transitions", "Changes of breakers.", "rung", "state")
        self._logged = self._counter("log_records", "Lines of the log from warnings up.", "level")
        self._loop = Histogram(
            PREFIX + "loop_delay_seconds",
            "How much later than it should the event loop does what is due: all calls wait for that.",
            buckets=DELAYS_S,
            registry=self.registry,
        )

    # --- what happens ---

    def row(self, row: Row) -> None:
        """A row of the timeline."""
        count = self._rows.get(row["type"])
        if count is not None:
            count(row)

    def _answer(self, row: Row) -> None:
        tier = tier_label(row["tier"])
        if row.get("ttfa_ms") is not None:
            self._ttfa.at(tier).observe(row["ttfa_ms"] / 1000)
        if row.get("voice_to_voice_ms") is not None:
            self._voice_to_voice.at(tier).observe(row["voice_to_voice_ms"] / 1000)

    def _handover(self, row: Row) -> None:
        tiers = tier_label(row["from_tier"]), tier_label(row["to_tier"])
        self._handovers.at(*tiers, str(row["trigger"]), str(row["cause"])).inc()

    def _recording(self, row: Row) -> None:
        self._recordings.at(str(row["state"])).inc()
        self._frames_lost.inc(row.get("frames_lost") or 0)

    def _charge(self, row: Row) -> None:
        tier, dollars = tier_label(row["tier"]), row["nanodollars"] / NANO
        self._charged.at(tier, str(row["what"]), self.bucket(row.get("bucket"))).inc(dollars)
        if row["estimated"]:
            self._estimated.at(tier).inc(dollars)

    def bucket(self, name: Any) -> str:
        """As a label: its name if it is configured."""
        return str(name) if name in self._buckets else OTHER

    def request(self, route: str, status: int, refusal: str | None) -> None:
        """A request over HTTP was answered. `route` is a template like /v1/calls/{id}."""
        self._http.at(route, "429" if status == 429 else f"{status // 100}xx").inc()
        if refusal is not None:
            self._refused.at("http", refusal).inc()

    def refused(self, code: str) -> None:
        """A call was not let in."""
        self._refused.at("realtime", code).inc()

    def breaker(self, rung: str, state: str) -> None:
        """A breaker has changed; `rung` is one that is configured."""
        self._trips.at(rung, state).inc()

    def logged(self, level: str) -> None:
        self._logged.at(level).inc()

    def loop_late(self, seconds: float) -> None:
        """So late the event loop was just now."""
        self._loop.observe(seconds)

    # --- being asked ---

    def read(self, collector: Collector) -> None:
        """From now on, gauges of this collector are read at each scrape."""
        self.registry.register(collector)

    def expose(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)
