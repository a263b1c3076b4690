"""What was read back, and what the caller has said to it since."""

from __future__ import annotations

import pytest

from orchestrator.core.consent import Consent
from orchestrator.core.conversation import Conversation, Item
from orchestrator.core.proposals import Proposal, Verdict
from tests.core.talk import CANCEL

TEXT = "I am about to cancel order 4 1 7 2. Is that right?"


def talk(*said: str | tuple[str, float]) -> Conversation:
    """What was said, assistant (``"> …"``) and caller; ``(words, share)``: so much of them was heard."""
    found = Conversation()
    found.insert(Item("item_out", {"id": "item_out", "type": "function_call_output", "call_id": "c"}))
    for number, entry in enumerate(said):
        words, share = entry if isinstance(entry, tuple) else (entry, 1.0)
        role = "assistant" if words.startswith("> ") else "user"
        item = Item(f"item_{number}", {"type": "message", "role": role}, transcript=words.removeprefix("> "))
        item.sent_ms, item.heard_ms, item.cut_off = 1000.0, 1000.0 * share, share < 1
        if words == "?":
            item.transcript, item.audio = None, b"audio"
        found.insert(item)
    return found


def verdict(*said: str | tuple[str, float]) -> Verdict:
    return Proposal(1, CANCEL, {"order_id": "4172"}, TEXT, "item_out").verdict(talk(*said), "en")


@pytest.mark.parametrize(
    ("said", "consent"),
    [
        (["Yes."], Consent.YES),
        (["No."], Consent.NO),
        (["Yes, but 4173."], Consent.CHANGE),
        (["Hmm."], Consent.UNCLEAR),
        (["Hmm.", "> Shall I?", "Yes."], Consent.YES),
        (["Yes.", "> One moment.", "No, wait, don't."], Consent.NO),
        (["Yes.", "> One moment.", "Are you there?"], Consent.YES),
        (["No.", "> Then not.", "Yes."], Consent.NO),
        (
            ["What is the weather?", "> Fine.", "And tomorrow?", "> Rain.", "Oh.", "> Yes.", "Yes."],
            Consent.UNCLEAR,
        ),
    ],
)
def test_the_first_clear_word_counts_unless_it_is_taken_back(said: list[str], consent: Consent) -> None:
    assert verdict(f"> {TEXT}", *said).consent is consent


def test_nothing_counts_before_the_read_back_was_heard_to_its_end() -> None:
    cut = verdict((f"> {TEXT}", 0.4), "Yes.")
    assert (cut.consent, cut.interrupted, cut.misread) == (None, True, False)
    again = verdict((f"> {TEXT}", 0.4), "Yes.", f"> {TEXT}", "Yes.")
    assert (again.consent, again.interrupted) == (Consent.YES, False)


def test_a_read_back_with_another_value_is_none() -> None:
    wrong = verdict("> I am about to cancel order 4 1 7 3. Is that right?", "Yes.")
    assert (wrong.consent, wrong.misread) == (None, True)


def test_a_turn_whose_words_are_not_known_is_waited_for() -> None:
    assert verdict(f"> {TEXT}", "?").unwritten == "item_1"
    assert verdict(f"> {TEXT}", "Yes.", "?").unwritten == "item_2", "it may take the yes back"


def test_whether_it_was_said_to_its_end() -> None:
    proposal = Proposal(1, CANCEL, {"order_id": "4172"}, TEXT, "item_out")
    assert proposal.was_read(talk(f"> {TEXT}"))
    assert not proposal.was_read(talk((f"> {TEXT}", 0.4)))
    assert not proposal.was_read(talk())
