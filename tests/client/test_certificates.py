"""Servers with a certificate that no public authority made."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.client import AsyncOrchestrator, Orchestrator, Unreachable
from orchestrator.server.http import build_api
from tests.certificates import Pair, make_pair
from tests.server.test_http import make_server


@dataclass
class Guarded:
    url: str
    pair: Pair


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    pair = make_pair(tmp_path_factory.mktemp("certificate"))
    listener = socket.create_server(("127.0.0.1", 0))
    running: list[uvicorn.Server] = []
    started = threading.Event()

    async def run() -> None:
        server = make_server()
        await server.fleet.start()
        config = uvicorn.Config(
            build_api(server),
            log_level="critical",
            lifespan="off",
            ssl_certfile=pair.certificate,
            ssl_keyfile=pair.key,
        )
        running.append(uvicorn.Server(config))
        started.set()
        await running[0].serve([listener])
        await server.fleet.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(20)
    yield Guarded(f"https://127.0.0.1:{listener.getsockname()[1]}", pair)
    running[0].should_exit = True
    thread.join(20)


def test_one_that_is_not_trusted_is_called_that(guarded: Guarded) -> None:
    with Orchestrator(guarded.url, retries=0) as orchestrator, pytest.raises(Unreachable) as raised:
        orchestrator.status()
    assert "is not to be trusted (self" in str(raised.value)
    assert not raised.value.sent


async def test_one_that_is_told_of_is_trusted(guarded: Guarded) -> None:
    context = ssl.create_default_context(cafile=guarded.pair.certificate)
    with Orchestrator(guarded.url, ssl_context=context) as orchestrator:
        assert await asyncio.to_thread(lambda: orchestrator.route().tier) == "A"
    async with AsyncOrchestrator(guarded.url, ssl_context=context) as asynchronous:
        assert (await asynchronous.route()).tier == "A"


def test_the_command_line_trusts_that_of_the_settings(guarded: Guarded, tmp_path: Path) -> None:
    config = tmp_path / "orchestrator.toml"
    pair = guarded.pair
    port = guarded.url.rpartition(":")[2]
    config.write_text(
        f'[server]\nport = {port}\ntls_certificate = "{pair.certificate}"\ntls_key = "{pair.key}"\n'
    )
    done = CliRunner().invoke(main, ["status", "--config", str(config)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ["status", "--url", guarded.url])
    assert done.exit_code == 3
    assert "is not to be trusted" in done.output
    named = {"SSL_CERT_FILE": str(guarded.pair.certificate)}
    assert CliRunner().invoke(main, ["status", "--url", guarded.url], env=named).exit_code == 0


def test_an_address_with_the_wrong_scheme_is_told_of(guarded: Guarded) -> None:
    plain = guarded.url.replace("https:", "http:")
    with (
        Orchestrator(plain, retries=0) as orchestrator,
        pytest.raises(Unreachable, match="begins with https"),
    ):
        orchestrator.status()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        Orchestrator(f"https://127.0.0.1:{other.getsockname()[1]}", retries=0) as orchestrator,
    ):

        def answer() -> None:
            peer, _ = other.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="begins with http:"):
            orchestrator.status()
        thread.join(10)
