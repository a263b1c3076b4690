"""Settings: where they come from, what they refuse, and how they say so."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.config import (
    WELL_KNOWN,
    Settings,
    SettingsError,
    is_loopback,
    load_settings,
    variable_for,
)
from orchestrator.core.health import BreakerPolicy
from orchestrator.core.prices import UnknownPrice, nanodollars
from orchestrator.core.steps import Step, StepAction, StepPolicy
from tests.certificates import make_pair
from tiers.prompts.catalogue import BUILT_IN


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


def test_the_defaults_work() -> None:
    settings = load_settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.tier_a.rungs == ("gpt-realtime-2.1",)
    assert settings.speech_engine() == "kokoro"
    assert settings.budget.cap_of_call("default") == 2_000_000_000
    # The core's own defaults are the same.
    assert settings.breaker.policy() == BreakerPolicy()


def test_later_sources_win(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[server]\nhost = "127.0.0.2"\nport = 1\nlog_level = "debug"\n')
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PORT", "2")
    monkeypatch.setenv("ORCHESTRATOR_SERVER__LOG_LEVEL", "error")
    settings = load_settings(file, server__log_level="warning", server__host=None)
    assert (settings.server.host, settings.server.port, settings.server.log_level) == (
        "127.0.0.2",
        2,
        "warning",
    )


def test_the_file_may_be_named_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[server]\nport = 1\n")
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(file))
    assert load_settings().server.port == 1
    other = file.with_name("other.toml")
    other.write_text("[server]\nport = 2\n")
    assert load_settings(other).server.port == 2


def all_settings() -> list[tuple[str, Any]]:
    """Every ``section.field`` with its default."""
    found = []
    for section, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            for field, detail in info.annotation.model_fields.items():
                found.append((f"{section}.{field}", detail.get_default(call_default_factory=True)))
    return found


PAIR = make_pair(Path(tempfile.mkdtemp()))
_TOKENS = {"access.jwt_issuer": "https://id.example", "access.jwt_audience": "voice"}
_SPECIAL_VALUES = {
    "server.tls_certificate": str(PAIR.certificate),
    "server.tls_key": str(PAIR.key),
    "access.trusted_proxies": "10.0.0.0/8, 127.0.0.1",
    "access.jwt_jwks_url": "https://id.example/keys",
    "access.jwt_key_path": str(PAIR.public),
    "access.jwt_algorithms": "ES256,EdDSA",
    "access.jwt_scopes": '{"voice:calls": "service"}',
    "server.log_level": "debug",
    "server.log_format": "json",
    "server.allowed_origins": "https://a.example,https://b.example",
    "openai.base_url": "http://127.0.0.1:9/v1",
    "tier_a.enabled": "false",
    "tier_a.rungs": "gpt-realtime-2.1-mini, gpt-realtime-2.1",
    "tier_a.rung": '{"gpt-realtime-2.1": {"model": "gpt-realtime-2"}}',
    "tier_a.transcription_model": "whisper-1",
    "tier_b.agent_model": "openai/gpt-4.1-mini",
    "tier_b.agent_fallbacks": "openai/gpt-4.1-nano, anthropic/claude-haiku-4-5",
    "tier_b.speech": "kokoro-torch",
    "tier_b.voices": '{"marin": "af_bella"}',
    "cartesia.voices": '{"marin": "f786b574-daa5-4673-aa0c-cbe3e8534c02"}',
    "tier_b.speculate": "false",
    "tier_b.stt_fallback": "false",
    "tier_b.stt_cloud_model": "openai/whisper-1",
    "tier_c.catalogue": str(BUILT_IN),
    "tier_c.bridge": "bridge_late",
    "tier_c.bridges": '{"late": "one_moment"}',
    "tier_c.bridge_languages": "en,fr",
    "tier_c.one_way_purposes": '["reminder"]',
    "links.secret": "what addresses are signed with",
    "summary.at_hang_up": "true",
    "summary.max_characters": "300",
    "summary.keep_s": "3600",
    "models.source": "hub",
    "redis.url": "redis://127.0.0.1:9/0",
    "telemetry.otlp_endpoint": "http://127.0.0.1:4318",
    "telemetry.otlp_headers": '{"x-api-key": "a secret"}',
    "telemetry.share": "0.5",
    "recording.enabled": "true",
    "recording.format": "flac",
    "recording.transcript": "none",
    "latency_budgets.reasoning_by_tier": '{"B": 2500}',
    "hedging.start_share": "0.7",
    "hedging.max_share": "0.2",
    "breaker.canary_share": "0.5",
    "breaker.canary_successes": "4",
    "promotion.mode": "never",
    "budget.buckets": '{"acme": {"usd_per_day": 3}}',
    "budget.steps": '[{"at": 0.5, "action": "tier_c"}]',
    "budget.concise_tokens": "200",
    "budget.expected_minutes": "4.5",
    "budget.history": "text",
    "budget.retention_ratio": "0.5",
    "budget.history_tokens": "4000",
    "budget.store_away": "allowance",
    "guardrails.heard": '{"url": "http://127.0.0.1:9", "secret": "whsec_bWluZQ=="}',
    "guardrails.said": '{"entry_point": "json:loads"}',
    "guardrails.called": '{"entry_point": "json:loads", "on_failure": "veto"}',
    "guardrails.record_words": "true",
    "transfer.transcript": "true",
    "credentials.secret": "a secret of some length",
    "access.metrics_key": "a secret of some length",
    "credentials.ttl_s": "60",
    "credentials.direct": "true",
    "limits.body_bytes": "2048",
    "limits.header_bytes": "2048",
    "limits.url_bytes": "2048",
    "limits.json_depth": "64",
    "business_events.sinks": "none",
    "tool_policy.ledger_ttl_s": "7200",
    "tool_policy.built_in": "transfer_to_human",
    "tool_policy.first_agent": "front",
}
_NOT_ALONE = {
    "server.tls_certificate": {"server.tls_key": str(PAIR.key)},
    "server.tls_key": {"server.tls_certificate": str(PAIR.certificate)},
    "access.trusted_proxies": {"server.api_key": "k"},
    "access.jwt_issuer": {"access.jwt_audience": "voice", "access.jwt_jwks_url": "https://id.example/keys"},
    "access.jwt_audience": {**_TOKENS, "access.jwt_jwks_url": "https://id.example/keys"},
    "access.jwt_jwks_url": _TOKENS,
    "access.jwt_key_path": _TOKENS,
    "access.jwt_scopes": {**_TOKENS, "access.jwt_jwks_url": "https://id.example/keys"},
    "tool_policy.first_agent": {"agents.front.instructions": "Be kind."},
    "summary.at_hang_up": {
        "summary.url": "http://127.0.0.1:9",
        "summary.secret": "whsec_bWluZQ==",
        "links.public_url": "http://127.0.0.1:9",
    },
    "summary.url": {"summary.secret": "whsec_bWluZQ=="},
    "summary.secret": {"summary.url": "http://127.0.0.1:9"},
    "transfer.url": {"transfer.secret": "whsec_bWluZQ=="},
    "transfer.secret": {"transfer.url": "http://127.0.0.1:9"},
    "business_events.url": {"business_events.secret": "s", "business_events.sinks": "webhook"},
    "business_events.secret": {
        "business_events.url": "http://127.0.0.1:9",
        "business_events.sinks": "file,webhook",
    },
    "tier_a.ping_interval_s": {"tier_a.ping_timeout_s": "2"},
    "tier_b.agent_base_url": {"tier_b.agent_model": "openai/gpt-4.1-mini"},
    "tier_b.agent_fallbacks": {"tier_b.agent_model": "openai/gpt-4.1-mini"},
    "tier_b.stt_base_url": {"tier_b.stt_model": "m", "tier_b.stt_usd_per_minute": "0"},
    "tier_b.stt_model": {"tier_b.stt_base_url": "http://127.0.0.1:9/v1", "tier_b.stt_usd_per_minute": "0"},
    "tier_b.stt_cloud_api_key": {"tier_b.stt_cloud_model": "openai/whisper-1"},
    "tier_b.tts_base_url": {
        "tier_b.speech": "endpoint",
        "tier_b.tts_model": "m",
        "tier_b.tts_usd_per_character": "0",
    },
}


@pytest.mark.parametrize(("setting", "default"), all_settings())
def test_every_setting_can_be_set_by_its_variable(
    setting: str, default: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = _SPECIAL_VALUES.get(setting)
    if value is None:
        value = "http://127.0.0.1:9" if setting.endswith(("_url", ".url")) else "127.0.0.9"
        if isinstance(default, int | float) or "usd_per" in setting or setting.endswith("_per_minute"):
            value = "3"
    monkeypatch.setenv(variable_for(setting), value)
    for other, needed in _NOT_ALONE.get(setting, {}).items():
        monkeypatch.setenv(variable_for(other), needed)
    section, _, field = setting.partition(".")
    assert getattr(getattr(load_settings(), section), field) != default


@pytest.mark.parametrize("name", sorted(WELL_KNOWN))
def test_well_known_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = WELL_KNOWN[name]
    value = {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "CARTESIA_BASE_URL": "http://127.0.0.1:9",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "ORCHESTRATOR_AGENT_MODEL": "openai/gpt-4.1-mini",
    }.get(name, "/first")

    def now() -> str:
        section, _, field = setting.partition(".")
        found = getattr(getattr(load_settings(), section), field)
        return str(found.get_secret_value() if hasattr(found, "get_secret_value") else found)

    monkeypatch.setenv(name, value)
    assert now() == value
    # The setting's own name is the more deliberate one.
    own = value.replace("127.0.0.1", "127.0.0.2").replace("first", "second").replace("4.1-mini", "4.1")
    monkeypatch.setenv(variable_for(setting), own)
    assert now() == own


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PORT", "")
    settings = load_settings()
    assert settings.openai.api_key is None
    assert settings.server.port == 8080


def test_variables_that_only_look_like_ours_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Kubernetes makes these for a service that is called orchestrator.
    monkeypatch.setenv("ORCHESTRATOR_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("ORCHESTRATOR_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("ORCHESTRATOR_SERVER", "10.0.0.1")
    assert load_settings() == Settings()


def test_nested_names_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BUDGET__BUCKETS__ACME__USD_PER_DAY", "2.5")
    monkeypatch.setenv("ORCHESTRATOR_PRICES", '{"openai/mine": {"text_in": 1, "text_out": 2}}')
    monkeypatch.setenv("ORCHESTRATOR_AGENT_MODEL", "openai/mine")
    settings = load_settings()
    assert settings.budget.bucket_nanodollars("acme") == 2_500_000_000
    assert settings.budget.bucket_nanodollars("other") is None
    price = settings.agent_price()
    assert (price.text_in, price.text_out) == (1, 2)


MONEY = """
[[budget.steps]]
at = 0.9
action = "goodbye"
[[budget.steps]]
at = 0.5
action = "tier_b"

