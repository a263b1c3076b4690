"""Who is next before the workers of a speech engine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiers.speech_line import TURNS, Line, Place
from tiers.urgency import Priority

LIVE, REQUEST, BATCH = Priority


def test_calls_go_first_and_batches_last_whoever_came_first() -> None:
    line = Line(10)
    places = [Place(priority) for priority in (BATCH, REQUEST, LIVE, BATCH, LIVE, REQUEST)]
    for place in places:
        assert line.join(place) is None
    served = [places.index(place) for place in iter(line.next, None)]
    assert served == [2, 4, 1, 5, 0, 3]


def test_a_batch_is_served_now_and_then_even_if_requests_never_end() -> None:
    line = Line(100)
    line.join(Place(BATCH))
    for _ in range(3 * TURNS):
        line.join(Place(REQUEST))
    served = [place.priority for place in iter(line.next, None)]
    assert served.index(BATCH) == TURNS
    assert served.count(BATCH) == 1


def test_a_batch_waits_while_calls_do_however_long() -> None:
    line = Line(100)
    line.join(Place(BATCH))
    for _ in range(3 * TURNS):
        line.join(Place(LIVE))
    assert [place.priority for place in iter(line.next, None)][-1] is BATCH


def test_a_full_line_sends_the_least_urgent_newcomer_away() -> None:
    line = Line(3)
    first, second = Place(BATCH), Place(BATCH)
    for place in (first, second, Place(LIVE)):
        line.join(place)
    late_batch, call, request = Place(BATCH), Place(LIVE), Place(REQUEST)
    assert line.join(late_batch) is late_batch
    assert line.join(call) is second
    assert line.join(request) is first
    assert line.join(Place(REQUEST)) not in (call, request)
    assert len(line) == 3


def test_who_has_begun_to_speak_is_not_sent_away() -> None:
    line = Line(1)
    begun = Place(BATCH, admitted=True)
    assert line.join(begun) is None
    assert line.join(Place(REQUEST, admitted=True)) is None
    newcomer = Place(LIVE)
    assert line.join(newcomer) is newcomer
    assert len(line) == 2


def test_what_was_given_up_is_the_next_of_its_kind() -> None:
    line = Line(1)
    line.join(Place(BATCH))
    again = Place(BATCH)
    line.rejoin(again)
    assert line.next() is again


def test_only_those_ahead_are_waited_for() -> None:
    line = Line(10)
    for priority, cost in ((LIVE, 1.0), (REQUEST, 2.0), (BATCH, 4.0)):
        line.join(Place(priority, cost))
    assert [line.ahead_of(priority) for priority in Priority] == [1.0, 3.0, 7.0]


@given(st.lists(st.tuples(st.sampled_from(Priority), st.booleans()), max_size=40), st.integers(1, 8))
def test_nobody_is_lost_and_nobody_is_served_twice(arrivals: list[tuple[Priority, bool]], limit: int) -> None:
    line = Line(limit)
    joined, refused = [], []
    for priority, admitted in arrivals:
        place = Place(priority, admitted=admitted)
        joined.append(place)
        if (out := line.join(place)) is not None:
            refused.append(out)
    served = list(iter(line.next, None))
    assert {id(place) for place in joined} == {id(place) for place in served + refused}
    assert len(served) + len(refused) == len(joined)
    assert not any(place.admitted for place in refused)
    assert len([place for place in served if not place.admitted]) <= limit
