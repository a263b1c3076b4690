"""Recordings of calls: who is recorded, the thread that writes them, what is kept and for how long.

The event loop only puts frames on a queue, and never more of them than `recording.queue_mb`. Everything that touches
a disk or an encoder is done by one thread, so that a disk that is slow or full costs recordings and no call anything.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import shutil
import threading
import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import av
import orjson

from orchestrator.core.redaction import Redactor
from orchestrator.operations_sections import Recording as RecordingSettings
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.wire import append_audio
from orchestrator.server.events import EventLog, Row
from orchestrator.server.recording_files import Kept, Library
from orchestrator.server.recording_tracks import RATE, Mix
from orchestrator.server.recording_writing import SoundFile, Wire

log = logging.getLogger(__name__)

SWEEP_S = 3600.0
CLOSE_S = 5.0
LOOK_AT_DISK = 30 * RATE
CHUNK = 3 * RATE
"""So much is gathered before it is written."""
MOST_ROWS = 5_000
MB = 1024 * 1024


class State(StrEnum):
    """As the row ``recording`` and `GET /v1/calls/{id}` tell it."""

    OFF = "off"
    """Nothing was recorded; `reason` says why."""
    RECORDING = "recording"
    KEPT = "kept"
    FAILED = "failed"
    """It was begun and is not there; `reason` says why."""
    DELETED = "deleted"


class CallOf(Protocol):
    call_id: str
    purpose: str
    bucket: str
    who: str
    recording_consent: bool


class Kind(StrEnum):
    OPEN = "open"
    CALLER = "caller"
    TOLD = "told"
    TOLD_FRAME = "told_frame"
    BARGE_IN = "barge_in"
    ROW = "row"
    HANG_UP = "hang_up"
    CLOSE = "close"
    DISCARD = "discard"


class Recording:
    """One call that is recorded. What is called here is called on the event loop, and returns at once."""

    def __init__(self, info: CallOf, put: Callable[..., None], began_at: float, wall: float) -> None:
        self.call_id, self.purpose, self.bucket, self.who = info.call_id, info.purpose, info.bucket, info.who
        self.began_at, self.started_at = began_at, wall
        self._put = put
        self.over = False
        """Nothing more of it is wanted."""
        self.lost = 0
        """Frames that the queue had no room for."""

    def caller(self, frame: bytes, fmt: AudioFormat, now: float) -> None:
        """A frame of the client's that is plainly audio."""
        self._put(self, Kind.CALLER, now, frame, fmt)

    def told_frame(self, frame: bytes, fmt: AudioFormat, now: float) -> None:
        """A provider's audio delta that was passed on as it came."""
        self._put(self, Kind.TOLD_FRAME, now, frame, fmt)

    def told(self, delta: str, fmt: AudioFormat, now: float) -> None:
        """The base64 of an audio delta that was sent to the client."""
        self._put(self, Kind.TOLD, now, delta.encode(), fmt)

    def barge_in(self, now: float) -> None:
        self._put(self, Kind.BARGE_IN, now)

    def hang_up(self, now: float) -> None:
        self._put(self, Kind.HANG_UP, now)


@dataclass(slots=True)
class _Item:
    recording: Recording
    kind: Kind
    at: float
    data: bytes
    fmt: AudioFormat
    row: Row | None = None


@dataclass(slots=True)
class _Open:
    """What the thread knows of a recording under way."""

    kept: Kept
    file: SoundFile
    mix: Mix
    rows: list[Row]
    caller: Wire
    told: Wire
    ended: int | None = None
    look_at: int = 0


