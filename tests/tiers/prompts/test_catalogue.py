from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tiers.prompts.catalogue import (
    Catalogue,
    CatalogueInvalid,
    Problem,
    Prompt,
    UnknownLanguage,
    UnknownPrompt,
    VariablesInvalid,
)

CATALOGUE = Catalogue.load()
NAMES = {
    "one_moment", "order_status", "order_unknown", "ask_order_number", "opening_hours", "goodbye",
    "queue_update", "call_summary", "did_not_catch", "offer_choice",
}  # fmt: skip


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


BRIDGES = {"looking_up", "one_moment", "bridge_interrupted", "bridge_late", "bridge_simpler"}


def test_the_prompts_that_calls_use_are_there():
    assert set(CATALOGUE) >= NAMES | BRIDGES


def test_every_bridge_is_written_in_every_language_of_the_bridges():
    languages = CATALOGUE.bridge_languages()
    assert {"en", "es", "fr", "hi", "it", "pt"} <= set(languages)
    for language in languages:
        lines = list(CATALOGUE.bridges(language))
        assert {line.name for line in lines} == BRIDGES
        assert all(line.language == language for line in lines)
        assert len({line.text for line in lines}) == len(lines), "another cause is another line"


def test_a_region_hears_the_bridges_of_its_language_and_an_unknown_one_none():
    assert [line.language for line in CATALOGUE.bridges("pt-BR")] == ["pt"] * len(BRIDGES)
    assert [line.language for line in CATALOGUE.bridges("es_MX")] == ["es"] * len(BRIDGES)
    assert list(CATALOGUE.bridges("tlh")) == []
    assert CATALOGUE.written("one_moment", "FR") == "fr"
    british = Catalogue({"hello": Prompt(text={"en": "Hi.", "en-GB": "Hello."})})
    assert [british.written("hello", tag) for tag in ("en-gb", "EN_GB", "en-AU")] == ["en-GB", "en-GB", "en"]
    assert CATALOGUE.written("one_moment", "tlh") is None


def test_the_texts_of_all_bridges_tell_a_bridge_from_an_answer():
    texts = CATALOGUE.bridge_texts()
    for language in CATALOGUE.bridge_languages():
        assert {line.text for line in CATALOGUE.bridges(language)} <= texts
    assert len(texts) == len(BRIDGES) * len(CATALOGUE.bridge_languages())
    assert not texts & {line.text for line in CATALOGUE.constant()}


def test_the_transcript_keeps_the_order_number_and_the_voice_spells_it():
    line = CATALOGUE.fill("order_status", {"order_id": "4172", "status": "out_for_delivery"})
    assert line.text == "Your order number 4172 is out for delivery."
    assert line.spoken == "Your order number four one seven two is out for delivery."


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("shipped", "has been shipped"),
        ("Out For Delivery", "is out for delivery"),
        ("out-for-delivery", "is out for delivery"),
        ("DELIVERED.", "has been delivered"),
        ("processing", "is being processed"),
        ("cancelled", "has been cancelled"),
        ("canceled", "has been cancelled"),
        ("held at **customs**", "has the status held at customs"),
        ("held_at_customs", "has the status held at customs"),
    ],
)
def test_statuses_have_their_own_words_and_others_are_said_as_they_are(status, words):
    assert (
        CATALOGUE.fill("order_status", {"order_id": "7", "status": status}).text
        == f"Your order number 7 {words}."
    )


ALL_TYPES = """
[everything]
text.en = "{text} {integer} {money} {date} {time} {phone} {spelled_id} {enum}"
[everything.variables]
text = { type = "text", max_length = 20 }
integer = { type = "integer", minimum = 1, maximum = 500 }
money = { type = "money" }
date = { type = "date" }
time = { type = "time" }
phone = { type = "phone" }
spelled_id = { type = "spelled_id", max_length = 8 }
enum = { type = "enum", wording.en = { yes = "agreed", no = "refused" } }
"""
GOOD: dict[str, object] = {
    "text": "a book", "integer": "12", "money": "12.50 USD", "date": "2026-11-23", "time": "14:30",
    "phone": "+1 415 555 0132", "spelled_id": "A1", "enum": "yes",
}  # fmt: skip
BAD: list[tuple[str, object]] = [
    *[("text", value) for value in ("", "   ", "***", "x" * 21, 12, None, ["a"])],
    *[
        ("integer", value)
        for value in ("", "twelve", "1.5", "0", 501, 1.0, True, None, "1_0", "١٢", "9" * 30)
    ],
    *[("money", value) for value in ("12.50", "USD", "12.505 USD", "12 XXX", "12.50 JPY", 12, "1,2 USD")],
    *[("date", value) for value in ("23.11.2026", "2026-02-30", "2026-11-23T10:00", 20261123, "")],
    *[("time", value) for value in ("2:30", "25:00", "14:30:00", "2 PM", 1430)],
    *[("phone", value) for value in ("12", "1" * 16, "call me", "+", "555 CALL", None)],
    *[("spelled_id", value) for value in ("", "#", "-1", "1-", "a" * 9, "4172!", "é", 1.5, True, None)],
    *[("enum", value) for value in ("maybe", "", 1, None)],
]


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Catalogue:
    return Catalogue.load(write(tmp_path_factory.mktemp("catalogue") / "all.toml", ALL_TYPES))


