"""What the HTTP API takes and gives: the bodies that /openapi.json describes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.route_changes import ChangeKind
from orchestrator.server.prompt_files import FASTEST, SLOWEST, AudioName


class ErrorDetail(BaseModel):
    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "rate_limit_error",
        "server_error",
    ]
    message: str = Field(description="What was expected, what came, and what to do.")
    code: str | None = Field(None, description="A short id that stays the same.")
    param: str | None = Field(None, description="The part of the request that is wrong.")


class ErrorBody(BaseModel):
    error: ErrorDetail


class Body(BaseModel):
    """Request bodies refuse what they do not know, so that a misspelt field is not silently left out."""

    model_config = ConfigDict(extra="forbid")


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class ReadyPart(BaseModel):
    name: str
    ready: bool
    required: bool = Field(description="Whether /readyz waits for it.")
    detail: str = Field(description="What is wrong.")
    remedy: str = Field("", description="What to do about it.")


class Readiness(BaseModel):
    ready: bool
    parts: list[ReadyPart]


class RouteBody(Body):
    """A call that somebody is about to place."""

    call_id: str = ""
    user: str = ""
    purpose: str = Field("conversation", description="What the call is for; some purposes are always Tier C.")
    transport: Literal["websocket", "http"] = "websocket"
    bucket: str | None = Field(None, description="The budget it is charged to; none: the default one.")
    allowed_tools: list[str] = Field([], description="Tools the call may use.")


class CandidateBody(BaseModel):
    """A rung that was not chosen, and why."""

    tier: Literal["A", "B", "C"]
    rung: str
    passed_over: str
    detail: str


class SetAsideBody(BaseModel):
    override_id: str
    why: Literal["nothing_usable", "contradicted", "health"]
    by: str = Field(description="The override that stands against it, where one does.")


class ChosenBody(BaseModel):
    """The rung that was chosen."""

    tier: Literal["A", "B", "C"]
    rung: str
    reason: str
    decided_by: Literal["hard_cap", "policy", "override", "health", "default"]
    override_id: str | None
    usd_per_minute: float = Field(description="A rough price of one minute of conversation on this rung.")
    allowed_tools: list[str]
    set_aside: list[SetAsideBody] = Field(
        [], description="Overrides that apply and count for nothing in this decision."
    )


class DecisionBody(ChosenBody):
    candidates: list[CandidateBody]


class Connect(BaseModel):
    """Where to go with the call."""

    kind: Literal["realtime", "prompt"]
    method: Literal["GET", "POST"]
    url: str = Field(description="realtime: open a WebSocket here. prompt: POST the prompt's variables here.")


class PassedOver(CandidateBody):
    """A rung that was not chosen, with the facts."""

    decided_by: Literal["hard_cap", "policy", "override", "health", "default"]
    sentence: str = Field(description="What decided, in words: which cap and by how much, whose override …")


class WouldChange(BaseModel):
    """A single change after which another tier or rung would be chosen: worked out by deciding again with it."""

    change: ChangeKind
    about: str = Field(description="Of what: an override's id, a rung, a tier, call or bucket, a purpose.")
    amount_usd: float | None = Field(
        description="By how much, where it is about money: the least that does it."
    )
    at: float | None = Field(
        description="Unix seconds, of what comes by itself: an expiry, the end of a day."
    )
    sentence: str
    tier: Literal["A", "B", "C"] | None = Field(description="That would then be chosen; null: none is ready.")
    rung: str | None
    reason: str
    decided_by: Literal["hard_cap", "policy", "override", "health", "default"]


class RungLatency(BaseModel):
    """What a part of the waiting took lately in calls that the rung served, in ms. It does not decide anything."""

    tier: Literal["A", "B", "C"]
    rung: str
    part: Literal["transport", "reasoning", "recovery"]
    count: int = Field(description="Times of this replica that it is taken from, of the last 15 minutes.")
    median_ms: float
    p95_ms: float
    limit_ms: float | None = Field(description="Of `latency_budgets`; null: none is set.")
    breaches: int = Field(description="How many of them were above it.")


class RouteAnswer(ChosenBody):
    sentence: str = Field(description="Why this rung, in words.")
    candidates: list[PassedOver]
    would_change: list[WouldChange]
    connect: Connect
    latency: list[RungLatency]


class PromptBody(Body):
    variables: dict[str, Any] = Field({}, description="The prompt's variables by name.")
    voice: str = Field("", max_length=100)
    language: str = Field("en", max_length=35)
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST)
    format: AudioName = "wav"
    output: Literal["audio", "url"] = Field(
        "audio", description="url: an address that needs no key, for whoever cannot send one."
    )
    expires_in_s: float | None = Field(
        None, ge=1, description="How long the address is to work, at most `links.ttl_s`."
    )


class PromptLink(BaseModel):
    """A prompt that is ready, and where."""

    url: str = Field(description="GET it, with ranges and conditions; no key is needed.")
    expires_at: int = Field(description="Unix seconds.")
    format: AudioName
    text: str
    seconds: float
    bytes: int
    cache: Literal["hit", "stale", "miss"]
    cost_usd: float


class PreviewBody(Body):
    variables: dict[str, Any] = Field({}, description="The prompt's variables by name.")
    voice: str = Field("", max_length=100)
    language: str = Field("en", max_length=35)
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST)
    format: AudioName = "wav"


class PreviewView(BaseModel):
    """A prompt as it would be said."""

    name: str
    language: str = Field(description="Of the text that was chosen: de for de-AT.")
    voice: str
    text: str = Field(description="As a transcript has it.")
    spoken: str = Field(description="As the engine gets it.")
    cached: bool = Field(description="Whether it is there already, so that it costs and takes nothing.")
    worst_cost_usd: float
    url: str = Field(description="A signed address of the audio, which is made when it is asked for.")
    expires_at: int = Field(description="Unix seconds.")


class OverrideBody(Body):
    """What is wrong with one is said by the core; the patterns here are for readers and for clients' tools."""

    tier: str = Field(
        description="A, B or C, or one rung of it: A/gpt-realtime-2.1.",
        max_length=200,
        json_schema_extra={"pattern": "^[A-Ca-c](/.+)?$"},
    )
    limit: str = Field(
        "force",
        description="force; ceiling: nothing better; floor: nothing worse.",
        json_schema_extra={"pattern": "^(force|ceiling|floor)$"},
    )
    share: float = Field(
        100.0,
        description="Per cent of the calls that begin from now on; 100: of all.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 100},
    )
    when: str = Field(
        "next_turn",
        description="next_turn; now: in the middle of an answer, too.",
        json_schema_extra={"pattern": "^(next_turn|now)$"},
    )
    scope: str = Field(
        "all",
        description="all, call:ID, user:ID, purpose:NAME or bucket:NAME.",
        json_schema_extra={"pattern": r"^(all|(call|user|purpose|bucket):[A-Za-z0-9].*)$"},
    )
    duration: str = Field(
        "15m",
        alias="for",
        description="90s, 15m, 2h, at most 30d.",
        json_schema_extra={"pattern": "^([1-9][0-9]{0,4}[smhd])+$"},
    )
    reason: str = Field(
        description="For others to read.", max_length=1000, json_schema_extra={"pattern": r"\S"}
    )
    who: str = Field(
        "", max_length=200, description="Who you are; it is kept beside the name of the key that asks."
    )


