"""Settings of tools: what they become, what they refuse, and how they say so."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import WELL_KNOWN, Settings, SettingsError, load_settings
from orchestrator.core.tools import Kind, Once, Runs, Topic
from orchestrator.tooling import ToolContext

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "reason": {"type": "string"}},
    "required": ["order_id"],
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


def tool(**settings: Any) -> dict[str, Any]:
    return {"kind": "mutating", "url": "http://127.0.0.1:9/cancel", "parameters": SCHEMA} | settings


def settings_of(**sections: Any) -> Settings:
    return load_settings(
        **{
            f"{section}__{name}": value
            for section, given in sections.items()
            for name, value in given.items()
        }
    )


def problem_of(**sections: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        settings_of(**sections)
    # Where the setting came from is tests/test_config.py's.
    return re.sub(r" \(--[^)]*\)", "", str(caught.value))


# A function of somebody's own, by its name in the settings


def cancel(order_id: str, reason: str = "", *, context: ToolContext) -> None: ...


def takes_anything(**arguments: Any) -> None: ...


def takes_less(order_id: str) -> None: ...


def takes_more(order_id: str, reason: str, customer: str) -> None: ...


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shop_tools", sys.modules[__name__])


# What comes of them


def test_a_tool_in_full(tmp_path: Path) -> None:
    file = tmp_path / "tools.toml"
    file.write_text(
        """
        [tools.cancel_order]
        description = "Cancel an order."
        kind = "mutating"
        topic = "cancellation"
        url = "https://shop.example/tools/cancel"
        timeout_s = 4
        preamble = "one_moment"
        preamble_after_s = 0.5
        once = "ever"
        once_by = ["order_id"]
        honours_key = true
        speakable = ["status", "refund.amount"]
        approval = true
        readback = "cancel order {order_id}"
        [tools.cancel_order.parameters]
        type = "object"
        required = ["order_id"]
        properties = { order_id = { type = "string", pattern = "^[0-9]+$" } }

        [tool_policy]
        webhook_secret = "whsec_aHVudGVyMi1odW50ZXIyLWh1bnRlcjI="
        """
    )
    settings = load_settings(file)
    made = settings.tool_list()["cancel_order"]
    assert (made.name, made.kind, made.topic, made.runs) == (
        "cancel_order",
        Kind.MUTATING,
        Topic.CANCELLATION,
        Runs.WEBHOOK,
    )
    assert (made.timeout_s, made.preamble, made.preamble_after_s) == (4.0, "one_moment", 0.5)
    assert (made.once, made.once_by, made.honours_key) == (Once.EVER, ("order_id",), True)
    assert (made.speakable, made.approval, made.readback) == (
        ("status", "refund.amount"),
        True,
        "cancel order {order_id}",
    )
    assert made.wrong({"order_id": "x"}) == ["order_id: 'x' does not match '^[0-9]+$'"]
    assert "hunter2" not in repr(settings)
    assert "aHVud" not in repr(settings)


def test_where_a_tool_runs_follows_from_what_it_names() -> None:
    settings = settings_of(
        tools={
            "hook": tool(),
            "here": tool(url=None, entry_point="shop_tools:cancel"),
            "served": tool(url=None, mcp="shop", mcp_tool="cancelOrder"),
            "theirs": tool(url=None, runs="client"),
        },
        mcp={"shop": {"command": "shop-mcp"}},
    )
    runs = {name: made.runs for name, made in settings.tool_list().items()}
    assert runs == {"hook": Runs.WEBHOOK, "here": Runs.PYTHON, "served": Runs.MCP, "theirs": Runs.CLIENT}


def test_parameters_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cancel.json"
    path.write_text(json.dumps(SCHEMA))
    settings = settings_of(tools={"cancel": tool(parameters=None, parameters_file=path)})
    assert settings.tool_list()["cancel"].parameters == SCHEMA


def test_a_tool_may_be_given_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TOOLS__CANCEL__KIND", "mutating")
    monkeypatch.setenv("ORCHESTRATOR_TOOLS__CANCEL__URL", "http://127.0.0.1:9/x")
    monkeypatch.setenv("ORCHESTRATOR_TOOLS__CANCEL__PARAMETERS", json.dumps(SCHEMA))
    monkeypatch.setenv("ORCHESTRATOR_TOOLS__CANCEL__SPEAKABLE", "status,refund.amount")
    made = load_settings().tool_list()["cancel"]
    assert made.parameters == SCHEMA
    assert made.speakable == ("status", "refund.amount")


def test_without_tools_everything_is_as_in_plain_realtime() -> None:
    toolset = load_settings().toolset("conversation", "default")
    assert not toolset
    assert toolset.allows("anything")


def test_who_may_use_a_tool() -> None:
    settings = settings_of(
        tools={
            "all": tool(),
            "support": tool(purposes=["support"]),
            "acme": tool(buckets=["acme", "acme-2"]),
            "both": tool(purposes=["support"], buckets=["acme"]),
        }
    )

    def names(purpose: str, bucket: str, asked: list[str] | None = None) -> set[str]:
        return set(settings.toolset(purpose, bucket, asked).tools)

    assert names("conversation", "default") == {"all"}
    assert names("support", "default") == {"all", "support"}
    assert names("sales", "acme-2") == {"all", "acme"}
    assert names("support", "acme") == {"all", "support", "acme", "both"}
    # The client only takes away.
    assert names("conversation", "default", ["all", "acme", "other"]) == {"all"}
    assert names("conversation", "default", ["acme"]) == set()
    assert names("conversation", "default", []) == set()


def test_the_clients_own_tools() -> None:
    assert settings_of().toolset("c", "b").client_tools is None
    assert settings_of(tool_policy={"client_tools": ["a", "b"]}).toolset("c", "b").client_tools == {"a", "b"}
    nothing = settings_of(tool_policy={"client_tools": "none"}).toolset("c", "b")
    assert nothing.client_tools == frozenset()
    assert nothing
    assert settings_of(tool_policy={"client_tools": "*"}).toolset("c", "b").client_tools is None


def test_agents_and_tools_of_our_own() -> None:
    settings = settings_of(
        tools={"all": tool(), "refund": tool(agents=["billing"]), "far": tool(buckets=["acme"])},
        agents={
            "front": {"handoffs": ["billing"], "instructions": "Greet."},
            "billing": {"description": "Bills."},
        },
        tool_policy={"built_in": ["transfer_to_human"]},
    )
    toolset = settings.toolset("c", "b")
    assert toolset.first_agent == "front"
    assert {name: agent.tools for name, agent in toolset.agents.items()} == {
        "front": ("all",),
        "billing": ("all", "refund"),
    }
    offered = {name: {each["name"] for each in toolset.offered([], name)} for name in ("front", "billing")}
    assert offered == {
        "front": {"all", "transfer_to_billing", "transfer_to_human"},
        "billing": {"all", "refund", "transfer_to_human"},
    }


# What is refused

ELSEWHERE = "http://shop.example/cancel"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": None}, "tools.cancel.kind: expected 'read_only' or 'mutating'"),
        ({"kind": "writes"}, "expected 'read_only' or 'mutating', not 'writes'"),
        (
            {"parameters": {"type": "objekt"}},
            "tools.cancel.parameters: expected a JSON schema: type: ",
        ),
        ({"parameters": {"type": "string"}}, "expected the JSON schema of an object"),
        (
            {"parameters": SCHEMA | {"allOf": [{"$ref": "https://h/s.json"}]}},
            "expected references inside the schema only, not 'https://h/s.json'",
        ),
        ({"parameters": "{nope"}, "tools.cancel.parameters"),
        (
            {"parameters_file": "x.json"},
            "tools.cancel.parameters_file: the schema is in parameters",
        ),
        (
            {"parameters": None, "parameters_file": "absent.json"},
            "expected a file with a JSON schema in absent.json: No such file",
        ),
        (
            {"topic": "money", "confirm": False},
            "tools.cancel.confirm: what changes something about 'money'",
        ),
        ({"topic": "booking", "confirm": False}, "is always read back and confirmed; remove confirm = false"),
        ({"topic": "cancellation", "confirm": False}, "'cancellation' is always read back"),
        ({"topic": "medical_intake", "confirm": False}, "'medical_intake' is always read back"),
        ({"topic": "account", "confirm": False}, "'account' is always read back"),
        (
            {"kind": "read_only", "topic": "money"},
            "a topic is for what changes something; set kind = 'mutating'",
        ),
        (
            {"url": None},
            "tools.cancel.runs: nothing says where it runs; set one of url, entry_point",
        ),
        (
            {"url": None, "runs": "webhook"},
            "tools.cancel.url: a tool that runs as 'webhook' needs url",
        ),
        ({"runs": "built_in"}, "told to run in several places"),
        ({"url": None, "runs": "built_in"}, "nothing says where it runs"),
        ({"runs": "client"}, "several places (client, webhook)"),
        ({"entry_point": "shop_tools:cancel"}, "several places (python, webhook)"),
        ({"url": "ftp://h/x"}, "expected an http:// or https:// address"),
        (
            {"url": ELSEWHERE},
            "tools.cancel.url: what callers say goes there, so that it has to be https://",
        ),
        ({"url": "https://user:hunter2@shop.example/x"}, "an address carries no user or password"),
        (
            {"url": "https://shop.example/x"},
            "requests have to be signed, so that nobody else can make them; set tool_policy.webhook_secret",
        ),
        (
            {"mcp": "shop", "url": None},
            "tools.cancel.mcp: there is no MCP server 'shop'; there are none",
        ),
        ({"mcp_tool": "x"}, "tools.cancel.mcp_tool: a name at an MCP server; set mcp too"),
        ({"url": None, "entry_point": "cancel"}, "expected package.module:function, not 'cancel'"),
        ({"url": None, "entry_point": "shop_tools:absent"}, "'absent' does not exist in 'shop_tools'"),
        ({"url": None, "entry_point": "shop_tools:takes_less"}, "the function takes no argument 'reason'"),
        ({"url": None, "entry_point": "shop_tools:takes_more"}, "the function needs an argument 'customer'"),
        ({"speakable": ["order..status"]}, "expected paths like order.status, not 'order..status'"),
        ({"speakable": [""]}, "expected paths like order.status, not ''"),
        ({"readback": "cancel {order}"}, "there is no argument 'order'; there are order_id, reason"),
        ({"readback": "cancel {order_id.x}"}, "there is no argument 'order_id.x'"),
        ({"readback": "cancel {}"}, "there is no argument ''"),
        (
            {"readback": "cancel {order_id"},
            "tools.cancel.readback: expected text with arguments in braces",
        ),
        ({"once_by": ["order"]}, "tools.cancel.once_by: there is no argument 'order'"),
        (
            {"entities": {"order_id": "number"}},
            "no kind of thing 'number'; there are order_number, email, phone",
        ),
        (
            {"entities": {"order": "order_number"}},
            "tools.cancel.entities: there is no argument 'order'",
        ),
        (
            {"agents": ["billing"]},
            "tools.cancel.agents: there is no agent 'billing'; there are none",
        ),
        ({"preamble": "hum"}, "tools.cancel.preamble: the prompt 'hum' does not exist"),
        ({"preamble": "order_status"}, "the prompt 'order_status' needs variables"),
        ({"timeout_s": 0}, "tools.cancel.timeout_s: expected greater than 0"),
        ({"timeout": 3}, "there is no such setting; did you mean tools.cancel.timeout_s?"),
    ],
)
def test_a_tool_that_cannot_work_is_refused(given: dict[str, Any], says: str) -> None:
    problem = problem_of(tools={"cancel": tool(**given)})
    assert says in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "name", ["a b", "ä", "x" * 65, "wait_for_user", "transfer_to_human", "transfer_to_sales"]
)
def test_names_that_no_tool_may_have(name: str) -> None:
    assert repr(name) in problem_of(tools={name: tool()})


@pytest.mark.parametrize("name", ["a", "cancel-order_2", "X" * 64])
def test_names_that_a_tool_may_have(name: str) -> None:
    assert name in settings_of(tools={name: tool()}).tool_list()


@pytest.mark.parametrize("topic", list(Topic))
def test_what_may_go_without_a_yes(topic: Topic) -> None:
    if topic is Topic.GENERAL:
        assert not settings_of(tools={"note": tool(confirm=False)}).tool_list()["note"].confirmed
    assert settings_of(tools={"note": tool(topic=topic.value)}).tool_list()["note"].confirmed


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({}, "mcp.shop.command: an MCP server is a command or a url: set one of them"),
        ({"command": "x", "url": "https://h/mcp"}, "set one of them"),
        ({"url": "http://shop.example/mcp"}, "mcp.shop.url: what callers say goes there"),
        ({"url": "https://h/mcp", "args": ["x"]}, "args and env are a command's; remove them"),
        ({"command": "x", "api_key": "hunter2"}, "a key is for a url"),
        ({"command": "x", "env": {"TOKEN": ["hunter2"]}}, "mcp.shop.env.TOKEN"),
        ({"command": "x", "env": "hunter2"}, "mcp.shop.env"),
        ({"command": "x", "connect_s": 0}, "expected greater than 0"),
    ],
)
def test_an_mcp_server_that_cannot_work_is_refused(server: dict[str, Any], says: str) -> None:
    problem = problem_of(mcp={"shop": server})
    assert says in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (
            {"client_tools": ["*", "x"]},
            'tool_policy.client_tools: expected "*" or names, not both',
        ),
        (
            {"built_in": ["hang_up"]},
            "there is no tool 'hang_up' of our own; choose from wait_for_user, transfer",
        ),
        (
            {"webhook_secret": "whsec_hunter2!"},
            "tool_policy.webhook_secret: expected base64",
        ),
        ({"webhook_secret": ["hunter2"]}, "tool_policy.webhook_secret"),
        ({"ledger_ttl_s": 60}, "expected greater than or equal to 3600"),
        ({"first_agent": "front"}, "there is no agent 'front'; there are none"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: dict[str, Any], says: str) -> None:
    problem = problem_of(tool_policy=policy)
    assert says in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("agents", "says"),
    [
        ({"a b": {}}, "expected a name of 1 to 50 letters"),
        ({"human": {}}, "other than 'human'"),
        ({"a": {"handoffs": ["b"]}}, "agents.a.handoffs: there is no other agent 'b'; there are none"),
        ({"a": {"handoffs": ["a"]}, "b": {}}, "there is no other agent 'a'; there are b"),
    ],
)
def test_an_agent_that_cannot_work_is_refused(agents: dict[str, Any], says: str) -> None:
    assert says in problem_of(agents=agents)


def test_a_function_may_take_anything() -> None:
    settings = settings_of(tools={"any": tool(url=None, entry_point="shop_tools:takes_anything")})
    assert settings.tool_list()["any"].runs is Runs.PYTHON


def test_a_key_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    file.write_text('[tools]\ncancel = "hunter2"\n[mcp]\nshop = "hunter2"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert "hunter2" not in str(caught.value)