def test_every_type_is_written_and_said(everything):
    line = everything.fill("everything", GOOD)
    assert line.text == "a book 12 $12.50 November 23, 2026 2:30 PM +1 415 555 0132 A1 agreed"
    assert line.spoken == (
        "a book twelve twelve dollars and fifty cents November twenty-third, two thousand twenty-six "
        "two thirty PM plus one, four one five, five five five, zero one three two A, one agreed"
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("integer", 500),
        ("integer", "+7"),
        ("money", "1,250,000 EUR"),
        ("money", "-12.5 GBP"),
        ("date", dt.date(2024, 2, 29)),
        ("time", dt.time(0, 0)),
        ("phone", "911"),
        ("phone", 4155550132),
        ("spelled_id", 4172),
        ("spelled_id", "#AB-1/2.c"),
        ("enum", " YES "),
    ],
)
def test_what_is_of_the_type_is_taken(everything, variable, value):
    everything.fill("everything", GOOD | {variable: value})


@pytest.mark.parametrize(("variable", "value"), BAD, ids=lambda value: repr(value)[:20])
def test_what_is_not_of_the_type_is_named_with_what_was_expected(everything, variable, value):
    with pytest.raises(VariablesInvalid) as caught:
        everything.fill("everything", GOOD | {variable: value})
    (error,) = caught.value.errors
    assert (error.variable, error.problem) == (variable, Problem.INVALID)
    assert error.expected
    assert error.got == repr(value)
    assert repr(value) in str(caught.value)
    assert error.expected in str(caught.value)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(VariablesInvalid) as caught:
        CATALOGUE.fill("order_status", {"order": "4172", "status": "", "colour": "red"})
    assert [(error.variable, error.problem) for error in caught.value.errors] == [
        ("order_id", Problem.MISSING),
        ("status", Problem.INVALID),
        ("colour", Problem.UNKNOWN),
        ("order", Problem.UNKNOWN),
    ]
    assert [error.got for error in caught.value.errors] == ["nothing", "''", "'red'", "'4172'"]
    assert "expected only order_id, status" in str(caught.value)


def test_a_prompt_without_variables_takes_none():
    with pytest.raises(VariablesInvalid, match="expected no variables, got 'x'"):
        CATALOGUE.fill("goodbye", {"name": "x"})


def test_an_error_does_not_repeat_a_flood():
    with pytest.raises(VariablesInvalid) as caught:
        CATALOGUE.fill("goodbye", {"a" * 100_000: "x" * 100_000})
    assert len(str(caught.value)) < 500


def test_a_value_with_braces_is_not_a_template():
    line = CATALOGUE.fill("call_summary", {"summary": "You asked about {order_id}, {0} and {}."})
    assert line.text.endswith("You asked about order id, 0 and .")


def test_unknown_prompts_and_languages_say_what_there_is():
    with pytest.raises(UnknownPrompt, match=r"'hello'.*one_moment"):
        CATALOGUE.fill("hello")
    with pytest.raises(UnknownLanguage, match=r"'de'.*en"):
        CATALOGUE.fill("goodbye", language="de")


def test_a_region_has_its_language_and_a_call_in_another_has_english(tmp_path):
    catalogue = Catalogue.load(write(tmp_path / "de.toml", 'goodbye.text.de = "Auf Wiederhören."'))
    assert catalogue.fill("goodbye", language="de-AT").text == "Auf Wiederhören."
    assert catalogue.fill("goodbye", language="en-GB").language == "en"
    assert catalogue.nearest("goodbye", "de-AT") == "de"
    assert catalogue.nearest("goodbye", "fr") == "en"
    assert catalogue.nearest("opening_hours", "de") == "en"


