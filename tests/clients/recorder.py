"""A client that records a call: every frame with its arrival time, what its caller would hear, and what broke.

    async with Recorder(url, api_key="…") as caller:
        await caller.update(instructions="Be brief.")
        async with caller.microphone():
            await caller.say(speech)
            done = await caller.wait_for("response.done")
        assert not gaps(caller.played(), 500)

Times are seconds of the running loop's monotonic clock. When the block ends without an exception, the connection is
held against the protocol (`tests.conformance`): first it may settle, so that what is on its way still counts.
"""
# ruff: noqa: ASYNC109  (a wait that times out here tells what came instead)

from __future__ import annotations

import asyncio
import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from orchestrator.listening import Arrival, Played, play
from orchestrator.protocol.audio import AudioFormat
from tests.conformance.checker import Checker, Frame, explain

Event = dict[str, Any]

CHUNK_MS = 20
"""Length of one `input_audio_buffer.append`."""
ABNORMAL = 1006
SHOWN_EVENTS = 12


class ConnectionEnded(AssertionError):
    """The server closed the connection while something was waited for."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One audio delta: when it came, what it belongs to, its bytes."""

    at: float
    response_id: str
    item_id: str
    data: bytes


@dataclass(slots=True)
class _Speech:
    """Audio that the open microphone is to send, and whether it has."""

    data: bytes
    sent: asyncio.Event = field(default_factory=asyncio.Event)


