"""What a tier is asked: a snapshot of the conversation and of what the session wants of an answer."""

from __future__ import annotations

from orchestrator.core.context import CallContext, Owed
from orchestrator.core.conversation import text_of
from orchestrator.protocol.answers import AnswerRequest, HistoryItem, Message

MOST_ROUNDS = 6
"""How often an answer may go on after tools; then it is to be given with what is known."""


def history_for(ctx: CallContext, owed: Owed) -> tuple[HistoryItem, ...]:
    """The conversation as the answer is to know it; turns that hold no words (noise) included, as empty."""
    if owed.request.get("input") is None:
        return ctx.conversation.history()
    chosen: list[HistoryItem] = []
    for wire in owed.request["input"]:
        if wire.get("type") == "item_reference":
            found = ctx.conversation.get(wire.get("id", ""))
            if found is not None:
                chosen.append(Message("user", found.transcript or text_of(found.wire)))
        elif wire.get("type") == "message":
            chosen.append(Message(wire["role"], text_of(wire)))
    return (*chosen, *owed.results)


def nothing_said(history: tuple[HistoryItem, ...]) -> bool:
    """Whether the turn to be answered turned out to hold no words."""
    return bool(history) and _is_empty(history[-1])


def ask(ctx: CallContext, answer_id: str, owed: Owed, history: tuple[HistoryItem, ...]) -> AnswerRequest:
    session, wanted = ctx.session, owed.request
    limit = wanted.get("max_output_tokens") or session.fields["max_output_tokens"]
    desk = ctx.desk
    instructions = str(wanted.get("instructions") or session.instructions)
    if desk.toolset:
        instructions = desk.toolset.instructions(desk.agent, instructions)
    if ctx.stepper.concise:
        limit = min(limit, ctx.output_limit) if isinstance(limit, int) else ctx.output_limit
        instructions = f"{instructions}\n\n{ctx.policy.concise}".lstrip()
    choice = wanted.get("tool_choice") or session.fields["tool_choice"]
    if owed.say is not None or owed.rounds >= MOST_ROUNDS:
        choice = "none"
    own = wanted.get("tools")
    tools = session.tools if own is None else own
    if desk.toolset and own != []:
        tools = desk.toolset.offered(tools, desk.agent)
    return AnswerRequest(
        answer_id=answer_id,
        history=tuple(entry for entry in history if not _is_empty(entry)),
        instructions=instructions,
        tools=() if choice == "none" else tuple(t for t in tools or [] if t.get("type") == "function"),
        tool_choice=choice,
        speak=owed.response.speaks if owed.response is not None else ctx.speaks(wanted),
        format=session.output_format,
        voice=session.voice,
        speed=session.speed,
        language=session.language,
        max_output_tokens=limit if isinstance(limit, int) else None,
        say=owed.say,
    )


def _is_empty(entry: HistoryItem) -> bool:
    return isinstance(entry, Message) and entry.role == "user" and not entry.text.strip()
