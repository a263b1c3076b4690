"""Figures that are read when /metrics is asked: how things stand with calls, breakers, buckets, voices, the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.core.health import BreakerState
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import NANO
from orchestrator.server.metrics import NONE, PREFIX, Metrics, tier_label

if TYPE_CHECKING:
    from orchestrator.server.http import Service

BREAKER = {
    BreakerState.CLOSED: 0,
    BreakerState.CANARY: 1,
    BreakerState.HALF_OPEN: 1,
    BreakerState.OPEN: 2,
}


def _gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help, labels=labels)


def _counter(name: str, help: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, help, labels=labels)


class Gauges(Collector):
    """Looks at memory alone. Whoever adds one of these sees to it that its labels come from the configuration."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics

    def describe(self) -> Iterator[Metric]:
        """Nothing is read before the first scrape: the service may still be starting."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._calls()
        yield from self._rungs()
        yield from self._buckets()
        yield from self._store()
        yield from self._parts()
        yield from self._voices()
        yield from self._cache()
        yield from self._guardrails()
        yield from self._outlets()

    def _calls(self) -> Iterator[Metric]:
        live = _gauge("calls", "Calls in progress.", "tier")
        found = Counter(tier_label(call.get("tier")) for call in self._service.calls())
        for tier in (*Tier, NONE):
            live.add_metric([str(tier)], found[str(tier)])
        yield live
        approvals = _gauge("approvals_waiting", "Tool calls that wait for a person.")
        approvals.add_metric([], len(self._service.approvals.pending()))
        yield approvals

    def _rungs(self) -> Iterator[Metric]:
        fleet = self._service.fleet
        state = _gauge("breaker_state", "0: closed, 1: on trial, 2: open.", "tier", "rung")
        usable = _gauge("rung_usable", "1 where calls may be given the rung now.", "tier", "rung")
        specs = {spec.name: spec for spec in fleet.rungs}
        good: Counter[str] = Counter()
        for name, breaker in fleet.breakers.items():
            spec, level = specs.get(name), BREAKER[breaker.state]
            tier = str(spec.tier) if spec is not None else NONE
            state.add_metric([tier, name], level)
            if spec is not None:
                is_usable = level < 2 and fleet.missing_rung(spec) is None
                usable.add_metric([tier, name], is_usable)
                good[tier] += is_usable
        yield state
        yield usable
        tiers = _gauge("tier_ready", "1 where the tier has a rung that calls may be given.", "tier")
        for each in Tier:
            tiers.add_metric([str(each)], good[str(each)] > 0)
        yield tiers
        overrides = _gauge("overrides", "Overrides in force.")
        overrides.add_metric([], len(fleet.overrides))
        yield overrides

    def _buckets(self) -> Iterator[Metric]:
        spent: dict[str, int] = defaultdict(int)
        reserved: dict[str, int] = defaultdict(int)
        caps: dict[str, int] = {}
        for name, view in self._service.fleet.ledgers.overview().items():
            label = self._metrics.bucket(name)
            spent[label] += view.spent
            reserved[label] += view.reserved
            if view.cap is not None:
                caps[label] = view.cap
        for name, help, amounts in (
            ("bucket_spent_usd", "Spent today, by all replicas.", spent),
            ("bucket_reserved_usd", "Set aside for calls in progress.", reserved),
            ("bucket_cap_usd", "The most that may be spent in a day.", caps),
        ):
            gauge = _gauge(name, help, "bucket")
            for label, amount in amounts.items():
                gauge.add_metric([label], amount / NANO)
            yield gauge

    def _store(self) -> Iterator[Metric]:
        known = self._service.fleet.status()
        connected = _gauge("store_connected", "1 while the shared store answers.", "store")
        connected.add_metric([known.store], known.connected)
        unsent = _gauge("store_unsent", "Writes that wait for the store.")
        unsent.add_metric([], known.unsent)
        audit = _gauge("audit_waiting", "Entries of the audit trail that are not written yet.")
        audit.add_metric([], self._service.audit.waiting)
        yield connected
        yield unsent
        yield audit

    def _parts(self) -> Iterator[Metric]:
        ready = _gauge("part_ready", "What /readyz says of a part: 1 where it is ready.", "part", "required")
        for part in self._service.readiness():
            ready.add_metric([part.name, str(part.required).lower()], part.ready)
        yield ready
        certificate = self._service.door.certificate
        expires = _gauge("certificate_expires_timestamp_seconds", "When the certificate ends, in Unix time.")
        if certificate is not None:
            expires.add_metric([], certificate.expires_at)
        yield expires

    def _voices(self) -> Iterator[Metric]:
        speaking = self._service.speaking
        loads = speaking.loads if speaking is not None else {}
        for name, help, what in (
            ("voice_workers", "Worker processes of a voice.", "workers"),
            ("voice_busy", "Of these, those that speak.", "busy"),
            ("voice_waiting", "Requests that wait for one.", "waiting"),
            ("voice_wait_seconds", "How long a request would wait now.", "wait_s"),
        ):
            gauge = _gauge(name, help, "rung")
            for rung, load in loads.items():
                gauge.add_metric([rung], getattr(load, what))
            yield gauge
        for name, help, what in (
            ("voice_refused", "Requests that a voice was too busy for.", "refused"),
            ("voice_died", "Worker processes that died.", "died"),
        ):
            counter = _counter(name, help, "rung")
            for rung, load in loads.items():
                counter.add_metric([rung], getattr(load, what))
            yield counter

    def _cache(self) -> Iterator[Metric]:
        found = _counter("cache_clips", "Clips that somebody asked for, by where they came from.", "source")
        for source, count in self._service.clip_counts().items():
            found.add_metric([source], count)
        yield found

    def _guardrails(self) -> Iterator[Metric]:
        verdicts = _counter("guardrail_verdicts", "What hooks said.", "hook", "verdict")
        for hook, tally in self._service.guardrails.tallies.items():
            for verdict in ("allowed", "rewritten", "vetoed", "failed"):
                verdicts.add_metric([hook.value, verdict], getattr(tally, verdict))
        yield verdicts

    def _outlets(self) -> Iterator[Metric]:
        outlets = [*self._service.business.outlets, *self._service.summaries.outlets]
        sent = _counter("business_events", "Business events, by what became of them.", "sink", "outcome")
        waiting = _gauge("business_events_waiting", "Business events that wait for a sink.", "sink")
        failing = _gauge("business_events_failing", "1 where the last attempt failed.", "sink")
        for outlet in outlets:
            sent.add_metric([outlet.name, "sent"], outlet.sent)
            sent.add_metric([outlet.name, "dropped"], outlet.dropped)
            waiting.add_metric([outlet.name], outlet.waiting)
            failing.add_metric([outlet.name], bool(outlet.failing))
        yield sent
        yield waiting
        yield failing
