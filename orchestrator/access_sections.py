"""Settings of the front door: who may come in, what credentials are made of, how much of anything may come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, SecretStr

from orchestrator.config_sections import Section, long_enough


class Access(Section):
    """Who may use this server, beside the bearer of `server.api_key`."""

    keys_path: Path | None = None
    """The file of keys where there is no Redis. None is keys.json in the user's data folder."""


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
