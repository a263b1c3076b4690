"""Everything that the service talks to repeats the keys that it is given: in refusals, errors, reasons and answers.

The service logs all it can. Neither its callers nor those who ask its API are shown one of those keys, and none stands
in what it writes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests import planted, planted_check
from tests.e2e.stack import Running, start

pytestmark = pytest.mark.long
TELLING = ("authorization", "x-api-key", "x-key")
ASKED = (
    ("POST", "/v1/audio/speech", {"input": "hello", "voice": "marin", "model": "tts-1"}),
    ("POST", "/realtime/session", {"media": "direct"}),
    ("POST", "/v1/route", {}),
    ("POST", "/v1/overrides", {"tier": "C", "reason": f"never use {planted.SERVER}"}),
    *(("GET", path, None) for path in ("/v1/status", "/v1/calls", "/v1/history", "/metrics", "/readyz")),
)


def told(headers: Mapping[str, str]) -> str:
    return " ".join(f"{name}={headers[name]}" for name in TELLING if name in headers)


class Repeating:
    """A provider of everything. `ways`: how the next sessions end; the last one for ever."""

    def __init__(self, *ways: str) -> None:
        self.ways = list(ways)
        self.asked: list[str] = []
        routes = [WebSocketRoute("/{path:path}", self.session)]
        http = Route("/{path:path}", self.refuse, methods=["GET", "POST"])
        self.app = Starlette(routes=[*routes, http])

    async def refuse(self, request: Request) -> JSONResponse:
        self.asked.append(request.url.path)
        said = told(request.headers)
        return JSONResponse({"error": {"message": f"refused: {said}", "code": "invalid", "param": said}}, 401)

    async def session(self, socket: WebSocket) -> None:
        way = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        self.asked.append(way)
        said = told(socket.headers)
        if way == "refuses":
            await socket.send_denial_response(JSONResponse({"error": {"message": said}}, 401))
            return
        await socket.accept()
        session = {"type": "realtime", "id": "sess_1", "model": "gpt-realtime-2.1"}
        await socket.send_json({"type": "session.created", "event_id": "event_1", "session": session})
        try:
            await socket.receive_text()
            error = {"type": "invalid_request_error", "code": "invalid", "message": said, "param": said}
            await socket.send_json({"type": "error", "event_id": "event_2", "error": error})
            await socket.close(4001, said[:120])
        except WebSocketDisconnect:
            pass


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


def settings(url: str, folder: Path) -> dict[str, str]:
    named = {
        "openai__api_key": planted.PROVIDER,
        "openai__base_url": f"{url}/v1",
        "server__api_key": planted.SERVER,
        "server__log_level": "debug",
        "server__events_path": str(folder / "events.jsonl"),
        "access__keys_path": str(folder / "keys.json"),
        "audit__path": str(folder / "audit.jsonl"),
        "cache__dir": str(folder / "cache"),
        "credentials__direct": "true",
        "redis__url": f"redis://:{planted.REDIS}@127.0.0.1:1/0",
        "business_events__path": str(folder / "business.jsonl"),
        "business_events__sinks": '["file", "webhook"]',
        "business_events__url": f"{url}/hook",
        "business_events__secret": planted.WEBHOOK,
        "telemetry__otlp_endpoint": url,
        "telemetry__otlp_headers": json.dumps({"x-key": planted.COLLECTOR}),
        "tier_b__agent_model": "openai/gpt-4.1-mini",
        "tier_b__agent_base_url": f"{url}/v1",
        "tier_b__agent_api_key": planted.AGENT,
        "tier_b__stt_base_url": f"{url}/v1",
        "tier_b__stt_model": "whisper-1",
        "tier_b__stt_api_key": planted.EARS,
        "tier_b__stt_usd_per_minute": "0",
        "tier_b__stt_fallback": "false",
        "tier_b__speech": "endpoint",
        "tier_b__tts_base_url": f"{url}/v1",
        "tier_b__tts_model": "tts-1",
        "tier_b__tts_api_key": planted.VOICE,
        "tier_b__tts_usd_per_character": "0",
    }
    return {f"ORCHESTRATOR_{name.upper()}": value for name, value in named.items()}


async def call(service: Running) -> list[str]:
    """What a caller is sent who asks something, until the answer is over."""
    said: list[str] = []
    headers = {"Authorization": f"Bearer {planted.SERVER}"}
    url = f"{service.ws}/v1/realtime?model=gpt-realtime-2.1"
    async with (
        asyncio.timeout(30),
        websockets.connect(url, additional_headers=headers, proxy=None) as connection,
    ):
        content = [{"type": "input_text", "text": "Where is my order?"}]
        item = {"type": "message", "role": "user", "content": content}
        await connection.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await connection.send(json.dumps({"type": "response.create"}))
        async for frame in connection:
            said.append(str(frame))
            if json.loads(frame)["type"] == "response.done":
                break
    return said


@pytest.mark.parametrize("way", ["refuses", "complains"])
async def test_a_key_that_is_repeated_is_shown_nowhere(way: str, tmp_path: Path) -> None:
    provider = Repeating(way)
    with serving(provider.app) as url:
        with start("serve", "--port", "0", log=tmp_path / "log", env=settings(url, tmp_path)) as service:
            for frame in await call(service):
                planted_check.note(frame.encode(), "what a caller was sent")
            async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as client:
                for key in (planted.SERVER, planted.STRANGER):
                    for method, path, body in ASKED:
                        headers = {"Authorization": f"Bearer {key}"}
                        answer = await client.request(method, path, json=body, headers=headers)
                        planted_check.note(answer.content, f"the answer to {method} {path}")
        assert {way, "/v1/audio/speech", "/v1/realtime/client_secrets", "/v1/traces", "/hook"} <= {
            *provider.asked
        }
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [row for row in rows if row["type"] in ("provider_lost", "provider_error")]
    assert "DEBUG" in (tmp_path / "log").read_text()
    assert [str(leak) for leak in planted_check.search(tmp_path)] == []
