"""Prompts that change while the server runs: by their file, and by the API, for all replicas."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cache import ClipCache
from orchestrator.config_sections import TierC
from orchestrator.protocol.audio import AudioFormat
from orchestrator.server.definitions import KEY, MOST_BYTES, Definitions, UnknownDefinition
from orchestrator.server.http import build_api
from orchestrator.server.store import EmbeddedStore, RedisStore, Store, StoreUnavailable
from tests import planted_check
from tests.server.test_http import Server, make_server
from tests.server.test_store import RedisServer
from tests.tiers.prompts.conftest import Hum
from tiers.prompts.catalogue import Catalogue, CatalogueInvalid
from tiers.prompts.prompts import Prompts

HELLO = {"text": {"en": "Hello {name}."}, "variables": {"name": {"type": "text"}}}


def make_prompts(*paths: Path) -> Prompts:
    return Prompts(Catalogue.load(*paths), ClipCache(), Hum())


def replica(store: Store, path: Path | None = None) -> Definitions:
    return Definitions(TierC(catalogue=path), store, make_prompts(*filter(None, (path,))))


def catalogue_of(definitions: Definitions) -> Catalogue:
    return definitions._prompts.catalogue


def change(path: Path, text: str) -> None:
    """Writes, and makes sure that the file is seen to be newer whatever the file system's clock."""
    before = path.stat().st_mtime_ns
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.fixture(params=["embedded", "redis"])
async def pair(request, redis: RedisServer) -> AsyncIterator[tuple[Definitions, Definitions]]:
    """Two replicas on one store."""
    stores: list[Store] = [EmbeddedStore()] * 2
    if request.param == "redis":
        namespace = f"{request.node.name}:"
        stores = [RedisStore(redis.url, 2.0, namespace) for _ in range(2)]
    yield replica(stores[0]), replica(stores[1])
    for store in stores:
        await store.close()


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "own.yaml"
        path.write_text("greeting:\n  text:\n    en: Hello.\n")
        return path

    async def test_a_file_that_changes_is_taken_over(self, path):
        definitions = replica(EmbeddedStore(), path)
        assert not await definitions.refresh()
        change(path, "greeting:\n  text:\n    en: Good day.\n")
        assert await definitions.refresh()
        assert catalogue_of(definitions).fill("greeting").text == "Good day."
        assert not await definitions.refresh()

    async def test_one_that_is_wrong_changes_nothing_and_is_told(self, path, caplog):
        definitions = replica(EmbeddedStore(), path)
        change(path, "greeting: {text: {en: 'Hello {nobody}.'}}")
        assert not await definitions.refresh()
        assert "'nobody' is not among its variables" in definitions.problem
        assert "the prompts stay as they were" in caplog.text
        assert catalogue_of(definitions).fill("greeting").text == "Hello."
        change(path, "greeting: {text: {en: Hi.}}")
        os.utime(path, ns=(path.stat().st_mtime_ns + 10**9,) * 2)
        assert await definitions.refresh()
        assert definitions.problem == ""

    async def test_one_that_is_gone_changes_nothing(self, path):
        definitions = replica(EmbeddedStore(), path)
        path.unlink()
        assert not await definitions.refresh()
        assert "cannot read the prompt catalogue" in definitions.problem
        assert "greeting" in catalogue_of(definitions)

    async def test_what_is_warm_is_made_anew_before_it_is_used(self, path):
        definitions = replica(EmbeddedStore(), path)
        prompts = definitions._prompts
        await prompts.warm([AudioFormat.PCM])
        before = prompts.clip("greeting", AudioFormat.PCM)
        other = prompts.clip("goodbye", AudioFormat.PCM)
        change(path, "greeting: {text: {en: Good day.}}\nlater: {text: {en: Later.}}")
        await definitions.refresh()
        after = prompts.clip("greeting", AudioFormat.PCM)
        assert after is not None
        assert after != before
        assert prompts.clip("later", AudioFormat.PCM) is not None
        assert prompts.clip("goodbye", AudioFormat.PCM) is other

    async def test_a_bridge_that_the_settings_name_has_to_stay_one(self, path):
        definitions = replica(EmbeddedStore(), path)
        change(path, "one_moment: {bridge: no}")
        assert not await definitions.refresh()
        assert "one_moment: the settings use it as a bridge" in definitions.problem


