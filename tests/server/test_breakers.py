"""Breakers of several replicas: one opens all, one probes, all of them count the way back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.core.health import BreakerPolicy, BreakerState, Cause, ProbeKind, is_canary
from orchestrator.core.overrides import Tier
from orchestrator.core.routing import Reason, RouteRequest
from orchestrator.server.breakers import Finding
from orchestrator.server.fleet import Change, ChangeKind, Fleet
from orchestrator.server.store import EmbeddedStore
from tests.server.fleets import ACME, NOON, Wall, changes_of, make_fleet, until

CLOSED, OPEN, HALF_OPEN, CANARY = BreakerState
BREAKER = Change(ChangeKind.BREAKER, "realtime")
CHOSEN = next(id for id in map(str, range(1000)) if is_canary(id, "realtime", 0.1))
NOT_CHOSEN, ANOTHER, *_ = (id for id in map(str, range(20)) if not is_canary(id, "realtime", 0.1))


def state(fleet: Fleet, rung: str = "realtime") -> BreakerState:
    # Through a function, since a type checker takes an attribute that was compared once for settled.
    return fleet.breakers[rung].state


def call(id: str, current: Tier | None = None) -> RouteRequest:
    return RouteRequest(call_id=id, current=current)


async def test_an_open_breaker_moves_every_replicas_new_calls(pair: tuple[Fleet, Fleet]) -> None:
    one, two = pair
    changes = changes_of(two)
    one.failed("realtime", Cause.NO_CREDIT)
    assert one.decide(ACME).tier == "B"
    await until(lambda: two.decide(ACME).tier == "B")
    assert two.breakers["realtime"].cause is Cause.NO_CREDIT
    # A session proves nothing to a breaker that response faults opened, on no replica.
    two.succeeded("realtime", ProbeKind.SESSION)
    assert two.decide(ACME).tier == "B"
    await until(lambda: changes == [BREAKER])


async def test_a_trial_is_the_fleets(pair: tuple[Fleet, Fleet]) -> None:
    one, two = pair
    changes = changes_of(one)
    one.failed("realtime", Cause.REFUSED)
    await until(lambda: state(two) is OPEN)
    two.succeeded("realtime", ProbeKind.SESSION)
    assert state(two) is CANARY
    await until(lambda: state(one) is CANARY)
    await until(lambda: changes == [BREAKER] * 2)
    # Whoever proved it takes the first canary, the other one waits; those chosen by their id go anywhere.
    assert two.decide(call(NOT_CHOSEN)).tier == "A"
    assert one.decide(call(NOT_CHOSEN)).reason is Reason.BREAKER_OPEN
    assert one.decide(call(CHOSEN)).tier == "A"
    assert one.breakers["realtime"].proved_at is not None
    # Three responses close it, whoever has them.
    for fleet, other in ((one, two), (two, one)):
        before = other.breakers["realtime"].canary_successes
        fleet.succeeded("realtime", ProbeKind.RESPONSE)
        await until(lambda other=other, before=before: other.breakers["realtime"].canary_successes > before)
        assert (state(one), state(two)) == (CANARY, CANARY)
    one.succeeded("realtime", ProbeKind.RESPONSE)
    assert state(one) is CLOSED
    await until(lambda: state(two) is CLOSED)
    assert two.decide(call(NOT_CHOSEN)).tier == "A"


async def test_one_canary_that_fails_ends_the_trial_everywhere(pair: tuple[Fleet, Fleet]) -> None:
    one, two = pair
    one.failed("realtime", Cause.REFUSED)
    one.succeeded("realtime", ProbeKind.SESSION)
    await until(lambda: state(two) is CANARY)
    two.failed("realtime", Cause.RESPONSE_TIMEOUT)
    await until(lambda: state(one) is OPEN)
    assert one.decide(call(CHOSEN)).candidates[0].detail == "response_timeout"
    assert [fleet.breakers["realtime"].wait_s for fleet in pair] == [2.0, 2.0]


async def test_a_replica_that_starts_joins_the_trial() -> None:
    store = EmbeddedStore()
    one = make_fleet(store)
    await one.start()
    one.failed("realtime", Cause.REFUSED)
    one.succeeded("realtime", ProbeKind.SESSION)
    await until(lambda: not one.status().unsent)
    two = make_fleet(store)
    await two.start()
    assert state(two) is CANARY
    assert two.decide(call(NOT_CHOSEN)).tier == "B"
    for _ in range(3):
        two.succeeded("realtime", ProbeKind.RESPONSE)
    await until(lambda: state(one) is CLOSED)
    three = make_fleet(store)
    await three.start()
    assert state(three) is CLOSED
    for fleet in (one, two, three):
        await fleet.close()


async def test_a_replica_whose_clock_is_behind_is_heard_all_the_same() -> None:
    store = EmbeddedStore()
    one, late = make_fleet(store), make_fleet(store, Wall(NOON - 100))
    for fleet in (one, late):
        await fleet.start()
    one.failed("realtime", Cause.REFUSED)
    await until(lambda: state(late) is OPEN)
    late.succeeded("realtime", ProbeKind.SESSION)
    await until(lambda: state(one) is CANARY)
    for _ in range(3):
        late.succeeded("realtime", ProbeKind.RESPONSE)
    await until(lambda: state(one) is CLOSED)
    for fleet in (one, late):
        await fleet.close()


def finding(state: str, at: float, rung: str = "realtime") -> dict[str, Any]:
    return {"rung": rung, "state": state, "cause": "" if state == "closed" else "refused", "at": at}


async def test_a_refresh_finds_what_was_missed_and_an_old_finding_is_no_news() -> None:
    store = EmbeddedStore()
    fleet = make_fleet(store)
    await fleet.start()
    for found, at, known in (
        ("open", 10, OPEN),
        ("canary", 9, OPEN),
        ("canary", 11, CANARY),
        ("open", 11, CANARY),
        ("open", 12, OPEN),
        ("closed", 13, CLOSED),
        ("open", 12, CLOSED),
        ("canary", 14, CANARY),
    ):
        await store.put("breaker:realtime", json.dumps(finding(found, NOON + at)))
        await fleet._refresh()
        assert state(fleet) is known
    await fleet.close()


async def test_news_comes_in_any_order() -> None:
    fleet = make_fleet(EmbeddedStore())
    for found, at in (("closed", 3), ("open", 1), ("canary", 2)):
        fleet._apply({"kind": "breaker", **finding(found, NOON + at)})
        assert state(fleet) is CLOSED
    # A response of a trial that is over, or of another one, counts nowhere.
    fleet._apply({"kind": "breaker", **finding("canary", NOON + 4)})
    fleet._apply({"kind": "canary", "rung": "realtime", "at": NOON + 2})
    assert fleet.breakers["realtime"].canary_successes == 0
    fleet._apply({"kind": "canary", "rung": "realtime", "at": NOON + 4})
    assert fleet.breakers["realtime"].canary_successes == 1


@pytest.mark.parametrize(
    "wrong",
    [{"state": "ajar"}, {"cause": "gremlins"}, {"at": "soon"}, {"rung": "x", "state": "open", "cause": ""}],
)
def test_what_is_no_finding_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ajar|gremlins|soon|expected a cause"):
        Finding.from_dict(finding("open", NOON) | wrong)


async def test_a_finding_that_still_holds_is_written_again_when_it_expires() -> None:
    store = EmbeddedStore()
    fleet = make_fleet(store)
    await fleet.start()
    fleet.failed("realtime", Cause.REFUSED)
    await until(lambda: not fleet.status().unsent)
    written = await store.get("breaker:realtime")
    await store.delete("breaker:realtime")
    await fleet._refresh()
    await until(lambda: not fleet.status().unsent)
    # The same finding, so that it is no news to those who know it.
    assert await store.get("breaker:realtime") == written
    await fleet.close()


# Calls that are let in


async def test_asking_where_a_call_would_go_agrees_with_the_call_and_takes_no_turn() -> None:
    now = Wall(0.0)
    fleet = make_fleet(EmbeddedStore(), clock=now)
    fleet.failed("realtime", Cause.REFUSED)
    fleet.succeeded("realtime", ProbeKind.SESSION)
    for ask in (fleet.decide, fleet.place):
        for id in (NOT_CHOSEN, ANOTHER):
            assert ask(call(id)).tier == "A"
    fleet.place(call(NOT_CHOSEN))
    fleet.started("realtime")
    assert fleet.decide(call(ANOTHER)).tier == fleet.place(call(ANOTHER)).tier == "B"
    # Until the trial ends it is told the same, and so is one that moves up.
    assert fleet.place(call(NOT_CHOSEN, Tier.B)).tier == "A"
    assert fleet.place(call(ANOTHER, Tier.B)).tier == "B"
    assert fleet.place(call(CHOSEN, Tier.B)).tier == "A"
    now.now = 5.0
    assert fleet.decide(call(ANOTHER)).tier == "A"


async def test_an_engine_of_our_own_is_tried_by_all_and_proved_by_one() -> None:
    fleet = make_fleet(EmbeddedStore())
    for _ in range(2):
        fleet.failed("kokoro", Cause.RESPONSE_FAILED)
    assert state(fleet, "kokoro") is OPEN
    fleet.succeeded("kokoro", ProbeKind.RESPONSE)
    assert state(fleet, "kokoro") is CANARY
    fleet.started("kokoro")
    view = fleet.view(call(NOT_CHOSEN))
    assert [rung.breaker_open for rung in view.rungs] == [False] * 3
    fleet.succeeded("kokoro", ProbeKind.RESPONSE)
    assert state(fleet, "kokoro") is CLOSED


# Probes


def fast_policy() -> BreakerPolicy:
    return BreakerPolicy(probe_after_s=0.02, probe_max_s=0.08, canary_after_s=0.02)


async def test_probes_are_made_when_due_until_one_succeeds() -> None:
    fleet = make_fleet(EmbeddedStore(), breaker_policy=fast_policy())
    probes = fleet.probes()
    waiting = asyncio.ensure_future(anext(probes))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    fleet.failed("realtime", Cause.REFUSED)
    async with asyncio.timeout(15):
        assert await waiting == ("realtime", ProbeKind.SESSION)
        assert state(fleet) is HALF_OPEN
        fleet.failed("realtime", Cause.RESPONSE_FAILED)
        assert await anext(probes) == ("realtime", ProbeKind.RESPONSE)
        fleet.succeeded("realtime", ProbeKind.SESSION)
        fleet.succeeded("realtime", ProbeKind.RESPONSE)
        # No call comes, so probes stand in for the canaries.
        for _ in range(3):
            assert state(fleet) is CANARY
            assert await anext(probes) == ("realtime", ProbeKind.RESPONSE)
            fleet.succeeded("realtime", ProbeKind.RESPONSE)
    assert state(fleet) is CLOSED
    waiting = asyncio.ensure_future(anext(probes))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    waiting.cancel()


async def test_of_two_replicas_one_makes_the_probe() -> None:
    store = EmbeddedStore()
    policy = BreakerPolicy(probe_after_s=0.5, probe_max_s=0.5, canary_after_s=0.5, canary_successes=1)
    fleets = [make_fleet(store, breaker_policy=policy) for _ in range(2)]
    for fleet in fleets:
        await fleet.start()
    fleets[0].failed("realtime", Cause.REFUSED)
    await until(lambda: fleets[1].breakers["realtime"].is_open)
    waiting = [asyncio.ensure_future(anext(fleet.probes())) for fleet in fleets]
    async with asyncio.timeout(15):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    # The other waits for its outcome: within this probe's time it makes none itself.
    done, pending = await asyncio.wait(waiting, timeout=0.05)
    assert (len(done), len(pending)) == (1, 1)
    prober = fleets[waiting.index(done.pop())]
    prober.succeeded("realtime", ProbeKind.SESSION)
    await until(lambda: not any(fleet.breakers["realtime"].is_open for fleet in fleets))
    # The same goes for the probes that stand in for canaries.
    waiting = [*pending, asyncio.ensure_future(anext(prober.probes()))]
    async with asyncio.timeout(15):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    done, pending = await asyncio.wait(waiting, timeout=0.05)
    assert (len(done), len(pending)) == (1, 1)
    prober.succeeded("realtime", ProbeKind.RESPONSE)
    await until(lambda: [state(fleet) for fleet in fleets] == [CLOSED] * 2)
    pending.pop().cancel()
    for fleet in fleets:
        await fleet.close()
