"""Tools that the server runs or watches over: what they are, who may use them, and what came of one.

A tool has a JSON schema, a kind, and where it runs. What is decided about a call to one is `tool_desk.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator

from orchestrator.protocol.wire import Event

TEXT_LIMIT = 500
"""Characters of one value that a model is told; a record is not to be read out."""


class Kind(StrEnum):
    READ_ONLY = "read_only"
    MUTATING = "mutating"
    """It changes something: read back first, and run only after the caller's spoken yes."""


class Runs(StrEnum):
    """Where a tool runs."""

    WEBHOOK = "webhook"
    PYTHON = "python"
    MCP = "mcp"
    CLIENT = "client"
    """The client's own, as in plain Realtime; here only so that the server's policy holds for it."""
    BUILT_IN = "built_in"


class Topic(StrEnum):
    """What a mutating tool is about. All but GENERAL are always confirmed, whatever is configured."""

    GENERAL = "general"
    MONEY = "money"
    BOOKING = "booking"
    CANCELLATION = "cancellation"
    MEDICAL_INTAKE = "medical_intake"
    ACCOUNT = "account"


class Once(StrEnum):
    """What makes two calls of a mutating tool the same, so that only one of them runs."""

    CALL = "call"
    """The same arguments in the same call."""
    CONFIRMATION = "confirmation"
    """Each yes of the caller is one run."""
    EVER = "ever"
    """The same arguments in any call."""


class Result(StrEnum):
    DONE = "done"
    FAILED = "failed"
    """Nothing was changed, for certain."""
    UNKNOWN = "unknown"
    """It may have run: it is never run again, and the caller is told so."""
    DECLINED = "declined"
    """It was not even tried: the tool ledger could not be written."""
    VETOED = "vetoed"
    """A guardrail forbade it."""


@dataclass(frozen=True)
class Tool:
    """One tool as configured. `timeout_s`: how long one run may take; what is slower counts as failed or unknown."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """Its arguments, as JSON schema."""
    kind: Kind = Kind.READ_ONLY
    topic: Topic = Topic.GENERAL
    runs: Runs = Runs.WEBHOOK
    timeout_s: float = 10.0
    preamble: str = "looking_up"
    """Prompt that is said when the tool is slow."""
    preamble_after_s: float = 0.8
    once: Once = Once.CALL
    once_by: tuple[str, ...] = ()
    """Arguments that make two calls the same; all of them if empty."""
    honours_key: bool = False
    """It takes a repetition with the same idempotency key for the same request: then it may be tried again."""
    speakable: tuple[str, ...] = ()
    """Fields of its result that a model may be told, as paths (``order.status``)."""
    confirm: bool = True
    """Whether a mutating tool is confirmed by the caller; see `Topic`."""
    approval: bool = False
    """Whether a person has to approve each call of it."""
    readback: str = ""
    """What is about to happen, with the arguments in braces: ``cancel order {order_id}``."""
    entities: Mapping[str, str] = field(default_factory=dict)
    """What kind of thing an argument is, by its name: see `entities.py`."""

    @property
    def mutating(self) -> bool:
        return self.kind is Kind.MUTATING

    @property
    def confirmed(self) -> bool:
        """Whether it runs only after the caller's yes."""
        return self.mutating and (self.confirm or self.topic is not Topic.GENERAL)

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(dict(self.parameters))

    def wrong(self, arguments: Any) -> list[str]:
        """What is wrong with arguments, each with the argument's name first; empty if they fit the schema."""
        errors = sorted(self._validator.iter_errors(arguments), key=lambda error: list(error.path))
        return [f"{'.'.join(map(str, error.path)) or 'arguments'}: {error.message[:200]}" for error in errors]

    def wire(self) -> Event:
        """As a Realtime session lists it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }

    def key(self, call_id: str, arguments: Mapping[str, Any], confirmation: int) -> str:
        """The idempotency key of a run: equal for what must not run twice. `confirmation`: its number in the call."""
        names = self.once_by or tuple(sorted(arguments))
        told = json.dumps({name: arguments.get(name) for name in names}, sort_keys=True)
        scope = {
            Once.EVER: "",
            Once.CALL: call_id,
            Once.CONFIRMATION: f"{call_id} {confirmation}",
        }[self.once]
        return f"{self.name} {scope} {told}"

    def speak(self, output: Any) -> Any:
        """A result cut to what may be spoken: declared fields of an object, a short text otherwise."""
        if isinstance(output, Mapping):
            found: dict[str, Any] = {}
            for path in self.speakable:
                value = _at(output, path.split("."))
                if value is not None:
                    found[path] = _short(value)
            return found
        if isinstance(output, Sequence) and not isinstance(output, str):
            return [self.speak(entry) for entry in output[:10]]
        return _short(output)


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_short(entry) for entry in value[:10] if not isinstance(entry, Mapping)]
    return None


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of one run. `output` is the tool's own result, uncut; `message` is for people and holds no secret."""

    result: Result
    output: Any = None
    message: str = ""
    known: bool = False
    """The tool ledger had it already: nothing was run now."""
    nanodollars: int = 0


