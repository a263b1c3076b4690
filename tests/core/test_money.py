"""What a call may start: reservations, the gate near a cap, steps, and what is paid for what was cut off."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.core.actions import ClaimMoney, CloseUpstream, HangUp, StartAnswer, Transcribe
from orchestrator.core.context import Policy
from orchestrator.core.health import Cause
from orchestrator.core.prices import Context
from orchestrator.core.routing import DecidedBy, Reason
from orchestrator.core.states import State
from orchestrator.core.steps import Step, StepAction, StepPolicy
from orchestrator.protocol.answers import AnswerRequest, Charge, Charged, Finished, TextDelta
from orchestrator.protocol.session import default_session
from tests.core.bench import USAGE, Bench, audio_input, lose, update

FULL = 4096
PRICED = 1_000
"""What every usage comes to on the bench."""


@dataclass
class PerToken:
    """Output at one nano-dollar a token, input free, an answer of Tier B at `tier_b`."""

    tier_b: int = 0
    asked: list[Context] = field(default_factory=list)

    def response(self, rung: str, max_output_tokens: int, context: Context) -> int:
        self.asked.append(context)
        return max_output_tokens

    def transcription(self, model: str, seconds: float) -> int:
        return 0

    def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
        return (self.tier_b, self.tier_b // 2) if tier == "B" else (0, 0)

    def writing_down(self, seconds: float) -> int:
        return 0

    def spoken(self, rung: str, ms: float) -> int:
        return round(ms)


def bench(cap: int | None = None, bucket: int | None = None, **more: Any) -> Bench:
    policy = Policy(transcription_model="gpt-transcribe")
    made = Bench(policy, costs=PerToken(more.pop("tier_b", 0)), cap=cap, bucket=bucket, **more)
    made.connect()
    return made


def detection(event: dict[str, Any]) -> Any:
    return ((event["session"].get("audio") or {}).get("input") or {}).get("turn_detection")


def gates(bench: Bench) -> list[str]:
    return [row["state"] for row in bench.rows("gate")]


def confirm(bench: Bench) -> None:
    bench.confirm_updates()


# --- setting aside ---


def test_two_worst_cases_are_set_aside_before_the_first_turn() -> None:
    assert bench().held == 2 * FULL


def test_an_answer_runs_on_one_of_them_and_the_next_is_set_aside_at_once() -> None:
    call = bench()
    call.turn()
    call.begin_answer()
    assert call.ctx.purse.running == {"resp_1": FULL}
    assert call.held == 2 * FULL
    call.end_answer()
    assert (dict(call.ctx.purse.running), call.ctx.budget.spent) == ({}, PRICED + PRICED)


def test_nothing_is_set_aside_where_nothing_costs() -> None:
    free = Bench()
    free.connect()
    free.turn()
    free.begin_answer()
    assert (free.held, dict(free.ctx.purse.running)) == (0, {})


# --- the gate ---


def test_near_the_cap_the_provider_is_told_to_start_nothing_and_the_client_is_not() -> None:
    call = bench(bucket=3 * FULL - 1)
    call.turn()
    call.begin_answer()
    (told,) = [event for event in call.upstream if event["type"] == "session.update"]
    assert detection(told)["create_response"] is False
    confirm(call)
    call.client(update(instructions="Be kind."))
    confirm(call)
    seen = call.of("session.updated")[-1]["session"]
    assert seen["audio"]["input"]["turn_detection"]["create_response"] is True
    assert gates(call) == ["closing", "closed"]
    call.check()


def test_behind_the_gate_every_turn_is_answered_on_our_own_request() -> None:
    call = bench(bucket=3 * FULL - 1)
    call.turn()
    call.begin_answer()
    confirm(call)
    call.end_answer()
    call.turn("item_u2", start=1500)
    asked = [event for event in call.upstream if event["type"] == "response.create"]
    assert len(asked) == 1
    call.begin_answer("resp_2", "item_a2")
    call.end_answer("resp_2", "item_a2")
    assert call.ctx.budget.spent == 4 * PRICED
    assert call.call.state is State.RELAYING
    call.check()


def test_a_turn_that_ended_before_the_gate_was_confirmed_is_the_providers_to_answer() -> None:
    call = bench(bucket=3 * FULL - 1)
    call.turn()
    call.begin_answer()
    call.end_answer()
    call.turn("item_u2", start=1500)
    assert not [event for event in call.upstream if event["type"] == "response.create"]
    confirm(call)
    call.begin_answer("resp_2", "item_a2")
    call.end_answer("resp_2", "item_a2")
    assert call.call.state is State.RELAYING


def test_answers_get_shorter_before_they_stop() -> None:
    call = bench(bucket=FULL + 500)
    call.turn()  # begun behind the gate: two worst cases were never there
    (asked,) = [event for event in call.upstream if event["type"] == "response.create"]
    assert "max_output_tokens" not in (asked.get("response") or {})
    call.begin_answer()
    call.end_answer()
    call.turn("item_u2", start=1500)
    asked = [event for event in call.upstream if event["type"] == "response.create"][-1]
    assert asked["response"]["max_output_tokens"] == 400
    call.check()


def test_what_not_even_the_shortest_answer_can_be_paid_for_goes_to_the_next_tier() -> None:
    call = bench(cap=149)
    call.turn()
    assert call.call.state is State.LOCAL
    (row,) = call.rows("handover")
    assert (row["trigger"], row["cause"]) == ("budget", "budget_spent")
    call.words("Where is my order?")
    call.answer("Your order is on its way.")
    assert call.ctx.budget.spent <= 149
    call.check()


def test_a_request_of_the_clients_waits_for_the_money_and_is_answered_by_tier_b_without() -> None:
    call = bench(cap=149)
    call.client(audio_input(turn_detection=None))
    confirm(call)
    call.client({"type": "response.create"})
    assert call.call.state is State.LOCAL
    call.answer("Hello.")
    assert call.of("response.done")[-1]["response"]["status"] == "completed"
    call.check()


def test_no_answer_is_shortened_before_the_bucket_has_said_what_is_there() -> None:
    call = bench(bucket=FULL)  # behind the gate, one worst case set aside
    call.answers_claims = False
    call.turn()
    call.begin_answer()
    call.ctx.budget.ahead = 500  # enough for a shorter answer
    call.turn("item_u2", start=1500)
    assert len([event for event in call.upstream if event["type"] == "response.create"]) == 1
    call.bucket, call.answers_claims = 100 * FULL, True
    call.claimed(call.last(ClaimMoney))
    call.settle()
    second = [event for event in call.upstream if event["type"] == "response.create"][-1]
    assert "max_output_tokens" not in (second.get("response") or {})


def test_what_a_request_brings_with_it_is_paid_for_too() -> None:
    call = bench()
    asked = call.costs
    assert isinstance(asked, PerToken)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 5_000}]}
    call.client({"type": "response.create", "response": {"conversation": "none", "input": [item]}})
    assert max(context.text_tokens for context in asked.asked) > 5_000


def test_push_to_talk_needs_no_gate_and_one_worst_case() -> None:
    call = bench()
    call.client(audio_input(turn_detection=None))
    confirm(call)
    assert (call.held, gates(call)) == (FULL, [])


def test_a_provider_that_answers_uninvited_loses_the_call() -> None:
    call = bench(bucket=FULL)
    call.turn()
    call.begin_answer("resp_1", "item_a1")
    call.response_created("resp_x")
    assert call.rows("unpaid_response")
    assert call.call.state is State.LOCAL


def test_the_gate_opens_again_when_there_is_money() -> None:
    call = bench(bucket=FULL)
    assert gates(call) == []  # opened behind it
    call.bucket = 10 * FULL
    call.wait(2.1)
    confirm(call)
    assert gates(call) == ["opening", "open"]
    assert call.held == 2 * FULL


def test_a_bucket_that_cannot_be_asked_lets_nothing_new_start() -> None:
    call = bench()
    claim = call.ctx.purse.claim()
    assert claim is None
    call.bucket = 0
    call.turn()
    call.begin_answer()
    call.end_answer()
    confirm(call)
    call.turn("item_u2", start=1500)
    call.begin_answer("resp_2", "item_a2")
    call.end_answer("resp_2", "item_a2")
    call.turn("item_u3", start=3000)
    assert call.call.state is State.LOCAL


# --- what is paid for what was cut off ---


def test_a_lost_session_settles_at_what_was_set_aside() -> None:
    call = bench()
    call.turn()
    call.begin_answer()
    lose(call)
    (row,) = [row for row in call.rows("charge") if row["what"] == "response"]
    assert (row["nanodollars"], row["estimated"], row["turn"]) == (FULL, True, 1)


def test_a_session_that_is_given_up_is_asked_for_its_bill() -> None:
    call = bench()
    call.turn()
    call.begin_answer()
    call.wait(1.5)  # its audio stops
    assert call.call.state is State.LOCAL
    assert not [row for row in call.rows("charge") if row["what"] == "response"]
    assert not call.all(CloseUpstream)
    call.provider("response.done", response={"id": "resp_1", "status": "cancelled", "usage": USAGE})
    (row,) = [row for row in call.rows("charge") if row["what"] == "response"]
    assert (row["nanodollars"], row["estimated"]) == (PRICED, False)
    assert call.all(CloseUpstream)


def test_a_bill_that_does_not_come_is_estimated() -> None:
    call = bench()
    call.turn()
    call.begin_answer()
    call.wait(4.0)
    (row,) = [row for row in call.rows("charge") if row["what"] == "response"]
    assert (row["nanodollars"], row["estimated"]) == (FULL, True)
    assert call.all(CloseUpstream)


def test_who_hangs_up_in_the_middle_of_an_answer_pays_what_there_was_of_it() -> None:
    call = bench()
    call.turn()
    call.begin_answer()
    call.call.client_closed(call.now)
    call.settle()
    assert not call.call.over
    call.provider("response.done", response={"id": "resp_1", "status": "cancelled", "usage": USAGE})
    assert call.call.over
    (ended,) = call.rows("call_ended")
    assert ended["spent_usd"] == 2 * PRICED / 1e9
    assert call.held == 0


def test_an_answer_without_usage_costs_all_that_was_set_aside() -> None:
    call = bench()
    call.turn(words=None)
    call.begin_answer()
    call.provider(
        "response.done", response={"id": "resp_1", "status": "cancelled", "output": [], "usage": None}
    )
    (row,) = call.rows("charge")
    assert (row["nanodollars"], row["estimated"]) == (FULL, True)
    assert call.call.relay is not None
    heard = call.call.relay.gate.bound.context().audio_tokens
    assert heard >= FULL, "the next answer's input has all that this one may have been"


def test_what_a_barge_in_cut_off_is_shown_as_waste() -> None:
    call = bench()
    call.turn()
    call.begin_answer()
    call.delta(ms=1000)
    call.wait(0.5)
    call.provider("input_audio_buffer.speech_started", audio_start_ms=3000, item_id="item_u2")
    (row,) = call.rows("waste")
    assert (row["response_id"], row["item_id"]) == ("resp_1", "item_a1")
    assert (row["sent_ms"], row["heard_ms"], row["unheard_ms"], row["nanodollars"]) == (1200, 500, 700, 700)


# --- Tier B ---


def test_an_answer_of_tier_b_is_paid_for_before_it_starts() -> None:
    call = Bench(tier="B", costs=PerToken(tier_b=500), cap=None, bucket=800)
    call.call.start(call.now)
    call.settle()
    call.say()
    call.words("Hello?")
    assert dict(call.ctx.purse.running) == {call.request.answer_id: 500}
    charge = Charge("agent", "gpt", 300)
    call.call.answer_event(call.request.answer_id, TextDelta("Hi."), call.now)
    call.call.answer_event(call.request.answer_id, Charged(charge), call.now)
    call.call.answer_event(call.request.answer_id, Finished(rung="kokoro"), call.now)
    call.settle()
    assert (call.ctx.budget.spent, dict(call.ctx.purse.running)) == (300, {})


def test_the_first_turn_of_tier_b_is_written_down_by_an_engine_that_is_paid() -> None:
    @dataclass
    class Hearing(PerToken):
        def writing_down(self, seconds: float) -> int:
            return round(seconds * 10)

    call = Bench(tier="B", costs=Hearing(tier_b=500), cap=None, bucket=2_000)
    call.call.start(call.now)
    call.settle()
    call.say()
    call.words("Hello?")
    assert call.request.history


def test_a_turn_waits_to_be_written_down_until_the_bucket_has_said_that_it_can_be_paid_for() -> None:
    @dataclass
    class Hearing(PerToken):
        def writing_down(self, seconds: float) -> int:
            return round(seconds * 10)

    call = Bench(tier="B", costs=Hearing(tier_b=500), cap=None, bucket=5_000)
    call.answers_claims = False
    call.call.start(call.now)
    call.settle()
    call.say()
    assert not call.all(Transcribe)
    call.answers_claims = True
    call.claimed(call.last(ClaimMoney))
    call.settle()
    assert len(call.all(Transcribe)) == 1
    call.words("Hello?")
    call.answer("Hi.")
    call.check()


def test_what_tier_b_cannot_pay_for_tier_c_says() -> None:
    call = Bench(tier="B", costs=PerToken(tier_b=500), cap=499)
    call.call.start(call.now)
    call.settle()
    call.say()
    call.words("Hello?")
    assert [start.tier for start in call.all(StartAnswer)] == ["C"]


def test_what_not_even_tier_c_can_pay_for_is_said_from_memory() -> None:
    @dataclass
    class Dear(PerToken):
        def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
            return 500, 0

    call = Bench(tier="B", costs=Dear(), cap=499)
    call.call.start(call.now)
    call.settle()
    call.say()
    call.words("Hello?")
    assert not call.all(StartAnswer)
    assert call.of("response.output_audio_transcript.done")[-1]["transcript"] == "I am sorry."
    assert call.ctx.budget.spent == 0
    call.check()


def test_an_agent_that_is_cut_off_is_charged_at_its_worst() -> None:
    call = Bench(tier="B", costs=PerToken(tier_b=500), cap=None)
    call.call.start(call.now)
    call.settle()
    call.say()
    call.words("Hello?")
    call.client({"type": "response.cancel"})
    (row,) = call.rows("charge")
    assert (row["what"], row["nanodollars"], row["estimated"]) == ("agent", 250, True)
    assert dict(call.ctx.purse.running) == {}


# --- steps ---

CONCISE = StepPolicy((Step(0.5, StepAction.CONCISE),))


def test_a_step_to_shorter_answers_is_told_to_the_model_and_not_to_the_client() -> None:
    call = bench(cap=100 * FULL, steps=CONCISE)
    call.ctx.budget.spent = 50 * FULL
    call.turn()
    call.begin_answer()
    call.end_answer()
    (step,) = call.rows("budget_step")
    assert (step["action"], step["cause"]) == ("concise", "share")
    limited = [event for event in call.upstream if event["type"] == "session.update"]
    assert limited[-1]["session"]["max_output_tokens"] == 400
    (item,) = [event["item"] for event in call.upstream if event["type"] == "conversation.item.create"]
    assert item["role"] == "system"
    call.provider("conversation.item.added", item=item, previous_item_id=None)
    call.provider("conversation.item.done", item=item, previous_item_id=None)
    assert item["id"] not in str(call.received)
    shown = call.of("session.updated")[-1]["session"]
    assert shown["orchestrator"]["budget_step"] == "concise"
    assert shown["max_output_tokens"] == "inf"
    confirm(call)
    assert call.held == 2 * 400
    call.check()


def test_a_step_to_a_cheaper_rung_moves_the_call_inside_tier_a() -> None:
    steps = StepPolicy((Step(0.5, StepAction.CHEAPER_RUNG),))
    call = bench(cap=100 * FULL, steps=steps, rungs=("gpt-realtime-2.1", "gpt-realtime-2.1-mini"))
    call.ctx.budget.spent = 60 * FULL
    call.barred = {"gpt-realtime-2.1": Reason.BUDGET_STEP}
    call.turn()
    call.begin_answer()
    call.end_answer()
    call.wait(2.5)
    assert call.call.state is State.RENEWING
    assert call.last_rung == "gpt-realtime-2.1-mini"


def test_the_last_step_is_a_goodbye_that_is_heard_before_the_call_ends() -> None:
    steps = StepPolicy((Step(0.5, StepAction.GOODBYE),))
    call = bench(cap=100 * FULL, steps=steps)
    call.ctx.budget.spent = 60 * FULL
    call.tier, call.decided_by = "C", DecidedBy.POLICY
    call.turn()
    call.begin_answer()
    call.end_answer()
    call.wait(0.6)
    assert call.rows("goodbye")
    assert not call.all(HangUp)
    call.wait(1.5)
    assert len(call.all(HangUp)) == 1
    call.check()


# --- history ---


def test_a_long_history_is_told_again_as_text_in_a_fresh_session_of_the_same_rung() -> None:
    call = bench(rungs=("gpt-realtime-2.1", "gpt-realtime-2.1-mini"))
    call.ctx.history = "text"
    call.ctx.policy = replace(call.ctx.policy, history_tokens=100)
    call.turn()
    call.begin_answer()
    call.delta(ms=8_000)
    call.end_answer()
    call.wait(9.0)
    call.turn("item_u2", words="And where is it now?", start=1500)
    call.begin_answer("resp_2", "item_a2")
    call.delta("resp_2", "item_a2", ms=8_000)
    long = {
        **USAGE,
        "total_tokens": 320,
        "input_tokens": 300,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 296},
    }
    call.end_answer("resp_2", "item_a2", usage=long)
    for _ in range(60):  # once all was heard and the caller is quiet
        if call.call.state is State.RENEWING:
            break
        call.wait(0.5)
    assert call.call.state is State.RENEWING
    assert call.last_rung == "gpt-realtime-2.1"
    call.provider("session.created", session=default_session("gpt-realtime-2.1"))
    told = [event["item"] for event in call.upstream if event["type"] == "conversation.item.create"]
    assert [part["type"] for item in told for part in item["content"]] == [
        "input_text",
        "output_text",
        "input_text",
        "output_text",
    ]
    for item in told:
        call.provider("conversation.item.added", item=item, previous_item_id=None)
    confirm(call)
    assert call.call.state is State.RELAYING
    assert (call.rows("handover")[-1]["trigger"], call.rows("handover")[-1]["cause"]) == (
        "budget",
        "history_as_text",
    )
    call.check()


def test_a_provider_is_told_how_to_shorten_the_history_and_the_client_is_not() -> None:
    cut = {"type": "retention_ratio", "retention_ratio": 0.7, "token_limits": {"post_instructions": 6000}}
    call = Bench(Policy(retention=cut))
    call.ctx.history = "retention"
    call.call.start(call.now)
    call.settle()
    call.provider("session.created", session=default_session("gpt-realtime-2.1"))
    (told,) = [event for event in call.upstream if event["type"] == "session.update"]
    assert told["session"]["truncation"] == cut
    confirm(call)
    call.client(update(truncation="disabled"))
    told = [event for event in call.upstream if event["type"] == "session.update"][-1]
    assert told["session"]["truncation"] == "disabled", "what the client wants goes first"
    confirm(call)
    assert call.of("session.updated")[-1]["session"]["truncation"] == "disabled"


@pytest.mark.parametrize("cause", [Cause.CLOSED, Cause.RESPONSE_TIMEOUT])
def test_money_is_never_both_running_and_free(cause: Cause) -> None:
    call = bench(bucket=6 * FULL)
    for number in range(3):
        call.turn(f"item_u{number}", start=1500 * number)
        if call.call.state is not State.RELAYING:
            break
        call.begin_answer(f"resp_{number}", f"item_a{number}")
        running = sum(call.ctx.purse.running.values())
        assert call.ctx.budget.spent + running + call.held <= 6 * FULL
        assert running == call.ctx.budget.reserved
        call.end_answer(f"resp_{number}", f"item_a{number}")
    lose(call, cause)
    assert call.ctx.budget.spent + sum(call.ctx.purse.running.values()) <= 6 * FULL
