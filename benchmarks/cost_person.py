"""What the caller of a plan does, and the client that plays and runs functions for the caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.cost_callers import Plan, Turn
from benchmarks.cost_clock import Clock
from benchmarks.cost_policies import BREVITY, PROMPTS
from benchmarks.cost_provider import FORMAT, Reply, words

Event = dict[str, Any]
PROMPTS_HEARD = 2
"""A caller who gets nothing but fixed prompts hangs up after so many."""
WORTH_ASKING_S = 1.5
"""If less than this is missing from an answer that broke off, the caller does not ask for it."""
RESULT_S = 12.0
"""What a function gives back, as text that would take so long to read out."""
AGAIN_S = 1.0


class Line(Protocol):
    """The call, as the caller's side has it."""

    clock: Clock

    @property
    def concise(self) -> str:
        """The sentence that asks a model to be brief."""
        ...

    def send(self, event: Event) -> None: ...

    def talk(self, turn: Turn, then: Callable[[], bool]) -> None:
        """Say it; `then` tells at each step whether the caller is still there."""
        ...

    def hang_up(self, why: str) -> None: ...


@dataclass(slots=True)
class _Playing:
    """The answer that the client is playing: from when on, and how long it is so far."""

    item_id: str
    since: float
    ms: float = 0.0

    @property
    def until(self) -> float:
        return self.since + self.ms / 1000


class Person:
    """The caller of one call, with the telephone."""

    def __init__(self, line: Line, plan: Plan) -> None:
        self.plan = plan
        self.turn: Turn | None = None
        """What was said last."""
        self.answered: Counter[str] = Counter()
        """Turns by the rung that answered them."""
        self.said = 0
        self.cut_short = 0
        """Answers that the output limit ended before their end."""
        self._line = line
        self._left = list(reversed(plan.turns))
        self._plans = 0
        self._gone = False
        self._calls_made = 0
        self._missing_s = 0.0
        """What the answer under way would have said beyond its limit."""
        self._rung = ""
        self._listening = False
        """An answer to what was said last has begun, and its end decides what comes next."""
        self._playing: _Playing | None = None

    def _plan(self, seconds: float, do: Callable[[], None]) -> None:
        """The next thing the caller does; what was planned before is dropped."""
        self._plans += 1
        number = self._plans

        def if_still_meant() -> None:
            if number == self._plans and not self._gone:
                do()

        self._line.clock.after(seconds, if_still_meant)

    # --- talking ---

    def begin(self, seconds: float) -> None:
        self._plan(seconds, self._say_next)

    def gone(self) -> None:
        """The call is over."""
        self._gone = True

    def turn_lost(self) -> None:
        """No tier could answer: the caller heard an apology and goes on."""
        self._plan(AGAIN_S, self._say_next)

    def _say_next(self) -> None:
        if not self._left:
            self._line.hang_up("done")
            return
        self.turn = self._left.pop()
        self.said += 1
        self._calls_made, self._listening, self._missing_s = 0, False, 0.0
        self._line.talk(self.turn, lambda: not self._gone)

    # --- what the answers are ---

    def reply(self, instructions: str) -> Reply:
        """What a model would answer to what was said last."""
        turn = self.turn
        assert turn is not None, "an answer to nothing"
        if self._calls_made < len(turn.tools):
            return Reply(None)
        seconds = turn.answer_s * (BREVITY if self._line.concise in instructions else 1.0)
        self._missing_s = seconds
        return Reply(seconds)

    def answer_begins(self, seconds: float, rung: str) -> None:
        """An answer of so many seconds begins: will the caller hear it out?"""
        turn = self.turn
        if turn is None:
            return
        self._rung, self._missing_s = rung, self._missing_s - seconds
        self._listening = False
        if not self._left and self.plan.gives_up_at is not None:
            self._plan(seconds * self.plan.gives_up_at, self._give_up)
        elif self._left and turn.interrupted_at is not None:
            self._plan(seconds * turn.interrupted_at, self._speak_up)
        else:
            self._listening = True

    def _give_up(self) -> None:
        self._count()
        self._line.hang_up("gave up")

    def _speak_up(self) -> None:
        self._count()
        self._say_next()

    def _count(self) -> None:
        self.answered[self._rung] += 1

    # --- the telephone ---

    def heard(self, item_id: str, ms: float) -> None:
        """So much more audio of an item came in."""
        now = self._line.clock.now
        if self._playing is None or self._playing.item_id != item_id:
            before = self._playing.until if self._playing is not None else now
            self._playing = _Playing(item_id, max(now, before))
        self._playing.ms += ms

    def event(self, event: Event, *, local_audio: bool) -> None:
        """One event for the client. `local_audio`: audio in events is to be counted here."""
        match event["type"]:
            case "response.output_audio.delta":
                if local_audio:
                    self.heard(event["item_id"], FORMAT.ms(len(event["delta"]) * 3 // 4))
            case "input_audio_buffer.speech_started":
                self._stop_playing()
            case "response.done":
                self._answer_over(event["response"])

    def _stop_playing(self) -> None:
        """The caller speaks: what is not played is dropped, and the model is told how much was."""
        playing, self._playing = self._playing, None
        now = self._line.clock.now
        if playing is None or now >= playing.until:
            return
        end = min(max(0, int((now - playing.since) * 1000)), int(playing.ms))
        truncate = {"item_id": playing.item_id, "content_index": 0, "audio_end_ms": end}
        event = {"type": "conversation.item.truncate", **truncate}
        self._line.clock.after(0.05, lambda: self._line.send(event))

    def _answer_over(self, response: Event) -> None:
        calls = [item for item in response["output"] if item["type"] == "function_call"]
        whole = response["status"] == "completed"
        if calls and whole:
            self._run(calls)
        elif (whole or _ran_out(response)) and self._listening:
            self._go_on(cut_short=not whole)

    def _run(self, calls: Sequence[Event]) -> None:
        """Run the functions that the model called, and give it what they say."""
        turn = self.turn
        assert turn is not None
        took = turn.tools[min(self._calls_made, len(turn.tools) - 1)]
        self._calls_made += len(calls)

        def done() -> None:
            for call in calls:
                output = {"type": "function_call_output", "call_id": call["call_id"]}
                item = {**output, "output": words(RESULT_S)}
                self._line.send({"type": "conversation.item.create", "item": item})
            self._line.send({"type": "response.create"})

        self._plan(took, done)

    def _go_on(self, *, cut_short: bool) -> None:
        """The answer is all there, as far as it goes: hear it out, then say what comes next."""
        turn = self.turn
        assert turn is not None
        self._listening = False
        playing = self._playing.until if self._playing is not None else 0.0
        wait = max(0.0, playing - self._line.clock.now)
        self.cut_short += cut_short
        if cut_short and self._missing_s >= WORTH_ASKING_S:
            self._left.append(Turn(0.96, self._missing_s, turn.pause_s, goes_on=True))
        else:
            self._count()
        if self.answered[PROMPTS] >= PROMPTS_HEARD:
            self._plan(wait, lambda: self._line.hang_up("prompts only"))
        else:
            self._plan(wait + turn.pause_s, self._say_next)


def _ran_out(response: Event) -> bool:
    """Whether the output limit ended it."""
    details = response.get("status_details") or {}
    return response["status"] == "incomplete" and details.get("reason") == "max_output_tokens"
