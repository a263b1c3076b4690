"""Late, lost and ending provider sessions: hedges, races, several rungs, renewal, and when a bridge is heard."""

from __future__ import annotations

import pytest

from orchestrator.core.actions import CloseUpstream, OpenUpstream, StartAnswer, StopAnswer, Transcribe
from orchestrator.core.call import State
from orchestrator.core.context import Policy
from orchestrator.core.health import Cause
from orchestrator.core.outcomes import Outcome
from orchestrator.core.pace import HedgeCap, Step
from orchestrator.protocol.answers import AudioDelta, Charge, Charged, Finished, TextDelta, ToolCallReady
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.session import default_session
from tests.core.bench import TOOL, Bench, append, lose, update

MINI = "gpt-realtime-2.1-mini"


@pytest.fixture
def bench() -> Bench:
    bridges = {"default": "one_moment", "interrupted": "cut_off"}
    return Bench(Policy(transcription_model="gpt-transcribe", bridges=bridges))


@pytest.fixture
def two_rungs(bench: Bench) -> Bench:
    bench.rungs = ("gpt-realtime-2.1", MINI)
    return bench


def said(bench: Bench, *events: object) -> None:
    """The hedge's tier says something."""
    for event in events:
        bench.call.answer_event(bench.request.answer_id, event, bench.now)  # type: ignore[arg-type]
    bench.settle()


AUDIO = AudioDelta(AudioFormat.PCM.silence(400))


# --- hedging ---


def test_a_late_answer_is_begun_by_tier_b_in_silence(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.49)
    assert not bench.all(StartAnswer)
    bench.wait(0.02)
    assert bench.call.state is State.HEDGING
    assert bench.request.history[-1].text == "Where is my order 4172?"  # type: ignore[union-attr]
    assert not bench.of("response.created"), "the client knows nothing of it"


def test_whichever_has_audio_first_speaks_tier_a(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.6)
    answer_id = bench.request.answer_id
    bench.begin_answer()
    assert bench.call.state is State.RELAYING
    assert [stop.answer_id for stop in bench.all(StopAnswer)] == [answer_id]
    said(bench, AUDIO)
    bench.end_answer()
    assert [e["response"]["metadata"]["tier"] for e in bench.of("response.done")] == ["A"]
    assert bench.rows("hedge")[0]["result"] == "lost"
    assert bench.failures() == []


def test_whichever_has_audio_first_speaks_tier_b(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.6)
    bench.response_created("resp_1")
    bench.wait(0.2)
    assert bench.call.state is State.HEDGING, "a response without audio is nothing to hear"
    said(bench, TextDelta("On its way."), AUDIO)
    assert bench.call.state is State.LOCAL
    cancelled = [e for e in bench.sent_to[1] if e["type"] == "response.cancel"]
    assert cancelled == [{"type": "response.cancel", "response_id": "resp_1"}]
    assert bench.all(CloseUpstream)
    said(bench, Finished(rung="kokoro"))
    assert [e["response"]["status"] for e in bench.of("response.done")] == ["incomplete", "completed"]
    assert not bench.rows("bridge"), "the answer itself is there"
    assert bench.rows("handover")[0]["trigger"] == "hedge"
    assert bench.failures() == [], "late is not lost"
    assert bench.ctx.outcomes.count(Outcome.ANSWERED) == 1


def test_at_the_deadline_what_the_hedge_has_made_is_gone_on_with(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.6)
    answer_id = bench.request.answer_id
    bench.wait(0.41)
    assert bench.call.state is State.LOCAL
    assert bench.rows("bridge")
    assert len(bench.all(StartAnswer)) == 1, "the tier is not asked twice"
    said(bench, TextDelta("On its way."), AUDIO, Finished(rung="kokoro"))
    assert bench.request.answer_id == answer_id
    assert bench.of("response.done")[-1]["response"]["status"] == "completed"


def test_a_hedge_stops_before_a_tool_and_waits_for_the_deadline(bench: Bench) -> None:
    bench.connect()
    bench.client(update(tools=[TOOL]))
    bench.confirm_updates()
    bench.turn()
    bench.wait(0.6)
    said(bench, ToolCallReady("call_b1", "get_order_status", "{}"), Finished(rung="kokoro"))
    assert bench.call.state is State.HEDGING
    assert not bench.of("response.function_call_arguments.done")
    bench.wait(0.5)
    assert bench.of("response.function_call_arguments.done")[0]["name"] == "get_order_status"
    assert bench.rows("bridge"), "a tool call is nothing to hear"


