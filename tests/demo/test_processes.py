"""The demo's processes, and the place where the line to a real provider is cut."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosed

from orchestrator.demo.processes import Child, StartFailed, clean_environment, free_port
from orchestrator.simulate.realtime import RealtimeSimulator
from tests import planted
from tests.simulate.simulated import fast_options

LISTENER = """
import asyncio, sys
async def main():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", int(sys.argv[1]))
    print("listener: ready on http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def child(tmp_path: Path, source: str, *arguments: str) -> Child:
    return Child(
        "the child", [sys.executable, "-c", source, *arguments], clean_environment(), tmp_path / "log"
    )


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Child]:
    process = child(tmp_path, LISTENER, str(free_port()))
    await process.start()
    yield process
    await process.stop()


async def test_a_killed_process_starts_again_at_its_old_address(listener: Child) -> None:
    url, pid = await listener.ready(), listener.pid
    listener.kill()
    await listener.start_again()
    assert listener.pid != pid
    assert await listener.ready() == url


async def test_what_a_process_said_last_explains_that_it_did_not_start(tmp_path: Path) -> None:
    process = child(tmp_path, "print('no such port'); raise SystemExit(3)")
    await process.start()
    with pytest.raises(StartFailed, match=r"(?s)the child ended while it was starting.*no such port"):
        await process.ready()
    await process.stop()


async def test_a_process_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    process = child(tmp_path, "import threading; threading.Event().wait()")
    await process.start()
    with pytest.raises(StartFailed, match=r"was not ready within 0\.2 s"):
        await process.ready(0.2)
    await process.stop()


async def test_stopping_what_was_not_started_is_nothing(tmp_path: Path) -> None:
    await child(tmp_path, "").stop()


def test_a_users_own_settings_stay_out_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BUDGET__CALL_USD", "0")
    monkeypatch.setenv("OPENAI_API_KEY", planted.PROVIDER)
    monkeypatch.setenv("ORCHESTRATOR_MODELS", "/models")
    monkeypatch.setenv("HOME", "/home/somebody")
    environment = clean_environment(OPENAI_API_KEY=planted.SPARE)
    assert environment["OPENAI_API_KEY"] == planted.SPARE
    assert environment["ORCHESTRATOR_MODELS"] == "/models"
    assert environment["HOME"] == "/home/somebody"
    assert "ORCHESTRATOR_BUDGET__CALL_USD" not in environment


async def test_the_relay_carries_a_session_until_it_is_killed(tmp_path: Path) -> None:
    async with RealtimeSimulator(fast_options()).start() as origin:
        command = [sys.executable, "-m", "orchestrator.demo.relay", "0", origin]
        relay = Child("the relay", command, clean_environment(), tmp_path / "log")
        await relay.start()
        try:
            client = AsyncOpenAI(api_key="any", base_url=f"{await relay.ready()}/v1")
            async with asyncio.timeout(20), client.realtime.connect(model="gpt-realtime-2.1") as connection:
                assert (await connection.recv()).type == "session.created"
                relay.kill()
                with pytest.raises(ConnectionClosed):
                    await connection.recv()
        finally:
            await relay.stop()
