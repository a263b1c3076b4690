"""What one session received and did, for `GET /control/state`."""

from __future__ import annotations

import time
from typing import Any

MAX_ENTRIES = 5000
ELIDED = ("audio", "image_url")


def _elide(value: Any) -> Any:
    """A copy with audio and images replaced by their size."""
    if isinstance(value, dict):
        return {
            name: f"<{len(part)} base64 characters>"
            if name in ELIDED and isinstance(part, str)
            else _elide(part)
            for name, part in value.items()
        }
    return [_elide(part) for part in value] if isinstance(value, list) else value


class Journal:
    """Client events in order, and the types of server events; runs of appends are one entry."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.received: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.audio_in_bytes = 0
        self.audio_out_bytes = 0

    def append(self, size: int) -> None:
        self.audio_in_bytes += size
        last = self.received[-1] if self.received else None
        if last is not None and last["type"] == "input_audio_buffer.append":
            last["events"] += 1
            last["audio_bytes"] += size
            return
        self._note(self.received, {"type": "input_audio_buffer.append", "events": 1, "audio_bytes": size})

    def event(self, event: dict[str, Any]) -> None:
        self._note(self.received, {"type": event.get("type"), "event": _elide(event)})

    def sending(self, kind: str) -> None:
        # Audio and transcript deltas alternate: one entry for each kind and run.
        for last in self.sent[-2:]:
            if last["type"] == kind and kind.endswith(".delta"):
                last["events"] += 1
                return
        self._note(self.sent, {"type": kind, "events": 1})

    def _note(self, entries: list[dict[str, Any]], entry: dict[str, Any]) -> None:
        if len(entries) < MAX_ENTRIES:
            entries.append({"at_ms": round((time.monotonic() - self._began) * 1000), **entry})
