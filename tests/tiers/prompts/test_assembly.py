"""Stitched prompts: from pieces where they are there, whole where they are not, and never rendered twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from cache import ClipCache, DiskStore, RedisStore, Source
from orchestrator.protocol.answers import AnswerRequest, AudioDelta, Message, TextDelta, ToolCall, ToolResult
from orchestrator.protocol.audio import AudioFormat
from tests.e2e.conftest import running_redis
from tests.tiers.prompts.conftest import Hum
from tiers.prompts.catalogue import Catalogue, Prompt
from tiers.prompts.prompts import Prompts
from tiers.speech import Parts, SpeechFailed

BUILT_IN = Catalogue.load()
CATALOGUE = Catalogue({"order_status": BUILT_IN["order_status"]})
FIXED = {name: BUILT_IN[name] for name in BUILT_IN if BUILT_IN[name].render == "whole"}
ORDER = {"order_id": "417283005", "status": "shipped"}


class Telling(Hum):
    """A `Hum` that tells its words apart, with a short silence between them."""

    rung = "telling"
    GAP = 960

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, ...]] = []
        self.cannot_tell = False
        self.gain: Callable[[], float] = lambda: 1.0

    async def speak_parts(
        self, parts: Sequence[str], *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> Parts | None:
        if self.fault is not None:
            raise self.fault
        if self.cannot_tell:
            return None
        self.parts.append(tuple(parts))
        pieces, between, at = [], [], 0
        for part in parts:
            if pieces:
                between.append((at, at + self.GAP))
                pieces.append(np.zeros(self.GAP, np.int16))
                at += self.GAP
            pieces.append(self.samples(part, voice))
            at += len(pieces[-1])
        pcm = (np.concatenate(pieces) * self.gain()).astype(np.int16)
        return Parts(pcm, tuple(between))


@pytest.fixture
def telling() -> Telling:
    return Telling()


@pytest.fixture
def stitching(telling: Telling) -> Prompts:
    return Prompts(CATALOGUE, ClipCache(), telling)


async def test_without_pieces_a_stitched_prompt_is_said_whole(stitching, telling):
    line, found = await stitching.find("order_status", ORDER)
    assert found.source is Source.RENDER
    assert telling.spoken == [(line.spoken, "marin", 1.0, "en")]
    assert telling.parts == []


async def test_with_its_pieces_any_order_number_needs_no_engine(stitching, telling):
    seen: list[tuple[int, int, str]] = []
    warmed = await stitching.warm_pieces(lambda *step: seen.append(step))
    count = len(CATALOGUE.pieces("order_status", "en"))
    assert (warmed.ready, warmed.rendered, warmed.failed) == (count, count, {})
    assert seen[0][1:] == (count, "order_status")
    assert [done for done, _, _ in seen] == list(range(1, count + 1))
    made = len(telling.parts)
    rng = np.random.default_rng(6)
    for number in [0, 10**9 - 1, *rng.integers(0, 10**9, 50)]:
        variables = {"order_id": f"{number:09d}", "status": "delivered"}
        line, found = await stitching.find("order_status", variables)
        assert found.source is Source.MEMORY
        assert stitching.peek(line) is not None
        assert await stitching.is_cached(line)
        assert stitching.charges(line, found) == []
    assert len(telling.parts) == made
    assert telling.spoken == []


async def test_the_same_line_has_one_key_and_others_have_others(stitching):
    await stitching.warm_pieces()
    one, again = [(await stitching.find("order_status", ORDER))[1].clip for _ in range(2)]
    other = (await stitching.find("order_status", ORDER | {"order_id": "417283006"}))[1].clip
    assert one.key == again.key != other.key
    assert np.array_equal(one.pcm, again.pcm)
    assert not np.array_equal(one.pcm, other.pcm)
    assert one.until is not None, "there are too many of them to keep"


async def test_what_may_not_be_kept_is_stitched_anew_each_time(telling):
    secret = BUILT_IN["order_status"].model_copy(update={"cacheable": False})
    prompts = Prompts(Catalogue({"secret": secret}), ClipCache(), telling)
    await prompts.warm_pieces()
    clip = (await prompts.find("secret", ORDER))[1].clip
    assert clip.is_over
    data = await prompts.cache.form(clip, AudioFormat.PCMU)
    assert data
    assert prompts.cache.peek_form(clip.key, AudioFormat.PCMU) is None
    assert telling.spoken == []


async def test_without_variables_there_is_nothing_to_stitch(telling):
    plain = Prompt(text={"de": "Guten Tag."}, render="stitched")
    prompts = Prompts(Catalogue({"plain": plain}), ClipCache(), telling)
    assert (await prompts.warm_pieces()).ready == 0
    assert (await prompts.find("plain", language="de"))[1].source is Source.RENDER


async def test_a_value_beyond_the_wording_is_said_whole(stitching, telling):
    await stitching.warm_pieces()
    line, found = await stitching.find("order_status", ORDER | {"status": "held at customs"})
    assert found.source is Source.RENDER
    assert [spoken[0] for spoken in telling.spoken] == [line.spoken]


async def test_another_voice_or_speed_than_the_pieces_have_is_said_whole(stitching, telling):
    await stitching.warm_pieces(voices=["cedar"])
    assert (await stitching.find("order_status", ORDER, voice="cedar"))[1].source is Source.MEMORY
    assert (await stitching.find("order_status", ORDER))[1].source is Source.RENDER
    assert (await stitching.find("order_status", ORDER, voice="cedar", speed=1.2))[1].source is Source.RENDER


async def test_however_loud_the_engine_says_each_piece_the_line_is_the_same(stitching, telling):
    await stitching.warm_pieces()
    even = (await stitching.find("order_status", ORDER))[1].clip.pcm.astype(float)
    rng = np.random.default_rng(6)
    telling.gain = lambda: float(rng.uniform(0.4, 1.0))
    uneven = Prompts(CATALOGUE, ClipCache(), telling)
    await uneven.warm_pieces()
    made = (await uneven.find("order_status", ORDER))[1].clip.pcm.astype(float)
    assert len(made) == len(even)
    assert np.abs(made - even).max() < 0.02 * np.abs(even).max()


async def test_an_engine_that_cannot_tell_says_each_piece_alone(stitching, telling):
    telling.cannot_tell = True
    await stitching.warm_pieces()
    assert ("four,", "marin", 1.0, "en") in telling.spoken
    assert ("has been shipped.", "marin", 1.0, "en") in telling.spoken
    assert (await stitching.find("order_status", ORDER))[1].source is Source.MEMORY


async def test_any_engine_will_do(hum):
    prompts = Prompts(CATALOGUE, ClipCache(), hum)
    await prompts.warm_pieces()
    assert (await prompts.find("order_status", ORDER))[1].source is Source.MEMORY


async def test_a_run_that_was_cut_short_goes_on_where_it_was(telling, tmp_path: Path):
    class Interrupted(Exception):
        pass

    def interrupt(done: int, of: int, name: str) -> None:
        if done == 40:
            raise Interrupted

    first = Prompts(CATALOGUE, ClipCache(DiskStore(tmp_path)), telling)
    with pytest.raises(Interrupted):
        await first.warm_pieces(interrupt)
    await first.cache.aclose()
    second = Prompts(CATALOGUE, ClipCache(DiskStore(tmp_path)), telling)
    warmed = await second.warm_pieces()
    assert warmed.ready - warmed.rendered == 40
    assert len(telling.parts) == warmed.ready
    await second.cache.aclose()


@pytest.mark.parametrize("kind", ["disk", "redis"])
async def test_a_server_finds_what_a_deployment_made(telling, tmp_path: Path, kind):
    with ExitStack() as running:
        url = running.enter_context(running_redis(tmp_path)) if kind == "redis" else ""

        def cache() -> ClipCache:
            return ClipCache(RedisStore.from_url(url, timeout=2.0) if url else DiskStore(tmp_path))

        deployed = Prompts(CATALOGUE, cache(), telling)
        made = await deployed.warm_pieces()
        await deployed.cache.aclose()
        server = Prompts(CATALOGUE, cache(), None, engine="telling 1")
        assert (await server.find("order_status", ORDER))[1].source is Source.STORE
        assert (await server.find("order_status", ORDER))[1].source is Source.MEMORY
        assert await server.load_pieces() == made.ready
        assert server.peek(CATALOGUE.fill("order_status", ORDER | {"order_id": "A-1"})) is not None
        await server.cache.aclose()


async def test_one_piece_that_fails_does_not_stop_the_others(stitching, telling):
    telling.fault = SpeechFailed("out of breath")
    warmed = await stitching.warm_pieces()
    assert warmed.ready == 0
    assert warmed.failed["order_status: 'four' (on, pause) in marin"] == "out of breath"
    telling.fault = None
    assert not (await stitching.warm_pieces()).failed


async def test_a_calls_answer_is_stitched_in_the_calls_format(telling):
    prompts = Prompts(Catalogue(FIXED | {"order_status": BUILT_IN["order_status"]}), ClipCache(), telling)
    await prompts.warm_pieces()
    history = (
        Message("user", "Where is my order number 4172?"),
        ToolCall("call_1", "get_order_status", '{"order_id": "4172"}'),
        ToolResult("call_1", '{"order_id": "4172", "status": "delivered"}'),
    )
    request = AnswerRequest("answer_1", history, format=AudioFormat.PCMU)
    came = [event async for event in prompts.answer(request)]
    assert TextDelta("Your order number 4172 has been delivered.") in came
    spoken = b"".join(event.data for event in came if isinstance(event, AudioDelta))
    variables = {"order_id": "4172", "status": "delivered"}
    assert spoken == await prompts.audio("order_status", variables, AudioFormat.PCMU)
    assert telling.spoken == []