class Recorder:
    """One connection. `frames` is the log: all that came, and all that was sent but audio.

    `orchestrator` makes the checker demand tier and rung; `known_items` are ids of the call's earlier connections;
    `flush`: on ``speech_started`` throw unplayed audio away, as clients do; `settle`: seconds to wait at the end for
    what is still open.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = "test-key",
        subprotocols: Sequence[str] = (),
        headers: dict[str, str] | None = None,
        check: bool = True,
        orchestrator: bool = False,
        known_items: Collection[str] = (),
        flush: bool = True,
        settle: float = 2.0,
    ) -> None:
        self.url = url
        self.frames: list[Frame] = []
        self.received: list[tuple[float, Event]] = []
        """Every event that was JSON, with its arrival time."""
        self.heard: list[Heard] = []
        self.flushes: list[float] = []
        self.session: Event = {}
        """As of the latest session.created or session.updated."""
        self.close_code: int | None = None
        self.close_reason = ""
        self.checker = Checker(orchestrator=orchestrator, known_items=known_items)
        self._headers = {**(headers or {}), **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._check = check
        self._flush = flush
        self._settle = settle
        self._numbers = 0
        self._taken: set[int] = set()
        self._cut_items: set[str] = set()
        self._aborted = False
        self._news = asyncio.Condition()
        self._microphone: asyncio.Queue[_Speech] | None = None
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Recorder:
        self._connection = await connect(
            self.url,
            additional_headers=self._headers,
            subprotocols=self._subprotocols or None,
            compression=None,
            max_size=None,
            proxy=None,
        )
        self._reader = asyncio.create_task(self._read(self._connection))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._check:
            with suppress(TimeoutError):
                await self._until(lambda: self.ended or not self.checker.open_ends(), self._settle)
        await self.close()
        if kind is None and self._check:
            self.assert_conformant()

    @property
    def connection(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("the recorder is not connected: use it as `async with`")
        return self._connection

    @property
    def ended(self) -> bool:
        return self.close_code is not None

    def assert_conformant(self) -> None:
        """AssertionError if the connection broke the protocol; one that was cut may leave things open."""
        violations = self.checker.finish(cut_short=self._aborted or self.close_code == ABNORMAL)
        if violations:
            raise AssertionError(explain(self.frames, violations))

    async def close(self) -> None:
        """Hang up, and wait until everything that came is recorded."""
        await self.connection.close()
        if self._reader is not None:
            await self._reader

    async def abort(self) -> None:
        """Vanish without a close, as a phone in a tunnel does."""
        self._aborted = True
        self.connection.transport.abort()
        if self._reader is not None:
            await self._reader

    # What comes

    async def _read(self, connection: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await connection.recv()
            except ConnectionClosed:
                break
            self._record(Frame(data, at=loop.time()))
            async with self._news:
                self._news.notify_all()
        self.close_code, self.close_reason = connection.close_code, connection.close_reason or ""
        async with self._news:
            self._news.notify_all()

    def _record(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.checker.feed(frame)
        try:
            event = json.loads(frame.data)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        self.received.append((frame.at, event))
        kind = event.get("type")
        if kind in ("session.created", "session.updated"):
            self.session = event.get("session") or {}
        elif kind == "response.output_audio.delta":
            self._hear(frame.at, event)
        elif kind == "input_audio_buffer.speech_started" and self._flush and self._interrupts():
            self.flush(frame.at)

    def _hear(self, at: float, event: Event) -> None:
        if event.get("item_id") in self._cut_items:
            return
        with suppress(KeyError, TypeError, binascii.Error):  # the checker has told of it
            data = b64decode(event["delta"], validate=True)
            self.heard.append(Heard(at, event["response_id"], event["item_id"], data))

    def _interrupts(self) -> bool:
        detection = ((self.session.get("audio") or {}).get("input") or {}).get("turn_detection") or {}
        return bool(detection.get("interrupt_response"))

    def flush(self, at: float | None = None) -> None:
        """Throw away what was not played yet, and whatever more comes of it."""
        self.flushes.append(asyncio.get_running_loop().time() if at is None else at)
        self._cut_items |= {heard.item_id for heard in self.heard}

    async def wait_for(
        self,
        kind: str,
        predicate: Callable[[Event], bool] = lambda event: True,
        timeout: float = 5.0,
    ) -> Event:
        """The first event of a type that fits and was not given out before, past or to come.

        TimeoutError and `ConnectionEnded` tell what came instead.
        """
        found: list[Event] = []

        def arrived() -> bool:
            for index, (_, event) in enumerate(self.received):
                if index not in self._taken and event.get("type") == kind and predicate(event):
                    self._taken.add(index)
                    found.append(event)
                    return True
            return self.ended

        try:
            await self._until(arrived, timeout)
        except TimeoutError:
            raise TimeoutError(f"no {kind} in {timeout} s; {self._lately()}") from None
        if not found:
            why = f"{self.close_code} {self.close_reason}".strip()
            raise ConnectionEnded(f"closed with {why} before {kind}; {self._lately()}")
        return found[0]

    async def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(condition)

    def _lately(self) -> str:
        kinds = [str(event.get("type")) for _, event in self.received[-SHOWN_EVENTS:]]
        return f"latest events: {', '.join(kinds) or 'none'}"

    def events(self, kind: str) -> list[Event]:
        """All events of a type so far."""
        return [event for _, event in self.received if event.get("type") == kind]

    def errors(self) -> list[Event]:
        """The `error` objects of all error events so far."""
        return [event["error"] for event in self.events("error")]

    def said(self) -> list[str]:
        """The words of the assistant's items that have ended, spoken or written, in order."""
        items = [event["item"] for event in self.events("response.output_item.done")]
        return [
            "".join(part.get("transcript") or part.get("text") or "" for part in item["content"])
            for item in items
            if item["type"] == "message"
        ]

    # What the caller hears

    @property
    def output_format(self) -> AudioFormat:
        return AudioFormat.parse(self.session["audio"]["output"]["format"])

    def audio(self) -> dict[tuple[str, str], bytes]:
        """Received audio by response id and item id."""
        whole: dict[tuple[str, str], bytes] = {}
        for heard in self.heard:
            key = heard.response_id, heard.item_id
            whole[key] = whole.get(key, b"") + heard.data
        return whole

    def played(self) -> Played:
        """What a caller hears when everything is played in real time from its arrival."""
        arrivals = [Arrival(heard.at, heard.data) for heard in self.heard]
        return play(arrivals, self.output_format, self.flushes)

    def playing(self, at: float) -> tuple[str, float] | None:
        """The item that is heard at a moment, and how many ms of it were heard by then."""
        free = 0.0
        played_ms: dict[str, float] = {}
        for heard in self.heard:
            start = max(free, heard.at)
            free = start + self.output_format.ms(len(heard.data)) / 1000.0
            played_ms[heard.item_id] = played_ms.get(heard.item_id, 0.0) + (min(free, at) - start) * 1000.0
            if start <= at < free:
                return heard.item_id, played_ms[heard.item_id]
        return None

    # What the client does

    async def send(self, event: Event) -> str:
        """Send an event and give its event_id, which is made up where there is none."""
        self._numbers += 1
        event = {"event_id": f"client_{self._numbers}", **event}
        data = json.dumps(event)
        if event["type"] != "input_audio_buffer.append":
            frame = Frame(data, sent=True, at=asyncio.get_running_loop().time())
            self.frames.append(frame)
            self.checker.feed(frame)
        await self.connection.send(data)
        return str(event["event_id"])

    async def update(self, timeout: float = 5.0, **session: Any) -> Event:
        """Change the session; gives the session as the server then shows it."""
        await self.wait_session(timeout)
        await self.send({"type": "session.update", "session": {"type": "realtime", **session}})
        return (await self.wait_for("session.updated", timeout=timeout))["session"]  # type: ignore[no-any-return]

    async def wait_session(self, timeout: float = 5.0) -> Event:
        """The session, once there is one."""
        if not self.session:
            await self.wait_for("session.created", timeout=timeout)
        return self.session

    async def write(self, text: str) -> None:
        """Add a written user message to the conversation."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send({"type": "conversation.item.create", "item": item})

    async def ask(self, text: str, timeout: float = 10.0, **response: Any) -> Event:
        """Write, ask for a response, and wait for it; gives the response of `response.done`."""
        await self.write(text)
        await self.send({"type": "response.create", **({"response": response} if response else {})})
        return (await self.wait_for("response.done", timeout=timeout))["response"]  # type: ignore[no-any-return]

    async def truncate(self) -> tuple[str, float] | None:
        """Stop listening, and tell the server how much of the item in play was heard."""
        now = asyncio.get_running_loop().time()
        playing = self.playing(now)
        self.flush(now)
        if playing is not None:
            where = {"item_id": playing[0], "content_index": 0, "audio_end_ms": int(playing[1])}
            await self.send({"type": "conversation.item.truncate", **where})
        return playing

    async def say(self, audio: bytes, fmt: AudioFormat = AudioFormat.PCM, *, realtime: bool = True) -> None:
        """Speak: bytes of the session's input format, in 20 ms appends, at the pace of speech or all at once.

        Through an open microphone it takes the place of the silence; without one nothing follows the last sample, and
        turn detection waits for silence that never comes.
        """
        if self._microphone is not None and realtime:
            speech = _Speech(audio)
            self._microphone.put_nowait(speech)
            await speech.sent.wait()
            return
        due = asyncio.get_running_loop().time()
        for chunk in _chunks(audio, fmt):
            await self._append(chunk)
            if realtime:
                due += CHUNK_MS / 1000.0
                await _sleep_until(due)

    @asynccontextmanager
    async def microphone(self, fmt: AudioFormat = AudioFormat.PCM) -> AsyncIterator[None]:
        """Send silence in real time while nothing is said, as a live line does."""
        queue = self._microphone = asyncio.Queue()
        task = asyncio.create_task(self._stream(queue, fmt))
        try:
            yield
        finally:
            self._microphone = None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _stream(self, queue: asyncio.Queue[_Speech], fmt: AudioFormat) -> None:
        due = asyncio.get_running_loop().time()
        while not self.ended:
            speech = None if queue.empty() else queue.get_nowait()
            for chunk in _chunks(speech.data, fmt) if speech else [fmt.silence(CHUNK_MS)]:
                await self._append(chunk)
                due += CHUNK_MS / 1000.0
                await _sleep_until(due)
            if speech:
                speech.sent.set()

    async def _append(self, chunk: bytes) -> None:
        with suppress(ConnectionClosed):  # whoever waits for an event learns of it
            await self.send({"type": "input_audio_buffer.append", "audio": b64encode(chunk).decode()})


def _chunks(audio: bytes, fmt: AudioFormat) -> list[bytes]:
    size = CHUNK_MS * fmt.bytes_per_ms
    return [audio[start : start + size] for start in range(0, len(audio), size)]


async def _sleep_until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
