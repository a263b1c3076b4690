"""What a call's grant lets through of what its client sends.

`Granted` looks at a client's event before any tier does. What the grant leaves to the client goes through, what it
does not is taken out and named (`Refused`), so that the call goes on: a real client ends a call over an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from orchestrator.core.grants import AUDIO_FIELDS, FIELDS, Grant
from orchestrator.core.responses import MAX_METADATA
from orchestrator.core.tool_desk import Desk
from orchestrator.protocol.client_events import ClientError
from orchestrator.protocol.session import Session
from orchestrator.protocol.wire import Event

REFUSED = "orchestrator.refused"
"""Under which `response.metadata` tells what was taken out of a ``response.create``."""
METADATA_CHARACTERS = 512
"""Of one value."""
NAMES_TOLD = 5
NAME_CHARACTERS = 64

LOCKED = "the call was opened with this field locked"
_ENVELOPE = (
    "type",
    "event_id",
    "item",
    "previous_item_id",
    "item_id",
    "response_id",
    "content_index",
    "audio_end_ms",
)
_OURS = ("id", "object", "expires_at", "orchestrator")
"""Fields that `session.created` shows and nobody sets."""
_RESPONSE_OWN = ("conversation", "metadata", "input")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Refused:
    """`field` as the client's event has it, dotted; `reason` for people."""

    field: str
    reason: str

    def wire(self) -> Event:
        return {"field": self.field, "reason": self.reason}


