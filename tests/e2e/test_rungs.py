"""Two providers of Tier A: calls go on at the second one, and come back to the first by canaries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import planted
from tests.clients.recorder import Recorder
from tests.e2e.stack import Running, Stack, stack, start

SPARE_KEY = planted.SPARE


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Running]]:
    """A service with two providers; the second takes its own key only."""
    folder = tmp_path_factory.mktemp("rungs")
    options = ("--speech", "tone", "--answer-seconds", "0.5", "--first-audio-ms", "50")
    with start("simulate", "realtime", *options, "--api-key", SPARE_KEY, log=folder / "spare.log") as spare:
        rung = {"model": "gpt-realtime-2.1-mini", "base_url": f"{spare.url}/v1", "api_key": SPARE_KEY}
        with stack(
            folder / "stack",
            *options,
            tier_a__rungs="gpt-realtime-2.1,spare",
            tier_a__rung=json.dumps({"spare": rung}),
            # Nothing but the calls of this test ends the trial.
            breaker__canary_share="0",
            breaker__canary_after_s="300",
        ) as running:
            yield running, spare


async def served_by(caller: Recorder) -> tuple[str, str]:
    await caller.update()
    tags = caller.session["orchestrator"]
    return tags["tier"], tags["rung"]


def first_rung(status: dict[str, Any]) -> str:
    return str(status["rungs"][0]["breaker"])


async def answer(caller: Recorder) -> None:
    await caller.send({"type": "response.create"})
    done = await caller.wait_for("response.done", timeout=30)
    assert done["response"]["status"] == "completed"


async def test_the_second_provider_serves_until_canaries_have_proved_the_first(
    two: tuple[Stack, Running],
) -> None:
    live, _ = two
    live.arm("refused", "connecting", count="forever")
    async with Recorder(live.realtime, orchestrator=True) as caller:
        # Refused while connecting: the caller knows nothing of it.
        assert await served_by(caller) == ("A", "spare")
        await answer(caller)
    status = live.service.get("/v1/status")
    assert first_rung(status) in ("open", "half_open")
    assert SPARE_KEY not in json.dumps(status)
    assert (status["next_call"]["tier"], status["next_call"]["rung"]) == ("A", "spare")

    live.disarm()
    live.service.until("/v1/status", lambda status: first_rung(status) == "canary")
    async with Recorder(live.realtime, orchestrator=True) as canary:
        assert await served_by(canary) == ("A", "gpt-realtime-2.1")
        # It is the canary; the next call is not one as well.
        async with Recorder(live.realtime, orchestrator=True) as other:
            assert await served_by(other) == ("A", "spare")
        for _ in range(3):
            assert await served_by(canary) == ("A", "gpt-realtime-2.1")
            await answer(canary)
    live.service.until("/v1/status", lambda status: first_rung(status) == "closed", 10.0)
    async with Recorder(live.realtime, orchestrator=True) as caller:
        assert await served_by(caller) == ("A", "gpt-realtime-2.1")
