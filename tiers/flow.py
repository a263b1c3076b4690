"""The deterministic flow: what can be answered without a model, because there is one right answer.

Pure functions over a request's history. It is conservative: whatever is not clearly an order's status, the opening
hours or a goodbye stays None, and somebody else answers. English only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.protocol.answers import AnswerRequest, HistoryItem, Message, ToolCall, ToolResult
from orchestrator.protocol.number_words import DIGIT_OF, REPEATS, SCALE_OF, TEEN_OF, TENS_OF, joined

ORDER_TOOL = "get_order_status"


@dataclass(frozen=True, slots=True)
class Say:
    """Speak a catalogue prompt. `end_call`: the call may end once it was heard."""

    prompt: str
    variables: dict[str, str] = field(default_factory=dict)
    end_call: bool = False


@dataclass(frozen=True, slots=True)
class CallTool:
    name: str
    arguments: dict[str, Any]


def reply(request: AnswerRequest) -> Say | CallTool | None:
    """What to do about the last thing that was said or returned; None where the flow does not know."""
    history = _unanswered(request.history)
    if not history or not _may_speak_for(request):
        return None
    last = history[-1]
    if isinstance(last, ToolResult):
        return _order_result(last, history, request)
    if isinstance(last, Message) and last.role == "user":
        return _to_caller(last.text, history, request)
    return None


def _may_speak_for(request: AnswerRequest) -> bool:
    """A session that demands a certain tool, or speaks another language, is not the flow's business."""
    return request.language.lower().startswith("en") and request.tool_choice in ("auto", "none")


_STILL_THERE = re.compile(
    r"(?:(?:hello|hi|hey|sorry|what|are you (?:still )?there|can you hear me|you there|anybody there)[\s,.!?]*)+",
    re.IGNORECASE,
)


def _unanswered(history: tuple[HistoryItem, ...]) -> tuple[HistoryItem, ...]:
    """The history up to what still wants an answer.

    An answer that was cut off leaves its question open, and so does a caller who then only asks whether anybody is
    there.
    """
    end = len(history)
    if end > 1 and _is_cut_off(history[end - 2]):
        last = history[end - 1]
        if isinstance(last, Message) and last.role == "user" and _STILL_THERE.fullmatch(last.text.strip()):
            end -= 1
    while end and _is_cut_off(history[end - 1]):
        end -= 1
    return history[:end]


def _is_cut_off(item: HistoryItem) -> bool:
    return isinstance(item, Message) and item.role == "assistant" and item.cut_off


# What the caller wants


_ORDER_THING = r"(?:orders?|packages?|parcels?|shipments?|deliver(?:y|ies))"
_ORDER = re.compile(rf"\b{_ORDER_THING}\b", re.IGNORECASE)
_STATUS = re.compile(
    r"\b(?:where|status|track(?:ing)?|when|arrived?|arriving|shipped|delivered|on (?:its|the) way|"
    r"check (?:on|up)|update|look up|happen(?:ed|ing)|how is|how's|news)\b",
    re.IGNORECASE,
)
_SOMETHING_ELSE = re.compile(
    r"\b(?:cancel\w*|return\w*|refund\w*|chang\w*|exchang\w*|complain\w*|wrong|broken|damaged|missing|address\w*|"
    r"invoice|pay\w*|charged?|place|new|another|other|different|instead|reorder|buy|add|remove|order (?:a|an|some)|"
    r"to order|ordered|can't|cannot|didn't|wasn't|isn't|not|never)\b",
    re.IGNORECASE,
)
_BARE_ORDER = re.compile(
    r"(?:\(keypad\)[\s,.!:#]*)?"
    r"(?:(?:um|uh|yes|yeah|hi|hello|please|ok|okay|sure|it's|it is|it was|that's|that is|this is|my|the|your|for|"
    r"about|order|number|id|is|was|and|so|well|thanks?|thank you)\b[\s,.!:#]*)*",
    re.IGNORECASE,
)
_HOURS = re.compile(
    r"\b(?:(?:opening|business|store|shop|office|working) (?:hours|times)|your hours|"
    r"(?:what time|when|until when|how late|how long) (?:do|are|is|does) (?:you|the (?:store|shop|office)|it) "
    r"(?:open|close|closed|shut)|are you (?:guys )?(?:still )?open)\b",
    re.IGNORECASE,
)
_SPECIAL_DAY = re.compile(
    r"\b(?:christmas|easter|new year\w*|holidays?|thanksgiving|account|chat|to)\b", re.IGNORECASE
)
_ASSISTANT = r"(?:assistant|agent|person|bot|robot|machine|voice|service|ai|one|lady|guy|woman|man)"
_SAME = re.compile(
    r"\bam i (?:still )?(?:talking|speaking) (?:to|with) (?:the same|a different|another|someone else|somebody else)\b"
    rf"|\b(?:are you|is (?:this|that|it)) (?:still |really )?the same (?:{_ASSISTANT}\b|as before\b)"
    rf"|\bare you (?:now )?(?:a different|another|a new) {_ASSISTANT}\b"
    r"|\b(?:did|has) (?:your|the) voice (?:just )?changed?\b"
    r"|\bwhy (?:do you|does your voice) sound (?:so )?different\b",
    re.IGNORECASE,
)
_BYE = re.compile(r"\b(?:bye|goodbye|good bye|bye-bye)\b", re.IGNORECASE)
_POLITE = (
    "ok okay alright all right thanks thank you very so much cheers great perfect lovely fine good nice well no nope "
    "that's that is was be everything it for your the help now then have a an day one evening night weekend too bye "
    "goodbye bye-bye and please i will i'll talk see later soon again take care"
)
_ASKED_FOR_NUMBER = re.compile(
    rf"\b{_ORDER_THING} (?:number|id)\b[^.!]*\?|\?.*\b{_ORDER_THING} (?:number|id)\b", re.I
)


