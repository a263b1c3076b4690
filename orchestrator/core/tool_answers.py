"""Answers of Tiers B and C that use tools which the server runs.

To the client such an answer is one response: what the tier said before the tool, a line if the tool takes its time,
and what it says with the result. The calls and their outputs are private items of the conversation.
"""

from __future__ import annotations

import json

from orchestrator.core.answering import Answering, Answers, Stage
from orchestrator.core.context import CallContext, Owed
from orchestrator.core.tool_desk import Pending, Phase, dumped
from orchestrator.protocol.answers import Finished, ToolCall, ToolCallReady, ToolResult

GRACE_S = 5.0
"""How long after a tool's own timeout its result is given up."""


class ToolAnswers(Answers):
    """`Hearing` adds the caller."""

    def __init__(self, ctx: CallContext) -> None:
        super().__init__(ctx)
        self.desk = ctx.desk

    # --- a tier asks for a tool ---

    def _tool_called(self, answering: Answering, call: ToolCallReady, now: float) -> None:
        if not self.desk.keeps(call.name):
            super()._tool_called(answering, call, now)
            return
        pending = self.desk.ask(call.call_id, call.name, call.arguments, now)
        answering.calls.append(pending)

    def _goes_on(self, answering: Answering, now: float) -> bool:
        if answering.owed.out_of_band:
            return False  # a result would belong to the conversation, and this answer does not
        handed = [call for call in answering.calls if call.phase is Phase.HANDED]
        for call in handed:
            self._hand_over(answering, call)
        if handed or all(call.quiet for call in answering.calls):
            return False
        self._settle(answering)
        self._wait(answering, now)
        return True

    def _hand_over(self, answering: Answering, call: Pending) -> None:
        """The client's own tool, which the caller has agreed to: now the client sees the call."""
        item = self.ctx.conversation.remove(call.item_id)
        arguments = str(item.wire["arguments"]) if item is not None else "{}"
        self.ctx.writer.function_call(self._open(answering), call.call_id, call.name, arguments)

    # --- waiting ---

    def _wait(self, answering: Answering, now: float) -> None:
        answering.stage = Stage.TOOLS
        running = [call.tool for call in answering.calls if call.phase is Phase.RUNNING and call.tool]
        answering.due = now + max((tool.timeout_s for tool in running), default=0.0) + GRACE_S
        slow = [tool.preamble_after_s for tool in running if tool.preamble]
        if slow and answering.bridge_at is None and self.ctx.speaks_to(answering.owed):
            after = now + min(slow)
            answering.preamble_at = max(after, self.ctx.playback.dry_at)
        self._go_on_if_known(answering, now)

    def _go_on_if_known(self, answering: Answering, now: float) -> None:
        if any(call.phase in (Phase.RUNNING, Phase.WORDS) for call in answering.calls):
            return
        for call in answering.calls:
            made = ToolCall(call.call_id, call.name, json.dumps(call.arguments))
            answering.owed.results += (made, ToolResult(call.call_id, dumped(call.output)))
        said = [call.say for call in answering.calls if call.say is not None]
        if said:
            answering.owed.say = said[-1]
        answering.calls, answering.preamble_at = [], None
        answering.owed.rounds += 1
        answering.id, answering.stage = self.ctx.ids.new("answer"), Stage.WORDS
        answering.due = now + self.ctx.policy.answer_s
        self._ask_when_known(answering, now)

    def _overdue_tools(self, answering: Answering, now: float) -> None:
        for call in answering.calls:
            if call.phase is Phase.RUNNING:
                self.desk.overdue(call, now)
        answering.due = now + self.ctx.policy.answer_s
        self._go_on_if_known(answering, now)

    def tools_resolved(self, now: float) -> None:
        """Something has become known of tools: what waits for it goes on, and news is told between turns."""
        if self._ahead is not None:
            self._ahead.go_on(now)
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            if answering.stage is Stage.TOOLS:
                self._go_on_if_known(answering, now)
        self._tell_news(now)

    def _tell_news(self, now: float) -> None:
        if self.desk.news and self._active is None and not self._queue and self.turn is None:
            self.desk.news.clear()
            self._owe(Owed({}, client_asked=False, since=now), now)

    def _drop(self, answering: Answering, now: float, *, advance: bool = True) -> None:
        super()._drop(answering, now, advance=advance)
        if advance:
            self._tell_news(now)

    # --- before a tier is asked ---

    def _waits_for_tools(self, answering: Answering, now: float) -> bool:
        owed = answering.owed
        if owed.out_of_band or owed.request.get("input") is not None:
            return False
        # Made in another tier: the turn that may hold the yes is written down now. Or before the caller went on.
        settled = self.desk.words_known(now)
        running = [call for call in self.desk.awaited if call not in settled]
        if settled or running:
            answering.calls = [*settled, *running]
            self._wait(answering, now)
            return True
        self.desk.news.clear()  # it is in the conversation, and answered with the rest
        if owed.say is None and not owed.rounds and answering.tier != "C":
            heard = self.desk.listen(now)
            if isinstance(heard, Pending):
                return self._agreed(answering, heard, now)
            owed.say = heard
        return False

    def _agreed(self, answering: Answering, call: Pending, now: float) -> bool:
        """The caller has said yes: it runs, and the answer is what came of it."""
        answering.calls = [call]
        if call.phase is Phase.HANDED:
            self._hand_over(answering, call)
            answering.calls = []
            self._on_finished(answering, Finished(rung=self.ctx.rung), now)
        else:
            self._wait(answering, now)
        return True

    # --- a line while a tool is at work ---

    def _tick_answers(self, now: float) -> None:
        super()._tick_answers(now)
        active = self._active
        if active is not None and active.preamble_at is not None and now >= active.preamble_at:
            active.preamble_at = None
            if active.stage is Stage.TOOLS:
                self._preamble(active, now)

    def _preamble(self, answering: Answering, now: float) -> None:
        ctx, session = self.ctx, self.ctx.session
        call = next(call for call in answering.calls if call.phase is Phase.RUNNING and call.tool)
        assert call.tool is not None
        words, audio = ctx.clips(call.tool.preamble, session.output_format, session.voice, session.language)
        response = self._open(answering)
        item = ctx.writer.open_message(response, bridge=True)
        if words:
            ctx.writer.words(response, item, words)
        self._audio(response, item, audio, now)
        ctx.writer.close_item(response, item, "completed")
        ctx.record("tool_preamble", tool_call_id=call.call_id, tool=call.name, text=words)
