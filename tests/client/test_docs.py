"""The documentation of the client, of events and of routing: its examples run, its figures are those of the code."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator import asking
from orchestrator.client import AsyncOrchestrator, Orchestrator, answers, errors
from orchestrator.core.actions import AskApproval
from orchestrator.core.route_changes import ChangeKind
from orchestrator.server import http_events
from orchestrator.server.api_models import RouteAnswer
from orchestrator.server.calls import CallInfo
from tests.client.conftest import KEY, Running

DOCS = Path(__file__).parents[2] / "docs"
CLIENT, EVENTS, ROUTING, COMMANDS = (
    (DOCS / f"{name}.md").read_text() for name in ("client", "events", "routing", "cli")
)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", CLIENT, re.MULTILINE | re.DOTALL)


HANDOVER = {
    "from_tier": "A",
    "from_rung": "gpt-realtime-2.1",
    "to_tier": "B",
    "to_rung": "kokoro",
    "trigger": "fault",
    "cause": "refused",
}


@contextmanager
def happening(server: Running) -> Iterator[None]:
    """A handover every few milliseconds, so that whoever follows events gets one."""
    over = threading.Event()

    def add() -> None:
        if not over.is_set():
            server.service.events.add("handover", tier="B", call_id="call_1", **HANDOVER)
            server.loop.call_later(0.005, add)

    server.loop.call_soon_threadsafe(add)
    try:
        yield
    finally:
        over.set()


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_run(
    example: str,
    server: Running,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", server.url)
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    given: list[bool] = []
    action = AskApproval("call_a", "refund", {"amount": 20}, "refund 20 dollars")
    info = CallInfo("call_1f2e3d", "gpt-realtime-2.1")
    server.do(lambda service: service.approvals.ask(info, action, lambda yes, who, why: given.append(yes)))
    with happening(server):
        exec(compile(example, "docs/client.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed or "answer = " in example
    if "approve(" in example:
        assert given == [True]
    if "watch(" in example:
        assert printed == "call_1 handover refused\n"
    if "taxi.mp3" in example:
        assert (tmp_path / "taxi.mp3").stat().st_size > 1000
    if "no_such_prompt" in example:
        assert printed.startswith("NotFound unknown_prompt there is no prompt 'no_such_prompt'")
    server.do(lambda service: service.approvals.withdraw("call_1f2e3d"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 8


def test_every_method_and_error_is_told_of() -> None:
    for kind in (Orchestrator, AsyncOrchestrator):
        for name in vars(kind):
            if not name.startswith("_") and name != "close":
                assert re.search(rf"`{name}\(", CLIENT), name
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.OrchestratorError):
            assert f"`{name}`" in CLIENT


def test_exit_codes_are_those_of_the_command_line() -> None:
    for kind, failure in asking.FAILURES.items():
        assert re.search(rf"^\| {failure.exit_code} \|.*`{kind.__name__}`", COMMANDS, re.MULTILINE)


def test_every_kind_of_change_is_told_of() -> None:
    section = ROUTING.partition("## What would change the answer")[2]
    told = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))))
    assert told - {"change"} == {kind.value for kind in ChangeKind}


def test_the_answer_that_is_shown_is_one() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```$", ROUTING, re.MULTILINE | re.DOTALL)
    RouteAnswer.model_validate_json(shown, strict=True)
    assert answers.Route.model_validate_json(shown).override_id == "ovr_de423627"


@pytest.mark.parametrize(
    ("text", "figure"),
    [
        ("out of the last {:,} rows", 1000),
        ("comes every {:g} s", http_events.KEEP_ALIVE_S),
        ("At most {:,} rows wait", http_events.MOST_WAITING),
        ("takes nothing for {:g} s", http_events.SEND_S),
        ("At most {} read at a time", http_events.MOST_READERS),
        ("by default {:g}", http_events.LONGEST_S),
    ],
)
def test_figures_of_events(server: Running, text: str, figure: float) -> None:
    assert text.format(figure) in EVENTS
    assert server.service.events.recent.maxlen == 1000
