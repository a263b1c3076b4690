"""What a simulated model says: a script, the same every time.

An answer to a read-back comes first (`manners`), then the rules of a TOML file, then errands for which the session has
a tool (`errands`); then the defaults answer orders, goodbyes, thanks and everything else.

    [[rule]]
    when = "opening hours"                      # a regular expression, case does not matter
    say = ["We are open from nine to five."]    # {heard} is what was said, {1} the first group

    [[rule]]
    when = "cancel order ([0-9]+)"
    tool = "cancel_order"                       # used only if the session has this tool
    arguments = { order_id = "{1}" }
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.simulate.details import normalise, spell
from orchestrator.simulate.dialogue import Call, Entry, Noted, Question, Say, Told
from orchestrator.simulate.errands import errand
from orchestrator.simulate.manners import (
    ANYTHING_ELSE,
    Manners,
    after_output,
    answer_to_readback,
    changes,
    claimed,
    exactly,
    facts,
    news,
    read_out,
)

__all__ = ["Brain", "Call", "Manners", "Question", "Rule", "Say", "load_rules", "normalise", "spell"]

_ORDER = re.compile(r"\b(orders?|packages?|parcels?|deliver(?:y|ies))\b", re.IGNORECASE)
_NUMBER = re.compile(r"\b\d{2,}\b")
_GOODBYE = re.compile(r"\b(good ?bye|bye|that'?s all|hang up)\b", re.IGNORECASE)
_THANKS = re.compile(r"\b(thanks|thank you)\b", re.IGNORECASE)

GREETING = ["Hello, and thanks for calling.", "How can I help you today?"]
GOODBYE = ["Thank you for calling.", "Goodbye, and have a good day."]
WELCOME = ["You are welcome.", "Is there anything else I can help you with?"]
ASK_NUMBER = ["I can look that up for you.", "What is the order number, please?"]
NOT_HEARD = ["I am sorry, I did not catch that.", "Could you say it again, please?"]
LOOKING_UP = "Let me look up order {order} for you."
LONG_ANSWER = [
    "I have found it in our system.",
    "It was packed in our warehouse on Monday and it left on the same evening.",
    "The carrier has scanned it twice since then, and everything looks as it should.",
    "It is now on its way to you, and it should arrive within two working days.",
    "You will get a message with the exact time on the morning of the delivery.",
    "Is there anything else that I can do for you?",
]
HEARD_WELL = "Thank you, I can hear you well."
FOUND = "I have found it."
ECHO = ["You said: {heard}", "That is good to know.", "Please go on, or ask me about an order."]


@dataclass(frozen=True, slots=True)
class Rule:
    when: re.Pattern[str]
    say: list[str]
    tool: str | None
    arguments: dict[str, str]


def load_rules(path: Path) -> list[Rule]:
    """The rules of a TOML file; ValueError names the rule that is wrong and what it should look like."""
    try:
        tables = tomllib.loads(path.read_text()).get("rule", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    return [_rule(table, f"{path}: rule {number}") for number, table in enumerate(tables, 1)]


def _rule(table: dict[str, Any], where: str) -> Rule:
    if unknown := set(table) - {"when", "say", "tool", "arguments"}:
        raise ValueError(
            f"{where} has an unknown key {sorted(unknown)[0]!r}; keys are when, say, tool, arguments"
        )
    if "when" not in table or ("say" in table) == ("tool" in table):
        raise ValueError(f"{where} needs `when`, and either `say` or `tool`")
    say = table.get("say", [])
    try:
        when = re.compile(table["when"], re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{where}: `when` is not a regular expression: {error}") from error
    return Rule(
        when, [say] if isinstance(say, str) else list(say), table.get("tool"), table.get("arguments", {})
    )


class Brain:
    """`spoken_orders`: orders are answered at length in speech even where the session has a tool for them.

    `manners`: how it deals with tools that change something; may be set at any time.
    """

    def __init__(
        self,
        rules: list[Rule] | None = None,
        *,
        spoken_orders: bool = False,
        manners: Manners = Manners.WELL,
    ) -> None:
        self._rules = rules or []
        self._spoken_orders = spoken_orders
        self.manners = manners

    def known_lines(self) -> list[str]:
        """Every sentence that does not depend on what is said: those worth rendering ahead."""
        lines = [HEARD_WELL, *GREETING, *ECHO, *ASK_NUMBER, *NOT_HEARD, *WELCOME, *GOODBYE, *LONG_ANSWER]
        lines += [FOUND, ANYTHING_ELSE]
        lines += [line for rule in self._rules for line in rule.say]
        return [line for line in dict.fromkeys(lines) if "{" not in line]

    def reply(self, question: Question) -> Say | Call:
        words = exactly(question.instructions)
        if words is not None:
            return Say([read_out(words, question.past, self.manners)])
        if question.tool_output is not None:
            return after_output(question, self.manners) or Say(_tell_result(question.tool_output))
        tidings = news(question.past)
        if tidings and _answered(question.past):
            return Say(tidings)
        tools = question.functions
        chosen = question.tool_choice
        answer = self._answer(question, tools)
        if isinstance(answer, Say) and tools and (chosen == "required" or isinstance(chosen, dict)):
            return Call(tools[0]["name"], {})
        return Say([*tidings, *answer.sentences]) if isinstance(answer, Say) else answer

    def _answer(self, question: Question, tools: list[dict[str, Any]]) -> Say | Call:
        if question.heard is None:
            return Say(GREETING)
        answer = answer_to_readback(question, self.manners)
        if answer is not None:
            return answer
        heard = normalise(question.heard)
        for rule in self._rules:
            match = rule.when.search(heard)
            if match and (rule.tool is None or any(tool["name"] == rule.tool for tool in tools)):
                return _apply(rule, match, question.heard)
        wanted = errand(question)
        if wanted is not None:
            pretends = self.manners is Manners.FORGETFUL and isinstance(wanted, Call) and changes(wanted)
            return claimed(wanted) if pretends and isinstance(wanted, Call) else wanted
        return self._default(question.heard, heard, tools)

    def _default(self, words: str, heard: str, tools: list[dict[str, Any]]) -> Say | Call:
        if not words.strip():
            return Say(NOT_HEARD)
        number = _NUMBER.search(heard)
        if _ORDER.search(heard):
            return self._order(number[0], tools) if number else Say(ASK_NUMBER)
        if _GOODBYE.search(heard):
            return Say(GOODBYE)
        if _THANKS.search(heard):
            return Say(WELCOME)
        return Say([HEARD_WELL, *(line.format(heard=_quoted(words)) for line in ECHO)])

    def _order(self, number: str, tools: list[dict[str, Any]]) -> Say | Call:
        tool = next((tool for tool in tools if "order" in tool["name"] and "status" in tool["name"]), None)
        if tool is None or self._spoken_orders:
            return Say([LOOKING_UP.format(order=spell(number)), *LONG_ANSWER])
        names = list((tool.get("parameters") or {}).get("properties") or {"order_id": {}})
        return Call(tool["name"], {"order_id" if "order_id" in names else names[0]: number})


def _answered(past: Sequence[Entry]) -> bool:
    """Whether the model had the last word, system messages aside."""
    said = [entry for entry in past if not isinstance(entry, Noted)]
    return bool(said) and isinstance(said[-1], Told)


def _apply(rule: Rule, match: re.Match[str], words: str) -> Say | Call:
    groups = (match[0], *(group or "" for group in match.groups()))
    if rule.tool is not None:
        return Call(rule.tool, {name: value.format(*groups) for name, value in rule.arguments.items()})
    return Say([line.format(*groups, heard=_quoted(words)) for line in rule.say])


def _quoted(words: str) -> str:
    words = words.strip()
    return words if words[-1:] in ".?!" else words + "."


def _tell_result(output: str) -> list[str]:
    try:
        result = json.loads(output)
    except ValueError:
        result = output
    if not isinstance(result, dict):
        return [FOUND, _quoted(str(result)), ANYTHING_ELSE]
    order, status = result.get("order_id"), result.get("status")
    if order is not None and status is not None:
        return [f"Order {spell(str(order))} is {status}.", ANYTHING_ELSE]
    return [FOUND, _quoted(facts(result)), ANYTHING_ELSE]
