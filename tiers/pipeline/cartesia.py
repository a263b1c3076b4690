"""Cartesia's text to speech on its websocket, under our own supervision.

The SDK opens the socket, signs in and parses events; contexts are routed here, because its helper (4.2.0) cannot be
left alone with a call: it never reconnects, waits for ever when the server drops the socket, hangs a reader whose
context is cancelled, and drops an error that names no context. So here every dial is a new ``websocket_connect``, every
wait has a deadline, cancelling never waits, and what concerns no one context concerns them all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.core.price_list import ModelPrice
from orchestrator.protocol.audio import SPEAK_RATE, Pcm16
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.reading import spoken
from tiers.pipeline.tts import Samples, own_voices

if TYPE_CHECKING:
    from cartesia import AsyncCartesia

MODEL = "sonic-3.5"
KATIE = "f786b574-daa5-4673-aa0c-cbe3e8534c02"
KIEFER = "228fca29-3a0a-435c-8728-5cb483251068"
VOICES = {
    "alloy": KATIE,
    "ash": KIEFER,
    "ballad": KIEFER,
    "cedar": KIEFER,
    "coral": KATIE,
    "echo": KIEFER,
    "marin": KATIE,
    "sage": KATIE,
    "shimmer": KATIE,
    "verse": KIEFER,
}
"""Realtime voice to a Cartesia voice: the two that Cartesia names for phone agents, by sex (docs/speaking.md)."""
_VOICE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SPEEDS = (0.6, 1.5)
GAP = 0.1
"""Seconds that may pass between one word's end and the next one's start."""
PRICE = ModelPrice(per_character=0.00005)
"""One credit a character at 5 dollars for 100,000 credits, the dearest plan: set your own plan's price."""


@dataclass
class _Context:
    """One text on its way: the events that came for it, and how far it was said."""

    events: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    starts: list[float] = field(default_factory=list)
    """When each word begins, in seconds of this context's audio."""
    timed: float = 0.0
    """Up to when the words' times are known."""
    ended: bool = False

    def time(self, words: Any) -> None:
        self.starts.extend(words.start)
        self.timed = max((self.timed, *words.end))

    def rest(self, text: str, said: float) -> str | None:
        """The words of `text` that had not begun after `said` seconds; None where the times do not tell."""
        if self.timed + GAP < said:
            return None
        return " ".join(text.split()[sum(start < said for start in self.starts) :])


