"""Lets armed faults strike one session: knows which moment its call is at, and does what a fault does."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from orchestrator.simulate.faults import (
    OF_A_RESPONSE,
    BillFault,
    BillMoment,
    Fault,
    FaultBoard,
    FaultId,
    Moment,
)
from orchestrator.simulate.outbox import Outbox, Timers, new_id
from orchestrator.simulate.sockets import Socket

WAITING = OF_A_RESPONSE | {FaultId.SILENT_INPUT}
"""Faults that no clock sets off: a response or the caller's speech has to come first."""
NOT_JSON = b'{"type": "response.output_audio.delta", "delta": "AAAA'
ORPHAN_AUDIO = "AAAA" * 1200


class Striker:
    """Faults for the session of `model` behind `socket`; `expire` ends the session as its time limit would."""

    def __init__(
        self, board: FaultBoard, model: str, socket: Socket, out: Outbox, expire: Callable[[], None]
    ) -> None:
        self.moment = Moment.CONNECTING
        self._since = 0.0
        self._opened = time.monotonic()
        self._answering = False
        self._struck = False
        self._board = board
        self._model = model
        self._socket = socket
        self._out = out
        self._expire = expire
        self._timers = Timers()

    def begin(self) -> None:
        self._board.listen(self._arm)

    def end(self) -> None:
        self._board.unlisten(self._arm)
        self._timers.cancel_all()

    def peek(self, moment: Moment | BillMoment) -> Fault | None:
        """The fault that would strike now, if the call is at `moment`."""
        return None if self._out.silenced else self._board.peek(moment, self._model, self._opened)

    def owed(self, moment: Moment) -> Fault | None:
        """The fault for an answer that is owed at `moment`; None where the call has had one at this moment."""
        return None if moment is self.moment and self._struck else self.peek(moment)

    def claim(self, fault: Fault) -> bool:
        """Use it; False when another session was faster."""
        return self._board.claim(fault)

    def take(self, moment: Moment | BillMoment, fault_id: FaultId | BillFault) -> bool:
        """Use the fault `fault_id` at `moment`, if it is the one to strike."""
        fault = self.peek(moment)
        return fault is not None and fault.id is fault_id and self.claim(fault)

    @property
    def lasted(self) -> float:
        """For how many seconds the call has been at its moment."""
        return time.monotonic() - self._since

    def at(self, moment: Moment, *, answering: bool) -> None:
        """The call is at `moment` now.

        `answering`: a response is under way. It looks for faults itself, since they depend on what it has sent.
        """
        if moment is not self.moment:
            self._since, self._struck = time.monotonic(), False
        elif answering is self._answering:
            return
        self.moment, self._answering = moment, answering
        self._arm()

    def _arm(self) -> None:
        """Start the clock of a fault for the present moment, or strike where nothing is left to wait for.

        That cannot be put off: a client may go through a moment in one burst, and the next one stops the clock.
        """
        self._timers.cancel("fault")
        fault = None if self._answering else self.peek(self.moment)
        if fault is None or fault.id in WAITING:
            return
        wait = fault.after_ms / 1000 - self.lasted
        if wait <= 0:
            self._strike(fault)
        else:
            self._timers.after("fault", wait, lambda: self._strike(fault))

    def _strike(self, fault: Fault) -> None:
        if self.claim(fault):
            self._struck = True
            self.execute(fault)

    def execute(self, fault: Fault) -> bool:
        """Do what a fault of the connection does; True when this session says nothing more."""
        if fault.id is FaultId.ABORT:
            self._socket.reset()
        elif fault.id is FaultId.CLOSE_1011:
            self._socket.close(1011, "internal error")
        elif fault.id is FaultId.CLOSE_1000:
            self._socket.close(1000)
        elif fault.id is FaultId.EXPIRED:
            self._expire()
        elif fault.id is FaultId.HALF_OPEN:
            self._socket.die()
        elif fault.id is FaultId.MUTE:
            self._out.silenced = True
        else:
            self._oddity(fault.id)
            return False
        return True

    def _oddity(self, fault: StrEnum) -> None:
        """Send something that no client expects, and go on."""
        if fault is FaultId.DUPLICATE:
            self._out.twice = True
        elif fault is FaultId.UNKNOWN:
            self._out.send("response.hologram.delta", delta="?")
        elif fault is FaultId.GARBAGE:
            self._out.raw(NOT_JSON)
        elif fault is FaultId.ORPHAN:
            where = {"response_id": new_id("resp"), "item_id": new_id("item"), "output_index": 0}
            self._out.send("response.output_audio.delta", **where, content_index=0, delta=ORPHAN_AUDIO)
