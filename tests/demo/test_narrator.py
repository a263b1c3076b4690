"""The printed timeline."""

from __future__ import annotations

import io

from rich.console import Console

from orchestrator.demo.checks import run_checks
from orchestrator.demo.measure import failover
from orchestrator.demo.narrator import Narrator, print_checks, print_figures
from orchestrator.demo.recording import Recording
from tests.demo.invented import BRIDGE, SCRIPT, whole_call, without_bridge


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160, color_system=None), out


def narrated(recording: Recording, *moments: float) -> list[str]:
    """The lines that are printed, at these moments and at the end."""
    screen, out = console()
    narrator = Narrator(screen, recording)
    for moment in moments:
        narrator.tell(moment)
    narrator.tell()
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_the_timeline_tells_who_spoke_and_why_the_call_moved() -> None:
    lines = narrated(whole_call())
    text = "\n".join(lines)
    assert (
        "tier A “Ah, Jane Austen.” gpt-realtime-2.1, first audio 1.00 s after the caller stopped, $0.0064"
        in text
    )
    assert "KILL the provider's process 4711 was ended by SIGKILL" in text
    assert "A to B handover to kokoro" in text
    assert "trigger: fault, cause: closed" in text
    assert f"bridge “{BRIDGE}” a cached prompt; at the client 20 ms after the kill" in text
    assert "tool get_order_status(4172) = shipped" in text
    assert "tier C “Your order number 9054 has been delivered.”" in text
    assert "trigger: recovery, cause: promoted" in text
    assert "(cut off)" in next(line for line in lines if "Let me look up" in line)


def test_the_bridge_is_not_told_as_an_answer() -> None:
    assert sum(BRIDGE in line for line in narrated(whole_call())) == 1


def test_the_order_is_that_of_the_moments_whatever_came_in_first() -> None:
    recording = whole_call()
    recording.rows.reverse()
    assert narrated(recording) == narrated(whole_call())


def test_each_line_is_printed_once() -> None:
    whole = narrated(whole_call())
    assert narrated(whole_call(), 3.0, 3.0, 9.0, 30.0) == whole


def test_the_end_names_what_is_missing() -> None:
    screen, out = console()
    recording = whole_call()
    recording.rows = [row for row in recording.rows if row.type != "provider_started"]
    print_checks(screen, run_checks(recording, SCRIPT))
    text = out.getvalue()
    assert "FAILED 6. The provider is back" in text
    assert "missing: the provider was started again" in text
    assert text.count("FAILED") == 1


def test_figures_are_printed_with_their_units() -> None:
    screen, out = console()
    print_figures(screen, failover(whole_call()), 0.0123)
    text = out.getvalue()
    assert "20 ms  from the kill to the bridge" in text
    assert "1,520 ms  from the kill to the answer" in text
    assert "$0.0123" in text
    screen, out = console()
    print_figures(screen, failover(without_bridge()), None)
    assert "no bridge  because the answer was there" in out.getvalue()
    screen, out = console()
    print_figures(screen, None, None)
    assert out.getvalue() == ""
