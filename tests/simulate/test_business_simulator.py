"""The simulated backend of a calling service: what its tools do, what its log says, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.config import load_settings
from orchestrator.simulate.business import BusinessSimulator, Options
from orchestrator.simulate.business_faults import CATALOGUE, FaultId
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.records import INJECTION
from orchestrator.simulate.webhook_signature import refusal, secret_bytes, sign
from tests.simulate.simulated import plain_http

SOON = 0.15
CALL = {"call_id": "call_1", "user": "u-1", "bucket": "shop", "purpose": "support"}
KEY = base64.b64encode(b"a key of thirty-two bytes, or so.").decode()
SECRET = f"whsec_{KEY}"
CANCEL = {"order_id": "4172"}
REFUND = {"order_id": "4172", "amount": 20}


class Bench:
    def __init__(self, simulator: BusinessSimulator, http: httpx.AsyncClient) -> None:
        self.simulator = simulator
        self.http = http

    def arm(self, fault: str, **fields: Any) -> None:
        self.simulator.faults.arm(parse({"fault": fault, **fields}, CATALOGUE))

    async def use(
        self, tool: str, arguments: dict[str, Any], key: str = "k-1", /, **changes: Any
    ) -> httpx.Response:
        headers = {"Idempotency-Key": key, **changes.pop("headers", {})}
        body = {"tool": tool, "arguments": arguments, "call": CALL, "idempotency_key": key, "attempt": 1}
        return await self.http.post(f"/tools/{tool}", json={**body, **changes}, headers=headers)

    async def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = (await self.http.get("/control/runs")).json()["runs"]
        return runs

    async def done(self) -> list[tuple[str, dict[str, Any]]]:
        """What has really been done."""
        return [(run["tool"], run["arguments"]) for run in await self.runs() if run["outcome"] == "done"]


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    async with contextlib.AsyncExitStack() as stack:

        async def begin(**options: Any) -> Bench:
            simulator = BusinessSimulator(Options(**{"work_ms": 0, **options}))
            origin = await stack.enter_async_context(simulator.start())
            return Bench(simulator, await stack.enter_async_context(plain_http(base_url=origin)))

        yield begin


@pytest.fixture
async def bench(start: Any) -> Bench:
    return await start()  # type: ignore[no-any-return]


# -- what the tools do -------------------------------------------------------------------------------


async def test_an_order_is_the_same_each_time_and_more_than_a_model_should_hear(bench: Bench) -> None:
    first = (await bench.use("get_order_status", {"order_id": "4172"})).json()
    assert (await bench.use("get_order_status", {"order_id": "4172"}, "k-2")).json() == first
    assert first["order_id"] == "4172"
    assert first["payment"]["token"].startswith("tok_")
    assert INJECTION in first["customer_note"]
    assert (await bench.use("get_order_status", {"order_id": "5208"}, "k-3")).json() != first


@pytest.mark.parametrize(
    ("tool", "arguments", "shown"),
    [
        ("cancel_order", CANCEL, {"status": "cancelled"}),
        ("refund_order", REFUND, {"amount": "20", "refunded": "20"}),
        (
            "book_appointment",
            {"date": "2026-12-03", "time": "10:30", "name": "Maria Jensen"},
            {"appointment_id": "A1001", "status": "booked", "time": "10:30"},
        ),
    ],
)
async def test_what_a_tool_changes_is_told(
    bench: Bench, tool: str, arguments: dict[str, Any], shown: dict[str, Any]
) -> None:
    answer = await bench.use(tool, arguments)
    assert answer.status_code == 200
    assert answer.json() | shown == answer.json()
    assert await bench.done() == [(tool, arguments)]


async def test_an_address_is_changed_for_good(bench: Bench) -> None:
    await bench.use("update_email", {"order_id": "6310", "email": "maria.jensen@example.org"})
    order = (await bench.use("get_order_status", {"order_id": "6310"}, "k-2")).json()
    assert order["customer"]["email"] == "maria.jensen@example.org"


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("cancel_order", {"order_id": "12"}, "order_not_found"),
        ("cancel_order", {}, "invalid_arguments"),
        ("cancel_order", {"order_id": "4172", "why": "x"}, "invalid_arguments"),
        ("refund_order", {"order_id": "4172", "amount": 5000}, "too_much"),
        ("refund_order", {"order_id": "4172", "amount": 0}, "invalid_arguments"),
        ("book_appointment", {"date": "2026-12-03", "time": "10:30", "name": " "}, "incomplete"),
        ("update_email", {"order_id": "4172", "email": "nowhere"}, "bad_address"),
    ],
)
async def test_what_is_not_possible_is_refused_in_words_and_changes_nothing(
    bench: Bench, tool: str, arguments: dict[str, Any], code: str
) -> None:
    answer = await bench.use(tool, arguments)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert answer.json()["error"]["message"]
    assert [run["outcome"] for run in await bench.runs()] == ["refused"]


async def test_the_log_tells_who_asked_for_what_and_when(bench: Bench) -> None:
    before = time.monotonic()
    await bench.use("cancel_order", CANCEL, "k-7", attempt=3)
    (run,) = await bench.runs()
    assert before <= run.pop("at") <= time.monotonic()
    assert run.pop("time").endswith("+00:00")
    assert run == {
        "number": 1,
        "tool": "cancel_order",
        "mutating": True,
        "arguments": CANCEL,
        "idempotency_key": "k-7",
        "attempt": 3,
        "call": CALL,
        "outcome": "done",
    }


async def test_changes_are_undone_for_the_next_test_and_the_log_stays(bench: Bench) -> None:
    await bench.use("cancel_order", CANCEL)
    assert (await bench.http.delete("/control/records")).status_code == 200
    order = (await bench.use("get_order_status", {"order_id": "4172"}, "k-2")).json()
    assert order["status"] != "cancelled"
    assert await bench.done() == [("cancel_order", CANCEL), ("get_order_status", {"order_id": "4172"})]


# -- idempotency keys --------------------------------------------------------------------------------


async def test_a_key_that_is_honoured_runs_once(bench: Bench) -> None:
    first, again = [await bench.use("refund_order", REFUND, attempt=n) for n in (1, 2)]
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await bench.done() == [("refund_order", REFUND)]
    await bench.use("refund_order", REFUND, "k-2")
    assert len(await bench.done()) == 2


async def test_a_repetition_that_comes_too_early_waits_for_the_first(start: Any) -> None:
    bench = await start(work_ms=50)
    answers = await asyncio.gather(*(bench.use("cancel_order", CANCEL) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await bench.done()) == 1


async def test_a_key_belongs_to_one_request(bench: Bench) -> None:
    await bench.use("cancel_order", CANCEL)
    other = await bench.use("cancel_order", {"order_id": "5208"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "key_reused")
    assert await bench.done() == [("cancel_order", CANCEL)]


async def test_a_key_that_is_ignored_runs_again(start: Any) -> None:
    bench = await start(honour_keys=False)
    for attempt in (1, 2):
        await bench.use("cancel_order", CANCEL, attempt=attempt)
    assert len(await bench.done()) == 2


async def test_what_was_refused_may_be_asked_for_again(bench: Bench) -> None:
    for _ in range(2):
        answer = await bench.use("cancel_order", {"order_id": "12"})
        assert answer.json()["error"]["code"] == "order_not_found"


# -- requests that are not taken ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tool": "refund_order"}, "tool: expected 'cancel_order'"),
        ({"arguments": "x"}, "arguments: expected an object"),
        ({"call": {"call_id": "c"}}, "call: expected an object with call_id, user, bucket, purpose"),
        ({"attempt": 0}, "attempt: expected a whole number from 1"),
        ({"idempotency_key": ""}, "idempotency_key: expected a text"),
        ({"headers": {"Idempotency-Key": "another"}}, "Idempotency-Key is not the body's"),
    ],
)
async def test_misshapen_requests_are_explained_and_run_nothing(
    bench: Bench, changes: dict[str, Any], told: str
) -> None:
    answer = await bench.use("cancel_order", CANCEL, **changes)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert await bench.runs() == []


async def test_unknown_tools_and_broken_json(bench: Bench) -> None:
    assert (await bench.use("drop_table", {})).status_code == 404
    assert (await bench.http.post("/tools/cancel_order", content=b"{")).status_code == 400
    assert [request["status"] for request in bench.simulator.state()["requests"]] == [404, 400]


# -- signatures --------------------------------------------------------------------------------------


def test_a_signature_by_hand() -> None:
    digest = hmac.new(base64.b64decode(KEY), b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    assert sign(SECRET, "msg_1", "1700000000", b'{"a":1}') == expected


def signed(body: bytes, at: int, secret: str = SECRET) -> dict[str, str]:
    signature = f"v1,bm90IHRoaXM= {sign(secret, 'msg_1', str(at), body)}"
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}


def test_good_signatures_are_found_among_others() -> None:
    assert refusal(SECRET, signed(b"{}", 1000), b"{}", 1290) == ""
    assert refusal("plain words", signed(b"{}", 1000, "plain words"), b"{}", 1000) == ""


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        (signed(b"{}", 1000), b"{ }", "no signature"),
        (signed(b"{}", 1000, "another"), b"{}", "no signature"),
        (signed(b"{}", 600), b"{}", "more than 300 s"),
        ({**signed(b"{}", 1000), "webhook-timestamp": "soon"}, b"{}", "whole number"),
        ({**signed(b"{}", 1000), "webhook-id": ""}, b"{}", "webhook-id is missing"),
        ({}, b"{}", "webhook-id is missing"),
    ],
)
def test_bad_signatures_are_told_apart(headers: dict[str, str], body: bytes, why: str) -> None:
    assert why in refusal(SECRET, headers, body, 1000)


def test_a_bad_secret_is_not_shown() -> None:
    with pytest.raises(ValueError, match="not base64") as told:
        secret_bytes("whsec_not base64!")
    assert "base64!" not in str(told.value)


async def test_the_secret_is_shown_nowhere(start: Any) -> None:
    bench = await start(secret=SECRET)
    for path in ("/control/settings", "/control/state", "/control/runs"):
        assert KEY not in (await bench.http.get(path)).text


async def test_unsigned_requests_run_nothing_where_there_is_a_secret(start: Any) -> None:
    bench = await start(secret=SECRET)
    assert (await bench.use("cancel_order", CANCEL)).status_code == 401
    body = {"tool": "cancel_order", "arguments": CANCEL, "call": CALL, "idempotency_key": "k", "attempt": 1}
    content = json.dumps(body).encode()
    headers = {"Idempotency-Key": "k", **signed(content, int(time.time()))}
    assert (await bench.http.post("/tools/cancel_order", content=content, headers=headers)).status_code == 200
    assert len(await bench.done()) == 1


# -- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("honour_keys", [True, False])
async def test_its_tools_are_settings_of_the_orchestrator(
    start: Any, tmp_path: Path, honour_keys: bool
) -> None:
    bench = await start(honour_keys=honour_keys)
    told = (await bench.http.get("/control/settings")).text
    (tmp_path / "tools.toml").write_text(told)
    found = load_settings(tmp_path / "tools.toml", tier_a__enabled=False)
    tools = {name: section.tool(name) for name, section in found.tools.items()}
    assert sorted(tools) == sorted(bench.simulator.state()["tools"])
    assert {name for name, tool in tools.items() if tool.confirmed} == set(tools) - {"get_order_status"}
    assert tools["cancel_order"].wrong({"order_id": "4172"}) == []
    assert tools["cancel_order"].honours_key == honour_keys
    record = (await bench.use("get_order_status", {"order_id": "4172"})).json()
    assert tools["get_order_status"].speak(record).keys() == {"order_id", "status", "delivery_date"}
    assert INJECTION not in json.dumps(tools["get_order_status"].speak(record))


# -- faults ------------------------------------------------------------------------------------------

OBSERVED: set[FaultId] = set()


def observes(*faults: FaultId) -> Any:
    OBSERVED.update(faults)
    return lambda test: test


@observes(FaultId.SLOW)
@pytest.mark.parametrize("moment", ["before_run", "after_run"])
async def test_slow(bench: Bench, moment: str) -> None:
    bench.arm("slow", moment=moment, after_ms=100)
    began = time.monotonic()
    assert (await bench.use("cancel_order", CANCEL)).status_code == 200
    assert time.monotonic() - began >= 0.1
    (run,) = await bench.runs()
    assert (run["at"] - began >= 0.1) == (moment == "before_run")


@observes(FaultId.HTTP_500)
@pytest.mark.parametrize(("moment", "ran"), [("before_run", 0), ("after_run", 1)])
async def test_http_500(bench: Bench, moment: str, ran: int) -> None:
    bench.arm("http_500", moment=moment)
    assert (await bench.use("cancel_order", CANCEL)).status_code == 500
    assert len(await bench.done()) == ran
    assert (await bench.use("cancel_order", CANCEL, attempt=2)).status_code == 200
    assert len(await bench.done()) == 1


@observes(FaultId.RESET, FaultId.REFUSED)
@pytest.mark.parametrize(("fault", "ran"), [("refused", 0), ("reset", 1)])
async def test_an_answer_that_is_lost(bench: Bench, fault: str, ran: int) -> None:
    bench.arm(fault)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await bench.use("cancel_order", CANCEL)
    assert len(await bench.done()) == ran


@observes(FaultId.HANG)
@pytest.mark.parametrize(("moment", "ran"), [("before_run", 0), ("after_run", 1)])
async def test_hang(bench: Bench, moment: str, ran: int) -> None:
    bench.arm("hang", moment=moment)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await bench.use("cancel_order", CANCEL)
    assert len(await bench.done()) == ran


@observes(FaultId.GARBAGE)
async def test_garbage(bench: Bench) -> None:
    bench.arm("garbage")
    answer = await bench.use("cancel_order", CANCEL)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert len(await bench.done()) == 1


@observes(FaultId.FAILS)
async def test_fails(bench: Bench) -> None:
    bench.arm("fails")
    answer = await bench.use("cancel_order", CANCEL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_possible")
    assert "nothing was changed" in answer.json()["error"]["message"]
    assert await bench.runs() == []


async def test_a_fault_may_be_for_one_tool_only(bench: Bench) -> None:
    bench.arm("http_500", model="refund_order")
    assert (await bench.use("cancel_order", CANCEL)).status_code == 200
    assert (await bench.use("refund_order", REFUND, "k-2")).status_code == 500


def test_every_fault_is_observed() -> None:
    assert set(CATALOGUE) == set(FaultId) == OBSERVED
