"""The chain of the audit trail: whatever is done to it afterwards is found."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.audit import START, Act, AuditBroken, Head, chained, head_of, parse, verify

TEXTS = st.text(max_size=12)
DETAILS = st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(), st.booleans(), st.none()), max_size=3)
ACTS = st.builds(
    Act,
    id=TEXTS,
    time=st.floats(0, 4e9),
    who=TEXTS,
    name=TEXTS,
    action=TEXTS,
    subject=TEXTS,
    reason=TEXTS,
    details=DETAILS,
)


def chain(acts: list[Act]) -> tuple[list[str], Head]:
    lines, head = [], Head()
    for act in acts:
        line, head = chained(act, head)
        lines.append(line)
    return lines, head


CHAINS = st.lists(ACTS, min_size=2, max_size=5).map(chain)


@given(CHAINS)
def test_what_was_not_touched_holds(made: tuple[list[str], Head]) -> None:
    lines, head = made
    assert verify(lines) == verify([line.encode() for line in lines], head) == head
    assert head_of(lines[-1]) == head
    assert Head.parse(str(head)) == head


@given(CHAINS, st.data())
def test_a_changed_byte_is_found_at_its_entry(made: tuple[list[str], Head], data: st.DataObject) -> None:
    lines, head = made
    at = data.draw(st.integers(0, len(lines) - 1))
    raw = bytearray(lines[at].encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    broken: list[str | bytes] = [*lines[:at], bytes(raw), *lines[at + 1 :]]
    with pytest.raises(AuditBroken) as found:
        verify(broken, head)
    assert found.value.seq == at + 1


@given(CHAINS, st.data())
def test_a_byte_too_many_or_too_few_is_found(made: tuple[list[str], Head], data: st.DataObject) -> None:
    lines, _ = made
    at = data.draw(st.integers(0, len(lines) - 1))
    raw = lines[at].encode()
    place = data.draw(st.integers(0, len(raw) - 1))
    extra = bytes([data.draw(st.integers(0, 255))])
    for changed in (raw[:place] + raw[place + 1 :], raw[:place] + extra + raw[place:]):
        with pytest.raises(AuditBroken) as found:
            verify([*lines[:at], changed, *lines[at + 1 :]])
        assert found.value.seq == at + 1


@given(CHAINS, st.data())
def test_a_removed_doubled_or_swapped_entry_is_found(
    made: tuple[list[str], Head], data: st.DataObject
) -> None:
    lines, head = made
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda number: number != at))
    swapped = list(lines)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    removed = [*lines[:at], *lines[at + 1 :]]
    doubled = [*lines[: at + 1], lines[at], *lines[at + 1 :]]
    for broken, expected in ((swapped, min(at, other) + 1), (removed, at + 1), (doubled, at + 2)):
        with pytest.raises(AuditBroken) as found:
            verify(broken, head)
        assert found.value.seq == expected


@given(CHAINS, ACTS, st.data())
def test_an_entry_forged_with_its_hash_is_found_at_the_next(
    made: tuple[list[str], Head], act: Act, data: st.DataObject
) -> None:
    lines, head = made
    at = data.draw(st.integers(0, len(lines) - 2))
    before = head_of(lines[at - 1]) if at else Head()
    forged, _ = chained(act, before)
    if forged == lines[at]:
        return
    with pytest.raises(AuditBroken) as found:
        verify([*lines[:at], forged, *lines[at + 1 :]])
    assert found.value.seq == at + 2
    last, _ = chained(act, head_of(lines[-2]))
    if last != lines[-1]:
        with pytest.raises(AuditBroken, match="written anew"):
            verify([*lines[:-1], last], head)


@given(CHAINS, st.data())
def test_a_cut_tail_is_found_by_a_head_noted_before(
    made: tuple[list[str], Head], data: st.DataObject
) -> None:
    lines, head = made
    left = data.draw(st.integers(0, len(lines) - 1))
    with pytest.raises(AuditBroken) as found:
        verify(lines[:left], head)
    assert found.value.seq == left + 1
    assert f"there were {len(lines)}" in found.value.why
    assert verify(lines, head_of(lines[0])) == head


def test_the_hash_is_as_documented() -> None:
    (line,), head = chain([Act("r-1", 1.5, "root", "ü", "key.created", "k", "why", {"b": 1, "a": None})])
    entry = json.loads(line)
    claimed = entry.pop("hash")
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    assert claimed == head.hash == hashlib.sha256(f"{START}\n{text}".encode()).hexdigest()
    assert parse(line)["name"] == "ü"


@pytest.mark.parametrize("text", ["", "1", "1:", "x:" + START, "1:" + START[1:], "1:" + "g" * 64])
def test_what_is_no_head_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="audit head"):
        Head.parse(text)
