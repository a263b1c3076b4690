"""The caller's audio: how much there was, and the last of it, kept until its turn is answered and its words known."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections import deque

from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.wire import append_audio, base64_size, padding


class InputAudio:
    """Append frames as they came, on the call's own clock: milliseconds of audio received since the call began."""

    def __init__(self, fmt: AudioFormat, *, ring_ms: float = 30_000, cap_ms: float = 60_000) -> None:
        self.format = fmt
        self.total_ms = 0.0
        self._ring_ms = ring_ms
        self._cap_ms = cap_ms
        self._hold_from: float | None = None
        """Audio from here on may still be needed, ring or not; None when nothing is held."""
        self._frames: deque[tuple[float, float, bytes]] = deque()  # start, end, frame

    def append(self, frame: bytes, span: tuple[int, int]) -> float:
        """Keep a frame whose base64 stands at `span` (see `append_audio`); its length in ms."""
        # Exactly: of 20 ms from a telephone the filling would be an eightieth, and half a minute in an hour.
        ms = self._ms(frame, *span)
        start = self.total_ms
        self.total_ms = end = start + ms
        frames = self._frames
        frames.append((start, end, frame))
        keep = end - self._ring_ms
        if self._hold_from is not None:
            keep = max(min(keep, self._hold_from), end - self._cap_ms)
        while frames and frames[0][1] <= keep:
            frames.popleft()
        return ms

    def _ms(self, frame: bytes, start: int, end: int) -> float:
        return self.format.ms(base64_size(end - start, padding(frame, end)))

    def hold(self, from_ms: float | None) -> None:
        """Keep audio from here on, up to the cap; None lets go of all but the ring."""
        self._hold_from = from_ms

    def change_format(self, fmt: AudioFormat) -> None:
        """The client sends another format from now on; what was kept in the old one is let go."""
        self.format = fmt
        self._frames.clear()

    def forget(self) -> None:
        """The call is over: nothing is needed any more."""
        self._frames.clear()

    @property
    def earliest_ms(self) -> float:
        return self._frames[0][0] if self._frames else self.total_ms

    def frames(self, from_ms: float, to_ms: float | None = None) -> list[bytes]:
        """The kept frames that overlap the span, as they came."""
        end = self.total_ms if to_ms is None else to_ms
        return [frame for start, stop, frame in self._frames if stop > from_ms and start < end]

    def length_ms(self, frames: list[bytes]) -> float:
        """How long these frames play."""
        spans = ((frame, append_audio(frame)) for frame in frames)
        return sum(self._ms(frame, *span) for frame, span in spans if span is not None)

    def slice(self, from_ms: float, to_ms: float | None = None) -> bytes:
        """The kept audio of a span as wire bytes, cut to the sample at both ends."""
        end = self.total_ms if to_ms is None else to_ms
        pieces: list[bytes] = []
        for start, stop, frame in self._frames:
            if stop <= from_ms or start >= end:
                continue
            data = self.decode(frame)
            first = self._offset(from_ms - start) if start < from_ms else 0
            last = self._offset(end - start) if stop > end else len(data)
            pieces.append(data[first:last])
        return b"".join(pieces)

    def _offset(self, ms: float) -> int:
        return int(ms * self.format.rate / 1000) * self.format.width

    @staticmethod
    def decode(frame: bytes) -> bytes:
        """The audio in an append frame; nothing if its base64 is broken (the sender was told when it came)."""
        span = append_audio(frame)
        if span is None:
            return b""
        try:
            return a2b_base64(frame[span[0] : span[1]], strict_mode=True)
        except Base64Error:
            return b""