class Recorder:
    """`report(call_id, state, fields)` is called on the event loop when something has become of a recording."""

    def __init__(
        self,
        settings: RecordingSettings,
        events: EventLog,
        redactor: Redactor,
        *,
        expired: Callable[[int], None] = lambda count: None,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._events = settings, events
        self._expired, self._free_bytes, self._clock, self._wall = expired, free_bytes, clock, wall
        self.library = Library(settings, redactor)
        self._live: dict[str, Recording] = {}
        self._told: dict[str, tuple[State, str]] = {}
        """Of live calls, what is known so far."""
        self._queue: queue.SimpleQueue[_Item | Callable[[], None] | None] = queue.SimpleQueue()
        self._came = self._gone = 0
        """Bytes that were put on the queue, and those that the thread is done with."""
        self._open: dict[str, _Open] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    # --- on the event loop ---

    def start(self) -> None:
        if not self._settings.enabled:
            return
        self._loop = asyncio.get_running_loop()
        self._events.listeners.append(self._row)
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()
        self._sweep_now_and_then()

    def began(self, info: CallOf, consent_from: str = "") -> Recording | None:
        """A call begins, or its caller has agreed now. Where anything is recorded, a row says why a call is not.

        `consent_from`: whose key said that the caller agreed, if not the one that opened the call.
        """
        if self._thread is None:
            return None
        reason = self._why_not(info)
        if reason:
            self._tell(info.call_id, State.OFF, reason=reason)
            return None
        recording = Recording(info, self._put, self._clock(), self._wall())
        recording.who = consent_from or info.who
        self._told.pop(info.call_id, None)
        self._live[info.call_id] = recording
        self._put(recording, Kind.OPEN, recording.began_at)
        return recording

    def _why_not(self, info: CallOf) -> str:
        settings = self._settings
        if not info.recording_consent:
            return "no_consent"
        if settings.purposes and info.purpose not in settings.purposes:
            return "purpose"
        return "bucket" if settings.buckets and info.bucket not in settings.buckets else ""

    def ended(self, call_id: str) -> None:
        """The call is over, and its last row is there."""
        self._told.pop(call_id, None)
        recording = self._live.pop(call_id, None)
        if recording is not None:
            self._put(recording, Kind.CLOSE, self._clock())

    def stop_recording(self, call_id: str) -> bool:
        """A live call is recorded no longer, and what there is of it is deleted; False where none is."""
        recording = self._live.pop(call_id, None)
        if recording is None:
            return False
        self._put(recording, Kind.DISCARD, self._clock())
        self._tell(call_id, State.DELETED)
        return True

    def state(self, call_id: str) -> tuple[State, str]:
        """Of a live call, from memory: what becomes of it, and why."""
        usual = State.RECORDING if call_id in self._live else State.OFF
        return self._told.get(call_id, (usual, "" if self._thread is not None else "disabled"))

    async def close(self) -> None:
        """Calls that are still live end here; waits for the disk for some seconds."""
        if self._thread is None:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
        for call_id in list(self._live):
            self.ended(call_id)
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        if self._thread.is_alive():
            log.warning("the disk of recordings is too slow; what waited for it is lost")

    def _put(
        self,
        recording: Recording,
        kind: Kind,
        now: float,
        data: bytes = b"",
        fmt: AudioFormat = AudioFormat.PCM,
    ) -> None:
        if data and recording.over:
            return
        if data and self._came - self._gone + len(data) > self._settings.queue_mb * MB:
            recording.lost += 1
            return
        self._came += len(data)
        self._queue.put(_Item(recording, kind, now, data, fmt))

    def _row(self, row: Row) -> None:
        recording = self._live.get(row["call_id"])
        if recording is not None:
            self._queue.put(_Item(recording, Kind.ROW, 0.0, b"", AudioFormat.PCM, row))

    def _tell(self, call_id: str, state: State, **fields: Any) -> None:
        if state is State.RECORDING and call_id not in self._live:
            return  # it has ended, or was stopped, while its file was made
        if state is State.FAILED and (failed := self._live.get(call_id)) is not None:
            failed.over = True
        if call_id in self._live or state in (State.OFF, State.DELETED):
            self._told[call_id] = state, str(fields.get("reason", ""))
        self._events.add("recording", tier="", call_id=call_id, state=state.value, **fields)

    def _sweep_now_and_then(self) -> None:
        assert self._loop is not None
        self._queue.put(self._sweep)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep_now_and_then)

    # --- in the thread ---

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Item):
                self._carry_out(item)
                self._gone += len(item.data)
            else:
                item()

    def _carry_out(self, item: _Item) -> None:
        call_id = item.recording.call_id
        try:
            if item.kind is Kind.OPEN:
                self._begin(item.recording)
            elif (known := self._open.get(call_id)) is not None:
                self._go_on(known, item)
        except (OSError, av.FFmpegError, _DiskFull) as error:
            reason = (
                "disk_full" if isinstance(error, _DiskFull) or getattr(error, "errno", 0) == 28 else "disk"
            )
            log.warning("the recording of call %s is given up: %s", call_id, error)
            self._give_up(call_id)
            self._report(call_id, State.FAILED, reason=reason)
        except Exception:
            log.exception("the recording of call %s is given up", call_id)
            self._give_up(call_id)
            self._report(call_id, State.FAILED, reason="internal_error")

    def _begin(self, recording: Recording) -> None:
        kept = self.library.place(recording.call_id, recording.started_at)
        self._check_disk(kept.folder)
        file = SoundFile(kept.part, self._settings.format)
        self._open[recording.call_id] = _Open(kept, file, Mix(), [], Wire(), Wire(), look_at=LOOK_AT_DISK)
        self._report(recording.call_id, State.RECORDING)

    def _check_disk(self, folder: Path) -> None:
        free = self._free_bytes(folder) // MB
        if free < self._settings.min_free_mb:
            raise _DiskFull(f"{free} MB are free at {folder}, less than recording.min_free_mb")

    def _go_on(self, known: _Open, item: _Item) -> None:
        at = round((item.at - item.recording.began_at) * RATE)
        match item.kind:
            case Kind.CALLER:
                known.mix.caller(known.caller.samples(_sound_of(item), item.fmt), at)
            case Kind.TOLD | Kind.TOLD_FRAME:
                known.mix.told(known.told.samples(_sound_of(item), item.fmt), at)
            case Kind.BARGE_IN:
                known.mix.barge_in(at)
            case Kind.HANG_UP:
                known.ended = at
            case Kind.ROW if item.row is not None and len(known.rows) < MOST_ROWS:
                known.rows.append(item.row)
            case Kind.DISCARD:
                self._give_up(item.recording.call_id)
            case Kind.CLOSE:
                self._keep(known, item.recording, at)
        if item.data and at - known.mix.taken >= CHUNK:
            for samples in known.mix.take(at):
                known.file.write(samples)
            if known.mix.taken >= known.look_at:
                known.look_at = known.mix.taken + LOOK_AT_DISK
                self._check_disk(known.kept.folder)

    def _keep(self, known: _Open, recording: Recording, at: int) -> None:
        for samples in known.mix.rest(at if known.ended is None else known.ended):
            known.file.write(samples)
        known.file.close()
        seconds = round(known.mix.taken / RATE, 3)
        about = {
            "call_id": recording.call_id,
            "purpose": recording.purpose,
            "bucket": recording.bucket,
            "started_at": recording.started_at,
            "seconds": seconds,
            "consent_from": recording.who,
            "frames_lost": recording.lost,
        }
        self.library.keep(known.kept, about, known.rows)
        del self._open[recording.call_id]
        self._report(recording.call_id, State.KEPT, seconds=seconds, frames_lost=recording.lost)

    def _give_up(self, call_id: str) -> None:
        known = self._open.pop(call_id, None)
        if known is None:
            return
        with suppress(OSError, av.FFmpegError):
            known.file.close()
        self.library.drop(known.kept)

    def _report(self, call_id: str, state: State, **fields: Any) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # where the loop has ended, nobody is there to be told
            self._loop.call_soon_threadsafe(lambda: self._tell(call_id, state, **fields))

    def _sweep(self) -> None:
        try:
            count = self.library.sweep(self._wall() - self._settings.retention_days * 86_400)
        except OSError as error:
            log.warning("recordings that are too old could not be deleted: %s", error)
            return
        if count and self._loop is not None:
            self._loop.call_soon_threadsafe(self._expired, count)


class _DiskFull(Exception):
    pass


def _sound_of(item: _Item) -> bytes:
    """The wire bytes in a frame; nothing where there are none that can be read."""
    data = item.data
    try:
        if item.kind is Kind.CALLER:
            span = append_audio(data)
            data = data[span[0] : span[1]] if span is not None else b""
        elif item.kind is Kind.TOLD_FRAME:
            data = orjson.loads(data)["delta"]
        return a2b_base64(data, strict_mode=True)
    except (Base64Error, ValueError, KeyError, TypeError):
        return b""


_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def is_call_id(text: str) -> bool:
    """Whether that can be a call's id, and so a part of a file's name."""
    return _ID.fullmatch(text) is not None
