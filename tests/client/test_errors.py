"""Errors of the client, tries that are made again, and the key, which is shown nowhere."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator

import httpx
import pytest

from orchestrator import client
from orchestrator.client import (
    AsyncOrchestrator,
    Conflict,
    Invalid,
    NotFound,
    Orchestrator,
    OrchestratorError,
    Overloaded,
    Refused,
    ServerFault,
    Unreachable,
    connection,
)
from tests import planted

KEY = planted.SERVER
ROUTE = {
    "tier": "B",
    "rung": "kokoro",
    "reason": "breaker_open",
    "decided_by": "health",
    "sentence": "kokoro (tier B) is the best rung that is left.",
    "override_id": None,
    "usd_per_minute": 0.0,
    "allowed_tools": [],
    "candidates": [],
    "would_change": [],
    "connect": {"kind": "realtime", "method": "GET", "url": "ws://127.0.0.1:8080/v1/realtime"},
}
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.0)
    for name in ("ORCHESTRATOR_URL", "ORCHESTRATOR_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def asking(handler: Handler, **options: object) -> Orchestrator:
    return Orchestrator(
        "http://orchestrator.test", KEY, transport=httpx.MockTransport(handler), **options  # type: ignore[arg-type]
    )  # fmt: skip


class Answers:
    """Answers one after another, the last one for ever; `requests` is what came."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def problem(status: int, code: str = "some_code", **headers: str) -> httpx.Response:
    body = {
        "error": {"type": "server_error", "message": "It cannot; do this.", "code": code, "param": "user"}
    }
    return httpx.Response(status, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Refused),
        (403, Refused),
        (404, NotFound),
        (405, Invalid),
        (409, Conflict),
        (413, Invalid),
        (422, Invalid),
        (429, Overloaded),
        (500, ServerFault),
        (503, Overloaded),
    ],
)
def test_each_answer_has_its_error(status: int, kind: type[OrchestratorError]) -> None:
    with asking(Answers(problem(status)), retries=0) as orchestrator, pytest.raises(kind) as raised:
        orchestrator.status()
    error = raised.value
    assert type(error) is kind
    assert (error.status, error.code, error.param) == (status, "some_code", "user")
    assert str(error) == "It cannot; do this."


def test_how_long_to_wait_is_told() -> None:
    orchestrator = asking(Answers(problem(503, retry_after="7")), longest_wait_s=1)
    with pytest.raises(Overloaded) as raised:
        orchestrator.force("C", reason="drill")
    assert raised.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="hi"),
        httpx.Response(200, json={"tier": "A"}),
        httpx.Response(404, text="<html>nothing here</html>"),
        httpx.Response(302, headers={"location": "https://elsewhere.test/"}),
        httpx.Response(500, json={"error": "text"}),
        httpx.Response(502, text="bad gateway"),
    ],
)
def test_somebody_else_answers(answer: httpx.Response) -> None:
    answers = Answers(answer)
    with asking(answers, retries=0) as orchestrator, pytest.raises(Unreachable) as raised:
        orchestrator.route()
    assert "no orchestrator" in str(raised.value) or "a proxy answered with 502" in str(raised.value)
    assert len(answers.requests) == 1


def test_audio_that_is_none() -> None:
    with asking(Answers(httpx.Response(200, json={}))) as orchestrator, pytest.raises(Unreachable):
        orchestrator.speak("greeting")


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, "\ud800"])
def test_what_json_cannot_hold(value: object) -> None:
    answers = Answers(FINE)
    with asking(answers) as orchestrator, pytest.raises(Invalid, match="cannot be written as JSON"):
        orchestrator.speak("order_status", {"order_id": value})
    assert answers.requests == []


# --- trying again ---

GONE = httpx.RemoteProtocolError("Server disconnected without sending a response.")
NOBODY = httpx.ConnectError("All connection attempts failed")
FINE = httpx.Response(200, json=ROUTE)


