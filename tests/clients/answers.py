"""What a client was told of responses, whatever SDK it uses: for whoever judges whether each came once and whole."""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from typing import Any

PCM_BYTES_PER_MS = 48

Event = dict[str, Any]


class Answers:
    """`note` every event as it was on the wire; `report` tells of the responses, as JSON has it.

    An item has the words and the milliseconds of audio that its deltas brought, beside the words it ended with.
    """

    def __init__(self) -> None:
        self._opened: list[str] = []
        self._ended: list[Event] = []
        self._said: defaultdict[str, str] = defaultdict(str)
        self._audio_bytes: defaultdict[str, int] = defaultdict(int)

    def note(self, event: Event) -> None:
        match event.get("type"):
            case "response.created":
                self._opened.append(event["response"]["id"])
            case "response.output_audio_transcript.delta":
                self._said[event["item_id"]] += event["delta"]
            case "response.output_audio.delta":
                self._audio_bytes[event["item_id"]] += len(b64decode(event["delta"]))
            case "response.done":
                self._ended.append(event["response"])

    def report(self) -> Event:
        return {"opened": self._opened, "responses": [self._response(each) for each in self._ended]}

    def _response(self, response: Event) -> Event:
        shown = {name: response[name] for name in ("id", "status")}
        items = [self._item(item) for item in response["output"]]
        return {**shown, "metadata": response["metadata"] or {}, "items": items}

    def _item(self, item: Event) -> Event:
        ended = [part.get("transcript") or part.get("text") or "" for part in item.get("content") or []]
        return {
            **{name: item.get(name) for name in ("id", "type", "status", "call_id", "arguments")},
            "words": " ".join(ended),
            "said": self._said[item["id"]],
            "audio_ms": self._audio_bytes[item["id"]] / PCM_BYTES_PER_MS,
        }
