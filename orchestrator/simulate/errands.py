"""What a caller wants done, read from their words: which tool a well-behaved model would call, or what it would ask."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from orchestrator.simulate import details
from orchestrator.simulate.dialogue import Call, Heard, Question, Say, Told

ASK_ORDER = "For which order is that? Please tell me its number."
ASK_AMOUNT = "How much is to be paid back?"
ASK_APPOINTMENT = "For which day, at what time, and under what name?"
ASK_EMAIL = "What is the new address? Please spell it."
QUESTIONS = (ASK_ORDER, ASK_AMOUNT, ASK_APPOINTMENT, ASK_EMAIL)
WAIT, PERSON, HANDOFF = "wait_for_user", "transfer_to_human", "transfer_to_"
READING = re.compile(r"^(get|find|list|look_?up|check|search|wait|transfer)_?")
"""Names of tools that change nothing."""

_ASIDE = re.compile(
    r"\b(hold on|hang on|one (moment|second|minute|sec)|just a (moment|second|minute|sec)|bear with me|"
    r"(not|wasn'?t) talking to you|talking to (my|somebody|someone)|be right back)\b",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"\b(talk|speak|put me|pass me|connect|transfer|give me|want|need|get me)\b.*"
    r"\b(person|human|agent|representative|operator|somebody real|someone real|colleague|supervisor|manager)\b",
    re.IGNORECASE,
)
_CANCEL = re.compile(r"\bcancel\b", re.IGNORECASE)
_REFUND = re.compile(r"\b(refund|money back|reimburse|pay back)\b", re.IGNORECASE)
_BOOK = re.compile(r"\b(book|appointment|schedule)\b", re.IGNORECASE)
_EMAIL = re.compile(r"\be-?\s?mail\b", re.IGNORECASE)
_YES = re.compile(
    r"\b(yes|yeah|yep|yup|sure|okay|ok|correct|right|please do|go ahead|do it|do that|exactly|absolutely|of course)\b",
    re.IGNORECASE,
)
_NO = re.compile(
    r"\b(no|nope|don'?t|do not|not|never ?mind|leave it|forget it|stop|rather not|wrong)\b", re.IGNORECASE
)
_NO_REFUSAL = re.compile(r"\b(no problem|why not|not sure)\b", re.IGNORECASE)
_LOOKING_UP = re.compile(r"\b(where|when|status)\b", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(no|not|make|actually|instead|rather|meant|said|change|sorry|wrong|but)\b", re.IGNORECASE
)
_UNSURE = re.compile(
    r"\b(hm+|um+|maybe|perhaps|not sure|i guess|i think|pardon|what|sorry|repeat|again|say that)\b",
    re.IGNORECASE,
)


def agrees(words: str) -> bool:
    """A yes without a no in it."""
    return bool(_YES.search(_NO_REFUSAL.sub("", words))) and not refuses(words)


def refuses(words: str) -> bool:
    return bool(_NO.search(_NO_REFUSAL.sub("", words)))


def unsure(words: str) -> bool:
    """Neither yes nor no, and about nothing else: the question is asked again."""
    return bool(_UNSURE.search(words)) and len(words.split()) <= 6


def today() -> date:
    return date.today()


def errand(question: Question) -> Call | Say | None:
    """The tool for what was just said, or a question for what is missing; None where it is none of these errands."""
    tools = {tool["name"]: tool for tool in question.functions}
    words = question.heard or ""
    found = _aside(words, tools) or _transfer(words, tools) or _wanted(words, tools)
    before = _asked_before(question)
    if found is None and before:
        return _wanted(f"{before} {words}", tools)
    return found


def _asked_before(question: Question) -> str:
    """The caller's earlier words, where what is said now answers a question about them."""
    said = [entry for entry in question.past if isinstance(entry, Heard | Told)]
    for at in range(len(said) - 2, 0, -1):
        entry, earlier = said[at], said[at - 1]
        if isinstance(entry, Told):
            asked = any(line in entry.words for line in QUESTIONS)
            return earlier.words if asked and isinstance(earlier, Heard) else ""
    return ""


