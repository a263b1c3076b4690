"""A call in a few lines for the person who takes it over, written down without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.actions import Record
from orchestrator.core.redaction import Redactor
from orchestrator.protocol.answers import HistoryItem, Message, ToolCall, ToolResult

LIMIT = 1_000
"""Characters of a summary, unless told otherwise."""
_REDACTOR = Redactor()
_WORDS_LIMIT = 200
_VALUE_LIMIT = 60
_MOST_TOOLS = 8
_UNTOLD = ("wait_for_user", "transfer_to_")
"""Tools of the call itself, by how their names begin: no news to whoever takes it over."""

_STATUS = {
    "done": "done",
    "failed": "failed, nothing was changed",
    "unknown": "may have been done, that is not known",
    "declined": "not tried",
    "vetoed": "not allowed",
    "refused": "refused",
    "cancelled": "not done, the caller did not want it",
    "confirmation_needed": "not done, the caller has not said yes",
    "waiting_for_approval": "waits for approval",
    "rejected": "not done, approval was refused",
}


@dataclass(slots=True)
class _Use:
    """One tool with the same arguments, however often it was asked for."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""

    @property
    def key(self) -> str:
        return f"{self.tool} {json.dumps(self.arguments, sort_keys=True, default=str)}"

    def line(self) -> str:
        told = ", ".join(f"{name} {text}" for name, text in _values(self.arguments).items())
        return f"{self.tool}{f' ({told})' if told else ''}: {_STATUS.get(self.status, 'asked for')}"


def summarise(
    history: Sequence[HistoryItem],
    rows: Iterable[Record] = (),
    entities: Mapping[str, str] | None = None,
    *,
    limit: int = LIMIT,
) -> str:
    """Lines of text, `limit` characters at most; empty for a call in which nothing was said or done.

    `rows` are of the call's timeline: those of tools say more of them than the history does. `entities`: what was
    taken down from the caller, by name; without it the arguments of the tools stand for that. Where not everything
    fits, what was done comes before what was said.
    """
    uses = _uses(history, rows)
    known = _values(entities) if entities else _arguments(uses)
    said = [item for item in history if isinstance(item, Message) and item.text.strip()]
    callers = [message.text for message in said if message.role == "user"]
    lines = [
        (4, _line("The caller began with", callers[:1] if len(callers) > 1 else [])),
        (1, _told("Tools", [use.line() for use in uses[-_MOST_TOOLS:]], limit // 2)),
        (2, _told("Taken down", [f"{name}: {text}" for name, text in known.items()], limit // 4)),
        (3, _line("The caller said last", callers[-1:])),
        (5, _line("The agent said last", [m.text for m in said if m.role == "assistant"][-1:])),
    ]
    return _fitting([(rank, line) for rank, line in lines if line], limit)


def _uses(history: Sequence[HistoryItem], rows: Iterable[Record]) -> list[_Use]:
    by_call: dict[str, _Use] = {}
    for item in history:
        if isinstance(item, ToolCall):
            by_call[item.call_id] = _Use(item.name, _object(item.arguments))
        elif isinstance(item, ToolResult) and item.call_id in by_call:
            by_call[item.call_id].status = _status(item.output)
    for row in rows:
        _take_row(by_call, row)
    latest: dict[str, _Use] = {}
    for use in by_call.values():
        if not use.tool.startswith(_UNTOLD):
            latest.pop(use.key, None)
            latest[use.key] = use
    return list(latest.values())


def _take_row(by_call: dict[str, _Use], row: Record) -> None:
    told = row.fields
    status = {"tool_result": told.get("result"), "tool_approval": told.get("decision")}.get(row.type)
    if status is None or (row.type == "tool_approval" and status != "rejected"):
        return
    call_id = str(told.get("tool_call_id"))
    known = by_call.pop(call_id, None)
    arguments = told.get("arguments") or (known.arguments if known else {})
    by_call[call_id] = _Use(str(told.get("tool") or (known.tool if known else "")), arguments, str(status))


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _status(output: str) -> str:
    """What the server wrote down of a tool; the output of a client's own tool is a result, whatever it holds."""
    status = _object(output).get("status")
    return status if isinstance(status, str) and status in _STATUS else "done"


def _arguments(uses: Sequence[_Use]) -> dict[str, str]:
    return {name: text for use in uses for name, text in _values(use.arguments).items()}


def _values(given: Mapping[str, Any]) -> dict[str, str]:
    """What can be told in a word or two, and is no secret."""
    return {
        str(name): _cut(str(value), _VALUE_LIMIT)
        for name, value in given.items()
        if isinstance(value, str | int | float) and str(value).strip() and not _REDACTOR.is_secret(str(name))
    }


def _line(title: str, texts: Sequence[str]) -> str:
    return f'{title}: "{_cut(texts[0], _WORDS_LIMIT)}"' if texts else ""


def _told(title: str, entries: Sequence[str], limit: int) -> str:
    return _cut(f"{title}: {'; '.join(entries)}", limit) if entries else ""


def _cut(text: str, limit: int) -> str:
    """One line of at most `limit` characters, ended between two words where that is possible."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    return (kept.rsplit(" ", 1)[0] if " " in kept[limit // 2 :] else kept) + "…"


def _fitting(lines: Sequence[tuple[int, str]], limit: int) -> str:
    """The lines in their order, as many as fit; those of the lowest rank are chosen first."""
    chosen: set[int] = set()
    left = limit
    for place in sorted(range(len(lines)), key=lambda place: lines[place][0]):
        if len(lines[place][1]) + 1 <= left + (not chosen):
            chosen.add(place)
            left -= len(lines[place][1]) + (len(chosen) > 1)
    return "\n".join(line for place, (_, line) in enumerate(lines) if place in chosen)
