"""Keys of the caller's telephone: gathered, then put into the conversation as the caller's own words.

A transport that hears them (SIP does, a WebSocket does not) calls `Keypad.dtmf`. The first key stops the assistant in
Tiers B and C as speech would. A pause or the hash key ends an entry, which becomes a user item, "(keypad) 4172#", and
is answered like a turn. Keys may be a card's number or a PIN: the timeline has how many there were, not which.
"""

from __future__ import annotations

from orchestrator.core.actions import ToClient
from orchestrator.core.handovers import Handovers
from orchestrator.core.states import State
from orchestrator.protocol.wire import Event

KEYS = frozenset("0123456789*#ABCD")
END = "#"
PAUSE_S = 2.0
"""No key for this long ends an entry."""
MOST = 64
"""Keys of one entry."""
RETRY_S = 0.2
"""An entry that ends while the call has no tier waits for one."""


class Keypad(Handovers):
    """The keys of a call. `Call` adds the other events."""

    keys = ""
    """Of the entry under way."""
    _keys_due: float | None = None

    def dtmf(self, key: str, now: float) -> None:
        """A key was pressed: 0 to 9, ``*``, ``#``, A to D; anything else is a ValueError."""
        key = key.upper()
        if key not in KEYS:
            raise ValueError(f"expected a key of a telephone (0-9, *, #, A-D), got {key[:20]!r}")
        if self.state is State.ENDED:
            return
        if self.relay is not None or self.local is not None:
            # The one event of the protocol that has no id.
            received_at = int(now + self.ctx.wall_offset)
            told: Event = {
                "type": "input_audio_buffer.dtmf_event_received",
                "event": key,
                "received_at": received_at,
            }
            self.ctx.do(ToClient(told))
        if self.local is not None and not self.keys:
            self.local.keys_pressed(now)
            self._mind_local(now)
        self.keys += key
        self._keys_due = now + PAUSE_S
        if key == END or len(self.keys) >= MOST:
            self._keyed(now)

    def _keyed(self, now: float) -> None:
        """An entry is complete."""
        if self.relay is None and self.local is None:
            self._keys_due = now + RETRY_S
            return
        keys, self.keys, self._keys_due = self.keys, "", None
        if self.hedge is not None:
            self._stand_down("keys were pressed", now)
        if self.preparation is not None:
            self._abandon("keys were pressed", now)
        self.ctx.record("keypad", keys=len(keys))
        content = [{"type": "input_text", "text": f"(keypad) {keys}"}]
        item = {"type": "message", "role": "user", "content": content}
        event: Event = {"type": "conversation.item.create", "item": item}
        if self.relay is not None:
            self.relay.client_event(event, now)
            if self.ctx.session.creates_response:
                self.relay.tools.added(now)
        elif self.local is not None:
            self.local.keyed(event, now)
        self._out_of_money(now)

    def _tick_keys(self, now: float) -> None:
        if self._keys_due is not None and now >= self._keys_due:
            self._keyed(now)

    def _forget_keys(self) -> None:
        self.keys, self._keys_due = "", None
