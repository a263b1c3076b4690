"""What can go wrong in a part of the pipeline: one small tree, and causes a router can count."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.protocol.answers import Charge
from tiers.speech import SpeechFailed


class Cause(StrEnum):
    """Why a part failed."""

    TIMEOUT = "timeout"
    """Nothing came in time, or what came stopped coming."""
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    """The key was not accepted."""
    BAD_REQUEST = "bad_request"
    EMPTY = "empty"
    MALFORMED = "malformed"
    MISSING = "missing"
    """A package or weights are not installed."""

    @classmethod
    def of_status(cls, status: int) -> Cause:
        """The cause behind an HTTP status."""
        if status in (401, 403):
            return cls.REFUSED
        if status in (408, 504):
            return cls.TIMEOUT
        if status == 429:
            return cls.RATE_LIMITED
        return cls.BAD_REQUEST if 400 <= status < 500 else cls.UNAVAILABLE


class PartFailed(Exception):
    """A part of the pipeline failed. The message is for people and holds no secret."""

    part = "pipeline"

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause

    @property
    def id(self) -> str:
        """Such as ``agent_timeout``: the `cause` of a `Failed` event."""
        return f"{self.part}_{self.cause}"


class TranscriptionFailed(PartFailed):
    """`charges`: what it cost all the same."""

    part = "stt"

    def __init__(self, cause: Cause, message: str, *, charges: tuple[Charge, ...] = ()) -> None:
        super().__init__(cause, message)
        self.charges = charges


class AgentFailed(PartFailed):
    part = "agent"


class EngineFailed(PartFailed, SpeechFailed):
    """A speech engine failed. `rest` is the text that no audio was given for yet, where the engine knows it."""

    part = "tts"

    def __init__(self, cause: Cause, message: str, *, rest: str | None = None) -> None:
        super().__init__(cause, message)
        self.rest = rest
