"""The conversation as a simulated model is given it: who said what, which tools were called, what they returned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Say:
    sentences: list[str]


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heard:
    """The caller's words."""

    words: str


@dataclass(frozen=True, slots=True)
class Told:
    """The model's own words."""

    words: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A system message in the conversation."""

    words: str


@dataclass(frozen=True, slots=True)
class Called:
    call_id: str
    call: Call


@dataclass(frozen=True, slots=True)
class Returned:
    call_id: str
    output: str

    @property
    def fields(self) -> dict[str, Any]:
        """The output, where it is a JSON object; otherwise nothing."""
        return object_of(self.output)


Entry = Heard | Told | Noted | Called | Returned


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered: the caller's words, or a tool's output; both None when nothing was said yet."""

    heard: str | None
    tool_output: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    past: Sequence[Entry] = ()
    """The whole conversation, with what is to be answered in it."""
    instructions: str = ""

    @property
    def functions(self) -> list[dict[str, Any]]:
        """The tools that may be called."""
        functions = [tool for tool in self.tools if tool.get("type") == "function"]
        if self.tool_choice == "none":
            return []
        if isinstance(self.tool_choice, dict):
            return [tool for tool in functions if tool["name"] == self.tool_choice.get("name")]
        return functions


def object_of(text: str) -> dict[str, Any]:
    """A JSON object; empty where the text is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def of_chat(messages: Iterable[dict[str, Any]]) -> list[Entry]:
    """The messages of a chat completion request, in order."""
    entries: list[Entry] = []
    for message in messages:
        role, words = message["role"], text_of(message)
        if role == "user":
            entries.append(Heard(words))
        elif role == "tool":
            entries.append(Returned(str(message.get("tool_call_id")), words))
        elif role in ("system", "developer"):
            entries.append(Noted(words))
        elif role == "assistant":
            entries += [Told(words)] if words else []
            entries += [_called(call) for call in message.get("tool_calls") or []]
    return entries


def text_of(message: dict[str, Any]) -> str:
    """The words of a chat message, written as text or in parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _called(call: dict[str, Any]) -> Called:
    function = call.get("function") or {}
    return Called(
        str(call.get("id")), Call(str(function.get("name")), object_of(function.get("arguments") or ""))
    )
