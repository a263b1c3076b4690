"""Settings of the front door: who may come in, what credentials are made of, how much of anything may come."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import AfterValidator, Field, PositiveFloat, SecretStr
from pydantic_core import PydanticCustomError

from orchestrator.config_sections import HttpUrl, Names, Section, long_enough
from orchestrator.models import APP

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that whoever checks them cannot make."""


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise PydanticCustomError(
                "network",
                "expected addresses like 10.0.0.0/8 or 127.0.0.1, got {value}",
                {"value": repr(value)},
            ) from None
    return values


def _asymmetric(values: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [value for value in values if value not in ALGORITHMS]
    if wrong or not values:
        raise PydanticCustomError(
            "algorithms",
            "expected one or more of {known}, got {wrong}; with others whoever checks tokens could make them",
            {"known": ", ".join(ALGORITHMS), "wrong": ", ".join(wrong) or "none"},
        )
    return values


class Access(Section):
    """Who may use this server, beside the bearer of `server.api_key`."""

    keys_path: Path | None = None
    """The file of keys where there is no Redis. None is keys.json in the user's data folder."""
    metrics_key: Annotated[SecretStr, AfterValidator(long_enough)] | None = None
    """What Prometheus may present instead of a key: the scope `metrics`, also while the keys cannot be read."""
    trusted_proxies: Annotated[Names, AfterValidator(_networks)] = ()
    """Addresses (10.0.0.0/8) of proxies whose X-Forwarded-For, -Proto and -Host count."""
    key_requests_per_minute: PositiveFloat | None = None
    """With one key, at one replica; None is no limit, here and in the next three."""
    user_requests_per_minute: PositiveFloat | None = None
    key_calls_per_minute: PositiveFloat | None = None
    user_calls_per_minute: PositiveFloat | None = None
    burst_s: PositiveFloat = 10.0
    """What a rate allows in so many seconds may come at once."""
    jwt_issuer: str | None = Field(default=None, min_length=1)
    """Whose tokens count, exactly as in their claim `iss`. None takes no tokens."""
    jwt_audience: Names = ()
    """What a token has to be for, as in its claim `aud`; one of several is enough."""
    jwt_jwks_url: HttpUrl | None = None
    """Where the issuer publishes its keys."""
    jwt_key_path: Path | None = None
    """Instead: a file with one public key, in PEM."""
    jwt_algorithms: Annotated[Names, AfterValidator(_asymmetric)] = ("RS256", "ES256")
    jwt_scope_claim: str = Field(default="scope", min_length=1)
    """The claim that says what a bearer may do: a list, or words; dots lead inside (realm_access.roles)."""
    jwt_scopes: dict[str, Literal["service", "operator", "metrics"]] = Field(default_factory=dict)
    """What words of that claim mean here, like {"voice:calls": "service"}. None: the names of scopes themselves."""
    jwt_leeway_s: float = Field(default=30.0, ge=0, le=600)
    """By how much clocks may differ."""

    @property
    def keys_file(self) -> Path:
        return self.keys_path or platformdirs.user_data_path(APP) / "keys.json"


class Credentials(Section):
    """Credentials that open one call each."""

    secret: Annotated[SecretStr, AfterValidator(long_enough)] | None = None
    """What they are sealed with. None makes one up: they work at this process alone, and end with it."""
    ttl_s: int = Field(default=600, ge=10, le=7200)
    """How long one works that was asked for without an expiry. Calls that it has opened go on."""
    direct: bool = False
    """Whether a session may be given a provider's own secret, past this server and what it enforces."""
    direct_timeout_s: PositiveFloat = 5.0
    """How long a provider may take to give one."""


class Limits(Section):
    """How much one client may ask of this server, and for how long."""

    body_bytes: int = Field(default=1024 * 1024, ge=1024)
    """The largest body of a request over HTTP."""
    header_bytes: int = Field(default=16 * 1024, ge=1024, le=65_536)
    """The most that the names and values of a request's headers may have, together."""
    url_bytes: int = Field(default=8 * 1024, ge=256, le=65_536)
    """The longest address of a request: its path and its query."""
    request_s: PositiveFloat = 10.0
    """How long a request may take to come: until its headers are there, and from then on until its body is."""
    json_depth: int = Field(default=32, ge=8, le=500)
    """How deep arrays and objects may be within each other in a body."""
    call_s: float = Field(default=14_400.0, ge=0)
    """How long a call may last; 0 is for ever."""
    calls: int = Field(default=5_000, ge=0)
    """How many calls there may be at a time; 0 is no limit."""
    calls_per_key: int = Field(default=2_000, ge=0)
    """Of them with the same key or token; 0 is no limit."""
    messages_per_s: PositiveFloat = 1_000.0
    """How many messages a second one connection may send, in the long run."""
    bytes_per_s: PositiveFloat = 4.0 * 1024 * 1024
    """How many bytes a second, likewise."""
    burst_s: PositiveFloat = 20.0
    """How many seconds' worth of them may come at once."""
    fragments: int = Field(default=1_000, ge=1)
    """In how many pieces a message may come."""


class AuditTrail(Section):
    """Who did what and why: with Redis it is kept there, for all replicas."""

    path: Path | None = None
    """The file of it where there is no Redis; with Redis, entries wait beside it while that is away. None is
    audit.jsonl in the user's data folder."""

    @property
    def file(self) -> Path:
        return self.path or platformdirs.user_data_path(APP) / "audit.jsonl"
