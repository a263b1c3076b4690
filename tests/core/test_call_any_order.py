"""Whatever happens in whatever order: what the client, the caller and the providers can rely on always holds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.core.actions import (
    CheckSpeech,
    CloseUpstream,
    Listen,
    OpenUpstream,
    StartAnswer,
    StopAnswer,
    StopListening,
    Transcribe,
)
from orchestrator.core.call import State
from orchestrator.core.context import Policy
from orchestrator.core.conversation import text_of
from orchestrator.core.drills import Plan, Practice
from orchestrator.core.health import Cause
from orchestrator.core.outcomes import Outcome
from orchestrator.core.routing import DecidedBy
from orchestrator.core.states import PREPARED, RELAYED, SERVED_LOCALLY
from orchestrator.protocol.answers import (
    AudioDelta,
    Failed,
    Finished,
    Message,
    TextDelta,
    ToolCallReady,
    Transcript,
)
from orchestrator.protocol.session import default_session
from tests.core.bench import USAGE, Bench, Event, append, audio_input, user_text

RUNGS = ("gpt-realtime-2.1", "gpt-realtime-2.1-mini")
LIFE_S = 30.0
"""How long the providers' sessions live: short, so that calls meet the end of one."""
LOUD = append((b"\x00\x20\x00\xe0") * 240)


@dataclass
class Provider:
    """One provider session, as far as the world outside has to remember it."""

    attempt: int
    awaits_turn: str = ""
    """A caller's turn it has not begun to answer: the words of it."""
    taken: int = 0
    """``response.create`` events it has taken up."""
    open: tuple[str, str] | None = None
    """The response under way: its id and its item's."""


