"""What becomes of the tool calls of one call, in whichever tier a model makes them.

    phase      what is going on                                                  then
    WORDS      the caller's answer to a read-back is still being written down    RUNNING, RESOLVED
    RUNNING    the server runs it                                                RESOLVED
    HANDED     the client is to run it, and its output comes from there
    RESOLVED   its output is in the conversation; `say`, if set, is the answer

A call that may not be made is resolved as refused at once. One that changes something becomes a `Proposal` first: it
is read back, and runs only after a later turn of the caller's that we judge to be a yes. The desk belongs to the
call, so proposals, runs and their results outlive any tier.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from orchestrator.core import wording
from orchestrator.core.actions import Action, AskApproval, RunTool
from orchestrator.core.consent import Consent, again, readback
from orchestrator.core.conversation import Conversation, Item
from orchestrator.core.entities import check
from orchestrator.core.proposals import Proposal, Verdict
from orchestrator.core.summary import summarise
from orchestrator.core.tools import (
    HANDOFF,
    TRANSFER,
    WAIT_FOR_USER,
    Kind,
    Result,
    Runs,
    Tool,
    ToolOutcome,
    Toolset,
)
from orchestrator.protocol.wire import Event, Ids

ASK_AGAIN = 2
"""How often an unclear answer is asked about before the call is no longer waited for."""
SHORT_ANSWER = 5
"""Words up to which an unclear answer is taken for one to the read-back; a longer one is about something else."""


class Phase(Enum):
    WORDS = "words"
    RUNNING = "running"
    HANDED = "handed"
    RESOLVED = "resolved"


@dataclass(slots=True)
class Pending:
    """One tool call. `say`: words that are the answer, exactly; None where a model is to find its own."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    tool: Tool | None
    since: float
    item_id: str = ""
    phase: Phase = Phase.RESOLVED
    say: str | None = None
    quiet: bool = False
    """Nothing is to be said to it."""
    ran_at: float = 0.0
    key: str = ""
    told: bool = False
    """Its output is in the conversation: what comes later is news."""
    ahead: bool = False
    """It was begun for an answer that may be thrown away: the conversation does not know of it."""
    output: dict[str, Any] = field(default_factory=dict)
    """What a model is told."""


class Recorder(Protocol):
    def __call__(self, type: str, **fields: Any) -> None: ...


