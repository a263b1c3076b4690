"""What a guardrail vetoed is not gone on with: a line from the catalogue, which is in memory, is said instead.

In Tiers B and C the words of a vetoed turn reach no agent: `Item.veto` names the line that answers it.
"""

from __future__ import annotations

from orchestrator.core.context import CallContext, Owed
from orchestrator.core.responses import OpenResponse

WITHHELD = "(withheld)"
"""What stands in the conversation, and in the client's transcript, for a turn's words."""
CHUNK_MS = 200


def line_for(ctx: CallContext, owed: Owed) -> str:
    """The line that answers what is owed, where the caller's last words were vetoed; "" where they were not."""
    if owed.out_of_band or owed.request.get("input") is not None:
        return ""
    shown = (item for item in reversed(list(ctx.conversation)) if not (item.bridge or item.private))
    last = next(shown, None)
    return last.veto if last is not None else ""


def say_line(ctx: CallContext, response: OpenResponse, name: str, now: float) -> None:
    """The line as a whole item of an open response."""
    session, writer = ctx.session, ctx.writer
    words, audio = ctx.clips(name, session.output_format, session.voice, session.language)
    item = writer.open_message(response)
    if words:
        writer.words(response, item, words)
    if response.speaks:
        step = CHUNK_MS * session.output_format.bytes_per_ms
        for start in range(0, len(audio), step):
            writer.audio(response, item, audio[start : start + step], session.output_format, now)
        session.spoke = True
    writer.close_item(response, item, "completed")
