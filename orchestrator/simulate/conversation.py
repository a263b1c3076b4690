"""The conversation: items in order, and what a client may do with them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.simulate.outbox import new_id
from orchestrator.simulate.session_config import Invalid

MAX_ID = 32
CONTENT = {
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text",),
    "system": ("input_text",),
}
TYPES = ("message", "function_call", "function_call_output")


@dataclass(slots=True, eq=False)
class Item:
    """One item: its wire form without audio, and the audio beside it in pieces."""

    wire: dict[str, Any]
    audio_ms: float = 0.0
    audio: list[bytes] = field(default_factory=list)
    turn: int | None = None
    """Which of the session's spoken turns this is, from 0."""
    cut_ms: float | None = None
    """Where a client truncated it while it was still being spoken."""
    revision: int = 0
    """Grows when the item's content changes, which ends the cached prefix before it."""

    @property
    def id(self) -> str:
        return str(self.wire["id"])

    @property
    def role(self) -> str | None:
        return self.wire.get("role")

    def cut(self) -> None:
        """Keep what was spoken up to `cut_ms`; the transcript goes, since nobody knows what part of it was heard."""
        if self.cut_ms is None:
            return
        whole = b"".join(self.audio)
        kept = self.cut_ms / self.audio_ms if self.audio_ms else 0
        self.audio, self.audio_ms = [whole[: int(len(whole) * kept) & ~1]], self.cut_ms
        self.revision += 1
        for part in self.wire["content"]:
            part.pop("transcript", None)

    @property
    def text(self) -> str:
        """Everything in it that is words: texts, transcripts, arguments, outputs."""
        if self.wire["type"] == "message":
            parts = [part.get("text") or part.get("transcript") or "" for part in self.wire["content"]]
            return " ".join(part for part in parts if part)
        return str(self.wire.get("arguments") or self.wire.get("output") or "")


class Conversation:
    """Items in order, found by id."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def find(self, item_id: str) -> Item | None:
        return next((item for item in self._items if item.id == item_id), None)

    def last_id(self) -> str | None:
        return self._items[-1].id if self._items else None

    def before(self, item: Item) -> str | None:
        """The id of the item before this one."""
        index = self._items.index(item) if item in self._items else 0
        return self._items[index - 1].id if index else None

    def append(self, item: Item) -> str | None:
        """Add at the end; gives the id of the item before it."""
        previous = self.last_id()
        self._items.append(item)
        return previous

    def insert(self, item: Item, previous_item_id: str | None) -> str | None:
        """Add a client's item after another (`root`: at the front); gives the id of the item before it."""
        if self.find(item.id) is not None:
            message = f"Error adding item: the item with id '{item.id}' already exists."
            raise Invalid("item_create_duplicate_item_id", message, "item.id")
        if previous_item_id is None:
            return self.append(item)
        if previous_item_id == "root":
            self._items.insert(0, item)
            return None
        previous = self.find(previous_item_id)
        if previous is None:
            message = f"Error adding item: the previous item with id '{previous_item_id}' does not exist."
            raise Invalid("invalid_value", message, "previous_item_id")
        self._items.insert(self._items.index(previous) + 1, item)
        return previous_item_id

    def retrieve(self, item_id: str) -> dict[str, Any]:
        """The item with its audio."""
        item = self.find(item_id)
        if item is None:
            message = f"Error retrieving item: the item with id '{item_id}' does not exist."
            raise Invalid("item_retrieve_invalid_item_id", message, "item_id")
        if not item.audio:
            return item.wire
        content = [dict(part) for part in item.wire["content"]]
        for part in content:
            if part["type"] in ("input_audio", "output_audio"):
                part["audio"] = base64.b64encode(b"".join(item.audio)).decode()
        return {**item.wire, "content": content}

    def delete(self, item_id: str) -> None:
        item = self.find(item_id)
        if item is None:
            message = f"Error deleting item: the item with id '{item_id}' does not exist."
            raise Invalid("item_delete_invalid_item_id", message, "item_id")
        self._items.remove(item)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an assistant item's audio; its transcript goes with it."""
        item = self.find(item_id)
        if item is None or item.role != "assistant":
            message = f"Error truncating item: '{item_id}' is not an assistant message of this conversation."
            raise Invalid("item_truncate_invalid_item_id", message, "item_id")
        content = item.wire["content"]
        # An item that is still being spoken has its content only when it is done.
        kinds = [part["type"] for part in content] or (["output_audio"] if item.audio else [])
        if not 0 <= content_index < len(kinds) or kinds[content_index] != "output_audio":
            message = f"Error truncating item: content {content_index} of '{item_id}' is not audio."
            raise Invalid("invalid_value", message, "content_index")
        if not 0 <= audio_end_ms <= item.audio_ms:
            message = f"Audio content of {int(item.audio_ms)}ms is already shorter than {audio_end_ms}ms"
            raise Invalid("invalid_value", message, "audio_end_ms")
        item.cut_ms = audio_end_ms
        if content:
            item.cut()


