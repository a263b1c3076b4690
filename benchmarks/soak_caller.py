"""A caller of the soak: turns of several kinds in one call, each followed to its end, every event held to the protocol.

Nothing is waited for longer than `PATIENCE_S`. A turn that ended without an answer and one that got nothing at all are
told apart: the first was closed, the second is lost.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from base64 import b64encode
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.soak_turns import TOOL_OUTPUT, Ending, Event, Kind, Manner, Tally, Turn
from orchestrator.protocol.audio import AudioFormat
from tests.conformance.checker import Checker, Frame
from tiers.prompts.catalogue import Catalogue

FORMAT = AudioFormat.PCM
PATIENCE_S = 25.0
"""How long a caller waits for the answer to a turn."""
CLOSED_S = 8.0
"""A response ended without an answer, and for so long nothing followed: the turn was closed."""
SETTLE_S = 6.0
"""How long what is on its way may take before a polite caller hangs up."""
SESSION_S = 10.0
PAUSE_S = (0.2, 3.0)
"""Between an answer and the next turn."""
HANG_UP_S = (0.0, 2.0)
"""Between the last turn and hanging up on its answer."""


@cache
def bridges() -> frozenset[str]:
    """What a bridge's transcript may say; nothing where it is a tone."""
    catalogue = Catalogue.load()
    prompts = [catalogue[name] for name in catalogue]
    return frozenset({"", *(text for prompt in prompts if prompt.bridge for text in prompt.text.values())})


