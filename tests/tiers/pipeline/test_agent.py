"""The text agent through LiteLLM: a compatible server, and the embedded model."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.price_list import ModelPrice, Published
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import AnswerRequest, Charge, Message, ToolCallReady
from tests import planted
from tiers.pipeline.agent import Agent, ChatModel, Done, Words
from tiers.pipeline.embedded import EMBEDDED, EmbeddedModel
from tiers.pipeline.errors import AgentFailed, Cause
from tiers.pipeline.litellm_loading import load
from tiers.pipeline.metering import prompt_bound

SOON = 30.0
ASK = AnswerRequest("answer_1", (Message("user", "Where is it?"),), instructions="Be kind.")
TOOL = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}


@pytest.fixture(scope="session", autouse=True)
def _litellm() -> Any:
    """The import is slow: it shall not count against the first test's deadline."""
    return load(hosted=True)


@pytest.fixture
def model(openai: Any) -> ChatModel:
    return ChatModel("openai/gpt-4.1-mini", api_key=planted.AGENT, base_url=openai.address)


def agent(*models: ChatModel, **options: Any) -> Agent:
    return Agent(models, **{"first_token_timeout": SOON, "stall_timeout": SOON, **options})


async def told(agent: Agent, request: AnswerRequest = ASK, paid: list[Charge] | None = None) -> list[Any]:
    charges = [] if paid is None else paid
    async with asyncio.timeout(SOON):
        return [event async for event in agent.reply(request, charges.append)]


async def failure(agent: Agent, request: AnswerRequest = ASK) -> AgentFailed:
    with pytest.raises(AgentFailed) as caught:
        await told(agent, request)
    assert planted.AGENT not in str(caught.value)
    return caught.value


def fragment(
    index: int, arguments: str = "", name: str | None = None, id: str | None = None
) -> dict[str, Any]:
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name:
        call |= {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [call]}


async def test_words_come_as_they_are_written_and_are_priced(openai: Any, model: ChatModel) -> None:
    openai.says("It is", " on its", " way.")
    paid: list[Charge] = []
    *words, done = await told(agent(model), paid=paid)
    assert words == [Words("It is"), Words(" on its"), Words(" way.")]
    # 100 tokens at $0.40 and 20 at $1.60 a million: $0.00004 + $0.000032 = $0.000072
    used = {"prompt_tokens": 100, "completion_tokens": 20}
    assert paid == [Charge("agent", "openai/gpt-4.1-mini", 72_000, used)]
    assert done == Done("openai/gpt-4.1-mini", 100, 20)
    [sent] = openai.requests
    assert sent["model"] == "gpt-4.1-mini"
    assert sent["messages"][0]["content"].startswith("Be kind.")
    assert sent["messages"][1] == {"role": "user", "content": "Where is it?"}
    assert sent["stream"] is True
    assert "tools" not in sent


async def test_tool_calls_are_put_together_from_fragments(openai: Any, model: ChatModel) -> None:
    openai.chats(
        {"role": "assistant", "content": "Let me look."},
        fragment(0, name="look", id="call_1"),
        fragment(0, '{"at":'),
        fragment(0, ' "4172"}'),
        fragment(1, name="look", id="call_2"),
        finish="tool_calls",
    )
    request = AnswerRequest("answer_1", ASK.history, tools=(TOOL,))
    *events, done = await told(agent(model), request)
    assert events == [
        Words("Let me look."),
        ToolCallReady("call_1", "look", '{"at": "4172"}'),
        ToolCallReady("call_2", "look", "{}"),
    ]
    assert isinstance(done, Done)
    [sent] = openai.requests
    assert sent["tools"][0]["function"]["name"] == "look"
    assert sent["tool_choice"] == "auto"


@pytest.mark.parametrize("arguments", ['{"at":', "[1]", "nonsense"])
async def test_tool_arguments_that_are_no_object_are_not_passed_on(
    openai: Any, model: ChatModel, arguments: str
) -> None:
    openai.chats(fragment(0, arguments, name="look", id="call_1"), finish="tool_calls")
    assert (await failure(agent(model))).cause is Cause.MALFORMED


