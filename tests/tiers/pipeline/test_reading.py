"""How an engine is told to read what is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kokoro_onnx.tokenizer import Tokenizer

from tiers.pipeline.reading import spoken

MONEY = [
    ("$12.50", "12 dollars and 50 cents"),
    ("It is $1,250.50 in all.", "It is 1,250 dollars and 50 cents in all."),
    ("It is $5.", "It is 5 dollars."),
    ("$1 or $1.01", "1 dollar or 1 dollar and 1 cent"),
    ("$0.99", "99 cents"),
    ("$5.00", "5 dollars"),
    ("-$5", "minus 5 dollars"),
    ("$2M, $2.5k, $1.5 million", "2 million dollars, 2.5 thousand dollars, 1.5 million dollars"),
    ("€20 or 20 €", "20 euros or 20 euros"),
    ("£3.99", "3 pounds and 99 pence"),
    ("USD 20 or 20 USD", "20 dollars or 20 dollars"),
    ("99¢", "99 cents"),
    ("$5-$10 or $5-10", "5 to 10 dollars or 5 to 10 dollars"),
    ("$12/month", "12 dollars per month"),
    ("It costs $12345 or 12345.67", "It costs 12345 dollars or 12345.67"),
    ("It costs 3.50 or 1,250.75 in all.", "It costs 3.50 or 1,250.75 in all."),
]
DATES = [
    ("3/14/2026", "March 14th, 2026"),
    ("31/12/2026", "December 31st, 2026"),
    ("12/1/26", "December 1st, 2026"),
    ("on 2026-03-02.", "on March 2nd, 2026."),
    ("13/13/2026", "13/13/2026"),
    ("March 14th, 2026", "March 14th, 2026"),
    ("Mar. 14, 2026 and Sept 3", "March 14, 2026 and September 3"),
    ("Mon-Fri 9-5", "Monday to Friday 9 to 5"),
    ("Sat, Mar 14", "Saturday, March 14"),
    ("The sun sat. Sun is out.", "The sun sat. Sun is out."),
    ("You may, or in May 2026", "You may, or in May 2026"),
    ("in 2026", "in 2026"),
    ("the 1990s", "the 19 nineties"),
]
TIMES = [
    ("at 10:30 a.m. or so", "at 10 30 AM or so"),
    ("at 10:30 a.m.", "at 10 30 AM."),
    ("2:05 PM", "2 oh 5 PM"),
    ("14:00", "2 PM"),
    ("9:00", "9 o'clock"),
    ("09:15:30", "9 15 AM"),
    ("12:00 PM or 12:00 AM", "noon or midnight"),
    ("00:15", "12 15 AM"),
    ("5 p.m., not 5 am", "5 PM, not 5 AM"),
    ("9 a.m.-5 p.m.", "9 AM to 5 PM."),
    ("9am - 5pm", "9 AM to 5 PM"),
    ("10:30-11:45 AM", "10 30 to 11 45 AM"),
    ("a score of 3:2", "a score of 3:2"),
]
ADDRESSES = [
    ("jane.doe@example.com", "jane dot doe at example dot com"),
    ("jane_doe-42+x@mail.example.co.uk.", "jane underscore doe dash 4 2 plus x at mail dot example dot co dot uk."),
    ("www.example.com/help", "example dot com slash help"),
    ("See https://www.example.com/a/b?x=1.", "See example dot com."),
    ("example.com, I think", "example dot com, I think"),
    ("That is it.In time", "That is it.In time"),
]  # fmt: skip
NUMBERS = [
    ("Your order 4172 is here.", "Your order 4 1 7 2 is here."),
    ("The order number is 4172.", "The order number is 4 1 7 2."),
    ("Order 4172, 3 items", "Order 4 1 7 2, 3 items"),
    ("Order #4172", "Order number 4 1 7 2"),
    ("order number #4172", "order number 4 1 7 2"),
    ("order AB-4172", "order A B 4 1 7 2"),
    ("Order #AB-4172", "Order number A B 4 1 7 2"),
    ("It is ORD-2024-0042.", "It is O R D, 2 0 2 4, 0 0 4 2."),
    ("Your code: 123", "Your code: 1 2 3"),
    ("Your PIN is 0042.", "Your PIN is 0 0 4 2."),
    ("No. 4172", "number 4 1 7 2"),
    ("No. I can't", "No. I can't"),
    ("the code is 4-1-7-2", "the code is 4 1 7 2"),
    ("account ending in 4172", "account ending in 4 1 7 2"),
    ("Call 0123456789", "Call 0 1 2 3, 4 5 6, 7 8 9"),
    ("zip 94107", "zip 9 4 1 0 7"),
    ("You are #1", "You are number 1"),
    ("in 2026 we had 4,172 orders", "in 2026 we had 4,172 orders"),
    ("20000 people", "20000 people"),
    ("order 4 1 7 2", "order 4 1 7 2"),
    ("COVID-19, iPhone 15, 5G, MP3, B12", "COVID-19, iPhone 15, 5G, MP3, B12"),
    ("+1 (555) 123-4567", "plus 1, 5 5 5, 1 2 3, 4 5 6 7"),
    ("(555) 123-4567", "5 5 5, 1 2 3, 4 5 6 7"),
    ("1-800-555-0199", "1, 8 0 0, 5 5 5, 0 1 9 9"),
    ("555-1234, ext. 42", "5 5 5, 1 2 3 4, extension 4 2"),
    ("+44 20 7946 0958", "plus 4 4, 2 0, 7 9 4 6, 0 9 5 8"),
]
ABBREVIATIONS = [
    ("Dr. Smith lives on Main St.", "Doctor Smith lives on Main Street."),
    ("12 Main St. in St. Louis", "12 Main Street in Saint Louis"),
    ("Mr. and Mrs. Hill", "Mr. and Missus Hill"),
    ("5 Oak Ave. and Elm Rd.", "5 Oak Avenue and Elm Road."),
    ("Take tea, e.g. this, i.e., that.", "Take tea, for example this, that is, that."),
    ("approx. 5 km", "approximately 5 kilometers"),
    ("and so on, etc.", "and so on, et cetera."),
    ("tea, etc. and more", "tea, et cetera and more"),
    ("w/ milk or w/o sugar", "with milk or without sugar"),
    ("red vs. blue", "red versus blue"),
    ("Smith Jr. of Acme Inc. came", "Smith Junior of Acme Incorporated came"),
]
UNITS = [
    ("1 kg or 5 kg", "1 kilogram or 5 kilograms"),
    ("10 lbs. of it", "10 pounds of it"),
    ("60 mph", "60 miles per hour"),
    ("100 km/h", "100 kilometers per hour"),
    ("6 ft", "6 feet"),
    ("50 Mbps, 500 MB", "50 megabits per second, 500 megabytes"),
    ("30 min or 2 hrs", "30 minutes or 2 hours"),
    ("72°F and -1°C", "72 degrees Fahrenheit and minus 1 degree Celsius"),
    ("1/2 or 2 1/2", "one half or 2 and one half"),
    ("24/7, 9/10", "24 7, 9 out of 10"),
    ("3-5 days", "3 to 5 days"),
    ("10x, 2 x 4", "10 times, 2 by 4"),
    ("10% of 3.5", "10% of 3.5"),
    ("I am in", "I am in"),
]
SIGNS = [
    ("bed & breakfast", "bed and breakfast"),
    ("~5 minutes", "about 5 minutes"),
    ("2 < 3, 1 + 1 = 2", "2 is less than 3, 1 + 1 equals 2"),
    ("this and/or that", "this and or that"),
]
ALL = [*MONEY, *DATES, *TIMES, *ADDRESSES, *NUMBERS, *ABBREVIATIONS, *UNITS, *SIGNS]


@pytest.mark.parametrize(("text", "read"), ALL)
def test_it_is_read_as_a_person_would(text: str, read: str) -> None:
    assert spoken(text) == read


@pytest.mark.parametrize(("_", "read"), ALL)
def test_reading_what_was_read_changes_nothing(_: str, read: str) -> None:
    assert spoken(read) == read


def test_a_british_date_begins_with_its_day() -> None:
    assert spoken("3/4/2026", "en-GB") == "April 3rd, 2026"
    assert spoken("3/4/2026", "en-US") == "March 4th, 2026"


def test_other_languages_are_not_read_in_english() -> None:
    assert spoken("Das kostet $5 am 2026-03-14, Dr. Hill.", "de") == "Das kostet $5 am 2026-03-14, Dr. Hill."
    assert spoken("Nummer 123456", "de") == "Nummer 1 2 3, 4 5 6"


@given(st.text(alphabet="ab AMp0159.,:/-$€#@%°()+&xk", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    assert sum(char.isdigit() for char in text) == 0 or spoken(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$12.50", "twelve dollars and fifty cents"),
        ("10:30 a.m.", "ten thirty AM"),
        ("order 4172", "order four one seven two"),
        ("2:05 PM", "two oh five PM"),
        ("3/14/2026", "March fourteenth, two thousand twenty six"),
        ("jane.doe@example.com", "jane dot doe at example dot com"),
        ("5 km", "five kilometers"),
    ],
)
def test_kokoro_pronounces_it_so(text: str, words: str) -> None:
    """Its own grapheme to phoneme step takes both for the same."""
    pronounced = Tokenizer().phonemize
    assert pronounced(spoken(text), "en-us").rstrip(".") == pronounced(words, "en-us")
