"""What a replica remembers of its breakers and silences, and who may ask."""

from __future__ import annotations

import pytest

from orchestrator.core.health import Cause, ProbeKind
from orchestrator.server.events import EventLog
from orchestrator.server.history import CHANGES, GAPS, History
from tests.server.test_http import client_of, make_server


def test_changes_are_kept_in_order_and_repeated_ones_once() -> None:
    history = History(1.0)
    for at, state, cause in (
        (2.0, "open", "closed"),
        (3.0, "open", "closed"),
        (4.0, "canary", "closed"),
        (5.0, "closed", ""),
    ):
        history.breaker("gpt-realtime", state, cause, at)
    changes = [(change.at, change.state) for change in history.changes("gpt-realtime")]
    assert changes == [(2.0, "open"), (4.0, "canary"), (5.0, "closed")]
    assert history.changes("another") == ()


def test_memory_is_bounded() -> None:
    history, log = History(0.0), EventLog(None)
    log.listeners.append(history.row)
    for number in range(2 * GAPS):
        history.breaker("r", "open" if number % 2 else "closed", "", float(number))
        log.add("gap", tier="B", call_id="call_1", trigger="failure", cause="closed", gap_ms=float(number))
        log.add("answer", tier="B", call_id="call_1")
    assert len(history.changes("r")) == CHANGES
    assert history.changes("r")[-1].at == 2 * GAPS - 1
    assert (len(history.gaps), history.gaps_seen) == (GAPS, 2 * GAPS)
    assert history.spread() == (GAPS + GAPS // 2 - 1.0, GAPS + 949.0, 2 * GAPS - 1.0)


def test_nothing_has_no_spread_and_one_is_all_of_it() -> None:
    history = History(0.0)
    assert history.spread() == (None, None, None)
    history.row({"type": "gap", "time": 1.0})
    assert history.spread() == (0.0, 0.0, 0.0)


async def test_over_http() -> None:
    server = make_server()
    history = server.replica_history
    server.events.listeners.append(history.row)
    server.fleet.watch_breakers(lambda rung, state, cause: history.breaker(rung, state, cause, 7.0))
    rung = server.settings.tier_a.rungs[0]
    server.fleet.add_part("tts:cartesia", local=False)
    server.fleet.failed(rung, Cause.REFUSED)
    server.fleet.failed("tts:cartesia", Cause.REFUSED)
    server.fleet.succeeded(rung, ProbeKind.SESSION)
    server.events.add("gap", tier="B", call_id="call_1", trigger="failure", cause="refused", gap_ms=310.0)
    async with client_of(server) as client:
        found = (await client.get("/v1/history")).json()
    changes = {entry["rung"]: [c["state"] for c in entry["changes"]] for entry in found["breakers"]}
    assert changes[rung] == ["open", "canary"]
    assert changes["tts:cartesia"] == ["open"]
    # Those that have not changed are there as well.
    assert changes.keys() == server.fleet.breakers.keys()
    assert [] in changes.values()
    (gap,) = found["gaps"]
    assert gap.pop("at") == pytest.approx(found["now"], abs=5)
    assert gap == {"tier": "B", "trigger": "failure", "cause": "refused", "gap_ms": 310.0}
    assert (found["gaps_seen"], found["gap_ms"]) == (1, {"p50": 310.0, "p95": 310.0, "max": 310.0})
    assert found["began"] <= found["now"]
    # Figures alone: whose call it was is not told.
    assert "call_1" not in str(found)
