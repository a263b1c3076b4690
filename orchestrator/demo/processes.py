"""The processes of the demo: the service, and the provider that is taken away. Each is ended by its own process id."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.config import CONFIG_VARIABLE, PREFIX, WELL_KNOWN
from orchestrator.models import DIRECTORY_VARIABLE

READY = re.compile(r"(?:ready|serving) on (http://\S+)")
SHOWN_LINES = 12
START_S = 60.0
STOP_S = 8.0


class StartFailed(Exception):
    """A process did not come up; the message holds the last lines of its log."""


def orchestrator_command(*arguments: str) -> list[str]:
    """The command line of this very installation, whatever is on the PATH."""
    return [sys.executable, "-c", "from orchestrator.cli import main; main()", *arguments]


def clean_environment(**settings: str) -> dict[str, str]:
    """This environment without anybody's settings of the orchestrator, and with `settings`."""
    ours = {CONFIG_VARIABLE, *WELL_KNOWN} - {DIRECTORY_VARIABLE}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == DIRECTORY_VARIABLE or (name not in ours and not name.startswith(PREFIX))
    }
    return {**kept, **settings}


def free_port() -> int:
    """A port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """One process. It writes to `log`, and is ready when a line tells its address."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command, self._environment = command, environment
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._url: asyncio.Future[str] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    async def start(self) -> None:
        self._url = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C is for the demo, which then ends its children itself.
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read(self._process, self._url))

    async def _read(self, process: asyncio.subprocess.Process, url: asyncio.Future[str]) -> None:
        assert process.stdout is not None
        with self.log.open("ab") as log:
            async for line in process.stdout:
                log.write(line)
                log.flush()
                found = READY.search(line.decode(errors="replace"))
                if found and not url.done():
                    url.set_result(found[1])
        if not url.done():
            url.set_exception(StartFailed(f"{self.name} ended while it was starting"))

    async def ready(self, seconds: float = START_S) -> str:
        """Its address, once it says so."""
        assert self._url is not None
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._url)
        except TimeoutError:
            raise StartFailed(self.explain(f"{self.name} was not ready within {seconds:g} s")) from None
        except StartFailed as failure:
            raise StartFailed(self.explain(str(failure))) from None

    def explain(self, problem: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:] if self.log.exists() else []
        return "\n".join([problem + "; its last lines:" if lines else problem, *lines])

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say goodbye to anybody."""
        os.kill(self.pid, signal.SIGKILL)

    async def start_again(self) -> None:
        """As a new process, by the same command; returns when it is ready."""
        await self.stop()
        await self.start()
        await self.ready()

    async def stop(self) -> None:
        """End it if it runs, in good order if it can."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()
        if self._reading is not None:
            await self._reading
        if self._url is not None and self._url.done():
            self._url.exception()  # seen: nobody may have waited for it
