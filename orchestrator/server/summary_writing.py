"""The words of a call's summary: written by the text agent, or put together without one where that is better."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from orchestrator.config_sections import Summary
from orchestrator.core.redaction import Redactor
from orchestrator.core.summary import summarise
from orchestrator.protocol.answers import AnswerRequest, Charge, HistoryItem, Message, ToolCall, ToolResult
from orchestrator.protocol.number_words import DIGIT_OF, TEEN_OF
from orchestrator.server.purse import BudgetSpent, Purse
from tiers.pipeline.agent import AgentEvent, Words
from tiers.prompts.speakable import clean

log = logging.getLogger(__name__)

TOKENS = 200
"""The most that the agent may write."""
TOLD_CHARACTERS = 12_000
"""Of a conversation, from its end: what was agreed on stands there."""
_WORD = re.compile(r"[A-Za-z]+|\d+")
_ENDS = re.compile(r"(?<=[.!?])\s+")


class Writer(Protocol):
    """The text agent."""

    @property
    def trusted_with_tools(self) -> bool: ...

    def worst(self, request: AnswerRequest) -> int: ...

    def reply(
        self, request: AnswerRequest, paid: Callable[[Charge], None] = ...
    ) -> AsyncGenerator[AgentEvent, None]: ...


class SummaryWriter:
    """`purse` pays for what the agent writes."""

    def __init__(
        self,
        settings: Summary,
        agent: Writer,
        redactor: Redactor,
        purse: Purse,
    ) -> None:
        self._settings, self._agent, self._redactor = settings, agent, redactor
        self._purse = purse

    async def write(self, history: Sequence[HistoryItem], bucket: str) -> str:
        """A summary to be spoken; "" of a call in which nothing was said. Never raises but for cancellation.

        The small model of this machine is not asked: it makes things up. Neither is one believed that names a number
        nobody has said. What is put together instead is less of a story, and true.
        """
        told = [self._safe(item) for item in history]
        if not any(isinstance(item, Message) and item.role == "user" and item.text.strip() for item in told):
            return ""
        if self._agent.trusted_with_tools:
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    text = await self._ask(told, bucket)
                if text and not _made_up(text, told):
                    return self.fitting(text)
                if text:
                    log.warning("the text agent's summary has a number that nobody said; it is not used")
            except Exception as error:
                log.warning("the text agent wrote no summary: %s", type(error).__name__)
        return self.fitting(_sentences(summarise(told, limit=self._settings.max_characters)))

    def fitting(self, text: str) -> str:
        """No longer than is allowed, ended with a sentence where there is one."""
        text, limit = clean(text), self._settings.max_characters
        if len(text) <= limit:
            return text
        kept = ""
        for sentence in _ENDS.split(text):
            if len(kept) + 1 + len(sentence) > limit:
                break
            kept = f"{kept} {sentence}".strip()
        return kept or text[: limit - 1].rsplit(" ", 1)[0] + "…"

    async def _ask(self, told: Sequence[HistoryItem], bucket: str) -> str:
        request = AnswerRequest(
            "summary",
            (Message("user", _script(told)),),
            instructions=self._settings.instructions,
            tool_choice="none",
            max_output_tokens=TOKENS,
        )
        charges: list[Charge] = []
        words = []
        try:
            async with self._purse.take(bucket, self._agent.worst(request)) as tab:
                try:
                    async with aclosing(self._agent.reply(request, charges.append)) as events:
                        async for event in events:
                            if isinstance(event, Words):
                                words.append(event.text)
                finally:
                    tab.cost = sum(charge.nanodollars for charge in charges)
        except BudgetSpent as error:
            log.info("no summary is written: %s", error)
            return ""
        return "".join(words).strip()

    def _safe(self, item: HistoryItem) -> HistoryItem:
        """Without card numbers and keys: a summary is heard, and kept, by others."""
        if isinstance(item, Message):
            return Message(item.role, self._redactor.text(item.text), item.cut_off)
        if isinstance(item, ToolResult):
            return ToolResult(item.call_id, self._redactor.text(item.output))
        return ToolCall(item.call_id, item.name, self._redactor.text(item.arguments))


def _script(told: Sequence[HistoryItem]) -> str:
    """The conversation as a text of its own, so that nothing in it is an instruction to the agent."""
    lines = []
    for item in told:
        if isinstance(item, ToolCall):
            lines.append(f"(The agent used {item.name} with {item.arguments})")
        elif isinstance(item, ToolResult):
            lines.append(f"(It returned {item.output})")
        elif item.role != "system":
            who = "Caller" if item.role == "user" else "Agent"
            lines.append(f"{who}: {item.text}{' (cut off)' if item.cut_off else ''}")
    return "The call:\n" + "\n".join(lines)[-TOLD_CHARACTERS:]


def _made_up(text: str, told: Sequence[HistoryItem]) -> bool:
    """Whether a number in `text` stands nowhere in what was said and done, in digits or in words."""
    known = "".join(_digits(word) for word in _WORD.findall(_script(told)))
    return any(word not in known for word in _WORD.findall(text) if word.isdigit())


def _digits(word: str) -> str:
    lower = word.lower()
    return word if word.isdigit() else DIGIT_OF.get(lower) or TEEN_OF.get(lower) or ""


def _sentences(lines: str) -> str:
    """The lines of `summarise` for the ear."""
    return " ".join(line if line.endswith((".", "!", "?")) else line + "." for line in lines.splitlines())
