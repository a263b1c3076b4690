"""Whatever happens in whatever order: the client's stream stays conformant and no answer is left open."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.core.actions import OpenUpstream, StartAnswer, StopAnswer, Transcribe
from orchestrator.core.call import State
from orchestrator.core.health import Cause
from orchestrator.core.routing import DecidedBy
from orchestrator.core.states import PREPARED, RELAYED, SERVED_LOCALLY
from orchestrator.protocol.answers import Failed, Transcript
from tests.core.bench import Bench


class AnyOrder(RuleBasedStateMachine):
    """A provider and tiers that keep the protocol, and a world that does not keep still."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.turns = 0
        self.answers = 0
        self.open: tuple[str, str] | None = None
        """The provider's response under way: its id and its item's."""
        self.awaits_answer = False
        """The provider owes a response to its caller's turn."""
        self.creates = 0

    # --- what is true of the world ---

    @property
    def relaying(self) -> bool:
        return self.bench.call.state in RELAYED

    @property
    def ours(self) -> bool:
        return self.bench.call.state in (State.LOCAL, State.RACING, State.PROMOTING)

    def pending_answers(self) -> list[StartAnswer]:
        stopped = {a.answer_id for a in self.bench.all(StopAnswer)}
        return [
            a
            for a in self.bench.all(StartAnswer)
            if a.request.answer_id not in stopped and a.request.answer_id not in self.answered
        ]

    def forget_provider(self) -> None:
        self.open, self.awaits_answer, self.creates = None, False, 0

    # --- rules ---

    @initialize(up=st.booleans(), tier=st.sampled_from("AB"))
    def start(self, up: bool, tier: str) -> None:
        self.answered: set[str] = set()
        self.written: set[str] = set()
        self.bench.tier = tier
        if tier == "A" and up:
            self.bench.connect()
        else:
            self.bench.call.start(self.bench.now)
            self.bench.settle()

    @rule(cause=st.sampled_from(list(Cause)))
    def provider_is_lost(self, cause: Cause) -> None:
        self.bench.call.upstream_lost(self.bench.attempt, cause, self.bench.now)
        self.bench.settle()
        self.forget_provider()

    @rule(seconds=st.floats(0.05, 4.0))
    def time_passes(self, seconds: float) -> None:
        relaying = self.relaying
        self.bench.wait(seconds)
        if relaying and not self.relaying:
            self.forget_provider()

    @rule(ms=st.integers(20, 800))
    def caller_is_quiet(self, ms: int) -> None:
        self.bench.audio(ms)

    @precondition(lambda self: self.relaying and not self.awaits_answer and self.open is None)
    @rule(words=st.one_of(st.none(), st.just("Where is order 12?")))
    def caller_speaks_to_the_provider(self, words: str | None) -> None:
        self.turns += 1
        self.bench.turn(f"item_u{self.turns}", words, start=int(self.bench.ctx.input.total_ms))
        self.awaits_answer = True

    @precondition(lambda self: self.relaying and self.open is None and (self.awaits_answer or self.creates))
    @rule()
    def provider_answers(self) -> None:
        self.answers += 1
        self.open = (f"resp_p{self.answers}", f"item_p{self.answers}")
        if self.awaits_answer:
            self.awaits_answer = False
        else:
            self.creates -= 1
        self.bench.begin_answer(*self.open)

    @precondition(lambda self: self.relaying and self.open is not None)
    @rule()
    def provider_goes_on(self) -> None:
        assert self.open is not None
        self.bench.delta(*self.open)

    @precondition(lambda self: self.relaying and self.open is not None)
    @rule()
    def provider_finishes(self) -> None:
        assert self.open is not None
        self.bench.end_answer(*self.open)
        self.open = None

    @precondition(lambda self: self.relaying and self.open is None and not self.awaits_answer)
    @rule(metadata=st.booleans())
    def client_asks(self, metadata: bool) -> None:
        if self.creates:
            return
        response = {"metadata": {"n": str(self.answers)}} if metadata else {}
        self.bench.client({"type": "response.create", "response": response})
        self.creates += 1

    @precondition(lambda self: self.ours)
    @rule()
    def client_asks_us(self) -> None:
        self.bench.client({"type": "response.create"})

    @rule(text=st.text(min_size=1, max_size=20))
    def client_writes(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.bench.client(
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": content},
            }
        )

    @rule(instructions=st.text(max_size=20))
    def client_updates(self, instructions: str) -> None:
        self.bench.client(
            {"type": "session.update", "session": {"type": "realtime", "instructions": instructions}}
        )
        if self.relaying:
            self.bench.confirm_updates()

    @precondition(lambda self: self.ours)
    @rule(ms=st.integers(100, 1500))
    def caller_speaks_to_us(self, ms: int) -> None:
        self.bench.say(ms)

    @precondition(lambda self: self.ours)
    @rule()
    def caller_begins_to_speak(self) -> None:
        self.bench.audio(300)
        self.bench.speech(*[0.9] * 8)

    @precondition(lambda self: any(a.item_id not in self.written for a in self.bench.all(Transcribe)))
    @rule(text=st.sampled_from(["Hello.", "", None]))
    def words_are_known(self, text: str | None) -> None:
        wanted = next(a for a in self.bench.all(Transcribe) if a.item_id not in self.written)
        self.written.add(wanted.item_id)
        transcript = None if text is None else Transcript(text, 1.0)
        self.bench.call.transcribed(wanted.item_id, transcript, self.bench.now)
        self.bench.settle()

    @precondition(lambda self: bool(self.pending_answers()))
    @rule(finish=st.booleans(), fail=st.booleans(), ms=st.integers(20, 900))
    def tier_answers(self, finish: bool, fail: bool, ms: int) -> None:
        from orchestrator.protocol.answers import AudioDelta, Finished, TextDelta

        answer_id = self.pending_answers()[0].request.answer_id
        fmt = self.bench.ctx.session.output_format
        events = [TextDelta("some words"), AudioDelta(fmt.silence(ms))]
        if finish:
            events.append(Failed("agent", "down") if fail else Finished(rung="kokoro"))
            self.answered.add(answer_id)
        for event in events:
            self.bench.call.answer_event(answer_id, event, self.bench.now)
        self.bench.settle()

    @precondition(
        lambda self: self.bench.call.state is State.PROMOTING or self.bench.call.state is State.CONNECTING
    )
    @rule()
    def provider_comes_up(self) -> None:
        bench = self.bench
        if not bench.all(OpenUpstream):
            return
        bench.provider("session.created", session={})
        for event in [e for e in bench.upstream if e["type"] == "conversation.item.create"]:
            bench.provider("conversation.item.added", item=event["item"], previous_item_id=None)
        if bench.call.state in (State.PROMOTING, State.RELAYING):
            bench.confirm_updates()
        if self.relaying:
            self.forget_provider()
            self.creates = sum(e["type"] == "response.create" for e in bench.upstream)

    @rule(
        tier=st.sampled_from("AB"),
        by=st.sampled_from([DecidedBy.DEFAULT, DecidedBy.OVERRIDE, DecidedBy.HEALTH]),
    )
    def router_says(self, tier: str, by: DecidedBy) -> None:
        self.bench.tier, self.bench.decided_by = tier, by
        relaying = self.relaying
        self.bench.call.consider(self.bench.now)
        self.bench.settle()
        if relaying and not self.relaying:
            self.forget_provider()

    # --- what must hold ---

    @invariant()
    def one_tier_serves(self) -> None:
        call = self.bench.call
        assert (call.relay is not None) == (call.state in RELAYED)
        assert (call.local is not None) == (call.state in SERVED_LOCALLY)
        assert (call.preparation is not None) == (call.state in PREPARED)
        assert (call.hedge is not None) == (call.state is State.HEDGING)

    def teardown(self) -> None:
        """Whatever is owed is answered once everybody has done their part, and hanging up ends it all."""
        if not hasattr(self, "answered"):
            return
        bench = self.bench
        bench.tier, bench.decided_by = "B", DecidedBy.DEFAULT
        self.provider_is_lost(Cause.CLOSED)
        if bench.call.local is not None and bench.call.local.turn is not None:
            bench.audio(1000)
            bench.speech(*[0.0] * 40)
        for _ in range(60):
            for wanted in bench.all(Transcribe):
                if wanted.item_id not in self.written:
                    self.written.add(wanted.item_id)
                    bench.call.transcribed(wanted.item_id, Transcript("Hello.", 1.0), bench.now)
                    bench.settle()
            if not self.pending_answers():
                break
            self.tier_answers(finish=True, fail=False, ms=100)
        assert not self.pending_answers()
        assert not bench.ctx.responses, "no response may stay open"
        created, done = bench.of("response.created"), bench.of("response.done")
        assert sorted(e["response"]["id"] for e in created) == sorted(e["response"]["id"] for e in done)
        bench.check()
        bench.call.client_closed(bench.now)
        bench.settle()
        assert bench.call.next_due() is None


AnyOrder.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyOrder = AnyOrder.TestCase
