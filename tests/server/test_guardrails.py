"""Guardrails: how hooks are asked, what they may answer, and what holds when they do not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from openai import OpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from orchestrator.config_sections import Guardrails as Settings
from orchestrator.core.veto import WITHHELD
from orchestrator.protocol.answers import AnswerRequest, Charge, Transcript
from orchestrator.server.calls import CallInfo
from orchestrator.server.guardrail_hooks import ANSWER_LIMIT, THREADS
from orchestrator.server.guardrails import ALLOW, SERVING, Guardrails, Hook, Ruling, Verdict
from tests import planted
from tests.tiers.pipeline.conftest import serving
from tiers.pipeline.vetting import Veto

SECRET = planted.WEBHOOK
INFO = CallInfo("call_1", "gpt-realtime-2.1", user="ann", bucket="acme", started_at=0.0)
CALL = {"call_id": "call_1", "user": "ann", "bucket": "acme", "purpose": "conversation", "model": INFO.model}
SOON = 10.0
LATE = 0.05

Answer = Callable[[Request], Awaitable[Response]]


class Guard:
    """A webhook on loopback that answers as it is told, and the guardrails that ask it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.reply: Answer = self._allows
        self.rows: list[dict[str, Any]] = []
        self._open: list[Guardrails] = []

    async def _allows(self, request: Request) -> Response:
        return JSONResponse({"verdict": "allow"})

    def answers(self, answer: Any) -> None:
        async def reply(request: Request) -> Response:
            return JSONResponse(answer)

        self.reply = reply

    async def handle(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.headers.append(request.headers)
        return await self.reply(request)

    def rails(self, *, record_words: bool = False, **hook: Any) -> Guardrails:
        """All three hooks, at this webhook."""
        one = {"url": self.url, "secret": SECRET, "timeout_s": 5.0, **hook}
        settings = Settings.model_validate(
            {"heard": one, "said": one, "called": one, "record_words": record_words}
        )
        rails = Guardrails(
            settings,
            known_line=lambda name: name in ("cannot_say", "no_swearing"),
            record=lambda info, fields: self.rows.append(fields),
        )
        self._open.append(rails)
        return rails

    async def close(self) -> None:
        for rails in self._open:
            await rails.close()


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    holder: list[Guard] = []

    async def handle(request: Request) -> Response:
        return await holder[0].handle(request)

    async with serving(Starlette(routes=[Route("/v1", handle, methods=["POST"])])) as url:
        holder.append(Guard(url))
        yield holder[0]
        await holder[0].close()


# What a webhook is sent and may answer


async def test_a_webhook_is_told_what_and_whose_and_by_whom(guard: Guard) -> None:
    rails = guard.rails()
    assert await rails.heard(INFO, "Größe ✓?") == ALLOW
    await rails.said(INFO, "It is here.")
    await rails.called(INFO, "cancel_order", {"order_id": "4172"})
    assert [json.loads(body) for body in guard.bodies] == [
        {"hook": "heard", "text": "Größe ✓?", "call": CALL},
        {"hook": "said", "text": "It is here.", "call": CALL},
        {"hook": "called", "tool": "cancel_order", "arguments": {"order_id": "4172"}, "call": CALL},
    ]
    for body, headers in zip(guard.bodies, guard.headers, strict=True):
        OpenAI(api_key="unused").webhooks.verify_signature(body, dict(headers), secret=SECRET)
    assert len({headers["webhook-id"] for headers in guard.headers}) == 3
    assert guard.rows == [], "what is allowed needs no row"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"verdict": "allow", "text": "not looked at"}, ALLOW),
        ({"verdict": "rewrite", "text": ""}, Verdict(Ruling.REWRITE)),
        (
            {"verdict": "rewrite", "text": "my card is (hidden)", "reason": "card"},
            Verdict(Ruling.REWRITE, text="my card is (hidden)", reason="card"),
        ),
        ({"verdict": "veto"}, Verdict(Ruling.VETO, line="cannot_say")),
        (
            {"verdict": "veto", "line": "no_swearing", "reason": "r" * 300},
            Verdict(Ruling.VETO, line="no_swearing", reason="r" * 200),
        ),
        ({"verdict": "veto", "line": "no_such_prompt"}, Verdict(Ruling.VETO, line="cannot_say")),
        ({"verdict": "veto", "line": 7}, Verdict(Ruling.VETO, line="cannot_say")),
    ],
)
async def test_verdicts_on_words(guard: Guard, answer: Any, verdict: Verdict) -> None:
    guard.answers(answer)
    rails = guard.rails()
    assert await rails.heard(INFO, "my card is 4111") == verdict
    assert await rails.said(INFO, "my card is 4111") == verdict


