"""Whatever happens in whatever order, with guardrails: what was vetoed stays where it was, and nothing is left open."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from orchestrator.core.actions import Judge, Record, StartAnswer, ToUpstream, Transcribe
from orchestrator.core.context import Policy
from orchestrator.core.veto import WITHHELD
from orchestrator.protocol.answers import Transcript
from tests.core.bench import Bench
from tests.core.test_call_any_order import RUNGS, AnyOrder


class GuardedAnyOrder(AnyOrder):
    """As `AnyOrder`: turns and sentences may be vetoed, sooner or later or never."""

    def __init__(self) -> None:
        super().__init__()
        guarded = frozenset({"heard", "said"})
        self.bench = Bench(
            Policy(transcription_model="gpt-transcribe", renew_before_s=5.0, guarded=guarded), rungs=RUNGS
        )
        self.judged: set[int] = set()
        """Places of the `Judge` actions that were answered."""
        self.verdicts: dict[str, bool] = {}
        """Whether a turn is vetoed: guardrails that are asked twice say the same."""
        self.stopped: dict[str, int] = {}
        """Responses that were vetoed while they were open: how much of their audio the client had by then."""
        self.words: dict[str, str] = {}
        """What a provider's response said after its first words."""

    @initialize()
    def start(self) -> None:
        """Most of what can happen happens in Tier A."""
        super().start(True, "A")

    def question(self) -> str:
        asked = super().question()
        return "" if asked == WITHHELD else asked

    def audio_of(self, response_id: str) -> int:
        deltas = self.bench.of("response.output_audio.delta")
        return sum(event["response_id"] == response_id for event in deltas)

    def unjudged(self) -> list[tuple[int, Judge]]:
        return [(n, a) for n, a in enumerate(self.bench.all(Judge)) if n not in self.judged]

    # --- guardrails ---

    @precondition(lambda self: bool(self.unjudged()))
    @rule(veto=st.booleans(), last=st.booleans())
    def guardrail_answers(self, veto: bool, last: bool) -> None:
        place, asked = self.unjudged()[-1 if last else 0]
        self.judged.add(place)
        open_before = self.bench.ctx.responses.get(asked.id)
        if asked.hook == "heard":
            veto = self.verdicts.setdefault(asked.id, veto)
        self.bench.call.judged(asked.hook, asked.id, "cannot_say" if veto else "", self.bench.now)
        self.bench.settle()
        if veto and asked.hook == "said" and open_before is not None and self.relaying and open_before.veto:
            self.stopped.setdefault(asked.id, self.audio_of(asked.id))

    @precondition(lambda self: any(a.item_id not in self.written for a in self.bench.all(Transcribe)))
    @rule(said=st.sampled_from(["words", "", None]), veto=st.booleans())
    def words_are_known(self, said: str | None, veto: bool = False) -> None:
        wanted = next(a for a in self.bench.all(Transcribe) if a.item_id not in self.written)
        if not said or not self.verdicts.setdefault(wanted.item_id, veto):
            super().words_are_known(said)
            return
        self.written.add(wanted.item_id)
        transcript = Transcript(WITHHELD, 1.0, veto="cannot_say")
        self.bench.call.transcribed(wanted.item_id, transcript, self.bench.now)
        self.bench.settle()

    @precondition(
        lambda self: self.serving is not None and not (self.serving.awaits_turn or self.serving.open)
    )
    @rule(heard=st.booleans(), said=st.booleans(), early=st.booleans())
    def a_turn_is_looked_at(self, heard: bool, said: bool, early: bool) -> None:
        """... and its answer, which may begin before or after the first verdict."""
        self.caller_speaks_to_the_provider(True)
        if early and self.unjudged():
            self.guardrail_answers(heard, True)
        if not self.may_answer():
            return
        self.provider_answers()
        self.provider_says_more(" And so on. ")
        for veto in (heard, said):
            if self.unjudged():
                self.guardrail_answers(veto, False)

    # --- providers ---

    @precondition(lambda self: self.serving is not None and self.serving.open and self.serving.open[1])
    @rule(sentence=st.sampled_from([" at it.", " And so on. ", " then"]))
    def provider_says_more(self, sentence: str) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        assert provider.open is not None
        response, item = provider.open
        self.words[response] = self.words.get(response, "") + sentence
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        self.bench.provider("response.output_audio_transcript.delta", **place, delta=sentence)

    @precondition(lambda self: self.serving is not None and self.serving.open and self.serving.open[1])
    @rule()
    def provider_finishes(self) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        assert provider.open is not None
        ended, provider.open = provider.open, None
        self.bench.end_answer(*ended, words="Let me look" + self.words.get(ended[0], ""))

    def told_to_stop(self) -> bool:
        provider = self.serving
        if provider is None or provider.open is None:
            return False
        sent = [a.event for a in self.bench.all(ToUpstream) if a.attempt == provider.attempt]
        return any(e["type"] == "response.cancel" and e.get("response_id") == provider.open[0] for e in sent)

    @precondition(lambda self: self.told_to_stop())
    @rule()
    def provider_stops(self) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        assert provider.open is not None
        (response, item), provider.open = provider.open, None
        if item:
            words = "Let me look" + self.words.get(response, "")
            self.bench.cancel_answer(response, item, words)
            return
        # It was calling a tool, and has not finished.
        ids = {"id": response.replace("resp_", "item_"), "call_id": response.replace("resp_", "call_")}
        call = {**ids, "object": "realtime.item", "type": "function_call", "arguments": "", "name": "refund"}
        call["status"] = "incomplete"
        self.bench.provider("conversation.item.done", item=call, previous_item_id=None)
        self.bench.cancelled(response, call)

    @precondition(lambda self: self.serving is not None)
    @rule()
    def provider_forgets(self) -> None:
        """What it was told to delete is gone."""
        assert self.serving is not None
        self.as_provider(self.serving.attempt)
        for event in [e for e in self.bench.upstream if e["type"] == "conversation.item.delete"]:
            self.bench.upstream.remove(event)
            self.bench.provider("conversation.item.deleted", item_id=event["item_id"])

    # --- what must hold ---

    @invariant()
    def vetoed_words_are_nowhere(self) -> None:
        seen = [a for a in self.bench.actions if isinstance(a, StartAnswer | Record)]
        for item_id in [item_id for item_id, veto in self.verdicts.items() if veto]:
            words = f"question {item_id}'"
            assert not any(words in str(action) for action in seen), item_id
        assert not self.bench.of("conversation.item.deleted")

    @invariant()
    def no_more_of_a_vetoed_answer_is_heard(self) -> None:
        for response_id, before in self.stopped.items():
            response = self.bench.ctx.responses.get(response_id)
            assert not self.relaying or response is None or self.audio_of(response_id) == before


GuardedAnyOrder.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestGuardedAnyOrder = GuardedAnyOrder.TestCase
