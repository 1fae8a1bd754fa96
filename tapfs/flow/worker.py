"""Celery workers: a folder for each, a supervisor in each one's parent process, and a way out that loses nothing.

Importing this module connects to Celery's signals; `task` does so for every app whose tasks can be steps. All of it
runs in the worker's parent. The processes that run steps look at the worker's folder at their taps, so a worker that is
to end, or to drain, gives its steps away without a word between the processes.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from celery.signals import (
    task_revoked,
    task_unknown,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from tapfs.bus import verbs
from tapfs.bus.losses import fail_out, is_current, refuse
from tapfs.bus.operation import Operation
from tapfs.bus.workers import WorkerFolder
from tapfs.errors import Refused, TapfsError, text_of
from tapfs.flow import employment
from tapfs.flow.bus import bus_of
from tapfs.flow.message import StepHeader
from tapfs.flow.request import header_in, in_background
from tapfs.flow.supervisor import Supervisor, start_thread

logger = logging.getLogger(__name__)

#: Seconds between two looks for a DRAIN.
DRAIN_INTERVAL_S = 0.5

_supervisors: WeakKeyDictionary[Celery, Supervisor] = WeakKeyDictionary()
_folders: WeakKeyDictionary[Celery, WorkerFolder] = WeakKeyDictionary()


def enter(sender: Any = None, **_: Any) -> None:
    """Make the worker's folder, before there are processes that look at it."""
    app = sender.app
    if not getattr(app.Task, "is_tappable", False):
        return
    try:
        control = bus_of(app).control
        control.prepare()
        folder = WorkerFolder.enter(control.layout, sender.hostname, control.now())
    except (TapfsError, OSError) as error:
        logger.error("this worker has no folder in the control directory, and cannot be drained: %s", text_of(error))
        return
    _folders[app] = folder
    employment.begin(folder)
    _announce_shutdown(sender, folder)


def _announce_shutdown(worker: Any, folder: WorkerFolder) -> None:
    """Have the steps told when Celery begins to wait for them: its own signal comes only after that wait, or never."""
    wait, stop = worker.wait_for_soft_shutdown, worker.stop

    def announce_and_wait() -> None:
        folder.stop("the worker is shutting down")
        wait()

    def announce_and_stop(*args: Any, **options: Any) -> Any:
        folder.stop("the worker is shutting down")
        return stop(*args, **options)

    worker.wait_for_soft_shutdown = announce_and_wait
    worker.stop = announce_and_stop  # also by Celery's remote control, of which no signal tells


def supervise_worker(sender: Any = None, **_: Any) -> None:
    """Start the supervisor's thread, and the one that looks for DRAIN, when a worker that has a bus is ready."""
    app = sender.app
    if not getattr(app.Task, "is_tappable", False) or app in _supervisors:
        return
    try:
        _supervisors[app] = start_thread(bus_of(app))
    except TapfsError as error:
        logger.error("this worker has no supervisor: %s", text_of(error))
    folder = _folders.get(app)
    if folder is not None:
        threading.Thread(target=_heed_drain, args=(folder, sender), name="tapfs-drain", daemon=True).start()


def _heed_drain(folder: WorkerFolder, consumer: Any) -> None:
    """Take no messages while there is a DRAIN. Celery makes a new consumer after it lost its connection."""
    cancelled = None
    while folder in _folders.values():
        folder.keep()
        messages = consumer.task_consumer
        if folder.has_drain():
            if messages is not None and messages is not cancelled:
                logger.warning("draining: %s is there", folder.path / "DRAIN")
                consumer.call_soon(messages.cancel)
                cancelled = messages
        elif cancelled is not None:
            logger.warning("working again: %s is gone", folder.path / "DRAIN")
            if messages is cancelled:
                consumer.call_soon(messages.consume)
            cancelled = None
        time.sleep(DRAIN_INTERVAL_S)


def stop_working(sig: str = "", how: str = "", **_: Any) -> None:
    """As soon as the worker begins to shut down, have its steps stop and let another process supervise.

    A second SIGTERM, which Celery takes for the first, ends the worker at once, as SIGQUIT does: its processes die, and
    with them their claims.
    """
    is_second = any(supervisor.is_stopping for supervisor in _supervisors.values())
    for supervisor in _supervisors.values():
        supervisor.stop()
    for folder in _folders.values():
        folder.stop(f"the worker got {sig}")
    if is_second and sig == "SIGTERM" and how == "Warm":
        os.kill(os.getpid(), signal.SIGQUIT)


def leave(sender: Any = None, **_: Any) -> None:
    """Take the worker's folder away."""
    folder = _folders.pop(sender.app, None)
    if folder is not None:
        employment.begin(None)
        folder.leave()


def heed_revoke(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    """Cancel the operation of a step whose task was revoked; fail it when its message had expired."""
    header = header_in(request)
    if header is not None:
        in_background(sender.app, header, lambda operation: _stop_revoked(operation, header, expired))


def _stop_revoked(operation: Operation, header: StepHeader, is_expired: bool) -> None:
    place = (header.step, header.epoch, header.attempt)
    if is_expired:
        fail_out(operation, *place, "TaskRevokedError", "its message expired before any worker began the step")
    elif is_current(operation, *place):
        try:
            verbs.cancel(operation, f"the task of step {header.step} was revoked")
        except Refused:  # it has ended by itself
            logger.info("operation %s has ended before its revoke", operation.id)


def heed_unknown(sender: Any = None, message: Any = None, name: str = "", **_: Any) -> None:
    """Note that this worker knows no such task, for a step."""
    header = header_in(message)
    if header is None:
        return
    worker = employment.worker_name()
    trouble = f"worker {worker} knows no task '{name}'"
    place = (header.step, header.epoch, header.attempt)
    in_background(sender.app, header, lambda operation: refuse(operation, *place, "NotRegistered", trouble, worker))


worker_init.connect(enter, weak=False)
worker_ready.connect(supervise_worker, weak=False)
worker_shutting_down.connect(stop_working, weak=False)
worker_shutdown.connect(leave, weak=False)
task_revoked.connect(heed_revoke, weak=False)
task_unknown.connect(heed_unknown, weak=False)