def test_an_own_file_adds_and_rewords(tmp_path):
    own = """
    [opening_hours]
    text.en = "We never close."
    [fire_drill]
    bridge = true
    text.en = "This is a drill."
    [order_status.variables.status.wording.en]
    lost = "cannot be found, and we are looking for it"
    """
    catalogue = Catalogue.load(write(tmp_path / "own.toml", own))
    assert catalogue.fill("opening_hours").text == "We never close."
    assert {line.name for line in catalogue.bridges("en")} == BRIDGES | {"fire_drill"}
    assert "This is a drill." in catalogue.bridge_texts()
    status = {"order_id": "1", "status": "lost"}
    assert catalogue.fill("order_status", status).text.endswith("cannot be found, and we are looking for it.")
    assert catalogue.fill("order_status", status | {"status": "shipped"}).text.endswith("has been shipped.")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[x", r"own\.toml is not TOML"),
        ("x = 1", "prompt x"),
        ("[x]", r"prompt x: text: Field required"),
        ("x.text = {}", "prompt x: text"),
        ('x.text.en = "Hello {name}."', "'name' is not among its variables"),
        ('x.text.en = "Hello {}."', "'' is not among its variables"),
        ('x.text.en = "Hello {."', "write a variable as {name}"),
        ('x.text.en = "***"', "nothing to say"),
        ('x.text.en = "Hi"\nx.txt = 1', "txt: Extra inputs are not permitted"),
        ('x.text.en = "{a:>10}"\nx.variables.a.type = "text"', "take no format"),
        ('x.text.en = "{a.b}"\nx.variables.a.type = "text"', "'a.b' is not among"),
        ('x.text.en = "Hi {a}"\nx.variables.a.type = "colour"', r"variables\.a.*colour"),
        ('x.text.en = "Hi {a}"\nx.variables.a = {type = "text", maximum = 3}', "maximum: Extra inputs"),
        ('x.text.de = "Hallo {a}"\nx.variables.a.type = "text"', "in en only, not in 'de'"),
        ('x.text.en-GB = "{a}"\nx.variables.a = {type = "enum", wording.en.b = "c"}', r"no wording\.en-GB"),
        (
            'x.bridge = true\nx.text.en = "Hi {a}"\nx.variables.a.type = "text"',
            "a bridge .* takes no variables",
        ),
        ('goodbye.text.en = "Bye {name}"\ngoodbye.variables.name.type = "text"', "name cannot be added"),
    ],
)
def test_a_wrong_file_says_where_and_what(tmp_path, toml, message):
    with pytest.raises(CatalogueInvalid, match=message):
        Catalogue.load(write(tmp_path / "own.toml", toml))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CatalogueInvalid, match=r"absent\.toml: No such file"):
        Catalogue.load(tmp_path / "absent.toml")


def test_yaml_says_the_same_as_toml(tmp_path):
    toml = Catalogue.load(write(tmp_path / "all.toml", ALL_TYPES))
    yaml = """
    everything:
      text:
        en: "{text} {integer} {money} {date} {time} {phone} {spelled_id} {enum}"
      variables:
        text: {type: text, max_length: 20}
        integer: {type: integer, minimum: 1, maximum: 500}
        money: {type: money}
        date: {type: date}
        time: {type: time}
        phone: {type: phone}
        spelled_id: {type: spelled_id, max_length: 8}
        enum: {type: enum, wording: {en: {yes: agreed, no: refused}}}
    """
    assert Catalogue.load(write(tmp_path / "all.yaml", yaml))["everything"] == toml["everything"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("a: [", r"own\.yml is not YAML"),
        ("- a", "expected prompts by name"),
        ("x: {text: {en: Hi}, bridge: perhaps}", "prompt x: bridge"),
    ],
)
def test_a_wrong_yaml_file_says_where_and_what(tmp_path, yaml, message):
    with pytest.raises(CatalogueInvalid, match=message):
        Catalogue.load(write(tmp_path / "own.yml", yaml))


def test_an_empty_file_adds_nothing(tmp_path):
    assert set(Catalogue.load(write(tmp_path / "own.yaml", "# nothing yet\n"))) == set(CATALOGUE)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('x.text.en = "Hi"\nx.render = "sung"', "prompt x: render: .*'whole' or 'stitched'"),
        (
            'x.text.en = "{a}"\nx.render = "stitched"\nx.variables.a.type = "text"',
            "cannot all be said beforehand",
        ),
        (
            'x.text.en = "Hi"\nx.cacheable = false\nx.ttl_s = 3',
            "cacheable = false and ttl_s exclude each other",
        ),
        ('x.text.en = "Hi"\nx.cacheable = false\nx.bridge = true', "cacheable = false and a bridge exclude"),
        ('x.text.en = "Hi"\nx.speed = 3.0', "prompt x: speed"),
        ('x.text.en = "Hi"\nx.ttl_s = 0', "prompt x: ttl_s"),
    ],
)
def test_how_a_prompt_is_rendered_is_checked(tmp_path, toml, message):
    with pytest.raises(CatalogueInvalid, match=message):
        Catalogue.load(write(tmp_path / "own.toml", toml))


def test_only_the_currencies_that_are_named_are_taken(tmp_path):
    own = 'x.text.en = "{a}"\nx.variables.a = {type = "money", currencies = ["EUR"]}'
    catalogue = Catalogue.load(write(tmp_path / "own.toml", own))
    assert catalogue.fill("x", {"a": "1 EUR"}).text == "€1.00"
    with pytest.raises(VariablesInvalid, match=r'"12.50 EUR", in EUR'):
        catalogue.fill("x", {"a": "1 USD"})