def interrupted_by_a_tool_call(bench: Bench) -> None:
    """The provider dies with 2 s of its answer still to be played, and Tier B wants a tool."""
    bench.connect()
    bench.client(update(tools=[TOOL]))
    bench.confirm_updates()
    bench.turn()
    bench.begin_answer()
    for _ in range(9):
        bench.delta()
    lose(bench)
    bench.call_tool("get_order_status", "{}")
    assert not bench.rows("bridge")


def test_a_tool_that_is_quick_needs_no_bridge(bench: Bench) -> None:
    interrupted_by_a_tool_call(bench)
    bench.wait(1.0)
    output = {"type": "function_call_output", "call_id": "call_b1", "output": "shipped"}
    bench.client({"type": "conversation.item.create", "item": output})
    bench.client({"type": "response.create"})
    bench.wait(0.5)
    bench.answer("It is on its way.")
    bench.wait(3.0)
    assert not bench.rows("bridge")


def test_a_tool_that_takes_its_time_is_bridged_when_the_audio_runs_out(bench: Bench) -> None:
    interrupted_by_a_tool_call(bench)
    bench.wait(1.8)
    assert not bench.rows("bridge")
    bench.wait(0.1)
    assert [row["kind"] for row in bench.rows("bridge")] == ["interrupted"]
    assert bench.of("response.done")[-1]["response"]["status"] == "incomplete"
    output = {"type": "function_call_output", "call_id": "call_b1", "output": "shipped"}
    bench.client({"type": "conversation.item.create", "item": output})
    bench.client({"type": "response.create"})
    bench.answer("It is on its way.")
    assert len(bench.rows("bridge")) == 1
    bench.check()


def test_a_hedge_that_lost_never_shows_its_tool_call(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.6)
    said(
        bench,
        ToolCallReady("call_b1", "get_order_status", "{}"),
        Charged(Charge("agent", "gpt", 2_000)),
        Finished(rung="kokoro"),
    )
    bench.begin_answer()
    bench.end_answer()
    assert not bench.of("response.function_call_arguments.done")
    assert [row["nanodollars"] for row in bench.rows("charge") if row["rung"] == "kokoro"] == [2_000]


def test_a_caller_who_speaks_on_ends_the_hedge(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.6)
    bench.turn("item_u2", start=1500)
    assert bench.call.state is State.RELAYING
    assert bench.all(StopAnswer)
    assert bench.ctx.outcomes.count(Outcome.STOPPED) == 1


def test_an_unwritten_turn_is_written_down_for_the_hedge_once(bench: Bench) -> None:
    bench.connect()
    bench.turn(words=None)
    bench.wait(0.6)
    assert bench.call.state is State.HEDGING
    bench.wait(0.5)
    assert bench.call.state is State.LOCAL
    bench.words("Where is my order?")
    assert len(bench.all(Transcribe)) == 1
    bench.answer("On its way.")


def test_no_hedge_before_the_committed_audio_is_part_of_the_conversation(bench: Bench) -> None:
    bench.connect()
    bench.client(update(audio={"input": {"turn_detection": None}}))
    bench.confirm_updates()
    bench.audio(1500)
    bench.client({"type": "input_audio_buffer.commit"})
    bench.client({"type": "response.create"})
    bench.wait(0.9)
    assert bench.call.state is State.RELAYING
    bench.wait(0.2)
    assert bench.call.state is State.LOCAL
    bench.words("Where is my order?")
    assert [m.text for m in bench.request.history] == ["Where is my order?"]  # type: ignore[union-attr]


def test_words_that_the_hedge_wrote_down_are_told_to_a_client_that_wants_them(bench: Bench) -> None:
    bench.connect()
    bench.client(update(audio={"input": {"transcription": {"model": "whisper-1"}}}))
    bench.confirm_updates()
    bench.turn(words=None)
    bench.wait(0.6)
    bench.words("Where is my order?")
    kind = "conversation.item.input_audio_transcription.completed"
    assert not bench.of(kind)
    said(bench, AUDIO)
    assert [e["transcript"] for e in bench.of(kind)] == ["Where is my order?"]


