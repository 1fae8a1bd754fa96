"""Signs of life: a thread that shows every few seconds, on each claim this process holds, that it is not frozen.

A claim's lock dies with its process, but a stopped process keeps it, and so does one whose host is out of reach. The
supervisor takes a step from a holder that has long given no sign. Not promised: that a holder which gives none is dead;
that is why a commit asks whether the claim is still its own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tapfs.bus.claims import HeldClaim

logger = logging.getLogger(__name__)

#: Seconds between two signs.
INTERVAL_S = 5.0


class _Pulse:
    """The thread of this process, and the claims it shows to be alive."""

    def __init__(self) -> None:
        self._held: set[HeldClaim] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, held: HeldClaim) -> None:
        """Give signs for a claim from now on."""
        with self._changed:
            self._held.add(held)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="tapfs-pulse", daemon=True)
                self._thread.start()

    def remove(self, held: HeldClaim) -> None:
        """Give no more."""
        with self._changed:
            self._held.discard(held)

    def _beat(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(INTERVAL_S)
                for held in self._held:
                    try:
                        held.give_sign()
                    except OSError as error:
                        logger.warning("cannot give a sign of life for step %s: %s", held.step.path, error)


_pulse = _Pulse()


def _renew() -> None:
    """Begin anew in a forked child: it has neither its parent's thread nor its claims."""
    global _pulse
    _pulse = _Pulse()


os.register_at_fork(after_in_child=_renew)


@contextmanager
def signs_of_life(held: HeldClaim) -> Iterator[None]:
    """Show that the holder of a claim is alive, for as long as the body runs."""
    pulse = _pulse
    pulse.add(held)
    try:
        yield
    finally:
        pulse.remove(held)
