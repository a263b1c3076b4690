"""The log: as text or as JSON, with the call that a line is about, and without secrets.

Every line takes the same way, uvicorn's and the libraries' too: one handler at the root, one formatter.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from orchestrator.config import Settings
from orchestrator.server.known_secrets import redactor_of

CHATTY = {"httpx": "WARNING", "picows": "WARNING", "LiteLLM": "ERROR", "phonemizer": "ERROR"}
"""Libraries that say too much, and from which level on they are heard."""


class Served(Protocol):
    """A call that something is done for."""

    @property
    def call_id(self) -> str: ...

    @property
    def tier(self) -> str: ...


CALL: ContextVar[Served | None] = ContextVar("call", default=None)
"""The call that is served by what runs now."""


class _Formatter(logging.Formatter):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._clean = redactor_of(settings).text

    def exception(self, record: logging.LogRecord) -> str:
        text = self.formatException(record.exc_info) if record.exc_info else ""
        if record.stack_info:
            text += ("\n" if text else "") + self.formatStack(record.stack_info)
        return self._clean(text)


class TextFormatter(_Formatter):
    """For people: time, level, who says it, the call, the message."""

    def format(self, record: logging.LogRecord) -> str:
        call = CALL.get()
        about = "" if call is None else f" [{call.call_id}{f' {call.tier}' if call.tier else ''}]"
        when = datetime.fromtimestamp(record.created, UTC).isoformat(" ", "milliseconds")[:-6]
        line = f"{when} {record.levelname} {record.name}{about}: {self._clean(record.getMessage())}"
        exception = self.exception(record)
        return f"{line}\n{exception}" if exception else line


class JsonFormatter(_Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``; ``call_id`` and ``tier`` where there is a
    call; ``exception`` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(record.getMessage()),
        }
        if (call := CALL.get()) is not None:
            line |= {"call_id": call.call_id} | ({"tier": call.tier} if call.tier else {})
        if exception := self.exception(record):
            line["exception"] = exception
        return orjson.dumps(line, default=str).decode(errors="replace")


class _Handler(logging.StreamHandler[Any]):
    def __init__(self, counted: Callable[[str], None]) -> None:
        super().__init__(sys.stderr)
        self._counted = counted

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._counted(record.levelname.lower())
        super().emit(record)


def configure(settings: Settings, counted: Callable[[str], None] = lambda level: None) -> None:
    """For the whole process, which serves nothing else. `counted` is told the level of warnings and worse."""
    handler = _Handler(counted)
    as_json = settings.server.log_format == "json"
    handler.setFormatter(JsonFormatter(settings) if as_json else TextFormatter(settings))
    logging.basicConfig(level=settings.server.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty, level in CHATTY.items():
        logging.getLogger(chatty).setLevel(level)
    # It brings handlers of its own, and would say everything twice, in two shapes.
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).addFilter(_no_own_handlers)


def _no_own_handlers(record: logging.LogRecord) -> bool:
    logging.getLogger(record.name).handlers.clear()
    return True