def test_the_rate_of_hedges_is_capped(bench: Bench) -> None:
    bench.ctx.hedge_cap = HedgeCap(share=0.0)
    bench.connect()
    bench.turn()
    bench.wait(0.9)
    assert bench.call.state is State.RELAYING
    assert not bench.all(StartAnswer)


def test_the_cap_is_a_share_of_turns_with_a_few_saved_up() -> None:
    cap = HedgeCap(share=0.1, burst=2.0)
    assert [cap.take() for _ in range(3)] == [True, True, False]
    taken = 0
    for _ in range(100):
        cap.note_turn()
        taken += cap.take()
    assert taken in (9, 10)


# --- several rungs ---


def test_a_refused_call_goes_to_the_next_rung_at_once(two_rungs: Bench) -> None:
    bench = two_rungs
    bench.call.start(bench.now)
    bench.settle()
    lose(bench, Cause.REFUSED)
    assert [o.rung for o in bench.all(OpenUpstream)] == ["gpt-realtime-2.1", MINI]
    bench.provider("session.created", session={})
    told = bench.received[0]["session"]["orchestrator"]
    assert (told["tier"], told["rung"]) == ("A", MINI)


def test_after_the_last_rung_comes_the_next_tier(two_rungs: Bench) -> None:
    bench = two_rungs
    bench.call.start(bench.now)
    bench.settle()
    lose(bench, Cause.REFUSED)
    bench.wait(1.1)
    assert bench.call.state is State.LOCAL
    assert bench.failures() == ["refused", "connect_timeout"]
    assert bench.received[0]["session"]["orchestrator"]["tier"] == "B"


def raced(bench: Bench) -> None:
    """The provider dies while an answer is owed; the next rung's session has been given the conversation and asked."""
    bench.connect()
    bench.turn()
    lose(bench)
    assert bench.call.state is State.RACING
    bench.provider("session.created", session=default_session(MINI))
    for event in [e for e in bench.upstream if e["type"] == "conversation.item.create"]:
        bench.provider("conversation.item.added", item=event["item"], previous_item_id=None)
    bench.confirm_updates()
    assert bench.upstream[-1] == {"type": "response.create"}


def test_the_next_rung_races_tier_b_and_wins(two_rungs: Bench) -> None:
    bench = two_rungs
    raced(bench)
    assert bench.rows("bridge")
    bench.begin_answer("resp_2", "item_a2")
    assert bench.call.state is State.RELAYING
    assert bench.all(StopAnswer)
    bench.end_answer("resp_2", "item_a2")
    bridge, answer = (e["response"] for e in bench.of("response.done"))
    assert (bridge["status"], bridge["metadata"]["tier"]) == ("incomplete", "B"), (
        "not to be taken for the answer"
    )
    assert (answer["status"], answer["metadata"]) == ("completed", {"tier": "A", "rung": MINI})
    assert bench.ctx.outcomes.count(Outcome.ANSWERED) == bench.ctx.outcomes.asked == 1
    bench.check()


def test_late_confirmations_of_the_replay_never_reach_the_client(two_rungs: Bench) -> None:
    bench = two_rungs
    raced(bench)
    replayed = next(e["item"] for e in bench.upstream if e["type"] == "conversation.item.create")
    for kind in ("added", "done"):
        bench.provider(f"conversation.item.{kind}", item=replayed, previous_item_id=None)
    bench.begin_answer("resp_2", "item_a2")
    bench.end_answer("resp_2", "item_a2")
    bench.check()


def test_the_next_rung_races_tier_b_and_loses(two_rungs: Bench) -> None:
    bench = two_rungs
    raced(bench)
    bench.answer("On its way.")
    assert bench.call.state is State.LOCAL
    assert bench.sent_to[2][-1] == {"type": "response.cancel"}
    bench.begin_answer("resp_2", "item_a2")
    assert not [e for e in bench.of("response.created") if e["response"]["id"] == "resp_2"]
    assert [e["response"]["status"] for e in bench.of("response.done")] == ["completed"]
    bench.check()


