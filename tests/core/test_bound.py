"""The bound on a response's input is never below what the provider counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.bound import Bound
from orchestrator.simulate.usage import text_tokens


def message(text: str) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def usage(text: int, audio: int, text_out: int, audio_out: int) -> dict[str, object]:
    return {
        "input_tokens": text + audio,
        "output_tokens": text_out + audio_out,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio, "image_tokens": 0},
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }


def test_talk_is_a_token_per_tenth_of_a_second_with_what_turn_detection_adds() -> None:
    assert Bound({}).context(10_000).audio_tokens == 110


def test_once_counted_the_input_is_known_and_only_what_came_since_is_bounded() -> None:
    bound = Bound({"instructions": "x" * 10_000})
    assert bound.context().text_tokens > 10_000
    bound.answer_began()
    bound.counted(usage(2_600, 50, 40, 100))
    context = bound.context()
    assert 2_640 <= context.text_tokens < 2_700
    assert context.audio_tokens == 150 + 10


def test_what_was_said_while_an_answer_was_made_is_in_the_next_ones_input() -> None:
    bound = Bound({})
    bound.answer_began()
    bound.heard(5_000)
    bound.wrote(message("And where is it?"))
    bound.counted(usage(10, 20, 5, 30))
    context = bound.context()
    assert context.audio_tokens >= 50 + 50
    assert context.text_tokens >= 15 + 16


def test_an_image_counts_as_more_than_any_is_billed_for() -> None:
    bound = Bound({})
    bound.wrote({"type": "message", "content": [{"type": "input_image", "image_url": "data:…"}]})
    assert bound.context().image_tokens >= 1_500


@given(st.lists(st.text(max_size=60), max_size=20), st.text(max_size=200))
def test_text_is_never_counted_as_less_than_a_token_for_four_characters(texts: list[str], head: str) -> None:
    bound = Bound({"instructions": head}, [message(text) for text in texts])
    counted = text_tokens(head) + sum(text_tokens(text) for text in texts)
    assert bound.context().text_tokens >= counted
