"""Guardrails: an operator's own hooks, asked about what is heard, said and called. They never hold a call up for long.

A hook is a webhook or a Python function (`guardrail_hooks.py`). What it may answer is in docs/guardrails.md. One that
is late, fails or answers nonsense counts as configured: as an ALLOW or as a VETO.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from orchestrator.config_sections import Guardrail
from orchestrator.config_sections import Guardrails as GuardrailSettings
from orchestrator.core.veto import WITHHELD
from orchestrator.protocol.answers import AnswerRequest, Transcript
from orchestrator.server.guardrail_hooks import Ask, HookFailed, open_hook
from tiers.pipeline.vetting import Veto

if TYPE_CHECKING:
    from orchestrator.server.calls import CallInfo

log = logging.getLogger(__name__)

REASON_LIMIT = 200
SERVING: ContextVar[CallInfo | None] = ContextVar("serving", default=None)
"""The call that an answer is made for; tasks that make it inherit it."""

Record = Callable[["CallInfo | None", dict[str, Any]], None]
"""Takes the fields of a ``guardrail`` row of a call's timeline."""


class Hook(StrEnum):
    HEARD = "heard"
    SAID = "said"
    CALLED = "called"


class Ruling(StrEnum):
    ALLOW = "allow"
    REWRITE = "rewrite"
    VETO = "veto"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` or `arguments`: what takes the place of what was asked about, with REWRITE. `line`: the prompt to be
    said instead, with VETO."""

    ruling: Ruling
    text: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.ruling is Ruling.ALLOW

    @property
    def vetoed(self) -> bool:
        return self.ruling is Ruling.VETO


ALLOW = Verdict(Ruling.ALLOW)


@dataclass(slots=True)
class Tally:
    """What became of all that one hook was asked. Milliseconds."""

    allowed: int = 0
    rewritten: int = 0
    vetoed: int = 0
    failed: int = 0
    """Of these, the ones that it gave no answer to."""
    total_ms: float = 0.0
    longest_ms: float = 0.0

    def note(self, verdict: Verdict, ms: float, *, failed: bool) -> None:
        self.allowed += verdict.allowed
        self.rewritten += verdict.ruling is Ruling.REWRITE
        self.vetoed += verdict.vetoed
        self.failed += failed
        self.total_ms += ms
        self.longest_ms = max(self.longest_ms, ms)


class Guardrails:
    """The hooks of one process, for all its calls. Where one is not configured everything is allowed, at once.

    `known_line`: whether a prompt by that name can be said. `record` takes the rows of what was not simply allowed.
    """

    def __init__(
        self,
        settings: GuardrailSettings,
        *,
        known_line: Callable[[str], bool] = lambda name: True,
        record: Record = lambda info, fields: None,
    ) -> None:
        self._settings = settings
        self._known_line, self._record = known_line, record
        self._hooks: dict[Hook, tuple[Guardrail, Ask]] = {}
        for hook in Hook:
            given: Guardrail | None = getattr(settings, hook.value)
            if given is not None:
                self._hooks[hook] = given, open_hook(given)
        self.tallies = {hook: Tally() for hook in self._hooks}

    def __contains__(self, hook: Hook) -> bool:
        """Whether it is configured."""
        return hook in self._hooks

    async def heard(self, info: CallInfo, text: str) -> Verdict:
        """On the words of a caller's turn."""
        return await self._ask(Hook.HEARD, info, {"text": text})

    async def said(self, info: CallInfo | None, text: str) -> Verdict:
        """On words that an agent is about to say, or in Tier A is saying."""
        return await self._ask(Hook.SAID, info, {"text": text})

    async def called(self, info: CallInfo, tool: str, arguments: Mapping[str, Any]) -> Verdict:
        """On a call of a tool, before it runs."""
        return await self._ask(Hook.CALLED, info, {"tool": tool, "arguments": dict(arguments)})

    async def listen(self, info: CallInfo, transcript: Transcript) -> Transcript:
        """`heard` on a whole transcript: as it may be known from here on."""
        if Hook.HEARD not in self or not transcript.text.strip():
            return transcript
        verdict = await self.heard(info, transcript.text)
        if verdict.vetoed:
            return replace(transcript, text=WITHHELD, veto=verdict.line)
        return transcript if verdict.allowed else replace(transcript, text=verdict.text)

    async def vet(self, request: AnswerRequest, text: str) -> str | Veto:
        """`said` as the pipeline asks it, in a task of the call that is `SERVING`."""
        verdict = await self.said(SERVING.get(), text)
        if verdict.vetoed:
            return Veto(verdict.line)
        return text if verdict.allowed else verdict.text

    async def judge(self, info: CallInfo, hook: str, text: str) -> str:
        """`heard` or `said` where nothing can be rewritten: the line to be said instead, "" for none."""
        verdict = await self._ask(Hook(hook), info, {"text": text})
        if verdict.allowed:
            return ""
        return verdict.line or self._hooks[Hook(hook)][0].line

    @property
    def late(self) -> frozenset[str]:
        """The hooks that `judge` can be asked about."""
        return frozenset(hook.value for hook in (Hook.HEARD, Hook.SAID) if hook in self)

    async def close(self) -> None:
        for _, ask in self._hooks.values():
            await ask.close()

    async def _ask(self, hook: Hook, info: CallInfo | None, about: dict[str, Any]) -> Verdict:
        if hook not in self._hooks:
            return ALLOW
        settings, ask = self._hooks[hook]
        began, failed = time.perf_counter(), True
        try:
            async with asyncio.timeout(settings.timeout_s):
                answer = await ask({"hook": hook.value, **about, "call": _described(info)})
            verdict, failed = self._verdict(hook, settings, answer), False
        except TimeoutError:
            verdict = _without_answer(settings, f"no answer within {settings.timeout_s:g} s")
        except HookFailed as failure:
            verdict = _without_answer(settings, str(failure))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            verdict = _without_answer(settings, "it was cancelled from within")
        except Exception as error:
            log.exception("the guardrail %s failed", hook.value)
            verdict = _without_answer(settings, type(error).__name__)
        ms = (time.perf_counter() - began) * 1000.0
        self.tallies[hook].note(verdict, ms, failed=failed)
        if failed or not verdict.allowed:
            self._tell(hook, info, about, verdict, ms, failed=failed)
        return verdict

    def _tell(
        self,
        hook: Hook,
        info: CallInfo | None,
        about: dict[str, Any],
        verdict: Verdict,
        ms: float,
        *,
        failed: bool,
    ) -> None:
        fields = {
            "hook": hook.value,
            "verdict": verdict.ruling.value,
            "tool": about.get("tool", ""),
            "reason": verdict.reason,
            "latency_ms": round(ms, 1),
            "failed": failed,
        }
        if self._settings.record_words:
            fields |= {key: about[key] for key in ("text", "arguments") if key in about}
        self._record(info, fields)

    def _verdict(self, hook: Hook, settings: Guardrail, answer: Any) -> Verdict:
        """What a hook answered, as a verdict; raises HookFailed for what is none."""
        if answer is None:
            return ALLOW
        if not isinstance(answer, Mapping):
            raise HookFailed(f"expected an object, got {type(answer).__name__}")
        reason = str(answer.get("reason") or "")[:REASON_LIMIT]
        match answer.get("verdict"):
            case "allow":
                return Verdict(Ruling.ALLOW, reason=reason)
            case "veto":
                line = answer.get("line")
                known = isinstance(line, str) and self._known_line(line)
                return Verdict(Ruling.VETO, line=str(line) if known else settings.line, reason=reason)
            case "rewrite":
                return _rewritten(hook, answer, reason)
            case other:
                raise HookFailed(f'expected "verdict": "allow", "rewrite" or "veto", got {str(other)[:40]!r}')


def _rewritten(hook: Hook, answer: Mapping[str, Any], reason: str) -> Verdict:
    if hook is Hook.CALLED:
        arguments = answer.get("arguments")
        if not isinstance(arguments, Mapping):
            raise HookFailed('expected "arguments", an object, with the verdict "rewrite"')
        return Verdict(Ruling.REWRITE, arguments=dict(arguments), reason=reason)
    text = answer.get("text")
    if not isinstance(text, str):
        raise HookFailed('expected "text" with the verdict "rewrite"')
    return Verdict(Ruling.REWRITE, text=text, reason=reason)


def _without_answer(settings: Guardrail, reason: str) -> Verdict:
    return Verdict(Ruling(settings.on_failure), line=settings.line, reason=reason[:REASON_LIMIT])


def _described(info: CallInfo | None) -> dict[str, Any]:
    """Whose call it is, as a hook is told."""
    if info is None:
        return {}
    return {
        "call_id": info.call_id,
        "user": info.user,
        "bucket": info.bucket,
        "purpose": info.purpose,
        "model": info.model,
    }
