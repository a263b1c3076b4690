"""Frames that no good client sends, from a seed, and the socket that sends them as they are."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import struct
from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
EVENTS = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
)


def frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    size, flag = len(payload), 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 65_536:
        head += bytes([flag | 126]) + struct.pack("!H", size)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + payload


class Frames:
    """What one bad client sends: `frames()` yields bytes for the wire, any of which may end the connection."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def value(self, depth: int = 0) -> object:
        r = self._random
        kinds = [None, True, -1, 2**63, 1e308, 10**30, "", "x" * 2_000, "\x00", [], {}]
        kinds += [r.random(), "input_audio_buffer", "message", "function", "none", "audio/pcm"]
        if depth < 4 and r.random() < 0.4:
            if r.random() < 0.5:
                return [self.value(depth + 1) for _ in range(r.randrange(4))]
            return {self.name(): self.value(depth + 1) for _ in range(r.randrange(5))}
        return r.choice(kinds)

    def name(self) -> str:
        names = "type id item item_id role content audio input output format rate voice tools name parameters call_id"
        names += " instructions tool_choice max_output_tokens turn_detection threshold metadata conversation session"
        return self._random.choice(names.split())

    def event(self) -> bytes:
        r = self._random
        event: dict[str, object] = {"type": r.choice(EVENTS)}
        for field in (
            "session",
            "item",
            "response",
            "item_id",
            "audio",
            "content_index",
            "audio_end_ms",
            "event_id",
        ):
            if r.random() < 0.3:
                event[field] = self.value()
        if r.random() < 0.3:
            event["session"] = {"type": "realtime", self.name(): self.value()}
        return json.dumps(event).encode()

    def audio(self) -> bytes:
        r = self._random
        good = base64.b64encode(r.randbytes(960)).decode()
        text = r.choice([good, good[:-1], "!!!!", "", "A", "=" * 40, "\\u0000", good + "\n"])
        return b'{"type":"input_audio_buffer.append","audio":"' + text.encode() + b'"}'

    def one(self) -> bytes:
        r = self._random
        made = r.randrange(14)
        if made < 4:
            return frame(self.event())
        if made < 6:
            return frame(self.audio())
        if made == 6:
            return frame(
                r.choice([b"", b"{", b"[]", b"nul", b"\xff\xfe", b'{"type":"\xc3"}', r.randbytes(50)])
            )
        if made == 7:
            depth = r.choice([70, 300, 2_000, 100_000])
            return frame(b'{"type":"session.update","session":' + b"[" * depth + b"]" * depth + b"}")
        if made == 8:
            whole = self.event()
            cut = r.randrange(len(whole))
            between = frame(b"", r.choice([PING, PONG]))
            return frame(whole[:cut], fin=False) + between + frame(whole[cut:], MORE)
        if made == 9:
            return frame(r.randbytes(r.randrange(120)), r.choice([PING, PONG]))
        if made == 10:
            return frame(b'{"type":"response.create","event_id":' + b"9" * 400 + b"}")
        if made == 11:
            return frame(b'{"type":"x","x":"' + b"x" * r.choice([70_000, 1_000_000]) + b'"}')
        return self.fatal() if r.random() < 0.3 else frame(self.event())

    def fatal(self) -> bytes:
        """What breaks the WebSocket's own rules."""
        r = self._random
        return r.choice(
            [
                frame(self.event(), rsv=4),
                frame(self.event(), rsv=r.randrange(1, 8)),
                frame(self.event(), MORE),
                frame(self.event(), BINARY),
                frame(self.event(), masked=False),
                frame(self.event(), r.choice([3, 7, 11, 15])),
                frame(b"x" * 20, PING, fin=False),
                frame(b"\x03", CLOSE),
                frame(struct.pack("!H", 1005), CLOSE),
                frame(b"\xff" * 200),
                frame(b"", fin=False) + frame(self.event()),
                bytes([0x81, 0xFF]) + struct.pack("!Q", 2**62) + bytes(4),
                frame(self.event())[:-5],
            ]
        )

    def frames(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield self.one()


async def misbehave(
    host: str, port: int, frames: Iterator[bytes], *, offer: str = "permessage-deflate"
) -> int:
    """One connection that sends them until it is closed; how many went out."""
    reader, writer = await asyncio.open_connection(host, port)
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /v1/realtime?model=gpt-realtime-2.1 HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Extensions: {offer}\r\n\r\n"
    )
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head, head
    assert b"extensions" not in head.lower(), "an extension was accepted"
    sent = 0

    async def read() -> None:
        while await reader.read(65_536):
            pass

    reading = asyncio.create_task(read())
    try:
        for each in frames:
            if reading.done():
                break
            writer.write(each)
            sent += 1
            await writer.drain()
        writer.write_eof()  # what was sent is looked at; a plain close could make the server drop it
        await asyncio.wait([reading], timeout=2)
    except (ConnectionError, OSError):
        pass
    writer.close()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return sent
