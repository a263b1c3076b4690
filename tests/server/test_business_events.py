"""What calls did, as CloudEvents: each row that matters, without secrets, and never in a call's way."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from orchestrator.config import Settings
from orchestrator.core.redaction import REDACTED, Redactor
from orchestrator.protocol.answers import Message, ToolCall
from orchestrator.server.business_events import TYPES, BusinessEvents
from orchestrator.server.calls import CallInfo
from orchestrator.server.outlets import Outgoing, Outlet
from orchestrator.server.store import EmbeddedStore
from orchestrator.simulate.webhook_signature import refusal
from tests import planted
from tests.server.webhooks import Receiver

INFO = CallInfo("call_1f2e3d", "gpt-realtime-2.1", user="42", purpose="support", bucket="acme")
NOW = 1_795_717_188.25
SECRET = planted.WEBHOOK
ROWS: dict[str, dict[str, Any]] = {
    "tool_result": {
        "tool_call_id": "call_a",
        "tool": "refund",
        "kind": "mutating",
        "runs": "webhook",
        "arguments": {"order_id": "A-1042", "amount": 20, "pin": "8731"},
        "result": "done",
        "known": False,
        "latency_ms": 212.5,
        "cost_usd": 0.0,
        "output": {"status": "refunded"},
        "message": "",
    },
    "tool_confirmation": {
        "tool_call_id": "call_a",
        "tool": "refund",
        "arguments": {"order_id": "A-1042"},
        "consent": "yes",
        "text": "Yes, to 4242 4242 4242 4242 please.",
    },
    "tool_approval": {
        "tool_call_id": "call_a",
        "tool": "refund",
        "arguments": {},
        "decision": "approved",
        "who": "ann",
        "reason": "ok",
    },
    "agent_handoff": {"from_agent": "front desk", "to_agent": "billing"},
    "transfer": {"reason": "asked for it", "summary": "Tools: refund: done"},
    "handover": {
        "from_tier": "A",
        "from_rung": "gpt-realtime-2.1",
        "to_tier": "B",
        "to_rung": "kokoro",
        "trigger": "fault",
        "cause": "closed",
    },
    "call_ended": {"spent_usd": 0.25, "turns": {"answered": 3}, "bucket": "acme", "user": "42"},
}


class Kept:
    """A sink that keeps what it is sent."""

    name, batch = "kept", 100

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def send(self, events: Sequence[Outgoing]) -> None:
        for event in events:
            self.events.append(json.loads(event.body))
            assert self.events[-1]["id"] == event.id

    async def close(self) -> None:
        pass


async def told(rows: Iterable[tuple[str, dict[str, Any]]], **options: Any) -> list[dict[str, Any]]:
    sink = Kept()
    events = BusinessEvents("r1", [Outlet(sink, limit=100, retry_s=1.0)], **{"wall": lambda: NOW, **options})
    events.start()
    for type, fields in rows:
        events.note(type, {"tier": "A", **fields}, INFO)
    await events.close()
    return sink.events


ATTRIBUTES = {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}


def hold_to_cloudevents(event: dict[str, Any]) -> None:
    """The rules of the JSON schema of CloudEvents 1.0, written out, and those of the text that it leaves out."""
    required = {"id": str, "source": str, "specversion": str, "type": str}
    optional = {"datacontenttype": str, "dataschema": str, "subject": str, "time": str, "data_base64": str}
    for name, kind in required.items():
        assert isinstance(event[name], kind), name
        assert event[name], name
    for name, kind in optional.items():
        assert name not in event or (isinstance(event[name], kind) and event[name]), name
    assert event["specversion"] == "1.0"
    for name in event.keys() - {"data", "data_base64"}:
        assert re.fullmatch(r"[a-z0-9]{1,20}", name), name
    assert not ("data" in event and "data_base64" in event)
    # A URI reference, and the type begins with the name of who made it up.
    assert not re.search(r"[\s<>\"{}|\\^`]", event["source"])
    urlsplit(event["source"])
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)+", event["type"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", event["time"])
    # With a JSON media type the data are JSON themselves, not a text that holds some.
    assert event["datacontenttype"] == "application/json"
    assert isinstance(event["data"], dict)


async def test_every_row_that_matters_becomes_a_cloud_event() -> None:
    assert ROWS.keys() == TYPES.keys()
    events = await told(ROWS.items())
    assert [event["type"] for event in events] == list(TYPES.values())
    for event in events:
        hold_to_cloudevents(event)
        assert event.keys() == ATTRIBUTES
        assert event["source"] == "/orchestrator/r1"
        assert event["subject"] == "call_1f2e3d"
        assert event["time"] == "2026-11-26T18:19:48.250Z"
        whose = {"call_id": "call_1f2e3d", "user": "42", "bucket": "acme", "purpose": "support", "tier": "A"}
        assert event["data"].items() >= whose.items()
    assert len({event["id"] for event in events}) == len(events)


async def test_a_tools_result_tells_what_came_of_it() -> None:
    (event,) = await told([("tool_result", ROWS["tool_result"])])
    assert event["data"] == {
        "call_id": "call_1f2e3d",
        "user": "42",
        "bucket": "acme",
        "purpose": "support",
        "tier": "A",
        "tool_call_id": "call_a",
        "tool": "refund",
        "kind": "mutating",
        "runs": "webhook",
        "arguments": {"order_id": "A-1042", "amount": 20, "pin": REDACTED},
        "outcome": "done",
        "known": False,
        "latency_ms": 212.5,
        "cost_usd": 0.0,
        "output": {"status": "refunded"},
        "message": "",
    }


async def test_outcomes_and_costs_have_one_name() -> None:
    events = await told(ROWS.items())
    outcomes = {event["type"]: event["data"].get("outcome") for event in events}
    assert outcomes == {
        "orchestrator.tool.result": "done",
        "orchestrator.tool.confirmation": "yes",
        "orchestrator.tool.approval": "approved",
        "orchestrator.agent.handoff": None,
        "orchestrator.transfer": None,
        "orchestrator.handover": None,
        "orchestrator.call.ended": None,
    }
    assert events[-1]["data"]["cost_usd"] == 0.25
    assert "spent_usd" not in events[-1]["data"]


async def test_secrets_are_nowhere_in_an_event() -> None:
    fields = {
        **ROWS["tool_result"],
        "arguments": {"card": {"number": "4242424242424242", "cvv": 911}, "note": "sk-proj-abcdefgh12345678"},
        "message": "the card with 911 was refused",
        "output": [{"password": planted.REDIS}, "4242-4242-4242-4242"],
    }
    (event, confirmed) = await told(
        [("tool_result", fields), ("tool_confirmation", ROWS["tool_confirmation"])]
    )
    text = json.dumps(event)
    for secret in ("4242424242424242", "4242-4242", "911", "sk-proj", planted.REDIS):
        assert secret not in text
    assert event["data"]["message"] == f"the card with {REDACTED} was refused"
    assert confirmed["data"]["text"] == f"Yes, to {REDACTED} please."
    own = await told([("tool_result", ROWS["tool_result"])], redactor=Redactor(["order id"]))
    assert own[0]["data"]["arguments"] == {"order_id": REDACTED, "amount": 20, "pin": "8731"}


async def test_ids_are_given_once_and_go_up() -> None:
    ids = [event["id"] for event in await told([("handover", ROWS["handover"])] * 3)]
    assert ids == ["call_1f2e3d-1", "call_1f2e3d-2", "call_1f2e3d-3"]


async def test_other_rows_are_none_and_a_fault_of_ours_stops_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    rows: list[tuple[str, dict[str, Any]]] = [
        ("caller_said", {"text": "hello"}),
        ("transfer", {"reason": Bad()}),
        ("handover", ROWS["handover"]),
    ]
    (event,) = await told(rows)
    assert event["type"] == "orchestrator.handover"
    assert "a business event of a transfer in call call_1f2e3d is lost" in caplog.text


async def test_a_row_cannot_tell_another_caller() -> None:
    (event,) = await told([("handover", {"user": "somebody else", "call_id": "other", "tier": "B"})])
    assert (event["data"]["user"], event["data"]["call_id"], event["data"]["tier"]) == (
        "42",
        INFO.call_id,
        "B",
    )


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"openai": {"api_key": planted.PROVIDER}, **sections})


async def test_the_default_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events = BusinessEvents.from_settings(settings(), EmbeddedStore(), "r1")
    assert [outlet.name for outlet in events.outlets] == ["file"]
    events.start()
    assert not os.listdir(tmp_path)
    events.note("handover", ROWS["handover"], INFO)
    await events.close()
    (line,) = (tmp_path / "business_events.jsonl").read_text().splitlines()
    hold_to_cloudevents(json.loads(line))


async def test_nobody_is_told_where_nobody_wants_to_know() -> None:
    events = BusinessEvents.from_settings(settings(business_events={"sinks": "none"}), EmbeddedStore(), "r1")
    events.start()
    events.note("handover", ROWS["handover"], INFO)
    assert events.outlets == []
    await events.close()


async def test_every_sink_gets_every_event(tmp_path: Path) -> None:
    async with Receiver().listening() as receiver:
        store = EmbeddedStore()
        configured = settings(
            redis={"url": "redis://127.0.0.1:9/0"},
            business_events={
                "sinks": ["file", "redis", "webhook"],
                "path": tmp_path / "events.jsonl",
                "stream": "books",
                "url": receiver.url,
                "secret": SecretStr(SECRET),
                "redact": ["order_id"],
            },
        )
        events = BusinessEvents.from_settings(configured, store, "r1")
        events.start()
        events.note("tool_result", ROWS["tool_result"], INFO)
        await events.close()
        (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
        (entry,) = await store.read("books")
        (request,) = receiver.requests
        assert line == entry.fields["event"] == request.body.decode()
        event = json.loads(line)
        assert event["data"]["arguments"]["order_id"] == REDACTED
        assert event["id"] == entry.fields["id"] == request.headers["webhook-id"]
        assert refusal(SECRET, request.headers, request.body) == ""


HISTORY = (
    Message("system", "Be kind."),
    Message("user", "My card is 4242424242424242."),
    ToolCall("1", "look", "{}"),
    Message("assistant", "I will get", cut_off=True),
)


@pytest.mark.parametrize("transcript", [False, True])
async def test_a_transfer_is_told_to_who_takes_the_call_over(tmp_path: Path, transcript: bool) -> None:
    async with Receiver().listening() as receiver:
        configured = settings(
            business_events={"path": tmp_path / "events.jsonl"},
            transfer={"url": receiver.url, "secret": SecretStr(SECRET), "transcript": transcript},
        )
        events = BusinessEvents.from_settings(configured, EmbeddedStore(), "r1")
        events.start()
        for type, fields in ROWS.items():
            events.note(type, fields, INFO, lambda: HISTORY)
        await events.close()
        logged = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
        assert [event["type"] for event in logged] == list(TYPES.values())
        (request,) = receiver.requests
        assert refusal(SECRET, request.headers, request.body) == ""
        event = json.loads(request.body)
        hold_to_cloudevents(event)
        assert (event["data"]["reason"], event["data"]["summary"]) == ("asked for it", "Tools: refund: done")
        said = event["data"].pop("transcript", None)
        assert event == next(other for other in logged if other["type"] == "orchestrator.transfer")
        assert said == (
            [
                {"role": "user", "text": f"My card is {REDACTED}.", "cut_off": False},
                {"role": "assistant", "text": "I will get", "cut_off": True},
            ]
            if transcript
            else None
        )


# The documentation


async def test_the_documentation_shows_one_of_each() -> None:
    text = (Path(__file__).parents[2] / "docs" / "business-events.md").read_text()
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    shown = {block["type"]: block for block in blocks if "type" in block}
    assert shown.keys() == set(TYPES.values())
    for event in await told(ROWS.items()):
        example = shown[event["type"]]
        hold_to_cloudevents(example)
        assert example.keys() == event.keys()
        assert example["data"].keys() == event["data"].keys()
        row = re.search(rf"^\| `{re.escape(event['type'])}` \|.*\| (.*) \|$", text, re.MULTILINE)
        assert row is not None
        whose = {"call_id", "user", "bucket", "purpose", "tier"}
        assert set(re.findall(r"`(\w+)`", row[1])) == event["data"].keys() - whose