@pytest.mark.parametrize("first", [GONE, NOBODY, problem(503), problem(429, retry_after="0"), problem(502)])
def test_what_does_no_harm_is_tried_again(first: httpx.Response | Exception) -> None:
    answers = Answers(first, FINE)
    with asking(answers) as orchestrator:
        assert orchestrator.route(user="42").rung == "kokoro"
    assert len(answers.requests) == 2
    assert answers.requests[0].content == answers.requests[1].content


@pytest.mark.parametrize("first", [problem(401), problem(404), problem(422), problem(429), problem(500)])
def test_what_will_not_pass_is_not_tried_again(first: httpx.Response) -> None:
    answers = Answers(first, FINE)
    with asking(answers) as orchestrator, pytest.raises(OrchestratorError):
        orchestrator.route()
    assert len(answers.requests) == 1


@pytest.mark.parametrize("failure", [GONE, httpx.ReadTimeout("slow"), problem(503), problem(502)])
def test_what_may_have_been_done_is_not_done_again(failure: httpx.Response | Exception) -> None:
    for order in (
        lambda o: o.force("C", reason="drill"),
        lambda o: o.clear("ovr_1"),
        lambda o: o.approve("apr_1", who="ann"),
        lambda o: o.start_session(user="42"),
        lambda o: o.estimate(),
    ):
        answers = Answers(failure)
        with asking(answers) as orchestrator, pytest.raises(OrchestratorError):
            order(orchestrator)
        assert len(answers.requests) == 1


@pytest.mark.parametrize("failure", [NOBODY, problem(503, retry_after="0"), problem(429, retry_after="0")])
def test_what_cannot_have_been_done_is_tried_again(failure: httpx.Response | Exception) -> None:
    answers = Answers(failure)
    with asking(answers, retries=3) as orchestrator, pytest.raises(OrchestratorError):
        orchestrator.force("C", reason="drill")
    assert len(answers.requests) == 4


def test_nobody_waits_longer_than_asked() -> None:
    answers = Answers(problem(503, retry_after="11"))
    with asking(answers) as orchestrator, pytest.raises(Overloaded):
        orchestrator.route()
    assert len(answers.requests) == 1


async def test_the_asynchronous_one_does_the_same() -> None:
    answers = Answers(GONE, problem(503, retry_after="0"), FINE)
    async with AsyncOrchestrator(
        "http://orchestrator.test", KEY, transport=httpx.MockTransport(answers)
    ) as orchestrator:
        assert (await orchestrator.route()).rung == "kokoro"
        assert len(answers.requests) == 3
        assert repr(orchestrator) == "AsyncOrchestrator('http://orchestrator.test')"
    answers = Answers(GONE)
    async with AsyncOrchestrator(
        "http://orchestrator.test", KEY, transport=httpx.MockTransport(answers)
    ) as orchestrator:
        with pytest.raises(Unreachable):
            await orchestrator.clear("ovr_1")
    assert len(answers.requests) == 1


def test_both_have_the_same_methods() -> None:
    def shape(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        names = [name for name in vars(kind) if not name.startswith("_")]
        return {
            name: [
                (each.name, each.default, each.annotation)
                for each in inspect.signature(getattr(kind, name)).parameters.values()
            ]
            for name in names
        }

    assert shape(Orchestrator) == shape(AsyncOrchestrator)
    assert {"route", "start_session", "speak", "synthesize", "force", "approve", "watch"} <= shape(
        Orchestrator
    ).keys()
    for name in shape(Orchestrator):
        assert getattr(Orchestrator, name).__doc__ or name == "close"


# --- addresses and keys ---


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://here", "http://", "http://h:99999", "http://[::1", "x"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(Invalid, match=r"give one like http://127\.0\.0\.1:8080") as raised:
        Orchestrator(url)
    assert raised.value.param == "url"


def test_an_address_with_a_password_is_not_shown() -> None:
    with pytest.raises(Invalid) as raised:
        Orchestrator(f"http://me:{KEY}@here")
    assert KEY not in str(raised.value)


def test_where_the_address_and_the_key_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.url} {request.headers.get('authorization')}")
        return FINE

    def ask(*arguments: str) -> None:
        with Orchestrator(*arguments, transport=httpx.MockTransport(note)) as orchestrator:
            orchestrator.route()

    ask()
    monkeypatch.setenv("ORCHESTRATOR_URL", "http://of-the-environment:1/")
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", f" {KEY}\n")
    ask()
    ask("http://given", "given")
    ask("http://given", "")
    assert seen == [
        "http://127.0.0.1:8080/v1/route None",
        f"http://of-the-environment:1/v1/route Bearer {KEY}",
        "http://given/v1/route Bearer given",
        "http://given/v1/route None",
    ]


