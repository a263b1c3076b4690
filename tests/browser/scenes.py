"""What a control room may look like: many calls, an incident, orders, one call in full. Seeded: the same each time."""

from __future__ import annotations

import random
import time

from orchestrator.core.health import Cause, ProbeKind
from tests.browser.room import RUNGS, Told

USERS = ("ada", "grace", "linus", "barbara", "ken", "dennis", "margaret", "edsger", "frances", "alan")
BUCKETS = ("shop", "support", "default")
SAID = ("Where is my order number seven three nine one?", "And when will it be here?", "Please cancel it.")
ANSWERS = (
    "Your order 7391 left the warehouse yesterday.",
    "It will be with you on Friday before noon.",
    "I can cancel it. Order 7391, a coffee grinder for 89 euros: shall I?",
)


def budgets() -> dict[str, object]:
    return {
        "buckets": {
            "shop": {"usd_per_day": 40.0},
            "support": {"usd_per_day": 12.0},
            "default": {"usd_per_day": 5.0},
        }
    }


def spend(service: Told) -> None:
    """Money of the day, as a store would tell it."""
    for bucket, usd in (("shop", 17.3), ("support", 11.2), ("default", 0.4)):
        service.fleet.ledgers.spend(bucket, round(usd * 1e9))


def some_calls(service: Told, number: int, seed: int = 1) -> list[str]:
    rng, now = random.Random(seed), time.time()
    ids = [f"call_{rng.getrandbits(48):012x}" for _ in range(number)]
    for id in ids:
        ago = rng.expovariate(1 / 240)
        service.begin(id, ago=ago, user=rng.choice(USERS), bucket=rng.choice(BUCKETS))
        for turn in range(int(ago / 20)):
            at = now - ago + 20 * turn + 8
            service.charge(id, rng.uniform(0.002, 0.011), at=at)
            service.row(id, "turn_ended", at=at, turn=turn + 1, outcome="answered")
    return ids


def incident(service: Told, ids: list[str], seed: int = 2) -> None:
    """The first rung is gone for four minutes, the second is on trial; most calls went down, some came back."""
    rng, now = random.Random(seed), time.time()
    history = service.replica_history
    first, second = RUNGS
    for ago, rung, state, cause in (
        (2900, first, "open", "response_timeout"),
        (2780, first, "canary", "response_timeout"),
        (2700, first, "closed", ""),
        (240, first, "open", "refused"),
        (190, second, "open", "rate_limited"),
        (40, second, "canary", "rate_limited"),
    ):
        history.breaker(rung, state, cause, now - ago)
    history.breaker("tts:cartesia", "open", "response_timeout", now - 150)
    service.fleet.add_part("tts:cartesia", local=False)
    service.fleet.failed("tts:cartesia", Cause.RESPONSE_TIMEOUT)
    service.fleet.failed(first, Cause.REFUSED)
    service.fleet.failed(second, Cause.NO_CREDIT)
    service.fleet.succeeded(second, ProbeKind.RESPONSE)
    for rung, keep in ((first, 4), (second, 2)):
        while len(service.replica_history._breakers[rung]) > keep:
            service.replica_history._breakers[rung].pop()
    for number, id in enumerate(ids):
        began = service.in_progress[id]["started_at"]
        at = max(began + 1, now - rng.uniform(60, 240))
        if number % 5 == 4:
            continue
        cause = rng.choice(("refused", "refused", "refused", "closed", "response_timeout"))
        gap = rng.lognormvariate(5.6, 0.55) if cause != "response_timeout" else rng.lognormvariate(6.6, 0.3)
        to = "C" if number % 11 == 3 else "B"
        service.hand_over(id, to, cause, at=at, gap_ms=round(gap, 1))
        if number % 7 == 0 and at < now - 50:
            service.hand_over(id, "A", "promoted", at=at + 40, trigger="recovery")


def orders(service: Told) -> None:
    service.fleet.force(
        tier="B",
        scope="bucket:support",
        duration="45m",
        reason="Provider is refusing sessions, see status page",
        who="key_1f2e3d4c",
        name="on-call",
        typed="Grace H.",
    )
    service.fleet.force(
        tier=f"A/{RUNGS[1]}",
        scope="all",
        duration="2h",
        reason="Try the smaller model first while this lasts",
        who="key_1f2e3d4c",
        name="on-call",
        limit="ceiling",
        share=20.0,
    )
    service.drills.begin(
        practice="degrade",
        scope="bucket:shop",
        share=5.0,
        duration="30m",
        most=50,
        wrong=1,
        reason="Monthly drill",
        who="key_1f2e3d4c",
        name="on-call",
        typed="",
    )


def one_call(service: Told, id: str = "call_7f3a90c2d1e4") -> str:
    """A call with a bit of everything, of a minute and a half."""
    began = time.time() - 96
    service.begin(id, ago=96, user="ada", bucket="support")

    def row(after: float, type: str, **fields: object) -> None:
        service.row(id, type, at=began + after, **fields)

    row(0.1, "state", state="relaying", move="created")
    for turn, (after, said, answered) in enumerate(zip((7, 24, 52), SAID, ANSWERS, strict=True), 1):
        row(after, "caller_said", item_id=f"item_{turn}", text=said)
        if turn == 2:
            row(after + 1.4, "provider_lost", cause="closed", detail="1011")
            service.hand_over(id, "B", "closed", at=began + after + 1.4, gap_ms=640.0)
            row(after + 2.1, "bridge", kind="default", response_id="resp_b", text="One moment, please.")
        service.charge(id, 0.0061 if turn == 1 else 0.0004, at=began + after + 2.2)
        row(
            after + 3.5,
            "answer",
            response_id=f"resp_{turn}",
            status="completed",
            text=answered,
            ttfa_ms=610.0,
            voice_to_voice_ms=1105.0,
            parts={},
        )
        row(after + 3.6, "turn_ended", turn=turn, outcome="answered")
    row(26.6, "tool_call", tool="find_order", tool_call_id="tool_1", kind="reading", status="running", runs=1)
    row(
        27.0,
        "tool_result",
        tool="find_order",
        tool_call_id="tool_1",
        kind="reading",
        result="ok",
        latency_ms=402.0,
        runs=1,
    )
    row(
        57.0,
        "tool_call",
        tool="cancel_order",
        tool_call_id="tool_2",
        kind="mutating",
        status="read_back",
        runs=0,
    )
    row(63.0, "caller_said", item_id="item_9", text="Yes, please.")
    row(
        63.1,
        "tool_confirmation",
        tool="cancel_order",
        tool_call_id="tool_2",
        consent="yes",
        text="Yes, please.",
    )
    row(
        64.0,
        "tool_result",
        tool="cancel_order",
        tool_call_id="tool_2",
        kind="mutating",
        result="ok",
        latency_ms=880.0,
        runs=1,
    )
    row(
        65.0,
        "answer",
        response_id="resp_9",
        status="completed",
        text="It is cancelled.",
        ttfa_ms=480.0,
        voice_to_voice_ms=990.0,
        parts={},
    )
    service.hand_over(id, "A", "promoted", at=began + 74, trigger="recovery")
    row(86, "caller_said", item_id="item_10", text="Thank you. One more thing.")
    service.charge(id, 0.0058, at=began + 88)
    row(
        89,
        "answer",
        response_id="resp_10",
        status="completed",
        text="Of course. What is it?",
        ttfa_ms=455.0,
        voice_to_voice_ms=870.0,
        parts={},
    )
    return id
