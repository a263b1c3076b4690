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
from starlette.types import ASGIApp

from orchestrator.simulate.sockets import Decide, UpgradeProtocol

SHUTDOWN_SECONDS = 3


class _Embedded(uvicorn.Server):
    """A uvicorn server that leaves the process's signal handlers alone, and tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Standalone(uvicorn.Server):
    """A uvicorn server that ends with status 0 on SIGTERM and SIGINT."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in uvicorn.server.HANDLED_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def _config(app: ASGIApp, decide: Decide | None) -> uvicorn.Config:
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
async def running(app: ASGIApp, *, decide: Decide | None = None, port: int = 0) -> AsyncIterator[str]:
    """Serve `app` on loopback inside the running event loop; gives its origin, such as http://127.0.0.1:8123."""
    sock = bind("127.0.0.1", port)
    server = _Embedded(_config(app, decide))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await server.up.wait()
        yield origin(sock)
    finally:
        server.should_exit = True
        await task


def serve(app: ASGIApp, name: str, host: str, port: int, *, decide: Decide | None = None) -> None:
    """Serve `app` until SIGTERM; prints one line with the address when connections are accepted."""
    sock = bind(host, port)
    server = _Standalone(_config(app, decide))
    click.echo(f"simulate {name}: ready on {origin(sock)}")
    server.run(sockets=[sock])
