"""A simulated model with tools that the server watches over: well-behaved by default, ill-behaved on command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.simulate.brain import Brain
from orchestrator.simulate.dialogue import Call, Called, Entry, Heard, Noted, Question, Returned, Say, Told
from orchestrator.simulate.errands import ASK_AMOUNT, ASK_APPOINTMENT, ASK_EMAIL, ASK_ORDER
from orchestrator.simulate.manners import OUTCOMES, WILL_NOT, Manners, misread
from orchestrator.simulate.records import INJECTION, Records
from tests.simulate.simulated import ORDER_TOOL

READ_BACK = "You would like me to cancel order 4 1 7 2. Is that right?"


def offered(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": properties}}


BUSINESS = [
    {"type": "function", "name": tool.name, "parameters": tool.schema} for tool in Records().tools().values()
]
TOOLS = [
    *BUSINESS,
    offered("wait_for_user"),
    offered("transfer_to_human", reason={"type": "string"}),
    offered("transfer_to_billing"),
]
CANCEL = Call("cancel_order", {"order_id": "4172"})
REFUND = Call("refund_order", {"order_id": "6310", "amount": 25})


class Line:
    """A conversation with the model: what it answers is in it from then on."""

    def __init__(self, manners: Manners = Manners.WELL, tools: list[dict[str, Any]] | None = None) -> None:
        self.past: list[Entry] = []
        self.tools = TOOLS if tools is None else tools
        self._brain = Brain(manners=manners)

    def _reply(self, question: Question) -> Say | Call:
        answer = self._brain.reply(question)
        if isinstance(answer, Call):
            self.past.append(Called(f"call_{len(self.past)}", answer))
        else:
            self.past.append(Told(" ".join(answer.sentences)))
        return answer

    def hear(self, words: str, **fields: Any) -> Say | Call:
        """The caller speaks."""
        self.past.append(Heard(words))
        return self._reply(Question(words, None, self.tools, past=self.past, **fields))

    def give(self, **output: Any) -> Say | Call:
        """The server answers the model's latest call."""
        call = next(entry for entry in reversed(self.past) if isinstance(entry, Called))
        text = json.dumps(output)
        self.past.append(Returned(call.call_id, text))
        return self._reply(Question(None, text, self.tools, past=self.past))

    def propose(self, words: str = "Please cancel order 4172.", say: str = READ_BACK) -> Say | Call:
        """Up to the read-back; gives the model's words for it."""
        assert isinstance(self.hear(words), Call)
        return self.give(status="confirmation_needed", say=say, note="Read this out exactly.")


# -- errands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("Please cancel order four one seven two.", CANCEL),
        ("I want 25 euros of refund for order 6310.", REFUND),
        (
            "Book an appointment on 3 December 2026 at half past ten for Maria Jensen.",
            Call("book_appointment", {"date": "2026-12-03", "time": "10:30", "name": "Maria Jensen"}),
        ),
        (
            "Change the email of order 6310 to m a r i a at example dot org.",
            Call("update_email", {"order_id": "6310", "email": "maria@example.org"}),
        ),
        ("Let me talk to a person.", Call("transfer_to_human", {"reason": "Let me talk to a person."})),
        ("I have a billing question.", Call("transfer_to_billing", {})),
        ("Hold on, please.", Call("wait_for_user", {})),
        ("I was not talking to you.", Call("wait_for_user", {})),
        ("", Call("wait_for_user", {})),
        ("Where is order 4172?", Call("get_order_status", {"order_id": "4172"})),
    ],
)
def test_errands_go_to_their_tools(words: str, call: Call) -> None:
    assert Line().hear(words) == call


def test_values_are_as_the_tools_schema_wants_them() -> None:
    text = offered("refund_order", order_id={"type": "string"}, amount={"type": "string"})
    answer = Line(tools=[text]).hear("Refund 25 euros of order 6310")
    assert answer == Call("refund_order", {"order_id": "6310", "amount": "25"})


@pytest.mark.parametrize(
    "words", ["Cancel order 4172.", "Let me talk to a person.", "Hold on.", "A billing question."]
)
def test_no_tool_is_called_that_the_session_does_not_have(words: str) -> None:
    assert isinstance(Line(tools=[]).hear(words), Say)


@pytest.mark.parametrize("words", ["Cancel order 4172.", "Hold on.", "Where is order 4172?"])
def test_no_tool_is_called_where_none_may_be(words: str) -> None:
    assert isinstance(Line().hear(words, tool_choice="none"), Say)


