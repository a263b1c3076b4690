"""A real browser, driven over its DevTools protocol: just enough to use a page as somebody would."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 30.0


class Tab:
    """One page. `failures` are the exceptions that its scripts did not catch."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.failures: list[dict[str, Any]] = []

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(PATIENCE):
            while True:
                message = json.loads(await self._socket.recv())
                if message.get("method") == "Runtime.exceptionThrown":
                    self.failures.append(message["params"])
                if message.get("id") == number:
                    return dict(message.get("result", {}))

    async def run(self, script: str) -> Any:
        """The value of an expression, with a user's right to sound."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = await self.command("Runtime.evaluate", expression=script, **options)
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression once it is true."""
        look = f"const look = () => {{ const value = ({script}); value ? found(value) : setTimeout(look, 20); }};"
        return await self.run(f"new Promise((found) => {{ {look} look(); }})")


@asynccontextmanager
async def browser(folder: Path, page: str, microphone: Path | None = None) -> AsyncIterator[Tab]:
    """`page` in a browser of its own; what its microphone hears is the file `microphone`, once, and then nothing."""
    assert CHROMIUM is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if microphone is not None:
        options.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    command = [CHROMIUM, *options, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            address = await _devtools(process.stderr)
        draining = asyncio.create_task(process.stderr.read())
        async with connect(address, max_size=None) as socket:
            tab = Tab(socket)
            await tab.command("Runtime.enable")
            await tab.command("Page.navigate", url=page)
            yield tab
        draining.cancel()
    finally:
        process.terminate()
        await process.wait()


async def _devtools(lines: asyncio.StreamReader) -> str:
    """The address of a new tab, from where the browser says that it listens."""
    while (line := (await lines.readline()).decode()) and "DevTools listening on ws://" not in line:
        pass
    origin = line.partition("ws://")[2].partition("/")[0]
    async with httpx.AsyncClient() as http:
        tab = (await http.put(f"http://{origin}/json/new?about:blank")).json()
    return str(tab["webSocketDebuggerUrl"])
