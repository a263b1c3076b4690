"""What can be wrong with the settings of tools, found at the start and not in a call."""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, SchemaError
from pydantic import SecretStr

from orchestrator.core.entities import Entity
from orchestrator.core.tools import HANDOFF, Kind, Runs, Topic
from orchestrator.entry_points import EntryPointInvalid, load
from orchestrator.signing import SecretInvalid, key_of
from orchestrator.tool_sections import OUR_OWN, McpSection, ParametersInvalid, ToolPolicy, ToolSection
from tiers.prompts.catalogue import Catalogue, CatalogueInvalid

if TYPE_CHECKING:
    from orchestrator.config import Settings

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
AGENT_NAME = re.compile(r"[a-zA-Z0-9_-]{1,50}")
"""One that fits behind ``transfer_to_``."""
PATH = re.compile(r"[^.\s]+(\.[^.\s]+)*")
CONTEXT = "context"
"""Parameter of a Python tool that gets the `ToolContext`."""

IsHere = Callable[[str], bool]
"""Whether a host can only mean this machine."""
Problems = Iterator[tuple[str, str]]
"""The setting, and what is wrong with it and what to do."""


def tool_problems(settings: Settings, is_here: IsHere) -> Problems:
    """Settings of tools that do not work. Reads the files and imports the functions that they name."""
    for name, server in settings.mcp.items():
        yield from _within(f"mcp.{name}", _server_problems(server, is_here))
    yield from _within("tool_policy", _policy_problems(settings))
    yield from _agent_problems(settings)
    for name, tool in settings.tools.items():
        where = f"tools.{name}"
        if problem := _name_problem(name):
            yield where, problem
        yield from _within(where, _place_problems(name, tool, settings, is_here))
        yield from _within(where, _rule_problems(tool, settings))
        yield from _within(where, schema_problems(tool, tool.schema_is_the_servers))


def _within(where: str, problems: Problems) -> Problems:
    for field, problem in problems:
        yield f"{where}.{field}", problem


def _name_problem(name: str) -> str:
    if not NAME.fullmatch(name):
        return f"expected a name of 1 to 64 letters, digits, _ and -, not {name!r}; models take no other"
    if name in OUR_OWN or name.startswith(HANDOFF):
        return f"{name!r} is a tool of our own; choose another name"
    return ""


def _policy_problems(settings: Settings) -> Problems:
    policy: ToolPolicy = settings.tool_policy
    if "*" in policy.client_tools and policy.client_tools != ("*",):
        yield "client_tools", 'expected "*" or names, not both; "*" lets every tool of the client in'
    for name in policy.built_in:
        if name not in OUR_OWN:
            yield "built_in", f"there is no tool {name!r} of our own; choose from {', '.join(OUR_OWN)}"
    if policy.webhook_secret is not None:
        try:
            key_of(policy.webhook_secret.get_secret_value())
        except SecretInvalid as error:
            yield "webhook_secret", str(error)
    if policy.first_agent and policy.first_agent not in settings.agents:
        yield "first_agent", _unknown("agent", policy.first_agent, settings.agents)


def _agent_problems(settings: Settings) -> Problems:
    for name, agent in settings.agents.items():
        if not AGENT_NAME.fullmatch(name) or HANDOFF + name in OUR_OWN:
            yield (
                f"agents.{name}",
                f"expected a name of 1 to 50 letters, digits, _ and -, other than 'human', not {name!r}",
            )
        for other in agent.handoffs:
            if other not in settings.agents or other == name:
                others = [known for known in settings.agents if known != name]
                yield f"agents.{name}.handoffs", _unknown("other agent", other, others)


def _unknown(what: str, name: str, known: Any) -> str:
    return f"there is no {what} {name!r}; there are {', '.join(known) or 'none'}"


# Where it runs


def _server_problems(server: McpSection, is_here: IsHere) -> Problems:
    if (server.command is None) == (server.url is None):
        yield "command", "an MCP server is a command or a url: set one of them"
    elif server.url is not None:
        yield from _address_problems(server.url, is_here)
        if server.args or server.env:
            yield "url", "args and env are a command's; remove them"
    elif server.api_key is not None:
        yield "api_key", "a key is for a url; what a command needs goes into env"


def _address_problems(url: str, is_here: IsHere) -> Problems:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_here(parts.hostname or ""):
        yield "url", "what callers say goes there, so that it has to be https:// except on this machine"


def _place_problems(name: str, tool: ToolSection, settings: Settings, is_here: IsHere) -> Problems:
    places = tool.where
    if places == (Runs.BUILT_IN,) or len(places) != 1:
        given = f"it is told to run in several places ({', '.join(places)})" if len(places) > 1 else ""
        yield (
            "runs",
            f'{given or "nothing says where it runs"}; set one of url, entry_point and mcp, or runs = "client"',
        )
        return
    field = {Runs.WEBHOOK: "url", Runs.PYTHON: "entry_point", Runs.MCP: "mcp"}.get(places[0])
    if field is not None and getattr(tool, field) is None:
        yield field, f"a tool that runs as {places[0].value!r} needs {field}; set it"
    if tool.url is not None:
        yield from _address_problems(tool.url, is_here)
        here = is_here(urlsplit(tool.url).hostname or "")
        secret: SecretStr | None = settings.tool_policy.webhook_secret
        if secret is None and not here:
            yield (
                "url",
                "requests have to be signed, so that nobody else can make them; set tool_policy.webhook_secret to "
                "whsec_ and base64, and verify it at that address",
            )
    if tool.mcp is not None and tool.mcp not in settings.mcp:
        yield "mcp", _unknown("MCP server", tool.mcp, settings.mcp)
    if tool.mcp_tool is not None and tool.mcp is None:
        yield "mcp_tool", "a name at an MCP server; set mcp too, or remove it"
    if tool.entry_point is not None:
        yield from _function_problems(tool)