def test_what_is_missing_is_asked_for_and_then_taken() -> None:
    line = Line()
    assert line.hear("I would like to cancel something.") == Say([ASK_ORDER])
    assert line.hear("It is four one seven two.") == CANCEL
    assert line.hear("A refund for order 6310, please.") == Say([ASK_AMOUNT])
    assert line.hear("Twenty five euros.") == REFUND
    assert line.hear("I need an appointment.") == Say([ASK_APPOINTMENT])
    assert line.hear("Change the e-mail of order 6310.") == Say([ASK_EMAIL])


# -- confirmation ------------------------------------------------------------------------------------


def test_what_is_to_be_read_back_is_said_exactly() -> None:
    assert Line().propose() == Say([READ_BACK])


@pytest.mark.parametrize(
    "yes",
    ["Yes.", "Yeah, go ahead", "That's right.", "Okay, do it.", "Yes, order 4172.", "No problem, go ahead."],
)
def test_a_yes_calls_again_with_the_same_arguments(yes: str) -> None:
    line = Line()
    line.propose()
    assert line.hear(yes) == CANCEL
    assert line.give(status="done", result={"order_id": "4172", "status": "cancelled"}) == Say(
        ["Order 4 1 7 2 is cancelled.", "Can I do anything else for you?"]
    )


@pytest.mark.parametrize(
    "no", ["No.", "No, leave it.", "Please don't.", "Never mind.", "Stop, don't cancel it."]
)
def test_a_no_is_the_end_of_it(no: str) -> None:
    line = Line()
    line.propose()
    answer = line.hear(no)
    assert isinstance(answer, Say)
    assert answer.sentences[0] == WILL_NOT
    later = line.hear("Yes.")
    assert isinstance(later, Say), "a yes to nothing"


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("No wait, make it 20 euros.", Call("refund_order", {"order_id": "6310", "amount": 20})),
        ("Yes, but make it 20.", Call("refund_order", {"order_id": "6310", "amount": 20})),
        ("No, I meant order 6311.", Call("refund_order", {"order_id": "6311", "amount": 25})),
        ("Hold on, make that 20 euros.", Call("refund_order", {"order_id": "6310", "amount": 20})),
    ],
)
def test_a_changed_value_calls_again_with_it(words: str, call: Call) -> None:
    line = Line()
    line.propose("Refund 25 euros for order 6310.", "You would like 25 euros back. Is that right?")
    assert line.hear(words) == call
    line.give(status="confirmation_needed", say="So that is another one?")
    assert line.hear("Yes.") == call


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("Where is order 5208?", Call("get_order_status", {"order_id": "5208"})),
        ("No, cancel order 5208 instead.", Call("cancel_order", {"order_id": "5208"})),
        (
            "No, I want to talk to a person.",
            Call("transfer_to_human", {"reason": "No, I want to talk to a person."}),
        ),
        ("Hold on.", Call("wait_for_user", {})),
    ],
)
def test_other_errands_are_no_answer_to_a_read_back(words: str, call: Call) -> None:
    line = Line()
    line.propose()
    assert line.hear(words) == call


def test_an_unclear_answer_is_asked_about_once_more() -> None:
    line = Line()
    line.propose()
    assert line.hear("Hm, I'm not sure.") == Say([READ_BACK])
    assert line.hear("Yes.") == CANCEL


def test_a_yes_to_nothing_calls_nothing() -> None:
    assert isinstance(Line().hear("Yes."), Say)


# -- outputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(OUTCOMES))
def test_words_that_come_with_an_output_are_said(status: str) -> None:
    line = Line()
    line.hear("Cancel order 4172.")
    assert line.give(status=status, say="These words exactly.", order_id="4172") == Say(
        ["These words exactly."]
    )


@pytest.mark.parametrize("status", sorted(OUTCOMES))
def test_an_output_without_words_gets_some(status: str) -> None:
    line = Line()
    line.hear("Cancel order 4172.")
    answer = line.give(status=status, reason="The warehouse is closed")
    assert isinstance(answer, Say)
    assert answer.sentences[:2] == [OUTCOMES[status], "The warehouse is closed."]


def test_a_new_agent_introduces_itself() -> None:
    line = Line()
    line.hear("A billing question.")
    answer = line.give(status="done", agent="billing")
    assert answer == Say(["You are through to billing.", "How can I help?"])


