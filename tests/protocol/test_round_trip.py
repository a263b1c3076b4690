"""Round trips of pings."""

from __future__ import annotations

import pytest

from orchestrator.protocol.round_trip import MOST, RoundTrip


def test_the_latest_answer_counts() -> None:
    trip = RoundTrip()
    first, second = trip.ping(1.0), trip.ping(2.0)
    assert trip.pong(first, 1.5)
    assert trip.ms(1.5) == pytest.approx(500)
    assert trip.pong(second, 2.1)
    assert trip.ms(2.1) == pytest.approx(100)
    assert not trip.waits


def test_a_ping_that_is_not_back_counts_for_as_long_as_it_has_been_away() -> None:
    trip = RoundTrip()
    trip.pong(trip.ping(1.0), 1.02)
    trip.ping(5.0)
    assert trip.ms(5.001) == pytest.approx(20)
    assert trip.ms(7.0) == pytest.approx(2000)
    assert trip.waits


def test_an_end_that_has_never_answered_says_nothing_of_the_way() -> None:
    trip = RoundTrip()
    assert trip.ms(0.0) is None
    trip.ping(1.0)
    assert trip.ms(60.0) is None


def test_an_answer_stands_for_the_pings_before_it() -> None:
    trip = RoundTrip()
    first, second = trip.ping(1.0), trip.ping(2.0)
    assert trip.pong(second, 2.1)
    assert not trip.pong(first, 2.2)
    assert trip.latest_ms == pytest.approx(100)


@pytest.mark.parametrize(
    "payload", [b"", b"1", b"rtt-", b"rtt-9", b"rtt-x", b"rtt-" + b"1" * 100, b"\xff\x00"]
)
def test_what_is_no_answer_of_ours_says_nothing(payload: bytes) -> None:
    trip = RoundTrip()
    trip.ping(1.0)
    assert not trip.pong(payload, 2.0)
    assert trip.latest_ms is None


def test_an_end_that_never_answers_fills_no_memory() -> None:
    trip = RoundTrip()
    sent = [trip.ping(float(n)) for n in range(100)]
    assert not trip.pong(sent[0], 100.0)
    assert trip.pong(sent[-MOST], 100.0)
