"""Planned moves: operators, promotions, and the end of a call."""

from __future__ import annotations

from orchestrator.core.actions import OpenUpstream, StartAnswer
from orchestrator.core.call import State
from orchestrator.core.health import Cause
from orchestrator.core.routing import DecidedBy
from tests.core.bench import Bench, local, lose


def test_an_operator_moves_a_live_call_between_turns(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.tier, bench.decided_by = "B", DecidedBy.OVERRIDE
    bench.call.consider(bench.now)
    bench.settle()
    assert bench.call.state is State.RELAYING, "an answer is owed"
    bench.begin_answer()
    bench.end_answer()
    assert bench.call.state is State.LOCAL
    row = bench.rows("handover")[0]
    assert (row["trigger"], row["owed"]) == ("operator", 0)
    assert not bench.rows("bridge")


def test_another_calls_trouble_does_not_move_a_call_that_is_well(bench: Bench) -> None:
    bench.connect()
    bench.tier, bench.decided_by = "B", DecidedBy.HEALTH
    bench.call.consider(bench.now)
    assert bench.call.state is State.RELAYING


def promote(bench: Bench) -> None:
    bench.wait(1.6)
    assert bench.call.state is State.PROMOTING
    bench.provider("session.created", session={})
    held = bench.upstream[0]["session"]
    assert held["audio"]["input"]["turn_detection"] is None
    for event in [e for e in bench.upstream if e["type"] == "conversation.item.create"]:
        bench.provider("conversation.item.added", item=event["item"], previous_item_id=None)


def test_a_call_is_promoted_with_its_conversation_under_known_ids(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    bench.answer("Your order is on its way.")
    bench.wait(1.5)
    promote(bench)
    replayed = [e["item"] for e in bench.upstream if e["type"] == "conversation.item.create"]
    assert [(item["role"], item["content"][0]["text"]) for item in replayed] == [
        ("user", "Where is my order 4172?"),
        ("assistant", "Let me look"),
        ("assistant", "Your order is on its way."),
    ], "the bridge is no part of it"
    bench.confirm_updates()
    assert bench.call.state is State.RELAYING
    assert bench.of("session.updated")[-1]["session"]["orchestrator"]["tier"] == "A"
    at = bench.ctx.input.total_ms
    bench.turn("item_u2", start=0)
    started = bench.of("input_audio_buffer.speech_started")[-1]["audio_start_ms"]
    assert at - 320 <= started <= at, "provider times are rebased to the call's"
    bench.begin_answer("resp_2", "item_a2")
    bench.end_answer("resp_2", "item_a2")


def test_no_promotion_before_the_rung_has_proved_itself(bench: Bench) -> None:
    bench.connect()
    bench.healthy = False
    lose(bench)
    bench.wait(10)
    assert bench.call.state is State.LOCAL
    bench.healthy = True
    bench.wait(1)
    assert bench.call.state is State.PROMOTING


def test_a_caller_who_speaks_keeps_the_call_where_it_is(bench: Bench) -> None:
    bench.connect()
    lose(bench)
    bench.wait(1.6)
    assert bench.call.state is State.PROMOTING
    bench.say()
    assert bench.call.state is State.LOCAL
    assert bench.rows("preparation_abandoned")
    bench.words("Hello?")
    bench.answer("Yes?")


def test_a_failed_promotion_costs_the_caller_nothing(bench: Bench) -> None:
    bench.connect()
    lose(bench)
    bench.wait(1.6)
    before = len(bench.frames)
    lose(bench, Cause.REFUSED)
    assert bench.call.state is State.LOCAL
    assert len(bench.frames) == before
    assert bench.failures() == ["closed", "refused"]


def test_late_news_of_a_lost_session_is_ignored(bench: Bench) -> None:
    bench.connect()
    old = bench.attempt
    lose(bench)
    before = len(bench.frames)
    bench.call.upstream_lost(old, Cause.CLOSED, bench.now)
    bench.call.upstream_frame(
        old, b'{"type":"rate_limits.updated","event_id":"e","rate_limits":[]}', bench.now
    )
    bench.settle()
    assert len(bench.frames) == before


def test_items_born_in_tier_b_are_answered_by_us_after_the_promotion(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    bench.answer("Your order is on its way.", ms=2000)
    item_id = bench.of("response.done")[-1]["response"]["output"][-1]["id"]
    bench.wait(3)
    promote(bench)
    bench.confirm_updates()
    bench.upstream.clear()
    bench.client(
        {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 500}
    )
    assert bench.of("conversation.item.truncated")[0]["item_id"] == item_id
    assert bench.upstream == []


def test_hanging_up_ends_everything(bench: Bench) -> None:
    bench.connect()
    bench.call.client_closed(bench.now)
    bench.settle()
    assert bench.call.state is State.ENDED
    assert bench.upstream_closed
    assert bench.call.next_due() is None
    bench.call.client_closed(bench.now)


def test_a_new_provider_session_is_opened_once(bench: Bench) -> None:
    bench.connect()
    assert len(bench.all(OpenUpstream)) == 1


def order_now(bench: Bench, tier: str) -> None:
    bench.tier, bench.decided_by, bench.at_once = tier, DecidedBy.OVERRIDE, True
    bench.call.consider(bench.now)
    bench.settle()


def test_an_order_that_does_not_wait_moves_a_call_in_mid_answer_and_loses_no_turn(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    order_now(bench, "B")
    assert bench.call.state is State.LOCAL
    row = bench.rows("handover")[0]
    assert (row["trigger"], row["to_tier"], row["owed"]) == ("operator", "B", 1)
    assert bench.upstream[-1]["type"] == "response.cancel", "what nobody will hear need not be billed"
    assert bench.failures() == [], "no breaker learns from it"
    bench.answer("Your order is on its way.")
    assert [each["outcome"] for each in bench.rows("turn_ended")] == ["answered"]
    bench.check()


def test_an_order_that_does_not_wait_takes_what_is_owed_and_who_speaks_along(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    order_now(bench, "B")
    assert bench.rows("handover")[0]["owed"] == 1
    bench.answer("Your order is on its way.")
    assert [each["outcome"] for each in bench.rows("turn_ended")] == ["answered"]
    bench.check()


def test_from_tier_b_an_order_that_does_not_wait_has_tier_c_answer(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Where is my order?")
    bench.answer("Let me", finish=False)
    order_now(bench, "C")
    assert bench.last(StartAnswer).tier == "C"
    bench.answer("I am sorry.")
    assert bench.failures() == []
    assert [each["outcome"] for each in bench.rows("turn_ended")] == ["answered"]
    assert [each["to_tier"] for each in bench.rows("handover")] == ["C"]
    bench.check()


def test_an_order_while_a_session_is_opened_is_followed_when_it_is_there(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    order_now(bench, "B")
    assert bench.call.state is State.CONNECTING
    bench.connect_goes_on()
    assert bench.call.state is State.LOCAL
    bench.check()
