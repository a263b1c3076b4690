"""The log: its two shapes, the call a line is about, and that no secret is in it."""

from __future__ import annotations

import logging
import sys
from contextvars import copy_context
from dataclasses import dataclass

import orjson
import pytest
from pydantic import SecretStr

from orchestrator.config import Settings
from orchestrator.server.known_secrets import secrets_of
from orchestrator.server.logs import CALL, JsonFormatter, TextFormatter
from tests import planted

KEY = planted.PROVIDER
SHORT = planted.SERVER


@dataclass
class Call:
    call_id: str = "call_1"
    tier: str = "B"


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(
        {
            "openai": {"api_key": KEY},
            "server": {"api_key": SHORT},
            "tier_a": {"rung": {"gpt-realtime-2.1": {"api_key": planted.SPARE}}},
            "redis": {"url": f"redis://:{planted.REDIS}@localhost/0"},
        }
    )


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError(f"refused with {KEY}")
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("some.library", logging.ERROR, __file__, 1, message, args, info)


def test_every_secret_of_the_settings_is_known(settings: Settings) -> None:
    address = f"redis://:{planted.REDIS}@localhost/0"
    assert {KEY, SHORT, planted.SPARE, address, planted.REDIS} <= secrets_of(settings)
    # As it is written in an address, and as it is.
    quoted = Settings.model_validate({"redis": {"url": "redis://:p%40ssword@localhost/0"}})
    assert {"p%40ssword", "p@ssword"} <= secrets_of(quoted)


def test_a_line_of_json_names_the_call_it_is_about(settings: Settings) -> None:
    formatter = JsonFormatter(settings)
    context = copy_context()
    context.run(CALL.set, Call())
    line = orjson.loads(context.run(formatter.format, record("it took %d ms\nand more", 7)))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "error",
        "logger": "some.library",
        "message": "it took 7 ms\nand more",
        "call_id": "call_1",
        "tier": "B",
    }
    without = orjson.loads(formatter.format(record("alone")))
    assert "call_id" not in without
    assert "\n" not in formatter.format(record("two\nlines"))


@pytest.mark.parametrize("shape", [JsonFormatter, TextFormatter])
def test_no_secret_is_shown(settings: Settings, shape: type[JsonFormatter] | type[TextFormatter]) -> None:
    secret = SecretStr(SHORT)
    shown = shape(settings).format(
        record("%s and %s with Bearer %s", KEY, secret.get_secret_value(), SHORT, error=True)
    )
    assert KEY not in shown
    assert SHORT not in shown
    assert "ValueError" in shown


def test_text_names_the_call_too(settings: Settings) -> None:
    context = copy_context()
    context.run(CALL.set, Call())
    line = context.run(TextFormatter(settings).format, record("done"))
    assert line.endswith("ERROR some.library [call_1 B]: done")