async def test_the_token_limit_is_passed_on_and_noticed(openai: Any, model: ChatModel) -> None:
    openai.says("It is on", finish="length")
    request = AnswerRequest("answer_1", ASK.history, max_output_tokens=7)
    done = (await told(agent(model), request))[-1]
    assert done.cut_short
    assert openai.requests[0]["max_tokens"] == 7


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, Cause.REFUSED),
        (400, Cause.BAD_REQUEST),
        (404, Cause.BAD_REQUEST),
        (429, Cause.RATE_LIMITED),
        (500, Cause.UNAVAILABLE),
        (503, Cause.UNAVAILABLE),
    ],
)
async def test_a_failure_has_a_cause_and_is_not_retried(
    openai: Any, model: ChatModel, status: int, cause: Cause
) -> None:
    openai.fails(status)
    assert (await failure(agent(model))).cause is cause
    assert len(openai.requests) == 1


async def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    gone = ChatModel("openai/gpt-4.1-mini", api_key=planted.AGENT, base_url=closed)
    assert (await failure(agent(gone))).cause is Cause.UNAVAILABLE


async def test_silence_before_the_first_word(openai: Any, model: ChatModel) -> None:
    openai.says(hang=True)
    assert (await failure(agent(model, first_token_timeout=0.2))).cause is Cause.TIMEOUT


async def test_silence_in_the_middle(openai: Any, model: ChatModel) -> None:
    openai.says("It is", " on", hang=True)
    reply = agent(model, stall_timeout=0.2).reply(ASK)
    assert [await anext(reply), await anext(reply)] == [Words("It is"), Words(" on")]
    with pytest.raises(AgentFailed) as caught:
        await anext(reply)
    assert caught.value.cause is Cause.TIMEOUT


async def test_an_empty_answer_is_a_failure(openai: Any, model: ChatModel) -> None:
    openai.says(" ")
    assert (await failure(agent(model))).cause is Cause.EMPTY


async def test_leaving_closes_the_request(openai: Any, model: ChatModel) -> None:
    openai.says("It is", hang=True)
    reply = agent(model).reply(ASK)
    assert await anext(reply) == Words("It is")
    await reply.aclose()
    await asyncio.wait_for(openai.gone.wait(), SOON)


async def test_the_next_model_takes_over_before_the_first_word(openai: Any, model: ChatModel) -> None:
    openai.fails(503, then=None)
    failing = openai.reply
    openai.says("It is here.")
    working = openai.reply
    replies = iter([failing, working])

    async def reply(request: Any) -> Any:
        return await next(replies)(request)

    openai.reply = reply
    other = ChatModel("openai/gpt-4o-mini", api_key=planted.AGENT, base_url=openai.address)
    words, done = await told(agent(model, other))
    assert (words, done.model) == (Words("It is here."), "openai/gpt-4o-mini")
    assert [sent["model"] for sent in openai.requests] == ["gpt-4.1-mini", "gpt-4o-mini"]


async def test_no_model_takes_over_after_the_first_word(openai: Any, model: ChatModel) -> None:
    openai.says("It is", hang=True)
    other = ChatModel("openai/gpt-4o-mini", api_key=planted.AGENT, base_url=openai.address)
    assert (await failure(agent(model, other, stall_timeout=0.2))).cause is Cause.TIMEOUT
    assert len(openai.requests) == 1


# What it costs


async def test_prices_come_from_litellm_or_the_configuration_or_are_an_error(openai: Any) -> None:
    own = ChatModel("openai/my-model", "key", openai.address, ModelPrice(text_in=0.0015, text_out=0.003))
    openai.says("Yes.")
    paid: list[Charge] = []
    await told(agent(own), paid=paid)
    # 100 tokens at 1.5 nano-dollars and 20 at 3
    assert [charge.nanodollars for charge in paid] == [210]
    await agent(own).warm()
    unknown = ChatModel("openai/my-model", "key", openai.address)
    openai.requests.clear()
    for ask in (agent(unknown).warm(), told(agent(unknown))):
        with pytest.raises(AgentFailed, match="no price is known for 'openai/my-model'"):
            await ask
    assert not openai.requests


