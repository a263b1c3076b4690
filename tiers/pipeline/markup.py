"""What a model writes for the eye and nobody says: Markdown, HTML, code, emoji."""

from __future__ import annotations

import html
import re

FENCE = "```"
CODE = re.compile(r"```.*?```", re.DOTALL)
"""A block of code, whole: nothing of it is said."""

_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)?[^\s<>]*[@/.][^\s<>]*\.[A-Za-z]{2,}[^\s<>]*)>")
_IMAGE_OR_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
_FOOTNOTE = re.compile(r"\[\^?\d{1,2}\]|【[^】]*】")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_LINE_MARK = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+|(?:>[ \t]*)+|[-*+•◦▪‣][ \t]+(?:\[[ xX]\][ \t]+)?|\d{1,2}[.)][ \t]+)",
    re.MULTILINE,
)
_TABLE_RULE = re.compile(r"^[ \t]*\|?(?:[ \t]*:?-{2,}:?[ \t]*\|)+[ \t]*:?-*:?[ \t]*$", re.MULTILINE)
_TABLE_EDGE = re.compile(r"^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$", re.MULTILINE)
_TABLE_CELL = re.compile(r"[ \t]*\|[ \t]*")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|~>])")
_STRUCK = re.compile(r"~~")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_MARKS = str.maketrans(dict.fromkeys("*`", "") | {"_": " "})
_LOOSE_MARK = re.compile(r" ([.,;:!?](?=\s|$))")
_SYMBOLS = re.compile("[\u20e3\u2190-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f\u200d]")


def plain(text: str) -> str:
    """`text` as it would be written without markup, in one line. Links keep their words, addresses stay whole."""
    text = _HIDDEN.sub(" ", CODE.sub(" ", text))
    text = _FOOTNOTE.sub("", _IMAGE_OR_LINK.sub(r"\1", _AUTOLINK.sub(r"\1", text)))
    text = _LINE_MARK.sub("", _TABLE_RULE.sub("", _TAG.sub(" ", text)))
    text = _TABLE_CELL.sub(", ", _TABLE_EDGE.sub("", text))
    text = _SYMBOLS.sub("", _without_marks(_STRUCK.sub("", _ESCAPED.sub(r"\1", text))))
    return _LOOSE_MARK.sub(r"\1", " ".join(html.unescape(text).split()))


def _without_marks(text: str) -> str:
    """Outside addresses: the underscore in one is its own."""
    kept, end = [], 0
    for match in _ADDRESS.finditer(text):
        address = match[0].rstrip("*_`.,;:!?")
        kept += [text[end : match.start()].translate(_MARKS), address]
        end = match.start() + len(address)
    return "".join([*kept, text[end:].translate(_MARKS)])
