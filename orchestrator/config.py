"""The settings as a whole: where they are read from, what has to fit together, how what is wrong is explained.

Settings come from one TOML file (``--config`` or ``ORCHESTRATOR_CONFIG``), then from environment variables,
which win. Every setting ``section.field`` is ``ORCHESTRATOR_SECTION__FIELD`` in the environment; `WELL_KNOWN`
names the few that have a shorter name as well. Anything wrong raises `SettingsError`, which says what to do.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as _UndecodableVariable

from orchestrator.access_checks import access_problems
from orchestrator.access_sections import Access, AuditTrail, Credentials, Limits
from orchestrator.config_sections import (
    Approvals,
    Breaker,
    Budget,
    BusinessEvents,
    Cache,
    Calls,
    Cartesia,
    Deadlines,
    Guardrails,
    Hedging,
    Links,
    Models,
    OpenAI,
    Price,
    Promotion,
    RealtimeRung,
    Redis,
    Server,
    Speech,
    Summary,
    TierA,
    TierB,
    TierC,
    Transfer,
)
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import ModelPrice, PriceTable, price_remedy
from orchestrator.core.tools import Tool, Toolset
from orchestrator.guardrail_checks import guardrail_problems
from orchestrator.operations_sections import LatencyBudgets, Recording, Telemetry
from orchestrator.pricing import EMBEDDED, is_priced, price_table
from orchestrator.tool_checks import tool_problems
from orchestrator.tool_sections import AgentSection, McpSection, ToolPolicy, ToolSection, toolset
from orchestrator.webhook_checks import business_problems
from tiers.prompts.catalogue import Catalogue, CatalogueInvalid

PREFIX = "ORCHESTRATOR_"
CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"
WELL_KNOWN = {
    "OPENAI_API_KEY": "openai.api_key",
    "OPENAI_BASE_URL": "openai.base_url",
    "CARTESIA_API_KEY": "cartesia.api_key",
    "CARTESIA_BASE_URL": "cartesia.base_url",
    "REDIS_URL": "redis.url",
    "ORCHESTRATOR_API_KEY": "server.api_key",
    "ORCHESTRATOR_AGENT_MODEL": "tier_b.agent_model",
    "ORCHESTRATOR_MODELS": "models.dir",
}
"""Environment variables that stand for a setting beside its ``ORCHESTRATOR_SECTION__FIELD``, which wins."""


class SettingsError(ValueError):
    """The settings cannot be used. One line per problem: the setting, where it came from, what to do."""


_config_file: ContextVar[Path | None] = ContextVar("config_file", default=None)


@dataclass(frozen=True, slots=True)
class RealtimeTarget:
    """A rung of Tier A. `api_key` None: it is sent none."""

    model: str
    base_url: str
    api_key: SecretStr | None


class Settings(BaseSettings):
    """All sections. ``Settings()`` reads the environment; `load_settings` adds the file and readable errors."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    server: Server = Server()
    access: Access = Access()
    credentials: Credentials = Credentials()
    limits: Limits = Limits()
    audit: AuditTrail = AuditTrail()
    openai: OpenAI = OpenAI()
    tier_a: TierA = TierA()
    tier_b: TierB = TierB()
    tier_c: TierC = TierC()
    links: Links = Links()
    summary: Summary = Summary()
    cartesia: Cartesia = Cartesia()
    models: Models = Models()
    redis: Redis = Redis()
    cache: Cache = Cache()
    speech: Speech = Speech()
    deadlines: Deadlines = Deadlines()
    hedging: Hedging = Hedging()
    breaker: Breaker = Breaker()
    promotion: Promotion = Promotion()
    budget: Budget = Budget()
    prices: dict[str, Price] = Field(default_factory=dict)
    guardrails: Guardrails = Guardrails()
    calls: Calls = Calls()
    latency_budgets: LatencyBudgets = LatencyBudgets()
    recording: Recording = Recording()
    telemetry: Telemetry = Telemetry()
    approvals: Approvals = Approvals()
    transfer: Transfer = Transfer()
    business_events: BusinessEvents = BusinessEvents()
    tools: dict[str, ToolSection] = Field(default_factory=dict)
    mcp: dict[str, McpSection] = Field(default_factory=dict)
    agents: dict[str, AgentSection] = Field(default_factory=dict)
    tool_policy: ToolPolicy = ToolPolicy()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            _Environment(settings_cls),
            TomlConfigSettingsSource(settings_cls, _config_file.get()),
        )

    @model_validator(mode="after")
    def _usable_together(self) -> Settings:
        for setting, problem in _problems(self):
            raise PydanticCustomError("setting", "{problem}", {"setting": setting, "problem": problem})
        return self

    def realtime(self, rung: str) -> RealtimeTarget:
        """Where a rung of Tier A is, with everything filled in that the settings leave out."""
        given = self.tier_a.rung.get(rung, RealtimeRung())
        base_url, api_key = given.base_url or self.openai.base_url, given.api_key
        if api_key is None and _same_host(base_url, self.openai.base_url):
            api_key = self.openai.api_key
        return RealtimeTarget(given.model or rung, base_url, api_key)

    def realtime_url(self, rung: str) -> str:
        """The WebSocket address of a rung of Tier A."""
        target = self.realtime(rung)
        scheme, _, rest = target.base_url.partition("://")
        return f"{scheme.replace('http', 'ws')}://{rest}/realtime?model={quote(target.model, safe='')}"

    def provider_headers(self, rung: str) -> dict[str, str]:
        """What a rung of Tier A is sent on connecting, by calls and by probes. It holds the rung's key."""
        key = self.realtime(rung).api_key
        return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    def speech_engine(self) -> Literal["kokoro", "kokoro-torch", "cartesia", "endpoint"]:
        """The speech engine of Tier B, with "auto" resolved."""
        if self.tier_b.speech == "auto":
            return "cartesia" if self.cartesia.api_key else "kokoro"
        return self.tier_b.speech

    def agent_price(self) -> ModelPrice:
        """What the text agent of Tier B costs: usually nothing where it is the embedded one."""
        return self.price_table()[self.tier_b.agent_model or EMBEDDED]

    @cached_property
    def _tools(self) -> Mapping[str, Tool]:
        return {name: section.tool(name) for name, section in self.tools.items()}

    def tool_list(self) -> Mapping[str, Tool]:
        """Every tool that the settings name, by its name. MCP servers may add what the settings leave out."""
        return self._tools

    def toolset(
        self,
        purpose: str,
        bucket: str,
        asked: Iterable[str] | None = None,
        tools: Mapping[str, Tool] | None = None,
    ) -> Toolset:
        """What a call may use. `asked`: the names its client wants, which only narrows; `tools`: those there are."""
        there = self._tools if tools is None else tools
        return toolset(
            self.tool_policy, self.tools, there, self.agents, purpose=purpose, bucket=bucket, asked=asked
        )

    def price_table(self) -> PriceTable:
        """The price of everything that this configuration can bill, by model or engine, its own prices on top."""
        return price_table(self)


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """Settings from `path` (else the file ``ORCHESTRATOR_CONFIG`` names), the environment and `overrides`.

    An override is ``section__field=value`` and wins over everything; one that is None is left out.
    """
    path = path or (Path(named) if (named := os.environ.get(CONFIG_VARIABLE)) else None)
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        section, _, field = name.partition("__")
        if value is not None:
            given.setdefault(section, {})[field] = value
    in_file = _read_toml(path) if path else {}
    token = _config_file.set(path)
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [_explain(detail, in_file, path, given) for detail in error.errors(include_url=False)]
        raise SettingsError("\n".join(problems)) from None
    except _UndecodableVariable as error:
        name = str(error).partition('"')[2].partition('"')[0]
        raise SettingsError(
            f"{variable_for(name)}: expected JSON; correct it, or give its fields one by one"
        ) from None
    finally:
        _config_file.reset(token)


