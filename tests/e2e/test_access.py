"""As an operator does it: the first key without a server, a server on another address with TLS, keys that change."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import orjson
import websockets
from click.testing import CliRunner, Result

from orchestrator.cli import main
from tests.certificates import make_pair
from tests.e2e.stack import start


class Operator:
    """Somebody with the server's settings in their environment."""

    def __init__(self, **settings: str) -> None:
        self.env = {f"ORCHESTRATOR_{name.upper()}": value for name, value in settings.items()}

    async def run(self, *arguments: str) -> Result:
        without = {"OPENAI_API_KEY": None, "REDIS_URL": None, "ORCHESTRATOR_API_KEY": None}
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, env={**without, **self.env})

    async def keys(self, *arguments: str) -> dict[str, Any]:
        done = await self.run("keys", *arguments, "--json")
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found


async def test_a_server_is_opened_to_others_with_keys_and_tls(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    operator = Operator(
        server__host="0.0.0.0",
        server__tls_certificate=str(pair.certificate),
        server__tls_key=str(pair.key),
        access__keys_path=str(tmp_path / "keys.json"),
        business_events__sinks="none",
    )
    refused = await operator.run("serve", "--port", "0")
    assert refused.exit_code != 0
    assert "make a key with `orchestrator keys create`" in refused.output

    made = await operator.keys("create", "--name", "shop", "--scope", "service")
    looking = await operator.keys("create", "--name", "grafana", "--scope", "metrics")
    context = ssl.create_default_context(cafile=str(pair.certificate))
    log = tmp_path / "serve.log"
    with start("serve", "--port", "0", log=log, env=operator.env) as served:
        assert served.url.startswith("https://0.0.0.0:")
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=url, verify=context, trust_env=False) as client:

            async def code(path: str, key: str | None) -> Any:
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                answer = await client.get(path, headers=headers)
                return answer.json().get("error", {}).get("code", answer.status_code)

            async def until(wanted: Any, key: str) -> None:
                """A change is taken over within a second; a slow machine may need some more."""
                async with asyncio.timeout(10):
                    while await code("/v1/prompts", key) != wanted:
                        pass

            assert await code("/healthz", None) == 200
            assert await code("/v1/prompts", None) == "missing_api_key"
            assert await code("/v1/prompts", made["key"]) == 200
            assert await code("/v1/prompts", looking["key"]) == "scope_missing"
            assert await code("/v1/status", looking["key"]) == 200

            offered = [websockets.Subprotocol(f"openai-insecure-api-key.{made['key']}")]
            async with websockets.connect(
                f"{url.replace('http', 'ws', 1)}/v1/realtime?model=gpt-realtime-2.1",
                ssl=context,
                proxy=None,
                subprotocols=[websockets.Subprotocol("realtime"), *offered],
            ) as connection:
                created = orjson.loads(await connection.recv())
                assert created["type"] == "session.created"
                # More than one record of TLS, there and back.
                session = {"type": "realtime", "instructions": "x" * 200_000}
                await connection.send(json.dumps({"type": "session.update", "session": session}))
                async with asyncio.timeout(10):
                    while (told := orjson.loads(await connection.recv()))["type"] != "session.updated":
                        pass
                assert told["session"]["instructions"] == session["instructions"]
                status = await client.get("/v1/status", headers={"Authorization": f"Bearer {looking['key']}"})
                (call,) = status.json()["calls"]
                assert call["who"] == f"key_{made['id']}"

                new = await operator.keys("rotate", made["id"], "--overlap", "1h")
                await until(200, new["key"])
                assert await code("/v1/prompts", made["key"]) == 200
                await operator.keys("revoke", made["id"])
                await until("key_revoked", new["key"])
                assert await code("/v1/prompts", made["key"]) == "key_revoked"
                assert (await (await connection.ping())) >= 0, "the call that it opened goes on"
    secrets = [key["key"].split("_", 2)[2] for key in (made, looking, new)]
    left = (
        log.read_text() + (tmp_path / "keys.json").read_text() + (await operator.run("keys", "list")).stdout
    )
    assert not any(secret in left for secret in secrets)
    assert "grafana" in left
