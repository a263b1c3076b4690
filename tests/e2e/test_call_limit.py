"""A call lasts as long as it may: the caller hears a goodbye, and the connection is closed with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from orchestrator import models
from orchestrator.protocol.audio import AudioFormat, hear
from tests.clients.recorder import ConnectionEnded, Recorder
from tests.e2e.stack import Engines, Stack, stack
from tiers.pipeline.stt import WhisperTranscriber

SERVER_S, GRANT_S = 5.0, 3.0

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines) -> Iterator[Stack]:
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50", "--pace", "8")
    # Its own voice: the goodbye is to be understood.
    quick = {name: value for name, value in tier_b.settings.items() if "__tts_" not in name}
    settings = {**quick, "tier_b__speech": "auto", "limits__call_s": f"{SERVER_S:g}"}
    with stack(tmp_path_factory.mktemp("short"), *provider, **settings) as running:
        yield running


@pytest.mark.parametrize(
    ("set_by", "limit", "tier"),
    [
        ("grant", GRANT_S, "A"),
        ("server", SERVER_S, "B"),
        ("grant", GRANT_S, "B"),
        ("server", SERVER_S, "A"),
    ],
)
async def test_a_call_ends_with_a_goodbye_when_its_time_is_over(
    short: Stack, set_by: str, limit: float, tier: str
) -> None:
    user = f"{set_by}-{tier}"
    if tier == "B":
        short.force("B", f"user:{user}")
    url, key = f"{short.realtime}&user={user}", "any"
    if set_by == "grant":
        answer = short.service.post("/realtime/session", {"user": user, "max_s": limit}).json()
        url, key = answer["connect"]["url"], answer["value"]
    began = asyncio.get_running_loop().time()
    async with Recorder(url, api_key=key, orchestrator=True) as caller:
        call_id = (await caller.wait_session())["orchestrator"]["call_id"]
        assert (await caller.ask("Hello", timeout=30))["metadata"]["tier"] == tier
        with pytest.raises(ConnectionEnded):
            await caller.wait_for("session.created", timeout=30)
        lasted = asyncio.get_running_loop().time() - began
        # The call is over, and its client hears that from memory, whichever tier served.
        (goodbye,) = short.rows(call_id, "goodbye")
        assert "end this call" in goodbye["text"]
        assert caller.said()[-1] == goodbye["text"]
        audio = list(caller.audio().values())[-1]
        spoken = await WhisperTranscriber(models.whisper()).transcribe(hear(audio, AudioFormat.PCM))
        assert "end this call" in spoken.text.lower()
        assert caller.close_code == 1000
        assert caller.close_reason == f"the call has lasted as long as it may: {limit:g} s"
        # What the goodbye takes was waited for, and no more.
        assert limit + len(audio) / 48_000 < lasted < limit + 20
    (row,) = short.rows(call_id, "call_limit")
    assert (row["limit_s"], row["set_by"], row["tier"]) == (limit, set_by, tier)
    triggers = [each["trigger"] for each in short.rows(call_id, "handover")]
    assert triggers == (["limit"] if tier == "A" else [])
    short.service.until("/v1/status", lambda status: not status["calls"])
    assert short.rows(call_id, "call_ended")
