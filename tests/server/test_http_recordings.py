"""A recorded call over HTTP: parts of it, what is noted of that, and its end."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.protocol.audio import AudioFormat
from orchestrator.server.calls import CallInfo
from orchestrator.server.recording import State
from tests import planted
from tests.server.fleets import until
from tests.server.test_http import Server, client_of, error_of, make_server, no_environment
from tests.server.test_recording import frame

__all__ = ["no_environment"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = make_server(recording={"enabled": True, "dir": str(tmp_path), "min_free_mb": 0})
    server.noted = []  # type: ignore[attr-defined]

    def note(who: Any, action: str, subject: str, reason: str = "", **details: Any) -> None:
        server.noted.append((action, subject, reason))  # type: ignore[attr-defined]

    server.audit.note = note  # type: ignore[method-assign, assignment]
    server.events.listeners.append(server.records.row)
    server.recorder.start()
    yield server
    await server.recorder.close()


def noted(server: Server) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = server.noted  # type: ignore[attr-defined]
    return found


def begin(server: Server, id: str, *, consent: bool = True) -> None:
    info = CallInfo(id, "gpt-realtime", who="key_1", recording_consent=consent)
    server.records.began(info)
    recording = server.recorder.began(info)
    if recording is not None:
        recording.caller(frame(8000, 1000), AudioFormat.PCM, recording.began_at + 1)
        recording.hang_up(recording.began_at + 1)
    server.events.add("call_ended", tier="A", call_id=id, spent_usd=0.0)


async def record(server: Server, id: str) -> None:
    begin(server, id)
    server.records.closed(id, 1.0)
    server.recorder.ended(id)
    await until(
        lambda: any(row.get("state") == State.KEPT for row in server.events.recent if row["call_id"] == id)
    )


async def test_it_is_listened_to_in_parts_beside_its_timeline(server: Server) -> None:
    await record(server, "call_1")
    async with client_of(server) as client:
        whole = await client.get("/v1/calls/call_1/recording")
        assert (whole.status_code, whole.content[:4]) == (200, b"OggS")
        assert whole.headers["content-type"] == "audio/ogg;codecs=opus"
        assert whole.headers["accept-ranges"] == "bytes"
        assert "no-store" in whole.headers["cache-control"]
        part = await client.get("/v1/calls/call_1/recording", headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
        beyond = await client.get("/v1/calls/call_1/recording", headers={"range": "bytes=99999999-"})
        assert beyond.status_code == 416
        for odd in ("bytes=9-2", "bytes=-", "lines=1-2", "bytes=0-1,4-5", "bytes=a-b"):
            answer = await client.get("/v1/calls/call_1/recording", headers={"range": odd})
            assert (answer.status_code, answer.content) == (200, whole.content), odd
        last = await client.get("/v1/calls/call_1/recording", headers={"range": "bytes=-5"})
        assert (last.status_code, last.content) == (206, whole.content[-5:])
        timeline = (await client.get("/v1/calls/call_1/recording/timeline")).json()
        assert timeline["seconds"] == 1.0
        assert "call_ended" in [row["type"] for row in timeline["rows"]]
        assert (await client.get("/v1/calls/call_1")).json()["recording"] == "kept"
    assert noted(server) == [("recording.listened", "call_1", ""), ("recording.read", "call_1", "")]


async def test_it_is_deleted_with_a_reason(server: Server) -> None:
    await record(server, "call_1")
    async with client_of(server) as client:
        error_of(await client.delete("/v1/calls/call_1/recording"), 422)
        gone = await client.delete("/v1/calls/call_1/recording?reason=asked+for+it")
        assert gone.status_code == 204
        assert error_of(await client.get("/v1/calls/call_1/recording"), 404)["code"] == "no_recording"
        error_of(await client.get("/v1/calls/call_1/recording/timeline"), 404)
        error_of(await client.delete("/v1/calls/call_1/recording?reason=twice"), 404)
    assert noted(server) == [("recording.deleted", "call_1", "asked for it")]


async def test_one_that_is_still_being_written_is_told_as_such(server: Server) -> None:
    begin(server, "call_1")
    await until(lambda: server.recorder.state("call_1")[0] is State.RECORDING)
    await until(lambda: any(row["type"] == "recording" for row in server.events.recent))
    disk_answers = threading.Event()
    server.recorder._queue.put(lambda: assert_in_time(disk_answers))
    server.records.closed("call_1", 1.0)
    server.recorder.ended("call_1")
    try:
        async with client_of(server) as client:
            error = error_of(await client.get("/v1/calls/call_1/recording"), 404)
            assert error["code"] == "recording_not_ready"
            assert "still being written" in error["message"]
    finally:
        disk_answers.set()


def assert_in_time(event: threading.Event) -> None:
    assert event.wait(30)


async def test_why_there_is_none(server: Server) -> None:
    begin(server, "call_no", consent=False)
    begin(server, "call_live")
    await until(lambda: server.recorder.state("call_live")[0] is State.RECORDING)
    async with client_of(server) as client:
        error = error_of(await client.get("/v1/calls/call_no/recording"), 404)
        assert "(no_consent)" in error["message"]
        error = error_of(await client.get("/v1/calls/call_live/recording"), 404)
        assert error["code"] == "recording_not_ready"
        for id in ("call_9", "..", "%2e%2e%2fetc", "a" * 200, "*"):
            error_of(await client.get(f"/v1/calls/{id}/recording"), 404)
        # Consent is withdrawn while the call goes on.
        assert (await client.delete("/v1/calls/call_live/recording?reason=no+more")).status_code == 204
        assert (await client.get("/v1/calls/call_live")).json()["recording"] == "deleted"


async def test_consent_is_for_calls_in_progress(server: Server) -> None:
    async with client_of(server) as client:
        path = "/v1/calls/call_9/recording"
        assert error_of(await client.post(path, json={"consent": True}), 404)["code"] == "unknown_call"
        error_of(await client.post(path, json={"agreed": True}), 422)
        server.set_recording_consent = lambda *_: (State.RECORDING, "")  # type: ignore[method-assign, assignment]
        answer = await client.post(path, json={"consent": True})
        assert answer.json() == {"call_id": "call_9", "state": "recording", "reason": ""}
    assert noted(server) == [("recording.consent", "call_9", "")]


async def test_nobody_else_may_listen(server: Server) -> None:
    server = make_server(server={"api_key": planted.SERVER})
    async with client_of(server) as client:
        for method in ("GET", "DELETE"):
            response: httpx.Response = await client.request(method, "/v1/calls/call_1/recording?reason=x")
            assert response.status_code == 401
