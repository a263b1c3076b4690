"""A service whose tools are the simulated business's, and the caller of the scripted support call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from orchestrator.simulate.support_call import SUPPORT_CALL, Death, Turn
from tests import planted
from tests.clients.recorder import Event, Recorder
from tests.e2e.stack import Engines, Running, Stack, stack, start

SECRET = planted.WEBHOOK
PATIENCE_S = 45.0
DOWN = ("B", "C")


@dataclass
class Shop:
    """The service, its provider, Tier B's model, and the business whose tools it uses."""

    stack: Stack
    model: Running
    business: Running

    def runs(self, call_id: str) -> list[dict[str, Any]]:
        """What the business has changed in a call, by its own log."""
        runs = self.business.get("/control/runs")["runs"]
        return [run for run in runs if run["mutating"] and run["call"]["call_id"] == call_id]

    def begin_anew(self) -> None:
        """Nothing is cancelled, refunded or booked, no fault is armed, and the service is healthy."""
        self.stack.heal()
        for what in ("records", "faults"):
            httpx.delete(f"{self.business.url}/control/{what}", timeout=10).raise_for_status()

    def behave(self, manners: str) -> None:
        """The models of both tiers have these manners from now on."""
        for model in (self.stack.provider, self.model):
            model.post("/control/manners", {"manners": manners}).raise_for_status()

    def arm(self, fault: str, tool: str, after_ms: int = 0) -> None:
        """A fault of the business, at the tool's next call."""
        body = {"fault": fault, "after_ms": after_ms, "model": tool}
        self.business.post("/control/faults", body).raise_for_status()

    @property
    def struck(self) -> int:
        """How often a fault of the provider has struck."""
        return len(self.stack.provider.get("/control/faults")["struck"])


@contextmanager
def shopping(folder: Path) -> Iterator[Shop]:
    """The business does not look at idempotency keys: what is asked for twice is done twice, and shows in its log."""
    tools = ("simulate", "tools", "--secret", SECRET, "--ignore-keys", "--work-ms", "100")
    speaks = ("simulate", "speech", "--stt-ms", "20", "--tts-ms", "20", "--rtf", "0.05", "--tempo", "10")
    with (
        start(*tools, log=folder / "tools.log") as business,
        start("simulate", "llm", "--first-token-ms", "20", log=folder / "llm.log") as model,
        start(*speaks, log=folder / "speech.log") as voice,
    ):
        config = folder / "tools.toml"
        config.write_text(_careless(httpx.get(f"{business.url}/control/settings", timeout=10).text))
        settings = {
            **Engines(model, voice).settings,
            "config": str(config),
            "tool_policy__webhook_secret": SECRET,
            # Here six faults in a row are no reason to stay away from a provider for long.
            "breaker__failures": "1000",
            "breaker__probe_max_s": "1",
            "promotion__quiet_s": "0.2",
            "promotion__min_interval_s": "0.2",
            "tier_a__ping_interval_s": "0.75",
            "tier_a__ping_timeout_s": "0.75",
        }
        provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50", "--pace", "8")
        with stack(folder / "stack", *provider, **settings) as running:
            yield Shop(running, model, business)


def _careless(settings: str) -> str:
    """The same settings, and a model hears what customers have written: with the orders in it that it must not obey."""
    for fields in ('"delivery_date"]', '["order_id", "status"]'):
        assert fields in settings
        settings = settings.replace(fields, fields.replace("]", ', "customer_note"]'))
    return settings


class SupportCall:
    """A caller who writes their turns. Each answer is known by the metadata of the request for it."""

    def __init__(self, shop: Shop, caller: Recorder) -> None:
        self.shop = shop
        self.caller = caller

    async def hold(self, plan: Sequence[Death] = (), turns: Sequence[Turn] = SUPPORT_CALL) -> None:
        """The whole call, with the provider dying as planned."""
        dying = {death.turn: death for death in plan}
        for number, turn in enumerate(turns):
            if number in dying:
                await self._doom(dying[number])
            await self._say(number, turn)
            spoken_over = number + 1 < len(turns) and turns[number + 1].over
            if not spoken_over:
                await self._answered(number)

    async def _doom(self, death: Death) -> None:
        """The provider is to die in this turn: it has to serve the call, and no probe may meet the fault."""
        if self.caller.session["orchestrator"]["tier"] != "A":
            await self.caller.wait_for("session.updated", self._in_tier_a, timeout=PATIENCE_S)
        await asyncio.to_thread(self.shop.stack.heal)
        self.shop.stack.arm(death.fault, death.moment, death.after_ms)

    def _in_tier_a(self, event: Event) -> bool:
        tier = event["session"]["orchestrator"]["tier"]
        return bool(tier == "A" and self.caller.session["orchestrator"]["tier"] == "A")

    async def _say(self, number: int, turn: Turn) -> None:
        if turn.over:
            await self._interrupt(number - 1)
        used = turn.changes or turn.reads
        if turn.slow_ms and used is not None:
            self.shop.arm("slow", used.name, turn.slow_ms)
        await self.caller.write(turn.words)
        await self.caller.send({"type": "response.create", "response": {"metadata": {"turn": str(number)}}})

    async def _interrupt(self, number: int) -> None:
        """Speak over the answer to a turn, as soon as something of it is to be heard."""
        created = await self.caller.wait_for("response.created", _of(number), timeout=PATIENCE_S)
        response_id = created["response"]["id"]
        await self.caller.wait_for(
            "response.output_audio.delta",
            lambda event: event["response_id"] == response_id,
            timeout=PATIENCE_S,
        )
        await self.caller.truncate()
        await self.caller.send({"type": "response.cancel"})
        await self.caller.wait_for("response.done", lambda event: event["response"]["id"] == response_id)

    async def _answered(self, number: int) -> None:
        """A turn has its answer: one that is complete."""

        def whole(event: Event) -> bool:
            return _of(number)(event) and event["response"]["status"] == "completed"

        await self.caller.wait_for("response.done", whole, timeout=PATIENCE_S)


def _of(number: int) -> Any:
    return lambda event: (event["response"]["metadata"] or {}).get("turn") == str(number)
