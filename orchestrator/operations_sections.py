"""Settings of what operators see of calls: latency budgets, recordings, traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr

from orchestrator.config_sections import HttpUrl, Names, Section
from orchestrator.core.latency import Limits
from orchestrator.models import APP


def _none(value: Any) -> Any:
    """An empty variable counts as not set, so that no limit at all is written as ``none``."""
    return None if value in ("", "none") else value


Ms = Annotated[PositiveFloat | None, BeforeValidator(_none)]


class LatencyBudgets(Section):
    """How long parts of the waiting may take, in ms; "none" sets no limit. A breach is told and changes nothing."""

    transport_ms: Ms = 300.0
    """The way: the round trip to the client and, in Tier A, that to the provider."""
    reasoning_ms: Ms = 1500.0
    """From the end of a turn to the first audio of its answer."""
    reasoning_by_tier: dict[Literal["A", "B", "C"], PositiveFloat] = Field(default_factory=dict)
    """The same of some tiers, over `reasoning_ms`."""
    recovery_ms: Ms = 2000.0
    """The silence at a handover, before an answer that is tried again, after a false interruption."""
    ping_s: float = Field(default=10.0, ge=1, le=300)
    """How often the way is measured."""

    def limits(self) -> Limits:
        by_tier = {str(tier): ms for tier, ms in self.reasoning_by_tier.items()}
        return Limits(self.transport_ms, self.reasoning_ms, self.recovery_ms, by_tier)


class Recording(Section):
    """Recordings of calls whose callers agreed to it."""

    enabled: bool = False
    """Whether any call may be recorded."""
    dir: Path | None = None
    """Where they are kept. None is a folder of the user's data."""
    purposes: Names = ()
    """Purposes of calls that may be recorded; none named, all of them."""
    buckets: Names = ()
    """Buckets of such calls; none named, all of them."""
    format: Literal["opus", "flac"] = "opus"
    """flac loses nothing and is about ten times as large."""
    transcript: Literal["redacted", "full", "none"] = "redacted"
    """What was said, in the timeline beside the sound: without secrets and card numbers, whole, or not at all."""
    retention_days: float = Field(default=30.0, gt=0, le=3650)
    """After that they are deleted."""
    min_free_mb: NonNegativeInt = 500
    """Nothing is recorded while less than that is free where they are kept."""
    queue_mb: PositiveInt = 64
    """Sound that may wait for a slow disk; what comes on top is missing from the recordings."""

    @property
    def folder(self) -> Path:
        return self.dir or platformdirs.user_data_path(APP) / "recordings"


class Telemetry(Section):
    """Traces of calls for an OpenTelemetry collector."""

    otlp_endpoint: HttpUrl | None = None
    """Where it takes OTLP over HTTP, like http://127.0.0.1:4318; None sends no traces."""
    otlp_headers: dict[str, SecretStr] = Field(default_factory=dict)
    """What it wants to be sent with them, by name: a key, for one."""
    service_name: str = Field(default="voice-orchestrator", min_length=1, max_length=200)
    share: float = Field(default=1.0, ge=0, le=1)
    """Share of calls that are traced."""
    queue_limit: PositiveInt = 2048
    """Spans that may wait for the collector; what comes on top is dropped."""

    @property
    def traces_url(self) -> str | None:
        """The address that traces are posted to: an endpoint without a path is a collector's usual one."""
        endpoint = self.otlp_endpoint
        return f"{endpoint}/v1/traces" if endpoint and not urlsplit(endpoint).path.strip("/") else endpoint
