"""Delivery of events: at least once, in order, in the end given up; and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tenacity import wait_none

from orchestrator.server import outlets
from orchestrator.server.outlets import FileSink, Outgoing, Outlet, Refused, StreamSink, TryAgain, WebhookSink
from orchestrator.server.store import EmbeddedStore, RedisStore, StoreUnavailable
from orchestrator.simulate.webhook_signature import refusal
from tests.server.fleets import until
from tests.server.test_store import RedisServer
from tests.server.webhooks import Receiver

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoaXMgdGVzdA=="


def event(number: int) -> Outgoing:
    return Outgoing(f"event-{number}", json.dumps({"n": number}).encode())


class Picky:
    """A sink that answers as it is told; what it took is in `taken`."""

    name = "picky"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.answers: list[Exception] = []
        self.held: asyncio.Event | None = None
        self.tried: list[list[str]] = []
        self.taken: list[str] = []
        self.closed = False

    async def send(self, events: Sequence[Outgoing]) -> None:
        self.tried.append([event.id for event in events])
        if self.held is not None:
            await self.held.wait()
        if self.answers:
            raise self.answers.pop(0)
        self.taken += [event.id for event in events]

    async def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def opened(sink: outlets.Sink, limit: int = 100, retry_s: float = 60.0) -> AsyncIterator[Outlet]:
    outlet = Outlet(sink, limit=limit, retry_s=retry_s, pauses=wait_none())
    outlet.start()
    yield outlet
    await outlet.close()


async def test_events_go_out_in_order_and_in_batches() -> None:
    sink = Picky(batch=3)
    async with opened(sink) as outlet:
        for number in range(7):
            outlet.put(event(number))
        assert (outlet.waiting, sink.tried) == (7, [])
    assert sink.taken == [f"event-{number}" for number in range(7)]
    assert [len(batch) for batch in sink.tried] == [3, 3, 1]
    assert (outlet.sent, outlet.dropped, outlet.waiting, sink.closed) == (7, 0, 0, True)


async def test_what_is_not_taken_is_tried_again_and_keeps_its_place(caplog: pytest.LogCaptureFixture) -> None:
    sink = Picky()
    sink.answers = [TryAgain("it answered 503")] * 3
    async with opened(sink) as outlet:
        outlet.put(event(1))
        outlet.put(event(2))
        await until(lambda: outlet.sent == 2)
    assert sink.taken == ["event-1", "event-2"]
    assert sink.tried == [["event-1"]] * 4 + [["event-2"]]
    assert outlet.failing == ""
    told = [record.message for record in caplog.records]
    assert told == [
        "business events to picky are not taken: it answered 503",
        "business events to picky are taken again",
    ]


async def test_what_is_refused_is_dropped_and_the_next_one_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    sink = Picky()
    sink.answers = [Refused("it answered 422"), ValueError("a fault of ours")]
    async with opened(sink) as outlet:
        for number in range(3):
            outlet.put(event(number))
        await until(lambda: outlet.sent == 1)
    assert sink.taken == ["event-2"]
    assert outlet.dropped == 2
    assert "business events to picky are dropped, 1 so far: it answered 422" in caplog.text


async def test_after_its_time_an_event_is_given_up() -> None:
    sink = Picky()
    sink.answers = [TryAgain("away")]
    async with opened(sink, retry_s=0.0) as outlet:
        outlet.put(event(1))
        outlet.put(event(2))
        await until(lambda: outlet.sent == 1)
    assert (sink.taken, outlet.dropped) == (["event-2"], 1)


async def test_a_full_queue_drops_what_comes_counts_it_and_logs_it_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Picky()
    sink.held = asyncio.Event()
    async with opened(sink, limit=2) as outlet:
        for number in range(102):
            outlet.put(event(number))
        assert (outlet.waiting, outlet.dropped) == (2, 100)
        sink.held.set()
        await until(lambda: outlet.sent == 2)
        outlet.put(event(200))
    assert sink.taken == ["event-0", "event-1", "event-200"]
    assert [record.args[1] for record in caplog.records if record.levelno == logging.ERROR] == [  # type: ignore[index]
        2**n for n in range(7)
    ]


async def test_at_the_end_what_cannot_be_delivered_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    sink = Picky()
    sink.held = asyncio.Event()
    outlet = Outlet(sink, limit=10, retry_s=60.0)
    outlet.start()
    outlet.put(event(1))
    outlet.put(event(2))
    await until(lambda: sink.tried)
    await outlet.close(grace_s=0.0)
    assert (outlet.dropped, outlet.waiting, sink.closed) == (2, 0, True)
    assert "2 so far: the service ends" in caplog.text
    outlet.put(event(3))
    assert (outlet.dropped, outlet.waiting) == (3, 0)


# The file


async def test_a_file_gets_a_line_for_each_event(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "events.jsonl"
    async with opened(FileSink(path)) as outlet:
        outlet.put(event(1))
        outlet.put(event(2))
        await until(lambda: outlet.sent == 2)
        path.rename(path.with_suffix(".old"))  # as log rotation does
        outlet.put(event(3))
    assert path.with_suffix(".old").read_text() == '{"n": 1}\n{"n": 2}\n'
    assert path.read_text() == '{"n": 3}\n'
    assert path.stat().st_mode & 0o007 == 0


async def test_a_file_is_only_ever_added_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("before\n")
    async with opened(FileSink(path)) as one, opened(FileSink(path)) as other:
        for number in range(100):
            (one if number % 2 else other).put(event(number))
    lines = path.read_text().splitlines()
    assert lines[0] == "before"
    assert sorted(json.loads(line)["n"] for line in lines[1:]) == list(range(100))


async def test_a_file_that_cannot_be_written_says_which_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = FileSink(tmp_path / "file" / "events.jsonl")
    with pytest.raises(TryAgain, match=r"business_events\.path names another file"):
        await sink.send([event(1)])


async def test_half_a_line_is_ended_before_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "events.jsonl", os.write
    full = iter([False, True])

    def small(descriptor: int, data: bytes) -> int:
        if next(full, None) is True:
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(data)[:4])

    sink = FileSink(path)
    monkeypatch.setattr(os, "write", small)
    with pytest.raises(TryAgain, match="No space left"):
        await sink.send([event(1)])
    await sink.send([event(1)])
    assert path.read_text() == '{"n"\n{"n": 1}\n'


# The stream


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("outlets"))
    yield server
    server.stop()


async def test_a_stream_in_redis_has_every_event_once(redis: RedisServer) -> None:
    store = RedisStore(redis.url, timeout_s=2.0, namespace="outlet:")
    sink = StreamSink(store, "business_events", 1000)
    await sink.send([event(1)])
    await sink.send([event(1)])  # its answer was lost
    await sink.send([event(2)])
    entries = await store.read("business_events")
    assert [dict(entry.fields) for entry in entries] == [
        {"id": "event-1", "event": '{"n": 1}'},
        {"id": "event-2", "event": '{"n": 2}'},
    ]
    await store.close()


async def test_a_store_that_is_away_is_asked_again() -> None:
    class Away(EmbeddedStore):
        times = 2

        async def append(self, *args: object, **options: object) -> str:
            self.times -= 1
            if self.times >= 0:
                raise StoreUnavailable("Redis did not answer (TimeoutError)")
            return await super().append(*args, **options)  # type: ignore[arg-type]

    store = Away()
    async with opened(StreamSink(store, "s", 10)) as outlet:
        outlet.put(event(1))
        await until(lambda: outlet.sent)
    assert [entry.fields["id"] for entry in await store.read("s")] == ["event-1"]


# The webhook


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as receiver:
        yield receiver


async def test_a_webhook_gets_signed_cloud_events(receiver: Receiver) -> None:
    async with opened(WebhookSink(receiver.url, SECRET, 5.0)) as outlet:
        outlet.put(event(1))
        await until(lambda: outlet.sent)
    (request,) = receiver.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["webhook-id"] == "event-1"
    assert request.body == event(1).body
    assert refusal(SECRET, request.headers, request.body) == ""
    assert refusal(SECRET, request.headers, request.body + b" ") != ""
    assert refusal("whsec_b3RoZXI=", request.headers, request.body) != ""


async def test_a_webhook_that_fails_gets_it_again_under_the_same_id(receiver: Receiver) -> None:
    receiver.statuses = [500, 429, 404, 302]
    async with opened(WebhookSink(receiver.url, SECRET, 5.0)) as outlet:
        outlet.put(event(1))
        outlet.put(event(2))
        await until(lambda: outlet.sent == 2)
    assert [r.headers["webhook-id"] for r in receiver.requests] == ["event-1"] * 5 + ["event-2"]
    assert all(refusal(SECRET, request.headers, request.body) == "" for request in receiver.requests)


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
async def test_a_webhook_that_will_not_have_it_is_left_alone(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    async with opened(WebhookSink(receiver.url, SECRET, 5.0)) as outlet:
        outlet.put(event(1))
        outlet.put(event(2))
        await until(lambda: outlet.sent)
    assert [r.headers["webhook-id"] for r in receiver.requests] == ["event-1", "event-2"]
    assert outlet.dropped == 1


async def test_a_webhook_that_is_not_there_or_hangs_does_not_show_its_address(receiver: Receiver) -> None:
    receiver.hang = True
    slow, away = (
        WebhookSink(receiver.url, SECRET, 0.05),
        WebhookSink("http://127.0.0.1:9/?key=x", SECRET, 5.0),
    )
    checks: list[tuple[WebhookSink, Callable[[str], bool]]] = [
        (slow, lambda text: text == "no answer (ReadTimeout)"),
        (away, lambda text: text == "no answer (ConnectError)"),
    ]
    for sink, fits in checks:
        with pytest.raises(TryAgain) as caught:
            await sink.send([event(1)])
        assert fits(str(caught.value))
        await sink.close()
