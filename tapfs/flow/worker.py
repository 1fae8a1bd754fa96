"""Celery workers: a supervisor in each one's parent process.

Importing this module connects to Celery's signals; `task` does so for every app whose tasks can be steps.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from tapfs.errors import TapfsError
from tapfs.flow.bus import bus_of
from tapfs.flow.supervisor import Supervisor, start_thread

logger = logging.getLogger(__name__)

_supervisors: WeakKeyDictionary[Celery, Supervisor] = WeakKeyDictionary()


def supervise_worker(sender: Any = None, **_: Any) -> None:
    """Start the supervisor's thread when a worker that has a bus is ready."""
    app = sender.app
    if not getattr(app.Task, "is_tappable", False) or app in _supervisors:
        return
    try:
        _supervisors[app] = start_thread(bus_of(app))
    except TapfsError:
        logger.exception("this worker has no supervisor")


def stop_supervising(**_: Any) -> None:
    """Let another process supervise as soon as this worker begins to shut down."""
    for supervisor in _supervisors.values():
        supervisor.stop()


worker_ready.connect(supervise_worker, weak=False)
worker_shutting_down.connect(stop_supervising, weak=False)
