"""The conversation of a call: its items in order, what was heard of them, and the snapshot a tier is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.protocol.answers import HistoryItem, Message, ToolCall, ToolResult
from orchestrator.protocol.wire import Event


@dataclass(slots=True)
class Item:
    """One conversation item. `wire` is what the client sees of it; the rest is what we know besides."""

    id: str
    wire: Event
    audio_span: tuple[float, float] | None = None
    """A caller's turn not yet written down: where its audio stands in the call's input, ms to ms."""
    audio: bytes | None = None
    """Caller audio that came inside an item, or was cut out of the input, in the session's input format."""
    transcript: str | None = None
    """The words, once known. For an assistant's message all that were sent, heard or not."""
    unheard: bool = False
    """Its words could not be had: `transcript` is empty, though something may have been said."""
    veto: str = ""
    """The prompt that answers it, where a guardrail vetoed its words: `transcript` does not hold them then."""
    sent_ms: float = 0.0
    heard_ms: float | None = None
    """Set when the caller heard less than was sent."""
    cut_off: bool = False
    """The answer was not finished: by barge-in or by a fault."""
    bridge: bool = False
    """A bridge: the client has it, no model ever does."""
    replayed: bool = False
    """It was told to the provider as text; what is asked about its audio we answer ourselves."""
    upstream: bool = False
    """The provider session of the moment knows this item by its id."""
    announced: bool = True
    """The client was told of it by ``conversation.item.added``."""
    done: bool = False
    """... and by ``conversation.item.done``."""
    response_id: str = ""
    """The response that said it."""
    words_told: bool = False
    """A transcription event for it has gone to the client."""
    private: bool = False
    """The client never hears of it: a tool that the server runs."""

    @property
    def kind(self) -> str:
        return str(self.wire.get("type", "message"))

    @property
    def role(self) -> str:
        return str(self.wire.get("role", ""))

    @property
    def words(self) -> str:
        """What is known of what was said in it."""
        return (self.transcript if self.transcript is not None else text_of(self.wire)).strip()

    @property
    def needs_transcript(self) -> bool:
        return self.transcript is None and (self.audio is not None or self.audio_span is not None)

    def heard_text(self) -> str:
        """An assistant's words as far as they were heard, cut at a word's end, in proportion to the audio."""
        text = self.transcript or ""
        if self.heard_ms is None or self.sent_ms <= 0 or self.heard_ms >= self.sent_ms:
            return text
        end = int(len(text) * self.heard_ms / self.sent_ms)
        return text[:end].rsplit(" ", 1)[0] if end < len(text) else text


@dataclass(slots=True)
class Conversation:
    _items: dict[str, Item] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    @property
    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    @property
    def last_shown(self) -> str | None:
        """The last item that the client was told of."""
        return next((i for i in reversed(self._order) if self._items[i].announced), None)

    def insert(self, item: Item, after: str | None = None) -> str | None:
        """Put an item behind `after` (None: at the end, "root": in front); the id of the one before it."""
        if item.id in self._items:
            self._items[item.id] = item
            return self.previous(item.id)
        if after == "root":
            position = 0
        elif after is None or after not in self._items:
            position = len(self._order)
        else:
            position = self._order.index(after) + 1
        self._order.insert(position, item.id)
        self._items[item.id] = item
        return self.previous(item.id)

    def previous(self, item_id: str) -> str | None:
        """The item before it, of those the client was told of."""
        before = self._order[: self._order.index(item_id)]
        return next((i for i in reversed(before) if self._items[i].announced), None)

    def remove(self, item_id: str) -> Item | None:
        item = self._items.pop(item_id, None)
        if item is not None:
            self._order.remove(item_id)
        return item

    def upstream_anchor(self, after: str | None) -> str | None:
        """The nearest item at or before `after` that the provider session knows; "root" when there is none."""
        if after is None or after == "root":
            return after
        position = self._order.index(after) if after in self._items else len(self._order) - 1
        for item_id in reversed(self._order[: position + 1]):
            if self._items[item_id].upstream:
                return item_id
        return "root"

    def pending_calls(self) -> set[str]:
        """Ids of function calls that the client was given and whose output has not come back."""
        done = {i.wire.get("call_id") for i in self if i.kind == "function_call_output"}
        return {
            i.id
            for i in self
            if i.kind == "function_call"
            and i.wire.get("status") != "incomplete"
            and i.wire.get("call_id") not in done
        }

    def history(self) -> tuple[HistoryItem, ...]:
        """The snapshot for a tier: words only, as heard, bridges left out."""
        return tuple(entry for item in self if (entry := _history_item(item)) is not None)


def text_of(wire: Event) -> str:
    """All words in an item's content parts, whatever their type."""
    parts = wire.get("content") or []
    return " ".join(str(p.get("text") or p.get("transcript") or "") for p in parts).strip()


def _history_item(item: Item) -> HistoryItem | None:
    if item.bridge:
        return None
    if item.kind == "function_call":
        if item.wire.get("status") == "incomplete":
            return None
        return ToolCall(
            str(item.wire.get("call_id", "")), str(item.wire["name"]), str(item.wire.get("arguments") or "{}")
        )
    if item.kind == "function_call_output":
        return ToolResult(str(item.wire["call_id"]), str(item.wire.get("output", "")))
    if item.kind != "message":
        return None
    if item.role == "assistant":
        words = item.heard_text() if item.transcript is not None else text_of(item.wire)
        return Message("assistant", words, item.cut_off) if words else None
    words = item.transcript if item.transcript is not None else text_of(item.wire)
    role = "system" if item.role == "system" else "user"
    return Message(role, words) if words or role == "user" else None  # type: ignore[arg-type]
