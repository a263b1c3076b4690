"""An answer begun before the turn is over: on what was said up to a pause, in silence.

It becomes the answer if the turn ends with what the pause was written down as and nothing else has changed: then the
request that would be made is the one that was made. A tool of the server's that changes nothing is run meanwhile, and
the answer to its result begun (`next`); any other call is kept, so that nothing is changed for a turn that is not over.
It is thrown away when the caller goes on; what it has cost by then is spent.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.core.asking import ask
from orchestrator.core.context import CallContext, Owed
from orchestrator.core.hedge import SilentAnswer, Stage
from orchestrator.core.tool_desk import Phase, dumped
from orchestrator.protocol.answers import (
    AnswerEvent,
    AnswerRequest,
    Finished,
    HistoryItem,
    ToolCall,
    ToolCallReady,
    ToolResult,
)


class Speculation(SilentAnswer):
    """On `history`, which ends with what the caller paused after at `paused_at`, or with a tool's result."""

    def __init__(self, ctx: CallContext, history: tuple[HistoryItem, ...], paused_at: float) -> None:
        super().__init__(ctx, Owed({}, client_asked=False, since=paused_at), ctx.rung, paused_at)
        self.ready_at: float | None = None
        self.closed = False
        """The tier has ended it: there is nothing to stop any more."""
        self.next: Speculation | None = None
        """The answer to the results of the tools that this one asked for."""
        self.request = ask(ctx, self.id, self.owed, history)
        self.worst, _ = ctx.costs.answer(ctx.tier, self.request)

    @property
    def affordable(self) -> bool:
        """A call that has become cheaper spends nothing on what may be thrown away."""
        remaining = self.ctx.budget.remaining
        rich = self.ctx.stepper.level is None and (remaining is None or 2 * self.worst <= remaining)
        return rich or not self.worst

    def begin(self) -> bool:
        """Ask the tier; False where not enough is set aside."""
        return self._ask(self.ctx.tier, self.request)

    def find(self, answer_id: str) -> Speculation | None:
        """This one, or the one after it that has that id."""
        if answer_id == self.id:
            return self
        return self.next.find(answer_id) if self.next is not None else None

    def keep(self, event: AnswerEvent, now: float) -> None:
        self.answer_event(event)
        self.go_on(now)
        if self.ready_at is None and self.stage is Stage.READY:
            self.ready_at = now

    def go_on(self, now: float) -> None:
        """Begin to answer with what its tools have said, once all of them have."""
        if self.next is not None:
            self.next.go_on(now)
            return
        asked = [event for event in self.kept if isinstance(event, ToolCallReady)]
        over = any(isinstance(event, Finished) for event in self.kept)
        known = all(call.phase is Phase.RESOLVED and call.say is None for call in self.calls)
        if not (asked and over and known and len(asked) == len(self.calls)):
            return
        results: list[HistoryItem] = []
        for ready, call in zip(asked, self.calls, strict=True):
            results.append(ToolCall(ready.call_id, ready.name, ready.arguments))
            results.append(ToolResult(ready.call_id, dumped(call.output)))
        following = Speculation(self.ctx, (*self.request.history, *results), now)
        if following.affordable and following.begin():
            self.next = following

    def is_the_answer_to(self, request: AnswerRequest) -> bool:
        """Whether the same would be asked now."""
        return self.adoptable and replace(request, answer_id=self.id) == self.request

    def saved_ms(self, now: float) -> float:
        """How much earlier the answer is there than one begun at the turn's end, `now`."""
        return (min(now, self.ready_at if self.ready_at is not None else now) - self.started_at) * 1000.0

    def throw_away(self, reason: str) -> None:
        """It is not wanted: it stops, and what it has cost is charged."""
        ctx = self.ctx
        if self.next is not None:
            self.next.throw_away(reason)
        charges = self.drop()
        if self.closed:
            ctx.closing.pop(self.id, None)
        for charge in charges:
            ctx.charge(charge, self.rung, key=self.id, answer_id=self.id, speculation=True)
        if self.id not in ctx.closing:
            ctx.purse.end(self.id)
        cost = sum(charge.nanodollars for charge in charges)
        ctx.record("speculation", result="dropped", saved_ms=0.0, reason=reason, cost_usd=cost / 1e9)