@pytest.mark.parametrize(
    "bad",
    [f"{KEY}\u20ac", f"{KEY}\r\nX-Evil: 1", f"{KEY} twice"],
    ids=["not ASCII", "two lines", "two words"],
)
def test_a_key_that_cannot_be_sent_is_not_shown(bad: str) -> None:
    with pytest.raises(Invalid) as raised:
        Orchestrator("http://here", bad)
    assert KEY not in "".join(traceback.format_exception(raised.value))


def all_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "answer", [GONE, NOBODY, problem(401), problem(500), httpx.Response(200, json={"value": KEY})]
)
def test_the_key_is_in_no_error(answer: httpx.Response | Exception) -> None:
    orchestrator = asking(Answers(answer))
    assert KEY not in repr(orchestrator) + str(orchestrator) + repr(vars(orchestrator))

    def check(error: BaseException) -> None:
        assert KEY not in "".join(traceback.format_exception(error))
        for each in all_of(error):
            assert isinstance(each, OrchestratorError), f"{type(each)} goes along, which holds the request"
            assert KEY not in repr(vars(each)) + repr(each.args)

    for ask in (orchestrator.route, orchestrator.start_session, lambda: next(orchestrator.watch())):
        with pytest.raises(OrchestratorError) as raised:
            ask()  # type: ignore[operator]
        check(raised.value)

    async def ask_asynchronously() -> None:
        async with AsyncOrchestrator(
            "http://x", KEY, transport=httpx.MockTransport(Answers(answer))
        ) as other:
            await other.route()

    with pytest.raises(OrchestratorError) as raised:
        asyncio.run(ask_asynchronously())
    check(raised.value)


def test_a_credential_is_not_shown() -> None:
    answer = {
        **ROUTE,
        "value": "ek_planted",
        "expires_at": 1,
        "session": {},
        "call_id": "call_1",
        "media": "through",
        "not_enforced": [],
    }
    with asking(Answers(httpx.Response(200, json=answer))) as orchestrator:
        session = orchestrator.start_session(user="42")
    assert session.value == "ek_planted"
    assert "ek_planted" not in f"{session} {session!r}"


# --- importing ---


def test_importing_it_brings_nothing_of_the_server() -> None:
    code = (
        "import sys, time; began = time.process_time(); import orchestrator.client; took = time.process_time() - began;"
        "mine = [m for m in sys.modules if m.startswith(('orchestrator.', 'tiers', 'cache'))"
        "        and not m.startswith('orchestrator.client')];"
        "heavy = sorted({'fastapi', 'starlette', 'numpy', 'litellm', 'redis', 'yaml'} & {*sys.modules});"
        "print(took, mine, heavy)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
            None, 1
        )
        for _ in range(3)
    ]
    assert {rest.strip() for _, rest in runs} == {"[] []"}
    # How long it takes is for people to look at: machines differ.
    print(f"{min(float(first) for first, _ in runs) * 1000:.0f} ms")


def test_what_is_exported_is_there() -> None:
    assert all(getattr(client, name) for name in client.__all__)
