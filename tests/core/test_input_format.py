"""The format of the caller's audio, which the call keeps and later tiers hear, whoever serves when it is set."""

from __future__ import annotations

import pytest

from orchestrator.core.actions import ToUpstreamFrame
from orchestrator.core.grants import Grant
from orchestrator.protocol.audio import AudioFormat
from tests.core.bench import Bench, append, audio_input, local, lose

PCMU = audio_input(format={"type": "audio/pcmu"})
SPOKEN = bytes(range(160))
"""20 ms of μ-law."""


def spoken(bench: Bench, count: int = 50) -> None:
    for _ in range(count):
        bench.call.client_audio(append(SPOKEN), bench.now)
    bench.settle()


def heard(bench: Bench) -> tuple[AudioFormat, float, bytes]:
    """What the next tier has to go by."""
    kept = bench.call.ctx.input
    return kept.format, kept.total_ms, kept.slice(0.0)


def test_a_telephone_in_tier_a_is_a_telephone_for_the_next_tier() -> None:
    bench = Bench()
    bench.connect()
    bench.client(PCMU)
    spoken(bench)
    assert heard(bench) == (AudioFormat.PCMU, 1000.0, SPOKEN * 50)
    bench.confirm_updates()
    bench.tier = "B"
    lose(bench)
    assert heard(bench) == (AudioFormat.PCMU, 1000.0, SPOKEN * 50)


def test_what_a_telephone_says_before_there_is_a_session_is_kept_as_that() -> None:
    bench = Bench()
    bench.call.start(bench.now)
    bench.settle()
    bench.client(PCMU)
    spoken(bench)
    assert heard(bench) == (AudioFormat.PCMU, 1000.0, SPOKEN * 50)
    bench.connect()
    assert heard(bench) == (AudioFormat.PCMU, 1000.0, SPOKEN * 50)
    assert [sent.frame for sent in bench.all(ToUpstreamFrame)] == [append(SPOKEN)] * 50


@pytest.mark.parametrize("tier", ["A", "B"])
def test_where_the_format_is_granted_it_stays(tier: str) -> None:
    grant = Grant(
        "call_1",
        session={"audio": {"input": {"format": {"type": "audio/pcmu"}}}},
        locked=frozenset({"audio"}),
    )
    bench = Bench(grant=grant)
    local(bench) if tier == "B" else bench.call.start(bench.now)
    bench.client(audio_input(format={"type": "audio/pcm", "rate": 24000}))
    spoken(bench)
    if tier == "A":
        bench.connect()
    assert bench.call.ctx.input.format is AudioFormat.PCMU


def test_a_format_that_the_provider_refuses_is_not_the_callers() -> None:
    bench = Bench()
    bench.connect()
    bench.client({**PCMU, "event_id": "ev_1"})
    error = {
        "type": "invalid_request_error",
        "code": "invalid_value",
        "message": "No.",
        "param": "session.audio",
    }
    bench.provider("error", error={**error, "event_id": "ev_1"})
    assert bench.call.ctx.input.format is AudioFormat.PCM
