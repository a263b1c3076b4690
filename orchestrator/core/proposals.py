"""A change that was read back to the caller, and what the caller has said to it since, in whichever tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.core.consent import Consent, judge, was_read_back
from orchestrator.core.conversation import Conversation, Item
from orchestrator.core.tools import Tool

LATE_TURNS = 3
"""Turns of the caller's after the read-back within which a yes counts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the caller said to a read-back; `consent` None: nothing yet. `unwritten`: a turn whose words are awaited."""

    consent: Consent | None = None
    text: str = ""
    unwritten: str = ""
    interrupted: bool = False
    """The caller spoke before what matters was read back to its end."""
    misread: bool = False
    """... though all was said that there was to say: it held another value, or none."""
    latest: bool = False
    """Nothing was said since."""


@dataclass(slots=True)
class Proposal:
    """A call that waits for the caller's yes. `after`: the item behind which it is read back."""

    number: int
    tool: Tool
    arguments: dict[str, Any]
    text: str
    after: str
    asked: int = 1
    noted: bool = False
    """That it was refused stands in the timeline."""

    def was_read(self, conversation: Conversation) -> bool:
        """Whether the caller has heard all that matters of it."""
        words = " ".join(i.heard_text() for i in self._behind(conversation) if i.role == "assistant")
        return was_read_back(words, self.tool, self.arguments)

    def verdict(self, conversation: Conversation, language: str) -> Verdict:
        """What the caller has said to it."""
        words, read, interrupted, cut = "", False, False, False
        answers: list[Item] = []
        for item in self._behind(conversation):
            if item.role == "assistant" and not item.bridge:
                words, cut = f"{words} {item.heard_text()}", cut or item.cut_off
                read = read or was_read_back(words, self.tool, self.arguments)
            elif item.role == "user" and (item.needs_transcript or item.words):
                if read:
                    answers.append(item)
                else:
                    interrupted = True
        if not answers:
            interrupted = interrupted and not read
            return Verdict(interrupted=interrupted, misread=interrupted and not cut, latest=interrupted)
        return self._judged(answers, language)

    def _judged(self, answers: Sequence[Item], language: str) -> Verdict:
        """The first clear word counts, unless a later one takes it back."""
        found = Verdict()
        for item in answers:
            if item.needs_transcript:
                return Verdict(unwritten=item.id)
            consent = judge(item.words, language, self.arguments, self.text)
            if consent in (Consent.NO, Consent.CHANGE) or found.consent in (None, Consent.UNCLEAR):
                found = Verdict(consent, item.words, latest=item is answers[-1])
        if found.consent is Consent.YES and len(answers) > LATE_TURNS:
            return Verdict(Consent.UNCLEAR, found.text, latest=found.latest)
        return found

    def _behind(self, conversation: Conversation) -> list[Item]:
        found = list(conversation)
        position = next((n for n, item in enumerate(found) if item.id == self.after), -1)
        return found[position + 1 :]