class AnyOrder(RuleBasedStateMachine):
    """Providers and tiers that keep the protocol, a client that runs its tools, and a world that is never still."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(Policy(transcription_model="gpt-transcribe", renew_before_s=5.0), rungs=RUNGS)
        self.providers: dict[int, Provider] = {}
        self.turns = 0
        self.answers = 0
        self.answered: set[str] = set()
        """Answers that a tier has ended."""
        self.written: set[str] = set()
        self.ran: Counter[str] = Counter()
        """How often the client has run the tool for each question."""
        self.handled: set[str] = set()
        self.hangs_up_early = False

    # --- what is true of the world ---

    @property
    def serving(self) -> Provider | None:
        attempt = self.bench.call.serving
        return None if attempt is None else self.providers.setdefault(attempt, Provider(attempt))

    @property
    def relaying(self) -> bool:
        return self.bench.call.state in RELAYED

    @property
    def ours(self) -> bool:
        return self.bench.call.state in SERVED_LOCALLY

    def as_provider(self, attempt: int) -> Provider:
        """From here on the bench speaks for this session."""
        self.bench.attempt = attempt
        return self.providers.setdefault(attempt, Provider(attempt))

    def provider_ms(self) -> int:
        """The serving provider's time of this moment: it counts from its own first audio."""
        relay = self.bench.call.relay
        assert relay is not None
        return int(self.bench.ctx.input.total_ms - relay.base_ms)

    def creates(self, provider: Provider) -> list[Event]:
        return [e for e in self.bench.sent_to[provider.attempt] if e["type"] == "response.create"]

    def may_answer(self) -> bool:
        provider = self.serving
        if provider is None or provider.open is not None:
            return False
        return bool(provider.awaits_turn) or provider.taken < len(self.creates(provider))

    def pending_answers(self) -> list[StartAnswer]:
        stopped = {a.answer_id for a in self.bench.all(StopAnswer)}
        gone = stopped | self.answered
        return [a for a in self.bench.all(StartAnswer) if a.request.answer_id not in gone]

    def question(self) -> str:
        """The question that the conversation ends with, or nothing where it ends with something else."""
        items = list(self.bench.ctx.conversation)
        if not items or items[-1].role != "user":
            return ""
        return text_of(items[-1].wire) or items[-1].transcript or f"question {items[-1].id}"

    # --- rules: beginning ---

    @initialize(up=st.booleans(), tier=st.sampled_from("AB"))
    def start(self, up: bool, tier: str) -> None:
        self.bench.tier = tier
        self.bench.call.start(self.bench.now)
        self.bench.settle()
        if tier == "A" and up:
            self.session_comes_up()

    def session(self) -> Event:
        return {**default_session(RUNGS[0]), "expires_at": self.bench.now + LIFE_S}

    # --- rules: providers ---

    @rule(cause=st.sampled_from(list(Cause)), which=st.sampled_from(["serving", "latest"]))
    def provider_is_lost(self, cause: Cause, which: str) -> None:
        serving = self.bench.call.serving
        attempts = [o.attempt for o in self.bench.all(OpenUpstream)]
        attempt = serving if which == "serving" and serving is not None else (attempts or [0])[-1]
        self.bench.call.upstream_lost(attempt, cause, self.bench.now)
        self.bench.settle()

    @precondition(lambda self: self.bench.call.state is State.CONNECTING or self.bench.call.preparation)
    @rule(answer=st.booleans())
    def session_comes_up(self, answer: bool = False, items: bool = True) -> None:
        """The session that is being opened is there, is told the conversation, and may answer if it is asked."""
        bench, call = self.bench, self.bench.call
        provider = self.as_provider([o.attempt for o in bench.all(OpenUpstream)][-1])
        connecting = call.state is State.CONNECTING
        bench.provider("session.created", session=self.session())
        if connecting:
            bench.confirm_updates()
            return
        if not items:
            return
        for event in [e for e in bench.upstream if e["type"] == "conversation.item.create"]:
            bench.provider("conversation.item.added", item=event["item"], previous_item_id=None)
        bench.confirm_updates()
        if answer and provider.taken < len(self.creates(provider)):
            self.begin(provider)

    def begin(self, provider: Provider) -> None:
        self.answers += 1
        provider.open = (f"resp_p{self.answers}", f"item_p{self.answers}")
        if provider.awaits_turn:
            provider.awaits_turn = ""
        else:
            provider.taken += 1
        self.bench.begin_answer(*provider.open)

    @precondition(lambda self: self.may_answer())
    @rule()
    def provider_answers(self) -> None:
        assert self.serving is not None
        self.begin(self.as_provider(self.serving.attempt))

    @precondition(lambda self: self.may_answer())
    @rule(seconds=st.floats(0.4, 0.95))
    def provider_answers_late(self, seconds: float) -> None:
        self.bench.wait(seconds)
        if self.may_answer():
            self.provider_answers()

    @precondition(lambda self: self.may_answer())
    @rule(cause=st.sampled_from([Cause.CLOSED, Cause.NO_CREDIT]), answer=st.booleans())
    def next_rung_is_tried(self, cause: Cause, answer: bool) -> None:
        self.bench.tier, self.bench.decided_by, self.bench.rungs = "A", DecidedBy.DEFAULT, RUNGS
        self.provider_is_lost(cause, "serving")
        if self.bench.call.preparation is not None:
            self.session_comes_up(answer=answer)

    @precondition(lambda self: self.may_answer() and self.question())
    @rule(finish=st.booleans())
    def provider_calls_a_tool(self, finish: bool) -> None:
        assert self.serving is not None
        provider, bench = self.as_provider(self.serving.attempt), self.bench
        asked = self.question()
        self.answers += 1
        name = f"p{self.answers}"
        provider.awaits_turn, provider.taken = "", provider.taken + (not provider.awaits_turn)
        bench.response_created(f"resp_{name}")
        item = {"id": f"item_{name}", "object": "realtime.item", "type": "function_call", "arguments": ""}
        item |= {"status": "in_progress", "name": "refund", "call_id": f"call_{name}"}
        place = {"response_id": f"resp_{name}", "output_index": 0}
        bench.provider("response.output_item.added", **place, item=item)
        bench.provider("conversation.item.added", item=item, previous_item_id=None)
        provider.open = (f"resp_{name}", "")
        if not finish:
            return
        arguments = json.dumps({"for": asked})
        where = {**place, "item_id": f"item_{name}", "call_id": f"call_{name}"}
        bench.provider("response.function_call_arguments.delta", **where, delta=arguments)
        bench.provider("response.function_call_arguments.done", **where, arguments=arguments, name="refund")
        item = {**item, "status": "completed", "arguments": arguments}
        bench.provider("conversation.item.done", item=item, previous_item_id=None)
        bench.provider("response.output_item.done", **place, item=item)
        wire = {"id": f"resp_{name}", "object": "realtime.response", "status": "completed", "usage": USAGE}
        bench.provider("response.done", response={**wire, "status_details": None, "output": [item]})
        provider.open = None

    @precondition(lambda self: self.serving is not None and self.serving.open and self.serving.open[1])
    @rule()
    def provider_goes_on(self) -> None:
        assert self.serving is not None
        assert self.serving.open is not None
        self.as_provider(self.serving.attempt)
        self.bench.delta(*self.serving.open)

    @precondition(lambda self: self.serving is not None and self.serving.open and self.serving.open[1])
    @rule()
    def provider_finishes(self) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        assert provider.open is not None
        ended, provider.open = provider.open, None
        self.bench.end_answer(*ended)

    @precondition(lambda self: self.serving is not None and self.serving.open)
    @rule(code=st.sampled_from(["server_error", "rate_limit_exceeded", "insufficient_quota"]))
    def provider_fails_the_response(self, code: str) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        assert provider.open is not None
        details = {"type": "failed", "error": {"type": "server_error", "code": code}}
        wire = {"id": provider.open[0], "status": "failed", "status_details": details, "usage": None}
        provider.open = None
        self.bench.provider("response.done", response=wire)

    @precondition(lambda self: self.relaying)
    @rule(frame=st.sampled_from([b"", b"{", b"[]", b'{"type":"nobody.knows","event_id":"e"}']))
    def provider_talks_nonsense(self, frame: bytes) -> None:
        assert self.serving is not None
        self.bench.call.upstream_frame(self.serving.attempt, frame, self.bench.now)
        self.bench.settle()

    # --- rules: the caller and the client ---

    @rule(seconds=st.one_of(st.sampled_from([0.2, 0.6, 0.6]), st.floats(0.05, 1.2), st.floats(1.0, LIFE_S)))
    def time_passes(self, seconds: float) -> None:
        self.bench.wait(seconds)

    @precondition(lambda self: self.bench.call.state in (State.LOCAL, State.RELAYING))
    @rule(seconds=st.sampled_from([1.6, 1.6, LIFE_S]), items=st.booleans())
    def all_is_quiet_until_a_session_is_prepared(self, seconds: float, items: bool) -> None:
        """... and it comes up, with nobody in its way."""
        end = self.bench.now + seconds
        while self.bench.call.preparation is None and self.bench.now < end:
            self.bench.wait(0.25)
        if self.bench.call.preparation is not None:
            self.session_comes_up(items=items)

    @rule(ms=st.integers(20, 800))
    def caller_is_quiet(self, ms: int) -> None:
        self.bench.audio(ms)

    @precondition(lambda self: self.serving is not None and not self.serving.awaits_turn)
    @rule(known=st.booleans())
    def caller_speaks_to_the_provider(self, known: bool) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        if provider.open is not None:
            return
        self.turns += 1
        words = provider.awaits_turn = f"question item_u{self.turns}"
        self.bench.turn(f"item_u{self.turns}", words if known else None, start=self.provider_ms())

    @precondition(lambda self: self.relaying)
    @rule(found=st.booleans())
    def caller_speaks_and_the_provider_is_deaf(self, found: bool) -> None:
        for _ in range(75):
            self.bench.call.client_audio(LOUD, self.bench.now)
        self.bench.settle()
        if self.bench.all(CheckSpeech):
            self.bench.call.speech_checked(found, self.bench.now)
            self.bench.settle()

    @rule(metadata=st.booleans(), out_of_band=st.booleans())
    def client_asks(self, metadata: bool, out_of_band: bool) -> None:
        self.turns += 1
        item = user_text(f"question typed {self.turns}")
        self.bench.client({"type": "conversation.item.create", "item": item})
        response: Event = {"metadata": {"n": str(self.turns)}} if metadata else {}
        if out_of_band and not self.relaying:
            response["conversation"] = "none"
        self.bench.client({"type": "response.create", "response": response})

    @precondition(lambda self: not self.hangs_up_early)
    @rule()
    def caller_will_not_wait(self) -> None:
        """The caller hangs up where the call stands at the end, with whatever is open then."""
        self.hangs_up_early = True

    @precondition(lambda self: self.ours)
    @rule()
    def client_cancels(self) -> None:
        self.bench.client({"type": "response.cancel"})

    @rule(instructions=st.text(max_size=20))
    def client_updates(self, instructions: str) -> None:
        session = {"type": "realtime", "instructions": instructions}
        self.bench.client({"type": "session.update", "session": session})
        if self.serving is not None:
            self.as_provider(self.serving.attempt)
            self.bench.confirm_updates()

    def client_runs_tools(self) -> None:
        """As an application does: every complete call once, its result sent back, and an answer asked for."""
        for event in self.bench.of("response.function_call_arguments.done"):
            if event["call_id"] in self.handled:
                continue
            self.handled.add(event["call_id"])
            self.ran[json.loads(event["arguments"])["for"]] += 1

    @precondition(lambda self: self.bench.call.state in RELAYED | SERVED_LOCALLY)
    @rule()
    def tool_result_comes_back(self) -> None:
        pending = self.bench.ctx.conversation.pending_calls()
        for call in [i for i in self.bench.ctx.conversation if i.id in pending]:
            output = {"type": "function_call_output", "call_id": call.wire["call_id"], "output": "done"}
            self.bench.client({"type": "conversation.item.create", "item": output})
            self.bench.client({"type": "response.create"})

    @precondition(lambda self: self.ours)
    @rule(ms=st.integers(100, 1500))
    def caller_speaks_to_us(self, ms: int) -> None:
        self.bench.say(ms)

    @precondition(lambda self: self.ours)
    @rule()
    def caller_begins_to_speak(self) -> None:
        self.bench.audio(300)
        self.bench.speech(*[0.9] * 8)

    @precondition(lambda self: self.ours)
    @rule(ms=st.sampled_from([0, 64, 320, 320, 960]), quiet=st.sampled_from([96, 256, 256, 416, 1120]))
    def caller_is_heard_live(self, ms: int, quiet: int) -> None:
        """... with a pause that may be the end of the turn, or not."""
        self.bench.live(0.9, ms)
        self.bench.live(0.0, quiet)

    @precondition(lambda self: self.ours)
    @rule(goes_on=st.booleans(), said=st.sampled_from(["words", "words", ""]))
    def caller_pauses(self, goes_on: bool, said: str) -> None:
        """... is written down at the pause, and goes on or has finished."""
        self.bench.live(0.9, 416)
        self.bench.live(0.0, 256)
        while any(a.item_id not in self.written for a in self.bench.all(Transcribe)):
            self.words_are_known(said)
        if goes_on:
            self.bench.live(0.9, 224)
        else:
            self.bench.live(0.0, 800)

    @precondition(lambda self: self.ours)
    @rule(kind=st.sampled_from(["server_vad", "semantic_vad"]), interrupts=st.booleans())
    def client_sets_turn_detection(self, kind: str, interrupts: bool) -> None:
        self.bench.client(audio_input(turn_detection={"type": kind, "interrupt_response": interrupts}))

    @precondition(lambda self: self.ours)
    @rule(kind=st.sampled_from(["input_audio_buffer.commit", "input_audio_buffer.clear"]))
    def client_takes_the_turn_over(self, kind: str) -> None:
        self.bench.client({"type": kind})

    # --- rules: Tiers B and C ---

    @precondition(lambda self: any(a.item_id not in self.written for a in self.bench.all(Transcribe)))
    @rule(said=st.sampled_from(["words", "", None]))
    def words_are_known(self, said: str | None) -> None:
        wanted = next(a for a in self.bench.all(Transcribe) if a.item_id not in self.written)
        self.written.add(wanted.item_id)
        transcript = None if said is None else Transcript(said and f"question {wanted.item_id}", 1.0)
        self.bench.call.transcribed(wanted.item_id, transcript, self.bench.now)
        self.bench.settle()

    @precondition(lambda self: bool(self.pending_answers()))
    @rule(end=st.sampled_from(["open", "finished", "failed"]), ms=st.integers(20, 900), tool=st.booleans())
    def tier_answers(self, end: str, ms: int, tool: bool) -> None:
        request = self.pending_answers()[0].request
        fmt = self.bench.ctx.session.output_format
        events: list[object] = [TextDelta("some words"), AudioDelta(fmt.silence(ms))]
        last = request.history[-1] if request.history else None
        if tool and isinstance(last, Message) and last.text == self.question() and end == "finished":
            self.answers += 1
            arguments = json.dumps({"for": last.text})
            events = [ToolCallReady(f"call_t{self.answers}", "refund", arguments)]
        if end != "open":
            events.append(Failed("agent", "down") if end == "failed" else Finished(rung="kokoro"))
            self.answered.add(request.answer_id)
        for event in events:
            self.bench.call.answer_event(request.answer_id, event, self.bench.now)  # type: ignore[arg-type]
        self.bench.settle()

    # --- rules: the operator, the budget, the fleet ---

    @rule(
        tier=st.sampled_from("AABC"),
        by=st.sampled_from([DecidedBy.DEFAULT, DecidedBy.OVERRIDE, DecidedBy.HEALTH, DecidedBy.HARD_CAP]),
        healthy=st.booleans(),
        left=st.integers(0, 2),
        at_once=st.booleans(),
    )
    def router_says(self, tier: str, by: DecidedBy, healthy: bool, left: int, at_once: bool) -> None:
        self.bench.at_once = at_once
        self.bench.tier, self.bench.decided_by, self.bench.healthy = tier, by, healthy
        self.bench.rungs = RUNGS[:left]
        self.bench.call.consider(self.bench.now)
        self.bench.settle()

    @rule(
        practice=st.sampled_from(Practice),
        turn=st.integers(1, 3),
        after=st.one_of(st.none(), st.floats(20, 600)),
    )
    def drill_wants_the_call(self, practice: Practice, turn: int, after: float | None) -> None:
        self.bench.call.drill = Plan("drl_1", practice, turn, after)

    # --- what must hold ---

    @invariant()
    def one_tier_serves(self) -> None:
        call = self.bench.call
        assert (call.relay is not None) == (call.state in RELAYED)
        assert (call.local is not None) == (call.state in SERVED_LOCALLY)
        assert (call.preparation is not None) == (call.state in PREPARED)
        assert (call.hedge is not None) == (call.state is State.HEDGING)

    @invariant()
    def only_a_turn_under_way_is_answered_ahead(self) -> None:
        local = self.bench.call.local
        assert local is None or local._ahead is None or local.turn is not None

    @invariant()
    def at_most_two_sessions_are_open(self) -> None:
        opened = {a.attempt for a in self.bench.all(OpenUpstream)}
        closed = {a.attempt for a in self.bench.all(CloseUpstream)}
        call = self.bench.call
        wanted = {call.serving, call._connecting, call.preparation and call.preparation.attempt} - {None}
        assert opened - closed == wanted, "no session outlives what it was opened for"

    @invariant()
    def no_tool_runs_twice(self) -> None:
        self.client_runs_tools()
        assert all(count == 1 for count in self.ran.values()), self.ran

    def teardown(self) -> None:
        """Whatever is owed is answered once everybody has done their part, and hanging up ends it all."""
        bench, call = self.bench, self.bench.call
        if call.state is State.NEW:
            return
        if not self.hangs_up_early:
            self.everybody_does_their_part()
        call.client_closed(bench.now)
        bench.settle()
        self.nothing_outlives_the_call()

    def tools_end(self) -> None:
        """What the server runs has ended."""

    def everybody_does_their_part(self) -> None:
        bench, call = self.bench, self.bench.call
        bench.tier, bench.decided_by, bench.rungs = "B", DecidedBy.DEFAULT, ()
        for _ in RUNGS:
            self.provider_is_lost(Cause.CLOSED, "serving")
        if call.preparation is not None:
            self.provider_is_lost(Cause.CLOSED, "latest")
        assert call.state is State.LOCAL
        if call.local is not None and call.local.turn is not None:
            bench.audio(1000)
            bench.speech(*[0.0] * 40)
        for _ in range(80):
            while any(a.item_id not in self.written for a in bench.all(Transcribe)):
                self.words_are_known("words")
            self.tools_end()
            if not self.pending_answers():
                break
            self.tier_answers("finished", 100, False)
        assert not self.pending_answers()
        assert not bench.ctx.responses, "no response may stay open"
        assert bench.ctx.outcomes.open == [], "every turn was answered, or closed and counted as that"
        self.no_tool_runs_twice()
        created, done = bench.of("response.created"), bench.of("response.done")
        assert sorted(e["response"]["id"] for e in created) == sorted(e["response"]["id"] for e in done)
        bench.check()

    def nothing_outlives_the_call(self) -> None:
        bench = self.bench
        outcomes = bench.ctx.outcomes
        assert bench.call.state is State.ENDED
        assert len(bench.rows("call_ended")) == 1
        assert sum(outcomes.count(outcome) for outcome in Outcome) == outcomes.asked
        assert bench.call.next_due() is None
        self.at_most_two_sessions_are_open()
        ears = [a for a in bench.actions if isinstance(a, Listen | StopListening)]
        assert not ears or isinstance(ears[-1], StopListening)
        before = len(bench.actions)
        bench.call.tick(bench.now + 3600)
        bench.call.client_closed(bench.now)
        bench.settle()
        assert len(bench.actions) == before


AnyOrder.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyOrder = AnyOrder.TestCase