class Granted:
    """Of one call. `session` is what it began with once `begin` has been called, and goes on being read."""

    def __init__(self, grant: Grant, session: Session, desk: Desk) -> None:
        self._grant = grant
        self._session = session
        self._desk = desk

    # --- the session ---

    def initial(self) -> Event:
        """Fields that the call begins with, as a ``session.update`` has them."""
        fields = {
            name: deepcopy(value) for name, value in self._grant.session.items() if name in (*FIELDS, "audio")
        }
        fields.pop("model", None)
        if fields.get("tools"):
            fields["tools"] = [tool for tool in fields["tools"] if self._grant.allows_tool(name_of(tool))]
        return fields

    def update(self, event: Event) -> tuple[Event, list[Refused]]:
        """A checked ``session.update`` without what the grant does not leave to the client."""
        kept: Event = {}
        refused: list[Refused] = []
        for name, value in event["session"].items():
            if name in _OURS or name == "type":
                continue
            if name == "audio":
                kept["audio"] = self._audio(value or {}, refused)
            elif name == "tools":
                kept["tools"] = self._tools(value or [], refused)
            elif name != "tool_choice":
                self._field(name, value, kept, refused)
        choice = event["session"].get("tool_choice", _MISSING)
        if choice is not _MISSING:
            tools = kept.get("tools", self._session.tools)
            if reason := self._bars_choice(choice, tools):
                refused.append(Refused("tool_choice", reason))
            else:
                kept["tool_choice"] = choice
        return {**_envelope(event), "session": {"type": "realtime", **kept}}, refused

    def _field(self, name: str, value: Any, kept: Event, refused: list[Refused]) -> None:
        if name == "model":
            fixed = self._grant.model is not None or self._grant.locks("model")
            if value != self._session.fields["model"] and fixed:
                refused.append(Refused(name, "the model of this call was chosen when it was opened"))
        elif name not in FIELDS:
            refused.append(
                Refused(name[:NAME_CHARACTERS], "this is no field that a client of this call may set")
            )
        elif self._bars(name, value, self._session.granted.get(name)):
            refused.append(Refused(name, LOCKED))
        else:
            kept[name] = value

    def _bars(self, name: str, value: Any, granted: Any) -> bool:
        """Whether a value is other than what was granted, where that is not the client's to choose."""
        if not self._grant.locks(name) or value == granted:
            return False
        if name == "max_output_tokens" and isinstance(value, int):
            return isinstance(granted, int) and value > granted
        return True

    def _audio(self, changes: Event, refused: list[Refused]) -> Event:
        kept: Event = {}
        for side, values in changes.items():
            if side not in ("input", "output"):
                refused.append(Refused(f"audio.{side}"[:NAME_CHARACTERS], "there is no such field"))
                continue
            kept[side] = {}
            for name, value in (values or {}).items():
                path = f"audio.{side}.{name}"
                if path not in AUDIO_FIELDS:
                    refused.append(Refused(path[:NAME_CHARACTERS], "there is no such field"))
                elif self._grant.locks(path) and self._changes_audio(side, name, value):
                    refused.append(Refused(path, LOCKED))
                else:
                    kept[side][name] = value
        return kept

    def _changes_audio(self, side: str, name: str, value: Any) -> bool:
        """Whether the session would be another one with it: ``{"type": "audio/pcm"}`` alone means 24 kHz as well."""
        tried = Session("", "", 0)
        tried.fields = deepcopy(self._session.granted)
        try:
            tried.update({"audio": {side: {name: value}}})
        except ClientError:
            return True
        return bool(tried.fields["audio"] != self._session.granted["audio"])

    # --- tools ---

    @property
    def _restricts_tools(self) -> bool:
        return self._grant.tools is not None or self._grant.locks("tools")

    def _tools(self, wanted: Iterable[Event], refused: list[Refused]) -> list[Event]:
        """Those of `wanted` that the call may have; locked ones as they were granted, however they come now."""
        granted = {name_of(tool): tool for tool in self._session.granted["tools"]}
        kept, barred = [], []
        for tool in wanted:
            name = name_of(tool)
            if self._grant.locks("tools"):
                allowed = name in granted and granted[name].get("type") == tool.get("type")
                tool = granted.get(name, tool)
            elif self._grant.tools is None:
                allowed = True
            else:
                allowed = (
                    self._grant.allows_tool(name)
                    if tool.get("type") == "function"
                    else tool == granted.get(name)
                )
            kept += [tool] if allowed else []
            barred += [] if allowed else [name]
        if barred:
            refused.append(Refused("tools", f"this call may not use {_some(barred)}"))
        return kept

    def _bars_choice(self, choice: Any, tools: Sequence[Event]) -> str:
        """Why a tool choice is refused; nothing where it is not. To use none is always allowed."""
        if choice == "none":
            return ""
        if self._grant.locks("tool_choice") and choice != self._session.granted["tool_choice"]:
            return LOCKED
        if not self._restricts_tools or not isinstance(choice, Mapping):
            return ""
        offered = self._desk.toolset.offered(tools, self._desk.agent)
        name, kind = name_of(choice), choice.get("type")
        known = any(name_of(tool) == name and tool.get("type") == kind for tool in offered)
        return "" if known else f"this call has no tool {name[:NAME_CHARACTERS]!r}"

    # --- responses ---

    def response(self, event: Event) -> tuple[Event, list[Refused]]:
        """A checked ``response.create`` without what it may not carry; what was taken out stands in its metadata."""
        request: Event = event.get("response") or {}
        if not request:
            return _envelope(event), []
        refused: list[Refused] = []
        kept = {name: request[name] for name in _RESPONSE_OWN if name in request}
        if request.get("input") is not None:
            kept["input"] = self._input(request["input"], refused)
        if request.get("tools") is not None:
            tools = self._tools(request["tools"], refused)
            if tools or not request["tools"]:  # else the session's own stay
                kept["tools"] = tools
        if request.get("audio"):
            kept["audio"] = self._audio(request["audio"], refused)
        if request.get("tool_choice") is not None:
            reason = self._bars_choice(request["tool_choice"], kept.get("tools", self._session.tools))
            if reason:
                refused.append(Refused("tool_choice", reason))
            else:
                kept["tool_choice"] = request["tool_choice"]
        for name, value in request.items():
            if value is None or name in (*_RESPONSE_OWN, "tools", "audio", "tool_choice"):
                continue
            self._field(name, value, kept, refused)
        return {**_envelope(event), "response": self._note(kept, refused)}, refused

    @staticmethod
    def _note(request: Event, refused: Sequence[Refused]) -> Event:
        if not refused:
            return request
        pairs = dict(request.get("metadata") or {})
        if REFUSED in pairs or len(pairs) < MAX_METADATA:
            text = "; ".join(f"{each.field}: {each.reason}" for each in refused)
            pairs[REFUSED] = text[:METADATA_CHARACTERS]
        return {**request, "metadata": pairs}

    def _input(self, items: Iterable[Event], refused: list[Refused]) -> list[Event]:
        kept = []
        for item in items:
            if reason := self._bars_item(item):
                refused.append(Refused("input", reason))
            else:
                kept.append(item)
        return kept

    # --- items ---

    def other(self, event: Event) -> Event:
        """Any other checked event; ClientError for an item that a client of this call may not make."""
        if event["type"] == "conversation.item.create" and (reason := self._bars_item(event["item"])):
            raise ClientError(f"The item was left out: {reason}.", code="not_granted", param="item")
        return _envelope(event)

    def _bars_item(self, item: Event) -> str:
        """Why an item is not the client's to make; nothing where it is."""
        kind, role = item.get("type", "message"), item.get("role")
        if kind == "message" and role != "user" and self._grant.locks("instructions"):
            told = str(role)[:NAME_CHARACTERS]
            return f"instructions are locked, and a message of the role {told!r} could change them"
        if kind == "function_call":
            name = str(item.get("name") or "")
            if not self._grant.allows_tool(name) or self._desk.keeps(name):
                return f"{name[:NAME_CHARACTERS]!r} is no tool that this client runs"
        if kind == "function_call_output" and self._desk.is_ours(str(item.get("call_id") or "")):
            return "its call is one of a tool that the server runs"
        if kind not in ("message", "function_call", "function_call_output", "item_reference"):
            return f"items of the type {str(kind)[:NAME_CHARACTERS]!r} are not the client's to make"
        return ""


def _envelope(event: Event) -> Event:
    """What the protocol has of an event around a session or a response."""
    return {name: event[name] for name in _ENVELOPE if name in event}


def name_of(tool: Mapping[str, Any]) -> str:
    """Of a function its name, of a server of tools its label."""
    return str(tool.get("name" if tool.get("type") == "function" else "server_label") or "")


def _some(names: Sequence[str]) -> str:
    told = ", ".join(name[:NAME_CHARACTERS] or "(no name)" for name in names[:NAMES_TOLD])
    more = len(names) - NAMES_TOLD
    return f"{told} and {more} more" if more > 0 else told
