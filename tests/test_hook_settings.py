"""Settings of guardrails, business events and transfers: what they become, what they refuse, and how they say so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import WELL_KNOWN, SettingsError, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orchestrator.toml"


def problem_with(path: Path | None = None, **overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, **overrides)
    return str(caught.value)


# Guardrails

HOOK = {"url": "https://guard.example", "secret": "whsec_bWluZQ=="}


def test_a_guardrail_is_a_webhook_or_a_function() -> None:
    found = load_settings(guardrails__heard=HOOK, guardrails__said={"entry_point": "json:loads"}).guardrails
    assert found.heard is not None
    assert (found.heard.url, found.heard.timeout_s, found.heard.on_failure) == (HOOK["url"], 0.3, "allow")
    assert found.heard.line == "cannot_say"
    assert found.called is None
    here = {**HOOK, "url": "http://127.0.0.1:8000/guard"}
    assert load_settings(guardrails__called=here).guardrails.called is not None


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ({}, "guardrails.said.url: a hook that asks nobody; set url or entry_point"),
        ({**HOOK, "entry_point": "json:loads"}, "guardrails.said.url: a hook is a webhook or a function"),
        ({"url": HOOK["url"]}, "guardrails.said.url: requests have to be signed; set secret"),
        ({"entry_point": "json:loads", "secret": "x"}, "guardrails.said.secret: a secret without a url"),
        ({**HOOK, "url": "http://guard.example"}, "it has to be https:// except on this machine"),
        ({**HOOK, "secret": "whsec_!"}, "guardrails.said.secret: expected base64 behind whsec_"),
        (
            {"entry_point": "json"},
            "guardrails.said.entry_point: expected package.module:function, not 'json'",
        ),
        ({"entry_point": "no_such_module:f"}, "the module 'no_such_module' cannot be imported"),
        ({"entry_point": "json:no_such"}, "'no_such' does not exist in 'json'; name one that can be called"),
        ({"entry_point": "json:__name__"}, "'__name__' is not a function in 'json'"),
        ({**HOOK, "line": "no_such"}, "guardrails.said.line: the prompt 'no_such' does not exist"),
        ({**HOOK, "line": "order_status"}, "the prompt 'order_status' needs variables"),
        ({**HOOK, "timeout_s": 6}, "expected less than or equal to 5"),
    ],
)
def test_a_guardrail_that_cannot_work_is_refused(hook: dict[str, Any], says: str) -> None:
    problem = problem_with(guardrails__said=hook)
    where, _, what = says.rpartition(": ")
    assert where in problem
    assert what in problem
    assert HOOK["secret"] not in problem


def test_what_is_heard_in_tier_a_has_to_be_written_down() -> None:
    hook: dict[str, Any] = {"guardrails__heard": HOOK, "tier_a__transcription_model": "none"}
    assert "guardrails.heard" in problem_with(**hook)
    assert "set tier_a.transcription_model" in problem_with(**hook)
    assert load_settings(**hook, tier_a__enabled=False).guardrails.heard is not None


# Business events and transfers


def test_business_events_go_to_a_file_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    events = load_settings().business_events
    assert (events.sinks, str(events.path)) == (("file",), "business_events.jsonl")
    monkeypatch.setenv("ORCHESTRATOR_BUSINESS_EVENTS__SINKS", "none")
    assert load_settings().business_events.sinks == ()
    monkeypatch.setenv("ORCHESTRATOR_BUSINESS_EVENTS__SINKS", "redis, file")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    assert load_settings().business_events.sinks == ("redis", "file")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ('[business_events]\nsinks = ["post"]', "expected 'file', 'redis' or 'webhook', not 'post'"),
        (
            '[business_events]\nsinks = ["file", "file"]',
            "business_events.sinks FROM: 'file' is named 2 times",
        ),
        (
            '[business_events]\nsinks = ["redis"]',
            "a Redis stream needs redis.url (REDIS_URL); set it, or use",
        ),
        (
            '[business_events]\nsinks = ["webhook"]',
            "a webhook needs business_events.url; set it, or use file",
        ),
        (
            f'[business_events]\nurl = "{HOOK["url"]}"\nsecret = "{HOOK["secret"]}"',
            'business_events.url FROM: not used while business_events.sinks is without webhook; set "file, webhook"',
        ),
        (
            f'[business_events]\nsinks = ["webhook"]\nurl = "{HOOK["url"]}"',
            "business_events.url FROM: requests have to be signed; set secret to whsec_ and base64",
        ),
        (f'[transfer]\nurl = "{HOOK["url"]}"', "transfer.url FROM: requests have to be signed"),
        (f'[transfer]\nsecret = "{HOOK["secret"]}"', "transfer.secret FROM: a secret without a url"),
        (
            f'[transfer]\nurl = "http://desk.example"\nsecret = "{HOOK["secret"]}"',
            "transfer.url FROM: what callers say goes there, so that it has to be https://",
        ),
        (
            f'[transfer]\nurl = "{HOOK["url"]}"\nsecret = "whsec_!{HOOK["secret"]}"',
            "transfer.secret FROM: expected base64 behind whsec_",
        ),
        ("[approvals]\ntimeout_s = 0", "approvals.timeout_s FROM: expected greater than 0, not 0"),
    ],
)
def test_business_events_that_cannot_work_are_refused(sections: str, says: str, file: Path) -> None:
    file.write_text(sections + "\n")
    problem = problem_with(file)
    assert says.replace("FROM", f"({file})") in problem
    assert HOOK["secret"] not in problem
