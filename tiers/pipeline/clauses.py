"""Streamed text as speakable clauses, and a clause as an engine should read it.

The first clause is short, because an engine that renders a clause in one piece is heard only when it is done; the
later ones grow, since each is rendered while the one before it plays. Cuts fall on sentence ends, then on commas,
then between words, and never inside a number.
"""

from __future__ import annotations

import re

FIRST_MIN = 12
"""Characters. A first clause cut at a comma has at least these: "Sure," alone plays too short to hide behind."""
LIMITS = (48, 100, 180)
"""Characters that the first, second and later clauses may have before they are cut where no sentence ends."""

_CLOSERS = "\"')]*_`\u2019\u201d"
_CLOSING = f"[{re.escape(_CLOSERS)}]"
_SENTENCE = re.compile(rf"[.!?…]+{_CLOSING}*(?=\s|$)|\n+")
_PAUSE = re.compile(rf"[,;:\u2013\u2014]{_CLOSING}*(?=\s)")
_OPEN_MARKUP = re.compile(r"\[[^\]]{0,80}$|\]\([^)]{0,160}$|<[^>\s][^>]{0,40}$")
_NEVER_ENDS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|approx|e\.g|i\.e|(?:[A-Z]\.)*[A-Z])\.$")
_ENDS_BEFORE_CAPITAL = re.compile(r"\b(?:[ap]\.m|etc|Inc|Ltd|Co|Jr|Sr)\.$", re.IGNORECASE)
_ENDS_UNLESS_NUMBER = re.compile(r"\b(?:No|Nos|Nr|Fig|Ext|Tel|p)\.$", re.IGNORECASE)
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
        spaces = [m for m in spaces if not _OPEN_MARKUP.search(self._text[: m.start()])]
        joined = [m for m in spaces if m[1].lower() in _JOINERS.split() and m.start() >= limit // 3]
        chosen = joined or spaces
        return chosen[-1].end() if chosen else None


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


_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_URL = re.compile(r"https?://(?:www\.)?([^\s/?#)]+)[^\s)]*")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]*|[-*+•][ \t]+|\d{1,2}[.)][ \t]+)", re.MULTILINE)
_MARKS = str.maketrans(dict.fromkeys("*`~|", "") | {"_": " "})
_LOOSE_MARK = re.compile(r" ([.,;:!?])")
_SYMBOLS = re.compile("[\u2190-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff\u200d]")


def plain(text: str) -> str:
    """Text without Markdown, tags, emoji and addresses' tails; line breaks become spaces."""
    text = _TAG.sub(" ", _URL.sub(r"\1", _LINK.sub(r"\1", text)))
    text = _SYMBOLS.sub("", _LINE_MARK.sub("", text).translate(_MARKS))
    return _LOOSE_MARK.sub(r"\1", " ".join(text.split()))


_NAMED_ID = re.compile(
    r"\b(?:orders?|reference|ref|confirmation|tracking|ticket|case|account|booking|reservation|invoice|customer|"
    r"code|pin|id|number)\b\.?(?:\s+(?:number|no\.?|id|code|is|was))*[\s:#]+(?:[A-Za-z]{1,4}-?)?(\d{3,})(?![\d.,:]*\d)",
    re.IGNORECASE,
)
_LONG = re.compile(r"(?<![\d.,:$€£])(\d{5,})(?!\d|[.,:]\d|\s*(?:%|percent|dollars|euros|pounds|people))")
_HASH = re.compile(r"(?:\bnumber\s+)?#(?=\d)")


def spoken(text: str) -> str:
    """How an engine should read `text`: order numbers and other long runs of digits one digit at a time."""
    text = _NAMED_ID.sub(_digit_by_digit, _HASH.sub("number ", text))
    return _LONG.sub(_digit_by_digit, text)


def _digit_by_digit(match: re.Match[str]) -> str:
    start = match.start(1) - match.start()
    return match[0][:start] + " ".join(match[1])
