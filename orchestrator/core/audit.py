"""The audit trail: who did what and why, as entries that are chained by hashes. Nothing here does I/O.

Each entry is one line of JSON, which holds the hash of the line before it and, last of all, its own: a SHA-256 over
`prev` and everything else in it. Whoever changes, removes, inserts or swaps a line breaks the chain at that place.
Whoever cuts off its end, or writes all of it anew, is found by comparing the head with one that was noted elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

START = "0" * 64
"""What the first entry has in the place of a hash before it."""


class AuditBroken(ValueError):
    """The chain does not hold: `seq` is the first entry that is wrong, counted from 1, and the text says why."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"entry {seq}: {why}")
        self.seq = seq
        self.why = why


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody did, before it has its place in the chain. `time` is Unix seconds.

    `who` is an id ("key_1f2e", "root", "replica"), `name` for people. `id` is given once and for all.
    """

    id: str
    time: float
    who: str
    name: str
    action: str
    subject: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: how many entries it has, and the hash of the last one."""

    seq: int = 0
    hash: str = START

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises `ValueError`."""
        seq, _, digest = text.strip().partition(":")
        known = len(digest) == len(START) and set(digest) <= set("0123456789abcdef")
        if not (seq.isascii() and seq.isdecimal()) or not known:
            raise ValueError(
                "expected a head as `orchestrator audit head` prints it, a number, a colon and 64 hexadecimal "
                f"digits, not {text[:80]!r}"
            )
        return cls(int(seq), digest)


_FIELDS = ("seq", *Act.__dataclass_fields__, "prev")


def canonical(value: Any) -> str:
    """JSON with sorted names, without spaces, in ASCII: the same data is the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def chained(act: Act, head: Head) -> tuple[str, Head]:
    """The act as the line that follows `head`, without its end, and the head then."""
    told: dict[str, Any] = {**asdict(act), "seq": head.seq + 1, "prev": head.hash}
    digest = _digest(head.hash, told)
    return canonical({**told, "hash": digest}), Head(head.seq + 1, digest)


def parse(line: str | bytes) -> dict[str, Any]:
    """The entry of a line. Raises `ValueError` for what is no entry; whether it is in its place is not looked at."""
    text = line.decode("ascii") if isinstance(line, bytes) else line
    found = json.loads(text)
    if not isinstance(found, dict) or set(found) != {*_FIELDS, "hash"}:
        raise ValueError("it has not the fields of an entry")
    if canonical(found) != text:
        # Otherwise two lines could mean the same, and a changed one pass for the other.
        raise ValueError("it is not written as entries are")
    return found


def head_of(line: str | bytes) -> Head:
    """The head of a chain whose last line it is. Raises `ValueError`."""
    entry = parse(line)
    return Head.parse(f"{entry['seq']}:{entry['hash']}")


def follow(line: str | bytes, head: Head) -> Head:
    """The head after that line, which has to be the one that follows `head`. Raises `AuditBroken`."""
    seq = head.seq + 1
    try:
        entry = parse(line)
    except (ValueError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else "it is no JSON in ASCII"
        raise AuditBroken(seq, f"its line was changed: {why}") from None
    digest = entry.pop("hash")
    expected = _digest(str(entry["prev"]), entry)
    if not isinstance(digest, str) or not hmac.compare_digest(digest.encode(), expected.encode()):
        raise AuditBroken(seq, "its content is not what its hash was made of")
    if entry["seq"] != seq:
        raise AuditBroken(
            seq, f"in its place is entry {entry['seq']}: something was removed, inserted or moved"
        )
    if entry["prev"] != head.hash:
        raise AuditBroken(seq, "it does not follow the entry before it: one of the two was replaced")
    return Head(seq, digest)


def verify(lines: Iterable[str | bytes], known: Head | None = None) -> Head:
    """The head of a whole chain. Raises `AuditBroken` at the first entry that is wrong.

    `known` is a head noted before: an entry that was there then and is not now, or is another one, is found too.
    """
    head = Head()
    if known is not None and known.seq == 0 and known != head:
        raise AuditBroken(0, "the head given is not that of an empty chain")
    for line in lines:
        head = follow(line, head)
        if known is not None and head.seq == known.seq and head.hash != known.hash:
            raise AuditBroken(
                head.seq, "it is another one than when the head was noted: all was written anew"
            )
    if known is not None and head.seq < known.seq:
        raise AuditBroken(head.seq + 1, f"it is gone: there were {known.seq} when the head was noted")
    return head


def _digest(prev: str, told: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{prev}\n{canonical(told)}".encode("ascii", "backslashreplace")).hexdigest()