async def test_a_tools_arguments_can_be_rewritten(guard: Guard) -> None:
    guard.answers({"verdict": "rewrite", "arguments": {"order_id": "4172", "limit": 1}, "reason": "capped"})
    verdict = await guard.rails().called(INFO, "list_orders", {"order_id": "4172", "limit": 100})
    assert (verdict.ruling, verdict.arguments) == (Ruling.REWRITE, {"order_id": "4172", "limit": 1})
    assert guard.rows[0] == {
        "hook": "called",
        "verdict": "rewrite",
        "tool": "list_orders",
        "reason": "capped",
        "latency_ms": guard.rows[0]["latency_ms"],
        "failed": False,
    }


# What holds when it does not answer


async def status_500(request: Request) -> Response:
    return JSONResponse({"verdict": "veto"}, 500)


async def redirects(request: Request) -> Response:
    return RedirectResponse("/v1", 307)


async def not_json(request: Request) -> Response:
    return Response(b"<html>allow</html>")


async def too_long(request: Request) -> Response:
    return Response(b" " * (ANSWER_LIMIT + 1))


def tells(answer: Any) -> Answer:
    async def reply(request: Request) -> Response:
        return JSONResponse(answer)

    return reply


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (status_500, "expected status 200, got 500"),
        (redirects, "expected status 200, got 307"),
        (not_json, "expected JSON, got something else"),
        (too_long, f"expected at most {ANSWER_LIMIT} bytes"),
        (tells(["veto"]), "expected an object, got list"),
        (tells({}), """expected "verdict": "allow", "rewrite" or "veto", got 'None'"""),
        (tells({"verdict": "VETO"}), """expected "verdict": "allow", "rewrite" or "veto", got 'VETO'"""),
        (tells({"verdict": "rewrite", "text": 7}), 'expected "text" with the verdict "rewrite"'),
        (tells({"verdict": "rewrite", "arguments": {}}), 'expected "text" with the verdict "rewrite"'),
    ],
)
@pytest.mark.parametrize("on_failure", ["allow", "veto"])
async def test_an_answer_that_is_none_counts_as_configured(
    guard: Guard, reply: Answer, reason: str, on_failure: str
) -> None:
    guard.reply = reply
    rails = guard.rails(on_failure=on_failure)
    verdict = await rails.heard(INFO, "the secret words")
    assert (verdict.ruling.value, verdict.reason) == (on_failure, reason)
    assert not verdict.vetoed or verdict.line == "cannot_say"
    [row] = guard.rows
    assert (row["verdict"], row["failed"], row["reason"]) == (on_failure, True, reason)
    assert "secret words" not in str(row)
    tally = rails.tallies[Hook.HEARD]
    assert (tally.allowed + tally.vetoed, tally.failed, tally.rewritten) == (1, 1, 0)


async def test_arguments_that_are_none_count_as_a_failure(guard: Guard) -> None:
    guard.answers({"verdict": "rewrite", "text": "x"})
    assert (await guard.rails(on_failure="veto").called(INFO, "t", {})).vetoed


