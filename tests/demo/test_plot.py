"""The picture."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from orchestrator.demo.plot import SIZE, draw
from orchestrator.demo.recording import Recording
from tests.demo.invented import BRIDGE, Invention, whole_call


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def short_call() -> Recording:
    """A call that ended before its provider was killed."""
    call = Invention()
    call.session("session.created", "A", "gpt-realtime-2.1")
    call.caller("Hello?", 1.0)
    return call.recording


@pytest.mark.parametrize("make", [whole_call, short_call])
def test_every_call_can_be_drawn(tmp_path: Path, make: object) -> None:
    assert callable(make)
    draw(make(), tmp_path / "timeline.png")
    assert png_size(tmp_path / "timeline.png") == (int(SIZE[0] * 110), int(SIZE[1] * 110))


def test_words_of_the_call_are_in_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    written: list[str] = []
    real = Axes.text

    def text(self: Axes, x: float, y: float, s: str, *args: object, **kwargs: object) -> object:
        written.append(" ".join(s.split()))
        return real(self, x, y, s, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "text", text)
    draw(whole_call(), tmp_path / "timeline.png")
    assert f"“{BRIDGE}”" in written
    assert "“Your order number 4172 has been shipped.”" in written
    assert "bridge at the client after 20 ms" in written
    assert "answer at the client after 1.5 s" in written
