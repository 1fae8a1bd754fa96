"""A doorbell in the event loop of Celery's worker, kombu's hub.

Owns the hub's readers for one doorbell and the timer that has a look made when nothing rang. With it the worker's pool
is the one that gives each child a pipe of its own; in the other one all children wait at one pipe under one lock, which
a killed child keeps for ever.
"""

from collections.abc import Callable
from typing import Any

from tapfs.flow.broker.doorbell import Doorbell


class Attendance:
    """Has `look` called by the hub: when the doorbell rings, and when it has been silent for too long.

    An error of `look` goes through to the hub, whose loop then ends if it is one of the connection.
    """

    def __init__(self, hub: Any, doorbell: Doorbell, look: Callable[[], None]) -> None:
        self._hub, self._doorbell, self._look = hub, doorbell, look
        self._is_closed = False
        for descriptor in doorbell.descriptors():
            hub.add_reader(descriptor, self._on_ring)
        self._timer = hub.call_later(doorbell.next_pause_s(), self._on_silence)

    def close(self) -> None:
        """Leave the hub; before the doorbell is closed, for the hub knows it by its descriptors.

        In a forked child they are closed already, and the poller, which is the parent's as well, is not touched.
        """
        self._is_closed = True
        self._timer.cancel()
        for descriptor in self._doorbell.descriptors():
            self._hub.remove_reader(descriptor)

    def _on_ring(self) -> None:
        if self._doorbell.answer():  # the other descriptor may have been called first
            self._look()

    def _on_silence(self) -> None:
        try:
            self._doorbell.answer()
            self._look()
        finally:
            if not self._is_closed:
                self._timer = self._hub.call_later(self._doorbell.next_pause_s(), self._on_silence)
