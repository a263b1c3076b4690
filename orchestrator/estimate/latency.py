"""The three latency budgets of calls: transport, reasoning, recovery. Worked out from stated means, not measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.estimate.columns import Columns, Latencies
from orchestrator.estimate.draws import Floats, lognormal
from orchestrator.estimate.results import Budgets, Quantity, Recovery

_SAMPLES = 20_000


def budgets(
    columns: Columns,
    latencies: Latencies,
    tier_mix: Mapping[str, float],
    *,
    turns: float,
    outage_share: float,
    seed: int,
) -> Budgets:
    """For calls of so many `turns`, answered by the tiers in these shares."""
    rng = np.random.default_rng(seed)

    def some(mean_ms: float, spread: float = latencies.spread) -> Floats:
        return lognormal(rng, mean_ms, spread, _SAMPLES)

    there = {
        "capture": np.full(_SAMPLES, latencies.capture_ms),
        "client to us": some(latencies.network_ms),
        "through us, both ways": some(2 * latencies.relay_ms),
        "us to provider": some(latencies.provider_network_ms),
        "provider to us": some(latencies.provider_network_ms),
        "us to client": some(latencies.network_ms),
        "client's buffer": some(latencies.playout_ms),
    }
    transport = _sum(there)
    reasoning = _reasoning(columns, latencies, tier_mix, rng)
    stop = some(latencies.interruption_ms) + transport - there["client's buffer"]
    recovery = (
        # The client drops its buffer at once, so that it adds nothing.
        Recovery("interruption", Quantity.of(stop), columns.barge_in * turns),
        Recovery("retry", Quantity.of(some(latencies.retry_ms)), columns.abandon_rate * columns.retry_share),
        Recovery("handover", Quantity.of(np.full(_SAMPLES, latencies.handover_ms)), outage_share),
    )
    return Budgets(
        Quantity.of(transport), _means(there), Quantity.of(_sum(reasoning)), _means(reasoning), recovery
    )


def _reasoning(
    columns: Columns, latencies: Latencies, tier_mix: Mapping[str, float], rng: np.random.Generator
) -> dict[str, Floats]:
    """Every tool call waits for its result, and then for the next response's first audio."""
    a, b = tier_mix.get("A", 0.0), tier_mix.get("B", 0.0)
    in_b = rng.random(_SAMPLES) < (b / (a + b) if a + b else 0.0)
    mean = np.where(in_b, latencies.tier_b_first_audio_ms, latencies.first_audio_ms)
    calls = rng.poisson(columns.tools_per_turn, _SAMPLES)
    delay = calls * lognormal(rng, columns.tool_delay_s * 1000, latencies.spread, _SAMPLES)
    return {
        "end of turn": np.full(_SAMPLES, latencies.end_of_turn_ms),
        "first audio": mean * lognormal(rng, 1.0, latencies.spread, _SAMPLES),
        "tools": delay,
        "answering after tools": calls * mean * lognormal(rng, 1.0, latencies.spread, _SAMPLES),
    }


def _sum(parts: Mapping[str, Floats]) -> Floats:
    total: Floats = np.sum(list(parts.values()), axis=0)
    return total


def _means(parts: Mapping[str, Floats]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in parts.items()}