async def test_a_cached_prompt_costs_less(openai: Any, model: ChatModel) -> None:
    openai.says("Yes.", prompt_tokens_details={"cached_tokens": 64})
    paid: list[Charge] = []
    await told(agent(model), paid=paid)
    # 36 * $0.40 + 64 * $0.10 + 20 * $1.60 per 1M = $0.0000144 + $0.0000064 + $0.000032 = $0.0000528
    assert [(charge.nanodollars, charge.usage["cached_tokens"]) for charge in paid] == [(52_800, 64)]


async def test_what_rates_do_not_tell_litellm_does(openai: Any) -> None:
    price = Published(
        ModelPrice(text_in=1, text_out=1), "a list", up_to=99, dearest=ModelPrice(text_in=3, text_out=3)
    )
    model = ChatModel("openai/gpt-4.1-mini", "key", openai.address, price)
    openai.says("Yes.")
    paid: list[Charge] = []
    await told(agent(model), paid=paid)
    assert [charge.nanodollars for charge in paid] == [72_000]
    assert paid[0].usage["priced_by"] == "litellm"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_refused_request_costs_nothing(openai: Any, model: ChatModel, status: int) -> None:
    openai.fails(status)
    paid: list[Charge] = []
    with pytest.raises(AgentFailed):
        await told(agent(model), paid=paid)
    assert paid == []


async def test_an_answer_that_breaks_off_costs_what_was_sent_and_came(openai: Any, model: ChatModel) -> None:
    openai.says("It is", " on", hang=True)
    paid: list[Charge] = []
    with pytest.raises(AgentFailed):
        await told(agent(model, stall_timeout=0.2), paid=paid)
    [charge] = paid
    bound = prompt_bound(openai.requests[0]["messages"])
    assert charge.estimated
    assert charge.usage == {"prompt_tokens": bound, "completion_tokens": len("It is on")}
    assert charge.nanodollars == bound * 400 + len("It is on") * 1_600
    assert charge.nanodollars <= agent(model).worst(ASK)


async def test_a_model_that_was_silent_may_bill_its_prompt(openai: Any, model: ChatModel) -> None:
    openai.says(hang=True)
    paid: list[Charge] = []
    with pytest.raises(AgentFailed):
        await told(agent(model, first_token_timeout=0.2), paid=paid)
    assert [(charge.estimated, charge.usage["completion_tokens"]) for charge in paid] == [(True, 0)]


async def test_whoever_leaves_is_told_what_it_cost(openai: Any, model: ChatModel) -> None:
    openai.says("It is", hang=True)
    paid: list[Charge] = []
    reply = agent(model).reply(ASK, paid.append)
    assert await anext(reply) == Words("It is")
    assert paid == []
    await reply.aclose()
    assert [(charge.estimated, charge.usage["completion_tokens"]) for charge in paid] == [
        (True, len("It is"))
    ]


async def test_an_answer_of_no_use_is_paid_for_all_the_same(openai: Any, model: ChatModel) -> None:
    openai.says(" ")
    paid: list[Charge] = []
    with pytest.raises(AgentFailed):
        await told(agent(model), paid=paid)
    assert [(charge.nanodollars, charge.estimated) for charge in paid] == [(72_000, False)]


def test_the_worst_that_an_answer_can_cost() -> None:
    model = ChatModel("m", price=ModelPrice(text_in=1, text_out=10))
    plain, concise = (AnswerRequest("a", ASK.history, "Be kind.", max_output_tokens=n) for n in (None, 50))
    prompt = agent(model).worst(plain) - 400 * 10_000
    assert agent(model).worst(concise) == prompt + 50 * 10_000
    # A prompt is at most a token for each byte, and a little for its frame.
    assert len("Be kind.Where is it?") * 1_000 < prompt < 400 * 1_000
    with_tool = AnswerRequest("a", ASK.history, "Be kind.", tools=(TOOL,))
    assert (
        agent(model).worst(with_tool)
        > agent(model).worst(plain) + len(json.dumps(TOOL["parameters"])) * 1_000
    )
    # Each model may be asked, and give up at the very end.
    other = ChatModel("n", price=ModelPrice(text_in=2, text_out=20))
    assert agent(model, other).worst(plain) == 3 * agent(model).worst(plain)


