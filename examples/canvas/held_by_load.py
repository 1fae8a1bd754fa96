"""Work that makes way when the machine is busy.

    export TAPFS_APP=held_by_load:app LOAD_LIMIT=0.9
    tapfs run crunch count=200

It pauses when the load of the last minute, per processor, is above the limit. The clause is a signature here, with a
limit of its own for each operation; a function would do as well.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain

from tapfs import Bus, tap, tappable
from tapfs.flow.broker import broker_url

app = Celery("held_by_load", broker=broker_url("control/broker"), task_cls="tapfs.flow:TappableTask")
bus = Bus(app=app)


@app.task
def is_busy(last: Any, limit: float) -> bool:
    """The clause: whether the load of the last minute, per processor, is above the limit."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) > limit


@app.task
def crunch_some(total: int, upto: int) -> int:
    for number in range(upto):
        total += number * number
        tap.progress(number + 1, upto, unit="numbers")  # the clause is asked here, too, about once a second
    return total


@bus.operation
def crunch(count: int = 200, limit: float | None = None) -> Any:
    """Crunch numbers while the machine has nothing better to do."""
    steps = chain(crunch_some.s(0, 10), *(crunch_some.s(10) for _ in range(count - 1)))
    most = limit if limit is not None else float(os.environ.get("LOAD_LIMIT", "1.0"))
    return tappable(steps, clause=is_busy.s(limit=most), nth=5, bus=bus)
