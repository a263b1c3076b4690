"""The text agent: LiteLLM, streaming, with tools; on its own the model inside this process.

LiteLLM has no failover once the first chunk is out, and its own retries multiply waiting. So it is asked once per
model (twice where nobody took the connection), every wait has our own deadline, and a model that fails before its
first word gives way to the next one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.price_list import ModelPrice, Published
from orchestrator.models import ModelMissing
from orchestrator.price_map import listed
from orchestrator.protocol.answers import AnswerRequest, Charge, ToolCallReady
from tiers.pipeline import chat
from tiers.pipeline.embedded import EMBEDDED, EmbeddedModel, register
from tiers.pipeline.errors import AgentFailed, Cause
from tiers.pipeline.litellm_loading import load
from tiers.pipeline.metering import FREE, Paid, TextPrice, prompt_bound
from tiers.pipeline.retries import retrying
from tiers.pipeline.rungs import Resting, RungHealth, in_order

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChatModel:
    """One model by its LiteLLM name. `price` is LiteLLM's where none is given; the embedded one's is 0 then."""

    name: str
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    price: ModelPrice | Published | None = None

    @property
    def embedded(self) -> bool:
        return self.name == EMBEDDED


@dataclass(frozen=True, slots=True)
class Words:
    """The next words of the answer, cut anywhere."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete. `cut_short`: it ran into the token limit."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cut_short: bool = False


AgentEvent = Words | ToolCallReady | Done


class Agent:
    """Answers in text. `models` are rungs: the first that works; without any, the embedded one.

    Seconds: `first_token_timeout` until a model's first chunk, `stall_timeout` between two chunks.
    """

    def __init__(
        self,
        models: Sequence[ChatModel] = (),
        *,
        embedded: EmbeddedModel | None = None,
        first_token_timeout: float = 4.0,
        stall_timeout: float = 2.0,
        max_output_tokens: int = 400,
        health: RungHealth | None = None,
    ) -> None:
        self._models = tuple(models) or (ChatModel(EMBEDDED),)
        if embedded is None and any(model.embedded for model in self._models):
            raise ValueError(f"expected an EmbeddedModel for {EMBEDDED}, or at least one other model")
        self._embedded = embedded
        self._health: RungHealth = health or Resting()
        self._first_token_timeout, self._stall_timeout = first_token_timeout, stall_timeout
        self._max_output_tokens = max_output_tokens
        self._litellm: Any = None
        self._prices: dict[str, TextPrice] = {}

    @property
    def rung(self) -> str:
        """The first model's name."""
        return self._models[0].name

    @property
    def trusted_with_tools(self) -> bool:
        """Whether there is a model that may be given tools and their results: the embedded one may not."""
        return any(not model.embedded for model in self._models)

    def limit(self, request: AnswerRequest) -> int:
        """The most tokens that an answer may have."""
        return min(request.max_output_tokens or self._max_output_tokens, self._max_output_tokens)

    def worst(self, request: AnswerRequest) -> int:
        """Nano-dollars that an answer can cost at most: every model may be asked once, and give up at the very end."""
        return sum(
            self._price(model).worst(_bound(self._arguments(model, request)), self.limit(request))
            for model in self._models
        )

    async def warm(self) -> None:
        """Imports LiteLLM, loads the embedded model and prices the others. An unknown price is an AgentFailed."""
        await self._ready()
        for model in self._models:
            self._price(model)
        if self._embedded is not None:
            await self._embedded.warm()

    async def reply(
        self, request: AnswerRequest, paid: Paid = lambda _: None
    ) -> AsyncGenerator[AgentEvent, None]:
        """The answer. Ends with `Done`, or raises AgentFailed; closing the iterator closes the request.

        `paid` is told of what each request cost once it has ended, in whatever way: in the course of closing too.
        """
        litellm = await self._ready()
        models = in_order(self._models, lambda model: model.name, self._health)
        for model in models:
            begun = False
            try:
                async with aclosing(self._ask(litellm, model, request, paid)) as events:
                    async for event in events:
                        begun = True
                        yield event
                self._health.worked(model.name)
                return
            except (AgentFailed, ModelMissing) as failure:
                log.warning("text model %s failed: %s", model.name, failure)
                cause = failure.cause if isinstance(failure, AgentFailed) else Cause.MISSING
                self._health.failed(model.name, cause)
                if begun or model is models[-1]:
                    raise

    async def _ready(self) -> Any:
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load, hosted=self.trusted_with_tools)
        if self._embedded is not None:
            register(self._litellm, self._embedded)
        return self._litellm

    def _price(self, model: ChatModel) -> TextPrice:
        """Raises AgentFailed for a model without a price, before it costs anything."""
        if model.name not in self._prices:
            price = model.price
            if isinstance(price, ModelPrice):
                price = Published(price, "given")
            elif price is None:
                price = Published(FREE, "self-hosted") if model.embedded else listed("agent", model.name)
            if price is None:
                # A zero would let a budget run dry unnoticed.
                message = (
                    f"no price is known for {model.name!r}: expected a price per token in its configuration"
                )
                raise AgentFailed(Cause.BAD_REQUEST, message)
            self._prices[model.name] = TextPrice(model.name, price)
        return self._prices[model.name]

    async def _ask(
        self, litellm: Any, model: ChatModel, request: AnswerRequest, paid: Paid
    ) -> AsyncGenerator[AgentEvent, None]:
        price, arguments = self._price(model), self._arguments(model, request)
        collected = _Answer(model.name)
        # A request that is given up while nothing has come back may still be answered, and billed.
        billed = True
        try:
            async with asyncio.timeout(self._first_token_timeout):
                stream: Any = await retrying()(litellm.acompletion, **arguments)
            async with aclosing(stream):
                timeout = self._first_token_timeout
                while (chunk := await _next(stream, timeout)) is not None:
                    timeout = self._stall_timeout
                    if text := collected.add(chunk):
                        yield Words(text)
        except TimeoutError as error:
            raise AgentFailed(Cause.TIMEOUT, f"{model.name} was silent for too long") from error
        except (AgentFailed, ModelMissing):
            billed = collected.begun
            raise
        except Exception as error:
            billed = collected.begun or isinstance(error, litellm.Timeout)
            raise _failure(litellm, model, error) from error
        finally:
            if billed and (charge := _charge(litellm, price, arguments, collected)).nanodollars:
                paid(charge)
        for call in collected.calls():
            yield call
        yield collected.done()

    def _arguments(self, model: ChatModel, request: AnswerRequest) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": model.name,
            "messages": chat.small_messages(request) if model.embedded else chat.messages(request),
            "max_tokens": self.limit(request),
            "stream": True,
            "stream_options": {"include_usage": True},
            "stream_timeout": self._stall_timeout + self._first_token_timeout,
            "timeout": self._stall_timeout + self._first_token_timeout,
            "num_retries": 0,
            "max_retries": 0,
        }
        if model.api_key is not None:
            arguments["api_key"] = model.api_key
        if model.base_url is not None:
            arguments["api_base"] = model.base_url
        return arguments if model.embedded else {**arguments, **chat.tools(request)}


