"""For people's own test suites: a bus in a temporary directory, operations run in the test's process, and stops.

    from tapfs import testing

    def test_the_import_survives_a_crash():
        with testing.bus(app) as bus, testing.crash_after(3):
            op = bus.start("people", path="people.csv")
            testing.run(op)
            assert op.result == {"rows": 1000}

    @pytest.fixture                  # the same as a fixture
    def bus():
        with testing.bus(app) as bus:
            yield bus

No broker, no worker and no result backend is needed: steps run in this process, one after the other, through Celery's
own tracer, and everything else is as in production, on the same files.

A tap, for the counts below, is a place at which a running step may be stopped, or has ended:

* behind each chunk of a `tap.fold` (what is before the first chunk does not count),
* each `tap.check()` and `tap.progress(...)`,
* the end of each step.

Taps of all operations that run in this process count. The task of a step that is called directly has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from celery import Celery

from tapfs.bus.control import Control
from tapfs.bus.operation import Operation
from tapfs.bus.states import State
from tapfs.errors import TapfsError
from tapfs.flow.bus import Bus, buses
from tapfs.flow.eager import Doorbell, is_run_by_this_thread, under_way
from tapfs.flow.foreground import Foreground
from tapfs.settings import SYNC_VARIABLE
from tapfs.testing.stops import AtTap, cancel_after, crash_after, pause_after

__all__ = ["AtTap", "bus", "cancel_after", "crash_after", "pause_after", "run"]


@contextmanager
def bus(app: Celery, *, eager: bool | None = None) -> Iterator[Bus]:
    """Have the app's bus on an empty control directory of its own until the block ends.

    Where the app has a bus, it is that very object, with its operations, so that code which uses it needs no change;
    where it has none, a new one. Nothing is published: `run` runs what is started. Afterwards the bus is as it was, and
    the directory is gone. Files are not synced meanwhile, which only a power cut would show.

    Args:
        app: the Celery app; its `task_cls` is `TappableTask`.
        eager: the app's `task_always_eager` meanwhile: True runs an operation as soon as it is started, or resumed.
            None leaves it.

    Yields:
        The bus.
    """
    known = buses.get(app)
    with TemporaryDirectory(prefix="tapfs-") as folder, patch.dict(os.environ, {SYNC_VARIABLE: "off"}):
        control = Path(folder) / "control"
        made = known or Bus(control, app=app)
        before = dict(vars(made))
        made.control = Control(control, publisher=Doorbell(made, None), actor=made.control.actor)
        made.definitions = dict(made.definitions)
        try:
            with _eager(app, app.conf.task_always_eager if eager is None else eager):
                yield made
        finally:
            vars(made).update(before)
            if known is None:
                buses.pop(app, None)


def run(operation: Operation) -> State:
    """Run an operation in this process until it has ended, or rests: paused, or at a gate with nothing else to do.

    Retries, countdowns and etas are not waited for. What its tasks start by `delay` meanwhile runs at once, too.

        op = bus.start("people", path="people.csv")
        with testing.pause_after(2):
            assert testing.run(op) is State.PAUSED
        op.resume()
        assert testing.run(op) is State.SUCCEEDED

    Returns:
        Its state. What a step raised is in `operation.failure()`, with its traceback.

    Raises:
        TapfsError: no bus of this process has the operation, or the app does not know the task of a step, or it is run
            by its own step; it is as it was.
    """
    owner = next((one for one in buses.values() if one.control.path == operation.control.folder), None)
    if owner is None:
        raise TapfsError(
            f"cannot run operation '{operation.id}': no bus here is on '{operation.control.folder}'",
            hint="run it inside the block of testing.bus(app) that it was started in",
        )
    if is_run_by_this_thread(operation):
        raise TapfsError(f"cannot run operation '{operation.id}' from its own step")
    with under_way(operation), _eager(owner.app, True):
        return Foreground(owner, operation).run_to_rest()


@contextmanager
def _eager(app: Celery, is_eager: bool) -> Iterator[None]:
    before = app.conf.task_always_eager
    app.conf.task_always_eager = is_eager
    try:
        yield
    finally:
        app.conf.task_always_eager = before
