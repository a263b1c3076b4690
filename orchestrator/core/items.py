"""Item events answered by ourselves: all of them in Tiers B and C, in Tier A those of items the provider never saw."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error

from orchestrator.core.context import CallContext
from orchestrator.core.conversation import Item
from orchestrator.protocol.client_events import ClientError
from orchestrator.protocol.wire import Event


def accept_item(ctx: CallContext, event: Event) -> Item:
    """The item of a ``conversation.item.create``, with an id, in its place in the conversation; not yet announced."""
    wire = {**event["item"]}
    wire.setdefault("id", ctx.ids.new("item"))
    wire["object"] = "realtime.item"
    wire["status"] = "completed"
    _refuse_forged(ctx, wire)
    if wire["id"] in ctx.conversation:
        raise ClientError(
            f"An item with the id {wire['id']!r} exists already; leave the id out to have one chosen.",
            code="item_create_duplicate_item_id",
            param="item.id",
        )
    after = event.get("previous_item_id")
    if after not in (None, "root") and after not in ctx.conversation:
        raise ClientError(
            f"previous_item_id {after!r} names no item of this conversation; omit it to append.",
            code="item_create_invalid_previous_item_id",
            param="previous_item_id",
        )
    item = Item(wire["id"], wire, announced=False)
    _take_audio(item)
    ctx.conversation.insert(item, after)
    return item


def _refuse_forged(ctx: CallContext, wire: Event) -> None:
    """Calls of the server's tools are made by models, and their outputs come from the tools."""
    if wire.get("type") == "function_call" and ctx.desk.keeps(str(wire.get("name") or "")):
        raise ClientError(
            f"{wire.get('name')!r} is a tool that the server runs; a client can neither call it nor say it was called.",
            code="invalid_tool_call",
            param="item.name",
        )
    if wire.get("type") != "function_call_output":
        return
    call_id = str(wire.get("call_id") or "")
    if ctx.desk.is_ours(call_id):
        raise ClientError(
            f"call_id {call_id!r} names no call that was given to this client.",
            code="invalid_tool_call_id",
            param="item.call_id",
        )
    ctx.desk.handed_output(call_id)


def _take_audio(item: Item) -> None:
    """Caller audio inside an item is kept for transcription, unless its words came along."""
    for part in item.wire.get("content") or []:
        if part.get("type") != "input_audio":
            continue
        if part.get("transcript"):
            item.transcript = part["transcript"]
        try:
            item.audio = (item.audio or b"") + b64decode(part.get("audio") or "", validate=True)
        except Base64Error:
            raise ClientError("item.content.audio is not valid base64.", param="item.content") from None


def announce(ctx: CallContext, item: Item) -> None:
    """Tell the client of an item that is complete from the start."""
    shown = {**item.wire, "content": _without_audio(item.wire)} if "content" in item.wire else item.wire
    previous = ctx.conversation.previous(item.id)
    ctx.send({"type": "conversation.item.added", "previous_item_id": previous, "item": shown})
    ctx.send({"type": "conversation.item.done", "previous_item_id": previous, "item": shown})
    item.announced = item.done = True


def announce_done(ctx: CallContext, item: Item) -> None:
    """The other half of `announce`, where a provider gave only the first."""
    previous = ctx.conversation.previous(item.id)
    ctx.send({"type": "conversation.item.done", "previous_item_id": previous, "item": item.wire})
    item.done = True


def _without_audio(wire: Event) -> list[Event]:
    return [{k: v for k, v in part.items() if k != "audio"} for part in wire["content"]]


def retrieve(ctx: CallContext, event: Event) -> None:
    item = _known(ctx, event, "item_retrieve_invalid_item_id")
    wire = dict(item.wire)
    if item.role == "user" and item.transcript is not None:
        wire["content"] = [
            {**part, "transcript": item.transcript} if part.get("type") == "input_audio" else part
            for part in wire["content"]
        ]
    if item.audio is not None and item.role == "user" and wire.get("content"):
        first = {**wire["content"][0]}
        if first.get("type") == "input_audio":
            first["audio"] = b64encode(item.audio).decode()
            wire["content"] = [first, *wire["content"][1:]]
    ctx.send({"type": "conversation.item.retrieved", "item": wire})


def delete(ctx: CallContext, event: Event) -> None:
    item = _known(ctx, event, "item_delete_invalid_item_id")
    ctx.conversation.remove(item.id)
    ctx.send({"type": "conversation.item.deleted", "item_id": item.id})


def truncate(ctx: CallContext, event: Event) -> None:
    item = _known(ctx, event, "item_truncate_invalid_item_id")
    end = event["audio_end_ms"]
    if item.role != "assistant":
        raise ClientError(
            f"Only an assistant's message can be truncated; {item.id!r} is not one.",
            code="item_truncate_invalid_item_id",
            param="item_id",
        )
    if end > item.sent_ms + 1 or end < 0:
        raise ClientError(
            f"audio_end_ms {end} lies outside the item's {item.sent_ms:.0f} ms of audio.",
            param="audio_end_ms",
        )
    note_truncated(item, end)
    ctx.send(
        {
            "type": "conversation.item.truncated",
            "item_id": item.id,
            "content_index": event["content_index"],
            "audio_end_ms": end,
        }
    )


def note_truncated(item: Item, end_ms: float) -> None:
    """The client says exactly what was heard."""
    item.heard_ms = min(float(end_ms), item.sent_ms) if item.sent_ms else float(end_ms)
    item.cut_off = True


def _known(ctx: CallContext, event: Event, code: str) -> Item:
    item = ctx.conversation.get(event["item_id"])
    if item is None or item.private:
        raise ClientError(
            f"item_id {event['item_id']!r} names no item of this conversation.", code=code, param="item_id"
        )
    return item


def commit_turn(ctx: CallContext, item_id: str, start_ms: float, stop_ms: float) -> Item:
    """The caller's audio of a span becomes a user item, and the client is told."""
    wire: Event = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    item = Item(item_id, wire, audio=ctx.input.slice(start_ms, stop_ms))
    previous = ctx.conversation.last_shown
    ctx.conversation.insert(item)
    ctx.buffer_from_ms = stop_ms
    ctx.send({"type": "input_audio_buffer.committed", "item_id": item_id, "previous_item_id": previous})
    announce(ctx, item)
    return item
