"""A server on a loopback port, in a thread of its own: all of it but the engines, whose place others take."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from cache import ClipCache
from orchestrator.config import Settings
from orchestrator.core.overrides import Tier
from orchestrator.server.app import Orchestrator as Service
from orchestrator.server.http import build_api
from orchestrator.server.purse import Purse
from orchestrator.server.speaking import Speaking
from tests import planted
from tests.server.test_http import CatalogueVoice
from tests.server.test_http_speech import Engine

KEY = planted.SERVER
SETTINGS: dict[str, Any] = {
    "openai": {"api_key": planted.PROVIDER},
    "server": {"api_key": KEY},
    "budget": {"buckets": {"acme": {"usd_per_day": 5}}},
    "credentials": {"secret": planted.CREDENTIALS},
    "business_events": {"sinks": []},
}


class Running:
    """`service` lives on the event loop `loop` of another thread: touch it through `do`."""

    def __init__(self, port: int = 0) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(port)), daemon=True)
        self._thread.start()
        assert self._started.wait(30)

    async def _run(self, port: int) -> None:
        self.service = service = Service(Settings.model_validate(SETTINGS))
        self.loop = asyncio.get_running_loop()
        await service.fleet.start()
        for tier in (Tier.B, Tier.C):
            service.fleet.set_ready(tier)
        voice = Speaking(ClipCache(), [Engine()], default_voice="marin", purse=Purse(service.fleet.ledgers))
        api = build_api(_WithoutEngines(service, CatalogueVoice(), voice))
        with socket.create_server(("127.0.0.1", port)) as listening:
            self.port = listening.getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}"
            self._uvicorn = uvicorn.Server(uvicorn.Config(api, log_level="critical", lifespan="off"))
            self._started.set()
            await self._uvicorn.serve([listening])
        await service.fleet.close()

    def do(self, work: Callable[[Service], Any]) -> Any:
        async def there() -> Any:
            return work(self.service)

        return asyncio.run_coroutine_threadsafe(there(), self.loop).result(10)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self.loop.call_soon_threadsafe(self.service.events.end_followers)
        self._thread.join(20)
        assert not self._thread.is_alive()


class _WithoutEngines:
    def __init__(self, service: Service, prompts: CatalogueVoice, speaking: Speaking) -> None:
        self._service, self.prompts, self.speaking = service, prompts, speaking

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "OPENAI_", "CARTESIA_", "REDIS_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "OPENAI_", "CARTESIA_", "REDIS_")):
            patch.delenv(name)
    running = Running()
    yield running
    running.stop()
    patch.undo()