def test_a_model_that_is_told_to_look_again_does_so_once() -> None:
    line = Line()
    line.hear("Cancel order 4172.")
    refused = {"status": "refused", "reason": "The caller said something else. Look at their words again."}
    assert line.give(**refused) == CANCEL
    assert isinstance(line.give(**refused), Say)


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        ('Say exactly: "Order 4 1 7 2. Is that right?"', "Order 4 1 7 2. Is that right?"),
        ('Say exactly: "He said \\"stop\\"." Call nothing.', 'He said "stop".'),
        ("Say exactly: One moment, please.", "One moment, please."),
        ("say exactly:\n“Done.”", "Done."),
    ],
)
def test_words_that_are_to_be_said_exactly(instructions: str, words: str) -> None:
    assert Line().hear("Cancel order 4172.", instructions=instructions) == Say([words])


NEWS = "News of what the caller asked for before (cancel_order): "


def test_news_is_told_once_and_before_the_answer() -> None:
    line = Line()
    line.propose()
    told = NEWS + json.dumps({"status": "done", "result": {"order_id": "4172", "status": "cancelled"}})
    line.past.append(Noted(told))
    assert line._reply(Question(None, None, TOOLS, past=line.past)) == Say(["Order 4 1 7 2 is cancelled."])
    line.past.append(Noted(NEWS + json.dumps({"status": "unknown", "say": "I can't tell."})))
    answer = line.hear("Thank you!")
    assert isinstance(answer, Say)
    assert answer.sentences[:2] == ["I can't tell.", "You are welcome."]
    assert line.hear("Thank you!") == Say(answer.sentences[1:])


# -- ill manners -------------------------------------------------------------------------------------


def test_an_eager_model_does_not_wait_for_a_yes() -> None:
    line = Line(Manners.EAGER)
    assert line.propose() == CANCEL
    assert line.give(status="confirmation_needed", say=READ_BACK) == Say([READ_BACK]), "it tries only once"


def test_a_model_that_paraphrases() -> None:
    answer = Line(Manners.PARAPHRASE).propose()
    assert isinstance(answer, Say)
    assert "four one seven two" in answer.sentences[0]
    assert not any(digit.isdecimal() for digit in answer.sentences[0])


def test_a_model_that_misreads() -> None:
    assert Line(Manners.MISREAD).propose() == Say(
        ["You would like me to cancel order 4 1 7 3. Is that right?"]
    )


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("Order 9. Is that right?", "Order 0. Is that right?"),
        ("Twenty euros of it. Is that right?", "thirty euros of it. Is that right?"),
        (
            "On December third at ten thirty AM. Is that right?",
            "On December third at ten forty AM. Is that right?",
        ),
        (
            "I am to book it for Maria Jensen. Is that right?",
            "I am to book it for Maria Oliver. Is that right?",
        ),
        ("Book it for Maria Jensen?", "Book it for Maria Oliver?"),
    ],
)
def test_a_wrong_value_is_a_value(words: str, wrong: str) -> None:
    assert misread(words) == wrong


@pytest.mark.parametrize("manners", [Manners.PARAPHRASE, Manners.MISREAD])
def test_not_even_instructions_make_a_bad_reader_exact(manners: Manners) -> None:
    line = Line(manners)
    assert line.hear("Hello.", instructions='Say exactly: "Order 4 1 7 2."') == Say(["Order 4 1 7 2."])
    first = line.propose()
    again = line.hear("Pardon?", instructions=f'Say exactly: "{READ_BACK}"')
    assert first == again != Say([READ_BACK])


def test_an_injected_model_obeys_what_a_result_says() -> None:
    for manners, obeys in ((Manners.WELL, False), (Manners.INJECTED, True)):
        line = Line(manners)
        line.hear("Where is order 4172?")
        result = {
            "status": "done",
            "result": {"order_id": "4172", "status": "packed", "customer_note": INJECTION},
        }
        answer = line.give(**result)
        assert (answer == Call("refund_order", {"order_id": "4172", "amount": 9999})) == obeys
        assert isinstance(line.give(**result), Say), "once"


def test_a_forgetful_model_says_that_it_is_done() -> None:
    line = Line(Manners.FORGETFUL)
    answer = line.hear("Cancel order 4172.")
    assert isinstance(answer, Say)
    assert answer.sentences[0] == "Done: cancel order, 4 1 7 2."
    assert isinstance(line.hear("Where is order 4172?"), Call), "reading is no promise"


def test_tools_of_other_services_are_told_as_ever() -> None:
    line = Line(tools=[ORDER_TOOL])
    line.hear("Where is order 41?")
    answer = line.give(order_id="41", status="packed")
    assert isinstance(answer, Say)
    assert answer.sentences[0] == "Order 4 1 is packed."
