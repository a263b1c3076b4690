"""What the process does for its calls about rungs: addresses, keys, prices, probes, trust."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.config import Settings
from orchestrator.core.budget import CallBudget
from orchestrator.core.health import BreakerState, Cause, ProbeKind
from orchestrator.core.overrides import Tier
from orchestrator.core.routing import RouteRequest
from orchestrator.server import app
from orchestrator.server.app import Orchestrator
from orchestrator.server.calls import CallInfo
from tests import planted
from tests.server.fleets import until
from tiers.realtime.link import Loss, LossKind
from tiers.realtime.probe import Probed

MODEL = "gpt-realtime-2.1"
USAGE = {
    "input_tokens": 1_000,
    "output_tokens": 0,
    "input_token_details": {"audio_tokens": 1_000},
    "output_token_details": {},
}
REFUSED = Probed(False, loss=Loss(LossKind.REFUSED))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.model_validate(
        {
            "openai": {"api_key": planted.PROVIDER},
            "tier_a": {
                "rungs": (MODEL, "spare"),
                "rung": {
                    "spare": {
                        "model": "gpt-realtime-2.1-mini",
                        "base_url": "https://eu.example/v1",
                        "api_key": planted.SPARE,
                    }
                },
            },
            "breaker": {"probe_after_s": 0.01, "probe_max_s": 0.05, "canary_after_s": 1000},
        }
    )
    service = Orchestrator(settings)
    service.fleet.set_ready(Tier.B)
    return service


def state(service: Orchestrator, rung: str) -> BreakerState:
    return service.fleet.breakers[rung].state


class Provider:
    """Stands for the probe: what it was asked, what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []
        self.answer = Probed(True)

    async def probe(self, url: str, headers: dict[str, str], *, response: bool, timeout_s: float) -> Probed:
        self.asked.append((url, headers["Authorization"], response))
        return self.answer


async def test_each_rung_is_probed_at_its_address_with_its_key(
    service: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider()
    monkeypatch.setattr(app, "probe", provider.probe)
    task = asyncio.create_task(service._probe())
    service.report("spare", "response_timeout")
    service.report("spare", "response_timeout")
    await until(lambda: state(service, "spare") is BreakerState.CANARY)
    assert provider.asked == [
        ("wss://eu.example/v1/realtime?model=gpt-realtime-2.1-mini", f"Bearer {planted.SPARE}", True)
    ]
    service.report(MODEL, "refused")
    await until(lambda: state(service, MODEL) is BreakerState.CANARY)
    assert provider.asked[1:] == [
        ("wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1", f"Bearer {planted.PROVIDER}", False)
    ]
    task.cancel()


async def test_a_probe_proves_the_session_that_its_response_came_in(
    service: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider()
    provider.answer = REFUSED
    monkeypatch.setattr(app, "probe", provider.probe)
    task = asyncio.create_task(service._probe())
    service.report(MODEL, "response_failed")
    service.report(MODEL, "refused")
    await until(lambda: len(provider.asked) > 2)
    assert state(service, MODEL) in (BreakerState.OPEN, BreakerState.HALF_OPEN)
    provider.answer = Probed(True, usage=USAGE)
    await until(lambda: state(service, MODEL) is BreakerState.CANARY)
    assert provider.asked[-1][2]
    # 1000 tokens of audio at $32 per million.
    assert service.fleet.ledgers.spent("default") == 32_000_000
    task.cancel()


def test_a_rung_is_priced_as_its_model(service: Orchestrator) -> None:
    assert service.price(MODEL, USAGE) == 32_000_000
    assert service.price("spare", USAGE) == 10_000_000


async def test_calls_go_to_the_next_rung_and_leave_out_what_failed_them(service: Orchestrator) -> None:
    budget = CallBudget(1_000_000_000)

    def rung(*excluded: str) -> str:
        return service.route(RouteRequest(call_id="c", current=Tier.A), budget, frozenset(excluded)).rung

    assert rung() == MODEL
    assert rung(MODEL) == "spare"
    assert rung(MODEL, "spare") == rung("A") == "kokoro"
    service.report(MODEL, "no_credit")
    assert rung() == "spare"


async def test_a_rung_that_failed_a_call_is_trusted_when_it_has_proved_itself(service: Orchestrator) -> None:
    def trusted(since: float = 0.0) -> bool:
        return service.trusted(MODEL, since)

    assert not service.trusted("unknown", 0.0)
    service.report(MODEL, Cause.RESPONSE_FAILED.id)
    service.report(MODEL, "", ProbeKind.SESSION)
    assert not trusted()
    service.report(MODEL, Cause.RESPONSE_FAILED.id)
    assert not trusted()
    service.report(MODEL, "")
    # On trial it is trusted; whether this call is one that may try it is the router's question.
    assert state(service, MODEL) is BreakerState.CANARY
    assert trusted()
    assert not trusted(asyncio.get_running_loop().time() + 10)
    ids = [str(n) for n in range(200)]
    service.fleet.started(MODEL)
    budget = CallBudget(1_000_000_000)
    admitted = [
        id
        for id in ids
        if service.route(RouteRequest(call_id=id, current=Tier.B), budget, frozenset({"spare"})).rung == MODEL
    ]
    assert 5 < len(admitted) < 40
    service.report(MODEL, Cause.RESPONSE_FAILED.id)
    assert not trusted()


def test_no_secret_is_shown(service: Orchestrator) -> None:
    shown: list[Any] = [service.readiness(), service.settings, service.fleet.rungs]
    assert "key" in str(shown)
    assert planted.SPARE not in str(shown)
    assert planted.PROVIDER not in str(shown)


def test_a_tool_that_no_call_may_use_is_shown_and_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    hook = {"kind": "read_only", "url": "http://127.0.0.1:9/x"}
    settings = Settings.model_validate(
        {
            "mcp": {"shop": {"command": "shop-mcp"}},
            "tools": {"lookup": hook, "cancel": {"kind": "mutating", "mcp": "shop"}},
        }
    )
    service = Orchestrator(settings)
    (part,) = (part for part in service.readiness() if part.name == "tools")
    assert (part.ready, part.required) == (False, False)
    assert part.detail == "cancel: the MCP server 'shop' has not said what it takes"
    info = CallInfo("call_1", MODEL)
    assert set(service.toolset(info).tools) == {"lookup"}
    assert set(service.toolset(CallInfo("call_1", MODEL, tools=("cancel",))).tools) == set()
