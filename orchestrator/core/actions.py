"""What the core asks its driver to do. Events go into the core as method calls; these come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.health import ProbeKind
from orchestrator.protocol.answers import AnswerRequest
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.wire import Event


@dataclass(frozen=True, slots=True)
class ToClient:
    event: Event


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """For the provider session that was opened with this `attempt`."""

    event: Event
    attempt: int


@dataclass(frozen=True, slots=True)
class ToUpstreamFrame:
    frame: bytes
    attempt: int


@dataclass(frozen=True, slots=True)
class OpenUpstream:
    """Connect to a Tier A rung. What comes of it carries the same `attempt`; late news of older ones is ignored."""

    attempt: int
    rung: str


@dataclass(frozen=True, slots=True)
class CloseUpstream:
    attempt: int


@dataclass(frozen=True, slots=True)
class Listen:
    """Start our own voice activity detection with the kept audio from `from_ms` of the call's input on."""

    from_ms: float


@dataclass(frozen=True, slots=True)
class StopListening:
    pass


@dataclass(frozen=True, slots=True)
class CheckSpeech:
    """Was there speech in this input audio? The answer comes as ``Call.speech_checked``."""

    audio: bytes
    format: AudioFormat
    threshold: float
    """Probability from which a window of 32 ms counts as speech."""


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Write down a caller's audio; the answer comes as ``Call.transcribed(item_id, …)``."""

    item_id: str
    audio: bytes
    format: AudioFormat
    language: str


@dataclass(frozen=True, slots=True)
class StartAnswer:
    tier: str
    request: AnswerRequest


@dataclass(frozen=True, slots=True)
class StopAnswer:
    answer_id: str


@dataclass(frozen=True, slots=True)
class Report:
    """News of a rung's health for the breaker. `cause` is empty for good news, and `proof` is what that proves."""

    rung: str
    cause: str = ""
    proof: ProbeKind = ProbeKind.RESPONSE


@dataclass(frozen=True, slots=True)
class ClaimMoney:
    """What this call has spent, what is running and what is to be set aside ahead: absolute, in nano-dollars.

    The answer comes as ``Call.granted(sequence, …)``; the newest claim counts.
    """

    sequence: int
    spent: int
    running: int
    ahead: int


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool on the server. What comes of it is told to ``Call.tool_done(tool_call_id, outcome, now)``, once.

    `key` is the idempotency key: the ledger lets what changes something run once under it.
    """

    tool_call_id: str
    tool: str
    arguments: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class AskApproval:
    """A person is to decide about a call of a tool: ``Call.approved(tool_call_id, yes, who, reason, now)``."""

    tool_call_id: str
    tool: str
    arguments: Mapping[str, Any]
    summary: str
    """What is about to happen, in words."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Ask a guardrail about words of Tier A; the answer comes as ``Call.judged(hook, id, line, now)``.

    `id`: of the item that was "heard", of the response that is "said".
    """

    hook: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call: the client's connection is closed, in good order."""

    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the call's timeline."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)


Action = (
    ToClient
    | ToUpstream
    | ToUpstreamFrame
    | OpenUpstream
    | CloseUpstream
    | Listen
    | StopListening
    | CheckSpeech
    | Transcribe
    | StartAnswer
    | StopAnswer
    | Report
    | ClaimMoney
    | RunTool
    | AskApproval
    | Judge
    | HangUp
    | Record
)
