"""Answers that are a file: entity tags, conditional requests and ranges, as RFC 9110 has them."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

RawHeaders = list[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)
_MOST_KNOWN = 8192


@dataclass(frozen=True, slots=True)
class FileAnswer:
    status: int
    headers: RawHeaders
    body: bytes


@dataclass(frozen=True, slots=True)
class About:
    """What is known of bytes that are sound: their strong entity tag, and how long they play."""

    tag: str
    seconds: float


class Abouts:
    """What is known of bytes that are held elsewhere, worked out once for as long as they stay the same object."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, tuple[int, int, About]] = OrderedDict()

    def get(self, name: Hashable, data: bytes) -> About | None:
        """What was noted of `data`, which is kept under `name`."""
        known = self._known.get(name)
        # What is kept under one name is replaced as a whole: another object of the same length and address would
        # have to come to be there, with other bytes, for this to be wrong.
        return known[2] if known is not None and known[:2] == (id(data), len(data)) else None

    def note(self, name: Hashable, data: bytes, about: About) -> About:
        self._known[name] = (id(data), len(data), about)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return about


def tag_of(data: bytes) -> str:
    return f'"{hashlib.blake2b(data, digest_size=15).hexdigest()}"'


def file_answer(
    method: str,
    request: Mapping[str, str],
    data: bytes,
    tag: str,
    headers: RawHeaders,
) -> FileAnswer:
    """`data` as a whole, a part of it, or why not. `request` are the request's headers, in lower case.

    Conditions and ranges hold for GET, conditions for HEAD; a POST gets everything. Of several ranges none is
    served: the whole is a right answer to them.
    """
    headers = [*headers, (b"etag", tag.encode()), (b"accept-ranges", b"bytes")]
    if method in ("GET", "HEAD") and _matches(request.get("if-none-match"), tag):
        return FileAnswer(304, [header for header in headers if header[0] != b"content-type"], b"")
    if method == "GET" and "range" in request and request.get("if-range", tag) == tag:
        part = _part(request["range"], len(data))
        if part is not None:
            return _partial(headers, data, *part)
    whole = _sized(200, headers, data)
    return FileAnswer(200, whole.headers, b"") if method == "HEAD" else whole


def _partial(headers: RawHeaders, data: bytes, start: int, end: int) -> FileAnswer:
    if start >= end:
        return _sized(416, [*headers, (b"content-range", b"bytes */%d" % len(data))], b"")
    told = b"bytes %d-%d/%d" % (start, end - 1, len(data))
    return _sized(206, [*headers, (b"content-range", told)], data[start:end])


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """From where to where (excluded); an empty part is one that does not exist. None: to be ignored."""
    match = _RANGE.fullmatch(asked.strip())
    first, last = match.groups() if match else ("", "")
    if not first and not last:
        return None
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def _matches(condition: str | None, tag: str) -> bool:
    """Whether an If-None-Match names what there is; weak and strong tags compare alike there."""
    if condition is None:
        return False
    named = [each.strip().removeprefix("W/") for each in condition.split(",")]
    return tag in named or named == ["*"]


def _sized(status: int, headers: RawHeaders, body: bytes) -> FileAnswer:
    return FileAnswer(status, [*headers, (b"content-length", str(len(body)).encode())], body)
