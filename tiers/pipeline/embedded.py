"""A text model inside this process: SmolLM2-135M by llama.cpp (xllamacpp), offered to LiteLLM as a provider.

It chats; it does not reason. It is what answers when no other model is configured, and it is never given tools.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from orchestrator.models import ModelMissing
from tiers.pipeline.errors import AgentFailed, Cause
from tiers.pipeline.worker import Worker

PROVIDER = "embedded"
EMBEDDED = f"{PROVIDER}/smollm2"
"""Its name as a LiteLLM model."""
MAX_TOKENS = 80
REPEAT_PENALTY = 1.1
"""Without one, greedy decoding of so small a model goes round in circles."""
CONTEXT = 2048
"""Tokens of prompt and answer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next words, or the end: why it ended and the tokens it took."""

    text: str = ""
    finish: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0


class EmbeddedModel:
    """`slots` conversations are answered at once, with `threads` threads between them."""

    def __init__(self, path: str | Path, threads: int = 1, *, slots: int = 2) -> None:
        self._path, self._threads, self._slots = Path(path), threads, slots
        self._worker = Worker("smollm2", slots)
        self._loading = Lock()
        self._server: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def warm(self) -> None:
        """Loads the model and has it say a word."""
        async for _ in self.stream([{"role": "user", "content": "Hello."}], max_tokens=1):
            pass

    async def stream(
        self, messages: list[dict[str, Any]], *, max_tokens: int = MAX_TOKENS
    ) -> AsyncIterator[Piece]:
        """The answer to chat messages, piece by piece; closing the iterator stops the model."""
        body = {
            "messages": messages,
            "max_tokens": min(max_tokens, MAX_TOKENS),
            "temperature": 0.0,
            "repeat_penalty": REPEAT_PENALTY,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

        def work(emit: Callable[[Piece], bool]) -> None:
            reading = _Reading(emit)
            self._load().handle_chat_completions(json.dumps(body), reading)
            reading.raise_failure()

        async for piece in self._worker.stream(work):
            yield piece

    def _load(self) -> Any:
        with self._loading:
            if self._server is None:
                if not self._path.is_file():
                    raise ModelMissing("SmolLM2", self._path)
                import xllamacpp

                self._server = xllamacpp.Server(self._parameters(xllamacpp.CommonParams()))
        return self._server

    def _parameters(self, params: Any) -> Any:
        """xllamacpp always starts an HTTP server too, by default open to every local process and web page.

        Nobody needs it: it gets a socket file in a private folder instead of a port, and a key that nobody knows.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="smollm2-", ignore_cleanup_errors=True)
        params.hostnames = [str(Path(self._folder.name) / "unused.sock")]
        params.api_keys = [secrets.token_urlsafe(32)]
        params.cors_origins = ""
        params.ui = params.endpoint_slots = False
        params.model.path = str(self._path)
        params.n_parallel = self._slots
        params.n_ctx = CONTEXT * self._slots
        params.cache_ram_mib = 64
        params.cpuparams.n_threads = self._threads
        params.verbosity = -1
        return params

    def close(self) -> None:
        """Frees the model once nobody is being answered."""
        self._worker.close()
        self._server = None
        if self._folder is not None:
            self._folder.cleanup()


class _Reading:
    """Takes llama.cpp's chunks as they come. True stops it.

    An exception raised in here would be swallowed by the library, so a failure is kept for later.
    """

    def __init__(self, emit: Callable[[Piece], bool]) -> None:
        self._emit = emit
        self._failure: AgentFailed | None = None
        self._finish = "stop"

    def __call__(self, chunk: str) -> bool:
        try:
            return not self._read(json.loads(chunk))
        except Exception as error:
            self._failure = AgentFailed(Cause.MALFORMED, "the embedded model sent something unexpected")
            self._failure.__cause__ = error
            return True

    def _read(self, chunk: dict[str, Any]) -> bool:
        if problem := chunk.get("error"):
            self._failure = AgentFailed(
                Cause.of_status(int(problem.get("code", 500))),
                f"the embedded model refused: {problem.get('type', 'error')}",
            )
            return False
        for choice in chunk["choices"]:
            self._finish = choice.get("finish_reason") or self._finish
            if (text := choice["delta"].get("content")) and not self._emit(Piece(text)):
                return False
        if usage := chunk.get("usage"):
            end = Piece("", self._finish, usage["prompt_tokens"], usage["completion_tokens"])
            return self._emit(end)
        return True

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def register(litellm: Any, model: EmbeddedModel) -> None:
    """Makes `model` LiteLLM's ``embedded/...`` provider, in place of an earlier one."""
    entries = {entry["provider"]: entry["custom_handler"] for entry in litellm.custom_provider_map}
    if getattr(entries.get(PROVIDER), "embedded", None) is model:
        return

    class Handler(litellm.CustomLLM):  # type: ignore[misc]
        embedded = model

        async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[dict[str, Any]]:
            limit = kwargs["optional_params"].get("max_tokens") or MAX_TOKENS
            async for piece in model.stream(kwargs["messages"], max_tokens=limit):
                yield _chunk(piece)

    entries[PROVIDER] = Handler()
    litellm.custom_provider_map = [
        {"provider": provider, "custom_handler": handler} for provider, handler in entries.items()
    ]


def _chunk(piece: Piece) -> dict[str, Any]:
    """LiteLLM's GenericStreamingChunk."""
    return {
        "text": piece.text,
        "tool_use": None,
        "is_finished": piece.finish is not None,
        "finish_reason": piece.finish or "",
        "index": 0,
        "usage": None
        if piece.finish is None
        else {
            "prompt_tokens": piece.input_tokens,
            "completion_tokens": piece.output_tokens,
            "total_tokens": piece.input_tokens + piece.output_tokens,
        },
    }