def test_a_key_is_never_shown() -> None:
    assert planted.AGENT not in repr(ChatModel("m", api_key=planted.AGENT))


# The embedded model


async def test_without_a_model_the_embedded_one_answers(smollm2: EmbeddedModel) -> None:
    alone = agent(embedded=smollm2)
    await alone.warm()
    paid: list[Charge] = []
    *words, done = await told(alone, paid=paid)
    assert paid == []
    assert all(isinstance(word, Words) for word in words)
    assert "".join(word.text for word in words).strip()
    assert done.model == EMBEDDED
    assert alone.worst(ASK) == 0
    assert done.input_tokens > done.output_tokens > 0
    assert (alone.rung, alone.trusted_with_tools) == (EMBEDDED, False)


async def test_the_embedded_model_is_never_offered_tools(
    smollm2: EmbeddedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = []
    server = smollm2._load()

    class Watched:
        def handle_chat_completions(self, body: str, callback: Any) -> None:
            bodies.append(json.loads(body))
            server.handle_chat_completions(body, callback)

    monkeypatch.setattr(smollm2, "_server", Watched())
    request = AnswerRequest("answer_1", ASK.history, tools=(TOOL,), tool_choice="required")
    await told(agent(embedded=smollm2), request)
    assert "tools" not in bodies[0]
    assert "Looks." not in json.dumps(bodies[0])


async def test_the_embedded_model_as_the_last_rung(
    openai: Any, model: ChatModel, smollm2: EmbeddedModel
) -> None:
    openai.fails(500)
    both = agent(model, ChatModel(EMBEDDED), embedded=smollm2)
    assert both.trusted_with_tools
    assert (await told(both))[-1].model == EMBEDDED


async def test_the_first_answer_imports_nothing_more(openai: Any, model: ChatModel) -> None:
    """Imports happen on the event loop if they happen inside a call."""
    replies = agent(model)
    await replies.warm()
    openai.chats(fragment(0, "{}", name="look", id="call_1"), finish="tool_calls")
    known = set(sys.modules)
    await told(replies, AnswerRequest("answer_1", ASK.history, tools=(TOOL,)))
    openai.fails(500)
    await failure(replies)
    assert not [name for name in set(sys.modules) - known if name.startswith(("litellm", "openai", "mcp"))]


async def test_a_model_that_failed_rests(openai: Any, model: ChatModel, smollm2: EmbeddedModel) -> None:
    both = agent(model, ChatModel(EMBEDDED), embedded=smollm2)
    openai.fails(500)
    await told(both)
    assert (await told(both))[-1].model == EMBEDDED
    assert len(openai.requests) == 1


async def test_missing_weights_say_so(tmp_path: Path) -> None:
    missing = Agent(embedded=EmbeddedModel(tmp_path / "none.gguf"))
    with pytest.raises(ModelMissing, match="orchestrator models fetch"):
        await told(missing)


def test_an_agent_needs_a_model() -> None:
    with pytest.raises(ValueError, match="expected an EmbeddedModel"):
        Agent()


async def test_a_refused_connection_is_tried_once_more(
    openai: Any, model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    litellm, tries = load(hosted=True), []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    really = litellm.acompletion

    async def refuse_once(**arguments: Any) -> Any:
        tries.append(arguments["model"])
        if len(tries) == 1:
            arguments["api_base"] = closed
        return await really(**arguments)

    monkeypatch.setattr(litellm, "acompletion", refuse_once)
    openai.chats({"content": "On its way."})
    paid: list[Charge] = []
    events = await told(agent(model), paid=paid)
    assert "".join(event.text for event in events if isinstance(event, Words)) == "On its way."
    assert (len(tries), len(openai.requests), len(paid)) == (2, 1, 1)
