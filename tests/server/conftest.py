"""Two replicas on one store, on either kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.server.fleet import Fleet
from orchestrator.server.store import EmbeddedStore, RedisStore, Store
from tests.server.fleets import Wall, make_fleet
from tests.server.test_store import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("fleet"))
    yield server
    server.stop()


_namespaces = iter(range(1000))


@pytest.fixture(params=["embedded", "redis"])
async def pair(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[tuple[Fleet, Fleet]]:
    """Two replicas on one store."""
    stores: list[Store]
    if request.param == "embedded":
        stores = [EmbeddedStore()] * 2
    else:
        namespace = f"fleet{next(_namespaces)}:"
        stores = [RedisStore(redis.url, 2.0, namespace) for _ in range(2)]
    wall = Wall()
    fleets = make_fleet(stores[0], wall), make_fleet(stores[1], wall)
    for fleet in fleets:
        await fleet.start()
    yield fleets
    for fleet, store in zip(fleets, stores, strict=True):
        await fleet.close()
        await store.close()
