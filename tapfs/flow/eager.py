"""`task_always_eager`: the doorbell is answered at once, by the process that rings it.

With it, `bus.start(...)` and `tappable(...).delay()` return when the operation has ended, or rests: paused, or at a
gate with nothing else to do. So do `resume`, `retry` and `answer`, which ring too. Retries, countdowns and etas are not
waited for, as Celery does in that mode.

With `task_eager_propagates` too, what a step raised for good comes out of the call, as it was raised, when the
operation has failed; a member given up by a group that goes on fails nothing. Without it the operation tells.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tapfs.bus.operation import Operation, OperationFailed
from tapfs.bus.publication import Publication, Publisher
from tapfs.bus.states import FINAL, State
from tapfs.flow.foreground import Bus, Foreground
from tapfs.flow.place import current_place


class Doorbell:
    """The publisher of a bus: rings workers through Celery, or runs the operation here where the app is eager.

    Args:
        bus: the bus.
        ring: how workers are rung; None for nobody.
    """

    def __init__(self, bus: Bus, ring: Publisher | None) -> None:
        self._bus = bus
        self._ring = ring

    @property
    def returns(self) -> int:
        """How often the broker came back after it was away."""
        return int(getattr(self._ring, "returns", 0))

    def __call__(self, publication: Publication) -> None:
        """Publish a step; raises `PublishFailed`, and in an eager app what `run_eagerly` does."""
        if self._bus.app.conf.task_always_eager:
            run_eagerly(self._bus, self._bus.control.operation(publication.operation_id))
        elif self._ring is not None:
            self._ring(publication)


def run_eagerly(bus: Bus, operation: Operation) -> None:
    """Run an operation here until it rests, unless this thread does so already.

    Raises:
        Exception: with `task_eager_propagates`, what the step raised because of which the operation has failed;
            `OperationFailed` where no step did (a gate's time was up, say).
        TapfsError: the app does not know the task of a step; the operation is as it was.
    """
    if is_run_by_this_thread(operation) or operation.state in FINAL:
        return
    runs = Foreground(bus, operation)
    with under_way(operation):
        state = runs.run_to_rest()
    if state is State.FAILED and bus.app.conf.task_eager_propagates:
        failure = operation.failure()
        raised = runs.raised.get(failure.step or "") if failure is not None else None
        if raised is not None:
            raise raised
        text = f": {failure.type}: {failure.message}" if failure is not None else ""
        raise OperationFailed(f"operation '{operation.id}' has failed{text}", state, failure)


class _UnderWay(threading.local):
    """The operations that a thread runs to their rest, one inside the other."""

    def __init__(self) -> None:
        self.ids: list[str] = []


_under_way = _UnderWay()


@contextmanager
def under_way(operation: Operation) -> Iterator[None]:
    """Note that this thread runs an operation: what it rings for meanwhile, it finds itself."""
    _under_way.ids.append(operation.id)
    try:
        yield
    finally:
        _under_way.ids.remove(operation.id)


def is_run_by_this_thread(operation: Operation) -> bool:
    """Whether this thread runs that operation, or one of its steps, already."""
    place = current_place()
    return operation.id in _under_way.ids or (place is not None and place.operation_id == operation.id)