def client_item(wire: dict[str, Any], new_id: str, known_calls: set[str], bytes_per_ms: int) -> Item:
    """An item as a client sent it (already of a valid shape), checked and completed."""
    if wire["type"] not in TYPES:
        raise Invalid("invalid_value", f"Items of type '{wire['type']}' are not supported here.", "item.type")
    for name in ("id", "call_id"):
        if len(wire.get(name) or "") > MAX_ID:
            message = (
                f"Invalid 'item.{name}': string too long. Expected a string with maximum length {MAX_ID}."
            )
            raise Invalid("string_above_max_length", message, f"item.{name}")
    result = {**wire, "id": wire.get("id") or new_id, "object": "realtime.item", "status": "completed"}
    if wire["type"] == "message":
        return _message(result, bytes_per_ms)
    if wire["type"] == "function_call_output" and wire["call_id"] not in known_calls:
        message = f"Tool call ID '{wire['call_id']}' not found in conversation."
        raise Invalid("invalid_tool_call_id", message, "item.call_id")
    if wire["type"] == "function_call" and not wire.get("call_id"):
        result["call_id"] = new_id.replace("item_", "call_")
    return Item(result)


def response_input(
    wires: list[dict[str, Any]], conversation: Conversation, calls: set[str], bytes_per_ms: int
) -> list[Item]:
    """The items of a response's own `input`; an `item_reference` stands for an item of the conversation."""
    calls = calls | {wire.get("call_id") or "" for wire in wires if wire.get("type") == "function_call"}
    items = []
    for wire in wires:
        if wire.get("type") != "item_reference":
            items.append(client_item(wire, new_id("item"), calls, bytes_per_ms))
            continue
        item = conversation.find(str(wire.get("id")))
        if item is None:
            message = f"Item with id '{wire.get('id')}' not found in conversation."
            raise Invalid("invalid_value", message, "response.input")
        items.append(item)
    return items


def _message(wire: dict[str, Any], bytes_per_ms: int) -> Item:
    allowed = CONTENT[wire["role"]]
    audio = b""
    content = []
    for index, part in enumerate(wire["content"]):
        where = f"item.content[{index}]"
        if part.get("type") not in allowed:
            message = (
                f"Invalid value: '{part.get('type')}'. Supported values are: {', '.join(map(repr, allowed))}."
            )
            raise Invalid("invalid_value", message, f"{where}.type")
        field = {"input_audio": "audio", "input_image": "image_url"}.get(part["type"], "text")
        if part.get(field) is None:
            raise Invalid(
                "missing_required_parameter",
                f"Missing required parameter: '{where}.{field}'.",
                f"{where}.{field}",
            )
        if field == "audio":
            audio += decode_audio(part["audio"], f"{where}.audio")
            # The transcript is not given to the model; the audio is kept beside the item.
            part = {"type": "input_audio", "transcript": part.get("transcript")}
        content.append(part)
    return Item(
        {**wire, "content": content}, audio_ms=len(audio) / bytes_per_ms, audio=[audio] if audio else []
    )


def decode_audio(text: str, param: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise Invalid("invalid_value", f"Invalid '{param}': expected base64-encoded audio.", param) from None
