"""No object of ours shows a secret when it is printed, as in a traceback or a log line."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

import cache
import orchestrator
import tiers
from orchestrator.config import Settings
from tests import planted

SECRET = re.compile(r"(?:^|_)(?:api_key|secret|password|token|bearer)$")
NO_SECRETS = {
    "orchestrator.server.approvals.Verdict.token": "tells a verdict from another with the same words; it opens nothing",
    "orchestrator.server.tool_ledger.Entry.token": "tells one replica's entry from another's; it opens nothing",
}


def modules() -> Iterator[ModuleType]:
    for package in (orchestrator, tiers, cache):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def shown_fields(kind: type[Any]) -> Iterator[str]:
    """Names of fields that stand in its repr and hold texts or bytes."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            if field.repr and re.match(r"(str|bytes)\b", str(field.type)):
                yield field.name
    elif issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if info.repr and SecretStr.__name__ not in str(info.annotation):
                yield name


def test_no_field_for_a_secret_is_shown() -> None:
    seen = {
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for module in modules()
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
        for name in shown_fields(kind)
        if SECRET.search(name)
    }
    assert sorted(seen - NO_SECRETS.keys()) == []


def test_what_opens_a_call_is_not_shown_either() -> None:
    fields = {"orchestrator.server.direct": "Secret", "orchestrator.client.answers": "Session"}
    for module, name in fields.items():
        assert "value" not in set(shown_fields(getattr(importlib.import_module(module), name)))


@pytest.mark.parametrize("show", [repr, str, lambda s: s.model_dump(), lambda s: s.model_dump_json()])
def test_the_settings_show_none(show: Any) -> None:
    settings = Settings.model_validate(
        {
            "openai": {"api_key": planted.PROVIDER},
            "server": {"api_key": planted.SERVER},
            "cartesia": {"api_key": planted.CARTESIA},
            "links": {"secret": planted.LINKS},
            "redis": {"url": f"redis://:{planted.REDIS}@127.0.0.1:1/0"},
            "telemetry": {"otlp_headers": {"x-key": planted.COLLECTOR}},
            "tier_a": {"rung": {"gpt-realtime-2.1": {"api_key": planted.SPARE}}},
        }
    )
    assert "planted" not in str(show(settings))
