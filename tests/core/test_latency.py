"""What waits took, against what is wanted of them: any rows in any order, the clock passed in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.latency import AGAIN_S, KEPT, LATELY_S, MOST_RUNGS, Lately, Limits, Part, Taken
from orchestrator.core.playback import Playback

LIMITS = Limits(transport_ms=300, reasoning_ms=1500, recovery_ms=2000, reasoning_by_tier={"B": 2500})
MS = st.floats(0, 20_000, allow_nan=False)
ROW = st.one_of(
    st.builds(
        lambda tier, ms: ("answer", {"tier": tier, "ttfa_ms": ms}), st.sampled_from("ABC"), MS | st.none()
    ),
    st.builds(lambda tier, ms: ("gap", {"tier": tier, "gap_ms": ms}), st.sampled_from("ABC"), MS),
    st.builds(lambda tier, ms: ("recovery", {"tier": tier, "took_ms": ms}), st.sampled_from("ABC"), MS),
    st.just(("charge", {"tier": "A", "nanodollars": 5})),
)
OF_ROW = {
    "answer": (Part.REASONING, "ttfa_ms"),
    "gap": (Part.RECOVERY, "gap_ms"),
    "recovery": (Part.RECOVERY, "took_ms"),
}


@given(st.lists(ROW, max_size=80))
def test_every_time_is_held_against_the_limit_of_its_part_and_tier(
    rows: list[tuple[str, dict[str, Any]]],
) -> None:
    call = Lately(LIMITS).call()
    seen: dict[Part, list[float]] = {part: [] for part in Part}
    over = dict.fromkeys(Part, 0)
    for number, (type, fields) in enumerate(rows):
        breach = call.row(type, fields, "rung", float(number))
        part, name = OF_ROW.get(type, (None, ""))
        ms = fields.get(name)
        if part is None or ms is None:
            assert breach is None
            continue
        seen[part].append(ms)
        limit = {"B": 2500}.get(fields["tier"], 1500) if part is Part.REASONING else 2000
        assert (breach is not None) == (ms > limit)
        over[part] += ms > limit
        if breach is not None:
            assert breach.fields() == {
                "what": part.value,
                "tier": fields["tier"],
                "rung": "rung",
                "limit_ms": limit,
                "took_ms": round(ms, 1),
            }
    for part, figures in call.figures().items():
        times = seen[Part(part)]
        assert (figures["count"], figures["breaches"]) == (len(times), over[Part(part)])
        assert figures["longest_ms"] == (round(max(times), 1) if times else None)
        assert figures["latest_ms"] == (round(times[-1], 1) if times else None)
        assert figures["limit_ms"] == LIMITS.of(Part(part), "") or times, "the limit is told before"


@given(
    st.lists(
        st.tuples(st.floats(0.01, 40), st.floats(0, 400), st.floats(0, 400) | st.none()),
        min_size=1,
        max_size=80,
    )
)
def test_a_way_that_is_too_long_is_told_when_it_becomes_so_and_once_a_minute(
    steps: list[tuple[float, float, float | None]],
) -> None:
    call, now, told_at, was_over = Lately(LIMITS).call(), 0.0, -1e9, False
    for pause, client, provider in steps:
        now += pause
        over = client + (provider or 0.0) > 300
        breach = call.way(client, provider, "A", "rung", now)
        assert (breach is not None) == (over and (not was_over or now - told_at >= AGAIN_S))
        if breach is not None:
            told_at = now
            assert sum(breach.parts.values()) == pytest.approx(breach.took_ms)
        was_over = over


def test_a_way_to_a_client_that_is_not_known_says_nothing() -> None:
    call = Lately(LIMITS).call()
    assert call.way(None, 9_000.0, "A", "rung", 1.0) is None
    assert call.figures()["transport"]["count"] == 0


def test_without_limits_nothing_is_a_breach_and_all_is_measured() -> None:
    call = Lately(Limits()).call()
    assert call.row("answer", {"tier": "A", "ttfa_ms": 1e6}, "rung", 0.0) is None
    assert call.way(1e6, None, "A", "rung", 0.0) is None
    assert [call.figures()[part]["count"] for part in ("transport", "reasoning")] == [1, 1]


@pytest.mark.parametrize("ms", [None, "9000", float("nan"), float("inf"), []])
def test_what_is_no_time_says_nothing(ms: Any) -> None:
    call = Lately(LIMITS).call()
    assert call.row("answer", {"tier": "A", "ttfa_ms": ms}, "rung", 0.0) is None
    assert call.figures()["reasoning"]["count"] == 0


def test_a_row_knows_better_than_the_call_which_rung_answered() -> None:
    lately = Lately(LIMITS)
    lately.call().row("answer", {"tier": "C", "rung": "prompts", "ttfa_ms": 80.0}, "kokoro", 0.0)
    assert lately.of("kokoro", 1.0) == []
    assert [usual.part for usual in lately.of("prompts", 1.0)] == [Part.REASONING]


@given(st.lists(st.tuples(st.floats(0, 100), MS), min_size=1, max_size=200))
def test_what_a_rung_took_lately(samples: list[tuple[float, float]]) -> None:
    lately, now, kept = Lately(LIMITS), 0.0, []
    for pause, ms in samples:
        now += pause
        lately.note(Taken(Part.RECOVERY, "B", "kokoro", ms, 2000), now)
        kept = [*kept, (now, ms)][-KEPT:]
    times = [ms for at, ms in kept if now - at <= LATELY_S]
    (usual,) = lately.of("kokoro", now)
    assert usual.count == len(times)
    assert usual.breaches == sum(ms > 2000 for ms in times)
    assert min(times) <= usual.median_ms <= usual.p95_ms <= max(times)
    assert sum(ms <= usual.p95_ms for ms in times) >= 0.95 * len(times)
    assert lately.of("kokoro", now + LATELY_S + 1) == []
    assert lately.of("another", now) == []


def test_memory_is_bounded() -> None:
    lately = Lately(LIMITS)
    for number in range(MOST_RUNGS + 50):
        lately.note(Taken(Part.REASONING, "A", f"rung{number}", 1.0, None), 0.0)
    known = [number for number in range(MOST_RUNGS + 50) if lately.of(f"rung{number}", 0.0)]
    assert known == list(range(MOST_RUNGS))


def test_an_answer_that_is_tried_again_ends_a_silence() -> None:
    playback = Playback()
    playback.add("item_1", 500, now=10.0)  # plays until 10.5
    playback.await_again(10.2, "retry")
    playback.await_again(10.4, "retry")
    playback.add("item_2", 100, now=11.5)
    assert playback.recovered == ("retry", pytest.approx(1000))
    assert playback.gap is None


def test_a_handover_explains_a_silence_better() -> None:
    playback = Playback()
    playback.await_again(10.0, "retry")
    playback.miss(10.0, "fault", "closed")
    playback.add("item_1", 100, now=11.0)
    assert playback.gap == ("fault", "closed", pytest.approx(1000))
    assert playback.recovered is None
    playback.add("item_1", 100, now=15.0)
    assert playback.recovered is None


def test_a_caller_who_speaks_waits_for_nothing() -> None:
    playback = Playback()
    playback.await_again(10.0, "interruption")
    playback.interrupt(10.5)
    playback.add("item_1", 100, now=12.0)
    assert playback.recovered is None
