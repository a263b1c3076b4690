"""What a simulated model says: a script, the same every time.

Rules come first, from a TOML file; then the defaults answer orders, goodbyes, thanks and everything else.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DIGITS = {
    "zero": "0", "oh": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
_DIGIT_WORDS = re.compile(r"\b(" + "|".join(_DIGITS) + r")\b", re.IGNORECASE)
_SPACED_DIGITS = re.compile(r"(?<=\d)[\s,.\-]+(?=\d\b)|(?<=\b\d)[\s,.\-]+(?=\d)")
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
ANYTHING_ELSE = "Can I do anything else for you?"
ECHO = ["You said: {heard}", "That is good to know.", "Please go on, or ask me about an order."]


@dataclass(frozen=True, slots=True)
class Say:
    sentences: list[str]


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered: the caller's words, or a tool's output; both None when nothing was said yet."""

    heard: str | None
    tool_output: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"


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


def normalise(text: str) -> str:
    """Digit words as digits, and digits that were spoken one by one joined: "four one seven two" is "4172"."""
    digits = _DIGIT_WORDS.sub(lambda match: _DIGITS[match[0].lower()], text)
    return _SPACED_DIGITS.sub("", digits)


def spell(number: str) -> str:
    return " ".join(number)


class Brain:
    """`spoken_orders`: orders are answered at length in speech even where the session has a tool for them."""

    def __init__(self, rules: list[Rule] | None = None, *, spoken_orders: bool = False) -> None:
        self._rules = rules or []
        self._spoken_orders = spoken_orders

    def known_lines(self) -> list[str]:
        """Every sentence that does not depend on what is said: those worth rendering ahead."""
        lines = [HEARD_WELL, *GREETING, *ECHO, *ASK_NUMBER, *NOT_HEARD, *WELCOME, *GOODBYE, *LONG_ANSWER]
        lines += [FOUND, ANYTHING_ELSE]
        lines += [line for rule in self._rules for line in rule.say]
        return [line for line in dict.fromkeys(lines) if "{" not in line]

    def reply(self, question: Question) -> Say | Call:
        if question.tool_output is not None:
            return Say(_tell_result(question.tool_output))
        tools = _usable_tools(question)
        chosen = question.tool_choice
        answer = self._answer(question, tools)
        if isinstance(answer, Say) and tools and (chosen == "required" or isinstance(chosen, dict)):
            return Call(tools[0]["name"], {})
        return answer

    def _answer(self, question: Question, tools: list[dict[str, Any]]) -> Say | Call:
        if question.heard is None:
            return Say(GREETING)
        heard = normalise(question.heard)
        for rule in self._rules:
            match = rule.when.search(heard)
            if match and (rule.tool is None or any(tool["name"] == rule.tool for tool in tools)):
                return _apply(rule, match, question.heard)
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


def _usable_tools(question: Question) -> list[dict[str, Any]]:
    functions = [tool for tool in question.tools if tool.get("type") == "function"]
    if question.tool_choice == "none":
        return []
    if isinstance(question.tool_choice, dict):
        return [tool for tool in functions if tool["name"] == question.tool_choice.get("name")]
    return functions


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
    facts = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in result.items())
    return [FOUND, _quoted(facts), ANYTHING_ELSE]