class ExtendBody(Body):
    duration: str = Field(
        alias="for",
        description="From now on: 90s, 15m, 2h, at most 30d.",
        json_schema_extra={"pattern": "^([1-9][0-9]{0,4}[smhd])+$"},
    )
    reason: str = Field("", max_length=1000, description="Why it goes on.")
    who: str = Field("", max_length=200)


class OverrideView(BaseModel):
    id: str
    tier: Literal["A", "B", "C"]
    rung: str = Field(description="Of the tier; empty: all of it.")
    limit: Literal["force", "ceiling", "floor"]
    share: float
    when: Literal["next_turn", "now"]
    name: str = Field(description="Of the key it was made with.")
    typed: str = Field(description="Who the operator said they are.")
    scope: str
    until: float = Field(description="Unix seconds.")
    reason: str
    who: str = Field(description="The id of the key it was made with.")
    created: float = Field(description="Unix seconds.")


class Overrides(BaseModel):
    overrides: list[OverrideView]


class VerdictBody(Body):
    """What somebody decided about a tool call."""

    decision: Literal["approve", "reject"]
    who: str = Field(min_length=1, max_length=200, description="Who decided; it is written down.")
    reason: str = Field("", max_length=1000, description="Why; of a rejection the caller's agent is told.")


class ApprovalView(BaseModel):
    """A tool call that a person has to approve. Times are Unix seconds."""

    id: str
    call_id: str
    tool_call_id: str
    tool: str
    arguments: dict[str, Any] = Field(description="Without what is secret.")
    summary: str = Field(description="What is about to happen, in words.")
    user: str
    bucket: str
    purpose: str
    asked_at: float
    expires_at: float = Field(description="When it counts as rejected.")
    decision: Literal["approved", "rejected"] | None = Field(description="None while nobody has decided.")
    who: str | None
    reason: str | None
    decided_at: float | None
    by: str | None = Field(None, description="Whose key or token decided.")


