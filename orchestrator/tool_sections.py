"""Settings of tools: what each one is, where it runs, who may use it; and the tools that come of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveFloat, SecretStr
from pydantic_settings import NoDecode

from orchestrator.config_sections import HttpUrl, Names, Section
from orchestrator.core.tools import (
    Agent,
    Kind,
    Once,
    Runs,
    Tool,
    Toolset,
    Topic,
    handoff,
    transfer_to_human,
    wait_for_user,
)


class ParametersInvalid(ValueError):
    """A file of parameters that cannot be read; says what to do."""


def _object(value: Any) -> Any:
    """A JSON object may be written as such in the environment."""
    return json.loads(value) if isinstance(value, str) and value.lstrip().startswith("{") else value


JsonObject = Annotated[dict[str, Any], BeforeValidator(_object)]


class ToolSection(Section):
    """One tool. Where it runs follows from `url`, `entry_point` or `mcp`; without any of them `runs` says so."""

    description: str = ""
    parameters: JsonObject | None = None
    """Its arguments, as JSON schema of an object. None: it takes none, or what its MCP server says."""
    parameters_file: Path | None = None
    """A file with that schema, instead."""
    kind: Kind
    """Whether it changes anything. There is no default: a wrong guess would be either slow or dangerous."""
    topic: Topic = Topic.GENERAL
    runs: Runs | None = None
    url: HttpUrl | None = None
    entry_point: str | None = None
    """package.module:function"""
    mcp: str | None = None
    """Which of the `mcp` servers has it."""
    mcp_tool: str | None = None
    """Its name there, if that is another one."""
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    """How long one run may take, repetitions included."""
    preamble: str = "looking_up"
    """Prompt that is said when it is slow; "" says nothing."""
    preamble_after_s: PositiveFloat = 0.8
    once: Once = Once.CALL
    once_by: Names = ()
    """Arguments that make two calls the same; all of them if empty."""
    honours_key: bool = False
    """It does a repetition with the same idempotency key only once, and answers the same: it may be asked again."""
    speakable: Names = ()
    """Fields of its result that a model may be told, as paths (order.status)."""
    confirm: bool = True
    """Whether the caller has to say yes to a change first. Only changes of the topic "general" may go without."""
    approval: bool = False
    """Whether a person has to approve each call of it."""
    readback: str = ""
    """What is about to happen, with arguments in braces: cancel order {order_id}"""
    entities: dict[str, str] = Field(default_factory=dict)
    """What kind of thing an argument is, by its name."""
    purposes: Names = ()
    """Purposes of the calls that may use it; all if empty."""
    buckets: Names = ()
    """Buckets of the calls that may use it; all if empty."""
    agents: Names = ()
    """Named agents that have it; all if empty."""

    @property
    def where(self) -> tuple[Runs, ...]:
        """Where it is said to run: one place, in settings that work."""
        places = {Runs.WEBHOOK: self.url, Runs.PYTHON: self.entry_point, Runs.MCP: self.mcp}
        named = {place for place, given in places.items() if given is not None}
        return tuple(sorted(named | ({self.runs} if self.runs is not None else set())))

    def arguments_schema(self) -> dict[str, Any]:
        """The JSON schema of its arguments. Raises `ParametersInvalid`."""
        if self.parameters_file is None:
            return self.parameters or {"type": "object", "properties": {}}
        try:
            found = json.loads(self.parameters_file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            reason = "it is not JSON" if isinstance(error, ValueError) else error.strerror
            raise ParametersInvalid(
                f"expected a file with a JSON schema in {self.parameters_file}: {reason}"
            ) from None
        if not isinstance(found, dict):
            raise ParametersInvalid(f"expected a JSON object in {self.parameters_file}")
        return found

    @property
    def schema_is_the_servers(self) -> bool:
        """Whether the MCP server says what the arguments are."""
        return self.mcp is not None and self.parameters is None and self.parameters_file is None

    def tool(self, name: str) -> Tool:
        """Of checked settings."""
        return Tool(
            name=name,
            description=self.description,
            parameters=self.arguments_schema(),
            kind=self.kind,
            topic=self.topic,
            runs=self.where[0],
            timeout_s=self.timeout_s,
            preamble=self.preamble,
            preamble_after_s=self.preamble_after_s,
            once=self.once,
            once_by=self.once_by,
            honours_key=self.honours_key,
            speakable=self.speakable,
            confirm=self.confirm,
            approval=self.approval,
            readback=self.readback,
            entities=dict(self.entities),
        )

    def allowed(self, purpose: str, bucket: str) -> bool:
        return (not self.purposes or purpose in self.purposes) and (
            not self.buckets or bucket in self.buckets
        )


class McpSection(Section):
    """An MCP server: a command that is run here and spoken to over stdin and stdout, or an address."""

    command: str | None = None
    args: Names = ()
    env: dict[str, SecretStr] = Field(default_factory=dict)
    """Variables that the command gets beside PATH, HOME and the like."""
    url: HttpUrl | None = None
    """Of a server that speaks streamable HTTP."""
    api_key: SecretStr | None = None
    """What a server at `url` is sent as Authorization: Bearer."""
    connect_s: float = Field(default=10.0, gt=0, le=120)
    """How long it may take to start, and to say which tools it has."""


class AgentSection(Section):
    """A named agent: its own instructions, and the tools whose `agents` name it."""

    description: str = ""
    """What it is for: other agents go by that."""
    instructions: str = ""
    """Before those that the client sets."""
    handoffs: Names = ()
    """Agents that it may give the call to."""


def _all_or_names(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return () if value == "none" else [part.strip() for part in value.split(",") if part.strip()]


class ToolPolicy(Section):
    """What holds for all tools."""

    client_tools: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_all_or_names)] = ("*",)
    """The client's own tools that are let in, by name; "*" lets all in, "none" none."""
    webhook_secret: SecretStr | None = None
    """What requests to tools are signed with, as Standard Webhooks has it: whsec_ and base64."""
    ledger_ttl_s: float = Field(default=86_400.0, ge=3600)
    """How long the tool ledger remembers a run. Longer than any call, and than anybody tries again."""
    built_in: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_all_or_names)] = ()
    """Tools of our own that calls have: wait_for_user, transfer_to_human."""
    first_agent: str = ""
    """The agent that a call begins with; "" is the one that is named first."""