class _Socket:
    """One connection and the contexts that share it. Once dead it stays dead."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.contexts: dict[str, _Context] = {}
        self._reader = asyncio.create_task(self._read())

    @property
    def dead(self) -> bool:
        return self._reader.done()

    async def _read(self) -> None:
        failure = EngineFailed(Cause.UNAVAILABLE, "Cartesia closed the connection")
        try:
            while True:
                self._route(await self._connection.recv())
        except asyncio.CancelledError:
            raise
        except ValueError:
            failure = EngineFailed(Cause.MALFORMED, "Cartesia sent something that is not an event")
        except Exception as error:
            failure.__cause__ = error
        finally:
            for context in self.contexts.values():
                context.events.put_nowait(failure)

    def _route(self, event: Any) -> None:
        name = getattr(event, "context_id", None)
        contexts = [self.contexts[name]] if name in self.contexts else []
        if name is None and getattr(event, "type", None) == "error":
            contexts = list(self.contexts.values())
        for context in contexts:
            context.events.put_nowait(event)

    async def send(self, event: dict[str, Any]) -> None:
        await self._connection.send(event)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._connection.close()


class _Pace:
    """How long the next audio of a text may take. What counts is the time spent waiting, not the reader's own."""

    def __init__(self, first: float, behind: float) -> None:
        self._left = first
        self._behind = behind
        self._waited = self._got = 0.0

    async def wait(self, event: Awaitable[Any]) -> Any:
        """The next event, or EngineFailed when audio is late."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left):
                return await event
        except TimeoutError:
            raise EngineFailed(Cause.TIMEOUT, "Cartesia's next audio is late") from None
        finally:
            spent = loop.time() - began
            self._waited += spent if self._got else 0.0
            self._left -= spent

    def audio(self, seconds: float) -> None:
        """More audio came: from now on `behind` may pass in silence, and as much less as it is slower than speech."""
        self._got += seconds
        self._left = min(self._behind, self._behind + self._got - self._waited)


class CartesiaSpeech:
    """One websocket for all callers of this engine; it is dialled when needed and again after it died.

    `base_url` is an HTTP or websocket address of a compatible server. `voice` is a Cartesia voice that speaks for all
    Realtime voices, `voices` has one for some of them. Timeouts are seconds: to connect, to the first audio of a
    text, and how far its audio may then fall behind real time.
    """

    rung = "cartesia"

    def __init__(
        self,
        api_key: str,
        base_url: str | None = None,
        *,
        model: str = MODEL,
        voice: str = "",
        voices: Mapping[str, str] | None = None,
        connect_timeout: float = 2.0,
        first_audio_timeout: float = 2.0,
        stall_timeout: float = 1.0,
        price: ModelPrice = PRICE,
    ) -> None:
        self.version = own_voices(model, {**({"": voice} if voice else {}), **(voices or {})})
        self.price = price
        self._api_key, self._base_url, self._model = api_key, base_url, model
        self._voice, self._voices = voice, dict(voices or {})
        self._connect_timeout = connect_timeout
        self._first_audio_timeout, self._stall_timeout = first_audio_timeout, stall_timeout
        self._client: AsyncCartesia | None = None
        self._socket: _Socket | None = None
        self._dialling = asyncio.Lock()
        self._cancels: set[asyncio.Task[None]] = set()

    async def warm(self) -> None:
        """Opens the websocket, so that the first caller does not wait for the handshake."""
        await self._connected()

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        text = spoken(text, language)
        name, context = uuid.uuid4().hex, _Context()
        socket = await self._begin(name, context, self._request(name, text, voice, speed, language))
        samples, said = Samples(), 0.0
        try:
            async for data in self._audio(context):
                pcm = samples.feed(data)
                said += len(pcm) / SPEAK_RATE
                yield pcm
        except EngineFailed as failure:
            failure.rest = context.rest(text, said)
            raise
        finally:
            del socket.contexts[name]
            if not context.ended and not socket.dead:
                self._cancel(socket, name)

    async def _audio(self, context: _Context) -> AsyncIterator[bytes]:
        """The audio of a context until it is done. Only audio keeps the deadline away, not just any event."""
        pace = _Pace(self._first_audio_timeout, self._stall_timeout)
        while True:
            event = await pace.wait(context.events.get())
            if isinstance(event, EngineFailed):
                context.ended = True
                raise event
            if event.type == "chunk" and event.data:
                try:
                    data = base64.b64decode(event.data, validate=True)
                except binascii.Error as error:
                    raise EngineFailed(Cause.MALFORMED, "Cartesia sent audio that is not base64") from error
                pace.audio(len(data) / 2 / SPEAK_RATE)
                yield data
            elif event.type == "timestamps" and event.word_timestamps:
                context.time(event.word_timestamps)
            elif event.type == "error":
                context.ended = True
                raise _failure(event)
            elif event.type == "done":
                context.ended = True
                return

    def _request(self, name: str, text: str, voice: str, speed: float, language: str) -> dict[str, Any]:
        request: dict[str, Any] = {
            "context_id": name,
            "model_id": self._model,
            "transcript": text,
            "voice": {"mode": "id", "id": self._voice_id(voice)},
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": SPEAK_RATE},
            "language": language.split("-")[0].lower(),
            "add_timestamps": True,
            "max_buffer_delay_ms": 0,
            "continue": False,
        }
        if speed != 1.0:
            request["generation_config"] = {"speed": min(max(speed, SPEEDS[0]), SPEEDS[1])}
        return request

    def _voice_id(self, voice: str) -> str:
        """The operator's choice for a Realtime name, a Cartesia id as it is, else the nearest."""
        if voice in self._voices:
            return self._voices[voice]
        if _VOICE_ID.fullmatch(voice):
            return voice
        return self._voice or VOICES.get(voice, KATIE)

    async def _begin(self, name: str, context: _Context, request: dict[str, Any]) -> _Socket:
        """Sends on a live socket. One that died while idle shows it only now, so there is a second try."""
        for last in (False, True):
            socket = await self._connected()
            socket.contexts[name] = context
            try:
                async with asyncio.timeout(self._connect_timeout):
                    await socket.send(request)
                return socket
            except BaseException as error:
                del socket.contexts[name]
                if not isinstance(error, Exception):
                    raise
                self._socket = None
                if last:
                    raise EngineFailed(Cause.UNAVAILABLE, "Cartesia did not take the text") from error
        raise AssertionError("unreachable")

    async def _connected(self) -> _Socket:
        async with self._dialling:
            if self._socket is None or self._socket.dead:
                self._socket = _Socket(await self._dial())
            return self._socket

    async def _dial(self) -> Any:
        import websockets

        try:
            async with asyncio.timeout(self._connect_timeout):
                if self._client is None:
                    self._client = await asyncio.to_thread(self._sdk)
                options: Any = {"compression": None}
                return await self._client.tts.websocket_connect(websocket_connection_options=options).enter()
        except TimeoutError as error:
            raise EngineFailed(Cause.TIMEOUT, "Cartesia did not answer the handshake in time") from error
        except websockets.InvalidStatus as error:
            status = error.response.status_code
            raise EngineFailed(
                Cause.of_status(status), f"Cartesia refused the handshake: {status}"
            ) from error
        except (OSError, websockets.WebSocketException) as error:
            raise EngineFailed(
                Cause.UNAVAILABLE, f"Cartesia could not be reached: {type(error).__name__}"
            ) from error

    def _sdk(self) -> AsyncCartesia:
        from cartesia import AsyncCartesia

        http, websocket = _addresses(self._base_url)
        return AsyncCartesia(
            api_key=self._api_key, base_url=http, websocket_base_url=websocket, max_retries=0
        )

    def _cancel(self, socket: _Socket, name: str) -> None:
        """Tells the server to stop, without waiting for it."""

        async def cancel() -> None:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    await socket.send({"context_id": name, "cancel": True})
            except Exception:
                return  # a socket that cannot take this is found dead by the next text

        task = asyncio.create_task(cancel())
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._client is not None:
            await self._client.close()


def _failure(event: Any) -> EngineFailed:
    """An error event. Its own words may quote the request, so only its code is repeated."""
    code = getattr(event, "error_code", None) or "error"
    status = getattr(event, "status_code", None) or 500
    cause = Cause.RATE_LIMITED if code == "concurrency_limited" else Cause.of_status(int(status))
    return EngineFailed(cause, f"Cartesia answered {status} ({code})")


def _addresses(base_url: str | None) -> tuple[str | None, str | None]:
    """The HTTP and the websocket address of one server; the SDK derives neither from the other without TLS."""
    if base_url is None:
        return None, None
    scheme, separator, rest = base_url.rstrip("/").partition("://")
    tls = {"http": "", "ws": "", "https": "s", "wss": "s"}.get(scheme)
    if tls is None or not separator:
        raise ValueError(f"expected an http, https, ws or wss address for Cartesia, not {base_url!r}")
    return f"http{tls}://{rest}", f"ws{tls}://{rest}"
