"""The text agent through LiteLLM: a compatible server, and the embedded model."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import AnswerRequest, Message, ToolCallReady
from tiers.pipeline.agent import Agent, ChatModel, Done, TokenPrice, Words
from tiers.pipeline.embedded import EMBEDDED, EmbeddedModel
from tiers.pipeline.errors import AgentFailed, Cause
from tiers.pipeline.litellm_loading import load

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
    return ChatModel("openai/gpt-4.1-mini", api_key="sk-secret", base_url=openai.address)


def agent(*models: ChatModel, **options: Any) -> Agent:
    return Agent(models, **{"first_token_timeout": SOON, "stall_timeout": SOON, **options})


async def told(agent: Agent, request: AnswerRequest = ASK) -> list[Any]:
    async with asyncio.timeout(SOON):
        return [event async for event in agent.reply(request)]


async def failure(agent: Agent, request: AnswerRequest = ASK) -> AgentFailed:
    with pytest.raises(AgentFailed) as caught:
        await told(agent, request)
    assert "sk-secret" not in str(caught.value)
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
    *words, done = await told(agent(model))
    assert words == [Words("It is"), Words(" on its"), Words(" way.")]
    # 100 tokens at 0.4 dollars and 20 at 1.6 dollars a million
    assert done == Done("openai/gpt-4.1-mini", 100, 20, 72_000)
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
    gone = ChatModel("openai/gpt-4.1-mini", api_key="sk-secret", base_url=closed)
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
    other = ChatModel("openai/gpt-4o-mini", api_key="sk-secret", base_url=openai.address)
    words, done = await told(agent(model, other))
    assert (words, done.model) == (Words("It is here."), "openai/gpt-4o-mini")
    assert [sent["model"] for sent in openai.requests] == ["gpt-4.1-mini", "gpt-4o-mini"]


async def test_no_model_takes_over_after_the_first_word(openai: Any, model: ChatModel) -> None:
    openai.says("It is", hang=True)
    other = ChatModel("openai/gpt-4o-mini", api_key="sk-secret", base_url=openai.address)
    assert (await failure(agent(model, other, stall_timeout=0.2))).cause is Cause.TIMEOUT
    assert len(openai.requests) == 1


async def test_prices_come_from_litellm_or_the_configuration_or_are_an_error(openai: Any) -> None:
    own = ChatModel("openai/my-model", "key", openai.address, TokenPrice(input=1.5, output=3))
    openai.says("Yes.")
    assert (await told(agent(own)))[-1].cost_nanodollars == 210
    await agent(own).warm()
    unknown = ChatModel("openai/my-model", "key", openai.address)
    openai.requests.clear()
    for ask in (agent(unknown).warm(), told(agent(unknown))):
        with pytest.raises(AgentFailed, match="no price is known for 'openai/my-model'"):
            await ask
    assert not openai.requests


def test_a_key_is_never_shown() -> None:
    assert "sk-secret" not in repr(ChatModel("m", api_key="sk-secret"))


# The embedded model


async def test_without_a_model_the_embedded_one_answers(smollm2: EmbeddedModel) -> None:
    alone = agent(embedded=smollm2)
    await alone.warm()
    *words, done = await told(alone)
    assert all(isinstance(word, Words) for word in words)
    assert "".join(word.text for word in words).strip()
    assert (done.model, done.cost_nanodollars) == (EMBEDDED, 0)
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
