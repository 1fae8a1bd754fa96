"""The built-in Celery app: the embedded broker unless `TAPFS_BROKER` names another, and the operations that come along.

It is configured from the environment when it is imported; see `settings`.
"""

from __future__ import annotations

import os

from celery import Celery

from tapfs import settings
from tapfs.flow.broker import broker_url
from tapfs.flow.bus import Bus
from tapfs.flow.operations.countdown import countdown
from tapfs.flow.operations.tally import tally

app = Celery("tapfs", task_cls="tapfs.flow:TappableTask")
app.conf.update(
    broker_url=settings.broker() or broker_url(os.path.abspath(settings.control_path() / "broker")),
    broker_connection_retry_on_startup=True,
    task_default_queue="tapfs",
    # The directory holds every result: a second copy would only cost.
    task_ignore_result=True,
    # A worker that hoards messages keeps others idle; the directory is asked for each one anyway.
    worker_prefetch_multiplier=1,
)

bus = Bus(app=app)
bus.operation(tally)
bus.operation(countdown)