OUR_OWN = {"wait_for_user": wait_for_user, "transfer_to_human": transfer_to_human}


def toolset(
    policy: ToolPolicy,
    sections: Mapping[str, ToolSection],
    tools: Mapping[str, Tool],
    agents: Mapping[str, AgentSection],
    *,
    purpose: str,
    bucket: str,
    asked: Iterable[str] | None,
) -> Toolset:
    """What a call may use of `tools`. `asked`: names that the client wants; it only narrows."""
    wanted = None if asked is None else set(asked)
    chosen = {
        name: tool
        for name, tool in tools.items()
        if sections[name].allowed(purpose, bucket) and (wanted is None or name in wanted)
    }
    known = _agents(sections, chosen, agents)
    named = {name: OUR_OWN[name]() for name in policy.built_in}
    given = {to.name: to for to in (handoff(agent) for agent in known.values())}
    return Toolset(
        {**chosen, **named, **given},
        None if policy.client_tools == ("*",) else frozenset(policy.client_tools),
        known,
        policy.first_agent or next(iter(known), ""),
    )


def _agents(
    sections: Mapping[str, ToolSection], tools: Mapping[str, Tool], agents: Mapping[str, AgentSection]
) -> dict[str, Agent]:
    return {
        name: Agent(
            name,
            agent.description,
            agent.instructions,
            tuple(tool for tool in tools if not sections[tool].agents or name in sections[tool].agents),
            agent.handoffs,
        )
        for name, agent in agents.items()
    }
