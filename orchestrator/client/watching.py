"""Following events: the stream's lines as events, and going on after a break where it was. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx

from orchestrator.client.answers import Event
from orchestrator.client.asks import Ask
from orchestrator.client.errors import (
    OrchestratorError,
    Overloaded,
    ServerFault,
    Unreachable,
    no_orchestrator,
)

SILENCE_S = 45.0
"""A server says something every 15 s: after so long without a word the connection is as good as lost."""
LONGEST_WAIT_S = 10.0
Names = str | Sequence[str]


class Watch:
    """One reader's place in the events of a replica."""

    def __init__(
        self, *, call: Names, type: Names, tier: Names, text: bool, last_event_id: str, reconnect: bool
    ) -> None:
        self._params = [
            *(("call", each) for each in _listed(call)),
            *(("type", each) for each in _listed(type)),
            *(("tier", each) for each in _listed(tier)),
        ]
        if text:
            self._params.append(("text", "true"))
        self.last_event_id = last_event_id
        self.reconnect = reconnect
        self.connected = False
        """Whether the server has ever answered."""
        self._retry_s, self._failures = 2.0, 0
        self._data: list[str] = []
        self._id = last_event_id

    def ask(self) -> Ask[None]:
        headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
        return Ask(
            "GET",
            "/v1/events",
            lambda response: None,
            params=self._params,
            headers={"Accept": "text/event-stream", **headers},
            repeatable=True,
            timeout_s=SILENCE_S,
        )

    def began(self, response: httpx.Response) -> None:
        """There is an answer: what was half told before is told again."""
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise no_orchestrator(response)
        self.connected = True
        self._data.clear()

    def line(self, line: str) -> Event | None:
        """One line of the stream, without its end; an event where it completes one."""
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isdecimal():
            self._retry_s = int(value) / 1000
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id, self._failures = self._id, 0
        if not self._data:
            return None
        try:
            row: dict[str, Any] = json.loads("\n".join(self._data))
            return Event(
                self.last_event_id,
                float(row.pop("time")),
                str(row.pop("type")),
                str(row.pop("tier")),
                str(row.pop("call_id")),
                row,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unreachable("an event is not as it should be; is this an orchestrator?") from None
        finally:
            self._data.clear()

    def lost(self, error: OrchestratorError | None) -> float:
        """Seconds to wait before going on after a break; `error` None: the stream ended. Raises what ends it all."""
        if error is None:
            return self._retry_s
        passing = isinstance(error, Unreachable | Overloaded | ServerFault)
        if not self.reconnect or not self.connected or not passing:
            raise error
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            return error.retry_after_s
        return self._backoff()

    def _backoff(self) -> float:
        self._failures += 1
        return min(self._retry_s * 2.0 ** (self._failures - 1), LONGEST_WAIT_S)


def _listed(names: Names) -> Sequence[str]:
    return ([names] if names else []) if isinstance(names, str) else names
