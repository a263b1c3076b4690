"""Answers and read-backs that were really spoken and written down: what the rules are given in a call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from orchestrator.core.consent import Consent, judge, readback, was_read_back
from orchestrator.core.entities import capture
from orchestrator.core.tools import Tool
from orchestrator.protocol.audio import Float32, Pcm16
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.stt import WhisperTranscriber

CANCEL = Tool("cancel_order", readback="cancel order {order_id}", entities={"order_id": "order_number"})
ORDER = {"order_id": "4172"}


@pytest.fixture
def written(kokoro: KokoroSpeech, whisper: WhisperTranscriber, heard: Callable[[Pcm16], Float32]):
    """What Whisper writes down when Kokoro says some words."""

    async def write(words: str) -> str:
        pcm = np.concatenate([piece async for piece in kokoro.speak(words)])
        return (await whisper.transcribe(heard(pcm), "en")).text

    return write


@pytest.mark.parametrize(
    ("answer", "consent"),
    [
        ("Yes, go ahead.", Consent.YES),
        ("That's right.", Consent.YES),
        ("Yes, cancel order four one seven two.", Consent.YES),
        ("No, thanks.", Consent.NO),
        ("Yes, but make it four one seven three.", Consent.CHANGE),
        ("Okay.", Consent.UNCLEAR),
    ],
)
async def test_a_spoken_answer_is_judged_from_its_transcript(written, answer: str, consent: Consent) -> None:
    words = await written(answer)
    assert judge(words, "en", ORDER) is consent, words


async def test_a_spoken_read_back_is_recognised(written) -> None:
    words = await written(readback(CANCEL, ORDER))
    assert was_read_back(words, CANCEL, ORDER), words
    assert not was_read_back(words, CANCEL, {"order_id": "4173"})


async def test_a_number_that_is_spelled_with_words_is_taken_down(written) -> None:
    words = await written("My order number is B as in Bravo, D as in Delta, nine oh three five.")
    assert capture("order_number", words) == "BD9035", words
