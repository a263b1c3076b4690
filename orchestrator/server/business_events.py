"""Business events: what calls did, as CloudEvents 1.0 in JSON, for those who keep the books.

They are made of rows of the calls' timelines, without secrets, and leave through `outlets.py`. docs/business-events.md
shows each type.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol

from orchestrator.config import Settings
from orchestrator.core.redaction import Redactor
from orchestrator.protocol.answers import HistoryItem, Message
from orchestrator.server.known_secrets import redactor_of
from orchestrator.server.outlets import FileSink, Outgoing, Outlet, Sink, StreamSink, WebhookSink
from orchestrator.server.store import Store

log = logging.getLogger(__name__)

TYPES: Mapping[str, str] = {
    "tool_result": "orchestrator.tool.result",
    "tool_confirmation": "orchestrator.tool.confirmation",
    "tool_approval": "orchestrator.tool.approval",
    "agent_handoff": "orchestrator.agent.handoff",
    "transfer": "orchestrator.transfer",
    "handover": "orchestrator.handover",
    "call_ended": "orchestrator.call.ended",
}
"""Types of events by the rows of the timeline that they are made of."""

_OUTCOMES = {"tool_result": "result", "tool_confirmation": "consent", "tool_approval": "decision"}
"""The field of a row that says how it came out."""
_TRANSCRIPT_LIMIT = 200

History = Callable[[], Sequence[HistoryItem]]


class CallOf(Protocol):
    """Whose call it is, as `CallInfo` says it."""

    call_id: str
    user: str
    bucket: str
    purpose: str


class BusinessEvents:
    """`replica` is new with every start of the process: with it and a number an event's id is given once.

    `outlets` get every event, `transfers` those of calls that go to a person, with the transcript if that is wanted.
    """

    def __init__(
        self,
        replica: str,
        outlets: Sequence[Outlet],
        redactor: Redactor | None = None,
        *,
        transfers: Outlet | None = None,
        transcript: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.outlets = outlets if transfers is None else [*outlets, transfers]
        self._source = f"/orchestrator/{replica}"
        self._to_all = outlets
        self._transfers, self._transcript = transfers, transcript
        self._redactor = redactor or Redactor()
        self._wall = wall
        self._numbers = count(1)

    @classmethod
    def from_settings(cls, settings: Settings, store: Store, replica: str) -> BusinessEvents:
        events, transfer = settings.business_events, settings.transfer

        def outlet(sink: Sink, retry_s: float = events.retry_s) -> Outlet:
            return Outlet(sink, limit=events.queue_limit, retry_s=retry_s)

        made: dict[str, Callable[[], Sink]] = {
            "file": lambda: FileSink(events.path),
            "redis": lambda: StreamSink(store, events.stream, events.stream_limit),
            "webhook": lambda: _webhook(events.url, events.secret, events.timeout_s, "webhook"),
        }
        transfers = None
        if transfer.url is not None:
            sink = _webhook(transfer.url, transfer.secret, transfer.timeout_s, "transfer")
            transfers = outlet(sink, transfer.retry_s)
        return cls(
            replica,
            [outlet(made[name]()) for name in events.sinks],
            redactor_of(settings),
            transfers=transfers,
            transcript=transfer.transcript,
        )

    def start(self) -> None:
        for outlet in self.outlets:
            outlet.start()

    async def close(self) -> None:
        """Delivers what waits, for some seconds; before the store is closed."""
        await asyncio.gather(*(outlet.close() for outlet in self.outlets))

    def note(
        self, type: str, fields: Mapping[str, Any], call: CallOf, history: History | None = None
    ) -> None:
        """Makes an event of a row of the timeline, if there is one of that type. Neither waits nor raises.

        `history` is asked for what was said, where a transfer is to tell it.
        """
        if type not in TYPES or not self.outlets:
            return
        try:
            self._note(type, fields, call, history)
        except Exception:
            log.exception("a business event of a %s in call %s is lost", type, call.call_id)

    def _note(self, type: str, fields: Mapping[str, Any], call: CallOf, history: History | None) -> None:
        data = self._data(type, fields, call)
        event = {
            "specversion": "1.0",
            "id": f"{call.call_id}-{next(self._numbers)}",
            "source": self._source,
            "type": TYPES[type],
            "subject": call.call_id,
            "time": _rfc3339(self._wall()),
            "datacontenttype": "application/json",
            "data": data,
        }
        outgoing = _outgoing(event)
        for outlet in self._to_all:
            outlet.put(outgoing)
        if type == "transfer" and self._transfers is not None:
            if self._transcript and history is not None:
                data = {**data, "transcript": self._said(history())}
            self._transfers.put(_outgoing({**event, "data": data}))

    def _data(self, type: str, fields: Mapping[str, Any], call: CallOf) -> dict[str, Any]:
        told = dict(fields)
        if type in _OUTCOMES:
            told["outcome"] = told.pop(_OUTCOMES[type], None)
        if "spent_usd" in told:
            told["cost_usd"] = told.pop("spent_usd")
        whose = {
            "call_id": call.call_id,
            "user": call.user,
            "bucket": call.bucket,
            "purpose": call.purpose,
            "tier": told.pop("tier", ""),
        }
        redacted: dict[str, Any] = self._redactor.redact(told)
        return whose | {name: value for name, value in redacted.items() if name not in whose}

    def _said(self, history: Sequence[HistoryItem]) -> list[dict[str, Any]]:
        said = [item for item in history if isinstance(item, Message) and item.role != "system"]
        return [
            {"role": item.role, "text": self._redactor.text(item.text), "cut_off": item.cut_off}
            for item in said[-_TRANSCRIPT_LIMIT:]
        ]


def _webhook(url: str | None, secret: Any, timeout_s: float, name: str) -> WebhookSink:
    assert url is not None  # the settings were checked
    assert secret is not None
    return WebhookSink(url, secret.get_secret_value(), timeout_s, name)


def _rfc3339(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _outgoing(event: Mapping[str, Any]) -> Outgoing:
    return Outgoing(str(event["id"]), json.dumps(event, separators=(",", ":")).encode())