@dataclass(slots=True)
class Desk:
    """`language` tells that of the call at the moment."""

    toolset: Toolset
    call_id: str
    ids: Ids
    conversation: Conversation
    do: Callable[[Action], None]
    record: Recorder
    language: Callable[[], str]
    announce: Callable[[], None]
    """Tell the client how its session stands."""
    agent: str = ""
    """The named agent that has the call; its instructions and tools are the model's."""
    transferred: str = ""
    """Why the call is to go to a person; empty while it is not."""
    proposal: Proposal | None = None
    news: list[str] = field(default_factory=list)
    """Results of calls that had been answered already, to be told to the caller."""
    _pending: dict[str, Pending] = field(default_factory=dict)
    _approving: dict[str, Pending] = field(default_factory=dict)
    _doubted: set[str] = field(default_factory=set)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.agent = self.agent or self.toolset.first_agent

    # --- what there is ---

    def keeps(self, name: str) -> bool:
        """Whether a call of this tool is the server's business, and not shown to the client."""
        if not self.toolset:
            return False
        tool = self.toolset.get(name)
        if tool is None:
            return not self.toolset.allows(name)
        return tool.runs is not Runs.CLIENT or tool.confirmed or tool.approval

    def runs_ahead(self, name: str) -> bool:
        """Whether it may run before the turn is over: it changes nothing, and the server runs it."""
        tool = self.toolset.get(name)
        return (
            tool is not None
            and self._offers(tool)
            and tool.kind is Kind.READ_ONLY
            and not tool.approval
            and tool.runs in (Runs.WEBHOOK, Runs.PYTHON, Runs.MCP)
        )

    def _offers(self, tool: Tool) -> bool:
        names = self.toolset.names_of(self.agent)
        return names is None or tool.name in names

    @property
    def busy(self) -> bool:
        """A tool is at work, or about to be."""
        return bool(self.awaited)

    @property
    def awaited(self) -> list[Pending]:
        """Calls whose output the conversation waits for."""
        waits = (Phase.WORDS, Phase.RUNNING)
        return [call for call in self._pending.values() if call.phase in waits and not call.ahead]

    def get(self, call_id: str) -> Pending | None:
        return self._pending.get(call_id)

    # --- a call is made ---

    def ask(self, call_id: str, name: str, arguments: str, now: float, item_id: str = "") -> Pending:
        """A model asks for a tool. `item_id`: of the function call, where a provider has given it one.

        The same `call_id` again is the same call. What was decided is in the `Pending` at once.
        """
        if (known := self._pending.get(call_id)) is not None:
            return self._wanted(known, arguments, item_id) if known.ahead else known
        tool = self.toolset.get(name)
        parsed = _parse(arguments)
        call = Pending(call_id, name, parsed if parsed is not None else {}, tool, now)
        call.item_id = self._write_call(call, arguments, item_id)
        self._pending[call_id] = call
        wrong = self._wrong(call, parsed)
        if wrong:
            self._refuse(call, wrong)
        elif tool is not None and tool.runs is Runs.BUILT_IN:
            self._built_in(call, tool)
        elif tool is not None and tool.confirmed:
            self._confirm(call, tool, now)
        elif tool is not None:
            self._go(call, tool, now)
        return call

    def begin_ahead(self, call_id: str, name: str, arguments: str, now: float) -> Pending | None:
        """A tool that an answer asks for which may be thrown away: it runs if it changes nothing, else None."""
        tool, parsed = self.toolset.get(name), _parse(arguments)
        call = Pending(call_id, name, parsed or {}, tool, now, ahead=True)
        if tool is None or not self.runs_ahead(name) or self._wrong(call, parsed):
            return None
        call.key = tool.key(self.call_id, call.arguments, 0)
        self._pending[call_id] = call
        self._run(call, tool, now)
        return call

    def _wanted(self, call: Pending, arguments: str, item_id: str) -> Pending:
        """The answer that it was begun for is given."""
        call.ahead = False
        call.item_id = self._write_call(call, arguments, item_id)
        if call.phase is Phase.RESOLVED:
            self._resolve(call, call.output, say=call.say)
        return call

    def throw_away(self, call_id: str) -> None:
        """The answer that it was begun for is not given."""
        call = self._pending.get(call_id)
        if call is not None and call.ahead:
            call.told = True
            if call.phase is not Phase.RUNNING:
                del self._pending[call_id]

    def _wrong(self, call: Pending, parsed: dict[str, Any] | None) -> str:
        """Why it is refused; nothing if it is not."""
        tool = call.tool
        if tool is None or not self._offers(tool):
            return f"There is no tool {call.name!r} in this call."
        if parsed is None:
            return "The arguments are not a JSON object."
        wrong = tool.wrong(parsed)
        if wrong:
            return f"The arguments do not fit: {'; '.join(wrong[:5])}. Ask the caller for what is missing."
        return self._misheard(call, tool) if tool.mutating else ""

    def _misheard(self, call: Pending, tool: Tool) -> str:
        """The caller's own words hold another value than the model took down: once it is asked to look again."""
        said = [item.transcript or "" for item in self.conversation if item.role == "user"]
        names = check(tool, call.arguments, said[-6:])
        told = _told(call.arguments)
        if not names or told in self._doubted:
            return ""
        self._doubted.add(told)
        return (
            f"The caller said something else for {', '.join(names)}. Look at their words again, or ask them."
        )

    def _refuse(self, call: Pending, reason: str, *, result: str = "refused", say: str | None = None) -> None:
        self._note_call(call, "refused", reason)
        output = {"status": result, "reason": reason} | ({"say": say} if say else {})
        self._resolve(call, output, say=say)

    def _built_in(self, call: Pending, tool: Tool) -> None:
        self._note_call(call, "running")
        if call.name == WAIT_FOR_USER:
            self._resolve(call, {"status": "waiting"}, quiet=True)
        elif call.name == TRANSFER:
            self.transferred = str(call.arguments.get("reason") or "the caller asked for a person")
            summary = summarise(self.conversation.history())
            self.record("transfer", reason=self.transferred, summary=summary)
            self.announce()
            say = wording.transferring(self.language())
            self._resolve(call, {"status": "transferring", "say": say}, say=say)
        else:
            before, self.agent = self.agent, call.name.removeprefix(HANDOFF)
            self.proposal = None
            self.record("agent_handoff", from_agent=before, to_agent=self.agent)
            self._resolve(call, {"status": "done", "agent": self.agent})

    def _go(self, call: Pending, tool: Tool, now: float, number: int = 0) -> None:
        """It may run: a person is asked first where that is demanded."""
        call.key = tool.key(self.call_id, call.arguments, number)
        if tool.approval:
            self._approving[call.call_id] = call
            self._note_call(call, "waiting_approval")
            self.do(
                AskApproval(call.call_id, tool.name, call.arguments, readback(tool, call.arguments, "en"))
            )
            say = wording.waiting_for_approval(self.language())
            self._resolve(call, {"status": "waiting_for_approval", "say": say}, say=say)
            return
        self._run(call, tool, now)

    def _run(self, call: Pending, tool: Tool, now: float) -> None:
        call.ran_at = now
        if tool.runs is Runs.CLIENT:
            call.phase = Phase.HANDED
            self._note_call(call, "client")
            return
        call.phase = Phase.RUNNING
        self._note_call(call, "running")
        self.do(RunTool(call.call_id, tool.name, call.arguments, call.key))

    # --- the caller's yes ---

    def _confirm(self, call: Pending, tool: Tool, now: float) -> None:
        open_ = self.proposal
        if open_ is None or open_.tool.name != tool.name or open_.arguments != call.arguments:
            if open_ is not None:
                self._close(open_, "changed", "")
            self._propose(call, tool)
            return
        verdict = self.verdict()
        if verdict.unwritten:
            call.phase = Phase.WORDS
        elif verdict.consent is Consent.YES:
            self._agreed(open_, verdict, call, now)
        elif verdict.consent in (Consent.NO, Consent.CHANGE):
            self._close(open_, _word(verdict), verdict.text)
            self._refuse(call, "The caller did not agree to this.", result="cancelled")
        elif verdict.consent is None and not verdict.interrupted and open_.was_read(self.conversation):
            self._note_call(call, "proposed", "the caller has not answered yet")
            note = "It was read back. Wait for the caller's answer."
            self._resolve(call, {"status": "confirmation_needed", "note": note}, quiet=True)
        else:
            self._ask_again(open_, call, verdict)

    def _propose(self, call: Pending, tool: Tool) -> None:
        self._numbers += 1
        text = readback(tool, call.arguments, self.language())
        self._note_call(call, "proposed")
        output_id = self._resolve(call, _needed(text), say=text)
        self.proposal = Proposal(self._numbers, tool, call.arguments, text, output_id)

    def _ask_again(self, proposal: Proposal, call: Pending, verdict: Verdict) -> None:
        self._note_consent(proposal, _word(verdict), verdict.text, call.call_id)
        text = (
            proposal.text
            if verdict.interrupted
            else again(proposal.tool, proposal.arguments, self.language())
        )
        self._note_call(call, "proposed")
        proposal.after = self._resolve(call, _needed(text), say=text)
        proposal.asked += 1

    def verdict(self) -> Verdict:
        """What the caller has said to what was read back."""
        return (
            Verdict() if self.proposal is None else self.proposal.verdict(self.conversation, self.language())
        )

    def _agreed(self, proposal: Proposal, verdict: Verdict, call: Pending, now: float) -> None:
        self.proposal = None
        self._note_consent(proposal, "yes", verdict.text, call.call_id)
        self._go(call, proposal.tool, now, proposal.number)

    def _close(self, proposal: Proposal, consent: str, text: str) -> None:
        self.proposal = None
        if not proposal.noted:
            self._note_consent(proposal, consent, text)

    def overhear(self) -> None:
        """Another tier's model answers the caller's latest turn: a refusal is on record all the same."""
        proposal, verdict = self.proposal, self.verdict()
        if proposal is None or proposal.noted or verdict.consent not in (Consent.NO, Consent.CHANGE):
            return
        proposal.noted = True
        self._note_consent(proposal, _word(verdict), verdict.text)

    def listen(self, now: float) -> Pending | str | None:
        """The caller's latest turn is known, and we are to answer it: was it to a read-back?

        The run that it agrees to; or words that are the answer (asked again); or nothing: a model answers.
        """
        proposal = self.proposal
        if proposal is None:
            return None
        verdict = self.verdict()
        if not verdict.latest:
            if verdict.consent in (Consent.NO, Consent.CHANGE):
                self._close(proposal, _word(verdict), verdict.text)
            return None
        if verdict.consent is Consent.YES:
            call = Pending(self.ids.new("call"), proposal.tool.name, proposal.arguments, proposal.tool, now)
            call.item_id = self._write_call(call, json.dumps(proposal.arguments), "")
            self._pending[call.call_id] = call
            self._agreed(proposal, verdict, call, now)
            return call
        if verdict.consent in (Consent.NO, Consent.CHANGE):
            self._close(proposal, _word(verdict), verdict.text)
            self._note(f"The caller did not agree to this: {proposal.text} It was not done.")
            return None
        return self._unclear(proposal, verdict)

    def _unclear(self, proposal: Proposal, verdict: Verdict) -> str | None:
        short = len(verdict.text.split()) <= SHORT_ANSWER
        if proposal.asked > ASK_AGAIN or not (short or verdict.interrupted):
            self._close(proposal, "unclear", verdict.text)
            self._note(f"This was not agreed to and not done: {proposal.text}")
            return None
        self._note_consent(proposal, _word(verdict), verdict.text)
        proposal.asked += 1
        proposal.after = self.conversation.last_id or proposal.after
        if verdict.interrupted:
            return proposal.text
        return again(proposal.tool, proposal.arguments, self.language())

    def words_known(self, now: float) -> list[Pending]:
        """Some turn was written down: calls that waited for it go on."""
        waiting = [call for call in self._pending.values() if call.phase is Phase.WORDS]
        for call in waiting:
            assert call.tool is not None
            call.phase = Phase.RESOLVED
            self._confirm(call, call.tool, now)
        return [call for call in waiting if call.phase is not Phase.WORDS]

    @property
    def unwritten(self) -> str:
        """A turn that has to be written down before a call can go on."""
        waits = any(call.phase is Phase.WORDS for call in self._pending.values())
        return self.verdict().unwritten if waits else ""

    # --- what comes of it ---

    def done(self, call_id: str, outcome: ToolOutcome, now: float) -> Pending | None:
        """A run has ended; None for one that is not known or was told of already."""
        call = self._pending.get(call_id)
        if call is None or call.tool is None or call.phase is not Phase.RUNNING:
            return None
        tool = call.tool
        spoken = tool.speak(outcome.output) if outcome.result is Result.DONE else None
        self._note_result(call, outcome, spoken, now)
        output, say = _told_of(outcome, spoken, tool, self.language())
        if call.ahead:
            call.phase, call.output, call.say = Phase.RESOLVED, output, say
            if call.told:
                del self._pending[call_id]
        elif call.told:
            call.phase = Phase.RESOLVED
            self.news.append(f"News of what the caller asked for before ({tool.name}): {json.dumps(output)}")
            self._note(self.news[-1])
        else:
            self._resolve(call, output, say=say)
        return call

    def approved(self, call_id: str, yes: bool, who: str, reason: str, now: float) -> Pending | None:
        """A person has decided."""
        call = self._approving.pop(call_id, None)
        if call is None or call.tool is None:
            return None
        decision = "approved" if yes else "rejected"
        self.record(
            "tool_approval",
            tool_call_id=call_id,
            tool=call.name,
            arguments=call.arguments,
            decision=decision,
            who=who,
            reason=reason,
        )
        if yes:
            self._run(call, call.tool, now)
        else:
            note = (
                f"What the caller asked for ({call.name}) was not approved. Reason: {reason or 'none given'}."
            )
            self.news.append(note)
            self._note(note)
        return call

    def overdue(self, call: Pending, now: float) -> None:
        """The driver has not said what came of a run."""
        result = Result.UNKNOWN if call.tool is not None and call.tool.mutating else Result.FAILED
        self.done(call.call_id, ToolOutcome(result, message="no result came in time"), now)

    def handed_output(self, call_id: str) -> None:
        """The client has given the output of a call that it was handed."""
        call = self._pending.get(call_id)
        if call is not None and call.phase is Phase.HANDED:
            call.phase = Phase.RESOLVED

    def is_ours(self, call_id: str) -> bool:
        """Whether a call is one whose output the client has no business to give."""
        call = self._pending.get(call_id)
        return call is not None and call.phase is not Phase.HANDED

    # --- the conversation ---

    def _write_call(self, call: Pending, arguments: str, item_id: str) -> str:
        known = self.conversation.get(item_id) if item_id else None
        wire: Event = {
            "id": item_id or self.ids.new("item"),
            "object": "realtime.item",
            "type": "function_call",
            "status": "completed",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": arguments or "{}",
        }
        if known is not None:
            known.wire, known.private = wire, True
            return known.id
        upstream = bool(item_id)
        self.conversation.insert(Item(wire["id"], wire, private=True, announced=False, upstream=upstream))
        return str(wire["id"])

    def _resolve(
        self, call: Pending, output: Mapping[str, Any], *, say: str | None = None, quiet: bool = False
    ) -> str:
        """Its output is known: it stands behind the call in the conversation. The output item's id."""
        call.phase, call.say, call.quiet, call.told = Phase.RESOLVED, say, quiet, True
        call.output = dict(output)
        wire: Event = {
            "id": self.ids.new("item"),
            "object": "realtime.item",
            "type": "function_call_output",
            "status": "completed",
            "call_id": call.call_id,
            "output": dumped(output),
        }
        self.conversation.insert(Item(wire["id"], wire, private=True, announced=False), call.item_id)
        return str(wire["id"])

    def _note(self, text: str) -> None:
        """A word to the model, at the end of the conversation."""
        wire: Event = {
            "id": self.ids.new("item"),
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "system",
            "content": [{"type": "input_text", "text": text}],
        }
        self.conversation.insert(Item(wire["id"], wire, private=True, announced=False))

    # --- the timeline ---

    def _note_call(self, call: Pending, status: str, reason: str = "") -> None:
        tool = call.tool
        self.record(
            "tool_call",
            tool_call_id=call.call_id,
            tool=call.name,
            kind=tool.kind.value if tool else "",
            runs=tool.runs.value if tool else "",
            arguments=call.arguments,
            status=status,
            reason=reason,
        )

    def _note_consent(self, proposal: Proposal, consent: str, text: str, call_id: str = "") -> None:
        self.record(
            "tool_confirmation",
            tool_call_id=call_id,
            tool=proposal.tool.name,
            arguments=proposal.arguments,
            consent=consent,
            text=text,
        )

    def _note_result(self, call: Pending, outcome: ToolOutcome, spoken: Any, now: float) -> None:
        assert call.tool is not None
        self.record(
            "tool_result",
            tool_call_id=call.call_id,
            tool=call.name,
            kind=call.tool.kind.value,
            runs=call.tool.runs.value,
            arguments=call.arguments,
            result=outcome.result.value,
            known=outcome.known,
            latency_ms=round((now - call.ran_at) * 1000, 1),
            cost_usd=outcome.nanodollars / 1e9,
            output=spoken,
            message=outcome.message,
        )


