"""Making the built-in Celery app: the embedded broker unless another is named, and the operations that come along."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from tapfs.flow.broker import broker_url
from tapfs.flow.bus import Bus
from tapfs.flow.operations.countdown import countdown
from tapfs.flow.operations.tally import tally


def built_in_bus(control: Path, broker: str | None = None) -> Bus:
    """Make a Celery app with the built-in operations, and its bus.

    Args:
        control: the control directory.
        broker: a broker URL of Celery's; None for the embedded broker in the control directory.
    """
    made = Celery("tapfs", task_cls="tapfs.flow:TappableTask")
    made.conf.update(
        broker_url=broker or broker_url(os.path.abspath(control / "broker")),
        broker_connection_retry_on_startup=True,
        task_default_queue="tapfs",
        # The directory holds every result: a second copy would only cost.
        task_ignore_result=True,
        # A worker that hoards messages keeps others idle; the directory is asked for each one anyway.
        worker_prefetch_multiplier=1,
        # With late acknowledgement a busy worker reserves none. A message that comes twice is dropped (law 3).
        task_acks_late=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    made_bus = Bus(control, app=made)
    made_bus.operation(tally)
    made_bus.operation(countdown)
    return made_bus