class Call:
    """One call of caller number `caller`. `wrong` has a sentence for everything that should not have been.

    `orchestrator`: False where it is placed to a provider itself, who tells no tier.
    """

    def __init__(
        self,
        caller: int,
        dice: random.Random,
        words: bytes,
        frame_ms: int,
        tally: Tally,
        *,
        manner: Manner | None = None,
        orchestrator: bool = True,
    ) -> None:
        self.manner = manner or Manner.draw(dice)
        self.wrong: list[str] = []
        self.lost: list[str] = []
        """The turns that got nothing."""
        self.log: list[Event] = []
        self.call_id = ""
        self._caller = caller
        self._dice = dice
        self._words = words
        self._frame_ms = frame_ms
        self._tally = tally
        self._began = time.monotonic()
        self._checker = Checker(orchestrator=orchestrator)
        self._connection: ClientConnection | None = None
        self.turns: list[Turn] = []
        self._of: dict[str, Turn] = {}
        """Turns by response."""
        self._ran: set[str] = set()
        self._tier = ""
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._ended = ""
        """How the connection ended."""
        self._lost = False
        """It was not the caller who ended it."""
        self._to_say = b""
        self._said = asyncio.Event()
        self._cut = False

    async def hold(self, url: str) -> None:
        """The whole call, from dialling to hanging up."""
        try:
            self._connection = await connect(
                url,
                additional_headers={"Authorization": "Bearer soak"},
                compression=None,
                max_size=None,
                proxy=None,
            )
        except (OSError, WebSocketException, EOFError) as error:
            self.wrong.append(f"no connection ({type(error).__name__}: {error})")
            return
        tasks = [asyncio.create_task(self._listen(self._connection))]
        self._tally.up += 1
        try:
            await self._talk(self._connection, tasks)
        finally:
            self._tally.up -= 1
            await self._hang_up(self._connection, tasks)
        self.judge()

    async def _talk(self, connection: ClientConnection, tasks: list[asyncio.Task[None]]) -> None:
        await self._send({"type": "session.update", "session": self.manner.session()})
        with suppress(TimeoutError):
            async with asyncio.timeout(SESSION_S):
                await self._ready.wait()
        if not self._ready.is_set():
            self.wrong.append(f"no session.created in {SESSION_S:g} s")
            return
        if self.manner.vad:
            tasks.append(asyncio.create_task(self._microphone(connection)))
        for number, kind in enumerate(self.manner.kinds):
            await self._turn(Turn(number, kind))
            if self._ended:
                return
        if not self.manner.hang_up:
            await self._until(lambda: not self._checker.open_ends(), SETTLE_S)

    async def _turn(self, turn: Turn) -> None:
        if not self.turns or self.turns[-1].ending is not None:
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))
        self.turns.append(turn)
        self._tally.asked += 1
        self._tally.kinds[turn.kind.value] += 1
        await self._ask(turn)
        if self.manner.hang_up and turn.number == len(self.manner.kinds) - 1:
            await asyncio.sleep(self._dice.uniform(*HANG_UP_S))
            return
        if turn.number in self.manner.talks_over:
            await self._until(lambda: turn.sound_at is not None or bool(turn.answers), PATIENCE_S)
            if not turn.answers and turn.sound_at is not None:
                return
        await self._follow(turn)

    async def _ask(self, turn: Turn) -> None:
        if turn.kind is Kind.VOICE:
            self._said.clear()
            self._to_say = self._words
            await self._said.wait()
            return
        if turn.kind is Kind.MANUAL:
            step = 100 * FORMAT.bytes_per_ms
            for start in range(0, len(self._words), step):
                await self._send_text(_append(self._words[start : start + step]))
            await self._send({"type": "input_audio_buffer.commit"})
        else:
            question = f"Question {turn.number} of caller {self._caller}."
            text = "Where is order 4172?" if turn.kind is Kind.TOOL else question
            content = [{"type": "input_text", "text": text}]
            item = {"type": "message", "role": "user", "content": content}
            await self._send({"type": "conversation.item.create", "item": item})
        await self._send({"type": "response.create"})

    async def _follow(self, turn: Turn) -> None:
        """Wait for the end of a turn."""
        end = time.monotonic() + PATIENCE_S
        while not turn.answers and not self._ended:
            closing = turn.closed_at + CLOSED_S if turn.closed_at is not None and not turn.open else end
            left = min(end, closing) - time.monotonic()
            if left <= 0:
                break
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()
        if turn.answers:
            turn.ending = Ending.ANSWERED
        elif not self._ended:
            turn.ending = Ending.CLOSED if turn.closed_at is not None else Ending.LOST

    async def _until(self, condition: Any, patience: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not condition() and not self._ended:
                    self._news.clear()
                    await self._news.wait()

    # --- the wire ---

    async def _send(self, event: Event) -> None:
        text = orjson.dumps(event).decode()
        self._checker.feed(Frame(text, sent=True))
        self._note(event, sent=True)
        await self._send_text(text)

    async def _send_text(self, text: str) -> None:
        assert self._connection is not None
        with suppress(ConnectionClosed):
            await self._connection.send(text)

    async def _microphone(self, connection: ClientConnection) -> None:
        """Live: what is not said is silence."""
        size = self._frame_ms * FORMAT.bytes_per_ms
        quiet = _append(FORMAT.silence(self._frame_ms))
        due = time.monotonic()
        with suppress(ConnectionClosed):
            while True:
                chunk, self._to_say = self._to_say[:size], self._to_say[size:]
                due += self._frame_ms / 1000.0
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await connection.send(_append(chunk) if chunk else quiet)
                if not self._to_say:
                    self._said.set()

    async def _listen(self, connection: ClientConnection) -> None:
        try:
            while True:
                data = await connection.recv()
                self._checker.feed(data)
                await self._heard(orjson.loads(data))
                self._news.set()
        except ConnectionClosed:
            pass
        except orjson.JSONDecodeError:
            self.wrong.append("a message that is not JSON")
        self._ended = f"{connection.close_code} {connection.close_reason or ''}".strip()
        self._said.set()
        self._news.set()

    async def _hang_up(self, connection: ClientConnection, tasks: list[asyncio.Task[None]]) -> None:
        """Without a word, where the caller does not wait for the end."""
        self._lost = bool(self._ended)
        self._cut = self.manner.hang_up or self._ended.startswith("1006")
        if self._lost:
            self.wrong.append(f"the connection was lost: {self._ended}")
        if self.manner.hang_up and self._dice.random() < 0.5:
            connection.transport.abort()
        await connection.close()
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks, timeout=5.0)

    # --- what comes ---

    async def _heard(self, event: Event) -> None:
        self._note(event, sent=False)
        kind = event.get("type")
        if kind in ("session.created", "session.updated"):
            told = event["session"].get("orchestrator") or {}
            self.call_id = told.get("call_id", "")
            if self._tier and told.get("tier") != self._tier:
                self._tally.handovers += 1
            self._tier = told.get("tier", "")
            self._ready.set()
        elif kind == "response.created" and self.turns:
            turn = self._of[event["response"]["id"]] = self.turns[-1]
            turn.open.add(event["response"]["id"])
            turn.closed_at = None
        elif kind == "response.output_audio.delta":
            turn = self._of.get(event["response_id"], Turn(0, Kind.TEXT))
            turn.sound_at = turn.sound_at or time.monotonic()
        elif kind == "response.done":
            await self._done(event["response"])
        elif kind == "error":
            self.wrong.append(f"error {event['error'].get('code')}: {event['error'].get('message')}")

    async def _done(self, response: Event) -> None:
        turn = self._of.get(response["id"])
        if turn is None:
            return
        turn.open.discard(response["id"])
        completed = [item for item in response["output"] if item.get("status", "completed") == "completed"]
        calls = [item for item in completed if item["type"] == "function_call"]
        messages = [item for item in completed if item["type"] == "message"]
        turn.words += " ".join(_words_of(item) for item in response["output"] if item["type"] == "message")
        if response["status"] == "completed" and any(_words_of(item) not in bridges() for item in messages):
            turn.answers.append((response.get("metadata") or {}).get("tier", ""))
            self._tally.tiers[turn.answers[-1]] += 1
        elif not calls:
            turn.closed_at = time.monotonic()
        for call in calls:
            await self._run(turn, call)

    async def _run(self, turn: Turn, call: Event) -> None:
        """Run the client's function, and ask for the answer."""
        if call["call_id"] in self._ran:
            return
        self._ran.add(call["call_id"])
        turn.tools += 1
        item = {"type": "function_call_output", "call_id": call["call_id"], "output": TOOL_OUTPUT}
        await self._send({"type": "conversation.item.create", "item": item})
        await self._send({"type": "response.create"})

    def _note(self, event: Event, *, sent: bool) -> None:
        if event.get("type", "").endswith("audio.delta"):
            event = {**event, "delta": f"<{len(event['delta'])} base64 characters>"}
        at = round(time.monotonic() - self._began, 4)
        self.log.append({"at": at, **({"sent": True} if sent else {}), **event})

    # --- afterwards ---

    @property
    def closed(self) -> int:
        return sum(turn.ending is Ending.CLOSED for turn in self.turns)

    def judge(self) -> None:
        """What became of every turn, and what was wrong."""
        for turn in self.turns:
            if turn.ending is None and turn.answers:
                turn.ending = Ending.ANSWERED
            elif turn.ending is None:
                last = turn is self.turns[-1]
                turn.ending = Ending.LOST if self._lost else Ending.HUNG_UP if last else Ending.STOPPED
            self._tally.endings[turn.ending] += 1
            where = f"turn {turn.number} ({turn.kind.value})"
            if turn.ending is Ending.LOST:
                self.lost.append(where)
            if len(turn.answers) > 1:
                self.wrong.append(f"{where} was answered {len(turn.answers)} times")
            expected = turn.expected(self._caller)
            if set(turn.answers) & {"A", "B"} and not re.search(expected, turn.words):
                self.wrong.append(f"{where} was answered with {turn.words!r}, expected {expected!r}")
            if turn.tools > 1:
                self.wrong.append(f"{where} had the function run {turn.tools} times")
        violations = self._checker.finish(cut_short=self._cut)
        self.wrong += [f"protocol: {violation}" for violation in violations]


@cache
def _append(audio: bytes) -> str:
    return orjson.dumps({"type": "input_audio_buffer.append", "audio": b64encode(audio).decode()}).decode()


def _words_of(item: Event) -> str:
    return " ".join(part.get("transcript") or part.get("text") or "" for part in item["content"]).strip()
