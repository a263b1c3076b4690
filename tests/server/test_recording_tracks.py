"""Two directions on one clock: what was sent when is found where it was heard."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.protocol.audio import Pcm16
from orchestrator.server.recording_tracks import CALLER_AHEAD, LAG, MARGIN, PAUSE, RATE, STEP, Mix, Track

FRAME = RATE // 50


def tone(length: int, value: int = 1000) -> Pcm16:
    return np.full(length, value, np.int16)


def sides(mix: Mix, at: int) -> tuple[Pcm16, Pcm16]:
    """All of it, left and right."""
    both = np.concatenate([*mix.rest(at), np.zeros(0, np.int16)])
    return both[::2], both[1::2]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 50), st.integers(0, 40)),
            st.tuples(st.just("cut"), st.integers(0, 200), st.just(0)),
            st.tuples(st.just("take"), st.integers(0, 60), st.just(0)),
        ),
        max_size=40,
    )
)
def test_a_track_is_what_a_plain_array_would_be(steps: list[tuple[str, int, int]]) -> None:
    track, plain, taken, value = Track(), np.zeros(5_000, np.int16), 0, 0
    for kind, amount, length in steps:
        if kind == "put":
            at, value = max(track.end, taken) + amount, value + 1
            track.put(tone(length, value), at)
            plain[at : at + length] = value
        elif kind == "cut":
            at = max(amount, taken)
            track.cut(at)
            plain[at:] = 0
        else:
            assert (track.take(taken, taken + amount) == plain[taken : taken + amount]).all()
            taken += amount
    assert (track.take(taken, 5_000) == plain[taken:]).all()


def test_a_caller_in_step_is_without_holes() -> None:
    mix = Mix()
    for number in range(1, 101):
        mix.caller(tone(FRAME), number * FRAME + (number - 1) % 3 * 50)  # jitter of some ms
    left, right = sides(mix, 100 * FRAME)
    assert (left[: 100 * FRAME] == 1000).all()
    assert not right.any()


def test_audio_that_a_network_held_up_closes_up() -> None:
    mix, held = Mix(), range(40, 60)
    for number in range(1, 201):
        mix.caller(tone(FRAME, number), (59 if number in held else number) * FRAME)
    left, _ = sides(mix, 200 * FRAME)
    assert [int(left[n * FRAME]) for n in range(200)] == list(range(1, 201))


def test_a_client_that_sent_nothing_for_a_while_was_silent() -> None:
    """A short pause is seen by that it is never made up for; a long one at once."""
    for pause in (RATE // 2, 5 * RATE):
        mix = Mix()
        for number in range(1, 51):
            mix.caller(tone(FRAME), number * FRAME)
        for number in range(51, 251):
            mix.caller(tone(FRAME, 2000), number * FRAME + pause)
        at = 250 * FRAME + pause
        left, _ = sides(mix, at)
        assert abs(len(left) - at) <= LAG
        # Whatever was said well after the pause is where it was said.
        assert (left[50 * FRAME + pause + 2 * PAUSE : at - LAG] == 2000).all()


def test_what_the_caller_is_told_plays_as_soon_as_it_can_and_stops_when_interrupted() -> None:
    mix = Mix()
    mix.told(tone(RATE, 1), at=RATE)
    mix.told(tone(RATE, 2), at=RATE + 100)  # sent ahead: played after the first
    mix.barge_in(at=2 * RATE + 500)
    mix.told(tone(RATE, 3), at=4 * RATE)
    _, right = sides(mix, 10 * RATE)
    assert not right[:RATE].any()
    assert (right[RATE : 2 * RATE] == 1).all()
    assert (right[2 * RATE : 2 * RATE + 500] == 2).all()
    assert not right[2 * RATE + 500 : 4 * RATE].any()
    assert (right[4 * RATE : 5 * RATE] == 3).all()
    assert len(right) == 5 * RATE


def test_nothing_is_played_after_the_end() -> None:
    mix = Mix()
    mix.told(tone(20 * RATE), at=0)
    left, right = sides(mix, 3 * RATE)
    assert len(left) == len(right) == 3 * RATE


@given(st.lists(st.tuples(st.integers(0, 3 * RATE), st.booleans()), max_size=40))
def test_taken_piece_by_piece_it_is_the_same(steps: list[tuple[int, bool]]) -> None:
    """Samples that were taken out early are those that would have been there in the end."""
    whole, pieces, taken, now = Mix(), Mix(), [], 0
    for number, (pause, of_caller) in enumerate(steps, 1):
        now += FRAME + pause
        for mix in (whole, pieces):
            if of_caller:
                mix.caller(tone(FRAME, number), now)
            else:
                mix.told(tone(4 * FRAME, number), now)
        taken += list(pieces.take(now))
        assert pieces.taken <= max(0, now - MARGIN) or pieces.taken == 0
    early = np.concatenate([*taken, *pieces.rest(now), np.zeros(0, np.int16)])
    late = np.concatenate([*whole.rest(now), np.zeros(0, np.int16)])
    assert (early == late).all()


def test_memory_is_bounded() -> None:
    mix = Mix()
    for _ in range(1000):
        mix.caller(tone(RATE), 0)
    assert sum(len(piece) for piece in mix.take(MARGIN + 200 * RATE)) <= 2 * (200 * RATE)
    mix = Mix()
    mix.caller(tone(FRAME), FRAME)
    assert max(len(piece) for piece in mix.take(3600 * RATE)) == 2 * STEP
    assert CALLER_AHEAD < 200 * RATE