def _aside(words: str, tools: dict[str, Any]) -> Call | None:
    aside = not words.strip() or _ASIDE.search(words)
    return Call(WAIT, {}) if aside and WAIT in tools else None


def _transfer(words: str, tools: dict[str, Any]) -> Call | None:
    if PERSON in tools and _PERSON.search(words):
        return Call(PERSON, {"reason": words.strip()})
    for name in tools:
        topic = name.removeprefix(HANDOFF).replace("_", " ")
        meant = name.startswith(HANDOFF) and name != PERSON
        if meant and re.search(rf"\b{re.escape(topic)}\b", words, re.IGNORECASE):
            return Call(name, {})
    return None


def _wanted(words: str, tools: dict[str, Any]) -> Call | Say | None:
    kinds: tuple[tuple[str, re.Pattern[str], Callable[[str], Call | Say]], ...] = (
        ("refund_order", _REFUND, _refund),
        ("update_email", _EMAIL, _new_email),
        ("book_appointment", _BOOK, _appointment),
        ("cancel_order", _CANCEL, _cancellation),
    )
    for name, verb, read in kinds:
        if name in tools and verb.search(words) and not re.search(r"\b(don'?t|do not)\b", words):
            found = read(words)
            return _fitted(found, tools[name]) if isinstance(found, Call) else found
    return None


def _cancellation(words: str) -> Call | Say:
    number = details.order_number(words)
    return Call("cancel_order", {"order_id": number}) if number else Say([ASK_ORDER])


def _refund(words: str) -> Call | Say:
    number, amount = details.order_number(words), details.amount(words)
    if number is None:
        return Say([ASK_ORDER])
    return (
        Say([ASK_AMOUNT]) if amount is None else Call("refund_order", {"order_id": number, "amount": amount})
    )


def _appointment(words: str) -> Call | Say:
    found = {"date": details.day(words, today()), "time": details.clock(words), "name": details.person(words)}
    return Call("book_appointment", found) if all(found.values()) else Say([ASK_APPOINTMENT])


def _new_email(words: str) -> Call | Say:
    number, address = details.order_number(words), details.email(words)
    if number is None:
        return Say([ASK_ORDER])
    return (
        Say([ASK_EMAIL]) if address is None else Call("update_email", {"order_id": number, "email": address})
    )


def _fitted(call: Call, tool: dict[str, Any]) -> Call:
    """With its numbers as text where the tool's schema wants text."""
    properties = (tool.get("parameters") or {}).get("properties") or {}
    fitted = {
        name: str(value) if (properties.get(name) or {}).get("type") == "string" else value
        for name, value in call.arguments.items()
    }
    return Call(call.name, fitted)


def corrected(call: Call, words: str, tools: list[dict[str, Any]]) -> Call | None:
    """`call` with the values that the caller has changed; None where none was."""
    if _LOOKING_UP.search(words) or not (_CORRECTION.search(words) or len(words.split()) <= 4):
        return None
    found = {name: value for name, value in _values(call, words).items() if value is not None}
    tool = next((tool for tool in tools if tool["name"] == call.name), {})
    changed = _fitted(Call(call.name, {**call.arguments, **found}), tool)
    return changed if _texts(changed) != _texts(call) else None


def _values(call: Call, words: str) -> dict[str, Any]:
    """What the words hold for each of the call's arguments."""
    read: dict[str, Callable[[str], Any]] = {
        "order_id": details.order_number,
        "amount": details.amount,
        "date": lambda text: details.day(text, today()),
        "time": details.clock,
        "name": details.person,
        "email": details.email,
    }
    return {name: read[name](words) for name in call.arguments if name in read}


def _texts(call: Call) -> dict[str, str]:
    return {name: str(value) for name, value in call.arguments.items()}