class ApprovalViews(BaseModel):
    approvals: list[ApprovalView]


class RungStatus(BaseModel):
    """`_at` times are Unix seconds."""

    tier: str | None = Field(description="None for a part of a tier, like one of its speech engines.")
    rung: str
    missing: str | None = Field(description="Why it cannot be used at all.")
    breaker: Literal["closed", "open", "half_open", "canary"]
    cause: str | None
    last_success_at: float | None
    last_failure_at: float | None
    next_probe_at: float | None
    paid: bool
    usd_per_minute: float


class BucketStatus(BaseModel):
    """Since midnight UTC."""

    bucket: str
    spent_usd: float
    reserved_usd: float = Field(description="Set aside for what runs and for what may start next.")
    cap_usd: float | None


class StoreStatus(BaseModel):
    kind: Literal["embedded", "redis"]
    connected: bool
    away_since: float | None
    unsent: int = Field(description="Writes that wait for the store.")


class CallStatus(BaseModel):
    model_config = ConfigDict(extra="allow")

    call_id: str
    tier: str
    rung: str
    reason: str
    state: str
    user: str
    purpose: str
    bucket: str
    who: str = Field("", description="Whose key or token opened it.")
    started_at: float
    spent_usd: float
    reserved_usd: float = Field(description="Set aside for what runs and for what may start next.")
    cap_usd: float | None
    budget_step: str | None = Field(description="The furthest step to a cheaper call that was taken.")


class MoneyStatus(BaseModel):
    """Of this replica's calls since it started."""

    charged_usd: dict[str, float] = Field(description="By what was paid for.")
    estimated_usd: float = Field(description="Of that, what was never billed and counts at its worst case.")
    wasted_usd: float = Field(description="Of that, answers that were spoken and not heard.")
    unheard_s: float
    steps: dict[str, int] = Field(description="Steps to cheaper calls, by action.")
    gates_closed: int = Field(description="How often a provider was told to start no answer on its own.")
    spent_up: int = Field(description="Answers that could not be paid for in Tier A any more.")
    unpaid: int = Field(description="Answers that a provider began although nobody had let them in.")


class ProcessStatus(BaseModel):
    """What this replica holds now. All of it goes back when calls end: a number that only grows is a leak."""

    rss_bytes: int | None = Field(description="Memory that is resident; null where the system does not tell.")
    tasks: int = Field(description="Tasks of the event loop that have not ended.")
    calls: int
    open_files: int | None = Field(description="Open files and sockets; null where the system does not tell.")


class GuardrailStatus(BaseModel):
    """What one of this replica's guardrails answered since it started."""

    hook: str
    allowed: int
    rewritten: int
    vetoed: int
    failed: int = Field(description="Of these, how often it gave no answer, and its on_failure counted.")
    mean_ms: float
    longest_ms: float


class VoiceStatus(BaseModel):
    """How busy a voice of this machine is. Requests that are refused, or a wait that grows, ask for more workers."""

    rung: str
    workers: int
    busy: int
    waiting: int = Field(description="Pieces of text that wait for a worker.")
    wait_s: float = Field(description="How long a request would wait now.")
    died: int = Field(description="Workers that ended in the middle of their work, and were replaced.")
    refused: int = Field(description="Pieces of text that would have come too late.")


class SinkStatus(BaseModel):
    """Where this replica's business events and summaries go."""

    sink: str
    sent: int
    waiting: int
    dropped: int = Field(description="Not delivered, and not tried again.")
    failing: str | None = Field(description="Why the last attempt failed; null while all is well.")


class Status(BaseModel):
    replica: str
    now: float = Field(description="Unix seconds on this replica.")
    store: StoreStatus
    next_call: DecisionBody = Field(description="What a plain new call would get now.")
    rungs: list[RungStatus]
    overrides: list[OverrideView]
    buckets: list[BucketStatus]
    calls: list[CallStatus]
    money: MoneyStatus
    business_events: list[SinkStatus]
    guardrails: list[GuardrailStatus]
    approvals: int = Field(description="Tool calls that wait for a person, of all replicas.")
    voices: list[VoiceStatus]
    process: ProcessStatus
