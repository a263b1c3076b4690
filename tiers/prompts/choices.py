"""What Tier C says next, decided without a model: the flow, else one honest offer and what the caller chose."""

from __future__ import annotations

import re

from orchestrator.protocol.answers import AnswerRequest, HistoryItem, Message
from tiers import flow
from tiers.flow import CallTool, Say
from tiers.prompts.catalogue import Catalogue

OFFERS = ("offer_choice", "offer_again")

_Table = dict[str, dict[str, re.Pattern[str]]]
"""Language to prompt to the words that ask for it."""

_PEOPLE = "(person|human|agent|representative|operator)"
_WISHES: _Table = {
    "en": {
        "chose_call_back": re.compile(
            r"\b((call|ring|phone) me back|(be|get) called back|call ?back (please|later)|a call ?back)\b"
        ),
        "chose_person": re.compile(
            rf"\b(speak|talk|connect|transfer|put|reach)\w*\b.{{0,30}}\b({_PEOPLE}|someone|somebody)\b"
            rf"|\b(want|need|get|have)( me)? an?( \w+)? {_PEOPLE}\b"
        ),
    }
}
"""Clear at any time."""
_CHOICES: _Table = {
    "en": {
        "chose_call_back": re.compile(r"\b(call|called|callback|second)\b"),
        "chose_person": re.compile(rf"\b({_PEOPLE}|someone|somebody|third|last)\b"),
        "chose_wait": re.compile(r"\b(wait|waiting|hold|stay|first)\b"),
    }
}
"""A choice only right after the offer."""
_REFUSALS = re.compile(
    r"\b(not|cannot|never|(don|can|won|wouldn|couldn) t)( \w+){0,3}? "
    rf"(wait|waiting|hold|stay|call|called|{_PEOPLE})\b"
)
"""What the caller does not choose, as in "I don't want to wait"."""
_NOTES = re.compile(r"\[[^\]]*\]|\([^)]*\)")
"""What a recogniser writes for sounds: [BLANK_AUDIO], (music)."""


def next_step(request: AnswerRequest, catalogue: Catalogue) -> Say | CallTool:
    """The prompt to say, or the order tool to call; no other tool is ever called from here."""
    history = _unanswered(request.history)
    last = history[-1] if history else None
    heard = last.text if isinstance(last, Message) and last.role == "user" else None
    if heard is not None and not intelligible(heard):
        return Say("did_not_catch")
    wish = _match(_WISHES, heard, request.language)
    if wish is not None:
        return Say(wish)
    step = flow.reply(request)
    if isinstance(step, Say) or (isinstance(step, CallTool) and _reads_orders(step, request)):
        return step
    return _offer(history, heard, request.language, catalogue)


def intelligible(heard: str) -> bool:
    """Whether a transcript has a word in it."""
    return any(char.isalnum() for char in _NOTES.sub("", heard))


def _unanswered(history: tuple[HistoryItem, ...]) -> tuple[HistoryItem, ...]:
    """The history up to what is to be answered: an answer that was cut off at its end leaves that open."""
    end = len(history)
    while end and isinstance(item := history[end - 1], Message) and item.role == "assistant" and item.cut_off:
        end -= 1
    return history[:end]


def _reads_orders(step: CallTool, request: AnswerRequest) -> bool:
    tool = flow.order_tool(request.tools)
    return tool is not None and tool[0] == step.name


def _offer(history: tuple[HistoryItem, ...], heard: str | None, language: str, catalogue: Catalogue) -> Say:
    """The choice that the caller made, else the offer, which is made in full only once."""
    said = [item for item in history if isinstance(item, Message) and item.role == "assistant"]
    offered = [_is_offer(item, catalogue) for item in said]
    if offered and offered[-1]:
        choice = _match(_CHOICES, heard, language)
        if choice is not None:
            return Say(choice)
    return Say("offer_again" if any(offered) else "offer_choice")


def _is_offer(item: Message, catalogue: Catalogue) -> bool:
    """Whether the caller heard an offer in this message, or the beginning of one before cutting in."""
    heard = _bare(item.text)
    offers = [_bare(text) for name in OFFERS for text in catalogue[name].text.values()]
    return heard in offers or (item.cut_off and heard != "" and any(o.startswith(heard) for o in offers))


def _bare(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def _match(table: _Table, heard: str | None, language: str) -> str | None:
    patterns = table.get(language.partition("-")[0].lower(), {})
    words = _REFUSALS.sub("", _bare(heard or ""))
    return next((name for name, pattern in patterns.items() if pattern.search(words)), None)
