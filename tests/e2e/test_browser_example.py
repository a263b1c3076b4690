"""The page of examples/browser against the real server: its backend, its scripts under Node, all in a browser."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import planted
from tests.e2e.browser import CHROMIUM, browser
from tests.e2e.stack import AUDIO, Stack, stack

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
SCRIPT = Path(__file__).parents[1] / "clients" / "page.mjs"
KEY = planted.SERVER
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50")
    with stack(tmp_path_factory.mktemp("page"), *provider, server__api_key=KEY) as running:
        yield running


@contextmanager
def backend(service: Stack, log: Path, key: str = KEY) -> Iterator[str]:
    """The example's backend as its README starts it, until the block ends; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "backend:app", "--port", str(port)]
    environment = {**os.environ, "ORCHESTRATOR_URL": service.service.url, "ORCHESTRATOR_API_KEY": key}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + 30
        while True:
            with suppress(httpx.TransportError):
                httpx.get(url)
                break
            assert time.monotonic() < give_up, log.read_text()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
                raise AssertionError(log.read_text())
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def page(service: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with backend(service, tmp_path_factory.mktemp("backend") / "backend.log") as url:
        yield url


def fetch_scripts(page: str, folder: Path) -> None:
    for name in ("call", "audio"):
        served = httpx.get(f"{page}/{name}.js")
        assert served.headers["content-type"].startswith("text/javascript")
        (folder / f"{name}.mjs").write_text(served.text)


async def browse(page: str, folder: Path, origin: str | None = None) -> dict[str, Any]:
    """The page's scripts, as the backend serves them, run under Node; `origin`: what a browser would send."""
    assert NODE is not None
    fetch_scripts(page, folder)
    command = [
        NODE,
        "--no-warnings",
        "--experimental-websocket",
        str(SCRIPT),
        str(folder),
        page,
        origin or "",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return dict(json.loads(out))


def test_the_page_is_served_and_knows_no_key(page: str, service: Stack) -> None:
    html = httpx.get(page).text
    scripts = [httpx.get(f"{page}/{name}.js").text for name in ("call", "audio")]
    assert "./call.js" in html
    assert "./audio.js" in html
    answer = httpx.post(f"{page}/call")
    told = answer.json()
    assert told.keys() == {"value", "url"}
    assert told["value"].startswith("ek_")
    for text in (html, *scripts, answer.text, str(answer.headers)):
        assert KEY not in text
    # Its own files are all that it serves.
    assert httpx.get(f"{page}/../backend.py").status_code == 404
    assert httpx.get(f"{page}/%2e%2e/backend.py").status_code == 404


@pytest.mark.skipif(NODE is None, reason="Node runs the page's script")
async def test_the_page_holds_a_call(page: str, tmp_path: Path) -> None:
    seen = await browse(page, tmp_path, origin=page)
    assert "failed" not in seen, seen
    assert (seen["tier"], seen["status"], seen["problems"]) == ("A", "completed", [])
    # It begins with what the backend granted.
    assert seen["instructions"].startswith("You are a friendly voice on a web page.")
    assert seen["tools"] == []
    assert seen["seconds"] == pytest.approx(seen["queued"], abs=0.01)
    assert seen["seconds"] > 0.5
    assert seen["loudest"] > 0.01
    assert seen["same"]
    assert seen["words"]
    assert seen["heard"] == 250
    assert seen["ended"] == 1000


@pytest.mark.skipif(NODE is None, reason="Node runs the page's script")
@pytest.mark.parametrize("origin", [None, "https://evil.example.com"])
async def test_another_page_cannot_use_its_credentials(page: str, tmp_path: Path, origin: str | None) -> None:
    assert (await browse(page, tmp_path, origin))["failed"] == "the call was not let in"


def test_without_a_key_there_is_no_call_and_the_page_is_not_told_why(service: Stack, tmp_path: Path) -> None:
    log = tmp_path / "backend.log"
    with backend(service, log, key=planted.STRANGER) as url:
        answer = httpx.post(f"{url}/call")
        assert (answer.status_code, answer.json()) == (502, {"error": "no call can be made at the moment"})
    assert "no call: " in log.read_text()


def element(name: str) -> str:
    return f"document.getElementById('{name}')"


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")
@pytest.mark.parametrize("spoken", [False, True])
async def test_a_real_browser_holds_the_call(service: Stack, page: str, tmp_path: Path, spoken: bool) -> None:
    async with browser(tmp_path, page, AUDIO / "austen-0880.wav" if spoken else None) as tab:
        await tab.until(f"!!{element('call')}?.onclick")
        if spoken:
            await tab.run(f"{element('microphone')}.checked = true")
        await tab.run(f"{element('call')}.click()")
        assert await tab.until(f"{element('tier')}.textContent") == "Tier A"
        await tab.until(f"!{element('text')}.disabled")
        if not spoken:
            await tab.run(f"{element('text')}.value = 'Hello?'")
            await tab.run(f"{element('writing')}.requestSubmit()")
        await tab.until(f"{element('log')}.textContent.includes('Thank you')")
        await tab.run(f"{element('end')}.click()")
        await tab.until(f"{element('log')}.textContent.includes('the call has ended')")
        assert await tab.run(f"{element('call')}.disabled") is False
        assert tab.failures == []
    session = service.provider.get("/control/state")["connections"][-1]["session"]
    assert (session["audio_in_bytes"] > 48_000) is spoken