def _to_caller(text: str, history: tuple[HistoryItem, ...], request: AnswerRequest) -> Say | CallTool | None:
    found = (_order(text, history, request), _hours(text), _goodbye(text), _who(text))
    wishes = [wish for wish in found if wish]
    return wishes[0] if len(wishes) == 1 else None


def _hours(text: str) -> Say | None:
    return Say("opening_hours") if _HOURS.search(text) and not _SPECIAL_DAY.search(text) else None


def _who(text: str) -> Say | None:
    """Whether this is still the same assistant: nobody but the flow is sure to tell the truth."""
    return Say("simpler_service") if _SAME.search(text.replace("\u2019", "'")) else None


def _goodbye(text: str) -> Say | None:
    """A goodbye and nothing else: "bye the way" and "tell him goodbye" are not."""
    words = re.findall(r"[a-z'-]+", text.lower().replace("\u2019", "'"))
    if _BYE.search(text) and set(words) <= set(_POLITE.split()):
        return Say("goodbye", end_call=True)
    return None


def _order(text: str, history: tuple[HistoryItem, ...], request: AnswerRequest) -> Say | CallTool | None:
    tool = order_tool(request.tools)
    if tool is None or request.tool_choice == "none" or not _about_an_order(text, history):
        return None
    name, parameter = tool
    least = 1 if _number_was_asked_for(history[:-1]) else MIN_DIGITS
    order_id = order_number(text, least) or _number_given_before(history[:-1])
    return CallTool(name, {parameter: order_id}) if order_id else Say("ask_order_number")


def _about_an_order(text: str, history: tuple[HistoryItem, ...]) -> bool:
    """A question for an order's status, a bare "order 4172", or the number alone where we asked for it."""
    if _SOMETHING_ELSE.search(text):
        return False
    if _ORDER.search(text) and _STATUS.search(text):
        return True
    if not order_number(text, least=1) or _BARE_ORDER.fullmatch(_without_numbers(text)) is None:
        return False
    return bool(_ORDER.search(text)) or _number_was_asked_for(history[:-1])


def _number_was_asked_for(before: tuple[HistoryItem, ...]) -> bool:
    """Whether what went before the caller's number was a question for it, by whichever tier."""
    for item in reversed(before):
        if isinstance(item, Message) and item.role == "assistant":
            return bool(_ASKED_FOR_NUMBER.search(item.text))
        if isinstance(item, Message) and item.role == "user":
            return bool(_ORDER.search(item.text) and _STATUS.search(item.text))
    return False


def _number_given_before(before: Iterable[HistoryItem]) -> str | None:
    """The order that the caller named last, if the question now names none."""
    for item in reversed(tuple(before)):
        if isinstance(item, Message) and item.role == "user" and _ORDER.search(item.text):
            if number := order_number(item.text):
                return number
        elif isinstance(item, ToolResult):
            return None  # that order was answered: this question may be about another one
    return None


# Numbers as people say them and as recognisers write them


_NUMBER_WORD = "|".join((*DIGIT_OF, *TEEN_OF, *TENS_OF, *REPEATS, *SCALE_OF))
_NUMERAL = rf"(?:[A-Za-z]{{1,4}}-?\d{{2,}}|\d+(?:,\d{{3}})*|(?:{_NUMBER_WORD})\b)"
_RUN = re.compile(
    rf"(?<![\w$€£])#?{_NUMERAL}(?:[\s,.\-\u2013]*(?:and\s+)?{_NUMERAL})*(?![\w%])", re.IGNORECASE
)
_NAMED = re.compile(
    rf"\b{_ORDER_THING}[\s,]*(?:(?:with|the|number|no\.?|id|is|was|it's|called|code)[\s,:]*)*[#:\s]*$", re.I
)
MIN_DIGITS = 3
"""An order number that is not introduced as one ("it's 4172") has at least so many digits."""


