"""Tiers B and C without engines: they hear, answer and charge at the configured prices, in simulated time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from benchmarks.cost_clock import Clock
from benchmarks.cost_policies import AGENT, EARS, PROMPTS, SPEECH, Meter, asked
from benchmarks.cost_provider import CHARACTERS_PER_S, FORMAT, TOOL_NAME, Reply, words
from orchestrator.core.call import Call
from orchestrator.protocol.answers import (
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Finished,
    TextDelta,
    ToolCallReady,
    Transcript,
)
from orchestrator.simulate.usage import CHARS_PER_TOKEN

HEARS_S, THINKS_S, SPEAKS_S, CLOSES_S = 0.3, 0.5, 0.2, 0.01
PROMPT_S = 4.0
PIECES = 2
PACE = 4.0


class Caller(Protocol):
    """The call that these tiers answer in."""

    core: Call
    meter: Meter
    billed: int

    clock: Clock

    def reply(self, instructions: str) -> Reply: ...

    def answer_begins(self, seconds: float, rung: str) -> None: ...

    def talk_s(self) -> float:
        """How long the caller's latest turn was."""
        ...

    def pump(self) -> None: ...


class LocalTiers:
    """Of one call. What is charged is also what is billed: `Caller.billed` counts it, heard or not."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._running: set[str] = set()
        self._calls = 0

    def _after(self, seconds: float, do: Callable[[], None], answer_id: str = "") -> None:
        def if_wanted() -> None:
            if not answer_id or answer_id in self._running:
                do()

        self._caller.clock.after(seconds, if_wanted)

    def _tell(self, answer_id: str, *events: AnswerEvent) -> None:
        core, now = self._caller.core, self._caller.clock.now
        for event in events:
            core.answer_event(answer_id, event, now)
        self._caller.pump()

    def _charge(self, what: str, model: str, amount: int, **usage: float) -> Charge:
        self._caller.billed += amount
        return Charge(what, model, amount, usage)  # type: ignore[arg-type]

    # --- hearing ---

    def transcribe(self, item_id: str) -> None:
        """The words of an item, a little later."""
        seconds = self._caller.talk_s()
        usage = {"seconds": seconds}
        cost = self._caller.meter.table.transcription(EARS, usage)

        def written() -> None:
            charge = self._charge("transcription", EARS, cost, **usage)
            transcript = Transcript(words(seconds), seconds, charges=(charge,))
            self._caller.core.transcribed(item_id, transcript, self._caller.clock.now)
            self._caller.pump()

        self._after(HEARS_S, written)

    # --- answering ---

    def start(self, tier: str, request: AnswerRequest) -> None:
        self._running.add(request.answer_id)
        if tier == "C":
            self._after(SPEAKS_S, lambda: self._prompt(request), request.answer_id)
        else:
            self._after(THINKS_S, lambda: self._answer(request), request.answer_id)

    def stop(self, answer_id: str) -> None:
        """No more of it. All that it had cost has been told by then."""
        self._running.discard(answer_id)
        self._after(CLOSES_S, lambda: self._closed(answer_id))

    def _closed(self, answer_id: str) -> None:
        self._caller.core.answer_closed(answer_id, (), self._caller.clock.now)
        self._caller.pump()

    def _prompt(self, request: AnswerRequest) -> None:
        self._caller.answer_begins(PROMPT_S, PROMPTS)
        self._say(request, PROMPT_S, 0, PROMPTS)

    def _answer(self, request: AnswerRequest) -> None:
        reply = self._caller.reply(request.instructions)
        if reply.seconds is None:
            self._calls += 1
            self._think(request, 60)
            call = ToolCallReady(f"call_local{self._calls}", TOOL_NAME, '{"reference": "41 72 90"}')
            self._tell(request.answer_id, call)
            self._end(request, SPEECH)
            return
        seconds = reply.seconds
        characters = round(seconds * CHARACTERS_PER_S)
        self._think(request, characters)
        speech = self._caller.meter.speech(characters)
        charged = Charged(self._charge("speech", SPEECH, speech, characters=characters))
        self._tell(request.answer_id, charged)
        self._caller.answer_begins(seconds, SPEECH)
        self._after(SPEAKS_S, lambda: self._say(request, seconds, 0, SPEECH), request.answer_id)

    def _think(self, request: AnswerRequest, characters: int) -> None:
        prompt, completion = text_tokens(asked(request)), text_tokens(characters)
        cost = self._caller.meter.agent(prompt, completion)
        tokens = {"prompt_tokens": prompt, "completion_tokens": completion}
        self._tell(request.answer_id, Charged(self._charge("agent", AGENT, cost, **tokens)))

    def _say(self, request: AnswerRequest, seconds: float, piece: int, rung: str) -> None:
        if piece == PIECES:
            self._end(request, rung)
            return
        part = seconds / PIECES
        events = TextDelta(words(part) + " "), AudioDelta(FORMAT.silence(int(part * 1000)))
        self._tell(request.answer_id, *events)
        self._after(part / PACE, lambda: self._say(request, seconds, piece + 1, rung), request.answer_id)

    def _end(self, request: AnswerRequest, rung: str) -> None:
        self._running.discard(request.answer_id)
        self._tell(request.answer_id, Finished(rung=rung))
        self._closed(request.answer_id)


def text_tokens(characters: int) -> int:
    return -(-characters // CHARS_PER_TOKEN)
