"""The model inside the process."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from orchestrator.models import ModelMissing
from tiers.pipeline.embedded import EmbeddedModel, Piece
from tiers.pipeline.errors import AgentFailed, Cause

GREETING = [
    {"role": "system", "content": "Answer in one short sentence."},
    {"role": "user", "content": "Say hello to the caller."},
]


async def test_it_answers_piece_by_piece_and_tells_the_tokens(smollm2: EmbeddedModel) -> None:
    pieces = [piece async for piece in smollm2.stream(GREETING)]
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces).strip()
    end = pieces[-1]
    assert (end.text, end.finish) == ("", "stop")
    assert end.input_tokens > 10
    assert end.output_tokens >= len(pieces) - 2


async def test_it_ends_at_the_token_limit_and_says_so(smollm2: EmbeddedModel) -> None:
    pieces = [piece async for piece in smollm2.stream(GREETING, max_tokens=3)]
    assert pieces[-1] == Piece("", "length", pieces[-1].input_tokens, 3)


async def test_a_conversation_that_does_not_fit_is_refused(smollm2: EmbeddedModel) -> None:
    with pytest.raises(AgentFailed, match="exceed_context_size") as caught:
        async for _ in smollm2.stream([{"role": "user", "content": "hello " * 4000}]):
            pass
    assert caught.value.cause is Cause.BAD_REQUEST


async def test_two_callers_at_once(smollm2: EmbeddedModel) -> None:
    async def words() -> str:
        return "".join([piece.text async for piece in smollm2.stream(GREETING, max_tokens=12)])

    first, second = await asyncio.gather(words(), words())
    assert first.strip()
    assert second.strip()


async def test_leaving_stops_the_model(smollm2: EmbeddedModel) -> None:
    """Whoever comes next waits for the token in progress, not for the end of an answer that nobody hears."""
    stories = [smollm2.stream([{"role": "user", "content": "Count to one hundred."}]) for _ in range(2)]
    began = time.perf_counter()
    for story in stories:
        assert (await anext(story)).text
    first_words = time.perf_counter() - began
    for story in stories:
        await story.aclose()  # type: ignore[attr-defined]
    began = time.perf_counter()
    await smollm2._worker.run(lambda: None)
    assert time.perf_counter() - began < max(first_words, 0.3)


async def test_its_http_server_is_out_of_everybodys_reach(smollm2: EmbeddedModel) -> None:
    """The library insists on one: a socket file in a folder of this user's, and no port."""
    address = smollm2._load().listening_address
    scheme, _, path = address.partition("://")
    assert scheme == "unix"
    assert os.stat(os.path.dirname(path)).st_mode & 0o077 == 0


async def test_missing_weights_say_so(tmp_path: Any) -> None:
    with pytest.raises(ModelMissing, match="orchestrator models fetch"):
        await EmbeddedModel(tmp_path / "none.gguf").warm()