def test_a_race_that_the_client_cannot_see_cannot_be_cancelled_by_it(two_rungs: Bench) -> None:
    bench = two_rungs
    bench.connect()
    bench.turn()
    bench.begin_answer()
    bench.delta(ms=5000)  # heard for so long that no bridge is needed yet
    lose(bench)
    assert bench.call.state is State.RACING
    bench.client({"type": "response.cancel"})
    assert bench.of("error")[-1]["error"]["code"] == "response_cancel_not_active"
    assert bench.call.state is State.LOCAL
    bench.answer("On its way.")
    assert bench.of("response.done")[-1]["response"]["status"] == "completed"
    bench.check()


def test_a_tool_call_of_the_next_rung_is_an_answer_too(two_rungs: Bench) -> None:
    bench = two_rungs
    raced(bench)
    bench.response_created("resp_2")
    place = {"response_id": "resp_2", "output_index": 0}
    item = {"id": "item_f", "object": "realtime.item", "type": "function_call", "status": "in_progress"}
    item |= {"name": "get_order_status", "call_id": "call_7", "arguments": ""}
    bench.provider("response.output_item.added", **place, item=item)
    bench.provider("conversation.item.added", item=item, previous_item_id="item_u1")
    done = {**place, "item_id": "item_f", "call_id": "call_7", "arguments": "{}", "name": "get_order_status"}
    bench.provider("response.function_call_arguments.done", **done)
    item = {**item, "status": "completed", "arguments": "{}"}
    bench.provider("conversation.item.done", item=item, previous_item_id="item_u1")
    bench.provider("response.output_item.done", **place, item=item)
    assert not bench.of("response.function_call_arguments.done"), "Tier B may still be first"
    wire = {"id": "resp_2", "object": "realtime.response", "status": "completed", "status_details": None}
    wire |= {"output": [item], "usage": {"total_tokens": 1, "input_tokens": 1, "output_tokens": 0}}
    bench.provider("response.done", response=wire)
    assert bench.call.state is State.RELAYING
    assert len(bench.of("response.function_call_arguments.done")) == 1


def test_a_second_fault_during_the_handover_leaves_tier_b_answering(two_rungs: Bench) -> None:
    bench = two_rungs
    raced(bench)
    lose(bench, Cause.CLOSED)
    assert bench.call.state is State.LOCAL
    assert bench.failures() == ["closed", "closed"]
    bench.answer("On its way.")
    assert bench.of("response.done")[-1]["response"]["status"] == "completed"


def test_a_failed_answer_of_the_next_rung_ends_the_race(two_rungs: Bench) -> None:
    bench = two_rungs
    raced(bench)
    bench.response_created("resp_2")
    wire = {"id": "resp_2", "status": "failed", "status_details": {"type": "failed"}, "usage": None}
    bench.provider("response.done", response=wire)
    assert bench.call.state is State.LOCAL
    bench.answer("On its way.")


def test_what_the_client_itself_asked_for_is_answered_by_tier_b_under_its_response(two_rungs: Bench) -> None:
    bench = two_rungs
    bench.connect()
    bench.turn()
    bench.begin_answer()
    bench.end_answer()
    bench.client({"type": "response.create", "response": {"metadata": {"n": "1"}}})
    lose(bench)
    assert bench.call.state is State.LOCAL, (
        "its response is open already, and another session would open another"
    )


def known_pace(bench: Bench, rung_s: float, tier_b_s: float) -> None:
    for _ in range(20):
        for step, seconds in (
            (Step.SESSION, rung_s / 2),
            (Step.RESPONSE, 0.1),
            (Step.FIRST_AUDIO, rung_s / 2),
        ):
            bench.ctx.paces.of("gpt-realtime-2.1").note(step, seconds)
        bench.ctx.paces.of("kokoro").note(Step.ANSWER, tier_b_s)


@pytest.mark.parametrize(
    ("rung_s", "tier_b_s", "cause", "retried"),
    [
        (0.4, 0.9, Cause.CLOSED, True),
        (1.2, 0.9, Cause.CLOSED, False),
        (0.4, 0.9, Cause.NO_CREDIT, False),
        (0.4, 0.9, Cause.BAD_KEY, False),
    ],
)
def test_a_passing_cause_gets_one_fast_retry_where_that_is_quicker(
    bench: Bench, rung_s: float, tier_b_s: float, cause: Cause, retried: bool
) -> None:
    known_pace(bench, rung_s, tier_b_s)
    bench.connect()
    bench.turn()
    lose(bench, cause)
    assert (bench.call.state is State.RACING) is retried
    if retried:
        lose(bench, cause)
        assert bench.call.state is State.LOCAL, "once"
    bench.answer("On its way.")


