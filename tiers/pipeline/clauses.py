"""Streamed text as speakable clauses, without its markup.

The first clause is short, because an engine that renders a clause in one piece is heard only when it is done; the
later ones grow, since each is rendered while the one before it plays. Cuts fall on sentence ends, then on commas,
then between words, and never inside a number.
"""

from __future__ import annotations

import re

from tiers.pipeline.markup import CODE, FENCE, plain

FIRST_MIN = 12
"""Characters. A first clause cut at a comma has at least these: "Sure," alone plays too short to hide behind."""
LIMITS = (48, 100, 180)
"""Characters that the first, second and later clauses may have before they are cut where no sentence ends."""

_CLOSERS = "\"')]*_`\u2019\u201d"
_CLOSING = f"[{re.escape(_CLOSERS)}]"
_SENTENCE = re.compile(rf"[.!?…]+{_CLOSING}*(?=\s|$)|\n+")
_PAUSE = re.compile(rf"[,;:\u2013\u2014]{_CLOSING}*(?=\s)")
_OPEN_MARKUP = re.compile(r"\[[^\]]{0,80}$|\]\([^)]{0,160}$|<[^>\s][^>]{0,40}$")
_NEVER_ENDS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|approx|incl|excl|e\.g|i\.e|(?:[A-Z]\.)*[A-Z])\.$")
_ENDS_BEFORE_CAPITAL = re.compile(
    r"\b(?:[ap]\.m|etc|Inc|Ltd|Co|Jr|Sr|Ave|Blvd|Rd|Apt|dept|min|max|hrs?|lbs?|oz)\.$", re.IGNORECASE
)
_ENDS_UNLESS_NUMBER = re.compile(
    r"\b(?:No|Nos|Nr|Fig|Ext|Tel|p|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Apt|Ste)\.$", re.IGNORECASE
)
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*\d{1,2}\.$")
_JOINERS = "and or but because so that which who where when while if then than with without for from to of in on at by"


class Clauses:
    """Collects streamed text and gives back clauses, markup stripped, as soon as they are complete."""

    def __init__(self) -> None:
        self.count = 0
        self._text = ""

    def feed(self, text: str) -> list[str]:
        self._text += text
        return self._take(final=False)

    def close(self) -> list[str]:
        """What is left."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[str]:
        """Clauses that are complete; nothing of a block of code, and nothing behind one while it goes on."""
        self._text = CODE.sub("\n", self._text)
        before, fence, code = self._text.partition(FENCE)
        self._text = before
        clauses = self._clauses(final=final or bool(fence))
        self._text += "" if final else fence + code
        return clauses

    def _clauses(self, *, final: bool) -> list[str]:
        clauses = []
        while (cut := self._cut(final)) is not None:
            clause, self._text = plain(self._text[:cut]), self._text[cut:].lstrip()
            if speakable(clause):
                clauses.append(clause)
                self.count += 1
        return clauses

    def _cut(self, final: bool) -> int | None:
        """Where the next clause ends in the text so far; None while that cannot be said."""
        limit = LIMITS[min(self.count, len(LIMITS) - 1)]
        sentence = self._sentence_end(final)
        pauses = [m.end() for m in _PAUSE.finditer(self._text) if m.end() >= FIRST_MIN and self._may_pause(m)]
        if self.count == 0 and pauses:
            return min(pauses[0], sentence or pauses[0])
        if sentence is not None and sentence <= limit:
            return sentence
        if len(self._text) > limit:
            fitting = [p for p in pauses if p <= limit]
            cut = fitting[-1] if fitting else self._between_words(limit) or sentence
            if cut is not None:
                return cut
        return len(self._text) if final and self._text else None

    def _sentence_end(self, final: bool) -> int | None:
        for match in _SENTENCE.finditer(self._text):
            before, after = self._text[: match.end()].rstrip(_CLOSERS), self._text[match.end() :].lstrip()
            if not after and not final and "\n" not in match[0]:
                return None
            if "\n" in match[0] or _ends(before, after):
                return None if _OPEN_MARKUP.search(before) and not final else match.end()
        return None

    def _may_pause(self, match: re.Match[str]) -> bool:
        after = self._text[match.end() :].lstrip()
        if not after or _OPEN_MARKUP.search(self._text[: match.end()]):
            return False
        return not (self._text[: match.start()][-1:].isdigit() and after[0].isdigit())

    def _between_words(self, limit: int) -> int | None:
        """The best space up to `limit`: before a joining word, else the last one; never between two numbers."""
        spaces = [
            m
            for m in re.finditer(r"\s+(?=(\S+)\s)", self._text)
            if FIRST_MIN <= m.end() <= limit and not self._text[m.start() - 1].isdigit()
        ]
        spaces = [m for m in spaces if not _holds_together(self._text[: m.start()], m[1])]
        joined = [m for m in spaces if m[1].lower() in _JOINERS.split() and m.start() >= limit // 3]
        chosen = joined or spaces
        return chosen[-1].end() if chosen else None


def _holds_together(before: str, word: str) -> bool:
    """Whether `word` means something else without what is before it: "Dr. Smith", "No. 4172", "order 4172"."""
    return bool(
        _OPEN_MARKUP.search(before)
        or _NEVER_ENDS.search(before)
        or _ENDS_UNLESS_NUMBER.search(before)
        or word[0].isdigit()
    )


def _ends(before: str, after: str) -> bool:
    """Whether the full stop, question or exclamation mark that ends `before` ends a sentence."""
    if _NEVER_ENDS.search(before) or _LIST_NUMBER.search(before):
        return False
    if _ENDS_BEFORE_CAPITAL.search(before):
        return not after or after[0].isupper()
    return not (_ENDS_UNLESS_NUMBER.search(before) and after[:1].isdigit())


def split(text: str) -> list[str]:
    """A whole text as clauses."""
    clauses = Clauses()
    return [*clauses.feed(text), *clauses.close()]


def speakable(text: str) -> bool:
    """Whether there is anything to say in it."""
    return any(char.isalnum() for char in text)