def is_loopback(host: str) -> bool:
    """Whether an address or host name can only mean this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def variable_for(setting: str) -> str:
    """The environment variable of ``section.field``."""
    return PREFIX + setting.replace(".", "__").upper()


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """What pydantic cannot see: settings that are each fine and do not work together."""
    tier_a, tier_b = settings.tier_a, settings.tier_b
    yield from access_problems(settings, is_loopback)
    if tier_a.enabled:
        yield from _realtime_problems(settings)
    for model in tier_b.agent_models:
        if not is_priced(settings, "agent", model):
            yield (
                "tier_b.agent_model" if model == tier_b.agent_model else "tier_b.agent_fallbacks",
                f"the model {model!r} has no price; {price_remedy(model)} "
                "(text_in and text_out in US dollars per million tokens; 0 for your own server)",
            )
    if tier_b.stt_cloud_model and not is_priced(settings, "transcription", tier_b.stt_cloud_model):
        yield (
            "tier_b.stt_cloud_model",
            f"the model {tier_b.stt_cloud_model!r} has no price; {price_remedy(tier_b.stt_cloud_model)} "
            "(per_minute in US dollars)",
        )
    yield from _speech_problems(settings)
    yield from _bridge_problems(settings.tier_c)
    transcribed = bool(tier_a.transcription_model) or not tier_a.enabled
    catalogue = settings.tier_c.catalogue
    yield from guardrail_problems(settings.guardrails, catalogue, is_loopback, transcribed=transcribed)
    yield from business_problems(settings, is_loopback)
    yield from tool_problems(settings, is_loopback)


RESERVED_RUNGS = frozenset({*Tier, "prompts", *get_args(TierB.model_fields["speech"].annotation)})
"""Names that mean something else where rungs are named."""


def _realtime_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    tier_a = settings.tier_a
    for name, times in Counter(tier_a.rungs).items():
        if times > 1:
            remedy = f"name each once; [tier_a.rung.NAME] with model = {name!r} makes another rung of it"
            yield "tier_a.rungs", f"{name!r} is named {times} times; {remedy}"
        if name in RESERVED_RUNGS:
            yield "tier_a.rungs", f"{name!r} is the name of something else; choose another one"
        model = settings.realtime(name).model
        if not is_priced(settings, "response", model):
            setting = "tier_a.rungs" if model == name else "tier_a.rung"
            yield setting, f"the model {model!r} has no price; {price_remedy(model)}"
        if _lacks_key(settings, name):
            yield (
                "tier_a.rung",
                f"{name!r} has a base_url of its own and no api_key, and OpenAI's key is sent nowhere else; "
                f'set api_key under [tier_a.rung."{name}"]',
            )
    for name in tier_a.rung:
        if name not in tier_a.rungs:
            known = ", ".join(tier_a.rungs)
            yield "tier_a.rung", f"{name!r} is not one of tier_a.rungs ({known}); add it there, or remove it"
    if tier_a.ping_timeout_s > tier_a.ping_interval_s:
        yield (
            "tier_a.ping_timeout_s",
            f"expected at most tier_a.ping_interval_s ({tier_a.ping_interval_s:g}), not {tier_a.ping_timeout_s:g}; "
            "lower it, or raise the interval",
        )
    transcription = tier_a.transcription_model
    if transcription and not is_priced(settings, "transcription", transcription):
        problem = f"the model {transcription!r} has no price; {price_remedy(transcription)}"
        yield "tier_a.transcription_model", problem


def _lacks_key(settings: Settings, rung: str) -> bool:
    given = settings.tier_a.rung.get(rung)
    if given is None or given.base_url is None or given.api_key is not None:
        return False
    own_server = is_loopback(urlsplit(given.base_url).hostname or "")
    return not own_server and not _same_host(given.base_url, settings.openai.base_url)


def _same_host(one: str, other: str) -> bool:
    """Whether a key for one address may be sent to the other: the same scheme, host and port."""
    urls = urlsplit(one), urlsplit(other)
    ports = [url.port or {"http": 80, "https": 443}.get(url.scheme) for url in urls]
    return (urls[0].scheme, urls[0].hostname, ports[0]) == (urls[1].scheme, urls[1].hostname, ports[1])


def _speech_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    tier_b = settings.tier_b
    if tier_b.agent_base_url and not tier_b.agent_model:
        yield "tier_b.agent_base_url", "an address without a model; set tier_b.agent_model too"
    if tier_b.agent_fallbacks and not tier_b.agent_model:
        yield (
            "tier_b.agent_fallbacks",
            "they stand in for nobody; set tier_b.agent_model to the first of them",
        )
    if tier_b.speech == "cartesia" and settings.cartesia.api_key is None:
        yield "tier_b.speech", "cartesia needs a key; set CARTESIA_API_KEY, or choose auto or kokoro"
    if tier_b.speech == "endpoint":
        for field in ("tts_base_url", "tts_model", "tts_usd_per_character"):
            if getattr(tier_b, field) is None:
                yield "tier_b.speech", f"endpoint needs tier_b.{field}; set it, or choose auto or kokoro"
    elif tier_b.tts_base_url:
        yield (
            "tier_b.tts_base_url",
            f'not used while tier_b.speech is {tier_b.speech!r}; set that to "endpoint"',
        )
    if tier_b.stt_base_url:
        for field in ("stt_model", "stt_usd_per_minute"):
            if getattr(tier_b, field) is None:
                yield "tier_b.stt_base_url", f"a transcription server needs tier_b.{field} too"
    elif tier_b.stt_model:
        yield (
            "tier_b.stt_model",
            "a model without a server; set tier_b.stt_base_url, or remove it for the local Whisper",
        )
    if tier_b.stt_cloud_api_key and not tier_b.stt_cloud_model:
        yield "tier_b.stt_cloud_api_key", "a key without a model; set tier_b.stt_cloud_model too"


def _bridge_problems(tier_c: TierC) -> Iterator[tuple[str, str]]:
    try:
        catalogue = Catalogue.load(*filter(None, (tier_c.catalogue,)))
    except CatalogueInvalid as error:
        yield "tier_c.catalogue", str(error)
        return
    bridges = [name for name in catalogue if catalogue[name].bridge]
    for cause, name in tier_c.bridges_by_cause.items():
        if name not in bridges:
            problem = "is not marked as a bridge" if name in catalogue else "does not exist"
            yield (
                f"tier_c.bridges.{cause}" if cause in tier_c.bridges else "tier_c.bridge",
                f"the prompt {name!r} {problem}; name one of {', '.join(bridges)}, or write it with "
                "`bridge = true` in the file that tier_c.catalogue names",
            )
    for language in tier_c.bridge_languages:
        if not any(catalogue.bridges(language)):
            yield (
                "tier_c.bridge_languages",
                f"no bridge is written in {language!r}; choose from {', '.join(catalogue.bridge_languages())}, or "
                f"write text.{language} for the bridges in the file that tier_c.catalogue names",
            )


class _Environment(EnvSettingsSource):
    """``ORCHESTRATOR_SECTION__FIELD`` and the well-known names; nothing else of the environment is looked at.

    Names without ``__`` that only look like ours (Kubernetes makes ORCHESTRATOR_PORT for a service called
    orchestrator) are left alone; an unknown one with it is a typing error.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {variable.lower(): os.environ[name] for variable, name in _variables().items()}

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        for variable, name in _variables().items():
            section = variable.removeprefix(PREFIX).partition("__")[0].lower()
            if section not in Settings.model_fields:
                found[section] = {"": name}
        return found