def test_a_retry_that_fails_makes_room_for_the_next_rung(two_rungs: Bench) -> None:
    bench = two_rungs
    known_pace(bench, 0.4, 0.9)
    bench.connect()
    bench.turn()
    lose(bench)
    lose(bench, Cause.REFUSED)
    assert bench.call.state is State.RACING
    assert [o.rung for o in bench.all(OpenUpstream)] == ["gpt-realtime-2.1", "gpt-realtime-2.1", MINI]
    lose(bench, Cause.REFUSED)
    assert bench.call.state is State.LOCAL, "each rung once"
    bench.answer("On its way.")


# --- deadlines ---


def test_a_silent_response_is_decided_as_soon_as_a_silent_turn(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.3)
    bench.response_created("resp_1")
    bench.wait(0.69)
    assert not bench.failures()
    bench.wait(0.02)
    assert bench.failures() == ["first_audio_timeout"]


def test_deadlines_follow_the_rungs_pace(bench: Bench) -> None:
    known_pace(bench, 0.6, 5.0)
    bench.connect()
    bench.turn()
    bench.wait(0.79)
    assert not bench.failures()
    bench.wait(0.02)
    assert bench.failures() == ["response_timeout"], "the floor, 0.8 s"


def test_audio_slower_than_it_is_played_is_a_fault(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    for _ in range(20):
        bench.wait(0.5)
        if bench.failures():
            break
        bench.delta()
    assert bench.failures() == ["next_audio_timeout"]
    assert bench.now < 102.0


def test_a_hiccup_in_a_long_answer_is_forgiven(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    for _ in range(10):
        bench.wait(0.25)
        bench.delta(ms=200)
        for _ in range(10):
            bench.delta(ms=200)
        bench.wait(2.1)
        bench.delta(ms=200)
    assert not bench.failures()


# --- bridges ---


@pytest.mark.parametrize(("usual", "bridged"), [(0.75, False), (2.6, True)])
def test_no_bridge_at_the_deadline_where_the_hedge_usually_has_the_answer_a_moment_later(
    bench: Bench, usual: float, bridged: bool
) -> None:
    known_pace(bench, 2.0, usual)
    bench.connect()
    bench.turn()
    bench.wait(1.06)
    assert bench.rows("handover")
    assert bool(bench.rows("bridge")) is bridged
    bench.wait(0.7)
    assert bench.rows("bridge"), "it did not come: the caller has waited long enough"


def test_no_bridge_where_the_answer_is_ready_in_time(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    for _ in range(9):
        bench.delta()
    lose(bench)
    bench.wait(1.0)
    bench.answer("And the rest.", ms=800)
    bench.wait(3.0)
    assert not bench.rows("bridge"), "the client played on until the answer was there"


@pytest.mark.parametrize("deltas", [1, 10])
def test_the_bridge_says_what_happened_just_before_the_audio_runs_out(bench: Bench, deltas: int) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    for _ in range(deltas - 1):
        bench.delta()
    lose(bench)
    bench.wait(max(0.0, deltas * 0.2 - 0.16))
    assert not bench.rows("bridge")
    bench.wait(0.02)
    assert [row["kind"] for row in bench.rows("bridge")] == ["interrupted"]
    assert bench.ctx.playback.dry_at > bench.now + 0.6, "it joins behind what was still to be played"
    bench.wait(5.0)
    assert len(bench.rows("bridge")) == 1


# --- the 60-minute limit ---


def limited(bench: Bench, life: float) -> None:
    bench.call.start(bench.now)
    bench.settle()
    session = {**default_session("gpt-realtime-2.1"), "expires_at": bench.now + life}
    bench.provider("session.created", session=session)
    bench.confirm_updates()


def renew(bench: Bench) -> None:
    assert bench.call.state is State.RENEWING
    fresh = {**default_session("gpt-realtime-2.1"), "expires_at": bench.now + 3600}
    bench.provider("session.created", session=fresh)
    for event in [e for e in bench.upstream if e["type"] == "conversation.item.create"]:
        bench.provider("conversation.item.added", item=event["item"], previous_item_id=None)
    bench.confirm_updates()


def test_a_fresh_session_takes_over_ahead_of_the_limit(bench: Bench) -> None:
    limited(bench, 3600)
    bench.turn()
    bench.begin_answer()
    bench.end_answer()
    bench.wait(3600 - 301)
    assert bench.call.state is State.RELAYING
    bench.wait(2)
    before = len(bench.types())
    renew(bench)
    assert bench.call.state is State.RELAYING
    assert bench.call.serving == 2
    assert [close.attempt for close in bench.all(CloseUpstream)] == [1]
    assert bench.types()[before:] == ["session.updated"], "no more than the new end of the session"
    assert bench.failures() == []
    bench.turn("item_u2")
    bench.begin_answer("resp_2", "item_a2")
    bench.end_answer("resp_2", "item_a2")
    bench.check()


def test_a_three_hour_call_is_one_call(bench: Bench) -> None:
    limited(bench, 3600)
    while bench.now < 100 + 3 * 3600:
        bench.wait(60)
        if bench.call.state is State.RENEWING:
            renew(bench)
    assert bench.call.state is State.RELAYING
    assert len(bench.all(OpenUpstream)) == 4
    assert bench.failures() == []


def test_a_caller_who_speaks_puts_the_renewal_off(bench: Bench) -> None:
    limited(bench, 3600)
    bench.wait(3300.6)
    assert bench.call.state is State.RENEWING
    bench.call.upstream_frame(
        1,
        b'{"type":"input_audio_buffer.speech_started","event_id":"x","audio_start_ms":1,"item_id":"item_u1"}',
        bench.now,
    )
    bench.settle()
    assert bench.call.state is State.RELAYING
    assert bench.call.serving == 1


def test_what_the_old_session_did_not_notice_is_told_to_the_fresh_one(bench: Bench) -> None:
    limited(bench, 3600)
    bench.wait(3300.6)
    bench.audio(1000)
    loud = append((b"\x00\x20\x00\xe0") * 240)
    for _ in range(50):
        bench.call.client_audio(loud, bench.now)
    renew(bench)
    assert bench.call.serving == 2
    frames = [event["frame"] for event in bench.upstream if event["type"] == "frame"]
    assert frames == [append()] * 15 + [loud] * 50, "all of it, and a little before it"


def test_a_session_that_expires_under_the_caller_is_nobodys_fault(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    bench.provider(
        "error", error={"type": "invalid_request_error", "code": "session_expired", "message": "x"}
    )
    assert bench.call.state is State.LOCAL
    assert bench.failures() == []
    assert bench.rows("handover")[0]["trigger"] == "expiry"
    bench.answer("And the rest.")


# --- hanging up ---


def _until(state: State) -> Bench:
    """A call that has come to this state."""
    bench = Bench(rungs=("gpt-realtime-2.1", MINI))
    if state is State.NEW:
        return bench
    if state is State.CONNECTING:
        bench.call.start(bench.now)
        bench.settle()
        return bench
    if state is State.RENEWING:
        limited(bench, 3600)
        bench.wait(3300.6)
        return bench
    bench.connect()
    if state is State.RELAYING:
        return bench
    if state in (State.HEDGING, State.RACING):
        bench.turn()
    if state is State.HEDGING:
        bench.wait(0.6)
        return bench
    lose(bench)
    if state is State.PROMOTING:
        bench.wait(1.6)
    return bench


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_hanging_up_ends_a_call_wherever_it_stands(state: State) -> None:
    bench = _until(state)
    assert bench.call.state is state
    bench.call.client_closed(bench.now)
    bench.settle()
    assert bench.call.state is State.ENDED
    assert bench.call.next_due() is None
    opened = {action.attempt for action in bench.all(OpenUpstream)}
    assert opened == {action.attempt for action in bench.all(CloseUpstream)}
    started = {action.request.answer_id for action in bench.all(StartAnswer)}
    assert started == {action.answer_id for action in bench.all(StopAnswer)}
    assert bench.ctx.outcomes.open == []
