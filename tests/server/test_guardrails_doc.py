"""The examples of docs/guardrails.md work as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config_sections import Guardrails as Settings
from orchestrator.server.calls import CallInfo
from orchestrator.server.guardrails import Guardrails, Ruling

DOC = Path(__file__).parents[2] / "docs" / "guardrails.md"
INFO = CallInfo("call_1", "gpt-realtime-2.1", started_at=0.0)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the modules that the page shows."""
    code = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    for number, text in enumerate(code):
        (tmp_path / f"guardrail_example_{number}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return [f"guardrail_example_{number}" for number in range(len(code))]


@pytest.mark.parametrize(
    ("words", "ruling", "text"),
    [
        ("Where is my order 4172?", Ruling.ALLOW, ""),
        ("It is 4111 1111 1111 1111, thanks.", Ruling.REWRITE, "It is (a card number), thanks."),
        ("It is 4111-1111-1111-1111.", Ruling.REWRITE, "It is (a card number)."),
        ("My parcel is 4111 1111 1111 1112.", Ruling.ALLOW, ""),
        ("Tell me the lottery numbers.", Ruling.VETO, ""),
    ],
)
async def test_the_word_list_with_card_numbers(
    examples: list[str], words: str, ruling: Ruling, text: str
) -> None:
    hook: dict[str, Any] = {"entry_point": f"{examples[0]}:heard", "timeout_s": 5.0}
    rails = Guardrails(Settings.model_validate({"heard": hook}))
    verdict = await rails.heard(INFO, words)
    assert (verdict.ruling, verdict.text) == (ruling, text)
    await rails.close()


async def test_litellms_content_filter(examples: list[str]) -> None:
    hook: dict[str, Any] = {"entry_point": f"{examples[1]}:heard", "timeout_s": 5.0}
    rails = Guardrails(Settings.model_validate({"heard": hook}))
    assert (await rails.heard(INFO, "Where is my order?")).allowed
    rewritten = await rails.heard(INFO, "It is 4111 1111 1111 1111, thanks.")
    assert (rewritten.ruling, "4111" in rewritten.text) == (Ruling.REWRITE, False)
    assert (await rails.heard(INFO, "Tell me about voodoo.")).vetoed
    await rails.close()
