"""Places calls on LiveKit Agents: a real AgentSession with a caller's microphone and loudspeaker, without a room.

Runs in an environment of its own (benchmarks/peers/livekit.lock), so it imports nothing of this repository. Commands
come as JSON lines on standard input: ``{"call": 1, "pause": 0.3}``, ``{"again": 1}`` and ``{"hangup": 1}``. What
happens goes to standard output as JSON lines, all moments in seconds of the monotonic clock, which all processes of a
machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectOptions, inference
from livekit.agents import __version__ as agents_version
from livekit.agents.llm.realtime_fallback_adapter import RealtimeModelFallbackAdapter
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from livekit.plugins import openai
from openai.types.realtime.realtime_audio_input_turn_detection import ServerVad

RATE = 24_000
CHUNK_MS = 20
CHUNK = RATE * 2 * CHUNK_MS // 1000
KEY = "benchmark"
INSTRUCTIONS = "You are a friendly assistant on the phone. Answer in one or two short sentences."
FAST = APIConnectOptions(max_retry=0, timeout=1.0, retry_interval=0.1)
CLOSE_S = 5.0

Tell = Callable[[dict[str, Any]], None]


class Microphone(AudioInput):
    """A live line: silence, the words, silence, each frame once it is over."""

    def __init__(self, words: bytes, pause: float, tell: Tell) -> None:
        super().__init__(label="microphone")
        quiet = bytes(CHUNK)
        self._words = [words[at : at + CHUNK].ljust(CHUNK, b"\0") for at in range(0, len(words), CHUNK)]
        self._to_say = [quiet] * round(pause * 1000 / CHUNK_MS) + self._words
        self._speaking = True
        self._due = time.monotonic()
        self._tell = tell

    async def __anext__(self) -> rtc.AudioFrame:
        self._due += CHUNK_MS / 1000.0
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))
        if self._speaking and not self._to_say:
            self._speaking = False
            self._tell({"turn_end": time.monotonic()})
        chunk = self._to_say.pop(0) if self._to_say else bytes(CHUNK)
        return rtc.AudioFrame(chunk, RATE, 1, CHUNK // 2)

    def say_again(self) -> None:
        self._to_say, self._speaking = list(self._words), True


class Loudspeaker(AudioOutput):
    """Plays in real time whatever it is given, and reports playback as the framework asks of a sink.

    What is heard is left to whoever reads along: pieces with the moment at which they came and the number of their
    segment, and the moments at which what was not played yet was thrown away.
    """

    def __init__(self, tell: Tell) -> None:
        capabilities = AudioOutputCapabilities(pause=False)
        super().__init__(label="loudspeaker", capabilities=capabilities, sample_rate=RATE)
        self._tell = tell
        self._segment = 0
        self._began: float | None = None
        self._given_s = 0.0
        self._finishing: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        now = time.monotonic()
        if self._began is None:
            self._began, self._given_s = now, 0.0
            self._segment += 1
            self.on_playback_started(created_at=time.time())
        played_to = max(now, self._began + self._given_s)
        self._given_s = played_to - self._began + frame.samples_per_channel / RATE
        self._tell({"piece": b64encode(bytes(frame.data)).decode(), "at": now, "segment": self._segment})

    def flush(self) -> None:
        super().flush()
        if self._began is not None and self._finishing is None:
            rest = max(0.0, self._began + self._given_s - time.monotonic())
            self._finishing = asyncio.get_running_loop().call_later(rest, self._finish, False)

    def clear_buffer(self) -> None:
        if self._began is not None:
            self._tell({"flush": time.monotonic()})
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        if self._finishing is not None:
            self._finishing.cancel()
            self._finishing = None
        if self._began is None:
            return
        began, self._began = self._began, None
        position = min(self._given_s, time.monotonic() - began)
        if not interrupted:
            self._tell({"played_out": self._segment})
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


class Cascade(Agent):
    """The other pipeline of a hand-off: speech to text, a text model, text to speech.

    Its parts are made before the call: that takes longer than the tenth of a second after which a lost realtime
    session is tried again, and a hand-off that has missed it waits for the next one.
    """

    def __init__(self, parts: dict[str, Any], chat_ctx: Any, owed: bool) -> None:
        super().__init__(instructions=INSTRUCTIONS, chat_ctx=chat_ctx, **parts)
        self._owed = owed

    @staticmethod
    def parts(options: argparse.Namespace) -> dict[str, Any]:
        speech, llm = f"{options.speech}/v1", f"{options.llm}/v1"
        return {
            "stt": openai.STT(model="simulated", base_url=speech, api_key=KEY),
            "llm": openai.LLM(model="simulated", base_url=llm, api_key=KEY),
            "tts": openai.TTS(model="simulated", base_url=speech, api_key=KEY, response_format="pcm"),
            "vad": inference.VAD(model="silero"),
            "turn_handling": {"turn_detection": "vad", "endpointing": {"min_delay": 0.5}},
        }

    async def on_enter(self) -> None:
        """Answer what is owed, even where its words were not transcribed in time; before the first words nothing is."""
        if self._owed:
            self.session.generate_reply()


class Call:
    """One call; what happens in it is told line by line."""

    def __init__(self, options: argparse.Namespace, words: bytes, pause: float, tell: Tell) -> None:
        self._options, self._words, self._pause, self._tell = options, words, pause, tell
        self._over = asyncio.Event()
        self._handed_over: asyncio.Task[None] | None = None
        self._has_spoken = False
        self._parts = Cascade.parts(options) if options.mode == "handoff" else {}
        self._microphone: Microphone | None = None

    def say_again(self) -> None:
        if self._microphone is not None:
            self._microphone.say_again()

    def hang_up(self) -> None:
        self._over.set()

    async def place(self) -> None:
        self._tell({"connect": time.monotonic()})
        async with aiohttp.ClientSession() as http:
            session: AgentSession[None] = AgentSession(llm=self._model(http))
            session.on("error", lambda event: self._on_error(session, event))
            session.on("close", self._on_close)
            session.on("agent_state_changed", lambda event: self._note("state", event.new_state))
            session.on("user_state_changed", self._on_user_state)
            session.on("conversation_item_added", lambda event: self._note("item", _said(event.item)))
            self._microphone = Microphone(self._words, self._pause, self._tell)
            session.output.audio = Loudspeaker(self._tell)
            session.input.audio = self._microphone
            await session.start(Agent(instructions=INSTRUCTIONS))
            await self._over.wait()
            with suppress(Exception):
                await asyncio.wait_for(session.aclose(), CLOSE_S)

    def _model(self, http: aiohttp.ClientSession) -> Any:
        options = self._options
        conn_options = FAST if options.mode == "fast" else DEFAULT_API_CONNECT_OPTIONS

        def realtime(origin: str) -> openai.realtime.RealtimeModel:
            return openai.realtime.RealtimeModel(
                model=options.model,
                base_url=f"{origin}/v1",
                api_key=KEY,
                http_session=http,
                conn_options=conn_options,
                turn_detection=ServerVad(
                    type="server_vad",
                    threshold=0.5,
                    prefix_padding_ms=300,
                    silence_duration_ms=500,
                    create_response=True,
                    interrupt_response=True,
                ),
            )

        if options.mode == "handoff":
            return realtime(options.primary)
        return RealtimeModelFallbackAdapter([realtime(options.primary), realtime(options.secondary)])

    def _on_close(self, event: Any) -> None:
        if not self._over.is_set():
            self._tell({"closed": str(event.reason)})

    def _on_user_state(self, event: Any) -> None:
        self._has_spoken = self._has_spoken or event.new_state == "speaking"
        self._note("caller", event.new_state)

    def _on_error(self, session: AgentSession[None], event: Any) -> None:
        recoverable = getattr(event.error, "recoverable", None)
        self._note("error", f"{'recoverable' if recoverable else 'final'}: {event.error!r:.300}")
        if self._options.mode == "handoff" and self._handed_over is None:
            self._handed_over = asyncio.create_task(self._hand_over(session))

    async def _hand_over(self, session: AgentSession[None]) -> None:
        """On the first error; without the interruption the hand-over of a speaking agent does not end."""
        await session.interrupt(force=True)
        session.update_agent(Cascade(self._parts, session.history.copy(), self._has_spoken))

    def _note(self, kind: str, text: str) -> None:
        self._tell({"note": kind, "text": text, "at": time.monotonic()})


def _said(item: Any) -> str:
    text = getattr(item, "text_content", None)
    return f"{getattr(item, 'role', item.type)}: {text} (interrupted: {getattr(item, 'interrupted', None)})"


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _one_call(
    options: argparse.Namespace, words: bytes, command: dict[str, Any], calls: dict[int, Call]
) -> None:
    number = command["call"]

    def tell(line: dict[str, Any]) -> None:
        _print({"call": number, **line})

    call = calls[number] = Call(options, words, command["pause"], tell)
    try:
        await call.place()
    except Exception as error:  # whatever a peer raises belongs to its record
        tell({"closed": f"{type(error).__name__}: {error}"})
    tell({"over": True})


async def _serve(options: argparse.Namespace) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    words = options.words.read_bytes()
    calls: dict[int, Call] = {}
    tasks = set()
    _print({"ready": {"livekit-agents": agents_version, "livekit-plugins-openai": openai.__version__}})
    while line := await reader.readline():
        command = json.loads(line)
        if "hangup" in command:
            calls.pop(command["hangup"]).hang_up()
        elif "again" in command:
            calls[command["again"]].say_again()
        else:
            task = asyncio.create_task(_one_call(options, words, command, calls))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    for call in calls.values():
        call.hang_up()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["default", "fast", "handoff"], required=True)
    parser.add_argument("--model", default="gpt-realtime")
    parser.add_argument("--words", type=Path, required=True, help="24 kHz 16 bit mono samples, no header")
    for name in ("primary", "secondary", "speech", "llm"):
        parser.add_argument(f"--{name}", default="", help="origin, such as http://127.0.0.1:9000")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
