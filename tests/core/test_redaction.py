"""Nothing that must not be in a log is left in it, and what may stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.redaction import REDACTED, Redactor

CARDS = ("4242424242424242", "378282246310005", "6011111111111117", "30569309025904", "4222222222222")


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "new_password",
        "userPassword",
        "PIN",
        "pin-code",
        "cardNumber",
        "CardNumber",
        "cardnumber",
        "card number",
        "apiKey",
        "APIKey",
        "x-api-key",
        "one_time_token",
        "client_secret",
        "SSN",
        "cvv2",
    ],
)
def test_values_are_taken_out_by_their_name(name: str) -> None:
    assert Redactor().redact({name: "Tr0ub4dor", "city": "Oslo"}) == {name: REDACTED, "city": "Oslo"}


@pytest.mark.parametrize(
    "name", ["shipping", "spin", "opinion", "card", "number", "passenger", "topic", "key"]
)
def test_a_name_that_only_has_the_letters_of_one_is_left_alone(name: str) -> None:
    assert Redactor().redact({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a credential ek_AbCd-ef_012345.", f"a credential {REDACTED}."),
        ("Bearer-less vo_0a1b2c3d_AbCdEfGhIjKl-_0123", f"Bearer-less {REDACTED}"),
        ("its id is vo_0a1b2c3d", "its id is vo_0a1b2c3d"),
        ("redis://:pass@host:6379/0 is away", f"redis://{REDACTED}@host:6379/0 is away"),
        ("https://user:pa:ss@host/a@b", f"https://{REDACTED}@host/a@b"),
        ("https://host/a?b=c@d", "https://host/a?b=c@d"),
        ("week_of_the_year and seek_and_find_it", "week_of_the_year and seek_and_find_it"),
    ],
)
def test_keys_of_ours_and_who_logs_in_are_taken_out_of_texts(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


def test_values_that_are_known_are_taken_out_wherever_they_stand() -> None:
    redactor = Redactor([], ["open sesame", "open sesame twice", ""])
    assert redactor.text("say open sesame twice, not open sesame") == f"say {REDACTED}, not {REDACTED}"
    assert redactor.redact({"a": ["open sesame"], "open sesame": 1}) == {"a": [REDACTED], REDACTED: 1}


def test_names_can_be_others() -> None:
    redactor = Redactor(["iban", "mother's maiden name"])
    given_ = {"IBAN": "NO93 8601", "mothersMaidenName": "x", "mother_s_maiden_name": "y", "pin": "1234"}
    assert redactor.redact(given_) == {
        "IBAN": REDACTED,
        "mothersMaidenName": REDACTED,
        "mother_s_maiden_name": REDACTED,
        "pin": "1234",
    }
    assert Redactor([]).redact({"pin": "1234"}) == {"pin": "1234"}
    assert not Redactor([""]).is_secret("anything")


def test_it_goes_all_the_way_down() -> None:
    value = {
        "a": [{"b": ({"pin": 1234, "c": "x"}, {"token": {"deep": ["s"]}})}],
        "pin": None,
        "n": [1, 2.5, True],
    }
    assert Redactor().redact(value) == {
        "a": [{"b": [{"pin": REDACTED, "c": "x"}, {"token": REDACTED}]}],
        "pin": None,
        "n": [1, 2.5, True],
    }


def test_what_is_too_deep_or_no_json_is_no_way_around() -> None:
    deep: Any = "4242424242424242"
    for _ in range(100):
        deep = [deep]
    assert CARDS[0] not in json.dumps(Redactor().redact(deep))
    found = Redactor().redact(
        {"raw": b"4242424242424242", "set": {4242424242424242}, "odd": ValueError(CARDS[0])}
    )
    assert CARDS[0] not in json.dumps(found)
    assert Redactor().redact({CARDS[0]: 1}) == {REDACTED: 1}


@pytest.mark.parametrize("card", CARDS)
def test_card_numbers_are_found_wherever_they_stand(card: str) -> None:
    redactor = Redactor()
    spaced = " ".join(card[i : i + 4] for i in range(0, len(card), 4))
    for written in (
        card,
        spaced,
        spaced.replace(" ", "-"),
        spaced.replace(" ", ", "),
        spaced.replace(" ", "."),
    ):
        assert redactor.redact({"note": f"It is {written}."}) == {"note": f"It is {REDACTED}."}
        # The numbers beside it are no hiding place.
        told = redactor.text(f"order 77 {written} 12/29 123")
        assert REDACTED in told
        assert written not in told
    assert redactor.redact({"number": int(card), "x": float(card)}) == {"number": REDACTED, "x": REDACTED}
    assert card not in redactor.text(f"99999{card}88888")


def test_endless_numbers_are_not_looked_through() -> None:
    assert Redactor().text("it is " + "1 " * 5000 + "ok") == f"it is {REDACTED} ok"
    assert Redactor().text("9" * 5000) == REDACTED
    assert Redactor().text("1 " * 100) == "1 " * 100


@pytest.mark.parametrize(
    "text",
    [
        "order 4242424242424241",
        "call +47 22 33 44 55",
        "1.250,00 on 2026-11-26",
        "A-1042",
        "0000000000000000",
        "version 1.2.3.4",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert Redactor().text(text) == text
    assert Redactor().redact({"n": 4242424242424241, "x": 12.0}) == {"n": 4242424242424241, "x": 12.0}


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefgh12345678",
        "sk_live_abcdefgh12345678",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "ghp_abcdefghijklmnop1234",
        "github_pat_11AAAA_bbbbbbbb",
        "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abc",
        "AIzaSyA-1234567890abcdefghijklmnopqrstu",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_keys_are_found_wherever_they_stand(key: str) -> None:
    assert Redactor().text(f"it is {key} ok") == f"it is {REDACTED} ok"
    assert Redactor().text("Bearer abcdef123456 and more") == f"Bearer {REDACTED} and more"
    assert Redactor().text("risk-averse, a task_force, sky-high") == "risk-averse, a task_force, sky-high"


def test_nothing_beside_a_secret_repeats_it() -> None:
    arguments = {"pin": 8731, "to": {"secret": ["tulip", "ab"], "city": "Oslo"}, "list": [{"otp": "550*12"}]}
    told = Redactor().redact(
        {
            "arguments": arguments,
            "summary": "change to 8731 with tulip and 550*12 in Oslo, ab",
            "id": "call_87312 and tulips",
        }
    )
    assert told["summary"] == f"change to {REDACTED} with {REDACTED} and {REDACTED} in Oslo, ab"
    assert told["id"] == "call_87312 and tulips"


def test_numbers_that_json_does_not_have_become_text() -> None:
    assert Redactor().redact([float("inf"), float("nan"), 10**30, -1.5]) == ["inf", "nan", 10**30, -1.5]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)


@given(JSON, st.sampled_from(CARDS))
def test_whatever_is_around_a_secret_it_does_not_come_out(around: Any, card: str) -> None:
    value = {"around": around, "inner": [around, {"password": "correct horse", "note": f"x{card}x"}]}
    told = json.dumps(Redactor().redact(value))
    assert "correct horse" not in told
    assert card not in told
    assert json.loads(told).keys() == value.keys()