class TestDefinitions:
    async def test_a_prompt_is_defined_for_all_replicas(self, pair):
        one, other = pair
        prompt = await one.put("hello", HELLO)
        assert prompt.variables["name"].type == "text"
        assert catalogue_of(one).fill("hello", {"name": "Ann"}).text == "Hello Ann."
        assert "hello" not in catalogue_of(other)
        assert await other.refresh()
        assert catalogue_of(other).fill("hello", {"name": "Ann"}).text == "Hello Ann."
        assert not await one.refresh()

    async def test_a_built_in_prompt_is_reworded_and_comes_back(self, pair):
        one, other = pair
        await one.put("goodbye", {"text": {"de": "Auf Wiederhören."}})
        assert catalogue_of(one).fill("goodbye", language="de").text == "Auf Wiederhören."
        assert catalogue_of(one).fill("goodbye").text.endswith("Goodbye.")
        assert one.prompts()["goodbye"][1] == "api"
        await other.delete("goodbye")
        assert await one.refresh()
        assert one.prompts()["goodbye"][1] == "built_in"
        assert catalogue_of(one).written("goodbye", "de") is None

    async def test_replicas_that_do_not_know_of_each_other_lose_nothing(self, pair):
        one, other = pair
        await one.put("first", HELLO)
        await other.put("second", HELLO)
        await one.refresh()
        for definitions in pair:
            assert {"first", "second"} <= set(catalogue_of(definitions))

    async def test_what_is_wrong_is_refused_and_not_kept(self, pair):
        one, other = pair
        with pytest.raises(CatalogueInvalid, match="'nobody' is not among its variables"):
            await one.put("hello", {"text": {"en": "Hello {nobody}."}})
        with pytest.raises(CatalogueInvalid, match="one_moment: the settings use it as a bridge"):
            await one.put("one_moment", {"bridge": False})
        with pytest.raises(CatalogueInvalid, match="name of small letters"):
            await one.put("Hello!", HELLO)
        with pytest.raises(CatalogueInvalid, match="at most"):
            await one.put("hello", {"text": {"en": "x" * MOST_BYTES}})
        with pytest.raises(UnknownDefinition):
            await one.delete("goodbye")
        assert not await other.refresh()

    async def test_what_somebody_else_wrote_there_is_told(self, pair):
        one, _ = pair
        await one._store.put(KEY, "nonsense")
        assert not await one.refresh()
        assert "are no prompts; delete that key" in one.problem
        await one._store.delete(KEY)

    async def test_without_the_store_nothing_is_defined(self, monkeypatch):
        store = EmbeddedStore()
        definitions = replica(store)

        async def away(*_: Any, **__: Any) -> str:
            raise StoreUnavailable("away")

        monkeypatch.setattr(store, "get", away)
        with pytest.raises(StoreUnavailable):
            await definitions.put("hello", HELLO)
        assert "hello" not in catalogue_of(definitions)


class TestApi:
    @pytest.fixture
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        server: Server = make_server()
        service: Any = SimpleNamespace(**vars(server), calls=server.calls, readiness=server.readiness)
        self.definitions = service.definitions = replica(EmbeddedStore())
        transport = planted_check.transport(build_api(service), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            yield client

    async def test_prompts_are_listed_with_what_their_variables_take(self, client):
        body = (await client.get("/v1/prompts")).json()
        found = {prompt["name"]: prompt for prompt in body["prompts"]}
        assert found["order_status"]["render"] == "stitched"
        assert found["order_status"]["origin"] == "built_in"
        assert found["order_status"]["variables"]["order_id"]["type"] == "spelled_id"
        assert "letters and digits" in found["order_status"]["variables"]["order_id"]["expected"]
        assert body["problem"] is None

    async def test_a_prompt_is_put_and_taken_back(self, client):
        answer = await client.put("/v1/prompts/hello", json=HELLO | {"version": "7"})
        assert answer.status_code == 200
        assert (answer.json()["version"], answer.json()["origin"]) == ("7", "api")
        assert catalogue_of(self.definitions).fill("hello", {"name": "Ann"}).text == "Hello Ann."
        assert (await client.delete("/v1/prompts/hello")).status_code == 204
        gone = await client.delete("/v1/prompts/hello")
        assert gone.status_code == 404
        assert "there are: none" in gone.json()["error"]["message"]

    async def test_a_wrong_one_is_told_what_is_wrong(self, client):
        answer = await client.put("/v1/prompts/hello", json={"text": {"en": "Hello."}, "colour": "red"})
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "invalid_prompt"
        assert "colour: Extra inputs are not permitted" in answer.json()["error"]["message"]

    async def test_with_the_store_away_it_says_so(self, client, monkeypatch):
        async def away(*_: Any) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr(self.definitions, "put", away)
        answer = await client.put("/v1/prompts/hello", json=HELLO)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_away")