def order_number(text: str, least: int = MIN_DIGITS) -> str | None:
    """The order number in an utterance: "four one seven two", "4 1 7 2", "41 72", "4-1-7-2" and "4172" are all 4172.

    One that follows the word "order" may have any length, others have `least` digits or more.
    """
    best: str | None = None
    for match in _RUN.finditer(text):
        number = joined(match[0])
        if number is None:
            continue
        if _NAMED.search(text[: match.start()]):
            return number
        digits = sum(char.isdigit() for char in number)
        if digits >= least and (best is None or len(number) > len(best)):
            best = number
    return best


def _without_numbers(text: str) -> str:
    return _RUN.sub("", text).strip(" .,;:!?#-")


# The session's tool for orders, and what it answered


_ID_LIKE = re.compile(
    r"(?:^|_|\b)(?:id|no|nr|number|num|order|code|reference)(?:_|\b|$)|Id$|Number$", re.IGNORECASE
)
_STATUS_TOOL = re.compile(r"order.*(?:status|track|state)|(?:status|track|state).*order", re.IGNORECASE)


def order_tool(tools: Iterable[dict[str, Any]]) -> tuple[str, str] | None:
    """The session's tool for an order's status and the parameter that takes the number; None without a clear one."""
    functions = [tool for tool in tools if tool.get("type") == "function" and tool.get("name")]
    named = [tool for tool in functions if tool["name"] == ORDER_TOOL]
    clear = [tool for tool in functions if _reads_order_status(tool)]
    chosen = named or (clear if len(clear) == 1 else [])
    if not chosen:
        return None
    parameter = _id_parameter(chosen[0])
    return (chosen[0]["name"], parameter) if parameter else None


def _reads_order_status(tool: dict[str, Any]) -> bool:
    name = str(tool["name"])
    if re.search(r"set|update|change|cancel|create|delete|place", name, re.IGNORECASE):
        return False
    return bool(
        _STATUS_TOOL.search(name.replace("_", " ")) or _STATUS_TOOL.search(tool.get("description") or "")
    )


def _id_parameter(tool: dict[str, Any]) -> str | None:
    """The one string parameter that must be given and looks like an id."""
    schema = tool.get("parameters") or {}
    properties = schema.get("properties") or {}
    required = schema.get("required") or list(properties)
    if len(required) != 1 or properties.get(required[0], {}).get("type", "string") != "string":
        return None
    return str(required[0]) if _ID_LIKE.search(required[0]) else None


_UNKNOWN = re.compile(
    r"\b(?:not[ _]found|no (?:such )?orders?|unknown|does(?: not|n't) exist|could(?: not|n't) find|invalid|errors?|"
    r"failed|no results?)\b",
    re.IGNORECASE,
)
_WRAPPERS = ("order", "result", "data")
_NOT_DONE = frozenset({"failed", "unknown", "declined", "refused", "vetoed", "cancelled"})
"""What the server says of a tool that it runs, with the reason beside it: the order itself need not be unknown."""
_NO_SUCH = re.compile(
    r"\bnot[ _]found\b|\bno such\b|\bunknown order\b|\bdoes(?: not|n't) exist\b", re.IGNORECASE
)


def _order_result(result: ToolResult, history: tuple[HistoryItem, ...], request: AnswerRequest) -> Say | None:
    call = next((c for c in history if isinstance(c, ToolCall) and c.call_id == result.call_id), None)
    tool = order_tool(request.tools)
    if call is None or call.name != (tool[0] if tool else ORDER_TOOL):
        return None
    order_id = _order_id_of(call, tool[1] if tool else "order_id")
    if order_id is None:
        return None
    known, status = _status(result.output)
    if known:
        return Say("order_status", {"order_id": order_id, "status": status}) if status else None
    return Say("order_unknown", {"order_id": order_id})


def _order_id_of(call: ToolCall, parameter: str) -> str | None:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return None
    value = arguments.get(parameter) if isinstance(arguments, dict) else None
    return str(value) if isinstance(value, str | int) and str(value) else None


def _status(output: str) -> tuple[bool, str]:
    """Whether the tool knows the order, and its status; no status where the answer cannot be read."""
    try:
        value = json.loads(output)
    except ValueError:
        value = output
    if isinstance(value, dict) and value.get("status") in _NOT_DONE and "reason" in value:
        return _NO_SUCH.search(str(value["reason"])) is None, ""
    if isinstance(value, dict):
        for wrapper in _WRAPPERS:
            if isinstance(value.get(wrapper), dict):
                value = {**value, **value[wrapper]}
        if value.get("error") or value.get("found") is False or value.get("ok") is False:
            return False, ""
        value = value.get("status")
    if value is None and output.strip() in ("null", ""):
        return False, ""
    if not isinstance(value, str):
        return True, ""
    return (False, "") if _UNKNOWN.search(value) else (True, value.strip())
