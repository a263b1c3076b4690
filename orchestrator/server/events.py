"""The timeline of calls as rows, and the file they are written to, off the event loop."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]


class EventLog:
    """Rows of all calls: ``time`` (Unix seconds), ``type``, ``tier``, ``call_id`` and what belongs to the type."""

    def __init__(self, path: Path | None, keep: int = 1000) -> None:
        self.recent: deque[Row] = deque(maxlen=keep)
        self._queue: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._thread = threading.Thread(target=self._write, args=(path,), name="event-log", daemon=True)
            self._thread.start()

    def add(self, type: str, *, tier: str, call_id: str, **fields: Any) -> None:
        row = {"time": time.time(), "type": type, "tier": tier, "call_id": call_id, **fields}
        self.recent.append(row)
        if self._thread is not None:
            self._queue.put(row)

    def _write(self, path: Path) -> None:
        with path.open("ab") as file:
            while (row := self._queue.get()) is not None:
                file.write(orjson.dumps(row) + b"\n")
                if self._queue.empty():
                    file.flush()

    def close(self) -> None:
        """Write what is left; waits for it."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=5)