def _variables() -> dict[str, str]:
    """The canonical variable of every setting in the environment, and the name it really has there."""
    found: dict[str, str] = {}
    for name, setting in WELL_KNOWN.items():
        if os.environ.get(name):
            found[variable_for(setting)] = name
    for name, value in os.environ.items():
        canonical = name.upper()
        if not value or not canonical.startswith(PREFIX) or canonical in WELL_KNOWN:
            continue
        # A whole section may be given as a JSON object, which is the only way to write a model's name.
        section_name = canonical.removeprefix(PREFIX).lower()
        if "__" in section_name or (section_name in Settings.model_fields and value.lstrip().startswith("{")):
            found[canonical] = name
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such configuration file; point --config (or {CONFIG_VARIABLE}) to one, or drop it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the configuration file cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}; correct that line") from None


def _explain(
    detail: ErrorDetails, in_file: Mapping[str, Any], path: Path | None, given: Mapping[str, Any]
) -> str:
    """One problem as a line: the setting and its origin, what is wrong, the value where it is no secret."""
    context = detail.get("ctx", {})
    setting = context.get("setting") or ".".join(str(part) for part in detail["loc"])
    origin = _origin(_named(detail), in_file, path, given)
    where = f"{setting} ({origin})" if origin else setting
    if detail["type"] == "extra_forbidden":
        return f"{where}: there is no such setting{_did_you_mean([str(part) for part in detail['loc']])}"
    message = detail["msg"].replace("Input should be", "expected", 1)
    value = detail["input"]
    # What stands where a table belongs may well be a key.
    hidden = (
        _is_secret(setting) or "secret" in detail["type"] or detail["type"] in ("model_type", "dict_type")
    )
    if isinstance(value, str | int | float) and not hidden:
        message += f", not {value!r}"
    return f"{where}: {message}"


