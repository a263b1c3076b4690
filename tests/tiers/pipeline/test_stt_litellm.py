"""Transcription through LiteLLM: what is sent, what it costs, what its failures mean."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.core.price_list import ModelPrice
from orchestrator.core.prices import PriceTable
from orchestrator.protocol.audio import HEAR_RATE
from tests import planted
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.stt_litellm import CloudTranscriber

SECOND = np.zeros(HEAR_RATE, dtype=np.float32)
MODEL = "openai/ears"
PRICES = PriceTable({MODEL: ModelPrice(audio_in=1.25, text_in=1.25, text_out=5.0, per_minute=0.003)})


@pytest.fixture
def cloud(openai: Any) -> CloudTranscriber:
    return CloudTranscriber(MODEL, PRICES, api_key=planted.EARS, base_url=openai.address, timeout=5.0)


def says(openai: Any, text: str, **more: Any) -> None:
    async def reply(request: Request) -> Response:
        return JSONResponse({"text": text, **more})

    openai.reply = reply


async def test_the_provider_is_sent_the_audio_and_the_language(openai: Any, cloud: CloudTranscriber) -> None:
    says(openai, " Where is my order? ")
    transcript = await cloud.transcribe(SECOND, "en-US")
    assert (transcript.text, transcript.seconds) == ("Where is my order?", 1.0)
    assert (openai.requests[0]["model"], openai.requests[0]["language"]) == ("ears", "en")


@pytest.mark.parametrize(
    ("usage", "nanodollars", "estimated"),
    [
        ({"type": "duration", "seconds": 2}, 100_000, False),
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"audio_tokens": 10, "text_tokens": 4},
                "output_tokens": 45,
                "total_tokens": 59,
            },
            14 * 1_250 + 45 * 5_000,
            False,
        ),
        (None, PRICES.worst_transcription(MODEL, 1.0), True),
    ],
)
async def test_a_transcript_costs_what_its_usage_says_or_at_most(
    openai: Any, cloud: CloudTranscriber, usage: Any, nanodollars: int, estimated: bool
) -> None:
    says(openai, "Yes.", **({"usage": usage} if usage else {}))
    (charge,) = (await cloud.transcribe(SECOND)).charges
    assert (charge.model, charge.nanodollars, charge.estimated) == (MODEL, nanodollars, estimated)
    assert charge.nanodollars <= cloud.worst(1.0)


@pytest.mark.parametrize(
    ("status", "cause", "billed"),
    [
        (401, Cause.REFUSED, False),
        (404, Cause.BAD_REQUEST, False),
        (429, Cause.RATE_LIMITED, False),
        (500, Cause.UNAVAILABLE, False),
        (504, Cause.TIMEOUT, True),
    ],
)
async def test_a_failure_is_told_once_and_without_secrets(
    openai: Any, cloud: CloudTranscriber, status: int, cause: Cause, billed: bool
) -> None:
    openai.fails(status)
    with pytest.raises(TranscriptionFailed) as caught:
        await cloud.transcribe(SECOND)
    assert (caught.value.cause, bool(caught.value.charges), len(openai.requests)) == (cause, billed, 1)
    assert planted.EARS not in str(caught.value)


async def test_a_silent_provider_is_given_up_and_may_bill(openai: Any) -> None:
    openai.streams(hang=True, media_type="application/json")
    cloud = CloudTranscriber(MODEL, PRICES, api_key=planted.EARS, base_url=openai.address, timeout=0.1)
    with pytest.raises(TranscriptionFailed) as caught:
        await asyncio.wait_for(cloud.transcribe(SECOND), 10)
    assert caught.value.cause is Cause.TIMEOUT
    assert [charge.nanodollars for charge in caught.value.charges] == [cloud.worst(1.0)]


async def test_who_is_not_reached_bills_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    cloud = CloudTranscriber(MODEL, PRICES, api_key=planted.EARS, base_url=closed)
    with pytest.raises(TranscriptionFailed) as caught:
        await cloud.transcribe(SECOND)
    assert (caught.value.cause, caught.value.charges) == (Cause.UNAVAILABLE, ())


async def test_what_is_made_up_over_silence_is_dropped(openai: Any, cloud: CloudTranscriber) -> None:
    says(openai, "Thank you for watching!")
    assert (await cloud.transcribe(SECOND)).text == ""
    openai.requests.clear()
    assert (await cloud.transcribe(SECOND[:100])).charges == ()
    assert openai.requests == []