def _word(verdict: Verdict) -> str:
    """What the timeline calls it."""
    if verdict.consent is None:
        return "misread" if verdict.misread else "interrupted"
    return "changed" if verdict.consent is Consent.CHANGE else verdict.consent.value


def dumped(output: Mapping[str, Any]) -> str:
    """An output as a model gets it."""
    return json.dumps(output, ensure_ascii=False)


def _parse(arguments: str) -> dict[str, Any] | None:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _told(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True)


def _needed(text: str) -> dict[str, str]:
    note = (
        "Nothing has been done. Read this out exactly. Only when the caller says yes in their next turn, "
        "call the same tool again with the same arguments."
    )
    return {"status": "confirmation_needed", "say": text, "note": note}


def _told_of(
    outcome: ToolOutcome, spoken: Any, tool: Tool, language: str
) -> tuple[dict[str, Any], str | None]:
    """What a model is told of a run, and the words that are said whatever it makes of that."""
    say: str | None
    match outcome.result:
        case Result.DONE:
            return {"status": "done", "result": spoken}, None
        case Result.UNKNOWN:
            say = wording.cannot_tell(language)
        case Result.DECLINED:
            say = wording.cannot_change_now(language) if tool.mutating else None
        case _:
            say = None
    told: dict[str, Any] = {"status": outcome.result.value, "reason": outcome.message}
    return told | ({"say": say} if say else {}), say