@pytest.mark.parametrize("on_failure", ["allow", "veto"])
async def test_a_webhook_that_is_late_is_not_waited_for(guard: Guard, on_failure: str) -> None:
    never = asyncio.Event()

    async def hangs(request: Request) -> Response:
        await never.wait()
        return JSONResponse({"verdict": "allow"})

    guard.reply = hangs
    rails = guard.rails(timeout_s=LATE, on_failure=on_failure)
    async with asyncio.timeout(SOON):
        verdict = await rails.heard(INFO, "hello")
    assert (verdict.ruling.value, verdict.reason) == (on_failure, f"no answer within {LATE} s")
    assert rails.tallies[Hook.HEARD].longest_ms >= LATE * 1000 * 0.9
    never.set()


async def test_a_webhook_that_is_not_there_counts_as_configured() -> None:
    hook = {"url": "http://127.0.0.1:1/", "secret": SECRET, "on_failure": "veto", "timeout_s": 5.0}
    rails = Guardrails(Settings.model_validate({"said": hook}))
    verdict = await rails.said(INFO, "hello")
    assert verdict.vetoed
    assert verdict.reason == "the request failed: ConnectError"
    await rails.close()


async def test_whoever_hangs_up_does_not_wait(guard: Guard) -> None:
    asked = asyncio.Event()

    async def hangs(request: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        return JSONResponse({})

    guard.reply = hangs
    asking = asyncio.create_task(guard.rails().heard(INFO, "hello"))
    async with asyncio.timeout(SOON):
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert guard.rows == []


# Functions


REDACTED = {"verdict": "rewrite", "text": "(hidden)"}
_released = threading.Event()


def redacts(question: dict[str, Any]) -> dict[str, Any]:
    assert threading.current_thread() is not threading.main_thread(), "it may block"
    return REDACTED


async def redacts_async(question: dict[str, Any]) -> dict[str, Any]:
    return REDACTED


class Redactor:
    async def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        return REDACTED


redactor = Redactor()


def allows(question: dict[str, Any]) -> None:
    return None


def raises(question: dict[str, Any]) -> None:
    raise LookupError("with the secret words")


async def cancels(question: dict[str, Any]) -> None:
    raise asyncio.CancelledError


def hangs(question: dict[str, Any]) -> None:
    _released.wait(SOON)


@pytest.fixture
def release() -> Iterator[None]:
    _released.clear()
    yield
    _released.set()


def rails_of(name: str, **hook: Any) -> Guardrails:
    return Guardrails(Settings.model_validate({"heard": {"entry_point": f"{__name__}:{name}", **hook}}))


@pytest.mark.parametrize("name", ["redacts", "redacts_async", "redactor"])
async def test_a_function_of_ones_own(name: str) -> None:
    rails = rails_of(name, timeout_s=5.0)
    assert await rails.heard(INFO, "4111 1111") == Verdict(Ruling.REWRITE, text="(hidden)")
    await rails.close()


async def test_a_function_that_returns_nothing_allows() -> None:
    rails = rails_of("allows", timeout_s=5.0)
    assert await rails.heard(INFO, "hello") == ALLOW
    await rails.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("raises", "it raised LookupError"), ("cancels", "it was cancelled from within")],
)
async def test_a_function_that_raises_counts_as_configured(name: str, reason: str) -> None:
    rails = rails_of(name, on_failure="veto", timeout_s=5.0)
    verdict = await rails.heard(INFO, "hello")
    assert (verdict.vetoed, verdict.reason) == (True, reason)
    await rails.close()


@pytest.mark.usefixtures("release")
async def test_functions_that_hang_hold_up_neither_the_loop_nor_the_call() -> None:
    rails = rails_of("hangs", timeout_s=LATE)
    async with asyncio.timeout(SOON / 2):
        verdicts = await asyncio.gather(*(rails.heard(INFO, "hello") for _ in range(THREADS + 2)))
    assert {verdict.ruling for verdict in verdicts} == {Ruling.ALLOW}
    assert rails.tallies[Hook.HEARD].failed == THREADS + 2
    await rails.close()


# What is made of verdicts


async def test_what_is_not_configured_is_allowed_at_once() -> None:
    rails = Guardrails(Settings())
    for asked in (rails.heard(INFO, "x"), rails.said(None, "x"), rails.called(INFO, "t", {})):
        with pytest.raises(StopIteration) as done:  # without giving the loop a turn
            asked.send(None)
        assert done.value.value is ALLOW
    assert Hook.SAID not in rails
    assert rails.tallies == {}


