"""What the session broker takes and gives, as /openapi.json describes it."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from orchestrator.core.grants import LOCKABLE
from orchestrator.server.api_models import Body, Connect

SHORTEST_S, LONGEST_S = 10, 7200
"""How long a credential may work, as with OpenAI."""
LONGEST_CALL_S = 86_400

SESSION_EXAMPLE: dict[str, Any] = {
    "type": "realtime",
    "instructions": "You help customers of Acme with their orders.",
    "audio": {"output": {"voice": "marin"}},
}


_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
_NAME = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,150}[A-Za-z0-9])?"
_GROUP = "[0-9A-Fa-f]{1,4}"
_IPV6 = (
    rf"\[({_GROUP}(:{_GROUP}){{7}}"
    rf"|({_GROUP}(:{_GROUP}){{0,2}})?::({_GROUP}(:{_GROUP}){{0,3}})?"
    rf"|{_GROUP}(:{_GROUP}){{0,5}}::({_GROUP})?)\]"
)
"""An address as browsers write it: groups of digits, some left out at one place."""
_ORIGIN = rf"^https?://({_NAME}|{_IPV6})(:{_PORT})?/?$"


def _origin(value: str) -> str:
    if not re.fullmatch(_ORIGIN.strip("^$"), value):
        raise PydanticCustomError(
            "origin", "expected a web origin like https://app.example.com: scheme, host and port, and no path"
        )
    origin = value.rstrip("/").lower()
    if "[" in origin:
        scheme, rest = origin.split("[")
        address, port = rest.split("]")
        origin = f"{scheme}[{ipaddress.IPv6Address(address).compressed}]{port}"
    return origin


Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def _lockable(name: str) -> str:
    if name not in LOCKABLE:
        raise PydanticCustomError("lock", "expected one of {known}", {"known": ", ".join(sorted(LOCKABLE))})
    return name


Lock = Annotated[str, AfterValidator(_lockable), Field(json_schema_extra={"enum": sorted(LOCKABLE)})]


class ExpiresAfter(Body):
    anchor: Literal["created_at"] = "created_at"
    seconds: int | None = Field(
        None, ge=SHORTEST_S, le=LONGEST_S, description="None: `credentials.ttl_s`, 600 unless it is set."
    )


class SecretBody(Body):
    """As OpenAI has it."""

    expires_after: ExpiresAfter | None = None
    session: dict[str, Any] | None = Field(
        None, description="Fields of a Realtime session, as in `session.update`.", examples=[SESSION_EXAMPLE]
    )


class SessionBody(SecretBody):
    """A call that a service lets somebody begin, and the limits of it."""

    user: str | None = Field(None, max_length=200, description="Whose call it is. None: the key's own user.")
    allowed_tools: list[ToolName] | None = Field(
        None,
        max_length=128,
        description="Tools that the call may use: the server's, and functions in `session.tools`. "
        "None: all that the settings let its purpose and bucket have. An empty list: none at all.",
    )
    bucket: Text | None = Field(None, description="The budget it is charged to; none: the default one.")
    purpose: Text = Field("conversation", description="What the call is for.")
    transport: Literal["websocket"] = "websocket"
    media: Literal["through", "direct"] = Field(
        "through",
        description="through: media passes this server, which enforces all of this. direct: the provider's own "
        "secret, and `not_enforced` says what is lost by it.",
    )
    origin: Annotated[str, AfterValidator(_origin)] | None = Field(
        None,
        max_length=200,
        description="The only web origin that may use it. None: any, and no browser too.",
        json_schema_extra={
            "pattern": r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]{0,100}[A-Za-z0-9])?(:[0-9]{1,4})?/?$"
        },
    )
    max_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_CALL_S,
        allow_inf_nan=False,
        description="Seconds after which the call is ended.",
    )
    recording_consent: bool = Field(
        False,
        description="Whether the caller has agreed to be recorded. Without it nothing is, whatever the settings say.",
    )
    cap_usd: float | None = Field(
        None,
        ge=0,
        le=9_000_000,
        allow_inf_nan=False,
        description="What the call may cost, where that is less than its bucket allows.",
    )
    lock: list[Lock] | None = Field(
        None,
        max_length=20,
        description="Fields of the session that the client cannot change. None: instructions, tools, model and "
        "prompt, each where it is given here. An empty list: nothing.",
    )


class SecretAnswer(BaseModel):
    """As OpenAI has it."""

    value: str = Field(
        description="The credential: sent like a key, it opens one call.", examples=["ek_…"], repr=False
    )
    expires_at: int = Field(description="Unix seconds until which the call may begin.")
    session: dict[str, Any] = Field(description="The whole session, as its client will see it.")


class NotEnforced(BaseModel):
    what: str = Field(description="A short id that stays the same.", examples=["budget"])
    sentence: str


class SessionAnswer(SecretAnswer):
    call_id: str
    tier: Literal["A", "B", "C"] = Field(description="That a call which began now would get.")
    rung: str
    reason: str
    decided_by: Literal["hard_cap", "policy", "override", "health", "default"]
    sentence: str = Field(description="Why this tier and rung, in words.")
    media: Literal["through", "direct"]
    connect: Connect = Field(description="Where the credential is to be used; nothing needs to be added.")
    not_enforced: list[NotEnforced] = Field(
        description="Of media that passes this server by: what it cannot enforce, and what it cannot rescue."
    )
