"""Transcription from rung to rung: who is asked, for how long, what it costs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.responses import JSONResponse

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import Charge, Transcript
from orchestrator.protocol.audio import HEAR_RATE, Float32
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.rungs import Resting
from tiers.pipeline.stt import EndpointTranscriber, WhisperTranscriber
from tiers.pipeline.stt_rungs import TranscriptionRungs

SECOND = np.zeros(HEAR_RATE, dtype=np.float32)


def charge(rung: str, *, estimated: bool = False) -> Charge:
    return Charge("transcription", rung, 100, {"seconds": 1.0}, estimated)


class Rung:
    """Plays the given outcomes in order, the last one for ever: words, a failure, or None for silence."""

    def __init__(self, rung: str, *outcomes: str | Exception | None) -> None:
        self.rung = rung
        self._outcomes = list(outcomes)
        self.asked = 0
        self.warmed = False

    async def warm(self) -> None:
        if isinstance(self._outcomes[0], ModelMissing):
            raise self._outcomes[0]
        self.warmed = True

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        self.asked += 1
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if outcome is None:
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return Transcript(str(outcome), len(audio) / HEAR_RATE, charges=(charge(self.rung),))

    def worst(self, seconds: float) -> int:
        return 100

    def given_up(self, samples: int) -> tuple[Charge, ...]:
        return (charge(self.rung, estimated=True),)


def failed(cause: Cause, *charges: Charge) -> TranscriptionFailed:
    return TranscriptionFailed(cause, "told to fail", charges=charges)


async def test_the_first_rung_is_enough() -> None:
    first, second = Rung("a", "Yes."), Rung("b", "No.")
    transcript = await TranscriptionRungs([first, second]).transcribe(SECOND)
    assert transcript == Transcript("Yes.", 1.0, charges=(charge("a"),))
    assert second.asked == 0


async def test_no_words_are_an_answer() -> None:
    first, second = Rung("a", ""), Rung("b", "No.")
    assert (await TranscriptionRungs([first, second]).transcribe(SECOND)).text == ""
    assert second.asked == 0


@pytest.mark.parametrize(
    "failure",
    [failed(Cause.REFUSED), failed(Cause.UNAVAILABLE), failed(Cause.BAD_REQUEST), failed(Cause.EMPTY)],
)
async def test_a_rung_that_fails_gives_way_at_once(failure: TranscriptionFailed) -> None:
    first, second = Rung("a", failure), Rung("b", "No.")
    assert (await TranscriptionRungs([first, second]).transcribe(SECOND)).text == "No."
    assert first.asked == 1


async def test_a_rung_that_is_too_slow_gives_way_and_is_paid_for() -> None:
    rungs = TranscriptionRungs([Rung("a", None), Rung("b", "No.")], timeout=0.0)
    transcript = await asyncio.wait_for(rungs.transcribe(SECOND), 5)
    assert transcript.charges == (charge("a", estimated=True), charge("b"))
    assert sum(c.nanodollars for c in transcript.charges) <= rungs.worst(1.0)


async def test_the_last_rung_is_waited_for_no_longer_than_the_turn() -> None:
    rungs = TranscriptionRungs([Rung("a", None), Rung("b", None)], timeout=9.0, within=0.8)
    with pytest.raises(TranscriptionFailed) as caught:
        await asyncio.wait_for(rungs.transcribe(SECOND), 5)
    assert caught.value.cause is Cause.TIMEOUT
    assert [c.model for c in caught.value.charges] == ["a", "b"]


async def test_every_charge_of_a_failure_is_told() -> None:
    malformed = [failed(Cause.MALFORMED, charge(name)) for name in "ab"]
    rungs = TranscriptionRungs([Rung("a", malformed[0]), Rung("b", malformed[1])])
    with pytest.raises(TranscriptionFailed) as caught:
        await rungs.transcribe(SECOND)
    assert caught.value.charges == (charge("a"), charge("b"))


async def test_what_was_paid_for_in_vain_is_told_where_the_last_weights_are_missing(tmp_path: Any) -> None:
    paid = Rung("a", failed(Cause.MALFORMED, charge("a")))
    with pytest.raises(TranscriptionFailed) as caught:
        await TranscriptionRungs([paid, WhisperTranscriber(tmp_path)]).transcribe(SECOND)
    assert (caught.value.cause, caught.value.charges) == (Cause.MISSING, (charge("a"),))


async def test_what_may_pass_and_cost_nothing_is_tried_again_after_the_others() -> None:
    busy, refused = Rung("a", failed(Cause.RATE_LIMITED), "Yes."), Rung("b", failed(Cause.REFUSED))
    transcript = await TranscriptionRungs([busy, refused]).transcribe(SECOND)
    assert (transcript.text, busy.asked, refused.asked) == ("Yes.", 2, 1)


@pytest.mark.parametrize("failure", [failed(Cause.TIMEOUT), failed(Cause.UNAVAILABLE, charge("a"))])
async def test_what_may_have_been_billed_is_not_asked_twice(failure: TranscriptionFailed) -> None:
    rung = Rung("a", failure)
    with pytest.raises(TranscriptionFailed):
        await TranscriptionRungs([rung]).transcribe(SECOND)
    assert rung.asked == 1


async def test_nothing_is_tried_again_when_the_time_is_up() -> None:
    rung = Rung("a", failed(Cause.UNAVAILABLE))
    with pytest.raises(TranscriptionFailed):
        await TranscriptionRungs([rung], within=0.01).transcribe(SECOND)
    assert rung.asked == 1


async def test_a_rung_that_failed_rests_and_is_asked_last() -> None:
    first, second = Rung("a", failed(Cause.REFUSED)), Rung("b", "Yes.", failed(Cause.REFUSED), "No.")
    rungs = TranscriptionRungs([first, second], health=Resting(clock=lambda: 0.0))
    await rungs.transcribe(SECOND)
    with pytest.raises(TranscriptionFailed):
        await rungs.transcribe(SECOND)
    assert (first.asked, second.asked) == (2, 2)


async def test_missing_weights_leave_it_to_the_others(tmp_path: Any) -> None:
    local, other = WhisperTranscriber(tmp_path), Rung("b", "No.")
    rungs = TranscriptionRungs([local, other])
    await rungs.warm()
    assert other.warmed
    assert (await rungs.transcribe(SECOND)).text == "No."
    with pytest.raises(ModelMissing):
        await TranscriptionRungs([local]).warm()
    with pytest.raises(ModelMissing):
        await TranscriptionRungs([local]).transcribe(SECOND)


def test_without_a_rung_there_is_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        TranscriptionRungs([])


# With what they are made of


async def test_whisper_stands_in_for_a_server_that_is_away(
    whisper: WhisperTranscriber, human: Callable[[str], Float32]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    away = EndpointTranscriber(closed, "key", "m", price=ModelPrice(per_minute=0.006))
    transcript = await TranscriptionRungs([away, whisper]).transcribe(human("cards-001.wav"))
    assert "clubs" in transcript.text
    assert transcript.charges == ()
    await away.close()


async def test_whisper_stands_in_for_a_server_that_hangs(
    openai: Any, whisper: WhisperTranscriber, human: Callable[[str], Float32]
) -> None:
    openai.streams(hang=True, media_type="application/json")
    server = EndpointTranscriber(openai.address, "key", "m", price=ModelPrice(per_minute=0.006))
    rungs = TranscriptionRungs([server, whisper], timeout=0.1)
    transcript = await rungs.transcribe(human("cards-001.wav"))
    assert "clubs" in transcript.text
    assert [(c.model, c.estimated) for c in transcript.charges] == [("stt-endpoint", True)]
    await server.close()


async def test_a_server_that_makes_words_up_is_not_believed(openai: Any) -> None:
    async def reply(request: Any) -> Any:
        return JSONResponse({"text": "Thank you for watching!"})

    openai.reply = reply
    server = EndpointTranscriber(openai.address, "key", "m")
    assert (await TranscriptionRungs([server]).transcribe(SECOND)).text == ""
    await server.close()
