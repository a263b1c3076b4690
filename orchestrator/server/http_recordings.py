"""`/v1/calls/{id}/recording`: a recorded call to be listened to, its timeline, and how it is deleted; for operators."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, Literal, Protocol

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import Body
from orchestrator.server.audit import Audit
from orchestrator.server.call_records import CallRecords
from orchestrator.server.guards import Guards, who
from orchestrator.server.identity import Identity
from orchestrator.server.recording import Recorder, State, is_call_id
from orchestrator.server.recording_files import Kept

LISTENED_S = 300.0
"""A player asks for one file in many parts: within this it is one act."""
_RANGE = re.compile(r"bytes=(?!-$)(\d{0,15})-(\d{0,15})", re.ASCII)
_NOT_THERE = answers(404, "There is no recording of that call here; the message says why where it is known.")


class ConsentBody(Body):
    consent: bool = Field(description="Whether the caller agrees to be recorded.")


class RecordingState(BaseModel):
    call_id: str
    state: Literal["off", "recording", "kept", "failed", "deleted"]
    reason: str = Field(description="Why nothing is recorded; empty where something is.")


class RecordingTimeline(BaseModel):
    """What lies beside the sound. Rows have `at_ms`, their place in it."""

    call_id: str
    purpose: str
    bucket: str
    started_at: float = Field(description="Unix seconds where the sound begins.")
    seconds: float
    consent_from: str = Field(description="Whose key said that the caller agreed.")
    frames_lost: int = Field(description="Frames that are silence here, because the disk was too slow.")
    transcript: Literal["redacted", "full", "none"]
    rows: list[dict[str, Any]]


class Service(Protocol):
    @property
    def recorder(self) -> Recorder: ...

    @property
    def records(self) -> CallRecords: ...

    @property
    def audit(self) -> Audit: ...

    def set_recording_consent(self, call_id: str, consent: bool, who: str) -> tuple[State, str] | None: ...

    def stop_recording(self, call_id: str) -> bool: ...


class Listened:
    """Who has listened to what lately, so that the audit trail has one entry of it."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], float] = {}

    def is_new(self, identity: Identity, call_id: str, now: float) -> bool:
        self._at = {key: at for key, at in self._at.items() if now - at < LISTENED_S}
        return self._at.setdefault((identity.id, call_id), now) == now


def add_recordings(api: FastAPI, service: Service, guards: Guards) -> None:
    listened = Listened()
    # Threads of their own number, so that a disk that hangs holds up nobody but those who listen.
    disk = CapacityLimiter(4)

    async def find(call_id: str) -> Kept:
        known = is_call_id(call_id)
        kept = await run_sync(service.recorder.library.find, call_id, limiter=disk) if known else None
        if kept is None:
            raise _missing(service, call_id)
        return kept

    @api.post(
        "/v1/calls/{id}/recording",
        tags=["operations"],
        dependencies=guards.service,
        responses={**ERRORS, **answers(404, "This replica has no such call in progress.")},
    )
    async def set_consent(id: str, body: ConsentBody, request: Request) -> RecordingState:
        """The caller of a call in progress has been asked, and agrees to be recorded from now on; or no longer does.

        Without consent what there is of the recording is deleted.
        """
        identity = who(request)
        found = service.set_recording_consent(id, body.consent, identity.id)
        if found is None:
            message = f"this replica has no call {id!r:.80} in progress; GET /v1/calls lists those it has"
            raise ApiError(404, "unknown_call", message, "id")
        service.audit.note(identity, "recording.consent", id, consent=body.consent, state=found[0].value)
        return RecordingState(call_id=id, state=found[0].value, reason=found[1])

    @api.get(
        "/v1/calls/{id}/recording",
        tags=["operations"],
        dependencies=guards.operator,
        response_class=FileResponse,
        responses={
            **ERRORS,
            **_NOT_THERE,
            200: {"content": {"audio/ogg": {}, "audio/flac": {}}, "description": "The whole file."},
            416: {"description": "There is no such part."},
            206: {"content": {"audio/ogg": {}, "audio/flac": {}}, "description": "A part of it."},
        },
    )
    async def get_recording(id: str, request: Request) -> FileResponse:
        """The sound of a call, the caller on the left, what the caller was told on the right; with ranges."""
        kept = await find(id)
        _ignore_odd_ranges(request)
        if listened.is_new(who(request), id, time.monotonic()):
            service.audit.note(who(request), "recording.listened", id)
        headers = {"Cache-Control": "private, no-store"}
        return FileResponse(kept.sound, media_type=kept.media_type, filename=kept.sound.name, headers=headers)

    @api.get(
        "/v1/calls/{id}/recording/timeline",
        tags=["operations"],
        dependencies=guards.operator,
        responses={**ERRORS, **_NOT_THERE},
    )
    async def get_recording_timeline(id: str, request: Request) -> RecordingTimeline:
        """The rows of a recorded call, each with its place in the sound."""
        await find(id)
        found = await run_sync(service.recorder.library.read, id, limiter=disk)
        if found is None:
            raise _missing(service, id)
        service.audit.note(who(request), "recording.read", id)
        return RecordingTimeline.model_validate(found)

    @api.delete(
        "/v1/calls/{id}/recording",
        tags=["operations"],
        dependencies=guards.operator,
        status_code=204,
        responses={**ERRORS, **_NOT_THERE},
    )
    async def delete_recording(
        id: str, request: Request, reason: Annotated[str, Query(min_length=1, max_length=500)]
    ) -> Response:
        """Deletes it, with its timeline. A call in progress is recorded no longer."""
        live = service.stop_recording(id)
        kept = is_call_id(id) and await run_sync(service.recorder.library.delete, id, limiter=disk)
        if not live and not kept:
            raise _missing(service, id)
        service.audit.note(who(request), "recording.deleted", id, reason, in_progress=live)
        return Response(status_code=204)


def _ignore_odd_ranges(request: Request) -> None:
    """The whole file is a right answer to several ranges, and to what is none."""
    asked = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or (asked[1] and asked[2] and int(asked[1]) > int(asked[2])):
        headers = request.scope["headers"]
        request.scope["headers"] = [(name, value) for name, value in headers if name != b"range"]


def _missing(service: Service, call_id: str) -> ApiError:
    state, reason = service.recorder.state(call_id)
    if state is State.RECORDING:
        message = f"the call {call_id!r:.80} is being recorded; its recording is there when it has ended"
        return ApiError(404, "recording_not_ready", message, "id")
    record = service.records.get(call_id)
    if record is not None and record.recording is not None:
        state, reason = State(record.recording[0]), record.recording[1]
    if state is State.RECORDING:
        message = f"the recording of the call {call_id!r:.80} is still being written; ask again in a moment"
        return ApiError(404, "recording_not_ready", message, "id")
    why = f" ({reason})" if reason and record is not None else ""
    message = (
        f"there is no recording of the call {call_id!r:.80} at this replica{why}; calls are recorded where "
        "recording.enabled is set and recording_consent was given, and kept for recording.retention_days"
    )
    return ApiError(404, "no_recording", message, "id")