def _function_problems(tool: ToolSection) -> Problems:
    assert tool.entry_point is not None
    try:
        function = load(tool.entry_point)
    except EntryPointInvalid as error:
        yield "entry_point", str(error)
        return
    try:
        taken = inspect.signature(function).parameters.values()
        names = set(properties(tool.arguments_schema()))
    except (ValueError, TypeError, ParametersInvalid):
        return  # nothing is known of it, or it is said of parameters_file
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return
    known = {p.name for p in taken if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    needed = {p.name for p in taken if p.default is p.empty and p.kind is not p.VAR_POSITIONAL} - {CONTEXT}
    if missing := sorted(names - known):
        yield (
            "entry_point",
            f"the function takes no argument {missing[0]!r}, which is in parameters; add it to one or remove it",
        )
    if more := sorted(needed - names):
        yield "entry_point", f"the function needs an argument {more[0]!r}, which is not in parameters"


# What it may do


def _rule_problems(tool: ToolSection, settings: Settings) -> Problems:
    if tool.kind is Kind.READ_ONLY and tool.topic is not Topic.GENERAL:
        yield (
            "topic",
            f"a topic is for what changes something; set kind = {Kind.MUTATING.value!r}, or remove it",
        )
    if tool.kind is Kind.MUTATING and tool.topic is not Topic.GENERAL and not tool.confirm:
        yield (
            "confirm",
            f"what changes something about {tool.topic.value!r} is always read back and confirmed; remove "
            "confirm = false",
        )
    for kind in tool.entities.values():
        if kind not in list(Entity):
            yield "entities", _unknown("kind of thing", kind, list(Entity))
    for path in tool.speakable:
        if not PATH.fullmatch(path):
            yield "speakable", f"expected paths like order.status, not {path!r}"
    for name in tool.agents:
        if name not in settings.agents:
            yield "agents", _unknown("agent", name, settings.agents)
    if problem := _prompt_problem(tool.preamble, settings):
        yield "preamble", problem


def _prompt_problem(name: str, settings: Settings) -> str:
    if not name:
        return ""
    try:
        catalogue = Catalogue.load(*filter(None, (settings.tier_c.catalogue,)))
    except CatalogueInvalid:
        return ""  # said of tier_c.catalogue
    if name not in catalogue:
        return f"the prompt {name!r} does not exist; write it in the file that tier_c.catalogue names"
    if catalogue[name].variables:
        return f"the prompt {name!r} needs variables, and nobody could fill them in; name one without"
    return ""


# Its arguments


def properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments that a schema names."""
    found = schema.get("properties", {})
    return found if isinstance(found, Mapping) else {}


def schema_problems(tool: ToolSection, is_later: bool = False) -> Problems:
    """What does not fit together with a tool's schema. `is_later`: that is not known yet."""
    if tool.parameters is not None and tool.parameters_file is not None:
        yield "parameters_file", "the schema is in parameters already; remove one of them"
        return
    field = "parameters" if tool.parameters_file is None else "parameters_file"
    try:
        schema = tool.arguments_schema()
    except ParametersInvalid as error:
        yield "parameters_file", str(error)
        return
    if problem := wrong_schema(schema):
        yield field, problem
    elif not is_later:
        yield from name_problems(tool, schema)


def wrong_schema(schema: Mapping[str, Any]) -> str:
    """Why something is no JSON schema of a tool's arguments; empty if it is one."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        return f"expected a JSON schema: {where + ': ' if where else ''}{error.message[:200]}"
    if schema.get("type") != "object":
        return 'expected the JSON schema of an object: type = "object", and properties'
    if away := next((ref for ref in _references(schema) if not ref.startswith("#")), None):
        return f"expected references inside the schema only, not {away!r}; put what it refers to under $defs"
    return ""


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for entry in schema:
            yield from _references(entry)


def name_problems(tool: ToolSection, schema: Mapping[str, Any]) -> Problems:
    """Names of arguments that stand in other settings, and not in the schema."""
    known = properties(schema)
    for field, names in (("once_by", tool.once_by), ("entities", tool.entities)):
        for name in names:
            if name not in known:
                yield field, _unknown("argument", name, known)
    try:
        places = [part for _, part, _, _ in string.Formatter().parse(tool.readback) if part is not None]
    except ValueError as error:
        yield "readback", f"expected text with arguments in braces: {error}"
        return
    for place in places:
        if place not in known:
            yield "readback", _unknown("argument", place, known)
