"""How fast a step goes: by the time it was seen running, so that a pause slows nothing down."""

from __future__ import annotations

import time
from collections.abc import Callable

from tapfs.bus.document import eta_s
from tapfs.bus.states import State
from tapfs.cli import words

#: Seconds of running after which a pace is told.
_PATIENCE_S = 1.0
#: States in which the step at hand is at work: one that was asked to stop is so until its next tap.
_WORKING = frozenset({State.RUNNING, State.PAUSING, State.CANCELLING})


class Pace:
    """The pace of the step at hand.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step: str | None = None
        self._first: float | None = None
        self._done = 0.0
        self._running_s = 0.0
        self._looked_at = clock()

    def note(self, state: State, step: str | None, done: float | None) -> None:
        """Take in one look at the operation."""
        now = self._clock()
        if step != self._step or (done is not None and done < self._done):
            self._step, self._first, self._done, self._running_s = step, None, 0.0, 0.0
        elif state in _WORKING and self._first is not None:
            self._running_s += now - self._looked_at
        if done is not None:
            self._first = done if self._first is None else self._first
            self._done = done
        self._looked_at = now

    def told(self, total: float | None, unit: str | None) -> str:
        """How fast, and how long it still takes: `, 12.1 MB/s, 5.0 s to go`; empty while that is not known."""
        gained = self._done - (self._first or 0.0)
        if self._running_s < _PATIENCE_S or gained <= 0:
            return ""
        speed = gained / self._running_s
        told = words.size(speed) if unit == "bytes" else f"{words.number(round(speed, 1))} {unit or ''}".rstrip()
        left = None if total is None else eta_s(gained, total - (self._first or 0.0), self._running_s)
        return f", {told}/s" + (f", {words.duration(left)} to go" if left is not None else "")