def _named(detail: ErrorDetails) -> list[str]:
    """The way to the setting that a problem is in; what is in a list is in the setting that is the list."""
    if setting := detail.get("ctx", {}).get("setting"):
        return str(setting).split(".")
    return [str(part) for part in takewhile(lambda part: isinstance(part, str), detail["loc"])]


def _origin(
    parts: Sequence[str], in_file: Mapping[str, Any], path: Path | None, given: Mapping[str, Any]
) -> str:
    section, *field = parts
    if field and field[0] in given.get(section, {}):
        return f"--{'.'.join(field).replace('_', '-')}"
    variables = _variables()
    names = [variable_for(".".join(parts[: end + 1])) for end in range(len(parts))]
    inside = [variable for variable in variables if variable.startswith(names[-1] + "__")]
    for variable in (names[-1], *inside, *reversed(names)):
        if variable in variables:
            return variables[variable]
    value: Any = in_file
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return f"default; {names[-1]} sets it" if field else ""
        value = value[part]
    return str(path)


def _is_secret(setting: str) -> bool:
    in_mcp = setting.startswith("mcp.") and ".env" in setting
    in_header = setting.startswith("telemetry.otlp_headers")
    return setting.endswith(("api_key", "secret")) or setting == "redis.url" or in_mcp or in_header


def _did_you_mean(path: Sequence[str]) -> str:
    *sections, wrong = path
    model: Any = Settings
    in_table = False
    for part in sections:
        if in_table:
            in_table = False
        elif found := _section_in(model.model_fields[part].annotation):
            model, in_table = found
    known, prefix = list(model.model_fields), "".join(f"{part}." for part in sections)
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    return f"; there are {', '.join(prefix + name for name in known)}"


def _section_in(annotation: Any) -> tuple[Any, bool] | None:
    """The section that a setting consists of, and whether a name or a place in a list stands before its fields."""
    if hasattr(annotation, "model_fields"):
        return annotation, False
    for inner in get_args(annotation):
        if found := _section_in(inner):
            return found[0], found[1] or get_origin(annotation) in (dict, tuple)
    return None
