"""Runs a simulator's ASGI app on uvicorn, in a process of its own or inside somebody's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette

from orchestrator.simulate.sockets import Decide, UpgradeProtocol

SHUTDOWN_SECONDS = 3


class _Embedded(uvicorn.Server):
    """A uvicorn server without signal handlers and without uvicorn's pauses: up and down in milliseconds."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.down = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.down.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Standalone(uvicorn.Server):
    """A uvicorn server that says when it is up, and ends with status 0 on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, announcement: str) -> None:
        super().__init__(config)
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        click.echo(self._announcement)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in uvicorn.server.HANDLED_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def _config(app: Starlette, decide: Decide | None) -> uvicorn.Config:
    websockets: Any = partial(UpgradeProtocol, decide) if decide is not None else "websockets-sansio"
    return uvicorn.Config(
        app,
        ws=websockets,
        loop="uvloop",
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
    sock.listen(2048)
    sock.setblocking(False)
    return sock


def origin(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def running(app: Starlette, *, decide: Decide | None = None, port: int = 0) -> AsyncIterator[str]:
    """Serve `app` on loopback inside the running event loop; gives its origin, such as http://127.0.0.1:8123."""
    sock = bind("127.0.0.1", port)
    server = _Embedded(_config(app, decide))
    app.state.connections = server.server_state.connections
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await server.up.wait()
        yield origin(sock)
    finally:
        server.down.set()
        await task


def serve(app: Starlette, name: str, host: str, port: int, *, decide: Decide | None = None) -> None:
    """Serve `app` until SIGTERM; prints one line with the address once its start-up work is done."""
    sock = bind(host, port)
    server = _Standalone(_config(app, decide), f"simulate {name}: ready on {origin(sock)}")
    app.state.connections = server.server_state.connections
    server.run(sockets=[sock])
