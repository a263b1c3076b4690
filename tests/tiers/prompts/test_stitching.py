"""What is done to pieces of sound: cut out, made equally loud, put together without a click."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.protocol.audio import Pcm16
from tiers.prompts.pieces import Join, Piece
from tiers.prompts.stitching import (
    FADE_MS,
    LEVEL_DBFS,
    MARGIN_MS,
    PAUSES_MS,
    alone,
    cut,
    frame,
    speech_level,
    stitch,
    whole,
)

MS = 24
FADE = FADE_MS * MS
ON = Piece("four", Join.ON, Join.ON)
ENDS = {join: Piece("four", join, join) for join in (Join.ON, Join.PAUSE, Join.END)}


def hum(ms: int, peak: float = 0.3, hertz: float = 220.0) -> Pcm16:
    return (peak * 32767 * np.sin(2 * np.pi * hertz * np.arange(ms * MS) / 24_000)).astype(np.int16)


def silence(ms: int) -> Pcm16:
    return np.zeros(ms * MS, np.int16)


def level(pcm: Pcm16) -> float:
    return speech_level(pcm.astype(np.float32) / 32768.0)


def test_a_word_is_cut_out_where_there_is_least_sound():
    said = np.concatenate((hum(300), silence(40), hum(200, hertz=330), silence(40), hum(300)))
    made = cut(said, [(280 * MS, 360 * MS), (520 * MS, 600 * MS)], ON, 1)
    assert 200 * MS <= len(made) <= (200 + 2 * 40 + FADE_MS) * MS
    spectrum = np.abs(np.fft.rfft(made * np.hanning(len(made))))
    assert np.argmax(spectrum) * 24_000 / len(made) == pytest.approx(330, abs=5)


@pytest.mark.parametrize("join", ENDS, ids=lambda join: join.value)
def test_only_where_a_pause_follows_the_silence_at_an_end_is_cut_off(join):
    said = np.concatenate((hum(100), silence(200), hum(200), silence(200), hum(100)))
    made = cut(said, [(110 * MS, 290 * MS), (510 * MS, 690 * MS)], ENDS[join], 1)
    if join is Join.ON:
        assert len(made) > 300 * MS
    else:
        assert 200 * MS <= len(made) <= (200 + 2 * MARGIN_MS + 10) * MS


@pytest.mark.parametrize("peak", [0.05, 0.2, 0.8])
def test_however_loud_the_engine_was_all_pieces_are_equally_loud(peak):
    said = np.concatenate((silence(50), hum(400, peak), silence(200)))
    assert level(whole(said)) == pytest.approx(LEVEL_DBFS, abs=1.0)


def test_what_is_hardly_there_is_not_blown_up():
    assert level(whole(hum(400, 0.001))) < LEVEL_DBFS - 20


@pytest.mark.parametrize(
    "made", [whole(hum(400)), whole(hum(5)), cut(hum(300), [(90 * MS, 110 * MS)] * 2, ON, 1)]
)
def test_every_piece_begins_and_ends_in_silence(made):
    assert abs(int(made[0])) <= 1
    assert abs(int(made[-1])) <= 1
    assert len(made) >= 2 * FADE
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 1


def test_pieces_in_one_breath_overlap_by_their_fades_and_others_are_apart():
    one = whole(hum(300))
    for join in Join:
        made = stitch([(one, join), (one, Join.END)])
        apart = -FADE if join is Join.ON else PAUSES_MS[join] * MS
        assert len(made) == 2 * len(one) + apart


def test_pauses_follow_the_speed():
    one = whole(hum(300))
    slow, fast = (len(stitch([(one, Join.END), (one, Join.END)], speed)) for speed in (0.5, 2.0))
    assert slow - fast == (600 - 150) * MS


def test_a_steady_sound_in_two_pieces_has_neither_click_nor_hole():
    said = hum(1000)
    left = cut(said, [(495 * MS, 505 * MS)], Piece("a", Join.END, Join.ON), 0)
    right = cut(said, [(495 * MS, 505 * MS)], Piece("b", Join.ON, Join.END), 1)
    made = stitch([(left, Join.ON), (right, Join.END)]).astype(float)
    inner = made[50 * MS : -50 * MS]
    steepest = np.abs(np.diff(said.astype(float))).max() * level_gain(said)
    assert np.abs(np.diff(inner)).max() <= 1.5 * steepest
    power = np.array(
        [np.sqrt(np.mean(inner[at : at + 10 * MS] ** 2)) for at in range(0, len(inner) - 240, 240)]
    )
    assert power.max() / power.min() < 1.5


def level_gain(pcm: Pcm16) -> float:
    return float(10 ** ((LEVEL_DBFS - level(pcm)) / 20))


def test_a_frame_gives_a_piece_the_words_of_its_place():
    assert frame(Piece("four", Join.ON, Join.ON), "en").text == "Number eight four two six."
    assert frame(Piece("four", Join.PAUSE, Join.PAUSE), "en").text == "Number eight, four, two six."
    assert frame(Piece("is ready", Join.PAUSE, Join.END), "en-US").text == "Number eight, is ready."
    made = frame(Piece("Your order number", Join.END, Join.ON), "en")
    assert (made.parts[made.index], made.index) == ("Your order number", 0)


def test_a_word_that_begins_with_a_stop_is_not_said_after_one():
    assert frame(Piece("two", Join.ON, Join.ON), "en").parts[0] == "Number zero"


def test_alone_a_piece_keeps_its_mark():
    assert alone(Piece("four", Join.ON, Join.PAUSE)) == "four,"
    assert alone(Piece("four", Join.ON, Join.END)) == "four."