@dataclass(frozen=True, slots=True)
class Agent:
    """A named agent. `tools`: the names of those it has, beside the client's; None for all there are.

    `handoffs`: agents it may give the call to; each becomes a tool ``transfer_to_<name>``.
    """

    name: str
    description: str = ""
    instructions: str = ""
    tools: tuple[str, ...] | None = None
    handoffs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Toolset:
    """What one call may use. `client_tools`: names of the client's own tools that are let in, None for all."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    client_tools: frozenset[str] | None = None
    agents: Mapping[str, Agent] = field(default_factory=dict)
    first_agent: str = ""
    """The agent that a call begins with; nothing where there are none."""

    def __bool__(self) -> bool:
        return bool(self.tools) or self.client_tools is not None or bool(self.agents)

    def get(self, name: str) -> Tool | None:
        return self.tools.get(name)

    def allows(self, name: str) -> bool:
        """Whether a tool that the client brings along may be used."""
        return name not in self.tools and (self.client_tools is None or name in self.client_tools)

    def _lets_in(self, tool: Event) -> bool:
        """A function by its name; a server of tools that the provider would call itself by its label."""
        if tool.get("type") == "function":
            return self.allows(str(tool.get("name") or ""))
        return self.client_tools is None or str(tool.get("server_label") or "") in self.client_tools

    def names_of(self, agent: str) -> frozenset[str] | None:
        """Which tools an agent has; None for all."""
        known = self.agents.get(agent)
        if known is None or known.tools is None:
            return None
        return frozenset((*known.tools, *(HANDOFF + name for name in known.handoffs), *BUILT_IN))

    def instructions(self, agent: str, client: str) -> str:
        """What a model is told: the agent's own instructions, then what the client set."""
        known = self.agents.get(agent)
        parts = (known.instructions if known is not None else "", client)
        return "\n\n".join(part for part in parts if part)

    def offered(self, client: Iterable[Event], agent: str = "") -> list[Event]:
        """The session's tools as a model gets them: the client's that are allowed, then those of ours `agent` has.

        The client's own entry for a tool that the server knows gives way to the server's.
        """
        theirs, names = list(client), self.names_of(agent)
        kept = [tool for tool in theirs if self._lets_in(tool)]
        brought = {tool.get("name") for tool in theirs}
        ours = [
            tool.wire()
            for tool in self.tools.values()
            if (names is None or tool.name in names)
            and (tool.runs is not Runs.CLIENT or tool.name in brought)
        ]
        return [*kept, *ours]


WAIT_FOR_USER = "wait_for_user"
TRANSFER = "transfer_to_human"
HANDOFF = "transfer_to_"
BUILT_IN = frozenset({WAIT_FOR_USER, TRANSFER})
"""Names of tools that the server has of its own."""


def wait_for_user() -> Tool:
    """Say nothing: the caller is not talking to the assistant."""
    return Tool(
        WAIT_FOR_USER,
        "Say nothing and go on listening. Call this when the caller is silent, on hold, plays music, or talks to "
        "somebody else.",
        runs=Runs.BUILT_IN,
    )


def transfer_to_human() -> Tool:
    """The outcome of last resort: a person takes the call."""
    return Tool(
        TRANSFER,
        "Put the caller through to a person. Call this when the caller asks for one, or when you cannot help.",
        {
            "type": "object",
            "properties": {"reason": {"type": "string", "description": "Why, in one sentence."}},
            "required": ["reason"],
        },
        runs=Runs.BUILT_IN,
    )


def handoff(agent: Agent) -> Tool:
    """Give the call to another agent."""
    return Tool(
        HANDOFF + agent.name,
        f"Give the call to {agent.name}. {agent.description}".strip(),
        runs=Runs.BUILT_IN,
    )
