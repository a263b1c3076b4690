"""What is written for the eye alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.pipeline.clauses import split
from tiers.pipeline.markup import plain


@pytest.mark.parametrize(
    ("marked", "words"),
    [
        ("**Bold** and *slanted* and `code`", "Bold and slanted and code"),
        ("__Bold__ and _slanted_ and ~~struck~~", "Bold and slanted and struck"),
        ("***Both***!", "Both!"),
        ("# Title\n- one\n- two\n1. three", "Title one two three"),
        ("## Title\n* [ ] to do\n* [x] done\n• last", "Title to do done last"),
        ("> quoted\n>> twice", "quoted twice"),
        ("---\nText\n***", "--- Text"),
        ("See [our page](https://example.com/a?b=c).", "See our page."),
        ("See [our page][1] and ![a picture](x.png).", "See our page and a picture."),
        ("It is so[1], and so[^2]. And so【3†source】.", "It is so, and so. And so."),
        ("See <https://example.com/a_b> or <jane_doe@a.com>.", "See https://example.com/a_b or jane_doe@a.com."),
        ("Go to https://www.example.com/help?x=1 now", "Go to https://www.example.com/help?x=1 now"),
        ("Go to **https://example.com/a_b**.", "Go to https://example.com/a_b."),
        ("It is <b>here</b>.<br/>Now", "It is here. Now"),
        ("A<!-- note -->B <script>alert(1)</script>C", "A B C"),
        ("Tea &amp; cake&nbsp;&lt; 5", "Tea & cake < 5"),
        ("| Item | Price |\n|------|:-----:|\n| Lamp | $5 |", "Item, Price Lamp, $5"),
        ("Great 😀 news 🎉! 👍🏽 1️⃣", "Great news! 1"),
        ("❤️ from 🇩🇪", "from"),
        ("out_for_delivery", "out for delivery"),
        ("\\*not slanted\\* and \\# no title", "not slanted and # no title"),
        ("```sh\nrm -rf /\n```", ""),
        ("2 < 3 and 5 > 4", "2 < 3 and 5 > 4"),
        ("It takes ~5 minutes.", "It takes ~5 minutes."),
        ("5 - 3 = 2", "5 - 3 = 2"),
        ("Nothing to do here, at $5.", "Nothing to do here, at $5."),
    ],
)  # fmt: skip
def test_markup_is_not_spoken(marked: str, words: str) -> None:
    assert plain(marked) == words


def test_a_list_and_a_table_are_said_line_by_line() -> None:
    text = "You have two options:\n\n1. **Refund** - in 5 days\n2. *Exchange*\n\n"
    text += "| Item | Price |\n|---|---|\n| Lamp | $5 |\n"
    assert split(text) == [
        "You have two options:",
        "Refund - in 5 days",
        "Exchange",
        "Item, Price",
        "Lamp, $5",
    ]


@given(st.text(alphabet="ab 1.|*_`~#[]()<>&;-\\\n", max_size=120))
def test_no_mark_makes_it_fail_and_no_words_are_made_up(text: str) -> None:
    said = plain(text)
    assert "`" not in said
    assert "*" not in said
    assert sum(char in "ab" for char in said) <= sum(char in "ab" for char in text)