[budget.buckets.acme]
call_usd = 0.25
expected_minutes = 3
[[budget.buckets.acme.steps]]
at = 1.0
action = "tier_c"

[budget.buckets.plain]
steps = []
history = "text"
"""


def test_steps_and_caps_are_a_buckets_own_where_it_has_some(file: Path) -> None:
    file.write_text(MONEY)
    budget = load_settings(file).budget
    assert budget.steps_of("other") == StepPolicy(
        (Step(0.5, StepAction.TIER_B), Step(0.9, StepAction.GOODBYE)), None, 400
    )
    assert budget.steps_of("acme") == StepPolicy((Step(1.0, StepAction.TIER_C),), 180.0, 400)
    assert budget.steps_of("plain").steps == ()
    assert [budget.cap_of_call(name) for name in ("acme", "plain")] == [250_000_000, 2_000_000_000]
    assert [budget.history_of(name) for name in ("acme", "plain")] == ["provider", "text"]


def test_a_buckets_steps_can_be_given_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = '[{"at": 0.7, "action": "goodbye"}]'
    monkeypatch.setenv("ORCHESTRATOR_BUDGET__BUCKETS__ACME__STEPS", steps)
    assert load_settings().budget.steps_of("acme").steps == (Step(0.7, StepAction.GOODBYE),)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            [(0.5, "tier_b"), (0.8, "concise")],
            "'concise' at 0.8 comes after 'tier_b' at 0.5, which saves more; lower its share to 0.5 or less, "
            "or leave it out",
        ),
        ([(0.5, "tier_b"), (0.8, "tier_b")], "'tier_b' is there twice; keep one of them"),
        ([(0, "tier_b")], "expected greater than 0"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps: list[tuple[float, str]], says: str, file: Path) -> None:
    tables = [{"at": at, "action": action} for at, action in steps]
    assert says in problem_with(budget__steps=tables)
    lines = [f'[[budget.buckets.acme.steps]]\nat = {at}\naction = "{action}"' for at, action in steps]
    file.write_text("\n".join(lines))
    problem = problem_with(file)
    assert problem.startswith("budget.buckets.acme.steps")
    assert f"({file}): {says}" in problem


def test_two_steps_may_come_at_once() -> None:
    steps = [{"at": 0.8, "action": "cheaper_rung"}, {"at": 0.8, "action": "concise"}]
    taken = load_settings(budget__steps=steps).budget.steps_of("default").steps
    assert [step.action for step in taken] == [StepAction.CONCISE, StepAction.CHEAPER_RUNG]


@pytest.mark.parametrize("field", ["call_usd", "allowance_usd"])
def test_a_cap_is_exact_in_nanodollars(field: str) -> None:
    assert "expected less than or equal to 9000000" in problem_with(**{f"budget__{field}": 9_000_001})
    assert nanodollars(9_000_000) < 2**53
    for wrong in (float("nan"), float("inf"), -0.01):
        assert f"budget.{field}" in problem_with(**{f"budget__{field}": wrong})


def test_transcription_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TIER_A__TRANSCRIPTION_MODEL", "none")
    assert load_settings().tier_a.transcription_model is None


# What is refused, and how


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "ORCHESTRATOR_SERVER__PORT",
            "abc",
            "server.port (ORCHESTRATOR_SERVER__PORT): expected a valid integer",
        ),
        ("ORCHESTRATOR_SERVER__PORT", "70000", "less than or equal to 65535, not '70000'"),
        ("ORCHESTRATOR_SERVER__PROT", "1", "there is no such setting; did you mean server.port?"),
        ("ORCHESTRATOR_SERVR__PORT", "1", "servr (ORCHESTRATOR_SERVR__PORT): there is no such setting"),
        ("ORCHESTRATOR_REDIS__XYZZY", "1", "there is no such setting; there are redis.url, redis.timeout_s"),
        (
            "ORCHESTRATOR_SERVER__LOG_LEVEL",
            "loud",
            "expected 'debug', 'info', 'warning' or 'error', not 'loud'",
        ),
        ("ORCHESTRATOR_BUDGET__BUCKETS__ACME__USD_PER_DAY", "-1", "budget.buckets.acme.usd_per_day"),
        ("ORCHESTRATOR_BUDGET", "{nope", "ORCHESTRATOR_BUDGET: expected JSON"),
        ("ORCHESTRATOR_TIER_A__RUNGS", ",", "tier_a.rungs (ORCHESTRATOR_TIER_A__RUNGS)"),
        ("OPENAI_BASE_URL", "wss://h/v1", "write https:// (the WebSocket one is derived), not 'wss://h/v1'"),
        ("OPENAI_BASE_URL", "https://h/v2", "ends in /v1"),
        ("OPENAI_BASE_URL", "https://h:70000/v1", "expected a port from 0 to 65535"),
        ("ORCHESTRATOR_TIER_A__RUNG__EU__API_KYE", "k", "did you mean tier_a.rung.eu.api_key?"),
        (
            "ORCHESTRATOR_BUDGET__BUCKETS__ACME__USD_PER_DYA",
            "1",
            "did you mean budget.buckets.acme.usd_per_day?",
        ),
        (
            "ORCHESTRATOR_BUDGET__STEPS",
            "tier_b",
            'budget.steps (ORCHESTRATOR_BUDGET__STEPS): expected a JSON list like [{"at": 0.8, "action": "tier_b"}]',
        ),
        (
            "ORCHESTRATOR_BUDGET__STEPS",
            '[{"at": 0.5, "action": "concise"}, {"at": 1.5, "action": "tier_b"}]',
            "budget.steps.1.at (ORCHESTRATOR_BUDGET__STEPS): expected less than or equal to 1, not 1.5",
        ),
        (
            "ORCHESTRATOR_BUDGET__STEPS",
            '[{"at": 0.5, "actoin": "concise"}]',
            "there is no such setting; did you mean budget.steps.0.action?",
        ),
        (
            "ORCHESTRATOR_BUDGET__BUCKETS",
            '{"acme": {"steps": [{"at": 0.5, "action": "hang_up"}]}}',
            "budget.buckets.acme.steps.0.action (ORCHESTRATOR_BUDGET__BUCKETS): expected 'concise', ",
        ),
        ("OPENAI_BASE_URL", "h/v1", "openai.base_url (OPENAI_BASE_URL): expected an address like https://"),
        ("REDIS_URL", "http://h", "expected redis://host:6379/0"),
        ("CARTESIA_BASE_URL", "h", "expected an http:// or https:// address"),
    ],
)
def test_a_wrong_variable_is_explained(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert says in problem_with()


def test_a_wrong_file_is_explained_all_at_once(file: Path) -> None:
    file.write_text('[server]\nport = "x"\nhots = "h"\n[budgte]\ncall_usd = 1\n')
    assert problem_with(file).splitlines() == [
        f"server.port ({file}): expected a valid integer, unable to parse string as an integer, not 'x'",
        f"server.hots ({file}): there is no such setting; did you mean server.host?",
        f"budgte ({file}): there is no such setting; did you mean budget?",
    ]


def test_a_file_that_cannot_be_read_is_explained(file: Path) -> None:
    assert "no such configuration file" in problem_with(file)
    file.write_text("[server\n")
    assert f"{file}: not valid TOML: " in problem_with(file)
    assert "line 1" in problem_with(file)
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read" in problem_with(file)
    assert "cannot be read" in problem_with(file.parent)
    file.write_text("server = 3\n")
    assert f"server ({file}): expected a valid dictionary" in problem_with(file)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "orchestrator.example"])
def test_others_are_served_only_with_a_key(host: str) -> None:
    text = problem_with(server__host=host)
    assert text.startswith("server.host (--host): ")
    assert "ORCHESTRATOR_API_KEY" in text
    assert load_settings(server__host=host, server__api_key="k").server.host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "a.localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert load_settings(server__host=host).server.host == host


def test_what_is_loopback() -> None:
    assert is_loopback("[::1]")
    assert is_loopback("::1%lo")
    assert not is_loopback("")
    assert not is_loopback("localhost.example")


@pytest.mark.parametrize(
    ("overrides", "setting", "remedy"),
    [
        ({"tier_a__rungs": ["gpt-next"]}, "tier_a.rungs", '[prices."gpt-next"]'),
        ({"tier_a__transcription_model": "ears"}, "tier_a.transcription_model", '[prices."ears"]'),
        ({"tier_b__agent_model": "openai/mine"}, "tier_b.agent_model", '[prices."openai/mine"]'),
        ({"tier_b__agent_base_url": "http://h/v1"}, "tier_b.agent_base_url", "set tier_b.agent_model"),
        ({"tier_b__agent_fallbacks": "gpt-4.1-nano"}, "tier_b.agent_fallbacks", "set tier_b.agent_model"),
        (
            {"tier_b__agent_model": "gpt-4.1-mini", "tier_b__agent_fallbacks": "openai/mine"},
            "tier_b.agent_fallbacks",
            '[prices."openai/mine"]',
        ),
        ({"tier_b__speech": "cartesia"}, "tier_b.speech", "CARTESIA_API_KEY"),
        ({"tier_b__speech": "endpoint"}, "tier_b.speech", "tier_b.tts_base_url"),
        ({"tier_b__tts_base_url": "http://h/v1"}, "tier_b.tts_base_url", '"endpoint"'),
        ({"tier_b__stt_base_url": "http://h/v1"}, "tier_b.stt_base_url", "tier_b.stt_model"),
        ({"tier_b__stt_model": "m"}, "tier_b.stt_model", "set tier_b.stt_base_url"),
        ({"tier_b__stt_cloud_model": "x/ears"}, "tier_b.stt_cloud_model", '[prices."x/ears"]'),
        ({"tier_b__stt_cloud_api_key": "k"}, "tier_b.stt_cloud_api_key", "set tier_b.stt_cloud_model"),
    ],
)
def test_settings_that_do_not_work_together_name_the_remedy(
    overrides: dict[str, Any], setting: str, remedy: str
) -> None:
    text = problem_with(**overrides)
    assert text.startswith(f"{setting} (--")
    assert remedy in text


def test_an_endpoint_without_a_price_is_refused_and_a_free_one_is_not() -> None:
    endpoint = {"tier_b__speech": "endpoint", "tier_b__tts_base_url": "http://h/v1", "tier_b__tts_model": "m"}
    assert "tier_b.tts_usd_per_character" in problem_with(**endpoint)
    assert load_settings(**endpoint, tier_b__tts_usd_per_character=0).speech_engine() == "endpoint"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORCHESTRATOR_OPENAI__API_KYE", "sk-hunter2"),
        ("ORCHESTRATOR_CARTESIA__API_KEY__X", "sk-hunter2"),
        ("REDIS_URL", "http://user:hunter2@h"),
        ("OPENAI_BASE_URL", "https://user:hunter2@h/v1"),
        ("OPENAI_BASE_URL", "wss://user:hunter2@h/v1"),
        ("CARTESIA_BASE_URL", "ftp://user:hunter2@h"),
        ("ORCHESTRATOR_TIER_A__RUNG", '{"eu": {"api_key": "hunter2", "base_url": "https://h/v1"}}'),
        ("ORCHESTRATOR_TIER_A__RUNG__EU__API_KYE", "hunter2"),
        ("ORCHESTRATOR_TIER_A__RUNG__EU__BASE_URL", "wss://user:hunter2@h/v1"),
        ("ORCHESTRATOR_TIER_A__RUNG__EU", "hunter2"),
    ],
)
def test_no_error_shows_a_secret(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    assert "hunter2" not in problem_with()


def test_no_repr_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "CARTESIA_API_KEY", "ORCHESTRATOR_API_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@h/0")
    monkeypatch.setenv("ORCHESTRATOR_TIER_A__RUNG", '{"gpt-realtime-2.1": {"api_key": "hunter2"}}')
    settings = load_settings()
    assert "hunter2" not in repr(settings.realtime("gpt-realtime-2.1"))
    assert "hunter2" not in repr(settings) + str(settings.model_dump())


# What is derived


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://api.openai.com/v1", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        ("http://127.0.0.1:9/v1/", "ws://127.0.0.1:9/v1/realtime?model=gpt-realtime-2.1"),
        ("https://http.example/a/v1", "wss://http.example/a/v1/realtime?model=gpt-realtime-2.1"),
    ],
)
def test_the_realtime_address(base: str, url: str) -> None:
    settings = load_settings(openai__base_url=base)
    assert settings.realtime_url("gpt-realtime-2.1") == url


def test_the_realtime_address_quotes_its_model() -> None:
    assert load_settings().realtime_url("a&b/c").endswith("?model=a%26b%2Fc")


ELSEWHERE = """
[openai]
api_key = "openai-key"
[tier_a]
rungs = ["gpt-realtime-2.1", "gpt-realtime-2.1-mini", "spare", "own"]
[tier_a.rung.spare]
model = "gpt-realtime-2"
base_url = "https://eu.example/v1"
api_key = "spare-key"
[tier_a.rung.own]
model = "gpt-realtime"
base_url = "http://127.0.0.1:9/v1"
"""


def test_rungs_of_the_realtime_tier(file: Path) -> None:
    file.write_text(ELSEWHERE)
    settings = load_settings(file)
    assert [settings.realtime_url(rung) for rung in settings.tier_a.rungs] == [
        "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1",
        "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1-mini",
        "wss://eu.example/v1/realtime?model=gpt-realtime-2",
        "ws://127.0.0.1:9/v1/realtime?model=gpt-realtime",
    ]
    assert [settings.provider_headers(rung).get("Authorization") for rung in settings.tier_a.rungs] == [
        "Bearer openai-key",
        "Bearer openai-key",
        "Bearer spare-key",
        None,
    ]


def test_a_rungs_key_may_come_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(ELSEWHERE.replace('api_key = "spare-key"', ""))
    monkeypatch.setenv("ORCHESTRATOR_TIER_A__RUNG__SPARE__API_KEY", "from-outside")
    settings = load_settings(file)
    assert settings.provider_headers("spare") == {"Authorization": "Bearer from-outside"}
    assert settings.realtime("spare").model == "gpt-realtime-2"


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("https://api.openai.com/v1", True),
        ("https://API.openai.com:443/v1", True),
        ("https://api.openai.com/other/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com:8443/v1", False),
        ("https://api.openai.com.evil.example/v1", False),
        ("https://eu.api.openai.com/v1", False),
    ],
)
def test_openais_key_goes_to_its_own_address_only(address: str, sent: bool, file: Path) -> None:
    file.write_text(f'[tier_a.rung."gpt-realtime-2.1"]\nbase_url = "{address}"\n')
    if sent:
        headers = load_settings(file, openai__api_key="k").provider_headers("gpt-realtime-2.1")
        assert headers == {"Authorization": "Bearer k"}
    else:
        text = problem_with(file, openai__api_key="k")
        assert text.startswith(f"tier_a.rung ({file}): 'gpt-realtime-2.1' has a base_url of its own")
        assert 'set api_key under [tier_a.rung."gpt-realtime-2.1"]' in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('rungs = ["gpt-realtime", "gpt-realtime"]', "'gpt-realtime' is named 2 times"),
        ('rungs = ["kokoro"]', "'kokoro' is the name of something else"),
        ('rungs = ["A"]\n[tier_a.rung.A]\nmodel = "gpt-realtime"', "'A' is the name of something else"),
        ('[tier_a.rung.spare]\nmodel = "gpt-realtime"', "'spare' is not one of tier_a.rungs"),
        ('rungs = ["spare"]\n[tier_a.rung.spare]\nmodel = "mine"', '[prices."mine"]'),
    ],
)
def test_rungs_that_cannot_work_are_refused(text: str, says: str, file: Path) -> None:
    file.write_text(f"[tier_a]\n{text}\n")
    problem = problem_with(file)
    assert problem.startswith(("tier_a.rungs (", "tier_a.rung ("))
    assert says in problem
    assert str(file) in problem


def test_what_is_wrong_with_a_rung_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TIER_A__RUNG__SPARE__MODEL", "gpt-realtime")
    assert problem_with().startswith("tier_a.rung (ORCHESTRATOR_TIER_A__RUNG__SPARE__MODEL): ")


def test_the_speech_engine() -> None:
    assert load_settings(cartesia__api_key="k").speech_engine() == "cartesia"
    assert load_settings(cartesia__api_key="k", tier_b__speech="kokoro").speech_engine() == "kokoro"


def test_own_prices_go_over_the_published_ones(file: Path) -> None:
    file.write_text(
        '[prices."gpt-realtime-2.1"]\naudio_out = 60\n[prices."mine"]\naudio_in = 1\n[tier_a]\nrungs = ["mine"]\n'
    )
    prices = load_settings(file).price_table()
    assert (prices["gpt-realtime-2.1"].audio_out, prices["gpt-realtime-2.1"].audio_in) == (60, 32)
    assert (prices["mine"].audio_in, prices["mine"].text_in) == (1, 0)
    with pytest.raises(UnknownPrice):
        prices["other"]


@pytest.mark.parametrize(
    ("model", "per_million"),
    [("openai/gpt-4.1-mini", (0.4, 1.6)), ("gpt-4.1-mini", (0.4, 1.6)), (None, (0, 0))],
)
def test_the_text_agents_price(model: str | None, per_million: tuple[float, float]) -> None:
    price = load_settings(tier_b__agent_model=model).agent_price()
    assert (price.text_in, price.text_out) == pytest.approx(per_million)


def test_addresses_are_not_signed_with_a_word() -> None:
    problem = problem_with(links__secret="hunter2hunter2")
    assert "links.secret" in problem
    assert "at least 16 characters, got 14; `openssl" in problem
    assert "hunter2" not in problem


def test_summaries_need_somewhere_to_go_and_somewhere_to_be_heard(file: Path) -> None:
    file.write_text("[summary]\nat_hang_up = true\n")
    assert "set summary.url and summary.secret too" in problem_with(file)
    file.write_text('[summary]\nat_hang_up = true\nurl = "https://a.example"\nsecret = "whsec_bWluZQ=="\n')
    assert "set links.public_url" in problem_with(file)
    file.write_text('[summary]\nurl = "http://a.example"\nsecret = "whsec_bWluZQ=="\n')
    assert "https://" in problem_with(file)
    assert "https://" in problem_with(summary__url="http://a.example", summary__secret="whsec_bWluZQ==")
    assert "requests have to be signed" in problem_with(summary__url="https://a.example")


def test_a_pong_cannot_be_waited_for_longer_than_until_the_next_ping() -> None:
    said = problem_with(tier_a__ping_interval_s=0.5, tier_a__ping_timeout_s=1.5)
    assert "tier_a.ping_timeout_s" in said
    assert "at most tier_a.ping_interval_s (0.5), not 1.5" in said
