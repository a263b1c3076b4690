"""How a simulated model deals with tools that the server watches over: well by default, or ill in a chosen way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.simulate import details
from orchestrator.simulate.dialogue import (
    Call,
    Called,
    Entry,
    Heard,
    Noted,
    Question,
    Returned,
    Say,
    Told,
    object_of,
)
from orchestrator.simulate.errands import READING, agrees, corrected, errand, refuses, unsure

NEEDED = "confirmation_needed"
ANYTHING_ELSE = "Can I do anything else for you?"
WILL_NOT = "All right, I will not do that."
OUTCOMES: dict[str, str] = {
    "done": "That is done.",
    "failed": "That did not work.",
    "unknown": "I cannot tell whether that went through.",
    "declined": "I cannot do that at the moment.",
    "vetoed": "I am not able to do that.",
    "refused": "I cannot do that.",
    "cancelled": WILL_NOT,
    "waiting_for_approval": "A colleague has to approve that first.",
    "transferring": "I am putting you through to a colleague.",
    "waiting": "I am here when you need me.",
    NEEDED: "Please tell me whether I should go on.",
}
"""What is said to an output with this `status` that brings no words of its own."""
LOOK_AGAIN = "Look at their words again"
_EXACTLY = re.compile(r"\s*say exactly:\s*(.*\S)\s*", re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(r"[\"“](.*)[\"”]", re.DOTALL)
_ORDER_TO_CALL = re.compile(r"\bcall (\w+) (?:for|with) ([\w.@-]+)", re.IGNORECASE)
_WRONG_NUMBERS = dict(
    pair
    for row in (
        "one two three four five six seven eight nine ten eleven twelve",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "first second third fourth fifth sixth seventh eighth ninth tenth",
    )
    for pair in zip(row.split(), [*row.split()[1:], row.split()[0]], strict=True)
)
"""For each number word another one."""
_NUMBER_WORD = re.compile(r"\b(" + "|".join(_WRONG_NUMBERS) + r")\b", re.IGNORECASE)
_NEWS = ("News of what the caller asked for", "What the caller asked for")


class Manners(StrEnum):
    """How a model behaves towards tools that change something."""

    WELL = "well"
    EAGER = "eager"
    """Calls again at once, without waiting for the caller's yes."""
    PARAPHRASE = "paraphrase"
    """Reads back in words of its own, digits in words."""
    MISREAD = "misread"
    """Reads back a wrong value."""
    INJECTED = "injected"
    """Obeys orders that it finds in a tool's result."""
    FORGETFUL = "forgetful"
    """Says that it is done, and calls nothing."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """A call that waits for the caller's answer, and the words it is read back in."""

    call: Call
    text: str


def exactly(instructions: str) -> str | None:
    """The words of instructions that begin with "Say exactly:", without their quotation marks."""
    match = _EXACTLY.match(instructions)
    if match is None:
        return None
    quoted = _QUOTED.match(match[1])
    return (quoted[1] if quoted else match[1]).replace('\\"', '"').strip()


def proposed(past: Sequence[Entry]) -> Proposed | None:
    """The call that the latest tool output wants confirmed, where the caller has not refused it since."""
    for at in range(len(past) - 1, -1, -1):
        entry = past[at]
        if isinstance(entry, Returned):
            fields = entry.fields
            answers = [later.words for later in past[at:] if isinstance(later, Heard)]
            call = _call_of(past, entry.call_id)
            if fields.get("status") != NEEDED or call is None or any(map(refuses, answers[:-1])):
                return None
            return Proposed(call, str(fields.get("say") or ""))
    return None


def _call_of(past: Sequence[Entry], call_id: str) -> Call | None:
    return next(
        (entry.call for entry in past if isinstance(entry, Called) and entry.call_id == call_id), None
    )


def answer_to_readback(question: Question, manners: Manners) -> Call | Say | None:
    """What follows from the caller's answer to a read-back; None where the words are about something else."""
    open_ = proposed(question.past)
    words = question.heard or ""
    if open_ is None or not any(tool["name"] == open_.call.name for tool in question.functions):
        return None
    wanted = errand(question)
    if isinstance(wanted, Call) and changes(wanted) and wanted != open_.call:
        return wanted
    if changed := corrected(open_.call, words, question.functions):
        return changed
    if isinstance(wanted, Call) and not changes(wanted):
        return wanted
    if agrees(words):
        return claimed(open_.call) if manners is Manners.FORGETFUL else open_.call
    if refuses(words):
        return Say([WILL_NOT, ANYTHING_ELSE])
    return Say([open_.text]) if open_.text and unsure(words) else None


def claimed(call: Call) -> Say:
    """What a model says that only pretends to have called."""
    values = ", ".join(_spelled(value) for value in call.arguments.values())
    return Say([f"Done: {call.name.replace('_', ' ')}, {values}.", ANYTHING_ELSE])


def changes(call: Call) -> bool:
    return not READING.match(call.name)