async def _next(stream: Any, seconds: float) -> Any:
    """The next chunk, None at the end. The deadline is ours: LiteLLM's own does not cover every provider."""
    async with asyncio.timeout(seconds):
        return await anext(stream, None)


class _Answer:
    """What a stream of chunks adds up to."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._words = False
        self._finish: str | None = None
        self._calls: dict[int, dict[str, str]] = {}
        self.begun = False
        self.bytes = 0
        """Of all that was written, heard or not: at least so many tokens, and more."""
        self.usage: Any = None

    @property
    def input_tokens(self) -> int:
        return int(self.usage.prompt_tokens or 0) if self.usage else 0

    @property
    def output_tokens(self) -> int:
        return int(self.usage.completion_tokens or 0) if self.usage else 0

    def add(self, chunk: Any) -> str:
        """The words in a chunk; fragments of tool calls are put together."""
        self.begun = True
        self.usage = getattr(chunk, "usage", None) or self.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        for fragment in choice.delta.tool_calls or ():
            call = self._calls.setdefault(fragment.index or 0, {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or fragment.id or ""
            call["name"] = call["name"] or fragment.function.name or ""
            call["arguments"] += fragment.function.arguments or ""
            self.bytes += len(f"{fragment.function.name or ''}{fragment.function.arguments or ''}".encode())
        text = choice.delta.content or ""
        self.bytes += len((text + (getattr(choice.delta, "reasoning_content", None) or "")).encode())
        self._words = self._words or bool(text.strip())
        return text

    def calls(self) -> list[ToolCallReady]:
        if not self._words and not self._calls:
            raise AgentFailed(Cause.EMPTY, f"{self._model} answered nothing")
        return [self._call(call) for _, call in sorted(self._calls.items())]

    def _call(self, call: dict[str, str]) -> ToolCallReady:
        arguments = call["arguments"].strip() or "{}"
        try:
            valid = isinstance(json.loads(arguments), dict)
        except ValueError:
            valid = False
        if not valid or not call["name"] or not call["id"]:
            message = (
                f"{self._model} asked for the tool {call['name']!r} with arguments that are not a JSON object"
            )
            raise AgentFailed(Cause.MALFORMED, message)
        return ToolCallReady(call["id"], call["name"], arguments)

    def done(self) -> Done:
        return Done(self._model, self.input_tokens, self.output_tokens, self._finish == "length")


def _bound(arguments: Mapping[str, Any]) -> int:
    return prompt_bound(arguments["messages"], arguments.get("tools"))


def _charge(litellm: Any, price: TextPrice, arguments: Mapping[str, Any], collected: _Answer) -> Charge:
    """What a request cost: by its usage, else by all that was sent and what has come back."""
    if collected.usage is not None:
        try:
            cost, used = price.cost(litellm, collected.usage)
            return Charge("agent", price.model, cost, used)
        except Exception:
            log.exception("LiteLLM could not price an answer of %s", price.model)
    cost, used = price.estimate(_bound(arguments), min(collected.bytes, arguments["max_tokens"]))
    return Charge("agent", price.model, cost, used, estimated=True)


def _failure(litellm: Any, model: ChatModel, error: BaseException) -> AgentFailed | ModelMissing:
    """LiteLLM's exceptions by their HTTP status. Their texts quote requests, so none is repeated."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AgentFailed | ModelMissing):
            return seen
        seen = getattr(seen, "original_exception", None) or seen.__cause__ or seen.__context__
    if isinstance(error, litellm.Timeout):
        return AgentFailed(Cause.TIMEOUT, f"{model.name} was silent for too long")
    status = getattr(error, "status_code", None)
    cause = Cause.of_status(status) if isinstance(status, int) else Cause.UNAVAILABLE
    return AgentFailed(cause, f"{model.name} failed: {type(error).__name__}")