async def test_a_transcript_is_rewritten_or_withheld_and_still_paid_for(guard: Guard) -> None:
    charge = Charge("transcription", "m", 5, {"seconds": 1})
    transcript = Transcript("my card is 4111", 1.0, "en", (charge,))
    rails = guard.rails()
    assert await rails.listen(INFO, transcript) is transcript
    guard.answers({"verdict": "rewrite", "text": "my card is (hidden)"})
    assert await rails.listen(INFO, transcript) == Transcript("my card is (hidden)", 1.0, "en", (charge,))
    guard.answers({"verdict": "veto", "line": "no_swearing"})
    assert await rails.listen(INFO, transcript) == Transcript(WITHHELD, 1.0, "en", (charge,), "no_swearing")
    asked = len(guard.bodies)
    silence = Transcript(" ", 1.0)
    assert await rails.listen(INFO, silence) is silence
    assert len(guard.bodies) == asked, "nothing was said"


async def test_the_pipeline_asks_for_the_call_it_answers(guard: Guard) -> None:
    rails, request = guard.rails(), AnswerRequest("answer_1", ())

    async def asked_by(info: CallInfo) -> list[str | Veto]:
        SERVING.set(info)
        return list(await asyncio.gather(*(rails.vet(request, text) for text in ("one", "two"))))

    calls = [CallInfo(f"call_{n}", "m", started_at=0.0) for n in (1, 2)]
    assert await asyncio.gather(*map(asked_by, calls)) == [["one", "two"], ["one", "two"]]
    told = sorted((json.loads(b)["call"]["call_id"], json.loads(b)["text"]) for b in guard.bodies)
    assert told == [("call_1", "one"), ("call_1", "two"), ("call_2", "one"), ("call_2", "two")]
    guard.answers({"verdict": "rewrite", "text": "three"})
    assert await rails.vet(request, "one") == "three"
    guard.answers({"verdict": "veto"})
    assert await rails.vet(request, "one") == Veto("cannot_say")


async def test_the_timeline_holds_the_words_only_where_that_was_asked_for(guard: Guard) -> None:
    guard.answers({"verdict": "veto", "reason": "rude"})
    await guard.rails().heard(INFO, "the secret words")
    assert "secret words" not in str(guard.rows)
    recording = guard.rails(record_words=True)
    await recording.heard(INFO, "the secret words")
    await recording.called(INFO, "pay", {"amount": 7})
    assert guard.rows[1]["text"] == "the secret words"
    assert (guard.rows[2]["arguments"], guard.rows[2]["tool"]) == ({"amount": 7}, "pay")


async def test_verdicts_are_counted_by_hook(guard: Guard) -> None:
    rails = guard.rails()
    await rails.heard(INFO, "one")
    guard.answers({"verdict": "rewrite", "text": "x"})
    await rails.heard(INFO, "two")
    guard.answers({"verdict": "veto"})
    await rails.heard(INFO, "three")
    tally = rails.tallies[Hook.HEARD]
    assert (tally.allowed, tally.rewritten, tally.vetoed, tally.failed) == (1, 1, 1, 0)
    assert 0 < tally.longest_ms <= tally.total_ms
    assert rails.tallies[Hook.SAID].total_ms == 0


async def test_where_nothing_can_be_rewritten_that_is_a_veto(guard: Guard) -> None:
    rails = guard.rails()
    assert rails.late == {"heard", "said"}
    assert await rails.judge(INFO, "said", "hello") == ""
    guard.answers({"verdict": "rewrite", "text": "x"})
    assert await rails.judge(INFO, "said", "hello") == "cannot_say"
    guard.answers({"verdict": "veto", "line": "no_swearing"})
    assert await rails.judge(INFO, "heard", "hello") == "no_swearing"
    assert Guardrails(Settings()).late == frozenset()
    assert await Guardrails(Settings()).judge(INFO, "said", "hello") == ""