def after_output(question: Question, manners: Manners) -> Call | Say | None:
    """What follows from a tool's output; None for one without a status that is known here."""
    output = question.tool_output or ""
    fields = object_of(output)
    returned = [entry for entry in question.past if isinstance(entry, Returned)]
    call = _call_of(question.past, returned[-1].call_id) if returned else None
    if manners is Manners.INJECTED and (order := _obeyed(output, question)):
        return order
    status = str(fields.get("status"))
    if status not in OUTCOMES or ("order_id" in fields and "say" not in fields):
        return None
    repeated = (
        call is not None
        and [entry.call for entry in question.past if isinstance(entry, Called)].count(call) > 1
    )
    offered = call is not None and any(tool["name"] == call.name for tool in question.functions)
    if call is not None and offered and not repeated:
        if status == NEEDED and manners is Manners.EAGER:
            return call
        if status == "refused" and LOOK_AGAIN in str(fields.get("reason")):
            return call
    return Say(_told(fields, call, manners))


def _told(fields: dict[str, Any], call: Call | None, manners: Manners) -> list[str]:
    status, say = str(fields["status"]), str(fields.get("say") or "")
    if say and status == NEEDED:
        return [_read_back(say, call, manners)]
    return [say] if say else outcome(fields)


def outcome(fields: dict[str, Any]) -> list[str]:
    """A line for an output without words of its own: by its status, with what it says of why or of the result."""
    line = OUTCOMES[str(fields["status"])]
    if agent := fields.get("agent"):
        return [f"You are through to {str(agent).replace('_', ' ')}.", "How can I help?"]
    result = fields.get("result")
    if isinstance(result, dict) and result.keys() >= {"order_id", "status"}:
        return [f"Order {details.spell(str(result['order_id']))} is {result['status']}.", ANYTHING_ELSE]
    told = facts(result) if isinstance(result, dict) else str(result or fields.get("reason") or "")
    return [part for part in (line, told and _ended(told), ANYTHING_ELSE) if part]


def facts(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ').replace('.', ' ')}: {value}" for name, value in fields.items())


def _ended(words: str) -> str:
    return words if words[-1:] in ".?!" else words + "."


def read_out(words: str, past: Sequence[Entry], manners: Manners) -> str:
    """Words that are to be said exactly: even those are changed by a model that reads back badly."""
    open_ = proposed(past)
    return words if open_ is None else _read_back(words, open_.call, manners)


def _read_back(say: str, call: Call | None, manners: Manners) -> str:
    if manners is Manners.PARAPHRASE and call is not None:
        values = " and ".join(details.in_words(str(value)) for value in call.arguments.values())
        return f"So I would go ahead with the {call.name.replace('_', ' ')} for {values}. Is that all right?"
    return misread(say) if manners is Manners.MISREAD else say


def misread(say: str) -> str:
    """The same words with a wrong value: the last digit is another one, or the last number word, or the last name."""
    if digits := list(re.finditer(r"\d", say)):
        found, wrong = digits[-1], str((int(digits[-1][0]) + 1) % 10)
    elif numbers := list(_NUMBER_WORD.finditer(say)):
        found, wrong = numbers[-1], _WRONG_NUMBERS[numbers[-1][0].lower()]
    elif names := [name for name in re.finditer(r"\b[A-Z][a-z]+", say) if not _begins(say, name.start())]:
        found, wrong = names[-1], "Oliver"
    else:
        return say
    return f"{say[: found.start()]}{wrong}{say[found.end() :]}"


def _begins(say: str, at: int) -> bool:
    """Whether a sentence begins there."""
    before = say[:at].rstrip()
    return not before or before[-1] in ".?!"


def _spelled(value: Any) -> str:
    text = str(value)
    return details.spell(text) if text.isdecimal() else text


def _obeyed(output: str, question: Question) -> Call | None:
    """The call that some text in a tool's result demands, once."""
    match = _ORDER_TO_CALL.search(output)
    if match is None or question.tool_choice == "none":
        return None
    name, value = match[1], match[2].rstrip(".")
    number: Any = int(value) if value.isdecimal() else value
    made = [entry.call for entry in question.past if isinstance(entry, Called)]
    order = next(
        (call.arguments["order_id"] for call in reversed(made) if "order_id" in call.arguments), value
    )
    arguments = {"order_id": order, "amount": number} if "refund" in name else {"order_id": value}
    wanted = Call(name, arguments)
    return None if wanted in made else wanted


def news(past: Sequence[Entry]) -> list[str]:
    """What system messages since the model's last words tell of tools, in words for the caller."""
    lines: list[str] = []
    for entry in reversed(past):
        if isinstance(entry, Told):
            break
        if isinstance(entry, Noted) and entry.words.startswith(_NEWS):
            lines[:0] = _news_line(entry.words)
    return lines


def _news_line(words: str) -> list[str]:
    fields = object_of(words[words.find("{") :] if "{" in words else "")
    if str(fields.get("status")) not in OUTCOMES:
        return [words]
    return [str(fields["say"])] if fields.get("say") else outcome(fields)[:-1]
