"""A call's conversation as chat messages, the shape that text models take."""

from __future__ import annotations

from typing import Any

from orchestrator.protocol.answers import AnswerRequest, HistoryItem, Message, ToolCall, ToolResult

PHONE_STYLE = (
    "You are speaking on the phone. Answer in one to three short sentences of plain spoken words: "
    "no lists, no markup, no emoji."
)
GO_ON = (
    "The line failed while you were answering. The caller heard only the beginning: {heard!r}. "
    "Go on from there without repeating it and without mentioning the failure."
)
INAUDIBLE = "[inaudible]"

SMALL_SYSTEM = (
    "You answer the phone for a shop. Reply politely in one short sentence. You cannot look anything up."
)
SMALL_EXAMPLES = (
    ("Hi there.", "Hello, how can I help you today?"),
    ("Do you have blue jackets?", "I'm not sure about that, but a colleague can tell you."),
    ("How are you?", "I'm well, thank you for asking."),
    ("Are you the one I spoke to before?", "No, I'm a simpler service that stands in while it is away."),
)
"""Examples keep so small a model short and modest where instructions do not."""
SMALL_TURNS = 6
SMALL_TEXT = 400
"""Characters of one message that the embedded model is shown."""


def messages(request: AnswerRequest) -> list[dict[str, Any]]:
    """Everything the call knows, for a full-sized model.

    A tool result follows its call, as chat APIs demand, and a call that never got one is left out. An answer that
    was cut off at the very end is handed over as such, to be completed.
    """
    history, heard = pending(request.history)
    system = "\n\n".join(part for part in (request.instructions, PHONE_STYLE) if part)
    chat: list[dict[str, Any]] = [{"role": "system", "content": system}]
    results = {item.call_id: item.output for item in history if isinstance(item, ToolResult)}
    for item in history:
        if isinstance(item, ToolCall) and item.call_id in results:
            chat += _tool_exchange(item, results[item.call_id])
        elif isinstance(item, Message) and (message := _message(item)):
            chat.append(message)
    if heard:
        chat.append({"role": "system", "content": GO_ON.format(heard=heard)})
    return chat


def small_messages(request: AnswerRequest) -> list[dict[str, Any]]:
    """The last turns, for the embedded model: no tools, little text, a short system prompt."""
    history, _ = pending(request.history)
    turns = [message for item in history if (message := _small_message(item))]
    system = SMALL_SYSTEM
    if request.instructions:
        system += " " + request.instructions[:SMALL_TEXT]
    examples = [
        {"role": role, "content": text}
        for pair in SMALL_EXAMPLES
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return [{"role": "system", "content": system}, *examples, *turns[-SMALL_TURNS:]]


def pending(history: tuple[HistoryItem, ...]) -> tuple[tuple[HistoryItem, ...], str]:
    """The history up to what is to be answered, and what the caller heard of an answer that a failure cut off."""
    end = len(history)
    heard: list[str] = []
    while end and isinstance(item := history[end - 1], Message) and item.role == "assistant" and item.cut_off:
        heard.insert(0, item.text)
        end -= 1
    return history[:end], " ".join(text for text in heard if text)


def tools(request: AnswerRequest) -> dict[str, Any]:
    """LiteLLM's arguments for the session's tools; none where the model may not or cannot call one."""
    if not request.tools or request.tool_choice == "none":
        return {}
    functions = [
        {key: tool[key] for key in ("name", "description", "parameters") if key in tool}
        for tool in request.tools
        if tool.get("type") == "function"
    ]
    if not functions:
        return {}
    choice = request.tool_choice
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice.get("name", "")}}
    return {
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": choice,
    }


def _tool_exchange(call: ToolCall, output: str) -> list[dict[str, Any]]:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call.call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call.call_id, "content": output},
    ]


def _message(item: Message) -> dict[str, Any] | None:
    text = item.text.strip()
    if item.role == "user":
        return {"role": "user", "content": text or INAUDIBLE}
    if not text:
        return None
    return {"role": item.role, "content": f"{text} ..." if item.cut_off else text}


def _small_message(item: HistoryItem) -> dict[str, Any] | None:
    if isinstance(item, ToolResult):
        return {"role": "user", "content": f"(Information to tell me: {item.output[:SMALL_TEXT]})"}
    if isinstance(item, Message) and item.role != "system":
        message = _message(item)
        return message and {**message, "content": message["content"][:SMALL_TEXT]}
    return None
